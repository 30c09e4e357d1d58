"""Weights of several estimates: the least of what they say they minimise."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelssr_geo.estimator.blend import LEAST_WEIGHT, blend_weights

Array = NDArray[np.float64]


def make_errors(
    estimates: int, points: int, *, channels: int = 3, common: float = 1.0, seed: int = 0
) -> Array:
    """Errors that the estimates partly share, some estimates better than others."""
    draws = np.random.default_rng(seed)
    shared = common * draws.standard_normal((points, channels))
    sizes = np.exp(draws.uniform(-2, 2, (estimates, 1, 1)))
    return shared + sizes * draws.standard_normal((estimates, points, channels))


def make_trust(estimates: int, seed: int = 0) -> Array:
    return np.exp(np.random.default_rng([seed, 1]).uniform(-2, 2, estimates))


def cost(weights: Array, errors: Array, trust: Array) -> float:
    """The mean's squared error, and how far the weights go from the trust, by plain sums."""
    count, points, channels = errors.shape
    energies = [float((error**2).sum()) for error in errors]
    usual = float(np.median(energies))
    total = 0.0
    for point, channel in product(range(points), range(channels)):
        mean = sum(w * errors[k, point, channel] for k, w in enumerate(weights))
        total += mean**2
    share = trust / trust.sum()
    away = sum(w**2 / s for w, s in zip(weights, share, strict=True)) / count
    return float(total + 20 / points * usual * away)


def grid(estimates: int, steps: int = 40) -> list[Array]:
    """Weights on the simplex, a fortieth apart."""
    whole = range(steps + 1)
    firsts = product(whole, repeat=estimates - 1)
    return [np.array([*some, steps - sum(some)]) / steps for some in firsts if sum(some) <= steps]


cases = given(
    estimates=st.integers(1, 7),
    points=st.integers(1, 30),
    common=st.sampled_from([0.0, 1.0, 10.0]),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=100, deadline=None)
@cases
def test_weights_are_shares(estimates: int, points: int, common: float, seed: int) -> None:
    errors = make_errors(estimates, points, common=common, seed=seed)
    weights = blend_weights(errors, make_trust(estimates, seed))
    assert weights.sum() == pytest.approx(1)
    assert ((weights == 0) | (weights >= LEAST_WEIGHT)).all()


@settings(max_examples=40, deadline=None)
@given(
    estimates=st.integers(2, 3),
    points=st.sampled_from([1, 2, 5, 20, 100]),
    common=st.sampled_from([0.0, 1.0, 10.0]),
    seed=st.integers(0, 10_000),
)
def test_no_weights_on_a_grid_are_better(
    estimates: int, points: int, common: float, seed: int
) -> None:
    errors = make_errors(estimates, points, channels=2, common=common, seed=seed)
    trust = make_trust(estimates, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelssr_geo.estimator.blend.LEAST_WEIGHT", 0.0)
        found = cost(blend_weights(errors, trust), errors, trust)
    best = min(cost(weights, errors, trust) for weights in grid(estimates, steps=20))
    assert found <= best * (1 + 1e-9)
    # What is left out for being small costs little.
    assert cost(blend_weights(errors, trust), errors, trust) <= best * 1.05


@settings(max_examples=40, deadline=None)
@cases
def test_neither_the_order_nor_the_size_of_errors_matters(
    estimates: int, points: int, common: float, seed: int
) -> None:
    errors = make_errors(estimates, points, common=common, seed=seed)
    trust = make_trust(estimates, seed)
    weights = blend_weights(errors, trust)
    order = np.random.default_rng(seed).permutation(estimates)
    np.testing.assert_allclose(
        blend_weights(errors[order], trust[order]), weights[order], atol=1e-9
    )
    np.testing.assert_allclose(blend_weights(1e4 * errors, trust), weights, atol=1e-9)
    np.testing.assert_allclose(blend_weights(errors, 7 * trust), weights, atol=1e-9)


def test_without_errors_the_weights_are_the_trust() -> None:
    trust = np.array([2.0, 1.0, 1.0])
    np.testing.assert_allclose(blend_weights(np.zeros((3, 5, 4)), trust), [0.5, 0.25, 0.25])


def test_estimates_that_err_alike_share_by_trust() -> None:
    same = np.ones((3, 6, 4))
    np.testing.assert_allclose(blend_weights(same, np.array([2.0, 1.0, 1.0])), [0.5, 0.25, 0.25])


def test_one_estimate_has_all_the_weight() -> None:
    assert blend_weights(make_errors(1, 5), np.array([0.3])).tolist() == [1.0]


def test_the_more_points_the_less_the_trust_counts() -> None:
    errors = make_errors(2, 400, common=0, seed=3)
    errors[0] *= 0.3 / errors[0].std()
    errors[1] *= 1.0 / errors[1].std()
    trust = np.array([1.0, 10.0])
    weights = [blend_weights(errors[:, :points], trust)[0] for points in (1, 5, 20, 400)]
    assert weights == sorted(weights)
    assert weights[0] < 0.5 < weights[-1]
    # Independent errors of deviations 0.3 and 1 are best averaged by their inverse variances.
    many = blend_weights(np.tile(errors, (1, 50, 1)), trust)[0]
    assert many == pytest.approx(1 / (1 + 0.3**2), abs=0.02)


def test_opposite_errors_cancel() -> None:
    one = np.random.default_rng(0).standard_normal((200, 3))
    weights = blend_weights(np.stack([one, -one]), np.ones(2))
    np.testing.assert_allclose(weights, [0.5, 0.5])


def test_an_estimate_that_says_nothing_new_and_is_worse_has_no_weight() -> None:
    one = np.random.default_rng(0).standard_normal((200, 3))
    assert blend_weights(np.stack([one, 3 * one]), np.ones(2)).tolist() == [1.0, 0.0]
