"""``pixelssr-geo reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import (
    agreement_options,
    channel_options,
    cluster_options,
    cube_options,
    json_option,
    method_options,
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
    help="Cube to write: *.tif (COG), *.zarr (also a URL), or *.bsq or *.img (ENVI) "
    "[default: <scene>_hsi.tif beside the scene].",
)
@method_options
@channel_options
@agreement_options
@scene_options
@network_options
@cube_options
@cluster_options
@click.option(
    "--uncertainty",
    type=click.Path(),
    metavar="FILE",
    help="Standard deviation of the cube's error to write in the same run, with a layer "
    "'extrapolation' that is 0 where points and library cover the scene: *.tif, *.zarr, *.bsq or "
    "*.img (not with method paper).",
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
    block: int | None,
    uncertainty: str | None,
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

    from pixelssr_geo.fitting import check_uncertainty
    from pixelssr_geo.place import place, place_name
    from pixelssr_geo.points import read_points
    from pixelssr_geo.reconstruction import reconstruct_to_file
    from pixelssr_geo.scene import open_scene
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.writers import CubeDtype, check_output

    settings = Settings.of(**settings_options(config, options))
    path = place(output) if output else _default_output(scene)
    check_output(path, overwrite=overwrite)
    if uncertainty:
        check_uncertainty(settings)
        check_output(uncertainty, overwrite=overwrite)
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
            uncertainty=uncertainty,
            dtype=cast("CubeDtype", dtype),
            overwrite=overwrite,
            resume=resume,
            workers=workers,
            scheduler=scheduler,
            block=block,
            progress=progress,
        )
    if quicklook:
        from pixelssr_geo.report.pictures import quicklook as draw
        from pixelssr_geo.scene import open_cube

        paired = model.paired
        draw(
            quicklook,
            open_cube(path),
            labels=model.labels_in_units(),
            names=paired.ids if paired else (),
            title=f"{place_name(path)}, method {settings.method}",
        )
    if as_json:
        click.echo(summary.to_json())
        return
    for line in summary.lines():
        click.echo(line)


def _default_output(scene: str) -> Path:
    """Beside the scene; of one at a URL, in the working directory."""
    from pixelssr_geo.place import place, place_name

    where = place(scene)
    folder = where.parent if isinstance(where, Path) else Path()
    return folder / f"{Path(place_name(where)).stem}_hsi.tif"
