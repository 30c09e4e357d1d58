"""Claims about cubes in Cloud-Optimized GeoTIFFs."""

import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo import cog_validate

from pixelssr_geo.errors import OutputError, SettingsError
from pixelssr_geo.writers import CubeTemplate, cog, write_cog, write_zarr
from pixelssr_geo.writers.cog import copy_options

# rioxarray 0.19 multiplies with `*`, which affine 3 means to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")

UTM = CRS.from_epsg(32650).to_wkt()
NORTH_UP = (30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def make_template(
    shape: tuple[int, int],
    crs_wkt: str | None = UTM,
    transform: tuple[float, float, float, float, float, float] = NORTH_UP,
) -> CubeTemplate:
    return CubeTemplate(
        shape=shape,
        wavelengths_nm=(418.416, 550.0, 665.0),
        fwhm_nm=(7.001, 12.5, 30.0),
        crs_wkt=crs_wkt,
        transform=transform,
        attrs={"pixelssr_version": "1.0", "config": "abc"},
    )


def make_cube(shape: tuple[int, int], **changes: Any) -> xr.DataArray:
    values = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    values[:, :2, :3] = np.nan
    return make_template(shape, **changes).to_dataarray(values)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let every write beyond ``size`` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_valid_cog(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])


@pytest.mark.parametrize("shape", [(300, 270), (128, 128), (129, 5), (1, 1), (1, 700), (7, 3)])
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_every_shape_is_a_valid_cog_that_holds_the_cube(
    tmp_path: Path, shape: tuple[int, int], dtype: Any
) -> None:
    cube = make_cube(shape)
    path = tmp_path / "cube.tif"
    assert write_cog(cube, path, dtype=dtype, blocksize=128) == path
    assert_valid_cog(path)
    with rasterio.open(path) as dataset:
        assert dataset.crs == CRS.from_epsg(32650)
        assert tuple(dataset.transform)[:6] == NORTH_UP
        assert dataset.tags(ns="IMAGE_STRUCTURE")["INTERLEAVE"] == "BAND"
        assert bool(dataset.overviews(1)) == (max(shape) > 128)
        stored = dataset.read(masked=True)
        values = stored.filled(0) * np.array(dataset.scales)[:, None, None]
        mask = np.ma.getmaskarray(stored)
    np.testing.assert_array_equal(mask, np.isnan(cube.values))
    np.testing.assert_allclose(
        values, np.nan_to_num(cube.values), atol=5.01e-5 if dtype == "uint16" else 0
    )
    assert [path.name for path in tmp_path.iterdir()] == ["cube.tif"]


def test_wavelengths_come_back_from_every_place_that_tools_read(tmp_path: Path) -> None:
    write_cog(make_cube((20, 30)), tmp_path / "cube.tif")
    template = make_template((20, 30))
    with rasterio.open(tmp_path / "cube.tif") as dataset:
        imagery = [dataset.tags(band, ns="IMAGERY") for band in dataset.indexes]
        plain = [dataset.tags(band) for band in dataset.indexes]
        assert dataset.descriptions == ("418.4 nm", "550.0 nm", "665.0 nm")
        assert dataset.units == ("1", "1", "1")
        tags = dataset.tags()
    for nm, key, factor in (
        (template.wavelengths_nm, "CENTRAL_WAVELENGTH_UM", 1000),
        (template.fwhm_nm, "FWHM_UM", 1000),
    ):
        np.testing.assert_allclose([float(i[key]) * factor for i in imagery], nm, atol=5e-4)
    np.testing.assert_allclose([float(t["wavelength"]) for t in plain], template.wavelengths_nm)
    np.testing.assert_allclose([float(t["fwhm"]) for t in plain], template.fwhm_nm)
    assert {t["wavelength_units"] for t in plain} == {"Nanometers"}
    assert tags == {"AREA_OR_POINT": "Area", "pixelssr_version": "1.0", "config": "abc"}


def test_rioxarray_reads_values_grid_and_scale(tmp_path: Path) -> None:
    cube = make_cube((40, 30))
    write_cog(cube, tmp_path / "cube.tif", dtype="uint16")
    with rioxarray.open_rasterio(tmp_path / "cube.tif", mask_and_scale=True) as result:
        np.testing.assert_allclose(result.values, cube.values, atol=5.01e-5)
        np.testing.assert_allclose(result["x"], cube["x"])
        np.testing.assert_allclose(result["y"], cube["y"])
        assert result.rio.crs == CRS.from_epsg(32650)


@pytest.mark.parametrize("transform", [NORTH_UP, IDENTITY])
def test_a_cube_without_crs_is_a_valid_cog(
    tmp_path: Path, transform: tuple[float, float, float, float, float, float]
) -> None:
    cube = make_cube((150, 20), crs_wkt=None, transform=transform)
    write_cog(cube, tmp_path / "cube.tif", blocksize=128)
    assert_valid_cog(tmp_path / "cube.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "cube.tif") as dataset:
            assert dataset.crs is None
            assert tuple(dataset.transform)[:6] == transform
            np.testing.assert_array_equal(dataset.read(), cube.values)


def test_a_rotated_grid_is_kept(tmp_path: Path) -> None:
    rotated = (10.0, 2.0, 5.0, 1.0, -9.0, 7.0)
    write_cog(make_cube((15, 20), transform=rotated), tmp_path / "cube.tif")
    with rasterio.open(tmp_path / "cube.tif") as dataset:
        np.testing.assert_allclose(tuple(dataset.transform)[:6], rotated)


def test_overviews_are_averages_that_leave_nodata_out(tmp_path: Path) -> None:
    values = np.full((3, 200, 200), 0.25, np.float32)
    values[:, :, :101] = np.nan
    write_cog(make_template((200, 200)).to_dataarray(values), tmp_path / "c.tif", blocksize=128)
    with rasterio.open(tmp_path / "c.tif", overview_level=0) as overview:
        reduced = overview.read(1)
    assert reduced.shape == (100, 100)
    assert np.isnan(reduced[:, :50]).all()
    np.testing.assert_allclose(reduced[:, 50:], 0.25)


def lazy_cube(
    chunk: int, count: int, computed: list[object], error: BaseException | None = None
) -> xr.DataArray:
    def values(block_id: tuple[int, ...]) -> np.ndarray:
        computed.append(block_id)
        if error is not None and block_id[1] == count - 1:
            raise error
        return np.full((3, chunk, chunk), 0.5, np.float32)

    lazy = da.map_blocks(
        values,
        chunks=((3,), (chunk,) * count, (chunk,) * count),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return make_template((chunk * count, chunk * count)).to_dataarray(lazy)


@pytest.mark.parametrize(("chunk", "count", "per_piece"), [(64, 6, 4), (256, 2, 1), (192, 4, 4)])
def test_a_lazy_cube_is_computed_a_few_chunks_at_a_time_and_each_once(
    tmp_path: Path, chunk: int, count: int, per_piece: int
) -> None:
    computed: list[object] = []
    seen: list[int] = []
    write_cog(
        lazy_cube(chunk, count, computed),
        tmp_path / "cube.tif",
        blocksize=128,
        progress=lambda done, total: seen.append(len(computed)),
    )
    assert seen == list(range(per_piece, count**2 + 1, per_piece))
    assert len(set(computed)) == count**2


def test_a_zarr_store_becomes_a_cog(tmp_path: Path) -> None:
    cube = make_cube((150, 140))
    write_zarr(cube, tmp_path / "cube.zarr", chunk=64)
    with xr.open_zarr(tmp_path / "cube.zarr", decode_coords="all", consolidated=False) as store:
        write_cog(store["reflectance"], tmp_path / "cube.tif", blocksize=128)
    with rasterio.open(tmp_path / "cube.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), cube.values)
        assert dataset.tags()["config"] == "abc"


@pytest.mark.parametrize("error", [ValueError("planted"), KeyboardInterrupt("planted")])
def test_nothing_is_left_when_the_cube_fails(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error), match="planted"):
        write_cog(lazy_cube(128, 2, [], error), tmp_path / "cube.tif", blocksize=128)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["_describe", "_build_overviews", "_copy", "_check_complete"])
def test_nothing_is_left_when_a_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(cog, step, fail)
    with pytest.raises(RuntimeError, match="planted"):
        write_cog(make_cube((150, 20)), tmp_path / "cube.tif", blocksize=128)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_output_error_wherever_it_strikes(tmp_path: Path) -> None:
    cube = make_cube((300, 300))
    write_cog(cube, tmp_path / "whole.tif", blocksize=128)
    size = (tmp_path / "whole.tif").stat().st_size
    # From the first blocks of the temporary file to the last bytes of the final one.
    for limit in (1000, size // 3, size * 2 // 3, size - 20_000, size - 3):
        with file_size_limit(limit), pytest.raises(OutputError, match="cannot write"):
            write_cog(cube, tmp_path / "cube.tif", blocksize=128)
        assert [path.name for path in tmp_path.iterdir()] == ["whole.tif"]


def test_an_existing_file_is_kept_without_overwrite_and_replaced_with_it(tmp_path: Path) -> None:
    path = tmp_path / "cube.tif"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"exists.*--overwrite \(overwrite=True\)"):
        write_cog(make_cube((20, 30)), path)
    assert path.read_text() == "mine"
    write_cog(make_cube((20, 30)), path, overwrite=True)
    assert_valid_cog(path)


def test_a_file_can_be_rewritten_from_itself(tmp_path: Path) -> None:
    cube = make_cube((30, 20))
    path = tmp_path / "cube.zarr"
    write_zarr(cube, path)
    with xr.open_zarr(path, decode_coords="all", consolidated=False) as store:
        write_zarr(store["reflectance"] * 2, path, overwrite=True)
    with xr.open_zarr(path, decode_coords="all", consolidated=False) as store:
        np.testing.assert_array_equal(store["reflectance"].values, cube.values * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": "float64"}, "float32 or uint16"), ({"blocksize": 100}, "expected one of 128")],
)
def test_impossible_options_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        write_cog(make_cube((20, 30)), tmp_path / "cube.tif", **options)


def test_gdal_3_11_copies_with_its_own_cog_driver() -> None:
    old, new = (copy_options(version, "uint16", 256) for version in ("3.10.3", "3.11.0dev-abc"))
    assert (old["driver"], old["copy_src_overviews"], old["predictor"]) == ("GTiff", "YES", 2)
    assert (new["driver"], new["interleave"], new["blocksize"]) == ("COG", "BAND", 256)
    assert copy_options("4.0.0", "uint16", 256)["driver"] == "COG"
