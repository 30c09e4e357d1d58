"""Text files of SVC and Spectral Evolution spectrometers, and of pairs."""

import numpy as np
import pytest

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files import read_spectra_file

SVC = """/*** Spectra Vista SIG Data ***/
name= HR.080615.0001.sig
instrument= HI: 1152050 (HR-1024i)
integration= 70.0, 9.0, 7.0, 150.0, 20.0, 7.0
units= Radiance, Radiance
time= 8/6/2015 10:36:17 AM, 8/6/2015 10:38:35 AM
longitude= {longitude}
latitude= {latitude}
comm= north plot
factors= 1.132, 1.185, 1.000 [Overlap: Preserve, Matching Type: None]
data=
"""

SED = """Comment: north plot
Version: 2.2
File Name: \\Extended Storage2\\day 3\\1566060_09506.sed
<Metadata>
USER_FIELD1: Range: 3.8m
</Metadata>
Instrument: PSR+3500_SN1566060 [3]
Detectors: 512,256,256
Measurement: REFLECTANCE
Date: 10/03/2012,10/03/2012
Time: 12:00:33,12:05:44
Latitude: {latitude}
Longitude: {longitude}
Channels: {channels}
Columns [{columns}]:
Data:
"""


def svc(path, rows, *, longitude="09231.1579W     , 09231.2000W     ", latitude=None, end="\n"):
    latitude = "4640.7548N      , 4640.8000N      " if latitude is None else latitude
    text = SVC.format(longitude=longitude, latitude=latitude)
    text += "\n".join("  ".join(map(str, row)) for row in rows) + "\n"
    path.write_bytes(text.replace("\n", end).encode())
    return path


def sed(path, names, rows, *, longitude="n/a", latitude="n/a"):
    text = SED.format(
        longitude=longitude, latitude=latitude, channels=len(rows), columns=len(names)
    )
    text += "\t".join(names) + "\n"
    text += "\n".join(" " + "\t".join(map(str, row)) for row in rows) + "\n"
    path.write_text(text)
    return path


ROWS = [(350.5, 1300.0, 260.0, 20.0), (352.0, 1400.0, 140.0, 10.0), (353.4, 1500.0, 75.0, 5.0)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_svc_percent_becomes_reflectance_and_the_target_gives_the_place(tmp_path, end):
    (one,) = read_spectra_file(svc(tmp_path / "plot_1.sig", ROWS, end=end))
    assert one.name == "plot_1"
    np.testing.assert_allclose(one.wavelengths_nm, [350.5, 352.0, 353.4])
    np.testing.assert_allclose(one.reflectance, [0.2, 0.1, 0.05])
    assert one.x == pytest.approx(-(92 + 31.2 / 60))
    assert one.y == pytest.approx(46 + 40.8 / 60)
    assert one.attributes["date"] == "8/6/2015 10:38:35 AM"
    assert one.attributes["instrument"] == "HI: 1152050 (HR-1024i)"
    assert one.attributes["comment"] == "north plot"
    assert one.attributes["unit"] == "reflectance in percent, divided by 100 (stated)"


def test_a_dark_svc_target_stays_percent(tmp_path):
    # Water of 1 percent has no value above 2, as reflectance 0-1 has none.
    rows = [(w, 1000.0, 10.0, 1.0) for w in (400.0, 500.0, 600.0)]
    (one,) = read_spectra_file(svc(tmp_path / "lake.sig", rows))
    np.testing.assert_allclose(one.reflectance, 0.01)


def test_svc_without_percent_is_target_through_reference(tmp_path):
    rows = [row[:3] for row in ROWS] + [(355.0, 0.0, 3.0)]
    (one,) = read_spectra_file(svc(tmp_path / "a.sig", rows))
    np.testing.assert_allclose(one.reflectance, [0.2, 0.1, 0.05, np.nan])


@pytest.mark.parametrize(
    ("longitude", "latitude", "place"),
    [
        ("11121.2335,E, 11121.6000,E", "5330.5955,S, 5330.6000,S", (111.36, -53.51)),
        ("00030.0000E, 00030.0000E", "0930.0000N, 0930.0000N", (0.5, 9.5)),
        ("                 ,                 ", "                 ,                 ", None),
        ("", "", None),
    ],
)
def test_svc_positions_of_all_hemispheres(tmp_path, longitude, latitude, place):
    (one,) = read_spectra_file(
        svc(tmp_path / "a.sig", ROWS, longitude=longitude, latitude=latitude)
    )
    assert (None if one.x is None else (one.x, one.y)) == (place and pytest.approx(place))


def test_the_overlap_of_svc_detectors_is_cut_in_its_middle(tmp_path):
    first = [(w, 1.0, 1.0, 10.0) for w in (940.0, 960.0, 980.0, 1000.0, 1020.0)]
    second = [(w, 1.0, 1.0, 20.0) for w in (970.0, 990.0, 1010.0, 1030.0)]
    (one,) = read_spectra_file(svc(tmp_path / "a.sig", first + second))
    np.testing.assert_allclose(one.wavelengths_nm, [940, 960, 980, 1010, 1030])
    np.testing.assert_allclose(one.reflectance, [0.1, 0.1, 0.1, 0.2, 0.2])
    assert one.attributes["overlap"] == "4 channels of overlapping detectors cut"


def test_sed_percent_becomes_reflectance(tmp_path):
    names = ["Wvl", "Norm. DN (Ref.)", "Norm. DN (Target)", "Reflect. %"]
    rows = [(350.0, "2.283859E+000", "5.442653E-001", 23.3105), (351.0, "2.3E+000", "0.0E+000", 0)]
    (one,) = read_spectra_file(
        sed(tmp_path / "x_09506.sed", names, rows, longitude="-77.86", latitude="40.79")
    )
    assert one.name == "x_09506"
    np.testing.assert_allclose(one.reflectance, [0.233105, 0.0])
    assert (one.x, one.y) == (-77.86, 40.79)
    assert one.attributes["instrument"] == "PSR+3500_SN1566060 [3]"
    assert one.attributes["date"] == "10/03/2012 12:05:44"


def test_sed_of_channel_numbers_and_fractions(tmp_path):
    names = ["Chan.#", "Wvl", "Reflect. [1.0]"]
    rows = [(1, 350.0, 0.25), (2, 352.0, 0.5), (3, 354.0, 0.75)]
    (one,) = read_spectra_file(sed(tmp_path / "a.sed", names, rows))
    np.testing.assert_allclose(one.wavelengths_nm, [350, 352, 354])
    np.testing.assert_allclose(one.reflectance, [0.25, 0.5, 0.75])


def test_sed_of_radiance_is_target_through_reference(tmp_path):
    names = ["Wvl", "Rad. (Ref.)", "Rad. (Target)"]
    rows = [(350.0, 0.02, 0.01), (351.0, 0.04, 0.01)]
    (one,) = read_spectra_file(sed(tmp_path / "a.sed", names, rows))
    np.testing.assert_allclose(one.reflectance, [0.5, 0.25])


def pairs(path, columns, text="{:.3f}, {:.3f}", tail="\t\r\n"):
    lines = ["\t".join(text.format(w, v) for w, v in row) for row in zip(*columns, strict=True)]
    path.write_bytes(("".join(line + tail for line in lines)).encode())
    return path


def test_pairs_are_one_spectrum_a_column(tmp_path):
    wavelengths = np.arange(325.0, 335.0)
    values = np.round(np.linspace(0.1, 0.4, 30).reshape(3, 10), 3)
    columns = [list(zip(wavelengths, row, strict=True)) for row in values]
    spectra = read_spectra_file(pairs(tmp_path / "Bark01_03.txt", columns))
    assert [one.name for one in spectra] == ["Bark01_03 1", "Bark01_03 2", "Bark01_03 3"]
    for one, row in zip(spectra, values, strict=True):
        np.testing.assert_array_equal(one.wavelengths_nm, wavelengths)
        np.testing.assert_array_equal(one.reflectance, row)


def test_a_single_column_of_pairs_is_read_too(tmp_path):
    column = [(400.0 + i, 0.1 + i / 100) for i in range(5)]
    (one,) = read_spectra_file(pairs(tmp_path / "leaf.txt", [column], tail="\n"))
    assert one.name == "leaf"
    np.testing.assert_allclose(one.reflectance, 0.1 + np.arange(5) / 100)


def test_decimal_commas_between_tabs_are_no_pairs(tmp_path):
    rows = "".join(f"{400 + i},5\t0,{i + 1}\n" for i in range(6))
    (tmp_path / "a.txt").write_text("Wellenlänge wavelength\tWiese\n" + rows, encoding="latin-1")
    (one,) = read_spectra_file(tmp_path / "a.txt")
    np.testing.assert_allclose(one.wavelengths_nm, 400.5 + np.arange(6))
    np.testing.assert_allclose(one.reflectance, np.arange(1, 7) / 10)


GOOD_PAIRS = "400.0, 0.1\t400.0, 0.2\n401.0, 0.1\t401.0, 0.2\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.sig", SVC.format(longitude="", latitude=""), "has a header and no data after 'data='"),
        ("a.sig", SVC.split("data=")[0], "has no line 'data='"),
        ("a.sig", SVC + "350.5 1 2 x\n", "line 12 of .* has the text 'x' in column 4"),
        ("a.sig", SVC + "350.5 20\n351 21\n", "has 2 columns after 'data='"),
        ("a.sig", SVC + "350 1 1 9\n350 1 1 9\n", "gives wavelength 350 nm twice"),
        ("a.sig", SVC + "350 1 1 9\n349 1 1 9\n348.5 1 1 9\n360 1 1 9\n", "in disorder near"),
        ("a.sed", SED, "has a header and no data after 'Data:'"),
        ("a.sed", SED + "Wvl\tReflect. %\n", "has a header and no data after 'Data:'"),
        ("a.sed", SED.split("Data:")[0], "has no line 'Data:'"),
        ("a.sed", SED + "Wvl\tIrrad. (Ref.)\n350\t1\n351\t1\n", "has the columns Wvl, Irrad"),
        ("a.txt", GOOD_PAIRS + "402.0, 0.1\n", "line 3 of .* has 1 pairs, the lines before have 2"),
        (
            "a.txt",
            GOOD_PAIRS + "402.0, 0.1\t402.0, bad\n",
            "line 3 of .* has the text '402.0, bad'",
        ),
        ("a.txt", GOOD_PAIRS + "401.0, 0.1\t401.0, 0.2\n", "gives wavelength 401 nm twice"),
        ("a.txt", GOOD_PAIRS + "400.5, 0.1\t400.5, 0.2\n", "wavelengths that do not ascend"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(PointsError, match=said) as caught:
        read_spectra_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_all_spectra_of_the_gulfport_campus_are_read(shared_data):
    folder = shared_data / "muufl_gulfport" / "ASD_Spectra"
    files = [path for path in sorted(folder.glob("*.txt")) if "README" not in path.name]
    total = 0
    for path in files:
        flat = np.loadtxt([line.replace(",", " ") for line in path.read_text().splitlines()])
        spectra = read_spectra_file(path)
        total += len(spectra)
        np.testing.assert_array_equal(spectra[0].wavelengths_nm, flat[:, 0])
        np.testing.assert_array_equal([one.reflectance for one in spectra], flat[:, 1::2].T)
        assert spectra[0].wavelengths_nm[[0, -1]].tolist() == [325.0, 1075.0]
    assert total == 560
