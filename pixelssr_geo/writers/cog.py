"""Cubes as Cloud-Optimized GeoTIFF, band by band, with wavelengths that GDAL and QGIS read.

A COG must have its overviews before its pixels and cannot be edited afterwards, so the cube is
first written into a plain tiled GeoTIFF beside the output, which gets all tags and its overviews,
and then copied into the final layout. Both are interleaved by band: reading one channel out of
many is then 50 to 100 times faster than from a file interleaved by pixel. GDAL's COG driver can do
that from version 3.11 on; older ones accept the option and ignore it, so there the GTiff driver
does the copy, whose result is a valid COG without the optional layout header.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.writers.encoding import (
    UINT16_SCALE,
    CubeDtype,
    check_dtype,
    encode,
    nodata_value,
)
from pixelssr_geo.writers.output import new_output, writing
from pixelssr_geo.writers.streaming import piece_count, pieces, with_layer
from pixelssr_geo.writers.template import DIMS, IN_SCENE_UNITS, LAYERS, CubeTemplate

_BLOCK_SIZES = (128, 256, 512, 1024)
# Enough for the blocks that are being filled; by default GDAL takes 5 % of the machine's memory.
_CACHE_BYTES = 256 * 2**20
# GDAL's default of 9 saves 1 % on hyperspectral reflectance and takes three times as long.
_ZSTD_LEVEL = 3


def write_cog(
    cube: xr.DataArray,
    path: str | Path,
    *,
    dtype: CubeDtype = "float32",
    overwrite: bool = False,
    blocksize: int = 512,
    layer: xr.DataArray | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a cube as a Cloud-Optimized GeoTIFF, and return its path.

    A lazy cube is computed and written piece by piece. The file appears under its name when it is
    complete; on failure nothing is left. Needs room for a temporary copy beside it.

    Every band carries its wavelength and width: in the ``IMAGERY`` domain (micrometres), in its
    default domain (nm) and as its description. The cube's attributes become dataset tags.

    Parameters
    ----------
    cube
        Reflectance, dims ``wavelength``, ``y``, ``x``; coordinates as in
        :meth:`CubeTemplate.coords`.
    path
        Of the file, usually ``*.tif``.
    dtype
        ``"float32"`` with NaN, or ``"uint16"`` in steps of 1e-4 (0 to 6.5534, 65535 for no data).
    overwrite
        Replace an existing file.
    blocksize
        Side of the file's internal tiles: 128, 256, 512 or 1024 pixels.
    layer
        An image ``(y, x)`` on the cube's grid that follows its channels as the last band, such as
        the ``extrapolation`` of :func:`~pixelssr_geo.reconstruct`.
    progress
        Called after each piece with the pieces written and the pieces in all; overviews and the
        final copy come after the last.

    Raises
    ------
    OutputError
        If the place is taken, missing, read-only or full.
    SettingsError
        If the array is not a cube, or ``blocksize`` or ``dtype`` is not possible.
    """
    path = Path(path)
    template = CubeTemplate.from_cube(cube, layer)
    check_dtype(dtype, scene_units=template.quantity in IN_SCENE_UNITS)
    if blocksize not in _BLOCK_SIZES:
        raise SettingsError(
            f"block size is {blocksize}, expected one of {', '.join(map(str, _BLOCK_SIZES))} pixels"
            ": give one of these"
        )
    cube = with_layer(cube.transpose(*DIMS), layer)
    with new_output(path, overwrite=overwrite) as temporary:
        plain = temporary.with_name(f"{temporary.name}.plain.tif")
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, GDAL_TIFF_OVR_BLOCKSIZE=blocksize):
            with _new_tiff(plain, path, template, dtype, blocksize) as dataset:
                total = piece_count(cube, blocksize)
                for done, (row, col, values) in enumerate(pieces(cube, blocksize), start=1):
                    window = Window(col, row, values.shape[2], values.shape[1])
                    with writing(path):
                        dataset.write(encode(values, dtype), window=window)
                    if progress is not None:
                        progress(done, total)
            with writing(path):
                _build_overviews(plain, blocksize)
                _copy(plain, temporary, dtype, blocksize)
                _check_complete(temporary)
    return path


@contextmanager
def _new_tiff(
    plain: Path, path: Path, template: CubeTemplate, dtype: CubeDtype, blocksize: int
) -> Iterator[Any]:
    rows, cols = template.shape
    with writing(path), _quiet_without_georeference():
        dataset = rasterio.open(
            plain,
            "w",
            driver="GTiff",
            width=cols,
            height=rows,
            count=template.images,
            dtype=dtype,
            nodata=nodata_value(dtype),
            crs=CRS.from_wkt(template.crs_wkt) if template.crs_wkt else None,
            transform=_stated_transform(template),
            # Not compressed: this file is read twice and thrown away, and compressing it takes
            # longer than everything else together.
            **_layout(blocksize),
            sparse_ok=True,
        )
    try:
        with writing(path):
            _describe(dataset, template, dtype)
        yield dataset
    finally:
        with writing(path):
            dataset.close()


def _describe(dataset: Any, template: CubeTemplate, dtype: CubeDtype) -> None:
    # A default-domain fwhm in nm beside a wavelength in micrometres would be misread by tools that
    # take the unit from the IMAGERY domain, so both domains state both.
    channels = zip(template.wavelengths_nm, template.fwhm_nm, strict=True)
    for band, (wavelength, fwhm) in enumerate(channels, start=1):
        dataset.set_band_description(band, f"{wavelength:.1f} nm")
        dataset.update_tags(
            band,
            ns="IMAGERY",
            CENTRAL_WAVELENGTH_UM=f"{wavelength / 1000:.6f}",
            FWHM_UM=f"{fwhm / 1000:.6f}",
        )
        dataset.update_tags(
            band,
            wavelength=f"{wavelength:.3f}",
            wavelength_units="Nanometers",
            fwhm=f"{fwhm:.3f}",
        )
    units = [template.cf_attrs.get("units", "")] * template.channels
    if template.layer is not None:
        dataset.set_band_description(template.images, template.layer)
        units.append(LAYERS[template.layer]["units"])
    dataset.units = units
    if dtype == "uint16":
        dataset.scales = [UINT16_SCALE] * template.images
        dataset.offsets = [0.0] * template.images
    # GDAL separates name and value by the first equals sign.
    tags = {name.replace("=", "_"): value for name, value in template.tags.items()}
    dataset.update_tags(**{**tags, "AREA_OR_POINT": "Area"})


def _build_overviews(plain: Path, blocksize: int) -> None:
    with _quiet_without_georeference(), rasterio.open(plain, "r+") as dataset:
        if factors := overview_factors(dataset.shape, blocksize):
            dataset.build_overviews(factors, Resampling.average)


def overview_factors(shape: tuple[int, int], blocksize: int) -> list[int]:
    """Return the factors, powers of 2, down to the overview that fits into one block.

    Examples
    --------
    >>> overview_factors((1000, 3000), 512)
    [2, 4, 8]
    >>> overview_factors((512, 300), 512)
    []
    """
    factors = []
    factor = 2
    while max(shape) * 2 > blocksize * factor:
        factors.append(factor)
        factor *= 2
    return factors


def _copy(plain: Path, final: Path, dtype: CubeDtype, blocksize: int) -> None:
    with _quiet_without_georeference():
        rasterio.shutil.copy(
            plain, final, **copy_options(rasterio.__gdal_version__, dtype, blocksize)
        )


def copy_options(gdal_version: str, dtype: CubeDtype, blocksize: int) -> dict[str, Any]:
    """Return driver and creation options for the final copy under a version of GDAL.

    Examples
    --------
    >>> copy_options("3.10.3", "float32", 512)["driver"]
    'GTiff'
    >>> copy_options("3.11.0", "float32", 512)["driver"]
    'COG'
    """
    major, minor = (int(part) for part in gdal_version.split(".")[:2])
    if (major, minor) >= (3, 11):
        return {
            "driver": "COG",
            "interleave": "BAND",
            "blocksize": blocksize,
            "compress": "ZSTD",
            "level": _ZSTD_LEVEL,
            "predictor": "YES",
            "overviews": "AUTO",
            "overview_resampling": "AVERAGE",
            "bigtiff": "IF_SAFER",
            "num_threads": "ALL_CPUS",
        }
    return {
        "driver": "GTiff",
        "copy_src_overviews": "YES",
        "compress": "zstd",
        "zstd_level": _ZSTD_LEVEL,
        # 3 is made for floating point, 2 for integers.
        "predictor": 3 if dtype == "float32" else 2,
        "num_threads": "ALL_CPUS",
        **_layout(blocksize),
    }


def _layout(blocksize: int) -> dict[str, Any]:
    return {
        "tiled": "YES",
        "blockxsize": blocksize,
        "blockysize": blocksize,
        "interleave": "band",
        "bigtiff": "IF_SAFER",
    }


def _check_complete(final: Path) -> None:
    # What GDAL writes while it closes a file can fail unseen when the disk is full; the end of the
    # file is the last block of the last band.
    with _quiet_without_georeference(), rasterio.open(final) as dataset:
        corner = Window(dataset.width - 1, dataset.height - 1, 1, 1)
        dataset.read(dataset.count, window=corner)


def _stated_transform(template: CubeTemplate) -> Affine | None:
    # The identity is what an array without georeference has.
    affine = template.grid.affine
    return None if affine == Affine.identity() else affine


@contextmanager
def _quiet_without_georeference() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
