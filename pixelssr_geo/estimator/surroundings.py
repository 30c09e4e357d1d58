"""What the estimator sees of a pixel: its bands, what lies around it, and where it is.

Everything is computed pixel by pixel from fixed sums, so that a pixel's features are the same to the
last bit whatever window they are computed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.estimator.arrays import beside, functions_of, single

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.labels import Labels

HALO = 4
"""Pixels around a window that its features look at: the largest box is 9 x 9."""

BOXES = (3, 9)
"""Rows and columns of the boxes whose mean and deviation are features."""

NEIGHBOURS = tuple((dy, dx) for dy, dx in product((-1, 0, 1), repeat=2) if (dy, dx) != (0, 0))
"""Rows and columns to the neighbours whose difference from the pixel is a feature."""

_LEAST_LEVEL = 0.1
"""Least of what a logarithm is taken of."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A window of the scene with what lies around it."""

    values: NDArray[np.float32]
    """Bands with :attr:`halo` pixels more on each side, ``(band, y, x)``; NaN where there is no data
    and outside the scene."""
    row: int
    """Row of the window's first pixel in the scene."""
    col: int
    """Column of the same."""
    halo: int = HALO
    """Pixels around the window on each side."""
    network: NDArray[np.float32] | None = None
    """What a trained network says of the window, ``(channel, y, x)``; None: no such network, or
    nobody asked."""

    @staticmethod
    def whole(values: NDArray[np.float32]) -> View:
        """A scene in memory ``(band, y, x)``, NaN without data, with nothing around it."""
        margins = ((0, 0), (HALO, HALO), (HALO, HALO))
        return View(np.pad(values, margins, constant_values=np.nan), 0, 0)

    @property
    def inner(self) -> NDArray[np.float32]:
        """The window alone, ``(band, y, x)``."""
        height, width = self.values.shape[1:]
        return self.values[:, self.halo : height - self.halo, self.halo : width - self.halo]

    def rows(self, start: int, stop: int) -> View:
        """Some rows of the window, with what lies around them; without what a network says."""
        values = self.values[:, start : stop + 2 * self.halo]
        return View(values, self.row + start, self.col, self.halo)

    def around(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float32]:
        """What lies around some pixels of the window, ``(pixel, band, 2 halo + 1, 2 halo + 1)``.

        Parameters
        ----------
        rows, cols
            Of the pixels, counted in the scene.
        """
        side = 2 * self.halo + 1
        found = [
            self.values[:, row : row + side, col : col + side]
            for row, col in zip(rows - self.row, cols - self.col, strict=True)
        ]
        return np.array(found, "f4").reshape(-1, len(self.values), side, side)


@dataclass(frozen=True, slots=True, eq=False)
class PixelFeatures:
    """Features of some pixels, one column each; float32."""

    bands: NDArray[np.float32]
    """``(band, pixel)``; zero without data."""
    levels: NDArray[np.float32]
    """Logarithms of one plus the bands in units of their mean over the scene, ``(band, pixel)``."""
    context: NDArray[np.float32]
    """Mean and deviation of the levels in each box, ``(4 * band, pixel)``."""
    differences: NDArray[np.float32]
    """Bands of the eight neighbours minus the pixel's, ``(8 * band, pixel)``."""
    rows: NDArray[np.float32]
    """``(pixel,)``."""
    cols: NDArray[np.float32]
    """``(pixel,)``."""


def view_features(view: View, level: NDArray[np.float64]) -> PixelFeatures:
    """Features of the pixels of a window, row by row.

    Parameters
    ----------
    view
        The window.
    level
        Mean of each band over the scene, ``(band,)``, or what stands for it.
    """
    height, width = view.inner.shape[1:]
    rows = np.repeat(np.arange(view.row, view.row + height, dtype="f4"), width)
    cols = np.tile(np.arange(view.col, view.col + width, dtype="f4"), height)
    rows, cols = beside(rows, view.values), beside(cols, view.values)
    return _features(view.values[None], level, rows, cols)


def label_features(labels: Labels, level: NDArray[np.float64]) -> PixelFeatures:
    """Features of labelled pixels, whose surroundings must be known."""
    assert labels.surroundings is not None
    rows, cols = labels.rows.astype("f4"), labels.cols.astype("f4")
    return _features(labels.surroundings, level, rows, cols)


def _features(
    values: NDArray[np.float32],
    level: NDArray[np.float64],
    rows: NDArray[np.float32],
    cols: NDArray[np.float32],
) -> PixelFeatures:
    """Features of windows ``(window, band, y + 8, x + 8)``."""
    xp = functions_of(values)
    known = xp.isfinite(values).all(1, keepdims=True)
    bands = xp.where(known, values, 0.0)
    weight = single(known)
    # Near zero whatever the units: a deviation is the small difference of large squares.
    relative = bands / single(level)[:, None, None] + np.float32(1)
    levels = xp.log(relative.clip(_LEAST_LEVEL)) * weight
    return PixelFeatures(
        bands=_table([_inner(bands)]),
        levels=_table([_inner(levels)]),
        context=_table(_box_statistics(levels, weight)),
        differences=_table(_differences(bands, weight)),
        rows=rows,
        cols=cols,
    )


def _table(images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Images ``(window, band, y, x)`` as one table ``(image * band, window * pixel)``."""
    xp = functions_of(images[0])
    table: NDArray[np.float32] = xp.concatenate(
        [xp.moveaxis(image, 1, 0).reshape(image.shape[1], -1) for image in images]
    )
    return table


def _inner(image: NDArray[np.float32], dy: int = 0, dx: int = 0) -> NDArray[np.float32]:
    rows = slice(HALO + dy, image.shape[-2] - HALO + dy)
    return image[..., rows, HALO + dx : image.shape[-1] - HALO + dx]


def _box_statistics(
    levels: NDArray[np.float32], weight: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Mean and deviation over the known pixels of each box."""
    xp = functions_of(levels)
    found = []
    squares = levels * levels
    for size in BOXES:
        count = _box_sum(weight, size).clip(1)
        mean = _box_sum(levels, size) / count
        variance = _box_sum(squares, size) / count - mean * mean
        found += [mean, xp.sqrt(variance.clip(0))]
    return found


def _box_sum(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Sums over boxes around the inner pixels, always in the same order."""
    margin = HALO - size // 2
    rows = image[..., margin : image.shape[-2] - margin, margin : image.shape[-1] - margin]
    height, width = rows.shape[-2] - size + 1, rows.shape[-1] - size + 1
    down = _total(rows[..., k : k + height, :] for k in range(size))
    return _total(down[..., k : k + width] for k in range(size))


def _total(parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    first, second, *rest = parts
    total = first + second
    for part in rest:
        total += part
    return total


def _differences(
    bands: NDArray[np.float32], weight: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Differences to the neighbours; none to a neighbour without data."""
    here, known = _inner(bands), _inner(weight)
    return [
        (_inner(bands, dy, dx) - here) * (_inner(weight, dy, dx) * known) for dy, dx in NEIGHBOURS
    ]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureScale:
    """What makes the features of a scene comparable: their mean and deviation over it."""

    level: NDArray[np.float64]
    """Divides the bands before one is added and the logarithm taken, ``(band,)``."""
    bands: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Mean and deviation, ``(band,)`` each."""
    levels: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Mean and deviation, ``(band,)`` each."""
    context: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Mean and deviation, ``(4 * band,)`` each."""
    differences: NDArray[np.float64]
    """Root mean square, ``(8 * band,)``."""
    texture: float
    """Deviation of the bands from the pixels to the left and right that a tenth of all pixels stay
    below, scene units: little more than the noise."""

    @staticmethod
    def of(view: View) -> FeatureScale:
        """The scale of a window that is all of a scene, or stands for it; some pixel has data."""
        known = np.isfinite(view.inner).all(0)
        values = view.inner[:, known].astype("f8")
        sums = FeatureSums(feature_level(values.mean(1), values.std(1)))
        sums.add(view)
        return sums.scale()

    @property
    def brightness(self) -> float:
        """Mean over bands and pixels."""
        return float(self.bands[0].mean())

    @property
    def least_brightness(self) -> float:
        """What a pixel's brightness is taken for at least where something is divided by it."""
        noise = 3 * self.texture / np.sqrt(len(self.level))
        return float(max(noise, 0.02 * self.brightness, 1e-9))


def feature_level(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """What divides bands before one is added and the logarithm taken, ``(band,)``: their mean.

    A tenth of the deviation at least: bands are not divided by zero or less.
    """
    return np.maximum(mean, np.maximum(deviation, 1e-9) / 10)


@dataclass(slots=True, eq=False)
class FeatureSums:
    """Sums over windows, from which the scale of the features comes."""

    level: NDArray[np.float64]
    """Mean of each band over the scene, ``(band,)``."""
    count: int = 0
    """Pixels with data."""
    first: NDArray[np.float64] | float = 0.0
    """Sums of all features, ``(feature,)``."""
    second: NDArray[np.float64] | float = 0.0
    """Sums of their squares."""
    textures: list[float] | None = None
    """Of each window, see :attr:`FeatureScale.texture`."""

    def add(self, view: View) -> None:
        """Take a window in."""
        known = np.isfinite(view.inner).all(0).ravel()
        if not known.any():
            return
        found = view_features(view, self.level)
        table = np.concatenate([found.bands, found.levels, found.context, found.differences])
        table = table[:, known].astype("f8")
        self.count += table.shape[1]
        self.first = self.first + table.sum(1)
        self.second = self.second + np.einsum("fp,fp->f", table, table)
        bands = len(self.level)
        # Half the variance of differences is that of what differs.
        sideways = [NEIGHBOURS.index((0, -1)), NEIGHBOURS.index((0, 1))]
        steps = found.differences.reshape(len(NEIGHBOURS), bands, -1)[sideways][..., known]
        size = np.sqrt((steps.astype("f8") ** 2).mean((0, 1)) / 2)
        self.textures = [*(self.textures or []), float(np.quantile(size, 0.1))]

    def merge(self, other: FeatureSums) -> None:
        """Take in what another one took in."""
        self.count += other.count
        self.first = self.first + other.first
        self.second = self.second + other.second
        self.textures = [*(self.textures or []), *(other.textures or [])]

    def scale(self) -> FeatureScale:
        """Mean and deviation of what was taken in; of nothing, no change."""
        bands = len(self.level)
        zeros = np.zeros(bands * (2 + 2 * len(BOXES) + len(NEIGHBOURS)))
        mean = zeros + np.asarray(self.first) / max(self.count, 1)
        square = zeros + np.asarray(self.second) / max(self.count, 1)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        ends = np.cumsum([bands, bands, 2 * len(BOXES) * bands])
        means, deviations = np.split(mean, ends), np.split(_floored(deviation), ends)
        return FeatureScale(
            level=self.level,
            bands=(means[0], deviations[0]),
            levels=(means[1], deviations[1]),
            context=(means[2], deviations[2]),
            differences=_floored(np.sqrt(np.split(square, ends)[3])),
            texture=float(np.median(self.textures)) if self.textures else 0.0,
        )


def _floored(deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviations; one where a feature is constant, which then tells nothing."""
    return np.where(deviation > 1e-9, deviation, 1.0)
