"""The costs of networks in a file, and as a table beside the paper's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pixelssr_geo.errors import ResumeError, SettingsError
from pixelssr_geo.experiments.cells import CellTable
from pixelssr_geo.experiments.network_costs import (
    MEASURE,
    CostCell,
    CostResult,
    CostRows,
    PublishedCost,
    TileSize,
    paper_table10,
)
from pixelssr_geo.writers.output import check_output, new_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMES = (
    "Times: the paper's are of other hardware (an NVIDIA 3090 Ti is what it names), so the last two "
    f"columns compare, each network's time over that of `{MEASURE}` on the same machine; ours is the "
    "median over rounds."
)
"""What parts the paper's times from ours."""

NOTES = {
    "dypro-mamba": "`dypro-mamba`: the paper's 0.61 M are all parameters, in its other rows they are "
    "the profiled ones.",
    "retinex-mamba": "`retinex-mamba`: the paper's operations are in units of 2^30, not 10^9.",
    "msfn": "`msfn`: the paper's operations are for 256 x 256 pixels, four times as many; of what size "
    "its time is, the paper does not say.",
}
"""What parts the paper's counts from ours, by network."""


def check_costs_output(path: Path) -> None:
    """Refuse a place where no costs can be written, or where there is something else.

    Raises
    ------
    OutputError
        If the folder is missing or read-only.
    ResumeError
        If there is a file that is no table of costs.
    """
    check_output(path, overwrite=True)
    if path.exists() and path.stat().st_size:
        read_costs(path)


def write_costs(rows: CostRows, path: Path) -> None:
    """Write the costs of one run; the file is there once it is complete.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with new_output(path, overwrite=True) as partial, _table(partial).appending() as add:
        for cell, result in rows.items():
            add(cell, result)


def read_costs(path: Path) -> CostRows:
    """The costs of one run.

    Raises
    ------
    SettingsError
        If there is no such file.
    ResumeError
        If it does not hold the costs of one run.
    """
    if not path.exists():
        raise SettingsError(
            f"there is no file '{path}', a table of costs is needed: measure them first, or give "
            "its --out"
        )
    rows = _table(path).read()
    if not rows or not path.read_bytes().endswith(b"\n"):
        raise ResumeError(
            f"'{path}' has no lines or ends within one, the costs of at least one network were "
            "expected: measure anew, into another file"
        )
    runs = {replace(cell, net="") for cell in rows}
    if len(runs) > 1:
        raise ResumeError(
            f"'{path}' holds lines of {len(runs)} runs, expected those of one, for times of "
            "different runs do not compare: measure anew, into another file"
        )
    return rows


def _table(path: Path) -> CellTable[CostCell, CostResult]:
    return CellTable(path, CostCell, CostResult)


def paper_figures(cell: CostCell) -> PublishedCost | None:
    """What the paper prints for a network; None if nothing, or for another size."""
    return paper_table10().get(cell.net) if cell.size == TileSize() else None


def paper_ratio(figures: PublishedCost) -> float:
    """A network's time in the paper divided by that of DyPro-Mamba there."""
    return figures.time_ms / paper_table10()[MEASURE].time_ms


def cost_report(rows: CostRows) -> dict[str, Any]:
    """The costs as JSON has them: how they were measured, each network beside the paper, notes."""
    run = asdict(next(iter(rows)))
    del run["net"]
    networks = []
    for cell, result in rows.items():
        told: dict[str, Any] | None = None
        if (figures := paper_figures(cell)) is not None:
            told = {**asdict(figures), "ratio": round(paper_ratio(figures), 4)}
            del told["net"]
        networks.append({"net": cell.net, **asdict(result), "paper": told})
    return {**run, "networks": networks, "notes": cost_notes(rows)}


def cost_table(rows: CostRows) -> str:
    """The costs in Markdown, beside the paper's where those are for this size; then the notes."""
    run = next(iter(rows))
    shown = [column for column in _COLUMNS if not column.published or run.size == TileSize()]
    table = [f"| {' | '.join(column.head for column in shown)} |", "|" + "---|" * len(shown)]
    table += [f"| {' | '.join(column.text(*row) for column in shown)} |" for row in rows.items()]
    parts = [[_measured(run)], table]
    if notes := cost_notes(rows):
        parts.append([f"- {note}" for note in notes])
    return "\n\n".join("\n".join(part) for part in parts)


def cost_notes(rows: CostRows) -> list[str]:
    """What parts the paper's figures from ours; nothing where they are not beside each other."""
    if next(iter(rows)).size != TileSize():
        return []
    return [TIMES, *(NOTES[cell.net] for cell in rows if cell.net in NOTES)]


def _measured(run: CostCell) -> str:
    return (
        f"{run.bands} bands to {run.channels} channels, {run.tile} x {run.tile} pixels, float32. "
        f"Times: medians of {run.rounds} round{'s' * (run.rounds != 1)}, {run.device} "
        f"({run.hardware}), {run.threads} thread{'s' * (run.threads != 1)}, torch {run.torch}, "
        f"scan {run.scan_backend}."
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table."""

    head: str
    """What stands above it."""
    text: Callable[[CostCell, CostResult], str]
    """What it says of a network."""
    published: bool = False
    """Whether it is the paper's."""


def _paper(figure: Callable[[PublishedCost], float], digits: str = "g") -> _Column:
    def text(cell: CostCell, _: CostResult) -> str:
        figures = paper_figures(cell)
        return "" if figures is None else format(figure(figures), digits)

    return _Column("paper", text, published=True)


_COLUMNS = (
    _Column("network", lambda cell, _: f"`{cell.net}`"),
    _Column("parameters M", lambda _, found: f"{found.parameters / 1e6:.3f}"),
    _Column("profiled M", lambda _, found: f"{found.profiled_parameters / 1e6:.3f}"),
    _paper(lambda figures: figures.parameters_m),
    _Column("all G", lambda _, found: f"{found.macs / 1e9:.2f}"),
    _Column("profiled G", lambda _, found: f"{found.profiled_macs / 1e9:.3f}"),
    _paper(lambda figures: figures.flops_g),
    _Column("ms", lambda _, found: f"{found.median_ms:.1f}"),
    _paper(lambda figures: figures.time_ms),
    _Column(f"ms / {MEASURE}", lambda _, found: f"{found.ratio:.2f}"),
    _paper(paper_ratio, ".2f"),
)
