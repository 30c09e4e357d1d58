"""Metrics of the differences between values: RMSE, MAE, MRAE, PSNR and its readings, ERGAS, CC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.metrics.pixels import mean_of_defined, valid_mask, valid_pixels

if TYPE_CHECKING:
    from pixelssr_geo.metrics.pixels import Doubles, Floats, Mask

LEAST_ERROR = 1e-6
"""Smaller errors count as this one where their logarithm is taken, reflectance."""


def rmse(cube: Floats, reference: Floats, *, valid: Mask | None = None) -> float:
    """Root mean square error over all channels and valid pixels.

    Eq. 10 of the paper, its N read as values, not spectra: so read, its tables are of one size with
    those of others.
    """
    return root_mean_square(*valid_pixels(cube, reference, valid))


def rmse_per_pixel(cube: Floats, reference: Floats, *, valid: Mask | None = None) -> Doubles:
    """Root mean square error of each spectrum, ``(y, x)`` or ``(pixel,)``; NaN for nodata.

    The error maps of the paper's Fig. 6 and 7.
    """
    mask = valid_mask(cube, reference, valid)
    ours, theirs = valid_pixels(cube, reference, mask)
    errors = np.full(mask.shape, np.nan)
    errors[mask] = np.sqrt(((ours - theirs) ** 2).mean(axis=0))
    return errors


def mae(cube: Floats, reference: Floats, *, valid: Mask | None = None) -> float:
    """Mean absolute error over all channels and valid pixels."""
    ours, theirs = valid_pixels(cube, reference, valid)
    return mean_of_defined(np.abs(ours - theirs))


def mrae(
    cube: Floats, reference: Floats, *, epsilon: float = 0.0, valid: Mask | None = None
) -> float:
    """Mean relative absolute error, a share of the reference: the measure of the NTIRE challenges.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)`` or ``(channel, pixel)``.
    epsilon
        Added to the magnitude of the reference before dividing; some toolboxes take 1e-6. With 0,
        values whose reference is 0 have no relative error and are left out.
    valid
        Pixels that count, ``(y, x)`` or ``(pixel,)``; None is all.
    """
    return relative_error(*valid_pixels(cube, reference, valid), epsilon)


def psnr(
    cube: Floats,
    reference: Floats,
    peak: float = 1.0,
    *,
    clip: bool = False,
    valid: Mask | None = None,
) -> float:
    """Peak signal-to-noise ratio of the whole cube, dB; infinite for equal arrays.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)`` or ``(channel, pixel)``.
    peak
        Of the signal, in the unit of the cube.
    clip
        Cut both to 0 to ``peak`` first, as the toolboxes of spectral reconstruction do.
    valid
        Pixels that count, ``(y, x)`` or ``(pixel,)``; None is all.
    """
    ours, theirs = valid_pixels(cube, reference, valid)
    return decibels(root_mean_square(*_clipped(ours, theirs, peak, clip)), peak)


def mpsnr(
    cube: Floats,
    reference: Floats,
    peak: float = 1.0,
    *,
    clip: bool = False,
    valid: Mask | None = None,
) -> float:
    """Mean over channels of each channel's peak signal-to-noise ratio, dB.

    What the scripts of the paper's author compute for the paper's PSNR, with ``clip``; at least
    :func:`psnr`, as logarithms are averaged. Parameters as there.
    """
    ours, theirs = valid_pixels(cube, reference, valid)
    return mean_psnr(*_clipped(ours, theirs, peak, clip), peak)


def psnr_elementwise(
    cube: Floats, reference: Floats, *, least: float = LEAST_ERROR, valid: Mask | None = None
) -> float:
    """Mean over all values of each one's -20 log10 of its error, dB: eq. 11 of the paper, peak 1.

    It averages logarithms of single errors, is never below :func:`psnr` for errors of at least
    ``least``, and is not comparable with it.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)`` or ``(channel, pixel)``.
    least
        Smaller errors count as this one: the equation has no value where one error is zero.
    valid
        Pixels that count, ``(y, x)`` or ``(pixel,)``; None is all.
    """
    return mean_log_error(*valid_pixels(cube, reference, valid), least)


def ergas(
    cube: Floats, reference: Floats, ratio: float = 1.0, *, valid: Mask | None = None
) -> float:
    """Relative dimensionless global error (ERGAS), percent.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)`` or ``(channel, pixel)``. A channel whose reference is 0 on average makes
        it infinite, or NaN where the cube is equal there.
    ratio
        Pixel size of the cube over that of its input; 1 where only spectra were sharpened.
    valid
        Pixels that count, ``(y, x)`` or ``(pixel,)``; None is all.
    """
    return relative_global_error(*valid_pixels(cube, reference, valid), ratio)


def correlation(cube: Floats, reference: Floats, *, valid: Mask | None = None) -> float:
    """Mean over channels of the correlation of their two images (CC), -1 to 1.

    Channels that are constant in either have none and are left out.
    """
    return mean_correlation(*valid_pixels(cube, reference, valid))


def root_mean_square(ours: Doubles, theirs: Doubles) -> float:
    """RMSE of ``(channel, pixel)``, NaN without values."""
    return float(np.sqrt(((ours - theirs) ** 2).mean())) if ours.size else float("nan")


def decibels(error: float, peak: float) -> float:
    """PSNR of a root mean square error."""
    return float("inf") if error == 0 else float(20 * np.log10(peak / error))


def mean_psnr(ours: Doubles, theirs: Doubles, peak: float) -> float:
    """Mean PSNR of the rows, NaN without rows."""
    errors = [root_mean_square(*channel) for channel in zip(ours, theirs, strict=True)]
    return float(np.mean([decibels(error, peak) for error in errors])) if errors else float("nan")


def relative_error(ours: Doubles, theirs: Doubles, epsilon: float) -> float:
    """Mean relative absolute error of ``(channel, pixel)``."""
    size = np.abs(theirs) + epsilon
    told = size > 0
    return mean_of_defined(np.abs(ours - theirs)[told] / size[told])


def mean_log_error(ours: Doubles, theirs: Doubles, least: float) -> float:
    """Eq. 11 of the paper for ``(channel, pixel)``."""
    return mean_of_defined(-20 * np.log10(np.abs(ours - theirs).clip(least)))


def relative_global_error(ours: Doubles, theirs: Doubles, ratio: float) -> float:
    """ERGAS of ``(channel, pixel)``."""
    if ours.size == 0:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = ((ours - theirs) ** 2).mean(axis=1) / theirs.mean(axis=1) ** 2
    return float(100 * ratio * np.sqrt(relative.mean()))


def mean_correlation(ours: Doubles, theirs: Doubles) -> float:
    """Mean correlation of the rows."""
    if ours.size == 0:
        return float("nan")
    first = ours - ours.mean(axis=1, keepdims=True)
    second = theirs - theirs.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return mean_of_defined(found)


def _clipped(ours: Doubles, theirs: Doubles, peak: float, clip: bool) -> tuple[Doubles, Doubles]:
    return (ours.clip(0, peak), theirs.clip(0, peak)) if clip else (ours, theirs)
