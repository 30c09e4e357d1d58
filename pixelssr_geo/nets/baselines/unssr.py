"""UnSSR (Leng et al., IEEE TNNLS 2025), written from its description.

The reconstruction network of the uncertainty-guided unsupervised approach: a pair of convolutions,
blocks that mine local and low-rank structure beside global structure, a pair of convolutions. The
defaults are the size with which the Pixel-SSR paper's Table 10 prints 1.79 M parameters and 22.12 G
multiply-accumulates.

Two parts of the original are not here. Each of its global filters declares a way up and a way down
and calls one of them: the other, 0.947 M parameters in all, is not built, so that the count is the
1.788 M which the profiler printed. And the head that sorts channels by their entropy serves a
training of its own, not the result; the losses of this package ask for no such order.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.channel_attention import attend_channels, attention_macs
from pixelssr_geo.nets.baselines.resampling import conv1x1, pad_to_multiple
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.layers import concatenate, lengths, split_heads, to_first, to_last
from pixelssr_geo.nets.options import check_options

_HEADS = 3
_SHARES = (1, 2, 3)  # the branches' channels are the width over these


@dataclass(frozen=True, slots=True)
class UnSSRConfig:
    """Settings of UnSSR; the defaults are the size of the Pixel-SSR paper's Table 10."""

    width: int = 48
    """Channels of the features, a multiple of 6."""
    blocks: int = 3
    """Blocks one after the other."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.width < 6 or self.width % 6:
            raise SettingsError(f"width is {self.width}, expected a multiple of 6")
        if self.blocks < 1:
            raise SettingsError(f"blocks is {self.blocks}, expected at least 1")


def convolution_pair(inputs: int, outputs: int, inside: int | None = None) -> nn.Sequential:
    """Return convolution, PReLU, convolution: 3 x 3, mirrored at the edges, without bias.

    Parameters
    ----------
    inputs, outputs
        Channels.
    inside
        Channels between the two; None means as many as come out.
    """

    def convolution(before: int, behind: int) -> nn.Conv2d:
        return nn.Conv2d(before, behind, 3, padding=1, padding_mode="reflect", bias=False)

    inside = outputs if inside is None else inside
    return nn.Sequential(convolution(inputs, inside), nn.PReLU(), convolution(inside, outputs))


def convolution_branch(inputs: int, outputs: int) -> nn.Sequential:
    """Return a pair of convolutions and a 1 x 1 convolution behind it."""
    return nn.Sequential(*convolution_pair(inputs, outputs), conv1x1(outputs, outputs))


class LowRankModule(nn.Module):
    """LRED: three branches, each narrower one rebuilding the next wider; the image is added.

    A branch is rebuilt by its cosines, over all pixels, with the narrower one: a matrix of no more
    rank than that has channels.

    Parameters
    ----------
    width
        Channels in and out, a multiple of 6.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(convolution_branch(width, width // k) for k in _SHARES)
        self.fuse = convolution_pair(width + width // 2, width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        wide, middle, narrow = (branch(image) for branch in self.branches)
        rebuilt = concatenate(wide + _rebuilt(wide, middle), middle + _rebuilt(middle, narrow))
        fused: Tensor = self.fuse(rebuilt)
        return fused + image

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of the four products for an image of this shape."""
        wide, middle, narrow = (image[1] // k for k in _SHARES)
        pixels = prod(image) // image[1]
        return {"low rank": 2 * pixels * middle * (wide + narrow)}


def _rebuilt(wide: Tensor, narrow: Tensor) -> Tensor:
    """Return ``cos(wide, narrow) narrow``, ``(batch, channel, y, x)`` as ``wide``."""
    first, second = split_heads(wide, 1), split_heads(narrow, 1)
    cosine = (first.mT @ second) / (lengths(first).mT * lengths(second))
    return to_first((second @ cosine.mT)[:, 0].reshape(to_last(wide).shape))


class LocalFlow(nn.Module):
    """LCAB: convolutions beside the low-rank module, between pairs of convolutions.

    Parameters
    ----------
    width
        Channels in and out, a multiple of 6.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = convolution_pair(width, width)
        self.local = convolution_branch(width, width)
        self.low_rank = LowRankModule(width)
        self.leave = convolution_pair(width, width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        entered = self.enter(image)
        left: Tensor = self.leave(self.local(entered) + self.low_rank(entered) + entered)
        return left + image


class GlobalFilter(nn.Module):
    """GLAF: features times one vector, their mean under a map that the pixels compete for.

    Parameters
    ----------
    width
        Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = conv1x1(width, width, bias=True)
        self.score = conv1x1(width, 1, bias=False)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        mixed: Tensor = self.mix(image)
        share: Tensor = self.softmax(self.score(mixed).flatten(2))  # (batch, 1, pixel)
        vector = split_heads(mixed, 1)[:, 0].mT @ share.mT  # (batch, channel, 1)
        return mixed * vector[..., None]

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of the weighted mean for an image of this shape."""
        return {"attention": prod(image)}


class ChannelLayer(nn.Module):
    """Attention between channels and a perceptron on each pixel, each behind a norm, and added to.

    Parameters
    ----------
    width
        Channels in and out, a multiple of 3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 3 * width, bias=False)
        self.sigma = nn.Parameter(torch.ones(_HEADS, 1, 1))
        self.project = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        tokens = to_last(image)
        query, key, value = to_first(self.enter(self.norm(tokens))).chunk(3, dim=1)
        attended = attend_channels(key, query, value, _HEADS, self.sigma)
        tokens = tokens + self.project(to_last(attended))
        return to_first(tokens + self.perceptron(tokens))

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of both products for an image of this shape."""
        return attention_macs(image, _HEADS)


class GlobalFlow(nn.Module):
    """Global filters around two layers of attention at half the size and twice the width.

    Parameters
    ----------
    width
        Channels in and out, a multiple of 3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            GlobalFilter(width),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            ChannelLayer(2 * width),
            ChannelLayer(2 * width),
            GlobalFilter(2 * width),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input, both sides even."""
        result: Tensor = self.layers(image)
        return result


class TwoFlowBlock(nn.Module):
    """CT block: the local and the global flow side by side, joined; the image is added.

    Parameters
    ----------
    width
        Channels in and out, a multiple of 6.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local = LocalFlow(width)
        self.everywhere = GlobalFlow(width)
        self.join = convolution_pair(2 * width, width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input, both sides even."""
        joined: Tensor = self.join(concatenate(self.local(image), self.everywhere(image)))
        return joined + image


class UnSSR(SpectralNet):
    """UnSSR: ``(batch, band, y, x)`` to ``(batch, channel, y, x)``; the guide is not used.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means those of Table 10.
    """

    config_type: ClassVar[type] = UnSSRConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: UnSSRConfig | None = None,
    ) -> None:
        config = UnSSRConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        self.embed = convolution_pair(bands, config.width)
        self.blocks = nn.Sequential(*(TwoFlowBlock(config.width) for _ in range(config.blocks)))
        self.head = convolution_pair(config.width, channels)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        return (self.head[-1],)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        cube: Tensor = self.head(self.blocks(self.embed(pad_to_multiple(x, 2))))
        return cube[..., :rows, :columns]
