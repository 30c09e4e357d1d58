import pickle

import numpy as np
import pytest

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files import FORMATS, read_spectra_file


def refused(path):
    with pytest.raises(PointsError) as caught:
        read_spectra_file(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", [".asd", ".sig", ".sed", ".sli", ".csv", ".txt", ".hdr", ""])
def test_an_empty_file_is_refused_under_any_ending(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"")
    assert "is empty" in refused(path)
    path.write_bytes(b" \r\n\n")
    assert "is empty" in refused(path)


class Planted:
    """Tells when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_named_and_never_opened(tmp_path, protocol):
    path = tmp_path / "spectra.csv"
    path.write_bytes(pickle.dumps(Planted(), protocol))
    assert "is a Python pickle" in refused(path)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is a picture"),
        (b"II*\0\x08\0\0\0", "is a picture"),
        (b"PK\x03\x04\x14\0\0\0", "is a ZIP file"),
        (b"\x89HDF\r\n\x1a\n\0", "is an HDF5 or MATLAB file"),
        (b"SQLite format 3\0", "is a GeoPackage or another database"),
        (b"\x1f\x8b\x08\0\0\0", "is compressed"),
        (b"\x00\x01\x02\x03", "is no spectrometer file that is known"),
        (bytes(range(256)) * 20, "is no spectrometer file that is known"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "dat"])
def test_other_kinds_of_files_are_named(tmp_path, head, said, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(head)
    assert said in refused(path)


def test_the_refusal_names_all_that_was_tried(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("bought batteries\n")
    said = refused(path)
    assert all(kind.name in said for kind in FORMATS)
    assert "tables" in said


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    assert "is a folder" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "none.asd")


def test_content_goes_before_the_ending(tmp_path):
    path = tmp_path / "a.asd"
    path.write_text("name,400,410,420\noak,0.1,0.2,0.3\n")
    (one,) = read_spectra_file(path)
    np.testing.assert_array_equal(one.reflectance, [0.1, 0.2, 0.3])


def test_the_ending_says_what_is_wrong_where_the_content_says_nothing(tmp_path):
    for name, said in (("a.sig", "no line 'data='"), ("a.sed", "no line 'Data:'")):
        (tmp_path / name).write_text("nothing here\n")
        assert said in refused(tmp_path / name)


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_are_refused_and_nothing_else(tmp_path, seed):
    rng = np.random.default_rng(seed)
    ending = (".asd", ".sig", ".sed", ".sli", ".csv", ".hdr")[seed % 6]
    start = (b"", b"as7", b"ENVI\n", b"/*** Spectra Vista SIG Data ***/\ndata=\n", b"350\t")[
        seed % 5
    ]
    path = tmp_path / f"a{ending}"
    path.write_bytes(start + rng.bytes(int(rng.integers(1, 5000))))
    refused(path)


WIDE = "name,400,410,420,430\noak,0.1,0.2,0.3,0.4\n" + "tar,0.1,0.1,0.1,0.1\n" * 3
ROWS = "Wavelength;a.asd;b\n" + "".join(f"{w};0,{w};0,5\n" for w in range(400, 430, 5))
LONG = "id\twavelength\tvalue\n" + "".join(f"a\t{w}\t0.5\n" for w in range(400, 430, 5))
PAIRS = "".join(f"{w}.0, 0.1\t{w}.0, 0.2\n" for w in range(400, 430, 5))
SIG = "/*** Spectra Vista SIG Data ***/\nlongitude= 1E\nlatitude= 1N\ndata=\n350 1 1 9\n351 1 1 9\n"
SED = "Comment:\nInstrument: x\nData:\nWvl\tReflect. %\n350\t20.5\n351\t21.5\n352\t22.5\n"


@pytest.mark.parametrize("text", [WIDE, ROWS, LONG, PAIRS, SIG, SED])
def test_a_file_with_slips_is_read_or_refused_in_one_line(tmp_path, text):
    rng = np.random.default_rng(len(text))
    path = tmp_path / "a.txt"
    for _ in range(150):
        raw = bytearray(text.encode())
        for _ in range(rng.integers(1, 5)):
            at, to = sorted(rng.integers(0, len(raw), 2))
            slip = bytes(rng.choice(np.frombuffer(b' ,;\t\n.09-eEx"#%=:\xff', "u1"), 3))
            raw[at : at + 1] = (slip[:1], slip, b"", bytes(raw[at:to]))[rng.integers(4)]
        path.write_bytes(raw or b"x")
        spectra, said = [], ""
        try:
            spectra = read_spectra_file(path)
        except PointsError as error:
            said = str(error)
        assert "\n" not in said
        for one in spectra:
            assert one.wavelengths_nm.shape == one.reflectance.shape
            assert (np.diff(one.wavelengths_nm) > 0).all()
