"""Spectral angles, per pixel and per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.metrics.pixels import mean_of_defined, valid_mask, valid_pixels

if TYPE_CHECKING:
    from pixelssr_geo.metrics.pixels import Doubles, Floats, Mask


def sam(
    cube: Floats,
    reference: Floats,
    *,
    undefined: float = float("nan"),
    valid: Mask | None = None,
) -> float:
    """Mean spectral angle of the valid pixels, degrees.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)`` or ``(channel, pixel)``.
    undefined
        What a pixel counts as where either spectrum is zero throughout and there is no angle: by
        default it is left out; toolboxes of spectral reconstruction take 0, scripts of the NTIRE
        challenge 90.
    valid
        Pixels that count, ``(y, x)`` or ``(pixel,)``; None is all.
    """
    found = angles(*valid_pixels(cube, reference, valid), axis=0)
    return mean_of_defined(np.where(np.isnan(found), undefined, found))


def sam_per_pixel(cube: Floats, reference: Floats, *, valid: Mask | None = None) -> Doubles:
    """Spectral angle of each pixel, degrees, ``(y, x)`` or ``(pixel,)``; NaN where undefined.

    Undefined are nodata pixels and those where either spectrum is zero throughout.
    """
    mask = valid_mask(cube, reference, valid)
    found = np.full(mask.shape, np.nan)
    found[mask] = angles(*valid_pixels(cube, reference, mask), axis=0)
    return found


def sam_band(cube: Floats, reference: Floats, *, valid: Mask | None = None) -> float:
    """Mean over channels of the angle between the channel's two images, degrees.

    Eq. 13 of the paper, and what the scripts of its author compute: the vectors compared are whole
    images, not spectra, so that this is smaller than :func:`sam` where errors are alike in all
    channels. Channels that are zero throughout are left out.
    """
    return mean_of_defined(angles(*valid_pixels(cube, reference, valid), axis=1))


def angles(ours: Doubles, theirs: Doubles, axis: int) -> Doubles:
    """Angles between vectors along ``axis``, degrees; NaN where one is zero.

    Half the angle from the sum and the difference of the unit vectors: the arc cosine of their
    product loses half the digits at small angles.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        first = ours / np.linalg.norm(ours, axis=axis, keepdims=True)
        second = theirs / np.linalg.norm(theirs, axis=axis, keepdims=True)
    apart = np.linalg.norm(first - second, axis=axis)
    together = np.linalg.norm(first + second, axis=axis)
    if ours.shape[axis] == 0:  # without components the norms are 0, not NaN
        return np.full(apart.shape, np.nan)
    found: Doubles = np.degrees(2 * np.arctan2(apart, together))
    return found
