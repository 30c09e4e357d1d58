"""Claims about what tells one run from another."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem

from pixelssr_geo.errors import SceneReadError
from pixelssr_geo.identity import run_identity
from pixelssr_geo.scene import open_scene, pixel_grid, scene_response
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.testing import make_cube, make_scene
from pixelssr_geo.writers import write_scene, write_zarr

URL = "memory://me:secret@host/scene.zarr"


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


CHANNELS = ChannelGrid.from_spec("450:900:50")


def identity_of(scene: xr.DataArray, **options: str) -> dict[str, str]:
    settings = Settings.of(method="library", **options)
    identity = run_identity(scene, None, scene_response(scene), settings, CHANNELS)
    assert "secret" not in str(identity)
    return identity


def told(scene: xr.DataArray) -> str:
    """What the identity of a run says about its scene's files."""
    return identity_of(scene)["scene"]


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
    assert identity_of(scene) == identity_of(scene)
    assert identity_of(scene) != identity_of(make_scene(seed=1).assign_attrs(source=source))


def test_a_scene_without_a_source_is_told_by_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scene = make_scene()
    del scene.attrs["source"]
    first = identity_of(scene)
    (tmp_path / "new").touch()  # which changes the folder
    assert identity_of(scene) == first
    assert identity_of((scene + np.float32(1)).assign_attrs(scene.attrs)) != first


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    scene = make_scene(shape=(20, 16))
    path = tmp_path / "scene.tif"
    write_scene(path, [(0, 0, scene.values)], pixel_grid(scene), get_sensor("GF6-PMS"))
    return path


def test_a_scene_that_is_opened_or_changed_in_another_way_is_another(scene_file: Path) -> None:
    def opened(**options: object) -> xr.DataArray:
        return open_scene(scene_file, sensor="GF6-PMS", **options)  # type: ignore[arg-type]

    scene = opened()
    assert identity_of(scene) == identity_of(opened())
    moved = scene.rio.write_transform(scene.rio.transform() * type(scene.rio.transform()).scale(2))
    others = [
        opened(scale=0.5),
        scene.isel(x=slice(0, 8)),
        scene.isel(x=slice(8, 16)),
        scene.clip(0, 0.1, keep_attrs=True),
        scene.load().copy(data=scene.values * 2),
        moved.drop_vars(["x", "y"]),
        scene.rio.write_crs("EPSG:32634"),
    ]
    identities = [str(identity_of(one)) for one in [scene, *others]]
    assert len(set(identities)) == len(identities)


def test_a_changed_chunk_of_a_store_on_disk_is_seen(tmp_path: Path) -> None:
    store = tmp_path / "scene.zarr"
    write_zarr(make_cube((20, 16), wavelengths="450:850:100"), store, chunk=8)
    first = told(open_scene(store))
    chunk = next(path for path in store.rglob("*") if path.is_file() and "/c/" in str(path))
    chunk.write_bytes(chunk.read_bytes())
    assert told(open_scene(store)) != first


def test_a_changed_source_of_a_virtual_raster_is_seen(scene_file: Path, tmp_path: Path) -> None:
    source = rasterio.open(scene_file)
    bands = "".join(
        f'''<VRTRasterBand dataType="Float32" band="{band}"><SimpleSource>
        <SourceFilename relativeToVRT="1">scene.tif</SourceFilename><SourceBand>{band}</SourceBand>
        </SimpleSource></VRTRasterBand>'''
        for band in range(1, 5)
    )
    virtual = tmp_path / "scene.vrt"
    size = f'rasterXSize="{source.width}" rasterYSize="{source.height}"'
    virtual.write_text(f"<VRTDataset {size}>{bands}</VRTDataset>")
    first = told(open_scene(virtual, sensor="GF6-PMS"))
    os.utime(scene_file, ns=(1, 1))
    assert told(open_scene(virtual, sensor="GF6-PMS")) != first
