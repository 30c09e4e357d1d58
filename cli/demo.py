"""``pixelssr-geo demo``."""

from __future__ import annotations

import rich_click as click

from pixelssr_geo.cli.options import json_option, overwrite_option, progress_bar, talk_options


@click.command()
@click.argument("folder", type=click.Path(), default="demo")
@click.option(
    "--size",
    type=click.IntRange(min=64),
    default=256,
    show_default=True,
    help="Rows and columns of the landscape.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of every random draw.",
)
@overwrite_option
@json_option
@talk_options
def demo(
    folder: str, size: int, seed: int, overwrite: bool, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Take a synthetic landscape the whole way: scene, points, cube, metrics, picture in FOLDER."""
    import json

    from pixelssr_geo.demo import run_demo

    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        result = run_demo(folder, size=size, seed=seed, overwrite=overwrite, progress=progress)
    if as_json:
        about = {"folder": str(result.folder), "scores": result.scores, "seconds": result.seconds}
        click.echo(json.dumps(about | {"run": json.loads(result.summary.to_json())}))
        return
    for line in result.summary.lines():
        click.echo(line)
    click.echo(f"\n{'method':<10} {'PSNR dB':>8} {'SAM deg':>8} {'SSIM':>7} {'RMSE':>8}")
    for method, score in result.scores.items():
        click.echo(
            f"{method:<10} {score['psnr']:8.2f} {score['sam']:8.2f} {score['ssim']:7.4f} "
            f"{score['rmse']:8.5f}"
        )
    click.echo(f"\npicture     {result.folder / 'quicklook.png'} ({result.seconds:.0f} s in all)")
