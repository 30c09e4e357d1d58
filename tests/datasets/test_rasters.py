import numpy as np
import pytest
import rasterio

from pixelssr_geo.datasets import open_rasters
from pixelssr_geo.errors import (
    MissingWavelengthsError,
    SceneError,
    SceneReadError,
    SettingsError,
)
from pixelssr_geo.scene import open_cube, pixel_grid
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.testing import make_cube, make_scene
from pixelssr_geo.tiling.plan import Window
from pixelssr_geo.writers import write_cog, write_zarr


def write_plain(path, values, crop=0):
    """A GeoTIFF that says nothing of its bands, stored x 10000."""
    stored = (1e4 * values[:, :, crop:]).round().astype("u2")
    count, height, width = stored.shape
    grid = pixel_grid(make_cube())
    transform = grid.affine @ rasterio.Affine.translation(crop, 0)
    profile = {"count": count, "height": height, "width": width, "dtype": "uint16"}
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", crs=grid.crs_wkt, transform=transform, **profile
    ) as dataset:
        dataset.write(stored)


@pytest.fixture
def pairs(tmp_path):
    for seed, name in enumerate(("north", "south")):
        write_plain(tmp_path / f"{name}_msi.tif", make_scene(seed=seed).values)
        write_cog(make_cube(seed=seed), tmp_path / f"{name}_HSI.tif")
    return tmp_path


OPTIONS = {"sensor": "GF-6 PMS", "scale": 1e-4}


def test_pairs_are_lazy_and_on_one_grid(pairs):
    dataset = open_rasters(pairs, **OPTIONS)
    assert dataset.names == ("north", "south")
    pair = dataset.load("south")
    assert pair.scene.chunks is not None
    assert pair.cube.chunks is not None
    assert pair.response.names == ("Blue", "Green", "Red", "NIR")
    np.testing.assert_allclose(pair.scene.values, make_scene(seed=1).values, atol=1e-4)
    np.testing.assert_allclose(pair.cube.values, make_cube(seed=1).values, atol=1e-6)
    assert len(pair.channels) == 61


def test_a_window_alone_is_read(pairs):
    part = open_rasters(pairs, **OPTIONS).load("north").crop(Window(3, 5, 8, 9))
    assert part.shape == (8, 9)
    assert part.scene.chunks is None
    np.testing.assert_allclose(part.cube.values, make_cube().values[:, 3:11, 5:14], atol=1e-6)


def test_each_pair_may_have_a_folder(tmp_path):
    write_plain(tmp_path / "scene_1" / "msi.tif", make_scene().values)
    write_cog(make_cube(), tmp_path / "scene_1" / "hsi.tif")
    assert open_rasters(tmp_path, **OPTIONS).names == ("scene_1",)


def test_wavelengths_and_scale_can_be_told(tmp_path):
    write_plain(tmp_path / "a-msi.tif", make_scene().values)
    write_plain(tmp_path / "a-hsi.tif", make_cube().values)
    with pytest.raises(MissingWavelengthsError):
        open_rasters(tmp_path, **OPTIONS).load("a")
    told = {"wavelengths": "400:1000:10", "cube_scale": 1e-4}
    pair = open_rasters(tmp_path, **OPTIONS, **told).load("a")
    np.testing.assert_allclose(pair.cube.values, make_cube().values, atol=1e-4)
    np.testing.assert_array_equal(pair.channels.centres_nm, np.arange(400, 1001, 10))
    with pytest.raises(SceneError, match="has 61 bands, 31 channels are given"):
        open_rasters(tmp_path, **OPTIONS, wavelengths="400:700:10", cube_scale=1e-4).load("a")


def test_a_zarr_store_states_its_own_channels_and_scale(tmp_path):
    write_zarr(make_cube(), tmp_path / "cube.zarr")
    for told in ({"scale": 1e-4}, {"channels": ChannelGrid.from_spec("400:1000:10")}):
        with pytest.raises(SceneError, match="states its own"):
            open_cube(tmp_path / "cube.zarr", **told)


def test_channels_come_in_ascending_order(tmp_path):
    write_plain(tmp_path / "msi.tif", make_scene().values)
    write_cog(make_cube(), tmp_path / "hsi.tif")
    listed = ",".join(map(str, range(400, 1001, 10)))
    pair = open_rasters(tmp_path, **OPTIONS, wavelengths=listed).load(tmp_path.name)
    assert np.all(np.diff(pair.cube["wavelength"].values) > 0)


def test_without_a_sensor_the_cure_is_told(pairs):
    with pytest.raises(MissingWavelengthsError, match="sensor"):
        open_rasters(pairs, scale=1e-4).load("north")


@pytest.mark.parametrize("crop", [1, 3])
def test_pairs_of_other_sizes_are_refused(pairs, crop):
    write_plain(pairs / "north_msi.tif", make_scene().values, crop)
    with pytest.raises(SceneError, match=f"40 x {50 - crop} pixels, its cube 40 x 50"):
        open_rasters(pairs, **OPTIONS).load("north")


def test_pairs_of_other_places_are_refused(pairs):
    write_plain(pairs / "north_msi.tif", make_scene(shape=(40, 53)).values, 3)
    with pytest.raises(SceneError, match=r"3\.0 pixels apart"):
        open_rasters(pairs, **OPTIONS).load("north")


def test_of_a_raster_without_a_place_the_size_is_compared(pairs):
    write_cog(make_cube(crs=None), pairs / "north_HSI.tif", overwrite=True)
    assert open_rasters(pairs, **OPTIONS).load("north").shape == (40, 50)


def test_a_raster_without_its_other_half_is_refused(pairs):
    (pairs / "south_HSI.tif").unlink()
    with pytest.raises(SceneReadError, match=r"south_msi\.tif' has no hsi raster beside it"):
        open_rasters(pairs)


def test_two_pairs_of_one_name_are_refused(pairs):
    (pairs / "more").mkdir()
    write_plain(pairs / "more" / "north_msi.tif", make_scene().values)
    with pytest.raises(SettingsError, match="both called 'north'"):
        open_rasters(pairs)


def test_a_folder_without_pairs_is_refused(tmp_path):
    (tmp_path / "scene.tif").write_bytes(b"")
    with pytest.raises(SceneReadError, match=r"NAME_msi\.tif and NAME_hsi\.tif"):
        open_rasters(tmp_path)
