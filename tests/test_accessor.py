import numpy as np
import pytest
import rasterio
import xarray as xr

import pixelssr_geo
from pixelssr_geo.errors import SettingsError
from pixelssr_geo.scene import open_cube, open_scene, pixel_grid
from pixelssr_geo.testing import make_cube, make_points, make_scene

SMALL = {"method": "library"}


def watched(scene):
    """The scene as a lazy array, and a list that grows with every chunk computed."""
    lazy = scene.chunk(y=20, x=25)
    computed = []
    data = lazy.data.map_blocks(
        lambda block: computed.append(block.shape) or block, dtype="f4", meta=lazy.data._meta
    )
    return lazy.copy(data=data), computed


class TestReconstruct:
    def test_a_lazy_scene_gives_a_lazy_cube(self):
        scene, computed = watched(make_scene())
        cube = scene.pixelssr.reconstruct(**SMALL)
        fit_reads = len(computed)
        assert cube.dims == ("wavelength", "y", "x")
        assert cube.shape == (61, 40, 50)
        assert cube.dtype == np.float32
        assert cube.chunks is not None
        assert cube.isel(y=slice(0, 4)).chunks is not None
        assert len(computed) == fit_reads  # neither the call's end nor a selection reads
        assert np.isfinite(cube.values).all()
        assert len(computed) > fit_reads

    def test_the_cube_has_the_scenes_grid_and_says_where_it_came_from(self):
        scene = make_scene()
        cube = scene.pixelssr.reconstruct(make_points(), method="ridge")
        assert pixel_grid(cube) == pixel_grid(scene)
        assert cube.attrs["method"] == "ridge"
        assert cube.attrs["points_used"] == "12"
        assert {"config_hash", "software", "scene"} <= set(cube.attrs)
        np.testing.assert_array_equal(cube["x"], scene["x"])

    def test_with_points_the_cube_is_near_the_truth(self):
        cube = make_scene().pixelssr.reconstruct(make_points(), method="ridge")
        error = np.sqrt(((cube.values - make_cube().values) ** 2).mean())
        assert error < 0.003

    def test_lazy_and_eager_scenes_give_the_same_cube(self):
        eager = make_scene(nodata_hole=(slice(3, 6), slice(4, 9)))
        lazy, _ = watched(eager)
        np.testing.assert_array_equal(
            lazy.pixelssr.reconstruct(**SMALL).values, eager.pixelssr.reconstruct(**SMALL).values
        )

    def test_nodata_stays_nodata_and_nothing_else_becomes_it(self):
        scene = make_scene(nodata_hole=(slice(3, 6), slice(4, 9)))
        scene.values[2, 20, 30] = np.nan
        scene.values[1, 21, 30] = np.inf
        cube = scene.pixelssr.reconstruct(**SMALL)
        missing = ~np.isfinite(scene.values).all(0)
        np.testing.assert_array_equal(np.isnan(cube.values), np.stack([missing] * 61))

    @pytest.mark.parametrize("shape", [(1, 50), (40, 1), (1, 1), (3, 2)])
    def test_scenes_smaller_than_anything(self, shape):
        cube = make_scene(shape=shape).pixelssr.reconstruct(**SMALL)
        assert cube.shape == (61, *shape)
        assert np.isfinite(cube.values).all()

    def test_a_rotated_scene_keeps_its_grid(self, tmp_path):
        transform = rasterio.Affine(7, 2, 390_000, 3, -6, 5_810_000)
        values = make_scene().values
        profile = {"count": 4, "height": 40, "width": 50, "dtype": "float32", "crs": 32633}
        path = tmp_path / "rotated.tif"
        with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as dataset:
            dataset.write(values)
        scene = open_scene(path, sensor="GF-6 PMS")
        cube = scene.pixelssr.reconstruct(**SMALL)
        cube.pixelssr.to_cog(tmp_path / "cube.tif")
        assert pixel_grid(open_cube(tmp_path / "cube.tif")).transform == tuple(transform)[:6]

    def test_an_unknown_option_is_refused(self):
        with pytest.raises(SettingsError, match="option 'colour'"):
            make_scene().pixelssr.reconstruct(colour="red")


def test_pair_is_pair_points():
    scene, points = make_scene(), make_points()
    ours, theirs = scene.pixelssr.pair(points), pixelssr_geo.pair_points(scene, points)
    np.testing.assert_array_equal(ours.labels.spectra, theirs.labels.spectra)


@pytest.mark.parametrize("name", ["cog", "zarr"])
def test_a_lazy_cube_is_written(tmp_path, name):
    cube = make_cube().chunk(y=20, x=25)
    path = tmp_path / {"cog": "cube.tif", "zarr": "cube.zarr"}[name]
    assert getattr(cube.pixelssr, f"to_{name}")(path) == path
    np.testing.assert_array_equal(open_cube(path).values, cube.values)


class TestPictures:
    def test_colours_need_three_channels_only(self):
        cube = make_cube().chunk(wavelength=1)
        computed = []
        data = cube.data.map_blocks(
            lambda block: computed.append(1) or block, dtype="f4", meta=cube.data._meta
        )
        picture = cube.copy(data=data).pixelssr.rgb()
        assert len(computed) == 3
        assert picture.dims == ("y", "x", "rgb")
        assert picture.shape == (40, 50, 3)
        assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
        assert isinstance(picture, xr.DataArray)

    def test_a_scene_has_colours_too(self):
        assert make_scene().pixelssr.rgb().shape == (40, 50, 3)

    def test_spectra_are_plotted(self):
        axes = make_cube().pixelssr.plot_spectra([3, 5], [4, 9], labels=["grass", "soil"])
        assert len(axes.lines) == 2
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["grass", "soil"]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), make_cube().values[:, 3, 4])
        assert axes.get_xlabel() == "wavelength (nm)"
