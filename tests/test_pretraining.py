"""Cubes for training: read from files and arrays, or made of library spectra."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelssr_geo.errors import OutputError, SceneError, WavelengthGridError
from pixelssr_geo.fitting import fit
from pixelssr_geo.pretraining import pretrain, read_training_cube, synthetic_cubes
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_cube, make_scene
from pixelssr_geo.tiling.plan import Window, plan_tiles
from pixelssr_geo.training.cubes import CubePlan
from pixelssr_geo.training.pretrained import COMMON, load_residual_net
from pixelssr_geo.writers import write_cog

TINY = {"width": 4, "state": 2, "prompt_inner": 3, "expand": 1}
PLAN = CubePlan(steps=1, patch=8, batch=1, random_sensors=1, net_options=TINY)


def test_a_cube_is_read_as_it_is_in_the_file(tmp_path: Path) -> None:
    made = make_cube((8, 9), wavelengths="350:1100:25", nodata_hole=(slice(0, 2), slice(0, 3)))
    write_cog(made, tmp_path / "cube.tif")
    read = read_training_cube(tmp_path / "cube.tif")
    assert read.name == "cube.tif"
    assert read.channels.centres_nm.tolist() == list(range(400, 1001, 25))
    np.testing.assert_array_equal(read.values, made.sel(wavelength=slice(395, 1005)).values)


def test_channels_in_any_order_are_sorted_and_noise_below_zero_is_cut() -> None:
    made = make_cube((4, 5))
    made[3] = -0.01
    read = read_training_cube(made.isel(wavelength=slice(None, None, -1)))
    assert read.channels.centres_nm.tolist() == made["wavelength"].values.tolist()
    assert read.values[3].tolist() == np.zeros((4, 5)).tolist()


def test_a_scene_is_no_cube_and_a_cube_beyond_the_range_has_nothing_to_teach() -> None:
    with pytest.raises(SceneError, match=r"dims \(band, y, x\)"):
        read_training_cube(make_scene())
    with pytest.raises(SceneError, match="no wavelength coordinate"):
        read_training_cube(make_cube((4, 5)).drop_vars("wavelength"))
    with pytest.raises(WavelengthGridError, match="some in 390-1010 nm"):
        read_training_cube(make_cube((4, 5), wavelengths="1100:1200:10"))


def test_synthetic_cubes_are_reflectance_and_depend_on_the_seed_alone() -> None:
    cubes = synthetic_cubes(2, size=24, seed=1)
    assert [cube.values.shape for cube in cubes] == [(61, 24, 24)] * 2
    for cube in cubes:
        assert (cube.channels.centres_nm == COMMON.centres_nm).all()
        assert cube.values.min() >= 0
        assert cube.values.max() <= 1
        assert cube.values.std((1, 2)).mean() > 0.005
    np.testing.assert_array_equal(synthetic_cubes(1, size=24, seed=1)[0].values, cubes[0].values)
    assert not np.array_equal(cubes[0].values, cubes[1].values)


def test_neighbours_in_a_synthetic_cube_are_alike() -> None:
    values = synthetic_cubes(1, size=48)[0].values
    beside = np.abs(np.diff(values, axis=-1)).mean()
    apart = np.abs(values[..., 24:] - values[..., :24]).mean()
    assert beside < 0.7 * apart


def test_weights_carry_their_card(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    heard: list[tuple[str, int, int]] = []
    fit = pretrain(
        [make_cube((12, 12))],
        path,
        PLAN,
        sensors=[get_sensor("RGB")],
        synthetic=1,
        terms="public domain",
        device="cpu",
        progress=lambda *told: heard.append(told),
    )
    net, card = load_residual_net(path, device=torch.device("cpu"))
    for one, other in zip(net.parameters(), fit.net.parameters(), strict=True):
        assert torch.equal(one, other)
    assert card["data"] == ["cube", "synthetic 0"]
    assert card["terms"] == "public domain"
    assert card["plan"]["steps"] == card["steps"] == 1
    assert card["plan"]["random_sensors"] == 0
    assert card["relative_error"] == fit.relative_error
    assert heard == [("training on cubes", 1, 1)]
    assert path.stat().st_size < 1e7


def test_a_fitted_scene_travels_to_a_worker_and_gives_the_same_cube(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    pretrain([make_cube((12, 12))], path, PLAN, sensors=[get_sensor("RGB")], device="cpu")
    settings = Settings.of(
        method="paper",
        weights=str(path),
        wavelengths="450:900:30",
        device="cpu",
        tile=32,
        overlap=8,
    )
    model = fit(make_scene(), None, settings)
    window, plan = Window(0, 0, 40, 50), plan_tiles((40, 50), tile=32, overlap=8)
    cube = model.block(plan, window)
    arrived = pickle.loads(pickle.dumps(model)).on(torch.device("cpu"))
    np.testing.assert_array_equal(arrived.block(plan, window), cube)
    assert model.misfit(cube, window).squares < 1e-9
    assert model.network == "dypro-mamba"


def test_a_missing_folder_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        pretrain([], tmp_path / "none" / "w.safetensors", PLAN)
