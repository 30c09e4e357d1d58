"""Claims about cutting, filling, blending and running blocks."""

import threading
import time
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import nullcontext

import dask
import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.tiling.mosaic import (
    MicroBatch,
    ReadFunction,
    TileFunction,
    blend_block,
    blend_windows,
    fill_invalid,
    lazy_mosaic,
    map_blocks,
)
from pixelssr_geo.tiling.plan import TilePlan, Window, plan_tiles

Array = NDArray[np.float32]


def make_scene(shape: tuple[int, int], bands: int = 2, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((bands, *shape), dtype=np.float32)


def reader(scene: Array) -> ReadFunction:
    return lambda window: scene[:, *window.slices]


def identity(stack: Array, indices: NDArray[np.int64]) -> Array:
    return stack


def pixelwise(stack: Array, indices: NDArray[np.int64]) -> Array:
    return np.sqrt(stack) * np.float32(1.7) - stack


def tilewise(stack: Array, indices: NDArray[np.int64]) -> Array:
    """Neighbours and the tile's index matter, as in a network with keyed noise."""
    mixed = np.cumsum(stack, axis=-1) - np.roll(stack, 3, axis=-2)
    return (mixed * (1 + indices[:, None, None, None] % 7)).astype(np.float32)


def assemble(
    plan: TilePlan,
    scene: Array,
    tile_function: TileFunction = identity,
    batch_size: int = 4,
    pool: Executor | None = None,
) -> Array:
    cube = np.full(scene.shape, np.nan, dtype=np.float32)
    for block in plan.blocks:
        cube[:, *block.slices] = blend_block(
            plan,
            block,
            tile_function,
            reader(scene),
            channels=len(scene),
            batch=MicroBatch(batch_size),
            pool=pool,
        )
    return cube


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 16), st.integers(1, 50), st.data())
def test_identity_gives_the_scene_back(
    rows: int, cols: int, tile: int, block: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    plan = plan_tiles((rows, cols), tile=tile, overlap=overlap, block=block)
    scene = make_scene((rows, cols))
    # Up to half a tile of overlap few tiles meet in a pixel; at the extreme hundreds are summed,
    # each of which rounds.
    meeting = (tile // (tile - overlap) + 2) ** 2
    atol = 1e-6 if overlap <= tile // 2 else meeting * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(assemble(plan, scene), scene, rtol=0, atol=atol)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 7), (128, 129), (225, 224)])
def test_identity_holds_at_the_default_tile_for_thin_and_ragged_scenes(
    shape: tuple[int, int],
) -> None:
    scene = make_scene(shape)
    np.testing.assert_allclose(assemble(plan_tiles(shape), scene), scene, atol=1e-6)


@pytest.mark.parametrize("tile_function", [pixelwise, tilewise])
@pytest.mark.parametrize(("block", "batch_size"), [(16, 1), (20, 3), (33, 7), (200, 64)])
def test_result_is_the_same_to_the_last_bit_for_any_block_and_batch(
    tile_function: TileFunction, block: int, batch_size: int
) -> None:
    scene = make_scene((75, 61))
    scene[:, 20:31, 5:20] = np.nan
    options = {"tile": 16, "overlap": 5}
    expected = assemble(plan_tiles((75, 61), block=75, **options), scene, tile_function, 5)
    plan = plan_tiles((75, 61), block=block, **options)
    result = assemble(plan, scene, tile_function, batch_size)
    np.testing.assert_array_equal(result.view(np.uint32), expected.view(np.uint32))


def test_result_is_the_same_to_the_last_bit_when_tiles_run_in_a_pool() -> None:
    scene = make_scene((75, 61))
    scene[:, 20:31, 5:20] = np.nan
    plan = plan_tiles((75, 61), block=75, tile=16, overlap=5)

    def late(stack: Array, indices: NDArray[np.int64]) -> Array:
        time.sleep(0.003 * int(indices[0] % 3))  # so that tiles end out of order
        return tilewise(stack, indices)

    expected = assemble(plan, scene, tilewise, 1)
    with ThreadPoolExecutor(4) as pool:
        result = assemble(plan, scene, late, 1, pool)
    np.testing.assert_array_equal(result.view(np.uint32), expected.view(np.uint32))


class TestManyWindows:
    """Windows anywhere, each tile computed once."""

    PLAN = plan_tiles((75, 61), tile=16, overlap=5)
    WINDOWS = (
        Window(0, 0, 1, 1),
        Window(74, 60, 1, 1),
        Window(30, 8, 9, 20),
        Window(30, 8, 1, 1),
        Window(13, 2, 40, 59),
    )

    @pytest.mark.parametrize("batch_size", [1, 3])
    @pytest.mark.parametrize("threads", [0, 3])
    def test_each_is_what_a_block_of_its_own_gives_to_the_last_bit(
        self, batch_size: int, threads: int
    ) -> None:
        scene = make_scene((75, 61))
        scene[:, 20:51, 5:30] = np.nan
        options = {"channels": 2, "batch": MicroBatch(batch_size)}
        with ThreadPoolExecutor(threads) if threads else nullcontext() as pool:
            found = blend_windows(
                self.PLAN, self.WINDOWS, tilewise, reader(scene), pool=pool, **options
            )
        for window, values in zip(self.WINDOWS, found, strict=True):
            alone = blend_block(self.PLAN, window, tilewise, reader(scene), **options)
            np.testing.assert_array_equal(values.view(np.uint32), alone.view(np.uint32))

    def test_every_tile_that_they_touch_is_computed_once_and_told_of(self) -> None:
        seen: list[int] = []
        told: list[tuple[int, int]] = []

        def noted(stack: Array, indices: NDArray[np.int64]) -> Array:
            seen.extend(map(int, indices))
            return stack

        blend_windows(
            self.PLAN,
            self.WINDOWS,
            noted,
            reader(make_scene((75, 61))),
            channels=2,
            batch=MicroBatch(1),
            progress=lambda done, total: told.append((done, total)),
        )
        touched = {tile for window in self.WINDOWS for tile in self.PLAN.tiles_of(window)}
        assert seen == sorted(touched)
        assert told == [(n + 1, len(touched)) for n in range(len(touched))]

    def test_no_window_needs_no_tile(self) -> None:
        scene = reader(make_scene((75, 61)))
        assert blend_windows(self.PLAN, [], tilewise, scene, channels=2, batch=MicroBatch(1)) == []

    def test_they_are_given_up_when_the_run_is_stopped(self) -> None:
        stop = threading.Event()
        stop.set()
        with pytest.raises(CancelledError, match="the run was stopped"):
            blend_windows(
                self.PLAN,
                self.WINDOWS,
                tilewise,
                reader(make_scene((75, 61))),
                channels=2,
                batch=MicroBatch(1),
                stop=stop,
            )


def test_a_tile_that_fails_in_a_pool_stops_the_block() -> None:
    calls = []

    def fail(stack: Array, indices: NDArray[np.int64]) -> Array:
        calls.append(int(indices[0]))
        raise RuntimeError("broken tile")

    plan = plan_tiles((200, 200), block=200, tile=16, overlap=0)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="broken tile"):
        assemble(plan, make_scene((200, 200)), fail, 1, pool)
    assert len(calls) < plan.tile_count


def test_every_forward_has_the_same_shape_and_says_which_tiles_it_holds() -> None:
    scene = make_scene((40, 40))
    plan = plan_tiles((40, 40), tile=16, overlap=4, block=64)
    seen: list[tuple[tuple[int, ...], list[int]]] = []

    def record(stack: Array, indices: NDArray[np.int64]) -> Array:
        seen.append((stack.shape, indices.tolist()))
        return stack

    assemble(plan, scene, record, batch_size=4)
    assert [shape for shape, _ in seen] == [(4, 2, 16, 16)] * 3
    assert [indices for _, indices in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 8, 8, 8]]


def test_a_hole_of_nan_stays_a_hole_and_changes_nothing_around_it() -> None:
    scene = make_scene((60, 60))
    holed = scene.copy()
    holed[0, 20:33, 25:45] = np.nan
    holed[1, 50, 50] = np.inf
    plan = plan_tiles((60, 60), tile=16, overlap=6, block=32)
    result, whole = assemble(plan, holed, pixelwise), assemble(plan, scene, pixelwise)
    hole = ~np.isfinite(holed).all(axis=0)
    assert np.isnan(result[:, hole]).all()
    np.testing.assert_array_equal(result[:, ~hole], whole[:, ~hole])


def test_the_tile_function_never_sees_a_hole() -> None:
    scene = make_scene((60, 60))
    scene[:, :40, :50] = np.nan

    def check(stack: Array, indices: NDArray[np.int64]) -> Array:
        assert np.isfinite(stack).all()
        return stack

    assemble(plan_tiles((60, 60), tile=16, overlap=6), scene, check)


def test_tiles_without_a_valid_pixel_are_not_run() -> None:
    scene = make_scene((64, 64))
    scene[:, :, :40] = np.nan
    plan = plan_tiles((64, 64), tile=16, overlap=0, block=64)
    seen: set[int] = set()

    def record(stack: Array, indices: NDArray[np.int64]) -> Array:
        seen.update(indices.tolist())
        return stack

    assemble(plan, scene, record)
    assert seen == {index for index in range(16) if index % 4 >= 2}
    scene[:] = np.nan
    seen.clear()
    assert np.isnan(assemble(plan, scene, record)).all()
    assert not seen


def test_beyond_the_scene_a_tile_mirrors_it() -> None:
    scene = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    stacks: list[Array] = []

    def record(stack: Array, indices: NDArray[np.int64]) -> Array:
        stacks.append(stack)
        return stack

    assemble(plan_tiles((1, 6), tile=8, overlap=0), scene, record, batch_size=1)
    np.testing.assert_array_equal(stacks[0][0, 0], np.tile([0, 1, 2, 3, 4, 5, 4, 3], (8, 1)))


def test_a_tile_function_of_other_channels_is_refused() -> None:
    plan = plan_tiles((20, 20), tile=16, overlap=4)
    with pytest.raises(SettingsError, match=r"\(2, 2, 16, 16\), expected \(2, 3, 16, 16\)"):
        blend_block(
            plan,
            plan.blocks[0],
            identity,
            reader(make_scene((20, 20))),
            channels=3,
            batch=MicroBatch(2),
        )


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="batch size is 0"):
        MicroBatch(0)


class TooMuch(Exception):  # noqa: N818
    """What a device raises whose memory does not suffice."""


def limited(room: int, sizes: list[int]) -> TileFunction:
    """A tile function that notes how many tiles it gets and has room for so many."""

    def function(stack: Array, indices: NDArray[np.int64]) -> Array:
        sizes.append(len(stack))
        if len(stack) > room:
            raise TooMuch
        return tilewise(stack, indices)

    return function


@pytest.mark.parametrize("pool", [None, 3])
@pytest.mark.parametrize("room", [1, 3, 5, 9])
def test_batches_are_halved_for_good_where_memory_lacks(room: int, pool: int | None) -> None:
    shape = (75, 61)
    scene, plan = make_scene(shape), plan_tiles(shape, tile=16, overlap=5, block=40)
    sizes: list[int] = []
    batch = MicroBatch(8, lambda error: isinstance(error, TooMuch))
    cube = np.empty_like(scene)
    with ThreadPoolExecutor(pool) if pool else nullcontext() as executor:
        for block in plan.blocks:
            cube[:, *block.slices] = blend_block(
                plan,
                block,
                limited(room, sizes),
                reader(scene),
                channels=2,
                batch=batch,
                pool=executor,
            )
    assert batch.size == max(size for size in (8, 4, 2, 1) if size <= room)
    assert set(sizes) <= {8, 4, 2, 1}
    # Each size fails once, or once in every thread that was in it.
    failed = [size for size in sizes if size > room]
    assert len(failed) <= (pool or 1) * len(set(failed))
    expected = assemble(plan, scene, tilewise, 8)
    np.testing.assert_array_equal(cube.view(np.uint32), expected.view(np.uint32))


def test_a_tile_for_which_memory_lacks_ends_the_run() -> None:
    scene, plan = make_scene((20, 20)), plan_tiles((20, 20), tile=16, overlap=4)
    batch = MicroBatch(4, lambda error: isinstance(error, TooMuch))
    with pytest.raises(TooMuch):
        blend_block(plan, plan.blocks[0], limited(0, []), reader(scene), channels=2, batch=batch)


def test_another_failure_does_not_halve_the_batch() -> None:
    sizes: list[int] = []
    batch = MicroBatch(4, lambda error: False)
    with pytest.raises(TooMuch):
        batch.run(limited(1, sizes), np.zeros((4, 2, 8, 8), "f4"), np.arange(4), 2)
    assert (sizes, batch.size) == ([4], 4)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32), st.floats(0.01, 0.99))
def test_holes_are_filled_from_a_nearest_valid_pixel(
    rows: int, cols: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.random((rows, cols)) < share
    valid.flat[rng.integers(valid.size)] = True
    # Each pixel holds its own place, so that a filled one tells where its value is from.
    places = np.moveaxis(np.argwhere(np.ones_like(valid)).reshape(rows, cols, 2), 2, 0)
    filled = fill_invalid(places.astype(np.float32), valid).astype(int)
    np.testing.assert_array_equal(filled[:, valid], places[:, valid])
    assert valid[tuple(filled)].all()
    distance = ((filled - places) ** 2).sum(axis=0)
    known = np.argwhere(valid)
    best = ((known[:, :, None, None] - places) ** 2).sum(axis=1).min(axis=0)
    np.testing.assert_array_equal(distance, best)


@pytest.mark.parametrize("workers", [1, 3])
def test_all_blocks_run_and_are_reported_from_the_callers_thread(workers: int) -> None:
    plan = plan_tiles((100, 130), block=32)
    ran: list[Window] = []
    done: list[Window] = []
    callers: set[int] = set()

    def on_done(block: Window) -> None:
        assert block in ran
        done.append(block)
        callers.add(threading.get_ident())

    map_blocks(plan, ran.append, workers=workers, on_done=on_done)
    assert sorted(ran) == sorted(done) == sorted(plan.blocks)
    assert callers == {threading.get_ident()}
    if workers == 1:
        assert ran == list(plan.blocks)


def test_no_more_blocks_than_workers_run_at_once() -> None:
    plan = plan_tiles((100, 100), block=10)
    lock, running, most = threading.Lock(), 0, 0

    def work(block: Window) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1

    map_blocks(plan, work, workers=3)
    assert 1 < most <= 3


def test_only_the_blocks_asked_for_run() -> None:
    plan = plan_tiles((100, 100), block=30)
    ran: list[Window] = []
    map_blocks(plan, ran.append, workers=2, blocks=plan.blocks[5:8])
    assert sorted(ran) == list(plan.blocks[5:8])
    map_blocks(plan, ran.append, workers=2, blocks=[])
    assert len(ran) == 3


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_is_raised_after_the_running_blocks_and_starts_no_other(
    error: type[BaseException],
) -> None:
    plan = plan_tiles((100, 100), block=10)
    stop = threading.Event()
    started: list[Window] = []
    finished: list[Window] = []

    def work(block: Window) -> None:
        started.append(block)
        if len(started) == 4:
            raise error("planted")
        time.sleep(0.01)
        finished.append(block)

    with pytest.raises(error, match="planted"):
        map_blocks(plan, work, workers=2, stop=stop)
    assert stop.is_set()
    assert len(started) <= 6
    assert len(finished) == len(started) - 1


def test_a_failing_report_stops_the_run() -> None:
    plan = plan_tiles((100, 100), block=10)
    ran: list[Window] = []

    def on_done(block: Window) -> None:
        raise RuntimeError("ledger lost")

    with pytest.raises(RuntimeError, match="ledger lost"):
        map_blocks(plan, ran.append, workers=1, on_done=on_done)
    assert len(ran) < len(plan.blocks)


def test_a_stopped_block_is_given_up_between_stacks() -> None:
    plan = plan_tiles((64, 64), tile=16, overlap=0)
    stop = threading.Event()
    calls: list[int] = []

    def stopping(stack: Array, indices: NDArray[np.int64]) -> Array:
        calls.append(1)
        stop.set()
        return stack

    with pytest.raises(CancelledError):
        blend_block(
            plan,
            plan.blocks[0],
            stopping,
            reader(make_scene((64, 64))),
            channels=2,
            batch=MicroBatch(1),
            stop=stop,
        )
    assert len(calls) == 1


def test_dask_computations_inside_a_block_are_not_reported_as_blocks() -> None:
    plan = plan_tiles((20, 20), block=10)
    total: list[int] = []
    done: list[Window] = []
    seen: list[object] = []

    def work(block: Window) -> None:
        total.append(int(da.ones(100, chunks=10).sum().compute(scheduler="threads")))

    with Callback(posttask=lambda key, *_: seen.append(key)):
        map_blocks(plan, work, workers=2, on_done=done.append)
    assert total == [100] * 4
    assert sorted(done) == list(plan.blocks)


def test_no_workers_are_refused() -> None:
    with pytest.raises(SettingsError, match="workers is 0"):
        map_blocks(plan_tiles((9, 9)), print, workers=0)


def test_lazy_and_eager_cubes_are_equal() -> None:
    scene = make_scene((70, 50))
    plan = plan_tiles((70, 50), tile=16, overlap=4, block=32)
    calls: list[Window] = []

    def block_function(block: Window) -> Array:
        calls.append(block)
        return blend_block(plan, block, tilewise, reader(scene), channels=2, batch=MicroBatch(4))

    lazy = lazy_mosaic(plan, block_function, 2)
    assert (lazy.shape, lazy.dtype) == ((2, 70, 50), np.float32)
    assert lazy.chunks == ((2,), (32, 32, 6), (32, 18))
    assert not calls
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), assemble(plan, scene, tilewise))
    calls.clear()
    lazy[:, 33:40, 0:5].compute(scheduler="sync")
    assert calls == [Window(32, 0, 32, 32)]


def constant_block(block: Window) -> Array:
    return np.ones((3, *block.shape), dtype=np.float32)


def test_lazy_cubes_of_the_same_arguments_have_the_same_name() -> None:
    plan = plan_tiles((70, 50), block=32)
    name = lazy_mosaic(plan, constant_block, 3).name
    assert lazy_mosaic(plan_tiles((70, 50), block=32), constant_block, 3).name == name
    assert lazy_mosaic(plan_tiles((70, 50), block=16), constant_block, 3).name != name
    assert lazy_mosaic(plan, constant_block, 3, name="mine").name == "mine"


def test_a_lazy_cube_computes_under_threads() -> None:
    plan = plan_tiles((70, 50), block=32)
    with dask.config.set(scheduler="threads"):
        assert float(lazy_mosaic(plan, constant_block, 3).sum()) == 3 * 70 * 50
