"""Claims about cubes in Zarr stores."""

import errno
import json
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
from rasterio.crs import CRS

from pixelssr_geo.errors import OutputError, SettingsError, WavelengthGridError
from pixelssr_geo.scene import open_cube
from pixelssr_geo.writers import CubeTemplate, create_store, write_region, write_zarr, zarr_cube
from pixelssr_geo.writers.encoding import encode

# rioxarray 0.19 multiplies with `*`, which affine 3 means to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")

UTM = CRS.from_epsg(32650).to_wkt()


def make_template(shape: tuple[int, int], crs_wkt: str | None = UTM) -> CubeTemplate:
    return CubeTemplate(
        shape=shape,
        wavelengths_nm=(418.416, 550.0, 665.0),
        fwhm_nm=(7.001, 12.5, 30.0),
        crs_wkt=crs_wkt,
        transform=(30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0),
        attrs={"pixelssr_version": "1.0", "config": "abc"},
    )


def make_values(shape: tuple[int, int]) -> np.ndarray:
    values = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    values[:, :2, :3] = np.nan
    return values


def make_cube(shape: tuple[int, int], crs_wkt: str | None = UTM) -> xr.DataArray:
    return make_template(shape, crs_wkt).to_dataarray(make_values(shape))


def open_store(path: Path) -> xr.DataArray:
    cube = xr.open_zarr(path, decode_coords="all", consolidated=False)["reflectance"]
    assert isinstance(cube, xr.DataArray)
    return cube


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let every write beyond ``size`` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("shape", [(70, 50), (64, 32), (1, 1), (3, 90)])
@pytest.mark.parametrize("lazy", [False, True])
def test_values_and_coordinates_come_back(
    tmp_path: Path, shape: tuple[int, int], lazy: bool
) -> None:
    cube = make_cube(shape)
    written = cube.chunk(y=30, x=20) if lazy else cube
    assert write_zarr(written, tmp_path / "c.zarr", chunk=32) == tmp_path / "c.zarr"
    result = open_store(tmp_path / "c.zarr")
    xr.testing.assert_identical(result.load(), cube.assign_coords(fwhm=cube["fwhm"]))
    assert result.dtype == np.float32
    assert result.rio.crs == CRS.from_epsg(32650)
    assert tuple(result.rio.transform())[:6] == (30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0)
    assert np.isnan(result.rio.nodata if result.rio.nodata is not None else np.nan)
    assert CubeTemplate.from_cube(result) == make_template(shape)


def test_uint16_is_within_half_a_step(tmp_path: Path) -> None:
    cube = make_cube((40, 50))
    cube[0, 5, 5], cube[1, 5, 5], cube[2, 5, 5] = -0.3, 9.0, np.inf
    write_zarr(cube, tmp_path / "c.zarr", dtype="uint16", chunk=32)
    result = open_store(tmp_path / "c.zarr")
    expected = cube.values.clip(0, 6.5534)
    expected[2, 5, 5] = np.nan
    np.testing.assert_allclose(result.values, expected, atol=5.01e-5)
    raw = xr.open_zarr(tmp_path / "c.zarr", consolidated=False, mask_and_scale=False)
    assert raw["reflectance"].dtype == np.uint16
    assert raw["reflectance"].attrs["_FillValue"] == 65535


def test_every_uint16_step_survives_the_store_and_another_encoding(tmp_path: Path) -> None:
    steps = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    stored = np.where(steps == 65535, np.nan, steps * np.float32(1e-4)).astype(np.float32)
    template = CubeTemplate((256, 256), (500.0,), (10.0,), None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    create_store(tmp_path / "c.zarr", template, dtype="uint16")
    write_region(tmp_path / "c.zarr", stored, 0, 0)
    # As a COG or an ENVI file is made from its staging store.
    again = encode(open_cube(tmp_path / "c.zarr").values, "uint16")
    np.testing.assert_array_equal(again, steps)


def test_the_store_is_plain_zarr_3_with_geozarr_attributes(tmp_path: Path) -> None:
    write_zarr(make_cube((70, 50)), tmp_path / "c.zarr")
    array = json.loads((tmp_path / "c.zarr/reflectance/zarr.json").read_text())
    assert array["zarr_format"] == 3
    assert array["dimension_names"] == ["wavelength", "y", "x"]
    assert [codec["name"] for codec in array["codecs"]] == ["bytes", "blosc"]
    assert array["attributes"]["grid_mapping"] == "spatial_ref"
    assert array["attributes"]["units"] == "1"
    group = json.loads((tmp_path / "c.zarr/zarr.json").read_text())
    assert "consolidated_metadata" not in group
    attrs = group["attributes"]
    assert [entry["name"] for entry in attrs["zarr_conventions"]] == ["spatial", "proj"]
    assert attrs["proj:code"] == "EPSG:32650"
    assert CRS.from_wkt(attrs["proj:wkt2"]) == CRS.from_epsg(32650)
    assert attrs["spatial:bbox"] == [500000.0, 3997900.0, 501500.0, 4000000.0]
    assert attrs["spatial:transform"] == [30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0]
    assert attrs["spatial:shape"] == [70, 50]


def test_a_cube_without_crs_is_written_and_read(tmp_path: Path) -> None:
    write_zarr(make_cube((20, 30), crs_wkt=None), tmp_path / "c.zarr")
    result = open_store(tmp_path / "c.zarr")
    assert result.rio.crs is None
    assert CubeTemplate.from_cube(result) == make_template((20, 30), None)


def test_blocks_written_by_threads_equal_one_write(tmp_path: Path) -> None:
    values = make_values((150, 130))
    create_store(tmp_path / "c.zarr", make_template((150, 130)), chunk=32)
    starts = [(row, col) for row in range(0, 150, 64) for col in range(0, 130, 64)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda at: write_region(
                    tmp_path / "c.zarr",
                    values[:, at[0] : at[0] + 64, at[1] : at[1] + 64],
                    *at,
                ),
                starts,
            )
        )
    np.testing.assert_array_equal(open_store(tmp_path / "c.zarr").values, values)


def test_blocks_written_by_other_processes_arrive(tmp_path: Path) -> None:
    values = make_values((64, 64))
    create_store(tmp_path / "c.zarr", make_template((64, 64)), chunk=32, dtype="uint16")
    tasks = [
        dask.delayed(write_region)(tmp_path / "c.zarr", values[:, :, col : col + 32], 0, col)
        for col in (0, 32)
    ]
    dask.compute(*tasks, scheduler="processes", num_workers=2)
    np.testing.assert_allclose(open_store(tmp_path / "c.zarr").values, values, atol=5.01e-5)


def test_blocks_not_yet_written_are_nodata(tmp_path: Path) -> None:
    for dtype in ("float32", "uint16"):
        create_store(tmp_path / dtype, make_template((64, 64)), chunk=32, dtype=dtype)
        write_region(tmp_path / dtype, np.ones((3, 32, 32), np.float32), 32, 0)
        result = open_store(tmp_path / dtype).values
        assert np.isfinite(result).sum() == 3 * 32 * 32


@pytest.mark.parametrize(
    ("block", "row", "col"),
    [((3, 32, 32), 16, 0), ((3, 16, 32), 0, 0), ((3, 32, 32), 64, 0), ((3, 6, 40), 64, 0)],
)
def test_blocks_that_split_a_chunk_or_leave_the_cube_are_refused(
    tmp_path: Path, block: tuple[int, int, int], row: int, col: int
) -> None:
    create_store(tmp_path / "c.zarr", make_template((70, 64)), chunk=32)
    with pytest.raises(SettingsError, match="expected whole chunks of 32"):
        write_region(tmp_path / "c.zarr", np.zeros(block, np.float32), row, col)


def test_a_block_with_other_channels_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path / "c.zarr", make_template((32, 32)), chunk=32)
    with pytest.raises(SettingsError, match="2 channels, the store 3"):
        write_region(tmp_path / "c.zarr", np.zeros((2, 32, 32), np.float32), 0, 0)


def test_a_store_is_not_created_twice(tmp_path: Path) -> None:
    create_store(tmp_path / "c.zarr", make_template((32, 32)))
    with pytest.raises(OutputError, match="exists"):
        create_store(tmp_path / "c.zarr", make_template((32, 32)))


def test_a_lazy_cube_is_computed_chunk_by_chunk_and_each_chunk_once(tmp_path: Path) -> None:
    computed: list[tuple[int, ...]] = []

    def chunk(block_id: tuple[int, ...]) -> np.ndarray:
        computed.append(block_id)
        return np.ones((3, 64, 64), np.float32)

    lazy = da.map_blocks(
        chunk,
        chunks=((3,), (64,) * 5, (64,) * 4),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    progress: list[tuple[int, int, int]] = []
    write_zarr(
        make_template((320, 256)).to_dataarray(lazy),
        tmp_path / "c.zarr",
        chunk=32,
        progress=lambda done, total: progress.append((done, total, len(computed))),
    )
    # After each piece exactly its own chunk has been computed: none ahead, none again.
    assert progress == [(piece, 20, piece) for piece in range(1, 21)]
    assert len(set(computed)) == 20


def failing_cube(error: BaseException) -> xr.DataArray:
    def chunk(block_id: tuple[int, ...]) -> np.ndarray:
        if block_id[1] == 2:
            raise error
        return np.ones((3, 32, 32), np.float32)

    lazy = da.map_blocks(
        chunk,
        chunks=((3,), (32,) * 4, (32,) * 4),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return make_template((128, 128)).to_dataarray(lazy)


@pytest.mark.parametrize("error", [ValueError("planted"), KeyboardInterrupt("planted")])
def test_nothing_is_left_when_the_cube_fails(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error), match="planted"):
        write_zarr(failing_cube(error), tmp_path / "c.zarr", chunk=32)
    assert not list(tmp_path.iterdir())


def test_a_failed_overwrite_keeps_the_old_store(tmp_path: Path) -> None:
    cube = make_cube((20, 30))
    write_zarr(cube, tmp_path / "c.zarr")
    with pytest.raises(ValueError, match="planted"):
        write_zarr(
            failing_cube(ValueError("planted")), tmp_path / "c.zarr", chunk=32, overwrite=True
        )
    xr.testing.assert_identical(open_store(tmp_path / "c.zarr").load(), cube)
    assert [path.name for path in tmp_path.iterdir()] == ["c.zarr"]


def test_an_overwritten_store_is_new_throughout(tmp_path: Path) -> None:
    write_zarr(make_cube((90, 90)), tmp_path / "c.zarr", chunk=32)
    write_zarr(make_cube((20, 30)), tmp_path / "c.zarr", chunk=32, overwrite=True)
    xr.testing.assert_identical(open_store(tmp_path / "c.zarr").load(), make_cube((20, 30)))
    assert [path.name for path in tmp_path.iterdir()] == ["c.zarr"]


def test_an_existing_store_is_kept_without_overwrite(tmp_path: Path) -> None:
    write_zarr(make_cube((20, 30)), tmp_path / "c.zarr")
    with pytest.raises(OutputError, match=r"exists.*overwrite=True"):
        write_zarr(make_cube((20, 30)), tmp_path / "c.zarr")


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(OutputError, match="not a Zarr store"):
        write_zarr(make_cube((20, 30)), tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_a_full_disk_is_an_output_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr_cube, "encode", full)
    with pytest.raises(OutputError, match=r"No space left on device.*free space"):
        write_zarr(make_cube((20, 30)), tmp_path / "c.zarr")
    assert not list(tmp_path.iterdir())


def test_a_write_that_the_system_refuses_is_an_output_error(tmp_path: Path) -> None:
    with file_size_limit(30_000), pytest.raises(OutputError, match="File too large"):
        write_zarr(make_cube((128, 128)), tmp_path / "c.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": "int8"}, "float32 or uint16"), ({"chunk": 0}, "chunk is 0")],
)
def test_impossible_options_are_refused_and_leave_nothing(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        write_zarr(make_cube((20, 30)), tmp_path / "c.zarr", **options)
    assert not list(tmp_path.iterdir())


def test_transposed_cubes_are_put_in_order(tmp_path: Path) -> None:
    cube = make_cube((20, 30))
    write_zarr(cube.transpose("y", "x", "wavelength"), tmp_path / "c.zarr")
    np.testing.assert_array_equal(open_store(tmp_path / "c.zarr").values, cube.values)


def test_an_array_without_wavelengths_is_refused(tmp_path: Path) -> None:
    write: Callable[..., object] = write_zarr
    with pytest.raises(WavelengthGridError):
        write(make_cube((20, 30)).drop_vars("wavelength"), tmp_path / "c.zarr")
