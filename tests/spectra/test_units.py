"""Units of wavelengths and reflectance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import PointsError, ResponseError
from pixelssr_geo.spectra.units import (
    bright_ends,
    lone_ends,
    nm_in,
    reflectance_scales,
    scale_by_size,
    stated_scale,
    unit_in,
    wavelengths_in_nm,
)

NM = np.linspace(400.0, 1000, 30)


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
    scales, _ = reflectance_scales(values, NM, np.full(count, np.nan), "x")
    np.testing.assert_array_equal(scales, factor)


def test_noise_where_a_spectrometer_gets_no_light_does_not_decide():
    rng = np.random.default_rng(0)
    wavelengths = np.arange(350.0, 2501)
    values = np.full((10, len(wavelengths)), 0.3)
    noisy = (wavelengths < 400) | (wavelengths > 1300)
    values[:, noisy] = rng.normal(0, 50, (10, int(noisy.sum())))
    scales, note = reflectance_scales(values, wavelengths, np.full(10, np.nan), "x")
    assert (scales == 1).all()
    assert note == "reflectance 0-1 (by size)"


def test_spectra_without_values_at_400_to_1000_nm_are_judged_by_all_that_they_have():
    values = np.array([[30.0, 40.0, 45.0], [np.nan, 50.0, 50.0]])
    tops = bright_ends(values, np.array([1500.0, 1600, 1700]))
    np.testing.assert_allclose(tops, [44, 50])
    assert scale_by_size(tops, "x") == 100
    assert np.isnan(bright_ends(np.full((1, 2), np.nan), np.array([500.0, 600]))).all()


@pytest.mark.parametrize(
    ("top", "scale"), [(0.3, 1), (2, 1), (2.1, 100), (150, 100), (151, 10_000), (25_000, 10_000)]
)
def test_the_size_that_makes_a_unit(top, scale):
    assert scale_by_size(np.array([top]), "x") == scale


def test_two_dark_spectra_beside_a_bright_one_in_percent_are_percent():
    assert scale_by_size(np.array([1.5, 1.6, 40]), "x") == 100


def test_counts_are_refused_by_size():
    with pytest.raises(PointsError, match=r"'a.txt' holds values up to 53000.*export reflectance"):
        scale_by_size(np.array([53_000.0]), "'a.txt'")


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("%", 100), ("Percent", 100), ("refl_pct", 100), ("reflectance [%]", 100),
        ("x 10000", 10_000), ("Reflectance * 10,000", 10_000), ("1e4", 10_000),
        ("0-1", 1), ("reflectance 0 to 1", 1), ("0.0 - 1.0", 1),
    ],
)  # fmt: skip
def test_units_of_reflectance(unit, scale):
    assert stated_scale(unit, "x") == scale


@pytest.mark.parametrize(
    "unit", ["", None, "reflectance", "Reflectance", "-", "1", "value", "100000"]
)
def test_units_that_say_too_little(unit):
    assert np.isnan(stated_scale(unit, "x"))


@pytest.mark.parametrize(
    "unit", ["W m-2 sr-1 nm-1", "radiance", "µW/(m^2 sr)", "mW/m2", "DN", "counts", "Absorbance"]
)
def test_what_is_no_reflectance_is_refused(unit):
    with pytest.raises(PointsError, match="reflectance is needed: convert them"):
        stated_scale(unit, "x")


@given(st.lists(st.integers(350_000, 2_500_000), min_size=1, unique=True))
def test_one_wavelength_is_the_same_in_every_unit(picometres):
    nm = np.array(picometres) / 1000
    for unit, values in (("Nanometers", nm), ("um", nm / 1e3), ("Meter", nm / 1e9), ("", nm)):
        np.testing.assert_array_equal(wavelengths_in_nm(values, unit, "x")[0], nm)
    for unit, values in (("Å", nm * 10), ("millimeters", nm / 1e6), ("cm⁻¹", 1e7 / nm)):
        np.testing.assert_allclose(wavelengths_in_nm(values, unit, "x")[0], nm, atol=1e-6)


@pytest.mark.parametrize("unit", ["GHz", "Hz", "Index", "Band Number", "DateTime", "W m-2 nm-1"])
def test_other_units_are_refused_by_name(unit):
    with pytest.raises(
        PointsError, match=f"in '{unit}', nm, um, mm, m, Angstrom or wavenumbers.*convert"
    ):
        wavelengths_in_nm(np.array([4000.0, 5000.0]), unit, "x")


@pytest.mark.parametrize(
    ("unit", "value", "nm", "said"),
    [
        ("", 665, 665, "nm (by size)"), ("Unknown", 0.665, 665, "um (by size)"),
        ("Nanometers (nm)", 665, 665, "nm (stated)"), ("[µm]", 0.665, 665, "um (stated)"),
        ("Microns", 150, 150_000, "um (stated)"), ("nm", 50, 50, "nm (stated)"),
        ("A\u030angström", 6650, 665, "Angstrom (stated)"), ("\u212b", 6650, 665, "Angstrom (stated)"),
        ("cm1", 10_000, 1000, "1/cm (stated)"), ("1/cm", 10_000, 1000, "1/cm (stated)"),
    ],
)  # fmt: skip
def test_spellings_of_units_of_wavelengths(unit, value, nm, said):
    found, told = wavelengths_in_nm(np.array([value, 2.0 * value]), unit, "x")
    assert found[0] == nm
    assert told == said


@pytest.mark.parametrize(
    ("values", "unit", "said"),
    [
        ([], "", "0 missing wavelengths of 0"), ([400, np.nan], "nm", "1 missing wavelengths of 2"),
        ([0, 1, 2], "", "numbers its bands 0-2"), ([3, 1, 2], "-", "numbers its bands 1-3"),
        ([-1, 400], "nm", "has the wavelength -1"), ([0, 400], "cm-1", "has the wavelength 0"),
    ],
)  # fmt: skip
def test_what_is_no_wavelength_is_refused(values, unit, said):
    with pytest.raises(ResponseError, match=said):
        wavelengths_in_nm(np.array(values, "f8"), unit, "x", ResponseError)


@pytest.mark.parametrize(
    ("heading", "unit"),
    [
        ("Wavelength (nm)", "nm"), ("wavelength_um", "um"), ("#Wavelength in nm, at 350", "nm"),
        ("lambda [Å]", "Å"), ("Wave [cm-1]", "cm-1"), ("Frequency (THz)", "THz"),
        ("wavelength", ""), ("aluminium", ""), ("radiance nm-1", ""), ("height (m)", ""),
    ],
)  # fmt: skip
def test_units_in_headings(heading, unit):
    assert unit_in(heading) == unit


@pytest.mark.parametrize(
    ("unit", "nm"), [("nm", 1), ("Micrometers", 1e3), ("Angstrom", 0.1), ("cm-1", None), ("", None)]
)
def test_nanometres_in_a_unit_of_length(unit, nm):
    assert nm_in(unit) == nm


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("Reflectance (relative to 99% panel)", np.nan), ("reflectance 0-1 (99% panel)", 1),
        ("reflectance 0-1 (99 % panel)", 1), ("reflectance 0-100%", 100), ("refl. %", 100),
        ("reflectance, percent of a 99 percent panel", 100),
    ],
)  # fmt: skip
def test_a_percentage_of_the_panel_is_no_unit(unit, scale):
    np.testing.assert_equal(stated_scale(unit, "x"), scale)


@pytest.mark.parametrize(
    "unit", ["transmittance (%)", "absorbance, percent", "radiance x 10000", "DN 0-1"]
)
def test_what_is_no_reflectance_is_refused_in_any_unit(unit):
    with pytest.raises(PointsError, match="reflectance is needed: convert them"):
        stated_scale(unit, "x")


def test_a_is_angstrom_as_a_unit_and_in_brackets_behind_a_wavelength():
    nm, said = wavelengths_in_nm(np.array([4000.0, 5000.0]), "A", "x")
    assert nm.tolist() == [400, 500]
    assert said == "Angstrom (stated)"
    assert unit_in("Wavelength (A)") == "A"
    assert unit_in("Site (A)") == unit_in("wavelengths of a scan") == ""


def test_numbers_far_from_regular_wavelengths_stand_alone():
    grid = np.arange(400.0, 1001.0, 50.0)
    assert lone_ends(np.append(2021.0, grid)).tolist() == [True] + [False] * len(grid)
    assert lone_ends(np.r_[grid, 2019, 2020, 2021]).sum() == 3
    # Landsat 8, Sentinel-2 with two and with one band in the short-wave infrared, a spectrometer.
    for bands in (
        [443, 482, 561, 655, 865, 1609, 2201],
        [443, 490, 560, 665, 705, 740, 783, 842, 865, 1610, 2190],
        [443, 490, 560, 665, 705, 740, 783, 842, 865, 1610],
        np.r_[350:1340, 1420:1800, 1960:2400],
    ):
        assert not lone_ends(np.array(bands, "f8")).any()
