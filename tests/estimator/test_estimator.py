"""The closed-form estimator: what it needs, what it promises, how good it is."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pixelssr_geo.estimator.estimator import Kind

from pixelssr_geo.errors import SettingsError, WavelengthGridError
from pixelssr_geo.estimator import (
    Estimator,
    LibraryPrior,
    SceneStatistics,
    fit_estimator,
    fit_library,
    usable_bands,
)
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import field_points, make_landscape
from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import read_points
from pixelssr_geo.scene import open_cube, open_scene, scene_response
from pixelssr_geo.spectra import ChannelGrid, get_sensor


@dataclass(frozen=True)
class Site:
    """A scene with its truth and everything that a fit needs."""

    scene: NDArray[np.float32]
    truth: NDArray[np.float32]
    library: LibraryPrior
    statistics: SceneStatistics
    places: tuple[NDArray[np.int64], NDArray[np.int64]]

    def labels(self, count: int) -> Labels:
        rows, cols = (place[:count] for place in self.places)
        return Labels(
            rows,
            cols,
            self.scene[:, rows, cols].T.astype("f8"),
            self.truth[:, rows, cols].T.astype("f8"),
        )

    def fit(self, count: int, kind: Kind = "estimator") -> Estimator:
        return fit_estimator(self.labels(count), self.library, self.statistics, kind=kind)

    def psnr(self, estimator: Estimator, scored: NDArray[np.bool_] | None = None) -> float:
        squares = (estimator.mean(self.scene) - self.truth) ** 2
        return float(-10 * np.log10(squares[:, scored if scored is not None else ...].mean()))


def statistics_of(scene: NDArray[np.float32]) -> SceneStatistics:
    values = scene[:, np.isfinite(scene).all(0)].astype("f8")
    return SceneStatistics(values.mean(1), values.std(1))


@pytest.fixture(scope="module")
def site() -> Site:
    landscape = make_landscape(72, seed=0)
    response = get_sensor("GF6-PMS").matrix(landscape.channels)
    scene = np.einsum("bc,cyx->byx", response, landscape.cube)
    scene += 0.0005 * np.random.default_rng(0).standard_normal(scene.shape)
    _, _, rows, cols = field_points(landscape, 60)
    library = fit_library(landscape.channels, response)
    scene = scene.astype("f4")
    return Site(scene, landscape.cube, library, statistics_of(scene), (rows, cols))


@pytest.mark.parametrize("count", [0, 1, 2, 5, 60])
def test_any_number_of_points_gives_a_finite_consistent_cube(site: Site, count: int) -> None:
    estimator = site.fit(count)
    estimate = estimator.predict(site.scene)
    assert estimate.mean.dtype == estimate.deviation.dtype == np.float32
    assert estimate.mean.shape == estimate.deviation.shape == site.truth.shape
    assert np.isfinite(estimate.mean).all()
    seen = np.einsum("bc,cyx->byx", site.library.projection.response, estimate.mean)
    np.testing.assert_allclose(seen, site.scene, atol=1e-6)
    assert (estimate.deviation > 0).all()
    assert estimator.left_out.shape == (count, len(site.truth))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 60])
def test_ridge_works_from_one_point_on(site: Site, count: int) -> None:
    estimate = site.fit(count, "ridge").predict(site.scene)
    assert np.isfinite(estimate.mean).all()
    assert np.abs(estimate.mean).max() < 3, "few points must not be extrapolated without restraint"
    assert (estimate.deviation >= 0).all()


def test_ridge_without_points_is_refused(site: Site) -> None:
    for labels in (None, site.labels(0)):
        with pytest.raises(SettingsError, match="give --points, or use --method library"):
            fit_estimator(labels, site.library, site.statistics, kind="ridge")


def test_no_points_and_the_library_alone_are_the_same(site: Site) -> None:
    cubes = [
        fit_estimator(labels, site.library, site.statistics, kind=kind).mean(site.scene)
        for labels, kind in (
            (None, "estimator"),
            (site.labels(0), "estimator"),
            (site.labels(60), "library"),
        )
    ]
    np.testing.assert_array_equal(cubes[0], cubes[1])
    np.testing.assert_array_equal(cubes[0], cubes[2])


def test_points_help(site: Site) -> None:
    assert site.psnr(site.fit(60)) > site.psnr(site.fit(0)) + 1


def test_channels_outside_the_library_are_refused() -> None:
    channels = ChannelGrid.from_spec("400:1100:10")
    with pytest.raises(WavelengthGridError):
        fit_library(channels, get_sensor("GF6-PMS").matrix(channels))


def test_a_pixel_without_data_has_no_estimate_and_touches_no_other(site: Site) -> None:
    estimator, block = site.fit(20), site.scene[:, :20, :20].copy()
    whole = estimator.predict(block)
    block[2, 4, 7] = np.nan
    holed = estimator.predict(block)
    hole = np.zeros((20, 20), bool)
    hole[4, 7] = True
    for values, before in ((holed.mean, whole.mean), (holed.deviation, whole.deviation)):
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(hole, values.shape))
        np.testing.assert_allclose(values[:, ~hole], before[:, ~hole], atol=1e-6)


@pytest.mark.parametrize("kind", ["estimator", "library", "ridge"])
def test_a_part_of_the_estimate_is_the_estimate_of_the_part(site: Site, kind: Kind) -> None:
    estimator = site.fit(30, kind)
    whole = estimator.predict(site.scene)
    for part in (
        (slice(0, 1), slice(0, 72)),
        (slice(5, 6), slice(9, 10)),
        (slice(33, 70), slice(3, 44)),
    ):
        piece = estimator.predict(site.scene[:, *part])
        np.testing.assert_allclose(piece.mean, whole.mean[:, *part], atol=1e-6)
        np.testing.assert_allclose(piece.deviation, whole.deviation[:, *part], rtol=1e-5)
    assert estimator.halo == 0


def test_slabs_do_not_show(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = site.fit(30)
    whole = estimator.predict(site.scene)
    monkeypatch.setattr("pixelssr_geo.estimator.projection.SLAB_PIXELS", 100)
    slabs = estimator.predict(site.scene)
    np.testing.assert_allclose(slabs.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(slabs.deviation, whole.deviation, rtol=1e-5)


@pytest.mark.parametrize("kind", ["estimator", "ridge"])
def test_the_deviation_grows_away_from_the_points(site: Site, kind: Kind) -> None:
    estimator, labels = site.fit(30, kind), site.labels(30)
    near = estimator.deviation_at(labels.bands)
    far = estimator.deviation_at(labels.bands + np.array([0.6, 0, 0, -0.4]))
    assert (near > 0).all()
    assert (far > near).all()
    assert far.mean() > 1.5 * near.mean()


def test_the_deviation_is_of_the_size_of_the_error(site: Site) -> None:
    estimator = site.fit(40)
    estimate = estimator.predict(site.scene)
    error = np.sqrt(((estimate.mean - site.truth) ** 2).mean())
    stated = np.sqrt((estimate.deviation**2).mean())
    assert 0.4 < stated / error < 2.5


def test_left_out_errors_foretell_the_error_elsewhere(site: Site) -> None:
    estimator = site.fit(60)
    error = np.sqrt(((estimator.mean(site.scene) - site.truth) ** 2).mean())
    foretold = np.sqrt((estimator.left_out**2).mean())
    assert 0.5 < foretold / error < 2


def test_a_pickled_estimator_estimates_the_same(site: Site) -> None:
    estimator = site.fit(20)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.mean(site.scene), estimator.mean(site.scene))


def test_a_band_that_never_changes_does_no_harm(site: Site) -> None:
    scene = site.scene.copy()
    scene[1] = 0.1
    labels = site.labels(12)
    labels.bands[:, 1] = 0.1
    for kind in ("estimator", "ridge"):
        fitted = fit_estimator(labels, site.library, statistics_of(scene), kind=kind)
        assert np.isfinite(fitted.mean(scene)).all()


@pytest.fixture(scope="module")
def potsdam(benchmark_data: Path) -> tuple[Site, dict[int, Labels]]:
    """A real scene, and the labels of the benchmark by their number."""
    folder = benchmark_data / "potsdam"
    scene = open_scene(
        folder / "scene_s0.tif", response=benchmark_data / "gf6_pms_response.csv", scale=1
    )
    reference = open_cube(folder / "reference.tif")
    channels = ChannelGrid(reference["wavelength"].values, reference["fwhm"].values)
    response = scene_response(scene)
    assert usable_bands(response, channels).tolist() == [0, 1, 2, 3]
    labels = {
        count: pair_points(
            scene, read_points(folder / f"points_{count:04d}_s0.gpkg"), channels=channels
        ).labels
        for count in (18, 184)
    }
    values = scene.values
    library = fit_library(channels, response.matrix(channels))
    places = (labels[184].rows, labels[184].cols)
    return Site(values, reference.values, library, statistics_of(values), places), labels


def scored_pixels(site: Site, labels: Labels | None = None) -> NDArray[np.bool_]:
    scored = np.isfinite(site.truth).all(0) & np.isfinite(site.scene).all(0)
    if labels is not None:
        scored[labels.rows, labels.cols] = False
    return scored


def test_the_library_alone_reaches_41_db_on_a_real_scene(
    potsdam: tuple[Site, dict[int, Labels]],
) -> None:
    site, _ = potsdam
    estimator = fit_estimator(None, site.library, site.statistics, kind="library")
    assert site.psnr(estimator, scored_pixels(site)) >= 41.0


@pytest.mark.parametrize(("count", "least"), [(18, 46.0), (184, 46.4)])
def test_library_and_points_together_are_no_worse_than_either_on_a_real_scene(
    potsdam: tuple[Site, dict[int, Labels]], count: int, least: float
) -> None:
    site, labels = potsdam
    scored = scored_pixels(site, labels[count])
    both, ridge, library = (
        site.psnr(fit_estimator(labels[count], site.library, site.statistics, kind=kind), scored)
        for kind in ("estimator", "ridge", "library")
    )
    assert both >= least
    assert both >= max(ridge, library) - 0.2
