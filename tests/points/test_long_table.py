"""Tables with one value per row."""

import numpy as np
import pytest
import shapely

from pixelssr_geo.points.long_table import long_fields


class TestTableBesideThePoints:
    @pytest.mark.parametrize(
        ("in_layer", "in_table"),
        [
            ("name", "name"), ("name", "point"), ("plot", "field_plot"), ("code", "ref"),
            ("plot", "PLOT"), ("code", "measured_at"),
        ],
    )  # fmt: skip
    def test_is_joined_by_the_field_with_the_same_keys(self, field, made, in_layer, in_table):
        field.layer({"landcover": ["grass", "sand", "grass"], in_layer: list("cab")})
        field.table({in_table: made.long.pop("point"), **made.long})
        points = field.read()
        np.testing.assert_allclose(points.reflectance, made.spectra[[2, 0, 1]])
        assert points.wavelengths_nm.tolist() == made.nm
        assert points.x.tolist() == [390_004, 390_012, 390_020]
        assert points.notes[0] == (
            f"values of field 'reflectance' in table 'spectra', joined by '{in_table}' to "
            f"'{in_layer}'"
        )
        assert points.attributes["landcover"] == ("grass", "sand", "grass")

    def test_is_joined_by_the_numbers_of_the_features(self, field, made):
        field.layer({"landcover": ["grass", "sand", "soil"]})
        long = {**made.long, "point": np.repeat([3, 1, 2], 4)}
        field.table({"point_id": long.pop("point"), **long})
        points = field.read()
        np.testing.assert_allclose(points.reflectance, made.spectra[[1, 2, 0]])
        assert points.notes[0].endswith("joined by 'point_id' to 'fid'")

    @pytest.mark.parametrize("kind", ["i4", "f8", "U4"])
    def test_keys_of_different_types_are_the_same(self, field, made, kind):
        field.layer({"plot": [30, 10, 20]})
        keys = np.repeat([10, 20, 30], 4).astype(kind)
        field.table({**made.long, "point": keys})
        np.testing.assert_allclose(field.read().reflectance, made.spectra[[2, 0, 1]])

    def test_other_numbers_in_the_table_are_no_keys(self, field, made):
        # Both would fit the features' numbers.
        field.layer({"name": list("abc")})
        more = {"row": range(1, 13), "replicate": [1] * 12}
        field.table({**more, **made.long})
        points = field.read()
        np.testing.assert_allclose(points.reflectance, made.spectra)
        assert points.notes[0].endswith("joined by 'point' to 'name'")

    def test_the_share_of_known_keys_counts_before_the_name(self, field, made):
        field.layer({"id": [1, 2, 3], "code": ["a", "b", "c"]})
        field.table({**made.long, "id": np.arange(12) // 2 + 3})
        assert field.read().notes[0].endswith("joined by 'point' to 'code'")

    @pytest.mark.parametrize("seed", [0, 1])
    def test_rows_may_be_in_any_order(self, field, made, seed):
        order = np.random.default_rng(seed).permutation(12)
        field.layer({"name": list("abc")})
        field.table({name: np.asarray(values)[order] for name, values in made.long.items()})
        np.testing.assert_allclose(field.read().reflectance, made.spectra)

    def test_points_without_rows_and_rows_without_points_are_told(self, field, made):
        field.layer({"name": ["b", "x", "c"]})
        field.table(made.long)
        points = field.read()
        np.testing.assert_allclose(points.reflectance[[0, 2]], made.spectra[1:])
        assert np.isnan(points.reflectance[1]).all()
        assert any(note.startswith("1 points have no spectrum") for note in points.notes)
        assert any("belong to no point ('a'): left out" in note for note in points.notes)

    def test_points_may_have_different_wavelengths(self, field, made):
        field.layer({"name": list("abc")})
        kept = np.delete(np.arange(12), 5)
        field.table({name: np.asarray(values)[kept] for name, values in made.long.items()})
        points = field.read()
        assert points.wavelengths_nm.tolist() == made.nm
        np.testing.assert_allclose(points.reflectance[1], [0.1, 0.12, 0.14, 0.16])

    def test_units_in_the_names_of_fields(self, field, made):
        field.layer({"name": list("abc")})
        field.table(
            {
                "point": made.long["point"],
                "wavelength [um]": np.array(made.long["wavelength"]) / 1000,
                "refl_pct": made.long["reflectance"] * 10,
            }
        )
        points = field.read()
        assert points.wavelengths_nm.tolist() == made.nm
        np.testing.assert_allclose(points.reflectance, made.spectra / 10)
        assert points.notes[1].endswith("divided by 100 (stated)")

    def test_a_field_of_standard_deviations_is_the_spread(self, field, made):
        field.layer({"name": list("abc")})
        field.table({**made.long, "refl_std": made.long["reflectance"] / 10})
        np.testing.assert_allclose(field.read().spread, made.spectra / 10)

    def test_of_several_fields_of_values_the_first_usual_one_or_the_one_named(self, field, made):
        field.layer({"name": list("abc")})
        field.table({"value": made.long["reflectance"] / 2, **made.long})
        np.testing.assert_allclose(field.read().reflectance, made.spectra)
        np.testing.assert_allclose(field.read(field="value").reflectance, made.spectra / 2)

    def test_of_several_tables_the_first_or_the_one_named(self, field, made):
        field.layer({"name": list("abc")})
        field.table(made.long, "first")
        field.table({**made.long, "reflectance": made.long["reflectance"] / 2}, "second")
        points = field.read()
        np.testing.assert_allclose(points.reflectance, made.spectra)
        assert "also there and not used" in points.notes[-1]
        assert "in table 'second'" in points.notes[-1]
        np.testing.assert_allclose(field.read(layer="second").reflectance, made.spectra / 2)

    def test_that_is_named_goes_before_other_layouts(self, field, made):
        field.layer({"name": list("abc"), "profiles": made.profiles[::-1]})
        field.table(made.long)
        np.testing.assert_allclose(field.read().reflectance, made.spectra[::-1])
        np.testing.assert_allclose(field.read(layer="spectra").reflectance, made.spectra)

    def test_points_without_a_key_have_no_spectrum(self, field, made):
        field.layer({"code": ["a", None, "c"]})
        field.table(made.long)
        found = np.isfinite(field.read().reflectance).all(1)
        assert found.tolist() == [True, False, True]

    def test_belongs_to_the_layer_whose_keys_it_has(self, field, made):
        field.layer({"tree": ["oak", "ash"]}, name="trees")
        field.layer({"name": list("abc")})
        field.table(made.long)
        points = field.read()
        assert points.ids == ("a", "b", "c")
        assert "layer 'field' taken, not 'trees'" in points.notes

    def test_without_a_key_is_refused(self, field, made):
        field.layer({"name": list("abc")})
        made.long.pop("point")
        field.table(made.long)
        field.refused("table 'spectra' .* none that names the point.*layer 'field'")

    def test_whose_keys_match_nothing_is_refused(self, field, made):
        field.layer({"name": list("xyz")})
        field.table(made.long)
        field.refused("keys such as 'a', 'b', 'c' in field 'point', and no field of layer 'field'")

    def test_with_replicates_is_refused(self, field, made):
        field.layer({"name": list("abc")})
        field.table({name: [*values, *values] for name, values in made.long.items()})
        field.refused("wavelengths twice for each value of 'point'.*average replicates")

    def test_with_a_wavelength_twice_behind_the_first_rows_is_refused(
        self, field, made, monkeypatch
    ):
        monkeypatch.setattr("pixelssr_geo.points.long_table._SAMPLE_ROWS", 4)
        field.layer({"name": ["a"]})
        field.table({name: [*values[:4], values[3]] * 4 for name, values in made.long.items()})
        field.refused("wavelength.* twice")

    def test_with_text_is_refused(self, field, made):
        field.layer({"name": list("abc")})
        field.table({**made.long, "reflectance": ["0.1"] * 11 + ["dark"]})
        field.refused("fields of table 'spectra' .* hold text .*dark")

    def test_with_empty_wavelengths_is_refused(self, field, made):
        field.layer({"name": list("abc")})
        field.table({**made.long, "wavelength": [*made.nm * 2, *made.nm[:3], np.nan]})
        field.refused("field 'wavelength' .* is empty in 1 rows")

    def test_with_radiance_is_refused(self, field, made):
        field.layer({"name": list("abc")})
        field.table({"radiance": made.long.pop("reflectance"), **made.long})
        field.refused("values in 'radiance', reflectance is needed")


class TestPointInEachRow:
    def rows(self, field, made, columns, crs="EPSG:32633"):
        places = np.repeat([[390_004, 5_809_996], [390_012, 5_809_988], [390_020, 5_809_980]], 4, 0)
        field.layer({**made.long, **columns}, geometry=shapely.points(places), crs=crs)

    def test_features_become_points(self, field, made):
        self.rows(field, made, {"landcover": np.repeat(["grass", "sand", "soil"], 4)})
        points = field.read()
        assert points.ids == ("a", "b", "c")
        np.testing.assert_allclose(points.reflectance, made.spectra)
        assert points.x.tolist() == [390_004, 390_012, 390_020]
        assert points.notes[0] == "values of field 'reflectance', one feature each"
        assert "points told apart by field 'point'" in points.notes
        assert points.attributes == {"landcover": ("grass", "sand", "soil")}

    def test_a_number_of_each_row_is_no_key(self, field, made):
        self.rows(field, made, {"id": range(12)})
        points = field.read()
        assert points.ids == ("a", "b", "c")
        assert points.attributes == {}

    def test_without_a_key_places_tell_the_points_apart(self, field, made):
        made.long["point"] = ["x"] * 12
        self.rows(field, made, {})
        points = field.read()
        assert points.ids == ("point 1", "point 2", "point 3")
        np.testing.assert_allclose(points.reflectance, made.spectra)
        assert "points told apart by their places" in points.notes

    def test_places_that_differ_are_averaged_and_told(self, field, made):
        places = shapely.points([[390_004 + i % 4, 5_809_996] for i in range(12)])
        field.layer(made.long, geometry=places)
        points = field.read()
        np.testing.assert_allclose(points.x, [390_005.5] * 3)
        assert any("lie up to 1.5 from their mean" in note for note in points.notes)

    def test_neither_key_nor_places_is_refused(self, field, made):
        made.long.pop("point")
        field.layer(made.long, geometry=[shapely.Point(0, 0)] * 12)
        field.refused("wavelength twice for one place.*add a field 'point_id'")

    def test_polygons_are_refused(self, field, made):
        field.layer(made.long, geometry=[shapely.box(0, 0, 1, 1)] * 12)
        field.refused("holds 'Polygon'")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["point", "wavelength", "reflectance"], ("wavelength", "reflectance")),
        (["Wavelength_nm", "Refl (%)", "fid"], ("Wavelength_nm", "Refl (%)")),
        (["wl", "val", "reflectance"], ("wl", "reflectance")),
        (["lambda", "measured"], ("lambda", "measured")),
        (["nm", "a", "b"], None),
        (["value", "reflectance"], None),
    ],
)
def test_fields_are_known_by_name_and_type(names, found):
    fields = long_fields(dict.fromkeys(names, "float64"))
    assert (None if fields is None else (fields.wavelength, fields.value)) == found


class TestKeysThatFitByChance:
    def test_numbers_with_zeros_in_front_are_the_same_names(self, field, made):
        field.layer({"name": ["03", "01", "02"]})
        keys = np.repeat([1, 2, 3], 4)
        field.table({**made.long, "point": None, "sample": keys})
        points = field.read()
        assert points.notes[0].endswith("joined by 'sample' to 'name'")
        np.testing.assert_allclose(points.reflectance, made.spectra[[2, 0, 1]])

    def test_numbers_of_features_are_no_names(self, field, made):
        made.long.pop("point")
        field.layer({"name": list("cab")})
        field.table({**made.long, "sample": np.repeat([1, 2, 3], 4)})
        field.refused("no field of layer 'field' has them")

    @pytest.mark.parametrize("key", ["field_id", "Field_FID", "fid_point"])
    def test_a_key_that_is_named_so_holds_numbers_of_features(self, field, made, key):
        made.long.pop("point")
        field.layer({"name": list("cab")})
        field.table({**made.long, key: np.repeat([2, 1, 3], 4)})
        points = field.read()
        np.testing.assert_allclose(points.reflectance, made.spectra[[1, 0, 2]])
        assert points.notes[0].endswith(f"joined by '{key}' to 'fid'")

    def test_two_fields_that_fit_alike_are_refused_and_named(self, field, made):
        field.layer({"a": [1, 2, 3], "b": [3, 1, 2]})
        field.table({**made.long, "point": np.repeat([1, 2, 3], 4)})
        field.refused("by 'point' to 'a' and by 'point' to 'b', which give different points")

    def test_two_fields_that_say_the_same_are_one(self, field, made):
        field.layer({"a": [3, 1, 2], "b": ["3", "1", "2"]})
        field.table({**made.long, "point": np.repeat([1, 2, 3], 4)})
        np.testing.assert_allclose(field.read().reflectance, made.spectra[[2, 0, 1]])


class TestCoarseKeysInEachRow:
    def test_a_site_with_plots_at_several_places_is_no_key(self, field, made):
        # Each plot has wavelengths of its own, so that none is there twice in the site.
        places = np.repeat([[390_004, 5_809_996], [390_104, 5_809_988], [390_204, 5_809_980]], 4, 0)
        made.long["point"] = np.repeat(["s", "s", "t"], 4)
        nm = np.array(made.nm)
        waves = np.concatenate([nm, nm + 5, nm])
        rows = {"site": made.long.pop("point"), **made.long, "wavelength": waves}
        field.layer(rows, geometry=shapely.points(places))
        points = field.read()
        assert len(points.ids) == 3
        assert "points told apart by their places" in points.notes

    def test_the_next_key_is_tried(self, field, made):
        places = np.repeat([[390_004, 5_809_996], [390_104, 5_809_988], [390_204, 5_809_980]], 4, 0)
        nm = np.array(made.nm)
        rows = {
            "id": np.repeat([1, 1, 2], 4),
            **made.long,
            "wavelength": np.concatenate([nm, nm + 5, nm]),
        }
        field.layer(rows, geometry=shapely.points(places))
        points = field.read()
        assert points.ids == ("a", "b", "c")

    def test_where_nothing_fits_is_refused(self, field, made):
        places = [[390_004 + 50 * at, 5_809_996] for at in range(12)]
        field.layer(made.long, geometry=shapely.points(places))
        field.refused("same 'point' to features that are far apart.*add a field 'point_id'")
