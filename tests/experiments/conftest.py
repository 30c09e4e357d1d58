"""A scene small enough to run every method on."""

from pathlib import Path

import pytest

from pixelssr_geo.experiments.scenes import SceneSource
from pixelssr_geo.testing import make_cube
from pixelssr_geo.writers import write_cog

HOLE = (slice(2, 6), slice(30, 37))
"""Rows and columns without data."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SceneSource:
    """A cube of 40 x 50 pixels with a hole, seen by GF-6 PMS."""
    path = Path(tmp_path_factory.mktemp("tiny")) / "tiny.tif"
    write_cog(make_cube(nodata_hole=HOLE), path)
    return SceneSource("tiny", path, sensor="GF6-PMS")
