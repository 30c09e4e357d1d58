import json
import re

import pytest

from pixelssr_geo.testing import write_cave_scene

CHEAP = ("--ratios", "0,10", "--seeds", "0,1", "--methods", "interpolation,ridge+projection")


@pytest.fixture
def asked(inputs, tmp_path):
    """Arguments of a small experiment, and its table."""
    out = tmp_path / "cells.csv"
    cube = ("--scene", f"park={inputs.cube}", "--sensor", "GF6-PMS")
    return ("experiment", "accuracy", *cube, *CHEAP, "--out", out), out


def test_tables_go_to_stdout_and_what_is_left_out_to_stderr(run, asked):
    arguments, out = asked
    ended = run(*arguments)
    assert ended.code == 0
    assert ended.out.startswith("PSNR in dB / mean spectral angle in degrees, noise 0.2%")
    assert "| park | random | ridge+projection |  | " in ended.out
    assert "left out: park, random, 0 points: 2 are needed by: ridge+projection\n" in ended.err
    assert "cells: 6/6" in ended.err
    assert len(out.read_text().splitlines()) == 1 + 2 + 4


def test_a_second_run_and_the_table_alone_run_nothing(run, asked):
    arguments, out = asked
    first = run(*arguments)
    written = out.read_bytes()
    assert run(*arguments, "-q").out == first.out
    alone = run("experiment", "accuracy", "--table", "--out", out)
    assert (alone.code, alone.out, alone.err) == (0, first.out, "")
    some = run("experiment", "accuracy", "--table", "--out", out, "--ratios", "10", "--seeds", "1")
    assert "| scene | protocol | method | 10 |" in some.out
    assert "(1)" in some.out
    assert out.read_bytes() == written


def test_json_is_one_object(run, asked):
    arguments, _ = asked
    ended = run(*arguments, "--json", "--quiet")
    assert ended.err == ""
    assert ended.out.count("\n") == 1
    told = json.loads(ended.out)
    assert {figure["method"] for figure in told["figures"]} == {"interpolation", "ridge+projection"}
    assert told["lost"] == []
    (left_out,) = told["left_out"]
    assert "0 points" in left_out


def test_a_response_file_serves_as_well_as_a_sensor(run, inputs, tmp_path):
    table = tmp_path / "bands.csv"
    table.write_text("wavelength,fwhm\n490,60\n560,60\n660,60\n830,100\n")
    ended = run(
        "experiment", "accuracy", "--scene", inputs.cube, "--response", table, "--ratios", "0",
        "--methods", "interpolation", "--seeds", "0", "--protocols", "random,corner",
        "--noise", "0%,1%", "--out", tmp_path / "cells.csv",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "| cube | corner | 0 | interpolation | " in ended.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--methods", "rigde"), "there is no method 'rigde'"),
        (("--ratios", "few"), "'few' is asked for as points"),
        (("--noise", "3"), "'3' is asked for as noise"),
        (("--protocols", "edge"), "there is no protocol 'edge'"),
        (("--scene", "a.tif"), "give --scene with either --sensor NAME or --response CSV"),
        (("--data", "nowhere"), "'nowhere' holds no gf6_pms_response.csv"),
        (("--table", "--out", "nowhere.csv"), "there is no file 'nowhere.csv'"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    ended = run("experiment", "accuracy", *arguments)
    assert ended.code == 1
    assert ended.out == ""
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_table_of_something_else_is_refused_in_one_line(run, asked):
    arguments, out = asked
    out.write_text("scene,method,psnr\n")
    ended = run(*arguments)
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "has the columns scene, method, psnr, expected scene, protocol" in ended.err


@pytest.fixture
def table5(inputs, tmp_path):
    """Arguments of a small Table 5, and the file of its cells."""
    out = tmp_path / "networks.csv"
    cube = ("--scene", f"park={inputs.cube}", "--sensor", "GF6-PMS", "--device", "cpu")
    small = ("--steps", "1", "--windows", "1x8", "--ratios", "5%", "--methods", "ridge+projection")
    return ("experiment", "table5", *cube, *small, "--out", out), out


def test_a_table_of_the_paper_is_printed_beside_its_own_figures(run, table5):
    arguments, out = table5
    ended = run(*arguments)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Table 5, FRFT against FFT: park, protocol block, 1 steps of 1x8")
    assert "| dypro-mamba | pixel | Gamma | P_spa with FFT | 5% (" in ended.out
    assert "| ridge+projection | per-pixel |" in ended.out
    assert "cells: 3/3" in ended.err
    assert len(out.read_text().splitlines()) == 1 + 3
    budget = ("--steps", "1", "--windows", "1x8", "--ratios", "5%", "--methods", "ridge+projection")
    alone = run("experiment", "table5", "--table", *budget, "--out", out)
    assert (alone.out, alone.err) == (ended.out, "")


def test_a_table_of_the_paper_as_json_and_without_methods(run, table5, tmp_path):
    arguments, _ = table5
    keep = tmp_path / "kept"
    ended = run(*arguments, "--methods", "none", "--keep", keep, "--json", "-q")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert [one["variant"] for one in told["figures"]] == ["fft", "whole"]
    assert told["figures"][0]["paper"] == {}
    assert len(list(keep.glob("*.safetensors"))) == 2


def test_a_table_of_the_paper_of_a_dataset(run, tmp_path):
    for seed, name in enumerate("abcd"):
        write_cave_scene(tmp_path / "cave", name, seed=seed)
    ended = run(
        "experiment", "table7-9", "--dataset", f"cave:{tmp_path / 'cave'}", "--sensor", "RGB",
        "--patches", "2", "1", "--ratios", "1%", "--steps", "1", "--windows", "1x8",
        "--device", "cpu", "--out", tmp_path / "networks.csv", "-q",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "cave (2+1 patches of 128), protocol split, 1 steps" in ended.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--ratios", "18"), "'18' is asked for as ratio of labels"),
        (("--methods", "rigde"), "there is no method 'rigde'"),
        (("--protocol", "edge"), "there is no protocol 'edge'"),
        (("--windows", "16"), "expected their number and side such as 4x32"),
        (("--seeds", "a"), "'a' is no seed"),
        (("--networks", "alexnet"), "network 'alexnet' was asked for"),
        (("--sensor", "RGB"), "give --scene with either"),
        (("--sensor", "RGB", "--response", "rgb.csv"), "give --scene with either"),
        (("--patches", "8", "2"), "leave --patches out"),
        (("--dataset", "cave:x"), "it needs one of the two: give --sensor NAME"),
        (("--dataset", "nothing:x", "--sensor", "RGB"), "dataset 'nothing:x' was asked for"),
        (("--table", "--out", "nowhere.csv"), "there is no file 'nowhere.csv'"),
    ],
)
def test_bad_input_of_a_table_is_one_line(run, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    ended = run("experiment", "table1", *arguments)
    assert ended.code == 1
    assert ended.out == ""
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


QUICK = (
    "experiment",
    "table10",
    "--networks",
    "mstpp",
    "--tile",
    16,
    "--rounds",
    1,
    "--threads",
    1,
)


def test_costs_go_to_stdout_and_into_a_file(run, tmp_path):
    out = tmp_path / "costs.csv"
    ended = run(*QUICK, "--out", out)
    assert ended.code == 0, ended.err
    assert ended.out.startswith(
        "3 bands to 31 channels, 16 x 16 pixels, float32. Times: medians of 1"
    )
    assert re.findall(r"^\| `(.*?)` \|", ended.out, re.MULTILINE) == ["dypro-mamba", "mst++"]
    assert "paper" not in ended.out  # which has this size nowhere
    assert "warm-up: 2/2" in ended.err
    assert "rounds: 1/1" in ended.err
    written = out.read_bytes()
    alone = run("experiment", "table10", "--table", "--out", out)
    assert (alone.code, alone.out, alone.err) == (0, ended.out, "")
    assert out.read_bytes() == written
    told = json.loads(run("experiment", "table10", "--table", "--out", out, "--json").out)
    assert told["out"] == str(out)
    assert [net["net"] for net in told["networks"]] == ["dypro-mamba", "mst++"]


def test_costs_without_a_file_are_printed_only(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = run(*QUICK, "--bands", 4, "--channels", 5, "--device", "cpu", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("\n") == 1
    told = json.loads(ended.out)
    assert (told["out"], told["bands"], told["channels"], told["tile"]) == (None, 4, 5, 16)
    assert (told["rounds"], told["threads"], told["device"]) == (1, 1, "cpu")
    assert told["networks"][0]["ratio"] == 1
    assert all(net["paper"] is None for net in told["networks"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--networks", "mst++,magic"),
            "network 'magic' was asked for, expected one of dypro-mamba",
        ),
        (("--networks", ","), "no network is named, expected some of dypro-mamba"),
        (("--device", "gpu"), "option 'device' is 'gpu'"),
        (("--device", "cuda:99"), "device 'cuda:99' was asked for"),
        (("--out", "nowhere/costs.csv"), "there is no folder 'nowhere'"),
        (("--out", "other.csv"), "'other.csv' has the columns a, b, expected net, bands"),
        (("--table",), "--table was given without --out"),
        (("--table", "--out", "nowhere.csv"), "there is no file 'nowhere.csv'"),
        (
            ("--table", "--out", "other.csv"),
            "'other.csv' has the columns a, b, expected net, bands",
        ),
    ],
)
def test_bad_input_of_costs_is_one_line(run, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n")
    ended = run("experiment", "table10", *arguments)
    assert ended.code == 1
    assert ended.out == ""
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other.csv"]
    assert other.read_text() == "a,b\n"


@pytest.fixture
def park(inputs):
    """Arguments of a small figure."""
    cube = ("--scene", f"park={inputs.cube}", "--sensor", "GF6-PMS", "--device", "cpu")
    return (*cube, "--steps", "1", "--windows", "1x8", "--ratio", "1%")


def test_a_figure_is_a_picture_and_its_numbers_and_kept_networks_serve_the_next(
    run, park, tmp_path
):
    keep, picture = tmp_path / "kept", tmp_path / "frequencies.png"
    ended = run("experiment", "figure4", *park, "--keep", keep, "-o", picture)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Figure 4, frequencies in the neck's prompts: park, protocol block")
    assert "| P_hf | 0." in ended.out
    assert ended.out.endswith(f"\n{picture}\n")
    assert "dypro-mamba, gamma: 1/1" in ended.err
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = run("experiment", "figure4", *park, "--keep", keep, "-o", picture)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    again = run(
        "experiment", "figure4", *park, "--keep", keep, "-o", picture, "--overwrite", "--json"
    )
    told = json.loads(again.out)
    assert again.err == ""  # nothing was trained
    assert told["output"] == str(picture)
    assert [row["feature"] for row in told["numbers"]] == ["scene", "F1", "P_spa", "P_hf", "Y3"]


def test_figure_1_is_drawn_from_the_cells_of_table_2(run, park, tmp_path):
    some = ("--networks", "dypro-mamba", "--methods", "ridge+projection")
    out, picture = ("--out", tmp_path / "networks.csv"), ("-o", tmp_path / "figure1.png")
    ended = run("experiment", "figure1", *park, *some, *out, *picture)
    assert ended.code == 0, ended.err
    assert "cells: 4/4" in ended.err
    assert "left out: park, 0: 2 are needed by ridge+projection" in ended.err
    assert "| dypro-mamba | supervised | 100% | " in ended.out
    budget = ("--steps", "1", "--windows", "1x8", "--ratio", "1%")
    alone = run("experiment", "figure1", "--table", *budget, *some, *out, *picture, "--overwrite")
    assert (alone.out, alone.err) == (ended.out, "")
    other = run("experiment", "figure1", "--table", *some, *out, "-o", tmp_path / "other.png")
    assert "no finished cell is there for the figure" in other.err
    assert not (tmp_path / "other.png").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--ratio", "18"), "'18' is asked for as ratio of labels"),
        (("-o", "figure.jpg"), "expected a name that ends in .png"),
        (("-o", "nowhere/figure.png"), "there is no folder 'nowhere'"),
        (("--scene", "a.tif", "--scene", "b.tif", "--sensor", "GF6-PMS"), "2 scenes (a, b) are"),
        (("--scene", "nowhere.tif", "--sensor", "GF6-PMS"), "nowhere.tif"),
        (("--protocol", "edge"), "there is no protocol 'edge'"),
        (("--networks", "alexnet"), "network 'alexnet' was asked for"),
    ],
)
def test_bad_input_of_a_figure_is_one_line_and_leaves_no_file(
    run, tmp_path, monkeypatch, arguments, told
):
    monkeypatch.chdir(tmp_path)
    ended = run("experiment", "figure6", *arguments)
    assert ended.code == 1
    assert ended.out == ""
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
