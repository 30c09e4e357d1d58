"""The layers that DyPro-Mamba's parts share."""

from __future__ import annotations

from math import ceil, log, prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.layers import (
    conv3x3,
    depthwise3x3,
    lengths,
    split_heads,
    to_first,
    to_last,
)
from pixelssr_geo.nets.scan import selective_scan_2d

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


class ScanParameters(nn.Module):
    """Raw parameters of the selective scan along several walks.

    Parameters
    ----------
    width
        Channels of the layer around the scan; the rank of the step sizes is a sixteenth of it.
    inner
        Channels D that are scanned.
    config
        States, directions and backend.
    share
        Whether the directions share one set of parameters, or have a set each.
    """

    def __init__(self, width: int, inner: int, config: DyProConfig, *, share: bool) -> None:
        super().__init__()
        rank, states = ceil(width / 16), config.state
        sets = 1 if share else len(config.directions)
        self.directions = config.directions
        self.backend = config.scan_backend
        self.project = nn.Parameter(torch.empty(sets, rank + 2 * states, inner))
        self.w_dt = nn.Parameter(torch.empty(sets, inner, rank))
        self.dt_bias = nn.Parameter(torch.empty(sets, inner))
        self.a_log = nn.Parameter(torch.empty(sets, inner, states))
        self.d = nn.Parameter(torch.empty(sets, inner))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set Mamba's initial values: steps in [0.001, 0.1], rates -1 ... -N, skip 1."""
        inner, rank = self.w_dt.shape[1:]
        nn.init.uniform_(self.project, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.w_dt, -(rank**-0.5), rank**-0.5)
        steps = torch.empty_like(self.dt_bias).uniform_(log(1e-3), log(1e-1)).exp_()
        self.dt_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus of it is `steps`
        self.a_log.copy_(torch.arange(1, self.a_log.shape[2] + 1).log().expand_as(self.a_log))
        self.d.fill_(1.0)

    def forward(self, image: Tensor) -> Tensor:
        """Return the sum of the scans, ``(batch, y, x, D)``, of an image of that shape."""
        batch, height, width, inner = image.shape
        tokens = image.reshape(batch, height * width, inner)
        low = tokens @ self.project.flatten(0, 1).t()
        scanned = selective_scan_2d(
            tokens,
            low.view(batch, height * width, *self.project.shape[:2]),
            self.w_dt,
            -self.a_log.exp(),
            self.d,
            self.dt_bias,
            height=height,
            width=width,
            directions=self.directions,
            backend=self.backend,
        )
        return scanned.view(batch, height, width, inner)

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates for an image ``(batch, y, x, D)`` of this shape.

        A scan makes three for each state, channel, pixel and direction: decay, input and output;
        exponentials are not counted.
        """
        sets, inner, rank = self.w_dt.shape
        states = self.a_log.shape[2]
        pixels = prod(image[:3])
        return {
            "scan projections": pixels * sets * inner * (2 * rank + 2 * states),
            "scan": pixels * len(self.directions) * inner * states * 3,
        }


class SS2D(nn.Module):
    """M_scan: a gated selective scan along several walks, with norm before and residual around.

    The form is VMamba's (arXiv:2401.10166), which the paper's four directions point to.

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
        super().__init__()
        inner = expand * width
        self.norm = layer_norm(width, config)
        # Two layers, not one cut in half: either half would be strided, and slow in what follows.
        self.enter = nn.Linear(width, inner, bias=False)
        self.gate = nn.Linear(width, inner, bias=False)
        self.conv = depthwise3x3(inner, bias=True)
        self.scan = ScanParameters(width, inner, config, share=share)
        self.scan_norm = nn.LayerNorm(inner)
        self.leave = nn.Linear(inner, width, bias=False)
        self.residual = config.residuals

    def forward(self, image: Tensor) -> Tensor:
        """Return the scanned image, ``(batch, channel, y, x)`` as the input."""
        normed = self.norm(to_last(image))
        x = functional.silu(to_last(self.conv(to_first(self.enter(normed)))))
        x = self.scan_norm(self.scan(x)) * functional.silu(self.gate(normed))
        scanned = to_first(self.leave(x))
        return image + scanned if self.residual else scanned


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
