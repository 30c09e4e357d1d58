"""The consistency projection: the cube re-simulates the measured scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import ResponseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pixelssr_geo.spectra import ChannelGrid, SpectralResponse

SLAB_PIXELS = 1 << 14
"""Pixels that are worked on at a time: few enough for a core's cache, many enough for BLAS."""


def slabs(*images: NDArray[np.float32]) -> Iterator[tuple[slice, tuple[NDArray[np.float32], ...]]]:
    """Give images ``(channel, y, x)`` as tables ``(channel, pixel)``, some pixels at a time.

    Each table has :data:`SLAB_PIXELS` columns, the last filled up with zeros: the last bits of a
    product depend on its size, and a pixel must not depend on the block that it is computed in.
    """
    count = images[0][0].size
    flat = [image.reshape(len(image), -1) for image in images]
    for start in range(0, count, SLAB_PIXELS):
        part = slice(start, min(start + SLAB_PIXELS, count))
        tables = []
        for image in flat:
            table = np.zeros((len(image), SLAB_PIXELS), image.dtype)
            table[:, : part.stop - start] = image[:, part]
            tables.append(table)
        yield part, tuple(tables)


def usable_bands(response: SpectralResponse, channels: ChannelGrid) -> NDArray[np.int64]:
    """Indices of the bands whose response lies inside the channel grid.

    Raises
    ------
    ResponseError
        If no band does.
    """
    inside = response.covered_bands(channels)
    if not len(inside):
        listed = ", ".join(f"{centre:.0f}" for centre in response.centres_nm)
        raise ResponseError(
            f"the scene's bands lie at {listed} nm, none lies inside the cube's "
            f"{channels.centres_nm[0]:.0f}-{channels.centres_nm[-1]:.0f} nm: give --wavelengths "
            "that cover bands, or the right --sensor"
        )
    return inside


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """``Y + S^+ (X - S Y)``: the least change of a cube that makes it agree with the scene."""

    response: NDArray[np.float64]
    """S, rows summing to one, ``(band, channel)``."""
    inverse: NDArray[np.float64]
    """S^+, the pseudo-inverse, ``(channel, band)``."""

    @staticmethod
    def of(response: NDArray[np.float64]) -> Projection:
        """The projection for a response matrix ``(band, channel)``."""
        return Projection(response, np.asarray(np.linalg.pinv(response), "f8"))

    def __call__(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spectra ``(..., channel)`` made to agree with bands ``(..., band)``."""
        return y + (x - y @ self.response.T) @ self.inverse.T

    def null_part(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """The part of spectra ``(..., channel)`` that no band sees."""
        return y - (y @ self.response.T) @ self.inverse.T

    def on_cube(self, cube: NDArray[np.float32], scene: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make a cube ``(channel, y, x)`` agree with a scene ``(band, y, x)``; in place if it can."""
        response, inverse = self.response.astype("f4"), self.inverse.astype("f4")
        cube = np.ascontiguousarray(cube)
        flat = cube.reshape(len(cube), -1)
        for part, (spectra, bands) in slabs(cube, scene):
            change = inverse @ (bands - response @ spectra)
            flat[:, part] += change[:, : part.stop - part.start]
        return cube
