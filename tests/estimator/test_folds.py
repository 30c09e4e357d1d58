"""Spatial folds: points near each other are withheld together."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.estimator import Estimator, SpatialFolds, spatial_folds, withheld_errors
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


def test_withheld_errors_come_from_fits_without_the_fold() -> None:
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
        """Predicts the mean of the spectra that it was fitted on."""

        def __init__(self, kept: Labels) -> None:
            fitted_on.append(set(kept.rows.tolist()))
            self.mean = kept.spectra.mean(0)

        def at(self, bands: np.ndarray) -> np.ndarray:
            return np.tile(self.mean, (len(bands), 1))

    def fit(kept: Labels) -> Estimator:
        return Mean(kept)  # type: ignore[return-value]

    errors = withheld_errors(fit, labels, folds)
    for number in range(3):
        out = folds.fold == number
        assert fitted_on[number] == set(np.flatnonzero(~out).tolist())
        np.testing.assert_allclose(errors[out], labels.spectra[out] - labels.spectra[~out].mean(0))
