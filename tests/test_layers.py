"""Who may import whom, as pyproject.toml says it."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_imports_keep_to_the_layers() -> None:
    beside = Path(sys.executable).with_name("lint-imports")
    program = str(beside) if beside.exists() else shutil.which("lint-imports")
    if program is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [program, "--config", "pyproject.toml", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


BLOCKING = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name in NAMES:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Block())
"""

WITH_LITTLE = """
import torch
from pixelssr_geo import create_net
import pixelssr_geo.estimator, pixelssr_geo.losses, pixelssr_geo.prior
import pixelssr_geo.training.correction, pixelssr_geo.training.pixel
print(create_net("dypro-mamba", bands=3, channels=4, width=8)(torch.zeros(1, 3, 4, 4)).shape)
"""


def run_without(names: set[str], program: str) -> subprocess.CompletedProcess[str]:
    """Run a program where some packages cannot be imported."""
    text = f"NAMES = {names!r}\n{BLOCKING}\n{program}"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


def test_networks_and_training_run_where_there_is_torch_and_numpy_alone() -> None:
    needed = [one for one in requires("pixelssr-geo") or () if "extra ==" not in one]
    names = {re.split(r"[\[<>=]", one)[0].replace("-", "_") for one in needed}
    others = names - {"torch", "numpy"}
    assert {"xarray", "dask", "rasterio", "pydantic"} <= others
    ran = run_without(others, WITH_LITTLE)
    assert ran.stdout.strip() == "torch.Size([1, 4, 4, 4])", ran.stderr


WITHOUT_TORCH = """
from pixelssr_geo import reconstruct
from pixelssr_geo.testing import make_points, make_scene

shape = (40, 30)
for method in ("product", "estimator", "ridge", "library"):
    points = None if method == "library" else make_points(12, shape)
    reconstruct(make_scene(shape=shape), points, method=method).compute()
print("done")
"""


def test_what_needs_no_network_loads_no_torch() -> None:
    """It takes seconds and, in every worker, 180 MB."""
    ran = run_without({"torch"}, WITHOUT_TORCH)
    assert ran.stdout.strip() == "done", ran.stderr
