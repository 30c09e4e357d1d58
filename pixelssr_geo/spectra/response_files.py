"""Reading response functions from small files: text tables, GeoJSON, GeoPackage."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import ResponseError
from pixelssr_geo.spectra.units import unit_in, wavelengths_in_nm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Table = tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]

_BLOCK_TITLE = re.compile(r"^[#;].*?\bband\s+(\w+)[ \t]*(\S.*?)?\s*$", re.IGNORECASE)
_LIMITS = re.compile(r"\s*\(\d[^)]*\)\s*$")
_NUMBERED = re.compile(r"(B\d+A?)\s*[-\u2013]\s")
_LAYOUTS = (
    "a CSV table, a text file with a block per band, GeoJSON or a GeoPackage of response profiles"
)
_REFUSED = {
    b"\x93NUMPY": "a NumPy array",
    b"PK\x03\x04": "a NumPy or other archive",
    b"MATLAB": "a MATLAB file",
    b"\x89HDF": "an HDF5 file",
    b"\x80": "a Python pickle, which can run code when opened,",
}
"""First bytes of files that are told by name when they are refused."""
_PROFILE_FIELDS = ("response", "profiles")
_FEATURES = "select table_name from gpkg_contents where data_type in ('features', 'attributes')"
_SQLITE = b"SQLite format 3\0"


def read_by_band(path: Path) -> Table | None:
    """Band names, wavelengths and values as :func:`read_table`, of a file that goes band by band.

    None if it is a table of columns.

    Raises
    ------
    ResponseError
        If the file cannot be read or is of a kind that is not opened.
    """
    start = _first_bytes(path)
    if start.startswith(_SQLITE):
        return _merged(_profiles(path, _package_rows(path)))
    for mark, what in _REFUSED.items():
        if start.startswith(mark):
            raise ResponseError(
                f"response file {path} is {what} and not opened, expected {_LAYOUTS}: export the "
                "responses as a CSV with the header wavelength_nm,<band>,..."
            )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _merged(_profiles(path, _json_rows(path)))
    return read_blocks(path)


def read_bands(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and widths in nm, ``(band,)`` each, of a table with the header ``wavelength,fwhm``.

    Raises
    ------
    ResponseError
        If the file cannot be read or is not such a table.
    """
    titles, stated, widths = _columns(path)
    centres, unit = _in_nm(stated, titles[0], path)
    fwhm = widths[:, 0]
    # Centres in micrometres may stand beside widths in nanometres.
    micrometres = unit.startswith("um") and fwhm.max() < 1
    return centres, fwhm * 1000 if micrometres else fwhm


def read_table(path: Path) -> Table:
    """Band names, wavelengths (nm, ascending) and values ``(band, wavelength)`` of a CSV table.

    Raises
    ------
    ResponseError
        If the file cannot be read or is not such a table.
    """
    titles, stated, values = _columns(path)
    wavelengths, _ = _in_nm(stated, titles[0], path)
    order = np.argsort(wavelengths, kind="stable")
    return titles[1:], wavelengths[order], np.ascontiguousarray(values[order].T)


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
    rows = np.concatenate([np.array(own) for own in blocks.values()])
    rows[:, 0], _ = _in_nm(rows[:, 0], "", path)
    ends = np.cumsum([len(own) for own in blocks.values()])
    return _merged(dict(zip(blocks, np.split(rows, ends[:-1]), strict=True)))


def _columns(path: Path) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Titles of the columns, the first column, and the others ``(row, column)``."""
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
    return tuple(titles[at] for at in (0, *columns)), table[:, 0], table[:, 1:]


def states_bands(path: Path) -> bool:
    """Whether the file is a table of centres and widths, by its titles."""
    lines = (line.strip() for line in _read_lines(path))
    first = next((line for line in lines if line and not line.startswith("#")), "")
    words = [word.strip(' "').lower() for word in re.split(r"[,;\t]", first)]
    centre = re.match(r"(wavelength|cent(er|re))", words[0])
    return len(words) == 2 and bool(centre) and words[1].startswith(("fwhm", "width", "bandwidth"))


def _merged(blocks: dict[str, NDArray[np.float64]]) -> Table:
    """Bands on one list of wavelengths, from a block of wavelength and response for each."""
    bands = {name: _closed(block) for name, block in blocks.items()}
    merged = np.unique(np.concatenate([band[:, 0] for band in bands.values()]))
    values = np.stack(
        [np.interp(merged, band[:, 0], band[:, 1], left=0, right=0) for band in bands.values()]
    )
    return tuple(bands), merged, values


def _profiles(path: Path, rows: Iterator[tuple[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Blocks of wavelength (nm) and response from profiles ``{"x": ..., "y": ..., "xUnit": ...}``."""
    found = [
        (name, _profile(value, f"band '{name}' of response file {path}")) for name, value in rows
    ]
    if not found:
        raise ResponseError(
            f"response file {path} has no feature with a profile in a field "
            f"{' or '.join(_PROFILE_FIELDS)}, expected one per band: export it again, or as a CSV"
        )
    short = [_short_name(name) for name, _ in found]
    names = short if len(set(short)) == len(short) else [name for name, _ in found]
    if len(set(names)) < len(names):
        raise ResponseError(
            f"response file {path} names a band twice ({', '.join(names)}), expected each once: "
            "rename one"
        )
    return {name: block for name, (_, block) in zip(names, found, strict=True)}


def _profile(value: Any, where: str) -> NDArray[np.float64]:
    try:
        if isinstance(value, bytes) and value[:1] != b"{":
            raise ValueError("it is binary and no JSON text")
        known = json.loads(value) if isinstance(value, (str, bytes)) else value
        block = np.array([known["x"], known["y"]], dtype=np.float64).T
        unit = str(known.get("xUnit") or "")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ResponseError(
            f"{where} is no profile ({error}), expected JSON with lists x (wavelengths) and y "
            "(responses) of one length: export it again, or as a CSV"
        ) from error
    if not len(block) or not np.isfinite(block).all():
        raise ResponseError(
            f"{where} has no values or some that are not finite, expected numbers: write 0 for no "
            "response"
        )
    block[:, 0], _ = wavelengths_in_nm(block[:, 0], unit, where, ResponseError)
    return block


def _short_name(name: str) -> str:
    """``B1 - Coastal aerosol (432-453 Nanometers)`` is ``B1``, ``Blue (450-520 nm)`` is ``Blue``."""
    plain = _LIMITS.sub("", name).strip()
    numbered = _NUMBERED.match(plain)
    return numbered[1] if numbered else plain or name


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        features = json.loads("\n".join(_read_lines(path)))["features"]
        rows = [feature["properties"] for feature in features]
    except (TypeError, ValueError, KeyError) as error:
        raise ResponseError(
            f"response file {path} is no GeoJSON of features ({error}), expected one feature per "
            "band with name and response: export it again, or as a CSV"
        ) from error
    return _named_profiles(rows)


def _package_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Profiles of the first layer of a GeoPackage that has some, read as the SQLite that it is."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            base.row_factory = sqlite3.Row
            for (layer,) in base.execute(_FEATURES).fetchall():
                quoted = str(layer).replace('"', '""')
                rows = [dict(row) for row in base.execute(f'select * from "{quoted}"')]
                if found := list(_named_profiles(rows)):
                    return iter(found)
    except sqlite3.Error as error:
        raise ResponseError(
            f"response file {path} cannot be read as a GeoPackage ({error}), expected {_LAYOUTS}: "
            "copy it again"
        ) from error
    return iter(())


def _named_profiles(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(rows, start=1):
        value = next((row[name] for name in _PROFILE_FIELDS if row.get(name) is not None), None)
        if value is not None:
            yield str(row.get("name") or f"B{number}"), value


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise _unreadable(path, error) from error


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


def _in_nm(
    wavelengths: NDArray[np.float64], title: str, path: Path
) -> tuple[NDArray[np.float64], str]:
    return wavelengths_in_nm(wavelengths, unit_in(title), f"response file {path}", ResponseError)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ResponseError:
    return ResponseError(
        f"response file {path} cannot be read ({error}), expected {_LAYOUTS}: give a CSV with the "
        "header wavelength_nm,<band>,..."
    )


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
