"""Estimators that see one pixel at a time: what they need and what they promise."""

import pickle

import numpy as np
import pytest

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.estimator import PixelEstimator, fit_points_alone, library_alone
from pixelssr_geo.estimator.ridge import fit_ridge, standardised
from pixelssr_geo.tiling.plan import Window


def fitted(site, kind, count=30) -> PixelEstimator:
    if kind == "library":
        return library_alone(site.library)
    return fit_points_alone(site.labels(count), site.library.projection)


KINDS = pytest.mark.parametrize("kind", ["library", "ridge"])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 60])
def test_ridge_works_from_one_point_on(site, count):
    found = fitted(site, "ridge", count)
    estimate = found.predict(site.view())
    assert np.isfinite(estimate.mean).all()
    assert np.abs(estimate.mean).max() < 3, "few points must not be extrapolated without restraint"
    assert (estimate.deviation >= 0).all()
    assert found.left_out.shape == (count, len(site.truth))


def test_a_single_point_does_not_claim_to_know_everything(site):
    labels, projection = site.labels(1), site.library.projection
    found = fit_points_alone(labels, projection)
    np.testing.assert_allclose(found.left_out, projection.null_part(labels.spectra))
    assert found.predict(site.view()).deviation.mean() > 0.01


def test_ridge_without_points_is_refused(site):
    for labels in (None, site.labels(0)):
        with pytest.raises(SettingsError, match="give --points, or use --method library"):
            fit_points_alone(labels, site.library.projection)


@KINDS
def test_the_cube_re_simulates_the_scene(site, kind):
    estimate = fitted(site, kind).predict(site.view())
    assert estimate.mean.dtype == estimate.deviation.dtype == np.float32
    assert estimate.mean.shape == estimate.deviation.shape == site.truth.shape
    response = site.library.projection.response
    seen = np.einsum("bc,cyx->byx", response, estimate.mean.astype("f8"))
    np.testing.assert_allclose(seen, site.scene, atol=1e-6)


@KINDS
def test_at_a_point_it_says_what_the_cube_has_there(site, kind):
    estimator, labels = fitted(site, kind), site.labels(20)
    estimate = estimator.predict(site.view())
    at = np.s_[:, labels.rows, labels.cols]
    np.testing.assert_allclose(estimator.at(labels), estimate.mean[at].T, atol=1e-6)
    np.testing.assert_allclose(estimator.deviation_at(labels), estimate.deviation[at].T, rtol=1e-5)
    np.testing.assert_array_equal(estimator.mean(site.view()), estimate.mean)


def test_left_out_errors_of_ridge_are_those_of_a_fit_without_the_point(site):
    labels, projection = site.labels(15), site.library.projection
    features = standardised(labels.bands, degree=1)
    whole = fitted(site, "ridge", 15)
    for out in range(3):
        kept = np.arange(15) != out
        ridge = fit_ridge(
            labels.bands[kept],
            labels.spectra[kept],
            features,
            strengths=[whole.regression.strength],
        )
        found = projection(ridge.predict(labels.bands[out]), labels.bands[out])
        error = projection.null_part(labels.spectra[out] - found)
        np.testing.assert_allclose(whole.left_out[out], error, atol=1e-9)


def test_a_library_has_left_out_nothing(site):
    assert library_alone(site.library).left_out.shape == (0, len(site.truth))


@KINDS
def test_a_pixel_without_data_has_no_estimate_and_touches_no_other(site, kind):
    estimator = fitted(site, kind)
    view = site.view(Window(0, 0, 20, 20), 0)
    whole = estimator.predict(view)
    view.values[2, 4, 7] = np.nan
    holed = estimator.predict(view)
    hole = np.zeros((20, 20), bool)
    hole[4, 7] = True
    for values, before in (
        (holed.mean, whole.mean),
        (holed.deviation, whole.deviation),
        (holed.extrapolation[None], whole.extrapolation[None]),
    ):
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(hole, values.shape))
        np.testing.assert_array_equal(values[:, ~hole], before[:, ~hole])


@KINDS
@pytest.mark.parametrize("window", [(0, 0, 1, 72), (5, 9, 1, 1), (33, 3, 37, 41)])
def test_a_window_is_part_of_the_whole_to_the_last_bit(site, kind, window):
    estimator, window = fitted(site, kind), Window(*window)
    whole = estimator.predict(site.view())
    part = estimator.predict(site.view(window, estimator.halo))
    assert estimator.halo == 0
    np.testing.assert_array_equal(part.mean, whole.mean[:, *window.slices])
    np.testing.assert_array_equal(part.deviation, whole.deviation[:, *window.slices])
    np.testing.assert_array_equal(part.extrapolation, whole.extrapolation[window.slices])


def test_slabs_do_not_show(site, monkeypatch):
    estimator = fitted(site, "ridge")
    whole = estimator.predict(site.view())
    monkeypatch.setattr("pixelssr_geo.estimator.projection.SLAB_PIXELS", 100)
    slabs = estimator.predict(site.view())
    np.testing.assert_allclose(slabs.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(slabs.deviation, whole.deviation, rtol=1e-5)


@KINDS
def test_the_deviation_grows_away_from_what_was_learnt(site, kind):
    estimator, labels = fitted(site, kind), site.labels(30)
    near = estimator.deviation_at(labels)
    labels.bands[:] += np.array([2.0, 0, 0, -2.0])
    far = estimator.deviation_at(labels)
    assert (near > 0).all()
    assert (far > near).all()
    assert far.mean() > 1.5 * near.mean()


@KINDS
def test_ground_beyond_what_was_learnt_is_extrapolation(site, kind):
    view = site.view()
    scene = view.values.copy()
    scene[:, 34:44, 34:44] += 5
    found = fitted(site, kind).predict(type(view)(scene, 0, 0)).extrapolation
    assert found[30:40, 30:40].min() > 1
    assert np.median(found) == 0


@KINDS
def test_a_pickled_estimator_estimates_the_same(site, kind):
    estimator = fitted(site, kind)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.mean(site.view()), estimator.mean(site.view()))


def test_a_band_that_never_changes_does_no_harm(site):
    labels = site.labels(12)
    labels.bands[:, 1] = 0.1
    estimator = fit_points_alone(labels, site.library.projection)
    assert np.isfinite(estimator.mean(site.view())).all()
