"""Units of points."""

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("factor", "note"), [(1, "0-1"), (100, "percent"), (10_000, "x 10000")], ids=str
)
def test_the_size_of_the_values_tells_their_unit(field, made, factor, note):
    field.layer({"profiles": [made.profile(values * factor) for values in made.spectra]})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert note in points.notes[1]


def test_spectra_in_another_unit_are_left_as_they_are_and_told(field, made):
    spectra = np.tile(made.spectra, (5, 1))
    spectra[3] *= 100
    spectra[4] /= 100
    field.layer({"profiles": [made.profile(values) for values in spectra]})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, spectra)
    assert points.notes[1] == "reflectance 0-1 (by size)"
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
        "reflectance in percent, divided by 100 (stated); reflectance x 10000, divided by 10000 "
        "(stated); reflectance 0-1 (by size)"
    )


def test_what_is_stated_goes_before_the_size(field, made):
    field.layer({"profiles": [made.profile(v, yUnit="0-1") for v in made.spectra * 100]})
    np.testing.assert_allclose(field.read().reflectance, made.spectra * 100)


def test_counts_are_refused_by_size(field, made):
    field.layer({"profiles": [made.profile(values * 1e6) for values in made.spectra]})
    field.refused("look like counts or radiance, export reflectance")
