"""The layers of the MST family: spectral-wise attention, its feed-forward, U-net resampling.

Described in MST (Cai et al., CVPR 2022, Section 3) and MST++ (Cai et al., CVPRW 2022, Section 3).
Images stay channels-last in memory, so that the tokens of the attention are the image itself.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.layers import GELU, depthwise3x3, lengths, split_heads, to_first, to_last


def conv1x1(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    """Return a 1 x 1 convolution."""
    # The dilation means nothing to one tap; with it, PyTorch leaves the work to oneDNN on a single
    # thread, too, which is up to a third faster at these widths.
    return nn.Conv2d(inputs, outputs, 1, dilation=2, bias=bias)


def halve(inputs: int, outputs: int) -> nn.Conv2d:
    """Return the U-nets' way down, a 4 x 4 convolution of stride 2; even sides become half."""
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)


def double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Return the U-nets' way up, a transposed 2 x 2 convolution of stride 2, with bias."""
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Return ``(batch, channel, y, x)`` with sides divisible by ``multiple``, channels-last.

    Rows and columns are added behind the last ones: mirrored, or, along a side that is too short
    for that, the last one repeated.
    """
    for axis in (2, 3):
        size = image.shape[axis]
        missing = -size % multiple
        if missing:
            where = (0, 0, 0, missing) if axis == 2 else (0, missing, 0, 0)
            mode = "reflect" if missing < size else "replicate"
            image = functional.pad(image, where, mode=mode)
    return image.contiguous(memory_format=torch.channels_last)


class SpectralSelfAttention(nn.Module):
    """S-MSA: multi-head self-attention between channels, over all pixels.

    A token is a channel of ``(y, x)`` pixels. Each head takes ``width / heads`` of them:
    ``A = softmax(sigma K Q^T)``, the tokens of Q and K at unit length and sigma learnt, and
    ``A V`` is projected. Positions enter through two depthwise convolutions of V. The residual is
    the caller's.

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
        self.query = conv1x1(width, width)
        self.key = conv1x1(width, width)
        self.value = conv1x1(width, width)
        self.sigma = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = conv1x1(width, width, bias=True)
        self.position = nn.Sequential(depthwise3x3(width), GELU(), depthwise3x3(width))
        for layer in (self.query, self.key, self.value, self.project):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        assert self.project.bias is not None
        nn.init.zeros_(self.project.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the attended image, ``(batch, channel, y, x)`` as the input."""
        value = self.value(image)
        weights = self._map(self.query(image), self.key(image))
        attended = split_heads(value, self.heads) @ weights.mT  # (batch, head, pixel, channel)
        tokens = attended.transpose(1, 2).reshape(to_last(image).shape)
        result: Tensor = self.project(to_first(tokens)) + self.position(value)
        return result

    def _map(self, query: Tensor, key: Tensor) -> Tensor:
        """Return A, rows that sum to one, ``(batch, head, channel, channel)``."""
        q, k = split_heads(query, self.heads), split_heads(key, self.heads)
        # The small product is divided by the lengths, instead of the images.
        cosine = (k.mT @ q) / (lengths(k).mT * lengths(q))
        return torch.softmax(self.sigma * cosine, dim=-1)

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of K Q^T and A V for an image of this shape."""
        return {"attention": 2 * prod(image) * image[1] // self.heads}


class FeedForward(nn.Module):
    """FFN of the MST family: norm, four times the channels, a depthwise convolution, and back.

    The residual is the caller's.

    Parameters
    ----------
    width
        Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            conv1x1(width, 4 * width),
            GELU(),
            depthwise3x3(4 * width),
            GELU(),
            conv1x1(4 * width, width),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        result: Tensor = self.layers(to_first(self.norm(to_last(image))))
        return result
