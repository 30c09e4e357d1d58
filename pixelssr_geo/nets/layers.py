"""Layers and moves of axes that several networks share.

Images are channels last in memory: the order that depthwise convolutions like best, and in which an
image is the sequence of tokens that scans and attention read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def to_last(image: Tensor) -> Tensor:
    """Return ``(batch, y, x, channel)`` from ``(batch, channel, y, x)``; no copy."""
    return image.permute(0, 2, 3, 1)


def to_first(image: Tensor) -> Tensor:
    """Return ``(batch, channel, y, x)`` from ``(batch, y, x, channel)``; no copy."""
    return image.permute(0, 3, 1, 2)


def concatenate(*images: Tensor) -> Tensor:
    """Return the channels of ``(batch, channel, y, x)`` images one behind the other."""
    return to_first(torch.cat([to_last(image) for image in images], dim=-1))


def split_heads(image: Tensor, heads: int) -> Tensor:
    """Return ``(batch, head, pixel, channel of the head)`` from ``(batch, channel, y, x)``."""
    batch, width, rows, columns = image.shape
    tokens = to_last(image).reshape(batch, rows * columns, heads, width // heads)
    return tokens.transpose(1, 2)


def lengths(tokens: Tensor) -> Tensor:
    """Return each channel's length over the pixels, ``(batch, head, 1, channel)``, never 0.

    Parameters
    ----------
    tokens
        ``(batch, head, pixel, channel)``.
    """
    # Faster than a norm, whose reduction over a strided axis is not vectorised.
    return tokens.square().sum(2, keepdim=True).clamp_min(1e-24).sqrt()


def conv3x3(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
    """Return a 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


def depthwise3x3(width: int, *, bias: bool = False) -> nn.Conv2d:
    """Return a 3 x 3 convolution of each channel by itself."""
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=bias)


class GELU(nn.Module):
    """The exact GELU of a channels-last image."""

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        # The kernel for plainly contiguous memory, which the permuted image is, is the faster one.
        return to_first(functional.gelu(to_last(image)))


class ChannelNorm(nn.LayerNorm):
    """A LayerNorm over the channels of an image, ``(batch, channel, y, x)`` as the input."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the image with mean 0 and variance 1 over the channels of each pixel."""
        return to_first(super().forward(to_last(image)))
