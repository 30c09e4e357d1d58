"""The closed-form ridge regression against brute force and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge as SklearnRidge

from pixelssr_geo.estimator.ridge import Features, Ridge, fit_ridge, standardised

Array = NDArray[np.float64]


def make_samples(count: int, bands: int, channels: int = 3, seed: int = 0) -> tuple[Array, Array]:
    draws = np.random.default_rng(seed)
    x = draws.normal(0.2, 0.1, (count, bands))
    y = np.sin(x @ draws.normal(size=(bands, channels))) + draws.normal(0, 0.05, (count, channels))
    return x, y


def plain(bands: int, degree: int = 1) -> Features:
    """Features that do not depend on the samples, so that leaving one out changes no feature."""
    return Features(np.full(bands, 0.2), np.full(bands, 0.1), degree)


def fit_one(x: Array, y: Array, features: Features, strength: float) -> Ridge:
    return fit_ridge(x, y, features, strengths=[strength])


def test_features_are_all_monomials_up_to_the_degree() -> None:
    features = Features(np.array([1.0, 2.0]), np.array([2.0, 4.0]), 2)
    a, b = (3.0 - 1) / 2, (10.0 - 2) / 4
    np.testing.assert_allclose(features(np.array([3.0, 10.0])), [a, b, a * a, a * b, b * b])


def test_standardising_leaves_a_constant_band_finite() -> None:
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(standardised(x, 1)(x), [[-1, 0], [1, 0]])


@pytest.mark.parametrize("strength", [1e-4, 0.3, 50.0])
@pytest.mark.parametrize("count", [3, 8, 60])
def test_predictions_equal_scikit_learn(count: int, strength: float) -> None:
    x, y = make_samples(count, bands=5)
    features = plain(5, degree=2)
    ours = fit_one(x, y, features, strength)
    theirs = SklearnRidge(alpha=strength, solver="svd").fit(features(x), y)
    elsewhere, _ = make_samples(20, bands=5, seed=9)
    np.testing.assert_allclose(
        ours.predict(elsewhere), theirs.predict(features(elsewhere)), rtol=1e-8, atol=1e-9
    )


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 12),
    bands=st.integers(1, 6),
    degree=st.integers(1, 2),
    strength=st.floats(-6, 3).map(lambda power: 10.0**power),
    seed=st.integers(0, 1000),
)
def test_residuals_equal_refits_without_each_sample(
    count: int, bands: int, degree: int, strength: float, seed: int
) -> None:
    x, y = make_samples(count, bands, seed=seed)
    features = plain(bands, degree)
    found = fit_one(x, y, features, strength).residuals
    for left_out in range(count):
        kept = np.arange(count) != left_out
        known = fit_one(x[kept], y[kept], features, strength)
        expected = y[left_out] - known.predict(x[left_out])
        np.testing.assert_allclose(found[left_out], expected, rtol=1e-4, atol=1e-6)


def test_a_single_sample_is_predicted_everywhere() -> None:
    x, y = make_samples(1, bands=4)
    fitted = fit_ridge(x, y, plain(4))
    np.testing.assert_allclose(fitted.predict(x + 1), y)
    np.testing.assert_allclose(fitted.residuals, 0)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 12),
    bands=st.integers(1, 5),
    strength=st.sampled_from([1e-3, 0.2, 30.0]),
    seed=st.integers(0, 1000),
)
def test_leverage_equals_the_normal_equations(
    count: int, bands: int, strength: float, seed: int
) -> None:
    x, y = make_samples(count, bands, seed=seed)
    features = plain(bands, 2)
    fitted = fit_one(x, y, features, strength)
    f = features(x) - features(x).mean(0)
    inverse = np.linalg.inv(f.T @ f + strength * np.eye(f.shape[1]))
    elsewhere, _ = make_samples(7, bands, seed=seed + 1)
    g = features(elsewhere) - features(x).mean(0)
    expected = np.einsum("if,fg,ig->i", g, inverse, g) + 1 / count
    np.testing.assert_allclose(fitted.leverage(elsewhere), expected, rtol=1e-5, atol=1e-8)


def test_shapes_follow_those_of_the_bands() -> None:
    x, y = make_samples(9, bands=4)
    fitted = fit_ridge(x, y, plain(4))
    block = np.zeros((5, 6, 4))
    assert fitted.predict(block).shape == (5, 6, 3)
    assert fitted.leverage(block).shape == (5, 6)


def test_noise_asks_for_more_strength_than_a_clean_line() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(0.2, 0.1, (40, 4))
    clean = x @ draws.normal(size=(4, 2))
    noise = draws.normal(size=(40, 2))
    assert fit_ridge(x, clean, plain(4)).strength < 1e-4
    assert fit_ridge(x, noise, plain(4)).strength > 1


def test_two_samples_take_the_largest_strength() -> None:
    # Left out, the other sample is all that is known, whatever the strength: a tie.
    x, y = make_samples(2, bands=4)
    fitted = fit_ridge(x, y, standardised(x, 1), strengths=[1e-6, 1.0, 100.0])
    assert fitted.strength == 100.0
    np.testing.assert_allclose(fitted.residuals, [y[0] - y[1], y[1] - y[0]], rtol=1e-6)


def test_more_features_than_samples_do_not_make_the_smallest_strength_look_good() -> None:
    x, y = make_samples(4, bands=6, seed=3)
    noise = np.random.default_rng(1).normal(size=y.shape)
    assert fit_ridge(x, noise, plain(6, 2)).strength > 1e-3
