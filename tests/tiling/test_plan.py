"""Claims about the lattice of tiles and the blocks over it."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.tiling.plan import TilePlan, Window, plan_tiles


@st.composite
def plans(draw: st.DrawFn) -> TilePlan:
    tile = draw(st.integers(1, 40))
    return plan_tiles(
        (draw(st.integers(1, 90)), draw(st.integers(1, 90))),
        tile=tile,
        overlap=draw(st.integers(0, tile - 1)),
        block=draw(st.integers(1, 64)),
    )


windows = st.builds(
    Window, st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 20), st.integers(1, 20)
)


@given(plans())
def test_every_pixel_lies_in_a_tile(plan: TilePlan) -> None:
    hit = np.zeros(plan.shape, dtype=bool)
    for index in range(plan.tile_count):
        hit[plan.tile_window(index).clip(plan.shape).slices] = True
    assert hit.all()


@given(plans())
def test_tiles_stay_within_the_scene_unless_it_is_smaller_than_a_tile(plan: TilePlan) -> None:
    for starts, size in zip((plan.row_starts, plan.col_starts), plan.shape, strict=True):
        assert starts[0] == 0
        assert starts[-1] == max(size - plan.tile, 0)
        steps = [b - a for a, b in pairwise(starts)]
        assert all(step == plan.tile - plan.overlap for step in steps[:-1])
        assert all(0 < step <= plan.tile - plan.overlap for step in steps)


@given(plans())
def test_blocks_hold_every_pixel_once(plan: TilePlan) -> None:
    count = np.zeros(plan.shape, dtype=int)
    for block in plan.blocks:
        count[block.slices] += 1
    assert (count == 1).all()


@given(plans(), st.data())
def test_tiles_of_a_block_are_those_that_touch_it(plan: TilePlan, data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(plan.blocks))
    expected = tuple(
        index
        for index in range(plan.tile_count)
        if min(plan.tile_window(index).intersect(block).shape) > 0
    )
    assert plan.tiles_of(block) == expected


@given(plans(), st.integers(0, 10), st.data())
def test_read_window_is_the_smallest_that_holds_tiles_and_halo(
    plan: TilePlan, halo: int, data: st.DataObject
) -> None:
    block = data.draw(st.sampled_from(plan.blocks))
    needed = [plan.tile_window(index) for index in plan.tiles_of(block)] + [block.expand(halo)]
    rows = [row for window in needed for row in (window.row, window.row_stop)]
    cols = [col for window in needed for col in (window.col, window.col_stop)]
    expected = Window(min(rows), min(cols), max(rows) - min(rows), max(cols) - min(cols))
    assert plan.read_window(block, halo) == expected.clip(plan.shape)


@given(plans(), st.integers(1, 64))
def test_tiles_do_not_depend_on_the_block_size(plan: TilePlan, block: int) -> None:
    other = plan_tiles(plan.shape, tile=plan.tile, overlap=plan.overlap, block=block)
    assert (other.row_starts, other.col_starts) == (plan.row_starts, plan.col_starts)


@given(windows, windows)
def test_intersection_and_union_agree_with_sets_of_pixels(a: Window, b: Window) -> None:
    def pixels(window: Window) -> set[tuple[int, int]]:
        rows, cols = window.slices
        return {(r, c) for r in range(rows.start, rows.stop) for c in range(cols.start, cols.stop)}

    assert pixels(a.intersect(b)) == pixels(a) & pixels(b)
    assert pixels(a) | pixels(b) <= pixels(a.union(b))
    assert a.relative_to(b).shape == a.shape


def test_plan_compares_and_pickles() -> None:
    plan = plan_tiles((1000, 700))
    assert pickle.loads(pickle.dumps(plan)) == plan == plan_tiles((1000, 700))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (0, 5)}, "rows is 0"),
        ({"shape": (5, -1)}, "columns is -1"),
        ({"tile": 0, "overlap": 0}, "tile is 0"),
        ({"block": 0}, "block is 0"),
        ({"overlap": -1}, "overlap is -1"),
        ({"tile": 32, "overlap": 32}, "expected 0 to 31"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_tiles(**{"shape": (50, 50), **options})  # type: ignore[arg-type]
