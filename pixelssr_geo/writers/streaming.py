"""Reading a cube piece by piece, so that memory is bounded by a piece."""

import math
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray


def with_layer(cube: xr.DataArray, layer: xr.DataArray | None) -> xr.DataArray:
    """A cube ``(wavelength, y, x)`` with a layer ``(y, x)`` behind its channels, for its values.

    Lazy if one of them is; what both rest on is computed once.
    """
    if layer is None:
        return cube
    images: list[Any] = [cube.data, layer.transpose(*cube.dims[1:]).data[None]]
    join: Any = da.concatenate if cube.chunks or layer.chunks else np.concatenate
    return xr.DataArray(join(images), dims=cube.dims)


def piece_sizes(cube: xr.DataArray, unit: int) -> tuple[int, int]:
    """Return rows and columns of the pieces in which a cube is best computed and written.

    Multiples of ``unit``. Where the cube is lazy they are whole chunks of it too, so that each
    chunk is computed once, unless that would make them more than twice as large: then chunks that
    lie across a border are computed again for each side.

    Parameters
    ----------
    cube
        Dims ``(wavelength, y, x)``.
    unit
        Side of the output's own blocks, pixels.
    """
    rows, cols = (_piece_size(cube, dim, unit) for dim in ("y", "x"))
    return rows, cols


def pieces(cube: xr.DataArray, unit: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Compute a cube piece by piece: first row, first column and values ``(wavelength, y, x)``.

    Parameters
    ----------
    cube
        Dims ``(wavelength, y, x)``, lazy or not.
    unit
        Pieces start at multiples of it.
    """
    rows, cols = piece_sizes(cube, unit)
    for row in range(0, cube.sizes["y"], rows):
        for col in range(0, cube.sizes["x"], cols):
            # A new object each time: xarray keeps what it loads for as long as the object lives.
            piece = cube.isel(y=slice(row, row + rows), x=slice(col, col + cols))
            yield row, col, np.asarray(piece.values)


def piece_count(cube: xr.DataArray, unit: int) -> int:
    """Return the number of pieces."""
    rows, cols = piece_sizes(cube, unit)
    return math.ceil(cube.sizes["y"] / rows) * math.ceil(cube.sizes["x"] / cols)


def _piece_size(cube: xr.DataArray, dim: str, unit: int) -> int:
    chunks = cube.chunksizes.get(dim)
    if chunks is None:
        return unit
    largest = max(chunks)
    rounded_up = math.ceil(largest / unit) * unit
    if len(chunks) == 1:
        return rounded_up
    # Only a regular chunking has its borders at multiples of the chunk.
    regular = all(size == largest for size in chunks[:-1])
    aligned = math.lcm(largest, unit)
    return aligned if regular and aligned <= 2 * rounded_up else rounded_up
