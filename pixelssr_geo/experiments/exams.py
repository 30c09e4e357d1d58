"""What networks are trained on and judged by: a scene that is known in one half, or a dataset's parts.

Of a scene, every pixel's bands are there in training, as they are for who has a scene to reconstruct;
spectra come from where the protocol lets points lie, and the rest is scored. Of a dataset, training
sees patches of one part and is scored on those of another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from pixelssr_geo.datasets import PatchPlan, open_dataset, open_rasters, patches, simulated
from pixelssr_geo.datasets.patches import scene_parts
from pixelssr_geo.datasets.registry import find_dataset
from pixelssr_geo.errors import SceneError, SettingsError
from pixelssr_geo.estimator import usable_bands
from pixelssr_geo.estimator.library import load_library, random_mixtures
from pixelssr_geo.experiments.scenes import (
    FROZEN_NOISE,
    Ratio,
    SceneSource,
    load_ground,
    load_trial,
)
from pixelssr_geo.labels import Labels
from pixelssr_geo.scene import cube_channels
from pixelssr_geo.spectra import SpectralResponse, get_sensor
from pixelssr_geo.training.modes import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from pixelssr_geo.datasets import PairDataset, Patch, Split
    from pixelssr_geo.experiments.scenes import Protocol, Trial
    from pixelssr_geo.spectra import ChannelGrid

NO_LABELS, ALL_LABELS = "0", "100%"
"""Ratios of the modes ``unsupervised`` and ``supervised``."""

SPLIT = "split"
"""What stands for the protocol of a dataset."""

PER_SCENE = 4
"""Patches that are taken of a scene at least, so that few scenes have to be read."""

LIBRARY_SPECTRA = 2000
"""Library mixtures that the modelled spectra are drawn like where no pixel is labelled."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where a dataset is, which sensor sees it and how much is taken of it; small, for workers."""

    name: str
    """What it is called in tables: kind, patches to train on and patches to test on."""
    text: str
    """``NAME:ROOT``, see :func:`~pixelssr_geo.datasets.open_dataset`."""
    response: Path | None
    """File of response functions, or None where the sensor is known by name."""
    sensor: str | None
    """Name of the sensor, or None."""
    size: int = 128
    """Rows and columns of a patch."""
    training: int = 256
    """Patches to train on at the most."""
    tests: int = 64
    """Patches to test on at the most."""

    @staticmethod
    def of(
        text: str,
        *,
        response: str | Path | None = None,
        sensor: str | None = None,
        size: int = 128,
        training: int = 256,
        tests: int = 64,
    ) -> DatasetSource:
        """The source that a text such as ``cave:data/CAVE`` asks for.

        Raises
        ------
        SettingsError
            If the kind is not known, sensor and response are both given or both missing, or a
            number is not positive.
        PixelSSRError
            If the folder does not hold such a dataset.
        """
        if (sensor is None) == (response is None):
            raise SettingsError(
                f"dataset '{text}' is given with sensor {sensor} and response {response}, it needs "
                "one of the two: give --sensor NAME or --response CSV"
            )
        if min(size, training, tests) < 1:
            raise SettingsError(
                f"{training} and {tests} patches of {size} pixels are asked of dataset '{text}', "
                "at least 1 of each is needed: give other numbers"
            )
        open_dataset(text)
        name = f"{find_dataset(text)[0].name} ({training}+{tests} patches of {size})"
        table = None if response is None else Path(response)
        return DatasetSource(name, text, table, sensor, size, training, tests)


@dataclass(frozen=True, slots=True, eq=False)
class Test:
    """An image to reconstruct and what it is held against."""

    bands: NDArray[np.float32]
    """``(band, y, x)``, reflectance, 0 where no data is."""
    truth: NDArray[np.float32]
    """``(channel, y, x)``, NaN where not known."""
    scored: NDArray[np.bool_]
    """Pixels that count, ``(y, x)``."""

    @staticmethod
    def of(bands: NDArray[np.float32], truth: NDArray[np.float32]) -> Test:
        """One of arrays with NaN for nodata, scored where both have data."""
        piece = Piece.of(bands, truth)
        return Test(piece.bands, truth, piece.valid & np.isfinite(truth).all(0))


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """What a network is trained on and judged by."""

    training: tuple[Piece, ...]
    """With the labels of the mode."""
    tests: tuple[Test, ...]
    """Images to reconstruct."""
    response: SpectralResponse
    """Of the bands."""
    channels: ChannelGrid
    """Of the cube."""
    trial: Trial | None
    """The same scene as methods of this package are given it; None for a dataset."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Response matrix S, ``(band, channel)``."""
        return self.response.matrix(self.channels)

    @property
    def label_count(self) -> int:
        """Labelled pixels."""
        return int(sum(piece.labelled.sum() for piece in self.training))

    @property
    def labels(self) -> Labels:
        """Bands and spectra of all labelled pixels; rows and columns are those of their pieces."""
        places = [np.argwhere(piece.labelled) for piece in self.training]
        rows, cols = np.concatenate(places).T
        bands = [piece.bands[:, piece.labelled].T for piece in self.training]
        spectra = [piece.spectra for piece in self.training]
        return Labels(
            rows, cols, np.concatenate(bands).astype("f8"), np.concatenate(spectra).astype("f8")
        )

    def library(self, seed: int) -> NDArray[np.float64]:
        """Library mixtures on the cube's channels, ``(spectrum, channel)``."""
        return random_mixtures(load_library(), self.channels, count=LIBRARY_SPECTRA, seed=seed)


@lru_cache(maxsize=1)
def load_exam(source: SceneSource | DatasetSource, protocol: str, ratio: str, seed: int) -> Exam:
    """What is trained on and judged by.

    Parameters
    ----------
    source
        The scene or dataset.
    protocol
        Where labels lie and what is scored; of a dataset ``split``.
    ratio
        Share of the pixels that are labelled; ``0`` for none and ``100%`` for all that may be.
    seed
        Of noise, labels and parts.

    Raises
    ------
    SettingsError
        If nothing is left to score, or a dataset has too few scenes.
    PixelSSRError
        If something cannot be read or does not fit.
    """
    if isinstance(source, DatasetSource):
        return _dataset_exam(source, ratio, seed)
    return _scene_exam(source, cast("Protocol", protocol), ratio, seed)


def _scene_exam(source: SceneSource, protocol: Protocol, ratio: str, seed: int) -> Exam:
    ground = load_ground(source)
    every = ratio == ALL_LABELS
    points = Ratio.parse(NO_LABELS if every else ratio)
    trial = load_trial(source, protocol, points, FROZEN_NOISE, seed)
    labelled, scored = np.zeros_like(ground.valid), trial.scored
    if every:
        labelled = ground.allowed(protocol)
        scored = scored & ~labelled
    elif trial.labels is not None:
        labelled[trial.labels.rows, trial.labels.cols] = True
    if not scored.any():
        raise SettingsError(
            f"protocol '{protocol}' leaves no pixel of scene '{source.name}' to score once {ratio} are "
            "labelled, some are needed: take protocol 'block' or 'corner', or fewer labels"
        )
    piece = Piece.of(np.asarray(trial.scene.values), ground.cube.values, labelled)
    test = Test(piece.bands, ground.cube.values, scored)
    return Exam((piece,), (test,), ground.response, ground.channels, trial)


def _dataset_exam(source: DatasetSource, ratio: str, seed: int) -> Exam:
    dataset, response = _open(source)
    share = Ratio.parse(ratio)
    if not share.is_share and share.value:
        raise SettingsError(
            f"{ratio} points are asked of dataset '{source.text}', expected a share of the pixels "
            "such as 0.01%: give one"
        )
    plan = PatchPlan(
        size=source.size,
        by="block" if len(dataset) < 3 else "scene",
        label_ratio=share.value or 1.0,
        seed=seed,
    )
    training = list(_some(dataset, "train", plan, source.training))
    tests = list(_some(dataset, _test_part(dataset, plan), plan, source.tests))
    channels = cube_channels(_cube(training[0]))
    bands = usable_bands(response, channels)
    return Exam(
        training=tuple(
            Piece.of(_bands(patch, bands), _cube(patch).values, patch.labelled & bool(share.value))
            for patch in training
        ),
        tests=tuple(Test.of(_bands(patch, bands), _cube(patch).values) for patch in tests),
        response=response.select(bands),
        channels=channels,
        trial=None,
    )


def _bands(patch: Patch, usable: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(patch.pair.scene.values[usable], "f4")


def _cube(patch: Patch) -> xr.DataArray:
    """The cube on the channels that the spectral library covers."""
    cube, channels = patch.pair.cube, patch.pair.channels
    if cube is None or channels is None:
        raise SceneError(
            f"scene '{patch.pair.name}' has no cube, one is needed to learn from and to score by: "
            "leave it out"
        )
    return cube.isel(wavelength=load_library().covers(channels))


def _open(source: DatasetSource) -> tuple[PairDataset, SpectralResponse]:
    """The dataset, and the response of its bands.

    Rasters are taken as they are; of others the sensor's view is simulated, for their colour images
    are no view of their cubes that a response describes.
    """
    spec, root = find_dataset(source.text)
    if spec.name == "rasters":
        dataset = open_rasters(root, response=source.response, sensor=source.sensor)
        response = dataset.load(dataset.names[0]).response
        assert response is not None  # one of the two options gives it
        return dataset, response
    dataset = open_dataset(source.text)
    if source.response is not None:
        response = SpectralResponse.from_file(source.response)
    else:
        response = get_sensor(str(source.sensor))
    channels = next(iter(dataset)).channels
    if channels is None:
        raise SceneError(
            f"the first scene of dataset '{source.text}' has no cube, one is needed to simulate the "
            "sensor's view: check the folder"
        )
    response = response.select(usable_bands(response, channels))
    return simulated(dataset, response), response


def _test_part(dataset: PairDataset, plan: PatchPlan) -> Split:
    """``test``, or ``validation`` where the cubes of ``test`` are not public."""
    if plan.by == "block":
        return "test"
    names = scene_parts(dataset, plan)["test"]
    return "test" if names and dataset.load(names[0]).cube is not None else "validation"


def _some(dataset: PairDataset, split: Split, plan: PatchPlan, most: int) -> Iterator[Patch]:
    """Patches of a part, a few of each scene, of no more scenes than are needed.

    Raises
    ------
    SettingsError
        If the part has none.
    """
    names: Sequence[str] = (
        dataset.names if plan.by == "block" else scene_parts(dataset, plan)[split]
    )
    draws = np.random.default_rng([plan.seed, 2])
    each = max(PER_SCENE, ceil(most / max(len(names), 1)))
    left = most
    for number in draws.permutation(len(names)):
        name = names[number]
        one = replace(dataset, names=(name,), splits={split: (name,)})
        found = list(patches(one, split, plan))
        take = min(each, left, len(found))
        for at in sorted(draws.choice(len(found), take, replace=False)):
            yield found[at]
        left -= take
        if not left:
            return
    if left == most:
        raise SettingsError(
            f"part '{split}' of {dataset.title} has no patch with data, at least one is needed: "
            "check the folder"
        )
