"""Text files of Spectra Vista spectrometers, ``*.sig``: GER 1500 and the HR series."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files.positions import place_of
from pixelssr_geo.spectra_files.source import plain_stem
from pixelssr_geo.spectra_files.spectrum import FieldSpectrum, Readings, ratio_of, spectra_of
from pixelssr_geo.spectra_files.text import split_text

if TYPE_CHECKING:
    from pixelssr_geo.spectra_files.source import Source

_FIRST = re.compile(r"\s*/\*+\s*Spectra Vista", re.IGNORECASE)
_DATA = re.compile(r"^\s*data\s*=[^\r\n]*$", re.IGNORECASE | re.MULTILINE)
_KEPT = {"instrument": "instrument", "comm": "comment", "units": "measured"}


def recognises(source: Source) -> bool:
    """Whether it begins with the maker's line."""
    return source.is_text and bool(_FIRST.match(source.first_text()))


def read(source: Source) -> list[FieldSpectrum]:
    """The one spectrum of the file: the last column's percent, or target through reference.

    The detectors' overlap, where the software has left it, is cut in its middle. The place is the
    one that the GPS gave with the target.

    Raises
    ------
    PointsError
        If there is no line ``data=``, or nothing or text after it.
    """
    text = source.text()
    if (start := _DATA.search(text)) is None:
        raise PointsError(
            f"'{source.path}' has no line 'data=', an SVC .sig file has its numbers after it: "
            "copy it from the instrument again"
        )
    table = split_text(text, str(source.path), start.end())
    if not table.rows:
        raise PointsError(
            f"'{source.path}' has a header and no data after 'data=', an SVC spectrum is needed: "
            "copy it from the instrument again"
        )
    width = max(map(len, table.rows))
    if width < 3:
        raise PointsError(
            f"'{source.path}' has {width} columns after 'data=', an SVC spectrum has wavelength, "
            "reference, target and percent: export it again"
        )
    numbers = table.block(range(len(table.rows)), range(min(width, 4)))
    if width > 3:
        values, scale = numbers[:, 3], 100.0
    else:
        values, scale = ratio_of(numbers[:, 2], numbers[:, 1]), 1.0
    header = _header(text[: start.start()])
    return spectra_of(
        Readings(
            file=str(source.path),
            format="SVC .sig",
            names=[plain_stem(source.path)],
            wavelengths=numbers[:, 0],
            values=values[None],
            wavelength_unit="nm",
            scale=scale,
            positions=[place_of(header.get("longitude", ""), header.get("latitude", ""))],
            overlapping=True,
            common=_attributes(header),
        )
    )


def _header(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found[key.strip().lower()] = value.strip()
    return found


def _attributes(header: dict[str, str]) -> dict[str, str]:
    found = {name: header[key] for key, name in _KEPT.items() if header.get(key)}
    if times := [part.strip() for part in header.get("time", "").split(",") if part.strip()]:
        found["date"] = times[-1]
    return found
