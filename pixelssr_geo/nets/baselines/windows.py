"""Attention within windows of pixels (Swin Transformer, Liu et al., ICCV 2021, Section 3)."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from pixelssr_geo.nets.baselines.mst_blocks import FeedForward
from pixelssr_geo.nets.layers import to_first, to_last

WINDOW = 8
"""Rows and columns of a window; images have sides that it divides."""


class WindowAttention(nn.Module):
    """Norm and multi-head self-attention between the pixels of each window.

    The residual is the caller's. Shifted windows wrap around the image's edges.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads; divides ``width``.
    shift
        Pixels that the windows are moved by, down and to the right.
    masked
        Whether pixels that a shift brings together from opposite edges do not see each other.
    """

    def __init__(self, width: int, heads: int, *, shift: int = 0, masked: bool = True) -> None:
        super().__init__()
        self.heads, self.shift = heads, shift
        self.masked = masked and shift > 0
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 3 * width)
        self.softmax = nn.Softmax(dim=-1)
        self.project = nn.Linear(width, width)
        self.position = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.position, std=0.02)
        for layer in (self.enter, self.project):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.register_buffer("offsets", _offsets(), persistent=False)

    offsets: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Return the attended image, ``(batch, channel, y, x)`` as the input."""
        batch, _, rows, columns = image.shape
        shifted = self.norm(to_last(image))
        if self.shift:
            shifted = shifted.roll((-self.shift, -self.shift), (1, 2))
        tokens = self.enter(_windows(shifted))
        query, key, value = tokens.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (query * query.shape[-1] ** -0.5) @ key.mT  # (window, head, pixel, pixel)
        scores = scores + self.position[self.offsets].movedim(-1, 0)
        if self.masked:
            apart = _parted(rows, columns, self.shift, image.device)
            scores = scores.unflatten(0, (batch, -1)).masked_fill(apart[:, None], -torch.inf)
            scores = scores.flatten(0, 1)
        attended = (self.softmax(scores) @ value).transpose(1, 2).flatten(2)
        projected = _joined(self.project(attended), batch, rows, columns)
        if self.shift:
            projected = projected.roll((self.shift, self.shift), (1, 2))
        return to_first(projected)

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of both products for an image of this shape."""
        return {"attention": 2 * prod(image) * WINDOW**2}


class WindowBlock(nn.Module):
    """Attention in windows, in windows half way between them, and feed-forward.

    Each adds to what it gets.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads; divides ``width``.
    masked
        Whether pixels that the second attention's shift brings together from opposite edges do not
        see each other.
    """

    def __init__(self, width: int, heads: int, *, masked: bool = True) -> None:
        super().__init__()
        self.windows = WindowAttention(width, heads)
        self.shifted = WindowAttention(width, heads, shift=WINDOW // 2, masked=masked)
        self.feed_forward = FeedForward(width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        image = image + self.windows(image)
        image = image + self.shifted(image)
        fed: Tensor = self.feed_forward(image)
        return image + fed


def _offsets() -> Tensor:
    """Return the row of the table of positions for each pair of a window's pixels."""
    place = torch.arange(WINDOW)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    down = rows[:, None] - rows + WINDOW - 1
    right = columns[:, None] - columns + WINDOW - 1
    return down * (2 * WINDOW - 1) + right


def _windows(image: Tensor) -> Tensor:
    """Return ``(batch and window, pixel, channel)`` from ``(batch, y, x, channel)``."""
    batch, rows, columns, width = image.shape
    cut = image.reshape(batch, rows // WINDOW, WINDOW, columns // WINDOW, WINDOW, width)
    return cut.transpose(2, 3).reshape(-1, WINDOW**2, width)


def _joined(windows: Tensor, batch: int, rows: int, columns: int) -> Tensor:
    """Return ``(batch, y, x, channel)``: :func:`_windows` undone."""
    cut = windows.view(batch, rows // WINDOW, columns // WINDOW, WINDOW, WINDOW, -1)
    return cut.transpose(2, 3).reshape(batch, rows, columns, -1)


def _parted(rows: int, columns: int, shift: int, device: torch.device) -> Tensor:
    """Return which pairs lie at opposite edges of the image, ``(window, pixel, pixel)``."""

    def side(size: int) -> Tensor:
        """1 for what was wrapped around."""
        return (torch.arange(size, device=device) >= size - shift).long()

    region = 2 * side(rows)[:, None] + side(columns)
    region = _windows(region[None, :, :, None])[..., 0]
    return region[:, :, None] != region[:, None, :]
