"""Text tables of spectra: wavelengths in a header, in a first column, or in a column of a list.

The layouts are those of EcoSIS (wide and transposed), SPECCHIO's export, ASD's text exports and
what people make of them in spreadsheets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra.units import LARGEST_NM, lone_ends, may_be_channels, stated_scale, unit_in
from pixelssr_geo.spectra_files.deviations import deviation_rows
from pixelssr_geo.spectra_files.positions import degrees_of
from pixelssr_geo.spectra_files.source import plain_name, plain_stem
from pixelssr_geo.spectra_files.spectrum import FieldSpectrum, Readings, spectra_of
from pixelssr_geo.spectra_files.text import MISSING, TextTable, is_number, split_text, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.spectra_files.source import Source

LAYOUTS = "tables with wavelengths as header, as rows, or as a long list"
"""For messages."""

NAME_WORDS = (
    "id", "name", "sample", "spectrum", "spectra", "target", "ident", "label", "filename", "file",
    "scan", "plot", "point", "site", "station",
)  # fmt: skip
"""Words by which a column is known to name spectra, best first."""
X_WORDS = ("lon", "long", "longitude", "x", "easting", "east", "utmx", "utme", "lng")
"""Words by which a column is known to hold longitudes or eastings."""
Y_WORDS = ("lat", "latitude", "y", "northing", "north", "utmy", "utmn")
"""The same for latitudes or northings."""
_WAVELENGTH_WORDS = frozenset(
    ("wavelength", "wavelengths", "wl", "wvl", "lambda", "wave", "wavenumber", "wavenumbers")
)
_VALUE_WORDS = frozenset(
    ("value", "values", "reflectance", "reflectances", "refl", "reflect", "rho", "intensity")
)
_UNIT_ALONE = re.compile(r"percent|%|dn|(raw\s*)?counts?|(ir)?radiance|absorbance", re.IGNORECASE)
_PERCENT_BEHIND = re.compile(r"[(\[]\s*(%|percent)\s*[)\]]", re.IGNORECASE)
_SPREAD = re.compile(r"st(andar)?d[ ._-]*(dev|err)|\bstd\b|\bsd\b|stdev|uncertaint", re.IGNORECASE)
_DEVIATION = re.compile(
    r"(?:^|[\W_])"
    r"(?:standard[ ._-]*deviation|std[ ._-]*dev(?:iation)?|std(?![ ._-]*err)|sd|stdev)"
    r"(?:$|[\W_])",
    re.IGNORECASE,
)
_AVERAGE = re.compile(r"(?:^|[\W_])(?:mean|average|avg)(?:$|[\W_])", re.IGNORECASE)
_HEADER_WAVELENGTH = re.compile(
    r"(?:(?P<sure>wl|wvl|wavelength|wave|nm|refl?|reflectance)|w|x|b|r|s|band)?[ _.]?"
    r"(?P<number>\d+(?:[.,]\d+)?)[ _]?(?P<unit>nm|[uµμ]m)?",
    re.IGNORECASE,
)
_NM = (200.0, LARGEST_NM)
_UM = (0.2, 30.0)
_SPREAD_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class _Wide:
    header: int
    columns: tuple[int, ...]
    wavelengths: tuple[float, ...]
    unit: str
    lone: tuple[str, ...]
    """Columns that are named by a number far from the others."""


@dataclass(frozen=True, slots=True)
class _Rows:
    start: int
    column: int
    labelled: bool
    wavelengths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Long:
    header: int
    name: int
    wavelength: int
    value: int
    spread: int | None


def read_table(source: Source) -> list[FieldSpectrum] | None:
    """The spectra of a text table; None if it has none of the layouts.

    Raises
    ------
    PointsError
        If the layout is known but it has no data, text among its numbers, or wavelengths that do
        not ascend.
    """
    text = source.text()
    if text.lstrip()[:1] in ("{", "<"):
        return None  # JSON, XML
    table = split_text(text, str(source.path))
    if not table.rows:
        return None
    if (long := _find_long(table)) is not None:
        return _read_long(table, long)
    wide, rows = _find_wide(table), _find_rows(table)
    if wide is not None and not _has_numbers(table, wide):
        wide = None
    if wide is not None and (rows is None or not _rows_rather(wide, rows)):
        return _read_wide(table, wide)
    if rows is not None:
        return _read_rows(table, rows)
    if len(table.rows) < 3 and _has_word(table.rows[-1], _WAVELENGTH_WORDS):
        raise _header_alone(table)
    return None


def column_of(header: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The column whose header has one of the words, the first of them before the others.

    Examples
    --------
    >>> column_of(["Targets_UTMx", "Targets_Lat", "id"], ["lat", "y"])
    1
    """
    known = [words(cell) for cell in header]
    for fits in (
        lambda own, word: own == (word,),
        lambda own, word: own[-1:] == (word,),
        lambda own, word: word in own,
    ):
        for word in wanted:
            for at, own in enumerate(known):
                if fits(own, word):
                    return at
    return None


def _header_alone(table: TextTable) -> PointsError:
    return PointsError(
        f"'{table.file}' has a header and no data below it, spectra are needed: export it again"
    )


def _has_word(cells: Sequence[str], wanted: frozenset[str]) -> bool:
    return any(not wanted.isdisjoint(words(cell)) for cell in cells)


# Wavelengths as header


def _find_wide(table: TextTable) -> _Wide | None:
    widest = max(map(len, table.rows))
    # Titles above the header are short; what is below it is data.
    at = next(at for at, row in enumerate(table.rows) if 2 * len(row) > widest)
    cells = table.rows[at]
    found = [
        (column, match)
        for column, cell in enumerate(cells)
        if (match := _matched(cell)) is not None
    ]
    for unit, (low, high), least in (("nm", _NM, 2), ("um", _UM, 3)):
        chosen = [
            (column, value, match)
            for column, match in found
            if low <= (value := float(match["number"].replace(",", "."))) <= high
            and (unit == "nm" or not match["number"].isdigit())
        ]
        named = any(match["unit"] or match["sure"] for _, _, match in chosen)
        values = np.array([value for _, value, _ in chosen])
        if len(chosen) < least or not may_be_channels(
            values * (1 if unit == "nm" else 1e3), named=named
        ):
            continue
        far = lone_ends(values)
        lone = [
            cells[column]
            for (column, _, m), own in zip(chosen, far, strict=True)
            if own and not m["unit"]
        ]
        kept = [one for one in chosen if cells[one[0]] not in lone]
        columns, wavelengths, matches = zip(*kept, strict=True)
        return _Wide(at, columns, wavelengths, matches[0]["unit"] or unit, tuple(lone))
    return None


def _has_numbers(table: TextTable, wide: _Wide) -> bool:
    """Whether what is below the header is numbers, or nothing."""
    below = range(wide.header + 1, len(table.rows))
    return len(below) == 0 or table.share_of_numbers(below, wide.columns) > 0.5


def _matched(cell: str) -> re.Match[str] | None:
    return _HEADER_WAVELENGTH.fullmatch(cell)


def _read_wide(table: TextTable, wide: _Wide) -> list[FieldSpectrum]:
    header = table.rows[wide.header]
    rows = [
        at
        for at in range(wide.header + 1, len(table.rows))
        if not table.rows[at][0].startswith("#")
    ]
    if not rows:
        raise _header_alone(table)
    spectral = set(wide.columns)
    others = [at for at in range(len(header)) if at not in spectral]
    names = _row_names(table, wide, rows, others)
    values = table.block(rows, wide.columns)
    spread_of = deviation_rows(names, values)
    kept = [at for at in range(len(rows)) if at not in spread_of.values()]
    attributes = [_attributes(header, table.rows[rows[at]], others) for at in kept]
    return spectra_of(
        Readings(
            file=table.file,
            format="table with wavelengths as header",
            names=[names[at] for at in kept],
            wavelengths=np.array(wide.wavelengths),
            values=values[kept],
            wavelength_unit=wide.unit,
            spreads=[values[spread_of[at]] if at in spread_of else None for at in kept],
            attributes=attributes,
            positions=[_place(own) for own in attributes],
            common={"left_out": f"columns {', '.join(wide.lone)}, far from the other wavelengths"}
            if wide.lone
            else {},
        )
    )


def _row_names(
    table: TextTable, wide: _Wide, rows: Sequence[int], others: Sequence[int]
) -> list[str]:
    header = table.rows[wide.header]
    labels = [header[at] if at < len(header) else "" for at in others]
    stem = plain_stem(Path(table.file))
    at = column_of(labels, NAME_WORDS)
    if at is None:
        # Without a word to go by, the first column of text in which no row is like another.
        for place, column in enumerate(others):
            cells = [_cell(table.rows[row], column) for row in rows]
            if len(set(cells)) == len(cells) and not all(map(is_number, cells)):
                at = place
                break
    if at is None:
        return [f"{stem} {number}" for number in range(1, len(rows) + 1)] if rows[1:] else [stem]
    return [
        plain_name(_cell(table.rows[row], others[at])) or f"{stem} {number}"
        for number, row in enumerate(rows, 1)
    ]


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""


def _attributes(
    labels: Sequence[str], cells: Sequence[str], which: Sequence[int]
) -> dict[str, str]:
    return {
        labels[at]: cells[at]
        for at in which
        if at < min(len(labels), len(cells)) and labels[at] and cells[at].lower() not in MISSING
    }


def _place(attributes: Mapping[str, str]) -> tuple[float, float] | None:
    labels = list(attributes)
    x, y = column_of(labels, X_WORDS), column_of(labels, Y_WORDS)
    if x is None or y is None or x == y:
        return None
    found = [_coordinate(attributes[labels[at]]) for at in (x, y)]
    if found[0] is None or found[1] is None or found == [0.0, 0.0]:
        return None
    return found[0], found[1]


def _coordinate(text: str) -> float | None:
    return float(text.replace(",", ".")) if is_number(text) else degrees_of(text)


# Wavelengths as rows


def _find_rows(table: TextTable) -> _Rows | None:
    column, labelled = 0, False
    for at, row in enumerate(table.rows):
        cells = table.cells(at)
        label = next(
            (
                c
                for c, cell in enumerate(cells[:3])
                if not _WAVELENGTH_WORDS.isdisjoint(words(cell))
            ),
            None,
        )
        if label is not None and not is_number(_cell(row, label)):
            column, labelled = label, True
        elif _is_data(row, column):
            return _rows_from(table, at, column, labelled=labelled)
    return None


def _is_data(row: Sequence[str], column: int) -> bool:
    others = [cell for at, cell in enumerate(row) if at != column]
    numbers = sum(is_number(cell) or cell.lower() in MISSING for cell in others)
    return is_number(_cell(row, column)) and len(others) > 0 and 2 * numbers >= len(others)


def _rows_from(table: TextTable, start: int, column: int, *, labelled: bool) -> _Rows | None:
    rows = _data_rows(table, start)
    cells = [_cell(table.rows[row], column) for row in rows]
    if sum(map(is_number, cells)) < 0.5 * len(cells):
        return None
    others = [at for at in range(len(table.rows[start])) if at != column]
    if table.share_of_numbers(rows, others) <= 0.5:
        return None
    values = table.block(rows, [column])[:, 0]
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    nm = _NM[0] / 2 <= finite.min() and finite.max() <= _NM[1]
    um = _UM[0] / 2 <= finite.min() and finite.max() <= _UM[1] and bool((finite % 1).any())
    step = np.diff(finite)
    ordered = bool((step > 0).all() or (step < 0).all())
    if labelled or ordered or (nm and len(finite) >= 5):
        return _Rows(start, column, labelled, tuple(values)) if nm or um else None
    return None


def _data_rows(table: TextTable, start: int) -> list[int]:
    return [at for at in range(start, len(table.rows)) if not table.rows[at][0].startswith("#")]


def _rows_rather(wide: _Wide, rows: _Rows) -> bool:
    """Whether a table that could be both has its wavelengths as rows."""
    if rows.labelled:
        return True
    return len(rows.wavelengths) > len(wide.wavelengths) and min(rows.wavelengths) >= _NM[0]


def _read_rows(table: TextTable, found: _Rows) -> list[FieldSpectrum]:
    rows = _data_rows(table, found.start)
    width = max(len(table.rows[row]) for row in rows)
    headers = [
        cells
        for at in range(found.start)
        if len(cells := table.cells(at)) > 1 and len(cells) <= 3 * width
    ]
    columns = [at for at in range(width) if at != found.column]
    names, named = _column_names(headers, found, columns, table)
    if not columns:
        raise _header_alone(table)
    labels = [_cell(named, column) for column in columns]
    spread_of = _paired_spreads(labels)
    paired = set(spread_of.values())
    kept = [at for at, label in enumerate(labels) if at not in paired and not _SPREAD.search(label)]
    values = table.block(rows, columns).T
    told = {}
    if not named and len(columns) == 2 and _is_spread(values[0], values[1]):
        told["doubt"] = "a second column may be standard deviations, read as a spectrum"
    if not kept:
        raise PointsError(
            f"'{table.file}' has standard deviations and no spectrum, a column of reflectance is "
            "needed: export it again"
        )
    if len(kept) + len(paired) < len(columns):
        told["left_out"] = "standard deviation"
    attributes = [
        {
            cells[found.column].lstrip("# "): cells[columns[at]]
            for cells in headers
            if cells is not named and len(cells) > columns[at] and cells[found.column].strip("# ")
        }
        for at in kept
    ]
    if len(kept) == 1 and not _VALUE_WORDS.isdisjoint(words(_cell(named, columns[kept[0]]))):
        names[kept[0]] = plain_stem(Path(table.file))
    above = [_cell(cells, found.column) for cells in headers]
    return spectra_of(
        Readings(
            file=table.file,
            format="table with wavelengths as rows",
            names=[names[at] for at in kept],
            wavelengths=table.block(rows, [found.column])[:, 0],
            values=values[kept],
            wavelength_unit=_wavelength_unit(above),
            scale=_stated(named, f"'{table.file}'"),
            attributes=attributes,
            positions=[_place(own) for own in attributes],
            common=told,
            spreads=[values[spread_of[at]] if at in spread_of else None for at in kept],
        )
    )


def _paired_spreads(labels: Sequence[str]) -> dict[int, int]:
    """Columns of spectra, and for each the column of its standard deviations.

    They belong together by what is left of their names, as ``oak`` and ``oak_sd``. A lone column of
    deviations without a name of its own belongs to a lone spectrum.
    """
    deviations = {at: _stem(label, _DEVIATION) for at, label in enumerate(labels)}
    spectra = [
        at
        for at, label in enumerate(labels)
        if deviations[at] is None and not _SPREAD.search(label)
    ]
    waiting: dict[str | None, list[int]] = {}
    for at in spectra:
        stem = _stem(labels[at], _AVERAGE) or _stem(labels[at])
        waiting.setdefault(stem, []).append(at)
    found: dict[int, int] = {}
    for column, stem in deviations.items():
        if stem and waiting.get(stem):
            found[waiting[stem].pop(0)] = column
    lone = [at for at, stem in deviations.items() if stem is not None]
    if not found and len(spectra) == 1 and len(lone) == 1 and _SPREAD.search(labels[lone[0]]):
        found[spectra[0]] = lone[0]
    return found


def _stem(label: str, mark: re.Pattern[str] | None = None) -> str | None:
    """A name without a mark and without what separates words; None if it has not that mark."""
    if mark is not None:
        label, count = mark.subn(" ", label)
        if not count:
            return None
    return re.sub(r"[\W_]+", "", label).casefold()


def _names_columns(cells: Sequence[str], cut: Sequence[str], width: int) -> bool:
    """Whether a line above the data can name columns; a sentence cut at its blanks cannot."""
    return len(cut) == width if cells == cut else len(cells) > 1


def _column_names(
    headers: Sequence[Sequence[str]], found: _Rows, columns: Sequence[int], table: TextTable
) -> tuple[list[str], Sequence[str]]:
    """Names of the columns, and the header row that they are from; empty if there is none."""
    stem = plain_stem(Path(table.file))
    numbered = [f"{stem} {at}" for at in range(1, len(columns) + 1)] if columns[1:] else [stem]
    labels = [_cell(cells, found.column).lstrip("# ") for cells in headers]
    at = column_of(labels, NAME_WORDS)
    if at is None:
        at = next(
            (at for at, text in enumerate(labels) if not _WAVELENGTH_WORDS.isdisjoint(words(text))),
            len(headers) - 1 if headers else None,
        )
    if at is None:
        return numbered, ()
    cells = headers[at]
    return [
        plain_name(_cell(cells, column)) or number
        for column, number in zip(columns, numbered, strict=True)
    ], cells


def _is_spread(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether an unnamed second column may be the first one's standard deviation."""
    both = np.isfinite(first) & np.isfinite(second)
    if not both.any() or (second[both] < 0).any():
        return False
    return bool(np.quantile(second[both] / np.maximum(first[both], 1e-9), 0.9) < _SPREAD_SHARE)


def _wavelength_unit(labels: Sequence[str]) -> str:
    """The unit in the headings of a column of wavelengths, the one that calls it so before all."""
    called = [text for text in labels if not _WAVELENGTH_WORDS.isdisjoint(words(text))]
    return next(filter(None, map(unit_in, (*called, *labels))), "")


def _stated(header: Sequence[str], where: str) -> float:
    """What divides values by the headings of their columns; NaN if no heading says it.

    A heading may as well be the name of a spectrum, in which numbers and words say nothing.
    """
    scales = [
        stated_scale(cell, where)
        for cell in header
        if _UNIT_ALONE.fullmatch(cell)
        or _PERCENT_BEHIND.search(cell)
        or not _VALUE_WORDS.isdisjoint(words(cell))
    ]
    return next((scale for scale in scales if np.isfinite(scale)), float("nan"))


# A long list


def _find_long(table: TextTable) -> _Long | None:
    for at, row in enumerate(table.rows[:50]):
        wavelength = _with_word(row, _WAVELENGTH_WORDS)
        spread = next((at for at, cell in enumerate(row) if _DEVIATION.search(cell)), None)
        # A heading may name deviations after the values: reflectance_sd.
        value = _with_word(
            ["" if at == spread else cell for at, cell in enumerate(row)], _VALUE_WORDS
        )
        if wavelength is None or value is None or wavelength == value:
            continue
        others = [c for c in range(len(row)) if c not in (wavelength, value, spread)]
        place = column_of([row[c] for c in others], NAME_WORDS)
        for column in others if place is None else (others[place],):
            below = [_cell(cells, column) for cells in table.rows[at + 1 :]]
            text = any(cell.lower() not in MISSING and not is_number(cell) for cell in below)
            if (place is not None or text) and _is_list(table, at, below, (wavelength, value)):
                return _Long(at, column, wavelength, value, spread)
    return None


def _is_list(table: TextTable, header: int, names: Sequence[str], numbers: tuple[int, int]) -> bool:
    """Whether names recur, one for every wavelength, beside numbers; or there is no row yet."""
    rows = range(header + 1, len(table.rows))
    recur = 2 * len(set(names)) <= len(names)
    return not names or (recur and table.share_of_numbers(rows, numbers) > 0.5)


def _with_word(row: Sequence[str], wanted: frozenset[str]) -> int | None:
    return next((at for at, cell in enumerate(row) if not wanted.isdisjoint(words(cell))), None)


def _read_long(table: TextTable, found: _Long) -> list[FieldSpectrum]:
    header = table.rows[found.header]
    rows = _data_rows(table, found.header + 1)
    if not rows:
        raise _header_alone(table)
    numbers = table.block(rows, [found.wavelength, found.value])
    members: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        members.setdefault(_cell(table.rows[row], found.name), []).append(at)
    spectral = (found.name, found.wavelength, found.value, found.spread)
    others = [at for at in range(len(header)) if at not in spectral]
    scale = stated_scale(header[found.value], f"'{table.file}'")
    if found.spread is None:
        named = _deviation_members(members, numbers)
        spreads = {name: numbers[members[other], 1] for name, other in named.items()}
        members = {name: own for name, own in members.items() if name not in named.values()}
    else:
        column = table.block(rows, [found.spread])[:, 0]
        spreads = {name: column[own] for name, own in members.items()}
    parts = []
    for name, own in members.items():
        lines = [table.rows[rows[at]] for at in own]
        same = [at for at in others if len({_cell(line, at) for line in lines}) == 1]
        attributes = _attributes(header, lines[0], same)
        parts.append(
            Readings(
                file=table.file,
                format="table as a long list",
                names=[plain_name(name) or "unnamed"],
                wavelengths=numbers[own, 0],
                values=numbers[own, 1][None],
                wavelength_unit=unit_in(header[found.wavelength]),
                scale=scale,
                attributes=[attributes],
                positions=[_place(attributes)],
                spreads=[spreads.get(name)],
            )
        )
    return spectra_of(*parts)


def _deviation_members(
    members: Mapping[str, Sequence[int]], numbers: NDArray[np.float64]
) -> dict[str, str]:
    """Names of spectra of a list and, for each, the name under which its deviations are."""
    by_grid: dict[bytes, list[str]] = {}
    for name, own in members.items():
        by_grid.setdefault(numbers[own, 0].tobytes(), []).append(name)
    return {
        names[spectrum]: names[spread]
        for names in by_grid.values()
        for spectrum, spread in deviation_rows(
            names, np.array([numbers[members[name], 1] for name in names])
        ).items()
    }
