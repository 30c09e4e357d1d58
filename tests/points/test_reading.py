"""Layers, places, names and attributes; what is not a file of points; growth."""

import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from pixelssr_geo.points import read_points, write_points
from pixelssr_geo.testing import make_points


class TestPlaces:
    def test_three_dimensions_are_fine(self, field, made):
        field.layer({"profiles": made.profiles}, geometry=shapely.points(np.eye(3) + 1))
        points = field.read()
        assert points.x.tolist() == [2, 1, 1]
        assert points.y.tolist() == [1, 2, 1]

    @pytest.mark.parametrize("mixed", [False, True])
    def test_multipoints_of_one_point_are_points(self, field, made, mixed):
        places = [shapely.MultiPoint([(13 + i, 52)]) for i in range(3)]
        places[1] = shapely.Point(14, 52) if mixed else places[1]
        field.layer({"profiles": made.profiles}, geometry=places, crs="EPSG:4326")
        assert field.read().x.tolist() == [13, 14, 15]

    @pytest.mark.parametrize("kind", ["MultiPoint", "Unknown"])
    def test_multipoints_of_several_are_refused(self, field, made, kind):
        places = [shapely.MultiPoint([(i, 0), (i, 1)]) for i in range(3)]
        field.layer({"profiles": made.profiles}, geometry=places, geometry_type=kind)
        field.refused("single parts")

    def test_a_layer_of_any_kind_of_geometry_may_hold_points(self, field, made):
        field.layer({"profiles": made.profiles}, geometry_type="Unknown")
        assert field.read().x.tolist() == [390_004, 390_012, 390_020]

    @pytest.mark.parametrize("kind", ["Point", "Unknown"])
    def test_features_without_geometry(self, field, made, kind):
        places = [shapely.Point(0, 0), None, shapely.Point(1, 1)]
        field.layer({"profiles": made.profiles}, geometry=places, geometry_type=kind)
        field.refused("1 of 3 features in layer 'field' .* no geometry.*delete or locate")

    @pytest.mark.parametrize(
        "shape", [shapely.box(0, 0, 1, 1), shapely.LineString([(0, 0), (1, 1)])]
    )
    @pytest.mark.parametrize("unknown", [False, True])
    def test_polygons_and_lines(self, field, made, shape, unknown):
        options = {"geometry_type": "Unknown"} if unknown else {}
        field.layer({"profiles": made.profiles}, geometry=[shape] * 3, **options)
        field.refused(f"holds '{shape.geom_type}', points are needed: take the centroids")

    def test_polygons_without_spectra(self, field):
        field.layer({"name": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)])
        field.refused("holds 'Polygon'")


class TestLayers:
    def test_the_layer_with_points_is_found(self, field, made):
        field.layer({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], name="plots")
        field.layer({"profiles": made.profiles})
        points = field.read()
        assert len(points) == 3
        assert points.notes[-1] == "layer 'field' taken, not 'plots'"

    def test_the_first_layer_of_points_with_spectra_is_found(self, field, made):
        field.layer({"tree": ["oak"]}, name="trees")
        field.layer({"profiles": made.profiles}, name="first")
        field.layer({"profiles": made.profiles[:2]}, name="second")
        points = field.read()
        assert len(points) == 3
        assert points.notes[-1] == "layer 'first' taken, not 'trees', 'second'"

    def test_the_layer_that_is_named(self, field, made):
        field.layer({"profiles": made.profiles}, name="first")
        field.layer({"profiles": made.profiles[::-1]}, name="second")
        points = field.read(layer="second")
        np.testing.assert_allclose(points.reflectance, made.spectra[::-1])

    def test_a_layer_that_is_not_there(self, field, made):
        field.layer({"profiles": made.profiles})
        field.refused("no layer 'other', it has 'field': give --layer", layer="other")

    def test_a_field_that_is_not_there(self, field, made):
        field.layer({"profiles": made.profiles})
        field.table({"remark": ["a"]})
        field.refused("no field 'other', it has 'profiles', 'remark': give", field="other")

    def test_an_empty_layer(self, field):
        field.layer({"profiles": []}, geometry=[], geometry_type="Point")
        field.refused("'field' .* is empty, points are needed")

    def test_an_empty_layer_before_one_with_points(self, field, made):
        field.layer({"profiles": []}, geometry=[], geometry_type="Point", name="empty")
        field.layer({"profiles": made.profiles})
        assert len(field.read()) == 3

    def test_a_table_without_geometry(self, field, made):
        field.table({"profiles": made.profiles}, "table")
        field.refused("no layer with geometries \\('table'\\)")
        field.refused("'table' .* has no geometry", layer="table")

    def test_a_layer_without_spectra(self, field):
        field.layer({"name": ["a", "b"], "height": [1.0, 2.0]})
        field.refused("holds no spectra: found the fields 'name', 'height' in layer 'field'")


class TestNamesAndAttributes:
    def test_without_names_points_are_numbered(self, field, made):
        field.layer({"profiles": made.profiles})
        assert field.read().ids == ("point 1", "point 2", "point 3")

    @pytest.mark.parametrize("name", ["id", "Name", "POINT_ID", "sample", "Plot"])
    def test_names_are_taken_from_a_usual_field(self, field, made, name):
        field.layer({"kind": list("xyz"), name: ["a", "b", "c"], "profiles": made.profiles})
        points = field.read()
        assert points.ids == ("a", "b", "c")
        assert points.attributes == {"kind": ("x", "y", "z")}

    def test_names_that_differ_are_taken_first(self, field, made):
        columns = {"id": [None] * 3, "name": ["oak", "oak", "ash"], "plot": [3.0, 1.0, 2.0]}
        field.layer({**columns, "profiles": made.profiles})
        points = field.read()
        assert points.ids == ("3", "1", "2")
        assert points.attributes["name"] == ("oak", "oak", "ash")

    def test_repeated_names_are_kept_if_there_are_no_others(self, field, made):
        field.layer({"name": ["oak", "oak", "ash"], "profiles": made.profiles})
        assert field.read().ids == ("oak", "oak", "ash")

    def test_attributes_are_plain_values(self, field, made):
        days = pd.to_datetime(["2024-06-01", None, "2024-06-03"])
        field.layer(
            {
                "profiles": made.profiles,
                "class": ["grass", None, "sand"],
                "count": pd.array([3, None, 5], dtype="Int64"),
                "sunny": pd.array([True, None, False], dtype="boolean"),
                "height": [0.5, np.nan, np.inf],
                "day": days,
                "time": pd.to_datetime(["2024-06-01T10:30", None, "2024-06-03T11:00"]),
            }
        )
        assert field.read().attributes == {
            "class": ("grass", None, "sand"),
            "count": (3, None, 5),
            "sunny": (True, None, False),
            "height": (0.5, None, None),
            "day": ("2024-06-01", None, "2024-06-03"),
            "time": ("2024-06-01T10:30:00", None, "2024-06-03T11:00:00"),
        }

    def test_bytes_are_no_attributes(self, field, made):
        field.column([b"\xff\xd8\xff"] * 3, name="photo")
        field.table({"fid_point": np.repeat([1, 2, 3], 4), **made.long})
        assert field.read().attributes == {"number": (0, 1, 2)}


class TestFiles:
    def test_a_file_that_is_not_there(self, field):
        field.refused("does not exist, a point file is needed")

    def test_a_geopackage_that_is_a_text_file(self, field):
        field.path.write_text("wavelength,reflectance\n")
        field.refused("cannot be opened as a vector file")

    def test_an_empty_file(self, field):
        field.path.touch()
        field.refused("cannot be opened as a vector file")

    def test_a_truncated_geopackage(self, field, made):
        field.layer({"profiles": made.profiles})
        field.path.write_bytes(field.path.read_bytes()[:30_000])
        field.refused("cannot be")

    @pytest.mark.parametrize("driver", ["FlatGeobuf", "GeoJSON", "ESRI Shapefile"])
    def test_other_vector_files(self, tmp_path, made, driver):
        path = tmp_path / f"field.{'shp' if 'Shape' in driver else 'fgb'}"
        columns = {f"wl_{nm:g}": made.spectra[:, at] for at, nm in enumerate(made.nm)}
        frame = geopandas.GeoDataFrame(
            {"name": list("abc"), **columns}, geometry=shapely.points(np.eye(3)[:, :2]), crs=4326
        )
        frame.to_file(path, driver=driver)
        points = read_points(path)
        np.testing.assert_allclose(points.reflectance, made.spectra)
        assert points.ids == ("a", "b", "c")


BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "read_points.py"


@pytest.mark.skipif(not BENCHMARK.exists(), reason="the benchmarks are not beside the tests")
def test_the_benchmark_reads_every_layout(tmp_path):
    options = ["--points", "20", "40", "--wavelengths", "60", "--csv", tmp_path / "out.csv"]
    done = subprocess.run(
        [sys.executable, BENCHMARK, *map(str, options)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out.csv").read_text().split()
    assert len(lines) == 1 + 2 * 6
    assert done.stdout.count("exponent") == 6


def cpu_seconds(path):
    def once():
        start = time.process_time()
        read_points(path)
        return time.process_time() - start

    return min(once() for _ in range(3))


class TestGrowth:
    def write_profiles(self, points, path):
        write_points(points, path)

    def write_table(self, points, path):
        import pyogrio

        write_points(points.take(np.arange(0)), path)
        frame = geopandas.GeoDataFrame(
            {"name": list(points.ids)}, geometry=shapely.points(points.x, points.y)
        )
        frame.set_crs(32633).to_file(path, layer="points")
        count, wavelengths = points.reflectance.shape
        long = {
            "name": np.repeat(points.ids, wavelengths),
            "wavelength": np.tile(points.wavelengths_nm, count),
            "reflectance": points.reflectance.ravel(),
        }
        pyogrio.write_dataframe(pd.DataFrame(long), path, layer="spectra")

    @pytest.mark.parametrize("layout", ["profiles", "table"])
    def test_reading_is_linear_in_the_number_of_points(self, tmp_path, layout):
        taken = []
        for count in (200, 1600):
            points = make_points(count, wavelengths="400:1000:5")
            path = tmp_path / f"{count}.gpkg"
            getattr(self, f"write_{layout}")(points, path)
            taken.append(cpu_seconds(path))
        # Eight times the points; quadratic work would take 64 times as long.
        assert taken[1] < 20 * taken[0]

    def test_wavelengths_of_profiles_are_settled_once(self, tmp_path, monkeypatch):
        from pixelssr_geo.points import profiles

        calls = []
        monkeypatch.setattr(
            profiles,
            "wavelengths_in_nm",
            lambda *given, told=profiles.wavelengths_in_nm: calls.append(1) or told(*given),
        )
        write_points(make_points(50), tmp_path / "field.gpkg")
        read_points(tmp_path / "field.gpkg")
        assert len(calls) == 1


def test_deleted_and_infinite_values_are_missing(field, made):
    values = made.spectra.copy()
    values[0, 0], values[1, 1], values[2, 2] = -1.23e34, np.inf, -9999
    field.layer({f"{nm:g}": values[:, at] for at, nm in enumerate(made.nm)})
    points = field.read()
    assert np.argwhere(np.isnan(points.reflectance)).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert "3 values such as -9999 taken as missing" in points.notes


class TestIdsThatRecur:
    def test_are_kept_and_told(self, field, made):
        field.layer({"id": ["a", "a", "b"], "plot": [1, 2, 3], "profiles": made.profiles})
        points = field.read()
        assert points.ids == ("a", "a", "b")
        assert "1 of 3 points have an id of field 'id' that recurs" in points.notes

    def test_count_behind_names_that_differ(self, field, made):
        names = {"name": list("xyz"), "sample_id": [1, 1, 2]}
        field.layer({**names, "profiles": made.profiles})
        assert field.read().ids == ("x", "y", "z")

    def test_are_passed_by_where_nobody_filled_them_in(self, field, made):
        field.layer({"id": [0, 0, 0], "plot": [1, 2, 3], "profiles": made.profiles})
        assert field.read().ids == ("1", "2", "3")
