"""Intervals against the truth: the script that measures them, and what the docs say of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pixelssr_geo.experiments.scenes import SceneSource

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "benchmarks" / "results" / "intervals.csv"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "tests" / "benchmarks" / "intervals.py"
    spec = importlib.util.spec_from_file_location("intervals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["intervals"] = module
    spec.loader.exec_module(module)
    return module


def test_the_documented_table_is_what_the_command_prints(script: ModuleType) -> None:
    page = ROOT / "docs" / "pages" / "benchmarks.md"
    if not page.is_file():
        pytest.skip("the tests run beside an installed package")
    printed = script.table(script.read(RESULTS))
    assert f"<!-- intervals -->\n{printed}\n<!-- end -->" in page.read_text()


@pytest.mark.parametrize("scene", ["jasper", "potsdam"])
def test_intervals_of_spread_points_hold_the_truth_as_often_as_they_say(
    script: ModuleType, benchmark_data: Path, scene: str
) -> None:
    source = SceneSource(
        scene,
        benchmark_data / scene / "reference.tif",
        benchmark_data / "gf6_pms_response.csv",
        frozen=True,
    )
    found = script.run(source, "random", "1%", 0)
    assert 0.60 <= float(found["c68"]) <= 0.80
    assert 0.90 <= float(found["c95"]) <= 0.98


def test_rows_of_one_kind_become_one_line(script: ModuleType) -> None:
    row = {"scene": "a", "protocol": "block", "points": "2", "labels": "2", "c95": "0.9"}
    rows = [
        row | {"seed": "0", "c68": "0.5", "error": "0.01", "told": ""},
        row | {"seed": "1", "c68": "0.7", "error": "0.03", "told": "0.02"},
    ]
    line = script.table(rows).splitlines()[-1]
    cells = [
        "block",
        "a",
        "2",
        "0.60 (0.50 to 0.70)",
        "0.90 (0.90 to 0.90)",
        "20.0 (10.0 to 30.0)",
        "",
    ]
    assert [cell.strip() for cell in line.strip("|").split("|")] == cells
