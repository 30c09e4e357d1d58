"""Standard deviations that a table has as rows of their own, named after their spectra."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.spectra_files.spectrum import without_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WORDS = r"standard[\s_.\-]*deviation|std(?:[\s_.\-]*dev(?:iation)?)?|stdev|sd|sigma"
_DEVIATION = re.compile(rf"(?P<of>.*\w)[\s_.\-(\[]+(?:{_WORDS})[)\]]?", re.IGNORECASE)
_AVERAGE = re.compile(r"(?P<of>.*\w)[\s_.\-(\[]+(?:mean|average|avg)[)\]]?", re.IGNORECASE)


def deviation_rows(names: Sequence[str], values: NDArray[np.float64]) -> dict[int, int]:
    """Rows of spectra and, for each of them, the row that holds its standard deviations.

    A row is taken for the deviations of another if its name is the other's with a word behind it,
    as ``oak_sd`` beside ``oak`` or ``oak mean``, one row has each of the two names, no value is
    negative, and it is the darker of the two on the whole. Everything else stays a spectrum.

    Parameters
    ----------
    names
        Of the rows, ``(row,)``.
    values
        In one unit, NaN or a flag as -9999 where there is none, ``(row, wavelength)``.

    Examples
    --------
    >>> deviation_rows(["oak", "oak_sd", "tar_sd"], np.array([[0.2, 0.3], [0.01, 0.0], [0.1, 0.1]]))
    {0: 1}
    """
    spectra: dict[str, list[int]] = {}
    deviations: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if match := _DEVIATION.fullmatch(name.strip()):
            deviations.setdefault(_plain(match["of"]), []).append(row)
        else:
            match = _AVERAGE.fullmatch(name.strip())
            spectra.setdefault(_plain(match["of"] if match else name), []).append(row)
    return {
        spectra[of][0]: rows[0]
        for of, rows in deviations.items()
        if len(rows) == 1
        and len(spectra.get(of, ())) == 1
        and _may_be_deviations(values[rows[0]], values[spectra[of][0]])
    }


def _plain(name: str) -> str:
    """A name without case and what separates words."""
    return re.sub(r"[\s_.\-]+", "_", name.strip(" _.-")).casefold()


def _may_be_deviations(values: NDArray[np.float64], of: NDArray[np.float64]) -> bool:
    known, level = without_flags(values), without_flags(of)
    both = np.isfinite(known) & np.isfinite(level)
    if not both.any() or (known[np.isfinite(known)] < 0).any():
        return False
    return bool(known[both].sum() < level[both].sum())
