"""Where a run computes: which devices are asked for, and that the cube is the same on each.

A CPU stands in for the GPU: torch computes on it what it would compute there.
"""

import pickle
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

from pixelssr_geo import fitting, reconstruction
from pixelssr_geo.errors import DeviceError
from pixelssr_geo.estimator import BlendedEstimator, LibraryPrior
from pixelssr_geo.estimator.device import OnDevice
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.reconstruction import Summary, reconstruct, reconstruct_to_file
from pixelssr_geo.scene import open_cube
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.testing import make_points, make_scene
from pixelssr_geo.tiling import cluster
from pixelssr_geo.training import correction

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = "400:1000:50"
SHAPE = (50, 40)  # four blocks


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    known: dict[tuple[bytes, bytes], LibraryPrior] = {}
    fit_library = fitting.fit_library

    def once(channels: ChannelGrid, response: NDArray[np.float64], **asked: Any) -> LibraryPrior:
        key = channels.centres_nm.tobytes(), response.tobytes()
        if asked:
            return fit_library(channels, response, **asked)
        return (
            known[key] if key in known else known.setdefault(key, fit_library(channels, response))
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit_library", once)
        patch.setattr(reconstruction, "BLOCK", 32)
        patch.setattr(reconstruction, "CHUNK", 32)
        patch.setattr(correction, "create_net", partial(create_net, width=8))
        yield


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A CUDA device for estimators, which is the CPU; gives how each was put there."""
    moves: list[dict[str, Any]] = []
    resolve, through_torch = fitting.resolve_device, BlendedEstimator.through_torch

    def pretend(name: str) -> torch.device:
        return CUDA if name in ("cuda", "auto") else resolve(name)

    def here(self: BlendedEstimator, device: torch.device, **asked: Any) -> BlendedEstimator:
        moves.append({"device": str(device), **asked})
        return through_torch(self, CPU, **asked)

    for module in (fitting, reconstruction):
        monkeypatch.setattr(module, "resolve_device", pretend)
    monkeypatch.setattr(BlendedEstimator, "through_torch", here)
    return moves


@cache
def inputs(count: int = 12) -> tuple[xr.DataArray, PointSpectra | None]:
    return make_scene(shape=SHAPE), make_points(count, SHAPE) if count else None


def run(path: Path, **options: Any) -> Summary:
    client = options.pop("client", None)
    settings = Settings.of(wavelengths=SPEC, **options)
    return reconstruct_to_file(*inputs(), path, settings, client=client)[1]


@pytest.mark.parametrize(
    ("method", "device", "points", "expected"),
    [
        ("product", "auto", 12, False),
        ("product", "auto", 60, True),
        ("product", "cpu", 12, False),
        ("product", "cpu", 60, True),
        ("product", "cuda", 0, True),
        ("product", "cuda:1", 12, True),
        ("estimator", "auto", 60, False),
        ("estimator", "cpu", 60, False),
        ("estimator", "cuda", 0, True),
        ("estimator", "cuda", 60, True),
        ("dypro", "auto", 12, True),
        ("paper", "auto", 12, True),
        ("ridge", "cuda", 60, False),
        ("library", "cuda", 0, False),
    ],
)
def test_torch_is_for_networks_and_for_a_gpu_that_is_named(
    method: Any, device: str, points: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(name: str) -> torch.device:
        asked.append(name)
        return CPU

    monkeypatch.setattr(fitting, "resolve_device", resolve)
    settings = Settings(method=method, device=device)
    assert (fitting.run_device(settings, inputs(points)[1]) is not None) is expected
    # A name that is not there is an error where nothing would run on it, too.
    assert asked == ([device] if expected or device.startswith("cuda") else [])


@pytest.mark.parametrize(("method", "count"), [("product", 0), ("product", 12), ("estimator", 12)])
def test_the_estimator_on_a_gpu_gives_the_cube_of_the_cpu(
    method: str, count: int, tmp_path: Path, pretended: list[dict[str, Any]]
) -> None:
    summaries = {}
    for device in ("cpu", "cuda"):
        path, uncertainty = tmp_path / f"{device}.zarr", tmp_path / f"{device}_sd.zarr"
        settings = Settings.of(wavelengths=SPEC, method=method, device=device)
        summaries[device] = reconstruct_to_file(
            *inputs(count), path, settings, uncertainty=uncertainty
        )[1]
        if device == "cpu":
            assert not pretended
    assert {name: summary.device for name, summary in summaries.items()} == {
        "cpu": "cpu",
        "cuda": "cuda",
    }
    assert pretended[0] == {"device": "cuda", "double": False}
    assert summaries["cuda"].cross_validation == summaries["cpu"].cross_validation
    assert summaries["cuda"].coverage == summaries["cpu"].coverage
    for suffix in ("", "_sd"):
        one, other = (open_cube(tmp_path / f"{name}{suffix}.zarr").values for name in summaries)
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


def test_the_lazy_cube_is_computed_on_the_gpu_too(pretended: list[dict[str, Any]]) -> None:
    cubes = [
        reconstruct(*inputs(), wavelengths=SPEC, method="estimator", device=device).compute()
        for device in ("cpu", "cuda")
    ]
    assert pretended
    assert not np.array_equal(*cubes)  # the last digits tell that torch computed it
    np.testing.assert_allclose(*cubes, rtol=1e-5, atol=1e-5)


def test_beside_a_network_the_estimator_runs_where_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64 where the network's products, and with them those of all threads, are rounded."""
    asked: dict[str, Any] = {"method": "dypro", "steps": 2, "folds": 2, "tile": 32, "overlap": 8}
    run(tmp_path / "cpu.zarr", **asked, device="cpu")
    doubles = []

    def there(self: BlendedEstimator, device: Any, *, double: bool = False) -> BlendedEstimator:
        doubles.append(double)
        return self.through_torch(CPU, double=double)

    monkeypatch.setattr(BlendedEstimator, "on", there)
    run(tmp_path / "torch.zarr", **asked, device="cpu", precision="tf32")
    assert doubles == [True] * 3  # that of the cube, and those of the two folds
    one, other = (open_cube(tmp_path / f"{name}.zarr").values for name in ("cpu", "torch"))
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_a_model_moves_with_its_estimator(pretended: list[dict[str, Any]]) -> None:
    settings = Settings.of(wavelengths=SPEC, method="estimator", device="cuda", precision="tf32")
    model = fitting.fit(*inputs(), settings)
    estimator = model.estimator
    assert isinstance(estimator, BlendedEstimator)
    assert estimator.elsewhere is not None
    assert all(move["double"] for move in pretended)
    back = model.on(CPU).estimator
    assert isinstance(back, BlendedEstimator)
    assert back.elsewhere is None
    pickle.loads(pickle.dumps(back))
    again = model.on(CPU).on(CUDA).estimator
    assert isinstance(again, BlendedEstimator)
    assert again.elsewhere is not None
    assert estimator.elsewhere is not None  # the first one is as it was


def test_a_gpu_without_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretended: list[dict[str, Any]]
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("the device is full")

    monkeypatch.setattr(OnDevice, "_on_tensors", full)
    with pytest.raises(DeviceError, match=r"cuda has too little memory .* --device cpu"):
        run(tmp_path / "cube.zarr", method="estimator", device="cuda")
    for uncertainty in (False, True):
        lazy: Any = reconstruct(
            *inputs(), wavelengths=SPEC, method="estimator", device="cuda", uncertainty=uncertainty
        )
        with pytest.raises(DeviceError, match="cuda has too little memory"):
            lazy.compute()


@pytest.mark.parametrize(
    ("method", "fit", "blocks", "told"),
    [
        ("estimator", None, "cpu", "cpu"),
        ("estimator", CUDA, "cuda:1", "torch {}, cuda"),
        ("estimator", CPU, "cuda", "torch {}, cpu; blocks on cuda"),
        ("dypro", CPU, "cuda", "torch {}, cpu, scan torch; blocks on cuda, batch size None"),
    ],
)
def test_a_run_that_goes_on_must_compute_where_it_began(
    method: Any, fit: torch.device | None, blocks: str, told: str
) -> None:
    """The last digits differ."""
    options: dict[str, Any] = {"net_options": {"scan_backend": "torch"}}
    settings = Settings(method=method, **(options if method == "dypro" else {}))
    found = reconstruction._Devices(fit, blocks).told(settings, inputs()[1])
    assert found == told.format(version("torch"))


@pytest.mark.parametrize(
    ("asked", "resources"),
    [
        ({"method": "estimator", "device": "cuda"}, {"GPU": 1}),
        ({"method": "product", "device": "cuda"}, {"GPU": 1}),
        ({"method": "estimator"}, None),
        ({"method": "product"}, None),
        ({"method": "ridge"}, None),
    ],
)
def test_blocks_go_to_workers_with_a_gpu_where_one_is_named(
    asked: dict[str, Any],
    resources: dict[str, int] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pretended: list[dict[str, Any]],
) -> None:
    seen: list[Any] = []

    def on_a_worker(_: Any, blocks: Any, setup: Callable[[], Any], **how: Any) -> None:
        seen.append(how["resources"])
        sent = cloudpickle.loads(cloudpickle.dumps(setup))
        assert sent.args[0].model.estimator.projection is not None
        assert getattr(sent.args[0].model.estimator, "elsewhere", None) is None
        work = sent()
        moved = getattr(work.model.estimator, "elsewhere", None) is not None
        assert moved is (resources is not None)
        for block in blocks:
            how["on_done"](block, work(block))

    monkeypatch.setattr(cluster, "map_blocks_on", on_a_worker)
    summary = run(tmp_path / "cube.zarr", client=SimpleNamespace(), **asked)
    assert seen == [resources]
    assert summary.device == ("cpu" if resources is None else "cuda")


@pytest.mark.parametrize(
    ("method", "device", "offered"),
    [
        ("estimator", "cuda", {"GPU": 1}),
        ("estimator", "auto", None),
        ("product", "auto", {"GPU": 1}),
        ("ridge", "cuda", None),
    ],
)
def test_local_workers_offer_the_gpu_that_blocks_will_ask_for(
    method: Any,
    device: str,
    offered: dict[str, int] | None,
    monkeypatch: pytest.MonkeyPatch,
    pretended: list[dict[str, Any]],
) -> None:
    seen: list[Any] = []

    class Nothing:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def client(**how: Any) -> Nothing:
        seen.append(how["resources"])
        return Nothing()

    monkeypatch.setattr(cluster, "cluster_client", client)
    with reconstruction.run_cluster(Settings(method=method, device=device), workers=2):
        pass
    assert seen == [offered]
