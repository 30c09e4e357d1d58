"""A run that was interrupted or killed goes on, to the bytes of one that was not."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pixelssr_geo import reconstruction
from pixelssr_geo.errors import ClusterError, OutputError, ResumeError
from pixelssr_geo.fitting import FittedModel
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import PointSpectra, write_points
from pixelssr_geo.reconstruction import reconstruct_to_file
from pixelssr_geo.scene import open_cube, pixel_grid
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_points, make_scene
from pixelssr_geo.tiling.plan import Window
from pixelssr_geo.training import correction, pixel
from pixelssr_geo.writers import write_scene

pytestmark = pytest.mark.usefixtures("one_library")

METHODS: dict[str, dict[str, Any]] = {
    "ridge": {"method": "ridge"},
    "dypro": {"method": "dypro", "steps": 2, "folds": 2, "tile": 32, "overlap": 8},
    "paper": {"method": "paper", "steps": 2, "tile": 32, "overlap": 8},
}
SPEC = "400:1000:50"
SHAPE = (96, 80)  # nine blocks


@pytest.fixture(scope="module")
def inputs() -> tuple[xr.DataArray, PointSpectra]:
    return make_scene(shape=SHAPE), make_points(12, SHAPE)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    for module in (correction, pixel):
        monkeypatch.setattr(module, "create_net", partial(create_net, width=8))


def run(
    inputs: tuple[xr.DataArray, PointSpectra], path: Path, method: str, **options: Any
) -> reconstruction.Summary:
    settings = Settings.of(wavelengths=SPEC, **{**METHODS[method], **options.pop("settings", {})})
    return reconstruct_to_file(*inputs, path, settings, **options)[1]


class Interrupter:
    """Interrupts when a number of blocks is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        self.computed: list[Window] = []
        original = FittedModel.block

        def block(model: FittedModel, plan: Any, window: Window, *rest: Any) -> Any:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.computed.append(window)
            return original(model, plan, window, *rest)

        monkeypatch.setattr(FittedModel, "block", block)


def files(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.name != "zarr.json"
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("suffix", ["zarr", "tif", "bsq"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    method: str,
    suffix: str,
    inputs: tuple[xr.DataArray, PointSpectra],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run(inputs, tmp_path / f"whole.{suffix}", method)
    path = tmp_path / f"cube.{suffix}"
    with monkeypatch.context() as patch:
        first = Interrupter(patch, after=4)
        with pytest.raises(KeyboardInterrupt) as caught:
            run(inputs, path, method, threads=1)
    assert any("--resume goes on" in note for note in caught.value.__notes__)
    assert not path.exists()
    with monkeypatch.context() as patch:
        second = Interrupter(patch, after=-1)
        resumed = run(inputs, path, method, resume=True)
    assert len(first.computed) == 4
    assert set(first.computed).isdisjoint(second.computed)
    assert len(first.computed) + len(second.computed) == 9
    np.testing.assert_array_equal(
        open_cube(path).values.view("u4"), open_cube(tmp_path / f"whole.{suffix}").values.view("u4")
    )
    if suffix == "zarr":
        assert files(path) == files(tmp_path / f"whole.{suffix}")
    assert resumed.msi_residual_rmse == whole.msi_residual_rmse
    assert resumed.cross_validation == whole.cross_validation
    assert resumed.gate == whole.gate
    headers = {"whole.hdr", "cube.hdr"} if suffix == "bsq" else set()
    assert {entry.name for entry in tmp_path.iterdir()} == {f"whole.{suffix}", path.name} | headers


def test_training_is_not_done_again(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Interrupter(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, tmp_path / "cube.tif", "dypro", threads=1)
    told: list[str] = []
    run(
        inputs,
        tmp_path / "cube.tif",
        "dypro",
        resume=True,
        progress=lambda stage, *_: told.append(stage),
    )
    assert set(told) == {"reading the scene", "reconstructing", "writing"}


def test_an_interrupt_before_anything_is_done_leaves_nothing(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Interrupter(monkeypatch, after=0)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "cube.tif", "ridge", threads=1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unfinished(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    with monkeypatch.context() as patch:
        Interrupter(patch, after=2)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, tmp_path / "cube.tif", "ridge", threads=1)
    return tmp_path / "cube.tif"


def test_an_unfinished_run_is_not_lost_by_accident(
    unfinished: Path, inputs: tuple[xr.DataArray, PointSpectra]
) -> None:
    with pytest.raises(OutputError, match="--resume to go on with it, or --overwrite"):
        run(inputs, unfinished, "ridge")
    assert (unfinished.parent / ".cube.tif.part").is_dir()


def test_an_unfinished_run_can_be_started_anew(
    unfinished: Path,
    inputs: tuple[xr.DataArray, PointSpectra],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anew = Interrupter(monkeypatch, after=-1)
    run(inputs, unfinished, "ridge", overwrite=True)
    assert len(anew.computed) == 9


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"settings": {"seed": 1}}, r"option seed \(0 before, 1 now\)"),
        ({"dtype": "uint16"}, r"format \(.tif float32 before, .tif uint16 now\)"),
    ],
)
def test_a_changed_run_is_refused_and_the_old_one_kept(
    change: dict[str, Any],
    told: str,
    unfinished: Path,
    inputs: tuple[xr.DataArray, PointSpectra],
) -> None:
    with pytest.raises(ResumeError, match=told):
        run(inputs, unfinished, "ridge", resume=True, **change)
    run(inputs, unfinished, "ridge", resume=True)
    assert unfinished.exists()


def test_changed_inputs_are_refused(
    unfinished: Path, inputs: tuple[xr.DataArray, PointSpectra]
) -> None:
    scene, points = inputs
    brighter = (scene + 0.01).assign_attrs(scene.attrs)
    with pytest.raises(ResumeError, match="another one: scene's values"):
        run((brighter, points), unfinished, "ridge", resume=True)
    with pytest.raises(ResumeError, match="another one: points"):
        run((scene, points.take(np.arange(5))), unfinished, "ridge", resume=True)


def test_a_changed_run_that_may_overwrite_starts_anew(
    unfinished: Path,
    inputs: tuple[xr.DataArray, PointSpectra],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anew = Interrupter(monkeypatch, after=-1)
    run(inputs, unfinished, "ridge", resume=True, overwrite=True, dtype="uint16")
    assert len(anew.computed) == 9


def test_what_still_computes_for_another_run_does_not_reach_the_cube(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers of a cluster do whose client was killed."""
    run(inputs, tmp_path / "whole.zarr", "ridge")
    works: list[reconstruction.BlockWork] = []
    original = reconstruction.BlockWork.__call__

    def remembered(work: reconstruction.BlockWork, *rest: Any) -> Any:
        works.append(work)
        return original(work, *rest)

    darker = (inputs[0] * 0.5).assign_attrs(inputs[0].attrs), inputs[1]
    with monkeypatch.context() as patch:
        patch.setattr(reconstruction.BlockWork, "__call__", remembered)
        Interrupter(patch, after=2)
        with pytest.raises(KeyboardInterrupt):
            run(darker, tmp_path / "cube.zarr", "ridge", threads=1)

    def progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("reconstructing", 5):
            with pytest.raises(OutputError):
                original(works[0], works[0].plan.blocks[0])

    run(inputs, tmp_path / "cube.zarr", "ridge", overwrite=True, threads=1, progress=progress)
    assert files(tmp_path / "cube.zarr") == files(tmp_path / "whole.zarr")


@pytest.mark.parametrize("failure", [ClusterError("scheduler was lost"), CancelledError("stopped")])
def test_what_is_done_stays_where_the_cluster_fails(
    failure: Exception,
    inputs: tuple[xr.DataArray, PointSpectra],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, left = FittedModel.block, [4]

    def block(model: FittedModel, *rest: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise failure
        return original(model, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FittedModel, "block", block)
        with pytest.raises(type(failure)) as caught:
            run(inputs, tmp_path / "cube.tif", "ridge", threads=1)
    assert "--resume goes on" in caught.value.__notes__[0]
    second = Interrupter(monkeypatch, after=-1)
    run(inputs, tmp_path / "cube.tif", "ridge", resume=True)
    assert len(second.computed) == 5


def test_a_run_is_stopped_from_another_thread_and_goes_on(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    stop = threading.Event()

    def progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("reconstructing", 3):
            stop.set()

    with pytest.raises(CancelledError):
        run(inputs, tmp_path / "cube.tif", "ridge", stop=stop, progress=progress, threads=1)
    assert {entry.name for entry in tmp_path.iterdir()} == {".cube.tif.part"}
    run(inputs, tmp_path / "cube.tif", "ridge", resume=True)


def test_a_file_that_came_meanwhile_is_not_replaced(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    path = tmp_path / "cube.tif"

    def progress(stage: str, done: int, total: int) -> None:
        path.write_text("somebody else's")

    with pytest.raises(OutputError, match="exists, expected a free name"):
        run(inputs, path, "ridge", progress=progress)
    assert path.read_text() == "somebody else's"
    path.unlink()
    run(inputs, path, "ridge", resume=True)


def test_nothing_to_go_on_with_is_a_fresh_run(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    run(inputs, tmp_path / "cube.tif", "ridge", resume=True)
    assert (tmp_path / "cube.tif").exists()


PROCESS = """
import sys
from pixelssr_geo import reconstruction
reconstruction.BLOCK = reconstruction.CHUNK = 32
from pixelssr_geo.fitting import FittedModel
original = FittedModel.block

def slow(*arguments):
    import os, time
    time.sleep(float(os.environ.get("SECONDS_A_BLOCK", 0.05)))
    return original(*arguments)

FittedModel.block = slow
from pixelssr_geo.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def files_on_disk(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    scene, points = inputs
    grid = pixel_grid(scene)
    write_scene(folder / "scene.tif", [(0, 0, scene.values)], grid, get_sensor("GF6-PMS"))
    write_points(points, folder / "field.gpkg")
    return folder


def start(folder: Path, output: Path, *flags: str, seconds: float = 0.05) -> subprocess.Popen[str]:
    asked = ("--sensor", "GF6-PMS", "--points", folder / "field.gpkg", "--method", "ridge")
    command = ["reconstruct", folder / "scene.tif", *asked, "--wavelengths", SPEC, "-o", output]
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, *map(str, command), *flags],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SECONDS_A_BLOCK": str(seconds)},
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    told = process.communicate(timeout=120)[1]
    return process.returncode, told


def listed(output: Path) -> int:
    ledger = output.with_name(f".{output.name}.part") / "blocks.jsonl"
    return len(ledger.read_bytes().splitlines()) if ledger.exists() else 0


def wait_for_blocks(process: subprocess.Popen[str], output: Path, count: int) -> None:
    while process.poll() is None and listed(output) <= count:
        time.sleep(0.005)


def killed_and_resumed(folder: Path, output: Path, moments: list[int]) -> None:
    """Kill the run when so many blocks are done, again and again, then let it end."""
    for number, moment in enumerate(moments):
        process = start(folder, output, *["--resume"] * (number > 0), seconds=0.5)
        wait_for_blocks(process, output, moment)
        process.kill()
        finished(process)
        assert not output.exists()
    code, told = finished(start(folder, output, "--resume"))
    assert code == 0, told


def test_a_killed_run_goes_on_to_the_same_bytes(files_on_disk: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.zarr"
    assert finished(start(files_on_disk, whole))[0] == 0
    killed_and_resumed(files_on_disk, tmp_path / "cube.zarr", [2, 5])
    assert files(tmp_path / "cube.zarr") == files(whole)
    assert {entry.name for entry in tmp_path.iterdir()} == {"whole.zarr", "cube.zarr"}


@pytest.mark.long
def test_runs_killed_at_random_moments_go_on_to_the_same_bytes(
    files_on_disk: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.tif"
    assert finished(start(files_on_disk, whole))[0] == 0
    rng = random.Random(0)
    for _ in range(10):
        output = tmp_path / "cube.tif"
        process = start(files_on_disk, output)
        time.sleep(rng.uniform(0.5, 4.0))
        process.kill()
        finished(process)
        if output.exists():  # it was already done
            output.unlink()
            continue
        code, told = finished(start(files_on_disk, output, "--resume"))
        assert code == 0, told
        np.testing.assert_array_equal(
            open_cube(output).values.view("u4"), open_cube(whole).values.view("u4")
        )
        output.unlink()
        assert {entry.name for entry in tmp_path.iterdir()} == {"whole.tif"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_leaves_the_rest_and_says_how_to_go_on(
    number: signal.Signals, files_on_disk: Path, tmp_path: Path
) -> None:
    process = start(files_on_disk, tmp_path / "cube.tif", "-q", seconds=1.0)
    wait_for_blocks(process, tmp_path / "cube.tif", 2)
    os.kill(process.pid, number)
    code, told = finished(process)
    assert code == 130
    assert "--resume goes on with it" in told
    assert listed(tmp_path / "cube.tif") < 1 + 9  # the blocks that had not begun were left
    assert {entry.name for entry in tmp_path.iterdir()} == {".cube.tif.part"}


def test_two_runs_do_not_share_an_output(files_on_disk: Path, tmp_path: Path) -> None:
    first = start(files_on_disk, tmp_path / "cube.tif", "-q", seconds=0.5)
    wait_for_blocks(first, tmp_path / "cube.tif", 1)
    first.send_signal(signal.SIGSTOP)  # so that it is there however long the other one takes
    try:
        code, told = finished(start(files_on_disk, tmp_path / "cube.tif", "--overwrite", "-q"))
    finally:
        first.send_signal(signal.SIGCONT)
    assert code == 1
    assert "in use by another run" in told
    assert finished(first)[0] == 0
