"""The selective scan by a kernel that numba compiles: the extra ``fast``."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.nets.scan.fused import CHUNK, KernelGradients, KernelInputs, fused_scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from pixelssr_geo.nets.scan.problem import ScanProblem


_INSTALL = 'pip install "pixelssr-geo[fast]"'


def _flat(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().numpy().reshape(-1)
    return array


def _shape(inputs: KernelInputs) -> tuple[int, ...]:
    _, pixels, channels = inputs.x.shape
    sets = inputs.low.shape[2], len(inputs.w_dt), len(inputs.a), len(inputs.dt_bias)
    states, rank = inputs.a.shape[2], inputs.w_dt.shape[2]
    return pixels, channels, states, rank, len(inputs.walks), *sets, CHUNK


def _kernels() -> ModuleType:
    """Return the module of the compiled functions, which imports numba."""
    return import_module("pixelssr_geo.nets.scan.numba_kernels")


class _Compiled:
    """The kernel's two functions, see :class:`pixelssr_geo.nets.scan.fused.Kernel`."""

    def forward(
        self, inputs: KernelInputs, y: Tensor, checkpoints: Tensor | None
    ) -> Callable[[tuple[int, int]], None]:
        """Return a function that computes a task."""
        compiled = _kernels().forward
        kept = np.empty(0, np.float32) if checkpoints is None else _flat(checkpoints)
        arguments = *map(_flat, inputs), _shape(inputs), _flat(y), kept

        def task(which: tuple[int, int]) -> None:
            compiled(*arguments, *which)

        return task

    def backward(
        self,
        inputs: KernelInputs,
        grad_y: Tensor,
        checkpoints: Tensor,
        gradients: KernelGradients,
        first_item: int,
    ) -> Callable[[tuple[int, int]], None]:
        """Return a function that computes a task's gradients."""
        compiled = _kernels().backward
        read = *map(_flat, inputs), _shape(inputs), _flat(grad_y), _flat(checkpoints)
        written = [_flat(tensor) for tensor in gradients]
        part = gradients.low[0, 0].numel()

        def task(which: tuple[int, int]) -> None:
            item, block = which
            at = ((item - first_item) * inputs.blocks + block) * part
            compiled(*read, *written, at, *which)

        return task


@lru_cache(maxsize=1)
def _absence() -> str | None:
    """Return why numba cannot compile; None if it can. It is imported or tried once in a process."""
    if find_spec("numba") is None:
        return f"not installed: {_INSTALL}"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}:
        return "NUMBA_DISABLE_JIT is set: unset it"
    try:
        _kernels()
    except Exception as error:  # noqa: BLE001 (it refuses other releases of numpy, or lacks LLVM)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"numba cannot be imported ({said}): {_INSTALL}"
    return None


_KERNEL = _Compiled()


def missing(device: torch.device) -> str | None:
    """Return why the backend cannot serve ``device``; None if it can.

    For a CPU, the first call in a process imports numba: about a second.
    """
    if device.type != "cpu":
        return "computes on a CPU only"
    return _absence()


def scan(problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``, float32.

    The first call on a machine compiles the kernel, some ten seconds; it is kept on disk.
    """
    return fused_scan(_KERNEL, problem)
