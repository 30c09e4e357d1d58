"""The gate: how much of a network's correction withheld spatial blocks allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelssr_geo.estimator.folds import SpatialFolds

CONFIDENCE = 0.95
"""One-sided confidence that the gain is above zero before the gate opens."""

RESAMPLES = 2000
"""Bootstrap draws over spatial blocks."""


@dataclass(frozen=True, slots=True)
class Gate:
    """How far a correction is let through, and the withheld-block figures behind it."""

    value: float
    """Factor on the correction, 0 (shut) to 1."""
    least_squares: float
    """The factor that fits the withheld points best, before the confidence rule, 0 to 1."""
    rmse_before: float
    """Error of the estimator at withheld points."""
    rmse_after: float
    """Error with the correction, its factor taken from the other folds."""
    gain: float
    """Mean drop of the squared error per withheld point and channel."""
    gain_lower: float
    """Lower confidence bound of :attr:`gain`."""
    points: int
    """Withheld points."""
    blocks: int
    """Spatial blocks that they lie in."""

    def __str__(self) -> str:
        state = f"open at {self.value:.2f}" if self.value else "shut"
        return (
            f"gate {state}: withheld-block RMSE {self.rmse_before:.5f} -> {self.rmse_after:.5f} "
            f"over {self.points} points in {self.blocks} blocks, gain {self.gain:.3g} "
            f"(lower bound {self.gain_lower:.3g})"
        )


def fit_gate(
    errors: NDArray[np.float64],
    corrections: NDArray[np.float64],
    folds: SpatialFolds,
    *,
    seed: int = 0,
) -> Gate:
    """The gate for corrections predicted at withheld points.

    Its factor is the least-squares best in [0, 1]. It opens only if the gain's lower confidence
    bound, by a bootstrap over spatial blocks with the factor always taken from the other folds,
    lies above zero.

    Parameters
    ----------
    errors
        Truth minus estimator at each point, fitted without the point's fold, ``(point, channel)``.
    corrections
        What the network, trained without the point's fold, would add there, ``(point, channel)``.
    folds
        Which points were withheld together.
    """
    best = _factor(errors, corrections)
    after = np.empty_like(errors)
    for number in range(folds.count):
        out = folds.fold == number
        factor = _factor(errors[~out], corrections[~out])
        after[out] = errors[out] - factor * corrections[out]
    drop = (errors**2).mean(1) - (after**2).mean(1)
    lower = _lower_bound(drop, folds.block, seed)
    return Gate(
        value=best if lower > 0 else 0.0,
        least_squares=best,
        rmse_before=float(np.sqrt((errors**2).mean())),
        rmse_after=float(np.sqrt((after**2).mean())),
        gain=float(drop.mean()),
        gain_lower=lower,
        points=len(errors),
        blocks=len(np.unique(folds.block)),
    )


def _factor(errors: NDArray[np.float64], corrections: NDArray[np.float64]) -> float:
    energy = float((corrections**2).sum())
    return float(np.clip((errors * corrections).sum() / energy, 0, 1)) if energy > 0 else 0.0


def _lower_bound(drop: NDArray[np.float64], block: NDArray[np.int64], seed: int) -> float:
    _, inverse = np.unique(block, return_inverse=True)
    sums, sizes = np.bincount(inverse, drop), np.bincount(inverse)
    draws = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    return float(np.quantile(means, 1 - CONFIDENCE))
