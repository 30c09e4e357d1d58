"""What a scan backend is handed: one checked value instead of ten arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class ScanProblem(NamedTuple):
    """Arguments of a two-dimensional selective scan, checked by ``selective_scan_2d``.

    An axis of length 1 where K directions are possible means: shared by all directions.
    """

    x: Tensor
    """Input, channels last, ``(batch, pixel, D)``, pixels row by row."""
    low: Tensor
    """``[dt low rank | B | C]``, ``(batch, pixel, K or 1, R + 2N)``, in pixel order."""
    w_dt: Tensor
    """From the low rank to the step sizes, ``(K or 1, D, R)``."""
    a: Tensor
    """Decay rates, negative, ``(K or 1, D, N)``."""
    d: Tensor
    """Skip weights, ``(K or 1, D)``."""
    dt_bias: Tensor
    """Bias of the step sizes before softplus, ``(K or 1, D)``."""
    height: int
    """Rows of the image."""
    width: int
    """Columns of the image."""
    directions: tuple[int, ...]
    """Walks to sum over, numbered as in :mod:`pixelssr_geo.nets.scan.walks`."""

    @property
    def rank(self) -> int:
        """Rank R of the step-size projection."""
        return self.w_dt.shape[-1]

    @property
    def states(self) -> int:
        """Number N of states per channel."""
        return self.a.shape[-1]
