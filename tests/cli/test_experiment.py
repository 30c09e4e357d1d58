import json

import pytest

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
