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

MIN_COVERAGE = 0.95
"""Share of a band's response that must lie inside the channel grid for the band to be used."""


SLAB_PIXELS = 1 << 14
"""Pixels that are worked on at a time: few enough for a core's cache, many enough for BLAS."""


def slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of an image of that shape (rows, columns), some at a time."""
    rows = max(1, SLAB_PIXELS // shape[1])
    for row in range(0, shape[0], rows):
        yield slice(row, row + rows)


def usable_bands(response: SpectralResponse, channels: ChannelGrid) -> NDArray[np.int64]:
    """Indices of the bands whose response lies inside the channel grid.

    Raises
    ------
    ResponseError
        If no band does.
    """
    inside = np.flatnonzero(response.coverage(channels) >= MIN_COVERAGE)
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
        """Make a cube ``(channel, y, x)`` agree with a scene ``(band, y, x)``; the same array."""
        response, inverse = self.response.astype("f4"), self.inverse.astype("f4")
        for rows in slabs(cube.shape[1:]):
            part, bands = cube[:, rows], scene[:, rows]
            known = bands.reshape(len(bands), -1)
            change = inverse @ (known - response @ part.reshape(len(part), -1))
            part += change.reshape(part.shape)
        return cube
