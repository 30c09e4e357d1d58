"""What the cells of the accuracy experiment come to: means over seeds, gains over the anchors.

The best anchor of a group of cells (scene, protocol, points, noise) is the per-pixel method with the
highest mean PSNR there. A method is compared over the seeds that it was run with, and with anchors
that were run with them too.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pixelssr_geo.experiments.methods import ANCHORS, METHODS
from pixelssr_geo.experiments.scenes import FROZEN_NOISE, Ratio, parse_noise, percent_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pixelssr_geo.experiments.accuracy import AccuracyCell, AccuracyResult, Rows

LOSS_DB = 0.2
"""How far below the best anchor a cell is called lost, dB."""

USUAL_SEEDS = 3
"""Seeds behind a figure; any other number is in parentheses behind it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that differ in method and seed alone."""

    scene: str
    """Name of the scene."""
    protocol: str
    """Where the points lie and what is scored."""
    points: str
    """How many there are."""
    noise: str
    """Of the scene."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What a method reaches in a group, the mean over its seeds."""

    group: Group
    """The cells."""
    method: str
    """Name of the method."""
    psnr: float
    """dB."""
    sam: float
    """Degrees."""
    seeds: int
    """Number of seeds."""
    seconds: float
    """By the clock."""
    cv_rmse: float | None
    """The method's own error at withheld points, reflectance; None if a seed has none."""
    coverage: float | None
    """Share of values at withheld points inside the method's interval; None if a seed has none."""
    best: Best | None
    """The best anchor over the same seeds; None if there is none, and for anchors themselves."""

    @property
    def gain(self) -> float | None:
        """PSNR above that of the best anchor, dB."""
        return None if self.best is None else self.psnr - self.best.psnr


@dataclass(frozen=True, slots=True)
class Best:
    """The best anchor of a group."""

    method: str
    """Name of the method."""
    psnr: float
    """dB."""
    sam: float
    """Degrees."""
    seeds: int
    """Number of seeds."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a method reached before this package was there; a row of ``earlier_figures.csv``."""

    group: Group
    """The cells."""
    kind: str
    """``anchor`` (the best one of the group) or ``prototype`` (of the estimator)."""
    method: str
    """Name of the method."""
    psnr: float
    """dB."""
    sam: float
    """Degrees."""
    seeds: int
    """Number of seeds."""


@cache
def earlier_figures() -> tuple[Earlier, ...]:
    """Figures of the study that the estimator goes back to, on the frozen scenes."""
    text = (files(__package__) / "data" / "earlier_figures.csv").read_text(encoding="utf-8")
    noise = percent_text(FROZEN_NOISE)
    return tuple(
        Earlier(
            group=Group(row["scene"], "random", row["points"], noise),
            kind=row["kind"],
            method=row["method"],
            psnr=float(row["psnr"]),
            sam=float(row["sam"]),
            seeds=int(row["seeds"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def figures(rows: Rows) -> list[Figure]:
    """The mean over seeds of every method in every group, beside the group's best anchor."""
    runs: dict[Group, dict[str, dict[int, AccuracyResult]]] = {}
    for cell, result in rows.items():
        runs.setdefault(_group(cell), {}).setdefault(cell.method, {})[cell.seed] = result
    return [
        _figure(group, method, by_seed, methods)
        for group, methods in sorted(runs.items(), key=lambda item: _order(item[0]))
        for method, by_seed in sorted(methods.items(), key=lambda item: _method_order(item[0]))
    ]


def best_anchor(methods: dict[str, dict[int, AccuracyResult]], seeds: Iterable[int]) -> Best | None:
    """The anchor with the highest mean PSNR over some seeds, of those that were run with all."""
    needed = sorted(seeds)
    found = [
        Best(
            name,
            _mean(by_seed[s].psnr for s in needed),
            _mean(by_seed[s].sam for s in needed),
            len(needed),
        )
        for name, by_seed in methods.items()
        if name in ANCHORS and by_seed.keys() >= set(needed)
    ]
    return max(found, key=lambda best: best.psnr, default=None)


def _figure(
    group: Group,
    method: str,
    by_seed: dict[int, AccuracyResult],
    methods: dict[str, dict[int, AccuracyResult]],
) -> Figure:
    results = list(by_seed.values())
    return Figure(
        group=group,
        method=method,
        psnr=_mean(result.psnr for result in results),
        sam=_mean(result.sam for result in results),
        seeds=len(results),
        seconds=_mean(result.seconds for result in results),
        cv_rmse=_mean_if_all(result.cv_rmse for result in results),
        coverage=_mean_if_all(result.coverage for result in results),
        best=None if method in ANCHORS else best_anchor(methods, by_seed),
    )


@dataclass(frozen=True, slots=True)
class MeanGain:
    """Gain of a method over the best anchors, the mean over scenes."""

    protocol: str
    """Where the points lie and what is scored."""
    noise: str
    """Of the scenes."""
    points: str
    """How many there are."""
    method: str
    """Name of the method."""
    gain: float
    """dB."""
    scenes: int
    """Number of scenes."""


def mean_gains(found: Sequence[Figure]) -> list[MeanGain]:
    """The mean gain of each method over the scenes, for every protocol, noise and points."""
    gains: dict[tuple[str, str, str, str], list[float]] = {}
    for figure in found:
        if figure.gain is not None:
            group = figure.group
            key = group.protocol, group.noise, group.points, figure.method
            gains.setdefault(key, []).append(figure.gain)
    return [MeanGain(*key, _mean(values), len(values)) for key, values in gains.items()]


def lost(found: Sequence[Figure]) -> list[Figure]:
    """Figures more than 0.2 dB below the best anchor, the worst first."""
    behind = [figure for figure in found if figure.gain is not None and figure.gain < -LOSS_DB]
    return sorted(behind, key=lambda figure: figure.gain or 0.0)


def accuracy_tables(rows: Rows, methods: Sequence[str] | None = None) -> str:
    """Markdown tables of the results.

    Accuracy by scene and protocol; gains over the best anchors, and the cells that are lost, where
    other methods than anchors are shown; accuracy by noise where there is more than one.

    Parameters
    ----------
    rows
        Finished cells; all anchors among them are looked at.
    methods
        Names of the methods to show; by default all.
    """
    found = figures(rows)
    shown = [figure for figure in found if methods is None or figure.method in methods]
    if not shown:
        return "No finished cell."
    noises = _distinct((figure.group.noise for figure in shown), parse_noise)
    usual = percent_text(FROZEN_NOISE)
    main = usual if usual in noises else noises[0]
    parts = [_accuracy_part([f for f in shown if f.group.noise == main], found, main)]
    if any(figure.best is not None for figure in shown):
        parts += [_gain_part([f for f in shown if f.group.noise == main], main), _lost_part(shown)]
    if len(noises) > 1:
        parts.append(_noise_part(shown, found, noises))
    return "\n\n".join(parts)


def accuracy_report(rows: Rows, methods: Sequence[str] | None = None) -> dict[str, Any]:
    """The same as plain values: ``figures``, ``mean_gains`` and ``lost``.

    Parameters
    ----------
    rows, methods
        As for :func:`accuracy_tables`.
    """
    found = [one for one in figures(rows) if methods is None or one.method in methods]
    return {
        "figures": list(map(_plain, found)),
        "mean_gains": [asdict(mean) for mean in mean_gains(found)],
        "lost": list(map(_plain, lost(found))),
    }


def _plain(figure: Figure) -> dict[str, Any]:
    told = asdict(figure)
    return {**told.pop("group"), **told, "gain": figure.gain}


def _accuracy_part(shown: Sequence[Figure], found: Sequence[Figure], noise: str) -> str:
    ratios = _distinct((figure.group.points for figure in shown), _ratio_order)
    here = {(figure.group, figure.method): figure for figure in shown}
    lines = []
    for scene, protocol in dict.fromkeys((f.group.scene, f.group.protocol) for f in shown):
        groups = [Group(scene, protocol, ratio, noise) for ratio in ratios]
        for method in _distinct((m for g, m in here if g in groups), _method_order):
            cells = [_shown(here.get((group, method))) for group in groups]
            lines.append([scene, protocol, method, *cells])
        best = [_named(_best_of(group, found)) for group in groups]
        lines.append([scene, protocol, "best anchor", *best])
        for kind, text in (("anchor", _named), ("prototype", _shown)):
            old = {one.group: one for one in earlier_figures() if one.kind == kind}
            if old.keys() & set(groups):
                cells = [text(old.get(group)) for group in groups]
                lines.append([scene, protocol, f"earlier {kind}", *cells])
    told = (
        f"PSNR in dB / mean spectral angle in degrees, noise {noise}; points in the columns. Means of "
        f"{USUAL_SEEDS} seeds, or of the number in parentheses."
    )
    return _part(told, ["scene", "protocol", "method", *ratios], lines)


def _gain_part(shown: Sequence[Figure], noise: str) -> str:
    ratios = _distinct((figure.group.points for figure in shown), _ratio_order)
    lines = []
    methods = _distinct((f.method for f in shown if f.best is not None), _method_order)
    for protocol, method in product(_distinct((f.group.protocol for f in shown), str), methods):
        mine = [f for f in shown if f.method == method and f.group.protocol == protocol]
        gains = {(f.group.scene, f.group.points): f.gain for f in mine if f.gain is not None}
        for scene in dict.fromkeys(scene for scene, _ in gains):
            cells = [_signed(gains.get((scene, ratio))) for ratio in ratios]
            lines.append([scene, protocol, method, *cells])
        means = {mean.points: mean for mean in mean_gains(mine)}
        if means:
            cells = [_mean_text(means.get(ratio)) for ratio in ratios]
            lines.append(["mean", protocol, method, *cells])
    earlier = _earlier_gains()
    if any(figure.group in {group for group, _ in earlier} for figure in shown):
        by_ratio = {
            ratio: [gain for group, gain in earlier if group.points == ratio] for ratio in ratios
        }
        cells = [_signed(_mean(gains)) if gains else "" for gains in by_ratio.values()]
        lines.append(["mean", "random", "earlier prototype", *cells])
    told = (
        f"Gain in dB over the best anchor, noise {noise}; in parentheses the number of scenes in a "
        "mean."
    )
    return _part(told, ["scene", "protocol", "method", *ratios], lines)


def _lost_part(shown: Sequence[Figure]) -> str:
    lines = [
        [
            figure.group.scene,
            figure.group.protocol,
            figure.group.points,
            figure.group.noise,
            figure.method,
            _shown(figure),
            _named(figure.best),
            _signed(figure.gain),
        ]
        for figure in lost(shown)
    ]
    compared = sum(figure.best is not None for figure in shown)
    told = f"Lost by more than {LOSS_DB} dB: {len(lines)} of {compared}."
    head = ["scene", "protocol", "points", "noise", "method", "cube", "best anchor", "gain"]
    return _part(told, head, lines) if lines else told


def _noise_part(shown: Sequence[Figure], found: Sequence[Figure], noises: Sequence[str]) -> str:
    lines = []
    here = {(figure.group, figure.method): figure for figure in shown}
    places = dict.fromkeys((f.group.scene, f.group.protocol, f.group.points) for f in shown)
    for place in places:
        groups = [Group(*place, noise) for noise in noises]
        if sum(any(group == g for g, _ in here) for group in groups) < 2:
            continue
        lines += [
            [*place, method, *(_shown(here.get((group, method))) for group in groups)]
            for method in _distinct((m for g, m in here if g in groups), _method_order)
        ]
        lines.append([*place, "best anchor", *(_named(_best_of(g, found)) for g in groups)])
    told = "PSNR in dB / mean spectral angle in degrees; noise, as a share of the mean, in the columns."
    return _part(told, ["scene", "protocol", "points", "method", *noises], lines)


def _best_of(group: Group, found: Sequence[Figure]) -> Figure | None:
    """The best anchor among those with the most seeds."""
    anchors = [f for f in found if f.group == group and f.method in ANCHORS]
    most = max((figure.seeds for figure in anchors), default=0)
    whole = [figure for figure in anchors if figure.seeds == most]
    return max(whole, key=lambda figure: figure.psnr, default=None)


def _earlier_gains() -> list[tuple[Group, float]]:
    known = {(one.group, one.kind): one.psnr for one in earlier_figures()}
    return [
        (group, value - known[group, "anchor"])
        for (group, kind), value in known.items()
        if kind == "prototype"
    ]


def _part(told: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(row)} |" for row in (head, *lines)]
    return "\n".join([told, "", rows[0], "|---" * len(head) + "|", *rows[1:]])


def _shown(figure: Figure | Best | Earlier | None) -> str:
    return "" if figure is None else f"{figure.psnr:.2f} / {figure.sam:.2f}{_seeds(figure.seeds)}"


def _named(figure: Figure | Best | Earlier | None) -> str:
    return "" if figure is None else f"{_shown(figure)} {figure.method}"


def _seeds(count: int) -> str:
    return "" if count == USUAL_SEEDS else f" ({count})"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _mean_text(mean: MeanGain | None) -> str:
    return "" if mean is None else f"{mean.gain:+.2f} ({mean.scenes})"


def _group(cell: AccuracyCell) -> Group:
    return Group(cell.scene, cell.protocol, cell.points, cell.noise)


def _order(group: Group) -> tuple[object, ...]:
    return group.scene, group.protocol, _ratio_order(group.points), parse_noise(group.noise)


def _ratio_order(points: str) -> tuple[bool, float]:
    """Numbers of points before shares."""
    ratio = Ratio.parse(points)
    return ratio.is_share, ratio.value


def _method_order(name: str) -> tuple[int, str]:
    """In the order of the registry, what is not in it last."""
    known = list(METHODS)
    return (known.index(name) if name in METHODS else len(known)), name


def _distinct(values: Iterable[T], order: Callable[[T], object]) -> list[T]:
    return sorted(set(values), key=order)  # type: ignore[arg-type]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _mean_if_all(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    known = [value for value in listed if value is not None]
    return _mean(known) if len(known) == len(listed) else None
