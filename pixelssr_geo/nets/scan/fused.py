"""The scan by a kernel that does all of it at once, for CPUs: what such backends have in common.

A kernel computes independent tasks, each one batch item and one block of channels, and walks all
directions in it. Tasks share no output, or write parts that are summed here in a fixed order, so
the result has the same bits whatever the number of threads. Beside inputs and outputs there is one
state for every :data:`CHUNK` steps; the backward pass makes the others again.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch.autograd.function import once_differentiable

from pixelssr_geo.nets.scan.autocast import without_autocast
from pixelssr_geo.nets.scan.problem import TENSORS, ScanProblem
from pixelssr_geo.nets.scan.walks import cached_walks
from pixelssr_geo.process import core_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    Task = tuple[int, int]  # batch item, block of channels

BLOCK = 16
"""Channels that one task takes; the last block may be partial."""
CHUNK = 64
"""Steps between two states that are kept for the backward pass."""
_TASKS_AT_ONCE = 8  # for each thread, in the backward pass; bounds the memory for their parts


class KernelInputs(NamedTuple):
    """What a kernel reads; float32, contiguous, on the CPU, unless told otherwise."""

    x: Tensor
    """``(batch, pixel, D)``."""
    low: Tensor
    """``[dt low rank | B | C]``, ``(batch, pixel, K or 1, R + 2N)``."""
    w_dt: Tensor
    """``(K or 1, D, R)``."""
    a: Tensor
    """``(K or 1, D, N)``."""
    skip: Tensor
    """Skip weights summed over the directions, ``(D,)``."""
    dt_bias: Tensor
    """``(K or 1, D)``."""
    walks: Tensor
    """Pixel at each step of each walk, int32, ``(K, pixel)``."""

    @property
    def blocks(self) -> int:
        """Blocks of channels."""
        return -(-self.x.shape[2] // BLOCK)

    @property
    def tasks(self) -> list[Task]:
        """All tasks, item by item."""
        return list(product(range(len(self.x)), range(self.blocks)))


class KernelGradients(NamedTuple):
    """What a kernel's backward pass writes; all but ``x`` and ``skip`` it adds to."""

    x: Tensor
    """``(batch, pixel, D)``."""
    low: Tensor
    """Parts, ``(item of the group, block, pixel, K or 1, R + 2N)``."""
    w_dt: Tensor
    """``(batch, K or 1, D, R)``."""
    a: Tensor
    """``(batch, K or 1, D, N)``."""
    skip: Tensor
    """``(batch, D)``."""
    dt_bias: Tensor
    """``(batch, K or 1, D)``."""


class Kernel(Protocol):
    """A compiled scan. Its calls let go of the GIL and may run side by side."""

    def forward(
        self, inputs: KernelInputs, y: Tensor, checkpoints: Tensor | None
    ) -> Callable[[Task], None]:
        """Return a function that writes what a task gives to ``y``, ``(batch, pixel, D)``.

        With ``checkpoints``, ``(batch, block, K, chunk, N * BLOCK)``, it writes them, too.
        """
        ...

    def backward(
        self,
        inputs: KernelInputs,
        grad_y: Tensor,
        checkpoints: Tensor,
        gradients: KernelGradients,
        first_item: int,
    ) -> Callable[[Task], None]:
        """Return a function that writes what a task gives to ``gradients``.

        ``gradients.low`` holds the parts of items from ``first_item`` on.
        """
        ...


def _inputs(problem: ScanProblem) -> KernelInputs:
    """Return the problem as a kernel reads it."""
    height, width, directions = problem.rest
    walks = cached_walks(directions, height, width, device=problem.x.device, dtype=torch.int32)
    read = problem._replace(d=problem.skip).tensors
    x, low, w_dt, a, skip, dt_bias = (t.detach().contiguous() for t in read)
    return KernelInputs(x, low, w_dt, a, skip, dt_bias, walks.pixel)


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process; a fork has none of its parent's."""
    return ThreadPoolExecutor(core_count(), thread_name_prefix="pixelssr-scan")


def _run(task: Callable[[Task], None], tasks: Iterable[Task], threads: int) -> None:
    """Run all tasks in this thread and ``threads - 1`` others, in any order."""
    left = deque(tasks)

    def work() -> None:
        while True:
            try:
                item = left.popleft()
            except IndexError:
                return
            task(item)

    helpers = min(threads, len(left)) - 1
    futures = [_pool(os.getpid()).submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        left.clear()
        # Those that did not begin, for other calls keep the threads busy, have nothing to do.
        begun = [future for future in futures if not future.cancel()]
        for future in begun:
            future.result()


def _zeros(like: Tensor, batch: int) -> Tensor:
    return like.new_zeros(batch, *like.shape)


def _sum_items(parts: Tensor, shape: torch.Size) -> Tensor:
    """Return the sum over the first axis, always added up in the same order."""
    total = parts.new_zeros(shape)
    for part in parts:
        total += part
    return total


class _FusedScan(torch.autograd.Function):
    """The scan by a kernel, with a backward pass that recomputes."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, differentiable: bool, *arguments: Any) -> Tensor:
        problem = ScanProblem(*arguments)
        inputs = _inputs(problem)
        batch, pixels, _ = inputs.x.shape
        y = torch.empty_like(inputs.x)
        checkpoints = None
        if differentiable:
            chunks = -(-pixels // CHUNK)
            shape = batch, inputs.blocks, len(inputs.walks), chunks, problem.states * BLOCK
            checkpoints = y.new_empty(shape)
            ctx.save_for_backward(*problem.tensors, checkpoints)
            ctx.kernel, ctx.rest = kernel, problem.rest
        _run(kernel.forward(inputs, y, checkpoints), inputs.tasks, torch.get_num_threads())
        return y

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        problem = ScanProblem(*ctx.saved_tensors[:TENSORS], *ctx.rest)
        checkpoints = ctx.saved_tensors[TENSORS]
        gradients = _gradients(
            ctx.kernel, _inputs(problem), grad_y.contiguous(), checkpoints, torch.get_num_threads()
        )
        d = problem.gradient_of_d(gradients.skip)
        found = (gradients.x, gradients.low, gradients.w_dt, gradients.a, d, gradients.dt_bias)
        needed = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *(t if need else None for t, need in zip(found, needed, strict=False)),
            *(None for _ in ctx.rest),
        )


def _gradients(
    kernel: Kernel, inputs: KernelInputs, grad_y: Tensor, checkpoints: Tensor, threads: int
) -> KernelGradients:
    """Return the gradients in the shapes of the inputs.

    Items are done in groups, to bound the memory for the parts that blocks of channels give to the
    gradient of ``low``; how they are grouped changes no sum.
    """
    batch, blocks = len(inputs.x), inputs.blocks
    low = torch.empty_like(inputs.low)
    gradients = KernelGradients(
        x=torch.empty_like(inputs.x),
        low=low,
        w_dt=_zeros(inputs.w_dt, batch),
        a=_zeros(inputs.a, batch),
        skip=_zeros(inputs.skip, batch),
        dt_bias=_zeros(inputs.dt_bias, batch),
    )
    together = max(1, threads * _TASKS_AT_ONCE // blocks)
    for first in range(0, batch, together):
        items = range(first, min(first + together, batch))
        parts = low.new_zeros(len(items), blocks, *low.shape[1:])
        into = gradients._replace(low=parts)
        task = kernel.backward(inputs, grad_y, checkpoints, into, first)
        _run(task, product(items, range(blocks)), threads)
        torch.sum(parts, 1, out=low[first : items.stop])
    return gradients._replace(
        w_dt=_sum_items(gradients.w_dt, inputs.w_dt.shape),
        a=_sum_items(gradients.a, inputs.a.shape),
        skip=_sum_items(gradients.skip, inputs.skip.shape),
        dt_bias=_sum_items(gradients.dt_bias, inputs.dt_bias.shape),
    )


def fused_scan(kernel: Kernel, problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``, float32, on the CPU.

    Any sizes. The kernel's tasks are spread over ``torch.get_num_threads()`` threads. Memory beside
    inputs and outputs: K / 4 times the size of ``x`` for 16 states, kept for the backward pass.
    """
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in problem.tensors)
    result: Tensor = _FusedScan.apply(kernel, differentiable, *problem)  # type: ignore[no-untyped-call]
    return result
