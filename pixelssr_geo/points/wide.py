"""The wide layout: one column per wavelength, named by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.layouts import Candidate, FoundSpectra, numbers
from pixelssr_geo.points.profiles import require_once
from pixelssr_geo.spectra.units import (
    LARGEST_NM,
    MICROMETRES_END,
    lone_ends,
    may_be_channels,
    wavelengths_in_nm,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

_SPREAD_WORDS = "std|stdev|stddev|sd|sigma"
_WORDS = (
    "wavelength|wvl|wl|w|lambda|nm|um|x|v|b|band|r|rho|rfl|refl?|reflectance|spec|spectrum|value"
)
COLUMN = re.compile(
    rf"(?P<prefix>(?:(?:{_WORDS})[_ .\-]+)?(?:{_SPREAD_WORDS})|(?:{_WORDS})?)[_ .\-]*"
    r"(?P<number>\d+(?:[.,]\d+)?)"
    r"[_ .]*[\[(]?(?P<unit>(?:nm|[uµμ]m|nanomet(?:er|re)s?|micromet(?:er|re)s?)?)[\])]?",
    re.IGNORECASE,
)
"""Column names that are wavelengths: ``665``, ``X665.0``, ``wl_665``, ``R_665nm``, ``665 nm``."""

_SPREAD = re.compile(rf"(?:(?P<of>.+?)[_ .\-]+)?(?:{_SPREAD_WORDS})", re.IGNORECASE)
_SURE = frozenset(
    ("wavelength", "wvl", "wl", "lambda", "nm", "um", "rho", "rfl", "ref", "refl", "reflectance")
)
"""Prefixes after which even two numbers are wavelengths."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Columns with one prefix."""

    prefix: str
    names: tuple[str, ...]
    """Columns by ascending wavelength."""
    wavelengths_nm: NDArray[np.float64]
    unit: str
    notes: tuple[str, ...]


def wide_candidates(
    columns: Iterable[object], frame: pd.DataFrame, path: Path, field: str | None = None
) -> list[Candidate]:
    """Groups of columns whose names are one prefix and wavelengths, the largest first.

    Columns that are numbered from 0 or 1 on are bands without wavelengths; they come last, as what
    cannot be used. With ``field`` only the group of that prefix counts.
    """
    parts: dict[str, dict[str, re.Match[str]]] = {}
    for name in map(str, columns):
        if match := COLUMN.fullmatch(name.strip()):
            parts.setdefault(match["prefix"].casefold(), {})[name] = match
    if field is not None:
        wanted = field.casefold().rstrip("_ .-")
        parts = {p: named for p, named in parts.items() if p == wanted or _SPREAD.fullmatch(p)}
    found = {prefix: named for prefix, named in parts.items() if _is_spectrum(prefix, named)}
    numbered = {
        prefix: named
        for prefix, named in parts.items()
        if prefix not in found and not _SPREAD.fullmatch(prefix) and _is_numbered(named)
    }
    groups = [_group(prefix, named, path) for prefix, named in found.items()]
    spectra = sorted(
        (group for group in groups if not _SPREAD.fullmatch(group.prefix)),
        key=lambda group: -len(group.names),
    )
    spreads = [group for group in groups if _SPREAD.fullmatch(group.prefix)]
    return [_candidate(group, spreads, frame, path) for group in spectra] + [
        _refused(named, path) for named in numbered.values()
    ]


def _number(match: re.Match[str]) -> float:
    return float(match["number"].replace(",", "."))


def _is_numbered(named: dict[str, re.Match[str]]) -> bool:
    """Whether columns are numbered from 0 or 1 on."""
    found = {match["number"].lstrip("0") or "0" for match in named.values() if not match["unit"]}
    return {"1", "2"} <= found or {"0", "1"} <= found


def _is_spectrum(prefix: str, named: dict[str, re.Match[str]]) -> bool:
    # Short names such as "b1" are band numbers, not wavelengths.
    kept = [match for match in named.values() if _is_wavelength(match)]
    if _is_numbered(named) or len(kept) < 2:
        return False
    values = np.array([_number(match) for match in kept])
    said = prefix in _SURE or any(match["unit"] for match in kept)
    small = bool(values.max() < MICROMETRES_END)
    return may_be_channels(values * (1e3 if small else 1), named=said)


def _is_wavelength(match: re.Match[str]) -> bool:
    if match["unit"]:
        return True
    return 200 <= (number := _number(match)) <= LARGEST_NM or (
        number < 200 and not match["number"].isdigit()
    )


def _group(prefix: str, named: dict[str, re.Match[str]], path: Path) -> _Group:
    kept = {name: match for name, match in named.items() if _is_wavelength(match)}
    values = np.array([_number(match) for match in kept.values()])
    said = [match["unit"] or (prefix if prefix in ("nm", "um") else "") for match in kept.values()]
    grid = np.empty(len(values))
    units = set()
    where = f"the columns of '{path}'"
    for unit in set(said):
        of_unit = np.array([one == unit for one in said])
        grid[of_unit], name = wavelengths_in_nm(values[of_unit], unit, where)
        units.add(name)
    order = np.argsort(grid, kind="stable")
    names = list(kept)
    lone = lone_ends(grid) & np.array([not match["unit"] for match in kept.values()])
    notes = tuple(
        f"column '{names[at]}' is far from the other wavelengths: taken as an attribute"
        for at in order[lone[order]]
    )
    order = order[~lone[order]]
    return _Group(
        prefix, tuple(names[at] for at in order), grid[order], " and ".join(sorted(units)), notes
    )


def _candidate(
    group: _Group, spreads: Sequence[_Group], frame: pd.DataFrame, path: Path
) -> Candidate:
    own = [one for one in spreads if _is_spread_of(one, group)]
    # R_std_400 rather than std_400 is the spread of R_400.
    spread = max(own, key=lambda one: len(one.prefix), default=None)
    where = f"the wavelength columns of '{path}'"

    def read() -> FoundSpectra:
        require_once(group.wavelengths_nm, where)
        return FoundSpectra(
            wavelengths_nm=group.wavelengths_nm,
            values=numbers(frame, group.names, where),
            wavelength_unit=group.unit,
            scales=np.full(len(frame), np.nan),
            spread=None if spread is None else numbers(frame, spread.names, where),
            notes=group.notes,
        )

    spectra = {*group.names, *(name for one in spreads for name in one.names)}
    return Candidate(f"{len(group.names)} wavelength columns", read, frozenset(spectra))


def _is_spread_of(spread: _Group, group: _Group) -> bool:
    match = _SPREAD.fullmatch(spread.prefix)
    of = match["of"] if match else None
    same = np.array_equal(spread.wavelengths_nm, group.wavelengths_nm)
    return same and of in (None, group.prefix)


def _refused(named: dict[str, re.Match[str]], path: Path) -> Candidate:
    names = list(named)

    def read() -> FoundSpectra:
        raise PointsError(
            f"'{path}' holds no spectra with wavelengths: the columns '{names[0]}' to "
            f"'{names[-1]}' are numbered bands, columns named by wavelength are needed (such as "
            f"'665' or 'wl_665'): rename them, or store them as profiles"
        )

    return Candidate(f"{len(names)} numbered columns", read, usable=False)
