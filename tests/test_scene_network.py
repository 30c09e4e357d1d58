"""Given weights as a prior mean: map, labels, folds and correction see the same, however it is cut."""

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixelssr_geo import fitting
from pixelssr_geo.estimator import BlendedEstimator, fit_library
from pixelssr_geo.fitting import FittedModel, fit, train
from pixelssr_geo.nets import create_net
from pixelssr_geo.pretraining import pretrain
from pixelssr_geo.reconstruction import reconstruct_to_file
from pixelssr_geo.scene import open_cube
from pixelssr_geo.scene_network import SceneNetwork
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.testing import make_cube, make_points, make_scene
from pixelssr_geo.tiling.mosaic import MicroBatch, blend_block
from pixelssr_geo.tiling.plan import Window, plan_tiles
from pixelssr_geo.training import correction, pixel
from pixelssr_geo.training.correction import CorrectionPlan
from pixelssr_geo.training.cubes import CubePlan

CPU = torch.device("cpu")
SPEC = "420:900:20"
SHAPE = (40, 50)
TILES = {"tile": 16, "overlap": 4}
TRUTH = make_cube(SHAPE, wavelengths=SPEC).values
ALL = Window(0, 0, *SHAPE)


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """What is trained here is as small as it can be, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "CorrectionPlan", partial(CorrectionPlan, patch=8, batch=3))
        for module in (correction, pixel):
            patch.setattr(module, "create_net", partial(create_net, width=4, state=2))
        patch.setattr(correction, "CONTEXT", 12)
        # One sensor and one set of channels: the library says the same of all these scenes.
        known = fit_library(
            ChannelGrid.from_spec(SPEC), get_sensor("GF-6 PMS").matrix(ChannelGrid.from_spec(SPEC))
        )
        patch.setattr(fitting, "fit_library", lambda *_: known)
        yield
    torch.set_num_threads(before)


class MadeNetwork:
    """Says the truth plus an error at every tile, as a network would that sees whole tiles.

    Parameters
    ----------
    error
        Size of the error, reflectance.
    """

    def __init__(self, error: float) -> None:
        self.error = error
        self.plan = plan_tiles(SHAPE, **TILES)
        self.net = SimpleNamespace(options={}, name="dypro-mamba")

    def to(self, _device: torch.device) -> "MadeNetwork":
        return self

    def __call__(
        self, stack: NDArray[np.float32], tiles: NDArray[np.int64], _device: torch.device
    ) -> NDArray[np.float32]:
        margins = ((0, 0), (0, self.plan.tile), (0, self.plan.tile))
        known = np.pad(TRUTH, margins, mode="edge")
        found = []
        for tile in tiles:
            window = self.plan.tile_window(int(tile))
            draws = np.random.default_rng(int(tile)).standard_normal((len(TRUTH), *window.shape))
            found.append(known[:, *window.slices] + self.error * draws)
        return np.array(found, "f4")


def fitted(count: int, *, hole: Any = None, **options: Any) -> FittedModel:
    asked = {"wavelengths": SPEC, "steps": 2, "device": "cpu", **TILES, **options}
    points = make_points(count, SHAPE, wavelengths=SPEC) if count else None
    scene = make_scene(4, SHAPE, nodata_hole=hole)
    return fit(scene, points, Settings.of(**asked))


@pytest.fixture
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MadeNetwork:
    """A made network in the place of that of the weights file."""
    made = MadeNetwork(getattr(request, "param", 0.0))
    monkeypatch.setattr(fitting, "_trained_model", lambda *_: made)
    monkeypatch.setattr(fitting, "weights_hash", lambda _: "0" * 16)
    return made


def cube_of(model: FittedModel, side: int | None = None) -> NDArray[np.float32]:
    """The cube, in blocks of so many pixels a side."""
    plan = plan_tiles(SHAPE, block=side or max(SHAPE), **TILES)
    cube = np.full((len(TRUTH), *SHAPE), -1, "f4")
    for window in plan.blocks:
        cube[:, *window.slices] = model.holding(plan, window).block(plan, window)
    return cube


def error(model: FittedModel) -> float:
    return float(np.sqrt(np.nanmean((cube_of(model) - TRUTH) ** 2)))


def test_pixels_and_windows_are_what_the_whole_scene_gives_to_the_last_bit() -> None:
    plan, batch = plan_tiles(SHAPE, **TILES), MicroBatch(1)
    made = MadeNetwork(0.1)
    scene = make_scene(4, SHAPE, nodata_hole=(slice(3, 20), slice(8, 30))).values

    def read(window: Window) -> NDArray[np.float32]:
        return scene[:, *window.slices]

    network = SceneNetwork(made, plan, len(TRUTH), CPU, batch)  # type: ignore[arg-type]
    whole = blend_block(
        plan, ALL, lambda s, n: made(s, n, CPU), read, channels=len(TRUTH), batch=batch
    )
    rows, cols = np.array([0, 39, 17, 30, 2]), np.array([49, 0, 25, 31, 5])
    np.testing.assert_array_equal(network.at(rows, cols, read), whole[:, rows, cols].T)
    window = Window(10, 7, 21, 30)
    np.testing.assert_array_equal(network.window(window, read), whole[:, *window.slices])
    held = network.holding([Window(0, 0, 5, 5), window], read)
    inside = Window(12, 9, 3, 4)
    found = held.window(inside, lambda _: pytest.fail("read again"))
    np.testing.assert_array_equal(found, whole[:, *inside.slices])
    assert network.at(rows[:0], cols[:0], read).shape == (0, len(TRUTH))


@pytest.mark.parametrize("method", ["product", "estimator"])
def test_a_network_that_knows_the_truth_makes_the_cube_better(
    network: MadeNetwork, method: str
) -> None:
    alone = fitted(30, method=method)
    beside = fitted(30, method=method, weights="w")
    assert beside.blend is not None
    assert beside.blend["network"] > 0.3
    assert beside.network == "dypro-mamba"
    assert beside.weights_hash is not None
    assert error(beside) < error(alone)
    assert beside.cross_validation is not None
    assert alone.cross_validation is not None
    assert beside.cross_validation.rmse < alone.cross_validation.rmse


@pytest.mark.parametrize("network", [1.0], indirect=True)
def test_a_network_that_knows_nothing_is_left_out_and_said_to_be(network: MadeNetwork) -> None:
    alone = fitted(30, method="estimator")
    beside = fitted(30, method="estimator", weights="w")
    assert beside.blend is not None
    assert beside.blend["network"] == 0
    assert beside.network is None
    assert beside.reader.network is None
    assert any("the weights' network is not used" in note for note in beside.notes)
    assert error(beside) < 1.01 * error(alone)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_points_leave_a_network_a_small_weight(network: MadeNetwork, count: int) -> None:
    model = fitted(count, weights="w")
    assert model.blend is not None
    assert 0.05 < model.blend["network"] < 0.35
    assert any("its weight in the blend is a guess" in note for note in model.notes)
    assert np.isfinite(cube_of(model)).all()


@pytest.mark.parametrize("network", [1e-5], indirect=True)
@pytest.mark.parametrize(("method", "count"), [("estimator", 12), ("dypro", 12), ("product", 60)])
def test_the_cube_does_not_depend_on_how_it_is_cut(
    network: MadeNetwork, method: str, count: int
) -> None:
    model = fitted(count, method=method, weights="w", hole=(slice(10, 24), slice(5, 22)))
    assert isinstance(model.estimator, BlendedEstimator)
    assert model.estimator.sees_network
    assert (model.correction is not None) == (method == "dypro")
    whole = cube_of(model)
    assert np.isnan(whole[:, 10:24, 5:22]).all()
    np.testing.assert_array_equal(cube_of(model, 27), whole)
    arrived = pickle.loads(pickle.dumps(model)).on(CPU)
    np.testing.assert_array_equal(cube_of(arrived), whole)
    plan = plan_tiles(SHAPE, **TILES)
    np.testing.assert_array_equal(model.estimate(plan, ALL).mean, whole)
    assert np.sqrt(model.misfit(whole, ALL).squares / model.misfit(whole, ALL).values) < 1e-5


@pytest.mark.parametrize("network", [0.01], indirect=True)
def test_a_correction_is_trained_on_the_estimate_that_it_corrects(
    network: MadeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every patch of the training is cut from the map that the cube starts from."""
    seen: list[tuple[int, int, NDArray[np.float32]]] = []
    original = fitting.SceneReader.estimate

    def noted(reader: Any, estimator: Any, row: int, col: int, size: int) -> Any:
        found = original(reader, estimator, row, col, size)
        seen.append((row, col, found.mean))
        return found

    monkeypatch.setattr(fitting.SceneReader, "estimate", noted)
    monkeypatch.setattr(fitting, "withheld", lambda *_: pytest.fail("folds are trained on"))
    model = fitted(12, method="dypro", weights="w", folds=2)
    assert model.estimator is not None
    start = model.estimator.mean(model.reader.view_for(model.estimator, ALL))
    last = [
        mean for row, col, mean in seen[-12:]
        if np.array_equal(mean, start[:, row : row + mean.shape[1], col : col + mean.shape[2]])
    ]  # fmt: skip
    assert len(last) == 12


def test_tiles_around_the_points_are_computed_once_for_all_folds(
    network: MadeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = MadeNetwork.__call__

    def counted(self: MadeNetwork, stack: Any, tiles: Any, device: Any) -> Any:
        calls.extend(map(int, tiles))
        return original(self, stack, tiles, device)

    monkeypatch.setattr(MadeNetwork, "__call__", counted)
    fitted(12, method="dypro", weights="w")
    assert max(np.bincount(calls)) <= 2, "once for the labels, once around them"


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for any sensor, trained for a step."""
    path: Path = tmp_path_factory.mktemp("weights") / "cubes.safetensors"
    tiny = {"width": 4, "state": 2, "prompt_inner": 3, "expand": 1}
    plan = CubePlan(steps=1, patch=8, batch=1, random_sensors=0, net_options=tiny)
    pretrain([make_cube((12, 12))], path, plan, sensors=[get_sensor("RGB")], device="cpu")
    return path


class TestFiles:
    """Real weights, and files that are written."""

    def written(self, path: Path, count: int, **options: Any) -> tuple[Any, NDArray[np.float32]]:
        settings = {"wavelengths": SPEC, "steps": 1, "device": "cpu", **TILES}
        reserved = {key: options.pop(key) for key in ("workers", "uncertainty") if key in options}
        _, summary = reconstruct_to_file(
            make_scene(4, SHAPE),
            make_points(count, SHAPE, wavelengths=SPEC) if count else None,
            path,
            Settings.of(**settings, **options),
            **reserved,
        )
        return summary, np.asarray(open_cube(path).values)

    def test_an_uncertainty_beside_it_changes_no_bit(self, cubes: Path, tmp_path: Path) -> None:
        asked = {"weights": str(cubes), "method": "estimator"}
        summary, cube = self.written(tmp_path / "a.zarr", 3, **asked)
        assert summary.net == "dypro-mamba"
        assert summary.blend["network"] > 0.01
        assert any(line.startswith("blend       library 0.") for line in summary.lines())
        again, same = self.written(tmp_path / "b.zarr", 3, uncertainty=tmp_path / "c.zarr", **asked)
        np.testing.assert_array_equal(same.view("u4"), cube.view("u4"))
        assert again.blend == summary.blend
        assert again.weights == summary.weights

    @pytest.mark.long
    def test_workers_change_no_bit(self, cubes: Path, tmp_path: Path) -> None:
        asked = {"weights": str(cubes), "method": "estimator"}
        _, cube = self.written(tmp_path / "a.zarr", 3, **asked)
        summary, same = self.written(tmp_path / "b.zarr", 3, workers=1, **asked)
        np.testing.assert_array_equal(same.view("u4"), cube.view("u4"))
        assert summary.net == "dypro-mamba"

    def test_a_fitted_blend_has_no_network_without_weights(self, tmp_path: Path) -> None:
        summary, _ = self.written(tmp_path / "a.zarr", 3)
        assert summary.net is None
        assert "network" not in summary.blend

    def test_weights_of_one_sensor_serve_too(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        points = make_points(10, SHAPE, wavelengths=SPEC)
        options = {"wavelengths": SPEC, "steps": 1, "device": "cpu", **TILES}
        train(make_scene(4, SHAPE), points, path, **options)
        model = fitted(10, method="estimator", weights=str(path))
        assert model.blend is not None
        assert "network" in model.blend
        assert model.weights_hash is not None
