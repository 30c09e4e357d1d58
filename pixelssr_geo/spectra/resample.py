"""Fine spectra to a cube's channels and to a scene's bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import WavelengthGridError
from pixelssr_geo.spectra.quadrature import integrate_bands, local_spacing, locate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from pixelssr_geo.spectra.channels import ChannelGrid
    from pixelssr_geo.spectra.response import SpectralResponse

_SAME_CENTRE_NM = 0.05
"""Centres this close are the same one, written with fewer digits."""
_MOST_MISSING = 0.05
"""Share of a channel or a band that may rest on missing samples."""
_REACH_SIGMA = 3.5
"""Where the channels' Gaussians end; 0.05 % of their area lies beyond."""


def resample_to_channels(
    spectra: ArrayLike,
    wavelengths_nm: ArrayLike,
    grid: ChannelGrid,
    *,
    max_gap_nm: float | None = None,
) -> NDArray[np.float64]:
    """Spectra as the grid's channels would measure them.

    Each channel is a Gaussian of its FWHM over the spectrum, which is linear between samples.
    The samples themselves are taken to be as wide as they are apart, so the Gaussian applied
    is narrower by that in quadrature. A channel that coincides with a sample (to 0.05 nm) of
    a spectrum sampled no finer than half its FWHM takes the value as it is.

    At the ends of the range, where half of the Gaussian has no samples, the mean is taken about
    a line, so that a sloping spectrum is not shifted; a channel centred up to half its
    FWHM outside gets the value at the end.

    Parameters
    ----------
    spectra
        Reflectance, ``(..., wavelength)``; NaN where nothing was measured.
    wavelengths_nm
        ``(wavelength,)``, in any order.
    grid
        The channels.
    max_gap_nm
        Widest distance between finite samples that is bridged. ``None`` bridges any distance
        between neighbouring wavelengths, but no NaN.

    Returns
    -------
    NDArray
        ``(..., channel)``; NaN more than half a FWHM outside the finite samples, and where
        more than 5 % of a channel rests on a gap.

    Raises
    ------
    WavelengthGridError
        If the wavelengths do not fit the spectra, are not finite or are there twice.
    """
    table, wavelengths, shape = _sorted_table(spectra, wavelengths_nm)
    spacing = local_spacing(wavelengths)

    def weigh(finite: NDArray[np.bool_]) -> NDArray[np.float64]:
        samples = wavelengths[finite]
        gaps = _gaps(finite, samples, max_gap_nm)
        return _channel_weights(samples, spacing[finite], gaps, grid)

    return _apply_by_pattern(table, weigh, len(grid)).reshape(*shape, len(grid))


def resample_to_bands(
    spectra: ArrayLike, wavelengths_nm: ArrayLike, response: SpectralResponse
) -> NDArray[np.float64]:
    """Spectra as the bands see them: means weighted by the response.

    Response and spectrum are linear between their samples and integrated without error; an
    outer sample stands for half a spacing beyond itself.

    Parameters
    ----------
    spectra
        Reflectance, ``(..., wavelength)``; NaN where nothing was measured.
    wavelengths_nm
        ``(wavelength,)``, in any order.
    response
        The bands.

    Returns
    -------
    NDArray
        ``(..., band)``; NaN where less than 95 % of the response lies over finite samples.

    Raises
    ------
    WavelengthGridError
        If the wavelengths do not fit the spectra, are not finite or are there twice.
    """
    table, wavelengths, shape = _sorted_table(spectra, wavelengths_nm)
    half = local_spacing(wavelengths) / 2

    def weigh(finite: NDArray[np.bool_]) -> NDArray[np.float64]:
        samples, outer = wavelengths[finite], half[finite]
        integral = integrate_bands(
            response.wavelengths_nm,
            response.values,
            samples,
            (samples[0] - outer[0], samples[-1] + outer[-1]),
            _gaps(finite, samples, None),
        )
        seen = integral.covered >= 1 - _MOST_MISSING
        sums = np.where(seen, integral.weights.sum(axis=1), np.nan)
        rows: NDArray[np.float64] = integral.weights / sums[:, None]
        return rows

    return _apply_by_pattern(table, weigh, len(response)).reshape(*shape, len(response))


def _sorted_table(
    spectra: ArrayLike, wavelengths_nm: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, ...]]:
    """Spectra ``(spectrum, wavelength)``, ascending wavelengths and the leading dimensions."""
    table = np.asarray(spectra, dtype=np.float64)
    wavelengths = np.asarray(wavelengths_nm, dtype=np.float64)
    if table.ndim == 0 or wavelengths.shape != table.shape[-1:] or wavelengths.size == 0:
        raise WavelengthGridError(
            f"wavelengths of shape {wavelengths.shape} for spectra of shape {table.shape}, "
            "expected one wavelength for each value of a spectrum: give (..., wavelength)"
        )
    order = np.argsort(wavelengths, kind="stable")
    wavelengths = wavelengths[order]
    if not np.isfinite(wavelengths).all() or (np.diff(wavelengths) <= 0).any():
        raise WavelengthGridError(
            "the spectra's wavelengths hold one twice or one that is not finite, "
            "expected each once: drop the column that is there twice"
        )
    flat = table.reshape(-1, wavelengths.size)[:, order]
    return np.where(np.isfinite(flat), flat, np.nan), wavelengths, table.shape[:-1]


def _gaps(
    finite: NDArray[np.bool_], samples: NDArray[np.float64], max_gap_nm: float | None
) -> NDArray[np.bool_]:
    """Which intervals between neighbouring finite samples are not to be bridged."""
    if max_gap_nm is not None:
        return np.diff(samples) > max_gap_nm
    return np.diff(np.flatnonzero(finite)) > 1


def _apply_by_pattern(
    table: NDArray[np.float64],
    weigh: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    count: int,
) -> NDArray[np.float64]:
    """Weights times spectra, the weights made once for all spectra with the same NaN."""
    result = np.full((len(table), count), np.nan)
    if not len(table):
        return result
    patterns, which = np.unique(np.isfinite(table), axis=0, return_inverse=True)
    for number, finite in enumerate(patterns):
        if finite.any():
            members = np.flatnonzero(which.reshape(-1) == number)
            result[members] = table[np.ix_(members, np.flatnonzero(finite))] @ weigh(finite).T
    return result


def _channel_weights(
    samples: NDArray[np.float64],
    spacing: NDArray[np.float64],
    gaps: NDArray[np.bool_],
    grid: ChannelGrid,
) -> NDArray[np.float64]:
    """Weights of the finite samples in each channel, ``(channel, sample)``; NaN for no value."""
    centres = grid.centres_nm.clip(samples[0], samples[-1])
    local = np.interp(centres, samples, spacing)
    sigma = np.sqrt(np.maximum(grid.fwhm_nm**2 - local**2, 0)) / np.sqrt(8 * np.log(2))
    offsets, amounts, missing = _gaussian_nodes(centres, sigma, samples, gaps)
    amounts = _about_a_line(offsets, amounts)

    index, fraction = locate(centres[:, None] + offsets, samples)
    upper = (index + 1).clip(max=len(samples) - 1)
    weights = np.zeros((len(grid), len(samples)))
    channel = np.broadcast_to(np.arange(len(grid))[:, None], index.shape)
    np.add.at(weights, (channel, index), amounts * (1 - fraction))
    np.add.at(weights, (channel, upper), amounts * fraction)

    outside = np.abs(grid.centres_nm - centres) > grid.fwhm_nm / 2
    weights[outside | (missing > _MOST_MISSING)] = np.nan
    _keep_coinciding(weights, samples, spacing, grid)
    return weights


def _gaussian_nodes(
    centres: NDArray[np.float64],
    sigma: NDArray[np.float64],
    samples: NDArray[np.float64],
    gaps: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Quadrature of each channel's Gaussian: offsets from its centre, amounts, missing share.

    Nodes are at most 1 nm and 0.1 sigma apart. Those beyond the outer samples or inside a gap
    count nothing; ``missing`` is what gaps take of what is not beyond.
    """
    steps = int(np.ceil(_REACH_SIGMA * max(10.0, sigma.max(initial=0.0))))
    places = np.linspace(-_REACH_SIGMA, _REACH_SIGMA, 2 * steps + 1)
    offsets = sigma[:, None] * places
    nodes = centres[:, None] + offsets
    rounding = 1e-9 * samples[-1]
    within = (nodes >= samples[0] - rounding) & (nodes <= samples[-1] + rounding)
    amounts = within * np.exp(-(places**2) / 2)
    bridged = amounts.copy()
    if gaps.any():
        interval = np.searchsorted(samples, nodes, side="right") - 1
        on_sample = np.isin(nodes, samples)
        inside = gaps[interval.clip(0, len(gaps) - 1)] & ~on_sample
        bridged[inside] = 0
    missing = 1 - bridged.sum(axis=1) / amounts.sum(axis=1)
    return offsets, bridged, missing


def _about_a_line(
    offsets: NDArray[np.float64], amounts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Amounts of a weighted linear fit's value at offset 0, ``(channel, node)``; sums are 1.

    With nodes on both sides alike this is the weighted mean.
    """
    total = amounts.sum(axis=1, keepdims=True)
    amounts = amounts / np.where(total > 0, total, 1.0)
    first = (amounts * offsets).sum(axis=1, keepdims=True)
    second = (amounts * offsets**2).sum(axis=1, keepdims=True)
    spread = second - first**2
    # Without spread (a channel no wider than the sampling) there is no line to fit.
    fits = spread > 1e-12 + 1e-6 * second
    tilted = amounts * (second - first * offsets) / np.where(fits, spread, 1.0)
    return np.where(fits, tilted, amounts)


def _keep_coinciding(
    weights: NDArray[np.float64],
    samples: NDArray[np.float64],
    spacing: NDArray[np.float64],
    grid: ChannelGrid,
) -> None:
    """Let channels that coincide with a coarse spectrum's samples take these as they are."""
    index, fraction = locate(grid.centres_nm, samples)
    nearest = (index + (fraction > 0.5)).clip(max=len(samples) - 1)
    same = np.abs(samples[nearest] - grid.centres_nm) <= _SAME_CENTRE_NM
    same &= spacing[nearest] >= grid.fwhm_nm / 2
    weights[same] = 0
    weights[same, nearest[same]] = 1
