import struct

import numpy as np
import pytest

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files import read_spectra_file

WAVELENGTHS = np.arange(350.0, 450.0)
TARGET = np.linspace(100.0, 400.0, 100)
REFERENCE = np.full(100, 1000.0)


def header(*, version=b"as7", kind=1, number=2, channels=100, gps=(0.0, 0.0), saturation=0):
    """The first 484 bytes, laid out as in the maker's description of the format."""
    raw = bytearray(484)
    raw[:3] = version
    raw[3:12] = b"dry grass"
    struct.pack_into("<6h", raw, 160, 28, 3, 10, 8, 7, 118)
    raw[186] = kind
    struct.pack_into("<2f", raw, 191, 350.0, 1.0)
    raw[199] = number
    struct.pack_into("<H", raw, 204, channels)
    struct.pack_into("<2d", raw, 350, *gps)
    struct.pack_into("<H", raw, 400, 16288)
    raw[422] = saturation
    return bytes(raw)


def asd(path, *, number=2, taken=True, described=b"white panel", reference=REFERENCE, **options):
    kind = {0: "<f4", 1: "<i4", 2: "<f8"}[number]
    parts = [header(number=number, **options), TARGET.astype(kind).tobytes()]
    if reference is not None:
        flag = 0xFFFF if taken else 0
        parts.append(struct.pack("<H2dh", flag, 43320.4, 43320.5, len(described)) + described)
        parts.append(reference.astype(kind).tobytes())
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("number", [0, 1, 2])
def test_reflectance_is_target_through_reference(tmp_path, number):
    (one,) = read_spectra_file(asd(tmp_path / "oak_01.asd", number=number))
    assert one.name == "oak_01"
    np.testing.assert_array_equal(one.wavelengths_nm, WAVELENGTHS)
    assert one.reflectance == pytest.approx(TARGET / 1000, abs=1e-3 if number == 1 else 1e-6)
    assert one.attributes == {
        "file": "oak_01.asd",
        "format": "ASD binary",
        "unit": "reflectance 0-1 (stated)",
        "wavelength_unit": "nm (stated)",
        "instrument": "ASD 16288",
        "date": "2018-08-08T10:03:28",
        "comment": "dry grass",
    }


def test_an_asd_file_is_known_by_its_content(tmp_path):
    (one,) = read_spectra_file(asd(tmp_path / "grass.001"))
    assert one.attributes["format"] == "ASD binary"


def test_channels_without_reference_are_nan_without_a_warning(tmp_path):
    reference = REFERENCE.copy()
    reference[[3, 97]] = 0.0
    (one,) = read_spectra_file(asd(tmp_path / "a.asd", reference=reference))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(one.reflectance)), [3, 97])


def test_a_gps_position_is_kept_and_not_trusted(tmp_path):
    (one,) = read_spectra_file(asd(tmp_path / "a.asd", gps=(4640.75, 9231.16)))
    assert one.attributes["gps"] == "4640.75 9231.16"
    assert one.x is None
    assert one.y is None


def test_saturated_detectors_are_named(tmp_path):
    (one,) = read_spectra_file(asd(tmp_path / "a.asd", saturation=0b101))
    assert one.attributes["saturated"] == "VNIR SWIR2"


def test_the_oldest_version_holds_the_ratio(tmp_path):
    raw = header(version=b"ASD", number=0) + (TARGET / 1000).astype("<f4").tobytes()
    (tmp_path / "a.000").write_bytes(raw)
    (one,) = read_spectra_file(tmp_path / "a.000")
    assert one.reflectance == pytest.approx(TARGET / 1000, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": 2}, "holds radiance"),
        ({"taken": False}, "counts without a white reference"),
        ({"kind": 0, "reference": None}, "counts without a white reference"),
        ({"reference": np.zeros(100)}, "counts without a white reference"),
    ],
)
def test_what_is_no_reflectance_is_refused(tmp_path, options, said):
    with pytest.raises(PointsError, match=said):
        read_spectra_file(asd(tmp_path / "a.asd", **options))


@pytest.mark.parametrize("size", [3, 100, 483, 484, 600, 1284, 1290, 1310, 2000])
def test_a_file_that_is_cut_off_is_refused_in_one_line(tmp_path, size):
    whole = asd(tmp_path / "a.asd").read_bytes()
    (tmp_path / "a.asd").write_bytes(whole[:size])
    expected = "counts without" if size == 1284 else "is cut off"
    with pytest.raises(PointsError, match=expected) as caught:
        read_spectra_file(tmp_path / "a.asd")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"channels": 0}, "announces 0 channels"), ({"number": 9}, "states number type 9")],
)
def test_a_broken_header_is_refused(tmp_path, options, said):
    (tmp_path / "a.asd").write_bytes(header(**options) + TARGET.tobytes())
    with pytest.raises(PointsError, match=said):
        read_spectra_file(tmp_path / "a.asd")


def test_binaries_agree_with_the_exports_beside_them(shared_data):
    folder = shared_data / "spectra" / "asd_binary"
    binaries = sorted(folder.glob("*.asd"))
    assert len(binaries) == 10
    for binary in binaries:
        (one,) = read_spectra_file(binary)
        text = binary.with_name(binary.name + ".txt").read_text()
        exported = np.array(
            [row.rstrip("; ").split(";") for row in text.splitlines()[1:]], dtype=float
        )
        np.testing.assert_array_equal(one.wavelengths_nm, exported[:, 0])
        np.testing.assert_allclose(one.reflectance, exported[:, 1], rtol=1e-9, atol=1e-4)
        (same,) = read_spectra_file(binary.with_name(binary.name + ".txt"))
        assert same.name == one.name
        np.testing.assert_array_equal(same.wavelengths_nm, exported[:, 0])
        np.testing.assert_allclose(same.reflectance, exported[:, 1], rtol=1e-12)
