from pathlib import Path

import pytest

from pixelssr_geo.testing import write_arad_scene, write_cave_scene


@pytest.fixture
def arad(tmp_path: Path) -> Path:
    """ARAD-1K with scenes to learn from, one to validate and one to test, which has no cube."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    root = tmp_path / "ARAD_1K"
    for number in (1, 2, 900):
        write_arad_scene(root, f"ARAD_1K_{number:04d}", seed=number)
    write_arad_scene(root, "ARAD_1K_0901", part="Valid", seed=901)
    write_arad_scene(root, "ARAD_1K_0951", part="Test", seed=951, cube=False)
    return root


@pytest.fixture
def cave(tmp_path: Path) -> Path:
    """Three scenes of CAVE."""
    root = tmp_path / "complete_ms_data"
    for seed, name in enumerate(("balloons", "beads", "fake_and_real_food")):
        write_cave_scene(root, name, seed=seed)
    return root
