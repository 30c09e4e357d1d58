"""Reading response functions from small text files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import ResponseError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Table = tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]

_BLOCK_TITLE = re.compile(r"^[#;].*?\bband\s+(\w+)[ \t]*(\S.*?)?\s*$", re.IGNORECASE)
_MICROMETRES_END = 100.0
"""Wavelengths that are all below are micrometres."""


def read_table(path: Path) -> Table:
    """Band names, wavelengths (nm, ascending) and values ``(band, wavelength)`` of a CSV table.

    Raises
    ------
    ResponseError
        If the file cannot be read or is not such a table.
    """
    lines = [
        (number, line)
        for number, line in enumerate(_read_lines(path), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ResponseError(
            f"response file {path} is empty, expected a header wavelength_nm,<band>,... and "
            "one row a wavelength: fill it"
        )
    separator = next((mark for mark in ",;\t" if mark in lines[0][1]), None)
    titles = [word.strip().strip('"') for word in lines[0][1].split(separator)]
    if _is_number(titles[0]):
        raise ResponseError(
            f"response file {path} starts with the number {titles[0]}, expected the header "
            "wavelength_nm,<band>,...: name the columns in the first line"
        )
    columns = [at for at, title in enumerate(titles) if at > 0 and title]
    if not columns:
        raise ResponseError(
            f"response file {path} has the header {lines[0][1].strip()!r}, expected "
            "wavelength_nm,<band>,... with at least one band: separate the columns by commas"
        )
    rows: list[list[float]] = []
    for number, line in lines[1:]:
        words = line.split(separator)
        if not rows and not _is_number(words[0]):
            continue  # a further line of titles, such as units or centres
        rows.append(_numbers_of(words, [0, *columns], f"line {number} of response file {path}"))
    if not rows:
        raise ResponseError(
            f"response file {path} has a header and no numbers, expected one row a wavelength: "
            "fill it"
        )
    table = np.array(rows)
    table = table[np.argsort(table[:, 0], kind="stable")]
    names = tuple(titles[at] for at in columns)
    return names, _in_nanometres(table[:, 0]), np.ascontiguousarray(table[:, 1:].T)


def read_blocks(path: Path) -> Table | None:
    """Band names, wavelengths and values as :func:`read_table`, of a text file with a block per band.

    None if no block has a title. The blocks' wavelengths are merged; between its own wavelengths a band is linear, beyond
    them zero.

    Raises
    ------
    ResponseError
        If the file cannot be read, or a line of a block is not wavelength and response.
    """
    lines = _read_lines(path)
    if not _starts_with_numbers(lines):
        return None
    blocks: dict[str, list[list[float]]] = {}
    title = None
    for number, line in enumerate(lines, start=1):
        if found := _BLOCK_TITLE.match(line):
            title = _band_name(found[1], found[2])
        elif title is not None and line.strip() and line[0] not in "#;":
            words = line.replace(",", " ").split()
            row = _numbers_of(words, [0, 1], f"line {number} of response file {path}")
            blocks.setdefault(title, []).append(row)
    if not blocks:
        return None
    longest = max(row[0] for rows in blocks.values() for row in rows)
    scale = 1000.0 if longest < _MICROMETRES_END else 1.0
    bands = {name: _closed(np.array(rows) * [scale, 1.0]) for name, rows in blocks.items()}
    merged = np.unique(np.concatenate([band[:, 0] for band in bands.values()]))
    values = np.stack(
        [np.interp(merged, band[:, 0], band[:, 1], left=0, right=0) for band in bands.values()]
    )
    return tuple(bands), merged, values


def _starts_with_numbers(lines: list[str]) -> bool:
    """Whether there is no line of column titles, as a CSV table has below its comments."""
    data = (line for line in lines if line.strip() and line[0] not in "#;")
    return _is_number(next(data, "x").replace(",", " ").split()[0])


def _closed(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sorted block with a zero one step beyond each end.

    Without the zeros, a band cut off at 1 % would fall to zero only at the next band's first
    wavelength, which may be hundreds of nanometres away.
    """
    block = block[np.argsort(block[:, 0], kind="stable")]
    if len(block) < 2:
        return block
    before = [2 * block[0, 0] - block[1, 0], 0.0]
    after = [2 * block[-1, 0] - block[-2, 0], 0.0]
    return np.vstack([before, block, after])


def _band_name(number: str, name: str | None) -> str:
    if name:
        return name
    return f"B{number}" if number[0].isdigit() else number


def _in_nanometres(wavelengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return wavelengths * 1000 if wavelengths.max() < _MICROMETRES_END else wavelengths


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ResponseError(
            f"response file {path} cannot be read ({error}), expected a text file: "
            "give a CSV with the header wavelength_nm,<band>,..."
        ) from error


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers_of(words: list[str], columns: list[int], where: str) -> list[float]:
    if len(words) <= max(columns):
        raise ResponseError(
            f"{where} has {len(words)} columns, expected {max(columns) + 1}: complete the line"
        )
    for at in columns:
        if not _is_number(words[at]):
            raise ResponseError(
                f"{where} holds {words[at].strip()!r} in column {at + 1}, expected a number: "
                "write 0 for no response"
            )
    return [float(words[at]) for at in columns]
