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

from pixelssr_geo.nets.scan.walks import inverse_index, walk_index

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


@lru_cache(maxsize=64)
def _walks(
    directions: tuple[int, ...], height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the pixel of each step and the step of each pixel, ``(direction, L)`` both."""
    with torch.inference_mode(False):  # a cached index must serve training, too
        indices = [walk_index(k, height, width) for k in directions]
        inverses = [inverse_index(index) for index in indices]
        return torch.stack(indices).to(device), torch.stack(inverses).to(device)


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
    walks, inverse = _walks(problem.directions, problem.height, problem.width, x.device)
    sizes = [problem.rank, problem.states, problem.states]
    low, b, c = torch.split(problem.low, sizes, dim=-1)
    with torch.autocast(x.device.type, enabled=False):  # step sizes in the input's precision
        delta = torch.einsum(
            "blkr,kdr->blkd",
            low.expand(-1, -1, directions, -1),
            problem.w_dt.expand(directions, -1, -1),
        )
    scanned: Tensor = function(
        _walked(x.unsqueeze(2), walks).flatten(1, 2),
        _walked(delta, walks).flatten(1, 2),
        problem.a.expand(directions, -1, -1).flatten(0, 1),
        _walked(b, walks),
        _walked(c, walks),
        D=problem.d.expand(directions, -1).flatten(),
        delta_bias=problem.dt_bias.expand(directions, -1).flatten(),
        delta_softplus=True,
    )
    by_walk = scanned.view(batch, directions, channels, length)
    by_pixel = by_walk.gather(3, inverse[None, :, None, :].expand_as(by_walk))
    return by_pixel.sum(1).transpose(1, 2)


def scan(problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``, float32.

    Memory: a copy of the input and of the step sizes for each direction.
    """
    return scan_with(import_module(_MODULE).selective_scan_fn, problem)
