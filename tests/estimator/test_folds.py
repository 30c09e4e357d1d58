"""Spatial folds: points near each other are withheld together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.estimator import (
    Estimator,
    SpatialFolds,
    rmse_spread,
    spatial_folds,
    widening,
    withheld,
)
from pixelssr_geo.estimator.folds import WIDENING_POINTS
from pixelssr_geo.labels import Labels


@st.composite
def places(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Different pixels, at least one, spread or in a line."""
    height = draw(st.sampled_from([1, 2, 7, 100, 5000]))
    width = draw(st.sampled_from([1, 3, 60, 5000]))
    count = draw(st.integers(1, min(80, height * width)))
    seed = draw(st.integers(0, 1000))
    chosen = np.random.default_rng(seed).choice(height * width, count, replace=False)
    return chosen // width, chosen % width


@settings(max_examples=120, deadline=None)
@given(where=places(), folds=st.integers(2, 10), seed=st.integers(0, 5))
def test_blocks_are_whole_and_every_fold_withholds_something(
    where: tuple[np.ndarray, np.ndarray], folds: int, seed: int
) -> None:
    found = spatial_folds(*where, folds=folds, seed=seed)
    for block in np.unique(found.block):
        assert len(np.unique(found.fold[found.block == block])) == 1
    assert sorted(set(found.fold)) == list(range(found.count))
    assert found.count <= folds
    if len(where[0]) > 1:
        assert found.count >= 2, "something must be left to fit on"


def test_points_of_a_block_are_near_each_other() -> None:
    draws = np.random.default_rng(0)
    rows, cols = draws.integers(0, 1000, 90), draws.integers(0, 1000, 90)
    found = spatial_folds(rows, cols, folds=3)
    for block in np.unique(found.block):
        inside = found.block == block
        assert np.ptp(rows[inside]) <= 200
        assert np.ptp(cols[inside]) <= 200


def test_folds_hold_about_equally_many_points() -> None:
    draws = np.random.default_rng(1)
    found = spatial_folds(draws.integers(0, 500, 300), draws.integers(0, 500, 300), folds=5)
    sizes = np.bincount(found.fold)
    assert sizes.min() >= 50
    assert sizes.max() <= 70


def test_the_seed_deals_blocks_differently_and_repeatably() -> None:
    draws = np.random.default_rng(2)
    where = draws.integers(0, 500, 60), draws.integers(0, 500, 60)
    one, same, other = (spatial_folds(*where, folds=3, seed=seed).fold for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_withheld_points_are_told_by_fits_without_their_fold() -> None:
    count = 12
    labels = Labels(
        np.arange(count),
        np.zeros(count, "i8"),
        np.arange(count, dtype="f8")[:, None],
        np.arange(2 * count, dtype="f8").reshape(count, 2),
    )
    folds = SpatialFolds(np.arange(count) // 2, np.arange(count) // 2 % 3, 3)
    fitted_on: list[set[int]] = []

    class Mean:
        """Says the mean and the spread of the spectra that it was fitted on."""

        def __init__(self, kept: Labels) -> None:
            fitted_on.append(set(kept.rows.tolist()))
            self.mean, self.spread = kept.spectra.mean(0), kept.spectra.std(0)

        def at(self, labels: Labels) -> np.ndarray:
            return np.tile(self.mean, (len(labels), 1))

        def deviation_at(self, labels: Labels) -> np.ndarray:
            return np.tile(self.spread, (len(labels), 1))

    def fit(kept: Labels) -> Estimator:
        return Mean(kept)  # type: ignore[return-value]

    errors, deviations = withheld(fit, labels, folds)
    assert errors.shape == deviations.shape == labels.spectra.shape
    for number in range(3):
        out = folds.fold == number
        kept = labels.spectra[~out]
        assert fitted_on[number] == set(np.flatnonzero(~out).tolist())
        np.testing.assert_allclose(errors[out], labels.spectra[out] - kept.mean(0))
        np.testing.assert_allclose(deviations[out], np.tile(kept.std(0), (out.sum(), 1)))


def coverage(errors: np.ndarray, deviations: np.ndarray) -> tuple[float, float]:
    ratio = np.abs(errors) / deviations
    return float((ratio <= 1).mean()), float((ratio <= 1.96).mean())


@pytest.mark.parametrize("told", [0.2, 1.0, 5.0])
def test_normal_errors_are_covered_as_often_as_they_should(told: float) -> None:
    draws = np.random.default_rng(0)
    sizes = draws.uniform(0.01, 0.1, (400, 10))
    errors, deviations = sizes * draws.standard_normal(sizes.shape), told * sizes
    factor = widening(errors, deviations)
    assert factor == pytest.approx(1 / told, rel=0.05)
    one, two = coverage(errors, factor * deviations)
    assert one == pytest.approx(0.68, abs=0.02)
    assert two == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("freedom", [1.5, 3])
def test_errors_with_long_tails_are_covered_between_the_two_aims(freedom: float) -> None:
    draws = np.random.default_rng(0)
    errors = draws.standard_t(freedom, (2000, 10))
    deviations = np.full(errors.shape, 0.3)
    one, two = coverage(errors, widening(errors, deviations) * deviations)
    # Wide enough for one deviation, and not quite for the tails.
    assert 0.68 < one < 0.85
    assert 0.85 < two < 0.95


def test_few_points_widen_little() -> None:
    errors, deviations = np.full((WIDENING_POINTS, 3), 4.0), np.ones((WIDENING_POINTS, 3))
    whole = widening(errors, deviations)
    assert whole == pytest.approx(4 / np.sqrt(1.96))
    for count in (1, 5, 10, 20):
        found = widening(errors[:count], deviations[:count])
        assert found == pytest.approx(whole ** (count / WIDENING_POINTS))
    assert widening(errors[:1], deviations[:1]) < 1.1


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 1000),
    size=st.sampled_from([0.0, 1e-300, 1e-6, 1.0, 1e6]),
)
def test_widening_is_always_a_positive_number(count: int, seed: int, size: float) -> None:
    draws = np.random.default_rng(seed)
    errors = size * draws.standard_normal((count, 4))
    for deviations in (np.zeros_like(errors), np.ones_like(errors)):
        factor = widening(errors, deviations)
        assert np.isfinite(factor)
        assert factor > 0


def test_the_unit_of_errors_does_not_change_the_widening() -> None:
    draws = np.random.default_rng(0)
    errors, deviations = draws.standard_normal((2, 40, 5))
    deviations = np.abs(deviations)
    assert widening(1e4 * errors, 1e4 * deviations) == pytest.approx(widening(errors, deviations))


def test_the_spread_of_an_rmse_is_that_of_other_draws_of_the_blocks() -> None:
    draws = np.random.default_rng(0)
    block = np.repeat(np.arange(40), 3)

    def errors() -> np.ndarray:
        """Errors that the points of a block share."""
        return draws.standard_normal((40, 1)).repeat(3, 0) * np.ones((1, 6))

    figures = [np.sqrt((errors() ** 2).mean()) for _ in range(500)]
    found = np.mean([rmse_spread(errors(), block) for _ in range(30)])
    assert found == pytest.approx(np.std(figures), rel=0.15)
    single = np.mean([rmse_spread(errors(), np.arange(120)) for _ in range(30)])
    assert single < 0.7 * found, "points near each other tell less than points far apart"


def test_blocks_may_have_any_names_and_sizes() -> None:
    draws = np.random.default_rng(0)
    errors = draws.standard_normal((50, 4))
    block = np.sort(draws.integers(0, 9, 50))
    found = rmse_spread(errors, block)
    assert found > 0
    assert rmse_spread(errors, 100 * block + 7) == found
    assert rmse_spread(errors, block, seed=1) != found


def test_a_single_block_says_nothing_of_the_spread() -> None:
    assert np.isnan(rmse_spread(np.ones((5, 3)), np.full(5, 2)))


def test_equal_errors_have_no_spread() -> None:
    assert rmse_spread(np.ones((6, 3)), np.arange(6)) == 0
