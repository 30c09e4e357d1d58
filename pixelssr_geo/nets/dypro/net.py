"""DyPro-Mamba, the network of the paper (Section 3.2, Figure 3, equations 4 to 9).

How its text is read where it leaves a choice is said under the fields of
:class:`~pixelssr_geo.nets.dypro.config.DyProConfig`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.contract import NeckedNet
from pixelssr_geo.nets.dypro.config import DyProConfig
from pixelssr_geo.nets.dypro.drpn import DynamicReceptivePromptNeck, NeckFeatures
from pixelssr_geo.nets.dypro.prompt_ssm import PromptSSM
from pixelssr_geo.nets.layers import GELU, concatenate, conv3x3


class DyProMamba(NeckedNet):
    """DyPro-Mamba: ``(batch, band, y, x)`` and a guide to ``(batch, channel, y, x)``.

    The guide is the paper's modelled point spectra, with as many channels as the cube. Other guides
    (an estimate and its standard deviation) take ``guide_channels``.

    Parameters
    ----------
    bands, channels, guide_channels
        See :class:`~pixelssr_geo.nets.contract.SpectralNet`.
    config
        Settings; None means the published size.
    """

    config_type: ClassVar[type] = DyProConfig

    def __init__(
        self,
        bands: int,
        channels: int,
        guide_channels: int | None = None,
        config: DyProConfig | None = None,
    ) -> None:
        config = DyProConfig() if config is None else config
        super().__init__(bands, channels, guide_channels, config)
        width = self.neck_width = config.width
        self.neck = DynamicReceptivePromptNeck(bands, self.guide_channels, config)
        self.embed = conv3x3(bands, width)
        self.fuse = conv3x3(2 * width, width)
        self.first = PromptSSM(width, config)
        self.down = nn.Sequential(nn.PixelUnshuffle(2), conv3x3(4 * width, 2 * width))
        self.middle = PromptSSM(2 * width, config)
        self.up = nn.Sequential(conv3x3(2 * width, 4 * width), nn.PixelShuffle(2))
        self.last = PromptSSM(width, config) if config.prompt_ssm != "no-last" else None
        self.skip = config.skip
        self.head = conv3x3(width, channels)
        if config.zero_head:
            self.zero_output()

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """See :class:`~pixelssr_geo.nets.contract.SpectralNet`."""
        return (self.head,)

    def forward_with_neck(self, x: Tensor, guide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the cube and the neck's Y3, ``(batch, width, y, x)``, which L_P2I is about."""
        guide = self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        x, guide = even_sided(x), even_sided(guide)
        y3, prompt = self.neck(x, guide)
        y4 = self.fuse(concatenate(self.embed(x), y3))
        first = self.first(y4, prompt)
        features = self.up(self.middle(self.down(first), prompt))  # Y5
        if self.skip:
            features = features + first
        if self.last is not None:
            features = self.last(features, prompt)
        return self.head(features)[..., :rows, :columns], y3[..., :rows, :columns]

    def neck_features(self, x: Tensor, guide: Tensor | None = None) -> NeckFeatures:
        """Return what the neck computes of a scene and its guide, by name; sides as the scene's."""
        guide = self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        found = self.neck.features(even_sided(x), even_sided(guide))
        cut = {
            name: image[..., :rows, :columns]
            for name, image in found._asdict().items()
            if image is not None and name != "spectral"
        }
        return found._replace(**cut)


def even_sided(image: Tensor) -> Tensor:
    """Return the image, channels last in memory, its last row and column repeated to even sides."""
    rows, columns = image.shape[2:]
    if rows % 2 or columns % 2:
        image = functional.pad(image, (0, columns % 2, 0, rows % 2), mode="replicate")
    return image.contiguous(memory_format=torch.channels_last)


class PixelToImage(nn.Module):
    """M_H2R of L_P2I (eq. 14): from Y3 back to the scene's bands, in training only.

    Two 3 x 3 convolutions with a GELU between; the hidden width, which the paper does not give, is
    that of Y3.

    Parameters
    ----------
    width
        Channels of Y3, the network's ``config.width``.
    bands
        Bands of the scene.
    """

    def __init__(self, width: int, bands: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(conv3x3(width, width), GELU(), conv3x3(width, bands))

    def forward(self, y3: Tensor) -> Tensor:
        """Return the bands, ``(batch, band, y, x)``, from Y3 ``(batch, width, y, x)``."""
        result: Tensor = self.convolve(y3)
        return result
