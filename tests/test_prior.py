"""Modelled point spectra follow their distribution, and every draw stands alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import PointsError, SettingsError
from pixelssr_geo.prior import (
    GammaPrior,
    GaussianPrior,
    fit_prior,
    given_prior,
    modelled_points,
    point_mask,
)

KINDS = ("gamma", "gamma-correlated", "gaussian")
SPECTRA = np.random.default_rng(0).gamma([2.0, 3.0, 9.0], [0.1, 0.08, 0.03], size=(500, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_moments_of_the_spectra(kind: str) -> None:
    drawn = fit_prior(SPECTRA, kind).sample((300, 300), seed=1, stream=2)
    np.testing.assert_allclose(drawn.mean((1, 2)), SPECTRA.mean(0), rtol=0.02)
    np.testing.assert_allclose(drawn.std((1, 2)), SPECTRA.std(0), rtol=0.02)


def test_gamma_draws_are_skewed_and_not_negative() -> None:
    drawn = fit_prior(SPECTRA).sample((200, 200), seed=0, stream=0)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    skewness = ((drawn - drawn.mean((1, 2), keepdims=True)) ** 3).mean((1, 2))
    assert (skewness / drawn.std((1, 2)) ** 3 > 0.5).all()


def correlations(prior: GammaPrior) -> np.ndarray:
    drawn = prior.sample((300, 300), seed=3, stream=4)
    return np.corrcoef(drawn.reshape(len(drawn), -1))


def test_channels_of_the_plain_gamma_are_independent() -> None:
    found = correlations(GammaPrior(np.array([2.0, 2.0, 3.0]), np.ones(3)))
    np.testing.assert_allclose(found, np.eye(3), atol=0.02)


def test_correlation_falls_off_with_the_distance_of_channels() -> None:
    prior = GammaPrior(np.array([2.0, 2.0, 2.5, 2.5]), np.ones(4), 0.8)
    distance = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    np.testing.assert_allclose(correlations(prior), 0.8**distance, atol=0.02)


def test_correlated_channels_keep_their_distribution() -> None:
    shape, scale = np.array([0.5, 4.0, 1.0]), np.array([1.0, 0.2, 0.5])
    plain = GammaPrior(shape, scale).sample((300, 300), seed=0, stream=0)
    linked = GammaPrior(shape, scale, 0.9).sample((300, 300), seed=0, stream=0)
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    for a, b in zip(plain, linked, strict=True):
        np.testing.assert_allclose(
            np.quantile(b, quantiles), np.quantile(a, quantiles), rtol=0.04, atol=2e-3
        )


def test_full_correlation_gives_one_shape() -> None:
    drawn = GammaPrior(np.full(3, 2.0), np.array([1.0, 2.0, 4.0]), 1.0).sample(
        (8, 8), seed=0, stream=0
    )
    np.testing.assert_allclose(drawn[1], 2 * drawn[0], rtol=1e-6)


def test_fitted_correlation_is_that_of_the_spectra() -> None:
    rng = np.random.default_rng(1)
    smooth = rng.gamma(5.0, 0.05, size=(400, 1)) * np.linspace(0.8, 1.2, 6)
    noisy = rng.gamma(5.0, 0.05, size=(400, 6))
    assert fit_prior(smooth, "gamma-correlated").correlation > 0.99
    assert fit_prior(noisy, "gamma-correlated").correlation < 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "spectra",
    [np.full((1, 4), 0.3), np.full((5, 4), 0.2), np.zeros((2, 4)), np.full((2, 4), -0.1)],
    ids=["one", "equal", "zero", "negative"],
)
def test_spectra_without_spread_give_a_narrow_prior(kind: str, spectra: np.ndarray) -> None:
    drawn = fit_prior(spectra, kind).sample((50, 50), seed=0, stream=0)
    expected = max(float(spectra[0, 0]), 1e-4)
    np.testing.assert_allclose(drawn.mean(), expected, rtol=0.02)
    np.testing.assert_allclose(drawn.std(axis=(1, 2)), 0.05 * expected, rtol=0.1)


def test_missing_values_are_passed_over() -> None:
    spectra = SPECTRA.copy()
    spectra[::2, 1] = np.nan
    assert np.isfinite(fit_prior(spectra, "gamma-correlated").shape).all()
    with pytest.raises(PointsError, match="1 channels"):
        fit_prior(np.where(np.arange(3) == 2, np.nan, SPECTRA))


@pytest.mark.parametrize("spectra", [np.empty((0, 4)), np.ones(4)], ids=["none", "vector"])
def test_no_spectra_are_refused(spectra: np.ndarray) -> None:
    with pytest.raises(PointsError):
        fit_prior(spectra)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_depend_on_their_key_alone(kind: str) -> None:
    prior = fit_prior(SPECTRA, kind)
    forward = [prior.sample((6, 5), seed=9, stream=s) for s in range(4)]
    backward = [prior.sample((6, 5), seed=9, stream=s) for s in reversed(range(4))][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert len({draw.tobytes() for draw in forward}) == 4
    assert not np.array_equal(prior.sample((6, 5), seed=8, stream=0), forward[0])


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(1e-6, 1.0),
    st.integers(0, 2**63),
    st.integers(0, 9),
)
def test_mask_has_exactly_its_share_of_pixels(
    rows: int, columns: int, ratio: float, seed: int, stream: int
) -> None:
    mask = point_mask((rows, columns), ratio, seed=seed, stream=stream)
    assert mask.shape == (rows, columns)
    assert mask.sum() == max(1, int(ratio * rows * columns + 1e-9))
    np.testing.assert_array_equal(
        mask, point_mask((rows, columns), ratio, seed=seed, stream=stream)
    )


def test_one_pixel_of_a_patch_is_a_hundredth_of_a_percent() -> None:
    assert point_mask((128, 128), 1e-4, seed=0, stream=0).sum() == 1
    assert point_mask((10, 10), 0.29, seed=0, stream=0).sum() == 29


def test_masked_pixels_are_equally_likely() -> None:
    total = sum(point_mask((4, 5), 0.25, seed=0, stream=s).astype(int) for s in range(2000))
    np.testing.assert_allclose(total, 500, atol=100)


def test_modelled_points_are_zero_off_the_mask() -> None:
    prior = fit_prior(SPECTRA)
    points = modelled_points(prior, (9, 7), 0.1, seed=5, stream=6)
    mask = point_mask((9, 7), 0.1, seed=5, stream=6)
    assert points.dtype == np.float32
    assert not points[:, ~mask].any()
    np.testing.assert_array_equal(points[:, mask], prior.sample((9, 7), seed=5, stream=6)[:, mask])


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.1, float("nan")])
def test_senseless_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(SettingsError, match="ratio"):
        point_mask((4, 4), ratio, seed=0, stream=0)


def test_senseless_parameters_are_refused() -> None:
    one = np.ones(1)
    for make in (
        lambda: GammaPrior(0 * one, one),
        lambda: GammaPrior(one, np.ones(2)),
        lambda: GammaPrior(one, np.array([np.nan])),
        lambda: GammaPrior(one, one, 1.5),
        lambda: GaussianPrior(one, -one),
        lambda: GaussianPrior(one, one).sample((2, 2), seed=-1, stream=0),
        lambda: fit_prior(SPECTRA, "beta"),
    ):
        with pytest.raises(SettingsError):
            make()


@pytest.mark.parametrize(("kind", "mean", "std"), [("gamma", 0.2, 0.1), ("gaussian", 4.0, 0.05)])
def test_given_parameters_hold_for_every_channel(kind: str, mean: float, std: float) -> None:
    prior = given_prior(4.0, 0.05, 3, kind)
    drawn = prior.sample((200, 200), seed=0, stream=0).reshape(3, -1)
    np.testing.assert_allclose(drawn.mean(1), mean, rtol=0.01)
    np.testing.assert_allclose(drawn.std(1), std, rtol=0.02)


def test_the_letter_of_equation_2_blanks_the_selected_pixels() -> None:
    prior = given_prior(4.0, 0.05, 2)
    kept = modelled_points(prior, (8, 8), 0.25, seed=1, stream=2)
    rest = modelled_points(prior, (8, 8), 0.25, seed=1, stream=2, removed=True)
    assert (kept.any(0) ^ rest.any(0)).all()
    assert kept.any(0).sum() == 16
    np.testing.assert_array_equal(kept + rest, prior.sample((8, 8), seed=1, stream=2))
