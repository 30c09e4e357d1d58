"""Units of wavelength and reflectance: as the file says, otherwise by the size of the values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DECIMALS_NM = 6
"""Wavelengths are rounded to so many decimals, so that 0.35 um and 350 nm are the same one."""

_LENGTHS = (
    (r"nm|nanomet(er|re)s?", "nm", 1.0),
    (r"[uµμ]m|microns?|micromet(er|re)s?", "um", 1e3),
    (r"mm|millimet(er|re)s?", "mm", 1e6),
    (r"m|met(er|re)s?", "m", 1e9),
)
_WAVENUMBER = r"cm[\s^]*[-\u2212\u207b][1¹]|1/cm|wavenumbers?"
_NO_UNIT = {"", "-", "?", "none", "null", "unknown", "wavelength", "wavelengths"}

_SUSPICIOUS_TOP = (0.005, 2.0)
"""Bright end of a spectrum, reflectance, outside of which its unit is in doubt."""


def wavelengths_in_nm(
    values: NDArray[np.float64], unit: str, where: str
) -> tuple[NDArray[np.float64], str]:
    """Wavelengths in nm, in the order given, and the name of the unit that they had.

    Parameters
    ----------
    values
        ``(wavelength,)``.
    unit
        What the file says: nm, um, mm, m in any spelling, or wavenumbers in 1/cm. Empty if it says
        nothing: then wavelengths below 100 are taken as micrometres, others as nanometres.
    where
        What holds the wavelengths, for messages.

    Raises
    ------
    PointsError
        If the unit is another one, the values are band numbers, or not finite and positive.
    """
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise PointsError(
            f"{where} has wavelengths that are not finite or negative, one finite wavelength per "
            "value is needed: export it again"
        )
    plain = re.sub(r"[\[\]().]", "", unit).strip().casefold()
    if plain in _NO_UNIT:
        if _are_band_numbers(values):
            raise PointsError(
                f"{where} numbers its bands {values.min():g}-{values.max():g}, wavelengths in nm "
                "are needed: put the wavelengths in their place"
            )
        plain = "um" if values.max() < 100 else "nm"
    for pattern, name, factor in _LENGTHS:
        if re.fullmatch(pattern, plain):
            return np.round(values * factor, DECIMALS_NM), name
    if re.fullmatch(_WAVENUMBER, plain) and values.min() > 0:
        return np.round(1e7 / values, DECIMALS_NM), "1/cm"
    raise PointsError(
        f"{where} has wavelengths in '{unit}', expected nm, um or wavenumbers in cm-1: convert them"
    )


def _are_band_numbers(values: NDArray[np.float64]) -> bool:
    ordered = np.sort(values)
    return len(values) > 1 and any(
        np.array_equal(ordered, np.arange(len(values)) + first) for first in (0, 1)
    )


def declared_scale(unit: object, where: str) -> float:
    """What divides values in the unit that a file states, NaN if it says too little.

    Raises
    ------
    PointsError
        If the unit is not one of reflectance.
    """
    plain = "" if unit is None else str(unit).casefold()
    if "%" in plain or "percent" in plain or re.search(r"(?<![a-z])pct(?![a-z])", plain):
        return 100.0
    if re.search(r"(?<!\d)10[ ,']?000(?!\d)|1e\+?0?4\b|10\^4", plain):
        return 10_000.0
    if re.search(r"\b0(\.0)?\s*(-|\u2013|to|\.\.)\s*1(\.0)?(?!\d)|\bfraction\b", plain):
        return 1.0
    if re.search(r"radian|w\s*(/|·|\s)\s*\(?m|\bsr\b|\bdn\b|count|absorb|transm|digital", plain):
        raise PointsError(
            f"{where} has values in '{unit}', reflectance is needed: convert them to reflectance"
        )
    return float("nan")


def reflectance_scales(
    values: NDArray[np.float64], declared: NDArray[np.float64]
) -> tuple[NDArray[np.float64], str]:
    """What divides each spectrum to give reflectance 0-1, ``(point,)``, and a note that says so.

    Parameters
    ----------
    values
        ``(point, wavelength)``, NaN where there is none.
    declared
        Scales that the file states, ``(point,)``; NaN where it states none. All those points get
        one scale, by the size of their values: a spectrum in another unit than the rest is left as
        it stands, for nobody can tell it from a bright or a wrong one.
    """
    scales = declared.copy()
    silent = np.isnan(declared) & np.isfinite(values).any(1)
    scales[np.isnan(declared)] = 1.0
    stated = sorted({float(scale) for scale in declared[np.isfinite(declared)]})
    told = [f"{_SCALE_NOTES[scale]}, as the file says" for scale in stated]
    if silent.any() or not stated:
        scale = _scale_by_size(values[silent])
        scales[silent] = scale
        told.append(_SCALE_NOTES[scale])
    return scales, "; ".join(told)


_SCALE_NOTES = {
    1.0: "reflectance 0-1",
    100.0: "reflectance in percent, divided by 100",
    10_000.0: "reflectance x 10000, divided by 10000",
}


def _scale_by_size(values: NDArray[np.float64]) -> float:
    tops = bright_ends(values)
    tops = tops[np.isfinite(tops)]
    if not len(tops):
        return 1.0
    # A quarter of the spectra may be in another unit, or be wrong, and three quarters dark water.
    # Saturated snow stays under 2.
    top = float(np.quantile(tops, 0.75, method="lower"))
    return 10_000.0 if top > 150 else 100.0 if top > 2 else 1.0


def bright_ends(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What 10 % of a spectrum's values lie above, ``(point,)``; NaN for one without values.

    Full-range field spectra are noise in the bands where air or the lamp gives no light: these are
    less than 10 % on the bright side.
    """
    tops = np.full(len(values), np.nan)
    finite = np.isfinite(values)
    full = finite.all(1) if values.shape[1] else np.zeros(len(values), bool)
    if full.any():
        tops[full] = np.quantile(values[full], 0.9, axis=1)
    for row in np.flatnonzero(~full & finite.any(1)):
        tops[row] = np.quantile(values[row][finite[row]], 0.9)
    return tops


def unit_doubts(ids: Sequence[str], reflectance: NDArray[np.float64]) -> tuple[str, ...]:
    """Notes on the points that are far too bright or too dark to have the unit of the rest."""
    low, high = _SUSPICIOUS_TOP
    tops = bright_ends(reflectance)
    doubts = []
    for bad, said, cure in (
        (tops > high, f"brighter than {high:g}", "check their unit"),
        (tops < low, f"darker than {low:g}", "water, shadow or another unit"),
    ):
        if bad.any():
            names = name_some([name for name, one in zip(ids, bad, strict=True) if one])
            doubts.append(
                f"{int(bad.sum())} of {len(ids)} spectra are {said} throughout ({names}), left as "
                f"they are: {cure}"
            )
    return tuple(doubts)


def name_some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
