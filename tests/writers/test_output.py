"""Claims about where results may be written and how much room they take."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import OutputError
from pixelssr_geo.writers import (
    CubeTemplate,
    check_output,
    disk_needed,
    write_cog,
    write_envi,
    write_zarr,
)
from pixelssr_geo.writers.output import new_output
from pixelssr_geo.writers.streaming import piece_count, piece_sizes, pieces

# rioxarray 0.19 multiplies with `*`, which affine 3 means to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")


def make_template(shape: tuple[int, int], channels: int = 3) -> CubeTemplate:
    wavelengths = tuple(400.0 + 10 * i for i in range(channels))
    return CubeTemplate(
        shape, wavelengths, (10.0,) * channels, None, (10.0, 0.0, 5.0, 0.0, -10.0, 9.0)
    )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no folder '.*nowhere'"):
        check_output(tmp_path / "nowhere" / "cube.tif")


def test_a_url_that_was_made_a_path_is_told() -> None:
    with pytest.raises(OutputError, match=r"'s3:/bucket/cube.tif': that looks like a URL"):
        write_cog(make_template((3, 3)).to_dataarray(np.zeros((3, 3, 3))), "s3://bucket/cube.tif")


def test_half_the_bytes_are_needed_for_half_the_data_type() -> None:
    template = make_template((1000, 1000), 100)
    formats: tuple[Literal["cog", "envi", "zarr"], ...] = ("cog", "envi", "zarr")
    for format in formats:
        fixed = 2**20
        whole, half = (disk_needed(template, dtype, format) for dtype in ("float32", "uint16"))
        assert half - fixed == pytest.approx((whole - fixed) / 2, abs=1)


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permissions do not bind a superuser, who may be running this test.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="read-only"):
        check_output(tmp_path / "cube.tif")


def test_a_folder_that_refuses_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with (
        pytest.raises(OutputError, match="Permission denied"),
        new_output(tmp_path / "cube.tif", overwrite=False),
    ):
        raise AssertionError("not reached")


def test_the_name_appears_only_at_the_end(tmp_path: Path) -> None:
    with new_output(tmp_path / "a.txt", overwrite=False) as temporary:
        temporary.write_text("done")
        assert not (tmp_path / "a.txt").exists()
        assert temporary.parent.name.startswith(".a.txt.")
    assert (tmp_path / "a.txt").read_text() == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@settings(deadline=None)  # the first call imports
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.sampled_from([8, 16]),
)
def test_pieces_cover_a_lazy_cube_once(rows: list[int], cols: list[int], unit: int) -> None:
    shape = (sum(rows), sum(cols))
    values = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(1, *shape)
    cube = make_template(shape, 1).to_dataarray(values).chunk(y=tuple(rows), x=tuple(cols))
    result = np.zeros_like(values)
    count = 0
    for row, col, piece in pieces(cube, unit):
        assert row % unit == col % unit == 0
        result[:, row : row + piece.shape[1], col : col + piece.shape[2]] += piece
        count += 1
    np.testing.assert_array_equal(result, values)
    assert count == piece_count(cube, unit)


@pytest.mark.parametrize(
    ("chunk", "unit", "expected"),
    [(512, 256, 512), (256, 512, 512), (300, 256, 512), (384, 256, 768), (100, 256, 256)],
)
def test_pieces_are_whole_chunks_where_that_is_not_too_large(
    chunk: int, unit: int, expected: int
) -> None:
    cube = make_template((5000, 5000), 1).to_dataarray(np.zeros((1, 5000, 5000), np.float32))
    assert piece_sizes(cube.chunk(y=chunk, x=chunk), unit) == (expected, expected)
    assert piece_sizes(cube, unit) == (unit, unit)


@pytest.mark.parametrize("shape", [(150, 260), (1, 700), (3, 3)])
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_incompressible_cubes_stay_under_the_estimate(
    tmp_path: Path, shape: tuple[int, int], dtype: Any
) -> None:
    template = make_template(shape, 30)
    noise = np.random.default_rng(0).uniform(0, 6.5, (30, *shape)).astype(np.float32)
    cube = template.to_dataarray(noise)
    store = write_zarr(cube, tmp_path / "c.zarr", dtype=dtype)
    in_store = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    in_file = write_cog(cube, tmp_path / "c.tif", dtype=dtype, blocksize=128).stat().st_size
    in_envi = write_envi(cube, tmp_path / "c.bsq", dtype=dtype).stat().st_size
    assert in_store <= disk_needed(template, dtype, "zarr")
    # A staging store is one in the same data type.
    assert in_store + 2 * in_file <= disk_needed(template, dtype, "cog")
    assert in_store + in_envi <= disk_needed(template, dtype, "envi")
    assert disk_needed(template, dtype, "zarr") < disk_needed(template, dtype, "envi")


def test_a_store_replaces_a_file_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cube.zarr"
    path.write_text("not a store")
    with new_output(path, overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "zarr.json").write_text("{}")
    assert [entry.name for entry in path.iterdir()] == ["zarr.json"]
    assert list(tmp_path.iterdir()) == [path]
