"""The path layout: a field with the path of each point's spectrum file."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.attributes import identifiers
from pixelssr_geo.points.doubts import name_some
from pixelssr_geo.points.layouts import Candidate, FoundSpectra, interpolated, on_one_grid
from pixelssr_geo.points.profiles import is_no_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from pixelssr_geo.spectra_files import FieldSpectrum

PATH = re.compile(r".*\.(?:asd|sig|sed|sli|spc|spectrum|txt|csv|tsv|dat|asc|hdr)", re.IGNORECASE)
"""Values that are paths of spectrum files."""

_USUAL = re.compile(r"(?:.*[_ ])?(?:path|file|filename|file_name|spectrum)", re.IGNORECASE)


def path_candidates(frame: pd.DataFrame, path: Path, field: str | None = None) -> list[Candidate]:
    """Fields of paths: those that are named so first, then in the file's order."""
    names = [str(name) for name in frame.columns] if field is None else [field]
    found = [name for name in names if _holds_paths(frame[name])]
    found.sort(key=lambda name: not _USUAL.fullmatch(name))
    return [_candidate(frame, name, path) for name in found]


def _holds_paths(column: pd.Series[Any]) -> bool:
    if column.dtype.kind not in "OTSU":
        return False
    first = next((value for value in column if not is_no_value(value)), None)
    return isinstance(first, str) and PATH.fullmatch(first.strip()) is not None


def _candidate(frame: pd.DataFrame, name: str, path: Path) -> Candidate:
    def read() -> FoundSpectra:
        return _read(frame, name, path)

    return Candidate(f"spectrum files in field '{name}'", read)


def _read(frame: pd.DataFrame, column: str, path: Path) -> FoundSpectra:
    texts = [None if is_no_value(value) else str(value).strip() for value in frame[column]]
    ids, _ = identifiers(frame)
    library = _Library(column, path)
    users: dict[str, int] = {}
    for text in texts:
        if text is not None:
            users[text] = users.get(text, 0) + 1
    chosen = [
        [] if text is None else library.spectra(text, name, row, alone=users[text] == 1)
        for row, (text, name) in enumerate(zip(texts, ids, strict=True), 1)
    ]
    pairs, spreads = [], []
    for spectra in chosen:
        pair, spread = _mean(spectra)
        pairs.append(pair)
        spreads.append(spread)
    grid, values, notes = on_one_grid(pairs)
    replicated = sum(len(spectra) > 1 for spectra in chosen)
    if replicated:
        notes += (f"{replicated} points are means of the replicates in their files",)
    empty = [name for name, spectra in zip(ids, chosen, strict=True) if not spectra]
    if empty:
        notes += (f"{len(empty)} points have no spectrum file ({name_some(empty)})",)
    return FoundSpectra(
        wavelengths_nm=grid,
        values=values,
        wavelength_unit=_said("wavelength_unit", chosen),
        scales=np.ones(len(frame)),
        unit=_said("unit", chosen),
        spread=interpolated(grid, spreads) if any(spreads) else None,
        notes=notes,
        attributes=_attributes(chosen),
    )


class _Library:
    """Spectrum files beside a vector file, each read once."""

    def __init__(self, column: str, path: Path) -> None:
        self.column, self.path = column, path
        self._read: dict[Path, list[FieldSpectrum]] = {}
        self._named: dict[Path, dict[str, list[FieldSpectrum]]] = {}

    def spectra(self, text: str, name: str, row: int, *, alone: bool) -> list[FieldSpectrum]:
        """The spectra that belong to one point: of its name, or all of a file that it has alone."""
        where = f"feature {row}, field '{self.column}' of '{self.path}'"
        file = self._find(text, where)
        if file not in self._read:
            from pixelssr_geo.spectra_files import read_spectra_file

            self._read[file] = list(read_spectra_file(file))
            names = self._named.setdefault(file, {})
            for one in self._read[file]:
                names.setdefault(one.name, []).append(one)
        found = self._read[file]
        if len(found) == 1:
            return found
        named = self._named[file].get(name, [])
        if len(named) == 1 or (found and alone):
            return named if len(named) == 1 else found
        raise PointsError(
            f"{where} names '{text}' with {len(found)} spectra, of which {len(named)} are called "
            f"'{name}', one is needed: name the points as the spectra, or give each its own file"
        )

    def _find(self, text: str, where: str) -> Path:
        # Paths written on Windows have backslashes, which are no separators elsewhere.
        for one in (text, text.replace("\\", "/")):
            file = self.path.parent / one
            with contextlib.suppress(OSError):  # a name too long to be one
                if file.is_file():
                    return file
        raise PointsError(
            f"{where} names the spectrum file '{text}', which is not at "
            f"'{self.path.parent / text}': copy it there or correct the path, which counts from "
            f"the folder of '{self.path.name}'"
        )


def _mean(
    spectra: Sequence[FieldSpectrum],
) -> tuple[
    tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    tuple[NDArray[np.float64], NDArray[np.float64]] | None,
]:
    """Mean of replicates and their standard deviation, of a single one what its file says."""
    if not spectra:
        return None, None
    if len(spectra) == 1:
        one = spectra[0]
        own = None if one.spread is None else (one.wavelengths_nm, one.spread)
        return (one.wavelengths_nm, one.reflectance), own
    grid, values, _ = on_one_grid([(one.wavelengths_nm, one.reflectance) for one in spectra])
    finite = np.isfinite(values)
    count = finite.sum(0)
    filled = np.where(finite, values, 0.0)
    mean = np.divide(filled.sum(0), count, out=np.full(len(grid), np.nan), where=count > 0)
    squares = np.where(finite, (values - mean) ** 2, 0.0).sum(0)
    spread = np.full(len(grid), np.nan)
    np.divide(squares, count - 1, out=spread, where=count > 1)
    return (grid, mean), (grid, np.sqrt(spread))


def _attributes(chosen: Sequence[Sequence[FieldSpectrum]]) -> dict[str, tuple[Any, ...]]:
    """What the files say, where all replicates of a point say the same."""
    names = dict.fromkeys(name for spectra in chosen for one in spectra for name in one.attributes)
    return {
        name: tuple(_agreed([one.attributes.get(name) for one in spectra]) for spectra in chosen)
        for name in names
    }


def _said(key: str, chosen: Sequence[Sequence[FieldSpectrum]]) -> str:
    """What the files say of their units, each of it once."""
    return " and ".join(sorted({one.attributes[key] for spectra in chosen for one in spectra}))


def _agreed(values: Sequence[str | None]) -> str | None:
    return values[0] if len(set(values)) == 1 else None
