"""NumPy arrays and tensors of torch by the same names, so that one formula serves both.

What the two have in common, operators and methods such as ``sum``, is used as it is. Annotations name
NumPy's types, as most of what runs is NumPy's; torch is not imported before there is a tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def functions_of(array: object) -> Any:
    """The module whose functions take such an array: ``numpy`` or ``torch``.

    Only what both have under the same name, with arguments in the same places, is to be used.
    """
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def single(array: NDArray[Any]) -> NDArray[np.float32]:
    """The same numbers in float32; no copy of what is float32."""
    if isinstance(array, np.ndarray):
        return array.astype("f4", copy=False)
    return array.float()


def double(array: NDArray[Any]) -> NDArray[np.float64]:
    """The same numbers in float64; no copy of what is float64."""
    if isinstance(array, np.ndarray):
        return array.astype("f8", copy=False)
    return array.double()


def pixels_first(bands: NDArray[np.float32]) -> NDArray[np.float64]:
    """Bands ``(band, pixel)`` as a table ``(pixel, band)``, float64, its rows in one piece."""
    if isinstance(bands, np.ndarray):
        return np.ascontiguousarray(bands.T, "f8")
    return bands.T.double().contiguous()


def beside(array: NDArray[np.float32], other: NDArray[Any]) -> NDArray[np.float32]:
    """A NumPy array where another array is: itself, or a tensor on the same device."""
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.tensor(array, device=other.device)


def empty_beside(array: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
    """An array to be filled, of the type of another one and on its device."""
    if isinstance(array, np.ndarray):
        return np.empty(shape, array.dtype)
    return array.new_empty(shape)
