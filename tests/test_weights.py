"""The weights that ship: what they are made of, and that all that takes weights takes them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

from pixelssr_geo import demo, reconstruction
from pixelssr_geo.cli.main import main
from pixelssr_geo.errors import ResumeError, WeightsError
from pixelssr_geo.fitting import FittedModel
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import PointSpectra, read_points
from pixelssr_geo.reconstruction import reconstruct, reconstruct_to_file
from pixelssr_geo.scene import open_cube, open_scene
from pixelssr_geo.settings import Settings
from pixelssr_geo.testing import make_scene
from pixelssr_geo.training import correction
from pixelssr_geo.training.pretrained import load_residual_net
from pixelssr_geo.weights import BUILTIN, weights_hash, weights_path

pytestmark = pytest.mark.usefixtures("one_library")

SPEC = "400:1000:50"
QUICK: dict[str, Any] = {"wavelengths": SPEC, "tile": 32, "overlap": 8, "device": "cpu"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    monkeypatch.setattr(correction, "create_net", partial(create_net, width=8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's scene and points, small: nine blocks."""
    folder: Path = tmp_path_factory.mktemp("demo")
    demo._write_inputs(folder, make_landscape(80), seed=0)
    return folder


@pytest.fixture(scope="module")
def inputs(folder: Path) -> tuple[xr.DataArray, PointSpectra]:
    scene = open_scene(folder / "scene.tif", sensor=demo.SENSOR)
    return scene, read_points(folder / "field.gpkg")


def run(
    inputs: tuple[xr.DataArray, PointSpectra | None], path: Path, method: str, **options: Any
) -> tuple[reconstruction.Summary, NDArray[np.float32]]:
    settings = {**QUICK, "method": method, "weights": BUILTIN}
    if method in ("product", "dypro"):
        settings |= {"steps": 2, "folds": 2}
    settings |= options.pop("settings", {})
    summary = reconstruct_to_file(*inputs, path, Settings.of(**settings), **options)[1]
    return summary, np.asarray(open_cube(path).values)


def files(store: Path) -> dict[str, bytes]:
    found = (path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in found}


def test_the_card_says_what_they_are_made_of_and_worth() -> None:
    assert weights_path(BUILTIN).stat().st_size < 1e7
    net, card = load_residual_net(weights_path(BUILTIN), device=torch.device("cpu"))
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())
    assert card["name"] == BUILTIN
    assert card["terms"].keys() == set(card["data"])
    for terms in card["terms"].values():
        # What may be passed on: nothing else is trained on.
        assert terms.endswith(("public domain", "CC0 1.0", "MIT"))
    assert card["steps"] == card["plan"]["steps"]
    assert 0 < card["relative_error"] < 1
    assert {"variant", "sensors", "library", "version", "measured_on"} <= card.keys()
    scenes = {row["scene"] for row in card["measured"]}
    assert scenes == {"potsdam", "jasper", "pines", "muufl"}
    for row in card["measured"]:
        assert row.keys() == {"scene", "points", "estimator", "gain", "weight"}


@pytest.mark.parametrize(
    "method", ["estimator", "dypro", "paper", pytest.param("product", marks=pytest.mark.long)]
)
def test_every_method_that_takes_weights_takes_them(
    method: str, inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    summary, cube = run(inputs, tmp_path / "cube.tif", method)
    assert cube.shape == (13, 80, 80)
    assert np.isfinite(cube).all()
    assert summary.weights == weights_hash(BUILTIN)
    if method == "paper":
        assert summary.net == "dypro-mamba"
    else:
        assert "network" in summary.blend


def test_without_points_they_are_one_more_opinion(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    scene = inputs[0]
    summary, cube = run((scene, None), tmp_path / "cube.tif", "product")
    assert np.isfinite(cube).all()
    assert 0.01 < summary.blend["network"] < 0.2
    lazy = reconstruct(scene, weights=BUILTIN, **QUICK)
    np.testing.assert_allclose(lazy.values, cube, atol=1e-6)


@pytest.mark.parametrize("bands", [3, 8])
def test_they_serve_other_sensors(bands: int) -> None:
    scene = make_scene(bands, (40, 50))
    cube = reconstruct(scene, method="paper", weights=BUILTIN, **QUICK)
    assert cube.shape == (13, 40, 50)
    assert np.isfinite(cube.values).all()


def test_a_copy_of_the_file_is_the_same_weights(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights_path(BUILTIN).read_bytes())
    assert weights_hash(copy) == weights_hash(BUILTIN)
    summary, cube = run(inputs, tmp_path / "a.zarr", "paper")
    again, same = run(inputs, tmp_path / "b.zarr", "paper", settings={"weights": str(copy)})
    assert again.weights == summary.weights
    np.testing.assert_array_equal(same.view("u4"), cube.view("u4"))


def test_other_names_are_files(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert weights_path("./builtin") == Path("builtin")
    for name in ("./builtin", "built-in"):
        with pytest.raises(WeightsError, match=r"does not exist, .* or the name 'builtin'"):
            run(inputs, tmp_path / "cube.tif", "estimator", settings={"weights": name})


def test_an_interrupted_run_goes_on_with_them_and_with_no_others(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(inputs, tmp_path / "whole.zarr", "paper", threads=1)
    original, computed = FittedModel.block, []

    def block(*arguments: Any) -> Any:
        if len(computed) == 4:
            raise KeyboardInterrupt
        computed.append(None)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(FittedModel, "block", block)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, tmp_path / "cube.zarr", "paper", threads=1)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"something else")
    asked = {"weights": str(other)}
    with pytest.raises(ResumeError, match="weights"):
        run(inputs, tmp_path / "cube.zarr", "paper", settings=asked, resume=True)
    run(inputs, tmp_path / "cube.zarr", "paper", resume=True)
    assert files(tmp_path / "cube.zarr") == files(tmp_path / "whole.zarr")


@pytest.mark.parametrize("method", ["paper", pytest.param("estimator", marks=pytest.mark.long)])
def test_workers_change_no_byte(
    method: str, inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    run(inputs, tmp_path / "alone.zarr", method, threads=1)
    run(inputs, tmp_path / "cluster.zarr", method, workers=1)
    assert files(tmp_path / "cluster.zarr") == files(tmp_path / "alone.zarr")


def test_the_command_line_takes_them_by_their_name(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = ["reconstruct", str(folder / "scene.tif"), "--sensor", demo.SENSOR, "--json", "-q"]
    asked += ["--weights", BUILTIN, "--wavelengths", SPEC, "-o", str(tmp_path / "cube.tif")]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    told = capfd.readouterr()
    assert ended.value.code == 0, told.err
    assert json.loads(told.out)["weights"] == weights_hash(BUILTIN)
