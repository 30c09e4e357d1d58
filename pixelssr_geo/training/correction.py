"""DyPro-Mamba as a correction of the estimator, trained on the scene itself.

The network sees the scene and, as its guide, the estimate Y0 and its standard deviation. It gives a
change of the spectra that no band of the scene can see (the null space of the response), so the
result still re-simulates the scene; with a zero-initialised head it starts as no change at all.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from pixelssr_geo.errors import WeightsError
from pixelssr_geo.nets import SpectralNet, create_net
from pixelssr_geo.training.loop import Schedule, TrainingRecord, train
from pixelssr_geo.training.patches import WindowReader, cut_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pixelssr_geo.estimator import Estimate, Estimator
    from pixelssr_geo.labels import Labels
    from pixelssr_geo.training.patches import Batch

CONTEXT = 32
"""Rows and columns around a withheld point that a correction is judged on. A network sees whole
tiles in use; from 32 pixels on it does about the same as there, at 16 it looks better than it is."""


@dataclass(frozen=True, slots=True)
class CorrectionPlan:
    """How a correction is trained."""

    steps: int = 50
    """Optimiser steps."""
    patch: int = 16
    """Rows and columns of a training patch: small, as each holds about one label, and what the
    correction reads lies within a few pixels."""
    batch: int = 16
    """Patches in a step."""
    learning_rate: float = 3e-3
    """Fifteen times the paper's: its 200 epochs over full cubes are some 50 steps over points
    here. At 1e-3 little is learnt in that time, at 1e-2 training breaks up."""
    rank: int = 3
    """Spectral directions that the correction may use: the leading ones of the errors at the
    points. More would be learnt from too few labels."""
    net_options: dict[str, Any] = field(default_factory=dict)
    """Options of the network."""
    seed: int = 0
    """Of the initial weights, the patches and the order."""


class SceneEstimates(WindowReader, Protocol):
    """Reads windows of the scene and what an estimator says of them."""

    def estimate(self, estimator: Estimator, row: int, col: int, size: int) -> Estimate:
        """The estimate of a patch ``(channel, size, size)`` without gaps, as the bands are read."""


class Correction(nn.Module):
    """A network with the scaling that takes it from reflectance and back.

    Parameters
    ----------
    net
        Takes bands and a guide of ``channel + 1`` channels, gives ``channel`` channels.
    estimator
        Whose projection and noise set the null space and the size of the output.
    labels
        Whose bands and estimates set the input scaling.
    """

    band_mean: torch.Tensor
    band_scale: torch.Tensor
    guide_mean: torch.Tensor
    guide_scale: torch.Tensor
    size: torch.Tensor
    doubt: torch.Tensor
    allowed: torch.Tensor

    def __init__(
        self, net: SpectralNet, estimator: Estimator, labels: Labels, *, rank: int
    ) -> None:
        super().__init__()
        self.net = net
        mean = estimator.at(labels)
        self._constant("band_mean", labels.bands.mean(0)[:, None, None])
        self._constant("band_scale", _floored(labels.bands.std(0))[:, None, None])
        self._constant("guide_mean", mean.mean(0)[:, None, None])
        self._constant("guide_scale", _floored(mean.std(0))[:, None, None])
        # One size for all channels keeps the relative weight that the error gives them.
        self._constant("size", max(float(np.sqrt((estimator.left_out**2).mean())), 1e-6))
        self._constant("doubt", max(float(estimator.deviation_at(labels).mean()), 1e-6))
        self._constant("allowed", _allowed_directions(estimator.left_out, rank))

    def _constant(self, name: str, value: NDArray[np.float64] | float) -> None:
        self.register_buffer(name, torch.from_numpy(np.asarray(value, "f4")))

    def scaled(
        self, bands: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor
    ) -> torch.Tensor:
        """The correction ``(patch, channel, y, x)`` in units of :attr:`size`."""
        x = (bands - self.band_mean) / self.band_scale
        guide = (mean - self.guide_mean) / self.guide_scale
        doubt = deviation.mean(1, keepdim=True) / self.doubt
        raw = self.net(x, torch.cat([guide, doubt], dim=1))
        # The einsum of torch is not typed.
        projected: torch.Tensor = torch.einsum("cd,ndyx->ncyx", self.allowed, raw)
        return projected

    def forward(
        self, bands: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor
    ) -> torch.Tensor:
        """The correction of ``mean`` in reflectance, ``(patch, channel, y, x)``."""
        return self.scaled(bands, mean, deviation) * self.size


def _allowed_directions(errors: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """Projector on the leading directions of the errors, ``(channel, channel)``.

    The errors lie in the null space of the response, so what is projected does too.
    """
    _, sizes, directions = np.linalg.svd(errors, full_matrices=False)
    # Directions without any error are arbitrary and may leave the null space.
    leading = directions[:rank][sizes[:rank] > 1e-9 * sizes[0]]
    return np.asarray(leading.T @ leading)


def _floored(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(scale, 1e-3)


def train_correction(
    estimator: Estimator,
    labels: Labels,
    read: SceneEstimates,
    plan: CorrectionPlan,
    *,
    net: str = "dypro-mamba",
    device: torch.device,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[Correction, TrainingRecord]:
    """Train a correction on what the estimator misses at the labels when each is left out.

    Nothing is held out here: how far the result can be trusted is for the gate to say, which
    sees points that neither the estimator nor this training saw. May run in several threads at
    once; the result does not depend on that.

    Parameters
    ----------
    estimator
        Fitted on the same labels.
    labels
        Labelled pixels, usable bands only.
    read
        Reads windows of the scene, usable bands only.
    plan
        Steps, patches, rate, seed.
    net
        Registered name of the network.
    device
        Where to train.
    progress
        Called after each step with the step, the number of steps and the loss.
    """
    bands, channels = labels.bands.shape[1], labels.spectra.shape[1]
    inner = _seeded_net(net, bands, channels, plan)
    correction = Correction(inner, estimator, labels, rank=plan.rank).to(device)
    patches = cut_patches(read, labels, size=plan.patch, seed=plan.seed)
    inputs = _Inputs(estimator, read, patches.origins, patches.size)
    target = estimator.left_out / float(correction.size)
    order = np.random.default_rng(plan.seed + 1)

    def step_loss(step: int) -> torch.Tensor:
        chosen = order.choice(len(labels), min(plan.batch, len(labels)), replace=False)
        symmetry = int(order.integers(8))
        batch = patches.batch(chosen, labels, target, device)
        images = (*inputs.of(chosen, batch), batch.target, batch.labelled)
        bands, mean, deviation, wanted, labelled = (_turned(i, symmetry) for i in images)
        missed = (correction.scaled(bands, mean, deviation) - wanted) * labelled
        mean_square: torch.Tensor = missed.square().sum() / (batch.labelled.sum() * channels)
        return mean_square

    record = train(
        correction, step_loss, Schedule(plan.steps, plan.learning_rate), progress=progress
    )
    return correction, record


def save_correction(
    path: str | Path, correction: Correction | None, description: dict[str, Any]
) -> None:
    """Write a trained correction, or that there is none, with what is to be known about it.

    Parameters
    ----------
    path
        The file, ``*.safetensors``.
    correction
        As :func:`train_correction` gives it; None where the gate is shut.
    description
        JSON types only.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from pixelssr_geo.training.checkpoint import save_checkpoint  # needs safetensors

    state = {} if correction is None else correction.state_dict()
    save_checkpoint(path, state, {**description, "trained": correction is not None})


def load_correction(
    path: str | Path,
    estimator: Estimator,
    labels: Labels,
    plan: CorrectionPlan,
    *,
    net: str = "dypro-mamba",
    device: torch.device,
) -> tuple[Correction | None, dict[str, Any]]:
    """Return what :func:`save_correction` wrote, for the same estimator, labels and plan.

    Raises
    ------
    WeightsError
        If the file is broken or of another network.
    """
    from pixelssr_geo.training.checkpoint import load_checkpoint

    state, description = load_checkpoint(path)
    if not description.get("trained"):
        return None, description
    inner = _seeded_net(net, labels.bands.shape[1], labels.spectra.shape[1], plan)
    correction = Correction(inner, estimator, labels, rank=plan.rank)
    try:
        correction.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"'{path}' holds another network than this run trains: start anew"
        ) from error
    return correction.to(device).eval(), description


_SEEDING = threading.Lock()


def _seeded_net(name: str, bands: int, channels: int, plan: CorrectionPlan) -> SpectralNet:
    """A fresh network whose weights depend on the seed alone; torch's generator is global."""
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return create_net(
            name,
            bands=bands,
            channels=channels,
            guide_channels=channels + 1,
            **{"zero_head": True, **plan.net_options},
        )


def _turned(image: torch.Tensor, symmetry: int) -> torch.Tensor:
    """One of the eight symmetries of a square, 0 being none, over the last two axes."""
    turned = torch.rot90(image, symmetry % 4, (-2, -1))
    return turned.flip(-1) if symmetry >= 4 else turned


class _Inputs:
    """The estimate over patches, computed once."""

    def __init__(
        self, estimator: Estimator, read: SceneEstimates, origins: NDArray[np.int64], size: int
    ) -> None:
        estimates = [read.estimate(estimator, int(row), int(col), size) for row, col in origins]
        self.mean = np.stack([estimate.mean for estimate in estimates])
        self.deviation = np.stack([estimate.deviation for estimate in estimates])

    def of(
        self, chosen: NDArray[np.int64], batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        device = batch.bands.device
        mean = torch.from_numpy(self.mean[chosen]).to(device)
        return batch.bands, mean, torch.from_numpy(self.deviation[chosen]).to(device)


def correction_at(
    correction: Correction,
    estimator: Estimator,
    labels: Labels,
    read: SceneEstimates,
    *,
    device: torch.device,
) -> NDArray[np.float64]:
    """What the correction says at labelled pixels, ``(label, channel)``, each in a patch around it."""
    patches = cut_patches(read, labels, size=CONTEXT, centred=True)
    nothing = np.zeros((len(labels), labels.spectra.shape[1]))
    found = np.empty_like(nothing)
    with torch.inference_mode():
        for start in range(0, len(labels), 8):
            chosen = np.arange(start, min(start + 8, len(labels)))
            batch = patches.batch(chosen, labels, nothing, device)
            # Wide patches of thousands of labels would not fit beside each other.
            inputs = _Inputs(estimator, read, patches.origins[chosen], patches.size)
            output = correction(*inputs.of(np.arange(len(chosen)), batch)).cpu().numpy()
            places = np.stack([labels.rows[chosen], labels.cols[chosen]], axis=1)
            local = places - patches.origins[chosen]
            found[chosen] = output[np.arange(len(chosen)), :, local[:, 0], local[:, 1]]
    return found


def correct_tiles(
    correction: Correction,
    estimates: Sequence[Estimate],
    stack: NDArray[np.float32],
    device: torch.device,
) -> NDArray[np.float32]:
    """The correction for tiles of the scene, ``(n, band, y, x)`` to ``(n, channel, y, x)``.

    ``estimates`` are the estimator's of the same tiles, without gaps.
    """
    with torch.inference_mode():
        output = correction(
            torch.from_numpy(stack).to(device),
            torch.from_numpy(np.stack([estimate.mean for estimate in estimates])).to(device),
            torch.from_numpy(np.stack([estimate.deviation for estimate in estimates])).to(device),
        )
    return np.asarray(output.cpu().numpy())
