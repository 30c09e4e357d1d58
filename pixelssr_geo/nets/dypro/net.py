"""DyPro-Mamba, the network of the paper (Section 3.2, Figure 3, equations 4 to 9).

No code was published with the paper; where its text leaves a choice, ours is the one that meets its
counts of 0.61 M parameters and 4.65 G multiply-accumulates (3 bands to 31 channels, 128 x 128
pixels). Choices that are settings are under the fields of :class:`DyProConfig`; the others:

* Features have one width at full and twice that at half resolution; the paper calls both this width
  and the number of channels ``B``. Without the doubling its counts cannot be met.
* Up and down: pixel (un)shuffle beside a 3 x 3 convolution; no skip connection, as eq. 8 has none.
* Norm before, and residual around, every attention, scan and feed-forward; the paper names neither.
* Query, key and value are depthwise convolutions; full ones alone would cost 2 G.
* The four directions share one set of scan parameters in the trunk, and have a set each in the neck.
* Attention and P_spe: see :class:`~pixelssr_geo.nets.dypro.block.SpectralAttention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.contract import SpectralNet
from pixelssr_geo.nets.dypro.block import conv3x3
from pixelssr_geo.nets.dypro.drpn import DynamicReceptivePromptNeck
from pixelssr_geo.nets.dypro.prompt_ssm import PromptSSM

Transform = Literal["frft", "fft", "none"]


@dataclass(frozen=True, slots=True)
class DyProConfig:
    """Settings of DyPro-Mamba; the defaults are the published size."""

    width: int = 40
    """Feature width: the paper's B = 40 (Section 4.1), which also meets its counts."""
    state: int = 16
    """States N per scanned channel, Mamba's default; the paper gives none."""
    expand: int = 2
    """Scanned channels per channel in a PromptSSM, Mamba's default."""
    prompt_width: int = 3
    """Channels of F1, P_spa and P_hf: what Table 4's costs of P_spa and P_hf leave room for."""
    prompt_inner: int = 18
    """Scanned channels in P_spa, in space and in the transform domain alike (at most; a multiple of
    the channels that come in)."""
    transform: Transform = "frft"
    """Transform of P_spa: fractional with a learnt order, "fft" (order 1), or "none": the spatial
    scan alone."""
    initial_order: float = 0.5
    """Order that the fractional transform starts from; the paper gives none."""
    spa: bool = True
    """Whether there is a spatial prompt P_spa (Table 4)."""
    hf: bool = True
    """Whether there is an edge prompt P_hf (Table 4)."""
    spe: bool = True
    """Whether P_spe enters the attention (Table 4); without it eq. 9 has the softmax alone."""
    drpn: bool = True
    """Whether there is a neck (Table 4); without it Y1 takes the place of Y3, no prompt is left."""
    prompt_ssm: bool = True
    """Whether there is a PromptSSM behind the upsampling. Leaving it out is the reading of Table
    4's "w/o PromptSSM" that fits its counts."""
    zero_head: bool = False
    """Whether the last convolution starts at zero, so that a fresh network returns zeros: for use
    as a correction of another estimate."""
    scan_backend: str = "auto"
    """Backend of the scans, see :func:`pixelssr_geo.nets.scan.selective_scan_2d`."""

    def __post_init__(self) -> None:
        for name in ("width", "state", "expand", "prompt_width", "prompt_inner"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.transform not in get_args(Transform):
            raise SettingsError(
                f"transform is '{self.transform}', expected one of {', '.join(get_args(Transform))}"
            )


class DyProMamba(SpectralNet):
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
        width = config.width
        self.neck = DynamicReceptivePromptNeck(bands, self.guide_channels, config)
        self.embed = conv3x3(bands, width)
        self.fuse = conv3x3(2 * width, width)
        self.first = PromptSSM(width, config)
        self.down = nn.Sequential(nn.PixelUnshuffle(2), conv3x3(4 * width, 2 * width))
        self.middle = PromptSSM(2 * width, config)
        self.up = nn.Sequential(conv3x3(2 * width, 4 * width), nn.PixelShuffle(2))
        self.last = PromptSSM(width, config) if config.prompt_ssm else None
        self.head = conv3x3(width, channels)
        if config.zero_head:
            nn.init.zeros_(self.head.weight)
            assert self.head.bias is not None
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Return the cube, ``(batch, channel, y, x)``; see the class for the inputs."""
        return self.forward_with_neck(x, guide)[0]

    def forward_with_neck(self, x: Tensor, guide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the cube and the neck's Y3, ``(batch, width, y, x)``, which L_P2I is about."""
        guide = self.checked_guide(x, guide)
        rows, columns = x.shape[2:]
        x, guide = _even(x), _even(guide)
        y3, prompt = self.neck(x, guide)
        y4 = self.fuse(torch.cat([self.embed(x), y3], dim=1))
        y5 = self.middle(self.down(self.first(y4, prompt)), prompt)
        features = self.up(y5)
        if self.last is not None:
            features = self.last(features, prompt)
        return self.head(features)[..., :rows, :columns], y3[..., :rows, :columns]


def _even(image: Tensor) -> Tensor:
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
        self.convolve = nn.Sequential(conv3x3(width, width), nn.GELU(), conv3x3(width, bands))

    def forward(self, y3: Tensor) -> Tensor:
        """Return the bands, ``(batch, band, y, x)``, from Y3 ``(batch, width, y, x)``."""
        result: Tensor = self.convolve(y3)
        return result
