import pickle

import numpy as np
import pytest

from pixelssr_geo.datasets import open_arad, open_cave, simulated
from pixelssr_geo.errors import ResponseError, SceneError, SettingsError
from pixelssr_geo.simulation import simulate_scene
from pixelssr_geo.spectra import SpectralResponse, get_sensor
from pixelssr_geo.testing import make_cube
from pixelssr_geo.writers import write_cog

VISIBLE = SpectralResponse.from_bands([620, 540, 470], [60, 60, 60])


@pytest.fixture
def cubes(tmp_path):
    paths = [tmp_path / "north.tif", tmp_path / "south.tif"]
    for seed, path in enumerate(paths):
        write_cog(make_cube(seed=seed), path)
    return paths


def test_any_cube_with_a_response_is_a_pair(cubes):
    dataset = simulated(cubes, get_sensor("GF-6 PMS"), snr=None)
    assert dataset.names == ("north", "south")
    pair = dataset.load("south")
    expected = simulate_scene(make_cube(seed=1), get_sensor("GF-6 PMS"), snr=None)
    np.testing.assert_allclose(pair.scene.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(pair.cube.values, make_cube(seed=1).values, atol=1e-6)
    assert pair.response.names == ("Blue", "Green", "Red", "NIR")


def test_noise_is_each_scene_s_own_and_keyed_by_the_seed(cubes):
    def noise(name, seed):
        plain = simulated(cubes, get_sensor("GF-6 PMS"), snr=None).load(name).scene
        return (simulated(cubes, get_sensor("GF-6 PMS"), seed=seed).load(name).scene - plain).values

    first = noise("north", 0)
    np.testing.assert_array_equal(first, noise("north", 0))
    assert abs(np.corrcoef(first.ravel(), noise("north", 1).ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(first.ravel(), noise("south", 0).ravel())[0, 1]) < 0.1


def test_scenes_of_a_dataset_are_set_aside(cave):
    dataset = simulated(open_cave(cave), VISIBLE, snr=None)
    assert dataset.names == open_cave(cave).names
    pair = dataset.load("beads")
    assert pair.response is VISIBLE
    matrix = VISIBLE.matrix(pair.channels)
    expected = np.einsum("bc,cyx->byx", matrix, pair.cube.values)
    np.testing.assert_allclose(pair.scene.values, expected, atol=1e-6)


def test_the_publisher_s_parts_are_kept_and_test_scenes_have_nothing_to_simulate_from(arad):
    dataset = pickle.loads(pickle.dumps(simulated(open_arad(arad), VISIBLE)))
    assert dataset.splits == open_arad(arad).splits
    assert dataset.load("ARAD_1K_0001").scene.sizes["band"] == 3
    with pytest.raises(SceneError, match="'ARAD_1K_0951' has no cube"):
        dataset.load("ARAD_1K_0951")


def test_bands_outside_the_cube_are_refused(cave):
    with pytest.raises(ResponseError, match="NIR"):
        simulated(open_cave(cave), get_sensor("GF-6 PMS")).load("beads")


def test_cubes_need_names_of_their_own(cubes, tmp_path):
    with pytest.raises(SettingsError, match="3 cubes are given with 2 different names"):
        simulated([*cubes, tmp_path / "other" / "north.tif"], VISIBLE)
    with pytest.raises(SettingsError, match="at least one"):
        simulated([], VISIBLE)
    with pytest.raises(SettingsError, match="seed is -1"):
        simulated(cubes, VISIBLE, seed=-1)
