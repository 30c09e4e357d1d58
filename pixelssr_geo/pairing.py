"""Pairing field points with the pixels they fall in, with a reason for every point dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pixelssr_geo.agreement import Agreement, Scores, fit_agreement
from pixelssr_geo.errors import MissingCRSError, PointsError
from pixelssr_geo.labels import Labels
from pixelssr_geo.scene import check_response, pixel_grid, scene_response
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, resample_to_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelssr_geo.grid import PixelGrid
    from pixelssr_geo.points import PointSpectra

MIN_VALID_CHANNELS = 0.9
"""Share of the channels that a spectrum must cover; smaller gaps are interpolated."""

SUSPICIOUS_Z = 4.0
"""Robust z-score of the disagreement with the scene above which a point is called suspicious."""

RANGE_SHARE = 0.1
"""Share of the spectra that may end inside the default channels; of three or more always one."""

MAX_REFLECTANCE = 1e3
"""Larger numbers, of either sign, are no reflectance but a fault of the file."""

RESPONSE_DOUBT_NM = 8.0
"""How well the place of a band's response is known, nm: what lies between a measured response and a
Gaussian or a box of its centre and width. It matters where a spectrum is steep."""


@dataclass(frozen=True, slots=True)
class DroppedPoint:
    """A point that is not used, and why."""

    id: str
    """Name of the point."""
    reason: str
    """One of: outside, nodata, too few valid channels, duplicate id, not finite (or beyond
    :data:`MAX_REFLECTANCE`), and, where outliers are rejected, disagrees with the scene
    (z = ...)."""


@dataclass(frozen=True, slots=True, eq=False)
class PointMatches:
    """Every point on the scene, used or not, in the points' order."""

    rows: NDArray[np.int64]
    """Pixel rows, ``(point,)``; may lie outside the scene."""
    cols: NDArray[np.int64]
    """Pixel columns, ``(point,)``."""
    coverage: NDArray[np.float64]
    """Share of the channels that the spectrum covers, ``(point,)``."""
    bands: NDArray[np.int64]
    """Bands that are compared, those whose response lies inside the channels."""
    simulated: NDArray[np.float64]
    """Spectra seen through these bands, reflectance, ``(point, band)``; NaN without a value."""
    measured: NDArray[np.float64]
    """What the scene measures there, ``(point, band)``; NaN outside and without data."""
    doubt: NDArray[np.float64]
    """How much of the simulated bands hangs on the exact response, ``(point, band)``."""
    labels: NDArray[np.int64]
    """Label that each point is part of, -1 for a dropped point, ``(point,)``."""
    scores: Scores | None
    """Agreement with the scene, ``(point,)`` each, NaN for points that were dropped for another
    reason; None when there are too few points to tell what is usual."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedPoints:
    """Labels on the scene's pixels, and what happened to each point on the way."""

    labels: Labels
    """One label per pixel that holds a usable point."""
    ids: tuple[str, ...]
    """Names of the points behind each label, joined with ``+`` where several share a pixel."""
    dropped: tuple[DroppedPoint, ...]
    """Points that are not used."""
    disagreement: NDArray[np.float64]
    """Robust z-score of a label's simulated bands against the scene's, ``(label,)``, the common
    gain and offset removed; NaN when there are too few points to tell what is usual."""
    matches: PointMatches
    """The points one by one."""
    agreement: Agreement | None
    """What is usual between simulated and measured bands; None when too few points can tell."""

    @property
    def suspicious(self) -> tuple[str, ...]:
        """Names of the labels whose bands disagree strongly with the scene."""
        far = np.nan_to_num(self.disagreement) > SUSPICIOUS_Z
        return tuple(name for name, bad in zip(self.ids, far, strict=True) if bad)


def pair_points(
    scene: xr.DataArray,
    points: PointSpectra,
    *,
    channels: ChannelGrid | None = None,
    response: SpectralResponse | None = None,
    reject_outliers: bool = False,
) -> PairedPoints:
    """Pair every field spectrum with the pixel it falls in.

    Parameters
    ----------
    scene
        Reflectance, dims ``(band, y, x)``, lazy or not; only the pixels under points are computed.
    points
        Spectra in any CRS; they are moved to the scene's.
    channels
        Channels of the cube; by default :func:`default_channels`.
    response
        Spectral response of the scene's bands; by default what the scene says.
    reject_outliers
        Drop points that disagree with the scene. Of several in one pixel, those that agree are
        averaged, or all where only their mean agrees (a mixed pixel).

    Returns
    -------
    PairedPoints
        Labels with rows, columns, band values ``(label, band)``, NaN at most in bands outside the
        channels, and spectra ``(label, channel)``.
        Spectra that share a pixel are averaged.

    Raises
    ------
    MissingCRSError
        If the scene or the points carry no CRS.
    PointsError
        If no spectrum overlaps the channels.
    ResponseError
        If the response has not as many bands as the scene.
    """
    grid = pixel_grid(scene)
    if response is None:
        response = scene_response(scene)
    check_response(response, scene.sizes["band"], "response")
    if channels is None:
        channels = default_channels(points)
    source = str(scene.attrs.get("source", "the scene"))
    rows, cols = grid.to_pixels(*moved_points(points, grid, source))
    spectra, share = _on_channels(points, channels)
    bands = _bands_under(scene, grid, rows, cols)
    matrix, used = response.matrix(channels), response.covered_bands(channels)
    # What lies outside the channels plays no part in the fit, so it may lack data.
    reasons = _reasons(points, grid, rows, cols, bands[:, used], share)
    usable = np.array([reason is None for reason in reasons], bool)
    simulated, measured = spectra @ matrix[used].T, bands[:, used]
    measured[~grid.contains(rows, cols)] = np.nan
    wrong = _response_error(response, channels)[used]
    doubt = np.abs(spectra @ wrong.T)
    agreement = fit_agreement(simulated[usable], measured[usable], doubt[usable])
    scores = None
    if agreement is not None:
        scores = agreement.score(np.where(usable[:, None], simulated, np.nan), measured, doubt)
    groups = _groups(rows, cols, np.flatnonzero(usable))
    if reject_outliers and agreement is not None and scores is not None:
        groups = _agreeing(groups, agreement, scores.z, simulated, measured, doubt)
        for i in set(np.flatnonzero(usable)) - {i for group in groups for i in group}:
            reasons[i] = f"disagrees with the scene (z = {scores.z[i]:.1f})"
    labels = _averaged(groups, rows, cols, bands, spectra)
    whole = labels.spectra @ matrix[used].T
    return PairedPoints(
        labels=labels,
        ids=tuple("+".join(points.ids[i] for i in group) for group in groups),
        dropped=tuple(
            DroppedPoint(name, reason)
            for name, reason in zip(points.ids, reasons, strict=True)
            if reason is not None
        ),
        disagreement=(
            np.full(len(groups), np.nan)
            if agreement is None
            else agreement.score(whole, labels.bands[:, used], np.abs(labels.spectra @ wrong.T)).z
        ),
        matches=PointMatches(
            rows=rows,
            cols=cols,
            coverage=share,
            bands=used,
            simulated=simulated,
            measured=measured,
            doubt=doubt,
            labels=_label_of(groups, len(points)),
            scores=scores,
        ),
        agreement=agreement,
    )


def default_channels(points: PointSpectra | None, *, fwhm_nm: float | None = None) -> ChannelGrid:
    """400-1000 nm every 10 nm, cut to the range that at least 90 % of the spectra reach.

    Of three spectra or more, one may end inside it at each side: its point is dropped then. Spectra
    that share no range leave the one that they cover together.

    Raises
    ------
    PointsError
        If that range lies outside 400-1000 nm.
    """
    channels = ChannelGrid.from_spec("400:1000:10", fwhm_nm)
    if points is None:
        return channels
    starts, ends = _ranges(points)
    if not len(starts):
        return channels
    low, high = _usual_range(starts, ends)
    # Half a channel beyond the first and last sample still rests on a measurement.
    margin = 5.0
    try:
        return channels.within(low - margin, high + margin)
    except ValueError as error:
        raise PointsError(
            f"spectra of {points.source} cover {low:.0f}-{high:.0f} nm, the "
            "cube 400-1000 nm: give --wavelengths inside the range of the points"
        ) from error


def channels_note(points: PointSpectra, channels: ChannelGrid) -> str | None:
    """That default channels end where most spectra do and some go on; None if that is not so."""
    starts, ends = _ranges(points)
    if not len(starts):
        return None
    widest = ChannelGrid.from_spec("400:1000:10")
    low, high = channels.centres_nm[[0, -1]]
    step = 10.0
    below = low > widest.centres_nm[0] and bool((starts <= low - step).any())
    above = high < widest.centres_nm[-1] and bool((ends >= high + step).any())
    if not (below or above):
        return None
    further = (below & (starts <= low - step)) | (above & (ends >= high + step))
    return (
        f"{int(further.sum())} of {len(starts)} spectra go beyond the channels, which end at "
        f"{low:.0f} and {high:.0f} nm as most spectra do: give --wavelengths for a wider range, "
        "which drops the points that do not cover it"
    )


def _ranges(points: PointSpectra) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last wavelength of each spectrum that has a value, nm."""
    finite = np.isfinite(points.reflectance)
    finite = finite[finite.any(1)]
    if not len(finite):
        return np.empty(0), np.empty(0)
    nm = points.wavelengths_nm
    return nm[finite.argmax(1)], nm[::-1][finite[:, ::-1].argmax(1)]


def _usual_range(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> tuple[float, float]:
    count = len(starts)
    spared = max(1, int(RANGE_SHARE * count)) if count > 2 else 0
    low, high = np.sort(starts)[count - 1 - spared], np.sort(ends)[spared]
    if low > high:
        low, high = starts.min(), ends.max()
    return float(low), float(high)


def moved_points(
    points: PointSpectra, grid: PixelGrid, source: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and y of the points in the CRS of a grid; ``source`` names the raster in messages.

    Raises
    ------
    MissingCRSError
        If the grid or the points carry no CRS, or one that is tied to no place on Earth.
    """
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    if grid.crs_wkt is None:
        raise MissingCRSError(
            f"'{source}' carries no coordinate reference system, points need one to be placed: "
            "give --crs EPSG:<number> (crs=...)"
        )
    if points.crs_wkt is None:
        raise MissingCRSError(
            f"points of '{points.source}' carry no coordinate reference system, one is needed to "
            "place them on the scene: set it in the file"
        )
    try:
        mover = Transformer.from_crs(points.crs_wkt, grid.crs_wkt, always_xy=True)
    except ProjError as error:
        raise MissingCRSError(
            f"points of '{points.source}' cannot be moved to the coordinate reference system of "
            f"'{source}', both must be tied to the Earth: set the true ones in the files"
        ) from error
    x, y = mover.transform(points.x, points.y)
    return np.asarray(x, "f8"), np.asarray(y, "f8")


def _on_channels(
    points: PointSpectra, channels: ChannelGrid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spectra on the channels with small gaps closed, and the share that was measured."""
    spectra = resample_to_channels(points.reflectance, points.wavelengths_nm, channels)
    finite = np.isfinite(spectra)
    share = finite.mean(1)
    if not finite.any():
        low, high = points.wavelengths_nm[[0, -1]]
        raise PointsError(
            f"spectra of '{points.source}' cover {low:.0f}-{high:.0f} nm, the cube's channels "
            f"{channels.centres_nm[0]:.0f}-{channels.centres_nm[-1]:.0f} nm: they do not overlap, "
            "check the wavelength units or give --wavelengths"
        )
    for row in np.flatnonzero((share >= MIN_VALID_CHANNELS) & (share < 1)):
        good = finite[row]
        spectra[row] = np.interp(channels.centres_nm, channels.centres_nm[good], spectra[row][good])
    return spectra, share


def _bands_under(
    scene: xr.DataArray, grid: PixelGrid, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.float64]:
    height, width = grid.shape
    # Points outside read the nearest edge pixel here and are dropped by their place.
    under = scene.isel(
        y=xr.DataArray(rows.clip(0, height - 1), dims="point"),
        x=xr.DataArray(cols.clip(0, width - 1), dims="point"),
    )
    return np.asarray(under.transpose("point", "band").values, "f8")


def is_reflectance(spectrum: NDArray[np.float64]) -> bool:
    """Whether a spectrum has a number, and none that is infinite or beyond 1000."""
    known = spectrum[~np.isnan(spectrum)]
    return known.size > 0 and bool((np.abs(known) <= MAX_REFLECTANCE).all())


def _reasons(
    points: PointSpectra,
    grid: PixelGrid,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    bands: NDArray[np.float64],
    share: NDArray[np.float64],
) -> list[str | None]:
    inside = grid.contains(rows, cols)
    seen: set[str] = set()
    reasons: list[str | None] = []
    for i, name in enumerate(points.ids):
        reason = None
        if not is_reflectance(points.reflectance[i]):
            reason = "not finite"
        elif name in seen:
            reason = "duplicate id"
        elif not inside[i]:
            reason = "outside"
        elif not np.isfinite(bands[i]).all():
            reason = "nodata"
        elif share[i] < MIN_VALID_CHANNELS:
            reason = "too few valid channels"
        seen.add(name)
        reasons.append(reason)
    return reasons


def _response_error(response: SpectralResponse, channels: ChannelGrid) -> NDArray[np.float64]:
    """Half of what the bands' weights change between two places, ``(band, channel)``."""
    lower, upper = (
        replace(response, wavelengths_nm=response.wavelengths_nm + shift).matrix(channels)
        for shift in (-RESPONSE_DOUBT_NM, RESPONSE_DOUBT_NM)
    )
    return (upper - lower) / 2


def _groups(
    rows: NDArray[np.int64], cols: NDArray[np.int64], usable: NDArray[np.int64]
) -> list[list[int]]:
    """Points that share a pixel, pixels in the order of their first points."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i in usable:
        groups.setdefault((int(rows[i]), int(cols[i])), []).append(int(i))
    return list(groups.values())


def _agreeing(
    groups: list[list[int]],
    agreement: Agreement,
    z: NDArray[np.float64],
    simulated: NDArray[np.float64],
    measured: NDArray[np.float64],
    doubt: NDArray[np.float64],
) -> list[list[int]]:
    """Of every group the points that agree with the scene, or all if only their mean does."""
    kept = []
    for group in groups:
        good = [i for i in group if z[i] <= SUSPICIOUS_Z]
        if not good and len(group) > 1:
            mean = agreement.score(
                simulated[group].mean(0), measured[group[0]], doubt[group].mean(0)
            )
            good = group if mean.z <= SUSPICIOUS_Z else []
        if good:
            kept.append(good)
    return kept


def _averaged(
    groups: list[list[int]],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    bands: NDArray[np.float64],
    spectra: NDArray[np.float64],
) -> Labels:
    first = np.array([group[0] for group in groups], dtype="i8")
    averaged = [spectra[group].mean(0) for group in groups]
    return Labels(
        rows=rows[first],
        cols=cols[first],
        bands=bands[first],
        spectra=np.array(averaged).reshape(len(groups), spectra.shape[1]),
    )


def _label_of(groups: list[list[int]], count: int) -> NDArray[np.int64]:
    labels = np.full(count, -1, dtype="i8")
    for label, group in enumerate(groups):
        labels[group] = label
    return labels
