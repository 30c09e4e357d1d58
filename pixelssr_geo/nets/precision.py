"""Precision of float32 products on CUDA devices, for as long as a network runs.

PyTorch keeps it in flags of the process, and lets convolutions round to TF32 (10 bits of mantissa)
unless told otherwise. On CPUs nothing changes: bfloat16 there is 1.7e-2 off (tests/benchmarks/bfloat16.py).
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

Precision = Literal["float32", "tf32"]

_lock = Lock()
_inside = 0
_before = (False, False)


def _flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def _set_flags(matmul: bool, convolution: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = convolution


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Compute products and convolutions in ``precision`` meanwhile, in all threads.

    Threads may be inside at the same time with the same precision; the flags are what they were
    before when the last one leaves.

    Parameters
    ----------
    precision
        ``"float32"``, or ``"tf32"``: inputs rounded to 10 bits, sums in float32.
    """
    global _inside, _before
    with _lock:
        if not _inside:
            _before = _flags()
        _inside += 1
        _set_flags(precision == "tf32", precision == "tf32")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _set_flags(*_before)
