"""The selective scan as its recurrence says, one step after the other: the truth for every backend.

``h_l = exp(dt_l A) h_{l-1} + dt_l B_l x_l`` and ``y_l = C_l h_l + D x_l``, with
``dt_l = softplus(W low_l + bias)`` (Mamba, arXiv:2312.00752, the form its published code computes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from pixelssr_geo.nets.scan.walks import inverse_index, walk_index

if TYPE_CHECKING:
    from pixelssr_geo.nets.scan.problem import ScanProblem


def scan_sequence(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, a: Tensor, d: Tensor) -> Tensor:
    """Return the scan of one batch of sequences, ``(batch, step, D)``.

    Parameters
    ----------
    x, dt
        Input and positive step sizes, ``(batch, step, D)``.
    b, c
        Input and output vectors of the state, ``(batch, step, N)``.
    a
        Negative decay rates, ``(D, N)``.
    d
        Skip weights, ``(D,)``.
    """
    state = x.new_zeros(x.shape[0], *a.shape)  # (batch, D, N)
    outputs = []
    for x_l, dt_l, b_l, c_l in zip(
        x.unbind(1), dt.unbind(1), b.unbind(1), c.unbind(1), strict=True
    ):
        state = torch.exp(dt_l[..., None] * a) * state + (dt_l * x_l)[..., None] * b_l[:, None]
        outputs.append((state * c_l[:, None]).sum(-1) + d * x_l)
    return torch.stack(outputs, dim=1)


def missing(device: torch.device) -> str | None:
    """Return why the backend cannot serve ``device``: it serves all."""
    return None


def scan(problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``, in any float dtype."""
    rank, states = problem.rank, problem.states
    total = torch.zeros_like(problem.x)
    for k, direction in enumerate(problem.directions):
        index = walk_index(direction, problem.height, problem.width, device=problem.x.device)
        low = problem.low[:, :, k % problem.low.shape[2]]
        w_dt, a, d, dt_bias = (
            t[k % len(t)] for t in (problem.w_dt, problem.a, problem.d, problem.dt_bias)
        )
        # Not a matrix product: autocast around the backward pass would reach into it.
        projected = (low[..., :rank, None] * w_dt.t()).sum(-2)
        dt = functional.softplus(projected + dt_bias)
        b, c = torch.split(low[..., rank:], states, dim=-1)
        x, dt, b, c = (t[:, index] for t in (problem.x, dt, b, c))
        walked = scan_sequence(x, dt, b, c, a, d)
        total = total + walked[:, inverse_index(index)]
    return total
