"""A trained network over a scene: one more prior mean of the estimator, tile by tile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pixelssr_geo.tiling.mosaic import MicroBatch, blend_windows
from pixelssr_geo.tiling.plan import TilePlan, Window

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    import torch
    from numpy.typing import NDArray

    from pixelssr_geo.nets.precision import Precision
    from pixelssr_geo.tiling.mosaic import ReadFunction
    from pixelssr_geo.training.pixel import PixelModel
    from pixelssr_geo.training.pretrained import PretrainedMean

    TileModel: TypeAlias = PixelModel | PretrainedMean
    """A network with its scaling: the paper's for one sensor, or one trained on cubes for any."""


@contextmanager
def tile_pool(device: torch.device) -> Iterator[Executor | None]:
    """Give threads for a network's tiles on a CPU, a core each; None on a GPU."""
    from pixelssr_geo.training.loop import side_by_side, work_alone

    if device.type != "cpu":
        yield None
        return
    with (
        side_by_side(device) as cores,
        ThreadPoolExecutor(cores, "pixelssr-tile", initializer=work_alone) as pool,
    ):
        yield pool


@dataclass(frozen=True, slots=True, eq=False)
class SceneNetwork:
    """What a trained network says of a scene, its tiles blended as those of a cube are."""

    model: TileModel
    """Turns tiles of the scene into tiles of the cube."""
    plan: TilePlan
    """The lattice of tiles."""
    channels: int
    """Channels of the cube."""
    device: torch.device
    """Where the network computes."""
    batch: MicroBatch
    """Tiles in one forward pass."""
    precision: Precision = "float32"
    """Of its products on a GPU."""
    held: tuple[tuple[Window, NDArray[np.float32]], ...] = ()
    """Windows whose values are at hand, ``(channel, y, x)`` each."""

    def on(self, device: torch.device, batch: MicroBatch) -> SceneNetwork:
        """The same with the network moved to a device, where so many tiles go through at a time."""
        return replace(self, model=self.model.to(device), device=device, batch=batch)

    def needs(self, window: Window) -> Window:
        """The scene's pixels that a window depends on."""
        return self.plan.read_window(window)

    def window(self, window: Window, read: ReadFunction) -> NDArray[np.float32]:
        """What the network says of a window, ``(channel, y, x)``, NaN without data."""
        for place, values in self.held:
            if window.intersect(place) == window:
                return values[:, *window.relative_to(place).slices]
        return self.windows([window], read)[0]

    def at(
        self,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        read: ReadFunction,
        *,
        pool: Executor | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> NDArray[np.float64]:
        """What the network says of pixels, the same as over the scene, ``(pixel, channel)``.

        Parameters
        ----------
        rows, cols
            Of the pixels.
        read, pool, progress
            See :meth:`windows`.
        """
        pixels = [Window(int(row), int(col), 1, 1) for row, col in zip(rows, cols, strict=True)]
        found = self.windows(pixels, read, pool=pool, progress=progress)
        return np.array([one[:, 0, 0] for one in found], "f8").reshape(-1, self.channels)

    def holding(
        self,
        windows: Sequence[Window],
        read: ReadFunction,
        *,
        pool: Executor | None = None,
        stop: threading.Event | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> SceneNetwork:
        """The same, which has windows at hand: computed now, and not again within them."""
        found = self.windows(windows, read, pool=pool, stop=stop, progress=progress)
        for values in found:
            values.flags.writeable = False
        return replace(self, held=tuple(zip(windows, found, strict=True)))

    def windows(
        self,
        windows: Sequence[Window],
        read: ReadFunction,
        *,
        pool: Executor | None = None,
        stop: threading.Event | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> list[NDArray[np.float32]]:
        """What the network says of windows; each tile that they touch is computed once.

        Parameters
        ----------
        windows
            Within the scene.
        read
            Reads windows of the scene, NaN without data.
        pool
            Threads for the tiles; None computes them one after the other.
        stop
            Looked at before every forward pass.
        progress
            Called with the tiles that are done and how many there are.
        """
        from pixelssr_geo.nets.precision import products_in
        from pixelssr_geo.training.loop import side_by_side

        with products_in(self.precision, self.device), side_by_side(self.device):
            return blend_windows(
                self.plan,
                windows,
                self._tiles,
                read,
                channels=self.channels,
                batch=self.batch,
                stop=stop,
                pool=pool,
                progress=progress,
            )

    def _tiles(self, stack: NDArray[np.float32], tiles: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.model(stack, tiles, self.device)
