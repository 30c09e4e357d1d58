"""MST++ (Cai et al., CVPR Workshops 2022, arXiv:2204.07908), written from its description.

A convolution, a cascade of equal U-nets of spectral-wise transformer blocks, a convolution, and
the first convolution's result added. With the defaults it has the counts that the Pixel-SSR paper
prints in Table 10: 1.62 M parameters and 5.83 G multiply-accumulates (3 bands to 31 channels,
128 x 128 pixels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.mst_blocks import (
    FeedForward,
    SpectralSelfAttention,
    conv1x1,
    double,
    halve,
    pad_to_multiple,
)
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.layers import conv3x3
from pixelssr_geo.nets.options import check_options


@dataclass(frozen=True, slots=True)
class MSTPlusPlusConfig:
    """Settings of MST++; the defaults are the published size."""

    stages: int = 3
    """U-nets one after the other."""
    blocks: tuple[int, ...] = (1, 1, 1)
    """Transformer blocks at each level of a U-net, full resolution first, the bottleneck last."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.stages < 1:
            raise SettingsError(f"stages is {self.stages}, expected at least 1")
        if not self.blocks or min(self.blocks) < 1:
            raise SettingsError(
                f"blocks is {self.blocks}, expected at least one level with at least 1 block each"
            )


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


class SpectralUNet(nn.Module):
    """One stage of MST++; sizes and channels stay.

    Each level down has half the size, twice the channels and twice the heads of the one above.

    Parameters
    ----------
    width
        Channels in, out and of each head.
    blocks
        Blocks at each level, the bottleneck last.
    """

    def __init__(self, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        *levels, bottom = range(len(blocks))

        def level(n: int) -> nn.Sequential:
            return nn.Sequential(*(SpectralBlock(width * 2**n, 2**n) for _ in range(blocks[n])))

        self.embed = conv3x3(width, width, bias=False)
        self.encoders = nn.ModuleList(level(n) for n in levels)
        self.downs = nn.ModuleList(halve(width * 2**n, width * 2 ** (n + 1)) for n in levels)
        self.bottleneck = level(bottom)
        self.ups = nn.ModuleList(double(width * 2 ** (n + 1), width * 2**n) for n in levels)
        self.fuses = nn.ModuleList(conv1x1(width * 2 ** (n + 1), width * 2**n) for n in levels)
        self.decoders = nn.ModuleList(level(n) for n in levels)
        self.leave = conv3x3(width, width, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input, whose sides halve at every level."""
        features, skips = self.embed(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.bottleneck(features)
        for up, fuse, decoder in zip(
            reversed(self.ups), reversed(self.fuses), reversed(self.decoders), strict=True
        ):
            features = decoder(fuse(torch.cat([up(features), skips.pop()], dim=1)))
        left: Tensor = self.leave(features)
        return left + image


class MSTPlusPlus(SpectralNet):
    """MST++: ``(batch, band, y, x)`` to ``(batch, channel, y, x)``; the guide is not used.

    Its feature width is the number of channels, for the first convolution's result is added to the
    output.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means the published size.
    """

    config_type: ClassVar[type] = MSTPlusPlusConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: MSTPlusPlusConfig | None = None,
    ) -> None:
        config = MSTPlusPlusConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        self.embed = conv3x3(bands, channels, bias=False)
        self.stages = nn.Sequential(
            *(SpectralUNet(channels, config.blocks) for _ in range(config.stages))
        )
        self.head = conv3x3(channels, channels, bias=False)
        # One factor more than the levels need: the published padding, to a multiple of 8.
        self.multiple = 2 ** len(config.blocks)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        features = self.embed(pad_to_multiple(x, self.multiple))
        cube: Tensor = self.head(self.stages(features)) + features
        return cube[..., :rows, :columns]
