"""The two-dimensional selective scan as a layer, and its parameters."""

from __future__ import annotations

from math import ceil, log, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.layers import depthwise3x3, to_first, to_last
from pixelssr_geo.nets.scan import selective_scan_2d
from pixelssr_geo.nets.scan.walks import DIRECTIONS


class ScanParameters(nn.Module):
    """Raw parameters of the selective scan along several walks.

    Parameters
    ----------
    width
        Channels of the layer around the scan; the rank of the step sizes is a sixteenth of it.
    inner
        Channels D that are scanned.
    states
        States N per scanned channel.
    directions
        Walks, see :func:`~pixelssr_geo.nets.scan.selective_scan_2d`.
    share
        Whether the directions share one set of parameters, or have a set each.
    backend
        Of the scan, see :func:`~pixelssr_geo.nets.scan.selective_scan_2d`.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        states: int,
        directions: tuple[int, ...],
        share: bool,
        backend: str,
    ) -> None:
        super().__init__()
        rank = ceil(width / 16)
        sets = 1 if share else len(directions)
        self.directions = directions
        self.backend = backend
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


class GatedScan(nn.Module):
    """SS2D: a gated selective scan along several walks.

    The form is VMamba's (Liu et al., NeurIPS 2024, arXiv:2401.10166).

    Parameters
    ----------
    width
        Channels in and out.
    expand
        Scanned channels for each channel.
    states
        States per scanned channel.
    directions
        Walks, see :func:`~pixelssr_geo.nets.scan.selective_scan_2d`.
    share
        Whether the directions share their scan parameters.
    backend
        Of the scan.
    norm
        Whether a LayerNorm goes before.
    residual
        Whether the image is added to the result.
    """

    def __init__(
        self,
        width: int,
        *,
        expand: int = 2,
        states: int = 16,
        directions: tuple[int, ...] = DIRECTIONS,
        share: bool = False,
        backend: str = "auto",
        norm: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        inner = expand * width
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        # Two layers, not one cut in half: either half would be strided, and slow in what follows.
        self.enter = nn.Linear(width, inner, bias=False)
        self.gate = nn.Linear(width, inner, bias=False)
        self.conv = depthwise3x3(inner, bias=True)
        self.scan = ScanParameters(
            width, inner, states=states, directions=directions, share=share, backend=backend
        )
        self.scan_norm = nn.LayerNorm(inner)
        self.leave = nn.Linear(inner, width, bias=False)
        self.residual = residual

    def forward(self, image: Tensor) -> Tensor:
        """Return the scanned image, ``(batch, channel, y, x)`` as the input."""
        normed = self.norm(to_last(image))
        x = functional.silu(to_last(self.conv(to_first(self.enter(normed)))))
        x = self.scan_norm(self.scan(x)) * functional.silu(self.gate(normed))
        scanned = to_first(self.leave(x))
        return image + scanned if self.residual else scanned
