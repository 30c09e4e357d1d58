"""``pixelssr-geo points``."""

from __future__ import annotations

from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import channel_options, json_option, scene_options


@click.group()
def points() -> None:
    """Look at field points."""


@points.command()
@click.argument("file", type=click.Path())
@click.option("--layer", metavar="NAME", help="Layer of the point file.")
@click.option("--field", metavar="NAME", help="Field that holds the spectra as JSON.")
@click.option("--scene", type=click.Path(), metavar="SCENE", help="Scene to place the points on.")
@channel_options
@scene_options
@json_option
def inspect(
    file: str,
    layer: str | None,
    field: str | None,
    scene: str | None,
    wavelengths: str | None,
    fwhm: float | None,
    sensor: str | None,
    response: str | None,
    scale: float | None,
    crs: str | None,
    as_json: bool,
) -> None:
    """Say what FILE holds and, with --scene, what would become of each point."""
    import json
    from math import isnan

    from pixelssr_geo.fitting import resolve_channels
    from pixelssr_geo.pairing import pair_points
    from pixelssr_geo.points import read_points
    from pixelssr_geo.scene import open_scene
    from pixelssr_geo.settings import Settings

    read = read_points(file, layer=layer, field=field)
    low, high = map(float, read.wavelengths_nm[[0, -1]])
    about: dict[str, Any] = {
        "points": len(read),
        "wavelengths": len(read.wavelengths_nm),
        "range_nm": [low, high],
        "recognised": list(read.notes),
    }
    if scene is not None:
        opened = open_scene(scene, sensor=sensor, response=response, scale=scale, crs=crs)
        channels = resolve_channels(Settings.of(wavelengths=wavelengths, fwhm=fwhm), read)
        paired = pair_points(opened, read, channels=channels)
        about["used"] = [
            {
                "id": name,
                "row": int(row),
                "col": int(col),
                "disagreement": None if isnan(z) else round(float(z), 2),
            }
            for name, row, col, z in zip(
                paired.ids,
                paired.labels.rows,
                paired.labels.cols,
                paired.disagreement,
                strict=True,
            )
        ]
        about["dropped"] = [{"id": p.id, "reason": p.reason} for p in paired.dropped]
        about["suspicious"] = list(paired.suspicious)
    if as_json:
        click.echo(json.dumps(about))
        return
    click.echo(f"{about['points']} points, {about['wavelengths']} wavelengths {low:g}-{high:g} nm")
    click.echo(f"recognised: {'; '.join(read.notes)}")
    if scene is None:
        return
    click.echo(f"{len(about['used'])} used, {len(about['dropped'])} dropped")
    for point in about["used"]:
        z = point["disagreement"]
        told = "" if z is None else f"  disagreement {z:.1f}"
        mark = "  suspicious" if point["id"] in about["suspicious"] else ""
        click.echo(f"  {point['id']}  row {point['row']} column {point['col']}{told}{mark}")
    for point in about["dropped"]:
        click.echo(f"  {point['id']}  dropped: {point['reason']}")
