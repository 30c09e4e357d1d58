import numpy as np
import pytest

from pixelssr_geo import simulation
from pixelssr_geo.errors import (
    MissingCRSError,
    OutputError,
    ResponseError,
    SceneError,
    SettingsError,
)
from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import read_points
from pixelssr_geo.scene import open_cube, open_scene, pixel_grid
from pixelssr_geo.simulation import simulate, simulate_scene
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor
from pixelssr_geo.testing import make_cube
from pixelssr_geo.tiling.plan import plan_tiles
from pixelssr_geo.writers import write_cog

PMS = get_sensor("GF-6 PMS")


def expected_scene(cube):
    channels = ChannelGrid(cube["wavelength"].values, cube["fwhm"].values)
    return np.einsum("bc,cyx->byx", PMS.matrix(channels), cube.values)


def test_without_noise_the_scene_is_what_the_sensor_sees(tmp_path):
    cube = make_cube(nodata_hole=(slice(4, 6), slice(7, 9)))
    result = simulate(cube, PMS, tmp_path, points=5, snr=None)
    scene = open_scene(result.scene)
    np.testing.assert_allclose(scene.values, expected_scene(cube), atol=1e-6)
    assert scene["band"].values.tolist() == list(PMS.names)
    assert pixel_grid(scene).transform == pixel_grid(cube).transform
    assert result.noise == 0


@pytest.mark.parametrize("snr", [None, 50.0])
def test_the_scene_alone_is_the_one_that_is_written(tmp_path, monkeypatch, snr):
    monkeypatch.setattr(simulation, "plan_tiles", lambda shape: plan_tiles(shape, block=256))
    cube = make_cube((300, 20), nodata_hole=(slice(4, 6), slice(7, 9)))  # two blocks
    written = open_scene(simulate(cube, PMS, tmp_path, points=5, snr=snr, seed=3).scene)
    alone = simulate_scene(cube, PMS, snr=snr, seed=3)
    assert alone.dims == written.dims
    np.testing.assert_array_equal(alone.values, written.values)
    np.testing.assert_allclose(alone["wavelength"], written["wavelength"], atol=1e-3)
    assert pixel_grid(alone) == pixel_grid(cube)


@pytest.mark.parametrize("wrong", [{"snr": 0.0}, {"snr": -1.0}, {"seed": -1}])
def test_the_scene_alone_refuses_what_the_files_do(wrong):
    with pytest.raises(SettingsError):
        simulate_scene(make_cube(), PMS, **wrong)


def test_the_reference_is_the_cube(tmp_path):
    cube = make_cube()
    result = simulate(cube, PMS, tmp_path, points=5)
    np.testing.assert_array_equal(open_cube(result.reference).values, cube.values)


def test_points_are_spectra_of_their_pixels(tmp_path):
    cube = make_cube()
    result = simulate(cube, PMS, tmp_path, points=30)
    points = read_points(result.points)
    rows, cols = pixel_grid(cube).to_pixels(points.x, points.y)
    np.testing.assert_allclose(points.reflectance, cube.values[:, rows, cols].T, atol=1e-6)
    assert len(set(zip(rows, cols, strict=True))) == 30
    assert len(pair_points(open_scene(result.scene), points).labels) == 30


def test_the_noise_has_the_deviation_that_is_reported(tmp_path):
    cube = make_cube((60, 60))
    result = simulate(cube, PMS, tmp_path, points=1, snr=100)
    difference = open_scene(result.scene).values - expected_scene(cube)
    assert result.noise == pytest.approx(expected_scene(cube).mean() / 100, rel=1e-5)
    assert difference.std() == pytest.approx(result.noise, rel=0.03)
    assert abs(difference.mean()) < result.noise * 4 / 120


def test_the_seed_decides_everything_and_the_number_of_points_not_the_noise(tmp_path):
    cube = make_cube()
    first = simulate(cube, PMS, tmp_path / "a", points=5)
    again = simulate(cube, PMS, tmp_path / "b", points=5)
    more = simulate(cube, PMS, tmp_path / "c", points=9)
    other = simulate(cube, PMS, tmp_path / "d", points=5, seed=1)
    scenes = [open_scene(result.scene).values for result in (first, again, more, other)]
    np.testing.assert_array_equal(scenes[0], scenes[1])
    np.testing.assert_array_equal(scenes[0], scenes[2])
    assert np.abs(scenes[0] - scenes[3]).max() > 0
    places = [read_points(result.points).x.tolist() for result in (first, again, other)]
    assert places[0] == places[1] != places[2]


def test_a_path_is_as_good_as_an_array(tmp_path):
    cube = make_cube()
    write_cog(cube, tmp_path / "cube.tif")
    from_path = simulate(tmp_path / "cube.tif", PMS, tmp_path / "a", points=5)
    from_array = simulate(cube, PMS, tmp_path / "b", points=5)
    np.testing.assert_allclose(
        open_scene(from_path.scene).values, open_scene(from_array.scene).values, atol=1e-6
    )


class TestLayouts:
    def pixels(self, tmp_path, layout, points):
        cube = make_cube((50, 60), nodata_hole=(slice(0, 5), slice(0, 60)))
        result = simulate(cube, PMS, tmp_path, points=points, layout=layout)
        found = read_points(result.points)
        return pixel_grid(cube).to_pixels(found.x, found.y)

    def test_block_takes_every_other_block(self, tmp_path):
        rows, cols = self.pixels(tmp_path, "block", 500)
        assert set((rows // 10 + cols // 10) % 2) == {0}
        assert len({(row // 10, col // 10) for row, col in zip(rows, cols, strict=True)}) == 15

    def test_corner_takes_one_corner(self, tmp_path):
        rows, cols = self.pixels(tmp_path, "corner", 180)
        assert (rows.max(), cols.max()) == (14, 17)

    def test_nodata_carries_no_point(self, tmp_path):
        rows, _ = self.pixels(tmp_path, "random", 45 * 60)
        assert rows.min() == 5


class TestRefused:
    @pytest.mark.parametrize("points", [0, -3, 2001])
    def test_more_points_than_pixels_or_none(self, tmp_path, points):
        with pytest.raises(SettingsError, match="1 to 2000 valid pixels"):
            simulate(make_cube(), PMS, tmp_path / "out", points=points)
        assert list(tmp_path.iterdir()) == []

    def test_bands_beyond_the_cube(self, tmp_path):
        with pytest.raises(ResponseError, match="the cube covers 500-700 nm, bands"):
            simulate(make_cube(wavelengths="500:700:10"), PMS, tmp_path / "out", points=5)
        assert list(tmp_path.iterdir()) == []

    def test_a_band_that_the_cube_does_not_see_at_all(self, tmp_path):
        swir = SpectralResponse.from_bands([660, 1600], [60, 80])
        with pytest.raises(ResponseError, match="1600 nm"):
            simulate(make_cube(), swir, tmp_path / "out", points=5)

    def test_a_negative_seed(self, tmp_path):
        with pytest.raises(SettingsError, match="seed is -1"):
            simulate(make_cube(), PMS, tmp_path / "out", points=5, seed=-1)

    @pytest.mark.parametrize("snr", [-1.0, float("nan")])
    def test_a_signal_to_noise_ratio_that_is_none(self, tmp_path, snr):
        with pytest.raises(SettingsError, match="snr is"):
            simulate(make_cube(), PMS, tmp_path / "out", points=5, snr=snr)

    def test_a_cube_of_nodata(self, tmp_path):
        cube = make_cube(nodata_hole=(slice(None), slice(None)))
        with pytest.raises(SceneError, match="every pixel of the cube is nodata"):
            simulate(cube, PMS, tmp_path / "out", points=5)

    def test_a_cube_without_crs(self, tmp_path):
        with pytest.raises(MissingCRSError, match="carries no coordinate"):
            simulate(make_cube(crs=None), PMS, tmp_path / "out", points=5)

    def test_a_folder_whose_parent_is_missing(self, tmp_path):
        with pytest.raises(OutputError, match="cannot be made"):
            simulate(make_cube(), PMS, tmp_path / "none" / "out", points=5)

    def test_a_failure_on_the_way_leaves_nothing(self, tmp_path, monkeypatch):
        def full(*args, **kwargs):
            raise OutputError("disk full")

        monkeypatch.setattr(simulation, "write_cog", full)
        with pytest.raises(OutputError, match="disk full"):
            simulate(make_cube(), PMS, tmp_path / "out", points=5)
        assert list(tmp_path.iterdir()) == []

    def test_what_is_there_is_replaced_only_when_asked(self, tmp_path):
        simulate(make_cube(), PMS, tmp_path, points=5)
        with pytest.raises(OutputError, match=r"already holds scene\.tif, field\.gpkg, reference"):
            simulate(make_cube(), PMS, tmp_path, points=7)
        assert len(read_points(tmp_path / "field.gpkg")) == 5
        simulate(make_cube(), PMS, tmp_path, points=7, overwrite=True)
        assert len(read_points(tmp_path / "field.gpkg")) == 7
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "field.gpkg",
            "reference.tif",
            "scene.tif",
        ]


def test_the_frozen_benchmark_is_reproduced_within_its_noise(tmp_path, benchmark_data):
    response = SpectralResponse.from_file(benchmark_data / "gf6_pms_response.csv")
    reference = benchmark_data / "potsdam" / "reference.tif"
    result = simulate(reference, response, tmp_path, points=18, snr=None)
    ours = open_scene(result.scene).values.astype("f8")
    scene = open_scene(benchmark_data / "potsdam" / "scene_s0.tif", sensor="GF-6 PMS", scale=1)
    frozen = scene.values.astype("f8")
    level = 0.002 * np.nanmean(frozen)
    for band in range(4):
        error = np.sqrt(np.nanmean((ours[band] - frozen[band]) ** 2))
        assert error <= 1.05 * level
