import json
import pickle
import sqlite3
from contextlib import closing

import geopandas
import numpy as np
import pytest
import shapely

from pixelssr_geo.errors import OutputError, PointsError
from pixelssr_geo.points import PointSpectra, read_points, write_points
from pixelssr_geo.testing import make_points

NM = [450.0, 550.0, 650.0, 750.0]
SPECTRA = np.array([[0.05, 0.1, 0.2, 0.4], [0.1, 0.12, 0.14, 0.16], [0.02, 0.08, 0.04, 0.5]])


def write_layer(path, columns, *, geometry=None, crs="EPSG:32633", layer="field", **options):
    """A GeoPackage layer of three places with the given columns."""
    if geometry is None:
        geometry = shapely.points(
            [[390_004, 5_809_996], [390_012, 5_809_988], [390_020, 5_809_980]]
        )
    geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs).to_file(
        path, layer=layer, driver="GPKG", **options
    )
    return path


def write_blobs(path, blobs, *, name="profiles"):
    """A GeoPackage layer with a field of bytes, as EnMAP-Box makes it; geopandas has none."""
    # The index would need functions that plain SQLite lacks.
    write_layer(path, {"number": range(len(blobs))}, SPATIAL_INDEX="NO")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"ALTER TABLE field ADD COLUMN {name} BLOB")
        for number, blob in enumerate(blobs):
            database.execute(f"UPDATE field SET {name} = ? WHERE number = ?", (blob, number))
    return path


def profile(values, wavelengths=NM, **more):
    return json.dumps({"x": list(wavelengths), "y": list(values), **more})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "field.gpkg"


class TestProfiles:
    def test_json_text(self, path):
        write_layer(path, {"name": ["a", "b", "c"], "profiles": [profile(s) for s in SPECTRA]})
        points = read_points(path)
        assert points.ids == ("a", "b", "c")
        np.testing.assert_allclose(points.reflectance, SPECTRA)
        assert points.wavelengths_nm.tolist() == NM
        assert points.x.tolist() == [390_004, 390_012, 390_020]
        assert points.y.tolist() == [5_809_996, 5_809_988, 5_809_980]
        assert "UTM zone 33N" in points.crs_wkt
        assert points.notes == ("profiles in field 'profiles'", "reflectance 0-1")

    def test_json_in_a_blob(self, path):
        blobs = [profile(s, xUnit="Nanometers").encode() for s in SPECTRA]
        np.testing.assert_allclose(read_points(write_blobs(path, blobs)).reflectance, SPECTRA)

    def test_a_field_of_any_name(self, path):
        write_layer(path, {"remark": ["x"] * 3, "leaf": [profile(s) for s in SPECTRA]})
        assert read_points(path).notes[0] == "profiles in field 'leaf'"

    def test_the_field_that_is_named(self, path):
        first, second = [profile(s) for s in SPECTRA], [profile(s / 2) for s in SPECTRA]
        write_layer(path, {"profiles": first, "other": second})
        np.testing.assert_allclose(read_points(path, field="other").reflectance, SPECTRA / 2)

    @pytest.mark.parametrize("unit", ["um", "µm", "Micrometers", None])
    def test_micrometres_become_nanometres(self, path, unit):
        wavelengths = [nm / 1000 for nm in NM]
        write_layer(path, {"profiles": [profile(s, wavelengths, xUnit=unit) for s in SPECTRA]})
        np.testing.assert_allclose(read_points(path).wavelengths_nm, NM)

    def test_spectra_are_put_in_ascending_order(self, path):
        write_layer(path, {"profiles": [profile(s[::-1], NM[::-1]) for s in SPECTRA]})
        points = read_points(path)
        assert points.wavelengths_nm.tolist() == NM
        np.testing.assert_allclose(points.reflectance, SPECTRA)

    def test_grids_of_several_instruments_are_brought_together(self, path):
        other = [500.0, 600.0]
        columns = {"profiles": [profile(SPECTRA[0]), profile([0.1, 0.2], other), profile([0] * 4)]}
        points = read_points(write_layer(path, columns))
        assert points.wavelengths_nm.tolist() == [450, 500, 550, 600, 650, 750]
        np.testing.assert_allclose(points.reflectance[0], [0.05, 0.075, 0.1, 0.15, 0.2, 0.4])
        # Never beyond what the instrument measured.
        np.testing.assert_allclose(points.reflectance[1], [np.nan, 0.1, 0.15, 0.2, np.nan, np.nan])

    def test_null_is_no_value(self, path):
        write_layer(path, {"profiles": [profile([0.1, None, 0.2, 0.3])] * 3})
        assert np.isnan(read_points(path).reflectance[:, 1]).all()


class TestWide:
    @pytest.mark.parametrize(
        "name", ["{:g}", "X{:.1f}", "wl_{:g}", "R_{:g}nm", "{:g} nm", "band_{:g}", "refl_{:g}"]
    )
    def test_columns_named_by_wavelength(self, path, name):
        columns = {name.format(nm): SPECTRA[:, at] for at, nm in enumerate(NM)}
        points = read_points(write_layer(path, {"id": [7, 8, 9], "quality": [1, 2, 3], **columns}))
        assert points.wavelengths_nm.tolist() == NM
        np.testing.assert_allclose(points.reflectance, SPECTRA)
        assert points.ids == ("7", "8", "9")
        assert points.notes[0] == "4 wavelength columns"

    def test_columns_in_micrometres_and_any_order(self, path):
        order = [2, 0, 3, 1]
        columns = {f"um_{NM[at] / 1000:.3f}".removeprefix("um_"): SPECTRA[:, at] for at in order}
        points = read_points(write_layer(path, columns))
        np.testing.assert_allclose(points.wavelengths_nm, NM)
        np.testing.assert_allclose(points.reflectance, SPECTRA)

    def test_band_numbers_are_no_wavelengths(self, path):
        write_layer(path, {f"b{number}": SPECTRA[:, 0] for number in (1, 2, 3)})
        with pytest.raises(PointsError, match="holds no spectra: found the fields 'b1'"):
            read_points(path)

    def test_missing_numbers_are_nan(self, path):
        values = SPECTRA.copy()
        values[1, 2] = np.nan
        write_layer(path, {f"{nm:g}": values[:, at] for at, nm in enumerate(NM)})
        np.testing.assert_array_equal(np.isnan(read_points(path).reflectance), np.isnan(values))

    def test_whole_numbers_are_numbers(self, path):
        columns = {
            f"{nm:g}": np.rint(SPECTRA[:, at] * 1e4).astype("i4") for at, nm in enumerate(NM)
        }
        np.testing.assert_allclose(read_points(write_layer(path, columns)).reflectance, SPECTRA)


@pytest.mark.parametrize(
    ("factor", "note"), [(1, "0-1"), (100, "percent"), (10_000, "x 10000")], ids=str
)
def test_the_size_of_the_values_tells_their_unit(path, factor, note):
    write_layer(path, {"profiles": [profile(s * factor) for s in SPECTRA]})
    points = read_points(path)
    np.testing.assert_allclose(points.reflectance, SPECTRA)
    assert note in points.notes[1]


class TestPlaces:
    def test_without_names_points_are_numbered(self, path):
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]})
        assert read_points(path).ids == ("point 1", "point 2", "point 3")

    def test_the_layer_with_points_is_found(self, path):
        write_layer(path, {"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], layer="plots")
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]}, mode="a")
        assert len(read_points(path)) == 3

    def test_the_layer_that_is_named(self, path):
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]}, layer="first")
        write_layer(path, {"profiles": [profile(s / 2) for s in SPECTRA]}, layer="second", mode="a")
        np.testing.assert_allclose(read_points(path, layer="second").reflectance, SPECTRA / 2)

    def test_multipoints_of_one_point_are_points(self, path):
        places = [shapely.MultiPoint([(13 + i, 52)]) for i in range(3)]
        write_layer(
            path, {"profiles": [profile(s) for s in SPECTRA]}, geometry=places, crs="EPSG:4326"
        )
        assert read_points(path).x.tolist() == [13, 14, 15]

    def test_other_vector_files_are_read(self, tmp_path):
        path = tmp_path / "field.geojson"
        geopandas.GeoDataFrame(
            {"profiles": [profile(SPECTRA[0])]}, geometry=shapely.points([[13, 52]]), crs=4326
        ).to_file(path, driver="GeoJSON")
        np.testing.assert_allclose(read_points(path).reflectance, SPECTRA[:1])

    def test_a_missing_crs_is_left_to_pairing(self, path):
        write_points(make_points(3, crs=None), path)
        assert read_points(path).crs_wkt is None


class TestWriting:
    def test_what_is_written_is_read_again(self, path):
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

    def test_writing_again_replaces(self, path):
        write_points(make_points(5), path)
        write_points(make_points(3), path)
        assert len(read_points(path)) == 3

    def test_a_missing_folder_is_refused(self, tmp_path):
        with pytest.raises(OutputError, match="does not exist"):
            write_points(make_points(3), tmp_path / "none" / "field.gpkg")

    def test_what_the_system_refuses_is_an_output_error(self, tmp_path):
        (tmp_path / "field.gpkg").mkdir()
        with pytest.raises(OutputError, match=r"field\.gpkg"):
            write_points(make_points(3), tmp_path / "field.gpkg")


def refused(path, match, **options):
    with pytest.raises(PointsError, match=match) as caught:
        read_points(path, **options)
    assert "\n" not in str(caught.value)


class TestRefused:
    def test_a_file_that_is_not_there(self, path):
        refused(path, "does not exist")

    def test_a_geopackage_that_is_a_text_file(self, path):
        path.write_text("wavelength,reflectance\n")
        refused(path, "cannot be opened as a vector file")

    def test_a_truncated_geopackage(self, path):
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]})
        path.write_bytes(path.read_bytes()[:30_000])
        refused(path, "cannot be")

    def test_an_empty_layer(self, path):
        write_layer(path, {"profiles": []}, geometry=[], engine="pyogrio", geometry_type="Point")
        refused(path, "is empty")

    def test_a_layer_that_is_not_there(self, path):
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]})
        refused(path, "no layer 'other', it has 'field'", layer="other")

    def test_a_field_that_is_not_there(self, path):
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]})
        refused(path, "no field 'other', it has 'profiles'", field="other")

    def test_features_without_geometry(self, path):
        places = [shapely.Point(0, 0), None, shapely.Point(1, 1)]
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]}, geometry=places)
        refused(path, "1 of 3 features in layer 'field' .* no geometry")

    def test_a_table_without_geometry(self, path):
        import pandas
        import pyogrio

        frame = pandas.DataFrame({"profiles": [profile(s) for s in SPECTRA]})
        pyogrio.write_dataframe(frame, path, layer="table", driver="GPKG")
        refused(path, "no layer with geometries")
        refused(path, "'table' .* has no geometry", layer="table")

    def test_polygons(self, path):
        places = [shapely.box(i, 0, i + 1, 1) for i in range(3)]
        write_layer(path, {"profiles": [profile(s) for s in SPECTRA]}, geometry=places)
        refused(path, "holds 'Polygon', points are needed")

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_a_pickle_is_named_and_never_opened(self, path, protocol):
        blob = pickle.dumps({"x": NM, "y": SPECTRA[0].tolist()}, protocol=protocol)
        write_blobs(path, [blob] * 3)
        refused(path, "Python pickle, which can run code")

    def test_a_pickle_behind_good_features(self, path):
        good = profile(SPECTRA[0]).encode()
        write_blobs(path, [good, good, pickle.dumps([1])])
        refused(path, "Python pickle")

    def test_qt_binary_json(self, path):
        write_blobs(path, [b"qbjs\x01\x00\x00\x00"] * 3)
        refused(path, "Qt binary JSON")

    def test_other_bytes(self, path):
        write_blobs(path, [b"\x01\x02\x03"] * 3)
        refused(path, "binary and not JSON", field="profiles")

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ('{"x": [450, 550], "y": [0.1, ', "feature 2.*is not a spectrum"),
            ('{"y": [0.1, 0.2]}', "feature 2.*is not a spectrum"),
            ('{"x": [450, 550], "y": [0.1, "high"]}', "feature 2.*is not a spectrum"),
            ('{"x": [450, 550], "y": [0.1]}', "2 wavelengths and 1 values"),
            ('{"x": [], "y": []}', "0 wavelengths and 0 values"),
            ('{"x": [450, NaN], "y": [0.1, 0.2]}', "one finite wavelength"),
            ('{"x": [450, 450], "y": [0.1, 0.2]}', "wavelength 450.* twice"),
            ("[0.1, 0.2]", "feature 2.*is not a spectrum"),
            (None, "feature 2.*is not a spectrum"),
        ],
    )
    def test_a_broken_profile(self, path, text, match):
        write_layer(path, {"profiles": [profile(SPECTRA[0]), text, profile(SPECTRA[2])]})
        refused(path, match)

    def test_columns_of_text(self, path):
        write_layer(path, {"450": ["0.1", "0.2", "dark"], "550": ["0.1", "0.2", "0.3"]})
        refused(path, "hold text")

    def test_spectra_without_a_number(self, path):
        write_layer(path, {"450": [np.nan] * 3, "550": [np.nan] * 3})
        refused(path, "without a single number")


class TestValues:
    def test_names_places_and_spectra_must_be_as_many(self):
        with pytest.raises(PointsError, match="2 names, 3 places"):
            PointSpectra(("a", "b"), np.zeros(3), np.zeros(3), None, np.array(NM), SPECTRA)

    def test_taking_some_keeps_their_order(self):
        points = make_points(6)
        taken = points.take(np.array([4, 1]))
        assert taken.ids == ("p5", "p2")
        np.testing.assert_array_equal(taken.reflectance, points.reflectance[[4, 1]])
        assert points.take(np.array([True] + [False] * 5)).ids == ("p1",)
