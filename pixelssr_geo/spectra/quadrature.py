"""Integrals of piecewise linear spectra against piecewise linear responses, without error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class BandIntegral:
    """How a band's integral over a spectrum follows from the spectrum's samples."""

    weights: NDArray[np.float64]
    """What each sample adds to the integral, nm, ``(band, sample)``."""
    covered: NDArray[np.float64]
    """Share of each band's response that samples stand behind, 0 to 1, ``(band,)``."""
    centroid_nm: NDArray[np.float64]
    """Centroid of that share, nm, ``(band,)``; NaN where nothing is covered."""
    spread_nm: NDArray[np.float64]
    """Standard deviation of that share about the centroid, nm, ``(band,)``; NaN likewise."""


def integrate_bands(
    wavelengths_nm: NDArray[np.float64],
    response: NDArray[np.float64],
    samples_nm: NDArray[np.float64],
    range_nm: tuple[float, float],
    broken: NDArray[np.bool_] | None = None,
) -> BandIntegral:
    """Weights that integrate response times spectrum, both linear between their samples.

    Between two neighbouring wavelengths of either list the product is a parabola, for which
    Simpson's rule is exact. Beyond the outer samples, up to the range's ends, the spectrum is
    held constant.

    Parameters
    ----------
    wavelengths_nm
        Of the response, ``(wavelength,)``, ascending; the response is zero outside.
    response
        ``(band, wavelength)``, each with an integral above zero.
    samples_nm
        Of the spectrum, ``(sample,)``, ascending.
    range_nm
        Where the spectrum is known.
    broken
        Intervals between neighbouring samples over which it is not, ``(sample - 1,)``.
    """
    low, high = range_nm
    nodes = np.concatenate([wavelengths_nm, samples_nm, [low, high]])
    nodes = np.unique(nodes.clip(max(low, wavelengths_nm[0]), min(high, wavelengths_nm[-1])))
    nodes = nodes[(nodes >= low) & (nodes <= high)]
    left, right = nodes[:-1], nodes[1:]
    middle = (left + right) / 2
    if broken is not None and broken.any():
        interval = np.searchsorted(samples_nm, middle) - 1
        inside = (interval >= 0) & (interval < len(broken))
        known = ~(inside & broken[interval.clip(0, len(broken) - 1)])
        left, middle, right = left[known], middle[known], right[known]

    points = np.concatenate([left, middle, right])
    simpson = np.concatenate([np.ones_like(left), np.full_like(left, 4.0), np.ones_like(left)]) / 6
    simpson *= np.tile(right - left, 3)
    amounts = simpson * np.stack([np.interp(points, wavelengths_nm, row) for row in response])

    index, fraction = locate(points, samples_nm)
    upper = (index + 1).clip(max=len(samples_nm) - 1)
    weights = np.stack(
        [
            np.bincount(index, row * (1 - fraction), len(samples_nm))
            + np.bincount(upper, row * fraction, len(samples_nm))
            for row in amounts
        ]
    )
    inside_integral = amounts.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = amounts / inside_integral[:, None]
    centroid = share @ points
    spread = np.sqrt((share * (points - centroid[:, None]) ** 2).sum(1))
    covered = inside_integral / np.trapezoid(response, wavelengths_nm, axis=1)
    return BandIntegral(weights, covered.clip(0, 1), centroid, spread)


def locate(
    points: NDArray[np.float64], samples: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index of the sample below each point and how far towards the next it lies, 0 to 1.

    Points beyond the outer samples are at these.
    """
    if len(samples) == 1:
        return np.zeros(points.shape, dtype=np.int64), np.zeros(points.shape)
    index = np.searchsorted(samples, points, side="right").astype(np.int64) - 1
    index = index.clip(0, len(samples) - 2)
    fraction = (points - samples[index]) / (samples[index + 1] - samples[index])
    return index, fraction.clip(0, 1)


def local_spacing(wavelengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance to both neighbours, at the ends to the only one; 0 for a single sample."""
    if wavelengths.size == 1:
        return np.zeros(1)
    steps = np.diff(wavelengths)
    spacing: NDArray[np.float64] = (np.append(steps, steps[-1]) + np.insert(steps, 0, steps[0])) / 2
    return spacing
