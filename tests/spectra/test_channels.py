import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import WavelengthGridError
from pixelssr_geo.spectra import ChannelGrid


def test_start_stop_step_includes_both_ends_and_is_as_wide_as_its_step():
    grid = ChannelGrid.from_spec("400:1000:10")
    np.testing.assert_array_equal(grid.centres_nm, np.arange(400, 1001, 10))
    np.testing.assert_array_equal(grid.fwhm_nm, np.full(61, 10))


@given(st.integers(300, 900), st.integers(1, 400), st.sampled_from([0.1, 0.3, 0.7, 1, 2.5, 5, 6.6]))
def test_a_stop_that_is_a_multiple_of_the_step_is_kept(start, steps, step):
    stop = start + steps * step
    assert len(ChannelGrid.from_spec(f"{start}:{stop:.6f}:{step}")) == steps + 1


def test_a_stop_between_two_steps_is_not_passed():
    assert ChannelGrid.from_spec("400:415:10").centres_nm.tolist() == [400, 410]


@pytest.mark.parametrize("text", ["450,550,660.5", "450, 550, 660.5"])
def test_a_list_gives_its_centres_and_their_spacing(text):
    grid = ChannelGrid.from_spec(text)
    assert grid.centres_nm.tolist() == [450, 550, 660.5]
    assert grid.fwhm_nm.tolist() == [100, 105.25, 110.5]
    assert ChannelGrid.from_spec(text, fwhm_nm=8).fwhm_nm.tolist() == [8] * 3


def test_a_long_list_is_read_and_a_long_text_refused():
    listed = ",".join(str(400 + n) for n in range(600))
    assert len(ChannelGrid.from_spec(listed)) == 600
    with pytest.raises(WavelengthGridError, match="neither"):
        ChannelGrid.from_spec(listed + ",red")


def test_a_single_wavelength_needs_its_width():
    assert ChannelGrid.from_spec("550", fwhm_nm=10).centres_nm.tolist() == [550]
    with pytest.raises(WavelengthGridError, match="give a FWHM"):
        ChannelGrid.from_spec("550")


def test_a_single_channel_is_as_wide_as_the_step():
    assert ChannelGrid.from_spec("500:500:7").fwhm_nm.tolist() == [7]


def test_a_given_width_replaces_the_spacing():
    assert ChannelGrid.from_spec("400:500:10", fwhm_nm=6.5).fwhm_nm.tolist() == [6.5] * 11


@pytest.mark.parametrize(
    ("text", "centres", "fwhm"),
    [
        ("400\n410\n430\n", [400, 410, 430], [10, 15, 20]),
        ("400, 8\n410, 9\n", [400, 410], [8, 9]),
        ("# EnMAP\nwavelength,fwhm\n400 8  # first\n\n410\t9\n", [400, 410], [8, 9]),
        ("\ufeff400;8\r\n410;9\r\n", [400, 410], [8, 9]),
    ],
)
def test_a_file_gives_centres_and_widths(tmp_path, text, centres, fwhm):
    path = tmp_path / "grid.txt"
    path.write_text(text, encoding="utf-8")
    grid = ChannelGrid.from_spec(str(path))
    assert grid.centres_nm.tolist() == centres
    assert grid.fwhm_nm.tolist() == fwhm


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no numbers"),
        ("400\nred\n", "line 2"),
        ("400 5\n410\n", "line 2"),
        ("400 5 6\n", "line 1"),
        ("410\n400\n", "ascending"),
        ("400\n400\n", "ascending"),
        ("0.4\n0.5\n", "micrometres"),
        ("400 5\n410 0\n", "positive FWHM"),
        ("400\n", "give a FWHM"),
        ("nan\n410\n", "not finite"),
    ],
)
def test_a_malformed_file_is_refused_with_what_is_wrong(tmp_path, text, told):
    path = tmp_path / "grid.txt"
    path.write_text(text)
    with pytest.raises(WavelengthGridError, match=told):
        ChannelGrid.from_spec(str(path))


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "grid.bin"
    path.write_bytes(b"\xff\xfe\x00\x80\x81")
    with pytest.raises(WavelengthGridError, match="cannot be read"):
        ChannelGrid.from_spec(str(path))


@pytest.mark.parametrize(
    "text",
    [
        "400:1000",
        "450,550,",
        "450,red",
        "550,450",
        "0.45,0.55",
        "a:b:c",
        "nowhere.txt",
        "",
        "1000:400:10",
        "400:1000:0",
        "400:1000:-5",
        "400:inf:1",
        "nan:500:1",
        "400:1000:1e-9",
        "0.4:1.0:0.01",
    ],
)
def test_a_malformed_text_is_refused_in_one_line(text):
    with pytest.raises(WavelengthGridError) as caught:
        ChannelGrid.from_spec(text)
    assert "\n" not in str(caught.value)


def test_widths_reach_halfway_to_the_neighbours_and_mirror_at_the_ends():
    grid = ChannelGrid(np.array([400.0, 410, 430]), np.full(3, 5.0))
    assert grid.widths_nm.tolist() == [10, 15, 20]
    assert grid.range_nm == (395, 440)


def test_the_width_of_a_single_channel_is_its_fwhm():
    assert ChannelGrid(np.array([500.0]), np.array([8.0])).range_nm == (496, 504)


def test_within_cuts_with_both_ends_included():
    grid = ChannelGrid.from_spec("400:1000:10").within(420, 440)
    assert grid.centres_nm.tolist() == [420, 430, 440]


def test_within_refuses_a_range_without_channels():
    with pytest.raises(WavelengthGridError, match="none between 1100 and 1200"):
        ChannelGrid.from_spec("400:1000:10").within(1100, 1200)


def test_take_keeps_centres_and_widths_together():
    grid = ChannelGrid(np.array([400.0, 410, 430]), np.array([5.0, 6, 7])).take(np.array([0, 2]))
    assert (grid.centres_nm.tolist(), grid.fwhm_nm.tolist()) == ([400, 430], [5, 7])


def test_arrays_of_different_length_are_refused():
    with pytest.raises(WavelengthGridError, match="one length"):
        ChannelGrid(np.array([400.0, 410]), np.array([5.0]))


def test_no_channel_is_refused():
    with pytest.raises(WavelengthGridError, match="no channel"):
        ChannelGrid(np.array([]), np.array([]))


def test_the_arrays_handed_in_are_copied():
    centres = np.array([400.0, 410])
    grid = ChannelGrid(centres, np.array([5.0, 5]))
    centres[0] = 500
    assert grid.centres_nm[0] == 400


def test_a_grid_survives_pickling():
    grid = pickle.loads(pickle.dumps(ChannelGrid.from_spec("400:1000:10")))
    assert len(grid) == 61


@pytest.mark.parametrize("name", ["enmapbox_desis.csv", "enmapbox_emit.csv"])
def test_real_lists_of_channels_are_read(shared_data, name):
    grid = ChannelGrid.from_spec(str(shared_data / "srf" / name))
    assert len(grid) > 200
    assert np.median(grid.fwhm_nm) < 9
