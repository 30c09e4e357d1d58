"""A selective scan in Triton kernels, for CUDA devices.

Every walk is cut into as many chunks as it takes to fill the device; one chunk of one channel with
all its states is a thread. With several chunks, a first pass finds where each ends from an empty
state, a short kernel carries the states over, and a second pass starts each from its true state. A
batch large enough to fill the device alone takes one pass. The backward pass makes the states again,
eight steps at a time. No array has a state for each step, only exponentials of non-positive numbers
occur, and all sums are of a fixed order: a result is reproducible to the last bit on one device.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.scan.autocast import without_autocast
from pixelssr_geo.nets.scan.problem import TENSORS, ScanProblem
from pixelssr_geo.nets.scan.walks import cached_walks

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_NUMBERED = 1 << 31
"""What a kernel numbers in 32 bits: lanes with their parts of a state, and steps of all walks."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes that change the speed and not the result, beyond rounding."""

    lanes: int = 128
    """Threads of a program that walks forwards."""
    lanes_back: int = 32
    """Channels, and threads, of a program that walks back: one warp, so that sums over channels stay
    within it."""
    steps: int = 8
    """Steps between two states that the backward pass keeps, held in registers in between."""
    resident: int = 512
    """Threads wanted on each multiprocessor."""
    shortest: int = 64
    """Least steps of a chunk; carrying the state over a chunk costs about three."""
    longest: int = 1024
    """Most steps of a chunk in training: beyond them, sums over steps lose digits."""


TUNING = Tuning()


@dataclass(frozen=True, slots=True)
class _Plan:
    """How walks are cut into chunks."""

    chunks: int
    """Chunks of each walk."""
    blocks: int
    """Blocks of ``TUNING.steps`` steps in each chunk."""


def _plan(walks: int, channels: int, length: int, multiprocessors: int, *, training: bool) -> _Plan:
    """Return the cut for ``walks`` walks of ``channels`` channels and ``length`` steps."""
    wanted = multiprocessors * TUNING.resident
    lanes = walks * channels
    # Two passes cost almost twice as much as one, and pay from half the wanted threads downwards.
    chunks = 1 if 2 * lanes >= wanted else ceil(wanted / lanes)
    if training:
        chunks = max(chunks, ceil(length / TUNING.longest))
    chunks = min(chunks, ceil(length / TUNING.shortest))
    blocks = ceil(length / (chunks * TUNING.steps))
    return _Plan(ceil(length / (blocks * TUNING.steps)), blocks)


def _check_numbers(problem: ScanProblem, plan: _Plan) -> None:
    """Raise SettingsError if the problem has more lanes or steps than kernels can number."""
    batch, length, channels = problem.x.shape
    walks = len(problem.directions)
    lanes = walks * batch * plan.chunks * channels
    # Four numbers of a state to a lane, and a last program that may be partial.
    if max(4 * lanes + 4 * TUNING.lanes, walks * length + length) > _NUMBERED:
        raise SettingsError(
            f"a scan of {batch} x {channels} channels along {walks} walks of {length} steps is too "
            "large for the backend 'triton': cut the image into tiles or the batch into parts"
        )


@lru_cache(maxsize=16)
def _multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors of ``device``; one on the CPU."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _padded(count: int) -> int:
    """Return ``count`` rounded up to a multiple of four."""
    return 4 * ceil(count / 4)


def _pack(problem: ScanProblem) -> Tensor:
    """Return ``low`` with each of its three parts padded by zeros to a multiple of four."""
    low, rank, states = problem.low, problem.rank, problem.states
    if rank % 4 == 0 and states % 4 == 0:
        return low.contiguous()
    parts = []
    for part in torch.split(low, [rank, states, states], dim=-1):
        parts.append(part)
        missing_columns = -part.shape[-1] % 4
        if missing_columns:
            parts.append(low.new_zeros(()).expand(*low.shape[:-1], missing_columns))
    return torch.cat(parts, dim=-1)


class _Launcher:
    """Launches the kernels for one problem."""

    def __init__(self, problem: ScanProblem, packed: Tensor, plan: _Plan) -> None:
        from pixelssr_geo.nets.scan import triton_kernels

        x = problem.x
        self.kernels = triton_kernels
        self.directions = len(problem.directions)
        self.batch, self.length, self.channels = x.shape
        self.plan = plan
        self.walks = self.directions * self.batch
        self.lanes = self.walks * plan.chunks * self.channels
        self.fours = _padded(problem.states) // 4
        self.a = problem.a
        height, width, directions = problem.rest
        walks = cached_walks(directions, height, width, device=x.device, dtype=torch.int32)
        self.inputs = (
            x,
            packed,
            problem.w_dt,
            problem.a,
            problem.d,
            problem.dt_bias,
            walks.pixel,
        )
        self.sets = (
            packed.shape[2],
            *(len(t) for t in (problem.w_dt, problem.a, problem.d, problem.dt_bias)),
        )
        self.sizes = (
            self.lanes,
            self.batch,
            plan.chunks,
            self.channels,
            self.length,
            plan.blocks,
        )
        self.options: dict[str, Any] = {
            "N": problem.states,
            "NP": 4 * self.fours,
            "R": problem.rank,
            "RP": _padded(problem.rank),
            "STEPS": TUNING.steps,
            "num_stages": 1,
            "enable_fp_fusion": True,
        }

    def device(self) -> AbstractContextManager[Any]:
        """Return a context in which kernels go to the problem's device."""
        x = self.inputs[0]
        return torch.cuda.device(x.device) if x.is_cuda else nullcontext()

    def empty(self, *shape: int) -> Tensor:
        """Return a new float32 tensor on the problem's device."""
        return self.a.new_empty(shape)

    def states(self, *leading: int) -> Tensor:
        """Return room for a state of each lane, ``(..., fours, lane, 4)``."""
        return self.empty(*leading, self.fours, self.lanes, 4)

    def forwards(
        self,
        task: str,
        states: Tensor,
        spans: Tensor,
        output: Tensor,
        upstream: Tensor | None = None,
        late: Tensor | None = None,
    ) -> None:
        """Run every chunk forwards, see :func:`~.triton_kernels.walk_chunks`."""
        unused = self.a
        self.kernels.walk_chunks[(ceil(self.lanes / TUNING.lanes),)](
            *self.inputs,
            states,
            spans,
            output,
            unused if upstream is None else upstream,
            unused if late is None else late,
            *self.sets,
            *self.sizes,
            TASK=task,
            CHUNKED=self.plan.chunks > 1,
            LANES=TUNING.lanes,
            num_warps=max(1, TUNING.lanes // 32),
            **self.options,
        )

    def carry(self, states: Tensor, spans: Tensor, *, backwards: bool) -> None:
        """Carry ``states`` over the chunks, in place."""
        lanes = 64
        programs = ceil(self.walks * self.channels * 4 / lanes)
        self.kernels.carry_over_chunks[(programs, self.fours)](
            states,
            spans,
            self.a,
            len(self.a),
            self.lanes,
            self.walks,
            self.batch,
            self.plan.chunks,
            self.channels,
            BACKWARDS=backwards,
            N=self.options["N"],
            AHEAD=8,
            LANES=lanes,
            num_warps=lanes // 32,
            num_stages=1,
            enable_fp_fusion=True,
        )

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return the state each chunk starts from, and the sum of its step sizes, ``(lane,)``.

        Both are empty if walks are not cut.
        """
        if self.plan.chunks == 1:
            return self.empty(0), self.empty(0)
        states, spans = self.states(), self.empty(self.lanes)
        self.forwards("ends", states, spans, output=states)
        self.carry(states, spans, backwards=False)
        return states, spans

    def back(self, starts: Tensor, spans: Tensor, upstream: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the problem's six tensors."""
        marks = self.states(self.plan.blocks)
        late = self.states().zero_() if self.plan.chunks == 1 else self.states()
        self.forwards("marks", starts, spans, output=marks, upstream=upstream, late=late)
        if self.plan.chunks > 1:
            self.carry(late, spans, backwards=True)
        row, rank, states = self.inputs[1].shape[-1], self.options["R"], self.options["N"]
        columns = ceil(self.channels / TUNING.lanes_back)
        per_walk = (self.directions, self.batch, self.plan.chunks, self.channels)
        grad_x = self.empty(self.directions, *self.inputs[0].shape)
        grad_packed = self.empty(columns, self.batch, self.length, self.directions, row)
        grad_w = self.empty(rank, *per_walk)
        grad_a = self.states().zero_()
        grad_d, grad_bias = self.empty(*per_walk), self.empty(*per_walk)
        self.kernels.walk_back[(self.walks * self.plan.chunks, columns)](
            *self.inputs,
            marks,
            late,
            upstream,
            grad_x,
            grad_packed,
            grad_w,
            grad_a,
            grad_d,
            grad_bias,
            *self.sets,
            *self.sizes,
            LANES=TUNING.lanes_back,
            num_warps=max(1, TUNING.lanes_back // 32),
            **self.options,
        )
        grad_low = grad_packed.sum((0, 3) if self.sets[0] == 1 else 0, keepdim=True)[0]
        sizes = [self.options["RP"], self.options["NP"], self.options["NP"]]
        parts = torch.split(grad_low, sizes, dim=-1)
        rates = grad_a.view(self.fours, *per_walk, 4).sum((2, 3)).permute(1, 2, 0, 3).flatten(2)
        return (
            grad_x.sum(0),
            torch.cat([parts[0][..., :rank], *(p[..., :states] for p in parts[1:])], dim=-1),
            grad_w.sum((2, 3)).permute(1, 2, 0),
            rates[..., :states],
            grad_d.sum((1, 2)),
            grad_bias.sum((1, 2)),
        )


class _TritonScan(torch.autograd.Function):
    """The scan with a backward pass that recomputes."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        tensors = [t.contiguous() for t in arguments[:TENSORS]]
        problem = ScanProblem(*tensors, *arguments[TENSORS:])
        packed = _pack(problem)
        training = any(ctx.needs_input_grad)
        walks = len(problem.directions) * len(problem.x)
        *_, length, channels = problem.x.shape
        multiprocessors = _multiprocessors(problem.x.device)
        plan = _plan(walks, channels, length, multiprocessors, training=training)
        _check_numbers(problem, plan)
        launcher = _Launcher(problem, packed, plan)
        with launcher.device():
            starts, spans = launcher.starts()
            scanned = launcher.empty(len(problem.directions), *problem.x.shape)
            launcher.forwards("outputs", starts, spans, output=scanned)
        ctx.plan, ctx.rest = plan, problem.rest
        ctx.save_for_backward(*tensors, packed, starts, spans)
        return scanned.sum(0)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, packed, starts, spans = ctx.saved_tensors
        problem = ScanProblem(*tensors, *ctx.rest)
        launcher = _Launcher(problem, packed, ctx.plan)
        with launcher.device():
            grads = launcher.back(starts, spans, grad_y.contiguous())
        shaped = (g.sum_to_size(t.shape) for g, t in zip(grads, tensors, strict=True))
        return (*shaped, *(None for _ in ctx.rest))


def _interpreted() -> bool:
    """Return whether Triton's interpreter stands in for its compiler."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in {"1", "true", "on", "y", "yes"}


def _c_compiler() -> str | None:
    """Return the C compiler as Triton finds it; None if there is none."""
    wanted = os.environ.get("CC")
    candidates = ("gcc", "clang") if wanted is None else (wanted,)
    return next((name for name in candidates if shutil.which(name)), None)


def _driver() -> Any:
    """Return Triton's driver of the device."""
    return import_module("triton.runtime").driver.active


def _launch_failure() -> str | None:
    """Return why kernels cannot be launched; None if they can.

    Triton has its launcher in C and compiles it at run time: one for all kernels where the driver has
    ``launch``, which asking for the driver makes or finds on disk; otherwise, in older releases, one
    more for each kernel.
    """
    cure = "install gcc or clang and Python's headers, or set CC"
    try:
        complete = hasattr(_driver().utils, "launch")
    except Exception as error:  # noqa: BLE001 (compiler, headers and driver fail each in its way)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"triton cannot make its launcher ({said}): {cure}"
    if not complete and _c_compiler() is None:
        return f"triton finds no C compiler for its launchers: {cure}"
    return None


@lru_cache(maxsize=16)
def missing(device: torch.device) -> str | None:
    """Return why the backend cannot serve ``device``; None if it can.

    The CPU is served through Triton's interpreter alone (``TRITON_INTERPRET=1``), for tests.
    """
    interpreted = _interpreted()
    if not interpreted:
        if device.type != "cuda":
            return "needs a CUDA device"
        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
        major, minor = torch.cuda.get_device_capability(device)
        if major < 7:
            return f"needs compute capability 7.0, the device has {major}.{minor}"
    try:
        import_module("pixelssr_geo.nets.scan.triton_kernels")
    except ModuleNotFoundError as error:
        return f"triton is not installed ({error}): pip install triton"
    except Exception as error:  # noqa: BLE001 (a broken installation fails in many ways)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"triton cannot be imported ({said}): pip install triton"
    return None if interpreted else _launch_failure()


def scan(problem: ScanProblem) -> Tensor:
    """Return the sum of the scans over all directions, ``(batch, pixel, D)``, float32.

    Memory beside inputs and output, in arrays of the output's size: K (one each direction); in the
    backward pass about K (1 + N / 8 + (R + 2N) / 32).

    Raises
    ------
    SettingsError
        If the problem has more lanes or steps than the kernels can number.
    """
    result: Tensor = _TritonScan.apply(*problem)  # type: ignore[no-untyped-call]
    return result
