"""The script that measures on a GPU runs on the CPU, too, with torch and numpy alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"
# Stands in for a machine with torch and numpy alone.
ALONE = """
import runpy, sys
for name in ("xarray", "pandas", "scipy", "dask", "rasterio", "geopandas", "pydantic", "click"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_dry_run_comes_to_its_end_with_torch_and_numpy_alone(tmp_path: Path) -> None:
    out = tmp_path / "figures.jsonl"
    command = [sys.executable, "-c", ALONE, str(SCRIPT), "--dry-run", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2])}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert not [row for row in rows if "failed" in row]
    checks = [row for row in rows if row["section"] == "correctness"]
    assert checks
    assert all(row["ok"] and row["reproducible"] for row in checks)
    estimates = [row for row in rows if row["section"] == "estimator" and "error" in row]
    assert {row["mode"] for row in estimates} == {"float32", "float64"}
    assert all(row["error"] < 1e-5 and row["deviation_error"] < 1e-5 for row in estimates)
    sections = {row["section"] for row in rows}
    assert {"speed", "floor", "scans", "training", "shares", "variants", "others"} <= sections
    assert "best_of" in done.stdout


def test_without_a_device_the_script_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(SCRIPT.parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert "--dry-run" in done.stdout
