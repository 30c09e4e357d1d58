"""Training on full cubes: it learns, whatever the cubes' units, sensors, sizes and gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pixelssr_geo.errors import PixelSSRError, SceneError, SettingsError, WavelengthGridError
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor
from pixelssr_geo.testing import make_cube
from pixelssr_geo.training import cubes as module
from pixelssr_geo.training.cubes import (
    CubeFit,
    CubePlan,
    TrainingCube,
    random_sensor,
    train_on_cubes,
)
from pixelssr_geo.training.pretrained import COMMON, PretrainedMean, create_residual_net

CPU = torch.device("cpu")
TINY = {"width": 4, "state": 2, "prompt_inner": 3, "expand": 1}
PLAN = CubePlan(steps=2, patch=8, batch=2, random_sensors=0, net_options=TINY)
SENSORS = [get_sensor("GF-6 PMS")]


def cube_of(
    shape: tuple[int, int] = (20, 24), spec: str = "400:1000:20", seed: int = 0, unit: float = 1.0
) -> TrainingCube:
    made = make_cube(shape, wavelengths=spec, seed=seed)
    values = made.values * np.float32(unit)
    return TrainingCube(f"made {seed}", values, ChannelGrid.from_spec(spec))


def weights(fit: CubeFit) -> np.ndarray:
    return torch.cat([p.detach().ravel() for p in fit.net.parameters()]).numpy()


def fitted(cubes: list[TrainingCube], plan: CubePlan = PLAN) -> CubeFit:
    return train_on_cubes(cubes, SENSORS, plan, device=CPU)


def test_what_is_trained_meets_another_place_of_the_same_materials_better() -> None:
    plan = replace(PLAN, steps=60, patch=16, tilt=0, learning_rate=1e-2)
    net = fitted([cube_of(seed=seed) for seed in (0, 1)], plan).net
    other = cube_of(seed=7)
    response = SENSORS[0].matrix(other.channels)
    bands = np.einsum("bc,cyx->byx", response, other.values).astype("f4")[None]
    mean = PretrainedMean.of(net, other.channels, response, bands.mean((0, 2, 3), dtype="f8"))

    def error(cube: np.ndarray) -> float:
        return float(np.abs(cube[0] - other.values).mean())

    assert error(mean.tiles(bands)) < 0.9 * error(mean.library(bands))


def test_the_unit_of_a_cube_does_not_matter() -> None:
    one, other = (weights(fitted([cube_of(unit=unit)])) for unit in (1.0, 2.0**13))
    np.testing.assert_array_equal(one, other)


def test_the_seed_and_the_cubes_settle_the_weights() -> None:
    cubes = [cube_of(), cube_of((9, 30), seed=1)]
    first = weights(fitted(cubes))
    np.testing.assert_array_equal(first, weights(fitted(cubes)))
    assert not np.array_equal(first, weights(fitted(cubes, replace(PLAN, seed=1))))


@pytest.mark.parametrize("changes", [{"mode": "pixel", "label_ratio": 0.05}, {"estimates": 2}])
def test_every_way_of_training_moves_the_weights(changes: dict[str, object]) -> None:
    plan = replace(PLAN, **changes)
    fit = fitted([cube_of()], plan)
    fresh = create_residual_net("dypro-mamba", seed=0, prior=fit.net.prior, **TINY)
    assert np.abs(weights(fit) - weights(replace(fit, net=fresh))).max() > 1e-4
    assert np.isfinite(weights(fit)).all()
    assert 0 < fit.relative_error < 3
    assert (fit.net.prior is not None) == (plan.mode == "pixel")
    assert fit.net.corrects == (plan.estimates > 0)


def test_pixels_without_data_teach_nothing_whatever_they_hold() -> None:
    cube = cube_of()
    holed, other = cube.values.copy(), cube.values.copy()
    holed[:, 3:9, 5:12] = np.nan
    other[:, 3:9, 5:12] = np.inf
    one, same = (weights(fitted([replace(cube, values=v)])) for v in (holed, other))
    np.testing.assert_array_equal(one, same)
    assert np.isfinite(one).all()


def test_in_mode_pixel_spectra_without_a_label_teach_nothing_but_the_bands() -> None:
    """The comparison looks at the labelled pixels alone."""
    plan = replace(PLAN, mode="pixel", label_ratio=0.05)
    ready = module._Ready.of(cube_of(), plan, 0)
    assert ready.compared.sum() == int(0.05 * 20 * 24)
    assert ready.valid.all()


def test_channels_that_a_cube_lacks_are_not_compared() -> None:
    ready = module._Ready.of(cube_of(spec="450:900:10"), PLAN, 0)
    known = COMMON.centres_nm[ready.covered]
    assert (known[0], known[-1]) == (450, 900)
    assert ready.values[0].tolist() == ready.values[5].tolist()


def test_small_cubes_are_used_whole_beside_large_ones() -> None:
    plan = replace(PLAN, batch=4, random_sensors=2)
    fit = fitted([cube_of((5, 40)), cube_of((30, 30), seed=1)], plan)
    assert np.isfinite(weights(fit)).all()


def test_progress_is_told_after_every_step() -> None:
    heard: list[tuple[int, int]] = []
    train_on_cubes(
        [cube_of()], SENSORS, PLAN, device=CPU, progress=lambda a, b, _: heard.append((a, b))
    )
    assert heard == [(1, 2), (2, 2)]


@pytest.mark.parametrize("seed", range(20))
def test_random_sensors_have_bands_in_order_inside_the_common_channels(seed: int) -> None:
    sensor = random_sensor(np.random.default_rng(seed))
    assert 3 <= len(sensor) <= 8
    centres = sensor.centres_nm
    assert (np.diff(centres) > 0).all()
    assert centres[0] > 420
    assert centres[-1] < 940


class TestRefusals:
    def refused(
        self, cubes: list[TrainingCube], error: type[PixelSSRError], match: str, **changes: object
    ) -> None:
        with pytest.raises(error, match=match):
            fitted(cubes, replace(PLAN, **changes))

    def test_no_cube(self) -> None:
        self.refused([], SceneError, "no cube is given")

    def test_all_nan(self) -> None:
        cube = cube_of()
        empty = replace(cube, values=np.full_like(cube.values, np.nan))
        self.refused([empty], SceneError, "'made 0' has no pixel with data")

    def test_all_zero(self) -> None:
        cube = cube_of()
        self.refused([replace(cube, values=cube.values * 0)], SceneError, "has a mean of 0")

    def test_channels_of_another_cube(self) -> None:
        cube = replace(cube_of(), channels=ChannelGrid.from_spec("400:1000:10"))
        self.refused([cube], SceneError, "61 channels")

    def test_too_narrow_a_range(self) -> None:
        self.refused([cube_of(spec="600:800:10")], WavelengthGridError, "covers 595-805 nm")

    def test_a_scene_of_few_bands(self) -> None:
        self.refused([cube_of(spec="450:900:150")], WavelengthGridError, "has 4 channels")

    def test_no_sensor_in_range(self) -> None:
        far = SpectralResponse.from_bands([1600.0, 2200.0], [50.0, 50.0])
        with pytest.raises(SettingsError, match="no sensor has two bands"):
            train_on_cubes([cube_of()], [far], replace(PLAN, random_sensors=0), device=CPU)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("steps", 0),
            ("patch", 1),
            ("batch", 0),
            ("estimates", -1),
            ("mode", "both"),
            ("noise", -0.1),
            ("tilt", float("nan")),
            ("learning_rate", 0.0),
            ("label_ratio", 2.0),
        ],
    )
    def test_plans_out_of_range(self, name: str, value: object) -> None:
        with pytest.raises(SettingsError, match=name.replace("_", " ")):
            replace(PLAN, **{name: value})

    def test_no_label_with_data(self) -> None:
        cube = cube_of((3, 3))
        values = cube.values.copy()
        labelled = module._Ready.of(cube, replace(PLAN, mode="pixel"), 0).compared
        values[:, labelled] = np.nan
        self.refused([replace(cube, values=values)], SceneError, "no labelled pixel", mode="pixel")
