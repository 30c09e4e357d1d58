"""Units of wavelength and reflectance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.units import declared_scale, reflectance_scales, wavelengths_in_nm


@pytest.mark.parametrize(
    ("factor", "note"), [(1, "0-1"), (100, "percent"), (10_000, "x 10000")], ids=str
)
def test_the_size_of_the_values_tells_their_unit(field, made, factor, note):
    field.layer({"profiles": [made.profile(values * factor) for values in made.spectra]})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert note in points.notes[1]


@given(
    count=st.integers(4, 60),
    share=st.floats(0, 0.25),
    factor=st.sampled_from([1.0, 100.0, 10_000.0]),
    wrong=st.sampled_from([0.01, 100.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_quarter_of_the_spectra_in_another_unit_changes_nothing(
    count, share, factor, wrong, seed
):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.2, 0.6, (count, 1)) * rng.uniform(0.5, 1, (count, 30)) * factor
    bad = rng.permutation(count)[: int(share * count)]
    values[bad] *= wrong
    scales, _ = reflectance_scales(values, np.full(count, np.nan))
    np.testing.assert_array_equal(scales, factor)


def test_spectra_in_another_unit_are_left_as_they_are_and_told(field, made):
    spectra = np.tile(made.spectra, (5, 1))
    spectra[3] *= 100
    spectra[4] /= 100
    field.layer({"profiles": [made.profile(values) for values in spectra]})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, spectra)
    assert points.notes[1] == "reflectance 0-1"
    assert any(
        "1 of 15 spectra are brighter than 2 throughout ('point 4')" in note
        for note in points.notes
    )
    assert any("darker than 0.005 throughout ('point 5')" in note for note in points.notes)


def test_dark_water_in_percent_is_percent_if_some_spectra_are_bright(field, made):
    spectra = np.full((8, 4), 0.9)
    spectra[:3] = made.spectra * 100
    field.layer({"profiles": [made.profile(values) for values in spectra]})
    np.testing.assert_allclose(field.read().reflectance, spectra / 100)


def test_noise_where_a_spectrometer_gets_no_light_does_not_decide():
    rng = np.random.default_rng(0)
    values = np.full((10, 2151), 0.3)
    values[:, 1000:1200] = rng.normal(0, 50, (10, 200))
    scales, note = reflectance_scales(values, np.full(10, np.nan))
    assert (scales == 1).all()
    assert note == "reflectance 0-1"


def test_negative_values_and_those_above_one_are_kept(field, made):
    spectra = made.spectra.copy()
    spectra[0, 0], spectra[1, 1] = -0.02, 1.7
    field.layer({"profiles": [made.profile(values) for values in spectra]})
    np.testing.assert_allclose(field.read().reflectance, spectra)


def test_flags_of_instruments_are_missing_values(field, made):
    spectra = made.spectra.copy()
    spectra[0, 0], spectra[1, 1] = -9999, -999
    field.layer({"profiles": [made.profile(values) for values in spectra]})
    points = field.read()
    assert np.isnan(points.reflectance).sum() == 2
    assert "2 values such as -9999 taken as missing" in points.notes


def test_each_profile_has_the_unit_that_it_states(field, made):
    first, second, third = made.spectra
    profiles = [
        made.profile(first * 100, yUnit="%"),
        made.profile(second * 10_000, yUnit="reflectance x10000"),
        made.profile(third, yUnit="Reflectance"),
    ]
    field.layer({"profiles": profiles})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert points.notes[1] == (
        "reflectance in percent, divided by 100, as the file says; reflectance x 10000, divided by "
        "10000, as the file says; reflectance 0-1"
    )


def test_what_is_stated_goes_before_the_size(field, made):
    field.layer({"profiles": [made.profile(v, yUnit="0-1") for v in made.spectra * 100]})
    np.testing.assert_allclose(field.read().reflectance, made.spectra * 100)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("%", 100), ("Percent", 100), ("refl_pct", 100), ("reflectance [%]", 100),
        ("x 10000", 10_000), ("Reflectance * 10,000", 10_000), ("1e4", 10_000),
        ("0-1", 1), ("reflectance 0 to 1", 1), ("0.0 - 1.0", 1),
    ],
)  # fmt: skip
def test_units_of_reflectance(unit, scale):
    assert declared_scale(unit, "x") == scale


@pytest.mark.parametrize(
    "unit", ["", None, "reflectance", "Reflectance", "-", "1", "value", "100000"]
)
def test_units_that_say_too_little(unit):
    assert np.isnan(declared_scale(unit, "x"))


@pytest.mark.parametrize(
    "unit", ["W m-2 sr-1 nm-1", "radiance", "µW/(m^2 sr)", "DN", "counts", "Absorbance"]
)
def test_what_is_no_reflectance_is_refused(unit):
    with pytest.raises(PointsError, match="reflectance is needed: convert them"):
        declared_scale(unit, "x")


@given(st.lists(st.integers(350_000, 2_500_000), min_size=1, unique=True))
def test_one_wavelength_is_the_same_in_every_unit(picometres):
    nm = np.array(picometres) / 1000
    for unit, values in (("Nanometers", nm), ("um", nm / 1e3), ("Meter", nm / 1e9), ("", nm)):
        np.testing.assert_array_equal(wavelengths_in_nm(values, unit, "x")[0], nm)
    np.testing.assert_allclose(wavelengths_in_nm(1e7 / nm, "cm⁻¹", "x")[0], nm, atol=1e-6)


@pytest.mark.parametrize("unit", ["Angstrom", "Å", "GHz", "Index", "Band Number", "DateTime"])
def test_other_units_are_refused_by_name(unit):
    with pytest.raises(PointsError, match=f"in '{unit}', expected nm, um or wavenumbers"):
        wavelengths_in_nm(np.array([4000.0, 5000.0]), unit, "x")
