"""The EnMAP-Box layout: a field with one JSON text of wavelengths and values per point."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.doubts import name_some
from pixelssr_geo.points.layouts import Candidate, FoundSpectra, interpolated, on_one_grid
from pixelssr_geo.spectra.units import stated_scale, wavelengths_in_nm

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

PROFILES = "profiles"
"""Usual name of the field."""

SPREAD_SUFFIX = "_std"
"""A field of this name beside the profiles holds their standard deviations, in the same form."""


def profile_candidates(
    frame: pd.DataFrame, path: Path, field: str | None = None
) -> list[Candidate]:
    """Profile fields of a layer: the one named ``profiles`` first, others in the file's order.

    Python pickles and Qt's binary JSON come last, as what cannot be used.
    """
    if field is not None:
        names = [field]
    else:
        kinds = {str(name): _kind(_first(frame[name])) for name in frame.columns}
        found = {name for name, kind in kinds.items() if kind is not None}
        names = [
            name
            for name in sorted(kinds, key=lambda name: name.casefold() != PROFILES)
            if name in found and _base(name) not in found
        ]
    candidates = [_candidate(frame, name, path) for name in names]
    return sorted(candidates, key=lambda one: not one.usable)


def _base(name: str) -> str | None:
    return name.removesuffix(SPREAD_SUFFIX) if name.endswith(SPREAD_SUFFIX) else None


def _candidate(frame: pd.DataFrame, name: str, path: Path) -> Candidate:
    spread = f"{name}{SPREAD_SUFFIX}"
    columns = {name, spread} & set(map(str, frame.columns))

    def read() -> FoundSpectra:
        return read_profiles(frame, name, spread if spread in columns else None, path)

    return Candidate(
        f"profiles in field '{name}'",
        read,
        frozenset(columns),
        usable=_kind(_first(frame[name])) != "refused",
    )


def is_no_value(value: Any) -> bool:
    """Whether a field of a feature is empty."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return True
    return isinstance(value, (str, bytes)) and not value.strip()


def _first(column: pd.Series[Any]) -> Any:
    """The first value of a field that is not empty; None if there is none or they are numbers."""
    if column.dtype.kind not in "OTSU":
        return None
    return next((value for value in column if not is_no_value(value)), None)


def _kind(value: Any) -> str | None:
    """What a value is: a profile, one in a form that is refused, or None."""
    if isinstance(value, bytes) and (value[:1] == b"\x80" or value[:4] == b"qbjs"):
        return "refused"
    if isinstance(value, dict):
        return "profile" if "y" in value else None
    if isinstance(value, bytes):
        return "profile" if value.lstrip()[:1] == b"{" and b'"y"' in value else None
    if isinstance(value, str):
        return "profile" if value.lstrip()[:1] == "{" and '"y"' in value else None
    return None


def read_profiles(frame: pd.DataFrame, column: str, spread: str | None, path: Path) -> FoundSpectra:
    """Spectra of a profile field.

    ``xUnit`` and ``yUnit`` are honoured, values that ``bbl`` calls bad are NaN. A feature whose
    field is empty has no spectrum.

    Raises
    ------
    PointsError
        If a feature's field is not a profile.
    """
    reader = _Reader(column, path)
    spectra = [reader.read(value, row) for row, value in enumerate(frame[column].tolist(), 1)]
    if not reader.units:
        raise PointsError(
            f"field '{column}' of '{path}' is empty in all {len(frame)} features, JSON profiles "
            "are needed: give --field or export it again"
        )
    grid, values, notes = on_one_grid(spectra)
    deviations, spread_scales = None, None
    if spread is not None:
        other = _Reader(spread, path)
        pairs = [other.read(value, row) for row, value in enumerate(frame[spread].tolist(), 1)]
        deviations = interpolated(grid, pairs)
        spread_scales = np.array(other.scales)
    empty = [str(row) for row, pair in enumerate(spectra, 1) if pair is None]
    if empty:
        notes = (*notes, f"{len(empty)} features have no spectrum (number {name_some(empty)})")
    return FoundSpectra(
        wavelengths_nm=grid,
        values=values,
        wavelength_unit=" and ".join(sorted(reader.units)),
        scales=np.array(reader.scales),
        spread=deviations,
        spread_scales=spread_scales,
        notes=notes,
    )


class _Reader:
    """Reads the profiles of one field; those with the wavelengths of the last share its array."""

    def __init__(self, column: str, path: Path) -> None:
        self.column, self.path = column, path
        self.units: set[str] = set()
        self.scales: list[float] = []
        self._last: tuple[Any, str] | None = None
        self._grid = np.empty(0)
        self._order = np.empty(0, "i8")
        self._stated: dict[str, float] = {}

    def read(self, value: Any, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        where = f"feature {row}, field '{self.column}' of '{self.path}'"
        if is_no_value(value):
            self.scales.append(np.nan)
            return None
        profile = self._parse(value, where)
        y = self._values(profile, where)
        self._settle_grid(profile, y, where)
        said = str(profile.get("yUnit") or "")
        if said not in self._stated:
            self._stated[said] = stated_scale(said, where)
        self.scales.append(self._stated[said])
        if (bad := profile.get("bbl")) is not None:
            y = np.where(_good(bad, y, where), y, np.nan)
        return self._grid, y[self._order]

    def _parse(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, bytes):
            self._require_json(value, where)
        try:
            profile = value if isinstance(value, dict) else json.loads(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise _no_spectrum(where, error) from error
        if not isinstance(profile, dict):
            raise _no_spectrum(where, TypeError(f"a {type(profile).__name__}"))
        for name in ("x", "y"):
            if profile.get(name) is None:
                raise _no_spectrum(where, KeyError(name))
        return profile

    def _require_json(self, value: bytes, where: str) -> None:
        named = f"field '{self.column}' of '{self.path}'"
        if value[:1] == b"\x80":
            raise PointsError(
                f"{named} is a Python pickle, which can run code when opened and is never read: "
                "save the profiles as JSON text"
            )
        if value[:4] == b"qbjs":
            raise PointsError(
                f"{named} is Qt binary JSON, only JSON text is read: save the spectral library "
                "again with a text or JSON profile field"
            )
        if value.lstrip()[:1] != b"{":
            raise PointsError(f"{where} is binary and not JSON: save the profiles as JSON text")

    def _values(self, profile: dict[str, Any], where: str) -> NDArray[np.float64]:
        try:
            _require_numbers("y", profile["y"])
            return np.array([np.nan if v is None else v for v in profile["y"]], "f8")
        except (TypeError, ValueError, OverflowError) as error:
            raise _no_spectrum(where, error) from error

    def _settle_grid(self, profile: dict[str, Any], y: NDArray[np.float64], where: str) -> None:
        raw, unit = profile["x"], str(profile.get("xUnit") or "")
        if self._last is None or self._last != (raw, unit):
            try:
                _require_numbers("x", raw)
                x = np.array(raw, "f8")
            except (TypeError, ValueError, OverflowError) as error:
                raise _no_spectrum(where, error) from error
            if x.ndim != 1 or x.shape != y.shape or len(x) == 0 or not np.isfinite(x).all():
                raise _unequal(where, x.size, y.size)
            grid, name = wavelengths_in_nm(x, unit, where)
            self._order = np.argsort(grid, kind="stable")
            self._grid = grid[self._order]
            require_once(self._grid, where)
            self.units.add(name)
            self._last = (raw, unit)
        if y.shape != self._grid.shape:
            raise _unequal(where, self._grid.size, y.size)


def _require_numbers(name: str, values: Any) -> None:
    """Refuse what NumPy would turn into numbers, as text, its digits and truth values."""
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"'{name}' is a {type(values).__name__}")
    if others := set(map(type, values)) - {int, float, type(None)}:
        raise TypeError(f"'{name}' holds a {min(other.__name__ for other in others)}")


def require_once(grid: NDArray[np.float64], where: str) -> None:
    """Refuse ascending wavelengths of which one is there twice."""
    if (twice := grid[1:][np.diff(grid) == 0]).size:
        raise PointsError(
            f"{where} gives wavelength {twice[0]:g} nm twice, one value per wavelength is needed: "
            "export it again"
        )


def _good(bad_bands: Any, y: NDArray[np.float64], where: str) -> NDArray[np.bool_]:
    """Bands that the list of bad bands does not call bad (by 0 or false)."""
    if not isinstance(bad_bands, list) or len(bad_bands) != len(y):
        size = len(bad_bands) if isinstance(bad_bands, list) else "no"
        raise PointsError(
            f"{where} has {size} entries of 'bbl' for {len(y)} values, one 0 or 1 per value is "
            "needed: export it again"
        )
    return np.array([bool(good) for good in bad_bands])


def _unequal(where: str, wavelengths: int, values: int) -> PointsError:
    return PointsError(
        f"{where} has {wavelengths} wavelengths and {values} values, one finite wavelength per "
        "value is needed: export it again"
    )


def _no_spectrum(where: str, error: Exception) -> PointsError:
    said = " ".join(str(error).split())
    return PointsError(
        f"{where} is not a spectrum, JSON with number lists 'x' (wavelengths) and 'y' "
        f"(reflectance) is needed ({type(error).__name__}: {said}): export it again or delete "
        "the feature"
    )
