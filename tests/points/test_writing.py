"""Points written and read again."""

import json
from dataclasses import replace

import numpy as np
import pyogrio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import OutputError
from pixelssr_geo.points import read_points, write_points
from pixelssr_geo.testing import make_points


@pytest.fixture
def path(tmp_path):
    return tmp_path / "field.gpkg"


def test_what_is_written_is_read_again(path):
    points = make_points(5)
    points.reflectance[2, 3:6] = np.nan
    write_points(points, path)
    again = read_points(path)
    assert again.ids == points.ids
    np.testing.assert_allclose(again.reflectance, points.reflectance, atol=1e-6)
    np.testing.assert_allclose(again.wavelengths_nm, points.wavelengths_nm)
    np.testing.assert_allclose(again.x, points.x)
    np.testing.assert_allclose(again.y, points.y)
    assert "33N" in again.crs_wkt
    assert again.attributes == {}
    assert again.spread is None


def test_attributes_and_spread_are_read_again(path):
    points = replace(
        make_points(4),
        attributes={
            "class": ("grass", None, "sand", "sand"),
            "date": ("2024-06-01", "2024-06-02", None, "2024-06-02"),
            "replicates": (5, 3, None, 2**40),
            "cloudy": (True, False, None, True),
            "azimuth": (12.5, None, 0.0, -3.0),
        },
        spread=np.full((4, 61), 0.01),
    )
    points.spread[1] = np.nan
    write_points(points, path)
    again = read_points(path)
    assert again.attributes == points.attributes
    assert list(map(type, again.attributes["replicates"])) == [int, int, type(None), int]
    assert type(again.attributes["cloudy"][0]) is bool
    np.testing.assert_allclose(again.spread, points.spread)


_PLAIN = st.one_of(
    st.lists(st.none() | st.integers(-(2**53), 2**53), min_size=3, max_size=3),
    st.lists(st.none() | st.booleans(), min_size=3, max_size=3),
    st.lists(st.none() | st.text("aé ß-\"'{", min_size=1), min_size=3, max_size=3),
    st.lists(st.none() | st.floats(-1e9, 1e9), min_size=3, max_size=3),
)


@given(_PLAIN, st.sampled_from(["class", "ID", "name", "Profiles", "fid", "geom", "profiles_std"]))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_attribute_is_read_again_and_the_names_stay(tmp_path, values, name):
    path = tmp_path / "field.gpkg"
    points = replace(make_points(3), attributes={name: tuple(values), name.swapcase(): (1, 2, 3)})
    write_points(points, path)
    again = read_points(path)
    assert again.ids == points.ids
    np.testing.assert_allclose(again.reflectance, points.reflectance, atol=1e-6)
    first, second = again.attributes.values()
    assert first == points.attributes[name]
    assert second == (1, 2, 3)
    json.dumps(again.attributes)


def test_values_out_of_range_come_back_as_they_were(path):
    points = make_points(4)
    points.reflectance[:] *= 100
    points.reflectance[0, 0] = -0.5
    write_points(points, path)
    np.testing.assert_allclose(read_points(path).reflectance, points.reflectance, atol=1e-6)


def test_fields_are_those_of_a_spectral_library(path):
    write_points(make_points(2), path)
    frame = pyogrio.read_dataframe(path, read_geometry=False)
    assert list(frame.columns) == ["name", "profiles"]
    profile = json.loads(frame["profiles"][0])
    assert list(profile) == ["x", "y", "xUnit", "yUnit"]
    assert profile["xUnit"] == "nm"
    assert pyogrio.read_info(path)["ogr_types"] == ["OFTString", "OFTString"]


def test_writing_again_replaces(path):
    write_points(make_points(5), path)
    write_points(make_points(3), path)
    assert len(read_points(path)) == 3
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write_points(make_points(3), tmp_path / "none" / "field.gpkg")


def test_what_the_system_refuses_is_an_output_error(tmp_path):
    (tmp_path / "field.gpkg").mkdir()
    with pytest.raises(OutputError, match=r"field\.gpkg"):
        write_points(make_points(3), tmp_path / "field.gpkg")


def test_a_missing_crs_is_left_to_pairing(path):
    write_points(make_points(3, crs=None), path)
    assert read_points(path).crs_wkt is None
