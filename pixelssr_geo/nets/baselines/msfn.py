"""MSFN (Wu et al., IEEE TNNLS 2024), written from its description.

Multistage spatial-spectral fusion network: a convolution, stages of a spectral and a spatial U-net,
a convolution, and the first convolution's result added. The Pixel-SSR paper writes MFSN. The
defaults are the size with which its Table 10 prints 2.47 M parameters and 32.67 G
multiply-accumulates: these at 256 x 256 pixels, 8.17 G at 128 x 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.mst_blocks import SpectralBlock
from pixelssr_geo.nets.baselines.resampling import conv1x1, double, halve, pad_to_multiple
from pixelssr_geo.nets.baselines.unet import check_blocks
from pixelssr_geo.nets.baselines.windows import WINDOW, WindowBlock
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.layers import conv3x3
from pixelssr_geo.nets.options import check_options


@dataclass(frozen=True, slots=True)
class MSFNConfig:
    """Settings of MSFN; the defaults are the size of the Pixel-SSR paper's Table 10."""

    stages: int = 2
    """Pairs of U-nets one after the other."""
    blocks: tuple[int, ...] = (1, 1, 1)
    """Blocks at each level of a U-net, full resolution first, the bottleneck last."""

    def __post_init__(self) -> None:
        check_options(self)
        check_blocks(self.blocks)
        if self.stages < 1:
            raise SettingsError(f"stages is {self.stages}, expected at least 1")


class ChannelWeights(nn.Module):
    """Features scaled channel by channel, by their means and maxima over the pixels.

    Parameters
    ----------
    width
        Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Linear(width, width)
        self.maximum = nn.Linear(width, width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        weight = (self.mean(image.mean((2, 3))) + self.maximum(image.amax((2, 3)))) / 2
        return image * torch.sigmoid(weight)[..., None, None]


class PixelWeights(nn.Module):
    """Features scaled pixel by pixel, by their means and maxima over the channels.

    Parameters
    ----------
    width
        Channels in and out, which do not matter here.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        del width
        self.mean = conv3x3(1, 1)
        self.maximum = conv3x3(1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        mean, maximum = image.mean(1, keepdim=True), image.amax(1, keepdim=True)
        return image * torch.sigmoid((self.mean(mean) + self.maximum(maximum)) / 2)


class SkipFusion(nn.Module):
    """What takes the place of a skip: both features, as they are and scaled, mixed by a 1 x 1.

    Parameters
    ----------
    width
        Channels of each and of the result.
    spatial
        Whether they are scaled pixel by pixel, or channel by channel.
    """

    def __init__(self, width: int, *, spatial: bool) -> None:
        super().__init__()
        kind = PixelWeights if spatial else ChannelWeights
        self.encoded, self.decoded = kind(width), kind(width)
        self.mix = conv1x1(4 * width, width)

    def forward(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as both inputs."""
        parts = [encoded, decoded, self.encoded(encoded), self.decoded(decoded)]
        mixed: Tensor = self.mix(torch.cat(parts, dim=1))
        return mixed


class FusionUNet(nn.Module):
    """A U-net whose skips are fusions; it hands on what its decoder has at every level.

    Parameters
    ----------
    width
        Channels in and out.
    blocks
        Blocks at each level, the bottleneck last.
    spatial
        Whether its blocks attend to pixels in windows, or to channels; the spatial one takes what
        the spectral one hands on.
    """

    def __init__(self, width: int, blocks: tuple[int, ...], *, spatial: bool) -> None:
        super().__init__()
        *levels, bottom = range(len(blocks))
        widths = [width * 2**n for n in range(len(blocks))]
        kind = WindowBlock if spatial else SpectralBlock

        def level(n: int) -> nn.Sequential:
            return nn.Sequential(*(kind(widths[n], 2**n) for _ in range(blocks[n])))

        self.encoders = nn.ModuleList(level(n) for n in levels)
        self.downs = nn.ModuleList(halve(widths[n], widths[n + 1]) for n in levels)
        # At full resolution what is taken over is the input itself.
        self.takes = nn.ModuleList(
            conv1x1(2 * inside, inside) for inside in (widths[1:] if spatial else ())
        )
        self.bottleneck = level(bottom)
        self.ups = nn.ModuleList(double(widths[n + 1], widths[n]) for n in levels)
        self.fuses = nn.ModuleList(SkipFusion(widths[n], spatial=spatial) for n in levels)
        self.decoders = nn.ModuleList(level(n) for n in levels)

    def forward(self, image: Tensor, given: list[Tensor] | None = None) -> list[Tensor]:
        """Return the features at every level, the result first, the bottleneck's last.

        Parameters
        ----------
        image
            ``(batch, channel, y, x)``; the sides halve at every level.
        given
            Such features of the spectral U-net, for the spatial one.
        """
        features, skips = image, []
        for n, (encoder, down) in enumerate(zip(self.encoders, self.downs, strict=True)):
            skips.append(encoder(features))
            features = down(skips[-1])
            if given is not None:
                features = self.takes[n](torch.cat([features, given[n + 1]], dim=1))
        found = [self.bottleneck(features)]
        for up, fuse, decoder in zip(
            reversed(self.ups), reversed(self.fuses), reversed(self.decoders), strict=True
        ):
            found.append(decoder(fuse(skips.pop(), up(found[-1]))))
        return found[::-1]


class FusionStage(nn.Module):
    """SSFN: a spectral U-net, then a spatial one; the image is added.

    Parameters
    ----------
    width
        Channels in and out.
    blocks
        Blocks at each level of a U-net, the bottleneck last.
    """

    def __init__(self, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.embed = conv3x3(width, width, bias=False)
        self.spectral = FusionUNet(width, blocks, spatial=False)
        self.spatial = FusionUNet(width, blocks, spatial=True)
        self.leave = conv3x3(width, width, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        spectral = self.spectral(self.embed(image))
        left: Tensor = self.leave(self.spatial(spectral[0], spectral)[0])
        return left + image


class MSFN(SpectralNet):
    """MSFN: ``(batch, band, y, x)`` to ``(batch, channel, y, x)``; the guide is not used.

    Its feature width is the number of channels, for the first convolution's result is added to the
    output.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means those of Table 10.
    """

    config_type: ClassVar[type] = MSFNConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: MSFNConfig | None = None,
    ) -> None:
        config = MSFNConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        self.embed = conv3x3(bands, channels, bias=False)
        self.stages = nn.Sequential(
            *(FusionStage(channels, config.blocks) for _ in range(config.stages))
        )
        self.head = conv3x3(channels, channels, bias=False)
        self.multiple = WINDOW * 2 ** (len(config.blocks) - 1)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        return self.embed, self.head

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        features = self.embed(pad_to_multiple(x, self.multiple))
        cube: Tensor = self.head(self.stages(features)) + features
        return cube[..., :rows, :columns]
