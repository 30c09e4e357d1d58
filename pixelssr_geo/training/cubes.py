"""Training on full cubes of several scenes, for use on new scenes of any sensor.

Each step draws cubes, patches, sensors and noise anew: the bands that a sensor would have measured
are made from the cube, a library estimate (or one fitted on a few of the cube's own spectra) from
the bands, and the network learns what that estimate misses. Two modes: ``supervised`` compares
every pixel with the cube; ``pixel`` is Pixel-SSR over many scenes: only a share omega of the
pixels carries a label, modelled spectra go in, and L_SSIM stands for the rest (L_rep is zero as the
result agrees with the bands by construction).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from pixelssr_geo.errors import SceneError, SettingsError, WavelengthGridError
from pixelssr_geo.estimator import FeatureScale, LibraryPrior, View, fit_blend, fit_library
from pixelssr_geo.labels import Labels
from pixelssr_geo.losses import LossWeights, adjacent_ssim_loss
from pixelssr_geo.prior import GammaPrior, fit_prior, point_mask
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse
from pixelssr_geo.training.loop import Schedule, TrainingRecord, train
from pixelssr_geo.training.pixel import TRAINING_STREAM
from pixelssr_geo.training.pretrained import (
    COMMON,
    DARKEST,
    ResidualNet,
    SensorView,
    create_residual_net,
    interpolation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Mode = Literal["supervised", "pixel"]

POINT_COUNTS = (2, 5, 20, 100)
"""Points of the estimates that a network may learn to correct."""

TYPICAL_BRIGHTNESS = 0.2
"""Reflectance that a scene's brightness is taken for where a loss has constants for reflectance."""

_LEAST_CHANNELS = 10
_LEAST_COVERED = 0.5  # share of the common channels that a cube must have
_RELATIVE_FLOOR = 0.02  # of the brightness: patches that are nearly right do not decide alone
_MIXTURES = 4000  # for each of many sensors; a scene's own regression takes twice as many
_ESTIMATED_SENSORS = 6
_MOST_POINTS = 0.1  # share of a cube's pixels that may be points of an estimate


@dataclass(frozen=True, slots=True, eq=False)
class TrainingCube:
    """A hyperspectral cube to learn from."""

    name: str
    """What messages call it."""
    values: NDArray[np.float32]
    """Any unit that is proportional to reflectance, ``(channel, y, x)``; NaN for no data."""
    channels: ChannelGrid
    """Its channels."""


@dataclass(frozen=True, slots=True)
class CubePlan:
    """How a network is trained on cubes."""

    mode: Mode = "supervised"
    """What is compared with the cubes: every pixel, or a share of them (Pixel-SSR)."""
    steps: int = 600
    """Optimiser steps."""
    patch: int = 32
    """Rows and columns of a training patch; smaller cubes are used whole."""
    batch: int = 4
    """Patches in a step, each of a cube and a sensor of its own."""
    learning_rate: float = 3e-3
    """Of the first step; fifteen times the paper's, for some hundred steps instead of 200 epochs."""
    noise: float = 0.01
    """Largest standard deviation of the bands' noise, as a share of their mean."""
    gain: float = 0.15
    """Standard deviation of the log of the random brightness."""
    tilt: float = 0.03
    """Standard deviation of a smooth random gain over wavelength, as cubes of other sensors and
    other atmospheric corrections differ by."""
    estimates: int = 0
    """Estimates per cube, fitted on 2 to 100 of its spectra, that the network learns to correct;
    0 leaves it at the library's."""
    label_ratio: float = 0.01
    """Share omega of the pixels that carry a label and a modelled spectrum, in mode ``pixel``."""
    random_sensors: int = 24
    """Sensors of 3 to 8 random Gaussian bands beside the given ones."""
    net_options: dict[str, Any] = field(default_factory=dict)
    """Options of the network."""
    seed: int = 0
    """Of the weights and all draws."""

    def __post_init__(self) -> None:
        least = {"steps": 1, "patch": 2, "batch": 1, "estimates": 0, "random_sensors": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise SettingsError(
                    f"{name} of the training on cubes is {getattr(self, name)}, expected at least "
                    f"{low}: give a larger number"
                )
        for name in ("noise", "gain", "tilt"):
            if not 0 <= getattr(self, name) < inf:
                raise SettingsError(
                    f"{name} of the training on cubes is {getattr(self, name)}, expected a number from "
                    "0 on: change it"
                )
        if not 0 < self.learning_rate < inf or not 0 < self.label_ratio <= 1:
            raise SettingsError(
                f"learning rate is {self.learning_rate} and label ratio {self.label_ratio}, expected a "
                "rate above 0 and a ratio above 0 and at most 1: change them"
            )
        if self.mode not in ("supervised", "pixel"):
            raise SettingsError(f"mode is '{self.mode}', expected 'supervised' or 'pixel'")


@dataclass(frozen=True, slots=True, eq=False)
class CubeFit:
    """A trained network and how it went."""

    net: ResidualNet
    """In evaluation mode."""
    record: TrainingRecord
    """Steps and losses."""
    relative_error: float
    """Mean absolute error over that of the estimates, averaged over the last tenth of the steps:
    below 1 the training cubes are met better than without the network."""


def train_on_cubes(
    cubes: Sequence[TrainingCube],
    sensors: Sequence[SpectralResponse],
    plan: CubePlan,
    *,
    net: str = "dypro-mamba",
    device: torch.device,
    progress: Callable[[int, int, float], None] | None = None,
) -> CubeFit:
    """Train a network on cubes.

    Parameters
    ----------
    cubes
        What to learn from; the seed, the cubes and their order settle the result.
    sensors
        Whose bands are simulated, beside random ones; bands outside 400-1000 nm are left out.
    plan
        Mode, steps, patches, rate, draws.
    net
        Registered name of the network.
    device
        Where to train.
    progress
        Called after each step with the step, the number of steps and the loss.

    Raises
    ------
    SceneError
        If there is no cube, or one without a valid pixel or a positive mean.
    WavelengthGridError
        If a cube has less than ten channels or covers less than half of 400-1000 nm.
    SettingsError
        If there is no sensor.
    """
    if not cubes:
        raise SceneError("no cube is given to train on, expected at least one: name some")
    ready = [_Ready.of(cube, plan, number) for number, cube in enumerate(cubes)]
    views = [
        SensorView(COMMON, matrix, mixtures=_MIXTURES).to(device)
        for matrix in _matrices(sensors, plan)
    ]
    prior = _prior(ready) if plan.mode == "pixel" else None
    model = create_residual_net(
        net,
        seed=plan.seed,
        prior=prior,
        label_ratio=plan.label_ratio,
        corrects=plan.estimates > 0,
        **plan.net_options,
    ).to(device)
    drawing = _Drawing.of(ready, views, plan, device)
    ratios: list[float] = []

    def step_loss(step: int) -> torch.Tensor:
        samples = drawing.batch()
        rows, columns = samples[0].truth.shape[-2:]
        first = TRAINING_STREAM + step * plan.batch
        change = model(
            torch.cat([sample.start for sample in samples]),
            torch.cat([sample.deviation for sample in samples]),
            model.modelled((rows, columns), range(first, first + plan.batch), plan.seed),
        )
        losses = []
        for sample, found in zip(samples, change.split(1), strict=True):
            loss, ratio = _compared(sample, found, plan.mode)
            losses.append(loss)
            ratios.append(ratio)
        return torch.stack(losses).mean()

    record = train(model, step_loss, Schedule(plan.steps, plan.learning_rate), progress=progress)
    last = ratios[-max(1, len(ratios) // 10) :]
    return CubeFit(model, record, float(np.nanmean(last)) if np.isfinite(last).any() else 1.0)


def _compared(sample: _Sample, change: torch.Tensor, mode: Mode) -> tuple[torch.Tensor, float]:
    """The loss of one patch, and its error over that of the estimate, NaN where it has none."""
    cube = sample.start + sample.view.unseen(change)
    before = _mean_absolute(sample.start - sample.truth, sample.weight)
    after = _mean_absolute(cube - sample.truth, sample.weight)
    ratio = float(after.detach() / before) if before > 0 else float("nan")
    loss = after / (before + _RELATIVE_FLOOR)
    if mode == "pixel":
        loss = loss + LossWeights().ssim * adjacent_ssim_loss(cube * TYPICAL_BRIGHTNESS)
    return loss, ratio


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A cube on the common channels, in units of its brightness, without gaps."""

    values: NDArray[np.float32]
    """``(61, y, x)``."""
    valid: NDArray[np.bool_]
    """Pixels with data, ``(y, x)``."""
    compared: NDArray[np.bool_]
    """Pixels that a loss may look at, ``(y, x)``."""
    covered: NDArray[np.bool_]
    """Channels that the cube has, ``(61,)``; the others hold the value at its end."""
    mean: NDArray[np.float64]
    """Mean spectrum, ``(61,)``."""
    brightness: float
    """In the cube's own unit."""
    centres: NDArray[np.int64]
    """Pixels that patches lie around, ``(pixel, 2)``."""

    @staticmethod
    def of(cube: TrainingCube, plan: CubePlan, number: int) -> _Ready:
        values, channels = np.asarray(cube.values, "f4"), cube.channels
        if values.ndim != 3 or len(values) != len(channels):
            raise SceneError(
                f"cube '{cube.name}' has shape {values.shape} and {len(channels)} channels, "
                "expected (channel, y, x): give its own channels"
            )
        if len(channels) < _LEAST_CHANNELS:
            raise WavelengthGridError(
                f"cube '{cube.name}' has {len(channels)} channels between 400 and 1000 nm, at least "
                f"{_LEAST_CHANNELS} are needed to learn spectra from: give a hyperspectral cube"
            )
        valid = np.isfinite(values).all(0)
        if not valid.any():
            raise SceneError(
                f"cube '{cube.name}' has no pixel with data in all channels, a training needs "
                "some: check its nodata value"
            )
        low, high = channels.range_nm
        covered = (COMMON.centres_nm >= low) & (COMMON.centres_nm <= high)
        if covered.mean() < _LEAST_COVERED:
            raise WavelengthGridError(
                f"cube '{cube.name}' covers {low:.0f}-{high:.0f} nm, at least half of 400-1000 nm "
                "is needed: give cubes of the visible and near infrared"
            )
        matrix = interpolation(channels.centres_nm, COMMON.centres_nm).astype("f4")
        common = np.einsum("oc,cn->on", matrix, values[:, valid], optimize=True).clip(0)
        mean = common.mean(1, dtype="f8")
        brightness = float(mean.mean())
        if not brightness > 0:
            raise SceneError(
                f"cube '{cube.name}' has a mean of {brightness:g}, expected a positive one: check "
                "its scale"
            )
        filled = np.empty((len(COMMON), *valid.shape), "f4")
        filled[:] = mean[:, None, None] / brightness
        filled[:, valid] = common / brightness
        compared = valid
        if plan.mode == "pixel":
            seed = plan.seed
            compared = valid & point_mask(valid.shape, plan.label_ratio, seed=seed, stream=number)
        centres = np.argwhere(compared if compared.any() else valid)
        return _Ready(filled, valid, compared, covered, mean / brightness, brightness, centres)

    @property
    def shape(self) -> tuple[int, int]:
        return self.valid.shape[0], self.valid.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class _FittedEstimate:
    """An estimate of a whole cube, fitted on some of its own spectra, in units of its brightness."""

    cube: int
    """Number of the cube."""
    view: SensorView
    """The sensor."""
    bands: NDArray[np.float32]
    """``(band, y, x)``."""
    mean: NDArray[np.float16]
    """``(61, y, x)``."""
    deviation: NDArray[np.float16]
    """``(61, y, x)``."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """One patch with all that its loss needs, ``(1, 61, y, x)`` each."""

    view: SensorView
    """The sensor; the other fields have its batch axis of one."""
    start: torch.Tensor
    """The estimate that is to be improved."""
    deviation: torch.Tensor
    """Its standard deviation."""
    truth: torch.Tensor
    """The cube."""
    weight: torch.Tensor
    """Whether a value is compared, 0 or 1."""

    def cropped(self, size: int) -> _Sample:
        return _Sample(
            self.view,
            self.start[..., :size, :size],
            self.deviation[..., :size, :size],
            self.truth[..., :size, :size],
            self.weight[..., :size, :size],
        )


def _matrices(sensors: Sequence[SpectralResponse], plan: CubePlan) -> list[NDArray[np.float64]]:
    """Responses on the common channels, of the given sensors and of random ones."""
    draws = np.random.default_rng([plan.seed, 0])
    drawn = [random_sensor(draws) for _ in range(plan.random_sensors)]
    found = [
        response.matrix(COMMON)[used]
        for response in (*sensors, *drawn)
        if len(used := response.covered_bands(COMMON)) >= 2
    ]
    if not found:
        raise SettingsError(
            "no sensor has two bands inside 400-1000 nm, at least one is needed to train for: give "
            "other sensors"
        )
    return found


def random_sensor(draws: np.random.Generator) -> SpectralResponse:
    """A sensor of 3 to 8 Gaussian bands, 20 to 100 nm wide, spread over 430 to 930 nm."""
    count = int(draws.integers(3, 9))
    edges = np.linspace(430, 930, count + 1)
    centres = draws.uniform(edges[:-1], edges[1:])
    # A band has at least its own place, so that no two see nearly the same.
    centres = np.maximum.accumulate(centres + np.arange(count) * 1e-3)
    return SpectralResponse.from_bands(centres, draws.uniform(20, 100, count))


def _prior(cubes: Sequence[_Ready]) -> GammaPrior:
    """Distribution of the labelled spectra of all cubes, in units of their brightness."""
    spectra = np.concatenate([cube.values[:, cube.compared].T for cube in cubes])
    if not len(spectra):
        raise SceneError(
            "no labelled pixel carries data, mode 'pixel' needs some: give a larger label ratio"
        )
    prior = fit_prior(spectra, "gamma")
    assert isinstance(prior, GammaPrior)
    return prior


def _fitted_estimates(
    cubes: Sequence[_Ready],
    views: Sequence[SensorView],
    plan: CubePlan,
    draws: np.random.Generator,
) -> list[_FittedEstimate]:
    """So many estimates of every cube as the plan wants, for some of the sensors."""
    if not plan.estimates:
        return []
    # Few sensors, as the library regression of each takes seconds.
    some = [views[k] for k in draws.permutation(len(views))[:_ESTIMATED_SENSORS]]
    libraries = [fit_library(COMMON, view.response.cpu().numpy().astype("f8")) for view in some]
    made = []
    for number, cube in enumerate(cubes):
        for _ in range(plan.estimates):
            which = int(draws.integers(len(some)))
            made.append(_fitted_estimate(number, cube, some[which], libraries[which], plan, draws))
    return made


def _fitted_estimate(
    number: int,
    cube: _Ready,
    view: SensorView,
    library: LibraryPrior,
    plan: CubePlan,
    draws: np.random.Generator,
) -> _FittedEstimate:
    """An estimate of the whole cube, fitted on a random number of its spectra."""
    response = library.projection.response
    # The estimator is fitted in the cube's own unit, where the library's brightness means something.
    truth = cube.values * cube.brightness
    bands = np.einsum("bc,cyx->byx", response, truth, optimize=True)
    noise = draws.uniform(0, plan.noise) * bands.mean()
    bands = (bands + noise * draws.standard_normal(bands.shape)).astype("f4")
    places = np.argwhere(cube.valid)
    count = int(draws.choice(POINT_COUNTS))
    count = max(1, min(count, int(_MOST_POINTS * len(places))))
    rows, cols = places[draws.choice(len(places), count, replace=False)].T
    known = View.whole(np.where(cube.valid, bands, np.float32(np.nan)))
    labels = Labels(
        rows,
        cols,
        bands[:, rows, cols].T.astype("f8"),
        truth[:, rows, cols].T.astype("f8"),
        known.around(rows, cols),
    )
    estimator = fit_blend(labels, library, FeatureScale.of(known))
    # Without gaps, as patches are; what stands in them is not compared.
    found = estimator.predict(View.whole(bands))
    return _FittedEstimate(
        number,
        view,
        bands / np.float32(cube.brightness),
        (found.mean / cube.brightness).astype("f2"),
        (found.deviation / cube.brightness).astype("f2"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """Draws the patches of the training, one step's after the other's."""

    cubes: Sequence[_Ready]
    views: Sequence[SensorView]
    matrices: dict[SensorView, NDArray[np.float32]]
    """Response of each view, where NumPy can use it."""
    estimates: Sequence[_FittedEstimate]
    plan: CubePlan
    draws: np.random.Generator
    device: torch.device

    @staticmethod
    def of(
        cubes: Sequence[_Ready], views: Sequence[SensorView], plan: CubePlan, device: torch.device
    ) -> _Drawing:
        draws = np.random.default_rng([plan.seed, 1])
        matrices = {view: view.response.cpu().numpy() for view in views}
        estimates = _fitted_estimates(cubes, views, plan, draws)
        return _Drawing(cubes, views, matrices, estimates, plan, draws, device)

    def batch(self) -> list[_Sample]:
        """So many patches as the plan wants, cut to the size of the smallest."""
        samples = [self.one() for _ in range(self.plan.batch)]
        size = min(min(sample.truth.shape[-2:]) for sample in samples)
        return [sample.cropped(size) for sample in samples]

    def one(self) -> _Sample:
        """One patch: of a fitted estimate in half of the draws where there are any."""
        draws, plan = self.draws, self.plan
        if self.estimates and draws.random() < 0.5:
            fitted = self.estimates[int(draws.integers(len(self.estimates)))]
            cube = self.cubes[fitted.cube]
            window = _window(cube, plan.patch, draws)
            given = fitted.mean[:, *window], fitted.deviation[:, *window]
            truth = cube.values[:, *window]
            return self._sample(cube, fitted.view, window, fitted.bands[:, *window], truth, given)
        cube = self.cubes[int(draws.integers(len(self.cubes)))]
        view = self.views[int(draws.integers(len(self.views)))]
        window = _window(cube, plan.patch, draws)
        truth = cube.values[:, *window] * _tilt(plan.tilt, draws)
        x = np.einsum("bc,cyx->byx", self.matrices[view], truth, optimize=True)
        level = draws.uniform(0, plan.noise) * x.mean(dtype="f8")
        x = x + (level * draws.standard_normal(x.shape)).astype("f4")
        return self._sample(cube, view, window, x, truth, None)

    def _sample(
        self,
        cube: _Ready,
        view: SensorView,
        window: tuple[slice, slice],
        x: NDArray[np.float32],
        truth: NDArray[np.float32],
        given: tuple[NDArray[np.float16], NDArray[np.float16]] | None,
    ) -> _Sample:
        """The patch under a random brightness and symmetry."""
        gain = float(np.exp(self.plan.gain * self.draws.standard_normal()))
        turn, flip = int(self.draws.integers(4)), bool(self.draws.integers(2))

        def image(values: NDArray[Any], factor: float = gain) -> torch.Tensor:
            tensor = torch.from_numpy(np.asarray(values, "f4"))[None].to(self.device) * factor
            tensor = torch.rot90(tensor, turn, (-2, -1))
            return tensor.flip(-1) if flip else tensor

        weight = cube.compared[*window] & cube.covered[:, None, None]
        # As in use, where the scene's mean bands give it.
        darkest = DARKEST * gain * float((self.matrices[view] @ cube.mean).mean())
        with torch.no_grad():
            images = None if given is None else (image(given[0]), image(given[1]))
            guide = view.guide(image(x), darkest, images)
        return _Sample(view, guide.common, guide.deviation, image(truth), image(weight, 1.0))


def _window(cube: _Ready, size: int, draws: np.random.Generator) -> tuple[slice, slice]:
    """A square that lies in the cube, around a pixel that may be compared where there is one."""
    side = min(size, *cube.shape)
    centre = cube.centres[int(draws.integers(len(cube.centres)))]
    corner = (centre - draws.integers(0, side, 2)).clip(0, np.array(cube.shape) - side)
    row, col = int(corner[0]), int(corner[1])
    return slice(row, row + side), slice(col, col + side)


def _tilt(size: float, draws: np.random.Generator) -> NDArray[np.float32]:
    """A smooth gain over wavelength around 1, ``(61, 1, 1)``: four cosines."""
    position = np.linspace(0, np.pi, len(COMMON))
    waves = np.cos(np.arange(1, 5)[:, None] * position)
    gain = np.exp(size * draws.standard_normal(4) @ waves / np.sqrt(2))
    return np.asarray(gain[:, None, None], "f4")


def _mean_absolute(difference: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (difference.abs() * weight).sum() / weight.sum().clamp_min(1)
