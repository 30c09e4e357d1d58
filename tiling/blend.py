"""Weights that join overlapping tiles without a seam.

The weight of a tile at a pixel is a product of one number per axis. On a lattice that is a product
of two 1-D lattices, numbers that sum to one along each axis make weights that sum to one at every
pixel, so they follow from the plan alone and no pixel's value depends on the block it is in.
"""

import numpy as np
from numpy.typing import NDArray


def taper(tile: int, overlap: int) -> NDArray[np.float64]:
    """Return weights ``(tile,)`` that rise and fall as a raised cosine over ``overlap`` pixels.

    They are positive everywhere and 1 beyond the overlap; before normalisation.

    Examples
    --------
    >>> taper(6, 2).round(3).tolist()
    [0.146, 0.854, 1.0, 1.0, 0.854, 0.146]
    """
    if overlap == 0:
        return np.ones(tile)
    # Half a pixel in: the first weight is the ramp's value at that pixel's centre, not its zero.
    position = np.minimum((np.arange(tile) + 0.5) / overlap, 1.0)
    ramp: NDArray[np.float64] = np.sin(0.5 * np.pi * position) ** 2
    return ramp * ramp[::-1]


def axis_weights(starts: tuple[int, ...], tile: int, overlap: int) -> NDArray[np.float32]:
    """Return weights ``(tile index, pixel in tile)`` along one axis; they sum to one per pixel.

    Parameters
    ----------
    starts
        First pixel of each tile, from a :class:`~pixelssr_geo.tiling.plan.TilePlan`.
    tile, overlap
        Side of a tile and width of the taper, pixels.
    """
    raw = taper(tile, overlap)
    pixels = np.asarray(starts)[:, None] + np.arange(tile)
    total = np.zeros(pixels.max() + 1)
    for row in pixels:
        total[row] += raw
    return (raw / total[pixels]).astype(np.float32)
