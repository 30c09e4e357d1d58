"""Claims about the blending weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.tiling.blend import axis_weights, taper
from pixelssr_geo.tiling.plan import plan_tiles


@given(st.integers(1, 300), st.integers(1, 64), st.data())
def test_weights_sum_to_one_at_every_pixel(size: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    plan = plan_tiles((size, size), tile=tile, overlap=overlap)
    weights = axis_weights(plan.row_starts, tile, overlap)
    total = np.zeros(max(size, tile))
    for start, row in zip(plan.row_starts, weights, strict=True):
        total[start : start + tile] += row
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(st.integers(1, 300), st.data())
def test_no_pixel_of_a_tile_has_weight_zero(tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    plan = plan_tiles((3 * tile, 1), tile=tile, overlap=overlap)
    assert (taper(tile, overlap) > 0).all()
    assert (axis_weights(plan.row_starts, tile, overlap) > 0).all()


def test_taper_is_symmetric_and_flat_beyond_the_overlap() -> None:
    weights = taper(128, 32)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert (weights[32:96] == 1).all()
    assert (np.diff(weights[:32]) > 0).all()


def test_without_overlap_a_regular_lattice_is_not_blended() -> None:
    assert (axis_weights((0, 8, 16), 8, 0) == 1).all()


@pytest.mark.parametrize("tile", [1, 2, 5])
def test_one_tile_alone_has_weight_one(tile: int) -> None:
    np.testing.assert_allclose(axis_weights((0,), tile, tile - 1), 1)
