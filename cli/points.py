"""``pixelssr-geo points``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from pixelssr_geo.cli.options import (
    channel_options,
    json_option,
    layer_options,
    overwrite_option,
    scene_options,
)
from pixelssr_geo.cli.points_import import import_points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixelssr_geo.pairing import PairedPoints
    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.quality import PointQuality, PointsQuality

MARKS = {"fault": "x", "warning": "!", "note": "-", None: " "}
"""What stands before a point in the table."""


@click.group()
def points() -> None:
    """Import field points, and look at what is wrong with them."""


points.add_command(import_points)


@points.command()
@click.argument("file", type=click.Path())
@layer_options
@click.option("--scene", type=click.Path(), metavar="SCENE", help="Scene to place the points on.")
@click.option(
    "--picture",
    type=click.Path(),
    metavar="PNG",
    help="Write a picture: the points on the scene, coloured by agreement, and their spectra.",
)
@overwrite_option
@channel_options
@scene_options
@json_option
def inspect(
    file: str,
    layer: str | None,
    field: str | None,
    scene: str | None,
    picture: str | None,
    overwrite: bool,
    wavelengths: str | None,
    fwhm: float | None,
    sensor: str | None,
    response: str | None,
    scale: float | None,
    crs: str | None,
    as_json: bool,
) -> None:
    """Say what FILE holds, what is wrong with its points and what to do about it.

    With --scene also what becomes of each point there, how well it agrees with the scene, and where
    nearby it would agree better. Nothing is changed or moved.
    """
    import json

    from pixelssr_geo.fitting import resolve_channels
    from pixelssr_geo.points import read_points
    from pixelssr_geo.quality import assess_points, quality_table
    from pixelssr_geo.scene import open_scene
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.writers import check_output

    if picture is not None:
        check_output(picture, overwrite=overwrite)
    read = read_points(file, layer=layer, field=field)
    opened = channels = None
    if scene is not None:
        opened = open_scene(scene, sensor=sensor, response=response, scale=scale, crs=crs)
    if wavelengths is not None or (scene is not None and fwhm is not None):
        channels = resolve_channels(Settings.of(wavelengths=wavelengths, fwhm=fwhm), read)
    quality = assess_points(read, opened, channels=channels)
    if picture is not None:
        from pixelssr_geo.report.points import write_points_picture

        write_points_picture(picture, read, quality, opened)
    if as_json:
        about = {**_about(read), **_outcome(quality.paired), **quality_table(quality)}
        click.echo(json.dumps(about | ({} if picture is None else {"picture": picture})))
        return
    for line in _lines(read, quality):
        click.echo(line)
    if picture is not None:
        click.echo(f"picture: {picture}")


def _about(read: PointSpectra) -> dict[str, Any]:
    return {
        "points": len(read),
        "wavelengths": len(read.wavelengths_nm),
        "range_nm": [float(read.wavelengths_nm[0]), float(read.wavelengths_nm[-1])],
        "recognised": list(read.notes),
    }


def _outcome(paired: PairedPoints | None) -> dict[str, Any]:
    """Return what becomes of the points on a scene."""
    from math import isnan

    if paired is None:
        return {}
    labels = paired.labels
    rows = zip(paired.ids, labels.rows, labels.cols, paired.disagreement, strict=True)
    return {
        "used": [
            {
                "id": name,
                "row": int(row),
                "col": int(col),
                "disagreement": None if isnan(z) else round(float(z), 2),
            }
            for name, row, col, z in rows
        ],
        "dropped": [{"id": point.id, "reason": point.reason} for point in paired.dropped],
        "suspicious": list(paired.suspicious),
    }


def _lines(read: PointSpectra, quality: PointsQuality) -> Iterator[str]:
    """Lines for people: the file, all points together, and a line for each, worst first."""
    low, high = read.wavelengths_nm[[0, -1]]
    yield f"{len(read)} points, {len(read.wavelengths_nm)} wavelengths {low:g}-{high:g} nm"
    yield f"recognised: {'; '.join(read.notes)}"
    paired = quality.paired
    if paired is not None:
        used = int((paired.matches.labels >= 0).sum())
        yield (
            f"{used} used, {len(paired.dropped)} dropped, {len(paired.suspicious)} suspicious, "
            f"in {len(paired.labels)} pixels"
        )
        if paired.agreement is not None:
            from pixelssr_geo.calibration import line_texts

            lines = line_texts(paired.agreement.calibration.told(quality.bands))
            yield from (f"  {line}" for line in lines)
    yield from (f"note: {note}" for note in quality.notes)
    found = ", ".join(f"{kind} {count}" for kind, count in quality.counts().items())
    yield f"found: {found or 'nothing'}"
    width = max((len(point.id) for point in quality.points), default=0)
    yield from (_line(point, width) for point in quality.worst_first())


def _line(point: PointQuality, width: int) -> str:
    """Return a point's mark, name, pixel, score, what was found and what to do."""
    from math import isnan

    start = f"{MARKS[point.severity]} {point.id:<{width}}"
    if point.place is not None:
        z = "" if isnan(point.place.z) else f"z {point.place.z:.1f}"
        start += f"  row {point.place.row:<5} col {point.place.col:<5} {z:<8}"
    if not point.findings:
        return start.rstrip()
    worst = point.findings[0]
    kinds = ", ".join(finding.kind for finding in point.findings)
    return f"{start}  {kinds}: {worst.found} -> {worst.cure}"
