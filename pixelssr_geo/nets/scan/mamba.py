"""The selective scan of the package ``mamba-ssm``: the CUDA kernels of Mamba's authors.

The package compiles its kernels when it is installed, for the torch that is there; ``pip install
"pixelssr-geo[cuda]"`` therefore needs ``nvcc``, and ``--no-build-isolation`` to see that torch. Two
environment variables matter then: up to release 2.3.2, ``MAMBA_FORCE_BUILD=TRUE`` compiles instead of
looking for a ready-made file on the net; later releases leave the scan out unless
``MAMBA_KEEP_CUDA_BUILD=TRUE``. Setting both serves both.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pixelssr_geo.nets.scan.autocast import without_autocast
from pixelssr_geo.nets.scan.walks import cached_walks

if TYPE_CHECKING:
    from pixelssr_geo.nets.scan.problem import ScanProblem

_MODULE = "mamba_ssm.ops.selective_scan_interface"
_KERNELS = "selective_scan_cuda"
_INSTALL = 'pip install "pixelssr-geo[cuda]"'


@lru_cache(maxsize=1)
def _import_failure() -> str | None:
    """Return why the package's scan cannot be imported; None if it can."""
    try:
        import_module(_MODULE).selective_scan_fn  # noqa: B018
        import_module(_KERNELS)  # newer releases import the function without it
    except Exception as error:  # noqa: BLE001 (a build for another torch fails in many ways)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"mamba-ssm cannot be imported ({said}): {_INSTALL}"
    return None


def missing(device: torch.device) -> str | None:
    """Return why the backend cannot serve ``device``; None if it can.

    The package is imported for a CUDA device alone: elsewhere its import can fail slowly. If it was
    built without its kernels, see the environment variables ``MAMBA_FORCE_BUILD`` and
    ``MAMBA_KEEP_CUDA_BUILD`` above.
    """
    if device.type != "cuda":
        return "needs a CUDA device"
    return _import_failure()


class _Projection(torch.autograd.Function):
    """Each walk's step sizes before the bias, with a backward pass that autocast does not reach."""

    @staticmethod
    def forward(ctx: Any, low: Tensor, w_dt: Tensor) -> Tensor:
        ctx.save_for_backward(low, w_dt)
        return torch.einsum("blkr,kdr->blkd", low, w_dt)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        low, w_dt = ctx.saved_tensors
        return (
            torch.einsum("blkd,kdr->blkr", gradient, w_dt),
            torch.einsum("blkd,blkr->kdr", gradient, low),
        )


def _walked(image: Tensor, walks: Tensor) -> Tensor:
    """Return ``(batch, direction, channel, step)`` from ``(batch, pixel, K or 1, channel)``."""
    directions = len(walks)
    image = image.permute(0, 2, 3, 1).expand(-1, directions, -1, -1)
    index = walks[None, :, None, :].expand_as(image)
    return image.gather(3, index)


def scan_with(function: Any, problem: ScanProblem) -> Tensor:
    """Return the sum of the scans by ``function``, with the contract of ``selective_scan_fn``.

    All directions are one call, in which each is a group of channels.
    """
    x, directions = problem.x, len(problem.directions)
    batch, length, channels = x.shape
    walks = cached_walks(problem.directions, problem.height, problem.width, device=x.device)
    sizes = [problem.rank, problem.states, problem.states]
    low, b, c = torch.split(problem.low, sizes, dim=-1)
    delta = _Projection.apply(  # type: ignore[no-untyped-call]
        low.expand(-1, -1, directions, -1), problem.w_dt.expand(directions, -1, -1)
    )
    scanned: Tensor = function(
        _walked(x.unsqueeze(2), walks.pixel).flatten(1, 2),
        _walked(delta, walks.pixel).flatten(1, 2),
        problem.a.expand(directions, -1, -1).flatten(0, 1),
        _walked(b, walks.pixel),
        _walked(c, walks.pixel),
        D=problem.d.expand(directions, -1).flatten(),
        delta_bias=problem.dt_bias.expand(directions, -1).flatten(),
        delta_softplus=True,
    )
    by_walk = scanned.view(batch, directions, channels, length)
    by_pixel = by_walk.gather(3, walks.step[None, :, None, :].expand_as(by_walk))
    return by_pixel.sum(1).transpose(1, 2)


def scan(problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``, float32.

    Memory: a copy of the input and of the step sizes for each direction.
    """
    return scan_with(import_module(_MODULE).selective_scan_fn, problem)
