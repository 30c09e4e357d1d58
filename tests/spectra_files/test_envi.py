import numpy as np
import pytest

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files import library_data, read_spectra_file

WAVELENGTHS = [400.0, 450.0, 500.0, 550.0]
VALUES = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8], [0.15, 0.25, 0.35, 0.45]])
TYPES = {2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2"}


def library(folder, values=VALUES, *, name="lib", ending=".sli", code=4, order=0, **entries):
    mark = ">" if order else "<"
    data = folder / f"{name}{ending}"
    data.write_bytes(np.asarray(values).astype(mark + TYPES[code]).tobytes())
    said = {
        "samples": values.shape[1],
        "lines": len(values),
        "bands": 1,
        "header offset": 0,
        "file type": "ENVI Spectral Library",
        "data type": code,
        "interleave": "bsq",
        "byte order": order,
        "wavelength units": "Nanometers",
        "spectra names": "{oak leaf, bare\n soil, tar}",
        "wavelength": "{" + ",\n ".join(map(str, WAVELENGTHS)) + "}",
    }
    said |= {key.replace("_", " "): value for key, value in entries.items()}
    lines = [f"{key} = {value}" for key, value in said.items() if value is not None]
    (folder / f"{name}.hdr").write_text(
        "ENVI\ndescription = {\n a = b}\n" + "\n".join(lines) + "\n"
    )
    return data


@pytest.mark.parametrize(("code", "order"), [(4, 0), (4, 1), (5, 0), (5, 1)])
@pytest.mark.parametrize("ending", [".sli", "", ".dat"])
def test_a_library_is_read_by_data_or_header(tmp_path, code, order, ending):
    data = library(tmp_path, code=code, order=order, ending=ending)
    for path in (data, tmp_path / "lib.hdr"):
        spectra = read_spectra_file(path)
        assert [one.name for one in spectra] == ["oak leaf", "bare soil", "tar"]
        np.testing.assert_array_equal(spectra[0].wavelengths_nm, WAVELENGTHS)
        np.testing.assert_allclose([one.reflectance for one in spectra], VALUES, rtol=1e-6)
        assert spectra[0].attributes["file"] == data.name
        assert spectra[0].attributes["wavelength_unit"] == "nm (stated)"
        assert library_data(path) == data


@pytest.mark.parametrize("code", [2, 3, 12])
def test_a_scale_factor_divides(tmp_path, code):
    data = library(tmp_path, VALUES * 2000, code=code, reflectance_scale_factor="2000.0")
    spectra = read_spectra_file(data)
    np.testing.assert_allclose([one.reflectance for one in spectra], VALUES)
    assert spectra[0].attributes["unit"] == "reflectance divided by 2000 (stated)"


def test_integers_without_a_factor_go_by_size(tmp_path):
    spectra = read_spectra_file(library(tmp_path, VALUES * 10_000, code=2))
    np.testing.assert_allclose([one.reflectance for one in spectra], VALUES)


def test_micrometres_stated_or_by_size_are_converted(tmp_path):
    micro = "{0.4, 0.45, 0.5, 0.55}"
    for unit in ("Micrometers", "Unknown", None):
        data = library(tmp_path, wavelength_units=unit, wavelength=micro)
        np.testing.assert_array_equal(read_spectra_file(data)[0].wavelengths_nm, WAVELENGTHS)


@pytest.mark.parametrize(
    ("unit", "channels"),
    [
        ("Angstroms", "{4000, 4500, 5000, 5500}"),
        ("Wavenumber", "{25000, 22222.22, 20000, 18181.82}"),
    ],
)
def test_other_units_that_are_stated_are_converted(tmp_path, unit, channels):
    (one, *_) = read_spectra_file(library(tmp_path, wavelength_units=unit, wavelength=channels))
    np.testing.assert_allclose(one.wavelengths_nm, WAVELENGTHS, rtol=1e-5)


def test_ignored_deleted_and_bad_channels_are_nan(tmp_path):
    values = VALUES.copy()
    values[0, 0], values[1, 1] = -1.0, -1.23e34
    data = library(tmp_path, values, data_ignore_value="-1", bbl="{1, 1, 1, 0}")
    found = np.array([one.reflectance for one in read_spectra_file(data)])
    expected = VALUES.copy()
    expected[0, 0] = expected[1, 1] = np.nan
    expected[:, 3] = np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("along", ["lines", "samples"])
def test_an_image_of_one_pixels_width_is_a_library(tmp_path, interleave, along):
    shape = {"lines": len(VALUES), "samples": 1} if along == "lines" else {
        "lines": 1, "samples": len(VALUES)}  # fmt: skip
    cube = VALUES.reshape(shape["lines"], shape["samples"], 4)
    stored = {"bsq": cube.transpose(2, 0, 1), "bil": cube.transpose(0, 2, 1), "bip": cube}
    data = library(tmp_path, file_type="ENVI Standard", interleave=interleave, bands=4, **shape)
    data.write_bytes(stored[interleave].astype("<f4").tobytes())
    found = read_spectra_file(data)
    np.testing.assert_allclose([one.reflectance for one in found], VALUES, rtol=1e-6)


def test_names_are_numbered_where_the_header_has_not_one_each(tmp_path):
    spectra = read_spectra_file(library(tmp_path, spectra_names="{oak}"))
    assert [one.name for one in spectra] == ["lib 1", "lib 2", "lib 3"]


def test_a_table_beside_a_header_of_its_name_is_read_as_table(tmp_path):
    library(tmp_path)
    (tmp_path / "lib.csv").write_text("name,400,500\noak,0.1,0.2\n")
    (one,) = read_spectra_file(tmp_path / "lib.csv")
    assert one.name == "oak"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"lines": 4}, "has 48 bytes and its header announces 64"),
        ({"samples": None}, "has '' for 'samples'"),
        ({"data_type": 6}, "states data type 6"),
        ({"wavelength": None}, "lists 0 wavelengths for 4 channels"),
        ({"wavelength": "{400, 500}"}, "lists 2 wavelengths for 4 channels"),
        ({"wavelength": "{400, x, 500, 600}"}, "has the text 'x' in 'wavelength'"),
        ({"wavelength": "{400, 400, 500, 600}"}, "gives wavelength 400 nm twice"),
        ({"wavelength": "{400, 500, 450, 460}"}, "in disorder near 450 nm"),
        ({"wavelength_units": "GHz"}, "has wavelengths in 'GHz', nm, um"),
        ({"wavelength": "{1, 2, 3, 4}", "wavelength_units": None}, "numbers its bands 1-4"),
        ({"samples": 2, "bands": 2, "file_type": "ENVI Standard"}, "is an image of 2 x 3 pixels"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_in_one_line(tmp_path, entries, said):
    with pytest.raises(PointsError, match=said) as caught:
        read_spectra_file(library(tmp_path, **entries))
    assert "\n" not in str(caught.value)


def test_a_lone_header_and_lone_data_are_refused(tmp_path):
    data = library(tmp_path)
    moved = data.rename(tmp_path / "other.sli")
    with pytest.raises(PointsError, match="is an ENVI header without its data"):
        read_spectra_file(tmp_path / "lib.hdr")
    with pytest.raises(PointsError, match="has no ENVI header beside it"):
        read_spectra_file(moved)


@pytest.mark.parametrize("name", ["gamsberg_field_library", "roberts2017_urban.sli"])
def test_libraries_agree_with_spectral_python(shared_data, name):
    envi = pytest.importorskip("spectral.io.envi")
    data = shared_data / "spectra" / name
    other = envi.open(str(data.with_suffix(".hdr")), str(data))
    spectra = read_spectra_file(data)
    assert [one.name for one in spectra] == [" ".join(each.split()) for each in other.names]
    stored = np.asarray(other.spectra, "f8")
    wavelengths = np.array(other.bands.centers)
    nm = wavelengths * (1000 if wavelengths.max() < 100 else 1)
    # Channels in which detectors overlap are cut.
    same = np.isin(nm.round(6), spectra[0].wavelengths_nm)
    np.testing.assert_allclose(spectra[0].wavelengths_nm, nm[same])
    assert same.sum() >= len(nm) - 7
    found = np.array([one.reflectance for one in spectra])
    good = np.isfinite(found)
    scale = 1.0 if name.startswith("gamsberg") else 10_000.0
    assert good.mean() > 0.7
    np.testing.assert_allclose(found[good], (stored[:, same] / scale)[good], rtol=1e-6)


def test_the_real_libraries_have_what_their_description_says(shared_data):
    folder = shared_data / "spectra"
    for name, count, low, high in (
        ("earthlib_spectra.sli", 7261, 400, 2450),
        ("gamsberg_field_library.hdr", 27, 350, 2500),
        ("ecostress_library_with_mixtures", 2041, 375.59399, 12007.69996643),
    ):
        spectra = read_spectra_file(folder / name)
        assert len(spectra) == count
        assert spectra[0].wavelengths_nm[[0, -1]] == pytest.approx([low, high])
        assert (np.diff(spectra[0].wavelengths_nm) > 0).all()
    with pytest.raises(PointsError, match="is an image of 10 x 25 pixels"):
        read_spectra_file(folder / "cubus_gamsberg_subset")
