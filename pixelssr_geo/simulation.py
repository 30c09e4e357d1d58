"""A scene and field points simulated from a hyperspectral cube, to test against."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pixelssr_geo.errors import MissingCRSError, OutputError, SceneError, SettingsError
from pixelssr_geo.points import PointSpectra, write_points
from pixelssr_geo.scene import (
    FWHM_ATTRS,
    WAVELENGTH_ATTRS,
    cube_channels,
    open_cube,
    pixel_grid,
)
from pixelssr_geo.tiling.plan import plan_tiles
from pixelssr_geo.writers import write_cog, write_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr
    from numpy.typing import NDArray

    from pixelssr_geo.spectra import ChannelGrid, SpectralResponse

Layout = Literal["random", "block", "corner"]

BLOCK_SIDE = 10
"""Rows and columns of the blocks of layout ``block``."""

CORNER = 0.3
"""Share of rows and columns that layout ``corner`` takes its points from."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """Where a simulation was written."""

    scene: Path
    """Multispectral GeoTIFF."""
    points: Path
    """GeoPackage with the field points."""
    reference: Path
    """The cube that both were made from."""
    noise: float
    """Standard deviation of the noise in the scene, reflectance."""


def simulate(
    cube: xr.DataArray | str | Path,
    response: SpectralResponse,
    folder: str | Path,
    *,
    points: int,
    snr: float | None = 500.0,
    seed: int = 0,
    layout: Layout = "random",
    overwrite: bool = False,
) -> Simulation:
    """Write ``scene.tif``, ``field.gpkg`` and ``reference.tif`` made from a cube.

    Parameters
    ----------
    cube
        Dims ``(wavelength, y, x)``, with a CRS, or its path. Read block by block.
    response
        Of the sensor to simulate.
    folder
        Where to write; made if its parent exists.
    points
        Number of field points, on different valid pixels.
    snr
        Mean signal over standard deviation of the white noise; None for no noise.
    seed
        Of noise and places.
    layout
        ``random`` over the scene; ``block``: from every other block of a chequerboard of 10 x 10
        pixels; ``corner``: from one corner of 30 % of the rows and columns.
    overwrite
        Replace existing files.

    Raises
    ------
    SettingsError
        If there are fewer valid pixels than points, or a number is out of range.
    ResponseError
        If the cube's channels do not cover the sensor's bands.
    """
    opened = open_cube(cube) if isinstance(cube, (str, Path)) else cube
    opened = opened.transpose("wavelength", "y", "x")
    _check_noise(snr, seed)
    grid = pixel_grid(opened)
    if grid.crs_wkt is None:
        raise MissingCRSError(
            "the cube carries no coordinate reference system, points need one: set it in the file"
        )
    channels = cube_channels(opened)
    matrix = response.matrix(channels)
    _check_coverage(response, channels)
    valid, level = _valid_and_level(opened, matrix)
    noise = level / snr if snr is not None else 0.0
    rows, cols = _places(valid, points, layout, seed)
    folder = Path(folder)
    result = Simulation(
        folder / "scene.tif", folder / "field.gpkg", folder / "reference.tif", noise
    )
    _refuse_existing(result, overwrite)
    with _new_files(folder, (result.scene, result.points, result.reference)):
        write_scene(
            result.scene, _blocks(opened, matrix, noise, seed), grid, response, overwrite=overwrite
        )
        write_cog(opened, result.reference, overwrite=overwrite)
        write_points(_field_points(opened, channels, rows, cols, grid.crs_wkt), result.points)
    return result


def simulate_scene(
    cube: xr.DataArray, response: SpectralResponse, *, snr: float | None = 500.0, seed: int = 0
) -> xr.DataArray:
    """The scene alone that :func:`simulate` writes, dims ``(band, y, x)``, float32, in memory.

    Parameters
    ----------
    cube
        Dims ``(wavelength, y, x)``.
    response, snr, seed
        As for :func:`simulate`.

    Raises
    ------
    SettingsError
        If a number is out of range.
    ResponseError
        If the cube's channels do not cover the sensor's bands.
    """
    import xarray as xr

    _check_noise(snr, seed)
    cube = cube.transpose("wavelength", "y", "x")
    channels = cube_channels(cube)
    matrix = response.matrix(channels)
    _check_coverage(response, channels)
    _, level = _valid_and_level(cube, matrix)
    values = np.empty((len(matrix), cube.sizes["y"], cube.sizes["x"]), "f4")
    for row, col, block in _blocks(cube, matrix, level / snr if snr is not None else 0.0, seed):
        values[:, row : row + block.shape[1], col : col + block.shape[2]] = block
    place = {name: cube[name] for name in ("y", "x", "spatial_ref") if name in cube.coords}
    bands = {
        "band": list(response.names),
        "wavelength": ("band", response.centres_nm, WAVELENGTH_ATTRS),
        "fwhm": ("band", response.fwhm_nm, FWHM_ATTRS),
    }
    return xr.DataArray(values, dims=("band", "y", "x"), coords=bands | place, name="reflectance")


def _check_noise(snr: float | None, seed: int) -> None:
    if snr is not None and not snr > 0:
        raise SettingsError(f"snr is {snr}, a positive number is needed: leave it out for no noise")
    if seed < 0:
        raise SettingsError(f"seed is {seed}, 0 or more is needed: give another number")


def _check_coverage(response: SpectralResponse, channels: ChannelGrid) -> None:
    from pixelssr_geo.errors import ResponseError
    from pixelssr_geo.estimator import usable_bands

    missing = sorted(set(range(len(response.names))) - set(usable_bands(response, channels)))
    if missing:
        listed = ", ".join(
            f"{response.names[i]} ({response.centres_nm[i]:.0f} nm)" for i in missing
        )
        low, high = channels.centres_nm[[0, -1]]
        raise ResponseError(
            f"the cube covers {low:.0f}-{high:.0f} nm, bands {listed} leave it: simulate a sensor "
            "inside the cube's range, or a table with fewer bands"
        )


def _windows(cube: xr.DataArray) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    for window in plan_tiles((cube.sizes["y"], cube.sizes["x"])).blocks:
        rows, cols = window.slices
        yield window.row, window.col, np.asarray(cube.isel(y=rows, x=cols).values, "f4")


def _valid_and_level(
    cube: xr.DataArray, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], float]:
    """Valid pixels, and the mean of the simulated bands over them."""
    valid = np.zeros((cube.sizes["y"], cube.sizes["x"]), bool)
    total, count = 0.0, 0
    for row, col, values in _windows(cube):
        good = np.isfinite(values).all(0)
        valid[row : row + good.shape[0], col : col + good.shape[1]] = good
        total += float((matrix @ values[:, good]).sum())
        count += int(good.sum())
    if not count:
        raise SceneError(
            "every pixel of the cube is nodata in some channel, valid pixels are needed: check the "
            "nodata value, or leave such channels out"
        )
    return valid, total / (count * len(matrix))


def _blocks(
    cube: xr.DataArray, matrix: NDArray[np.float64], noise: float, seed: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    draws = np.random.default_rng(seed)
    for row, col, values in _windows(cube):
        scene = np.einsum("bc,cyx->byx", matrix, values, optimize=True)
        scene += noise * draws.standard_normal(scene.shape)
        yield row, col, scene.astype("f4")


def _places(
    valid: NDArray[np.bool_], count: int, layout: Layout, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    height, width = valid.shape
    rows, cols = np.ogrid[:height, :width]
    if layout == "block":
        allowed = valid & ((rows // BLOCK_SIDE + cols // BLOCK_SIDE) % 2 == 0)
    elif layout == "corner":
        inside = (rows < max(1, round(CORNER * height))) & (cols < max(1, round(CORNER * width)))
        allowed = valid & inside
    else:
        allowed = valid
    places = np.flatnonzero(allowed)
    if not 1 <= count <= len(places):
        raise SettingsError(
            f"{count} points are asked for, 1 to {len(places)} valid pixels are there in layout "
            f"'{layout}': give another number"
        )
    # A stream of its own, so that the noise does not depend on the number of points.
    chosen = np.random.default_rng([seed, 1]).choice(len(places), count, replace=False)
    chosen_rows, chosen_cols = np.divmod(places[chosen], width)
    return chosen_rows.astype("i8"), chosen_cols.astype("i8")


def _field_points(
    cube: xr.DataArray,
    channels: ChannelGrid,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    crs_wkt: str,
) -> PointSpectra:
    import xarray as xr

    under = cube.isel(y=xr.DataArray(rows, dims="point"), x=xr.DataArray(cols, dims="point"))
    x, y = pixel_grid(cube).to_world(rows, cols)
    return PointSpectra(
        ids=tuple(f"p{number}" for number in range(len(rows))),
        x=x,
        y=y,
        crs_wkt=crs_wkt,
        wavelengths_nm=channels.centres_nm,
        reflectance=np.asarray(under.transpose("point", "wavelength").values, "f8"),
    )


@contextmanager
def _new_files(folder: Path, paths: tuple[Path, ...]) -> Iterator[None]:
    """Make the folder; if the body fails, take away what was not there before."""
    old = {path for path in (folder, *paths) if path.exists()}
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"folder '{folder}' cannot be made ({error.strerror}): create its parent or choose "
            "another"
        ) from error
    try:
        yield
    except BaseException:
        for path in set(paths) - old:
            path.unlink(missing_ok=True)
        if folder not in old:
            folder.rmdir()
        raise


def _refuse_existing(result: Simulation, overwrite: bool) -> None:
    taken = [path.name for path in (result.scene, result.points, result.reference) if path.exists()]
    if taken and not overwrite:
        raise OutputError(
            f"folder '{result.scene.parent}' already holds {', '.join(taken)}: choose another or "
            "give --overwrite"
        )
