"""The cube is the same to the last bit, however and wherever its blocks are computed."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import psutil
import pytest
import torch
import xarray as xr

from pixelssr_geo import fitting, reconstruction
from pixelssr_geo.errors import ClusterError, DeviceError, SettingsError
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import PointSpectra, write_points
from pixelssr_geo.reconstruction import reconstruct, reconstruct_to_file
from pixelssr_geo.scene import open_cube, pixel_grid
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_points, make_scene
from pixelssr_geo.tiling import cluster
from pixelssr_geo.training import correction, pixel
from pixelssr_geo.writers import write_scene

pytestmark = pytest.mark.usefixtures("one_library")

METHODS: dict[str, dict[str, Any]] = {
    "ridge": {"method": "ridge"},
    "estimator": {"method": "estimator"},
    "dypro": {"method": "dypro", "steps": 2, "folds": 2, "tile": 32, "overlap": 8},
    "paper": {"method": "paper", "steps": 2, "tile": 32, "overlap": 8},
}
NETWORKS = ["dypro", "paper"]
SPEC = "400:1000:50"
SHAPE = (96, 80)  # nine blocks


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruction, "BLOCK", 32)
        patch.setattr(reconstruction, "CHUNK", 32)
        for module in (correction, pixel):
            patch.setattr(module, "create_net", partial(create_net, width=8))
        yield


@pytest.fixture(scope="module")
def inputs() -> tuple[xr.DataArray, PointSpectra]:
    return make_scene(shape=SHAPE), make_points(12, SHAPE)


@pytest.fixture(scope="module")
def on_disk(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    scene, points = inputs
    grid = pixel_grid(scene)
    write_scene(folder / "scene.tif", [(0, 0, scene.values)], grid, get_sensor("GF6-PMS"))
    write_points(points, folder / "field.gpkg")
    return folder


def run(
    inputs: tuple[xr.DataArray, PointSpectra], path: Path, method: str, **options: Any
) -> reconstruction.Summary:
    settings = Settings.of(wavelengths=SPEC, **{**METHODS[method], **options.pop("settings", {})})
    return reconstruct_to_file(*inputs, path, settings, **options)[1]


@pytest.fixture(scope="module")
def expected(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The store of a method as one thread makes it."""
    folder = tmp_path_factory.mktemp("expected")

    def made(method: str) -> Path:
        path = folder / f"{method}.zarr"
        if not path.exists():
            run(inputs, path, method, threads=1)
        return path

    return made


def files(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.name != "zarr.json"
    }


WAYS: dict[str, dict[str, Any]] = {
    "three threads": {"threads": 3},
    "one large block": {"block": 128},
    "blocks of two chunks": {"block": 64, "threads": 2},
    "batches of three": {"settings": {"batch_size": 3}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_threads_blocks_and_batches_change_no_byte(
    method: str,
    way: str,
    inputs: tuple[xr.DataArray, PointSpectra],
    expected: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    run(inputs, tmp_path / "cube.zarr", method, **WAYS[way])
    assert files(tmp_path / "cube.zarr") == files(expected(method))


@pytest.mark.parametrize("method", METHODS)
def test_workers_change_no_byte(
    method: str,
    inputs: tuple[xr.DataArray, PointSpectra],
    expected: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    summary = run(inputs, tmp_path / "cube.zarr", method, workers=2)
    assert files(tmp_path / "cube.zarr") == files(expected(method))
    assert summary.net == ("dypro-mamba" if method in NETWORKS else None)
    alone = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    assert summary.peak_rss_mb > alone + 50  # the memory of workers counts


@pytest.mark.parametrize("method", ["ridge", "estimator", "dypro"])
def test_blocks_of_odd_sizes_change_no_byte(method: str, tmp_path: Path) -> None:
    """Products of other sizes may differ in their last bits."""
    shape = (150, 269)
    inputs = make_scene(shape=shape), make_points(12, shape)
    for block in (32, 64, 160, 288):
        run(inputs, tmp_path / f"{block}.zarr", method, block=block)
        assert files(tmp_path / f"{block}.zarr") == files(tmp_path / "32.zarr")


@pytest.mark.parametrize("suffix", ["tif", "bsq"])
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_files_hold_the_pixels_of_the_store(
    suffix: str,
    dtype: Any,
    inputs: tuple[xr.DataArray, PointSpectra],
    tmp_path: Path,
) -> None:
    """They come from a staging store of their own type; nothing is rounded twice."""
    run(inputs, tmp_path / "cube.zarr", "ridge", dtype=dtype, threads=1)
    run(inputs, tmp_path / f"cube.{suffix}", "ridge", dtype=dtype, threads=2, block=64)
    found, kept = (open_cube(tmp_path / f"cube.{one}").values for one in (suffix, "zarr"))
    if dtype == "uint16":  # the steps are the same; scaled by GDAL and by Zarr they round apart
        found, kept = (np.rint(cube.astype("f8") / 1e-4) for cube in (found, kept))
    np.testing.assert_array_equal(found, kept)


@pytest.mark.parametrize("method", METHODS)
def test_the_lazy_cube_has_the_same_bits_whatever_torch_was_set_to(
    method: str,
    inputs: tuple[xr.DataArray, PointSpectra],
    expected: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cube = reconstruct(*inputs, wavelengths=SPEC, **METHODS[method])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        cube = cube.compute()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    kept = open_cube(expected(method)).values
    np.testing.assert_array_equal(cube.values.view("u4"), kept.view("u4"))


def test_a_block_that_cuts_chunks_is_refused(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="block is 40 pixels, expected a multiple of 32"):
        run(inputs, tmp_path / "cube.zarr", "ridge", block=40)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["estimator", "dypro"])
def test_a_block_reads_the_scene_once(
    method: str, inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    reads: list[str] = []

    def noted(chunk: Any) -> Any:
        reads.append("read")
        return chunk

    scene, points = inputs
    whole = da.from_array(scene.values, chunks=-1)
    lazy = scene.copy(data=whole.map_blocks(noted, meta=np.empty((0, 0, 0), "f4")))

    def progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("reconstructing", 0):
            reads.clear()

    run((lazy, points), tmp_path / "cube.zarr", method, threads=1, progress=progress)
    assert len(reads) == 9


def test_where_memory_lacks_fewer_tiles_go_through_the_network(
    inputs: tuple[xr.DataArray, PointSpectra],
    expected: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    original = pixel.PixelModel.__call__

    def small_device(model: Any, stack: Any, *rest: Any) -> Any:
        sizes.append(len(stack))
        if len(stack) > 2:
            raise torch.OutOfMemoryError("the device is full")
        return original(model, stack, *rest)

    monkeypatch.setattr(pixel.PixelModel, "__call__", small_device)
    batch = fitting.micro_batch(Settings(batch_size=8), torch.device("cuda"))
    monkeypatch.setattr(fitting, "micro_batch", lambda *_: batch)
    run(inputs, tmp_path / "cube.zarr", "paper", threads=1)
    assert sizes[:3] == [8, 4, 2]
    assert set(sizes[2:]) == {2}
    found, kept = (open_cube(path).values for path in (tmp_path / "cube.zarr", expected("paper")))
    np.testing.assert_allclose(found, kept, rtol=0, atol=1e-6)


def test_a_device_without_room_for_one_tile_is_named(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("the device is full")

    monkeypatch.setattr(pixel.PixelModel, "__call__", full)
    with pytest.raises(DeviceError, match="cpu has too little memory"):
        run(inputs, tmp_path / "cube.zarr", "paper", threads=1)
    kept = tmp_path / ".cube.zarr.part" / "trained.safetensors"
    assert kept.exists()  # on another device it can go on


def oldest_worker() -> psutil.Process | None:
    """Of the local cluster that this process has started: the one that has begun to compute."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if any("spawn_main" in word for word in child.cmdline()):
                found.append((child.create_time(), child))
    return min(found, key=lambda one: one[0])[1] if found else None


def test_blocks_of_workers_that_are_killed_are_computed_again(
    inputs: tuple[xr.DataArray, PointSpectra],
    expected: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five times in one run, with blocks in the worker's hands and in its queue."""
    monkeypatch.setattr(reconstruction, "CHUNK", 16)
    moments = [1, 6, 11, 16, 21, 1000]
    killed: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage != "reconstructing" or done < moments[0]:
            return
        if (process := oldest_worker()) is not None and process.pid not in killed:
            moments.pop(0)
            killed.append(process.pid)
            process.kill()

    path = tmp_path / "cube.zarr"
    run(inputs, path, "ridge", workers=2, block=16, progress=progress)
    assert len(killed) == 5
    np.testing.assert_array_equal(
        open_cube(path).values.view("u4"), open_cube(expected("ridge")).values.view("u4")
    )


def test_several_places_to_compute_are_refused(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with pytest.raises(SettingsError, match="one of them is expected"):
        run(inputs, tmp_path / "cube.tif", "ridge", workers=2, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ClusterError):
        run(inputs, tmp_path / "cube.tif", "ridge", scheduler="tcp://127.0.0.1:1")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def running_scheduler(folder: Path, *workers: dict[str, str], flags: str = "") -> Iterator[Path]:
    """Dask's own scheduler and workers as processes of their own; gives the scheduler's file.

    Each worker comes with what is added to its environment; with ``GPU`` in it, it offers one.
    """
    known = folder / "scheduler.json"
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(known), "--host", "127.0.0.1", "--no-dashboard"]
    started = [subprocess.Popen([*dask, "scheduler", *common, "--port", "0"], **quiet)]
    for worker in workers:
        resources = ["--resources", "GPU=1"] * ("GPU" in worker)
        command = [*dask, "worker", *common, "--nthreads", "1", "--no-nanny", *resources]
        command += flags.split()
        started.append(subprocess.Popen(command, env={**os.environ, **worker}, **quiet))
    try:
        while not known.exists():
            assert all(process.poll() is None for process in started)
            time.sleep(0.05)
        yield known
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def test_a_running_scheduler_serves_from_another_folder(
    on_disk: Path, inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    asked = ["--sensor", "GF6-PMS", "--points", "field.gpkg", "--method", "ridge"]
    command = ["reconstruct", "scene.tif", *asked, "--wavelengths", SPEC, "-q", "-o"]
    cli = [sys.executable, "-m", "pixelssr_geo.cli", *command]
    subprocess.run([*cli, tmp_path / "threads.zarr"], check=True, cwd=on_disk, capture_output=True)
    with running_scheduler(elsewhere, {}, {}) as known:
        subprocess.run(
            [*cli, tmp_path / "cube.zarr", "--scheduler", known],
            check=True,
            cwd=on_disk,
            capture_output=True,
        )
    assert files(tmp_path / "cube.zarr") == files(tmp_path / "threads.zarr")


PRETEND = """
import os, pathlib
import torch
from pixelssr_geo import reconstruction

def pretended(name):
    with (pathlib.Path(os.environ["NOTES"]) / os.environ.get("GPU", "none")).open("a") as file:
        print(name, os.getpid(), file=file)
    return torch.device("cpu")

reconstruction.resolve_device = pretended
"""


def test_networks_run_on_the_workers_gpus_and_the_client_needs_none(
    inputs: tuple[xr.DataArray, PointSpectra],
    expected: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers pretend to have a GPU each, a third offers none."""
    if torch.cuda.is_available():
        pytest.skip("the client must have no CUDA device, and this machine has one")
    (tmp_path / "pretend.py").write_text(PRETEND)
    notes = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    workers = ({"GPU": "0"}, {"GPU": "1"}, {})
    with (
        running_scheduler(tmp_path, *workers, flags="--preload pretend.py") as known,
        reconstruction.run_cluster(Settings(), scheduler=str(known)) as client,
    ):
        client.wait_for_workers(3, timeout=60)
        for device in ("cuda", "auto"):
            shutil.rmtree(notes, ignore_errors=True)
            notes.mkdir()
            path = tmp_path / f"{device}.zarr"
            summary = run(inputs, path, "paper", client=client, settings={"device": device})
            assert summary.device == "cuda"
            # Each has put the model on its own device, once.
            assert {note.name for note in notes.iterdir()} == {"0", "1"}
            told = [note.read_text().split() for note in notes.iterdir()]
            assert all(len(words) == 2 and words[0] == "cuda" for words in told)
            assert files(path) == files(expected("paper"))
        # Without a network there is nothing for a GPU.
        run(inputs, tmp_path / "ridge.zarr", "ridge", client=client)
        assert files(tmp_path / "ridge.zarr") == files(expected("ridge"))


def test_a_cluster_without_the_gpu_that_is_asked_for_is_refused(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RESOURCE_SECONDS", 0.5)
    with running_scheduler(tmp_path, {}) as known:
        with reconstruction.run_cluster(Settings(), scheduler=str(known)) as client:
            client.wait_for_workers(1, timeout=60)
        with pytest.raises(ClusterError, match="offer no resources, expected GPU=1"):
            run(
                inputs,
                tmp_path / "cube.tif",
                "paper",
                scheduler=str(known),
                settings={"device": "cuda"},
            )
    assert not list(tmp_path.glob("cube*"))


def test_another_scan_backend_on_a_worker_is_refused(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    with (
        running_scheduler(tmp_path, {"PIXELSSR_SCAN_BACKEND": "reference"}) as known,
        pytest.raises(ClusterError, match=r"computes the scan with 'reference', expected"),
    ):
        run(inputs, tmp_path / "cube.tif", "paper", scheduler=str(known))
