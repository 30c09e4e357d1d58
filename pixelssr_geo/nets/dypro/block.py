"""The layers that DyPro-Mamba's parts share.

Images stay channels-last in memory: it is the scan's own order, and the faster one for the depthwise
convolutions.
"""

from __future__ import annotations

from math import ceil, log, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.nets.scan import selective_scan_2d
from pixelssr_geo.nets.scan.walks import DIRECTIONS


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return M_3x3, the paper's 3 x 3 convolution, with bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def depthwise3x3(width: int, *, bias: bool) -> nn.Conv2d:
    """Return a 3 x 3 convolution of each channel by itself."""
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=bias)


def to_last(image: Tensor) -> Tensor:
    """Return ``(batch, y, x, channel)`` from ``(batch, channel, y, x)``; no copy."""
    return image.permute(0, 2, 3, 1)


def to_first(image: Tensor) -> Tensor:
    """Return ``(batch, channel, y, x)`` from ``(batch, y, x, channel)``; no copy."""
    return image.permute(0, 3, 1, 2)


class ScanParameters(nn.Module):
    """Raw parameters of the four-direction selective scan.

    Parameters
    ----------
    width
        Channels of the layer around the scan; the rank of the step sizes is a sixteenth of it.
    inner
        Channels D that are scanned.
    states
        States N per channel.
    sets
        1: shared by the four directions; 4: one set for each.
    """

    def __init__(self, width: int, inner: int, states: int, sets: int) -> None:
        super().__init__()
        rank = ceil(width / 16)
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

    def forward(self, image: Tensor, backend: str) -> Tensor:
        """Return the sum of the four scans, ``(batch, y, x, D)``, of an image of that shape."""
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
            backend=backend,
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
            "scan": pixels * len(DIRECTIONS) * inner * states * 3,
        }


class SS2D(nn.Module):
    """M_scan: a gated selective scan along four walks, with norm before and residual around.

    The form is VMamba's (arXiv:2401.10166), which the paper's four directions point to.

    Parameters
    ----------
    width
        Channels in and out.
    expand
        Scanned channels for each channel.
    states
        States per scanned channel.
    share
        Whether the four directions share their scan parameters.
    backend
        Scan backend, see :func:`pixelssr_geo.nets.scan.selective_scan_2d`.
    """

    def __init__(
        self, width: int, *, expand: int, states: int, share: bool, backend: str = "auto"
    ) -> None:
        super().__init__()
        inner = expand * width
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 2 * inner, bias=False)
        self.conv = depthwise3x3(inner, bias=True)
        self.scan = ScanParameters(width, inner, states, 1 if share else 4)
        self.scan_norm = nn.LayerNorm(inner)
        self.leave = nn.Linear(inner, width, bias=False)
        self.backend = backend

    def forward(self, image: Tensor) -> Tensor:
        """Return the scanned image, ``(batch, channel, y, x)`` as the input."""
        x, gate = self.enter(self.norm(to_last(image))).chunk(2, dim=-1)
        x = functional.silu(to_last(self.conv(to_first(x))))
        x = self.scan_norm(self.scan(x, self.backend)) * functional.silu(gate)
        return image + to_first(self.leave(x))


class SpectralAttention(nn.Module):
    """The attention map between channels, of MST's spectral-wise attention (M_sft(K^T Q), eq. 9).

    Query and key have unit length over all pixels, and each head has a learnt temperature, as in
    MST++ (the paper's reference for its attention); the paper prints neither.

    Parameters
    ----------
    heads
        Heads; each sees ``width / heads`` channels.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Return rows that sum to one, ``(batch, head, channel, channel)``.

        Parameters
        ----------
        query, key
            ``(batch, channel, y, x)``.
        """
        q, k = split_heads(query, self.heads), split_heads(key, self.heads)
        # Unit length over pixels, applied to the small product instead of the images.
        lengths = k.norm(dim=2).unsqueeze(3) * q.norm(dim=2).unsqueeze(2)
        cosine = (k.mT @ q) / lengths.clamp_min(1e-12)
        return torch.softmax(self.temperature * cosine, dim=-1)

    def own_macs(self, query: tuple[int, ...], key: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of K^T Q for inputs of these shapes."""
        del key  # has the query's shape
        return {"attention": prod(query) * query[1] // self.heads}


def split_heads(image: Tensor, heads: int) -> Tensor:
    """Return ``(batch, head, pixel, channel of the head)`` from ``(batch, channel, y, x)``."""
    batch, width, rows, columns = image.shape
    tokens = to_last(image).reshape(batch, rows * columns, heads, width // heads)
    return tokens.transpose(1, 2)
