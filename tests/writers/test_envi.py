"""Claims about cubes in ENVI files."""

import math
import resource
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import spectral
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from pixelssr_geo.errors import OutputError, SettingsError
from pixelssr_geo.scene import open_cube
from pixelssr_geo.writers import (
    CubeTemplate,
    check_envi_grid,
    check_output,
    envi,
    output,
    write_envi,
    write_zarr,
)

# rioxarray 0.19 multiplies with `*`, which affine 3 means to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")

Transform = tuple[float, float, float, float, float, float]

UTM = CRS.from_epsg(32650).to_wkt()
NORTH_UP: Transform = (30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0)
IDENTITY: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SHEARED: Transform = (10.0, 2.0, 5.0, 1.0, -9.0, 7.0)
WAVELENGTHS = (418.416, 550.0, 665.123, 1000.0 / 3)
WIDTHS = (7.001, 12.5, 30.0, 6.5)
TOLERANCE = {"float32": 0.0, "uint16": 5.01e-5}


def rotated(degrees: float, pixel: float = 10.0) -> Transform:
    cos, sin = (
        pixel * f(math.radians(degrees)) if degrees else pixel * (f is math.cos)
        for f in (math.cos, math.sin)
    )
    return (cos, sin, 500000.25, sin, -cos, 4000000.75)


def make_template(
    shape: tuple[int, int],
    channels: int = 3,
    crs_wkt: str | None = UTM,
    transform: Transform = NORTH_UP,
    **attrs: str,
) -> CubeTemplate:
    return CubeTemplate(shape, WAVELENGTHS[:channels], WIDTHS[:channels], crs_wkt, transform, attrs)


def make_cube(shape: tuple[int, int], channels: int = 3, **changes: Any) -> xr.DataArray:
    values = np.random.default_rng(0).random((channels, *shape), dtype=np.float32)
    values[:, 1:3, :2] = np.nan
    return make_template(shape, channels, **changes).to_dataarray(values)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let every write beyond ``size`` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    channels=st.integers(1, 4),
    chunks=st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["float32", "uint16"]),
    suffix=st.sampled_from([".bsq", ".img"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_every_cube_comes_back_whatever_its_size_and_pieces(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    cols: int,
    channels: int,
    chunks: tuple[int, int] | None,
    dtype: Any,
    suffix: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((channels, rows, cols), dtype=np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    cube = make_template((rows, cols), channels).to_dataarray(values)
    lazy = cube if chunks is None else cube.chunk(y=chunks[0], x=chunks[1])
    folder = tmp_path_factory.mktemp("cube")
    path = folder / f"cube{suffix}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envi, "_PIECE", 8)
        assert write_envi(lazy, path, dtype=dtype) == path
    assert set(names(folder)) == {path.name, "cube.hdr"}
    assert path.stat().st_size == values.size * np.dtype(dtype).itemsize
    result = open_cube(path)
    np.testing.assert_allclose(result.values, values, rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(result["wavelength"], WAVELENGTHS[:channels], rtol=1e-9)
    np.testing.assert_allclose(result["fwhm"], WIDTHS[:channels])
    np.testing.assert_allclose(result["x"], cube["x"])
    np.testing.assert_allclose(result["y"], cube["y"])
    assert result.rio.crs == CRS.from_epsg(32650)


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_gdal_reads_grid_wavelengths_and_nodata(tmp_path: Path, dtype: Any) -> None:
    cube = make_cube((7, 9))
    write_envi(cube, tmp_path / "cube.bsq", dtype=dtype)
    with rasterio.open(tmp_path / "cube.bsq") as dataset:
        assert (dataset.driver, dataset.dtypes[0]) == ("ENVI", dtype)
        assert dataset.crs == CRS.from_epsg(32650)
        assert tuple(dataset.transform)[:6] == NORTH_UP
        assert dataset.interleaving.value == "BAND"
        stored = dataset.read(masked=True)
        imagery = [dataset.tags(band, ns="IMAGERY") for band in dataset.indexes]
        plain = [dataset.tags(band) for band in dataset.indexes]
        assert dataset.descriptions[0].startswith("418.4 nm")
    np.testing.assert_array_equal(np.ma.getmaskarray(stored), np.isnan(cube.values))
    scale = 1e-4 if dtype == "uint16" else 1
    np.testing.assert_allclose(
        stored.filled(0) * scale, np.nan_to_num(cube.values), rtol=0, atol=TOLERANCE[dtype]
    )
    # GDAL rounds the domain to whole nanometres, and keeps what the header says beside it.
    centres = [float(tags["CENTRAL_WAVELENGTH_UM"]) * 1000 for tags in imagery]
    np.testing.assert_allclose(centres, WAVELENGTHS[:3], atol=0.5)
    widths = [float(tags["FWHM_UM"]) * 1000 for tags in imagery]
    np.testing.assert_allclose(widths, WIDTHS[:3], atol=0.51)
    np.testing.assert_allclose([float(t["wavelength"]) for t in plain], WAVELENGTHS[:3])
    assert {tags["wavelength_units"] for tags in plain} == {"Nanometers"}


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1), ("uint16", 10000)])
@pytest.mark.parametrize("suffix", [".bsq", ".img"])
def test_spectral_reads_wavelengths_widths_unit_and_scale(
    tmp_path: Path, dtype: Any, scale: float, suffix: str
) -> None:
    cube = make_cube((7, 9))
    write_envi(cube, tmp_path / f"cube{suffix}", dtype=dtype)
    image = spectral.envi.open(tmp_path / "cube.hdr")
    np.testing.assert_allclose(image.bands.centers, WAVELENGTHS[:3])
    np.testing.assert_allclose(image.bands.bandwidths, WIDTHS[:3])
    assert image.bands.band_unit == "Nanometers"
    assert image.scale_factor == scale
    assert image.metadata["band names"] == ["418.4 nm", "550.0 nm", "665.1 nm"]
    known = ~np.isnan(cube.values)
    # A copy of the map: images are read as (y, x, wavelength).
    values = np.moveaxis(np.array(image.open_memmap()), -1, 0) / scale
    np.testing.assert_allclose(values[known], cube.values[known], rtol=1e-6, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_the_bytes_are_those_that_the_header_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    cube = make_cube((5, 4), channels=1)
    cube.values[0, 0, 0] = 0.25
    write_envi(cube, tmp_path / "cube.bsq", dtype=dtype)
    first = (tmp_path / "cube.bsq").read_bytes()[: np.dtype(dtype).itemsize]
    assert first == (b"\x00\x00\x80\x3e" if dtype == "float32" else b"\xc4\x09")
    assert "byte order = 0" in (tmp_path / "cube.hdr").read_text()


@pytest.mark.parametrize("crs_wkt", [UTM, None])
@pytest.mark.parametrize(
    "transform", [NORTH_UP, rotated(30), rotated(-77.7, 0.3), (20.0, 0, 5, 0, 30.0, 7)]
)
def test_turned_grids_and_missing_reference_systems_are_kept(
    tmp_path: Path, crs_wkt: str | None, transform: Transform
) -> None:
    cube = make_cube((15, 20), crs_wkt=crs_wkt, transform=transform)
    write_envi(cube, tmp_path / "cube.bsq")
    result = open_cube(tmp_path / "cube.bsq")
    np.testing.assert_allclose(tuple(result.rio.transform())[:6], transform)
    assert (result.rio.crs is None) == (crs_wkt is None)
    np.testing.assert_array_equal(result.values, cube.values)
    with rasterio.open(tmp_path / "cube.bsq") as dataset:
        np.testing.assert_allclose(tuple(dataset.transform)[:6], transform)


def test_a_cube_without_any_georeference_has_none_in_the_header(tmp_path: Path) -> None:
    cube = make_cube((6, 5), crs_wkt=None, transform=IDENTITY)
    write_envi(cube, tmp_path / "cube.bsq")
    assert "map info" not in (tmp_path / "cube.hdr").read_text()
    with quiet(), rasterio.open(tmp_path / "cube.bsq") as dataset:
        assert dataset.crs is None
        assert tuple(dataset.transform)[:6] == IDENTITY
        np.testing.assert_array_equal(dataset.read(), cube.values)


@pytest.mark.parametrize("code", [4326, 3857, 3035, 2154, 3413, 5514, 27700, 32760])
def test_reference_systems_come_back(tmp_path: Path, code: int) -> None:
    crs = CRS.from_epsg(code)
    write_envi(make_cube((3, 4), crs_wkt=crs.to_wkt()), tmp_path / "cube.bsq")
    with rasterio.open(tmp_path / "cube.bsq") as dataset:
        assert dataset.crs == crs


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"transform": SHEARED}, "transform"),
        ({"crs_wkt": CRS.from_epsg(4979).to_wkt()}, "coordinate reference system"),
    ],
)
def test_a_grid_that_the_header_would_lose_is_refused_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, Any], lost: str
) -> None:
    computed: list[object] = []
    with pytest.raises(OutputError, match=f"cannot state the cube's {lost}.*GeoTIFF"):
        write_envi(lazy_cube(computed=computed, **changes), tmp_path / "cube.bsq")
    assert not computed
    assert not names(tmp_path)
    with pytest.raises(OutputError, match=lost):
        check_envi_grid(make_template((8, 8), **changes))
    check_envi_grid(make_template((8, 8)))


def test_attributes_follow_under_names_of_their_own(tmp_path: Path) -> None:
    attrs = {
        "software": "pixelssr-geo 1.0",
        "config": '{"a": {"b": [1, 2]}, "c": "x"}',
        "samples": "lines = 3",
        "scene": "broken {",
        "points": "{half",
        "note": "two\nlines",
        "Größe": "1 µm",
        "empty": "",
    }
    cube = make_cube((4, 5), **attrs)
    write_envi(cube, tmp_path / "cube.bsq")
    expected = {
        "cube_software": "pixelssr-geo 1.0",
        "cube_config": '{"a": {"b": [1, 2]}, "c": "x"}',
        "cube_scene": "broken (",
        "cube_points": "(half",
        "cube_note": "two lines",
        "cube_gr_e": "1 µm",
    }
    with rasterio.open(tmp_path / "cube.bsq") as dataset:
        tags = dataset.tags(ns="ENVI")
        assert dataset.shape == (4, 5)
    assert {key: value for key, value in tags.items() if key.startswith("cube_")} == expected
    found = spectral.envi.read_envi_header(tmp_path / "cube.hdr")
    assert found["samples"] == "5"
    assert found["cube samples"] == "lines = 3"  # GDAL leaves out what has two equals signs
    assert found["cube software"] == "pixelssr-geo 1.0"
    assert found["cube note"] == "two lines"
    assert str(tmp_path) not in (tmp_path / "cube.hdr").read_text()


def lazy_cube(
    chunk: int = 16,
    count: int = 2,
    computed: list[object] | None = None,
    error: BaseException | None = None,
    **changes: Any,
) -> xr.DataArray:
    def values(block_id: tuple[int, ...]) -> np.ndarray:
        if computed is not None:
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
    return make_template((chunk * count, chunk * count), **changes).to_dataarray(lazy)


def test_a_lazy_cube_is_computed_a_chunk_at_a_time_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envi, "_PIECE", 16)
    computed: list[object] = []
    seen: list[tuple[int, int, int]] = []
    write_envi(
        lazy_cube(16, 4, computed),
        tmp_path / "cube.bsq",
        progress=lambda done, total: seen.append((done, total, len(computed))),
    )
    assert seen == [(done, 16, done) for done in range(1, 17)]
    assert len(set(computed)) == 16


def test_a_zarr_store_becomes_an_envi_file(tmp_path: Path) -> None:
    cube = make_cube((50, 40))
    write_zarr(cube, tmp_path / "cube.zarr", chunk=16)
    write_envi(open_cube(tmp_path / "cube.zarr"), tmp_path / "cube.bsq")
    np.testing.assert_array_equal(open_cube(tmp_path / "cube.bsq").values, cube.values)


@pytest.mark.parametrize("error", [ValueError("planted"), KeyboardInterrupt("planted")])
def test_nothing_is_left_when_the_cube_fails_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(envi, "_PIECE", 16)
    with pytest.raises(type(error), match="planted"):
        write_envi(lazy_cube(error=error), tmp_path / "cube.bsq")
    assert not names(tmp_path)


@pytest.mark.parametrize("existing", [False, True])
def test_neither_name_appears_before_both_files_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    monkeypatch.setattr(envi, "_PIECE", 16)
    path = tmp_path / "cube.bsq"
    if existing:
        write_envi(make_cube((4, 5)), path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def check(done: int, total: int) -> None:
        now = [place for place in tmp_path.iterdir() if not place.name.startswith(".")]
        assert {place.name: place.read_bytes() for place in now} == before

    write_envi(lazy_cube(), path, overwrite=existing, progress=check)
    assert names(tmp_path) == ["cube.bsq", "cube.hdr"]
    assert open_cube(path).shape == (3, 32, 32)


def test_while_there_is_a_header_it_describes_the_data_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, header = tmp_path / "cube.bsq", tmp_path / "cube.hdr"
    write_envi(make_cube((4, 5)), path)
    old, new = path.stat().st_size, 4 * 3 * 6 * 7
    seen = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        result = rename(self, target)
        seen.append((header.exists(), path.stat().st_size if path.exists() else None))
        return result

    monkeypatch.setattr(Path, "rename", watched)
    write_envi(make_cube((6, 7)), path, overwrite=True)
    assert seen == [(False, old), (False, None), (False, new), (True, new)]


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_the_old_pair_is_back_when_it_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    path = tmp_path / "cube.bsq"
    write_envi(make_cube((4, 5)), path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    rename, calls = Path.rename, []

    def refuse_once(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_once)
    with pytest.raises(OutputError, match="Permission denied"):
        write_envi(make_cube((6, 7)), path, overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file sizes")
def test_a_full_disk_is_an_output_error_wherever_it_strikes(tmp_path: Path) -> None:
    cube = make_cube((60, 60))
    size = write_envi(cube, tmp_path / "whole.bsq").stat().st_size
    for limit in (0, 2000, size // 2, size - 1):
        with file_size_limit(limit), pytest.raises(OutputError, match="cannot write"):
            write_envi(cube, tmp_path / "cube.bsq")
        assert names(tmp_path) == ["whole.bsq", "whole.hdr"]
    # The header is larger than the data of a single pixel.
    tiny = make_cube((1, 1), crs_wkt=None, transform=IDENTITY)
    with file_size_limit(200), pytest.raises(OutputError, match=r"cannot write .*cube\.bsq"):
        write_envi(tiny, tmp_path / "cube.bsq")
    assert names(tmp_path) == ["whole.bsq", "whole.hdr"]


@pytest.mark.parametrize("taken", ["cube.bsq", "cube.hdr", "cube.bsq.aux.xml"])
def test_a_taken_name_is_refused_without_overwrite_and_replaced_with_it(
    tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).write_text("mine")
    path = tmp_path / "cube.bsq"
    for refused in (check_output, lambda path: write_envi(make_cube((4, 5)), path)):
        with pytest.raises(OutputError, match=rf"{taken}' exists.*--overwrite"):
            refused(path)
    assert names(tmp_path) == [taken]
    assert (tmp_path / taken).read_text() == "mine"
    write_envi(make_cube((4, 5)), path, overwrite=True)
    assert names(tmp_path) == ["cube.bsq", "cube.hdr"]
    assert open_cube(path).shape == (3, 4, 5)


def test_a_header_that_another_file_needs_is_kept_even_with_overwrite(tmp_path: Path) -> None:
    write_envi(make_cube((4, 5)), tmp_path / "cube.img")
    header = (tmp_path / "cube.hdr").read_bytes()
    with pytest.raises(OutputError, match=r"cube.hdr' is needed by '.*cube.img'"):
        write_envi(make_cube((6, 7)), tmp_path / "cube.bsq", overwrite=True)
    assert (tmp_path / "cube.hdr").read_bytes() == header
    write_envi(make_cube((6, 7)), tmp_path / "cube.img", overwrite=True)
    assert open_cube(tmp_path / "cube.img").shape == (3, 6, 7)


@pytest.mark.parametrize("name", ["cube.bsq", "cube.hdr"])
def test_a_folder_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=f"{name}': it is a folder"):
        write_envi(make_cube((4, 5)), tmp_path / "cube.bsq", overwrite=True)
    assert (tmp_path / name).is_dir()


def test_a_file_can_be_rewritten_from_itself(tmp_path: Path) -> None:
    cube = make_cube((30, 20))
    path = write_envi(cube, tmp_path / "cube.bsq")
    write_envi(open_cube(path) * 2, path, overwrite=True)
    np.testing.assert_array_equal(open_cube(path).values, cube.values * 2)


def test_other_outputs_bring_their_header_along(tmp_path: Path) -> None:
    path = tmp_path / "cube.bsq"
    with output.new_output(path, overwrite=False) as temporary:
        write_envi(make_cube((4, 5)), temporary)
        assert not [name for name in names(tmp_path) if not name.startswith(".")]
    assert names(tmp_path) == ["cube.bsq", "cube.hdr"]
    assert open_cube(path).shape == (3, 4, 5)


@pytest.mark.parametrize("name", ["cube.tif", "cube", "cube.hdr"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"one of \.bsq, \.img"):
        write_envi(make_cube((4, 5)), tmp_path / name)


def test_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="float32 or uint16"):
        write_envi(make_cube((4, 5)), tmp_path / "cube.bsq", dtype="float64")  # type: ignore[arg-type]
