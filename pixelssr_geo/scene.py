"""Scenes in, lazily: any GDAL raster or Zarr store becomes reflectance ``(band, y, x)``.

Also :func:`open_cube`, which gives a cube back its wavelength coordinate, whatever wrote it.
"""

from __future__ import annotations

import re
import threading
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pixelssr_geo.errors import (
    MissingDependencyError,
    MissingWavelengthsError,
    PixelSSRWarning,
    ResponseError,
    SceneError,
    SceneReadError,
)
from pixelssr_geo.grid import PixelGrid
from pixelssr_geo.place import file_system, place, place_suffix, shown
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor, list_sensors
from pixelssr_geo.spectra.response import is_panchromatic
from pixelssr_geo.spectra.units import MICROMETRES_END, nm_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CHUNK = 512
"""Rows and columns of a lazy chunk: one read of all bands."""

DEFAULT_INTEGER_SCALE = 1e-4
"""Integers without a stated scale are taken as reflectance x 10000."""

LEAST_REACH_NM = 25.0
"""How far a band may lie from the one that it is taken for; of wide ones a quarter of the width."""

MOST_WIDER = 3.0
"""Factor between the stated widths of a band and the one that it is taken for."""


@dataclass(frozen=True, slots=True)
class RasterInfo:
    """What a raster says about itself, read once without touching a pixel."""

    path: str
    """File, folder or GDAL name."""
    indexes: tuple[int, ...]
    """1-based band numbers that carry data (an alpha band does not, nor does a cube's layer)."""
    shape: tuple[int, int]
    """Rows and columns."""
    dtype: str
    """Stored data type."""
    crs_wkt: str | None
    """Coordinate reference system, or None."""
    transform: tuple[float, float, float, float, float, float]
    """Affine a to f."""
    scales: tuple[float, ...]
    """Factor per band from stored values, 1 when nothing is stated."""
    offsets: tuple[float, ...]
    """Added per band after scaling."""
    scale_stated: bool
    """Whether the raster states scale or offset."""
    descriptions: tuple[str, ...]
    """Band descriptions, empty when absent."""
    wavelengths_nm: tuple[float, ...] | None
    """Band centres, or None when they are not known for every band."""
    fwhm_nm: tuple[float, ...] | None
    """Band widths, or None."""
    quantity: str
    """What a cube's file says that it holds; ``reflectance`` when it says nothing."""


def read_raster_info(path: str | Path, *, layer: str | None = None) -> RasterInfo:
    """What a GDAL raster says about itself.

    Parameters
    ----------
    path
        File, folder or GDAL name.
    layer
        Look at this layer beside a cube's channels instead of the channels.

    Raises
    ------
    SceneReadError
        If GDAL cannot open the path as a raster.
    """
    import rasterio
    from rasterio.enums import ColorInterp

    with _opened(path) as dataset:
        envi = dataset.tags(ns="ENVI")
        named = dataset.tags().get("layer") or envi.get("cube_layer")
        last = dataset.count if named in CUBE_LAYERS else None
        indexes = tuple(
            index
            for index, colour in zip(dataset.indexes, dataset.colorinterp, strict=True)
            if colour != ColorInterp.alpha and layer == (named if index == last else None)
        )
        if not indexes and layer is not None:
            raise _no_layer(path, layer)
        if not indexes:
            raise SceneError(
                f"'{shown(path)}' has no data band, a scene needs at least one: check the file"
            )
        if any(np.dtype(dataset.dtypes[i - 1]).kind == "c" for i in indexes):
            raise SceneError(
                f"'{shown(path)}' holds complex numbers, reflectance is real: export amplitude bands"
            )
        factor = _number(envi.get("reflectance_scale_factor"))
        scales = [dataset.scales[i - 1] for i in indexes]
        offsets = [dataset.offsets[i - 1] for i in indexes]
        stated = any(scale != 1 for scale in scales) or any(offset != 0 for offset in offsets)
        if not stated and factor:
            scales, stated = [1 / factor] * len(indexes), True
        centres, widths = _spectral_tags(dataset, indexes)
        quantity = dataset.tags().get("quantity") or envi.get("cube_quantity")
        crs = _stated_crs(dataset)
        affine = dataset.transform
        if affine == rasterio.Affine.identity():
            affine = rasterio.Affine(1, 0, 0, 0, -1, dataset.height)
        return RasterInfo(
            path=str(path),
            indexes=indexes,
            shape=(dataset.height, dataset.width),
            dtype=dataset.dtypes[indexes[0] - 1],
            crs_wkt=crs,
            transform=tuple(affine)[:6],
            scales=tuple(scales),
            offsets=tuple(offsets),
            scale_stated=stated,
            descriptions=tuple(dataset.descriptions[i - 1] or "" for i in indexes),
            wavelengths_nm=centres,
            fwhm_nm=widths,
            quantity=quantity or "reflectance",
        )


def open_scene(
    path: str | Path,
    *,
    sensor: str | None = None,
    response: str | Path | None = None,
    scale: float | None = None,
    crs: str | None = None,
) -> xr.DataArray:
    """A multispectral scene as lazy reflectance, dims ``(band, y, x)``, float32, NaN for nodata.

    Wavelengths come from ``sensor`` or ``response``, otherwise from the bands' IMAGERY metadata,
    the ENVI header or the band descriptions. Nodata values, mask bands, alpha and values that are
    not finite all become NaN.

    Parameters
    ----------
    path
        Any GDAL raster (GeoTIFF, COG, ENVI, VRT ...) or a Zarr store, which may be at a URL.
    sensor
        Name of a known sensor, such as ``"GF6-PMS"``; see :func:`pixelssr_geo.spectra.list_sensors`.
    response
        File of spectral response functions, instead of ``sensor``; see
        :meth:`pixelssr_geo.spectra.SpectralResponse.from_file`. Bands of either are matched by the
        names or the wavelengths that the scene states, else one to one in order. Bands that it
        lacks are left out, with a warning.
    scale
        Factor to reflectance. By default the one the raster states; integers that state none are
        taken as reflectance x 10000, with a warning.
    crs
        Coordinate reference system for a raster that has none, as ``"EPSG:32633"``.

    Raises
    ------
    SceneReadError
        If the path is not a readable raster.
    SceneError
        If the scale is not positive, the CRS is none, or the raster holds complex numbers.
    MissingWavelengthsError
        If nothing says which wavelengths the bands measure.
    ResponseError
        If no band can be matched with the sensor's or the table's, or their numbers differ where
        the scene says nothing of its bands.
    """
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise SceneError(
            f"scale is {scale}, a positive number is needed: give the factor from stored values to "
            "reflectance 0-1"
        )
    if place_suffix(path) == ".zarr":
        scene = _open_zarr(path, "scene")
        if scale is not None:
            scene = scene * np.float32(scale)
        centres, widths = _zarr_wavelengths(scene)
        descriptions: tuple[str, ...] = tuple(str(name) for name in scene["band"].values)
    else:
        info = read_raster_info(path)
        scene = _lazy_raster(info, *_scaling(info, scale))
        centres, widths, descriptions = info.wavelengths_nm, info.fwhm_nm, info.descriptions
    if crs is not None:
        scene = _set_crs(scene, crs)
    scene.attrs["source"] = shown(path)
    scene = _with_wavelengths(scene, descriptions, centres, widths, sensor, response)
    # Not among the attributes, which are told and written, for it may hold a password.
    scene.encoding["source"] = str(path)
    return scene


def open_cube(
    path: str | Path, *, channels: ChannelGrid | None = None, scale: float | None = None
) -> xr.DataArray:
    """A hyperspectral cube as lazy reflectance, dims ``(wavelength, y, x)``, NaN for nodata.

    A Zarr store may be at a URL, as ``s3://bucket/cube.zarr``. The wavelength (nm) and FWHM coordinates are lifted from the IMAGERY domain, an ENVI header or
    the Zarr store's own coordinates. A layer beside the channels, as ``extrapolation``, is left out.

    Parameters
    ----------
    path
        Any GDAL raster or a Zarr store.
    channels
        Of a GDAL raster, in the order of its bands, instead of those that it states.
    scale
        Factor of a GDAL raster to reflectance, instead of the one that it states.

    Raises
    ------
    SceneReadError
        If the path is not a readable raster.
    MissingWavelengthsError
        If the file does not say the wavelengths of its bands.
    SceneError
        If it has another number of bands than there are channels, or is a Zarr store, which states
        both itself, and one of the two is given.
    """
    if place_suffix(path) == ".zarr":
        if channels is not None or scale is not None:
            raise SceneError(
                f"channels or a scale are given for '{shown(path)}', a Zarr store states its own: "
                "leave them out"
            )
        cube = _open_zarr(path, "cube")
        if "wavelength" not in cube.dims:
            raise MissingWavelengthsError(
                f"'{shown(path)}' has no wavelength dimension, a cube needs one: is this a scene?"
            )
        return cube
    info = read_raster_info(path)
    if channels is not None:
        if len(channels) != len(info.indexes):
            raise SceneError(
                f"'{shown(path)}' has {len(info.indexes)} bands, {len(channels)} channels are given "
                "for it: give one wavelength per band"
            )
        info = replace(
            info,
            wavelengths_nm=tuple(map(float, channels.centres_nm)),
            fwhm_nm=tuple(map(float, channels.fwhm_nm)),
        )
    if info.wavelengths_nm is None:
        raise MissingWavelengthsError(
            f"'{shown(path)}' does not say the wavelengths of its {len(info.indexes)} bands, a cube "
            "needs one per band: set the IMAGERY item CENTRAL_WAVELENGTH_UM of every band"
        )
    cube = _lazy_raster(info, *_scaling(info, scale)).rename(band="wavelength")
    centres = np.array(info.wavelengths_nm)
    cube = cube.assign_coords(wavelength=("wavelength", centres, WAVELENGTH_ATTRS))
    if info.fwhm_nm is not None:
        cube = cube.assign_coords(fwhm=("wavelength", np.array(info.fwhm_nm), FWHM_ATTRS))
    cube.attrs["source"] = shown(path)
    return cube.rename(info.quantity)


def open_layer(path: str | Path, name: str) -> xr.DataArray:
    """An image ``(y, x)`` that lies beside the channels of a cube, lazily, NaN for nodata.

    Parameters
    ----------
    path
        Of the cube, as for :func:`open_cube`.
    name
        One of :data:`CUBE_LAYERS`, such as ``extrapolation``.

    Raises
    ------
    SceneReadError
        If the path is not a readable raster, or the cube has no such layer.
    """
    if place_suffix(path) != ".zarr":
        info = read_raster_info(path, layer=name)
        return _lazy_raster(info, *_scaling(info, None)).isel(band=0, drop=True).rename(name)
    dataset = _zarr_dataset(path, "cube")
    if name not in dataset or set(dataset[name].dims) != {"y", "x"}:
        raise _no_layer(path, name)
    layer: xr.DataArray = dataset[name].transpose("y", "x").astype("f4")
    return layer


def _no_layer(path: str | Path, name: str) -> SceneReadError:
    return SceneReadError(
        f"'{shown(path)}' has no layer '{name}' beside its channels, one is needed: name a file "
        "that --uncertainty wrote"
    )


EXTRAPOLATION = "extrapolation"
CUBE_LAYERS = (EXTRAPOLATION,)
"""Images that may lie beside the channels of a cube: the last band of a file whose tag ``layer``
names one, an array of its own in a store."""

WAVELENGTH_ATTRS = {
    "units": "nm",
    "standard_name": "radiation_wavelength",
    "long_name": "central wavelength",
}
FWHM_ATTRS = {"units": "nm", "long_name": "full width at half maximum"}


def scene_response(scene: xr.DataArray) -> SpectralResponse:
    """Spectral response of the scene's bands, in band order.

    The table or sensor that the scene was opened with; otherwise Gaussians of the centres and
    widths in its ``wavelength`` and ``fwhm`` coordinates (nm).

    Raises
    ------
    MissingWavelengthsError
        If the scene has no ``wavelength`` coordinate along ``band``.
    ResponseError
        If the named table does not fit the scene.
    """
    names = [str(name) for name in scene["band"].values] if "band" in scene.coords else None
    if table := scene.attrs.get("response"):
        if "response_band" in scene.coords:
            rows = list(map(str, scene["response_band"].values))
            return SpectralResponse.from_file(table, keep_panchromatic=True).select(rows)
        return check_response(SpectralResponse.from_file(table), scene.sizes["band"], str(table))
    if sensor := scene.attrs.get("sensor"):
        known = get_sensor(sensor)
        if names and set(names) <= set(known.names):
            return known.select(names)
        return check_response(known, scene.sizes["band"], str(sensor))
    if "wavelength" not in scene.coords:
        raise MissingWavelengthsError(_no_wavelengths(str(scene.attrs.get("source", "the scene"))))
    centres = np.asarray(scene["wavelength"].values, "f8")
    widths = np.asarray(scene["fwhm"].values, "f8") if "fwhm" in scene.coords else None
    if widths is None:
        widths = _guessed_widths(centres)
    return SpectralResponse.from_bands(centres, widths, names=names)


def check_response(response: SpectralResponse, count: int, source: str) -> SpectralResponse:
    """The response itself, if it has as many bands as a scene of ``count``.

    Raises
    ------
    ResponseError
        If it has not; ``source`` names the response in the message.
    """
    if len(response.names) != count:
        raise ResponseError(
            f"'{source}' describes {len(response.names)} bands ({', '.join(response.names)}), the "
            f"scene has {count}: give a table with one column per band, in the scene's band order"
        )
    return response


def cube_channels(cube: xr.DataArray, *, fwhm_nm: float | None = None) -> ChannelGrid:
    """The channels of a cube; widths as given, else as it states them, else the spacing.

    Raises
    ------
    WavelengthGridError
        If its wavelengths are no channel grid.
    """
    centres = np.asarray(cube["wavelength"].values, "f8")
    if fwhm_nm is not None:
        return ChannelGrid(centres, np.full(len(centres), fwhm_nm))
    if "fwhm" in cube.coords:
        return ChannelGrid(centres, np.asarray(cube["fwhm"].values, "f8"))
    # A single channel has no spacing.
    widths = np.gradient(centres) if len(centres) > 1 else np.full(len(centres), 10.0)
    return ChannelGrid(centres, widths)


def read_mask(path: str | Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where the first band of a raster is neither zero nor nodata, ``(y, x)``.

    Raises
    ------
    SceneReadError
        If the path is not a readable raster.
    SceneError
        If its size is not ``shape``.
    """
    info = read_raster_info(path)
    if info.shape != tuple(shape):
        raise SceneError(
            f"mask '{shown(path)}' has {info.shape[0]} x {info.shape[1]} pixels, {shape[0]} x {shape[1]} "
            "are needed: give a mask on the cube's grid"
        )
    return np.asarray(np.nan_to_num(_stored_values(info).isel(band=0).values) != 0)


def read_image(path: str | Path) -> tuple[NDArray[np.float32], str]:
    """Stored values of all bands of a small image, ``(band, y, x)``, NaN for nodata, and their type.

    Raises
    ------
    SceneReadError
        If the path is not a readable raster.
    """
    info = read_raster_info(path)
    return np.asarray(_stored_values(info).values), info.dtype


def _stored_values(info: RasterInfo) -> xr.DataArray:
    plain = (np.ones(len(info.indexes), "f4"), np.zeros(len(info.indexes), "f4"))
    return _lazy_raster(info, *plain)


def pixel_grid(scene: xr.DataArray) -> PixelGrid:
    """The pixel grid of a scene or cube, from its x and y coordinates and ``spatial_ref``.

    Parts of a scene, thinned or reversed ones too, have their own grid; a rotated scene has no
    coordinates along its axes, so that a part of one is taken to begin at its corner.
    """
    import rioxarray  # noqa: F401  (registers .rio)

    crs = scene.rio.crs
    a, b, c, d, e, f = tuple(scene.rio.transform())[:6]
    if b == d == 0 and {"x", "y"} <= set(scene.coords):
        (a, c), (e, f) = _axis(scene["x"].values, a, c), _axis(scene["y"].values, e, f)
    return PixelGrid(
        crs_wkt=crs.to_wkt() if crs else None,
        transform=(a, b, c, d, e, f),
        shape=(scene.sizes["y"], scene.sizes["x"]),
    )


def _axis(centres: NDArray[np.float64], step: float, start: float) -> tuple[float, float]:
    """Step and outer edge of an axis: those stated where the pixel centres agree with them."""
    stated = start + step * (np.arange(len(centres)) + 0.5)
    if np.abs(centres - stated).max(initial=0) < 1e-3 * abs(step):
        return step, start
    # A part still carries the transform of the whole; the step of a single row is not to be seen.
    own = float(centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else step
    return own, float(centres[0]) - own / 2


_OPENING = threading.Lock()
"""Held while warnings are filtered, which Python does for all threads at once."""


def _opened(path: str | Path) -> Any:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except (RasterioError, OSError) as error:
        if "://" not in str(path) and not Path(path).exists():
            raise SceneReadError(
                f"'{shown(path)}' does not exist, a raster is needed: check the path"
            ) from error
        raise SceneReadError(
            f"'{shown(path)}' cannot be opened as a raster ({_one_line(error, path)}), a GDAL raster or Zarr "
            "store is needed: check the file"
        ) from error


def _one_line(error: BaseException, path: str | Path) -> str:
    return shown(" ".join(str(error).split()), path)


def _stated_crs(dataset: Any) -> str | None:
    wkt: str | None = dataset.crs.to_wkt() if dataset.crs else None
    # What GDAL makes of an ENVI header that gives a grid without a reference system.
    if wkt is not None and dataset.driver == "ENVI" and wkt.startswith('LOCAL_CS["Arbitrary"'):
        return None
    return wkt


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _to_nm(value: float, unit: str) -> float:
    factor = nm_in(unit)
    if factor is None:
        factor = 1000.0 if not unit and value < MICROMETRES_END else 1.0
    return value * factor


def _spectral_tags(
    dataset: Any, indexes: tuple[int, ...]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Centres and widths in nm of the bands, each None unless every band has one."""
    envi = dataset.tags(ns="ENVI")
    listed = _envi_list(envi.get("wavelength"))
    listed_widths = _envi_list(envi.get("fwhm"))
    envi_unit = envi.get("wavelength_units", "")
    centres: list[float | None] = []
    widths: list[float | None] = []
    for index in indexes:
        imagery = dataset.tags(index, ns="IMAGERY")
        default = dataset.tags(index)
        unit = default.get("wavelength_units", "")
        centre = width = None
        # Before the IMAGERY domain, into which GDAL rounds a header's lists to whole nanometres.
        if listed and len(listed) == dataset.count:
            centre = _to_nm(listed[index - 1], envi_unit)
        if listed_widths and len(listed_widths) == dataset.count:
            width = _to_nm(listed_widths[index - 1], envi_unit or "nm")
        if centre is None and (value := _number(imagery.get("CENTRAL_WAVELENGTH_UM"))):
            centre = value * 1000
        if width is None and (value := _number(imagery.get("FWHM_UM"))):
            width = value * 1000
        if centre is None and (value := _number(default.get("wavelength"))):
            centre = _to_nm(value, unit)
        if width is None and (value := _number(default.get("fwhm"))):
            width = _to_nm(value, unit or ("nm" if value >= 1 else "um"))
        if centre is None:
            centre = _described_wavelength(dataset.descriptions[index - 1])
        centres.append(centre)
        widths.append(width)
    return _all_or_none(centres), _all_or_none(widths)


def _all_or_none(values: list[float | None]) -> tuple[float, ...] | None:
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else None


def _envi_list(text: str | None) -> list[float]:
    numbers = re.findall(r"[-+0-9.eE]+", text or "")
    return [float(number) for number in numbers if _number(number) is not None]


def _described_wavelength(description: str | None) -> float | None:
    found = re.search(
        r"(\d+(?:\.\d+)?)\s*(nm|nanomet\w*|um|µm|μm|micromet\w*)", description or "", re.IGNORECASE
    )
    return _to_nm(float(found[1]), found[2]) if found else None


def _scaling(
    info: RasterInfo, scale: float | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    count = len(info.indexes)
    if scale is not None:
        return np.full(count, scale, "f4"), np.zeros(count, "f4")
    if not info.scale_stated and np.dtype(info.dtype).kind in "iu":
        warnings.warn(
            f"'{shown(info.path)}' holds integers ({info.dtype}) and states no scale: taken as "
            "reflectance x 10000; give --scale (scale=...) if that is wrong",
            PixelSSRWarning,
            stacklevel=4,
        )
        return np.full(count, DEFAULT_INTEGER_SCALE, "f4"), np.zeros(count, "f4")
    return np.array(info.scales, "f4"), np.array(info.offsets, "f4")


def _lazy_raster(
    info: RasterInfo, scales: NDArray[np.float32], offsets: NDArray[np.float32]
) -> xr.DataArray:
    # Tasks carry the path and a window, so they pickle and need no open file.
    import dask.array as da
    from dask.base import tokenize

    height, width = info.shape
    chunks = ((len(info.indexes),), _edges(height), _edges(width))
    read: Callable[..., NDArray[np.float32]] = _read_chunk
    data = da.map_blocks(  # type: ignore[no-untyped-call]
        read,
        _everywhere(info.path),
        info.indexes,
        scales,
        offsets,
        chunks=chunks,
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
        name=f"scene-{tokenize(info, scales, offsets)}",
    )
    grid = PixelGrid(info.crs_wkt, info.transform, info.shape)
    return _georeferenced(data, grid, np.arange(1, len(info.indexes) + 1))


def _everywhere(path: str | Path) -> str:
    """Return the path as it is named from any working directory: tasks may run in other processes."""
    found = place(path)
    if isinstance(found, str):
        return found
    return str(found.absolute()) if found.exists() else str(path)


def _edges(size: int) -> tuple[int, ...]:
    return tuple(min(CHUNK, size - start) for start in range(0, size, CHUNK))


def _read_chunk(
    path: str,
    indexes: tuple[int, ...],
    scales: NDArray[np.float32],
    offsets: NDArray[np.float32],
    block_info: Any = None,
) -> NDArray[np.float32]:
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    (row, row_stop), (col, col_stop) = block_info[None]["array-location"][1:]
    window = Window(col, row, col_stop - col, row_stop - row)
    with _opened(path) as dataset:
        try:
            # Doubles too large for single precision become infinite, and so nodata.
            with np.errstate(over="ignore"):
                values = dataset.read(indexes, window=window).astype("f4")
            masks = dataset.read_masks(indexes, window=window)
        except RasterioError as error:
            raise SceneReadError(
                f"'{shown(path)}' cannot be read at rows {row}-{row_stop}, columns {col}-{col_stop} "
                f"({_one_line(error, path)}), the file is truncated or damaged: copy it again"
            ) from error
    values[masks == 0] = np.nan
    values[~np.isfinite(values)] = np.nan
    values *= scales[:, None, None]
    values += offsets[:, None, None]
    return np.asarray(values)


def _georeferenced(data: Any, grid: PixelGrid, bands: NDArray[Any]) -> xr.DataArray:
    import rioxarray  # noqa: F401  (registers .rio)

    height, width = grid.shape
    affine = grid.affine
    coords = {"band": bands}
    # Of a rotated raster, rows and columns are no axes of the coordinate system.
    if affine.b == affine.d == 0:
        coords["y"] = affine.f + affine.e * (np.arange(height) + 0.5)
        coords["x"] = affine.c + affine.a * (np.arange(width) + 0.5)
    scene = xr.DataArray(data, dims=("band", "y", "x"), coords=coords, name="reflectance")
    if grid.crs_wkt is not None:
        scene = scene.rio.write_crs(grid.crs_wkt)
    located: xr.DataArray = scene.rio.write_transform(affine)
    return located


def _set_crs(scene: xr.DataArray, crs: str) -> xr.DataArray:
    import rioxarray  # noqa: F401  (registers .rio)
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        known = CRS.from_user_input(crs)
    except CRSError as error:
        raise SceneError(
            f"'{crs}' is not a coordinate reference system, a code or WKT is needed: "
            "give --crs EPSG:<number>"
        ) from error
    transform = scene.rio.transform()
    located: xr.DataArray = scene.rio.write_crs(known.to_wkt()).rio.write_transform(transform)
    return located


def _zarr_dataset(path: str | Path, kind: str) -> xr.Dataset:
    import rioxarray  # noqa: F401  (registers .rio)

    named = _everywhere(path)
    remote = "://" in named
    # At a URL, each protocol's package has exceptions of its own.
    failures = Exception if remote else (OSError, ValueError, KeyError)
    try:
        store = _store_at(named) if remote else named
        dataset: xr.Dataset = xr.open_zarr(store, decode_coords="all", consolidated=False)
    except MissingDependencyError as error:
        raise SceneReadError(f"'{shown(path)}' cannot be opened: {error}") from error
    except failures as error:
        cure = "check the URL, the network and the credentials" if remote else "check the path"
        raise SceneReadError(
            f"'{shown(path)}' cannot be opened as a Zarr store ({_one_line(error, path)}), a {kind} is "
            f"needed: {cure}"
        ) from error
    return dataset


def _open_zarr(path: str | Path, kind: str) -> xr.DataArray:
    dataset = _zarr_dataset(path, kind)
    found = [array for array in dataset.data_vars.values() if {"y", "x"} < set(array.dims)]
    if len(found) != 1 or found[0].ndim != 3:
        raise SceneReadError(
            f"'{shown(path)}' holds {len(found)} image arrays, one with a spectral axis, y and x is "
            "needed: write the array alone"
        )
    (spectral,) = set(found[0].dims) - {"y", "x"}
    array: xr.DataArray = found[0].transpose(spectral, "y", "x").astype("f4")
    if kind == "scene" and spectral != "band":
        array = array.rename({spectral: "band"})
        if "wavelength" not in array.coords:
            array = array.assign_coords(wavelength=("band", array["band"].values))
        array = array.assign_coords(band=np.arange(1, array.sizes["band"] + 1))
    return array


def _store_at(url: str) -> Any:
    from zarr.storage import FsspecStore

    file_system(url)  # says what is missing
    store = FsspecStore.from_url(url, read_only=True)
    # What was listed earlier may have been replaced since.
    store.fs.invalidate_cache()
    return store


def _zarr_wavelengths(
    scene: xr.DataArray,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    def listed(name: str) -> tuple[float, ...] | None:
        return tuple(map(float, scene[name].values)) if name in scene.coords else None

    return listed("wavelength"), listed("fwhm")


def _with_wavelengths(
    scene: xr.DataArray,
    descriptions: tuple[str, ...],
    centres: tuple[float, ...] | None,
    widths: tuple[float, ...] | None,
    sensor: str | None,
    response: str | Path | None,
) -> xr.DataArray:
    source = str(scene.attrs["source"])
    names: tuple[str, ...] = tuple(
        text or str(number) for number, text in enumerate(descriptions, 1)
    )
    if response is not None or sensor is not None:
        stated = _Stated(names, descriptions, centres, widths, source)
        if response is not None:
            table, kept = _matched_table(response, stated)
            scene = scene.isel(band=kept).assign_coords(response_band=("band", list(table.names)))
            scene.attrs["response"] = str(response)
            names = tuple(names[at] for at in kept)
        else:
            table, kept = _matched_sensor(str(sensor), stated)
            scene = scene.isel(band=kept)
            scene.attrs["sensor"] = sensor
            names = table.names
    elif centres is None:
        raise MissingWavelengthsError(_no_wavelengths(source))
    else:
        widths_nm = np.array(widths) if widths else _guessed_widths(np.array(centres))
        table = SpectralResponse.from_bands(np.array(centres), widths_nm)
    if len(set(names)) != len(names):
        names = tuple(str(number) for number in range(1, len(names) + 1))
    return scene.assign_coords(
        band=list(names),
        wavelength=(
            "band",
            table.centres_nm,
            {"units": "nm", "standard_name": "sensor_band_central_radiation_wavelength"},
        ),
        fwhm=("band", table.fwhm_nm, FWHM_ATTRS),
    )


@dataclass(frozen=True, slots=True)
class _Stated:
    """What a scene says of its bands, by which they are found in a table of responses."""

    names: tuple[str, ...]
    """For messages: descriptions, numbers where there is none."""
    descriptions: tuple[str, ...]
    """As they are, maybe empty."""
    centres_nm: tuple[float, ...] | None
    widths_nm: tuple[float, ...] | None
    source: str
    """Name of the scene."""

    def told(self, at: int) -> str:
        """A band for people."""
        centre = "" if self.centres_nm is None else f" ({self.centres_nm[at]:.0f} nm)"
        return f"{self.names[at]}{centre}"

    def by_name(self, known: SpectralResponse) -> list[int | None]:
        """For each band the one of the same name, None where there is none."""
        plain = [_plain(text) for text in self.descriptions]
        if len(set(plain)) < len(plain):
            return [None] * len(plain)
        found = {_plain(name): index for index, name in enumerate(known.names)}
        return [found.get(text) for text in plain]

    def by_wavelength(self, known: SpectralResponse) -> list[int | None]:
        """For each band the nearest one that it may be, None where there is none."""
        found: list[int | None] = [None] * len(self.names)
        if self.centres_nm is None:
            return found
        distance = np.abs(known.centres_nm - np.array(self.centres_nm)[:, None])
        distance[~self._may_be(known, distance)] = np.inf
        # The nearest pairs first, so that no band of the table is taken twice.
        for flat in np.argsort(distance, axis=None, kind="stable"):
            at, index = divmod(int(flat), len(known.names))
            if found[at] is None and index not in found and np.isfinite(distance[at, index]):
                found[at] = index
        return found

    def contradicts(self, known: SpectralResponse, chosen: list[int]) -> bool:
        """Whether the bands lie elsewhere than those chosen from the table."""
        if self.centres_nm is None:
            return False
        near = np.abs(known.centres_nm[chosen] - np.array(self.centres_nm))
        return bool((near > _reach(known)[chosen]).any())

    def _may_be(self, known: SpectralResponse, distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which bands of the table each band may be, ``(band, table's band)``."""
        possible = distance <= _reach(known)
        if self.widths_nm is not None:
            ratio = known.fwhm_nm / np.array(self.widths_nm)[:, None]
            possible &= (ratio < MOST_WIDER) & (ratio > 1 / MOST_WIDER)
        wide = np.array([is_panchromatic(text) for text in self.descriptions])
        theirs = np.array([is_panchromatic(name) for name in known.names])
        possible[wide[:, None] & ~theirs] = False
        return np.asarray(possible)


def _reach(known: SpectralResponse) -> NDArray[np.float64]:
    return np.maximum(LEAST_REACH_NM, known.fwhm_nm / 4)


def _matched_table(path: str | Path, stated: _Stated) -> tuple[SpectralResponse, list[int]]:
    """Rows of a table of responses for the scene's bands, and which of these have one."""
    known = SpectralResponse.from_file(path, keep_panchromatic=True)
    found = _found(known, stated)
    if found is None:
        spectral = [name for name in known.names if not is_panchromatic(name)]
        if len(spectral) == len(stated.names):
            return known.select(spectral), list(range(len(spectral)))
        check_response(known, len(stated.names), str(path))
        return known, list(range(len(stated.names)))
    kept, chosen = _kept(found, known, stated, f"'{path}'")
    if chosen != sorted(chosen):
        pairs = ", ".join(
            f"{stated.told(at)} = {known.names[index]}"
            for at, index in zip(kept, chosen, strict=True)
        )
        _warn(
            f"the bands of '{stated.source}' lie in another order than those of '{path}', matched "
            f"by what the scene says of them: {pairs}"
        )
    return known.select(chosen), kept


def _matched_sensor(name: str, stated: _Stated) -> tuple[SpectralResponse, list[int]]:
    """The sensor's bands in the scene's order, and which of the scene's it has."""
    known = get_sensor(name)
    found = _found(known, stated)
    if found is not None:
        kept, chosen = _kept(found, known, stated, f"sensor '{name}'")
        return known.select(chosen), kept
    if len(known.names) == len(stated.names):
        return known, list(range(len(known.names)))
    raise ResponseError(_unmatched(known, stated, f"sensor '{name}'"))


def _found(known: SpectralResponse, stated: _Stated) -> list[int | None] | None:
    """The known band for each of the scene's, by name or by wavelength; None for one to one."""
    by_name, by_wavelength = stated.by_name(known), stated.by_wavelength(known)
    named = [index for index in by_name if index is not None]
    if len(named) == len(by_name) and not stated.contradicts(known, named):
        return by_name
    if stated.centres_nm is not None:
        return by_wavelength
    # Names that are not the table's say nothing where there are as many bands.
    return by_name if named and len(known.names) != len(stated.names) else None


def _kept(
    found: list[int | None], known: SpectralResponse, stated: _Stated, what: str
) -> tuple[list[int], list[int]]:
    """Which bands of the scene have one in the table, and which."""
    pairs = [(at, index) for at, index in enumerate(found) if index is not None]
    if not pairs:
        raise ResponseError(_unmatched(known, stated, what))
    left = [at for at, index in enumerate(found) if index is None]
    if left:
        _warn(
            f"bands of '{stated.source}' that {what} does not have are left out: "
            + ", ".join(map(stated.told, left))
        )
    return [at for at, _ in pairs], [index for _, index in pairs]


def _unmatched(known: SpectralResponse, stated: _Stated, what: str) -> str:
    centres = zip(known.names, known.centres_nm, strict=True)
    listed = ", ".join(f"{name} {centre:.0f} nm" for name, centre in centres)
    ours = ", ".join(stated.told(at) for at in range(len(stated.names)))
    count = (
        f"'{stated.source}' has {len(stated.names)} bands and {what} has {len(known.names)}"
        if what.startswith("sensor")
        else f"{what} describes {len(known.names)} bands and '{stated.source}' has "
        f"{len(stated.names)}"
    )
    return (
        f"{count}, {ours} cannot be matched with {listed}: name the bands by their descriptions, "
        "correct the wavelengths that the scene states, or give --response with a table of this "
        "scene's bands"
    )


def _warn(message: str) -> None:
    warnings.warn(message, PixelSSRWarning, stacklevel=6)


def _plain(text: str) -> str:
    """Band name without case, separators and leading zeros: ``B02`` and ``b2`` are one band."""
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", re.sub(r"[\s_\-]", "", text.lower()))


def _guessed_widths(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    distance = np.abs(centres[:, None] - centres[None, :])
    np.fill_diagonal(distance, np.inf)
    nearest = distance.min(1) if len(centres) > 1 else np.array([120.0])
    widths = (nearest / 2).clip(20, 80)
    warnings.warn(
        "the scene states no band widths: taken as half the distance to the next band "
        f"({', '.join(f'{width:.0f}' for width in widths)} nm); give --sensor or --response "
        "if that is wrong",
        PixelSSRWarning,
        stacklevel=5,
    )
    return np.asarray(widths)


def _no_wavelengths(source: str) -> str:
    known = ", ".join(sensor.name for sensor in list_sensors())
    return (
        f"'{source}' does not say which wavelengths its bands measure, they are needed: give "
        f"--sensor NAME ({known}) or --response CSV"
    )
