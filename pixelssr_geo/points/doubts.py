"""What is to be said of points that look wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixelssr_geo.spectra.units import bright_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_SUSPICIOUS_TOP = (0.005, 2.0)
"""Bright end of a spectrum, reflectance, outside of which its unit is in doubt."""


def unit_doubts(
    ids: Sequence[str], reflectance: NDArray[np.float64], wavelengths_nm: NDArray[np.float64]
) -> tuple[str, ...]:
    """Notes on the points that are far too bright or too dark to have the unit of the rest."""
    low, high = _SUSPICIOUS_TOP
    tops = bright_ends(reflectance, wavelengths_nm)
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
