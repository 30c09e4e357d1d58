import json

import numpy as np
import pytest

from pixelssr_geo.points import read_points


@pytest.fixture
def field(tmp_path):
    rows = "".join(f"{w},0.1,0.2,0.4\n" for w in range(400, 1001, 10))
    (tmp_path / "spectra").mkdir()
    (tmp_path / "spectra" / "all.csv").write_text("wavelength,oak_1,oak_2,fir_1\n" + rows)
    (tmp_path / "spectra" / "notes.txt").write_text("cloudy\n")
    (tmp_path / "places.csv").write_text("Name;lon;lat\nOak;12,5;48,1\nfir;12,6;48,2\nlake;1;1\n")
    return tmp_path


def command(field, *more):
    return (
        "points", "import", field / "spectra", "-o", field / "field.gpkg",
        "--coordinates", field / "places.csv", "--group-by", "prefix:[a-z]+", *more,
    )  # fmt: skip


def test_spectra_and_places_become_points_that_the_other_commands_read(run, field):
    done = run(*command(field))
    assert done.code == 0, done.err
    assert "read      3 spectra of 1 file\n" in done.out
    assert "2 targets, 61 wavelengths 400-1000 nm, EPSG:4326" in done.out
    assert "reflectance 0-1 (by size): 1 file" in done.out
    assert "'notes.txt': is no spectrometer file" in done.out
    assert "coordinates without spectra  'lake'" in done.out
    points = read_points(field / "field.gpkg")
    assert points.ids == ("oak", "fir")
    np.testing.assert_allclose(points.reflectance[:, 0], [0.15, 0.4])
    assert run("points", "inspect", field / "field.gpkg").code == 0


def test_many_that_are_left_out_are_one_line_a_reason(run, field):
    header = ",".join(["wavelength", *(f"fir {number}" for number in range(50))])
    rows = "".join(f"{w}{',0.1' * 50}\n" for w in range(400, 450, 10))
    (field / "spectra" / "more.csv").write_text(f"{header}\n{rows}")
    (field / "places.csv").write_text("name,lon,lat\noak_1,1,1\n")
    done = run("points", "import", field / "spectra", "-q", "-o", field / "field.gpkg",
               "--coordinates", field / "places.csv")  # fmt: skip
    (line,) = [line for line in done.out.splitlines() if "fir 0" in line]
    assert "'oak_2', 'fir_1', 'fir 0'" in line
    assert line.endswith("and 32 more: neither its name nor its target or file is in 'places.csv'")


def test_json_is_one_object_on_stdout(run, field):
    done = run(*command(field, "--json"))
    about = json.loads(done.out)
    assert about["points"][0] == {"id": "oak", "x": 12.5, "y": 48.1, "replicates": 2}
    assert (about["files"], about["spectra"], about["targets"]) == (1, 3, 2)
    assert (about["wavelengths"], about["range_nm"]) == (61, [400.0, 1000.0])
    assert [one["name"] for one in about["left_out"]] == ["notes.txt"]
    assert about["unused_coordinates"] == ["lake"]
    assert about["crs"] == "EPSG:4326"
    assert about["output"] == str(field / "field.gpkg")


def test_progress_goes_to_stderr_and_quiet_is_quiet(run, field):
    assert "read: 2/2" in run(*command(field)).err
    assert run(*command(field, "-q", "--overwrite")).err == ""


def test_an_existing_file_is_replaced_only_when_told(run, field):
    assert run(*command(field)).code == 0
    again = run(*command(field))
    assert again.code == 1
    assert "exists" in again.err
    assert "--overwrite" in again.err
    assert run(*command(field, "--overwrite")).code == 0


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"-o": "field.csv"}, 1, "a name that ends in .gpkg is needed"),
        ({"-o": "none/field.gpkg"}, 1, "there is no folder"),
        ({"--coordinates": "none.csv"}, 1, "cannot be read"),
        ({"--group-by": "day"}, 1, "cannot group by 'day'"),
        ({"--crs": "EPSG:32633"}, 1, "look like degrees"),
        ({"--colour": "red"}, 2, "No such option"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(run, field, changed, code, said):
    paths = {"-o", "--coordinates"}
    options = {
        "-o": "field.gpkg", "--coordinates": "places.csv", "--group-by": "prefix:[a-z]+", **changed,
    }  # fmt: skip
    words = [
        word
        for name, value in options.items()
        for word in (name, field / value if name in paths else value)
    ]
    done = run("points", "import", field / "spectra", "-q", *words)
    assert done.code == code
    assert said in done.err
    if code == 1:
        assert done.err.count("\n") == 1
    assert not (field / "field.gpkg").exists()


def test_files_must_be_given(run, tmp_path):
    assert run("points", "import", "-o", tmp_path / "field.gpkg").code == 2


def test_a_damaged_file_ends_with_one_line(run, tmp_path):
    (tmp_path / "a.asd").write_bytes(b"as7\0\0\0")
    done = run("points", "import", tmp_path / "a.asd", "-q", "-o", tmp_path / "field.gpkg")
    assert done.code == 1
    assert "is cut off" in done.err
    assert done.err.count("\n") == 1
