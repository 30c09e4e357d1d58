import numpy as np
import pytest

from pixelssr_geo.errors import ResponseError
from pixelssr_geo.spectra import SpectralResponse

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
