"""The wide layout: one column per wavelength, named by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.layouts import Candidate, FoundSpectra, numbers
from pixelssr_geo.points.profiles import require_once
from pixelssr_geo.spectra.units import wavelengths_in_nm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

COLUMN = re.compile(
    r"(?P<prefix>(?:wavelength|wvl|wl|w|lambda|nm|um|x|v|b|band|r|rho|rfl|refl?|reflectance|"
    r"spec|spectrum|value|std|stdev|stddev|sd|sigma)?)[_ .\-]*"
    r"(?P<number>\d+(?:[.,]\d+)?)"
    r"[_ .]*[\[(]?(?P<unit>(?:nm|[uµμ]m|nanomet(?:er|re)s?|micromet(?:er|re)s?)?)[\])]?",
    re.IGNORECASE,
)
"""Column names that are wavelengths: ``665``, ``X665.0``, ``wl_665``, ``R_665nm``, ``665 nm``."""

_SPREAD = {"std", "stdev", "stddev", "sd", "sigma"}


@dataclass(frozen=True, slots=True)
class _Group:
    """Columns with one prefix."""

    prefix: str
    names: tuple[str, ...]
    """Columns by ascending wavelength."""
    wavelengths_nm: NDArray[np.float64]
    unit: str


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
        parts = {p: named for p, named in parts.items() if p == wanted or p in _SPREAD}
    found = {prefix: named for prefix, named in parts.items() if _is_spectrum(named)}
    numbered = {
        prefix: named
        for prefix, named in parts.items()
        if prefix not in found and prefix not in _SPREAD and _is_numbered(named)
    }
    groups = [_group(prefix, named, path) for prefix, named in found.items()]
    spectra = sorted(
        (group for group in groups if group.prefix not in _SPREAD), key=lambda g: -len(g.names)
    )
    spreads = [group for group in groups if group.prefix in _SPREAD]
    return [_candidate(group, spreads, frame, path) for group in spectra] + [
        _refused(named, path) for named in numbered.values()
    ]


def _number(match: re.Match[str]) -> float:
    return float(match["number"].replace(",", "."))


def _is_numbered(named: dict[str, re.Match[str]]) -> bool:
    """Whether columns are numbered from 0 or 1 on."""
    found = {match["number"].lstrip("0") or "0" for match in named.values() if not match["unit"]}
    return {"1", "2"} <= found or {"0", "1"} <= found


def _is_spectrum(named: dict[str, re.Match[str]]) -> bool:
    # Short names such as "b1" are band numbers, not wavelengths.
    return not _is_numbered(named) and sum(map(_is_wavelength, named.values())) >= 2


def _is_wavelength(match: re.Match[str]) -> bool:
    return _number(match) >= 200 or not match["number"].isdigit() or bool(match["unit"])


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
    return _Group(
        prefix, tuple(names[at] for at in order), grid[order], " and ".join(sorted(units))
    )


def _candidate(
    group: _Group, spreads: Sequence[_Group], frame: pd.DataFrame, path: Path
) -> Candidate:
    spread = next(
        (one for one in spreads if np.array_equal(one.wavelengths_nm, group.wavelengths_nm)), None
    )
    where = f"the wavelength columns of '{path}'"

    def read() -> FoundSpectra:
        require_once(group.wavelengths_nm, where)
        return FoundSpectra(
            wavelengths_nm=group.wavelengths_nm,
            values=numbers(frame, group.names, where),
            wavelength_unit=group.unit,
            scales=np.full(len(frame), np.nan),
            spread=None if spread is None else numbers(frame, spread.names, where),
        )

    spectra = {*group.names, *(name for one in spreads for name in one.names)}
    return Candidate(f"{len(group.names)} wavelength columns", read, frozenset(spectra))


def _refused(named: dict[str, re.Match[str]], path: Path) -> Candidate:
    names = list(named)

    def read() -> FoundSpectra:
        raise PointsError(
            f"'{path}' holds no spectra with wavelengths: the columns '{names[0]}' to "
            f"'{names[-1]}' are numbered bands, columns named by wavelength are needed (such as "
            f"'665' or 'wl_665'): rename them, or store them as profiles"
        )

    return Candidate(f"{len(names)} numbered columns", read, usable=False)
