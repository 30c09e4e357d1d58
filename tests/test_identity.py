"""Claims about what tells one run from another."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem

from pixelssr_geo.errors import SceneReadError
from pixelssr_geo.identity import run_identity
from pixelssr_geo.scene import open_scene, scene_response
from pixelssr_geo.settings import Settings
from pixelssr_geo.testing import make_cube, make_scene
from pixelssr_geo.writers import write_zarr

URL = "memory://me:secret@host/scene.zarr"


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


def told(scene: xr.DataArray) -> str:
    """What the identity of a run says about its scene."""
    identity = run_identity(scene, None, scene_response(scene), Settings(method="library"))
    assert "secret" not in str(identity)
    return identity["scene"]


def write(offset: float = 0.0, *, overwrite: bool = False) -> None:
    cube = make_cube((20, 16), wavelengths="450:850:100") + np.float32(offset)
    write_zarr(cube, URL, overwrite=overwrite, chunk=8)


def test_a_store_at_a_url_is_told_by_its_objects(memory: MemoryFileSystem) -> None:
    write()
    first = told(open_scene(URL))
    assert first.startswith("scene.zarr, ")
    assert told(open_scene(f"{URL}/")) == first
    chunk = next(name for name in memory.store if "/c/" in name and "reflectance" in name)
    memory.pipe_file(chunk, memory.cat_file(chunk))  # as old as it is now, whatever its content
    assert told(open_scene(URL)) != first


def test_no_chunk_is_read_for_it(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    scene = open_scene(URL)

    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("an object was read")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    told(scene)


def test_a_store_that_is_gone_is_an_error_without_passwords(memory: MemoryFileSystem) -> None:
    write()
    scene = open_scene(URL)
    scene.encoding["source"] = "nowhere://me:secret@host/scene.zarr"
    with pytest.raises(SceneReadError, match="check the URL, the network") as caught:
        told(scene)
    assert "secret" not in str(caught.value)


def test_a_raster_at_a_url_is_told_by_its_object(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/folder/scene.tif", b"a raster")
    scene = make_scene().assign_attrs(source="memory://folder/scene.tif")
    first = told(scene)
    assert first.startswith("scene.tif, 1 objects")
    assert told(scene) == first
    memory.pipe_file("/folder/scene.tif", b"another")
    assert told(scene) != first


@pytest.mark.parametrize("source", ["nowhere://scene.tif", "memory://me:***@host/scene.zarr"])
def test_what_cannot_be_asked_for_is_told_by_its_array(
    source: str, memory: MemoryFileSystem
) -> None:
    scene = make_scene().assign_attrs(source=source)
    assert told(scene) == told(scene)
    assert told(scene) != told(make_scene(seed=1).assign_attrs(source=source))


def test_a_scene_without_a_source_is_told_by_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scene = make_scene()
    del scene.attrs["source"]
    first = told(scene)
    (tmp_path / "new").touch()  # which changes the folder
    assert told(scene) == first
    assert told(scene + np.float32(1)) != first
