"""Patches of a scene with the labels that fall into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.labels import Labels


class WindowReader(Protocol):
    """Reads a window of the scene, the only thing that training needs of it."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene."""

    def __call__(
        self, row: int, col: int, size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Bands ``(band, size, size)`` without gaps and the valid pixels ``(size, size)``.

        What lies outside the scene is padded and not valid.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One step's patches on the training device."""

    bands: torch.Tensor
    """``(patch, band, y, x)``."""
    valid: torch.Tensor
    """Pixels that carry data, ``(patch, 1, y, x)``, 0 or 1."""
    target: torch.Tensor
    """Values at the labelled pixels, zero elsewhere, ``(patch, channel, y, x)``."""
    labelled: torch.Tensor
    """Labelled pixels, ``(patch, 1, y, x)``, 0 or 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Patches cut once; the labels, which are few, are laid in when a batch is asked for."""

    bands: NDArray[np.float32]
    """``(patch, band, size, size)``."""
    valid: NDArray[np.bool_]
    """``(patch, size, size)``."""
    origins: NDArray[np.int64]
    """Row and column of each patch's first pixel, ``(patch, 2)``."""

    @property
    def size(self) -> int:
        """Rows and columns of a patch."""
        return int(self.bands.shape[-1])

    def __len__(self) -> int:
        return len(self.bands)

    def batch(
        self,
        chosen: Sequence[int] | NDArray[np.int64],
        labels: Labels,
        values: NDArray[np.float64],
        device: torch.device,
    ) -> Batch:
        """A batch of the chosen patches with all labels that fall into them.

        Parameters
        ----------
        chosen
            Indices of patches.
        labels
            Labelled pixels that may be used.
        values
            What is to be learnt at each label, ``(label, channel)``.
        device
            Where the tensors go.
        """
        count, size = len(chosen), self.size
        target = np.zeros((count, values.shape[1], size, size), "f4")
        labelled = np.zeros((count, 1, size, size), "f4")
        for k, patch in enumerate(chosen):
            rows = labels.rows - self.origins[patch, 0]
            cols = labels.cols - self.origins[patch, 1]
            inside = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
            rows, cols = rows[inside], cols[inside]
            target[k, :, rows, cols] = values[inside]
            labelled[k, 0, rows, cols] = 1
        index = np.asarray(chosen)
        return Batch(
            bands=torch.from_numpy(self.bands[index]).to(device),
            valid=torch.from_numpy(self.valid[index][:, None].astype("f4")).to(device),
            target=torch.from_numpy(target).to(device),
            labelled=torch.from_numpy(labelled).to(device),
        )


def cut_patches(
    read: WindowReader,
    labels: Labels,
    *,
    size: int,
    extra: int = 0,
    seed: int = 0,
    centred: bool = False,
) -> Patches:
    """One patch per label and ``extra`` ones anywhere.

    A label lies anywhere in its patch, or in the middle if ``centred``. Patches stay inside the
    scene where it is large enough. The draws depend on the seed alone.
    """
    height, width = read.shape
    draws = np.random.default_rng(seed)
    before = np.full((len(labels), 2), size // 2) if centred else None
    if before is None:
        before = draws.integers(0, size, (len(labels), 2))
    around = np.stack([labels.rows, labels.cols], axis=1) - before
    limit = np.maximum([height - size, width - size], 0)
    anywhere = draws.integers(0, limit + 1, (extra, 2))
    origins = np.concatenate([around, anywhere]).clip(0, limit)
    cut = [read(int(row), int(col), size) for row, col in origins]
    return Patches(
        bands=np.stack([bands for bands, _ in cut]),
        valid=np.stack([valid for _, valid in cut]),
        origins=origins,
    )
