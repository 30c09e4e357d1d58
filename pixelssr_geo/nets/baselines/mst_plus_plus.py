"""MST++ (Cai et al., CVPR Workshops 2022, arXiv:2204.07908), written from its description.

A convolution, a cascade of equal U-nets of spectral-wise transformer blocks, a convolution, and
the first convolution's result added. With the defaults it has the counts that the Pixel-SSR paper
prints in Table 10: 1.62 M parameters and 5.83 G multiply-accumulates (3 bands to 31 channels,
128 x 128 pixels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.baselines.mst_blocks import SpectralBlock
from pixelssr_geo.nets.baselines.resampling import pad_to_multiple
from pixelssr_geo.nets.baselines.unet import UNet, check_blocks
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
        check_blocks(self.blocks)


class SpectralUNet(UNet):
    """One stage of MST++; sizes and channels stay, the image is added.

    Each level down has twice the heads of the one above.

    Parameters
    ----------
    width
        Channels in, out and of each head.
    blocks
        Blocks at each level, the bottleneck last.
    """

    def __init__(self, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__(width, blocks, lambda w, n: SpectralBlock(w, 2**n), residual=True)


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
