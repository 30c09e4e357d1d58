"""Which pixels of two cubes are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Doubles = NDArray[np.float64]
    Mask = NDArray[np.bool_]


def valid_mask(cube: Floats, reference: Floats, valid: Mask | None = None) -> Mask:
    """Pixels that are finite in every channel of both and True in ``valid``, without channel axis.

    Raises
    ------
    SettingsError
        If the shapes differ.
    """
    if cube.shape != reference.shape or cube.ndim not in (2, 3):
        raise SettingsError(
            f"the cube has shape {cube.shape}, its reference {reference.shape}, expected the same "
            "(channel, y, x): cut both to one grid and the same wavelengths"
        )
    found = np.ones(cube.shape[1:], dtype=bool)
    for ours, theirs in zip(cube, reference, strict=True):
        found &= np.isfinite(ours) & np.isfinite(theirs)
    if valid is not None:
        if valid.shape != found.shape:
            raise SettingsError(
                f"the mask of pixels to score has shape {valid.shape}, the cube's pixels "
                f"{found.shape}, expected the same: cut the mask to the cube"
            )
        found &= valid.astype(bool)
    return found


def take_pixels(cube: Floats, mask: Mask) -> Doubles:
    """Pixels under the mask, ``(channel, pixel)``."""
    return cube[:, mask].astype(np.float64)


def valid_pixels(
    cube: Floats, reference: Floats, valid: Mask | None = None
) -> tuple[Doubles, Doubles]:
    """Pixels of both that are compared, ``(channel, pixel)`` each; see :func:`valid_mask`."""
    mask = valid_mask(cube, reference, valid)
    return take_pixels(cube, mask), take_pixels(reference, mask)


def mean_of_defined(values: Doubles) -> float:
    """Mean of the finite values, NaN without any."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else float("nan")
