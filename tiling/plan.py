"""Where the tiles and blocks of a scene lie: frozen values and integer arithmetic, no data.

Tiles overlap and are what a network sees; blocks partition the scene and are what one task reads
and writes. The lattice of tiles depends on the scene, ``tile`` and ``overlap`` alone, so a pixel's
value is the same whichever block computes it.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from pixelssr_geo.errors import SettingsError


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels; it may extend beyond the scene and may be empty."""

    row: int
    """First row; negative above the scene."""
    col: int
    """First column; negative left of the scene."""
    height: int
    """Rows."""
    width: int
    """Columns."""

    @property
    def row_stop(self) -> int:
        """The row after the last."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """The column after the last."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slice, to index the last two axes of an array."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def intersect(self, other: "Window") -> "Window":
        """Return the pixels in both windows; of height or width 0 where they do not meet.

        Examples
        --------
        >>> Window(0, 0, 8, 8).intersect(Window(5, 2, 8, 3))
        Window(row=5, col=2, height=3, width=3)
        """
        row, col = max(self.row, other.row), max(self.col, other.col)
        row_stop = min(self.row_stop, other.row_stop)
        col_stop = min(self.col_stop, other.col_stop)
        return Window(row, col, max(row_stop - row, 0), max(col_stop - col, 0))

    def union(self, other: "Window") -> "Window":
        """Return the smallest window that holds both."""
        row, col = min(self.row, other.row), min(self.col, other.col)
        row_stop = max(self.row_stop, other.row_stop)
        col_stop = max(self.col_stop, other.col_stop)
        return Window(row, col, row_stop - row, col_stop - col)

    def expand(self, margin: int) -> "Window":
        """Return the window with ``margin`` more pixels on each side."""
        return Window(
            self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin
        )

    def clip(self, shape: tuple[int, int]) -> "Window":
        """Return the part that lies in an array of ``shape`` (rows, columns)."""
        return self.intersect(Window(0, 0, *shape))

    def relative_to(self, origin: "Window") -> "Window":
        """Return the same pixels, counted from the first row and column of ``origin``."""
        return Window(self.row - origin.row, self.col - origin.col, self.height, self.width)


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The lattice of overlapping tiles over a scene, and the blocks that partition it."""

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    tile: int
    """Side of a tile, pixels."""
    overlap: int
    """Pixels that neighbouring tiles of the regular lattice share."""
    block: int
    """Side of a block, pixels; blocks at the right and bottom edge are smaller."""
    row_starts: tuple[int, ...]
    """First row of each row of tiles, ascending."""
    col_starts: tuple[int, ...]
    """First column of each column of tiles, ascending."""

    @property
    def tile_count(self) -> int:
        """Number of tiles; their indices are 0 to ``tile_count - 1``, row by row."""
        return len(self.row_starts) * len(self.col_starts)

    @property
    def blocks(self) -> tuple[Window, ...]:
        """All blocks, row by row: together they hold every pixel of the scene once."""
        rows, cols = self.shape
        return tuple(
            Window(row, col, self.block, self.block).clip(self.shape)
            for row in range(0, rows, self.block)
            for col in range(0, cols, self.block)
        )

    def tile_window(self, index: int) -> Window:
        """Return tile ``index``, ``tile`` pixels a side even where the scene is smaller."""
        row, col = divmod(index, len(self.col_starts))
        return Window(self.row_starts[row], self.col_starts[col], self.tile, self.tile)

    def tiles_of(self, block: Window) -> tuple[int, ...]:
        """Return the indices of the tiles that share a pixel with ``block``, ascending."""
        return tuple(
            row * len(self.col_starts) + col
            for row in self._touching(self.row_starts, block.row, block.row_stop)
            for col in self._touching(self.col_starts, block.col, block.col_stop)
        )

    def read_window(self, block: Window, halo: int = 0) -> Window:
        """Return the scene's pixels that ``block`` depends on.

        Holds every tile of the block and the block with ``halo`` pixels around it, within the
        scene.
        """
        window = block.expand(halo)
        # The first and the last tile in row-major order are opposite corners of the union.
        tiles = self.tiles_of(block)
        for index in (tiles[0], tiles[-1]):
            window = window.union(self.tile_window(index))
        return window.clip(self.shape)

    def _touching(self, starts: tuple[int, ...], first: int, stop: int) -> range:
        return range(bisect_right(starts, first - self.tile), bisect_left(starts, stop))


def plan_tiles(
    shape: tuple[int, int], *, tile: int = 128, overlap: int = 32, block: int = 512
) -> TilePlan:
    """Plan the tiles and blocks of a scene.

    Tiles start at 0 and then every ``tile - overlap`` pixels; the last one is shifted inward so
    that it ends at the scene's edge. An axis shorter than a tile has one tile, which starts at 0
    and extends beyond the scene.

    Parameters
    ----------
    shape
        Rows and columns of the scene.
    tile
        Side of a tile, pixels.
    overlap
        Pixels that neighbouring tiles share, less than ``tile``. With 32 the place of the lattice
        changes a cube at tile borders by at most 2.4 % of its error
        (``tests/benchmarks/seams.py``).
    block
        Side of a block, pixels.

    Raises
    ------
    SettingsError
        If a size is not positive, or ``overlap`` is negative or not less than ``tile``.

    Examples
    --------
    >>> plan_tiles((300, 100)).row_starts
    (0, 96, 172)
    >>> plan_tiles((300, 100)).col_starts
    (0,)
    """
    sizes = {"rows": shape[0], "columns": shape[1], "tile": tile, "block": block}
    for name, value in sizes.items():
        if value < 1:
            raise SettingsError(f"{name} is {value}, expected at least 1 pixel: give a larger one")
    if not 0 <= overlap < tile:
        raise SettingsError(
            f"overlap is {overlap} pixels, expected 0 to {tile - 1} (less than the tile of {tile}):"
            " give a smaller overlap or a larger tile"
        )
    rows, cols = (_starts(size, tile, tile - overlap) for size in shape)
    return TilePlan((int(shape[0]), int(shape[1])), tile, overlap, block, rows, cols)


def _starts(size: int, tile: int, stride: int) -> tuple[int, ...]:
    last = max(size - tile, 0)
    return (*range(0, last, stride), last)
