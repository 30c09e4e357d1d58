"""Quality of field points one by one: from the spectrum alone, and from the scene around it.

Nothing is changed or left out here. :func:`assess_points` says what it found and what to do about
it; :func:`pixelssr_geo.pairing.pair_points` drops points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from pixelssr_geo.agreement import SOFT, log_ratio
from pixelssr_geo.errors import PointsError
from pixelssr_geo.pairing import (
    MIN_VALID_CHANNELS,
    SUSPICIOUS_Z,
    channels_note,
    default_channels,
    is_reflectance,
    pair_points,
)
from pixelssr_geo.scene import pixel_grid, scene_response
from pixelssr_geo.spectra import ChannelGrid, resample_to_channels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pixelssr_geo.agreement import Agreement
    from pixelssr_geo.grid import PixelGrid
    from pixelssr_geo.pairing import PairedPoints, PointMatches
    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.spectra import SpectralResponse

Severity = Literal["fault", "warning", "note"]
"""``fault``: cannot be used as it is; ``warning``: have a look; ``note``: worth knowing."""

RANK: dict[str, int] = {"fault": 0, "warning": 1, "note": 2}
"""Order of the severities, worst first."""

DETECTOR_JOINTS_NM = ((980.0, 1020.0), (1770.0, 1850.0))
"""Where field spectrometers join their detectors."""

WATER_VAPOUR_NM = ((1350.0, 1420.0), (1800.0, 1950.0))
"""Where hardly any sunlight reaches the ground: what is measured there is noise."""

BRIGHTEST = 1.2
"""Reflectance above which no ground is, but for glint and a wrong white reference."""

NEARBY = 5
"""Pixels around a point that are read."""

SHIFT = 3
"""Pixels within which a better place is looked for."""

_CLEARLY_BETTER = 0.5
"""Share of the score, and of the limit, that a better place must fall below."""
_NOISY = 0.02
"""Noise that is too much ..."""
_NOISIER = 3.0
"""... if it is also so many times the others'."""
_NOISY_ALONE = 0.05
"""Noise that is too much where there are no others."""
_DARK = 0.05
"""Reflectance of ground whose noise is judged in reflectance rather than in per cent."""
_STEP = 0.02
"""Jump at a detector joint, relative, that is too much."""
_FLAT_SAMPLES = 5
"""Equal values in a row at the top that are no chance."""
_NO_REFLECTANCE = 2.0
"""Level of a spectrum that is in another unit; between this and 1.2 it may be glint."""
_OTHER_UNIT = 50.0
"""Factor between a spectrum's level and the others' that no ground makes."""
_SAID_TO_AGREE = 2.0
"""Factor between the spread of replicates and the others' from which it is told."""
_REPLICATES = 0.1
"""Spread of replicates, relative, that is too much."""
_MIXED = 0.3
"""Difference of neighbouring pixels, relative, from which a pixel's width matters."""
_COMMON_SHIFT_POINTS = 8
_WINDOW_POINTS = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found about a point."""

    kind: str
    """A word to count by, such as ``disagrees`` or ``units``."""
    severity: Severity
    """How bad it is."""
    found: str
    """What was found, with its numbers."""
    cure: str
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class SpectrumQuality:
    """What a spectrum says about itself, within the channels' range unless it says otherwise."""

    level: float
    """Reflectance that a tenth of the samples exceeds; NaN without a value, as below."""
    level_ratio: float
    """The level over the median of the other points' levels; NaN for a single point."""
    coverage: float
    """Share of the channels that it covers."""
    noise: float
    """Standard deviation from sample to sample, relative to reflectance + 0.05."""
    saturated: int
    """Samples in a cut-off top, or above 1.2."""
    step: float
    """Largest jump at a detector joint, relative, at any wavelength; NaN where none was seen."""
    step_nm: float
    """Where it is."""
    water_vapour: int
    """Samples in the water-vapour windows, at any wavelength."""
    negative: int
    """Samples below zero."""
    lowest: float
    """Lowest value."""
    same_as: tuple[str, ...]
    """Other points with exactly this spectrum."""
    replicate_spread: float
    """Standard deviation of the replicates behind it, relative, the median over wavelengths; NaN
    where there is none."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A place nearby that agrees clearly better."""

    rows: int
    """Pixels down."""
    cols: int
    """Pixels to the right."""
    dx: float
    """Along x, units of the scene's coordinate reference system."""
    dy: float
    """Along y."""
    z_before: float
    """Score where the point lies."""
    z_after: float
    """Score there."""


@dataclass(frozen=True, slots=True)
class PlaceQuality:
    """What the scene says about a point."""

    row: int
    """Row of its pixel; may lie outside."""
    col: int
    """Column of its pixel."""
    inside: bool
    """Whether that is a pixel of the scene."""
    sharing: tuple[str, ...]
    """Other points in the pixel."""
    edge_distance: int
    """Pixels between it and the scene's edge, 0 at the edge, negative outside."""
    nodata_distance: float
    """Pixels to the nearest one without data, 0 on nodata; NaN if there is none within 5."""
    roughness: float
    """Relative difference of the 3 x 3 neighbours from the pixel, root mean square; NaN without."""
    factor: float
    """Simulated over measured brightness, the common part removed; NaN if not told."""
    level_z: float
    """Disagreement of the brightness, in robust standard deviations."""
    shape_z: float
    """Disagreement of the bands against each other, in robust standard deviations."""
    z: float
    """The worse of the two."""
    shift: Shift | None
    """A place nearby that agrees clearly better, for a point that disagrees."""


@dataclass(frozen=True, slots=True)
class PointQuality:
    """All that is known about a point."""

    id: str
    """Its name."""
    used: bool
    """Whether it is part of a label as things are; True without a scene unless it is unusable."""
    spectrum: SpectrumQuality
    """From the spectrum alone."""
    place: PlaceQuality | None
    """From the scene; None without one."""
    findings: tuple[Finding, ...]
    """What was found, worst first."""

    @property
    def severity(self) -> Severity | None:
        """The worst finding's, None if nothing was found."""
        return self.findings[0].severity if self.findings else None

    @property
    def suspicious(self) -> bool:
        """Whether it disagrees with the scene."""
        return any(finding.kind == "disagrees" for finding in self.findings)

    @property
    def flagged(self) -> bool:
        """Whether there is more than a note."""
        return self.severity in ("fault", "warning")


@dataclass(frozen=True, slots=True, eq=False)
class PointsQuality:
    """Quality of all points of a file."""

    points: tuple[PointQuality, ...]
    """In the file's order."""
    channels: ChannelGrid
    """What coverage and levels refer to."""
    bands: tuple[str, ...]
    """Names of the bands that were compared with the scene."""
    paired: PairedPoints | None
    """What becomes of the points; None without a scene."""
    common_shift: tuple[int, int] | None
    """Rows and columns by which all points together agree clearly better, if there are any."""
    notes: tuple[str, ...]
    """What concerns all points."""

    def worst_first(self) -> list[PointQuality]:
        """The points by severity, then by disagreement."""

        def key(point: PointQuality) -> tuple[int, float]:
            rank = RANK[point.severity] if point.severity else len(RANK)
            z = point.place.z if point.place is not None else np.nan
            return rank, -float(np.nan_to_num(z))

        return sorted(self.points, key=key)

    def counts(self) -> dict[str, int]:
        """Points by kind of finding, the most frequent first."""
        found: dict[str, int] = {}
        for point in self.points:
            for kind in {finding.kind for finding in point.findings}:
                found[kind] = found.get(kind, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def assess_points(
    points: PointSpectra,
    scene: xr.DataArray | None = None,
    *,
    channels: ChannelGrid | None = None,
    response: SpectralResponse | None = None,
) -> PointsQuality:
    """Quality of every point, from its spectrum and, with a scene, from the pixels around it.

    Parameters
    ----------
    points
        Field spectra.
    scene
        Reflectance, dims ``(band, y, x)``, lazy or not; 11 x 11 pixels around each point are read.
    channels
        Channels of the cube; by default
        :func:`pixelssr_geo.pairing.default_channels`.
    response
        Spectral response of the scene's bands; by default what the scene says.

    Raises
    ------
    PixelSSRError
        As :func:`pixelssr_geo.pairing.pair_points`, if points and scene cannot be brought together.
    """
    range_note = None
    if channels is None and scene is not None:
        channels = default_channels(points)
        range_note = channels_note(points, channels)
    elif channels is None:
        channels = _own_channels(points)
    spectra = _spectrum_qualities(points, channels)
    if scene is None:
        reasons = _unusable(points, spectra)
        found = tuple(
            PointQuality(
                name, reason is None, own, None, _findings(own, others, None, reason, channels)
            )
            for name, own, others, reason in zip(
                points.ids, spectra, _Others.of(spectra), reasons, strict=True
            )
        )
        return PointsQuality(found, channels, (), None, None, ())
    if response is None:
        response = scene_response(scene)
    paired = pair_points(scene, points, channels=channels, response=response)
    surroundings = _Surroundings.of(scene, points, paired)
    places = surroundings.places()
    reasons = _reasons_in_order(points, paired)
    found = tuple(
        PointQuality(
            name, reason is None, own, place, _findings(own, others, place, reason, channels)
        )
        for name, own, others, place, reason in zip(
            points.ids, spectra, _Others.of(spectra), places, reasons, strict=True
        )
    )
    shift = surroundings.common_shift()
    return PointsQuality(
        points=found,
        channels=channels,
        bands=tuple(response.names[i] for i in paired.matches.bands),
        paired=paired,
        common_shift=shift,
        notes=(
            *(() if range_note is None else (range_note,)),
            *_common_notes(paired, shift, surroundings.grid),
        ),
    )


def _own_channels(points: PointSpectra) -> ChannelGrid:
    """The default channels, or every 10 nm of what points cover that have none of those."""
    try:
        return default_channels(points)
    except PointsError:
        measured = np.isfinite(points.reflectance).any(0)
        low, high = points.wavelengths_nm[measured][[0, -1]] if measured.any() else (400, 1000)
        return ChannelGrid.from_spec(f"{low:g}:{high:g}:10", 10.0)


def _spectrum_qualities(points: PointSpectra, channels: ChannelGrid) -> list[SpectrumQuality]:
    covered = np.isfinite(resample_to_channels(points.reflectance, points.wavelengths_nm, channels))
    low, high = channels.range_nm
    within = (points.wavelengths_nm >= low) & (points.wavelengths_nm <= high)
    twins = _twins(points)
    measured = [
        _measure(points, row, within, float(covered[row].mean()), twins[row])
        for row in range(len(points))
    ]
    levels = _medians_of_others([one.level for one in measured])
    return [
        replace(one, level_ratio=one.level / usual if usual > 0 else np.nan)
        for one, usual in zip(measured, levels, strict=True)
    ]


def _medians_of_others(values: list[float]) -> NDArray[np.float64]:
    """For each value the median of the other finite ones, NaN without any."""
    every = np.array(values, "f8")
    known = np.sort(every[np.isfinite(every)])
    ranks = np.searchsorted(known, every)
    left = len(known) - np.isfinite(every)
    # The middle of what is left, counted past the value that is left out.
    middle = np.stack([(left - 1) // 2, left // 2])
    middle += np.isfinite(every) & (middle >= ranks)
    if len(known) == 0:
        return np.full(len(every), np.nan)
    return np.where(left > 0, known[middle.clip(0, len(known) - 1)].mean(0), np.nan)


@dataclass(frozen=True, slots=True)
class _Others:
    """What is usual among the other points."""

    noise: float
    replicate_spread: float

    @classmethod
    def of(cls, spectra: list[SpectrumQuality]) -> list[_Others]:
        """For every point."""
        noise = _medians_of_others([one.noise for one in spectra])
        spread = _medians_of_others([one.replicate_spread for one in spectra])
        return [cls(float(n), float(s)) for n, s in zip(noise, spread, strict=True)]


def _measure(
    points: PointSpectra,
    row: int,
    within: NDArray[np.bool_],
    coverage: float,
    twins: tuple[str, ...],
) -> SpectrumQuality:
    everywhere = np.isfinite(points.reflectance[row])
    nm, values = points.wavelengths_nm[everywhere], points.reflectance[row, everywhere]
    inside = values[within[everywhere]]
    # Of the bright channels: the dark ones of water or leaves say little of the unit.
    level = float(np.percentile(inside, 90)) if inside.size else np.nan
    step, step_nm = _largest_step(nm, values)
    in_vapour = sum(int(((nm >= low) & (nm <= high)).sum()) for low, high in WATER_VAPOUR_NM)
    return SpectrumQuality(
        level=level,
        level_ratio=np.nan,
        coverage=coverage,
        noise=_noise(inside),
        saturated=_saturated(inside),
        step=step,
        step_nm=step_nm,
        water_vapour=in_vapour,
        negative=int((inside < 0).sum()),
        lowest=float(inside.min()) if inside.size else np.nan,
        same_as=twins,
        replicate_spread=_replicate_spread(points, row, within),
    )


def _noise(values: NDArray[np.float64]) -> float:
    """Relative standard deviation of what third differences leave; smooth spectra have little."""
    if len(values) < 8:
        return float("nan")
    size = np.convolve(np.abs(values), np.full(4, 0.25), "valid")
    left = np.diff(values, 3) / (size + _DARK)
    return float(1.4826 * np.median(np.abs(left)) / np.sqrt(20))


def _saturated(values: NDArray[np.float64]) -> int:
    """Samples in a cut-off top, or above what ground reflects."""
    above = int((values > BRIGHTEST).sum())
    if len(values) < _FLAT_SAMPLES:
        return above
    top = float(values.max())
    steps = np.diff(np.unique(values))
    finest = float(steps.min()) if steps.size else 0.0
    longest = max(_runs(values == top), key=len)
    count = len(longest)
    if count < _FLAT_SAMPLES or steps.size == 0:
        return above
    # A smooth top of rounded values falls by two of their steps within half its width; a cut-off
    # one goes on as steep as it came.
    outside = np.array([longest[0], longest[-1]]) + np.array([-1, 1]) * max(1, count // 2)
    drop = top - values[outside[(outside >= 0) & (outside < len(values))]]
    return max(above, count if (drop > 6 * finest).any() else 0)


def _runs(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Indexes of every run of True."""
    at = np.flatnonzero(mask)
    if at.size:
        yield from np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)


def _largest_step(nm: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Largest jump at a detector joint, relative to the values there, and its wavelength."""
    worst, where = float("nan"), float("nan")
    for low, high in DETECTOR_JOINTS_NM:
        near = np.flatnonzero((nm >= low - 20) & (nm <= high + 20))
        # Coarse spectra show no joint, and a step needs something on both sides.
        if len(near) < 24 or np.median(np.diff(nm[near])) > 3:
            continue
        rises = np.diff(values[near])
        left = rises - np.median(rises)
        usual = 1.4826 * float(np.median(np.abs(left)))
        inner = (nm[near][1:] >= low) & (nm[near][1:] <= high)
        at = int(np.where(inner, np.abs(left), -1).argmax())
        if abs(left[at]) < 8 * max(usual, 1e-5):
            continue
        size = float(left[at] / max(abs(float(np.median(values[near]))), 0.01))
        if not abs(size) <= abs(worst):
            worst, where = size, float(nm[near][at])
    return worst, where


def _twins(points: PointSpectra) -> list[tuple[str, ...]]:
    """For every point the others with exactly its spectrum."""
    same: dict[bytes, list[int]] = {}
    for row, values in enumerate(points.reflectance):
        if np.isfinite(values).any():
            same.setdefault(np.where(np.isfinite(values), values, np.nan).tobytes(), []).append(row)
    twins: list[tuple[str, ...]] = [()] * len(points)
    for rows in same.values():
        for row in rows:
            twins[row] = tuple(points.ids[other] for other in rows if other != row)
    return twins


def _replicate_spread(points: PointSpectra, row: int, within: NDArray[np.bool_]) -> float:
    if points.spread is None:
        return float("nan")
    share = points.spread[row, within] / np.maximum(np.abs(points.reflectance[row, within]), 0.01)
    share = share[np.isfinite(share)]
    return float(np.median(share)) if share.size else float("nan")


def _unusable(points: PointSpectra, spectra: list[SpectrumQuality]) -> list[str | None]:
    """Why points would be dropped on any scene."""
    reasons: list[str | None] = []
    seen: set[str] = set()
    for name, values, own in zip(points.ids, points.reflectance, spectra, strict=True):
        reason = None
        if not is_reflectance(values):
            reason = "not finite"
        elif name in seen:
            reason = "duplicate id"
        elif own.coverage < MIN_VALID_CHANNELS:
            reason = "too few valid channels"
        seen.add(name)
        reasons.append(reason)
    return reasons


def _reasons_in_order(points: PointSpectra, paired: PairedPoints) -> list[str | None]:
    """Reasons of dropped points in the points' order; an id may be there twice."""
    reasons = iter(paired.dropped)
    return [
        next(reasons).reason if paired.matches.labels[row] < 0 else None
        for row in range(len(points))
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Surroundings:
    """The pixels around every point."""

    ids: tuple[str, ...]
    grid: PixelGrid
    matches: PointMatches
    agreement: Agreement | None
    windows: NDArray[np.float32]
    """``(point, band, y, x)``, compared bands; NaN without data and outside."""
    soft: NDArray[np.float64]
    """What counts as dark in each compared band, in the scene's units."""

    @classmethod
    def of(cls, scene: xr.DataArray, points: PointSpectra, paired: PairedPoints) -> _Surroundings:
        matches = paired.matches
        windows = _windows(scene.isel(band=matches.bands), matches.rows, matches.cols)
        soft = _soft(matches.measured)
        return cls(points.ids, pixel_grid(scene), matches, paired.agreement, windows, soft)

    def places(self) -> list[PlaceQuality]:
        inside = self.grid.contains(self.matches.rows, self.matches.cols)
        together: dict[tuple[int, int], list[int]] = {}
        cells = list(zip(self.matches.rows.tolist(), self.matches.cols.tolist(), strict=True))
        for at in np.flatnonzero(inside):
            together.setdefault(cells[at], []).append(int(at))
        return [
            self._place(at, bool(inside[at]), [i for i in together.get(cell, []) if i != at])
            for at, cell in enumerate(cells)
        ]

    def _place(self, at: int, inside: bool, sharing: list[int]) -> PlaceQuality:
        height, width = self.grid.shape
        row, col = int(self.matches.rows[at]), int(self.matches.cols[at])
        scores = self.matches.scores
        known = inside and scores is not None
        z = float(scores.z[at]) if known and scores is not None else np.nan
        return PlaceQuality(
            row=row,
            col=col,
            inside=inside,
            sharing=tuple(self.ids[i] for i in sharing),
            edge_distance=min(row, col, height - 1 - row, width - 1 - col),
            nodata_distance=self._nodata_distance(at) if inside else np.nan,
            roughness=self._roughness(at),
            factor=float(scores.factor[at]) if known and scores is not None else np.nan,
            level_z=float(scores.level_z[at]) if known and scores is not None else np.nan,
            shape_z=float(scores.shape_z[at]) if known and scores is not None else np.nan,
            z=z,
            shift=self._shift(at, z) if z > SUSPICIOUS_Z else None,
        )

    def _nodata_distance(self, at: int) -> float:
        height, width = self.grid.shape
        down, right = _offsets(NEARBY)
        rows, cols = self.matches.rows[at] + down, self.matches.cols[at] + right
        within = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        lacks = within & ~np.isfinite(self.windows[at]).all(0)
        return float(np.hypot(down, right)[lacks].min()) if lacks.any() else np.nan

    def _roughness(self, at: int) -> float:
        middle = slice(NEARBY - 1, NEARBY + 2)
        around = self.windows[at][:, middle, middle].reshape(len(self.matches.bands), 9).T
        here = around[4]
        around = np.delete(around, 4, axis=0)
        around = around[np.isfinite(around).all(1)]
        if not len(around) or not np.isfinite(here).all() or not here.size:
            return float("nan")
        ratio = log_ratio(around.astype("f8"), here.astype("f8"), self.soft)
        return float(np.sqrt((ratio**2).mean()))

    def _shift(self, at: int, z: float) -> Shift | None:
        """The nearest of the places that agree clearly better, and about as well as the best."""
        if self.agreement is None:
            return None
        down, right = _offsets(NEARBY)
        # Half a pixel more, so that the reach is a disc and not a cross.
        reach = np.hypot(down, right) <= SHIFT + 0.5
        seen = np.moveaxis(self.windows[at][:, reach], 0, -1).astype("f8")
        found = self.agreement.score(self.matches.simulated[at], seen, self.matches.doubt[at]).z
        best = np.nanmin(found)
        if not best <= _CLEARLY_BETTER * min(z, SUSPICIOUS_Z):
            return None
        far = np.where(found <= best + 0.1, np.hypot(down, right)[reach], np.inf)
        chosen = int(far.argmin())
        rows, cols = int(down[reach][chosen]), int(right[reach][chosen])
        a, b, _, d, e, _ = self.grid.transform
        return Shift(
            rows=rows,
            cols=cols,
            dx=a * cols + b * rows + 0.0,  # never -0
            dy=d * cols + e * rows + 0.0,
            z_before=z,
            z_after=float(found[chosen]),
        )

    def common_shift(self) -> tuple[int, int] | None:
        """Rows and columns by which all points together agree at least twice as well."""
        used = self.matches.labels >= 0
        if self.agreement is None or used.sum() < _COMMON_SHIFT_POINTS:
            return None
        calibration, soft = self.agreement.calibration, self.agreement.soft
        misfit: dict[tuple[int, int], float] = {}
        for down, right in zip(*(part.ravel() for part in _offsets(SHIFT)), strict=True):
            seen = self.windows[used][:, :, NEARBY + down, NEARBY + right].astype("f8")
            ratio = log_ratio(self.matches.simulated[used], calibration.reflectance(seen), soft)
            ratio = ratio[np.isfinite(ratio).all(1)]
            if len(ratio) < used.sum() / 2:
                continue
            left = np.sqrt(((ratio - np.median(ratio, axis=0)) ** 2).mean(1))
            misfit[int(down), int(right)] = float(np.median(left))
        best = min(misfit, key=lambda place: misfit[place])
        here = misfit[0, 0]
        # Points that agree to some per cent where they are need no better place.
        clear = here > 0.05 and misfit[best] < _CLEARLY_BETTER * here
        return best if clear else None


def _soft(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """What counts as dark in each band ``(band,)``, from what points measure ``(point, band)``."""
    known = measured[np.isfinite(measured).all(1)]
    usual = np.median(np.abs(known), axis=0) if len(known) else np.zeros(measured.shape[1])
    return np.maximum(SOFT * usual, 1e-6)


def _offsets(reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a square window relative to its middle, ``(y, x)`` each."""
    along = np.arange(-reach, reach + 1)
    down, right = np.meshgrid(along, along, indexing="ij")
    return down, right


def _windows(
    scene: xr.DataArray, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Square windows ``(point, band, y, x)`` around pixels, NaN outside the scene."""
    height, width = scene.sizes["y"], scene.sizes["x"]
    down, right = _offsets(NEARBY)
    size = 2 * NEARBY + 1
    found = np.full((len(rows), scene.sizes["band"], size, size), np.nan, "f4")
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    # Neighbours together, so that no part of the file is read much more than once.
    order = np.flatnonzero(inside)
    order = order[np.lexsort((cols[order] // 512, rows[order] // 512))]
    for some in np.array_split(order, max(1, -(-len(order) // _WINDOW_POINTS))):
        if not len(some):
            continue
        at_rows, at_cols = rows[some, None, None] + down, cols[some, None, None] + right
        dims = ("point", "down", "right")
        read = scene.isel(
            y=xr.DataArray(at_rows.clip(0, height - 1), dims=dims),
            x=xr.DataArray(at_cols.clip(0, width - 1), dims=dims),
        )
        values = np.array(read.transpose("point", "band", "down", "right").values, "f4")
        outside = (at_rows < 0) | (at_rows >= height) | (at_cols < 0) | (at_cols >= width)
        values[np.broadcast_to(outside[:, None], values.shape)] = np.nan
        found[some] = values
    return found


def _findings(
    own: SpectrumQuality,
    others: _Others,
    place: PlaceQuality | None,
    reason: str | None,
    channels: ChannelGrid,
) -> tuple[Finding, ...]:
    """Everything that is to say about a point, worst first."""
    found = [*_dropped(own, place, reason)]
    # What agrees with the scene has the right unit, however bright or dark the others are.
    agrees = place is not None and place.z <= SUSPICIOUS_Z
    unit = None if agrees and own.level <= _NO_REFLECTANCE else _unit(own)
    if unit is not None:
        found.append(unit)
    found += _of_the_spectrum(own, others, channels, unit is None)
    if place is not None:
        found += _of_the_place(own, place)
    return tuple(sorted(found, key=lambda finding: RANK[finding.severity]))


def _dropped(
    own: SpectrumQuality, place: PlaceQuality | None, reason: str | None
) -> Iterator[Finding]:
    match reason:
        case "not finite":
            yield Finding(
                reason,
                "fault",
                "no finite spectrum, or numbers beyond 1000",
                "export it again or delete it",
            )
        case "duplicate id":
            yield Finding(reason, "fault", "its id is there before", "give it an id of its own")
        case "outside":
            yield Finding(
                reason,
                "fault",
                "lies outside the scene",
                "check its coordinates and their reference system",
            )
        case "nodata":
            yield Finding(
                reason, "fault", "lies on pixels without data", "check its place, or leave it out"
            )
        case "too few valid channels":
            yield Finding(
                reason,
                "fault",
                f"covers {100 * own.coverage:.0f} % of the channels",
                "give --wavelengths inside its range",
            )


def _of_the_spectrum(
    own: SpectrumQuality,
    others: _Others,
    channels: ChannelGrid,
    unit_known: bool,
) -> Iterator[Finding]:
    if own.saturated and unit_known:
        yield Finding(
            "saturated",
            "warning",
            f"{own.saturated} samples in a cut-off top or above {BRIGHTEST:g}",
            "check integration time and white reference",
        )
    yield from _of_the_noise(own, others)
    if abs(own.step) > _STEP:
        # A joint outside the channels changes nothing in the cube.
        matters = channels.range_nm[0] <= own.step_nm <= channels.range_nm[1]
        yield Finding(
            "step",
            "warning" if matters else "note",
            f"jumps by {100 * own.step:+.1f} % at {own.step_nm:.0f} nm",
            "join the detectors (splice correction)",
        )
    if own.same_as:
        yield Finding(
            "same spectrum",
            "warning",
            f"the same spectrum as {_listed(own.same_as)}",
            "check which place it belongs to",
        )
    if own.negative and unit_known:
        deep = own.lowest < -0.01
        yield Finding(
            "negative",
            "warning" if deep else "note",
            f"{own.negative} values below zero, down to {own.lowest:.3f}",
            "check dark current and white reference" if deep else "none is needed",
        )
    if own.water_vapour and _reaches(channels, WATER_VAPOUR_NM):
        yield Finding(
            "water vapour",
            "note",
            f"{own.water_vapour} values in the water-vapour windows",
            "cut 1350-1420 and 1800-1950 nm unless it is from a laboratory",
        )
    usual = others.replicate_spread
    # Without others to compare with, the plain limit decides.
    if own.replicate_spread > max(_REPLICATES, _SAID_TO_AGREE * np.nan_to_num(usual)):
        yield Finding(
            "replicates",
            "warning",
            f"its replicates differ by {100 * own.replicate_spread:.0f} %",
            "look at them one by one",
        )


def _unit(own: SpectrumQuality) -> Finding | None:
    """Reflectance that is no reflectance, or another unit than that of the others."""
    ratio = own.level_ratio
    compared = f", {ratio:.3g} times the others" if np.isfinite(ratio) else ""
    high = own.level > _NO_REFLECTANCE or ratio > _OTHER_UNIT
    # Dark water is a hundredth of snow; below a hundredth in every channel nothing is.
    low = ratio < 1 / _OTHER_UNIT and 0 < own.level < 0.005
    if not (high or low):
        return None
    return Finding(
        "units",
        "fault",
        f"a level of {own.level:.3g}{compared}",
        "divide it by 100 (percent) or 10000" if high else "multiply it by 100",
    )


def _of_the_noise(own: SpectrumQuality, others: _Others) -> Iterator[Finding]:
    usual = others.noise
    least = max(_NOISY, _NOISIER * usual) if np.isfinite(usual) else _NOISY_ALONE
    if own.noise > least:
        yield Finding(
            "noisy",
            "warning",
            f"noise of {100 * own.noise:.1f} % from sample to sample",
            "average more readings or leave it out",
        )


def _of_the_place(own: SpectrumQuality, place: PlaceQuality) -> Iterator[Finding]:
    if place.z > SUSPICIOUS_Z:
        yield _disagreement(place)
    if place.sharing:
        yield Finding(
            "shared pixel",
            "note",
            f"in one pixel with {_listed(place.sharing)}",
            "none is needed, they are averaged",
        )
    if 0 < place.nodata_distance < 2:
        yield Finding(
            "near nodata",
            "note",
            f"{place.nodata_distance:.1f} pixels from nodata",
            "check clouds and masks there",
        )
    if place.edge_distance == 0:
        yield Finding("at the edge", "note", "at the scene's edge", "none is needed")
    if place.roughness > _MIXED:
        yield Finding(
            "mixed ground",
            "note",
            f"the pixels around it differ by {100 * place.roughness:.0f} %",
            "its place must be right to a pixel",
        )


def _disagreement(place: PlaceQuality) -> Finding:
    # Shadow changes the colour a little too: by haze, and by skylight.
    brightness = place.level_z > 2 * place.shape_z
    how = (
        f"{place.factor:.3g} times as bright"
        if place.level_z > SUSPICIOUS_Z
        else "of another colour"
    )
    found = f"z = {place.z:.1f} against the scene, {how}"
    factor = _power_of_ten(place.factor)
    if factor is not None and brightness:
        cure = f"divide it by {factor:g}" if factor > 1 else f"multiply it by {1 / factor:g}"
    elif place.shift is not None:
        moved = place.shift
        found += f"; z = {moved.z_after:.1f} {_way(moved.rows, moved.cols)}"
        cure = f"check its place: {moved.dx:+.6g}, {moved.dy:+.6g} in x, y agrees better"
    elif brightness:
        cure = "look for shadow, slope, sun glint and the white reference"
    else:
        cure = "look for another place, a change since, or a wrong file; or --reject-outliers"
    return Finding("disagrees", "warning", found, cure)


def _power_of_ten(factor: float) -> float | None:
    """10, 100, 1000 or 10000, or one over, if that is about the factor."""
    if not factor > 0:
        return None
    power = float(np.log10(factor))
    near = round(power)
    return 10.0**near if 1 <= abs(near) <= 4 and abs(power - near) < 0.15 else None


def _way(rows: int, cols: int) -> str:
    """Pixels up or down, left or right."""
    parts = []
    if rows:
        parts.append(f"{abs(rows)} {'down' if rows > 0 else 'up'}")
    if cols:
        parts.append(f"{abs(cols)} {'right' if cols > 0 else 'left'}")
    return " ".join(parts)


def _common_notes(
    paired: PairedPoints, shift: tuple[int, int] | None, grid: PixelGrid
) -> Iterator[str]:
    if shift is not None:
        a, b, _, d, e, _ = grid.transform
        down, right = shift
        yield (
            f"all points together agree clearly better {_way(down, right)} "
            f"({a * right + b * down:+.6g}, {d * right + e * down:+.6g} in x, y): check the "
            "georeference of scene and points"
        )
    if paired.agreement is None:
        yield "too few points to tell which disagree with the scene"
        return
    gain = float(np.median(paired.agreement.calibration.gain))
    factor = _power_of_ten(gain)
    if factor is not None:
        yield (
            f"the scene is about {factor:g} times the points: check the units of the points, and "
            "--scale"
        )


def _reaches(channels: ChannelGrid, windows: tuple[tuple[float, float], ...]) -> bool:
    centres = channels.centres_nm
    return any(bool(((centres >= low) & (centres <= high)).any()) for low, high in windows)


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def quality_table(quality: PointsQuality) -> dict[str, Any]:
    """Every number of a quality as plain lists and dicts, for JSON; None for what is not known."""
    from dataclasses import asdict

    rows = []
    for point in quality.points:
        row = asdict(point)
        row["severity"] = point.severity
        rows.append(row)
    common = None
    if quality.paired is not None and quality.paired.agreement is not None:
        calibration = quality.paired.agreement.calibration
        common = {
            "kind": calibration.kind,
            "points": calibration.points,
            "bands": calibration.told(quality.bands),
            "level_spread": quality.paired.agreement.level_scale,
        }
    table: dict[str, Any] = _plain(
        {
            "quality": rows,
            "counts": quality.counts(),
            "common": common,
            "common_shift": quality.common_shift,
            "notes": quality.notes,
        }
    )
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
