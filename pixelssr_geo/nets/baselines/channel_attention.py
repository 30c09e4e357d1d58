"""Attention between channels, which several of the networks have in forms of their own.

The form with depthwise projections is Restormer's (Zamir et al., CVPR 2022, Section 3).
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.baselines.resampling import conv1x1
from pixelssr_geo.nets.layers import depthwise3x3, lengths, split_heads, to_first, to_last


def attend_channels(
    rows: Tensor, columns: Tensor, value: Tensor, heads: int, scale: Tensor
) -> Tensor:
    """Return ``softmax(scale cos(rows, columns)) value``, head by head, an image.

    The tokens are channels; row i of the map holds the cosines, over all pixels, between channel i
    of ``rows`` and the channels of ``columns``.

    Parameters
    ----------
    rows, columns, value
        ``(batch, channel, y, x)``.
    heads
        Groups of channels that do not see each other.
    scale
        Of the cosines, ``(head, 1, 1)``.
    """
    first, second = split_heads(rows, heads), split_heads(columns, heads)
    # The small product is divided by the lengths, instead of the images.
    cosine = (first.mT @ second) / (lengths(first).mT * lengths(second))
    weights = torch.softmax(scale * cosine, dim=-1)
    attended = split_heads(value, heads) @ weights.mT  # (batch, head, pixel, channel)
    return to_first(attended.transpose(1, 2).reshape(to_last(value).shape))


def attention_macs(image: tuple[int, ...], heads: int) -> dict[str, int]:
    """Return the multiply-accumulates of both products of :func:`attend_channels`."""
    return {"attention": 2 * prod(image) * image[1] // heads}


class TransposedAttention(nn.Module):
    """MDTA: attention between channels, whose query, key and value see their 3 x 3 neighbours.

    The residual and the norm are the caller's.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.enter = nn.Sequential(conv1x1(width, 3 * width), depthwise3x3(3 * width))
        self.project = conv1x1(width, width)

    def forward(self, image: Tensor) -> Tensor:
        """Return the attended image, ``(batch, channel, y, x)`` as the input."""
        query, key, value = self.enter(image).chunk(3, dim=1)
        attended = attend_channels(query, key, value, self.heads, self.temperature)
        result: Tensor = self.project(attended)
        return result

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of both products for an image of this shape."""
        return attention_macs(image, self.heads)


class GatedFeedForward(nn.Module):
    """GDFN: two halves of a depthwise convolution, one of which gates the other.

    Parameters
    ----------
    width
        Channels in and out.
    expansion
        Channels of each half, over ``width``.
    bias
        Whether the convolutions have one.
    """

    def __init__(self, width: int, *, expansion: float = 2.66, bias: bool = False) -> None:
        super().__init__()
        hidden = int(expansion * width)
        self.enter = nn.Sequential(
            conv1x1(width, 2 * hidden, bias=bias), depthwise3x3(2 * hidden, bias=bias)
        )
        self.leave = conv1x1(hidden, width, bias=bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        gate, value = self.enter(image).chunk(2, dim=1)
        result: Tensor = self.leave(functional.gelu(gate) * value)
        return result
