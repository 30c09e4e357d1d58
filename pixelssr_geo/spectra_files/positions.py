"""Positions as headers write them: decimal degrees, or degrees and minutes with a hemisphere."""

from __future__ import annotations

import re

_NUMBER = r"(?P<number>[+-]?\d+(?:\.\d+)?)"
_AFTER = re.compile(_NUMBER + r"\s*[,°]?\s*(?P<side>[NSEW])\b", re.IGNORECASE)
_BEFORE = re.compile(r"\b(?P<side>[NSEW])\s*" + _NUMBER, re.IGNORECASE)
_PLAIN = re.compile(r"[+-]?\d+(?:\.\d+)?")


def degrees_of(text: str) -> float | None:
    """Degrees, north and east positive, of the last position in a text; None if there is none.

    Instruments write the reference's position first and the target's second. With a hemisphere,
    numbers from 100 on that are too large for degrees are ``DDDMM.mmmm`` of a GPS receiver.

    Examples
    --------
    >>> degrees_of("09231.1579W     , 09231.2000W")
    -92.52
    >>> degrees_of("5330.5955,N, 5330.6000,N"), degrees_of("-12.5"), degrees_of("n/a")
    (53.51, -12.5, None)
    """
    found = list(_AFTER.finditer(text)) or list(_BEFORE.finditer(text))
    if found:
        side = found[-1]["side"].upper()
        value = abs(float(found[-1]["number"]))
        limit = 90.0 if side in "NS" else 180.0
        # Receivers pad the degrees: 00030.5 E is half a degree east of Greenwich.
        padded = len(found[-1]["number"].lstrip("+-").split(".")[0]) > 3
        if padded or value > limit:
            whole = value // 100
            value = whole + (value - 100 * whole) / 60
        value = -value if side in "SW" else value
    elif plain := _PLAIN.findall(text):
        value = float(plain[-1])
    else:
        return None
    return round(value, 9) if abs(value) <= 180 else None


def place_of(longitude: str, latitude: str) -> tuple[float, float] | None:
    """Longitude and latitude of two header lines; None if there was no fix."""
    x, y = degrees_of(longitude), degrees_of(latitude)
    if x is None or y is None or abs(y) > 90 or (x == 0 and y == 0):
        return None
    return x, y
