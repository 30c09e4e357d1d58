"""All metrics of a cube at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from pixelssr_geo.metrics.differences import (
    LEAST_ERROR,
    decibels,
    mean_correlation,
    mean_log_error,
    mean_psnr,
    relative_error,
    relative_global_error,
    root_mean_square,
)
from pixelssr_geo.metrics.pixels import mean_of_defined, take_pixels, valid_mask
from pixelssr_geo.metrics.spectral import angles
from pixelssr_geo.metrics.structure import PADDED, UNIFORM, UNIFORM_WIDE, ssim

if TYPE_CHECKING:
    from pixelssr_geo.metrics.pixels import Floats, Mask


class Score(TypedDict):
    """Everything that :func:`score` measures."""

    rmse: float
    """Root mean square error, reflectance (paper, eq. 10)."""
    psnr: float
    """Peak signal-to-noise ratio of the whole cube, dB, peak 1."""
    mpsnr: float
    """Mean of the channels' PSNR, dB, peak 1."""
    ssim: float
    """Mean structural similarity of the channels, up to 1 (paper, eq. 12)."""
    sam: float
    """Mean angle between the spectra of a pixel, degrees."""
    sam_band: float
    """Mean angle between the images of a channel, degrees (paper, eq. 13)."""
    bands: int
    """Number of channels."""
    pixels: int
    """Number of pixels scored."""


class VariantScore(Score):
    """Everything that :func:`variant_score` measures."""

    mae: float
    """Mean absolute error, reflectance."""
    mrae: float
    """Mean relative absolute error, a share, over values whose reference is not 0."""
    ergas: float
    """Relative dimensionless global error, percent."""
    correlation: float
    """Mean correlation of the images of a channel, -1 to 1."""
    psnr_clipped: float
    """PSNR of the whole cube, both cut to 0-1, dB (toolboxes)."""
    mpsnr_clipped: float
    """Mean of the channels' PSNR, both cut to 0-1, dB (the author's scripts)."""
    psnr_elementwise: float
    """Mean of every value's -20 log10 of its error, dB (paper, eq. 11)."""
    ssim_uniform: float
    """SSIM of 7 x 7 uniform windows (the author's scripts, a range of 1 told)."""
    ssim_uniform_wide: float
    """The same for a range of 2 (the author's scripts with an old scikit-image, told no range)."""
    ssim_padded: float
    """SSIM with windows over the border, zeros there (toolboxes)."""
    sam_zeros: float
    """Mean angle between spectra, degrees, 0 where a spectrum is zero throughout (toolboxes)."""


def score(cube: Floats, reference: Floats, valid: Mask | None = None) -> Score:
    """The product's metrics of a cube against its reference.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)`` or ``(channel, pixel)``.
    valid
        Pixels to score, ``(y, x)`` or ``(pixel,)``, besides those without nodata; leaves out,
        say, the pixels that were labels. SSIM takes windows centred on these pixels, and the
        windows may hold pixels left out here, since these are not nodata.

    Raises
    ------
    SettingsError
        If the shapes differ.
    """
    scored = valid_mask(cube, reference, valid)
    ours, theirs = take_pixels(cube, scored), take_pixels(reference, scored)
    error = root_mean_square(ours, theirs)
    return {
        "rmse": error,
        "psnr": decibels(error, 1.0),
        "mpsnr": mean_psnr(ours, theirs, 1.0),
        "ssim": ssim(cube, reference, scored),
        "sam": mean_of_defined(angles(ours, theirs, axis=0)),
        "sam_band": mean_of_defined(angles(ours, theirs, axis=1)),
        "bands": len(cube),
        "pixels": int(scored.sum()),
    }


def variant_score(cube: Floats, reference: Floats, valid: Mask | None = None) -> VariantScore:
    """:func:`score`, further metrics, and the readings of them that the literature reports.

    Parameters as for :func:`score`.
    """
    plain = score(cube, reference, valid)
    scored = valid_mask(cube, reference, valid)
    ours, theirs = take_pixels(cube, scored), take_pixels(reference, scored)
    cut, cut_theirs = ours.clip(0, 1), theirs.clip(0, 1)
    return {
        **plain,
        "mae": mean_of_defined(np.abs(ours - theirs)),
        "mrae": relative_error(ours, theirs, 0.0),
        "ergas": relative_global_error(ours, theirs, 1.0),
        "correlation": mean_correlation(ours, theirs),
        "psnr_clipped": decibels(root_mean_square(cut, cut_theirs), 1.0),
        "mpsnr_clipped": mean_psnr(cut, cut_theirs, 1.0),
        "psnr_elementwise": mean_log_error(ours, theirs, LEAST_ERROR),
        "ssim_uniform": ssim(cube, reference, scored, window=UNIFORM),
        "ssim_uniform_wide": ssim(cube, reference, scored, window=UNIFORM_WIDE),
        "ssim_padded": ssim(cube, reference, scored, window=PADDED),
        "sam_zeros": mean_of_defined(np.nan_to_num(angles(ours, theirs, axis=0), nan=0.0)),
    }
