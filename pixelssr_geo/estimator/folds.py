"""Withheld spatial blocks: points near each other are left out together.

Leaving out single points flatters an estimator where points are clustered, so every accuracy that
is reported, and the gate of the network, comes from whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pixelssr_geo.estimator.contract import Estimator
    from pixelssr_geo.labels import Labels

WIDENING_POINTS = 20
"""Withheld points from which they alone say how large deviations should be."""

RESAMPLES = 500
"""Bootstrap draws over spatial blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class SpatialFolds:
    """Points grouped into spatial blocks, and blocks into folds."""

    block: NDArray[np.int64]
    """Spatial block of each point, ``(point,)``."""
    fold: NDArray[np.int64]
    """Fold of each point, ``(point,)``; all points of a block share it."""
    count: int
    """Number of folds, each of which withholds at least one point."""


def spatial_folds(
    rows: NDArray[np.int64], cols: NDArray[np.int64], *, folds: int, seed: int = 0
) -> SpatialFolds:
    """Group points into blocks of the points' bounding box and deal the blocks to folds.

    The box is cut into so many rows and columns that a block holds about three points, with at
    most ten a side. Blocks are dealt in random order, each to the fold with the fewest points.

    Parameters
    ----------
    rows, cols
        Pixels of the points, ``(point,)``.
    folds
        Wished number of folds; fewer where there are fewer blocks with points.
    seed
        Of the dealing.
    """
    sides = int(np.clip(np.sqrt(len(rows) / 3), 2, 10))
    block = _cell(rows, sides) * sides + _cell(cols, sides)
    names, inverse, sizes = np.unique(block, return_inverse=True, return_counts=True)
    count = min(folds, len(names))
    held = np.zeros(count, "i8")
    fold_of = np.zeros(len(names), "i8")
    for index in np.random.default_rng(seed).permutation(len(names)):
        fold_of[index] = held.argmin()
        held[fold_of[index]] += sizes[index]
    return SpatialFolds(inverse.astype("i8"), fold_of[inverse], count)


def _cell(position: NDArray[np.int64], sides: int) -> NDArray[np.int64]:
    low, extent = position.min(), np.ptp(position) + 1
    return np.asarray((position - low) * sides // extent, "i8")


def withheld(
    fit: Callable[[Labels], Estimator], labels: Labels, folds: SpatialFolds
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Error at each point, truth minus estimate, and the deviation told for it.

    Each is ``(point, channel)``, by an estimator that was fitted without the point's block.
    """
    errors, deviations = np.empty_like(labels.spectra), np.empty_like(labels.spectra)
    for number in range(folds.count):
        out = folds.fold == number
        estimator, missing = fit(labels.take(~out)), labels.take(out)
        errors[out] = missing.spectra - estimator.at(missing)
        deviations[out] = estimator.deviation_at(missing)
    return errors, deviations


def widening(errors: NDArray[np.float64], deviations: NDArray[np.float64]) -> float:
    """Factor on deviations under which they hold as often as they should.

    Between the factors for 68 % within one deviation and 95 % within 1.96, as errors have longer
    tails than a normal distribution. The fewer the points, the nearer to one.

    Parameters
    ----------
    errors, deviations
        At withheld points, ``(point, channel)``.
    """
    ratio = np.abs(errors) / np.maximum(deviations, 1e-12)
    one, two = np.quantile(ratio, [0.683, 0.95])
    wanted = np.sqrt(max(one, 1e-6) * max(two, 1e-6) / 1.96)
    return float(wanted ** min(len(errors) / WIDENING_POINTS, 1.0))


def rmse_spread(errors: NDArray[np.float64], block: NDArray[np.int64], *, seed: int = 0) -> float:
    """Standard error of the root mean square of errors ``(point, channel)``, over blocks ``(point,)``.

    NaN where all points lie in one block.
    """
    _, inverse = np.unique(block, return_inverse=True)
    sums, sizes = np.bincount(inverse, (errors**2).mean(1)), np.bincount(inverse)
    if len(sums) < 2:
        return float("nan")
    draws = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    return float(np.sqrt(sums[draws].sum(1) / sizes[draws].sum(1)).std())
