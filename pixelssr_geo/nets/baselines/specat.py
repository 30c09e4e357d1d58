"""SPECAT (Yao et al., CVPR 2024) without its camera, written from its description.

A two-level U-net whose blocks multiply window attention, a guide and spectral-wise attention. In
the original the guide is the mask of a coded-aperture camera; the Pixel-SSR paper's comparison has
none and convolves the image instead. The defaults are the size with which its Table 10 prints
0.39 M parameters and 3.49 G multiply-accumulates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.mst_blocks import FeedForward, SpectralSelfAttention
from pixelssr_geo.nets.baselines.resampling import pad_to_multiple
from pixelssr_geo.nets.baselines.unet import GuidedUNet, check_blocks
from pixelssr_geo.nets.baselines.windows import WINDOW, WindowBlock
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.layers import conv3x3
from pixelssr_geo.nets.options import check_options


@dataclass(frozen=True, slots=True)
class SPECATConfig:
    """Settings of SPECAT; the defaults are the size of the Pixel-SSR paper's Table 10."""

    width: int = 36
    """Channels at full resolution."""
    blocks: tuple[int, ...] = (2, 1)
    """Blocks of the encoder at each level, the bottleneck last; the decoder has one at each."""
    heads: int = 2
    """Heads of the window attention, at every level; divides ``width``."""

    def __post_init__(self) -> None:
        check_options(self)
        check_blocks(self.blocks)
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise SettingsError(
                f"width is {self.width} and heads {self.heads}, expected numbers from 1 on of which "
                "the heads divide the width"
            )


class CumulativeBlock(nn.Module):
    """CAB: spatial attention times the guide, then guided spectral attention, then feed-forward.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads of the window attention.
    spectral_heads
        Heads of the attention between channels.
    """

    def __init__(self, width: int, heads: int, spectral_heads: int) -> None:
        super().__init__()
        # Opposite edges see each other, as in the network that the paper compared with.
        self.spatial = WindowBlock(width, heads, masked=False)
        self.spatial_guide = nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)
        self.spectral = SpectralSelfAttention(width, spectral_heads)
        self.spectral_guide = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.feed_forward = FeedForward(width)

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as both inputs."""
        attended = self.spatial(image) * (guide + self.spatial_guide(guide))
        weight = guide * (1 + torch.sigmoid(self.spectral_guide(guide)))
        image = image + self.spectral(attended, weight)
        fed: Tensor = self.feed_forward(image)
        return image + fed


class SPECAT(SpectralNet):
    """SPECAT: ``(batch, band, y, x)`` to ``(batch, channel, y, x)``; the guide is not used.

    What its blocks are guided by is made of the bands.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means those of Table 10.
    """

    config_type: ClassVar[type] = SPECATConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: SPECATConfig | None = None,
    ) -> None:
        config = SPECATConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        width, heads = config.width, config.heads
        self.embed = conv3x3(bands, width, bias=False)
        self.embed_guide = conv3x3(bands, width, bias=False)
        self.trunk = GuidedUNet(
            width,
            config.blocks,
            lambda inside, n, _: CumulativeBlock(inside, heads, 2**n),
            decoder_blocks=(1,) * (len(config.blocks) - 1),
        )
        self.head = conv3x3(width, channels, bias=False)
        self.multiple = WINDOW * 2 ** (len(config.blocks) - 1)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        return (self.head,)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        features = functional.leaky_relu(self.embed(x), 0.1)
        inner = functional.leaky_relu(self.embed_guide(x), 0.1)
        cube: Tensor = self.head(self.trunk(features, inner))
        return cube[..., :rows, :columns]
