import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.axes import Axes
from matplotlib.image import imread

from pixelssr_geo.errors import OutputError, SettingsError, WavelengthGridError
from pixelssr_geo.report.quicklook import (
    _draw,
    _farthest_apart,
    _Mark,
    _rmse,
    _spread_marks,
    band_rgb,
    false_colour,
    true_colour,
    write_quicklook,
)

WAVELENGTHS = np.arange(400.0, 1001, 20)


@pytest.fixture
def cube():
    ramp = np.random.default_rng(0).random((24, 30))
    return (0.1 + 0.4 * ramp * WAVELENGTHS[:, None, None] / 1000).astype(np.float32)


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def draw(cube, *, reference=None, shown=(), others=(), title=""):
    return _draw(cube, WAVELENGTHS, reference, list(shown), list(others), title)


def test_colours_are_the_channels_nearest_to_red_green_and_blue():
    cube = np.zeros((3, 2, 2))
    cube[:, 0, 0] = [1, 0, 0]  # bright at 480 nm
    cube[:, 0, 1] = [0, 1, 0]
    cube[:, 1, 0] = [0, 0, 1]
    image = true_colour(cube, [483, 555, 671])
    np.testing.assert_array_equal(image[0, 0], [0, 0, 1])
    np.testing.assert_array_equal(image[0, 1], [0, 1, 0])
    np.testing.assert_array_equal(image[1, 0], [1, 0, 0])


def test_plants_are_red_in_false_colours():
    plant, soil = [0.05, 0.03, 0.5], [0.15, 0.25, 0.3]
    cube = np.array([[plant, soil], [soil, plant]]).transpose(2, 0, 1)
    image = false_colour(cube, [560, 660, 830])
    np.testing.assert_array_equal(image[0, 0], [1, 0, 0])
    np.testing.assert_array_equal(image[0, 1], [0, 1, 1])


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
        elements=st.floats(-1, 2, width=32) | st.sampled_from([np.nan, np.inf, -np.inf]),
    )
)
@settings(max_examples=60, deadline=None)
def test_colour_images_stay_in_range_and_are_white_without_data(cube):
    wavelengths = 450 + 100 * np.arange(len(cube))
    image = band_rgb(cube, wavelengths, (450, 450, 450))
    assert image.shape == (*cube.shape[1:], 3)
    assert image.dtype == np.float32
    assert ((image >= 0) & (image <= 1)).all()
    assert (image[~np.isfinite(cube[0])] == 1).all()


def test_the_stretch_does_not_depend_on_the_unit(cube):
    counts = np.round(cube.astype("f8") * 1e4)
    np.testing.assert_allclose(
        true_colour(counts, WAVELENGTHS), true_colour(counts / 1e4, WAVELENGTHS), atol=1e-5
    )


def test_rmse_counts_the_channels_that_both_have():
    cube = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, 0.0]])
    error = _rmse(cube, np.zeros((3, 2)))
    np.testing.assert_allclose(error, [np.sqrt(5), 0])
    assert np.isnan(_rmse(np.full((3, 2), np.nan), cube)).all()


def test_a_png_is_written_and_replaced(cube, tmp_path):
    path = tmp_path / "look.png"
    write_quicklook(path, cube, WAVELENGTHS)
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    assert imread(path).shape[1] > 1000
    write_quicklook(str(path), cube, WAVELENGTHS, reference=cube + 0.01, title="with reference")
    assert path.read_bytes() != first
    assert [file.name for file in tmp_path.iterdir()] == ["look.png"]


def test_maps_name_the_wavelengths_and_the_error(cube):
    found = texts(draw(cube, reference=cube + 0.01, title="scene.tif"))
    assert "scene.tif" in found
    assert "True colour (660, 560, 480 nm)" in found
    assert "False colour (820, 660, 560 nm)" in found
    assert "Error per pixel, reflectance (all: 0.0100)" in found
    assert "RMSE" in found
    assert "Error" not in " ".join(texts(draw(cube)))


def test_spectra_are_those_of_the_points(cube):
    field = np.linspace(0, 1, len(WAVELENGTHS))
    marks = [_Mark("soil A", 3, 4, field), _Mark("crop B", 20, 10, None)]
    figure = draw(cube, reference=cube * 2, shown=marks)
    titled = {axes.get_title(loc="left"): axes for axes in figure.findobj(Axes)}
    drawn = {line.get_label(): line.get_ydata() for line in titled["1  soil A"].lines}
    np.testing.assert_array_equal(drawn["field point"], field)
    np.testing.assert_array_equal(drawn["reconstructed"], cube[:, 3, 4])
    np.testing.assert_array_equal(drawn["reference"], 2 * cube[:, 3, 4])
    assert {line.get_label() for line in titled["2  crop B"].lines} == {
        "reference",
        "reconstructed",
    }
    assert titled["1  soil A"].get_xlabel() == "Wavelength (nm)"
    assert titled["1  soil A"].get_ylabel() == "Reflectance"


def test_five_points_far_apart_are_chosen_of_many():
    near = [_Mark(f"near {k}", 10, 10 + k % 5, None) for k in range(20)]
    corners = [_Mark(f"corner {r}{c}", r, c, None) for r in (0, 99) for c in (0, 99)]
    chosen = _farthest_apart([*near, *corners], 5)
    assert {mark.name for mark in chosen} > {mark.name for mark in corners}
    same = [_Mark(str(k), 5, 5, None) for k in range(9)]
    assert len({mark.name for mark in _farthest_apart(same, 5)}) == 5


def test_without_points_five_pixels_with_data_are_drawn(cube):
    cube[:, :, :12] = np.nan
    marks = _spread_marks(cube)
    assert len(marks) == 5
    assert all(np.isfinite(cube[:, mark.row, mark.col]).all() for mark in marks)


def blank(shape):
    return np.full((len(WAVELENGTHS), *shape), np.nan, np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (2, 3)])
def test_tiny_and_slim_cubes_are_drawn(shape, tmp_path):
    cube = np.random.default_rng(0).random((len(WAVELENGTHS), *shape))
    write_quicklook(tmp_path / "look.png", cube, WAVELENGTHS, reference=cube / 2)
    assert imread(tmp_path / "look.png").shape[0] > 300


def test_a_cube_without_data_is_drawn(tmp_path):
    path = tmp_path / "look.png"
    write_quicklook(path, blank((4, 4)), WAVELENGTHS)
    write_quicklook(
        path,
        blank((4, 4)),
        WAVELENGTHS,
        reference=blank((4, 4)),
        points=[("a", 1, 1, np.full(len(WAVELENGTHS), np.nan)), ("b", 2, 2, None)],
    )
    assert path.exists()


def test_one_channel_is_enough(tmp_path):
    write_quicklook(tmp_path / "look.png", np.ones((1, 3, 3)), [550.0])
    assert (tmp_path / "look.png").exists()


def test_names_are_set_as_they_stand(cube, tmp_path):
    """No name is read as a formula, and a script that no font knows does not stop the run."""
    name = "$x_{ 麦田 \\frac " + "long " * 30
    write_quicklook(
        tmp_path / "look.png", cube, WAVELENGTHS, points=[(name, 1, 1, None)], title=name * 3
    )
    assert (tmp_path / "look.png").exists()


def test_inputs_that_do_not_fit_are_refused(cube, tmp_path):
    path = tmp_path / "look.png"
    with pytest.raises(WavelengthGridError, match="one wavelength per channel"):
        write_quicklook(path, cube, WAVELENGTHS[1:])
    with pytest.raises(WavelengthGridError, match="one wavelength per channel"):
        true_colour(cube[0], WAVELENGTHS)
    with pytest.raises(SettingsError, match="reference has shape"):
        write_quicklook(path, cube, WAVELENGTHS, reference=cube[:, 1:])
    with pytest.raises(SettingsError, match="'p' is at row 24"):
        write_quicklook(path, cube, WAVELENGTHS, points=[("p", 24, 0, None)])
    with pytest.raises(WavelengthGridError, match="spectrum of point 'p'"):
        write_quicklook(path, cube, WAVELENGTHS, points=[("p", 2, 0, [0.1, 0.2])])
    assert not path.exists()


def test_a_folder_that_is_not_there_is_named(cube, tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        write_quicklook(tmp_path / "nowhere" / "look.png", cube, WAVELENGTHS)


def test_nothing_is_left_where_the_name_is_taken_by_a_folder(cube, tmp_path):
    (tmp_path / "look.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_quicklook(tmp_path / "look.png", cube, WAVELENGTHS)
    assert [file.name for file in tmp_path.iterdir()] == ["look.png"]
