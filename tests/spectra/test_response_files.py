import json
import pickle
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from pixelssr_geo.errors import ResponseError
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse

# Band centres in nm of the published tables, within 12 nm of the measured centroids.
MEASURED = {
    "GF6_PMS": {"MS1": 485, "MS2": 560, "MS3": 660, "MS4": 830},
    "GF1D_PMS": {"MS1": 485, "MS2": 555, "MS3": 660, "MS4": 830},
    "GF1_WFV1": {"Blue": 485, "Green": 555, "Red": 660, "NIR": 830},
    "S2A_MSI": {"B1": 443, "B5": 704, "B8": 833, "B8A": 865, "B9": 945, "B12": 2202},
    "S2A_MSI_V4": {"B1": 443, "B8A": 865},
    "L8_OLI": {"B1": 443, "B5": 865, "B8": 590, "B9": 1373},
    "WorldView2": {"COASTAL": 427, "YELLOW": 608, "NIR1": 831},
    "WorldView3": {"COASTAL": 427, "REDEDGE": 723, "SWIR8": 2330},
    "WorldView4": {"BLUE": 480, "NIR": 840},
    "PlanetScope_SD5": {"Blue": 490, "Green_ii": 565, "RedEdge": 705, "NIR": 865},
    "PlanetScope_SD8": {"Coastal-Blue": 443, "Green_i": 531, "Red-edge": 705},
    "HJ2A_CCD1": {"B1": 485, "B5": 720},
}


# Number of bands, and the first and last centre in nm, of every file of the real data.
BANDS = {
    "NTIRE2022_MS_Camera_QE.csv": (16, 656, 577),
    "NTIRE2022_RGB_Camera_QE.csv": (4, 597, 463),
    "acolite_rsr/GF1D_PMS.txt": (4, 494, 825),
    "acolite_rsr/GF1_WFV1.txt": (4, 483, 824),
    "acolite_rsr/GF1_WFV2.txt": (4, 488, 821),
    "acolite_rsr/GF1_WFV3.txt": (4, 486, 822),
    "acolite_rsr/GF1_WFV4.txt": (4, 484, 828),
    "acolite_rsr/GF6_PMS.txt": (4, 491, 820),
    "acolite_rsr/GF6_WFV.txt": (8, 488, 609),
    "acolite_rsr/HJ2A_CCD1.txt": (5, 485, 721),
    "acolite_rsr/L8_OLI.txt": (9, 443, 1373),
    "acolite_rsr/L9_OLI.txt": (9, 443, 1374),
    "acolite_rsr/PlanetScope_0e.txt": (4, 517, 812),
    "acolite_rsr/PlanetScope_22.txt": (4, 492, 866),
    "acolite_rsr/PlanetScope_SD5.txt": (5, 492, 866),
    "acolite_rsr/PlanetScope_SD8.txt": (8, 444, 866),
    "acolite_rsr/S2A_MSI.txt": (13, 443, 2202),
    "acolite_rsr/S2A_MSI_V4.txt": (13, 443, 2202),
    "acolite_rsr/S2B_MSI.txt": (13, 442, 2186),
    "acolite_rsr/S2B_MSI_V4.txt": (13, 442, 2186),
    "acolite_rsr/S2C_MSI_V4.txt": (13, 444, 2191),
    "acolite_rsr/WorldView2.txt": (8, 428, 923),
    "acolite_rsr/WorldView3.txt": (16, 427, 2330),
    "acolite_rsr/WorldView4.txt": (4, 478, 841),
    "enmapbox_desis.csv": (235, 402, 1000),
    "enmapbox_emit.csv": (285, 381, 2493),
    "enmapbox_enmap.csv": (224, 418, 2445),
    "enmapbox_landsat8_srf.gpkg": (7, 443, 2201),
    "enmapbox_landsat_oli.geojson": (6, 483, 2201),
    "enmapbox_prisma.csv": (234, 402, 2497),
    "enmapbox_sentinel2a_msi.geojson": (13, 443, 2202),
    "enmapbox_sentinel2b_msi.geojson": (13, 442, 2186),
}
REFUSED = {
    "NTIRE2020_cie_1964_w_gain.npz": "archive",
    "NTIRE2020_example_D40_camera_w_gain.npz": "archive",
    "ikonos_spec_resp.mat": "MATLAB",
}

PROFILES = {
    "B1 - Blue (450-520 nm)": {"x": [0.48, 0.49, 0.5], "y": [0, 1, 0], "xUnit": "Micrometers"},
    "Pan": {"x": [450, 800], "y": [1, 1], "xUnit": "nm"},
    "NIR": {"x": [800, 810, 820], "y": [0, 1, 0.5]},
}


def write_geojson(path):
    features = [
        {"type": "Feature", "properties": {"name": name, "response": profile}, "geometry": None}
        for name, profile in PROFILES.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def write_package(path, values=None):
    """A GeoPackage as far as its tables are looked at."""
    values = (
        [json.dumps(profile).encode() for profile in PROFILES.values()]
        if values is None
        else values
    )
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("create table gpkg_contents (table_name text, data_type text)")
        base.execute("insert into gpkg_contents values ('empty', 'attributes')")
        base.execute("insert into gpkg_contents values ('my \"bands\"', 'features')")
        base.execute("create table empty (fid integer)")
        base.execute('create table "my ""bands""" (fid integer, name text, profiles blob)')
        for row in zip(range(len(values)), PROFILES, values, strict=False):
            base.execute('insert into "my ""bands""" values (?, ?, ?)', row)
    return path


def write(folder, text):
    path = folder / "response.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_gives_bands_in_the_order_of_its_header(tmp_path):
    path = write(tmp_path, "wavelength_nm,NIR,Red\n500,0,1\n510,1,0.5\n520,0.5,0\n")
    response = SpectralResponse.from_csv(path)
    assert response.names == ("NIR", "Red")
    assert response.wavelengths_nm.tolist() == [500, 510, 520]
    assert response.values.tolist() == [[0, 1, 0.5], [1, 0.5, 0]]
    assert response.source == "response.csv"


@pytest.mark.parametrize(
    "text",
    [
        "wavelength_nm,A\n510,1\n500,0\n520,0\n",
        "wavelength_um,A\n0.50,0\n0.51,1\n0.52,0\n",
        "wavelength;A\n500;0\n510;1\n520;0\n",
        "wavelength A\n500 0\n510 1\n520 0\n",
        "\ufeffwavelength\tA\n500\t0\n510\t1\n520\t0\n",
        "# band order A\nwavelength,A,,\n500,0,,\n510,2,,\n\n520,0,,\n",
        "Channel,A\nNM,650\n500,0\n510,1\n520,0\n",
    ],
)
def test_csv_variants_give_the_same_response(tmp_path, text):
    response = SpectralResponse.from_file(write(tmp_path, text))
    assert response.names == ("A",)
    np.testing.assert_allclose(response.wavelengths_nm, [500, 510, 520])
    assert response.values.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("500,0,1\n510,1,0\n", "starts with the number"),
        ("wavelength_nm\n500\n", "at least one band"),
        ("wavelength_nm,A\n", "no numbers"),
        ("wavelength_nm,A\n500,0\n510,high\n", "line 3.*'high'"),
        ("wavelength_nm,A,B\n500,0,1\n510,1\n", "line 3.*2 columns"),
        ("wavelength_nm,A\n500,0\n500,1\n", "ascend"),
        ("wavelength_nm,A\n500,0\n510,nan\n", "not finite"),
        ("wavelength_nm,A\n500,0\n510,0\n", "zero everywhere"),
    ],
)
def test_a_malformed_csv_is_refused_with_what_is_wrong(tmp_path, text, told):
    with pytest.raises(ResponseError, match=told):
        SpectralResponse.from_csv(write(tmp_path, text))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ResponseError, match="cannot be read"):
        SpectralResponse.from_file(tmp_path / "none.csv")
    (tmp_path / "raw.csv").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ResponseError, match="cannot be read"):
        SpectralResponse.from_csv(tmp_path / "raw.csv")


def test_blocks_are_merged_and_zero_beyond_their_own_range(tmp_path):
    path = tmp_path / "blocks.txt"
    path.write_text(
        ";; made up\n;; BAND MS1\n500 0.5\n501 1\n502 0.5\n"
        ";; BAND 2 Red\n900 0.5\n901 1\n902 0.4\n;; BAND PAN\n500 1\n900 1\n"
    )
    response = SpectralResponse.from_file(path)
    assert response.names == ("MS1", "Red")
    # The first band ends at 0.5, one step before zero, and not in a ramp to 900 nm.
    assert np.trapezoid(response.values[0], response.wavelengths_nm) == pytest.approx(2)
    assert SpectralResponse.from_file(path, keep_panchromatic=True).names[2] == "PAN"


def test_a_broken_line_in_a_block_is_named(tmp_path):
    path = tmp_path / "blocks.txt"
    path.write_text("# BAND 1\n500 0.5\n501\n")
    with pytest.raises(ResponseError, match="line 3"):
        SpectralResponse.from_file(path)


@pytest.mark.parametrize("name", MEASURED)
def test_real_files_are_read_in_nanometres(shared_data, name):
    response = SpectralResponse.from_file(shared_data / "srf" / "acolite_rsr" / f"{name}.txt")
    assert "PAN" not in response.names
    centres = dict(zip(response.names, response.centres_nm, strict=True))
    for band, centre in MEASURED[name].items():
        assert centres[band] == pytest.approx(centre, abs=12)


def test_the_camera_tables_are_read(shared_data):
    rgb = SpectralResponse.from_file(shared_data / "srf" / "NTIRE2022_RGB_Camera_QE.csv")
    assert rgb.names == ("R", "G1", "G2", "B")
    assert (np.diff(rgb.centres_nm[[3, 1, 0]]) > 40).all()
    assert len(SpectralResponse.from_file(shared_data / "srf" / "NTIRE2022_MS_Camera_QE.csv")) == 16


@pytest.mark.parametrize("writer", [write_geojson, write_package])
def test_a_profile_for_each_band_is_read_in_nanometres(tmp_path, writer):
    path = writer(tmp_path / "my responses.x")
    response = SpectralResponse.from_file(path)
    assert response.names == ("B1", "NIR")
    assert response.centres_nm[0] == pytest.approx(490)
    assert response.fwhm_nm[1] == pytest.approx(15)
    assert SpectralResponse.from_file(path, keep_panchromatic=True).names == ("B1", "Pan", "NIR")


def test_the_unit_in_a_title_of_wavelengths_is_taken(tmp_path):
    rows = "4900,0\n5000,1\n5100,0\n"
    response = SpectralResponse.from_file(write(tmp_path, f"Wavelength [Å],B1\n{rows}"))
    assert response.centres_nm[0] == pytest.approx(500)
    with pytest.raises(ResponseError, match="has wavelengths in 'GHz', nm, um"):
        SpectralResponse.from_file(write(tmp_path, f"frequency_GHz,B1\n{rows}"))


def test_titles_of_one_name_are_kept_whole(tmp_path):
    path = tmp_path / "a.geojson"
    profile = {"x": [500, 510], "y": [1, 1]}
    rows = [{"properties": {"name": f"SWIR ({n})", "response": profile}} for n in (1, 2)]
    path.write_text(json.dumps({"features": rows}))
    assert SpectralResponse.from_file(path).names == ("SWIR (1)", "SWIR (2)")


@pytest.mark.parametrize(
    "text",
    [
        "wavelength,fwhm\n490,60\n830,120\n",
        "# made up\nWavelength [um], FWHM [um]\n0.49,0.06\n0.83,0.12\n",
        "centre;width\n490;60\n830;120\n",
        "wavelength (Angstrom);fwhm\n4900;60\n8300;120\n",
    ],
)
def test_a_table_of_centres_and_widths_gives_gaussians(tmp_path, text):
    response = SpectralResponse.from_file(write(tmp_path, text))
    assert response.names == ("B1", "B2")
    np.testing.assert_allclose(response.centres_nm, [490, 830], atol=0.1)
    np.testing.assert_allclose(response.fwhm_nm, [60, 120], atol=0.5)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (pickle.dumps({"x": 1}), "pickle, which can run code"),
        (b"PK\x03\x04...", "NumPy or other archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b'{"type": "FeatureCollection"}', "no GeoJSON of features"),
        (b'{"features": [{"properties": {"name": "a"}}]}', "no feature with a profile"),
        (b'{"features": [{"properties": {"response": {"x": [1, 2], "y": [1]}}}]}', "no profile"),
        (b'{"features": [{"properties": {"response": {"x": [1], "y": [null]}}}]}', "not finite"),
        (b"SQLite format 3\x00, but not really", "cannot be read as a GeoPackage"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name_in_one_line(tmp_path, content, told):
    path = tmp_path / "response.bin"
    path.write_bytes(content)
    with pytest.raises(ResponseError, match=told) as caught:
        SpectralResponse.from_file(path)
    assert "\n" not in str(caught.value)


def test_a_package_of_binary_profiles_is_refused(tmp_path):
    path = write_package(tmp_path / "a.gpkg", [pickle.dumps({"x": [1], "y": [1]})])
    with pytest.raises(ResponseError, match="it is binary and no JSON text"):
        SpectralResponse.from_file(path)


@pytest.mark.parametrize("name", BANDS)
def test_every_real_file_is_read(shared_data, name):
    response = SpectralResponse.from_file(shared_data / "srf" / name)
    count, first, last = BANDS[name]
    assert len(response) == count
    assert response.centres_nm[[0, -1]] == pytest.approx([first, last], abs=1)
    assert response.fwhm_nm.min() > 2
    assert response.fwhm_nm.max() < 250
    visible = ChannelGrid.from_spec("400:1000:10")
    assert (response.coverage(visible) > 0.95).any()


@pytest.mark.parametrize("name", REFUSED)
def test_real_files_of_other_kinds_are_refused(shared_data, name):
    with pytest.raises(ResponseError, match=REFUSED[name]):
        SpectralResponse.from_file(shared_data / "srf" / name)


def test_no_real_file_is_forgotten(shared_data):
    folder = shared_data / "srf"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*")} - {"meta.json"}
    assert files <= BANDS.keys() | REFUSED.keys()


def test_layouts_of_one_sensor_agree(shared_data):
    text = SpectralResponse.from_file(shared_data / "srf" / "acolite_rsr" / "S2A_MSI.txt")
    features = SpectralResponse.from_file(shared_data / "srf" / "enmapbox_sentinel2a_msi.geojson")
    assert features.names == text.names
    np.testing.assert_allclose(features.centres_nm, text.centres_nm, atol=0.5)
    np.testing.assert_allclose(features.fwhm_nm, text.fwhm_nm, atol=2)
