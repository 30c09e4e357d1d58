"""Tiny scenes, cubes, field points and datasets that belong together, for tests and examples.

Functions of one shape and seed show the same place: a scene is its cube seen by a sensor, and
points are spectra of the cube's pixels. The four materials are drawn by formula, like a library's
vegetation, soil, water and concrete; everything is in memory but the files of datasets, which
are in the formats and folders that the real ones are published in.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.grid import PixelGrid
from pixelssr_geo.optional import need
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.scene import FWHM_ATTRS, WAVELENGTH_ATTRS
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.writers import CubeTemplate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

CRS = "EPSG:32633"
"""Coordinate reference system unless another is asked for."""

SENSORS = {3: "RGB", 4: "GF-6 PMS", 8: "GF-6 WFV"}
"""Sensor of a scene by its number of bands."""

PIXEL_SIZE = 8.0
"""Side of a pixel in units of the coordinate reference system."""

CORNER = (390_000.0, 5_810_000.0)
"""X and y of the upper left corner."""


def make_cube(
    shape: tuple[int, int] = (40, 50),
    *,
    wavelengths: str = "400:1000:10",
    nodata_hole: tuple[slice, slice] | None = None,
    seed: int = 0,
    crs: str | None = CRS,
) -> xr.DataArray:
    """A hyperspectral cube, dims ``(wavelength, y, x)``, float32 reflectance 0-1.

    Parameters
    ----------
    shape
        Rows and columns.
    wavelengths
        Channels, ``start:stop:step`` in nm.
    nodata_hole
        Rows and columns that are NaN in every channel.
    seed
        Of the place.
    crs
        Coordinate reference system, or None.

    Examples
    --------
    >>> make_cube((4, 5)).sizes["wavelength"]
    61
    """
    channels = ChannelGrid.from_spec(wavelengths)
    values = _reflectance(shape, channels.centres_nm, seed)
    if nodata_hole is not None:
        values[:, *nodata_hole] = np.nan
    grid = _grid(shape, crs)
    template = CubeTemplate(
        shape=shape,
        wavelengths_nm=tuple(map(float, channels.centres_nm)),
        fwhm_nm=tuple(map(float, channels.fwhm_nm)),
        crs_wkt=grid.crs_wkt,
        transform=grid.transform,
    )
    return template.to_dataarray(values)


def make_scene(
    bands: int = 4,
    shape: tuple[int, int] = (40, 50),
    *,
    nodata_hole: tuple[slice, slice] | None = None,
    seed: int = 0,
    crs: str | None = CRS,
) -> xr.DataArray:
    """The scene of :func:`make_cube` that a sensor sees, dims ``(band, y, x)``, float32, no noise.

    Parameters
    ----------
    bands
        3 (RGB), 4 (GF-6 PMS) or 8 (GF-6 WFV).
    shape, seed, crs
        As of the cube.
    nodata_hole
        Rows and columns that are NaN in every band.

    Raises
    ------
    SettingsError
        If no sensor here has that many bands.

    Examples
    --------
    >>> make_scene().sizes
    Frozen({'band': 4, 'y': 40, 'x': 50})
    """
    if bands not in SENSORS:
        listed = ", ".join(map(str, SENSORS))
        raise SettingsError(f"{bands} bands are asked for, expected {listed}: give one of these")
    response = get_sensor(SENSORS[bands])
    # Beyond the usual range, so that no band is cut off.
    fine = ChannelGrid.from_spec("350:1100:5")
    cube = _reflectance(shape, fine.centres_nm, seed)
    values = np.einsum("bc,cyx->byx", response.matrix(fine), cube).astype("f4")
    if nodata_hole is not None:
        values[:, *nodata_hole] = np.nan
    located = make_cube(shape, wavelengths="500:510:10", seed=seed, crs=crs)
    return xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": list(response.names),
            "wavelength": ("band", response.centres_nm, WAVELENGTH_ATTRS),
            "fwhm": ("band", response.fwhm_nm, FWHM_ATTRS),
            "y": located["y"],
            "x": located["x"],
            "spatial_ref": located["spatial_ref"],
        },
        name="reflectance",
        attrs={"source": "made scene", "sensor": SENSORS[bands]},
    )


def make_points(
    count: int = 12,
    shape: tuple[int, int] = (40, 50),
    *,
    wavelengths: str = "400:1000:10",
    seed: int = 0,
    crs: str | None = CRS,
) -> PointSpectra:
    """Spectra of different pixels of :func:`make_cube`, each at its pixel's centre.

    Parameters
    ----------
    count
        Number of points, named ``p1``, ``p2`` ...
    shape, wavelengths, seed, crs
        As of the cube.

    Examples
    --------
    >>> make_points(3).reflectance.shape
    (3, 61)
    """
    cube = make_cube(shape, wavelengths=wavelengths, seed=seed, crs=crs)
    places = np.random.default_rng([seed, 1]).choice(shape[0] * shape[1], count, replace=False)
    rows, cols = np.divmod(places.astype("i8"), shape[1])
    grid = _grid(shape, crs)
    x, y = grid.to_world(rows, cols)
    return PointSpectra(
        ids=tuple(f"p{number}" for number in range(1, count + 1)),
        x=x,
        y=y,
        crs_wkt=grid.crs_wkt,
        wavelengths_nm=np.asarray(cube["wavelength"].values, "f8"),
        reflectance=np.asarray(cube.values[:, rows, cols].T, "f8"),
        source="made points",
    )


VISIBLE = "400:700:10"
"""Channels of the datasets' cubes, nm."""


def write_arad_scene(
    root: Path,
    name: str,
    *,
    part: str = "Train",
    shape: tuple[int, int] = (24, 32),
    cube: bool = True,
    image: bool = True,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Write a scene of ARAD-1K as the challenge gives it out; its cube, ``(channel, y, x)``.

    Parameters
    ----------
    root
        Folder of the dataset.
    name
        As ``ARAD_1K_0001``.
    part
        Beginning of the folders' names: ``Train``, ``Valid`` or ``Test``.
    shape, seed
        Rows and columns, and which place.
    cube, image
        Which of the two files to write.
    """
    values = np.asarray(make_cube(shape, wavelengths=VISIBLE, seed=seed).values)
    if cube:
        path = root / f"{part}_Spec" / f"{name}.mat"
        bands = ChannelGrid.from_spec(VISIBLE).centres_nm[None]
        # MATLAB shows (row, column, channel).
        write_matlab(path, cube=np.moveaxis(values, 0, 2), bands=bands, norm_factor=[[1.0]])
    if image:
        path = root / f"{part}_RGB" / f"{name}.jpg"
        write_image(path, camera_image(values), "JPEG", quality=95)
    return values


def write_cave_scene(
    root: Path,
    name: str,
    *,
    shape: tuple[int, int] = (16, 20),
    seed: int = 0,
    colours: int = 1,
    dtype: str = "uint16",
) -> NDArray[np.float32]:
    """Write a scene of CAVE as its archive unpacks; its cube, ``(channel, y, x)``.

    Parameters
    ----------
    root
        Folder of the dataset.
    name
        As ``balloons``.
    shape, seed
        Rows and columns, and which place.
    colours
        How often a channel's image holds its grey values: 1, or 3 as in one of the real scenes.
    dtype
        Of the channels' images.
    """
    values = np.asarray(make_cube(shape, wavelengths=VISIBLE, seed=seed).values)
    folder = root / f"{name}_ms" / f"{name}_ms"
    for number, channel in enumerate(values, start=1):
        grey = (np.iinfo(dtype).max * channel.clip(0, 1)).round().astype(dtype)
        images = np.repeat(grey[None], colours, axis=0)
        write_image(folder / f"{name}_ms_{number:02d}.png", images, "PNG")
    write_image(folder / f"{name}_RGB.bmp", camera_image(values), "BMP")
    (folder / "Thumbs.db").write_bytes(b"left by a file browser")
    return values


def write_image(path: Path, values: NDArray[np.integer], driver: str, **options: object) -> None:
    """Write an image ``(band, y, x)`` without a place in the world, by GDAL's driver of that name."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    profile = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, **profile, **options) as dataset:
            dataset.write(values)


def write_matlab(path: Path, **variables: ArrayLike) -> None:
    """Write a MATLAB v7.3 file: HDF5 behind 512 bytes of MATLAB's own, columns first."""
    h5py = need("h5py", extra="datasets")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            stored = file.create_dataset(name, data=np.asarray(values).T)
            stored.attrs["MATLAB_class"] = np.bytes_("double")
    title = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116)
    with path.open("r+b") as file:
        file.write(title + bytes(8) + b"\x00\x02IM")


def camera_image(cube: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Red, green and blue of a cube of :data:`VISIBLE` channels, 8 bits, ``(3, y, x)``."""
    response = get_sensor("RGB").matrix(ChannelGrid.from_spec(VISIBLE))
    bands = np.einsum("bc,cyx->byx", response, cube)
    return np.asarray((255 * bands.clip(0, 1)).round(), np.uint8)


def _grid(shape: tuple[int, int], crs: str | None) -> PixelGrid:
    from pyproj import CRS as KnownCRS

    wkt = None if crs is None else KnownCRS.from_user_input(crs).to_wkt()
    return PixelGrid(wkt, (PIXEL_SIZE, 0.0, CORNER[0], 0.0, -PIXEL_SIZE, CORNER[1]), shape)


def _reflectance(
    shape: tuple[int, int], wavelengths_nm: NDArray[np.float64], seed: int
) -> NDArray[np.float32]:
    """Materials mixed by smooth abundances under smooth illumination, ``(wavelength, y, x)``."""
    spectra = _materials(wavelengths_nm)
    draws = np.random.default_rng(seed)
    waves = _waves(shape, len(spectra) + 1, draws)
    abundance = np.exp(2.5 * waves[:-1])
    abundance /= abundance.sum(0)
    light = 0.9 + 0.1 * np.tanh(waves[-1])
    return np.asarray(np.einsum("mc,myx->cyx", spectra, abundance * light), "f4")


def _materials(wavelengths_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vegetation, soil, water and concrete, ``(material, wavelength)``."""
    nm = wavelengths_nm
    red_edge = 1 / (1 + np.exp((718 - nm) / 12))
    green = 0.07 * np.exp(-(((nm - 552) / 32) ** 2))
    vegetation = 0.03 + green + 0.45 * red_edge - 0.03 * np.exp(-(((nm - 975) / 30) ** 2))
    soil = 0.06 + 0.30 * (1 - np.exp(-np.maximum(nm - 380, 0) / 400))
    water = 0.008 + 0.05 * np.exp(-((nm - 400) / 160).clip(0))
    concrete = 0.24 + 0.08 * (nm - 400) / 600
    return np.stack([vegetation, soil, water, concrete])


def _waves(shape: tuple[int, int], count: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """Sums of three plane waves about 12 to 40 pixels long, ``(count, y, x)``."""
    rows, cols = np.indices(shape)
    waves = np.zeros((count, *shape))
    for _ in range(3):
        turn = draws.uniform(0, 2 * np.pi, (count, 1, 1))
        phase = draws.uniform(0, 2 * np.pi, (count, 1, 1))
        length = draws.uniform(12, 40, (count, 1, 1))
        along = np.cos(turn) * rows + np.sin(turn) * cols
        waves += np.sin(2 * np.pi * along / length + phase)
    return waves
