"""Units of wavelengths and reflectance: as a file says them, else by the size of the numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TO_NM = {
    "nm": (1.0, re.compile(r"^\(?(nm|nanom)", re.IGNORECASE)),
    "um": (1000.0, re.compile(r"^\(?([uµμ]m\b|microm|micron)", re.IGNORECASE)),
    "Angstrom": (0.1, re.compile(r"^\(?(angstr|å)", re.IGNORECASE)),
}
_SAID_OTHERWISE = re.compile(r"wavenumber|cm-1|hz\b|index", re.IGNORECASE)
MICROMETRES_END = 100.0
"""Wavelengths that are all below are micrometres."""
BY_SIZE = "(by size)"
"""Marks a unit that the file did not state."""
_BY_SIZE = (
    (2.0, 1.0, "reflectance 0-1"),
    (150.0, 100.0, "percent, divided by 100"),
    (25_000.0, 10_000.0, "reflectance x 10000, divided by 10000"),
)
"""Up to which 99th percentile of the values a unit is taken; bright snow stays under 2."""


def wavelengths_in_nm(
    values: NDArray[np.float64], unit: str, file: str
) -> tuple[NDArray[np.float64], str]:
    """Wavelengths in nm, and the unit that they had.

    Parameters
    ----------
    values
        Wavelengths, ``(wavelength,)``.
    unit
        What the file says, as ``Nanometers`` or ``um``. Where it says nothing that is known,
        numbers that are all below 100 are micrometres.
    file
        For messages.

    Raises
    ------
    PointsError
        If the file says that these are no wavelengths.
    """
    if _SAID_OTHERWISE.search(unit):
        raise PointsError(
            f"'{file}' gives its channels in '{unit}', wavelengths in nm or um are needed: "
            "export it again with wavelengths"
        )
    for name, (factor, pattern) in _TO_NM.items():
        if pattern.match(unit.strip()):
            # What is left of the factor in the last digits would tell equal grids apart.
            return np.round(values * factor, 6), name
    finite = values[np.isfinite(values)]
    if finite.size and finite.max() < MICROMETRES_END:
        return np.round(values * 1000.0, 6), f"um {BY_SIZE}"
    return np.array(values, "f8"), f"nm {BY_SIZE}"


def reflectance_unit(values: NDArray[np.float64], unit: str, file: str) -> tuple[float, str]:
    """What reflectance is to be divided by to be 0-1, and why.

    Parameters
    ----------
    values
        All values of a file, NaN where there is none.
    unit
        ``0-1``, ``percent`` or a divisor as text, where the file says it; empty to go by size: up
        to 2 is 0-1, up to 150 percent, up to 25000 reflectance x 10000.
    file
        For messages.

    Raises
    ------
    PointsError
        If the values are too large to be reflectance.
    """
    if unit == "0-1":
        return 1.0, "reflectance 0-1"
    if unit == "percent":
        return 100.0, "percent, divided by 100"
    if unit:
        return float(unit), f"divided by {float(unit):g} as the file says"
    finite = values[np.isfinite(values)]
    # A high percentile, so that a few wild channels do not decide.
    top = float(np.percentile(finite, 99)) if finite.size else 0.0
    for limit, divisor, told in _BY_SIZE:
        if top <= limit:
            return divisor, f"{told} {BY_SIZE}"
    raise PointsError(
        f"'{file}' holds values up to {top:g}, reflectance (0-1, percent or x 10000) is needed: "
        "these look like counts or radiance, export reflectance"
    )
