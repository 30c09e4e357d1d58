"""The four orders in which a scan visits the pixels of an image (the paper's Section 3.2.1).

The paper prints the same phrase for the first two; they are read as VMamba's: along the rows, along
the columns, and both backwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROW_MAJOR, ROW_MAJOR_REVERSED, COLUMN_MAJOR, COLUMN_MAJOR_REVERSED = range(4)
DIRECTIONS = (ROW_MAJOR, ROW_MAJOR_REVERSED, COLUMN_MAJOR, COLUMN_MAJOR_REVERSED)


def walk_index(
    direction: int, height: int, width: int, *, device: torch.device | None = None
) -> Tensor:
    """Return the row-major pixel number visited at each step, ``(step,)``.

    Parameters
    ----------
    direction
        0 row by row, 1 its reverse, 2 column by column, 3 its reverse.
    height, width
        Size of the image in pixels.
    device
        Where the index lies.
    """
    index = torch.arange(height * width, device=device)
    if direction in (COLUMN_MAJOR, COLUMN_MAJOR_REVERSED):
        index = index.view(height, width).t().reshape(-1)
    if direction in (ROW_MAJOR_REVERSED, COLUMN_MAJOR_REVERSED):
        index = index.flip(0)
    return index


def inverse_index(index: Tensor) -> Tensor:
    """Return the step at which each pixel is visited, ``(pixel,)``."""
    inverse = torch.empty_like(index)
    inverse[index] = torch.arange(len(index), device=index.device)
    return inverse
