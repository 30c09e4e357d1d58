"""What a trained network says, as one more prior mean: it has to prove itself at the points."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelssr_geo.estimator import (
    BlendedEstimator,
    FeatureScale,
    LibraryPrior,
    View,
    blend_library,
    fit_blend,
    fit_library,
    usable_bands,
)
from pixelssr_geo.estimator.blend import LEAST_WEIGHT
from pixelssr_geo.labels import Labels
from pixelssr_geo.metrics import psnr
from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import read_points
from pixelssr_geo.scene import cube_channels, open_cube, open_scene
from pixelssr_geo.spectra import SpectralResponse

Image = NDArray[np.float32]


class Potsdam:
    """The frozen scene, and the estimator with a network that says a given cube."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "potsdam"
        response = SpectralResponse.from_csv(folder / "gf6_pms_response.csv")
        reference = open_cube(self.folder / "reference.tif")
        self.truth = np.asarray(reference.values, "f4")
        self.channels = cube_channels(reference)
        self.used = usable_bands(response, self.channels)
        self.scene = open_scene(
            self.folder / "scene_s0.tif", response=folder / "gf6_pms_response.csv", scale=1
        )
        self.view = View.whole(np.asarray(self.scene.values, "f4")[self.used])
        self.scale = FeatureScale.of(self.view)
        self.library: LibraryPrior = fit_library(
            self.channels, response.matrix(self.channels)[self.used]
        )

    def labels(self, count: int) -> Labels:
        points = read_points(self.folder / f"points_{count:04d}_s0.gpkg")
        labels = pair_points(self.scene, points, channels=self.channels).labels
        around = self.view.around(labels.rows, labels.cols)
        return replace(labels, bands=labels.bands[:, self.used], surroundings=around)

    @cache  # noqa: B019
    def alone(self, count: int) -> BlendedEstimator:
        return fit_blend(self.labels(count), self.library, self.scale)

    def beside(self, count: int, said: Image) -> BlendedEstimator:
        """Fitted with a network; the kernel's parameters do not depend on it."""
        labels = self.labels(count)
        there = said[:, labels.rows, labels.cols].T.astype("f8")
        parameters = self.alone(count).parameters
        known = replace(labels, network=there)
        return fit_blend(known, self.library, self.scale, parameters=parameters)

    def psnr(self, estimator: BlendedEstimator, count: int, said: Image | None = None) -> float:
        labels = self.labels(count)
        scored = np.isfinite(self.view.inner).all(0) & np.isfinite(self.truth).all(0)
        scored[labels.rows, labels.cols] = False
        cube = estimator.mean(replace(self.view, network=said))
        return psnr(cube[:, scored], self.truth[:, scored])


@pytest.fixture(scope="module")
def potsdam(benchmark_data: Path) -> Potsdam:
    return Potsdam(benchmark_data)


def useless(kind: str, truth: Image) -> Image:
    """Cubes that a network might say which knows nothing of the place."""
    known = np.nan_to_num(truth, nan=float(np.nanmean(truth)))
    match kind:
        case "noise":
            draws = np.random.default_rng(0).standard_normal(truth.shape)
            return np.asarray(known.mean() + known.std() * draws, "f4")
        case "another place":
            return np.ascontiguousarray(known[:, ::-1])
    return np.asarray(np.roll(known, 7, 2))


@pytest.mark.parametrize("kind", ["noise", "another place", "moved"])
@pytest.mark.parametrize("count", [18, 184])
def test_a_useless_network_gets_next_to_no_weight_and_costs_nothing(
    potsdam: Potsdam, kind: str, count: int
) -> None:
    said = useless(kind, potsdam.truth)
    beside = potsdam.beside(count, said)
    assert beside.network < 0.02
    before = potsdam.psnr(potsdam.alone(count), count)
    assert potsdam.psnr(beside, count, said) >= before - 0.05


@pytest.mark.parametrize(("count", "least", "gain"), [(18, 0.2, 2.0), (184, 0.7, 10.0)])
def test_a_network_that_knows_the_truth_gets_the_weight(
    potsdam: Potsdam, count: int, least: float, gain: float
) -> None:
    said = np.nan_to_num(potsdam.truth)
    beside = potsdam.beside(count, said)
    assert beside.network > least
    before = potsdam.psnr(potsdam.alone(count), count)
    assert potsdam.psnr(beside, count, said) > before + gain


@pytest.mark.parametrize("kind", ["truth", "noise"])
def test_two_points_never_make_a_network_dominant(potsdam: Potsdam, kind: str) -> None:
    """However well or badly it meets two points."""
    truth = potsdam.truth
    said = np.nan_to_num(truth) if kind == "truth" else useless(kind, truth)
    beside = potsdam.beside(2, said)
    assert beside.network <= beside.weights["library"]
    assert (beside.network >= LEAST_WEIGHT) == (kind == "truth")
    before = potsdam.psnr(potsdam.alone(2), 2)
    assert potsdam.psnr(beside, 2, said) >= before


def test_without_points_a_network_is_trusted_a_little(potsdam: Potsdam) -> None:
    estimator = blend_library(potsdam.library, potsdam.scale, network=True)
    assert 0.05 < estimator.network < 0.1
    assert sum(estimator.weights.values()) == pytest.approx(1)
    assert sum(estimator.shares) + estimator.network == pytest.approx(1)
    other = blend_library(potsdam.library, potsdam.scale)
    assert not other.sees_network
    assert "network" not in other.weights


def test_the_map_agrees_with_the_labels_and_with_the_scene(potsdam: Potsdam) -> None:
    said = np.nan_to_num(potsdam.truth)
    beside, labels = potsdam.beside(18, said), potsdam.labels(18)
    cube = beside.mean(replace(potsdam.view, network=said))
    known = replace(labels, network=said[:, labels.rows, labels.cols].T.astype("f8"))
    np.testing.assert_allclose(
        cube[:, labels.rows, labels.cols].T, beside.at(known), rtol=0, atol=2e-5
    )
    response = potsdam.library.projection.response
    again = np.einsum("bc,cyx->byx", response, cube)
    assert np.nanmax(np.abs(again - potsdam.view.inner)) < 1e-5


def test_left_out_errors_foretell_those_of_the_blend(potsdam: Potsdam) -> None:
    said = np.nan_to_num(potsdam.truth)
    beside, alone = potsdam.beside(184, said), potsdam.alone(184)
    assert (beside.left_out**2).mean() < 0.2 * (alone.left_out**2).mean()
