import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.grid import PixelGrid

sizes = st.floats(0.01, 1000)
corners = st.floats(-1e6, 1e6)


@st.composite
def grids(draw):
    """Grids of any pixel size and orientation, rotated ones included."""
    turn, pixel = draw(st.floats(0, 2 * np.pi)), (draw(sizes), draw(sizes))
    mirror = draw(st.sampled_from([-1, 1]))
    a, b = pixel[0] * np.cos(turn), -mirror * pixel[1] * np.sin(turn)
    d, e = pixel[0] * np.sin(turn), mirror * pixel[1] * np.cos(turn)
    shape = (draw(st.integers(1, 3000)), draw(st.integers(1, 3000)))
    transform = (a, b, draw(corners), d, e, draw(corners))
    return PixelGrid(None, tuple(map(float, transform)), shape)


@given(grids(), st.integers(-50, 5000), st.integers(-50, 5000))
def test_a_pixels_centre_falls_in_that_pixel(grid, row, col):
    rows, cols = grid.to_pixels(*grid.to_world(np.array([row]), np.array([col])))
    assert (rows[0], cols[0]) == (row, col)


@given(
    grids(),
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.floats(0.001, 0.999),
    st.floats(0.001, 0.999),
)
def test_every_place_inside_a_pixel_belongs_to_it(grid, row, col, down, right):
    x, y = grid.affine @ (col + right, row + down)
    rows, cols = grid.to_pixels(np.array([x]), np.array([y]))
    assert (rows[0], cols[0]) == (row, col)


@given(grids())
def test_the_raster_contains_its_corner_pixels_and_none_beyond(grid):
    height, width = grid.shape
    rows = np.array([0, height - 1, -1, height, 0, 0])
    cols = np.array([0, width - 1, 0, 0, -1, width])
    assert grid.contains(rows, cols).tolist() == [True, True, False, False, False, False]


def test_the_upper_left_corner_belongs_to_the_first_pixel():
    grid = PixelGrid(None, (10.0, 0.0, 500.0, 0.0, -10.0, 900.0), (3, 4))
    rows, cols = grid.to_pixels(np.array([500.0, 540.0]), np.array([900.0, 870.0]))
    assert (rows.tolist(), cols.tolist()) == ([0, 3], [0, 4])


def test_a_place_that_is_not_finite_lies_outside():
    grid = PixelGrid(None, (10.0, 0.0, 500.0, 0.0, -10.0, 900.0), (3, 4))
    x, y = np.array([np.inf, np.nan, 505.0]), np.array([895.0, 895.0, -np.inf])
    assert not grid.contains(*grid.to_pixels(x, y)).any()
