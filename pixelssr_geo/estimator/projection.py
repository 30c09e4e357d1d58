"""The consistency projection: the cube re-simulates the measured scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import ResponseError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelssr_geo.spectra import ChannelGrid, SpectralResponse

MIN_COVERAGE = 0.95
"""Share of a band's response that must lie inside the channel grid for the band to be used."""


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
        """A cube ``(channel, y, x)`` made to agree with a scene ``(band, y, x)``, float32."""
        seen = np.einsum("bc,cyx->byx", self.response.astype("f4"), cube, optimize=True)
        change = np.einsum("cb,byx->cyx", self.inverse.astype("f4"), scene - seen, optimize=True)
        return np.asarray(cube + change)
