"""``train``: on a scene, or on cubes, by what is given."""

import json
from functools import partial

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from pixelssr_geo.scene import open_cube
from pixelssr_geo.testing import make_cube
from pixelssr_geo.training import cubes as training
from pixelssr_geo.training.checkpoint import load_checkpoint
from pixelssr_geo.training.pretrained import load_residual_net
from pixelssr_geo.weights import weights_hash
from pixelssr_geo.writers import write_cog

TINY = {"width": 4, "state": 2, "prompt_inner": 3, "expand": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A network and patches as small as they can be: what is learnt does not matter here."""
    plan = partial(
        training.CubePlan, patch=8, batch=1, random_sensors=1, net_options=TINY, estimates=0
    )
    monkeypatch.setattr(training, "CubePlan", plan)


def test_weights_of_cubes_reconstruct_a_scene_of_another_sensor(run, inputs, tmp_path):
    weights, output = tmp_path / "w.safetensors", tmp_path / "out.tif"
    write_cog(make_cube((30, 20), wavelengths="420:980:20", seed=1), tmp_path / "second.tif")
    asked = ("--sensor", "RGB", "--steps", "1", "--device", "cpu", "--terms", "CC0", "-q")
    ended = run("train", inputs.cube, tmp_path / "second.tif", *asked, "-o", weights)
    assert ended.code == 0, ended.err
    assert "1 steps on 2 cubes" in ended.out
    _, card = load_residual_net(weights, device=torch.device("cpu"))
    assert card["data"] == ["cube.tif", "second.tif"]
    assert card["terms"] == "CC0"
    asked = ("--method", "paper", "--weights", weights, "--wavelengths", "450:900:30")
    ended = run("reconstruct", inputs.scene, *asked, "--device", "cpu", "-o", output)
    assert ended.code == 0, ended.err
    cube = open_cube(output).values
    assert cube.shape == (16, 40, 50)
    assert np.isfinite(cube).all()


def test_weights_of_cubes_are_one_more_prior_mean_of_the_product(run, inputs, tmp_path):
    weights, output = tmp_path / "w.safetensors", tmp_path / "out.tif"
    asked = ("--mode", "supervised", "--sensor", "RGB", "--steps", "1", "--device", "cpu", "-q")
    ended = run("train", inputs.cube, *asked, "-o", weights)
    assert ended.code == 0, ended.err
    asked = ("--weights", weights, "--wavelengths", "450:900:30", "--device", "cpu")
    asked = ("reconstruct", inputs.scene, "--points", inputs.points, *asked, "-o", output)
    ended = run(*asked, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert "network" in told["blend"]
    assert sum(told["blend"].values()) == pytest.approx(1, abs=1e-3)
    assert (told["net"] is None) == (told["blend"]["network"] == 0)
    assert len(told["weights"]) == 16
    ended = run(*asked, "--overwrite")
    [line] = [line for line in ended.out.splitlines() if line.startswith("blend")]
    used = [f"{name} {weight:.2f}" for name, weight in told["blend"].items() if weight]
    assert line == f"blend       {', '.join(used)}"


def test_json_tells_what_was_trained(run, inputs, tmp_path):
    weights = tmp_path / "w.safetensors"
    asked = ("--steps", "1", "--device", "cpu", "--json", "-q", "-o", weights)
    ended = run(
        "train", inputs.cube, "--mode", "supervised", "--sensor", "RGB", "--synthetic", "1", *asked
    )
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["output"] == str(weights)
    assert told["weights"] == weights_hash(weights)
    assert (told["net"], told["mode"], told["steps"]) == ("dypro-mamba", "supervised", 1)
    assert (told["cubes"], told["synthetic"]) == ([str(inputs.cube)], 1)
    assert told["relative_error"] > 0
    small = ("--wavelengths", "450:850:50", "--overwrite")
    ended = run("train", inputs.scene, "--points", inputs.points, *asked, *small)
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["weights"] == weights_hash(weights)
    assert (told["mode"], told["scene"]) == ("pixel", str(inputs.scene))
    assert told["held_out"]["n"] > 0
    assert told["held_out"]["rmse"] > 0


@pytest.mark.parametrize("mode", ["supervised", "pixel"])
def test_a_single_cube_is_trained_on_when_the_mode_says_so(run, inputs, tmp_path, mode):
    weights = tmp_path / "w.safetensors"
    asked = ("--mode", mode, "--sensor", "RGB", "--steps", "1", "--device", "cpu", "-q")
    ended = run("train", inputs.cube, *asked, "-o", weights)
    assert ended.code == 0, ended.err
    model, card = load_residual_net(weights, device=torch.device("cpu"))
    assert card["plan"]["mode"] == mode
    assert (model.prior is not None) == (mode == "pixel")


@pytest.mark.parametrize("mode", ["supervised", "pixel"])
def test_another_network_is_trained_on_cubes(run, inputs, tmp_path, monkeypatch, mode):
    options = {"stages": 1, "blocks": (1,)} | ({"neck": TINY} if mode == "pixel" else {})
    plan = partial(training.CubePlan, net_options=options)
    monkeypatch.setattr(training, "CubePlan", plan)
    weights = tmp_path / "w.safetensors"
    asked = ("--mode", mode, "--net", "MSTPP", "--sensor", "RGB", "--steps", "1", "-q")
    ended = run("train", inputs.cube, *asked, "--device", "cpu", "-o", weights)
    assert ended.code == 0, ended.err
    assert load_checkpoint(weights)[1]["net"] == "mst++"
    asked = ("--method", "paper", "--weights", weights, "--wavelengths", "450:900:50")
    output = tmp_path / "out.tif"
    ended = run("reconstruct", inputs.scene, *asked, "--device", "cpu", "--json", "-o", output)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["net"] == "mst++"


@pytest.mark.parametrize("mode", ["unsupervised", "pixel"])
def test_another_network_is_trained_on_a_scene(run, inputs, tmp_path, mode):
    weights, output = tmp_path / "w.safetensors", tmp_path / "out.tif"
    config = tmp_path / "small.toml"
    neck = "[net_options.neck]\nwidth = 4\nstate = 2\nprompt_inner = 3\n" * (mode == "pixel")
    config.write_text(f"[net_options]\nstages = 1\nblocks = [1]\n{neck}")
    points = ("--points", inputs.points) if mode == "pixel" else ()
    asked = ("--net", "mst++", "--config", config, "--wavelengths", "450:900:50", "--steps", "1")
    asked = (*points, *asked, "--device", "cpu", "-q")
    ended = run("train", inputs.scene, "--mode", mode, *asked, "-o", weights)
    assert ended.code == 0, ended.err
    about = load_checkpoint(weights)[1]
    assert (about["net"], about["mode"]) == ("mst++", mode)
    assert ("neck" in about["options"]) == (mode == "pixel")
    told = []
    trained = ("--weights", weights, "--wavelengths", "450:900:50", "--device", "cpu", "-q")
    for options in (trained, asked):
        asked_now = ("--method", "paper", *options, "--json", "--overwrite", "-o", output)
        ended = run("reconstruct", inputs.scene, *asked_now)
        assert ended.code == 0, ended.err
        told.append(json.loads(ended.out)["net"])
    assert told == ["mst++", "mst++"]


@pytest.mark.parametrize(
    "asked",
    [
        ("train", "scene", "--mode", "unsupervised"),
        ("train", "cube", "--mode", "supervised"),
        ("reconstruct", "scene", "--method", "paper"),
    ],
    ids=str,
)
def test_an_unknown_network_is_answered_with_the_known_ones(run, inputs, tmp_path, asked):
    command, kind, *rest = asked
    output = tmp_path / ("w.safetensors" if command == "train" else "out.tif")
    given = (getattr(inputs, kind), *rest, "--net", "alexnet", "--device", "cpu", "-q")
    ended = run(command, *given, "-o", output)
    assert ended.code == 1
    [line] = ended.err.splitlines()
    assert line.startswith("Error: network 'alexnet' was asked for, expected one of dypro-mamba,")
    assert "restormer" in line
    assert not output.exists()


def test_weights_bring_their_own_network(run, inputs, tmp_path):
    asked = ("--method", "paper", "--weights", "w.safetensors", "--net", "mst++")
    ended = run("reconstruct", inputs.scene, *asked, "-o", tmp_path / "out.tif")
    assert ended.code == 1
    assert "net does not go with weights, which bring their own" in ended.err
    ended = run("reconstruct", inputs.scene, "--net", "mst++", "-o", tmp_path / "out.tif")
    assert ended.code == 1
    assert "net needs method 'paper', not 'product'" in ended.err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--mode", "unsupervised", "second.tif"), "2 inputs were given to --mode unsupervised"),
        (("--mode", "unsupervised", "--points", "f.gpkg"), "--points were given"),
        (("--mode", "supervised", "--points", "f.gpkg"), "option 'points' was given with cubes"),
        (("--mode", "pixel", "second.tif", "--points", "f.gpkg"), "option 'points' was given"),
        (("--mode", "supervised", "--reject-outliers"), "option 'reject-outliers' was given"),
        (("--mode", "supervised", "--units", "scene"), "option 'units' was given with cubes"),
        (("--synthetic", "2"), "option 'synthetic' was given with a scene"),
        (("--terms", "CC0"), "option 'terms' was given with a scene"),
    ],
)
def test_options_that_contradict_each_other_are_refused(run, inputs, tmp_path, given, told):
    ended = run("train", inputs.cube, *given, "-o", tmp_path / "w.safetensors")
    assert ended.code == 1
    assert ended.err.startswith("Error: ")
    assert told in ended.err
    assert not (tmp_path / "w.safetensors").exists()


def test_a_cube_without_wavelengths_is_refused(run, tmp_path):
    bare, output = tmp_path / "bare.tif", tmp_path / "w.safetensors"
    shape = {"width": 8, "height": 8, "count": 2, "dtype": "float32"}
    with rasterio.open(bare, "w", "GTiff", transform=from_origin(0, 0, 8, 8), **shape) as file:
        file.write(np.ones((2, 8, 8), "f4"))
    ended = run("train", bare, "--mode", "supervised", "--device", "cpu", "-o", output)
    assert ended.code == 1
    assert "does not say the wavelengths" in ended.err
    assert not output.exists()
