"""Networks in the paper's modes, and per-pixel methods beside them: cells of the paper's tables.

A cell is one network (or method), trained in one mode with one ratio of labels on one scene or dataset;
its result is how far its cubes are from the truth where no label was. Which cells make which table is
told in :mod:`pixelssr_geo.experiments.paper_tables`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.experiments.cells import CellTable, run_cells
from pixelssr_geo.experiments.exams import load_exam
from pixelssr_geo.experiments.methods import METHODS, PixelMethod, reconstruct_trial
from pixelssr_geo.losses import LossWeights
from pixelssr_geo.metrics import score
from pixelssr_geo.nets.registry import find_net
from pixelssr_geo.training.modes import ModePlan, predict, train_mode
from pixelssr_geo.training.pixel import load_pixel_model, save_pixel_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from pixelssr_geo.experiments.exams import DatasetSource, Exam
    from pixelssr_geo.experiments.scenes import SceneSource
    from pixelssr_geo.fitting import Progress
    from pixelssr_geo.training.pixel import PixelModel

DRAWS = 10
"""Draws of modelled spectra that a network which looks at them is tested with, as in Tables 7 to 9."""

LEAST_SHARE = 1e-4
"""Share omega of modelled spectra where no pixel is labelled: the paper's least ratio."""

NO_MODE = "per-pixel"
"""What stands for the mode of methods that are no networks."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to train DyPro-Mamba that one of the paper's ablations asks for."""

    title: str
    """What tables call it."""
    net_options: dict[str, Any] = field(default_factory=dict)
    """Of the network."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Of the losses."""


WHOLE = "whole"
"""The variant that leaves nothing out."""

VARIANTS: dict[str, Variant] = {
    WHOLE: Variant("whole"),
    "no-spa": Variant("without P_spa", {"spa": False}),
    "no-hf": Variant("without P_hf", {"hf": False}),
    "no-spe": Variant("without P_spe", {"spe": False}),
    "no-drpn": Variant("without DRPN", {"drpn": False}),
    # the reading that alone fits the paper's counts, see DyProConfig.prompt_ssm
    "no-promptssm": Variant("without PromptSSM", {"prompt_ssm": "no-last"}),
    "fft": Variant("P_spa with FFT", {"transform": "fft"}),
    "no-image-loss": Variant("without L_P2I", weights=LossWeights(image=0)),
    "no-point-loss": Variant("without L_pHSI", weights=LossWeights(point=0)),
    "no-projection-loss": Variant("without L_rep", weights=LossWeights(projection=0)),
    "no-ssim-loss": Variant("without L_SSIM", weights=LossWeights(ssim=0)),
}
"""The ablations of Tables 4 to 6 by name."""


@dataclass(frozen=True, slots=True)
class NetworkCell:
    """One network or method on one scene or dataset."""

    scene: str
    """Name of the scene, or of the dataset and what is taken of it."""
    protocol: str
    """Where labels lie and what is scored."""
    method: str
    """Registered name of the network, or name of a method."""
    mode: str
    """``unsupervised``, ``pixel`` or ``supervised``; ``per-pixel`` of what is no network."""
    labels: str
    """Share of the pixels that are labelled, ``0`` for none, ``100%`` for all that may be."""
    prior: str
    """Distribution of the modelled spectra."""
    variant: str
    """Name of the ablation, or ``whole``."""
    steps: int
    """Optimiser steps; 0 of what is no network."""
    windows: str
    """Windows in a step and their side in pixels, ``4x32``."""
    seed: int
    """Of noise, labels, weights, windows and modelled spectra."""


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """How far the cubes are from the truth: means over the test images, and then over draws."""

    label_count: int
    """Pixels that carry a label."""
    rmse: float
    """Reflectance."""
    psnr: float
    """Over the whole cube, dB, peak 1."""
    ssim: float
    """Up to 1."""
    sam: float
    """Mean over the pixels, degrees."""
    draws: int
    """Draws of modelled spectra that were tested with."""
    rmse_variance: float | None
    """Over the draws; None of a single one."""
    psnr_variance: float | None
    """Over the draws, dB^2."""
    ssim_variance: float | None
    """Over the draws."""
    sam_variance: float | None
    """Over the draws, degrees^2."""
    parameters: int | None
    """Of the network as it was trained."""
    loss: float | None
    """In the last step of the training; None where it was not finite, and of a method."""
    seconds: float
    """Of the training, or of all that a method does, by the clock."""


METRICS = ("rmse", "psnr", "ssim", "sam")
"""What is measured, in the paper's order."""

Rows = dict[NetworkCell, NetworkResult]
"""Finished cells."""


def network_table(path: Path) -> CellTable[NetworkCell, NetworkResult]:
    """The table of finished cells in a file."""
    return CellTable(path, NetworkCell, NetworkResult)


def read_networks(path: Path) -> Rows:
    """The finished cells in a file.

    Raises
    ------
    SettingsError
        If there is no such file.
    ResumeError
        If it is none of these experiments.
    """
    return network_table(path).finished()


def parse_windows(text: str) -> tuple[int, int]:
    """Number and side of the windows that a text such as ``4x32`` asks for.

    Raises
    ------
    SettingsError
        If it is none.
    """
    number, cross, side = text.partition("x")
    if not (cross and number.isdecimal() and side.isdecimal() and int(number) and int(side)):
        raise SettingsError(
            f"'{text}' is asked for as windows of a step, expected their number and side such as "
            "4x32: give these"
        )
    return int(number), int(side)


def network_plan(cell: NetworkCell, exam: Exam) -> ModePlan:
    """How the network of a cell is trained."""
    batch, side = parse_windows(cell.windows)
    variant = VARIANTS[cell.variant]
    valid = sum(int(piece.valid.sum()) for piece in exam.training)
    return ModePlan(
        mode=cell.mode,  # type: ignore[arg-type]
        net=cell.method,
        steps=cell.steps,
        patch=side,
        batch=batch,
        label_ratio=max(exam.label_count / valid if cell.mode == "pixel" else 0.0, LEAST_SHARE),
        prior=cell.prior,  # type: ignore[arg-type]
        weights=variant.weights,
        net_options=variant.net_options,
        seed=cell.seed,
    )


def run_networks(
    cells: Sequence[NetworkCell],
    sources: Sequence[SceneSource | DatasetSource],
    path: Path,
    *,
    device: str = "auto",
    keep: Path | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Rows:
    """Run the cells that a file lacks; the results of all of them.

    Parameters
    ----------
    cells
        What to run.
    sources
        The scenes and datasets that they name.
    path
        CSV file of finished cells.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    keep
        Folder of trained networks, see :func:`trained_network`; None keeps none.
    jobs, progress
        As for :func:`~pixelssr_geo.experiments.cells.run_cells`.

    Raises
    ------
    PixelSSRError
        If a scene or the file cannot be read, or a network cannot be trained.
    """
    work = NetworkWork({source.name: source for source in sources}, device, keep)
    return run_cells(cells, work, network_table(path), jobs=jobs, progress=progress)


@dataclass(frozen=True, slots=True)
class NetworkWork:
    """Runs cells; small, so that it can go to other processes."""

    sources: dict[str, SceneSource | DatasetSource]
    """Scenes and datasets by name."""
    device: str = "auto"
    """Where networks are trained."""
    keep: Path | None = None
    """Folder of trained networks."""

    def exam(self, cell: NetworkCell) -> Exam:
        """What the cell's network is trained on and judged by."""
        return load_exam(self.sources[cell.scene], cell.protocol, cell.labels, cell.seed)

    def __call__(self, cell: NetworkCell) -> NetworkResult:
        """The result of a cell."""
        exam = self.exam(cell)
        start = time.perf_counter()
        if cell.mode == NO_MODE:
            cubes = method_cubes(cell, exam)
            return _result(exam, [_scores(exam, cubes)], seconds=time.perf_counter() - start)
        device = _device(self.device)
        trained = trained_network(cell, exam, device, self.keep)
        seconds = time.perf_counter() - start
        draws = DRAWS if looks_at_draws(cell) else 1
        scores = [
            _scores(exam, network_cubes(trained.model, exam, device, draw)) for draw in range(draws)
        ]
        return _result(exam, scores, seconds=seconds, trained=trained)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A cell's network."""

    model: PixelModel
    """On the device."""
    parameters: int
    """How many."""
    loss: float
    """In the last step of the training."""


def trained_network(
    cell: NetworkCell,
    exam: Exam,
    device: torch.device,
    keep: Path | None = None,
    *,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainedNetwork:
    """The network of a cell, trained here or before.

    Parameters
    ----------
    cell
        Which network.
    exam
        What it is trained on.
    device
        Where.
    keep
        Folder of trained networks: one that is there for this cell is loaded, and a new one is
        written there. None does neither.
    progress
        Called after each step with the step, the number of steps and the loss.

    Raises
    ------
    PixelSSRError
        If it cannot be trained, read or written.
    """
    path = None if keep is None else keep / f"{cell_key(cell)}.safetensors"
    if path is not None and path.exists():
        model, about = load_pixel_model(path, device=device)
        loss = float(about["loss"])
    else:
        fit = train_mode(
            exam.training,
            exam.matrix,
            network_plan(cell, exam),
            band_centres_nm=tuple(map(float, exam.matrix @ exam.channels.centres_nm)),
            channel_centres_nm=tuple(map(float, exam.channels.centres_nm)),
            library=lambda: exam.library(cell.seed),
            device=device,
            progress=progress,
        )
        model, loss = fit.model, fit.record.loss
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_pixel_model(
                path, model, net=model.net.name, mode=cell.mode, cell=asdict(cell), loss=loss
            )
    parameters = sum(parameter.numel() for parameter in model.net.parameters())
    return TrainedNetwork(model, parameters, loss)


def cell_key(cell: NetworkCell) -> str:
    """A short name for the files of a cell, which no other has."""
    text = "|".join(map(str, asdict(cell).values()))
    return f"{cell.method}-{cell.mode}-{sha256(text.encode()).hexdigest()[:12]}"


def looks_at_draws(cell: NetworkCell) -> bool:
    """Whether the network's cube depends on the draw of modelled spectra."""
    return cell.mode == "pixel" or (cell.mode != NO_MODE and find_net(cell.method).uses_guide)


def network_cubes(
    model: PixelModel, exam: Exam, device: torch.device, draw: int = 0
) -> Iterator[NDArray[np.float32]]:
    """A network's cubes of the test images, ``(channel, y, x)``; test and draw key the modelled spectra."""
    for number, test in enumerate(exam.tests):
        yield predict(model, test.bands, draw=draw * len(exam.tests) + number, device=device)


def method_cubes(cell: NetworkCell, exam: Exam) -> Iterator[NDArray[np.float32]]:
    """A method's cubes of the test images, ``(channel, y, x)``.

    Raises
    ------
    SettingsError
        If the method needs a scene with a place in the world and a dataset is given.
    """
    method = METHODS[cell.method]
    if isinstance(method, PixelMethod):
        spectra = method.fit(exam.labels if exam.label_count else None, exam.matrix, exam.channels)
        for test in exam.tests:
            yield method.apply(spectra, test.bands, exam.matrix)
        return
    if exam.trial is None:
        raise SettingsError(
            f"method '{cell.method}' was asked of dataset '{cell.scene}', it needs a scene with points: "
            "leave it out, or take --scenes"
        )
    yield reconstruct_trial(cell.method, exam.trial, cell.seed).cube


def _scores(exam: Exam, cubes: Iterator[NDArray[np.float32]]) -> dict[str, float]:
    """Means over the test images."""
    found = [
        cast("dict[str, float]", score(cube, test.truth, test.scored))
        for cube, test in zip(cubes, exam.tests, strict=True)
    ]
    return {name: float(np.mean([one[name] for one in found])) for name in METRICS}


def _result(
    exam: Exam,
    scores: Sequence[dict[str, float]],
    *,
    seconds: float,
    trained: TrainedNetwork | None = None,
) -> NetworkResult:
    mean = {name: float(np.mean([one[name] for one in scores])) for name in METRICS}
    several = len(scores) > 1
    variance = {
        name: float(np.var([one[name] for one in scores], ddof=1)) for name in METRICS if several
    }
    return NetworkResult(
        label_count=exam.label_count,
        rmse=round(mean["rmse"], 6),
        psnr=round(mean["psnr"], 3),
        ssim=round(mean["ssim"], 5),
        sam=round(mean["sam"], 3),
        draws=len(scores),
        **{f"{name}_variance": _short(variance.get(name)) for name in METRICS},
        parameters=None if trained is None else trained.parameters,
        loss=round(trained.loss, 6) if trained is not None and isfinite(trained.loss) else None,
        seconds=round(seconds, 1),
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _device(name: str) -> torch.device:
    from pixelssr_geo.fitting import resolve_device

    return resolve_device(name)
