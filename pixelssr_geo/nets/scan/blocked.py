"""A selective scan in pure torch that runs blocks of the sequence side by side.

The walk is cut into blocks. All blocks step together, first from an empty state to learn where each
one ends; a short loop over blocks then carries the state across, and a second pass starts every
block from its true state. Only exponentials of non-positive numbers occur, so nothing overflows at
any step size (cumulative-sum forms divide by a decay and do). The exponentials are the costly part
and are made once per element, into a buffer small enough for the cache; the backward pass makes
everything again from the inputs, segment by segment, so its memory does not grow with batch size
or sequence length.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, isqrt
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pixelssr_geo.nets.scan.autocast import without_autocast
from pixelssr_geo.nets.scan.problem import TENSORS, ScanProblem
from pixelssr_geo.nets.scan.walks import cached_walks, inverse_index

_Group = list[tuple[int, int]]  # (batch item, number of the direction)
# Elements (row, N, D) that one step works on: about the L2 cache of a core, or enough to fill a
# GPU. Smaller steps pay for Python, larger ones for memory.
_STEP_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 23}
# Elements (step, row, N, D) of one stored buffer; the backward pass holds two such buffers.
_SEGMENT_ELEMENTS = {"cpu": 5 << 20, "cuda": 1 << 28}


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a walk of ``length`` steps is cut: step ``l`` is ``(segment, time, block)`` of it."""

    length: int
    """Steps of the walk."""
    segments: int
    """Segments, done one after the other."""
    steps: int
    """Steps in a block, done one after the other."""
    blocks: int
    """Blocks in a segment, done side by side."""
    fold: int
    """Sequences that are done side by side."""


def _layout(length: int, state_elements: int, sequences: int, device: str) -> _Layout:
    """Return the cut for sequences whose state has ``state_elements`` numbers."""
    rows = max(1, _STEP_ELEMENTS.get(device, 1 << 20) // state_elements)
    longest = max(1, _SEGMENT_ELEMENTS.get(device, 1 << 24) // state_elements)
    segments = ceil(length / longest)
    part = ceil(length / segments)
    # Carrying over a block costs about a quarter of a step, in Python rather than arithmetic.
    blocks = min(rows, part, max(1, 3 * isqrt(part)))
    steps = ceil(part / blocks)
    fold = max(1, min(sequences, rows // blocks, longest // (steps * blocks)))
    return _Layout(length, ceil(length / (steps * blocks)), steps, blocks, fold)


@dataclass(frozen=True, slots=True, eq=False)
class _Slots:
    """Where the steps of walks lie; slots are numbered ``(segment, time, block)``."""

    pixel: Tensor
    """Pixel of each slot, ``(walk, slot)``; behind the end of the walk, its last pixel."""
    of_pixel: Tensor
    """Slot of each pixel, ``(walk, pixel)``."""
    padding: Tensor
    """Slots behind the end of the walks, ``(slot,)``."""


def _slots(problem: ScanProblem, layout: _Layout) -> _Slots:
    """Return the slots of a problem's walks."""
    height, width, directions = problem.rest
    walks = cached_walks(directions, height, width, device=problem.x.device)
    padded = layout.segments * layout.blocks * layout.steps
    order = torch.arange(padded, device=problem.x.device)
    order = order.view(layout.segments, layout.blocks, layout.steps)
    order = order.transpose(1, 2).reshape(-1)  # step of the walk, by slot
    of_step = inverse_index(order)
    return _Slots(
        pixel=walks.pixel[:, order.clamp(max=layout.length - 1)],
        of_pixel=of_step[walks.step],
        padding=of_step[layout.length :],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sequences:
    """Sequences that step side by side; a row is a block of one of them."""

    dt: Tensor
    """Step sizes, ``(segment, time, row, D)``."""
    x: Tensor
    """Input, ``(segment, time, row, D)``."""
    b: Tensor
    """Input vectors, ``(segment, time, row, N)``."""
    c: Tensor
    """Output vectors, ``(segment, time, row, N)``."""
    a: Tensor
    """Decay rates, ``(sequence, 1, N, D)``."""

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """Shape of one state a row, ``(sequence, block, N, D)``."""
        sequences, _, states, width = self.a.shape
        return sequences, self.dt.shape[2] // sequences, states, width


def _decays(seq: _Sequences, segment: int, out: Tensor) -> Tensor:
    """Return ``exp(dt A)``, ``(time, row, N, D)``, written to ``out``."""
    shape = seq.state_shape
    for dt, slab in zip(seq.dt[segment], out, strict=True):
        torch.mul(dt.view(*shape[:2], 1, shape[3]), seq.a, out=slab.view(shape))
        slab.exp_()
    return out


def _block_decays(seq: _Sequences, segment: int) -> Tensor:
    """Return the decay over each whole block, ``(sequence, block, N, D)``."""
    shape = seq.state_shape
    return seq.dt[segment].sum(0).view(*shape[:2], 1, shape[3]).mul(seq.a).exp_()


def _carry(ends: Tensor, decays: Tensor, state: Tensor, *, reverse: bool) -> tuple[Tensor, Tensor]:
    """Return the state each block starts from, and the one behind the last block.

    Parameters
    ----------
    ends
        State that each block reaches from an empty one, ``(sequence, block, N, D)``.
    decays
        Decay over each block, same shape.
    state
        State before the first block, ``(sequence, N, D)``.
    reverse
        Go from the last block to the first, as gradients do.
    """
    starts = torch.empty_like(ends)
    blocks = range(ends.shape[1])
    for block in reversed(blocks) if reverse else blocks:
        starts[:, block] = state
        state = torch.addcmul(ends[:, block], decays[:, block], state)
    return starts, state


def _block_starts(
    seq: _Sequences, segment: int, decay: Tensor, u: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each block's first state, ``(row, N, D)``, and the state behind the segment."""
    h = torch.zeros_like(decay[0])
    for t in range(len(decay)):
        h.mul_(decay[t]).addcmul_(seq.b[segment, t].unsqueeze(2), u[t].unsqueeze(1))
    ends = h.view(seq.state_shape)
    starts, state = _carry(ends, _block_decays(seq, segment), state, reverse=False)
    return starts.view_as(h), state


def _contract_states(weights: Tensor, h: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Write ``sum_n weights[row, n] h[row, n, d]`` to ``out`` ``(row, D)``."""
    if h.shape[2] >= 48:
        torch.bmm(weights.unsqueeze(1), h, out=out.unsqueeze(1))
    else:  # many small products: vertical sums are faster
        torch.mul(h, weights.unsqueeze(2), out=scratch)
        torch.sum(scratch, 1, out=out)


def _forward(seq: _Sequences) -> tuple[Tensor, Tensor]:
    """Return the output without skip, ``(segment, time, row, D)``, and each segment's first state.

    The latter, ``(segment, sequence, N, D)``, is all that the backward pass wants to keep.
    """
    steps, rows = seq.dt.shape[1:3]
    states, width = seq.a.shape[2:]
    y = torch.empty_like(seq.x)
    decay = seq.x.new_empty(steps, rows, states, width)
    scratch = torch.empty_like(decay[0])
    state = seq.x.new_zeros(seq.a.shape[0], states, width)
    firsts = []
    for segment in range(len(seq.dt)):
        firsts.append(state)
        u = seq.dt[segment] * seq.x[segment]
        _decays(seq, segment, decay)
        h, state = _block_starts(seq, segment, decay, u, state)
        for t in range(steps):
            h.mul_(decay[t]).addcmul_(seq.b[segment, t].unsqueeze(2), u[t].unsqueeze(1))
            _contract_states(seq.c[segment, t], h, y[segment, t], scratch)
    return y, torch.stack(firsts)


@dataclass(frozen=True, slots=True, eq=False)
class _Gradients:
    """Gradients of a ``_Sequences``, same shapes; ``u`` is ``dt x``."""

    dt: Tensor
    u: Tensor
    b: Tensor
    c: Tensor
    a: Tensor


def _backward(seq: _Sequences, firsts: Tensor, dy: Tensor) -> _Gradients:
    """Return the gradients of :func:`_forward` for the output's gradient ``dy``."""
    steps, rows = seq.dt.shape[1:3]
    states, width = seq.a.shape[2:]
    decay = seq.x.new_empty(steps, rows, states, width)
    history = torch.empty_like(decay)
    grad = _Gradients(
        dt=torch.empty_like(seq.dt),
        u=torch.empty_like(seq.x),
        b=torch.empty_like(seq.b),
        c=torch.empty_like(seq.c),
        a=torch.zeros_like(decay[0]),
    )
    late = torch.zeros_like(firsts[0])  # gradient that reaches a segment's last state from behind
    for segment in reversed(range(len(seq.dt))):
        u = seq.dt[segment] * seq.x[segment]
        _decays(seq, segment, decay)
        start, _ = _block_starts(seq, segment, decay, u, firsts[segment])
        _replay(seq, segment, decay, u, start, dy, history, grad)
        late = _backward_segment(seq, segment, decay, u, start, dy, history, late, grad)
    rates = grad.a.view(seq.state_shape).sum(1, keepdim=True)
    return _Gradients(grad.dt, grad.u, grad.b, grad.c, rates)


def _replay(
    seq: _Sequences,
    segment: int,
    decay: Tensor,
    u: Tensor,
    start: Tensor,
    dy: Tensor,
    history: Tensor,
    grad: _Gradients,
) -> None:
    """Make all states of a segment again, in ``history``, and the gradient of C from them."""
    previous = start
    for t in range(len(decay)):
        h = history[t]
        torch.mul(previous, decay[t], out=h)
        h.addcmul_(seq.b[segment, t].unsqueeze(2), u[t].unsqueeze(1))
        torch.bmm(dy[segment, t].unsqueeze(1), h.transpose(1, 2), out=grad.c[segment, t, :, None])
        previous = h


def _backward_segment(
    seq: _Sequences,
    segment: int,
    decay: Tensor,
    u: Tensor,
    start: Tensor,
    dy: Tensor,
    history: Tensor,
    late: Tensor,
    grad: _Gradients,
) -> Tensor:
    """Write the segment's gradients; return the gradient of the state before it.

    With ``g`` the gradient of the state, the recurrence runs backwards:
    ``g_t = C_t dy_t + decay_{t+1} g_{t+1}``.
    """
    shape, out_vectors = seq.state_shape, seq.c[segment]
    local = torch.zeros_like(start)
    for t in reversed(range(len(decay))):
        local.addcmul_(out_vectors[t].unsqueeze(2), dy[segment, t].unsqueeze(1)).mul_(decay[t])
    begins, before = _carry(local.view(shape), _block_decays(seq, segment), late, reverse=True)
    g = begins.view_as(start)
    scratch = local
    for t in reversed(range(len(decay))):
        dt = seq.dt[segment, t].unsqueeze(1)
        g.addcmul_(out_vectors[t].unsqueeze(2), dy[segment, t].unsqueeze(1))
        torch.bmm(u[t].unsqueeze(1), g.transpose(1, 2), out=grad.b[segment, t, :, None])
        _contract_states(seq.b[segment, t], g, grad.u[segment, t], scratch)
        g.mul_(decay[t])
        torch.mul(g, history[t - 1] if t else start, out=scratch)  # gradient of dt A
        grad.a.addcmul_(scratch, dt)
        scratch.view(shape).mul_(seq.a)
        torch.sum(scratch, 1, out=grad.dt[segment, t])
    return before


class _Walker:
    """Moves arrays between pixel order, ``(batch, K or 1, pixel, ...)``, and slots."""

    def __init__(self, problem: ScanProblem) -> None:
        x = problem.x
        sequences = len(x) * len(problem.directions)
        width = x.shape[-1] * problem.states
        self.layout = _layout(x.shape[1], width, sequences, x.device.type)
        self.slots = _slots(problem, self.layout)
        items = list(product(range(len(x)), range(len(problem.directions))))
        fold = self.layout.fold
        self.groups = [items[i : i + fold] for i in range(0, len(items), fold)]

    def gather(self, image: Tensor, group: _Group, *, zero: bool = False) -> Tensor:
        """Return ``(segment, time, row, ...)`` of the sequences in ``group``.

        With ``zero``, the slots behind the end of the walk are 0.
        """
        layout, columns = self.layout, []
        for i, k in group:
            column = image[i, k % image.shape[1]].index_select(0, self.slots.pixel[k])
            if zero and len(self.slots.padding):
                column.index_fill_(0, self.slots.padding, 0.0)
            columns.append(column.view(layout.segments, layout.steps, layout.blocks, -1))
        return torch.cat(columns, dim=2) if len(columns) > 1 else columns[0]

    def scatter_add(self, slots: Tensor, group: _Group, image: Tensor) -> None:
        """Add ``slots``, ``(segment, time, row, ...)``, to the pixels that they belong to."""
        parts = torch.split(slots, self.layout.blocks, dim=2)
        for (i, k), part in zip(group, parts, strict=True):
            column = part.reshape(-1, part.shape[-1])
            image[i, k % image.shape[1]] += column.index_select(0, self.slots.of_pixel[k])

    def sequences(self, problem: ScanProblem, dt: Tensor, group: _Group) -> _Sequences:
        """Return the sequences in ``group`` of a problem with step sizes ``dt``."""
        vectors = problem.low.transpose(1, 2)[..., problem.rank :]
        b, c = torch.split(vectors, problem.states, dim=-1)
        rates = torch.stack([problem.a[k % len(problem.a)] for _, k in group])
        return _Sequences(
            dt=self.gather(dt, group, zero=True),
            x=self.gather(problem.x.unsqueeze(1), group),
            b=self.gather(b, group),
            c=self.gather(c, group),
            a=rates.transpose(1, 2).unsqueeze(1).contiguous(),
        )


def _step_sizes(problem: ScanProblem) -> tuple[Tensor, Tensor]:
    """Return the step sizes before and after softplus, ``(batch, K or 1, pixel, D)``."""
    low = problem.low.transpose(1, 2)[..., : problem.rank]
    before = low @ problem.w_dt.transpose(1, 2) + problem.dt_bias.unsqueeze(1)
    return before, functional.softplus(before)


class _BlockedScan(torch.autograd.Function):
    """The scan with a backward pass that recomputes."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        problem = ScanProblem(*arguments)
        walker = _Walker(problem)
        _, dt = _step_sizes(problem)
        y = (problem.x * problem.skip).unsqueeze(1)
        firsts = []
        for group in walker.groups:
            slots, first = _forward(walker.sequences(problem, dt, group))
            walker.scatter_add(slots, group, y)
            firsts.append(first)
        ctx.rest = problem.rest
        ctx.save_for_backward(*problem.tensors, *firsts)
        return y.squeeze(1)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        problem = ScanProblem(*ctx.saved_tensors[:TENSORS], *ctx.rest)
        walker = _Walker(problem)
        before, dt = _step_sizes(problem)
        dy = grad_y.unsqueeze(1)
        grad_x = (grad_y * problem.skip).unsqueeze(1)
        grad_dt = torch.zeros_like(dt)
        grad_low = problem.low.new_zeros(problem.low.transpose(1, 2).shape)
        grad_b, grad_c = torch.split(grad_low[..., problem.rank :], problem.states, dim=-1)
        grad_a = torch.zeros_like(problem.a)
        for group, first in zip(walker.groups, ctx.saved_tensors[TENSORS:], strict=True):
            seq = walker.sequences(problem, dt, group)
            grad = _backward(seq, first, walker.gather(dy, group, zero=True))
            walker.scatter_add(grad.b, group, grad_b)
            walker.scatter_add(grad.c, group, grad_c)
            walker.scatter_add(grad.u * seq.dt, group, grad_x)
            walker.scatter_add(grad.dt.addcmul_(grad.u, seq.x), group, grad_dt)
            for (_, k), rates in zip(group, grad.a, strict=True):
                grad_a[k % len(grad_a)] += rates[0].t()
        grad_before = grad_dt * torch.sigmoid(before)
        low = problem.low.transpose(1, 2)[..., : problem.rank]
        grad_low[..., : problem.rank] = (grad_before @ problem.w_dt).sum_to_size(low.shape)
        grad_w = (grad_before.transpose(2, 3) @ low).sum(0).sum_to_size(problem.w_dt.shape)
        grad_bias = grad_before.sum((0, 2)).sum_to_size(problem.dt_bias.shape)
        grad_d = problem.gradient_of_d((grad_y * problem.x).sum((0, 1)))
        grads = (grad_x.squeeze(1), grad_low.transpose(1, 2), grad_w, grad_a, grad_d, grad_bias)
        return (*grads, *(None for _ in ctx.rest))


def missing(device: torch.device) -> str | None:
    """Return why the backend cannot serve ``device``: it serves all."""
    return None


def scan(problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``.

    Float32 and float64, any device, any length. Memory beside inputs and output: one buffer of
    about 20 MB in the forward pass and two in the backward pass (float32, CPU).
    """
    result: Tensor = _BlockedScan.apply(*problem)  # type: ignore[no-untyped-call]
    return result
