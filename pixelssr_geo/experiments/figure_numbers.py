"""The arithmetic behind the paper's figures: distributions, and what frequencies images hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Doubles = NDArray[np.float64]

NYQUIST = 0.5
"""Cycles per pixel: the highest frequency along a row or column."""

QUARTER = NYQUIST / 4
"""Cycles per pixel: where low frequencies end."""


def skewness(values: Floats, axis: int | None = None) -> Doubles:
    """Third moment about the mean over the third power of the deviation; NaN of equal values.

    Parameters
    ----------
    values
        Any shape, finite.
    axis
        What is averaged over; None for all.
    """
    centred = values - np.mean(values, axis=axis, keepdims=True, dtype="f8")
    deviation = np.sqrt((centred**2).mean(axis=axis))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((centred**3).mean(axis=axis) / deviation**3, "f8")


def wasserstein(values: Floats, reference: Floats) -> float:
    """Mean way from one distribution to the other (1-Wasserstein), in the values' unit.

    Parameters
    ----------
    values, reference
        As many of each, in any order.
    """
    ordered = (np.sort(each, axis=None).astype("f8") for each in (values, reference))
    return float(np.abs(np.subtract(*ordered)).mean())


def total_variation(shares: Doubles, reference: Doubles) -> float:
    """Share of the values that lie in another bin: half the sum of differences, 0 to 1.

    Parameters
    ----------
    shares, reference
        Of the values in each bin, summing to 1.
    """
    return float(np.abs(shares - reference).sum() / 2)


def bin_edges(reference: Floats, others: Sequence[Floats], *, bins: int, cut: float) -> Doubles:
    """Edges of bins for a reference and what is held against it.

    They hold all values but a share ``cut`` at either end of each, and reach no farther than half
    of the reference's extent beyond it.
    """
    ends = np.array([np.quantile(each, (cut, 1 - cut)) for each in (reference, *others)], "f8")
    low, high = ends[0]
    room = (high - low) / 2 if high > low else 0.5
    return np.linspace(
        max(ends[:, 0].min(), low - room), min(ends[:, 1].max(), high + room), bins + 1
    )


def bin_shares(values: Floats, edges: Doubles) -> Doubles:
    """Share of the values in each bin; what lies outside counts in the outermost ones."""
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), bins=edges)
    return np.asarray(counts / values.size, "f8")


def power_planes(images: Floats, valid: NDArray[np.bool_]) -> Doubles:
    """How each image's variance is spread over frequencies, ``(channel, y, x)``, each summing to 1.

    Frequency zero is in the middle. The mean is taken off, nodata is put to it, and a Hann window
    keeps the jump from one edge to the other out. An image of equal values has zeros.

    Parameters
    ----------
    images
        ``(channel, y, x)``.
    valid
        Pixels with data, ``(y, x)``, at least one.
    """
    mean = images[:, valid].mean(axis=1, dtype="f8")[:, None, None]
    centred = np.where(valid, images - mean, 0)
    # The outermost values of numpy's window are 0, which would lose the first and last line.
    rows, cols = (np.hanning(size + 2)[1:-1] for size in valid.shape)
    power = np.abs(np.fft.fft2(centred * rows[:, None] * cols)) ** 2
    total = power.sum(axis=(1, 2), keepdims=True)
    power = np.divide(power, total, out=np.zeros_like(power), where=total > 0)
    return np.asarray(np.fft.fftshift(power, axes=(1, 2)))


def radial_frequencies(shape: tuple[int, int]) -> Doubles:
    """Cycles per pixel at each place of a plane with zero in the middle, ``(y, x)``."""
    rows, cols = (np.fft.fftshift(np.fft.fftfreq(size)) for size in shape)
    return np.hypot(rows[:, None], cols)


def low_share(planes: Doubles, limit: float = QUARTER) -> float:
    """Share of the variance below a frequency, the mean over images that have any; else NaN.

    Parameters
    ----------
    planes
        From :func:`power_planes`.
    limit
        Cycles per pixel.
    """
    low = radial_frequencies((planes.shape[1], planes.shape[2])) < limit
    shares = planes[:, low].sum(axis=1)[planes.any(axis=(1, 2))]
    return float(shares.mean()) if shares.size else float("nan")


def radial_profile(planes: Doubles) -> tuple[Doubles, Doubles]:
    """Frequencies in cycles per pixel, and the mean power on a ring around each, over all images.

    Parameters
    ----------
    planes
        From :func:`power_planes`.
    """
    shape = planes.shape[1], planes.shape[2]
    count = max(1, min(shape) // 2)
    rings = np.floor(radial_frequencies(shape) / NYQUIST * count).astype(int).ravel()
    inside = rings < count
    places = np.bincount(rings[inside], minlength=count)
    power = np.bincount(rings[inside], planes.mean(axis=0).ravel()[inside], minlength=count)
    centres = (np.arange(count) + 0.5) * NYQUIST / count
    return centres[places > 0], power[places > 0] / places[places > 0]


def edge_strength(image: Floats) -> Doubles:
    """Length of the gradient at each pixel of ``(y, x)``; a side of one pixel has none."""
    axes = [axis for axis, size in enumerate(image.shape) if size > 1]
    values = np.asarray(image, "f8")
    slopes = [np.gradient(values, axis=axis) for axis in axes]
    return np.asarray(np.sqrt(sum((slope**2 for slope in slopes), np.zeros_like(values))))


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation of two arrays; NaN where either is constant."""
    first, second = (each.astype("f8") - each.mean(dtype="f8") for each in (one, other))
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else float("nan")
