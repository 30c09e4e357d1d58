"""Prior means: what they promise beyond the mixtures that they were fitted to."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_info, threadpool_limits

from pixelssr_geo.estimator import means
from pixelssr_geo.estimator.library import load_library, random_mixtures
from pixelssr_geo.estimator.means import (
    NoMean,
    ShapeMixture,
    ShapeRegression,
    ShapeSpace,
    fit_gains,
    fit_mixture,
    fit_shape,
)
from pixelssr_geo.estimator.projection import Projection
from pixelssr_geo.estimator.ridge import fit_ridge, standardised
from pixelssr_geo.spectra import ChannelGrid, get_sensor

CHANNELS = ChannelGrid.from_spec("400:1000:30")
RESPONSE = get_sensor("GF6-PMS").matrix(CHANNELS)
MIXTURES = random_mixtures(load_library(), CHANNELS, count=6000)
OTHERS = random_mixtures(load_library(), CHANNELS, count=400, seed=1)
SEEN = OTHERS @ RESPONSE.T
WAVE = 1 + 0.25 * np.sin(np.arange(len(CHANNELS)))
"""Gains as of an uncalibrated instrument."""


def rmse(
    found: NDArray[np.float64], truth: NDArray[np.float64], seen: NDArray[np.float64]
) -> float:
    """Error of an estimate once it agrees with the bands."""
    return float(np.sqrt(((Projection.of(RESPONSE)(found, seen) - truth) ** 2).mean()))


def gains(bands: NDArray[np.float64], spectra: NDArray[np.float64]) -> ShapeRegression:
    brightness = float(bands.mean())
    return fit_gains(MIXTURES, RESPONSE, bands, spectra, brightness=brightness, least=1e-9)


@pytest.fixture(scope="module")
def mixture() -> ShapeMixture:
    found = fit_mixture(MIXTURES, RESPONSE)
    assert found is not None
    return found


def test_no_mean_is_zero_everywhere() -> None:
    found = NoMean(7).predict(np.ones((3, 5, 4)))
    assert found.shape == (3, 5, 7)
    assert (found == 0).all()


def test_the_shape_regression_knows_spectra_that_it_has_not_seen() -> None:
    regression = fit_shape(MIXTURES, RESPONSE)
    assert rmse(regression.predict(SEEN), OTHERS, SEEN) < 0.25 * rmse(0 * OTHERS, OTHERS, SEEN)


@pytest.mark.parametrize("unit", [1e4, 1e-3])
def test_shapes_go_on_in_proportion(mixture: ShapeMixture, unit: float) -> None:
    for mean in (fit_shape(MIXTURES, RESPONSE), mixture, gains(SEEN[:9], OTHERS[:9])):
        expected = unit * mean.predict(SEEN)
        found = mean.predict(unit * SEEN)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * unit)


def test_a_pixel_darker_than_the_least_is_not_divided_by_its_brightness(
    mixture: ShapeMixture,
) -> None:
    dark = np.array([[0, 0, 0, 0], [1e-4, -1e-4, 2e-4, -2e-4], [-0.01, 0, 0, 0]])
    for mean in (fit_shape(MIXTURES, RESPONSE), mixture, gains(SEEN[:9], OTHERS[:9])):
        found = replace(mean, least=0.02).predict(dark)
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 1


@pytest.mark.parametrize("level", [-0.03, -0.005, 0.0, 0.002])
def test_dark_pixels_below_zero_take_no_shape_of_their_own(
    mixture: ShapeMixture, level: float
) -> None:
    least = 0.02 * float(SEEN.mean())
    flat = np.full((1, len(RESPONSE)), level)
    for mean in (fit_shape(MIXTURES, RESPONSE), mixture, gains(SEEN[:9], OTHERS[:9])):
        found = Projection.of(RESPONSE)(replace(mean, least=least).predict(flat), flat)
        assert np.abs(found - level).max() < 0.003


def test_no_step_lies_where_a_pixel_becomes_dark(mixture: ShapeMixture) -> None:
    least = float(np.quantile(SEEN.mean(1), 0.5))
    near = SEEN * (least / SEEN.mean(1, keepdims=True))
    for mean in (fit_shape(MIXTURES, RESPONSE), mixture, gains(SEEN[:9], OTHERS[:9])):
        bounded = replace(mean, least=least)
        darker, lighter = (bounded.predict(near * factor) for factor in (1 - 1e-9, 1 + 1e-9))
        np.testing.assert_allclose(darker, lighter, atol=1e-6)


def test_any_leading_axes_will_do(mixture: ShapeMixture) -> None:
    images = SEEN.reshape(20, 20, -1)
    for mean in (fit_shape(MIXTURES, RESPONSE), mixture, NoMean(len(CHANNELS))):
        flat = mean.predict(SEEN)
        np.testing.assert_allclose(mean.predict(images), flat.reshape(20, 20, -1), atol=1e-12)


def test_a_quadratic_of_known_strength_is_that_ridge_regression() -> None:
    x, y = SEEN[:200], OTHERS[:200]
    features = standardised(x, degree=2)
    expected = fit_ridge(x, y, features, strengths=[means.GAIN_STRENGTH])
    found = means._Quadratic.of(x, y)
    np.testing.assert_allclose(found.predict(SEEN), expected.predict(SEEN), atol=1e-8)


def test_gains_of_an_uncalibrated_instrument_are_learnt() -> None:
    truth = OTHERS * WAVE
    seen = truth @ RESPONSE.T
    few, many = (gains(seen[:n], truth[:n]) for n in (3, 60))
    plain = rmse(fit_shape(MIXTURES, RESPONSE).predict(seen), truth, seen)
    assert rmse(many.predict(seen), truth, seen) < 0.4 * plain
    assert rmse(few.predict(seen), truth, seen) < 0.8 * plain


@pytest.mark.parametrize("share", [-0.35, -0.3, -0.25])
def test_a_point_below_zero_does_not_decide_the_gains(share: float) -> None:
    truth = OTHERS * WAVE
    seen = truth @ RESPONSE.T
    brightness = float(seen[:12].mean())
    dark = share * brightness
    bands = np.vstack([seen[:12], np.full(len(RESPONSE), dark)])
    spectra = np.vstack([truth[:12], np.full(len(CHANNELS), dark)])

    def error(count: int) -> float:
        mean = fit_gains(
            MIXTURES,
            RESPONSE,
            bands[:count],
            spectra[:count],
            brightness=brightness,
            least=0.02 * brightness,
        )
        return rmse(mean.predict(seen), truth, seen)

    assert error(13) < 1.1 * error(12)


def test_gains_of_a_scene_of_zeros_are_finite() -> None:
    zeros = np.zeros((6, len(RESPONSE)))
    mean = fit_gains(MIXTURES, RESPONSE, zeros, OTHERS[:6], brightness=0.0, least=1e-9)
    assert np.isfinite(mean.predict(zeros)).all()


def test_gains_do_not_depend_on_the_unit() -> None:
    truth, unit = OTHERS[:40] * WAVE, 1e4
    seen = truth @ RESPONSE.T
    one, counts = gains(seen, truth), gains(unit * seen, unit * truth)
    np.testing.assert_allclose(counts.predict(unit * SEEN), unit * one.predict(SEEN), rtol=1e-7)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_gains_are_shrunk_as_by_one_more_point(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    used: list[NDArray[np.float64]] = []
    regression = means._with_gain

    def listened(mixtures: Any, gain: Any, *rest: Any) -> ShapeRegression:
        used.append(gain)
        return regression(mixtures, gain, *rest)

    monkeypatch.setattr(means, "_with_gain", listened)
    truth = OTHERS[:count] * WAVE
    seen = truth @ RESPONSE.T
    gains(seen, truth)
    assert len(used) == means.GAIN_ROUNDS + 1
    assert (used[0] == 1).all()
    for before, after in pairwise(used):
        found = regression(MIXTURES[: means.GAIN_SAMPLES], before, RESPONSE, 1e-9).predict(seen)
        found = Projection.of(RESPONSE)(found, seen)
        expected = []
        for channel in range(len(CHANNELS)):
            above, below = [], []
            for point in range(count):
                weight = 1 / (seen[point].mean() + 0.3 * seen.mean()) ** 2
                bare = found[point, channel] / before[channel]
                above.append(weight * bare * truth[point, channel])
                below.append(weight * bare * bare)
            expected.append((sum(above) + np.mean(below)) / (sum(below) + np.mean(below)))
        np.testing.assert_allclose(after, expected, rtol=1e-9)


def test_gains_that_the_points_do_not_show_are_one() -> None:
    bare = means._with_gain(MIXTURES[: means.GAIN_SAMPLES], np.ones(len(CHANNELS)), RESPONSE, 1e-9)
    as_told = Projection.of(RESPONSE)(bare.predict(SEEN[:5]), SEEN[:5])
    found = gains(SEEN[:5], as_told)
    np.testing.assert_allclose(found.predict(SEEN), bare.predict(SEEN), atol=1e-9)


def test_points_of_negative_reflectance_do_not_break_the_gains() -> None:
    truth = -OTHERS[:20]
    assert np.isfinite(gains(SEEN[:20], truth).predict(SEEN)).all()


def test_library_spectra_are_not_strange_and_those_of_an_instrument_are() -> None:
    space = ShapeSpace.of(MIXTURES / MIXTURES.mean(1, keepdims=True))
    np.testing.assert_allclose(space.directions @ space.directions.T, np.eye(12), atol=1e-9)
    brightness = float(SEEN.mean())
    usual = space.strangeness(OTHERS, brightness)
    uncalibrated = space.strangeness(OTHERS * WAVE, brightness)
    assert usual < 0.02
    assert uncalibrated > 5 * usual
    assert space.strangeness(1e4 * OTHERS * WAVE, 1e4 * brightness) == pytest.approx(uncalibrated)
    # A minority of unusual materials shows no bias of the scene.
    some = np.where(np.arange(400)[:, None] % 3 == 0, OTHERS * WAVE, OTHERS)
    assert space.strangeness(some, brightness) < 1.5 * usual


def test_a_single_band_has_no_shape() -> None:
    assert fit_mixture(MIXTURES, RESPONSE[:1]) is None


def test_the_mixture_gives_the_conditional_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[GaussianMixture] = []
    fit = GaussianMixture.fit

    def listened(self: GaussianMixture, joint: NDArray[np.float64]) -> GaussianMixture:
        heard.append(fit(self, joint))
        return heard[-1]

    monkeypatch.setattr(GaussianMixture, "fit", listened)
    found = fit_mixture(MIXTURES[:1500], RESPONSE)
    assert found is not None
    (gaussians,) = heard
    bands = len(RESPONSE) - 1
    for x in SEEN[:20]:
        brightness = x.mean()
        shape = (x[:-1] / brightness - found.band_centre) / found.band_scale
        likely, answers = [], []
        for weight, mean, covariance in zip(
            gaussians.weights_, gaussians.means_, gaussians.covariances_, strict=True
        ):
            seen, across = covariance[:bands, :bands], covariance[bands:, :bands]
            likely.append(weight * multivariate_normal(mean[:bands], seen).pdf(shape))
            answers.append(mean[bands:] + across @ np.linalg.inv(seen) @ (shape - mean[:bands]))
        scores = np.average(answers, axis=0, weights=likely)
        expected = (found.centre + scores @ found.directions) * brightness
        np.testing.assert_allclose(found.predict(x), expected, atol=1e-9)


def test_the_mixture_knows_spectra_that_it_has_not_seen(mixture: ShapeMixture) -> None:
    assert rmse(mixture.predict(SEEN), OTHERS, SEEN) < 0.3 * rmse(0 * OTHERS, OTHERS, SEEN)


def test_the_mixture_goes_on_linearly_far_from_the_library(mixture: ShapeMixture) -> None:
    away = np.array([3.0, -0.5, -1.5, -1.0])
    line = SEEN[0] / SEEN[0].mean() + np.array([10.0, 11.0, 12.0])[:, None] * away
    near, middle, far = mixture.predict(line)
    np.testing.assert_allclose(far - middle, middle - near, rtol=1e-6, atol=1e-8)


def test_the_gaussians_are_fitted_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    fit = GaussianMixture.fit

    def listened(self: GaussianMixture, joint: NDArray[np.float64]) -> GaussianMixture:
        heard.extend(pool["num_threads"] for pool in threadpool_info())
        return fit(self, joint)

    monkeypatch.setattr(GaussianMixture, "fit", listened)
    with threadpool_limits(2):
        fit_mixture(MIXTURES[:300], RESPONSE)
    assert set(heard) == {1}


def test_the_same_mixtures_give_the_same_gaussians() -> None:
    one, same = (fit_mixture(MIXTURES[:1500], RESPONSE) for _ in range(2))
    assert one is not None
    assert same is not None
    np.testing.assert_array_equal(one.predict(SEEN), same.predict(SEEN))
