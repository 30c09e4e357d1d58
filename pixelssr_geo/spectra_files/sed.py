"""Text files of Spectral Evolution spectrometers, ``*.sed``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra.units import stated_scale
from pixelssr_geo.spectra_files.positions import place_of
from pixelssr_geo.spectra_files.source import plain_stem
from pixelssr_geo.spectra_files.spectrum import FieldSpectrum, Readings, ratio_of, spectra_of
from pixelssr_geo.spectra_files.text import TextTable, split_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pixelssr_geo.spectra_files.source import Source

_DATA = re.compile(r"^\s*data:[ \t,;]*$", re.IGNORECASE | re.MULTILINE)
_MARKS = re.compile(
    r"^\s*(channels|columns|measurement|instrument)\b[^:\n]*:", re.IGNORECASE | re.MULTILINE
)
_WAVELENGTH = re.compile(r"^(wvl|wavel|nm$)", re.IGNORECASE)
_REFLECTANCE = re.compile(r"reflect|tgt\.?\s*/\s*ref", re.IGNORECASE)
_TARGET = re.compile(r"\(target\)|\(tgt", re.IGNORECASE)
_PANEL = re.compile(r"\(ref", re.IGNORECASE)
_KEPT = {"instrument": "instrument", "comment": "comment", "measurement": "measured"}


def recognises(source: Source) -> bool:
    """Whether it has the maker's header lines, then ``Data:``."""
    if not source.is_text:
        return False
    text = source.first_text()
    data = _DATA.search(text)
    if data is None:
        # A file that stops inside its header is told so, not taken for a table.
        return text.lstrip("\ufeff \r\n").startswith("Comment:") and bool(_MARKS.search(text))
    return bool(_MARKS.search(text, 0, data.start()))


def read(source: Source) -> list[FieldSpectrum]:
    """The one spectrum of the file: its reflectance column, or target through reference.

    Raises
    ------
    PointsError
        If there is no line ``Data:``, no reflectance, or nothing or text after the column names.
    """
    text = source.text()
    if (start := _DATA.search(text)) is None:
        raise PointsError(
            f"'{source.path}' has no line 'Data:', a .sed file has its numbers after it: copy it "
            "from the instrument again"
        )
    table = split_text(text, str(source.path), start.end())
    if len(table.rows) < 2:
        raise PointsError(
            f"'{source.path}' has a header and no data after 'Data:', a Spectral Evolution "
            "spectrum is needed: copy it from the instrument again"
        )
    # Names hold blanks: without tabs they are known by two of them or more.
    names = table.cells(0) if table.delimiter else tuple(re.split(r"\s{2,}|\t", table.lines[0]))
    numbers = table.block(range(1, len(table.rows)), range(len(names)))
    at = next((at for at, name in enumerate(names) if _WAVELENGTH.match(name)), 0)
    values, scale = _reflectance(names, numbers, table)
    header = _header(text[: start.start()])
    return spectra_of(
        Readings(
            file=str(source.path),
            format="Spectral Evolution .sed",
            names=[plain_stem(source.path)],
            wavelengths=numbers[:, at],
            values=values[None],
            wavelength_unit="nm",
            scale=scale,
            positions=[place_of(header.get("longitude", ""), header.get("latitude", ""))],
            overlapping=True,
            common=_attributes(header),
        )
    )


def _reflectance(
    names: Sequence[str], numbers: NDArray[np.float64], table: TextTable
) -> tuple[NDArray[np.float64], float]:
    where = f"'{table.file}'"
    for at, name in enumerate(names):
        if _REFLECTANCE.search(name):
            said = 1.0 if "1.0" in name and "%" not in name else stated_scale(name, where)
            return numbers[:, at], said
    target = next((at for at, name in enumerate(names) if _TARGET.search(name)), None)
    panel = next((at for at, name in enumerate(names) if _PANEL.search(name)), None)
    if target is None or panel is None:
        raise PointsError(
            f"'{table.file}' has the columns {', '.join(names)}, one with reflectance or two with "
            "target and reference are needed: export reflectance"
        )
    return ratio_of(numbers[:, target], numbers[:, panel]), 1.0


def _header(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip(" ,;\t"):
            found[key.strip().lower()] = value.strip(" ,;\t")
    return found


def _attributes(header: dict[str, str]) -> dict[str, str]:
    found = {name: header[key] for key, name in _KEPT.items() if header.get(key)}
    last = [header.get(key, "").split(",")[-1].strip() for key in ("date", "time")]
    if when := " ".join(part for part in last if part):
        found["date"] = when
    return found
