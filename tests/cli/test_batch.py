"""Claims about ``pixelssr-geo batch`` as its user sees it."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pixelssr_geo import batch, reconstruction
from pixelssr_geo.cli import options
from pixelssr_geo.fitting import FittedModel
from pixelssr_geo.points import write_points
from pixelssr_geo.scene import open_cube
from pixelssr_geo.testing import make_points

RIDGE = ("--method", "ridge", "--wavelengths", "400:1000:50")


@pytest.fixture
def scenes(tmp_path, originals):
    """Three scenes of one place, each with points of its own: 5, 6 and 7."""
    for count, name in enumerate(("north", "south", "east"), start=5):
        shutil.copy(originals / "scene.tif", tmp_path / f"{name}.tif")
        write_points(make_points(count), tmp_path / f"{name}.gpkg")
    (tmp_path / "cubes").mkdir()
    return [tmp_path / f"{name}.tif" for name in ("north", "south", "east")]


def asked(scenes, *more):
    folder = scenes[0].parent
    points = ("--points", folder / "{stem}.gpkg")
    return ("batch", *scenes, *points, *RIDGE, "-o", folder / "cubes", *more)


def one_object(text):
    assert text.count("\n") == 1
    return json.loads(text)


def cubes(scenes):
    return {path.name for path in (scenes[0].parent / "cubes").iterdir()}


class TestTable:
    def test_a_row_for_each_scene_in_the_order_given(self, run, scenes):
        ended = run(*asked(scenes, "-q"))
        assert (ended.code, ended.err) == (0, "")
        head, *rows, last = ended.out.splitlines()
        assert head.split() == ["status", "scene", "output", "points", "RMSE", "seconds"]
        cells = [row.split() for row in rows]
        assert [row[:2] for row in cells] == [["done", str(scene)] for scene in scenes]
        assert [row[3] for row in cells] == ["5", "6", "7"]
        assert all(0 < float(row[4]) < 0.1 and float(row[5]) > 0 for row in cells)
        assert len({len(row) for row in (head, *rows)}) == 1, "aligned"
        assert last == "3 done, 0 skipped, 0 failed"
        assert cubes(scenes) == {"north_hsi.tif", "south_hsi.tif", "east_hsi.tif"}

    def test_one_that_fails_says_why_and_the_exit_code_is_1(self, run, scenes):
        scenes[1].write_text("no raster")
        (scenes[2].parent / "cubes" / "east_hsi.tif").write_text("precious")
        ended = run(*asked(scenes, "-q"))
        assert ended.code == 1
        assert ended.err == ""
        _, *rows, last = (line.strip() for line in ended.out.splitlines())
        assert [rows[n].split()[0] for n in (0, 1, 3)] == ["done", "failed", "failed"]
        assert rows[2].startswith(f"'{scenes[1]}' cannot be opened as a raster")
        assert "east_hsi.tif' exists" in rows[4]
        assert last == "1 done, 0 skipped, 2 failed"

    def test_resume_does_what_is_left(self, run, scenes):
        assert run(*asked(scenes[:1], "-q")).code == 0
        before = open_cube(scenes[0].parent / "cubes" / "north_hsi.tif").values
        ended = run(*asked(scenes, "-q", "--resume"))
        assert ended.code == 0
        lines = ended.out.splitlines()
        assert [line.split()[0] for line in lines[1:-1]] == ["skipped", "done", "done"]
        assert lines[1].split()[3:] == ["-", "-", "-"]
        assert lines[-1] == "2 done, 1 skipped, 0 failed"
        after = open_cube(scenes[0].parent / "cubes" / "north_hsi.tif").values
        np.testing.assert_array_equal(after, before)

    def test_uncertainty_lies_beside_each_cube(self, run, scenes):
        ended = run(*asked(scenes[:2], "-q", "--uncertainty", "--format", "zarr"))
        assert ended.code == 0
        names = {f"{stem}_hsi{end}.zarr" for stem in ("north", "south") for end in ("", "_sd")}
        assert cubes(scenes) == names
        folder = scenes[0].parent / "cubes"
        assert open_cube(folder / "north_hsi_sd.zarr").name == "deviation"
        assert (
            run(*asked(scenes[:2], "-q", "--uncertainty", "--format", "zarr", "--resume")).code == 0
        )
        shutil.rmtree(folder / "south_hsi_sd.zarr")
        ended = run(*asked(scenes[:2], "-q", "--uncertainty", "--format", "zarr", "--resume"))
        lines = ended.out.splitlines()
        assert [line.split()[0] for line in lines[1:3]] == ["skipped", "failed"]

    def test_cubes_lie_beside_their_scenes_in_the_format_asked_for(self, run, scenes):
        one = scenes[0]
        ended = run("batch", one, "--format", "bsq", "--method", "library", "--dtype", "uint16")
        assert ended.code == 0
        assert open_cube(one.with_name("north_hsi.bsq")).shape == (61, 40, 50)
        assert ended.out.splitlines()[1].split()[3:5] == ["0", "-"]


class TestJson:
    def test_one_object_with_the_promised_keys(self, run, scenes):
        scenes[1].unlink()
        ended = run(*asked(scenes, "--json"))
        assert ended.code == 1
        told = one_object(ended.out)
        assert told.keys() == {"scenes", "done", "skipped", "failed"}
        assert (told["done"], told["skipped"], told["failed"]) == (2, 0, 1)
        north, south, _ = told["scenes"]
        keys = {"scene", "output", "status", "error", "seconds"}
        assert south.keys() == keys
        assert "does not exist" in south["error"]
        assert north.keys() == keys | {"summary"}
        assert north["error"] is None
        alone = one_object(run("reconstruct", scenes[0], "--method", "library", "-q", "--json").out)
        assert north["summary"].keys() == alone.keys()
        assert north["summary"]["output"] == north["output"]

    def test_progress_on_stderr_names_the_scene(self, run, scenes):
        ended = run(*asked(scenes[:2], "--json"))
        one_object(ended.out)
        lines = ended.err.splitlines()
        assert any(line.startswith("north: reconstructing: 1/1") for line in lines)
        assert any(line.startswith("south: writing: 1/1") for line in lines)
        assert lines[-1].startswith("scenes: 2/2")


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("north.tif", "sub/../north.tif"), "north.tif' is given twice"),
            (("north.tif", "north.gpkg"), "would both be"),
            (("north.tif", "-o", "none"), "there is no folder 'none'"),
            (("north.tif", "--at-a-time", "2"), "on threads 1 is expected"),
            (("north.tif", "--overlap", "128"), "overlap 128 must be smaller"),
            (("north.tif", "--scheduler", "none.json"), "none.json' cannot be used"),
        ],
    )
    def test_what_cannot_start_is_one_line(self, run, scenes, arguments, told, monkeypatch):
        monkeypatch.chdir(scenes[0].parent)
        ended = run("batch", *arguments, "-q")
        assert ended.code == 1
        assert ended.out == ""
        assert ended.err.startswith("Error: ")
        assert ended.err.count("\n") == 1
        assert told in ended.err

    @pytest.mark.parametrize(
        "arguments", [(), ("a.tif", "--format", "png"), ("a.tif", "--quicklook", "a.png")]
    )
    def test_wrong_usage_exits_with_2(self, run, arguments):
        ended = run("batch", *arguments)
        assert ended.code == 2
        assert "Usage" in ended.err


def test_an_interrupt_lists_what_is_done_and_says_what_is_kept(run, scenes, monkeypatch):
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    left, original = 6, FittedModel.block

    def block(*arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(FittedModel, "block", block)
    ended = run(*asked(scenes, "-q"))
    assert ended.code == 130
    assert ended.out.splitlines()[1].split()[:2] == ["done", str(scenes[0])]
    assert ended.out.splitlines()[2:] == ["1 done, 0 skipped, 0 failed, 2 not finished"]
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("Interrupted: what is done is kept in")
    assert ".south_hsi.tif.part" in line
    assert cubes(scenes) == {"north_hsi.tif", ".south_hsi.tif.part"}


PROCESS = """
import sys, time
from pixelssr_geo import reconstruction
reconstruction.BLOCK = reconstruction.CHUNK = 32
original = reconstruction._run_on_cluster

def noting(work, blocks, note, *rest):
    def slow(*arguments):
        note(*arguments)
        time.sleep(1)
    original(work, blocks, slow, *rest)

reconstruction._run_on_cluster = noting
from pixelssr_geo.cli.main import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""


@pytest.mark.long
def test_an_interrupt_stops_scenes_on_a_cluster(scenes, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(PROCESS)
    words = map(str, asked(scenes, "--workers", "1", "--json", "-q"))
    process = subprocess.Popen(
        [sys.executable, script, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ledger = tmp_path / "cubes" / ".north_hsi.tif.part" / "blocks.jsonl"
    # A line says what the run is of, and each further one that a block is done.
    while process.poll() is None and not (ledger.exists() and ledger.read_text().count("\n") > 1):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert one_object(out) == {"scenes": [], "done": 0, "skipped": 0, "failed": 0}
    (line,) = err.strip().splitlines()
    assert line.startswith("Interrupted: what is done is kept in")
    assert ".north_hsi.tif.part" in cubes(scenes)
    assert {name for name in cubes(scenes) if name not in line} == set()


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from pixelssr_geo.cli.main import main\n"
        "try: main(['batch', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print({'torch', 'distributed', 'geopandas', 'rasterio'} & {*sys.modules})\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"


class TestDisplay:
    def test_bars_of_a_scene_go_when_it_is_over(self):
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(file=io.StringIO())) as bars:
            display = options._TerminalBars(bars)
            display("scenes", 0, 2)
            display("north: training", 3, 50)  # which may end early
            display("northwest: training", 1, 50)
            display.forget("north: ")
            assert [task.description for task in bars.tasks] == ["scenes", "northwest: training"]
            display("north: training", 1, 50)
            assert bars.tasks[-1].completed == 1

    def test_forgotten_lines_start_a_new_clock(self, capsys, monkeypatch):
        display, now = options._PlainLines(), [0.0]
        monkeypatch.setattr(options.time, "monotonic", lambda: now[0])
        display("north: writing", 0, 2)
        display.forget("north: ")
        now[0] = 100.0
        display("north: writing", 0, 2)
        display("north: writing", 2, 2)
        assert capsys.readouterr().err == "north: writing: 2/2, 0 s\n"


def test_the_parameters_of_the_library_are_options_of_the_command(run):
    import inspect

    from pixelssr_geo.cli.batch import batch as command

    known = {option.name for option in command.params}
    asked = set(inspect.signature(batch.run_batch).parameters)
    assert asked - known == {"items", "settings", "progress", "on_outcome"}
    from pixelssr_geo.cli.reconstruct import reconstruct

    single = {option.name for option in reconstruct.params}
    assert single - known == {"scene", "quicklook"}
