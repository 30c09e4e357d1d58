"""RetinexMamba (Bai et al., arXiv:2405.03349, 2024), written from its description.

An estimate of the illumination brightens the image; a U-net restores it, whose blocks fuse the
illumination's features by cross-attention between channels (IFA) and scan the image (SS2D). The
cube has other bands than the image, so that the image is not added to it. The defaults are the size
with which the Pixel-SSR paper's Table 10 prints 3.6 M parameters and 8.997 G multiply-accumulates:
3.598 M of the layers that the profiler knows, and 9.661e9 divided by 2^30.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.channel_attention import (
    GatedFeedForward,
    attend_channels,
    attention_macs,
)
from pixelssr_geo.nets.baselines.mst_blocks import FeedForward
from pixelssr_geo.nets.baselines.resampling import conv1x1, pad_to_multiple
from pixelssr_geo.nets.baselines.unet import GuidedUNet, check_blocks
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.gated_scan import GatedScan
from pixelssr_geo.nets.layers import ChannelNorm, concatenate, conv3x3, depthwise3x3
from pixelssr_geo.nets.options import check_options


@dataclass(frozen=True, slots=True)
class RetinexMambaConfig:
    """Settings of RetinexMamba; the defaults are the size of the Pixel-SSR paper's Table 10."""

    width: int = 40
    """Channels at full resolution, and of each head."""
    blocks: tuple[int, ...] = (1, 2, 2)
    """Blocks at each level, full resolution first, the bottleneck last; the way up mirrors them."""
    states: tuple[int, ...] = (16, 32, 64)
    """States per scanned channel at each level on the way down; on the way up, a level has those of
    the level below it."""
    scan_backend: str = "auto"
    """Backend of the scans, see :func:`pixelssr_geo.nets.scan.selective_scan_2d`."""

    def __post_init__(self) -> None:
        check_options(self)
        check_blocks(self.blocks)
        if self.width < 1:
            raise SettingsError(f"width is {self.width}, expected at least 1")
        if len(self.states) != len(self.blocks) or min(self.states) < 1:
            raise SettingsError(
                f"states is {self.states}, expected at least 1 for each of {len(self.blocks)} levels"
            )


class IlluminationEstimator(nn.Module):
    """The illumination's features and the factor less one that brightens the image.

    Parameters
    ----------
    bands
        Of the image.
    width
        Channels of the features.
    """

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        inputs = bands + 1
        self.enter = conv1x1(inputs, width, bias=True)
        # The published groups are the inputs, which need not divide the width for other bands.
        self.spread = nn.Conv2d(width, width, 5, padding=2, groups=gcd(inputs, width))
        self.leave = conv1x1(width, bands, bias=True)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and factor, ``(batch, channel or band, y, x)``."""
        features = self.spread(self.enter(concatenate(image, image.mean(1, keepdim=True))))
        return features, self.leave(features)


class IlluminationAttention(nn.Module):
    """The core of IFA: queries of the illumination, keys and values of the image.

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
        self.query = nn.Sequential(conv1x1(width, width, bias=True), conv3x3(width, width))
        self.key_value = nn.Sequential(
            conv1x1(width, 2 * width, bias=True), depthwise3x3(2 * width, bias=True)
        )
        self.project = conv1x1(width, width, bias=True)

    def forward(self, image: Tensor, illumination: Tensor) -> Tensor:
        """Return the attended image, ``(batch, channel, y, x)`` as both inputs."""
        key, value = self.key_value(image).chunk(2, dim=1)
        query = self.query(illumination)
        attended = attend_channels(query, key, value, self.heads, self.temperature)
        result: Tensor = self.project(attended)
        return result

    def own_macs(self, image: tuple[int, ...], illumination: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of both products for inputs of these shapes."""
        del illumination  # has the image's shape
        return attention_macs(image, self.heads)


class IlluminationFusion(nn.Module):
    """IFA: attention to the illumination and a gated feed-forward, each added to what it gets.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.illumination = conv1x1(width, width, bias=True)
        self.norm = ChannelNorm(width)
        self.attention = IlluminationAttention(width, heads)
        self.feed_norm = ChannelNorm(width)
        self.feed_forward = GatedFeedForward(width, bias=True)

    def forward(self, image: Tensor, illumination: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as both inputs."""
        guide = self.norm(self.illumination(illumination))  # one norm serves both
        image = image + self.attention(self.norm(image), guide)
        fed: Tensor = self.feed_forward(self.feed_norm(image))
        return image + fed


class RetinexBlock(nn.Module):
    """Fusion with the illumination, scan and feed-forward.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Heads of the attention.
    states
        States per scanned channel.
    backend
        Of the scan.
    """

    def __init__(self, width: int, heads: int, states: int, backend: str) -> None:
        super().__init__()
        self.fusion = IlluminationFusion(width, heads)
        self.scan = GatedScan(width, states=states, backend=backend, norm=False, residual=False)
        self.feed_forward = FeedForward(width)

    def forward(self, image: Tensor, illumination: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as both inputs."""
        image = image + self.scan(self.fusion(image, illumination))
        fed: Tensor = self.feed_forward(image)
        return image + fed


class RetinexMamba(SpectralNet):
    """RetinexMamba: ``(batch, band, y, x)`` to ``(batch, channel, y, x)``; the guide is not used.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means those of Table 10.
    """

    config_type: ClassVar[type] = RetinexMambaConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: RetinexMambaConfig | None = None,
    ) -> None:
        config = RetinexMambaConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        states, backend = config.states, config.scan_backend
        self.estimator = IlluminationEstimator(bands, config.width)
        self.embed = conv3x3(bands, config.width, bias=False)
        self.trunk = GuidedUNet(
            config.width,
            config.blocks,
            lambda width, n, up: RetinexBlock(width, 2**n, states[n + up], backend),
        )
        self.head = conv3x3(config.width, channels, bias=False)
        self.multiple = 2 ** (len(config.blocks) - 1)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        return (self.head,)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        illumination, factor = self.estimator(x)
        cube: Tensor = self.head(self.trunk(self.embed(x * factor + x), illumination))
        return cube[..., :rows, :columns]
