"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# As the command line does, before torch is imported: see pixelssr_geo.cli.main.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scenes, spectra and response functions, if this machine has it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PIXELSSR_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set PIXELSSR_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def benchmark_data(shared_data: Path) -> Path:
    """The frozen benchmark scenes beside the real data."""
    folder = shared_data.parent / "benchmark"
    if not folder.is_dir():
        pytest.skip(f"benchmark not found at {folder}: set PIXELSSR_DATA to the data beside it")
    return folder
