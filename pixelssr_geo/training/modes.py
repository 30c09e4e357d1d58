"""The paper's three modes of training, on pieces of scenes whose cube is known (Tables 1, 2 and 13).

For experiments: what is held against each other differs in the mode, the network, the distribution of
the modelled spectra or a loss, and in nothing else. Every training takes a given number of steps on
windows of the pieces and keeps the last weights, as the paper does; nothing is held out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from pixelssr_geo.errors import SceneError, SettingsError
from pixelssr_geo.losses import LossWeights
from pixelssr_geo.prior import fit_prior
from pixelssr_geo.training.loop import Schedule, TrainingRecord, train, warm_up_steps
from pixelssr_geo.training.patches import Batch
from pixelssr_geo.training.pixel import (
    TRAINING_STREAM,
    PixelModel,
    batch_loss,
    fresh_network,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.prior import Kind

Mode = Literal["unsupervised", "pixel", "supervised"]
"""``unsupervised``: no spectrum, L_rep and L_SSIM. ``pixel``: the spectra of labelled pixels, behind
the neck, all four losses. ``supervised``: L_pHSI alone, with every pixel labelled."""

BRIGHTEST = 4.0
"""Deviations above the mean of the brightest band that become one in the network's units."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A scene, or a patch of one, with its cube."""

    bands: NDArray[np.float32]
    """Reflectance, ``(band, y, x)``, finite: what no data is may be anything that is."""
    cube: NDArray[np.float32]
    """Reflectance, ``(channel, y, x)``, finite; looked at where a pixel is labelled."""
    valid: NDArray[np.bool_]
    """Pixels with data, ``(y, x)``."""
    labelled: NDArray[np.bool_]
    """Pixels whose spectrum is given to the training, ``(y, x)``."""

    @staticmethod
    def of(
        bands: NDArray[np.floating],
        cube: NDArray[np.floating],
        labelled: NDArray[np.bool_] | None = None,
    ) -> Piece:
        """A piece of arrays with NaN for nodata; without ``labelled`` no pixel is.

        Parameters
        ----------
        bands
            ``(band, y, x)``.
        cube
            ``(channel, y, x)``.
        labelled
            ``(y, x)``; counts where scene and cube have data.
        """
        valid = np.isfinite(bands).all(0)
        known = np.isfinite(cube).all(0) & valid
        return Piece(
            bands=np.where(valid, bands, 0).astype("f4"),
            cube=np.where(known, cube, 0).astype("f4"),
            valid=valid,
            labelled=np.zeros_like(known) if labelled is None else labelled & known,
        )

    @property
    def spectra(self) -> NDArray[np.float32]:
        """Of the labelled pixels, reflectance, ``(label, channel)``."""
        return np.asarray(self.cube[:, self.labelled].T)


@dataclass(frozen=True, slots=True)
class ModePlan:
    """How a network is trained."""

    mode: Mode = "pixel"
    """Which of the three modes."""
    net: str = "dypro-mamba"
    """Registered name of the network."""
    steps: int = 800
    """Optimiser steps."""
    patch: int = 16
    """Rows and columns of a training window; the paper's are 128. Transforms, attention and scans
    see all of an image, and what is reconstructed is larger than these."""
    batch: int = 4
    """Windows in a step, half of them around labelled pixels where there are any."""
    learning_rate: float = 2e-3
    """Decays from this. The paper has 2e-4 for 200 epochs of 128 x 128 patches; this is for some
    hundred steps of small windows."""
    label_ratio: float = 0.01
    """Share omega of the pixels that carry a modelled spectrum (eq. 2), above 0."""
    prior: Kind = "gamma"
    """Distribution of the modelled spectra."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Of the losses in mode ``pixel``; the other modes leave out what they cannot have."""
    net_options: dict[str, Any] = field(default_factory=dict)
    """Of the network."""
    seed: int = 0
    """Of the initial weights, the windows and the modelled spectra."""

    def __post_init__(self) -> None:
        for name in ("steps", "patch", "batch"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, expected at least 1")

    @property
    def losses(self) -> LossWeights:
        """Weights of the losses that the mode has."""
        if self.mode == "unsupervised":
            return replace(self.weights, point=0, image=0)
        if self.mode == "supervised":
            return LossWeights(point=1, projection=0, ssim=0, image=0)
        return self.weights


@dataclass(frozen=True, slots=True, eq=False)
class ModeFit:
    """A trained network and how it went."""

    model: PixelModel
    """The network with what its use needs."""
    record: TrainingRecord
    """Steps and loss."""


def train_mode(
    pieces: Sequence[Piece],
    response: NDArray[np.float64],
    plan: ModePlan,
    *,
    band_centres_nm: tuple[float, ...],
    channel_centres_nm: tuple[float, ...],
    library: Callable[[], NDArray[np.float64]],
    device: torch.device,
    progress: Callable[[int, int, float], None] | None = None,
) -> ModeFit:
    """Train a network in one of the modes; the same pieces, plan and device give the same weights.

    The modelled spectra have the distribution of the labelled ones; where there is none, that of
    library spectra.

    Parameters
    ----------
    pieces
        What is learnt from, at least one with data; smaller ones than a window are filled up.
    response
        Response matrix S, ``(band, channel)``.
    plan
        Mode, network, steps, seed.
    band_centres_nm, channel_centres_nm
        Of bands and channels, nm; kept in the model.
    library
        Gives spectra ``(spectrum, channel)`` where no pixel is labelled.
    device
        Where to train.
    progress
        Called after each step with the step, the number of steps and the loss.

    Raises
    ------
    SceneError
        If no pixel has data, or none is labelled in a mode that needs labels.
    SettingsError
        If the network or one of its options is not known.
    """
    spectra = np.concatenate([piece.spectra for piece in pieces])
    if plan.mode == "unsupervised":
        spectra = spectra[:0]
    elif not len(spectra):
        raise SceneError(
            f"none of {len(pieces)} pieces to train on has a labelled pixel, mode '{plan.mode}' needs "
            "one: raise the label ratio, or take mode 'unsupervised'"
        )
    gain = 1 / _brightest(pieces)
    trained = fresh_network(
        plan.net,
        response.shape,
        necked=plan.mode == "pixel",
        options=plan.net_options,
        seed=plan.seed,
        device=device,
    )
    model = PixelModel(
        net=trained.net,
        gain=gain,
        prior=fit_prior((spectra if len(spectra) else library()) * gain, plan.prior),
        label_ratio=plan.label_ratio,
        removed=False,
        seed=plan.seed,
        band_centres_nm=band_centres_nm,
        channel_centres_nm=channel_centres_nm,
    )
    windows = _Windows.of(pieces, plan)
    matrix = torch.from_numpy(response.astype("f4")).to(device)
    shape = plan.patch, plan.patch

    def step_loss(step: int) -> torch.Tensor:
        batch = windows.batch(gain, device)
        streams = range(step * plan.batch, (step + 1) * plan.batch)
        guide = np.stack([model.guide(shape, TRAINING_STREAM + stream) for stream in streams])
        inside = torch.from_numpy(guide).to(device)
        return batch_loss(trained, batch, inside, matrix, plan.losses)

    schedule = Schedule(plan.steps, plan.learning_rate, warm_up_steps(plan.steps))
    return ModeFit(model, train(trained, step_loss, schedule, progress=progress))


def predict(
    model: PixelModel, bands: NDArray[np.float32], *, draw: int = 0, device: torch.device
) -> NDArray[np.float32]:
    """The cube of a whole image at once, ``(channel, y, x)``.

    Parameters
    ----------
    model
        A trained network, on ``device``.
    bands
        ``(band, y, x)``, finite.
    draw
        Number of the draw of modelled spectra.
    device
        Where the network is.
    """
    cube: NDArray[np.float32] = model(bands[None], np.array([draw]), device)[0]
    return cube


def _brightest(pieces: Sequence[Piece]) -> float:
    """What becomes one in the network's units, reflectance.

    Raises
    ------
    SceneError
        If no pixel has data above zero.
    """
    values = [piece.bands[:, piece.valid].astype("f8") for piece in pieces]
    count = sum(each.shape[1] for each in values)
    if count:
        mean = sum(each.sum(1) for each in values) / count
        squares = sum(((each - mean[:, None]) ** 2).sum(1) for each in values) / count
        brightest = float((mean + BRIGHTEST * np.sqrt(squares)).max())
        if brightest > 0:
            return brightest
    raise SceneError(
        f"{len(pieces)} pieces to train on have no value above zero, a network needs reflectance to "
        "train on: check nodata and scale"
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Draws the windows of each step."""

    pieces: tuple[Piece, ...]
    """Each at least as large as a window."""
    places: NDArray[np.int64]
    """Piece, row and column of the labelled pixels in mode ``pixel``, where they are few,
    ``(label, 3)``."""
    plan: ModePlan
    """Size and number of the windows."""
    draws: np.random.Generator
    """Which windows."""

    @staticmethod
    def of(pieces: Sequence[Piece], plan: ModePlan) -> _Windows:
        filled = tuple(_filled(piece, plan.patch) for piece in pieces if piece.valid.any())
        places = [
            np.insert(np.argwhere(piece.labelled & (plan.mode == "pixel")), 0, number, axis=1)
            for number, piece in enumerate(filled)
        ]
        draws = np.random.default_rng([plan.seed, 1])
        return _Windows(filled, np.concatenate(places), plan, draws)

    def batch(self, gain: float, device: torch.device) -> Batch:
        """The next windows, in the network's units."""
        around = self.plan.batch // 2 + self.plan.batch % 2 if len(self.places) else 0
        cut = [self._cut(*self._around()) for _ in range(around)]
        cut += [self._cut(*self._anywhere()) for _ in range(self.plan.batch - around)]
        bands, cubes, valid, known = (np.stack(arrays) for arrays in zip(*cut, strict=True))
        known = known & (self.plan.mode != "unsupervised")

        def tensor(values: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(values.astype("f4")).to(device)

        return Batch(
            bands=tensor(bands * gain),
            valid=tensor(valid[:, None]),
            target=tensor(cubes * known[:, None] * gain),
            labelled=tensor(known[:, None]),
        )

    def _around(self) -> tuple[int, int, int]:
        """Piece, row and column of a window that holds a labelled pixel."""
        number, *place = self.places[self.draws.integers(len(self.places))]
        corner = np.array(place) - self.draws.integers(0, self.plan.patch, 2)
        row, col = corner.clip(0, self._room(number))
        return int(number), int(row), int(col)

    def _anywhere(self) -> tuple[int, int, int]:
        number = int(self.draws.integers(len(self.pieces)))
        row, col = self.draws.integers(0, self._room(number) + 1)
        return number, int(row), int(col)

    def _room(self, number: int) -> NDArray[np.int64]:
        """The last row and column that a window can begin at."""
        return np.array(self.pieces[number].valid.shape) - self.plan.patch

    def _cut(self, number: int, row: int, col: int) -> tuple[NDArray[Any], ...]:
        piece, size = self.pieces[number], self.plan.patch
        at = (..., slice(row, row + size), slice(col, col + size))
        return piece.bands[at], piece.cube[at], piece.valid[at], piece.labelled[at]


def _filled(piece: Piece, size: int) -> Piece:
    """The piece, repeated at its lower and right edge up to a window's size, without data there."""
    rows, cols = (max(0, size - have) for have in piece.valid.shape)
    if not rows and not cols:
        return piece
    around = (0, rows), (0, cols)
    return Piece(
        bands=np.pad(piece.bands, ((0, 0), *around), mode="edge"),
        cube=np.pad(piece.cube, ((0, 0), *around), mode="edge"),
        valid=np.pad(piece.valid, around),
        labelled=np.pad(piece.labelled, around),
    )
