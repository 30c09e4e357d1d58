"""Restormer (Zamir et al., CVPR 2022, arXiv:2111.09881), written from its description.

A four-level U-net of channel attention with depthwise projections (MDTA) and gated feed-forwards
(GDFN), resampled by pixel (un)shuffle, refined at full resolution. The image it is given has other
bands than the one it returns, so that the first features, not the image, are added before the last
convolution. The defaults are the size with which the Pixel-SSR paper's Table 10 prints 15.09 M
parameters and 21.4 G multiply-accumulates; Restormer itself has blocks (4, 6, 6, 8) and 4 for the
refinement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.channel_attention import GatedFeedForward, TransposedAttention
from pixelssr_geo.nets.baselines.resampling import conv1x1, pad_to_multiple
from pixelssr_geo.nets.baselines.unet import check_blocks
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.layers import ChannelNorm, conv3x3
from pixelssr_geo.nets.options import check_options


@dataclass(frozen=True, slots=True)
class RestormerConfig:
    """Settings of Restormer; the defaults are the size of the Pixel-SSR paper's Table 10."""

    width: int = 48
    """Channels at full resolution, and of each head; even."""
    blocks: tuple[int, ...] = (2, 3, 3, 4)
    """Blocks at each level, full resolution first, the bottleneck last; two levels at least."""
    refinement: int = 3
    """Blocks behind the U-net, at full resolution and twice the width."""
    expansion: float = 2.66
    """Channels inside a feed-forward, over those outside."""

    def __post_init__(self) -> None:
        check_options(self)
        check_blocks(self.blocks)
        if len(self.blocks) < 2 or self.width < 2 or self.width % 2:
            raise SettingsError(
                f"blocks is {self.blocks} and width {self.width}, expected at least two levels and "
                "an even width, which is halved on the way down"
            )
        if self.refinement < 0 or self.expansion * self.width < 1:
            raise SettingsError(
                f"refinement is {self.refinement} and expansion {self.expansion}, expected at least "
                "0 and one channel"
            )


class RestormerBlock(nn.Module):
    """Norm, attention, residual; norm, feed-forward, residual.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads of the attention.
    expansion
        Of the feed-forward.
    """

    def __init__(self, width: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(ChannelNorm(width), TransposedAttention(width, heads))
        self.feed_forward = nn.Sequential(
            ChannelNorm(width), GatedFeedForward(width, expansion=expansion)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        image = image + self.attention(image)
        fed: Tensor = self.feed_forward(image)
        return image + fed


class Restormer(SpectralNet):
    """Restormer: ``(batch, band, y, x)`` to ``(batch, channel, y, x)``; the guide is not used.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means those of Table 10.
    """

    config_type: ClassVar[type] = RestormerConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: RestormerConfig | None = None,
    ) -> None:
        config = RestormerConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        width, blocks = config.width, config.blocks
        *levels, bottom = range(len(blocks))

        def level(count: int, n: int, *, wide: bool = False) -> nn.Sequential:
            # At the top the skip is not reduced: what follows has twice the width.
            channels = width * 2**n * (2 if wide else 1)
            return nn.Sequential(
                *(RestormerBlock(channels, 2**n, config.expansion) for _ in range(count))
            )

        def down(n: int) -> nn.Sequential:
            inside = width * 2**n
            return nn.Sequential(conv3x3(inside, inside // 2, bias=False), nn.PixelUnshuffle(2))

        def up(n: int) -> nn.Sequential:
            below = width * 2 ** (n + 1)
            return nn.Sequential(conv3x3(below, 2 * below, bias=False), nn.PixelShuffle(2))

        def reduce(n: int) -> nn.Module:
            return conv1x1(width * 2 ** (n + 1), width * 2**n) if n else nn.Identity()

        self.embed = conv3x3(bands, width, bias=False)
        self.encoders = nn.ModuleList(level(blocks[n], n) for n in levels)
        self.downs = nn.ModuleList(down(n) for n in levels)
        self.bottleneck = level(blocks[bottom], bottom)
        self.ups = nn.ModuleList(up(n) for n in levels)
        self.fuses = nn.ModuleList(reduce(n) for n in levels)
        self.decoders = nn.ModuleList(level(blocks[n], n, wide=n == 0) for n in levels)
        self.refinement = level(config.refinement, 0, wide=True)
        self.skip = conv1x1(width, 2 * width)
        self.head = conv3x3(2 * width, channels, bias=False)
        self.multiple = 2**bottom

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        return (self.head,)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        embedded = self.embed(pad_to_multiple(x, self.multiple))
        features, skips = embedded, []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.bottleneck(features)
        for up, fuse, decoder in zip(
            reversed(self.ups), reversed(self.fuses), reversed(self.decoders), strict=True
        ):
            features = decoder(fuse(torch.cat([up(features), skips.pop()], dim=1)))
        cube: Tensor = self.head(self.refinement(features) + self.skip(embedded))
        return cube[..., :rows, :columns]
