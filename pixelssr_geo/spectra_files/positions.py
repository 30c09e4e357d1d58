"""Positions as people and headers write them: degrees, minutes and seconds, hemispheres."""

from __future__ import annotations

import re

_POSITION = re.compile(
    r"(?:(?P<before>[NSEW])\s*)?(?P<sign>[+\u2212-]?)(?P<degrees>\d+)"
    r"(?:(?:\s*[°º:]\s*|\s+)(?P<minutes>[0-5]?\d)"
    r"(?:(?:\s*['\u2032\u2019:]\s*|\s+)(?P<seconds>[0-5]?\d))?)?"
    r"(?P<fraction>[.,]\d+)?\s*(?:[°º'\u2032\u2019\"\u2033\u201d]|''|\u2032\u2032)?"
    r"(?:\s*,?\s*(?P<after>[NSEW]))?",
    re.IGNORECASE,
)
_LIMITS = {"N": 90.0, "S": 90.0, "E": 180.0, "W": 180.0}


def degrees_of(text: str) -> float | None:
    """Degrees, north and east positive, of a text that is a position; None for any other text.

    Degrees, degrees and minutes, or degrees, minutes and seconds, with or without their marks, the
    last of them with decimals behind a point or a comma, the hemisphere before or behind. Of two
    positions with a comma between them the second counts: instruments write the reference's first
    and the target's second. With a hemisphere, numbers from 100 on that are too large for degrees
    are ``DDDMM.mmmm`` of a GPS receiver.

    Examples
    --------
    >>> degrees_of("09231.1579W     , 09231.2000W")
    -92.52
    >>> degrees_of("5330.5955,N, 5330.6000,N"), degrees_of("-12,5"), degrees_of("n/a")
    (53.51, -12.5, None)
    >>> degrees_of("S 33° 52' 12"), degrees_of("53 30.6 N"), degrees_of("53 of 60")
    (-33.87, 53.51, None)
    """
    plain = text.strip(" ,;\t")
    whole = _POSITION.fullmatch(plain)
    if whole is not None:
        return _degrees(whole)
    # A comma may also mark decimals, or stand before the hemisphere.
    for mark in re.finditer("[,;]", plain):
        first = _POSITION.fullmatch(plain[: mark.start()].strip())
        second = _POSITION.fullmatch(plain[mark.end() :].strip())
        if first is not None and second is not None:
            return _degrees(second)
    return None


def _degrees(found: re.Match[str]) -> float | None:
    if found["before"] and found["after"]:
        return None
    side = (found["before"] or found["after"] or "").upper()
    negative = found["sign"] in ("-", "\u2212")
    if negative and side in ("N", "E"):
        return None
    parts = [part for part in (found["degrees"], found["minutes"], found["seconds"]) if part]
    parts[-1] += (found["fraction"] or "").replace(",", ".")
    numbers = [float(part) for part in parts]
    limit = _LIMITS.get(side, 180.0)
    # Receivers pad the degrees: 00030.5 E is half a degree east of Greenwich.
    if side and len(numbers) == 1 and (len(found["degrees"]) > 3 or numbers[0] > limit):
        numbers = list(divmod(numbers[0], 100))
    if any(part >= 60 for part in numbers[1:]):
        return None
    value = sum(part / 60.0**power for power, part in enumerate(numbers))
    if value > limit:
        return None
    return round(-value if negative or side in ("S", "W") else value, 9)


def place_of(longitude: str, latitude: str) -> tuple[float, float] | None:
    """Longitude and latitude of two header lines; None if there was no fix."""
    x, y = degrees_of(longitude), degrees_of(latitude)
    if x is None or y is None or abs(y) > 90 or (x == 0 and y == 0):
        return None
    return x, y
