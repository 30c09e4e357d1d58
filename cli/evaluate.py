"""``pixelssr-geo evaluate``."""

from __future__ import annotations

import rich_click as click

from pixelssr_geo.cli.options import json_option

UNITS = {
    "psnr": " dB",
    "mpsnr": " dB",
    "sam": " degrees",
    "sam_band": " degrees (eq. 13)",
    "ergas": " %",
    "psnr_clipped": " dB",
    "mpsnr_clipped": " dB",
    "psnr_elementwise": " dB (eq. 11)",
    "sam_zeros": " degrees",
}
"""What stands behind a metric's number."""


@click.command()
@click.argument("cube", type=click.Path())
@click.argument("reference", type=click.Path())
@click.option(
    "--exclude-points",
    type=click.Path(),
    metavar="FILE",
    help="Leave out the pixels of these points, which carried labels.",
)
@click.option("--mask", type=click.Path(), metavar="RASTER", help="Count only its non-zero pixels.")
@click.option(
    "--variants",
    is_flag=True,
    help="Measure more: MAE, MRAE, ERGAS, correlation, and PSNR, SSIM and SAM as the paper's equations, "
    "its author's scripts and the toolboxes of spectral reconstruction have them.",
)
@json_option
def evaluate(
    cube: str,
    reference: str,
    exclude_points: str | None,
    mask: str | None,
    variants: bool,
    as_json: bool,
) -> None:
    """Compare CUBE with REFERENCE, two cubes on the same grid and channels."""
    import json
    from math import isfinite

    from pixelssr_geo.evaluation import evaluate as run
    from pixelssr_geo.points import read_points

    points = read_points(exclude_points) if exclude_points else None
    result = run(cube, reference, exclude_points=points, mask=mask, variants=variants)
    if as_json:
        # JSON has no infinity, the PSNR of equal cubes, and no NaN.
        known = {k: v if isfinite(v) else None for k, v in result.items()}  # type: ignore[arg-type]
        click.echo(json.dumps(known))
        return
    width = max(map(len, result))
    for name, value in result.items():
        shown = f"{value:.5g}" if isinstance(value, float) else f"{value}"
        click.echo(f"{name:<{width}}  {shown}{UNITS.get(name, '')}")
