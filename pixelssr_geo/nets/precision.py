"""Precision of float32 products on CUDA devices, for as long as networks run or train.

PyTorch keeps it in settings of the process, and lets convolutions round to TF32 (10 bits of mantissa)
unless told otherwise. On CPUs nothing changes: bfloat16 there is 1.7e-2 off (tests/benchmarks/bfloat16.py).
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

Precision = Literal["float32", "tf32"]

_lock = Lock()
_inside = 0
_before: list[Any] = []


def _settings() -> list[tuple[Any, str, Any, Any]]:
    """Return where the settings are, and what stands for float32 and for TF32 there."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(convolutions, "conv"):  # PyTorch refuses the old names beside the new ones
        return [
            (products, "fp32_precision", "ieee", "tf32"),
            (convolutions.conv, "fp32_precision", "ieee", "tf32"),
        ]
    return [(place, "allow_tf32", False, True) for place in (products, convolutions)]


@contextmanager
def products_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute products and convolutions in ``precision`` meanwhile, in all threads.

    Threads may be inside at the same time with the same precision; the settings are what they were
    before when the last one leaves.

    Parameters
    ----------
    precision
        ``"float32"``, or ``"tf32"``: inputs rounded to 10 bits, sums in float32.
    device
        Where the network runs; nothing is touched unless that is a CUDA device.
    """
    global _inside, _before
    if device.type != "cuda":
        yield
        return
    places = _settings()
    with _lock:
        if not _inside:
            _before = [getattr(place, name) for place, name, *_ in places]
        _inside += 1
        for place, name, exact, rounded in places:
            setattr(place, name, rounded if precision == "tf32" else exact)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for (place, name, *_), value in zip(places, _before, strict=True):
                    setattr(place, name, value)
