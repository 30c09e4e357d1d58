"""Columns of pairs, ``wavelength, reflectance`` in one cell, tabs between the spectra."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files.source import plain_stem
from pixelssr_geo.spectra_files.spectrum import FieldSpectrum, Readings, spectra_of
from pixelssr_geo.spectra_files.text import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelssr_geo.spectra_files.source import Source

_REAL = r"[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?"
_PAIR = re.compile(rf"\s*{_REAL}\s*,\s*{_REAL}\s*")
# "350,5" is a number with a decimal comma; "350, 0.5" and "350.0,0.5" are pairs.
_NOT_DECIMAL = re.compile(r"\.|,\s|\s,")


def recognises(source: Source) -> bool:
    """Whether a line near its beginning is pairs between tabs, two at least."""
    if not source.is_text:
        return False
    lines = [line for line in source.first_text().splitlines()[:30] if line.strip()]
    return any(_is_pairs(line) for line in lines)


def read(source: Source) -> list[FieldSpectrum]:
    """One spectrum per column, named by the file and the column's number.

    Raises
    ------
    PointsError
        If a cell is no pair, a line has fewer pairs than the first, or wavelengths do not ascend.
    """
    numbered = [
        (number, line.rstrip())
        for number, line in enumerate(source.text().splitlines(), 1)
        if line.strip()
    ]
    start = next(at for at, (_, line) in enumerate(numbered) if _is_pairs(line))
    table = _numbers(numbered[start:], source)
    stem, count = plain_stem(source.path), table.shape[1]
    names = [f"{stem} {at}" for at in range(1, count + 1)] if count > 1 else [stem]
    return spectra_of(
        *(
            Readings(
                file=str(source.path),
                format="pairs of wavelength and reflectance",
                names=[name],
                wavelengths=table[:, at, 0],
                values=table[:, at, 1][None],
            )
            for at, name in enumerate(names)
        )
    )


def _is_pairs(line: str) -> bool:
    cells = line.rstrip().split("\t")
    return len(cells) > 1 and all(map(_is_pair, cells))


def _is_pair(cell: str) -> bool:
    return _PAIR.fullmatch(cell) is not None and _NOT_DECIMAL.search(cell) is not None


def _numbers(numbered: list[tuple[int, str]], source: Source) -> NDArray[np.float64]:
    """``(wavelength, spectrum, 2)``."""
    count = numbered[0][1].count("\t") + 1
    for number, line in numbered:
        if line.count("\t") + 1 != count:
            raise PointsError(
                f"line {number} of '{source.path}' has {line.count(chr(9)) + 1} pairs, the lines "
                f"before have {count}: complete or delete it"
            )
    flat = "\t".join(line for _, line in numbered).replace(",", " ").split()
    try:
        return np.array(flat, "f8").reshape(len(numbered), count, 2)
    except ValueError:
        pass
    for number, line in numbered:
        for cell in line.split("\t"):
            if not _is_pair(cell):
                raise PointsError(
                    f"line {number} of '{source.path}' has the text {shortened(cell)!r}, a pair "
                    "'wavelength, reflectance' is needed: correct it"
                )
    raise PointsError(
        f"'{source.path}' has pairs that are not two numbers, 'wavelength, reflectance' is "
        "needed: export it again"
    )
