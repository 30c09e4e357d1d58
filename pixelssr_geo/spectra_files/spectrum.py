"""A field spectrum, and how one is made of what a file holds: order, units, flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra.units import bright_ends, scale_by_size, scale_note, wavelengths_in_nm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

FLAGS = (-9999.0, -999.0, -32768.0)
"""Values that stand for a missing one in the exports of instruments and libraries."""
_DELETED_BELOW = -1e30
"""USGS libraries mark deleted channels by -1.23e34."""


@dataclass(frozen=True, slots=True, eq=False)
class FieldSpectrum:
    """One spectrum of a spectrometer file."""

    name: str
    """Of the spectrum: the file's for a file with one, else the column's or row's."""
    wavelengths_nm: NDArray[np.float64]
    """Ascending, ``(wavelength,)``."""
    reflectance: NDArray[np.float64]
    """0-1, NaN where a value is missing or flagged, ``(wavelength,)``."""
    attributes: dict[str, str]
    """``file``, ``format``, ``unit`` and ``wavelength_unit`` always; ``date``, ``instrument`` and
    what else the file says about the spectrum."""
    x: float | None
    """Longitude or easting; None if the file has no position."""
    y: float | None
    """Latitude or northing."""
    spread: NDArray[np.float64] | None = None
    """Standard deviation of the scans behind it that the file gives, reflectance, NaN where there
    is none, ``(wavelength,)``; None without."""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Spectra on one wavelength grid as a file has them, before units and order are settled."""

    file: str
    """The file, for messages."""
    format: str
    """The format's name."""
    names: Sequence[str]
    """Of the spectra, ``(spectrum,)``."""
    wavelengths: NDArray[np.float64]
    """In :attr:`wavelength_unit`, in the file's order, ``(wavelength,)``."""
    values: NDArray[np.float64]
    """Reflectance times :attr:`scale`, ``(spectrum, wavelength)``."""
    wavelength_unit: str = ""
    """What the file says; empty if it does not."""
    scale: float = float("nan")
    """What divides the values to give 0-1; NaN if neither file nor format says it."""
    attributes: Sequence[Mapping[str, str]] = ()
    """Of each spectrum, or nothing."""
    positions: Sequence[tuple[float, float] | None] = ()
    """Of each spectrum, or nothing."""
    overlapping: bool = False
    """Whether detectors may overlap, so that wavelengths fall back where one follows another."""
    common: Mapping[str, str] = field(default_factory=dict)
    """Attributes of all spectra."""
    spreads: Sequence[NDArray[np.float64] | None] = ()
    """Standard deviation of each spectrum in the unit of :attr:`values`, or nothing."""


def spectra_of(*parts: Readings) -> list[FieldSpectrum]:
    """Spectra with ascending wavelengths in nm and reflectance 0-1.

    Parameters
    ----------
    *parts
        Of one file: its unit, where it states none, is recognised by the size of all their values.

    Raises
    ------
    PointsError
        If wavelengths are missing, out of order or repeated, or the values are no reflectance.
    """
    cleaned = [without_flags(part.values) for part in parts]
    where = f"'{parts[0].file}'"
    grids = [wavelengths_in_nm(part.wavelengths, part.wavelength_unit, where) for part in parts]
    scale = parts[0].scale
    stated = bool(np.isfinite(scale))
    if not stated:
        pairs = zip(cleaned, grids, strict=True)
        tops = np.concatenate([bright_ends(values, grid) for values, (grid, _) in pairs])
        scale = scale_by_size(tops, where)
    unit = scale_note(scale, stated=stated)
    spectra: list[FieldSpectrum] = []
    for part, values, (grid, said) in zip(parts, cleaned, grids, strict=True):
        units = {"unit": unit, "wavelength_unit": said}
        spectra += _spectra(part, grid, values / scale, scale, units)
    return spectra


def ratio_of(target: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Target through reference, NaN where the reference is zero or missing, ``(wavelength,)``."""
    ratio = np.full(len(target), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(target, reference, out=ratio, where=reference != 0)
    return ratio


def _spectra(
    part: Readings,
    grid: NDArray[np.float64],
    values: NDArray[np.float64],
    scale: float,
    units: dict[str, str],
) -> list[FieldSpectrum]:
    order = _ascending(grid, part)
    common = {"file": Path(part.file).name, "format": part.format, **units, **part.common}
    if cut := len(grid) - len(order):
        common["overlap"] = f"{cut} channels of overlapping detectors cut"
    spectra = []
    for at, name in enumerate(part.names):
        own = part.attributes[at] if part.attributes else {}
        place = part.positions[at] if part.positions else None
        x, y = place if place is not None else (None, None)
        spread = _spread(part.spreads[at] if part.spreads else None, scale, order)
        about = {**own, **common}
        spectra.append(FieldSpectrum(name, grid[order], values[at, order], about, x, y, spread))
    return spectra


def _spread(
    values: NDArray[np.float64] | None, scale: float, order: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Standard deviations as reflectance, negative ones as missing; None without any."""
    if values is None:
        return None
    known = without_flags(values)[order] / scale
    known = np.where(known >= 0, known, np.nan)
    return known if np.isfinite(known).any() else None


def without_flags(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values with NaN for those that stand for a missing one: :data:`FLAGS`, deleted, infinite."""
    flagged = np.isin(values, FLAGS) | (values < _DELETED_BELOW) | ~np.isfinite(values)
    return np.where(flagged, np.nan, values)


def _ascending(grid: NDArray[np.float64], readings: Readings) -> NDArray[np.int64]:
    """Which wavelengths to take, in which order, so that they ascend."""
    index = np.arange(len(grid))
    step = np.diff(grid)
    if (step < 0).all() and len(step):
        return index[::-1]
    if (same := np.flatnonzero(step == 0)).size:
        raise PointsError(
            f"'{readings.file}' gives wavelength {grid[same[0]]:g} nm twice, one value per "
            "wavelength is needed: export it again or delete one"
        )
    falls = np.flatnonzero(step < 0)
    if falls.size == 0:
        return index
    if not readings.overlapping:
        at = falls[0]
        raise PointsError(
            f"'{readings.file}' has wavelengths that do not ascend ({grid[at]:g} nm is followed "
            f"by {grid[at + 1]:g} nm), each may occur once and in order: sort them, or remove the "
            "detectors' overlap on export"
        )
    return _joined(grid, np.split(index, falls + 1), readings.file)


def _joined(
    grid: NDArray[np.float64], detectors: list[NDArray[np.int64]], file: str
) -> NDArray[np.int64]:
    """Detectors one after the other, each up to the middle of its overlap with the next."""
    taken = detectors[0]
    for following in detectors[1:]:
        if len(following) < 3 or grid[following[-1]] <= grid[taken[-1]]:
            raise PointsError(
                f"'{file}' has wavelengths in disorder near {grid[following[0]]:g} nm, runs that "
                "ascend and follow one another are needed: export it again"
            )
        middle = (grid[following[0]] + grid[taken[-1]]) / 2
        taken = np.concatenate([taken[grid[taken] <= middle], following[grid[following] > middle]])
    return taken
