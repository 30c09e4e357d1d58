"""``pixelssr-geo reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import (
    channel_options,
    json_option,
    network_options,
    overwrite_option,
    point_options,
    progress_bar,
    resume_option,
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
    type=click.Path(),
    metavar="OUT",
    help="Cube to write: *.tif (COG), *.zarr, or *.bsq or *.img (ENVI) "
    "[default: <scene>_hsi.tif beside the scene].",
)
@click.option(
    "--method",
    type=click.Choice(["product", "estimator", "dypro", "paper", "ridge", "library"]),
    default="product",
    show_default=True,
    help="product: estimator and gated network; estimator: no network; dypro: network without "
    "gate; paper: Pixel-SSR as published; ridge: points alone; library: no points.",
)
@click.option(
    "--weights", type=click.Path(), metavar="FILE", help="Trained weights (method paper)."
)
@channel_options
@scene_options
@network_options
@click.option(
    "--folds",
    type=int,
    default=3,
    show_default=True,
    help="Groups of spatial blocks that are withheld in turn to set the gate.",
)
@click.option("--tile", type=int, default=128, show_default=True, help="Side of a tile, pixels.")
@click.option(
    "--overlap", type=int, default=32, show_default=True, help="Overlap of tiles, pixels."
)
@click.option(
    "--batch-size", type=int, metavar="N", help="Tiles in a forward pass [default: 1, on CUDA 16]."
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "tf32"]),
    default="float32",
    show_default=True,
    help="Of a network's products on a CUDA device; tf32 is faster and rounds to 10 bits.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "uint16"]),
    default="float32",
    show_default=True,
    help="Data type of the cube; uint16 holds reflectance in steps of 1e-4.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compute in N processes of a local cluster instead of threads.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS|FILE",
    help="Compute on the workers of a running Dask scheduler.",
)
@click.option("--quicklook", type=click.Path(), metavar="PNG", help="Picture of the cube.")
@resume_option
@overwrite_option
@json_option
@talk_options
def reconstruct(
    scene: str,
    points: str | None,
    layer: str | None,
    field: str | None,
    output: str | None,
    sensor: str | None,
    response: str | None,
    scale: float | None,
    crs: str | None,
    config: str | None,
    dtype: str,
    workers: int | None,
    scheduler: str | None,
    quicklook: str | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Reconstruct a hyperspectral cube from SCENE (any GDAL raster or Zarr store).

    With --points the cube is corrected at the field spectra; without, it rests on the spectral
    library alone.
    """
    from typing import cast

    from pixelssr_geo.points import read_points
    from pixelssr_geo.reconstruction import reconstruct_to_file
    from pixelssr_geo.scene import open_scene
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.writers import CubeDtype, check_output

    settings = Settings.of(**settings_options(config, options))
    path = Path(output) if output else _default_output(scene)
    check_output(path, overwrite=overwrite)
    if quicklook:
        check_output(quicklook, overwrite=overwrite)
    opened = open_scene(scene, sensor=sensor, response=response, scale=scale, crs=crs)
    field_points = read_points(points, layer=layer, field=field) if points else None
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        model, summary = reconstruct_to_file(
            opened,
            field_points,
            path,
            settings,
            dtype=cast("CubeDtype", dtype),
            overwrite=overwrite,
            resume=resume,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
    if quicklook:
        from pixelssr_geo.report.pictures import quicklook as draw
        from pixelssr_geo.scene import open_cube

        paired = model.paired
        draw(
            quicklook,
            open_cube(path),
            labels=paired.labels if paired else None,
            names=paired.ids if paired else (),
            title=f"{path.name}, method {settings.method}",
        )
    if as_json:
        click.echo(summary.to_json())
        return
    for line in summary.lines():
        click.echo(line)


def _default_output(scene: str) -> Path:
    path = Path(scene)
    return path.with_name(f"{path.stem}_hsi.tif")
