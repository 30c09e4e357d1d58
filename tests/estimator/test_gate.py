"""The gate opens for what withheld blocks confirm and stays shut for noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.estimator import SpatialFolds, fit_gate, spatial_folds

CHANNELS = 12


def make_folds(count: int, seed: int) -> SpatialFolds:
    draws = np.random.default_rng([seed, 1])
    return spatial_folds(draws.integers(0, 400, count), draws.integers(0, 400, count), folds=3)


def make_errors(count: int, seed: int) -> np.ndarray:
    """Errors that, as in practice, go together over the channels."""
    draws = np.random.default_rng([seed, 2])
    return 0.02 * draws.normal(size=(count, 3)) @ draws.normal(size=(3, CHANNELS))


def make_noise(count: int, seed: int) -> np.ndarray:
    draws = np.random.default_rng([seed, 3])
    return 0.02 * draws.normal(size=(count, 3)) @ draws.normal(size=(3, CHANNELS))


def test_noise_opens_it_rarely() -> None:
    opened = [
        fit_gate(make_errors(60, s), make_noise(60, s), make_folds(60, s)).value > 0
        for s in range(200)
    ]
    assert np.mean(opened) <= 0.1


@pytest.mark.parametrize("planted", [0.3, 0.6, 0.9])
def test_a_planted_correction_opens_it_at_its_factor(planted: float) -> None:
    correction = make_errors(90, seed=1)
    errors = planted * correction + 0.15 * make_noise(90, seed=2)
    gate = fit_gate(errors, correction, make_folds(90, 0))
    assert gate.value == pytest.approx(planted, abs=0.1)
    assert gate.value == gate.least_squares
    assert gate.rmse_after < gate.rmse_before
    assert 0 < gate.gain_lower < gate.gain
    assert gate.points == 90
    assert str(gate).startswith("gate open at 0.")


def test_a_perfect_correction_is_let_through_whole() -> None:
    errors = make_errors(30, seed=4)
    gate = fit_gate(errors, errors, make_folds(30, 0))
    assert gate.value == pytest.approx(1)
    assert gate.rmse_after == pytest.approx(0, abs=1e-12)


def test_too_small_a_correction_is_not_blown_up() -> None:
    errors = make_errors(60, seed=4)
    assert fit_gate(errors, errors / 5, make_folds(60, 0)).value == 1


def test_a_harmful_correction_is_shut_out() -> None:
    errors = make_errors(60, seed=5)
    gate = fit_gate(errors, -errors, make_folds(60, 0))
    assert gate.value == 0
    assert gate.rmse_after == gate.rmse_before
    assert "shut" in str(gate)


def test_no_correction_leaves_it_shut() -> None:
    errors = make_errors(60, seed=6)
    gate = fit_gate(errors, np.zeros_like(errors), make_folds(60, 0))
    assert gate.value == gate.least_squares == gate.gain == 0


def test_a_gain_in_a_single_block_is_not_enough() -> None:
    folds = make_folds(60, 0)
    errors = make_errors(60, seed=7)
    correction = 0.3 * make_noise(60, seed=8)
    lucky = folds.block == folds.block[0]
    correction[lucky] = 3 * errors[lucky]
    assert fit_gate(errors, correction, folds).value == 0


def test_it_depends_on_the_seed_of_the_bootstrap_alone() -> None:
    errors, noise, folds = make_errors(40, 0), make_noise(40, 0), make_folds(40, 0)
    one, same = (fit_gate(errors, noise + errors, folds, seed=3) for _ in range(2))
    assert one == same


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(2, 40),
    seed=st.integers(0, 1000),
    share=st.floats(-2, 2),
    size=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
)
def test_its_factor_lies_between_zero_and_one(
    count: int, seed: int, share: float, size: float
) -> None:
    errors = make_errors(count, seed)
    correction = size * (share * errors + make_noise(count, seed))
    gate = fit_gate(errors, correction, make_folds(count, seed))
    assert 0 <= gate.value <= 1
    assert gate.value in (0, gate.least_squares)
    assert np.isfinite([gate.gain, gate.gain_lower, gate.rmse_before, gate.rmse_after]).all()
