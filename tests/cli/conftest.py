"""Running the command as a user does, and small inputs to run it on."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pixelssr_geo.cli.main import main
from pixelssr_geo.points import write_points
from pixelssr_geo.scene import pixel_grid
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_cube, make_points, make_scene
from pixelssr_geo.writers import write_cog, write_scene


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd, monkeypatch):
    """Run ``pixelssr-geo`` in this process; what reaches the terminal is captured."""

    def run(*arguments):
        capfd.readouterr()
        with monkeypatch.context() as patch:
            # Without pytest's own handlers, so that what libraries log shows as it would.
            patch.setattr(logging.root, "handlers", [])
            with pytest.raises(SystemExit) as end:
                main([str(argument) for argument in arguments])
        told = capfd.readouterr()
        return Ended(end.value.code, told.out, told.err)

    return run


@dataclass(frozen=True)
class Inputs:
    """Files that belong together."""

    scene: Path
    points: Path
    cube: Path


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """The files that every test gets a copy of."""
    folder, scene = tmp_path_factory.mktemp("originals"), make_scene()
    response = get_sensor("GF-6 PMS")
    write_scene(folder / "scene.tif", [(0, 0, scene.values)], pixel_grid(scene), response)
    write_points(make_points(), folder / "field.gpkg")
    write_cog(make_cube(), folder / "cube.tif")
    return folder


@pytest.fixture
def inputs(tmp_path, originals):
    """A scene of 4 bands and 40 x 50 pixels, 12 points, and the true cube."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    return Inputs(tmp_path / "scene.tif", tmp_path / "field.gpkg", tmp_path / "cube.tif")
