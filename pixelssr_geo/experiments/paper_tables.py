"""The paper's tables: which cells each consists of, and what came of them beside the paper's figures."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.experiments.exams import ALL_LABELS, NO_LABELS, SPLIT, DatasetSource
from pixelssr_geo.experiments.methods import METHODS, PixelMethod, chosen_methods, refusal
from pixelssr_geo.experiments.networks import (
    METRICS,
    NO_MODE,
    VARIANTS,
    WHOLE,
    NetworkCell,
    NetworkResult,
    Rows,
    parse_windows,
)
from pixelssr_geo.experiments.paper_titles import TITLES
from pixelssr_geo.experiments.scenes import PROTOCOLS, Ratio, SceneSource, load_ground
from pixelssr_geo.nets.registry import find_net, list_nets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

OURS = "dypro-mamba"
"""The paper's own network."""

RATIOS = ("0.01%", "0.1%", "1%", "10%")
"""The paper's ratios of labels."""

LEAST_RATIO, ABLATION_RATIO = RATIOS[0], RATIOS[-1]
"""What the universal paradigm is tried with, and the ablations."""

WITHOUT_LABELS = ("interpolation+projection", "library+projection", "estimator")
"""Methods of a user without labels that stand in the tables."""

WITH_LABELS = (
    "ridge+projection",
    "poly2+projection",
    "forest+projection",
    "gpr+projection",
    "library+ridge+projection",
    "library+gpr+projection",
    "estimator",
)
"""Methods of a user with labels that stand in Table 1."""

BESIDE_ABLATIONS = ("ridge+projection", "library+ridge+projection", "estimator")
"""Those of them that stand in the other tables."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: what its cells have in common, on whatever scene and with whatever seed."""

    method: str
    """Network or per-pixel method."""
    mode: str
    """Mode of training."""
    labels: str
    """Ratio."""
    prior: str = "gamma"
    """Distribution of the modelled spectra."""
    variant: str = WHOLE
    """Ablation."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a table is asked to be about; None is what the paper has."""

    networks: tuple[str, ...] | None = None
    """Networks beside DyPro-Mamba."""
    ratios: tuple[str, ...] | None = None
    """Ratios of labels in mode ``pixel``."""
    methods: tuple[str, ...] | None = None
    """Per-pixel methods; empty for none."""

    @staticmethod
    def of(
        *,
        networks: Sequence[str] | None = None,
        ratios: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
    ) -> Asked:
        """What texts ask for; networks by any of their names, methods or groups of them.

        Raises
        ------
        SettingsError
            If a ratio is no share of the pixels, or a method is not known.
        UnknownNetError
            If a network is not registered.
        """
        return Asked(
            networks=None if networks is None else tuple(find_net(name).name for name in networks),
            ratios=None if ratios is None else tuple(map(_share, ratios)),
            methods=None if methods is None else tuple(chosen_methods(methods)),
        )

    def others(self) -> tuple[str, ...]:
        """The networks that DyPro-Mamba is held against."""
        if self.networks is not None:
            return tuple(name for name in self.networks if name != OURS)
        return tuple(spec.name for spec in list_nets() if spec.name != OURS)

    def beside(self, ratios: Iterable[str], usual: Sequence[str]) -> list[Row]:
        """Rows of per-pixel methods, with each of the ratios."""
        rows = []
        for labels in ratios:
            names = WITHOUT_LABELS if labels == NO_LABELS else usual
            names = names if self.methods is None else self.methods
            rows += [Row(name, NO_MODE, labels) for name in names]
        return rows


def _share(text: str) -> str:
    ratio = Ratio.parse(text)
    if not ratio.is_share or not 0 < ratio.value < 1:
        raise SettingsError(
            f"'{text}' is asked for as ratio of labels, expected a share above 0% and below 100% such "
            "as 0.01%: give one"
        )
    return str(ratio)


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One of the paper's tables."""

    name: str
    """What the command calls it."""
    title: str
    """What it is about."""
    numbers: tuple[str, ...]
    """Of the paper's tables whose figures stand beside ours."""
    rows: Callable[[Asked], list[Row]]
    """Its rows."""
    variances: bool = False
    """Whether it is about the variances over draws of modelled spectra."""


def _modes(asked: Asked) -> list[Row]:
    ratios = asked.ratios or RATIOS
    names = (*asked.others(), OURS)
    return [
        *(Row(name, "unsupervised", NO_LABELS) for name in names),
        *(Row(OURS, "pixel", ratio) for ratio in ratios),
        *asked.beside((NO_LABELS, *ratios), WITH_LABELS),
    ]


def _paradigm(asked: Asked) -> list[Row]:
    ratios = asked.ratios or (LEAST_RATIO,)
    modes = [
        ("unsupervised", NO_LABELS),
        *(("pixel", ratio) for ratio in ratios),
        ("supervised", ALL_LABELS),
    ]
    rows = [Row(name, *mode) for name in (*asked.others(), OURS) for mode in modes]
    return rows + asked.beside((NO_LABELS, *ratios), BESIDE_ABLATIONS)


def _priors(asked: Asked) -> list[Row]:
    ratios = asked.ratios or RATIOS
    rows = [Row(OURS, "pixel", *each) for each in product(ratios, ("gamma", "gaussian"))]
    return rows + asked.beside(ratios, BESIDE_ABLATIONS)


def _ablation(variants: Sequence[str], asked: Asked) -> list[Row]:
    ratios = asked.ratios or (ABLATION_RATIO,)
    rows = [
        Row(OURS, "pixel", ratio, variant=name)
        for ratio, name in product(ratios, (*variants, WHOLE))
    ]
    return rows + asked.beside(ratios, BESIDE_ABLATIONS)


def _stability(asked: Asked) -> list[Row]:
    return [Row(OURS, "pixel", ratio) for ratio in asked.ratios or RATIOS]


def _numbers(name: str) -> tuple[str, ...]:
    """Numbers of the paper's tables that a name such as ``table7-9`` means."""
    first, _, last = name.removeprefix("table").partition("-")
    return tuple(map(str, range(int(first), int(last or first) + 1)))


_COMPONENTS = ("no-spa", "no-hf", "no-spe", "no-drpn", "no-promptssm")
_LOSSES = ("no-image-loss", "no-point-loss", "no-projection-loss", "no-ssim-loss")

_ROWS: dict[str, Callable[[Asked], list[Row]]] = {
    "table1": _modes,
    "table2": _paradigm,
    "table3": _priors,
    "table4": partial(_ablation, _COMPONENTS),
    "table5": partial(_ablation, ("fft",)),
    "table6": partial(_ablation, _LOSSES),
    "table7-9": _stability,
    "table11": _priors,
    "table12": partial(_ablation, _COMPONENTS),
    "table13": _paradigm,
}

TABLES: dict[str, PaperTable] = {
    name: PaperTable(name, title, _numbers(name), _ROWS[name], variances=name == "table7-9")
    for name, title in TITLES.items()
}
"""The paper's tables that consist of trained networks, by name."""


@dataclass(frozen=True, slots=True)
class Training:
    """What all cells of a run have in common."""

    protocol: str = "block"
    """Of scenes; datasets are split by their scenes."""
    seeds: tuple[int, ...] = (0,)
    """Each a training of its own."""
    steps: int = 800
    """Optimiser steps."""
    windows: str = "4x16"
    """Windows in a step and their side, pixels."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise SettingsError(
                f"there is no protocol '{self.protocol}', expected one of {', '.join(PROTOCOLS)}: "
                "choose from these"
            )
        parse_windows(self.windows)
        if self.steps < 1:
            raise SettingsError(f"steps is {self.steps}, expected at least 1: give more")

    def cell(self, row: Row, source: SceneSource | DatasetSource, seed: int) -> NetworkCell:
        """The cell of a row."""
        network = row.mode != NO_MODE
        return NetworkCell(
            scene=source.name,
            protocol=SPLIT if isinstance(source, DatasetSource) else self.protocol,
            **asdict(row),
            steps=self.steps if network else 0,
            windows=self.windows if network else "",
            seed=seed,
        )


def plan_table(
    rows: Sequence[Row], sources: Sequence[SceneSource | DatasetSource], training: Training
) -> tuple[list[NetworkCell], list[str]]:
    """The cells of some rows, and what is left out of them and why, one line each.

    Raises
    ------
    PixelSSRError
        If a scene cannot be read.
    """
    cells: list[NetworkCell] = []
    left_out: list[str] = []
    for source, row in product(sources, rows):
        reason = _refusal(row, source)
        if reason is not None:
            left_out.append(f"{source.name}, {row.labels}: {reason}")
            continue
        cells += [training.cell(row, source, seed) for seed in training.seeds]
    return cells, list(dict.fromkeys(left_out))


def _refusal(row: Row, source: SceneSource | DatasetSource) -> str | None:
    if row.mode != NO_MODE:
        return None
    if isinstance(source, DatasetSource):
        if not isinstance(METHODS[row.method], PixelMethod):
            return f"{row.method} needs a scene with points"
        count = Ratio.parse(row.labels).count(source.training * source.size**2)
    else:
        count = Ratio.parse(row.labels).count(int(load_ground(source).valid.sum()))
    reason = refusal(row.method, count)
    return None if reason is None else f"{reason} {row.method}"


@dataclass(frozen=True, slots=True)
class Figure:
    """What a row came to on a scene: means over seeds, and their spread."""

    scene: str
    """Name of the scene or dataset."""
    protocol: str
    """Where labels lie and what is scored."""
    row: Row
    """Which row."""
    seeds: int
    """Number of trainings."""
    label_count: float
    """Labelled pixels, the mean."""
    mean: dict[str, float]
    """Of each metric."""
    deviation: dict[str, float] | None
    """Standard deviation over the seeds of each metric, or None of a single one."""
    variance: dict[str, float] | None
    """Of each metric over draws of modelled spectra, the mean over the seeds, or None."""
    parameters: int | None
    """Of the network."""
    seconds: float
    """Of a training or method, the mean."""


def figures(rows: Rows, asked: Sequence[Row], training: Training) -> list[Figure]:
    """What the asked rows came to, by scene; a row without a finished cell is left out.

    Only cells of the training's protocol, steps, windows and seeds count.
    """
    scenes = list(dict.fromkeys(cell.scene for cell in rows))
    found = []
    for scene, row in product(scenes, dict.fromkeys(asked)):
        results = {
            cell: result
            for cell, result in rows.items()
            if cell.scene == scene and cell.seed in training.seeds and _matches(cell, row, training)
        }
        if results:
            found.append(_figure(next(iter(results)), row, list(results.values())))
    return found


def _matches(cell: NetworkCell, row: Row, training: Training) -> bool:
    same = Row(cell.method, cell.mode, cell.labels, cell.prior, cell.variant) == row
    budget = cell.mode == NO_MODE or (
        cell.steps == training.steps and cell.windows == training.windows
    )
    return same and budget and cell.protocol in (training.protocol, SPLIT)


def _figure(cell: NetworkCell, row: Row, results: Sequence[NetworkResult]) -> Figure:
    values = {name: [getattr(one, name) for one in results] for name in METRICS}
    spread = {name: getattr(results[0], f"{name}_variance") for name in METRICS}
    several = len(results) > 1
    return Figure(
        scene=cell.scene,
        protocol=cell.protocol,
        row=row,
        seeds=len(results),
        label_count=float(np.mean([one.label_count for one in results])),
        mean={name: float(np.mean(each)) for name, each in values.items()},
        deviation={name: float(np.std(each, ddof=1)) for name, each in values.items()}
        if several
        else None,
        variance=None
        if None in spread.values()
        else {
            name: float(np.mean([getattr(one, f"{name}_variance") for one in results]))
            for name in METRICS
        },
        parameters=results[0].parameters,
        seconds=float(np.mean([one.seconds for one in results])),
    )


@dataclass(frozen=True, slots=True)
class Printed:
    """What the paper printed in a row of a table; texts, with the digits that it has."""

    rmse: str
    """Reflectance."""
    psnr: str
    """dB."""
    ssim: str
    """Up to 1."""
    sam: str
    """Degrees."""
    rmse_variance: str
    """Over ten draws, and so on."""
    psnr_variance: str
    """dB^2."""
    ssim_variance: str
    """None."""
    sam_variance: str
    """Degrees^2."""


@cache
def printed_figures() -> dict[tuple[str, str], dict[Row, Printed]]:
    """The paper's figures by the number of the table and the dataset."""
    text = (files(__package__) / "data" / "paper_tables.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, str], dict[Row, Printed]] = {}
    for line in csv.DictReader(text.splitlines()):
        place = line.pop("table"), line.pop("dataset")
        row = Row(*(line.pop(name) for name in ("method", "mode", "labels", "prior", "variant")))
        found.setdefault(place, {})[row] = Printed(**line)
    return found


def table_report(table: PaperTable, found: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as plain values, with the paper's under ``paper``, by table and dataset."""
    report = []
    for figure in found:
        told = asdict(figure)
        paper = {
            f"{number}, {dataset}": {k: v for k, v in asdict(printed[figure.row]).items() if v}
            for (number, dataset), printed in printed_figures().items()
            if number in table.numbers and figure.row in printed
        }
        report.append({**told.pop("row"), **told, "paper": paper})
    return report


def table_text(table: PaperTable, found: Sequence[Figure], training: Training) -> str:
    """The table in Markdown, scene by scene, and what differs from the paper."""
    if not found:
        return "No finished cell."
    parts = [
        _scene_part(table, [figure for figure in found if figure.scene == scene], training)
        for scene in dict.fromkeys(figure.scene for figure in found)
    ]
    return "\n\n".join([*parts, _differences(training)])


def _scene_part(table: PaperTable, found: Sequence[Figure], training: Training) -> str:
    told = {_told(figure): figure for figure in found}
    names = ("network or method", "mode", "modelled as", "variant", "labels")
    shown = [at for at in range(len(names)) if at in (0, 4) or len({key[at] for key in told}) > 1]
    paper = [
        (f"paper, {dataset}", printed)
        for (number, dataset), printed in printed_figures().items()
        if number in table.numbers
    ]
    lines = [
        [
            *(key[at] for at in shown),
            *(_ours(figure, name, variances=table.variances) for name in METRICS),
            *(_theirs(printed.get(figure.row), table) for _, printed in paper),
        ]
        for key, figure in told.items()
    ]
    units = ("RMSE", "PSNR dB", "SSIM", "SAM degrees")
    head = [*(names[at] for at in shown), *units, *(title for title, _ in paper)]
    number = "Tables 7 to 9" if table.variances else f"Table {table.numbers[0]}"
    seeds = max(figure.seeds for figure in found)
    spread = (
        "variances over ten draws of modelled spectra in parentheses"
        if table.variances
        else "± standard deviation over them"
        if seeds > 1
        else "no spread"
    )
    line = (
        f"{number}, {table.title}: {found[0].scene}, protocol {found[0].protocol}, "
        f"{training.steps} steps of "
        f"{training.windows} pixels; {seeds} seed{'s' * (seeds > 1)}, {spread}."
    )
    rows = [f"| {' | '.join(row)} |" for row in (head, *lines)]
    return "\n".join([line, "", rows[0], "|---" * len(head) + "|", *rows[1:]])


def _told(figure: Figure) -> tuple[str, str, str, str, str]:
    """What tells a row from the others of its table: method, mode, distribution, variant, labels."""
    row = figure.row
    network = row.mode == "pixel"
    return (
        row.method,
        row.mode,
        {"gamma": "Gamma", "gaussian": "Gaussian"}[row.prior] if network else "",
        VARIANTS[row.variant].title if network else "",
        f"{row.labels} ({figure.label_count:.0f})",
    )


_DIGITS = {"rmse": 4, "psnr": 2, "ssim": 3, "sam": 2}
_LARGE = 1e4


def _ours(figure: Figure, name: str, *, variances: bool) -> str:
    value = figure.mean[name]
    # A training that diverged has errors of any size.
    text = f"{value:.{_DIGITS[name]}f}" if abs(value) < _LARGE else f"{value:.0e}"
    if variances:
        return text if figure.variance is None else f"{text} ({figure.variance[name]:.1e})"
    if figure.deviation is None:
        return text
    return f"{text} ± {figure.deviation[name]:.{_DIGITS[name]}f}"


def _theirs(printed: Printed | None, table: PaperTable) -> str:
    """PSNR and SAM as printed, or PSNR and its variance."""
    if printed is None:
        return ""
    if table.variances:
        return f"{printed.psnr} ({float(printed.psnr_variance):.1e})"
    return " / ".join(filter(None, (printed.psnr, printed.sam)))


def _differences(training: Training) -> str:
    """What keeps our figures and the paper's from being compared one by one."""
    return (
        "The paper's figures (PSNR dB / SAM degrees, or PSNR and its variance) are for other images and "
        "another budget: 200 epochs of 128 x 128 patches of a whole dataset at a rate of 2e-4 on an RTX "
        f"3090 Ti, here {training.steps} steps of {training.windows} pixels at 2e-3. It says neither where "
        "its labels lie nor whether they stay; here the seed fixes them. What can be compared is which of "
        "two rows is the better one, and by how much."
    )
