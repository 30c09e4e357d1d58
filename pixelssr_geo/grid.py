"""The pixel grid of a scene: where a pixel lies in the world, and which pixel a place falls in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

MATCH_PIXELS = 0.5
"""Grids with corners closer than this are one grid."""


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """Coordinate system, transform and size of a raster."""

    crs_wkt: str | None
    """Coordinate reference system as WKT; None when the raster carries none."""
    transform: tuple[float, float, float, float, float, float]
    """Affine a, b, c, d, e, f from (column, row) corners to (x, y)."""
    shape: tuple[int, int]
    """Rows and columns."""

    @property
    def affine(self) -> Affine:
        """The transform as an :class:`affine.Affine`."""
        return Affine(*self.transform)

    def to_pixels(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the pixels that contain the places; may lie outside the raster."""
        a, b, c, d, e, f = tuple(~self.affine)[:6]
        east, north = np.asarray(x, "f8"), np.asarray(y, "f8")
        with np.errstate(invalid="ignore"):
            cols, rows = a * east + b * north + c, d * east + e * north + f
        # A place that is not finite in this CRS lies in no pixel.
        lost = ~(np.isfinite(rows) & np.isfinite(cols))
        rows, cols = np.where(lost, -1, rows), np.where(lost, -1, cols)
        return np.floor(rows).astype("i8"), np.floor(cols).astype("i8")

    def to_world(
        self, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X and y of the pixels' centres."""
        a, b, c, d, e, f = self.transform
        right, down = np.asarray(cols, "f8") + 0.5, np.asarray(rows, "f8") + 0.5
        return a * right + b * down + c, d * right + e * down + f

    def pixels_apart(self, other: PixelGrid) -> float:
        """How far the other grid's first and last corner lie from this one's, at most, in pixels.

        In pixels of the other grid, both being taken to be in one coordinate system.
        """
        rows, cols = self.shape
        into = ~other.affine @ self.affine
        corners = [(0, 0), (cols, rows)]
        return float(max(np.abs(np.subtract(into @ corner, corner)).max() for corner in corners))

    def contains(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the pixels lie inside the raster."""
        height, width = self.shape
        return (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
