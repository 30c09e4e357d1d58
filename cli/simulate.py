"""``pixelssr-geo simulate``."""

from __future__ import annotations

import rich_click as click

from pixelssr_geo.cli.options import json_option, overwrite_option


@click.command()
@click.argument("cube", type=click.Path())
@click.option("--sensor", metavar="NAME", help="Sensor to simulate, such as GF6-PMS.")
@click.option(
    "--response", type=click.Path(), metavar="CSV", help="Its spectral response functions instead."
)
@click.option("--points", type=int, required=True, metavar="N", help="Number of field points.")
@click.option(
    "--snr",
    type=float,
    default=500.0,
    show_default=True,
    help="Mean signal over the standard deviation of the noise; 0 for no noise.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of noise and places."
)
@click.option(
    "--layout",
    type=click.Choice(["random", "block", "corner"]),
    default="random",
    show_default=True,
    help="Where the points may lie: anywhere, in every other 10 x 10 block, in one corner.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(), metavar="DIR", help="Folder to write to."
)
@overwrite_option
@json_option
def simulate(
    cube: str,
    sensor: str | None,
    response: str | None,
    points: int,
    snr: float,
    seed: int,
    layout: str,
    output: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write scene.tif, field.gpkg and reference.tif made from the hyperspectral CUBE."""
    import json
    from typing import cast

    from pixelssr_geo.errors import SettingsError
    from pixelssr_geo.simulation import Layout
    from pixelssr_geo.simulation import simulate as run
    from pixelssr_geo.spectra import SpectralResponse, get_sensor

    if (sensor is None) == (response is None):
        raise SettingsError(
            "simulate needs to know the sensor: give either --sensor NAME or --response CSV"
        )
    table = get_sensor(sensor) if sensor else SpectralResponse.from_file(str(response))
    result = run(
        cube,
        table,
        output,
        points=points,
        snr=snr or None,
        seed=seed,
        layout=cast("Layout", layout),
        overwrite=overwrite,
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "scene": str(result.scene),
                    "points": str(result.points),
                    "reference": str(result.reference),
                    "noise": result.noise,
                }
            )
        )
        return
    click.echo(f"scene      {result.scene} ({len(table.names)} bands, noise {result.noise:.2g})")
    click.echo(f"points     {result.points} ({points})")
    click.echo(f"reference  {result.reference}")
