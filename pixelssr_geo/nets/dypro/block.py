"""The layers that DyPro-Mamba's parts share."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pixelssr_geo.nets.gated_scan import GatedScan
from pixelssr_geo.nets.layers import conv3x3, depthwise3x3, lengths, split_heads

if TYPE_CHECKING:
    from pixelssr_geo.nets.dypro.config import DyProConfig


def projection3x3(width: int, config: DyProConfig) -> nn.Conv2d:
    """Return the 3 x 3 convolution that makes a query, key or value, without bias."""
    if config.projections == "depthwise":
        return depthwise3x3(width)
    return conv3x3(width, width, bias=False)


def layer_norm(width: int, config: DyProConfig) -> nn.Module:
    """Return the norm in front of an attention or a scan, over the last axis."""
    return nn.LayerNorm(width) if config.norms else nn.Identity()


class SS2D(GatedScan):
    """M_scan: a gated selective scan along several walks, with norm before and residual around.

    VMamba's form, which the paper's four directions point to.

    Parameters
    ----------
    width
        Channels in and out.
    config
        The network's settings.
    expand
        Scanned channels for each channel.
    share
        Whether the directions share their scan parameters.
    """

    def __init__(self, width: int, config: DyProConfig, *, expand: int, share: bool) -> None:
        super().__init__(
            width,
            expand=expand,
            states=config.state,
            directions=config.directions,
            share=share,
            backend=config.scan_backend,
            norm=config.norms,
            residual=config.residuals,
        )


class SpectralAttention(nn.Module):
    """The attention map between channels, M_sft(K^T Q) (eq. 9).

    Parameters
    ----------
    heads
        Heads; each sees ``width / heads`` channels.
    config
        The network's settings.
    """

    def __init__(self, heads: int, config: DyProConfig) -> None:
        super().__init__()
        self.heads = heads
        self.axis = -1 if config.attention_sums == "rows" else -2
        self.temperature = (
            nn.Parameter(torch.ones(heads, 1, 1)) if config.attention == "cosine" else None
        )

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the map, ``(batch, head, channel of the key, channel of the query)``.

        Parameters
        ----------
        query, key
            ``(batch, channel, y, x)``.
        """
        q, k = split_heads(query, self.heads), split_heads(key, self.heads)
        product = k.mT @ q
        if self.temperature is not None:
            # Unit length over pixels, applied to the small product instead of the images.
            product = self.temperature * (product / (lengths(k).mT * lengths(q)))
        return torch.softmax(product, dim=self.axis)

    def own_macs(self, query: tuple[int, ...], key: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of K^T Q for inputs of these shapes."""
        del key  # has the query's shape
        return {"attention": prod(query) * query[1] // self.heads}
