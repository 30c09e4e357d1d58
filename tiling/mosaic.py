"""From a function on tiles to a cube: cut, fill, batch, blend, and run block by block.

:func:`blend_block` computes one block; the eager path (:func:`map_blocks`) and the lazy path
(:func:`lazy_mosaic`) share it. Every pixel adds up its tiles in the order of their global index,
and each tile is filled and padded from its own pixels alone. So the sum is the same to the last bit
whatever the block size, the batch size and the number of workers, as long as the tile function's
result for one tile does not depend on the others in its batch.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import dask.array as da
import dask.threaded
import numpy as np
from dask.base import tokenize
from numpy.typing import DTypeLike, NDArray

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.tiling.blend import axis_weights
from pixelssr_geo.tiling.plan import TilePlan, Window

log = logging.getLogger(__name__)

ReadFunction: TypeAlias = Callable[[Window], NDArray[Any]]
"""A window within the scene -> its values ``(band, y, x)``, NaN where there is no data."""

TileFunction: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[Any]]
"""Tiles ``(n, band, tile, tile)`` and their indices ``(n,)`` -> ``(n, channel, tile, tile)``."""

_AHEAD = 8
"""Stacks that are computed or wait to be blended at a time, where a pool computes them."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class MicroBatch:
    """How many tiles are computed at a time; halved, from then on, where memory does not suffice.

    One object serves all blocks of a process, so that the same lack is not met again in each.
    """

    size: int
    """Tiles in a stack."""
    lacks_memory: Callable[[Exception], bool] | None = None
    """Whether what the tile function raised is a lack of memory that fewer tiles may cure; None
    lets every exception through."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SettingsError(
                f"batch size is {self.size}, expected at least 1: give a larger one"
            )

    def run(
        self,
        tile_function: TileFunction,
        stack: NDArray[np.float32],
        indices: NDArray[np.int64],
        channels: int,
    ) -> NDArray[np.float32]:
        """Results ``(n, channel, tile, tile)`` of tiles ``(n, band, tile, tile)``.

        Every call of the tile function has exactly ``size`` tiles; the last is filled up.
        """
        results = []
        start = 0
        while start < len(stack):
            size = self.size
            part = slice(start, start + size)
            try:
                results.append(_run(tile_function, stack[part], indices[part], size, channels))
            except Exception as error:
                if size == 1 or self.lacks_memory is None or not self.lacks_memory(error):
                    raise
                # Another thread may have halved it meanwhile.
                self.size = min(self.size, size // 2)
                log.warning("memory does not suffice for %d tiles: %d from now on", size, self.size)
            else:
                start += size
        return results[0] if len(results) == 1 else np.concatenate(results)


def blend_block(
    plan: TilePlan,
    block: Window,
    tile_function: TileFunction,
    read: ReadFunction,
    *,
    channels: int,
    batch: MicroBatch,
    stop: threading.Event | None = None,
    pool: Executor | None = None,
) -> NDArray[np.float32]:
    """Compute the values ``(channel, y, x)`` of one block, blended from every tile that touches it.

    Parameters
    ----------
    plan
        The lattice of tiles.
    block
        One of ``plan.blocks``, or any other window within the scene.
    tile_function
        Called with stacks of exactly ``batch.size`` tiles, float32 without NaN, so that every
        forward has one shape; the last stack is filled up with copies of its last tile, whose
        results are dropped.
    read
        Called once, with a window within the scene. A pixel that is not finite in some band has
        no data.
    channels
        Channels that ``tile_function`` returns.
    batch
        Tiles in a stack, and what a lack of memory looks like.
    stop
        Looked at before every stack; when set, the block is given up.
    pool
        Threads to call ``tile_function`` in, several stacks at a time; the result is the same.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(channels, block.height, block.width)``; NaN where the scene has no data.

    Raises
    ------
    SettingsError
        If ``tile_function`` returns another shape.
    concurrent.futures.CancelledError
        If ``stop`` was set.
    """
    origin = plan.read_window(block)
    scene = np.asarray(read(origin), dtype=np.float32)
    valid: NDArray[np.bool_] = np.all(np.isfinite(scene), axis=0)
    row_weights = axis_weights(plan.row_starts, plan.tile, plan.overlap)
    col_weights = axis_weights(plan.col_starts, plan.tile, plan.overlap)
    # A tile without a valid pixel adds to no pixel that is kept.
    tiles = [
        (index, inside)
        for index in plan.tiles_of(block)
        if valid[(inside := _inside(plan, index, origin)).slices].any()
    ]

    cube = np.zeros((channels, *block.shape), dtype=np.float32)

    def compute(some: Sequence[tuple[int, Window]]) -> NDArray[np.float32]:
        if stop is not None and stop.is_set():
            raise CancelledError("block given up: the run was stopped")
        stack = np.stack([_cut(scene, valid, inside, plan.tile) for _, inside in some])
        indices = np.array([index for index, _ in some], dtype=np.int64)
        return batch.run(tile_function, stack, indices, channels)

    stacks = list(_batches(tiles, batch.size))
    for some, result in zip(stacks, _in_order(pool, compute, stacks), strict=True):
        for (index, _), values in zip(some, result, strict=True):
            window = plan.tile_window(index)
            shared = window.intersect(block)
            rows, cols = shared.relative_to(window).slices
            row, col = divmod(index, len(plan.col_starts))
            weights = row_weights[row, rows, None] * col_weights[col, cols]
            cube[:, *shared.relative_to(block).slices] += weights * values[:, rows, cols]
    cube[:, ~valid[block.relative_to(origin).slices]] = np.nan
    return cube


def blend_windows(
    plan: TilePlan,
    windows: Sequence[Window],
    tile_function: TileFunction,
    read: ReadFunction,
    *,
    channels: int,
    batch: MicroBatch,
    stop: threading.Event | None = None,
    pool: Executor | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[NDArray[np.float32]]:
    """Compute what :func:`blend_block` gives of several windows, every tile once.

    For windows that lie beside each other or far apart, such as the pixels under points: the values
    are the same to the last bit.

    Parameters
    ----------
    plan, tile_function, channels, batch, stop, pool
        See :func:`blend_block`.
    windows
        Within the scene; they may overlap.
    read
        Called with the part of each tile that lies within the scene.
    progress
        Called with the tiles that are done and how many there are.

    Returns
    -------
    list of numpy.ndarray
        float32, ``(channels, height, width)`` of each window; NaN where the scene has no data.

    Raises
    ------
    SettingsError, concurrent.futures.CancelledError
        See :func:`blend_block`.
    """
    row_weights = axis_weights(plan.row_starts, plan.tile, plan.overlap)
    col_weights = axis_weights(plan.col_starts, plan.tile, plan.overlap)
    touched: dict[int, list[int]] = {}
    for number, window in enumerate(windows):
        for index in plan.tiles_of(window):
            touched.setdefault(index, []).append(number)
    order = sorted(touched)
    cubes = [np.zeros((channels, *window.shape), dtype=np.float32) for window in windows]
    known = [np.zeros(window.shape, dtype=np.bool_) for window in windows]

    def compute(some: Sequence[int]) -> list[tuple[int, NDArray[np.bool_], NDArray[np.float32]]]:
        """Of the tiles with data: index, valid pixels within the scene, and result."""
        if stop is not None and stop.is_set():
            raise CancelledError("windows given up: the run was stopped")
        cut = []
        for index in some:
            scene = np.asarray(read(plan.tile_window(index).clip(plan.shape)), dtype=np.float32)
            valid: NDArray[np.bool_] = np.all(np.isfinite(scene), axis=0)
            if valid.any():
                inside = Window(0, 0, *valid.shape)
                cut.append((index, valid, _cut(scene, valid, inside, plan.tile)))
        if not cut:
            return []
        stack = np.stack([tile for *_, tile in cut])
        indices = np.array([index for index, *_ in cut], dtype=np.int64)
        results = batch.run(tile_function, stack, indices, channels)
        return [(index, valid, one) for (index, valid, _), one in zip(cut, results, strict=True)]

    stacks = [order[start : start + batch.size] for start in range(0, len(order), batch.size)]
    done = 0
    for some, found in zip(stacks, _in_order(pool, compute, stacks), strict=True):
        for index, valid, values in found:
            tile = plan.tile_window(index)
            row, col = divmod(index, len(plan.col_starts))
            for number in touched[index]:
                shared = tile.intersect(windows[number])
                rows, cols = shared.relative_to(tile).slices
                at = shared.relative_to(windows[number]).slices
                weights = row_weights[row, rows, None] * col_weights[col, cols]
                cubes[number][:, *at] += weights * values[:, rows, cols]
                known[number][at] |= valid[rows, cols]
        done += len(some)
        if progress is not None:
            progress(done, len(order))
    for cube, valid in zip(cubes, known, strict=True):
        cube[:, ~valid] = np.nan
    return cubes


def _in_order(
    pool: Executor | None, function: Callable[[_Item], _Result], items: Sequence[_Item]
) -> Iterator[_Result]:
    """Yield the results in the items' order, a few of them computed ahead in the pool."""
    if pool is None:
        yield from map(function, items)
        return
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def fill_invalid(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Replace every invalid pixel by the valid pixel nearest to it.

    Valid pixels are untouched. Of several nearest pixels the one in the leftmost column is taken,
    and in that column the upper.

    Parameters
    ----------
    values
        Shape ``(band, y, x)``.
    valid
        Shape ``(y, x)``; at least one pixel is valid.
    """
    if valid.all():
        return values
    rows, cols = _nearest_valid(valid)
    filled = values.copy()
    filled[:, ~valid] = values[:, rows[~valid], cols[~valid]]
    return filled


def map_blocks(
    plan: TilePlan,
    block_function: Callable[[Window], object],
    *,
    workers: int,
    on_done: Callable[[Window], object] | None = None,
    blocks: Sequence[Window] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run a function for every block, on Dask's threaded scheduler.

    What it returns is dropped: it writes its result itself. Blocks are started in order, at most
    ``workers`` at a time. When one fails, or on an interrupt, no further block is started, the
    running ones are awaited, and the exception is raised.

    Parameters
    ----------
    plan
        Its blocks are run.
    block_function
        Called in the threads of a pool.
    workers
        Threads.
    on_done
        Called in the caller's thread for each block that is complete, in order of completion. An
        exception that it raises stops the run.
    blocks
        The blocks to run, when not all of the plan's: those that a resumed run still lacks.
    stop
        Set on failure or interrupt, so that running blocks which look at it end early too
        (:func:`blend_block` does).

    Raises
    ------
    SettingsError
        If ``workers`` is not positive.
    """
    if workers < 1:
        raise SettingsError(f"workers is {workers}, expected at least 1: give a larger number")
    # Dask is free in the order of tasks that do not depend on each other, so a task is not a block
    # but a turn: it takes the next one.
    pending = deque(plan.blocks if blocks is None else blocks)

    def take_turn() -> Window:
        block = pending.popleft()
        block_function(block)
        return block

    def completed(_: str, block: Window, *__: object) -> None:
        if on_done is not None:
            on_done(block)

    graph = {f"block-{turn}": (take_turn,) for turn in range(len(pending))}
    # Callbacks given here are not seen by computations inside block_function, as registered
    # ones would be.
    callbacks = [(None, None, None, completed, None)]
    with ThreadPoolExecutor(workers, thread_name_prefix="pixelssr-block") as pool:
        try:
            dask.threaded.get(graph, list(graph), pool=pool, callbacks=callbacks)
        except BaseException:
            if stop is not None:
                stop.set()
            raise


def lazy_mosaic(
    plan: TilePlan,
    block_function: Callable[[Window], NDArray[Any]],
    channels: int,
    dtype: DTypeLike = np.float32,
    *,
    name: str | None = None,
) -> da.Array:
    """Return the cube as a lazy array ``(channel, y, x)`` with one chunk per block.

    Nothing is computed here.

    Parameters
    ----------
    plan
        Its blocks become the chunks.
    block_function
        Returns the values ``(channel, y, x)`` of a block. It goes into the graph, so for
        schedulers with processes it must pickle.
    channels
        Channels of the cube.
    dtype
        Of the chunks.
    name
        Name of the array in the graph; by default a hash of the arguments.
    """
    rows, cols = plan.shape
    chunks = ((channels,), _block_sizes(rows, plan.block), _block_sizes(cols, plan.block))
    lazy: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        _chunk,
        plan=plan,
        block_function=block_function,
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0, 0, 0), dtype=dtype),
        name=name or f"mosaic-{tokenize(plan, block_function, channels, np.dtype(dtype).str)}",
    )
    return lazy


def _chunk(
    *,
    plan: TilePlan,
    block_function: Callable[[Window], NDArray[Any]],
    block_id: tuple[int, int, int],
) -> NDArray[Any]:
    _, row, col = block_id
    size = plan.block
    return block_function(Window(row * size, col * size, size, size).clip(plan.shape))


def _block_sizes(size: int, block: int) -> tuple[int, ...]:
    return tuple(min(block, size - start) for start in range(0, size, block))


def _batches(
    tiles: list[tuple[int, Window]], batch_size: int
) -> Iterator[list[tuple[int, Window]]]:
    for start in range(0, len(tiles), batch_size):
        yield tiles[start : start + batch_size]


def _inside(plan: TilePlan, index: int, origin: Window) -> Window:
    """Return the part of a tile within the scene, counted from the window that was read."""
    return plan.tile_window(index).clip(plan.shape).relative_to(origin)


def _cut(
    scene: NDArray[np.float32], valid: NDArray[np.bool_], inside: Window, tile: int
) -> NDArray[np.float32]:
    """Cut one tile ``(band, tile, tile)``, filled where invalid and padded where it leaves the scene.

    The padding mirrors the scene, over and over where it is smaller than the padding; an axis of
    one pixel has nothing to mirror and is repeated.
    """
    values = fill_invalid(scene[:, *inside.slices], valid[inside.slices])
    if inside.shape == (tile, tile):
        return values
    margins = ((0, 0), (0, tile - inside.height), (0, tile - inside.width))
    return np.pad(values, margins, mode="reflect")


def _run(
    tile_function: TileFunction,
    stack: NDArray[np.float32],
    indices: NDArray[np.int64],
    batch_size: int,
    channels: int,
) -> NDArray[np.float32]:
    """Return the results ``(n, channel, tile, tile)`` of one stack, run at the full batch size."""
    count = len(stack)
    full = np.minimum(np.arange(batch_size), count - 1)
    result = np.asarray(tile_function(stack[full], indices[full]), dtype=np.float32)
    expected = (batch_size, channels, *stack.shape[2:])
    if result.shape != expected:
        raise SettingsError(
            f"tile function returned shape {result.shape}, expected {expected}"
            " (tile, channel, y, x): give the number of channels that it returns"
        )
    return result[:count]


def _nearest_valid(valid: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column, each ``(y, x)``, of the nearest valid pixel.

    Squared Euclidean distances separate: first the nearest valid pixel within each column, then
    for each pixel the best among the columns' candidates in its row.
    """
    height, width = valid.shape
    far = 2 * (height + width)
    row = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(valid, row, -far), axis=0)
    below = np.minimum.accumulate(np.where(valid, row, far)[::-1], axis=0)[::-1]
    nearest = np.where(row - above <= below - row, above, below)
    squared = (row - nearest) ** 2

    rows = np.broadcast_to(row, valid.shape).copy()
    cols = np.broadcast_to(np.arange(width), valid.shape).copy()
    for col in np.flatnonzero(~valid.all(axis=0)):
        best = np.argmin(squared + (np.arange(width) - col) ** 2, axis=1)
        rows[:, col] = nearest[row[:, 0], best]
        cols[:, col] = best
    return rows, cols
