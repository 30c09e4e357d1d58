"""``pixelssr-geo train``."""

from __future__ import annotations

from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import (
    agreement_options,
    channel_options,
    network_options,
    overwrite_option,
    point_options,
    progress_bar,
    scene_options,
    settings_options,
    talk_options,
)


@click.command()
@click.argument("scene", type=click.Path())
@point_options
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="WEIGHTS",
    help="Weights to write, *.safetensors.",
)
@channel_options
@agreement_options
@scene_options
@network_options
@overwrite_option
@talk_options
def train(
    scene: str,
    points: str | None,
    layer: str | None,
    field: str | None,
    output: str,
    sensor: str | None,
    response: str | None,
    scale: float | None,
    crs: str | None,
    config: str | None,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Train DyPro-Mamba on SCENE as the paper does, and write its weights.

    With --points this is Pixel-SSR, without them the unsupervised mode. Use the weights with
    reconstruct --method paper --weights on scenes of the same sensor.
    """
    from pixelssr_geo.fitting import train as run
    from pixelssr_geo.points import read_points
    from pixelssr_geo.scene import open_scene
    from pixelssr_geo.writers import check_output

    chosen = settings_options(config, options)
    check_output(output, overwrite=overwrite)
    opened = open_scene(scene, sensor=sensor, response=response, scale=scale, crs=crs)
    field_points = read_points(points, layer=layer, field=field) if points else None
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        validation = run(opened, field_points, output, progress=progress, **chosen)
    click.echo(f"weights     {output}")
    if validation is not None:
        click.echo(
            f"held out    RMSE {validation.rmse:.4f}, SAM {validation.sam:.2f} degrees at "
            f"{validation.n} points"
        )
