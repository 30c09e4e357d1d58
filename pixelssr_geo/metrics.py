"""How far a cube is from its reference.

All functions take two arrays of one shape, ``(channel, y, x)`` or ``(channel, pixel)``, and give
a plain number. NaN is nodata: a pixel that is NaN (or infinite) in any channel of either array is
left out of all channels. Without a pixel left, the result is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from pixelssr_geo.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Mask = NDArray[np.bool_]

_WINDOW = 11
_WINDOW_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
"""Window and constants of Wang et al. (2004), the original SSIM."""


class Score(TypedDict):
    """Everything that :func:`score` measures."""

    rmse: float
    """Root mean square error, reflectance."""
    psnr: float
    """Peak signal-to-noise ratio of the whole cube, dB, peak 1."""
    mpsnr: float
    """Mean of the channels' PSNR, dB, peak 1."""
    ssim: float
    """Mean structural similarity of the channels, up to 1."""
    sam: float
    """Mean angle between the spectra of a pixel, degrees."""
    sam_band: float
    """Mean angle between the images of a channel, degrees (paper, eq. 13)."""
    bands: int
    """Number of channels."""
    pixels: int
    """Number of pixels scored."""


def rmse(cube: Floats, reference: Floats) -> float:
    """Root mean square error over all channels and valid pixels."""
    return _root_mean_square(*_valid_pixels(cube, reference))


def psnr(cube: Floats, reference: Floats, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio of the whole cube, dB; infinite for equal arrays."""
    return _decibels(rmse(cube, reference), peak)


def mpsnr(cube: Floats, reference: Floats, peak: float = 1.0) -> float:
    """Mean over channels of each channel's peak signal-to-noise ratio, dB."""
    return _mean_psnr(*_valid_pixels(cube, reference), peak)


def sam(cube: Floats, reference: Floats) -> float:
    """Mean spectral angle of the valid pixels, degrees; pixels of zeros have none and are left out."""
    return _mean(_angles(*_valid_pixels(cube, reference), axis=0))


def sam_per_pixel(cube: Floats, reference: Floats) -> NDArray[np.float64]:
    """Spectral angle of each pixel, degrees, ``(y, x)`` or ``(pixel,)``; NaN where undefined.

    Undefined are nodata pixels and those where either spectrum is zero throughout.
    """
    valid = _valid_mask(cube, reference)
    angles = np.full(valid.shape, np.nan)
    angles[valid] = _angles(*_valid_pixels(cube, reference), axis=0)
    return angles


def sam_band(cube: Floats, reference: Floats) -> float:
    """Mean over channels of the angle between the channel's two images, degrees.

    Eq. 13 of the paper: the vectors compared are whole images, not spectra, so that this is
    smaller than :func:`sam` where errors are alike in all channels.
    """
    return _mean(_angles(*_valid_pixels(cube, reference), axis=1))


def ergas(cube: Floats, reference: Floats, ratio: float = 1.0) -> float:
    """Relative dimensionless global error (ERGAS), percent.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)`` or ``(channel, pixel)``.
    ratio
        Pixel size of the cube over that of its input; 1 where only spectra were sharpened.
    """
    ours, theirs = _valid_pixels(cube, reference)
    if ours.size == 0:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = ((ours - theirs) ** 2).mean(axis=1) / theirs.mean(axis=1) ** 2
    return float(100 * ratio * np.sqrt(relative.mean()))


def ssim(cube: Floats, reference: Floats, centres: Mask | None = None) -> float:
    """Mean structural similarity over channels and windows, for reflectance from 0 to 1.

    Windows are 11 x 11 pixels under a Gaussian of 1.5 pixels; those that reach over the border
    or hold a nodata pixel are left out.

    Parameters
    ----------
    cube, reference
        ``(channel, y, x)``.
    centres
        Pixels whose window counts, ``(y, x)``; ``None`` is all. The window may hold others.

    Returns
    -------
    float
        NaN without a window left, and for ``(channel, pixel)`` arrays, which have none.
    """
    valid = _valid_mask(cube, reference)
    if valid.ndim != 2 or min(valid.shape) < _WINDOW:
        return float("nan")
    inside = np.lib.stride_tricks.sliding_window_view(valid, (_WINDOW, _WINDOW)).all(axis=(2, 3))
    if centres is not None:
        margin = _WINDOW // 2
        inside = inside & centres[margin:-margin, margin:-margin]
    if not inside.any():
        return float("nan")
    channels = (
        _ssim_map(np.where(valid, ours, 0.0), np.where(valid, theirs, 0.0))[inside].mean()
        for ours, theirs in zip(cube, reference, strict=True)
    )
    return float(np.mean(list(channels)))


def score(cube: Floats, reference: Floats, valid: Mask | None = None) -> Score:
    """All metrics of a cube against its reference.

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
    scored = _valid_mask(cube, reference)
    if valid is not None:
        if valid.shape != scored.shape:
            raise SettingsError(
                f"the mask of pixels to score has shape {valid.shape}, the cube's pixels "
                f"{scored.shape}, expected the same: cut the mask to the cube"
            )
        scored &= valid.astype(bool)
    ours, theirs = _take_pixels(cube, scored), _take_pixels(reference, scored)
    error = _root_mean_square(ours, theirs)
    return {
        "rmse": error,
        "psnr": _decibels(error, 1.0),
        "mpsnr": _mean_psnr(ours, theirs, 1.0),
        "ssim": ssim(cube, reference, scored),
        "sam": _mean(_angles(ours, theirs, axis=0)),
        "sam_band": _mean(_angles(ours, theirs, axis=1)),
        "bands": len(cube),
        "pixels": int(scored.sum()),
    }


def _valid_mask(cube: Floats, reference: Floats) -> Mask:
    if cube.shape != reference.shape or cube.ndim not in (2, 3):
        raise SettingsError(
            f"the cube has shape {cube.shape}, its reference {reference.shape}, expected the same "
            "(channel, y, x): cut both to one grid and the same wavelengths"
        )
    valid = np.ones(cube.shape[1:], dtype=bool)
    for ours, theirs in zip(cube, reference, strict=True):
        valid &= np.isfinite(ours) & np.isfinite(theirs)
    return valid


def _take_pixels(cube: Floats, mask: Mask) -> NDArray[np.float64]:
    """Pixels under the mask, ``(channel, pixel)``."""
    return cube[:, mask].astype(np.float64)


def _valid_pixels(
    cube: Floats, reference: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    valid = _valid_mask(cube, reference)
    return _take_pixels(cube, valid), _take_pixels(reference, valid)


def _root_mean_square(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    return float(np.sqrt(((ours - theirs) ** 2).mean())) if ours.size else float("nan")


def _decibels(error: float, peak: float) -> float:
    return float("inf") if error == 0 else float(20 * np.log10(peak / error))


def _mean_psnr(ours: NDArray[np.float64], theirs: NDArray[np.float64], peak: float) -> float:
    errors = [_root_mean_square(*channel) for channel in zip(ours, theirs, strict=True)]
    return float(np.mean([_decibels(error, peak) for error in errors])) if errors else float("nan")


def _angles(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
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
    angles: NDArray[np.float64] = np.degrees(2 * np.arctan2(apart, together))
    return angles


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _ssim_map(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Structural similarity of every whole window, ``(y - 10, x - 10)``."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    mean, other = _blur(ours), _blur(theirs)
    variance = _blur(ours**2) - mean**2
    other_variance = _blur(theirs**2) - other**2
    covariance = _blur(ours * theirs) - mean * other
    likeness = (2 * mean * other + _K1**2) * (2 * covariance + _K2**2)
    scale = (mean**2 + other**2 + _K1**2) * (variance + other_variance + _K2**2)
    similarity: NDArray[np.float64] = likeness / scale
    return similarity


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted mean of every whole window, rows first, then columns."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    taps = np.exp(-(offsets**2) / (2 * _WINDOW_SIGMA**2))
    taps /= taps.sum()
    rows, cols = (size - _WINDOW + 1 for size in image.shape)
    down = sum(tap * image[at : at + rows] for at, tap in enumerate(taps))
    return np.asarray(sum(tap * down[:, at : at + cols] for at, tap in enumerate(taps)))
