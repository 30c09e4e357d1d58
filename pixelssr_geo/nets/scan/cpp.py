"""The selective scan by a C++ kernel, built on first use where there is a compiler."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pixelssr_geo.errors import DeviceError
from pixelssr_geo.nets.scan.cpp_build import built_library
from pixelssr_geo.nets.scan.fused import (
    CHUNK,
    KernelGradients,
    KernelInputs,
    fused_scan,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from pixelssr_geo.nets.scan.problem import ScanProblem

SOURCE = Path(__file__).with_name("scan.cpp")
_POINTERS = "x", "low", "w_dt", "a", "skip", "dt_bias", "walks"
_SIZES = "pixels", "channels", "states", "rank", "directions"
_SETS = "low_sets", "w_sets", "a_sets", "bias_sets"


class _Scan(ctypes.Structure):
    """``Scan`` of scan.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in (*_SIZES, *_SETS, "chunk")),
    ]


class _Gradients(ctypes.Structure):
    """``Gradients`` of scan.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("x", "low", "w_dt", "a", "skip", "dt_bias")]


def _scan_structure(inputs: KernelInputs) -> _Scan:
    _, pixels, channels = inputs.x.shape
    return _Scan(
        *(t.data_ptr() for t in inputs),
        pixels,
        channels,
        inputs.a.shape[2],
        inputs.w_dt.shape[2],
        len(inputs.walks),
        inputs.low.shape[2],
        len(inputs.w_dt),
        len(inputs.a),
        len(inputs.dt_bias),
        CHUNK,
    )


def _check(status: int) -> None:
    if status:
        raise MemoryError("the C++ scan has no memory for its scratch: use fewer threads")


class _Library:
    """The kernel's two functions, see :class:`pixelssr_geo.nets.scan.fused.Kernel`."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._forward = library.pixelssr_scan_forward
        self._backward = library.pixelssr_scan_backward
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._forward.argtypes = (ctypes.POINTER(_Scan), number, number, pointer, pointer)
        self._backward.argtypes = (
            ctypes.POINTER(_Scan),
            number,
            number,
            pointer,
            pointer,
            ctypes.POINTER(_Gradients),
        )

    def forward(
        self, inputs: KernelInputs, y: Tensor, checkpoints: Tensor | None
    ) -> Callable[[tuple[int, int]], None]:
        """Return a function that computes a task."""
        scan = _scan_structure(inputs)
        kept = None if checkpoints is None else checkpoints.data_ptr()

        def task(which: tuple[int, int]) -> None:
            _check(self._forward(scan, *which, y.data_ptr(), kept))

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
        scan = _scan_structure(inputs)

        def task(which: tuple[int, int]) -> None:
            item, block = which
            grad = _Gradients(
                gradients.x[item].data_ptr(),
                gradients.low[item - first_item, block].data_ptr(),
                *(t[item].data_ptr() for t in gradients[2:]),
            )
            _check(self._backward(scan, *which, grad_y.data_ptr(), checkpoints.data_ptr(), grad))

        return task


def _opened() -> _Library:
    """Return the kernel; a library that is there and does not open is made once more."""
    try:
        return _Library(built_library(SOURCE))
    except OSError:
        return _Library(built_library(SOURCE, anew=True))


@lru_cache(maxsize=1)
def _load() -> _Library | str:
    """Return the kernel, or why there is none; it is built or tried once in a process."""
    try:
        return _opened()
    except DeviceError as error:
        return str(error)
    except (OSError, AttributeError) as error:
        return f"the C++ kernel cannot be loaded ({error}): set PIXELSSR_CACHE to another folder"


_loading = Lock()


def missing(device: torch.device) -> str | None:
    """Return why the backend cannot serve ``device``; None if it can.

    The first call in a process loads the kernel, and the first on a machine builds it: seconds.
    """
    if device.type != "cpu":
        return "computes on a CPU only"
    with _loading:
        kernel = _load()
    return kernel if isinstance(kernel, str) else None


def scan(problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``, float32.

    Raises
    ------
    DeviceError
        If the kernel is not there: see :func:`missing`.
    """
    with _loading:
        kernel = _load()
    if isinstance(kernel, str):
        raise DeviceError(f"scan backend 'cpp': {kernel}")
    return fused_scan(kernel, problem)
