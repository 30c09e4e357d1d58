"""The Dynamic Receptive Prompt Neck: the paper's Section 3.2.1, equations 4 to 7."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.dypro.block import SS2D, SpectralAttention, layer_norm, projection3x3
from pixelssr_geo.nets.dypro.frft import FractionalFourier
from pixelssr_geo.nets.layers import GELU, concatenate, conv3x3, to_first, to_last

if TYPE_CHECKING:
    from pixelssr_geo.nets.dypro.config import DyProConfig


class Prompts(NamedTuple):
    """What the neck hands to the trunk."""

    y3: Tensor
    """Preliminary cube Y3, ``(batch, width, y, x)``."""
    spectral: Tensor | None
    """Spectral prompt P_spe, ``(batch, 1, width, width)``; None if it is switched off."""


class NeckFeatures(NamedTuple):
    """All that the neck computes on its way, for who looks at it; what is switched off is None."""

    f1: Tensor | None
    """Features F1 of the scene, ``(batch, prompt width, y, x)``."""
    y1: Tensor
    """Scene and guide, ``(batch, width, y, x)``."""
    spatial: Tensor | None
    """Spatial prompt P_spa, ``(batch, prompt width, y, x)``."""
    y2: Tensor
    """Y1 and P_spa, ``(batch, width, y, x)``."""
    edges: Tensor | None
    """Edge prompt P_hf, ``(batch, prompt width, y, x)``."""
    y3: Tensor
    """Y2 and P_hf, the preliminary cube Y3, ``(batch, width, y, x)``."""
    spectral: Tensor | None
    """Spectral prompt P_spe, ``(batch, 1, width, width)``."""


class SpatialPrompt(nn.Module):
    """P_spa (eq. 4): scans in space and in the fractional Fourier domain, gated by F1."""

    def __init__(self, config: DyProConfig) -> None:
        super().__init__()
        width = config.prompt_width
        self.config = config
        self.transform: FractionalFourier | None = None
        self.scan_space = self._scan(width)
        if config.transform != "none":
            fractional = config.transform == "frft"
            self.transform = FractionalFourier(
                config.initial_order if fractional else 1.0,
                learnable=fractional and config.learn_order,
            )
            self.scan_transform = self._scan(2 * width if config.parts == "together" else width)
        self.fuse = conv3x3(width if self.transform is None else 2 * width, width)

    def _scan(self, width: int) -> SS2D:
        expand = max(1, self.config.prompt_inner // width)
        return SS2D(width, self.config, expand=expand, share=False)

    def forward(self, f1: Tensor) -> Tensor:
        """Return P_spa, ``(batch, prompt width, y, x)``, from F1 of that shape."""
        features = self.scan_space(f1)
        if self.transform is not None:
            features = concatenate(features, self._through_transform(self.transform, f1))
        gate = functional.silu(f1)
        if self.config.gate == "before":
            repeats = features.shape[1] // gate.shape[1]
            before: Tensor = self.fuse(features * gate.repeat(1, repeats, 1, 1))
            return before
        after: Tensor = self.fuse(features) * gate
        return after

    def _through_transform(self, transform: FractionalFourier, f1: Tensor) -> Tensor:
        """Return F_FRFT, ``(batch, prompt width, y, x)``."""
        real, imag = transform(f1)
        if self.config.parts == "together":
            real, imag = self.scan_transform(concatenate(real, imag)).chunk(2, dim=1)
        else:
            real, imag = self.scan_transform(torch.cat([real, imag])).chunk(2)
        real, imag = transform.invert(real, imag)
        if self.config.inverse == "magnitude":
            return torch.hypot(real, imag)
        return real


class EdgePrompt(nn.Module):
    """P_hf (eq. 5): what pooling and upsampling take away from F1, convolved twice."""

    def __init__(self, config: DyProConfig) -> None:
        super().__init__()
        width, mode = config.prompt_width, config.upsampling
        self.pool = nn.AvgPool2d(2)
        self.upsample = nn.Upsample(
            scale_factor=2, mode=mode, align_corners=False if mode == "bilinear" else None
        )
        self.convolve = nn.Sequential(conv3x3(width, width), GELU(), conv3x3(width, width))

    def forward(self, f1: Tensor) -> Tensor:
        """Return P_hf, ``(batch, prompt width, y, x)``; both sides of F1 are even."""
        result: Tensor = self.convolve(f1 - self.upsample(self.pool(f1)))
        return result


class SpectralPrompt(nn.Module):
    """P_spe: the attention map between the channels of Y3.

    The paper gives it the shape C x C, so it is the map and not the attended feature.
    """

    def __init__(self, config: DyProConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = layer_norm(width, config)
        self.query = projection3x3(width, config)
        self.key = projection3x3(width, config)
        self.attention = SpectralAttention(1, config)

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
            conv3x3(guide_channels + 1, width), GELU(), conv3x3(width, width)
        )
        self.full = config.drpn
        self.grey = list(config.grey)
        if any(not 0 <= band < bands for band in self.grey):
            raise SettingsError(
                f"grey names bands {config.grey}, expected some of 0 to {bands - 1}: the scene has "
                f"{bands} bands"
            )
        if not config.drpn:
            return
        uses_f1 = config.spa or config.hf
        self.embed = conv3x3(bands, narrow) if uses_f1 else None
        self.spatial = SpatialPrompt(config) if config.spa else None
        self.refine_space = conv3x3(width + narrow * config.spa, width)
        self.edges = EdgePrompt(config) if config.hf else None
        self.refine_edges = conv3x3(width + narrow * config.hf, width)
        read = config.prompt_ssm != "no-attention"  # nobody else looks at P_spe
        self.spectral = SpectralPrompt(config) if config.spe and read else None

    def forward(self, x: Tensor, guide: Tensor) -> Prompts:
        """Return the prompts of a scene ``(batch, band, y, x)`` and its guide, sides even."""
        found = self.features(x, guide)
        return Prompts(found.y3, found.spectral)

    def features(self, x: Tensor, guide: Tensor) -> NeckFeatures:
        """Return all features of a scene ``(batch, band, y, x)`` and its guide, sides even."""
        grey = x[:, self.grey] if self.grey else x
        y1 = self.shallow(concatenate(guide, grey.mean(1, keepdim=True)))
        if not self.full:
            return NeckFeatures(None, y1, None, y1, None, y1, None)
        f1 = self.embed(x) if self.embed is not None else None
        spatial = self.spatial(f1) if self.spatial is not None else None
        y2 = self.refine_space(_joined(y1, spatial))
        edges = self.edges(f1) if self.edges is not None else None
        y3 = self.refine_edges(_joined(y2, edges))
        spectral = self.spectral(y3) if self.spectral is not None else None
        return NeckFeatures(f1, y1, spatial, y2, edges, y3, spectral)


def _joined(y: Tensor, prompt: Tensor | None) -> Tensor:
    """Return ``y`` with a prompt appended to its channels, if there is one."""
    return y if prompt is None else concatenate(y, prompt)
