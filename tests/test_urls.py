"""Whole runs whose cube is on an object store."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem

from pixelssr_geo import reconstruction
from pixelssr_geo.errors import OutputError, PixelSSRError
from pixelssr_geo.fitting import FittedModel
from pixelssr_geo.points import PointSpectra, write_points
from pixelssr_geo.reconstruction import reconstruct_to_file
from pixelssr_geo.scene import open_cube, open_scene, pixel_grid
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_points, make_scene
from pixelssr_geo.writers import write_scene

SHAPE = (96, 80)  # nine blocks
SPEC = "400:1000:50"
URL = "memory://bucket/cube.zarr"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small blocks, an empty object store and an empty working directory."""
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    monkeypatch.chdir(tmp_path)
    MemoryFileSystem.store.clear()
    yield
    MemoryFileSystem.store.clear()


@pytest.fixture(scope="module")
def inputs() -> tuple[xr.DataArray, PointSpectra]:
    return make_scene(shape=SHAPE), make_points(12, SHAPE)


def run(inputs: tuple[xr.DataArray, PointSpectra], where: str | Path, **options: Any) -> Any:
    settings = Settings.of(method="ridge", wavelengths=SPEC)
    return reconstruct_to_file(*inputs, where, settings, **options)[1]


def in_memory(url: str = URL) -> dict[str, bytes]:
    """Chunks by key."""
    path = url.removeprefix("memory:/")
    found = MemoryFileSystem().find(path)
    return {name.removeprefix(path): MemoryFileSystem().cat_file(name) for name in found}


def on_disk(store: Path) -> dict[str, bytes]:
    return {
        f"/{path.relative_to(store)}": path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def interrupt(
    monkeypatch: pytest.MonkeyPatch,
    inputs: tuple[xr.DataArray, PointSpectra],
    where: str,
    **options: Any,
) -> KeyboardInterrupt:
    original, left = FittedModel.block, [4]

    def block(model: FittedModel, *rest: Any) -> Any:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return original(model, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FittedModel, "block", block)
        with pytest.raises(KeyboardInterrupt) as caught:
            run(inputs, where, threads=1, **options)
    return caught.value


def test_a_cube_at_a_url_has_the_bytes_of_one_on_disk(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    summary = run(inputs, URL)
    run(inputs, tmp_path / "cube.zarr")
    assert summary.output == URL
    assert in_memory() == on_disk(tmp_path / "cube.zarr")
    assert [entry.name for entry in tmp_path.iterdir()] == ["cube.zarr"]


def test_an_interrupted_run_at_a_url_is_invisible_and_goes_on(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = interrupt(monkeypatch, inputs, URL).__notes__
    assert any(URL in note and "--resume goes on" in note for note in told)
    with pytest.raises(PixelSSRError):
        open_cube(URL)
    with pytest.raises(OutputError, match="holds an unfinished run"):
        run(inputs, URL)
    computed: list[Any] = []
    original = FittedModel.block

    def block(model: FittedModel, plan: Any, window: Any, *rest: Any) -> Any:
        computed.append(window)
        return original(model, plan, window, *rest)

    monkeypatch.setattr(FittedModel, "block", block)
    run(inputs, URL, resume=True)
    assert len(computed) == 5
    run(inputs, tmp_path / "cube.zarr")
    assert in_memory() == on_disk(tmp_path / "cube.zarr")


def test_two_runs_at_one_url_do_not_mix(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun in different folders, they cannot know of each other; the later one has the place."""
    (tmp_path / "elsewhere").mkdir()
    darker = (inputs[0] * 0.5).assign_attrs(inputs[0].attrs), inputs[1]

    def begin_another(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("reconstructing", 3):
            with monkeypatch.context() as patch:
                patch.chdir(tmp_path / "elsewhere")
                interrupt(patch, darker, URL, overwrite=True)

    with pytest.raises(OutputError, match="another run writes to"):
        run(inputs, URL, threads=1, progress=begin_another)
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(darker, URL, resume=True)
    run(darker, tmp_path / "cube.zarr")
    assert in_memory() == on_disk(tmp_path / "cube.zarr")


def test_a_failing_store_keeps_what_is_done(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, left = reconstruction.write_region, [4]

    def unsteady(*arguments: Any, **options: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OutputError("the store is out of reach")
        original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(reconstruction, "write_region", unsteady)
        with pytest.raises(OutputError, match="out of reach") as caught:
            run(inputs, URL, threads=1)
    assert "--resume goes on" in caught.value.__notes__[0]
    run(inputs, URL, resume=True)
    run(inputs, tmp_path / "cube.zarr")
    assert in_memory() == on_disk(tmp_path / "cube.zarr")


def test_a_failed_run_at_a_url_leaves_nothing(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(FittedModel, "block", fail)
    with pytest.raises(MemoryError):
        run(inputs, URL, threads=1)
    assert in_memory() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_run_does_not_overwrite_its_own_scene(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    run(inputs, URL)
    with pytest.raises(OutputError, match="is read by this run"):
        run((open_scene(URL), inputs[1]), URL, overwrite=True)
    assert in_memory() != {}


def test_workers_write_to_s3(
    s3: str, inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    scene, points = inputs
    grid = pixel_grid(scene)
    write_scene(tmp_path / "scene.tif", [(0, 0, scene.values)], grid, get_sensor("GF6-PMS"))
    write_points(points, tmp_path / "field.gpkg")
    asked = ["--sensor", "GF6-PMS", "--points", "field.gpkg", "--wavelengths", SPEC, "-q"]
    command = [sys.executable, "-m", "pixelssr_geo.cli", "reconstruct", "scene.tif", *asked]
    command += ["--method", "ridge", "-o"]
    for more in ([f"{s3}/folder/cube.zarr", "--workers", "2"], ["cube.zarr"]):
        told = subprocess.run([*command, *more], check=False, capture_output=True, text=True)
        assert (told.returncode, told.stderr) == (0, "")
    np.testing.assert_array_equal(
        open_cube(f"{s3}/folder/cube.zarr").values, open_cube("cube.zarr").values
    )
    assert {entry.name for entry in tmp_path.iterdir()} == {"scene.tif", "field.gpkg", "cube.zarr"}
