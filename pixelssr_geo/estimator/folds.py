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

    from pixelssr_geo.estimator.estimator import Estimator
    from pixelssr_geo.labels import Labels


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


def withheld_errors(
    fit: Callable[[Labels], Estimator], labels: Labels, folds: SpatialFolds
) -> NDArray[np.float64]:
    """Truth minus estimate at each point, fitted without its spatial block, ``(point, channel)``."""
    errors = np.empty_like(labels.spectra)
    for number in range(folds.count):
        out = folds.fold == number
        estimator = fit(labels.take(~out))
        errors[out] = labels.spectra[out] - estimator.at(labels.bands[out])
    return errors
