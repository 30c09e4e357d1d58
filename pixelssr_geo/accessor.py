"""``da.pixelssr``: the library's functions as methods of a DataArray, one delegation each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import xarray as xr

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from pixelssr_geo.pairing import PairedPoints
    from pixelssr_geo.points import PointSpectra


@xr.register_dataarray_accessor("pixelssr")  # type: ignore[no-untyped-call]
class PixelSSRAccessor:
    """Reconstruction, pairing, writing and pictures of a scene or cube; holds no state."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    @overload
    def reconstruct(
        self,
        points: PointSpectra | None = None,
        *,
        uncertainty: Literal[False] = False,
        **options: Any,
    ) -> xr.DataArray: ...
    @overload
    def reconstruct(
        self, points: PointSpectra | None = None, *, uncertainty: Literal[True], **options: Any
    ) -> xr.Dataset: ...
    def reconstruct(
        self, points: PointSpectra | None = None, **options: Any
    ) -> xr.DataArray | xr.Dataset:
        """The lazy cube of this scene; see :func:`pixelssr_geo.reconstruct`."""
        from pixelssr_geo.reconstruction import reconstruct

        cube: xr.DataArray | xr.Dataset = reconstruct(self._array, points, **options)
        return cube

    def pair(self, points: PointSpectra, **options: Any) -> PairedPoints:
        """Points on this scene's pixels; see :func:`pixelssr_geo.pair_points`."""
        from pixelssr_geo.pairing import pair_points

        return pair_points(self._array, points, **options)

    def to_cog(self, path: str | Path, **options: Any) -> Path:
        """Write this cube as a COG; see :func:`pixelssr_geo.write_cog`."""
        from pixelssr_geo.writers import write_cog

        return write_cog(self._array, path, **options)

    def to_zarr(self, path: str | Path, **options: Any) -> Path | str:
        """Write this cube as a Zarr store; see :func:`pixelssr_geo.write_zarr`."""
        from pixelssr_geo.writers import write_zarr

        return write_zarr(self._array, path, **options)

    def rgb(self, **options: Any) -> xr.DataArray:
        """A picture of this cube, ``(y, x, rgb)`` in 0-1, NaN for nodata."""
        from pixelssr_geo.report.pictures import rgb

        return rgb(self._array, **options)

    def plot_spectra(
        self,
        rows: NDArray[np.int64] | list[int],
        cols: NDArray[np.int64] | list[int],
        **options: Any,
    ) -> Axes:
        """Plot the spectra of some of this cube's pixels; see ``report.pictures.plot_spectra``."""
        from pixelssr_geo.report.pictures import plot_spectra

        return plot_spectra(self._array, rows, cols, **options)
