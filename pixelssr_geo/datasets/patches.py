"""Patches of a dataset for training, validation and test, with the same labels in every epoch.

Neighbouring pixels tell of each other, so parts are never dealt pixel by pixel: either whole scenes
belong to a part, or contiguous blocks of each scene, and no patch reaches from one block into
another. Every draw is keyed by the seed, the scene's name and the patch's place, so that it depends
neither on what was drawn before nor on which scenes are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import groupby, pairwise
from math import floor, isclose
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

from pixelssr_geo.datasets.pair import SPLITS, Split
from pixelssr_geo.errors import SceneError, SettingsError
from pixelssr_geo.labels import Labels
from pixelssr_geo.prior import point_mask
from pixelssr_geo.scene import CHUNK
from pixelssr_geo.tiling.plan import Window, plan_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.datasets.pair import PairDataset, ScenePair


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """How a dataset is dealt to parts and cut into patches."""

    size: int = 128
    """Rows and columns of a patch; a smaller scene is one patch."""
    stride: int | None = None
    """Pixels from one patch to the next; None is the size, which lets patches overlap only where a
    block ends. Overlapping patches have labels of their own each, so that more pixels carry one."""
    by: Literal["scene", "block"] = "scene"
    """What is dealt: whole scenes, by the publisher's lists where there are any, or blocks of each."""
    block: int = 256
    """Rows and columns of a block; what is left at an edge and holds no patch joins its neighbour."""
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Of train, validation and test, where they are dealt here; each above 0 gets at least one."""
    label_ratio: float = 0.0001
    """Share omega of a patch's valid pixels that carry a label; at least one does."""
    seed: int = 0
    """Of the dealing and the labels."""

    def __post_init__(self) -> None:
        if self.size < 1 or not 1 <= self.step <= self.size or self.block < self.size:
            raise SettingsError(
                f"patches of {self.size} pixels every {self.step} in blocks of {self.block}, expected "
                "1 <= stride <= size <= block: change one of them"
            )
        if self.by not in ("scene", "block"):
            raise SettingsError(f"parts are dealt by '{self.by}', expected 'scene' or 'block'")
        known = len(self.shares) == len(SPLITS) and min(self.shares) >= 0
        if not (known and isclose(sum(self.shares), 1, abs_tol=1e-6)):
            raise SettingsError(
                f"shares of train, validation and test are {self.shares}, expected three numbers from "
                "0 on with the sum 1: change them"
            )
        if not 0 < self.label_ratio <= 1 or self.seed < 0:
            raise SettingsError(
                f"label ratio is {self.label_ratio} and seed {self.seed}, expected above 0 and at "
                "most 1, and a number from 0 on: change them"
            )

    @property
    def step(self) -> int:
        """Pixels from one patch to the next."""
        return self.size if self.stride is None else self.stride


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A piece of a scene with its labels."""

    window: Window
    """Where it lies in the scene."""
    pair: ScenePair
    """Its pixels, in memory."""
    valid: NDArray[np.bool_]
    """Pixels with data, ``(y, x)``."""
    labelled: NDArray[np.bool_]
    """Those that carry a label, ``(y, x)``."""

    @property
    def labels(self) -> Labels:
        """The labels with rows and columns of the patch: bands as the scene has them, spectra of the cube.

        Raises
        ------
        SceneError
            If the scene has no cube.
        """
        if self.pair.cube is None:
            raise SceneError(
                f"scene '{self.pair.name}' has no cube, spectra of labels need one: take another part"
            )
        rows, cols = np.nonzero(self.labelled)
        bands = self.pair.scene.values[:, rows, cols].T.astype("f8")
        spectra = self.pair.cube.values[:, rows, cols].T.astype("f8")
        return Labels(rows.astype("i8"), cols.astype("i8"), bands, spectra)


def patches(dataset: PairDataset, split: Split, plan: PatchPlan | None = None) -> Iterator[Patch]:
    """The patches of a part, scene by scene; no more than one scene is held.

    The same in every call, so in every epoch. Patches without a valid pixel are left out.

    Parameters
    ----------
    dataset
        Where the scenes come from.
    split
        ``train``, ``validation`` or ``test``.
    plan
        How it is dealt and cut, by default ``PatchPlan()``.

    Raises
    ------
    SettingsError
        If there are fewer scenes or blocks than parts to deal them to.
    PixelSSRError
        If a scene cannot be read.
    """
    plan = PatchPlan() if plan is None else plan
    names = dataset.names if plan.by == "block" else scene_parts(dataset, plan)[split]
    for name in names:
        pair = dataset.load(name)
        for around, windows in _read_together(patch_windows(name, pair.shape, split, plan)):
            loaded = pair.crop(around)
            for window in windows:
                cropped = loaded.crop(window.relative_to(around))
                valid = cropped.valid()
                if valid.any():
                    yield Patch(window, cropped, valid, _labelled(valid, name, window, plan))


def scene_parts(dataset: PairDataset, plan: PatchPlan) -> Mapping[Split, tuple[str, ...]]:
    """Names of the scenes of each part: the publisher's, or dealt by the plan's shares and seed.

    Raises
    ------
    SettingsError
        If there are fewer scenes than parts to deal them to.
    """
    if any(dataset.splits.values()):
        return {split: tuple(dataset.splits.get(split, ())) for split in SPLITS}
    draws = np.random.default_rng([plan.seed, 0])
    dealt = _dealt(
        len(dataset), plan.shares, draws, f"scenes of {dataset.title}", "deal by 'block'"
    )
    return {split: tuple(dataset.names[at] for at in own) for split, own in dealt.items()}


def patch_windows(
    name: str, shape: tuple[int, int], split: Split, plan: PatchPlan
) -> tuple[Window, ...]:
    """Where the patches of a part lie in a scene, row by row of each block.

    Parameters
    ----------
    name
        Of the scene, which the dealing of its blocks depends on.
    shape
        Its rows and columns.
    split
        Which part; of a scene that is not dealt by blocks, all patches are given.
    plan
        Sizes, shares, seed.

    Raises
    ------
    SettingsError
        If the scene has fewer blocks than there are parts.
    """
    if plan.by == "scene":
        return _lattice(Window(0, 0, *shape), plan)
    blocks = _blocks(shape, plan)
    draws = np.random.default_rng([plan.seed, 1, crc32(name.encode())])
    told = f"blocks of {plan.block} pixels in scene '{name}' of {shape[0]} x {shape[1]}"
    dealt = _dealt(len(blocks), plan.shares, draws, told, "make blocks smaller")[split]
    return tuple(window for at in dealt for window in _lattice(blocks[at], plan))


def _blocks(shape: tuple[int, int], plan: PatchPlan) -> tuple[Window, ...]:
    """Blocks that hold every pixel of the scene once, none too small for a patch."""
    rows, cols = (_edges(size, plan) for size in shape)
    return tuple(
        Window(top, left, bottom - top, right - left)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(cols)
    )


def _edges(size: int, plan: PatchPlan) -> tuple[int, ...]:
    return (*range(0, max(size - plan.size, 0) + 1, plan.block), size)


def _lattice(block: Window, plan: PatchPlan) -> tuple[Window, ...]:
    """Patches of a block: the last of a row ends where the block does."""
    tiles = plan_tiles(block.shape, tile=plan.size, overlap=plan.size - plan.step)
    inside = (tiles.tile_window(at).clip(block.shape) for at in range(tiles.tile_count))
    return tuple(
        Window(at.row + block.row, at.col + block.col, at.height, at.width) for at in inside
    )


def _read_together(
    windows: Sequence[Window],
) -> Iterator[tuple[Window, tuple[Window, ...]]]:
    """Windows near each other, with what holds them: a raster is read in pieces of ``CHUNK``."""

    def piece(window: Window) -> tuple[int, int]:
        return window.row // CHUNK, window.col // CHUNK

    for _, near in groupby(sorted(windows, key=piece), key=piece):
        group = tuple(near)
        yield reduce(Window.union, group), group


def _dealt(
    count: int, shares: Sequence[float], draws: np.random.Generator, what: str, cure: str
) -> dict[Split, list[int]]:
    """Numbers below ``count``, ascending, dealt at random; every positive share gets at least one."""
    wanted = [share > 0 for share in shares]
    if count < sum(wanted):
        raise SettingsError(
            f"there are {count} {what}, one for each of {sum(wanted)} parts is needed: set some shares "
            f"to 0, or {cure}"
        )
    sizes = [
        max(floor(share * count), int(some)) for share, some in zip(shares, wanted, strict=True)
    ]
    while sum(sizes) != count:
        # What rounding left over goes where most is lacking, what it took too much comes from there.
        lacking = [
            share * count - size if some else -np.inf
            for share, size, some in zip(shares, sizes, wanted, strict=True)
        ]
        if sum(sizes) < count:
            sizes[int(np.argmax(lacking))] += 1
        else:
            sizes[int(np.argmax(sizes))] -= 1
    order = draws.permutation(count)
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return {split: sorted(map(int, own)) for split, own in zip(SPLITS, parts, strict=True)}


def _labelled(
    valid: NDArray[np.bool_], name: str, window: Window, plan: PatchPlan
) -> NDArray[np.bool_]:
    """Pixels of a patch that carry a label: eq. 2 of the paper among the valid ones."""
    place = (window.row << 16 | window.col & 0xFFFF) & 0xFFFFFFFF
    stream = crc32(name.encode()) << 32 | place
    mask = np.zeros(valid.shape, np.bool_)
    drawn = point_mask((1, int(valid.sum())), plan.label_ratio, seed=plan.seed, stream=stream)
    mask[valid] = drawn[0]
    return mask
