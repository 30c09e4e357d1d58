"""How reflectance is stored: float32 with NaN, or uint16 steps of 1e-4."""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixelssr_geo.errors import SettingsError

CubeDtype: TypeAlias = Literal["float32", "uint16"]

UINT16_SCALE = 1e-4
"""Reflectance of one step."""
UINT16_NODATA = 65535
"""The step that stands for no data; the largest reflectance is one step below, 6.5534."""


def check_dtype(dtype: str, *, scene_units: bool = False) -> None:
    """Refuse what a cube cannot be stored as.

    Parameters
    ----------
    dtype
        Of the cube.
    scene_units
        Whether the values are no reflectance but in a scene's units, and so may have any size.

    Raises
    ------
    SettingsError
        If ``dtype`` is neither ``"float32"`` nor ``"uint16"``, or ``"uint16"`` for values of any
        size.
    """
    if dtype not in ("float32", "uint16"):
        raise SettingsError(f"dtype is '{dtype}', expected float32 or uint16: give one of the two")
    if scene_units and dtype == "uint16":
        raise SettingsError(
            f"dtype is 'uint16', which ends at {(UINT16_NODATA - 1) * UINT16_SCALE:g} in steps of "
            f"{UINT16_SCALE:g}, and values in the scene's units may be larger: give --dtype float32, "
            "or --units reflectance"
        )


def nodata_value(dtype: CubeDtype) -> float:
    """Return the stored value that stands for no data."""
    return float("nan") if dtype == "float32" else UINT16_NODATA


def encode(values: NDArray[Any], dtype: CubeDtype) -> NDArray[Any]:
    """Return reflectance as it is stored.

    Parameters
    ----------
    values
        Reflectance of any shape, NaN for no data.
    dtype
        ``"float32"``: as it is. ``"uint16"``: rounded to steps of 1e-4 and clipped to 0 to 6.5534;
        what is not finite becomes 65535.

    Examples
    --------
    >>> encode(np.array([0.1234, -1.0, 9.0, np.nan]), "uint16").tolist()
    [1234, 0, 65534, 65535]
    """
    if dtype == "float32":
        return np.asarray(values, dtype=np.float32)
    if values.ndim > 2 and len(values):
        # Image by image, for what follows takes several times the room of the result.
        return np.stack([encode(image, dtype) for image in values])
    # In double precision: 1e-4 in single would move values that lie halfway between two steps.
    steps = np.rint(np.asarray(values, dtype=np.float64) / UINT16_SCALE)
    known = np.isfinite(steps)
    steps = np.where(known, np.clip(steps, 0, UINT16_NODATA - 1), UINT16_NODATA)
    return steps.astype(np.uint16)
