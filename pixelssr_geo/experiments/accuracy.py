"""How good the cubes are: every method on scenes whose cube is known, beside per-pixel regressions.

A cell is one method on one scene with one draw of noise and points; its result is how far the cube
is from the truth where no point lies. :mod:`pixelssr_geo.experiments.accuracy_tables` says what the
results come to.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from itertools import product
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from pixelssr_geo.errors import SceneError, SettingsError
from pixelssr_geo.experiments.cells import CellTable, run_cells
from pixelssr_geo.experiments.methods import (
    ANCHORS,
    chosen_methods,
    reconstruct_trial,
    refusal,
)
from pixelssr_geo.experiments.scenes import (
    FROZEN_NOISE,
    PROTOCOLS,
    Ratio,
    load_ground,
    load_trial,
    parse_noise,
    parse_seed,
    percent_text,
)
from pixelssr_geo.metrics import psnr, rmse, sam

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pixelssr_geo.experiments.scenes import Protocol, SceneSource, Trial
    from pixelssr_geo.fitting import Progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AccuracyCell:
    """One method on one scene with one draw of noise and points."""

    scene: str
    """Name of the scene."""
    protocol: str
    """Where the points lie and what is scored."""
    points: str
    """How many there are, a number or a share of the valid pixels, as ``0.1%``."""
    noise: str
    """Standard deviation of the scene's noise as a share of its mean, as ``0.2%``."""
    seed: int
    """Of noise, points and method."""
    method: str
    """What made the cube."""


@dataclass(frozen=True, slots=True)
class AccuracyResult:
    """How far the cube is from the truth."""

    labels: int
    """Pixels that carry a point."""
    psnr: float
    """Over all channels of the scored pixels, dB, peak 1."""
    sam: float
    """Mean spectral angle of the scored pixels, degrees."""
    rmse: float
    """Over all channels of the scored pixels, reflectance."""
    pixels: int
    """Pixels that were scored."""
    residual: float
    """Root mean square of what the cube's bands differ from the scene's, reflectance."""
    seconds: float
    """What the method took, by the clock."""
    cv_rmse: float | None
    """The method's own error at withheld points, reflectance, or None."""
    coverage: float | None
    """Share of values at withheld points inside the method's own interval, or None."""
    gate: float | None
    """How far a network was let through, or None where none was tried."""


Rows = dict[AccuracyCell, AccuracyResult]
"""Finished cells."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What is run on every scene: all combinations of these."""

    protocols: tuple[str, ...] = ("random",)
    """Where points lie."""
    points: tuple[str, ...] = ("0", "2", "0.1%", "1%", "10%")
    """How many there are."""
    noises: tuple[str, ...] = (percent_text(FROZEN_NOISE),)
    """Noise of the scenes, shares of their mean."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Draws."""
    methods: tuple[str, ...] = (*ANCHORS, "estimator", "product")
    """Names of methods."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A part of a table; None is all that there are."""

    scenes: tuple[str, ...] | None = None
    """Names of scenes."""
    protocols: tuple[str, ...] | None = None
    """Where points lie."""
    points: tuple[str, ...] | None = None
    """How many there are."""
    noises: tuple[str, ...] | None = None
    """Noise of the scenes, shares of their mean."""
    seeds: tuple[int, ...] | None = None
    """Draws."""
    methods: tuple[str, ...] | None = None
    """Names of the methods to show; figures are held against all that there are."""

    @staticmethod
    def of(
        *,
        scenes: Sequence[str] | None = None,
        protocols: Sequence[str] | None = None,
        points: Sequence[str] | None = None,
        noises: Sequence[str] | None = None,
        seeds: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
    ) -> Choice:
        """What texts ask for; methods may be groups of them, such as ``anchors``.

        Raises
        ------
        SettingsError
            If one of them is none of its kind.
        """
        return Choice(
            scenes=_each(scenes, str),
            protocols=_each(protocols, _protocol),
            points=_each(points, lambda text: str(Ratio.parse(text))),
            noises=_each(noises, lambda text: percent_text(parse_noise(text))),
            seeds=_each(seeds, parse_seed),
            methods=None if methods is None else tuple(chosen_methods(methods)),
        )

    def grid(self) -> Grid:
        """What is to be run, the defaults in place of None."""
        asked = {field.name: getattr(self, field.name) for field in fields(Grid)}
        return Grid(**{name: values for name, values in asked.items() if values is not None})

    @staticmethod
    def ran(sources: Sequence[SceneSource], grid: Grid) -> Choice:
        """What a grid gives on some scenes."""
        names = tuple(source.name for source in sources)
        return Choice(names, **{field.name: getattr(grid, field.name) for field in fields(Grid)})

    def rows(self, rows: Rows) -> Rows:
        """The finished cells among these, of whatever method."""
        return {cell: result for cell, result in rows.items() if self._holds(cell)}

    def _holds(self, cell: AccuracyCell) -> bool:
        asked: tuple[tuple[tuple[object, ...] | None, object], ...] = (
            (self.scenes, cell.scene),
            (self.protocols, cell.protocol),
            (self.points, cell.points),
            (self.noises, cell.noise),
            (self.seeds, cell.seed),
        )
        return all(values is None or value in values for values, value in asked)


def _each(texts: Sequence[str] | None, parse: Callable[[str], T]) -> tuple[T, ...] | None:
    return None if texts is None else tuple(dict.fromkeys(map(parse, texts)))


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise SettingsError(
            f"there is no protocol '{text}', expected some of {', '.join(PROTOCOLS)}: choose from "
            "these"
        )
    return text


def accuracy_table(path: Path) -> CellTable[AccuracyCell, AccuracyResult]:
    """The table of finished cells in a file."""
    return CellTable(path, AccuracyCell, AccuracyResult)


def read_accuracy(path: Path) -> Rows:
    """The finished cells in a file.

    Raises
    ------
    SettingsError
        If there is no such file.
    ResumeError
        If it is none of this experiment.
    """
    return accuracy_table(path).finished()


def plan_cells(sources: Sequence[SceneSource], grid: Grid) -> tuple[list[AccuracyCell], list[str]]:
    """The cells that are asked for, and what is left out of them and why, one line each.

    Raises
    ------
    PixelSSRError
        If a scene cannot be read.
    """
    cells: list[AccuracyCell] = []
    left_out: list[str] = []
    for source, protocol, points in product(sources, grid.protocols, grid.points):
        ground = load_ground(source)
        count = Ratio.parse(points).count(int(ground.valid.sum()))
        room = int(ground.allowed(cast("Protocol", protocol)).sum())
        where = f"{source.name}, {protocol}, {count} points"
        if count > room:
            left_out.append(f"{where}: the protocol has {room} pixels for them")
            continue
        refused = {name: refusal(name, count) for name in grid.methods}
        for reason in dict.fromkeys(filter(None, refused.values())):
            names = [name for name, why in refused.items() if why == reason]
            left_out.append(f"{where}: {reason}: {', '.join(names)}")
        cells += [
            AccuracyCell(source.name, protocol, points, noise, seed, name)
            for noise, seed, name in product(grid.noises, grid.seeds, refused)
            if refused[name] is None
        ]
    return cells, left_out


def run_accuracy(
    sources: Sequence[SceneSource],
    grid: Grid,
    path: Path,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> tuple[Rows, list[str]]:
    """Run the cells that a file lacks; all that were asked for, and what was left out.

    Parameters
    ----------
    sources
        The scenes, each with a name of its own; see
        :func:`~pixelssr_geo.experiments.scenes.chosen_scenes`.
    grid
        What to run on them.
    path
        CSV file of finished cells, see :class:`~pixelssr_geo.experiments.cells.CellTable`.
    jobs, progress
        As for :func:`~pixelssr_geo.experiments.cells.run_cells`.

    Raises
    ------
    PixelSSRError
        If a scene or the file cannot be read, or a method refuses one.
    """
    cells, left_out = plan_cells(sources, grid)
    work = AccuracyWork({source.name: source for source in sources})
    return run_cells(cells, work, accuracy_table(path), jobs=jobs, progress=progress), left_out


@dataclass(frozen=True, slots=True)
class AccuracyWork:
    """Runs cells; small, so that it can go to other processes."""

    sources: dict[str, SceneSource]
    """Scenes by name."""

    def __call__(self, cell: AccuracyCell) -> AccuracyResult:
        """The result of a cell."""
        trial = load_trial(
            self.sources[cell.scene],
            cast("Protocol", cell.protocol),
            Ratio.parse(cell.points),
            parse_noise(cell.noise),
            cell.seed,
        )
        start = time.perf_counter()
        made = reconstruct_trial(cell.method, trial, cell.seed)
        seconds = time.perf_counter() - start
        ours, truth = made.cube[:, trial.scored], trial.ground.cube.values[:, trial.scored]
        _check_whole(ours, cell)
        return AccuracyResult(
            labels=0 if trial.labels is None else len(trial.labels),
            psnr=round(psnr(ours, truth), 3),
            sam=round(sam(ours, truth), 3),
            rmse=round(rmse(ours, truth), 6),
            pixels=ours.shape[1],
            residual=float(f"{_residual(trial, made.cube):.2g}"),
            seconds=round(seconds, 2),
            cv_rmse=_rounded(made.cv_rmse),
            coverage=_rounded(made.coverage),
            gate=_rounded(made.gate),
        )


def _check_whole(cube: NDArray[np.float32], cell: AccuracyCell) -> None:
    """Refuse to score what is only a part."""
    lost = int((~np.isfinite(cube).all(0)).sum())
    if lost or not cube.shape[1]:
        raise SceneError(
            f"method '{cell.method}' gives no value at {lost} of {cube.shape[1]} pixels to score, "
            "all are needed and at least one: choose another scene, or leave the method out"
        )


def _residual(trial: Trial, cube: NDArray[np.float32]) -> float:
    seen = np.einsum("bc,cyx->byx", trial.matrix, cube, optimize=True)
    return rmse(seen, np.asarray(trial.scene.values))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
