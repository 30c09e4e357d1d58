"""The orders in which a scan visits the pixels of an image (the paper's Section 3.2.1).

The paper calls its four paths diagonal and prints one phrase for two of them ("top left to bottom
right" for left-right and top-down alike). They are read as VMamba's (arXiv:2401.10166): along the
rows, along the columns, and both backwards. The literal reading, diagonal by diagonal, is there as
well: for the ablation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

ALL_DIRECTIONS = tuple(range(8))
"""0 row by row, 2 column by column, 4 anti-diagonal by anti-diagonal (from the top left corner to the
bottom right, each from its top end down), 6 diagonal by diagonal (from the top right corner to the
bottom left, likewise); the odd number behind each is its reverse."""

DIRECTIONS = ALL_DIRECTIONS[:4]
"""The paper's four as we read them."""

DIAGONALS = ALL_DIRECTIONS[4:]
"""The paper's four by the letter."""


def walk_index(
    direction: int, height: int, width: int, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the row-major pixel number visited at each step, ``(step,)``.

    Parameters
    ----------
    direction
        One of :data:`ALL_DIRECTIONS`.
    height, width
        Size of the image in pixels.
    device
        Where the index lies; torch's default device has no say.
    """
    index = torch.arange(height * width, device=device)
    row, column = index // width, index % width
    place = {0: row, 2: column, 4: row + column, 6: row - column}[direction - direction % 2]
    index = place.argsort(stable=True)  # within a line, from the top down or from left to right
    return index.flip(0) if direction % 2 else index


def inverse_index(index: Tensor) -> Tensor:
    """Return the step at which each pixel is visited, ``(pixel,)``."""
    inverse = torch.empty_like(index)
    inverse[index] = torch.arange(len(index), device=index.device)
    return inverse


class Walks(NamedTuple):
    """Where several walks lead; integers, on the device asked for."""

    pixel: Tensor
    """Pixel at each step, ``(walk, step)``."""
    step: Tensor
    """Step at which each pixel is visited, ``(walk, pixel)``."""


def _walks(
    directions: tuple[int, ...], height: int, width: int, device: torch.device, dtype: torch.dtype
) -> Walks:
    with torch.inference_mode(False):  # what is kept must serve training, too
        indices = [walk_index(direction, height, width) for direction in directions]
        both = torch.stack(indices), torch.stack([inverse_index(index) for index in indices])
        return Walks(*(t.to(device, dtype) for t in both))


_kept_walks = lru_cache(maxsize=8)(_walks)
_KEPT_PIXELS = 1 << 18  # of an image; the indices of larger ones would fill the memory


def cached_walks(
    directions: tuple[int, ...],
    height: int,
    width: int,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.int64,
) -> Walks:
    """Return the walks of ``directions`` over an image, kept for the next call if it is not large.

    They belong to all callers: read them only.

    Parameters
    ----------
    directions
        Some of :data:`ALL_DIRECTIONS`.
    height, width
        Size of the image in pixels.
    device
        Where the indices lie.
    dtype
        Their kind of integers.
    """
    make = _kept_walks if height * width <= _KEPT_PIXELS else _walks
    return make(directions, height, width, device, dtype)
