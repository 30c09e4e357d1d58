"""Fields of profiles as EnMAP-Box writes them."""

import json
import pickle

import geopandas
import numpy as np
import pytest
import shapely

from pixelssr_geo.points import read_points
from pixelssr_geo.points.layouts import MOST_WAVELENGTHS, on_one_grid


def test_json_text(field, made):
    field.layer({"name": ["a", "b", "c"], "profiles": made.profiles})
    points = field.read()
    assert points.ids == ("a", "b", "c")
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert points.wavelengths_nm.tolist() == made.nm
    assert points.x.tolist() == [390_004, 390_012, 390_020]
    assert points.y.tolist() == [5_809_996, 5_809_988, 5_809_980]
    assert "UTM zone 33N" in points.crs_wkt
    assert points.notes == (
        "profiles in field 'profiles'",
        "reflectance 0-1 (by size)",
        "wavelengths in nm (by size)",
    )
    assert points.spread is None


@pytest.mark.parametrize("kind", ["BLOB", "JSON", "TEXT", "json"])
def test_json_in_a_column_of_any_type(field, made, kind):
    texts = [text.encode() if kind == "BLOB" else text for text in made.profiles]
    field.column(texts, kind=kind)
    np.testing.assert_allclose(field.read().reflectance, made.spectra)


def test_a_field_of_any_name(field, made):
    field.layer({"remark": ["x"] * 3, "leaf": made.profiles})
    assert field.read().notes[0] == "profiles in field 'leaf'"


def test_of_two_fields_the_usual_name_is_taken_and_the_other_told(field, made):
    field.layer({"first": made.profiles[::-1], "profiles": made.profiles})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert points.notes[-1] == "also there and not used: profiles in field 'first'"
    assert points.attributes == {}


def test_the_field_that_is_named(field, made):
    halves = [made.profile(values / 2) for values in made.spectra]
    field.layer({"profiles": made.profiles, "other": halves})
    np.testing.assert_allclose(field.read(field="other").reflectance, made.spectra / 2)


def test_json_that_is_no_profile_is_an_attribute(field, made):
    told = ['{"camera": 1}'] * 3
    field.layer({"photo": told, "leaf": made.profiles})
    points = field.read()
    assert points.notes[0] == "profiles in field 'leaf'"
    assert points.attributes == {"photo": tuple(told)}


@pytest.mark.parametrize("unit", ["um", "µm", "Micrometers", "[um]", None])
def test_micrometres_become_nanometres(field, made, unit):
    wavelengths = [nm / 1000 for nm in made.nm]
    field.layer({"profiles": [made.profile(s, wavelengths, xUnit=unit) for s in made.spectra]})
    points = field.read()
    assert points.wavelengths_nm.tolist() == made.nm
    assert points.notes[2] == f"wavelengths in um ({'stated' if unit else 'by size'})"


def test_profiles_with_several_units_share_a_grid(field, made):
    first, *rest = made.spectra
    other = made.profile(first, [nm / 1000 for nm in made.nm], xUnit="um")
    field.layer({"profiles": [other, *(made.profile(s, xUnit="nm") for s in rest)]})
    points = field.read()
    assert points.wavelengths_nm.tolist() == made.nm
    assert points.notes[2] == "wavelengths in nm (stated) and um (stated)"


def test_wavenumbers_are_converted(field, made):
    numbers = [1e7 / nm for nm in made.nm]
    field.layer({"profiles": [made.profile(s, numbers, xUnit="cm-1") for s in made.spectra]})
    points = field.read()
    np.testing.assert_allclose(points.wavelengths_nm, made.nm)
    np.testing.assert_allclose(points.reflectance, made.spectra)


def test_spectra_are_put_in_ascending_order(field, made):
    field.layer({"profiles": [made.profile(s[::-1], made.nm[::-1]) for s in made.spectra]})
    points = field.read()
    assert points.wavelengths_nm.tolist() == made.nm
    np.testing.assert_allclose(points.reflectance, made.spectra)


def test_null_is_no_value(field, made):
    field.layer({"profiles": [made.profile([0.1, None, 0.2, 0.3])] * 3})
    assert np.isnan(field.read().reflectance[:, 1]).all()


def test_bad_bands_are_no_value(field, made):
    good = made.profile(made.spectra[0], bbl=[1, 1, 0, 1])
    other = made.profile(made.spectra[1][::-1], made.nm[::-1], bbl=[True, True, True, False])
    field.layer({"profiles": [good, other, made.profiles[2]]})
    missing = np.isnan(field.read().reflectance)
    assert missing.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_a_list_of_bad_bands_must_fit(field, made):
    field.layer({"profiles": [made.profile(made.spectra[0], bbl=[1, 0])]})
    field.refused("2 entries of 'bbl' for 4 values")


@pytest.mark.parametrize("empty", [None, "", " "])
def test_a_feature_without_a_profile_has_no_spectrum(field, made, empty):
    field.layer({"profiles": [empty, made.profiles[1], made.profiles[2]]})
    points = field.read()
    assert np.isnan(points.reflectance[0]).all()
    np.testing.assert_allclose(points.reflectance[1:], made.spectra[1:])
    assert points.notes[-1] == "1 features have no spectrum (number '1')"


def test_a_field_that_is_empty_throughout_is_refused(field):
    field.layer({"profiles": [None] * 3, "name": list("abc")})
    field.refused("field 'profiles' .* is empty in all 3 features", field="profiles")


def test_a_geojson_file_with_objects(tmp_path, made):
    path = tmp_path / "field.geojson"
    frame = geopandas.GeoDataFrame(
        {"profiles": made.profiles[:1]}, geometry=shapely.points([[13, 52]]), crs=4326
    )
    frame.to_file(path, driver="GeoJSON")
    np.testing.assert_allclose(read_points(path).reflectance, made.spectra[:1])
    whole = json.loads(path.read_text())
    whole["features"][0]["properties"]["profiles"] = json.loads(made.profiles[0])
    path.write_text(json.dumps(whole))
    np.testing.assert_allclose(read_points(path).reflectance, made.spectra[:1])


class TestSpread:
    def test_a_field_beside_the_profiles_holds_it(self, field, made):
        spreads = [made.profile(values / 10) for values in made.spectra]
        field.layer({"profiles": made.profiles, "profiles_std": spreads})
        points = field.read()
        np.testing.assert_allclose(points.spread, made.spectra / 10)
        assert points.attributes == {}
        assert len(points.notes) == 3

    def test_it_is_scaled_as_the_spectra_are(self, field, made):
        field.layer(
            {
                "profiles": [made.profile(values * 100) for values in made.spectra],
                "profiles_std": [None, *(made.profile(values * 10) for values in made.spectra[1:])],
            }
        )
        spread = field.read().spread
        assert np.isnan(spread[0]).all()
        np.testing.assert_allclose(spread[1:], made.spectra[1:] / 10)

    def test_flags_are_no_spread(self, field, made):
        spreads = [made.profile([-9999, 0, 0.1, 0.1])] * 3
        field.layer({"profiles": made.profiles, "profiles_std": spreads})
        np.testing.assert_array_equal(field.read().spread[0], [np.nan, 0, 0.1, 0.1])


class TestGrids:
    def test_those_of_several_instruments_are_brought_together(self, field, made):
        other = [500.0, 600.0]
        profiles = [made.profiles[0], made.profile([0.1, 0.2], other), made.profile([0] * 4)]
        field.layer({"profiles": profiles})
        points = field.read()
        assert points.wavelengths_nm.tolist() == [450, 500, 550, 600, 650, 750]
        np.testing.assert_allclose(points.reflectance[0], [0.05, 0.075, 0.1, 0.15, 0.2, 0.4])
        # Never beyond what the instrument measured.
        np.testing.assert_allclose(points.reflectance[1], [np.nan, 0.1, 0.15, 0.2, np.nan, np.nan])
        assert "2 wavelength grids brought to their union" in points.notes

    def test_wide_gaps_of_one_are_not_bridged(self):
        fine = np.arange(400.0, 500)
        gap = np.concatenate([fine[:30], fine[70:]])
        grid, values, _ = on_one_grid([(fine, fine), (gap, gap)])
        np.testing.assert_array_equal(grid, fine)
        np.testing.assert_array_equal(np.isnan(values[1]), ~np.isin(fine, gap))
        single = np.delete(fine, 30)
        _, values, _ = on_one_grid([(fine, fine), (single, single)])
        np.testing.assert_allclose(values[1], fine)

    def test_many_different_ones_take_memory_in_proportion(self):
        rng = np.random.default_rng(0)
        grids = [np.sort(rng.uniform(400, 1000, 300)) for _ in range(300)]
        grid, values, notes = on_one_grid([(own, own) for own in grids])
        assert len(grid) <= MOST_WAVELENGTHS + 1
        np.testing.assert_allclose(np.diff(grid), np.diff(grid)[0])
        known = np.isfinite(values)
        assert known.mean() > 0.95
        np.testing.assert_allclose(values[known], np.broadcast_to(grid, values.shape)[known])
        assert "300 wavelength grids brought to steps of" in notes[0]


class TestRefused:
    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_a_pickle_is_named_and_never_opened(self, field, made, protocol):
        blob = pickle.dumps({"x": made.nm, "y": made.spectra[0].tolist()}, protocol=protocol)
        field.column([blob] * 3)
        field.refused("Python pickle, which can run code")

    def test_a_pickle_behind_good_features(self, field, made):
        good = made.profiles[0].encode()
        field.column([good, good, pickle.dumps([1])])
        field.refused("Python pickle")

    def test_a_pickle_is_passed_by_where_there_are_other_spectra(self, field, made):
        field.column([pickle.dumps([1])] * 3)
        long = {**made.long, "point": np.repeat([1, 2, 3], 4)}
        field.table({"fid_point": long.pop("point"), **long})
        np.testing.assert_allclose(field.read().reflectance, made.spectra)

    def test_qt_binary_json(self, field):
        field.column([b"qbjs\x01\x00\x00\x00"] * 3)
        field.refused("Qt binary JSON")

    def test_other_bytes(self, field):
        field.column([b"\x01\x02\x03"] * 3)
        field.refused("binary and not JSON", field="profiles")

    def test_bytes_that_are_no_text(self, field):
        field.column([b'{"y": "\xff\xfe"}'] * 3)
        field.refused("feature 1.*is not a spectrum")

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ('{"x": [450, 550], "y": [0.1, ', "feature 2.*is not a spectrum"),
            ('{"y": [0.1, 0.2]}', "feature 2.*is not a spectrum.*'x'"),
            ('{"x": [450, 550], "y": [0.1, "high"]}', "feature 2.*is not a spectrum"),
            ('{"x": [450, 550], "y": [0.1, 1' + "0" * 400 + "]}", "feature 2.*is not a spectrum"),
            ('{"x": {"a": 1}, "y": [0.1]}', "feature 2.*is not a spectrum"),
            ('{"x": [450, 550], "y": [0.1]}', "2 wavelengths and 1 values"),
            ('{"x": [], "y": []}', "0 wavelengths and 0 values"),
            ('{"x": [450, NaN], "y": [0.1, 0.2]}', "one finite wavelength"),
            ('{"x": [-450, 550], "y": [0.1, 0.2]}', "has the wavelength -450"),
            ('{"x": [450, 450], "y": [0.1, 0.2]}', "wavelength 450.* twice"),
            ('{"x": [0, 1], "y": [0.1, 0.2]}', "numbers its bands 0-1, wavelengths in nm"),
            ('{"x": [45, 55], "y": [0, 1], "xUnit": "Index"}', "wavelengths in 'Index', nm, um"),
            ('{"x": [450, 550], "y": [3, 1], "yUnit": "W/m2/sr/nm"}', "values in 'W/m2/sr/nm'"),
            ("[0.1, 0.2]", "feature 2.*is not a spectrum"),
            ("0.1", "feature 2.*is not a spectrum"),
        ],
    )
    def test_a_broken_profile(self, field, made, text, match):
        field.layer({"profiles": [made.profiles[0], text, made.profiles[2]]})
        field.refused(match)

    def test_the_length_is_checked_where_wavelengths_are_those_of_the_last(self, field, made):
        field.layer({"profiles": [made.profiles[0], made.profile([0.1, 0.2])]})
        field.refused("feature 2.*4 wavelengths and 2 values")


@pytest.mark.parametrize(
    "values", ['"1234"', '["0.1", "0.2", "0.3", "0.4"]', "[true, false, true, true]", '{"0": 1}']
)
@pytest.mark.parametrize("name", ["x", "y"])
def test_only_lists_of_numbers_are_spectra(field, name, values):
    parts = {"x": "[450, 550, 650, 750]", "y": "[0.1, 0.2, 0.3, 0.4]", name: values}
    text = ", ".join(f'"{key}": {value}' for key, value in parts.items())
    field.layer({"profiles": [f"{{{text}}}"]})
    field.refused("is not a spectrum.*TypeError")


def test_the_spreads_own_unit_counts(field, made):
    spreads = [made.profile(values * 10, yUnit="%") for values in made.spectra]
    field.layer({"profiles": made.profiles, "profiles_std": spreads})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    np.testing.assert_allclose(points.spread, made.spectra / 10)
