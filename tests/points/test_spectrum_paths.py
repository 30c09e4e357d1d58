"""Layers with the path of a spectrum file per point."""

import numpy as np
import pytest

from pixelssr_geo.points.spectrum_paths import _Library


def write_spectrum(path, nm, *columns):
    path.parent.mkdir(exist_ok=True)
    header = ",".join(["wavelength", *(f"r{i}" for i in range(len(columns)))])
    rows = [",".join(map(repr, map(float, row))) for row in zip(nm, *columns, strict=True)]
    path.write_text("\n".join([header, *rows]))


@pytest.fixture
def fine():
    """Three spectra at so many wavelengths as a spectrometer has at least."""
    nm = np.arange(400.0, 1001.0, 10)
    return nm, 0.1 + np.outer([1, 2, 3], nm / 10_000)


@pytest.fixture
def files(field, fine):
    for name, values in zip("abc", fine[1], strict=True):
        write_spectrum(field.path.parent / "asd" / f"{name}.txt", fine[0], values)
    return field.path.parent / "asd"


def test_paths_count_from_the_folder_of_the_file(field, fine, files):
    field.layer({"name": list("cab"), "file": ["asd/c.txt", "./asd/a.txt", "asd\\b.txt"]})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, fine[1][[2, 0, 1]])
    np.testing.assert_allclose(points.wavelengths_nm, fine[0])
    assert points.notes[:3] == (
        "spectrum files in field 'file'",
        "reflectance 0-1 (by size)",
        "wavelengths in nm (by size)",
    )
    assert points.spread is None
    assert points.attributes["file"] == ("asd/c.txt", "./asd/a.txt", "asd\\b.txt")


def test_paths_may_be_absolute(field, fine, files):
    field.layer({"where": [str(files / f"{name}.txt") for name in "abc"]})
    np.testing.assert_allclose(field.read().reflectance, fine[1])


def test_a_point_without_a_file_has_no_spectrum(field, fine, files):
    field.layer({"name": list("abc"), "path": [None, "asd/b.txt", "asd/c.txt"]})
    points = field.read()
    assert np.isnan(points.reflectance[0]).all()
    np.testing.assert_allclose(points.reflectance[1:], fine[1][1:])
    assert "1 points have no spectrum file ('a')" in points.notes


def test_several_spectra_in_the_file_of_one_point_are_replicates(field, fine):
    nm, spectra = fine
    write_spectrum(field.path.parent / "asd" / "a.csv", nm, *spectra)
    write_spectrum(field.path.parent / "asd" / "b.csv", nm, spectra[0])
    field.layer({"name": list("ab"), "spectrum_file": ["asd/a.csv", "asd/b.csv"]})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, [spectra.mean(0), spectra[0]])
    np.testing.assert_allclose(points.spread[0], spectra.std(0, ddof=1))
    assert np.isnan(points.spread[1]).all()
    assert "1 points are means of the replicates in their files" in points.notes


def test_points_that_share_a_file_have_its_spectra_of_their_names(field, fine):
    write_spectrum(field.path.parent / "all.csv", fine[0], *fine[1])
    field.layer({"name": ["r2", "r0", "r1"], "file": ["all.csv"] * 3})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, fine[1][[2, 0, 1]])
    assert points.spread is None


def test_many_points_that_share_a_file_take_no_ages(field):
    nm = np.arange(400.0, 1001.0, 50)
    count = 1500
    write_spectrum(field.path.parent / "all.csv", nm, *np.full((count, len(nm)), 0.3))
    compared = []

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(1)
            return str.__eq__(self, other)

    library = _Library("file", field.path)
    for row in range(count):
        (found,) = library.spectra("all.csv", Name(f"r{row}"), row, alone=False)
        assert found.name == f"r{row}"
    assert len(compared) <= 3 * count


def test_deviations_in_the_file_of_one_point_are_its_spread(field):
    header = "wavelength,a,a_std\n"
    rows = "".join(f"{nm},0.3,0.02\n" for nm in range(400, 1001, 10))
    (field.path.parent / "a.csv").write_text(header + rows)
    field.layer({"name": ["a"], "file": ["a.csv"]})
    np.testing.assert_allclose(field.read().spread, 0.02)


def test_names_that_a_shared_file_does_not_have_are_refused(field, fine):
    write_spectrum(field.path.parent / "all.csv", fine[0], *fine[1])
    field.layer({"name": ["r2", "x"], "file": ["all.csv"] * 2})
    field.refused("feature 2, field 'file' .* names 'all.csv' with 3 spectra.*called 'x'")


def test_a_missing_file_is_refused(field, files):
    field.layer({"file": ["asd/a.txt", "asd/none.txt"]})
    field.refused("feature 2, field 'file' .* 'asd/none.txt', which is not at .*correct the path")


def test_a_name_too_long_for_a_file_is_refused(field):
    field.layer({"file": [f"{'a' * 5000}.txt"]})
    field.refused("which is not at")


def test_a_file_that_holds_no_spectrum_is_refused(field, files):
    (files / "a.txt").write_text("no numbers here")
    field.layer({"file": ["asd/a.txt"]})
    field.refused("a.txt'")


def test_other_paths_are_attributes(field, made):
    field.layer({"photo": ["a.jpg"] * 3, "profiles": made.profiles})
    points = field.read()
    assert points.attributes == {"photo": ("a.jpg",) * 3}
    field.refused("is not a spectrum", field="photo")


def test_profiles_go_before_paths(field, made, files):
    field.layer({"file": ["asd/a.txt"] * 3, "profiles": made.profiles})
    points = field.read()
    np.testing.assert_allclose(points.reflectance, made.spectra)
    assert points.notes[-1] == "also there and not used: spectrum files in field 'file'"


def test_binary_files_of_a_spectrometer(field, shared_data):
    found = sorted((shared_data / "spectra" / "asd_binary").glob("*.asd"))
    field.layer({"file": [str(path) for path in found]})
    points = field.read()
    assert points.reflectance.shape == (len(found), 2151)
    assert points.wavelengths_nm[[0, -1]].tolist() == [350, 2500]
    assert len(points.attributes["instrument"]) == len(found)
