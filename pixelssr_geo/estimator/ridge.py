"""Ridge regression in closed form, with the strength set by leave-one-out error.

One routine serves the library's regressions (tens of thousands of mixtures) and the plain per-pixel
ones on the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import combinations_with_replacement
from operator import mul
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.estimator.arrays import functions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STRENGTHS = tuple(float(value) for value in np.logspace(-6, 3, 19))
"""Ridge strengths tried where the samples alone decide."""

TIE = 1e-4
"""Strengths whose criteria differ by less are equally good."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Monomials of standardised bands."""

    centre: NDArray[np.float64]
    """Subtracted from the bands first, ``(band,)``."""
    scale: NDArray[np.float64]
    """Divides the centred bands, ``(band,)``."""
    degree: int
    """Highest total degree."""

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Monomials of degree 1 to :attr:`degree`, ``(..., band)`` to ``(..., feature)``."""
        z = (x - self.centre) / self.scale
        columns = [z[..., i] for i in range(z.shape[-1])]
        monomials: NDArray[np.float64] = functions_of(x).stack(
            [
                reduce(mul, (columns[i] for i in chosen))
                for order in range(1, self.degree + 1)
                for chosen in combinations_with_replacement(range(len(columns)), order)
            ],
            -1,
        )
        return monomials


def standardised(x: NDArray[np.float64], degree: int) -> Features:
    """Monomials of the bands standardised by the samples ``(sample, band)`` themselves."""
    deviation = x.std(0)
    return Features(x.mean(0), np.where(deviation > 1e-9, deviation, 1.0), degree)


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """A fitted ridge regression from bands to channels."""

    features: Features
    """What the regression sees of a pixel."""
    offset: NDArray[np.float64]
    """Subtracted from the features: their mean over the samples, ``(feature,)``."""
    coefficients: NDArray[np.float64]
    """``(feature, channel)``."""
    intercept: NDArray[np.float64]
    """Prediction where the features equal the offset, ``(channel,)``."""
    covariance: NDArray[np.float64]
    """Of the coefficients in units of the noise variance, ``(feature, feature)``."""
    base_variance: float
    """Variance of the intercept in the same units."""
    strength: float
    """The ridge strength that won."""
    residuals: NDArray[np.float64]
    """Leave-one-out residuals, truth minus prediction, ``(sample, channel)``; zero of a single one."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictions ``(..., channel)`` for bands ``(..., band)``."""
        return (self.features(x) - self.offset) @ self.coefficients + self.intercept

    def leverage(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance of the prediction's mean in units of the noise variance, ``(...)``."""
        f = self.features(x) - self.offset
        leverage: NDArray[np.float64] = ((f @ self.covariance) * f).sum(-1) + self.base_variance
        return leverage


def fit_ridge(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    features: Features,
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> Ridge:
    """A ridge regression of ``y`` on features of ``x``, its strength by leave-one-out error.

    Parameters
    ----------
    x, y
        Bands ``(sample, band)`` and targets ``(sample, channel)``.
    features
        Features of the bands.
    strengths
        Candidates. The larger wins a tie, and a single sample, which leaves nothing to choose by,
        takes the largest.
    """
    raw = features(x)
    offset, intercept = raw.mean(0), y.mean(0)
    base = 1 / len(x)
    # With F = U s V^T the hat matrix of strength k is U diag(s^2 / (s^2 + k)) U^T, plus 1/n for
    # the intercept, and a left-out residual is the residual over one minus the leverage.
    left, singular, right = np.linalg.svd(raw - offset, full_matrices=False)
    projected = left.T @ (y - intercept)

    def left_out(strength: float) -> NDArray[np.float64]:
        shrink = singular**2 / (singular**2 + strength)
        fitted = left @ (shrink[:, None] * projected)
        hat = (left**2) @ shrink + base
        # With few samples and a small strength 1 - hat is tiny and still exact to many digits.
        return np.asarray((y - intercept - fitted) / np.maximum(1 - hat, 1e-12)[:, None])

    def criterion(strength: float) -> float:
        if len(x) == 1:
            return -strength
        return float(len(x) * np.log((left_out(strength) ** 2).sum() + 1e-12))

    tried = sorted(strengths, reverse=True)
    criteria = np.array([criterion(strength) for strength in tried])
    # The first within rounding of the least: two samples, for one, leave every strength equal.
    best = tried[int(np.argmax(criteria <= criteria.min() + TIE))]
    coefficients = right.T @ ((singular / (singular**2 + best))[:, None] * projected)
    # Directions that the samples say nothing about keep their prior variance, 1 / strength.
    unseen = np.eye(raw.shape[1]) - right.T @ right
    covariance = right.T @ np.diag(1 / (singular**2 + best)) @ right + unseen / best
    residuals = y - intercept if len(x) == 1 else left_out(best)
    return Ridge(
        features,
        offset,
        coefficients,
        intercept,
        covariance,
        base,
        best,
        residuals,
    )
