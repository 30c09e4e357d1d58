"""SAUNet (Wang et al., arXiv:2301.10208, 2023) without its camera, written from its description.

A chain of equal U-nets whose blocks are convolutional modulations. What unfolds the optimisation of
a coded-aperture camera in the original (its mask, step sizes and data steps) has no place where
every band is seen everywhere. The defaults are the size with which the Pixel-SSR paper's Table 10
prints 4.41 M parameters and 11.12 G multiply-accumulates.

The paper cites another network of that name (Wang and Yuan, ACM MM 2023, for compressive sensing);
its row of the table is met by this one alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.resampling import conv1x1, pad_to_multiple
from pixelssr_geo.nets.baselines.unet import UNet, check_blocks
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.layers import GELU, ChannelNorm, depthwise3x3
from pixelssr_geo.nets.options import check_options


@dataclass(frozen=True, slots=True)
class SAUNetConfig:
    """Settings of SAUNet; the defaults are the size of the Pixel-SSR paper's Table 10."""

    stages: int = 5
    """U-nets one after the other, none of which shares parameters."""
    blocks: tuple[int, ...] = (1, 1, 3)
    """Blocks at each level of a U-net, full resolution first, the bottleneck last."""

    def __post_init__(self) -> None:
        check_options(self)
        check_blocks(self.blocks)
        if self.stages < 1:
            raise SettingsError(f"stages is {self.stages}, expected at least 1")


class ConvolutionalModulation(nn.Module):
    """CMB: values multiplied by what a wide depthwise convolution makes of the same image.

    Parameters
    ----------
    width
        Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, eps=1e-6)
        self.weight = nn.Sequential(
            conv1x1(width, width, bias=True),
            GELU(),
            nn.Conv2d(width, width, 7, padding=3, groups=width),
        )
        self.value = conv1x1(width, width, bias=True)
        self.project = conv1x1(width, width, bias=True)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input, without a residual."""
        normed = self.norm(image)
        result: Tensor = self.project(self.weight(normed) * self.value(normed))
        return result


class ModulationBlock(nn.Module):
    """CAB: modulation and feed-forward, each behind a norm and with a residual.

    Parameters
    ----------
    width
        Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = ConvolutionalModulation(width)
        self.feed_forward = nn.Sequential(
            ChannelNorm(width),
            conv1x1(width, 4 * width),
            GELU(),
            depthwise3x3(4 * width),
            GELU(),
            conv1x1(4 * width, width, bias=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(batch, channel, y, x)`` as the input."""
        image = image + self.modulation(image)
        fed: Tensor = self.feed_forward(image)
        return image + fed


class SAUNet(SpectralNet):
    """SAUNet: ``(batch, band, y, x)`` to ``(batch, channel, y, x)``; the guide is not used.

    Its feature width is the number of channels.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means those of Table 10.
    """

    config_type: ClassVar[type] = SAUNetConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: SAUNetConfig | None = None,
    ) -> None:
        config = SAUNetConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        self.embed = conv1x1(bands, channels, bias=True)
        self.stages = nn.Sequential(
            *(
                UNet(
                    channels, config.blocks, lambda width, _: ModulationBlock(width), residual=False
                )
                for _ in range(config.stages)
            )
        )
        # Two factors more than the levels need: the published padding, to a multiple of 16.
        self.multiple = 2 ** (len(config.blocks) + 1)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        last = self.stages[-1]
        assert isinstance(last, UNet)
        return (last.leave,)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        cube: Tensor = self.stages(self.embed(pad_to_multiple(x, self.multiple)))
        return cube[..., :rows, :columns]
