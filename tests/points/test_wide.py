"""Tables with a column per wavelength."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.points.wide import COLUMN


@pytest.mark.parametrize(
    "name",
    [
        "{:g}", "X{:.1f}", "wl_{:g}", "R_{:g}nm", "{:g} nm", "band_{:g}", "refl_{:g}", "b{:g}",
        "reflectance {:g}", "wavelength_{:g}", "rho.{:g}", "nm{:g}", "{:.2f} (nm)", "WVL-{:g}_nm",
    ],
)  # fmt: skip
def test_columns_named_by_wavelength(field, made, name):
    columns = {name.format(nm): made.spectra[:, at] for at, nm in enumerate(made.nm)}
    field.layer({"id": [7, 8, 9], "quality": [1, 2, 3], **columns})
    points = field.read()
    assert points.wavelengths_nm.tolist() == made.nm
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert points.ids == ("7", "8", "9")
    assert points.notes[0] == "4 wavelength columns"
    assert points.attributes == {"quality": (1, 2, 3)}


@pytest.mark.parametrize("name", ["{:.3f}", "wl_{:.2f}um", "um_{:.3f}", "{:.2f} [µm]"])
def test_columns_in_micrometres_and_any_order(field, made, name):
    order = [2, 0, 3, 1]
    field.layer({name.format(made.nm[at] / 1000): made.spectra[:, at] for at in order})
    points = field.read()
    np.testing.assert_allclose(points.wavelengths_nm, made.nm)
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert points.notes[2].startswith("wavelengths in um (")


@pytest.mark.parametrize("first", [0, 1])
def test_band_numbers_are_no_wavelengths(field, made, first):
    # As many as reach what could be wavelengths.
    field.layer({f"b{number}": made.spectra[:, 0] for number in range(first, 260)})
    field.refused(f"columns 'b{first}' to 'b259' are numbered bands.*rename them")


def test_band_numbers_are_passed_by_where_there_are_wavelengths(field, made):
    numbered = {f"b{number}": [9.0] * 3 for number in range(1, 4)}
    named = {f"wl_{nm:g}": made.spectra[:, at] for at, nm in enumerate(made.nm)}
    field.layer({**numbered, **named})
    np.testing.assert_allclose(field.read().reflectance, made.spectra)


def test_the_prefix_with_most_columns_is_taken_and_the_other_told(field, made):
    named = {f"wl_{nm:g}": made.spectra[:, at] for at, nm in enumerate(made.nm)}
    others = {f"r_{nm:g}": made.spectra[:, at] / 2 for at, nm in enumerate(made.nm[:3])}
    field.layer({**others, **named})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert points.notes[-1] == "also there and not used: 3 wavelength columns"
    for wanted in ("r", "r_", "R"):
        half = field.read(field=wanted)
        np.testing.assert_allclose(half.reflectance, made.spectra[:, :3] / 2)


def test_columns_of_standard_deviations_are_the_spread(field, made):
    named = {f"r_{nm:g}": made.spectra[:, at] * 100 for at, nm in enumerate(made.nm)}
    spread = {f"std_{nm:g}": made.spectra[:, at] * 10 for at, nm in enumerate(made.nm)}
    field.layer({**spread, **named})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    np.testing.assert_allclose(points.spread, made.spectra / 10)


def test_missing_numbers_are_nan(field, made):
    values = made.spectra.copy()
    values[1, 2] = np.nan
    field.layer({f"{nm:g}": values[:, at] for at, nm in enumerate(made.nm)})
    np.testing.assert_array_equal(np.isnan(field.read().reflectance), np.isnan(values))


def test_whole_numbers_are_numbers(field, made):
    columns = {
        f"{nm:g}": np.rint(made.spectra[:, at] * 1e4).astype("i4") for at, nm in enumerate(made.nm)
    }
    field.layer(columns)
    np.testing.assert_allclose(field.read().reflectance, made.spectra)


def test_numbers_as_text_are_numbers(field):
    field.layer({"450": ["0.1", "0.2"], "550": ["0.3", None]})
    np.testing.assert_allclose(field.read().reflectance, [[0.1, 0.3], [0.2, np.nan]])


def test_a_wavelength_twice_is_refused(field, made):
    field.layer(dict.fromkeys(("450", "550", "550.0"), made.spectra[:, 0]))
    field.refused("gives wavelength 550 nm twice")


def test_text_is_refused(field):
    field.layer({"450": ["0.1", "0.2", "dark"], "550": ["0.1", "0.2", "0.3"]})
    field.refused("wavelength columns .* hold text .*dark")


def test_spectra_without_a_number_are_refused(field):
    field.layer({"450": [np.nan] * 3, "550": [np.nan] * 3})
    field.refused("without a single number")


@given(st.sampled_from(["", "X", "wl_", "R ", "band."]), st.integers(200, 99_999), st.booleans())
def test_what_a_name_says_is_read_back(prefix, tenths, unit):
    match = COLUMN.fullmatch(f"{prefix}{tenths / 10}{' nm' if unit else ''}")
    assert match is not None
    assert float(match["number"]) == tenths / 10


@pytest.mark.parametrize("name", ["b1_443", "ndvi_2020", "id1", "wl", "photo_665.jpg", "nm"])
def test_other_names_are_no_wavelengths(name):
    assert COLUMN.fullmatch(name) is None


def test_a_year_beside_wavelengths_is_an_attribute(field, made):
    columns = {f"{nm}": [0.1, 0.2, 0.3] for nm in range(400, 1001, 50)}
    field.layer({**columns, "2021": [7, 8, 9]})
    points = field.read()
    assert points.wavelengths_nm[-1] == 1000
    assert points.attributes["2021"] == (7, 8, 9)
    assert any("column '2021' is far from" in note for note in points.notes)


def test_years_and_large_numbers_are_no_wavelengths(field, made):
    years = {"v2019": [1.0, 2.0, 3.0], "v2020": [2.0, 3.0, 4.0]}
    field.layer({"profiles": made.profiles, **years, "X_300000": [1, 2, 3], "X_400000": [1, 2, 3]})
    points = field.read()
    assert points.attributes["v2019"] == (1, 2, 3)
    assert points.attributes["X_300000"] == (1, 2, 3)


def test_two_columns_near_one_another_need_a_word_or_a_unit(field):
    field.layer({"v2019": [0.1, 0.2], "v2020": [0.1, 0.2]})
    field.refused("holds no spectra")
    field.layer({"wl_660": [0.1, 0.2], "wl_665": [0.1, 0.2]}, name="other")
    assert field.read(layer="other").wavelengths_nm.tolist() == [660, 665]


def test_deviations_named_after_their_values_are_the_spread(field, made):
    named = {f"R_{nm:g}": made.spectra[:, at] for at, nm in enumerate(made.nm)}
    spread = {f"R_std_{nm:g}": made.spectra[:, at] / 10 for at, nm in enumerate(made.nm)}
    field.layer({**spread, **named, **{f"X_std_{nm:g}": [9.0] * 3 for nm in made.nm}})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    np.testing.assert_allclose(points.spread, made.spectra / 10)


class TestRowsOfDeviations:
    """Rows that are named as the standard deviations of others, at the same place."""

    @staticmethod
    def layer(field, made, names, *, scale=1.0, deviations=None, apart=0.0, **more):
        means = made.spectra[:2] * scale
        rows = [means[0], means[0] / 10 if deviations is None else deviations, means[1]]
        columns = {f"wl_{nm:g}": [row[at] for row in rows] for at, nm in enumerate(made.nm)}
        places = shapely.points([[0, 0], [apart, 0], [8, 8]])
        field.layer({**more, "name": names, **columns}, geometry=places)

    @pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
    @pytest.mark.parametrize("name", ["oak_std", "Oak sd", "oak (std dev)", "OAK-sigma"])
    def test_they_are_the_spread_of_their_spectrum(self, field, made, name, scale):
        self.layer(field, made, ["oak", name, "tar"], scale=scale, cover=["a", "b", "c"])
        points = field.read()
        assert points.ids == ("oak", "tar")
        np.testing.assert_allclose(points.reflectance, made.spectra[:2])
        np.testing.assert_allclose(points.spread[0], made.spectra[0] / 10)
        assert np.isnan(points.spread[1]).all()
        assert points.attributes == {"cover": ("a", "c")}
        assert f"1 row is taken as the standard deviations of others, by name ('{name}')" in (
            points.notes
        )

    def test_names_count_where_numbers_are_the_ids(self, field, made):
        self.layer(field, made, ["oak mean", "oak_sd", "tar"], id=[7, 8, 9])
        assert field.read().ids == ("7", "9")

    @pytest.mark.parametrize(
        ("names", "more"),
        [
            (["oak", "elm_sd", "tar"], {}),
            (["oak", "oaksd", "tar"], {}),
            (["oak", "oak_sd_1", "tar"], {}),
            (["oak", "oak_sd", "tar"], {"apart": 16.0}),
            (["oak", "oak_sd", "tar"], {"deviations": [0.01, -0.01, 0.01, 0.01]}),
            (["oak", "oak_sd", "tar"], {"deviations": [0.9, 0.9, 0.9, 0.9]}),
            (["oak", "oak_sd", "OAK"], {}),
        ],
    )
    def test_what_is_not_clearly_one_stays_a_spectrum(self, field, made, names, more):
        self.layer(field, made, names, **more)
        points = field.read()
        assert len(points) == 3
        assert points.spread is None
