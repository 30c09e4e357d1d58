"""Keeping automatic half precision out of backward passes."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Backward = Callable[[Any, Tensor], tuple[Tensor | None, ...]]


def without_autocast(backward: Backward) -> Backward:
    """Return ``backward(ctx, gradient)`` with autocast off in it.

    A backward pass runs in the autocast that is on where it is called, not in that of its forward
    pass, and there a matrix product of float32 gradients would be rounded to half precision.
    """

    @wraps(backward)
    def guarded(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            return backward(ctx, gradient)

    return guarded
