"""``pixelssr-geo batch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click
from click.exceptions import Exit

from pixelssr_geo.cli.options import (
    agreement_options,
    channel_options,
    cluster_options,
    cube_options,
    json_option,
    layer_options,
    method_options,
    network_options,
    overwrite_option,
    progress_bar,
    scene_options,
    settings_options,
    talk_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pixelssr_geo.batch import BatchItem, BatchOutcome, Ending
    from pixelssr_geo.writers import CubeDtype

HEAD = ("status", "scene", "output", "points", "RMSE", "seconds")
"""Columns of the table."""


@click.command()
@click.argument("scenes", type=click.Path(), nargs=-1, required=True, metavar="SCENE...")
@click.option(
    "--points",
    type=click.Path(),
    metavar="FILE",
    help="Field spectra, a GeoPackage; {stem} in the name stands for the scene's name without "
    "ending, so that each scene has its own: field/{stem}.gpkg.",
)
@layer_options
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="DIR",
    help="Folder or URL for the cubes, <scene>_hsi.<format> [default: each beside its scene].",
)
@click.option(
    "--format",
    type=click.Choice(["tif", "zarr", "bsq", "img"]),
    default="tif",
    show_default=True,
    help="Of the cubes: tif (COG), zarr, or bsq or img (ENVI).",
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
    is_flag=True,
    help="Write the standard deviation of each cube's error beside it, <scene>_hsi_sd.<format>.",
)
@click.option(
    "--at-a-time",
    type=click.IntRange(min=1),
    metavar="N",
    help="Scenes beside each other on a cluster [default: 2, on threads 1].",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Skip scenes whose cube is there, and go on with runs that were interrupted.",
)
@overwrite_option
@json_option
@talk_options
def batch(
    scenes: tuple[str, ...],
    points: str | None,
    layer: str | None,
    field: str | None,
    output: str | None,
    format: str,
    sensor: str | None,
    response: str | None,
    scale: float | None,
    crs: str | None,
    config: str | None,
    dtype: str,
    workers: int | None,
    scheduler: str | None,
    block: int | None,
    uncertainty: bool,
    at_a_time: int | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Reconstruct many scenes with the same settings.

    Each SCENE is done as by reconstruct. One that fails does not stop the others; the table says
    why, RMSE being the error at withheld points. Exit code 1 if any failed.
    """
    from typing import cast

    from pixelssr_geo.batch import batch_items, run_batch, scene_labels
    from pixelssr_geo.settings import Settings

    settings = Settings.of(**settings_options(config, options))
    items = batch_items(
        scenes,
        points=points,
        folder=output,
        format=cast("Ending", format),
        uncertainty=uncertainty,
    )
    labels = scene_labels(items)
    outcomes: list[BatchOutcome] = []
    try:
        with progress_bar(quiet=quiet, verbose=verbose) as progress:

            def note(outcome: BatchOutcome) -> None:
                outcomes.append(outcome)
                progress.forget(f"{labels[outcome.item]}: ")

            run_batch(
                items,
                settings,
                sensor=sensor,
                response=response,
                scale=scale,
                crs=crs,
                layer=layer,
                field=field,
                dtype=cast("CubeDtype", dtype),
                overwrite=overwrite,
                resume=resume,
                workers=workers,
                scheduler=scheduler,
                block=block,
                at_a_time=at_a_time,
                progress=progress,
                on_outcome=note,
            )
    except KeyboardInterrupt:
        _print(items, outcomes, as_json=as_json)
        raise
    _print(items, outcomes, as_json=as_json)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise Exit(1)


def _print(items: Sequence[BatchItem], outcomes: Sequence[BatchOutcome], *, as_json: bool) -> None:
    """Print what became of the scenes, in the order given."""
    import json

    found = {outcome.item: outcome for outcome in outcomes}
    ordered = [found[item] for item in items if item in found]
    counts = {
        status: sum(outcome.status == status for outcome in ordered)
        for status in ("done", "skipped", "failed")
    }
    if as_json:
        click.echo(json.dumps({"scenes": list(map(_as_dict, ordered)), **counts}))
        return
    for line in _table(ordered):
        click.echo(line)
    if missing := len(items) - len(ordered):
        counts["not finished"] = missing
    click.echo(", ".join(f"{count} {status}" for status, count in counts.items()))


def _as_dict(outcome: BatchOutcome) -> dict[str, Any]:
    import json

    from pixelssr_geo.place import shown

    about = {
        "scene": shown(outcome.item.scene),
        "output": shown(outcome.item.output),
        "status": outcome.status,
        "error": outcome.error,
        "seconds": round(outcome.seconds, 3),
    }
    if outcome.summary is not None:
        about["summary"] = json.loads(outcome.summary.to_json())
    return about


def _table(outcomes: Sequence[BatchOutcome]) -> list[str]:
    """Aligned rows under a head; below a scene that failed, why."""
    rows = [HEAD, *map(_row, outcomes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, error in zip(rows, [None, *(outcome.error for outcome in outcomes)], strict=True):
        texts = [text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join([*texts, *numbers]))
        if error is not None:
            lines.append(" " * (widths[0] + 2) + error)
    return lines


def _row(outcome: BatchOutcome) -> tuple[str, ...]:
    from pixelssr_geo.place import shown

    summary = outcome.summary
    validation = summary.cross_validation if summary is not None else None
    return (
        outcome.status,
        shown(outcome.item.scene),
        shown(outcome.item.output),
        str(summary.points_used) if summary is not None else "-",
        f"{validation['rmse']:.4f}" if validation is not None else "-",
        f"{outcome.seconds:.1f}" if outcome.status != "skipped" else "-",
    )
