"""The commands that measure whole runs: each comes to its end on a tiny scene, and counts right."""

import csv
import importlib
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the tests run beside an installed package", allow_module_level=True)

# Takes memory, and starts a process that takes as much again, as Dask starts workers.
PARENT = """
import multiprocessing, time
def hold():
    block = bytearray(100 * 2**20)
    block[::4096] = bytes(len(block[::4096])).replace(b"\\0", b"x")
    time.sleep(2)
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=hold)
    child.start()
    hold()
    child.join()
    print("done")
"""


@pytest.fixture(scope="module")
def benchmarks():
    """Imports a benchmark by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module


def printed(script: str, *arguments: object) -> str:
    command = [sys.executable, BENCHMARKS / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- The scene ---------------------------------------------------------------------------------


def test_scenes_of_two_sizes_agree_where_they_overlap_but_for_the_noise(benchmarks, tmp_path):
    synthetic = benchmarks("synthetic")
    with np.errstate(all="raise"):
        for size in (100, 600):
            synthetic.write_scene(tmp_path / f"{size}.tif", size)
    with (
        rasterio.open(tmp_path / "100.tif") as small,
        rasterio.open(tmp_path / "600.tif") as large,
    ):
        assert small.dtypes == ("uint16",) * 4
        assert large.block_shapes == [(512, 512)] * 4
        assert small.crs.to_epsg() == 32633
        first = small.read().astype("f8")
        second = large.read(window=rasterio.windows.Window(0, 0, 100, 100)).astype("f8")
    assert np.abs(first - second).mean() < 3 * synthetic.NOISE / synthetic.SCALE
    assert first.std() > 10 * synthetic.NOISE / synthetic.SCALE


def test_points_are_the_spectra_of_the_pixels_under_them(benchmarks, tmp_path):
    synthetic = benchmarks("synthetic")
    from pixelssr_geo.pairing import pair_points
    from pixelssr_geo.points import read_points
    from pixelssr_geo.scene import open_scene, scene_response
    from pixelssr_geo.spectra import ChannelGrid

    path, field = synthetic.write_inputs(tmp_path, 80)
    scene = open_scene(path, sensor=synthetic.SENSOR, scale=synthetic.SCALE)
    channels, response = ChannelGrid.from_spec(synthetic.SPECTRUM), scene_response(scene)
    paired = pair_points(scene, read_points(field), channels=channels, response=response)
    labels = paired.labels
    assert len(labels) == synthetic.POINTS
    assert not paired.dropped
    seen = labels.spectra @ response.matrix(channels).T
    np.testing.assert_allclose(seen, labels.bands, atol=5 * synthetic.NOISE)


# --- Memory ------------------------------------------------------------------------------------


def test_the_memory_of_all_processes_is_added_up_and_shared_pages_count_once(benchmarks, tmp_path):
    memory = benchmarks("memory")
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    watch, said = memory.watched([sys.executable, str(script)])
    assert said == "done\n"
    assert watch.seconds > 2
    highest = watch.highest()
    for role in ("client", "worker"):
        assert 100 < watch.highest_of(role) / memory.MB < 150
    assert 200 < highest.total / memory.MB < 250
    assert highest.total < highest.rss


def test_a_failed_run_ends_the_measurement(benchmarks):
    memory = benchmarks("memory")
    with pytest.raises(SystemExit, match="ended with 3"):
        memory.watched([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_moment_is_put_into_the_stage_that_it_fell_in(benchmarks):
    memory = benchmarks("memory")
    watch = memory.Watch(seconds=10.0)
    seconds = {"fit": 3.0, "reconstruct": 4.0, "write": 1.0}
    stages = [watch.stage(at, seconds) for at in (1.0, 2.5, 6.0, 9.5)]
    assert stages == ["start", "fit", "reconstruct", "write"]


def test_a_dry_run_of_memory_prints_what_its_file_says(tmp_path):
    out, samples = tmp_path / "memory.csv", tmp_path / "samples.csv"
    shown = printed(
        "memory.py", "--sizes", 64, "--workers", 0, "--folder", tmp_path, "--out", out,
        "--samples", samples,
    )  # fmt: skip
    (row,) = read_csv(out)
    assert float(row["client_mb"]) == float(row["pss_mb"]) <= float(row["rss_mb"])
    assert float(row["worker_mb"]) == 0
    assert float(row["gb"]) > 0
    assert {sample["role"] for sample in read_csv(samples)} == {"client"}
    assert {path.name for path in tmp_path.iterdir()} == {"memory.csv", "samples.csv"}
    assert printed("memory.py", "--table", out) == shown


# --- Scaling -----------------------------------------------------------------------------------


def test_a_dry_run_of_scaling_prints_what_its_file_says(tmp_path):
    out = tmp_path / "scaling.csv"
    shown = printed(
        "scaling.py", "--size", 64, "--workers", 0, "--repeat", 1, "--method", "ridge",
        "--folder", tmp_path, "--out", out,
    )  # fmt: skip
    assert "| ridge | 64 | threads | 1 |" in shown
    assert printed("scaling.py", "--table", out) == shown


def test_a_dry_run_of_the_profile_finds_the_functions_and_adds_up_to_all(tmp_path):
    out = tmp_path / "shares.csv"
    shown = printed(
        "scaling.py", "--profile", "--size", 64, "--profile-methods", "ridge",
        "--folder", tmp_path, "--out", out,
    )  # fmt: skip
    (row,) = read_csv(out)
    spent = ("read", "estimator", "projection", "encode", "write")
    assert min(float(row[name]) for name in spent) > 0
    shares = (*spent, "network", "guide", "blend", "rest")
    assert sum(float(row[name]) for name in shares) == pytest.approx(1, abs=1e-3)
    assert printed("scaling.py", "--profile", "--table", out) == shown


def test_the_clock_counts_each_moment_for_the_innermost_function(benchmarks):
    clock = benchmarks("scaling").Clock()

    def spin(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    inner = clock.counted(lambda: spin(0.1), "read", root=False)

    def work() -> None:
        spin(0.05)
        inner()
        inner()

    inner()  # outside of a root nothing counts
    assert clock.seconds["read"] == 0
    clock.counted(work, "rest", root=True)()
    assert clock.seconds["read"] == pytest.approx(0.2, abs=0.03)
    assert clock.seconds["rest"] == pytest.approx(0.05, abs=0.03)


def test_a_dry_run_of_the_estimator_s_speed_prints_a_row_for_each_number_of_points():
    asked = ("--points", 3, 20, "--pixels", 512, "--repeat", 1)
    rows = [line for line in printed("estimator_speed.py", *asked).splitlines() if line[:1] == "|"]
    cells = [[float(cell) for cell in row.strip("| ").split("|")] for row in rows[2:]]
    assert [points for points, *_ in cells] == [3, 20]
    for _, _, mean, both in cells:
        assert mean > 0
        assert both > 0


# --- Capacity ----------------------------------------------------------------------------------


def some_rates(capacity: ModuleType):
    methods = {
        "ridge": capacity.MethodRates(fit_s=1.0, start_s=4.0, work_s=2.0, tile_s=0.0),
        "paper": capacity.MethodRates(fit_s=2.0, start_s=6.0, work_s=1.5, tile_s=0.25),
    }
    return capacity.Rates(
        cpu="some CPU",
        methods=methods,
        python_s=2.0,
        pass_s=0.1,
        block_s=0.005,
        assembly_s=3.0,
        bytes_px=64.0,
        storage_mb_s=1000.0,
        checks=(capacity.Check("ridge", 2000, 2, 12.0),),
    )


@settings(deadline=None)
@given(
    rows=st.integers(1, 20_000),
    cols=st.integers(1, 20_000),
    workers=st.integers(1, 200),
    method=st.sampled_from(["ridge", "paper"]),
)
def test_more_workers_never_take_longer_and_never_less_than_their_share(
    benchmarks, rows, cols, workers, method
):
    capacity = benchmarks("capacity")
    rates, job = some_rates(capacity), capacity.Job("", rows, cols)
    alone = capacity.predict(rates, job, method, 1)
    several = capacity.predict(rates, job, method, workers)
    assert several.wall_s <= alone.wall_s * (1 + 1e-9)
    assert several.compute_s >= alone.compute_s / workers * (1 - 1e-9)
    assert several.wall_s > several.ahead_s
    assert several.ahead_s == alone.ahead_s


@settings(deadline=None)
@given(size=st.integers(1, 4000))
def test_tiles_are_counted_in_every_block_that_they_touch(benchmarks, size):
    capacity = benchmarks("capacity")
    from pixelssr_geo.tiling.plan import plan_tiles

    plan = plan_tiles((size, 300), block=capacity.BLOCK)
    counted = sum(len(plan.tiles_of(block)) for block in plan.blocks)
    assert capacity.tiles_along(size) * capacity.tiles_along(300) == counted
    assert capacity.blocks_along(size) * capacity.blocks_along(300) == len(plan.blocks)


def test_the_limits_that_do_not_scale_are_named(benchmarks):
    capacity = benchmarks("capacity")
    rates, job = some_rates(capacity), capacity.Job("", 60_000, 60_000)
    assert capacity.predict(rates, job, "ridge", 1).limit == "workers"
    cases = {"scheduler": replace(rates, block_s=9.0), "fit": replace(rates, pass_s=9.0)}
    cases["storage"] = replace(rates, storage_mb_s=1.0)
    for name, slow in cases.items():
        found = capacity.predict(slow, job, "ridge", 10_000)
        assert found.limit == name
        assert found.wall_s > capacity.predict(rates, job, "ridge", 10_000).wall_s


def test_the_tables_of_a_file_need_no_measuring(benchmarks, tmp_path):
    capacity = benchmarks("capacity")
    rates, path = some_rates(capacity), tmp_path / "rates.json"
    rates.write(path)
    assert capacity.Rates.read(path) == rates
    shown = printed("capacity.py", "--table", path, "--workers", 1, 100, "--price", 0.1)
    rows = [line for line in shown.splitlines() if line.startswith("| Germany, 10 m | paper")]
    assert [row.split(" | ")[2] for row in rows] == ["1", "100"]
    assert "| ridge | 2000 | 2 |" in shown
    faster = printed("capacity.py", "--table", path, "--tile-seconds", 0.001)
    assert "| paper | 2.0 | 6.0 | 1.50 | 0.001 |" in faster
    assert "measured s" not in faster


def test_the_documented_predictions_are_what_the_command_prints():
    shown = printed("capacity.py", "--table", BENCHMARKS / "results" / "capacity.json")
    page = (ROOT / "docs" / "pages" / "capacity.md").read_text()
    assert f"<!-- capacity -->\n{shown.strip()}\n<!-- end -->" in page


def test_a_dry_run_of_capacity_measures_every_rate(benchmarks, tmp_path, monkeypatch):
    capacity = benchmarks("capacity")
    monkeypatch.setattr(capacity, "METHODS", ("ridge",))
    monkeypatch.setattr(capacity, "CHECKED", ("ridge",))
    stages = {"wall_s": 9.0, "total_s": 7.0, "fit_s": 1.0, "reconstruct_s": 5.0, "write_s": 0.0}
    monkeypatch.setattr(capacity, "run", lambda *_, **__: stages)
    tiny = capacity.Sizes(64, 64, 4, 1, 64, 64)
    rates = capacity.measure(tiny, tmp_path)
    assert rates.python_s == 2
    assert [check.workers for check in rates.checks] == [1, 2]
    found = [rates.pass_s, rates.block_s, rates.assembly_s, rates.bytes_px, rates.storage_mb_s]
    assert all(0 < value < math.inf for value in found)
    assert rates.methods["ridge"].work_s > 0
    assert rates.methods["ridge"].tile_s == 0
