"""Structural similarity (SSIM), with the windows that are in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.metrics.pixels import valid_mask

if TYPE_CHECKING:
    from pixelssr_geo.metrics.pixels import Doubles, Floats, Mask


@dataclass(frozen=True, slots=True)
class SsimWindow:
    """How structural similarity weights a pixel's surroundings.

    Raises
    ------
    SettingsError
        If the size is not odd and at least 3, or a number is not positive.
    """

    size: int = 11
    """Rows and columns, odd."""
    sigma: float | None = 1.5
    """Standard deviation of the Gaussian weights, pixels; None weights all alike."""
    peak: float = 1.0
    """Range of the data, which scales the constants (0.01 peak)^2 and (0.03 peak)^2."""
    sample_covariance: bool = False
    """Divide by one less than the number of pixels, as for samples of a larger whole."""
    padded: bool = False
    """Count windows that reach over the border, with zeros there, instead of leaving them out."""

    def __post_init__(self) -> None:
        if self.size < 3 or self.size % 2 == 0:
            raise SettingsError(
                f"the window of SSIM is {self.size} pixels a side, expected an odd number from 3 "
                "on: give e.g. 11"
            )
        if not (self.peak > 0 and (self.sigma is None or self.sigma > 0)):
            raise SettingsError(
                f"SSIM has peak {self.peak:g} and sigma {self.sigma}, expected positive numbers: "
                "give e.g. 1 and 1.5"
            )

    @property
    def margin(self) -> int:
        """Pixels between the centre and the window's edge, beyond it."""
        return self.size // 2

    @property
    def taps(self) -> Doubles:
        """Weights along one axis, ``(size,)``, of sum 1."""
        if self.sigma is None:
            return np.full(self.size, 1 / self.size)
        offsets = np.arange(self.size) - self.margin
        weights = np.exp(-(offsets**2) / (2 * self.sigma**2))
        return np.asarray(weights / weights.sum())


WANG = SsimWindow()
"""That of Wang et al. (2004), who defined SSIM."""

UNIFORM = SsimWindow(size=7, sigma=None, sample_covariance=True)
"""The defaults of scikit-image, which the scripts of the paper's author take."""

UNIFORM_WIDE = SsimWindow(size=7, sigma=None, sample_covariance=True, peak=2.0)
"""The same for a range of 2, what older versions of scikit-image assumed of floating-point images
when they were told none: similarities come out higher."""

PADDED = SsimWindow(padded=True)
"""That of toolboxes of spectral reconstruction, whose convolutions pad with zeros."""


def ssim(
    cube: Floats, reference: Floats, centres: Mask | None = None, *, window: SsimWindow = WANG
) -> float:
    """Mean structural similarity over channels and windows, for reflectance from 0 to 1.

    Eq. 12 of the paper. Windows that hold a nodata pixel are left out, and those that reach over the
    border unless the window is padded.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)``.
    centres
        Pixels whose window counts, ``(y, x)``; ``None`` is all. The window may hold others.
    window
        By default 11 x 11 pixels under a Gaussian of 1.5 pixels.

    Returns
    -------
    float
        NaN without a window left, and for ``(channel, pixel)`` arrays, which have none.
    """
    valid = valid_mask(cube, reference)
    if valid.ndim != 2:
        return float("nan")
    border = window.margin if window.padded else 0
    # What a padded window holds beyond the border is zero, not nodata.
    holds = np.pad(valid, border, constant_values=True)
    if min(holds.shape) < window.size:
        return float("nan")
    inside = np.lib.stride_tricks.sliding_window_view(holds, (window.size, window.size))
    whole = inside.all(axis=(2, 3))
    if centres is not None:
        lost = window.margin - border
        whole = whole & centres[lost : len(centres) - lost, lost : centres.shape[1] - lost]
    if not whole.any():
        return float("nan")

    def filled(image: Floats) -> Doubles:
        return np.pad(np.where(valid, image, 0.0).astype(np.float64), border)

    channels = (
        _similarity(filled(ours), filled(theirs), window)[whole].mean()
        for ours, theirs in zip(cube, reference, strict=True)
    )
    return float(np.mean(list(channels)))


def _similarity(ours: Doubles, theirs: Doubles, window: SsimWindow) -> Doubles:
    """Structural similarity of every whole window, ``(y - size + 1, x - size + 1)``."""
    taps, pixels = window.taps, window.size**2
    factor = pixels / (pixels - 1) if window.sample_covariance else 1.0
    low, high = (0.01 * window.peak) ** 2, (0.03 * window.peak) ** 2
    mean, other = _blur(ours, taps), _blur(theirs, taps)
    variance = factor * (_blur(ours**2, taps) - mean**2)
    other_variance = factor * (_blur(theirs**2, taps) - other**2)
    covariance = factor * (_blur(ours * theirs, taps) - mean * other)
    likeness = (2 * mean * other + low) * (2 * covariance + high)
    scale = (mean**2 + other**2 + low) * (variance + other_variance + high)
    similarity: Doubles = likeness / scale
    return similarity


def _blur(image: Doubles, taps: Doubles) -> Doubles:
    """Weighted mean of every whole window, rows first, then columns."""
    rows, cols = (size - len(taps) + 1 for size in image.shape)
    down = sum(tap * image[at : at + rows] for at, tap in enumerate(taps))
    return np.asarray(sum(tap * down[:, at : at + cols] for at, tap in enumerate(taps)))
