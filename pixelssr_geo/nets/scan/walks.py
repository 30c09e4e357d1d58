"""The orders in which a scan visits the pixels of an image (the paper's Section 3.2.1).

The paper calls its four paths diagonal and prints one phrase for two of them ("top left to bottom
right" for left-right and top-down alike). They are read as VMamba's (arXiv:2401.10166): along the
rows, along the columns, and both backwards. The literal reading, diagonal by diagonal, is there as
well: for the ablation.
"""

from __future__ import annotations

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
    direction: int, height: int, width: int, *, device: torch.device | None = None
) -> Tensor:
    """Return the row-major pixel number visited at each step, ``(step,)``.

    Parameters
    ----------
    direction
        One of :data:`ALL_DIRECTIONS`.
    height, width
        Size of the image in pixels.
    device
        Where the index lies.
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
