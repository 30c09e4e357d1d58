"""Means of replicate scans, their standard deviation, and scans that are unlike the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEWEST = 4
"""Scans of a target from which on one can be told to be unlike the rest."""
_SCORE = 6.0
_LEAST_SHARE = 0.1
_TO_SIGMA = 1.4826


def mean_and_spread(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (n - 1) of replicates, ``(wavelength,)`` each.

    Parameters
    ----------
    values
        ``(scan, wavelength)``, NaN where there is none: such values do not count. The mean of none
        and the deviation of one are NaN.
    """
    finite = np.isfinite(values)
    count = finite.sum(0)
    mean = np.full(values.shape[1], np.nan)
    np.divide(np.where(finite, values, 0.0).sum(0), count, out=mean, where=count > 0)
    squares = np.where(finite, (values - mean) ** 2, 0.0).sum(0)
    variance = np.full(values.shape[1], np.nan)
    np.divide(squares, count - 1, out=variance, where=count > 1)
    return mean, np.sqrt(variance)


def unlike_the_others(values: NDArray[np.float64]) -> list[int]:
    """Scans that lie far from the median scan, as none of the others does.

    A scan's distance is its root mean square difference from the median of all. It is far if it is
    6 robust standard deviations (1.4826 times the median absolute deviation) above the median
    distance, and a tenth of the median scan's own root mean square at least.

    Parameters
    ----------
    values
        ``(scan, wavelength)``, NaN where there is none. Of fewer than four scans none is told.
    """
    shared = np.isfinite(values).all(0)
    if len(values) < FEWEST or not shared.any():
        return []
    compared = values[:, shared]
    middle = np.median(compared, axis=0)
    distance = np.sqrt(((compared - middle) ** 2).mean(1))
    usual = np.median(distance)
    spread = _TO_SIGMA * np.median(np.abs(distance - usual))
    level = float(np.sqrt((middle**2).mean()))
    far = (distance - usual > _SCORE * spread) & (distance > _LEAST_SHARE * level)
    return [int(at) for at in np.flatnonzero(far)]


def agreed(values: Sequence[str | None]) -> str | None:
    """What all say that say anything; None if they differ."""
    said = {value for value in values if value is not None}
    return said.pop() if len(said) == 1 else None
