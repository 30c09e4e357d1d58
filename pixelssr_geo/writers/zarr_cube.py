"""Cubes as Zarr v3 stores, with CF and GeoZarr metadata.

One chunk holds all channels of a square of pixels. Stores are not sharded and have no consolidated
metadata, so that today's GDAL reads them. CF attributes and ``spatial_ref`` are what tools read
today; the ``proj:`` and ``spatial:`` attributes of the GeoZarr conventions say the same once more.
"""

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.place import place
from pixelssr_geo.writers import object_store
from pixelssr_geo.writers.encoding import (
    UINT16_NODATA,
    UINT16_SCALE,
    CubeDtype,
    check_dtype,
    encode,
)
from pixelssr_geo.writers.output import check_output, new_output, writing
from pixelssr_geo.writers.streaming import piece_count, pieces, with_layer
from pixelssr_geo.writers.template import DIMS, IN_SCENE_UNITS, REFLECTANCE, CubeTemplate

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

_CONVENTION_URL = "https://raw.githubusercontent.com/zarr-conventions/{}/refs/tags/v0.1/schema.json"
_SPEC_URL = "https://github.com/zarr-conventions/{}/blob/v0.1/README.md"
_CONVENTIONS = {
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    "proj": (
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "Coordinate reference system information for geospatial data",
    ),
}


def create_store(
    path: str | Path, template: CubeTemplate, *, chunk: int = 256, dtype: CubeDtype = "float32"
) -> None:
    """Create a store that holds everything of a cube but its values, which read as no data.

    A store at a URL takes the place of an unfinished one, and readers find it once it is published:
    :func:`publish_store`, or the end of :func:`~pixelssr_geo.writers.staged_output` or
    :func:`~pixelssr_geo.writers.new_output`, inside which it takes the place of a finished one too.

    Parameters
    ----------
    path
        Where no file or folder exists yet, or a URL.
    template
        Grid, channels and provenance.
    chunk
        Rows and columns of a chunk.
    dtype
        ``"float32"``, or ``"uint16"`` in steps of 1e-4 with 65535 for no data.

    Raises
    ------
    OutputError
        If the name is taken, or the folder or URL is missing or cannot be written to.
    SettingsError
        If ``chunk`` or ``dtype`` is not possible.
    """
    path = place(path)
    check_dtype(dtype, scene_units=template.quantity in IN_SCENE_UNITS)
    if chunk < 1:
        raise SettingsError(f"chunk is {chunk}, expected at least 1 pixel: give a larger one")
    check_output(path, overwrite=isinstance(path, str) and object_store.is_claimed(path))
    if isinstance(path, str):
        documents: dict[str, Buffer] = {}
        _create(MemoryStore(documents), template, chunk, dtype)
        object_store.create(path, {key: doc.to_bytes() for key, doc in documents.items()})
        return
    try:
        with writing(path):
            _create(path, template, chunk, dtype)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _create(
    store: Path | MemoryStore, template: CubeTemplate, chunk: int, dtype: CubeDtype
) -> None:
    rows, cols = template.shape
    shape = (template.channels, rows, cols)
    # One Dask chunk that is never computed: only the metadata and the coordinates are written.
    cube = template.to_dataarray(da.zeros(shape, dtype=np.float32, chunks=-1))
    dataset = cube.to_dataset().assign_attrs(_group_attrs(template))
    side = (min(chunk, rows), min(chunk, cols))
    common: dict[str, Any] = {
        "dtype": dtype,
        "compressors": (BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),),
        # Given encoding replaces the array's own, so this must be said again.
        "grid_mapping": "spatial_ref",
    }
    if dtype == "uint16":
        common |= {"scale_factor": UINT16_SCALE, "add_offset": 0.0}
        common |= {"_FillValue": np.uint16(UINT16_NODATA), "fill_value": UINT16_NODATA}
    else:
        common |= {"_FillValue": np.float32("nan"), "fill_value": np.float32("nan")}
    encoding = {template.quantity: {**common, "chunks": (template.channels, *side)}}
    if template.layer is not None:
        empty = da.zeros(template.shape, dtype=np.float32, chunks=-1)
        dataset[template.layer] = template.to_layer(empty)
        encoding[template.layer] = {**common, "chunks": side}
    dataset.to_zarr(
        store,
        mode="w-",
        zarr_format=3,
        consolidated=False,
        compute=False,
        encoding=encoding,
    )


def publish_store(path: str | Path) -> None:
    """Let readers find a store at a URL that :func:`create_store` made; on disk they do already.

    Needed only outside of :func:`~pixelssr_geo.writers.staged_output` and
    :func:`~pixelssr_geo.writers.new_output`, which do it in the end.

    Raises
    ------
    OutputError
        If nothing was created there, or it cannot be written to.
    """
    path = place(path)
    if isinstance(path, str):
        object_store.publish(path)


def write_region(
    path: str | Path, values: NDArray[Any], row: int, col: int, *, name: str = REFLECTANCE
) -> None:
    """Write one block into a store that :func:`create_store` made.

    Threads and processes may write at the same time, for a block must consist of whole chunks: no
    two blocks touch the same file or object. A store at a URL needs not be published yet.

    Parameters
    ----------
    path
        The store, on disk or at a URL.
    values
        Reflectance ``(channel, y, x)``, NaN for no data, all channels; or, of a layer, ``(y, x)``.
    row, col
        Where the block starts.
    name
        Of the array in the store: the template's quantity, or its layer.

    Raises
    ------
    SettingsError
        If the block is not made of whole chunks or leaves the cube.
    OutputError
        If it cannot be written.
    """
    path = place(path)
    with writing(path):
        array = zarr.open_array(
            f"{path}/{name}" if isinstance(path, str) else path / name, mode="r+", zarr_format=3
        )
    stop = (row + values.shape[-2], col + values.shape[-1])
    _check_alignment(array, values.shape[:-2], (row, col), stop)
    dtype: CubeDtype = "uint16" if array.dtype == np.uint16 else "float32"
    with writing(path):
        array[..., row : stop[0], col : stop[1]] = encode(values, dtype)
        if isinstance(path, Path):
            _flush(path / name, array, (row, col), stop)


def _flush(
    folder: Path, array: zarr.Array[Any], start: tuple[int, int], stop: tuple[int, int]
) -> None:
    """Wait until the chunks of a block are on disk: a block is done when it survives a power cut."""
    rows, cols = (
        range(first // chunk, math.ceil(end / chunk))
        for first, end, chunk in zip(start, stop, array.chunks[-2:], strict=True)
    )
    chunks = folder / "c" / "0" if array.ndim == 3 else folder / "c"
    for row in rows:
        for col in cols:
            file = chunks / str(row) / str(col)
            if file.exists():  # a chunk without data has none
                with file.open("rb") as chunk:
                    os.fsync(chunk.fileno())


def write_zarr(
    cube: xr.DataArray,
    path: str | Path,
    *,
    dtype: CubeDtype = "float32",
    overwrite: bool = False,
    chunk: int = 256,
    layer: xr.DataArray | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path | str:
    """Write a cube as a Zarr store, and return its path or URL.

    A lazy cube is computed and written piece by piece. The store appears under its name when it is
    complete; on failure nothing is left. One that is replaced is there until then on disk, but at a
    URL only until the new one is begun.

    Parameters
    ----------
    cube
        Reflectance, dims ``wavelength``, ``y``, ``x``; coordinates as in
        :meth:`CubeTemplate.coords`.
    path
        Of the store, usually ``*.zarr``; or a URL as ``s3://bucket/cube.zarr``.
    dtype
        ``"float32"``, or ``"uint16"`` in steps of 1e-4 (0 to 6.5534, 65535 for no data).
    overwrite
        Replace an existing store.
    chunk
        Rows and columns of a chunk.
    layer
        An image ``(y, x)`` on the cube's grid that is stored as an array of its own, such as the
        ``extrapolation`` of :func:`~pixelssr_geo.reconstruct`.
    progress
        Called after each piece with the pieces written and the pieces in all.

    Raises
    ------
    OutputError
        If the place is taken, missing, read-only, full or out of reach.
    SettingsError
        If the array is not a cube, or ``chunk`` or ``dtype`` is not possible.
    """
    path = place(path)
    template = CubeTemplate.from_cube(cube, layer)
    images = with_layer(cube.transpose(*DIMS), layer)
    with new_output(path, overwrite=overwrite) as temporary:
        create_store(temporary, template, chunk=chunk, dtype=dtype)
        total = piece_count(images, chunk)
        for done, (row, col, values) in enumerate(pieces(images, chunk), start=1):
            channels = values[: template.channels]
            write_region(temporary, channels, row, col, name=template.quantity)
            if template.layer is not None:
                write_region(temporary, values[-1], row, col, name=template.layer)
            if progress is not None:
                progress(done, total)
    return path


def _check_alignment(
    array: zarr.Array[Any], channels: tuple[int, ...], start: tuple[int, int], stop: tuple[int, int]
) -> None:
    if channels != array.shape[:-2]:
        found, known = (shape[0] if shape else "no" for shape in (channels, array.shape[:-2]))
        raise SettingsError(
            f"block has {found} channels, the store {known}: write all channels at once"
        )
    sizes, chunks = array.shape[-2:], array.chunks[-2:]
    for first, end, size, chunk in zip(start, stop, sizes, chunks, strict=True):
        whole = first % chunk == 0 and (end % chunk == 0 or end == size)
        if not (whole and 0 <= first < end <= size):
            raise SettingsError(
                f"block covers pixels {first} to {end} of {size}, expected whole chunks of {chunk}:"
                " choose a block size that is a multiple of the chunk"
            )


def _group_attrs(template: CubeTemplate) -> dict[str, Any]:
    rows, cols = template.shape
    a, b, c, d, e, f = template.transform
    corners = [(col, row) for col in (0, cols) for row in (0, rows)]
    xs = [a * col + b * row + c for col, row in corners]
    ys = [d * col + e * row + f for col, row in corners]
    return {
        "Conventions": "CF-1.11",
        "zarr_conventions": [_convention(name) for name in _convention_names(template)],
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [float(v) for v in template.transform],
        "spatial:bbox": [float(v) for v in (min(xs), min(ys), max(xs), max(ys))],
        "spatial:shape": [rows, cols],
        "spatial:registration": "pixel",
        **_proj_attrs(template.crs_wkt),
    }


def _proj_attrs(crs_wkt: str | None) -> dict[str, str]:
    if crs_wkt is None:
        return {}
    from pyproj import CRS

    crs = CRS.from_wkt(crs_wkt)
    authority = crs.to_authority(min_confidence=100)
    code = {"proj:code": ":".join(authority)} if authority else {}
    return {**code, "proj:wkt2": crs.to_wkt("WKT2_2019")}


def _convention_names(template: CubeTemplate) -> list[str]:
    return ["spatial"] if template.crs_wkt is None else ["spatial", "proj"]


def _convention(name: str) -> dict[str, str]:
    uuid, description = _CONVENTIONS[name]
    return {
        "uuid": uuid,
        "schema_url": _CONVENTION_URL.format(name),
        "spec_url": _SPEC_URL.format(name),
        "name": name,
        "description": description,
    }
