"""Units of wavelengths and reflectance: as a file states them, else by the size of the numbers.

One rule for points, spectrometer files and response files.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECIMALS_NM = 6
"""Wavelengths are rounded to so many decimals, so that 0.35 um and 350 nm are the same one."""
BY_SIZE = "(by size)"
"""Marks a unit that was recognised by the size of the numbers."""
STATED = "(stated)"
"""Marks a unit that the file states, or that its format prescribes."""
LARGEST_NM = 30_000.0
"""No channel lies beyond; larger numbers in names of columns are something else."""
MANY_CHANNELS = 8
"""So many columns named by numbers are channels, whatever else the names say."""
MICROMETRES_END = 100.0
"""Wavelengths without a unit that are all below are micrometres."""

_WAVENUMBER = "1/cm"
_UNITS = (
    ("nm", 1.0, r"nm|nanomet(?:er|re)s?"),
    ("Angstrom", 0.1, r"å|[aå]ngstr(?:o|ö|oe)ms?"),
    # In a heading only in brackets behind the wavelength: it is an article, too.
    ("Angstrom", 0.1, r"a"),
    ("um", 1e3, r"[uµμ]m|microns?|micromet(?:er|re)s?"),
    ("mm", 1e6, r"mm|millimet(?:er|re)s?"),
    ("m", 1e9, r"m|met(?:er|re)s?"),
    (_WAVENUMBER, 0.0, r"cm[\s^]*[-\u2212\u207b]?[1¹]|1\s*/\s*cm|wave[\s_]?numbers?"),
)
"""Name, nanometres in one (wavenumbers have none), and spellings."""
_NO_UNIT = {"", "-", "?", "none", "null", "unknown", "wavelength", "wavelengths"}
# A lone m or mm in a heading is rather a height or a rain; per nm is a unit of radiance.
_IN_HEADING = "|".join(
    spelt for name, _, spelt in _UNITS if spelt != "a" and name not in ("m", "mm")
)
_HEADING = re.compile(
    rf"(?<![a-zåµμ/])(?:{_IN_HEADING}|[kmgt]?hz)(?![a-zåµμ0-9^\u2212\u207b-])", re.IGNORECASE
)

_ANGSTROM_BEHIND = re.compile(r"(?:wave|wv?l|lambda).*[\[(]\s*(a)\s*[\])]", re.IGNORECASE)

_SPREAD_NM = 100.0
_YEARS = (1900.0, 2100.0)
_MOST_LONE, _FEWEST_ALIKE = 3, 6

_CLEAR_NM = (400.0, 1000.0)
_REFLECTANCE_END = 25_000.0
_LARGEST = ((2.0, 1.0), (150.0, 100.0), (_REFLECTANCE_END, 10_000.0))
"""Up to which bright end a divisor is taken. Saturated snow stays under 2."""
_SCALE_NOTES = {
    1.0: "reflectance 0-1",
    100.0: "reflectance in percent, divided by 100",
    10_000.0: "reflectance x 10000, divided by 10000",
}
# A number right before it is that of a panel; 0-100 % is a unit.
_PERCENT = re.compile(
    r"(?<!\d)(?<!\d\s)(%|percent|(?<![a-z])pct(?![a-z]))|\b0\s*(-|\u2013|to|\.\.)\s*100(?!\d)"
)
_TIMES_10000 = re.compile(r"(?<!\d)10[ ,']?000(?!\d)|1e\+?0?4\b|10\^4")
_FRACTION = re.compile(r"\b0(\.0)?\s*(-|\u2013|to|\.\.)\s*1(\.0)?(?!\d)|\bfraction\b")
_NO_REFLECTANCE = re.compile(
    r"radian|(?<![a-z])[mnuµμ]?w\s*(/|·|\s)\s*\(?m|(?<![a-z])(sr|dn|counts?)(?![a-z])|absorb|transm|digital"
)


def wavelengths_in_nm(
    values: NDArray[np.float64], unit: str, where: str, error: type[Exception] = PointsError
) -> tuple[NDArray[np.float64], str]:
    """Wavelengths in nm, in the order given, and their unit, as ``um (stated)``.

    Parameters
    ----------
    values
        ``(wavelength,)``.
    unit
        What the file says: nm, um, mm, m or Angstrom in any spelling, or wavenumbers in 1/cm. Empty
        or ``Unknown`` if it says nothing: then wavelengths that are all below
        :data:`MICROMETRES_END` are micrometres, others nanometres.
    where
        What holds the wavelengths, for messages.
    error
        What is raised.

    Raises
    ------
    PointsError
        Or ``error``, if the unit is another one, as a frequency or an index, or the values are band
        numbers, or not finite and above zero.
    """
    missing = int((~np.isfinite(values)).sum())
    if missing or len(values) == 0:
        raise error(
            f"{where} has {missing} missing wavelengths of {len(values)}, a finite number for each "
            "value is needed: export it again"
        )
    known, said = _unit_of(unit) or _unit_of(unit_in(unit)), STATED
    if known is None and _plain(unit) in _NO_UNIT:
        if _are_band_numbers(values):
            raise error(
                f"{where} numbers its bands {values.min():g}-{values.max():g}, wavelengths in nm "
                "are needed: put the wavelengths in their place"
            )
        known, said = ("um", 1e3) if values.max() < MICROMETRES_END else ("nm", 1.0), BY_SIZE
    if known is None:
        raise error(
            f"{where} has wavelengths in '{unit}', nm, um, mm, m, Angstrom or wavenumbers in 1/cm "
            "are needed: convert them"
        )
    if values.min() <= 0:
        raise error(
            f"{where} has the wavelength {values.min():g}, numbers above zero are needed: correct "
            "it or export it again"
        )
    name, factor = known
    found = 1e7 / values if name == _WAVENUMBER else values * factor
    return np.round(found, DECIMALS_NM), f"{name} {said}"


def may_be_channels(wavelengths_nm: NDArray[np.float64], *, named: bool) -> bool:
    """Whether numbers in the names of columns can be wavelengths and no years or plots.

    Two whose names do not say that they are must be 100 nm apart, and a few must not be years.

    Parameters
    ----------
    wavelengths_nm
        ``(column,)``.
    named
        Whether units or words in the names say that they are wavelengths.
    """
    count = len(wavelengths_nm)
    if named or count >= MANY_CHANNELS:
        return True
    if count < 2:
        return False
    low, high = float(wavelengths_nm.min()), float(wavelengths_nm.max())
    years = low >= _YEARS[0] and high <= _YEARS[1]
    return high - low >= _SPREAD_NM or (count > 2 and not years)


def lone_ends(wavelengths_nm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the numbers, up to three at an end, are too far from the others to be channels.

    A gap is too wide if it is 20 times the usual step, or 5 times the widest where steps are
    alike. A year among the columns is such a number; the bands of multispectral sensors are none.

    Parameters
    ----------
    wavelengths_nm
        ``(column,)``, in any order.
    """
    order = np.argsort(wavelengths_nm, kind="stable")
    lone = np.zeros(len(order), bool)
    for ordered in (order, order[::-1]):
        values = wavelengths_nm[ordered]
        for count in range(1, min(_MOST_LONE, len(values) - _FEWEST_ALIKE) + 1):
            steps = np.abs(np.diff(values[:-count]))
            usual, widest = float(np.median(steps)), float(steps.max())
            alike = widest <= 1.5 * usual
            gap = abs(float(values[-count] - values[-count - 1]))
            if usual > 0 and gap > (5 * widest if alike else 20 * usual):
                lone[ordered[-count:]] = True
                break
    return lone


def nm_in(unit: str) -> float | None:
    """How many nanometres one of a unit of length has; None if it is none that is known."""
    known = _unit_of(unit) or _unit_of(unit_in(unit))
    return known[1] if known and known[0] != _WAVENUMBER else None


def unit_in(heading: str) -> str:
    """The first unit of wavelengths in a column's heading, as it stands there; empty if none.

    Examples
    --------
    >>> unit_in("Wavelength (nm)"), unit_in("lambda_um"), unit_in("Frequency [GHz]")
    ('nm', 'um', 'GHz')
    >>> unit_in("Wavenumber (cm-1)"), unit_in("wavelength of the enumerated scan")
    ('Wavenumber', '')
    """
    if found := _HEADING.search(heading):
        return found[0]
    behind = _ANGSTROM_BEHIND.search(heading)
    return behind[1] if behind else ""


def stated_scale(unit: object, where: str) -> float:
    """What divides values in the unit that a file states, NaN if it says too little.

    Raises
    ------
    PointsError
        If the unit is not one of reflectance.
    """
    plain = "" if unit is None else str(unit).casefold()
    if _NO_REFLECTANCE.search(plain):
        raise PointsError(
            f"{where} has values in '{unit}', reflectance is needed: convert them to reflectance"
        )
    for pattern, scale in ((_TIMES_10000, 10_000.0), (_FRACTION, 1.0), (_PERCENT, 100.0)):
        if pattern.search(plain):
            return scale
    return float("nan")


def scale_note(scale: float, *, stated: bool) -> str:
    """A unit of reflectance in words, and whence it is known."""
    told = _SCALE_NOTES.get(scale, f"reflectance divided by {scale:g}")
    return f"{told} {STATED if stated else BY_SIZE}"


def reflectance_scales(
    values: NDArray[np.float64],
    wavelengths_nm: NDArray[np.float64],
    stated: NDArray[np.float64],
    where: str,
) -> tuple[NDArray[np.float64], str]:
    """What divides each spectrum to give reflectance 0-1, ``(spectrum,)``, and a note that says so.

    Parameters
    ----------
    values
        ``(spectrum, wavelength)``, NaN where there is none.
    wavelengths_nm
        ``(wavelength,)``.
    stated
        Scales that the file states, ``(spectrum,)``; NaN where it states none. All those spectra
        get one scale, by :func:`scale_by_size`: a spectrum in another unit than the rest is left as
        it stands, for nobody can tell it from a bright or a wrong one.
    where
        What holds the values, for messages.

    Raises
    ------
    PointsError
        If the values are too large to be reflectance.
    """
    scales = stated.copy()
    silent = np.isnan(stated) & np.isfinite(values).any(1)
    scales[np.isnan(stated)] = 1.0
    told = [
        scale_note(scale, stated=True)
        for scale in sorted({float(scale) for scale in stated[np.isfinite(stated)]})
    ]
    if silent.any() or not told:
        scale = scale_by_size(bright_ends(values[silent], wavelengths_nm), where)
        scales[silent] = scale
        told.append(scale_note(scale, stated=False))
    return scales, "; ".join(told)


def scale_by_size(tops: NDArray[np.float64], where: str) -> float:
    """What divides spectra to give reflectance 0-1, by their :func:`bright_ends`.

    The third quartile decides: up to 2 is reflectance 0-1, up to 150 percent, up to 25000
    reflectance x 10000. A quarter of the spectra may be in another unit, or be wrong, and nearly
    three quarters be dark water.

    Parameters
    ----------
    tops
        ``(spectrum,)``, NaN for one without values.
    where
        What holds the spectra, for messages.

    Raises
    ------
    PointsError
        If the values are larger.
    """
    known = tops[np.isfinite(tops)]
    # The lowest value with three quarters of the spectra at or below it, not one between two.
    top = float(np.quantile(known, 0.75, method="inverted_cdf")) if known.size else 0.0
    for limit, scale in _LARGEST:
        if top <= limit:
            return scale
    raise PointsError(
        f"{where} holds values up to {top:g}, reflectance (0-1, percent or x 10000) is needed: "
        "these look like counts or radiance, export reflectance"
    )


def bright_ends(
    values: NDArray[np.float64], wavelengths_nm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What 10 % of each spectrum lie above at 400-1000 nm, ``(spectrum,)``; NaN without values.

    Elsewhere full-range field spectra may be noise, where air or the lamp gives no light. A
    spectrum without a value there is judged by all that it has.

    Parameters
    ----------
    values
        ``(spectrum, wavelength)``, NaN where there is none.
    wavelengths_nm
        ``(wavelength,)``.
    """
    clear = (wavelengths_nm >= _CLEAR_NM[0]) & (wavelengths_nm <= _CLEAR_NM[1])
    tops = _upper_tenths(values[:, clear])
    without = np.isnan(tops)
    if without.any():
        tops[without] = _upper_tenths(values[without])
    return tops


def _upper_tenths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    tops = np.full(len(values), np.nan)
    finite = np.isfinite(values)
    full = finite.all(1) if values.shape[1] else np.zeros(len(values), bool)
    if full.any():
        tops[full] = np.quantile(values[full], 0.9, axis=1)
    for row in np.flatnonzero(~full & finite.any(1)):
        tops[row] = np.quantile(values[row][finite[row]], 0.9)
    return tops


def _plain(unit: str) -> str:
    composed = unicodedata.normalize("NFC", unit)
    return re.sub(r"[\[\]().]", "", composed).strip().casefold()


def _unit_of(unit: str) -> tuple[str, float] | None:
    plain = _plain(unit)
    for name, factor, spelt in _UNITS:
        if re.fullmatch(spelt, plain):
            return name, factor
    return None


def _are_band_numbers(values: NDArray[np.float64]) -> bool:
    ordered = np.sort(values)
    return len(values) > 1 and any(
        np.array_equal(ordered, np.arange(len(values)) + first) for first in (0, 1)
    )
