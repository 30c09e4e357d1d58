"""Text tables as instruments and spreadsheets write them: any delimiter, any decimal mark."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eEdD][+-]?\d+)?")
"""A number with a decimal point or comma."""
MISSING = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "-", "--", "#n/a", "#na", "#div/0!", "inf", "-inf")
)
"""Cells that say that there is no number, in lower case."""
_DELIMITERS = ("\t", ";", ",", None)
_NO_MEASURED = re.compile(r"[_a-df-zA-DF-Z]")
_AT_ONCE = 65_536
"""Cells that are converted together, which bounds the memory that a large table takes."""
_SAMPLE = 40
_WIDTH = 200


@dataclass(frozen=True, slots=True)
class TextTable:
    """The lines of a text that are not blank, cut into cells."""

    file: str
    """For messages."""
    lines: tuple[str, ...]
    """As they stand in the file."""
    numbers: tuple[int, ...]
    """Of these lines, from 1."""
    rows: tuple[tuple[str, ...], ...]
    """Cells without the blanks around them, and without empty ones at the end."""
    delimiter: str | None
    """None for blanks."""
    decimal_comma: bool
    """Whether decimals are marked by a comma."""

    def value(self, cell: str) -> float:
        """A cell's number, NaN for a missing one; ValueError for other text."""
        if cell.lower() in MISSING:
            return float("nan")
        # float() also takes 1_000 and infinity, which are no measured values.
        if NUMBER.fullmatch(cell) is None:
            raise ValueError(cell)
        plain = cell.replace(",", ".") if self.decimal_comma else cell
        return float(plain.replace("d", "e").replace("D", "e"))

    def block(self, rows: Sequence[int], columns: Sequence[int]) -> NDArray[np.float64]:
        """Numbers of some rows and columns, ``(row, column)``; NaN where a cell is missing.

        Raises
        ------
        PointsError
            If a cell is neither a number nor missing.
        """
        found = np.full((len(rows), len(columns)), np.nan)
        count = max(1, _AT_ONCE // max(len(columns), 1))
        for start in range(0, len(rows), count):
            some = rows[start : start + count]
            if (quick := self._all_numbers(some, columns)) is not None:
                found[start : start + count] = quick
            else:
                self._fill(found[start : start + count], some, columns)
        return found

    def _fill(
        self, found: NDArray[np.float64], rows: Sequence[int], columns: Sequence[int]
    ) -> None:
        for at, row in enumerate(rows):
            cells = self.rows[row]
            if len(rows) > 1 and (quick := self._all_numbers([row], columns)) is not None:
                found[at] = quick[0]
                continue
            for place, column in enumerate(columns):
                if column >= len(cells):
                    continue
                try:
                    found[at, place] = self.value(cells[column])
                except ValueError:
                    raise PointsError(
                        f"line {self.numbers[row]} of '{self.file}' has the text "
                        f"{shortened(cells[column])!r} in column {column + 1}, a number is "
                        "needed: correct it or leave it empty"
                    ) from None

    def _all_numbers(
        self, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float64] | None:
        """Numbers of rows in which every cell is one, many times faster; else None."""
        try:
            chosen = [self.rows[row][column] for row in rows for column in columns]
        except IndexError:
            return None
        plain = "\n".join(chosen)
        # What float() takes and is no measured value: 1_000, nan, inf.
        if _NO_MEASURED.search(plain):
            return None
        if self.decimal_comma:
            chosen = plain.replace(",", ".").split("\n")
        try:
            return np.array(list(map(float, chosen))).reshape(len(rows), len(columns))
        except ValueError:
            return None

    def share_of_numbers(self, rows: Sequence[int], columns: Sequence[int]) -> float:
        """Share of the cells that are not missing, of a sample of rows, which are numbers."""
        cells = [
            cell
            for row in rows[:_SAMPLE]
            for column in columns[:_WIDTH]
            if (cell := (*self.rows[row], "")[min(column, len(self.rows[row]))]).lower()
            not in MISSING
        ]
        return sum(map(is_number, cells)) / len(cells) if cells else 0.0

    def cells(self, row: int) -> tuple[str, ...]:
        """Cells of a line that may be cut otherwise than the numbers are, as headers can be."""
        if self.delimiter is not None or not (
            mark := next((mark for mark in "\t;," if mark in self.lines[row]), None)
        ):
            return self.rows[row]
        return _cut(self.lines[row], mark)


def split_text(text: str, file: str, start: int = 0) -> TextTable:
    """The table in a text; its delimiter is the one that gives rows alike and full of numbers.

    Parameters
    ----------
    text
        With newlines as ends of lines.
    file
        For messages.
    start
        Where in the text the table begins.
    """
    kept = [
        (number, line)
        for number, line in enumerate(text[start:].split("\n"), 1 + text.count("\n", 0, start))
        if line.strip("\t ,;\0\x1a")
    ]
    delimiter = _delimiter([line for _, line in kept])
    cut = [(number, line, row) for number, line in kept if (row := _cut(line, delimiter))]
    numbers, lines, rows = zip(*cut, strict=True) if cut else ((), (), ())
    return TextTable(file, lines, numbers, rows, delimiter, _decimal_comma(rows[-_SAMPLE:]))


def is_number(cell: str) -> bool:
    """Whether a cell is a number, with a decimal point or comma."""
    return NUMBER.fullmatch(cell) is not None


def words(header: str) -> tuple[str, ...]:
    """A header's words in lower case.

    Examples
    --------
    >>> words("Targets_UTMx"), words("Wavelength (nm)")
    (('targets', 'utmx'), ('wavelength', 'nm'))
    """
    return tuple(word for word in re.split(r"[^a-zåµμ%]+", header.lower()) if word)


def shortened(text: str, limit: int = 40) -> str:
    """Text for a message: one line, not longer than ``limit``."""
    plain = " ".join(text.split())
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def _cut(line: str, delimiter: str | None) -> tuple[str, ...]:
    cells = _cells(line, delimiter)
    while cells and not cells[-1]:
        cells.pop()
    return tuple(cells)


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    if '"' not in line:
        return [cell.strip() for cell in line.replace("\0", "").split(delimiter)]
    try:
        cells = next(csv.reader([line.replace("\0", "")], delimiter=delimiter, strict=False))
    except csv.Error:  # a field of more than 128 KiB behind an open quote
        cells = line.split(delimiter)
    return [cell.strip().strip('"').strip() for cell in cells]


def _delimiter(lines: Sequence[str]) -> str | None:
    # The end of a file is data; a header may be written otherwise.
    sample = lines[max(1, len(lines) - _SAMPLE) :] or lines
    best, delimiter = 0.0, None
    for candidate in _DELIMITERS:
        rows = [_cells(line, candidate) for line in sample]
        # With missing cells at their ends, as programs write them or not.
        whole = Counter(len(row) for row in rows if len(row) > 1)
        trimmed = Counter(len(row) for line in sample if len(row := _cut(line, candidate)) > 1)
        if not trimmed:
            continue
        alike = max(max(whole.values()), max(trimmed.values())) / len(rows)
        cells = [cell for row in rows for cell in row[:_WIDTH] if cell.lower() not in MISSING]
        score = alike * sum(map(is_number, cells)) / max(len(cells), 1)
        if score > best + 1e-9:
            best, delimiter = score, candidate
    if best == 0.0:
        return next((mark for mark in "\t;," if lines and mark in lines[0]), None)
    return delimiter


def _decimal_comma(rows: Iterable[Sequence[str]]) -> bool:
    commas = points = 0
    for row in rows:
        for cell in row[:_WIDTH]:
            if is_number(cell):
                commas += "," in cell
                points += "." in cell
    return commas > points
