"""The Dynamic Receptive Prompt Neck: the paper's Section 3.2.1, equations 4 to 7."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.dypro.block import (
    SS2D,
    SpectralAttention,
    conv3x3,
    depthwise3x3,
    to_first,
    to_last,
)
from pixelssr_geo.nets.dypro.frft import FractionalFourier

if TYPE_CHECKING:
    from pixelssr_geo.nets.dypro.net import DyProConfig


class Prompts(NamedTuple):
    """What the neck hands to the trunk."""

    y3: Tensor
    """Preliminary cube Y3, ``(batch, width, y, x)``."""
    spectral: Tensor | None
    """Spectral prompt P_spe, ``(batch, 1, width, width)``; None if it is switched off."""


class SpatialPrompt(nn.Module):
    """P_spa (eq. 4): scans in space and in the fractional Fourier domain, gated by F1."""

    def __init__(self, config: DyProConfig) -> None:
        super().__init__()
        width, inner = config.prompt_width, config.prompt_inner
        self.transform: FractionalFourier | None = None
        self.scan_space = self._scan(width, inner, config)
        if config.transform != "none":
            learnable = config.transform == "frft"
            order = config.initial_order if learnable else 1.0
            self.transform = FractionalFourier(order, learnable=learnable)
            self.scan_transform = self._scan(2 * width, inner, config)
        self.fuse = conv3x3(width if self.transform is None else 2 * width, width)

    @staticmethod
    def _scan(width: int, inner: int, config: DyProConfig) -> SS2D:
        return SS2D(
            width,
            expand=max(1, inner // width),
            states=config.state,
            share=False,
            backend=config.scan_backend,
        )

    def forward(self, f1: Tensor) -> Tensor:
        """Return P_spa, ``(batch, prompt width, y, x)``, from F1 of that shape."""
        features = self.scan_space(f1)
        if self.transform is not None:
            parts = torch.cat(self.transform(f1), dim=1)
            real, imag = self.scan_transform(parts).chunk(2, dim=1)
            features = torch.cat([features, self.transform.invert(real, imag)], dim=1)
        result: Tensor = self.fuse(features) * functional.silu(f1)
        return result


class EdgePrompt(nn.Module):
    """P_hf (eq. 5): what pooling and upsampling take away from F1, convolved twice.

    The prose has the names of M_avg and M_up swapped; the equation's order is pooling first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.convolve = nn.Sequential(conv3x3(width, width), nn.GELU(), conv3x3(width, width))

    def forward(self, f1: Tensor) -> Tensor:
        """Return P_hf, ``(batch, prompt width, y, x)``; both sides of F1 are even."""
        result: Tensor = self.convolve(f1 - self.upsample(self.pool(f1)))
        return result


class SpectralPrompt(nn.Module):
    """P_spe: the attention map between the channels of Y3.

    The paper gives it the shape C x C, so it is the map and not the attended feature.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = depthwise3x3(width, bias=False)
        self.key = depthwise3x3(width, bias=False)
        self.attention = SpectralAttention(heads=1)

    def forward(self, y3: Tensor) -> Tensor:
        """Return P_spe, ``(batch, 1, width, width)``, from Y3 ``(batch, width, y, x)``."""
        normed = to_first(self.norm(to_last(y3)))
        result: Tensor = self.attention(self.query(normed), self.key(normed))
        return result


class DynamicReceptivePromptNeck(nn.Module):
    """All prompts from the scene and the modelled point spectra (eqs. 4-7).

    Without the neck (``config.drpn`` off) Y1 alone is left and takes the place of Y3.

    Parameters
    ----------
    bands
        Bands of the scene.
    guide_channels
        Channels of the modelled point spectra.
    config
        The network's settings.
    """

    def __init__(self, bands: int, guide_channels: int, config: DyProConfig) -> None:
        super().__init__()
        width, narrow = config.width, config.prompt_width
        self.shallow = nn.Sequential(
            conv3x3(guide_channels + 1, width), nn.GELU(), conv3x3(width, width)
        )
        self.full = config.drpn
        if not config.drpn:
            return
        uses_f1 = config.spa or config.hf
        self.embed = conv3x3(bands, narrow) if uses_f1 else None
        self.spatial = SpatialPrompt(config) if config.spa else None
        self.refine_space = conv3x3(width + narrow * config.spa, width)
        self.edges = EdgePrompt(narrow) if config.hf else None
        self.refine_edges = conv3x3(width + narrow * config.hf, width)
        self.spectral = SpectralPrompt(width) if config.spe else None

    def forward(self, x: Tensor, guide: Tensor) -> Prompts:
        """Return the prompts of a scene ``(batch, band, y, x)`` and its guide, sides even."""
        # The paper averages R, G and B; with other bands, all of them.
        y1 = self.shallow(torch.cat([guide, x.mean(1, keepdim=True)], dim=1))
        if not self.full:
            return Prompts(y1, None)
        f1 = self.embed(x) if self.embed is not None else None
        y2 = self.refine_space(_joined(y1, self.spatial, f1))
        y3 = self.refine_edges(_joined(y2, self.edges, f1))
        return Prompts(y3, self.spectral(y3) if self.spectral is not None else None)


def _joined(y: Tensor, prompt: nn.Module | None, f1: Tensor | None) -> Tensor:
    """Return ``y`` with the prompt of F1 appended to its channels, if there is one."""
    return y if prompt is None else torch.cat([y, prompt(f1)], dim=1)
