"""The command that measures seams: what it counts, that it runs, and that its table is documented."""

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "benchmarks" / "seams.py"
RESULTS = SCRIPT.parent / "results" / "seams.csv"


@pytest.fixture(scope="module")
def seams():
    spec = importlib.util.spec_from_file_location("seams", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("overlap", [0, 16, 48])
def test_pixels_on_either_side_of_a_tile_s_border_are_at_distance_zero(seams, overlap):
    plan = seams.Plan()
    for lattice in seams.lattices(plan, overlap):
        down, across = lattice.distances(plan.window)
        for gaps, starts, moved, first in (
            (down, lattice.plan.row_starts, lattice.row, plan.window.row),
            (across, lattice.plan.col_starts, lattice.col, plan.window.col),
        ):
            for start in starts:
                for border in (start + moved - first, start + moved + seams.TILE - first):
                    if 0 < border < len(gaps):
                        assert gaps[border - 1] == gaps[border] == 0
            assert gaps.max() <= seams.TILE // 2 - 1


def test_an_edge_at_the_borders_of_one_lattice_is_found_there_and_nowhere_else(seams):
    plan = seams.Plan()
    placed = seams.lattices(plan, 0)[:2]
    smooth = np.zeros((1, *plan.window.shape), "f4")
    rows, _ = np.indices(plan.window.shape) + plan.window.row - placed[0].row
    # Every other row of tiles of the first lattice is brighter.
    striped = smooth + 0.1 * (rows // seams.TILE % 2)
    gathered = seams.Differences(plan.window)
    gathered.add((striped.astype("f4"), smooth), placed)
    found = gathered.figures()
    # Within the window the first lattice has one border along rows and one along columns, the
    # second two of each, and the edge lies at one of these six.
    assert found["step"] == pytest.approx(0.1 / np.sqrt(6), rel=1e-4)
    assert found["percentile"] == pytest.approx(0.1)


@pytest.mark.long
def test_a_dry_run_comes_to_its_end_and_a_lattice_without_overlap_shows(tmp_path):
    out = tmp_path / "seams.csv"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--scenes", "landscape", "--out", out],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["table"] for row in rows} == {"seams", "depth", "reach", "cost"}
    values = {
        (row["case"], row["at"]): float(row["value"])
        for row in rows
        if (row["table"], row["figure"]) == ("seams", "borders")
    }
    assert all(np.isfinite(float(row["value"])) for row in rows)
    for case in ("dypro", "paper", "paper, as used"):
        assert values[case, "0"] > 10 * values[case, "32"] > 0
    assert values["paper, draw", "0"] < values["paper", "0"]


def test_the_table_of_seams_is_what_the_command_prints():
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--table", RESULTS],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    page = ROOT / "docs" / "pages" / "benchmarks.md"
    if not page.is_file():
        pytest.skip("the tests run beside an installed package")
    found = page.read_text().partition("<!-- seams -->")[2].partition("<!-- end -->")[0]
    assert found.strip() == ran.stdout.strip()
