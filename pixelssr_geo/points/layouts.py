"""What a layout is to the reader: spectra that a file may hold, found first and read if chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.vector_file import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

MOST_WAVELENGTHS = 10_000
"""Spectra of many instruments are kept on the union of their wavelengths up to so many."""

_BRIDGED_NM = 20.0
_BRIDGED_STEPS = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class FoundSpectra:
    """Spectra as the file has them, in its own unit."""

    wavelengths_nm: NDArray[np.float64]
    """Ascending, ``(wavelength,)``."""
    values: NDArray[np.float64]
    """NaN where there is none, ``(point, wavelength)``."""
    wavelength_unit: str
    """What the wavelengths were in."""
    scales: NDArray[np.float64]
    """What divides each spectrum to give 0-1 as the file says, NaN if it does not, ``(point,)``."""
    unit: str = ""
    """What the values were in, where :attr:`scales` do not say it."""
    spread: NDArray[np.float64] | None = None
    """Standard deviation, ``(point, wavelength)``."""
    spread_scales: NDArray[np.float64] | None = None
    """What divides the spread as the file says, ``(point,)``; NaN, or None for all, if it is the
    values' unit."""
    notes: tuple[str, ...] = ()
    """What else there is to say."""
    rows: NDArray[np.int64] | None = None
    """Which row of the layer stands for each point, ``(point,)``; None if each row is a point."""
    places: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """X and y of each point, if they are not the geometries of the rows."""
    id_column: str | None = None
    """Field that names the points, if the layout says which."""
    varying: frozenset[str] = frozenset()
    """Fields that say nothing about a point as a whole."""
    attributes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """What spectrum files say about their spectra."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Spectra that a layer seems to hold."""

    what: str
    """The layout and the field, for notes."""
    read: Callable[[], FoundSpectra]
    """Read them."""
    columns: frozenset[str] = frozenset()
    """Fields of the layer that are parts of spectra."""
    usable: bool = True
    """False for what is recognised and cannot be read; then :attr:`read` raises why."""


def numbers(frame: pd.DataFrame, columns: Sequence[str], where: str) -> NDArray[np.float64]:
    """Fields as numbers, ``(row, column)``, NaN where there is none.

    Raises
    ------
    PointsError
        If a field holds text that is no number.
    """
    try:
        return frame[list(columns)].to_numpy(dtype="f8", na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise PointsError(
            f"{where} hold text ({one_line(error)}), numbers are needed: convert them"
        ) from error


def on_one_grid(
    spectra: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]] | None],
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Wavelengths ``(wavelength,)``, values ``(point, wavelength)`` and what was done, as notes.

    Spectra on one grid keep it. Others are interpolated, each over its own range, to the union of
    all grids, or to regular steps if that would be too many wavelengths. Gaps are bridged up to
    five steps or 20 nm.

    Parameters
    ----------
    spectra
        Ascending wavelengths and values of each point; None for a point without. Spectra on one
        grid may share its array, which saves comparing.
    """
    grids: dict[bytes, NDArray[np.float64]] = {}
    known: dict[int, bytes] = {}
    for pair in spectra:
        if pair is not None and id(pair[0]) not in known:
            known[id(pair[0])] = key = pair[0].tobytes()
            grids.setdefault(key, pair[0])
    grid, notes = _common_grid(list(grids.values()))
    values = np.full((len(spectra), len(grid)), np.nan)
    reaches = {key: _reach(grid, own) for key, own in grids.items()}
    for row, pair in enumerate(spectra):
        if pair is not None:
            x, y = pair
            if len(grids) == 1:
                values[row] = y
            else:
                reach = reaches[known[id(x)]]
                values[row, reach] = np.interp(grid[reach], x, y)
    return grid, values, notes


def interpolated(
    grid: NDArray[np.float64],
    spectra: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]] | None],
) -> NDArray[np.float64]:
    """Spectra interpolated to a given grid, ``(point, wavelength)``; NaN outside their range."""
    values = np.full((len(spectra), len(grid)), np.nan)
    for row, pair in enumerate(spectra):
        if pair is not None:
            values[row] = np.interp(grid, *pair, left=np.nan, right=np.nan)
    return values


def _common_grid(
    grids: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    if len(grids) == 1:
        return grids[0], ()
    union = np.unique(np.concatenate(grids))
    if len(union) <= max(MOST_WAVELENGTHS, 2 * max(map(len, grids))):
        return union, (f"{len(grids)} wavelength grids brought to their union",)
    step = max(
        min(float(np.median(np.diff(grid))) for grid in grids if len(grid) > 1),
        float(np.ptp(union)) / MOST_WAVELENGTHS,
    )
    count = int(np.ptp(union) / step) + 1
    regular = union[0] + step * np.arange(count)
    return regular, (f"{len(grids)} wavelength grids brought to steps of {step:.3g} nm",)


def _reach(grid: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which wavelengths of a grid a spectrum on its own grid reaches."""
    reach = (grid >= own[0]) & (grid <= own[-1])
    if len(own) > 1:
        steps = np.diff(own)
        wide = steps > max(_BRIDGED_NM, _BRIDGED_STEPS * float(np.median(steps)))
        left = np.searchsorted(own, grid, "right").clip(1, len(own) - 1) - 1
        reach &= ~wide[left] | (grid == own[left]) | (grid == own[left + 1])
    return np.asarray(reach)
