"""The layers of the MST family: spectral-wise attention and its feed-forward.

Described in MST (Cai et al., CVPR 2022, Section 3) and MST++ (Cai et al., CVPRW 2022, Section 3).
Images stay channels-last in memory, so that the tokens of the attention are the image itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelssr_geo.nets.baselines.channel_attention import attend_channels, attention_macs
from pixelssr_geo.nets.baselines.resampling import conv1x1
from pixelssr_geo.nets.layers import GELU, depthwise3x3, to_first, to_last


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

    def forward(self, image: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the attended image, ``(batch, channel, y, x)`` as the input.

        Parameters
        ----------
        image
            ``(batch, channel, y, x)``.
        weight
            Factor of what is attended, of the same shape: MST's mask. The positions are those of
            the values without it.
        """
        value = self.value(image)
        weighted = value if weight is None else value * weight
        attended = attend_channels(
            self.key(image), self.query(image), weighted, self.heads, self.sigma
        )
        result: Tensor = self.project(attended) + self.position(value)
        return result

    def own_macs(
        self, image: tuple[int, ...], weight: tuple[int, ...] | None = None
    ) -> dict[str, int]:
        """Return the multiply-accumulates of K Q^T and A V for an image of this shape."""
        del weight  # has the image's shape
        return attention_macs(image, self.heads)


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


class SpectralBlock(nn.Module):
    """Spectral-wise attention and feed-forward, each with a residual; no norm before the former.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = SpectralSelfAttention(width, heads)
        self.feed_forward = FeedForward(width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        image = self.attention(image) + image
        fed: Tensor = self.feed_forward(image)
        return fed + image
