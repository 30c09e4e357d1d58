import json

import numpy as np
import pytest
from matplotlib.image import imread

from pixelssr_geo.points import read_points, write_points

SENSOR = ("--sensor", "GF6-PMS")


@pytest.fixture
def faulty(inputs):
    """The small inputs, with a point scaled by 30, one outside and one of another place."""
    points = read_points(inputs.points)
    points.reflectance[3] *= 30
    points.x[5] += 1e6
    points.reflectance[1] = points.reflectance[6] + 0.001
    write_points(points, inputs.points)
    return inputs


def told(run, *arguments):
    ended = run("points", "inspect", *arguments, "--json")
    assert ended.code == 0
    return json.loads(ended.out)


def test_every_point_has_a_line_the_worst_first(run, faulty):
    ended = run("points", "inspect", faulty.points, "--scene", faulty.scene, *SENSOR)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert "11 used, 1 dropped, 2 suspicious, in 11 pixels" in lines
    points = [line for line in lines if line[2:].startswith("p") and " row " in line]
    assert len(points) == 12
    marks = [line[0] for line in points]
    assert marks == sorted(marks, key="x!- ".index)
    assert points[0].startswith("x p")
    assert " -> " in points[0]


def test_json_has_every_number_and_the_keys_of_before(run, faulty):
    about = told(run, faulty.points, "--scene", faulty.scene, *SENSOR)
    assert {"points", "wavelengths", "range_nm", "recognised", "used", "dropped"} <= set(about)
    assert about["dropped"] == [{"id": "p6", "reason": "outside"}]
    assert set(about["suspicious"]) == {"p2", "p4"}
    assert [point["id"] for point in about["quality"]] == [f"p{n}" for n in range(1, 13)]
    fourth = about["quality"][3]
    assert fourth["place"]["z"] > 4
    assert fourth["place"]["factor"] == pytest.approx(30, rel=0.1)
    assert {finding["kind"] for finding in fourth["findings"]} >= {"disagrees"}
    assert about["counts"]["disagrees"] == 2
    assert about["common"]["bands"]["Red"]["gain"] == pytest.approx(1, abs=0.05)


def test_without_a_scene_the_spectra_are_judged(run, faulty):
    about = told(run, faulty.points)
    assert about["quality"][0]["place"] is None
    assert "used" not in about
    ended = run("points", "inspect", faulty.points)
    assert ended.code == 0
    assert "found: units 1" in ended.out
    assert ended.out.splitlines()[3].startswith("x p4   units: a level of")


def test_channels_may_be_asked_without_a_scene(run, faulty):
    about = told(run, faulty.points, "--wavelengths", "400:1200:10")
    assert np.allclose([point["spectrum"]["coverage"] for point in about["quality"]], 61 / 81)


def test_a_picture_is_written_and_named(run, faulty, tmp_path):
    path = tmp_path / "points.png"
    asked = (faulty.points, "--scene", faulty.scene, *SENSOR, "--picture", path)
    assert told(run, *asked)["picture"] == str(path)
    assert imread(path).ndim == 3
    kept = path.read_bytes()
    refused = run("points", "inspect", *asked)
    assert refused.code == 1
    assert "exists" in refused.err
    assert path.read_bytes() == kept
    assert f"picture: {path}" in run("points", "inspect", *asked, "--overwrite").out


def test_a_picture_that_cannot_be_written_is_said_in_one_line(run, faulty, tmp_path):
    ended = run("points", "inspect", faulty.points, "--picture", tmp_path / "none" / "p.png")
    assert ended.code == 1
    assert ended.err.startswith("Error: cannot write")
    assert "none/p.png" in ended.err
    assert ended.err.count("\n") == 1
