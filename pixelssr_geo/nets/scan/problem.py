"""What a scan backend is handed: one checked value instead of ten arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TENSORS: Final = 6
"""Fields of a :class:`ScanProblem` that are tensors; they come first."""


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
    def tensors(self) -> tuple[Tensor, ...]:
        """The fields that are tensors, in their order."""
        return self[:TENSORS]

    @property
    def rest(self) -> tuple[int, int, tuple[int, ...]]:
        """The fields behind the tensors."""
        return self[TENSORS:]

    def to(self, dtype: torch.dtype) -> ScanProblem:
        """Return the problem with all tensors in ``dtype``."""
        x, low, w_dt, a, d, dt_bias = (t.to(dtype) for t in self.tensors)
        return ScanProblem(x, low, w_dt, a, d, dt_bias, *self.rest)

    @property
    def rank(self) -> int:
        """Rank R of the step-size projection."""
        return self.w_dt.shape[-1]

    @property
    def states(self) -> int:
        """Number N of states per channel."""
        return self.a.shape[-1]

    @property
    def skip(self) -> Tensor:
        """Skip weights summed over the directions, ``(D,)``: the skip is the same in every walk."""
        return self.d.sum(0) * self._walks_of_a_set

    def gradient_of_d(self, skip: Tensor) -> Tensor:
        """Return the gradient of ``d``, ``(K or 1, D)``, from that of :attr:`skip`, ``(D,)``."""
        return (skip * self._walks_of_a_set).expand_as(self.d)

    @property
    def _walks_of_a_set(self) -> int:
        """Number of directions that share a set of skip weights."""
        return len(self.directions) // len(self.d)
