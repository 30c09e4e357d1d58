"""Checks and times networks, scan and estimator on a CUDA device; needs torch and numpy alone.

    PYTHONPATH=. python tests/benchmarks/gpu.py --out gpu.jsonl [--minutes 8] [--sections speed,floor]

Prints a report while it goes and appends every figure to ``--out``, one JSON object a line. Each section
is a process of its own with a time limit, so that one that fails or hangs costs itself alone. The
most important come first. ``--dry-run`` runs all of them on the CPU, in one process, at tiny sizes.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelssr_geo.estimator import (
    HALO,
    BlendedEstimator,
    FeatureSums,
    LibraryPrior,
    Projection,
    View,
    blend_library,
    fit_blend,
)
from pixelssr_geo.estimator.kernel import COMPONENTS, prior_parameters
from pixelssr_geo.estimator.library import load_library, random_mixtures
from pixelssr_geo.estimator.means import ShapeMixture, ShapeSpace, fit_shape
from pixelssr_geo.estimator.ridge import fit_ridge, standardised
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.nets import create_net, list_nets
from pixelssr_geo.nets.cost import measure_cost
from pixelssr_geo.nets.scan import chosen_backend, scan_backends, selective_scan_2d
from pixelssr_geo.spectra import ChannelGrid, get_sensor

NAMES = ("y", "x", "low", "w_dt", "a", "d", "dt_bias")
FOUR = (0, 1, 2, 3)
BANDS, CHANNELS = 4, 60
TARGET_TILES, TARGET_ERROR = 1000.0, 1e-3
TOLERANCE = 2e-5
MODES = ("float32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class Run:
    """Where and how large, and where figures go."""

    device: torch.device
    dry: bool
    out: Path | None

    @property
    def tile(self) -> int:
        return 8 if self.dry else 128

    @property
    def checked_backends(self) -> list[str]:
        found = scan_backends(self.device)
        return [name for name, reason in found.items() if reason is None and name != "reference"]

    @property
    def backends(self) -> list[str]:
        """Those to time: on the CPU Triton is interpreted, which is good for checks alone."""
        found = self.checked_backends
        return [name for name in found if not self.dry or name != "triton"]

    def emit(self, section: str, **figures: Any) -> None:
        """Print one line of figures and append it to the file."""
        text = "  ".join(f"{k} {_short(v)}" for k, v in figures.items() if v is not None)
        print(f"  {text}", flush=True)
        if self.out is not None:
            with self.out.open("a") as file:
                file.write(json.dumps({"section": section, **figures}) + "\n")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def synchronize(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize()


def seconds(run: Run, function: Callable[[], object], *, budget: float = 0.6) -> float:
    """Median time of a call, after one to warm up; at least three, about ``budget`` seconds in all."""
    function()
    synchronize(run)
    start = time.perf_counter()
    function()
    synchronize(run)
    once = time.perf_counter() - start
    repeats = 1 if run.dry else max(3, min(50, int(budget / max(once, 1e-6))))
    if run.device.type != "cuda":
        return once
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return median(times)


def peak_mb(run: Run, function: Callable[[], object]) -> float | None:
    """Most memory that ``function`` takes beyond what is there before, in MB; None on the CPU."""
    if run.device.type != "cuda":
        function()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def free_memory(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def precision(run: Run, mode: str) -> Iterator[None]:
    """Matrix products and convolutions in ``mode``, one of :data:`MODES`."""
    torch.backends.cuda.matmul.allow_tf32 = mode != "float32"
    torch.backends.cudnn.allow_tf32 = mode != "float32"
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mode)
    kind = run.device.type
    with nullcontext() if half is None else torch.autocast(kind, dtype=half):
        yield


def make_net(run: Run, name: str = "dypro-mamba", **options: Any) -> Any:
    torch.manual_seed(0)
    if run.dry and name == "dypro-mamba":
        options |= {"width": 8, "state": 4, "prompt_inner": 3}
        options.setdefault("scan_backend", "torch")
    channels = 6 if run.dry else CHANNELS
    return create_net(name, bands=BANDS, channels=channels, **options).to(run.device).eval()


def make_tiles(run: Run, net: Any, batch: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    shape = (run.tile, run.tile)
    x = torch.rand(batch, net.bands, *shape, generator=draws)
    guide = torch.rand(batch, net.guide_channels, *shape, generator=draws)
    return x.to(run.device), guide.to(run.device)


def relative_error(found: Tensor, expected: Tensor) -> float:
    scale = expected.double().abs().max().clamp_min(1e-30)
    return float((found.double() - expected.double()).abs().max() / scale)


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error)


# ---------------------------------------------------------------------------------------- sections


def device(run: Run) -> None:
    """What runs here"""
    try:
        import triton

        version = triton.__version__
    except ImportError as error:
        version = f"none ({error})"
    name = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else "CPU"
    run.emit(
        "device", device=name, torch=torch.__version__, cuda=torch.version.cuda, triton=version
    )
    for backend, reason in scan_backends(run.device).items():
        run.emit("device", backend=backend, missing=reason or "nothing")
    run.emit("device", auto=chosen_backend("auto", run.device))


def scan_arguments(
    run: Run,
    batch: int,
    size: tuple[int, int],
    inner: int,
    states: int,
    rank: int,
    sets: tuple[int, ...],
    stress: float = 1.0,
) -> list[Tensor]:
    """Leaves of a scan, float64; ``stress`` makes step sizes up to about ten times as large."""
    draws = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    pixels = size[0] * size[1]
    arguments = [
        normal(batch, pixels, inner),
        normal(batch, pixels, sets[0], rank + 2 * states),
        normal(sets[1], inner, rank) * stress,
        -torch.rand(sets[2], inner, states, generator=draws, dtype=torch.float64) * states,
        normal(sets[3], inner),
        normal(sets[4], inner) + (4.0 if stress > 1 else -3.0),
    ]
    return [t.to(run.device) for t in arguments]


def scan_results(
    arguments: list[Tensor], size: tuple[int, int], directions: tuple[int, ...], backend: str
) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in arguments]
    height, width = size
    y = selective_scan_2d(
        *leaves, height=height, width=width, directions=directions, backend=backend
    )
    upstream = torch.linspace(-1, 1, y.numel(), dtype=torch.float64, device=y.device)
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream.to(y.dtype).view_as(y))]


SCAN_CASES: dict[str, tuple[Any, ...]] = {
    # batch, (height, width), D, N, rank, sets of low / w_dt / a / d / bias, directions, stress
    "odd, own sets": (2, (9, 13), 5, 4, 2, (4, 4, 4, 4, 4), FOUR, 1.0),
    "odd, stress": (2, (9, 13), 5, 4, 2, (4, 4, 4, 4, 4), FOUR, 3.0),
    "diagonals": (1, (6, 9), 6, 3, 1, (1, 4, 1, 4, 1), (4, 5, 6, 7), 1.0),
    "neck, 32 x 48": (3, (32, 48), 18, 16, 1, (4, 4, 4, 4, 4), FOUR, 1.0),
    "half size, wide": (2, (32, 32), 160, 16, 5, (1, 1, 1, 1, 1), FOUR, 1.0),
    "N 20, rank 10": (1, (31, 33), 24, 20, 10, (4, 1, 4, 1, 4), FOUR, 1.0),
    "tile 128 x 128": (1, (128, 128), 80, 16, 3, (1, 1, 1, 1, 1), FOUR, 1.0),
    "tile, own sets, stress": (1, (128, 128), 18, 16, 1, (4, 4, 4, 4, 4), FOUR, 3.0),
}


def correctness(run: Run) -> None:
    """Every backend against the recurrence in float64: value, and all gradients"""
    cases = list(SCAN_CASES.items())
    for case, (batch, size, inner, states, rank, sets, walks, stress) in cases[
        : 3 if run.dry else None
    ]:
        if run.dry:
            size, inner, states = (min(size[0], 5), min(size[1], 4)), min(inner, 6), 3
        arguments = scan_arguments(run, batch, size, inner, states, rank, sets, stress)
        expected = scan_results(arguments, size, walks, "reference")
        single = [t.float() for t in arguments]
        for backend in run.checked_backends:
            try:
                found = scan_results(single, size, walks, backend)
                again = scan_results(single, size, walks, backend)
            except Exception as error:  # noqa: BLE001 (must not hide the other backends)
                run.emit("correctness", case=case, backend=backend, failed=f"{error!r:.300}")
                continue
            errors = {
                name: relative_error(a, b)
                for name, a, b in zip(NAMES, found, expected, strict=True)
            }
            worst = max(errors, key=lambda name: errors[name])
            run.emit(
                "correctness",
                case=case,
                backend=backend,
                ok=errors[worst] < TOLERANCE,
                worst=worst,
                error=errors[worst],
                reproducible=all(torch.equal(a, b) for a, b in zip(found, again, strict=True)),
            )


def speed(run: Run) -> None:
    """Whole network: tiles a second, by batch and precision, and its difference from float32"""
    net = make_net(run)
    whole = make_tiles(run, net, 4)
    with torch.inference_mode(), precision(run, "float32"):
        expected = net(*whole)
    for mode in MODES:
        with torch.inference_mode(), precision(run, mode):
            error = relative_error(net(*whole), expected)
        for batch in (1, 2) if run.dry else (1, 16, 64, 256, 2, 4, 8, 32, 128):
            try:
                _time_forward(run, net, mode, batch, error)
            except RuntimeError as failure:
                if not is_out_of_memory(failure):
                    raise
                run.emit("speed", net="dypro-mamba", mode=mode, batch=batch, failed="out of memory")
            free_memory(run)


def _time_forward(
    run: Run,
    model: Any,
    mode: str,
    batch: int,
    error: float | None,
    *,
    section: str = "speed",
    net: str = "dypro-mamba",
    **said: Any,
) -> None:
    tiles = make_tiles(run, model, batch)
    with torch.inference_mode(), precision(run, mode):
        taken = seconds(run, lambda: model(*tiles), budget=0.4)
        memory = peak_mb(run, lambda: model(*tiles))
    run.emit(
        section,
        net=net,
        mode=mode,
        batch=batch,
        tiles_per_second=batch / taken,
        ms_per_tile=1e3 * taken / batch,
        error=error,
        peak_mb=memory,
        **said,
    )


def scans(run: Run) -> None:
    """One scan of each backend, four directions of a tile, D 80 and N 16, milliseconds a tile"""
    size, inner, states = ((8, 8), 8, 4) if run.dry else ((128, 128), 80, 16)
    for backend in run.backends:
        for batch in (1, 2) if run.dry else (1, 8, 64, 256):
            arguments = scan_arguments(run, batch, size, inner, states, 3, (1,) * 5)
            leaves = [t.float().requires_grad_() for t in arguments]
            del arguments
            settings: dict[str, Any] = {"height": size[0], "width": size[1], "backend": backend}

            def forward() -> Tensor:
                with torch.no_grad():
                    return selective_scan_2d(*leaves, **settings)  # noqa: B023

            def both() -> object:
                y = selective_scan_2d(*leaves, **settings)  # noqa: B023
                return torch.autograd.grad(y, leaves, torch.ones_like(y))  # noqa: B023

            try:
                one = seconds(run, forward, budget=0.3)
                two = seconds(run, both, budget=0.3)
                memory, more = peak_mb(run, forward), peak_mb(run, both)
            except RuntimeError as failure:
                run.emit("scans", backend=backend, batch=batch, failed=f"{failure!r:.200}")
                free_memory(run)
                continue
            run.emit(
                "scans",
                backend=backend,
                batch=batch,
                forward_ms=1e3 * one / batch,
                with_backward_ms=1e3 * two / batch,
                peak_mb=memory,
                peak_mb_with_backward=more,
            )
            free_memory(run)


def made_library(channels: ChannelGrid, response: Any) -> LibraryPrior:
    """The library's prior with a mixture as large as the fitted one, which needs scikit-learn."""
    mixtures = random_mixtures(load_library(), channels, count=4000)
    bands = mixtures @ response.T
    brightness = bands.mean(1, keepdims=True)
    space = ShapeSpace.of(mixtures / mixtures.mean(1, keepdims=True))
    shape = (bands / brightness)[:, :-1]
    centre, scale = shape.mean(0), shape.std(0)
    draws, count, size = np.random.default_rng(0), 12, shape.shape[1]
    gaussians = ShapeMixture(
        centre=space.centre,
        directions=space.directions,
        band_centre=centre,
        band_scale=scale,
        log_weights=np.zeros(count),
        means=(shape[:count] - centre) / scale,
        whiten=np.tile(2 * np.eye(size), (count, 1, 1)),
        intercepts=0.1 * draws.standard_normal((count, len(space.directions))),
        slopes=0.1 * draws.standard_normal((count, size, len(space.directions))),
        least=1e-9,
    )
    regression = fit_ridge(bands, mixtures, standardised(bands, degree=2))
    projection = Projection.of(response)
    return LibraryPrior(
        projection=projection,
        regression=regression,
        error=projection.null_part(regression.residuals).std(0),
        mixtures=mixtures,
        shape=fit_shape(mixtures, response),
        space=space,
        gaussians=gaussians,
    )


def made_estimator(count: int, side: int, *, step_nm: int = 10) -> tuple[BlendedEstimator, View]:
    """The default estimator of a landscape with so many points, and a window of so many rows.

    The kernel's parameters are those that it starts from: fitted ones take as long to compute with.
    """
    channels = ChannelGrid.from_spec(f"400:1000:{step_nm}")
    landscape = make_landscape(48, seed=0, channels=channels)
    response = get_sensor("GF6-PMS").matrix(landscape.channels)
    times = -(-(side + 2 * HALO) // 48)
    truth = np.tile(landscape.cube, (1, times, times))[:, : side + 2 * HALO, : side + 2 * HALO]
    draws = np.random.default_rng(0)
    scene = np.einsum("bc,cyx->byx", response, truth)
    scene = (scene + 0.002 * draws.standard_normal(scene.shape)).astype("f4")
    view = View(scene, 0, 0)
    sums = FeatureSums(scene.mean((1, 2), dtype="f8"))
    sums.add(replace(view, values=scene[:, :256, :256]))
    library = made_library(channels, response)
    if not count:
        return blend_library(library, sums.scale()), view
    rows, cols = (draws.integers(0, side, count) for _ in range(2))
    reach = range(2 * HALO + 1)
    around = np.stack([np.stack([scene[:, rows + y, cols + x] for x in reach]) for y in reach])
    rows_in, cols_in = rows + HALO, cols + HALO
    labels = Labels(
        rows,
        cols,
        scene[:, rows_in, cols_in].T.astype("f8"),
        truth[:, rows_in, cols_in].T.astype("f8"),
        np.moveaxis(around, (3, 2), (0, 1)),
    )
    parameters = {
        name: prior_parameters(COMPONENTS + 1, square=name == "none")
        for name in ("library", "none")
    }
    return fit_blend(labels, library, sums.scale(), parameters=parameters), view


def estimator(run: Run) -> None:
    """The default estimator of a block: million pixels a second, and how far from NumPy's"""
    side, counts = (16, (0, 8, 20)) if run.dry else (768, (60, 200, 1000, 0))
    for count in counts:
        here, view = made_estimator(count, side, step_nm=100 if run.dry else 10)
        part = View(view.values[:, : 128 + 2 * HALO, : 128 + 2 * HALO], 0, 0)
        start = time.perf_counter()
        expected = here.predict(part)
        taken = time.perf_counter() - start
        run.emit("estimator", points=count, mode="numpy", whole=part.inner[0].size / 1e6 / taken)
        for double in (False, True):
            there = here.through_torch(run.device, double=double)
            found = there.predict(part)
            run.emit(
                "estimator",
                points=count,
                mode="float64" if double else "float32",
                **_estimator_speed(run, there, view),
                error=float(np.abs(found.mean - expected.mean).max()),
                deviation_error=float(np.abs(found.deviation - expected.deviation).max()),
            )
            del there
            free_memory(run)


def _estimator_speed(run: Run, there: BlendedEstimator, view: View) -> dict[str, float | None]:
    """Million pixels a second of the mean alone and of all that is told, from memory to memory."""
    pixels = view.inner[0].size / 1e6
    return {
        "mean": pixels / seconds(run, lambda: there.mean(view)),
        "whole": pixels / seconds(run, lambda: there.predict(view)),
        "peak_mb": peak_mb(run, lambda: there.predict(view)),
    }


def _copy_bandwidth(run: Run, elements: int) -> float:
    """Bytes read and written a second by a copy of so many float32."""
    source = torch.zeros(elements, device=run.device)
    target = torch.empty_like(source)
    return 8 * elements / seconds(run, lambda: target.copy_(source))


def floor(run: Run) -> None:
    """What the device can do, and the least time a tile can take by it"""
    size, elements = (64, 1 << 16) if run.dry else (8192, 1 << 28)
    rates = {}
    for mode in ("float32", "tf32", "bf16"):
        dtype = torch.bfloat16 if mode == "bf16" else torch.float32
        left = torch.randn(size, size, device=run.device, dtype=dtype)
        with precision(run, mode if mode != "bf16" else "tf32"):
            rates[mode] = 2 * size**3 / seconds(run, lambda: left @ left)  # noqa: B023
        run.emit("floor", matmul=mode, tflops=rates[mode] / 1e12)
    bandwidth = _copy_bandwidth(run, elements)
    run.emit("floor", copy_gb_per_second=bandwidth / 1e9)
    net = make_net(run)
    cost = measure_cost(net.cpu(), run.tile, run.tile)
    kinds: dict[str, int] = {}
    for row in cost.rows:
        kinds[row.kind] = kinds.get(row.kind, 0) + row.macs
    exponentials = kinds.get("scan", 0) // 3
    moved = 4 * (run.tile**2 * (net.bands + net.guide_channels + net.channels) + cost.parameters)
    for mode, rate in rates.items():
        arithmetic = 2 * (cost.macs - kinds.get("scan", 0)) / rate
        run.emit(
            "floor",
            mode=mode,
            gmacs=cost.macs / 1e9,
            arithmetic_ms=1e3 * arithmetic,
            input_output_ms=1e3 * moved / bandwidth,
            floor_ms=1e3 * max(arithmetic, moved / bandwidth),
        )
    if run.device.type == "cuda":
        there = torch.cuda.get_device_properties(run.device)
        clock = getattr(there, "clock_rate", 1_755_000) * 1e3  # kHz
        taken = exponentials / (16 * there.multi_processor_count * clock)
        run.emit("floor", scan_exponentials=exponentials, at_16_a_cycle_ms=1e3 * taken)


def training(run: Run) -> None:
    """A training step: forward and backward, its ratio to inference, and memory"""
    net = make_net(run).train()
    for mode in ("float32", "tf32", "bf16"):
        for batch in (1,) if run.dry else (1, 8, 32):
            tiles = make_tiles(run, net, batch)

            def step() -> None:
                net.zero_grad(set_to_none=True)
                with precision(run, mode):  # noqa: B023
                    loss = net(*tiles).square().mean()  # noqa: B023
                loss.backward()

            def infer() -> None:
                with torch.inference_mode(), precision(run, mode):  # noqa: B023
                    net(*tiles)  # noqa: B023

            try:
                forward, both = seconds(run, infer), seconds(run, step)
                memory = peak_mb(run, step)
            except RuntimeError as failure:
                if not is_out_of_memory(failure):
                    raise
                run.emit("training", mode=mode, batch=batch, failed="out of memory")
                free_memory(run)
                continue
            run.emit(
                "training",
                mode=mode,
                batch=batch,
                step_ms_per_tile=1e3 * both / batch,
                ratio_to_forward=both / forward,
                peak_mb=memory,
            )
            free_memory(run)


_PARTS = {
    "ScanParameters": "scan",
    "FractionalFourier": "transform",
    "SpectralAttention": "attention map",
    "LayerNorm": "norm",
    "Linear": "linear",
}


def _part(layer: nn.Module) -> str | None:
    if isinstance(layer, nn.Conv2d):
        return "depthwise convolution" if layer.groups > 1 else "convolution"
    return _PARTS.get(type(layer).__name__)


@contextmanager
def labelled(net: nn.Module) -> Iterator[None]:
    """Let the profiler see the work of each kind of layer under its name."""
    handles, patched, open_ranges = [], [], []

    def enter(label: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            label_range = torch.profiler.record_function(f"part: {label}")
            label_range.__enter__()
            open_ranges.append(label_range)

        return hook

    def leave(*_: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    for layer in net.modules():
        label = _part(layer)
        if label is None:
            continue
        handles.append(layer.register_forward_pre_hook(enter(label)))
        handles.append(layer.register_forward_hook(leave))
        if label == "transform":  # the way back is a method, which hooks do not see
            plain = layer.invert

            def invert(*arguments: Any, plain: Any = plain) -> Any:
                with torch.profiler.record_function("part: transform"):
                    return plain(*arguments)

            layer.invert = invert  # type: ignore[assignment]
            patched.append(layer)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in patched:
            del layer.invert


def shares(run: Run) -> None:
    """Where the time of a forward pass goes, by torch's profiler"""
    from torch.profiler import ProfilerActivity, profile

    net = make_net(run)
    on_device = run.device.type == "cuda"
    tiles = make_tiles(run, net, 2 if run.dry else 32)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    for mode in ("tf32", "bf16"):
        with torch.inference_mode(), precision(run, mode), labelled(net):
            net(*tiles)
            synchronize(run)
            with profile(activities=activities) as watched:
                net(*tiles)
                synchronize(run)
        _emit_shares(run, watched, mode, on_device)


def _emit_shares(run: Run, watched: Any, mode: str, on_device: bool) -> None:
    events = watched.key_averages()
    inclusive = "device_time_total" if on_device else "cpu_time_total"
    own = "self_device_time_total" if on_device else "self_cpu_time_total"
    kernels = [e for e in events if not e.key.startswith("part: ")]
    if on_device:
        kernels = [e for e in kernels if "CUDA" in str(e.device_type)]
    counted = kernels if on_device else events
    total = sum(getattr(e, own) for e in counted) or 1.0
    named = {
        e.key[6:]: getattr(e, inclusive) / total
        for e in events
        if e.key.startswith("part: ") and "CUDA" not in str(e.device_type)
    }
    run.emit("shares", mode=mode, total_ms=total / 1e3, rest=1 - sum(named.values()), **named)
    for event in sorted(kernels, key=lambda e: -getattr(e, own))[: 3 if run.dry else 14]:
        run.emit(
            "shares",
            mode=mode,
            share=getattr(event, own) / total,
            calls=event.count,
            kernel=event.key[:90],
        )


def variants(run: Run) -> None:
    """What layouts, cuDNN's search and the scan's backend change, in one precision"""
    batch = 2 if run.dry else 64
    forms: dict[str, dict[str, Any]] = {
        "as it is": {},
        "cudnn.benchmark": {"benchmark": True},
        "weights channels last": {"channels_last": True},
        "both": {"benchmark": True, "channels_last": True},
        **{f"scan {name}": {"backend": name} for name in run.backends},
    }
    for mode in ("tf32", "bf16"):
        for form, change in forms.items():
            net = make_net(
                run, **({"scan_backend": change["backend"]} if "backend" in change else {})
            )
            if change.get("channels_last"):
                net = net.to(memory_format=torch.channels_last)
            torch.backends.cudnn.benchmark = bool(change.get("benchmark"))
            try:
                _time_forward(run, net, mode, batch, None, section="variants", form=form)
            except RuntimeError as failure:
                run.emit("variants", mode=mode, form=form, failed=f"{failure!r:.200}")
            free_memory(run)
    torch.backends.cudnn.benchmark = False
    for width in (8,) if run.dry else (40, 80, 160):
        for dtype in (torch.float32, torch.bfloat16):
            _time_depthwise(run, width, batch, dtype)


def _time_depthwise(run: Run, width: int, batch: int, dtype: torch.dtype) -> None:
    """A depthwise 3 x 3 convolution as torch and cuDNN do it in either layout."""
    image = torch.randn(batch, width, run.tile, run.tile, device=run.device, dtype=dtype)
    weight = torch.randn(width, 1, 3, 3, device=run.device, dtype=dtype)
    figures = {}
    for name, layout in (("first", torch.contiguous_format), ("last", torch.channels_last)):
        arranged = image.contiguous(memory_format=layout)

        def convolve(arranged: Tensor = arranged) -> Tensor:
            return functional.conv2d(arranged, weight, padding=1, groups=width)

        figures[f"channels_{name}_ms_per_tile"] = 1e3 * seconds(run, convolve, budget=0.1) / batch
    run.emit("variants", depthwise=width, dtype=str(dtype), **figures)


def graphs(run: Run) -> None:
    """Whole network replayed from a CUDA graph"""
    if run.device.type != "cuda":
        run.emit("graphs", skipped="needs a CUDA device")
        return
    net = make_net(run)
    for mode in ("tf32", "bf16"):
        for batch in (1, 8, 64):
            tiles = make_tiles(run, net, batch)
            with torch.inference_mode(), precision(run, mode):
                expected = net(*tiles)
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    net(*tiles)
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    result = net(*tiles)
                taken = seconds(run, graph.replay, budget=0.4)
            run.emit(
                "graphs",
                mode=mode,
                batch=batch,
                tiles_per_second=batch / taken,
                ms_per_tile=1e3 * taken / batch,
                error=relative_error(result, expected),
            )
            del graph, result, expected, tiles
            free_memory(run)


def compilation(run: Run) -> None:
    """Whole network under torch.compile"""
    if run.dry:
        run.emit("compilation", skipped="takes minutes on a CPU")
        return
    net = make_net(run)
    for mode in ("tf32", "bf16"):
        for batch in (64,):
            tiles = make_tiles(run, net, batch)
            with torch.no_grad(), precision(run, mode):
                expected = net(*tiles)
                start = time.perf_counter()
                compiled = torch.compile(net, dynamic=False)
                found = compiled(*tiles)
                synchronize(run)
                waited = time.perf_counter() - start
                taken = seconds(run, lambda: compiled(*tiles), budget=0.4)  # noqa: B023
            run.emit(
                "compilation",
                mode=mode,
                batch=batch,
                compile_seconds=waited,
                tiles_per_second=batch / taken,
                ms_per_tile=1e3 * taken / batch,
                error=relative_error(found, expected),
            )


def others(run: Run) -> None:
    """Other networks beside it"""
    found = [spec.name for spec in list_nets() if spec.name != "dypro-mamba"]
    if "mst++" not in found:
        run.emit("others", skipped="mst++ is not registered")
    for name in found:
        net = make_net(run, name)
        whole = make_tiles(run, net, 2)
        with torch.inference_mode(), precision(run, "float32"):
            expected = net(*whole)
        for mode in ("float32", "tf32", "bf16"):
            with torch.inference_mode(), precision(run, mode):
                error = relative_error(net(*whole), expected)
            for batch in (1,) if run.dry else (1, 16, 64):
                try:
                    _time_forward(run, net, mode, batch, error, section="others", net=name)
                except RuntimeError as failure:
                    run.emit("others", net=name, batch=batch, failed=f"{failure!r:.200}")
                free_memory(run)


def tuning(run: Run) -> None:
    """The Triton scan at other sizes than its own, milliseconds a tile"""
    if "triton" not in run.backends or run.dry:
        run.emit("tuning", skipped="needs triton on a CUDA device")
        return
    from dataclasses import asdict, replace

    from pixelssr_geo.nets.scan import triton_scan

    own = triton_scan.TUNING
    changes: list[dict[str, int]] = [
        {},
        {"lanes": 64},
        {"lanes": 256},
        {"resident": 256},
        {"resident": 1024},
        {"resident": 2048},
        {"shortest": 32},
        {"shortest": 128},
        {"steps": 4},
        {"steps": 16},
        {"longest": 256},
    ]
    for change in changes:
        triton_scan.TUNING = replace(own, **change)
        figures = {}
        for batch in (1, 16, 64, 256):
            arguments = scan_arguments(run, batch, (128, 128), 80, 16, 3, (1,) * 5)
            leaves = [t.float().requires_grad_() for t in arguments]
            del arguments

            def forward(leaves: list[Tensor] = leaves) -> None:
                with torch.no_grad():
                    selective_scan_2d(*leaves, height=128, width=128, backend="triton")

            def both(leaves: list[Tensor] = leaves) -> None:
                y = selective_scan_2d(*leaves, height=128, width=128, backend="triton")
                torch.autograd.grad(y, leaves, torch.ones_like(y))

            figures[f"forward_{batch}"] = 1e3 * seconds(run, forward, budget=0.1) / batch
            if batch in (1, 16):
                figures[f"both_{batch}"] = 1e3 * seconds(run, both, budget=0.1) / batch
            del leaves, forward, both
            free_memory(run)
        told: dict[str, Any] = {**change} or {"own": str(asdict(own))}
        run.emit("tuning", **told, **figures)
    triton_scan.TUNING = own


# Most important first, with the most seconds that each may take.
SECTIONS: dict[str, tuple[Callable[[Run], None], float]] = {
    "device": (device, 40),
    "correctness": (correctness, 120),
    "speed": (speed, 100),
    "floor": (floor, 40),
    "estimator": (estimator, 90),
    "scans": (scans, 60),
    "training": (training, 60),
    "shares": (shares, 60),
    "graphs": (graphs, 60),
    "variants": (variants, 70),
    "others": (others, 60),
    "compilation": (compilation, 150),
    "tuning": (tuning, 120),
}


def run_section(run: Run, name: str) -> bool:
    """Run a section here; whether it came to its end."""
    function, _ = SECTIONS[name]
    print(f"\n{name}: {function.__doc__}", flush=True)
    try:
        function(run)
    except Exception as error:  # noqa: BLE001 (a section's failure is a finding)
        traceback.print_exc(file=sys.stdout)
        run.emit(name, failed=f"{error!r:.400}")
        return False
    return True


def run_apart(run: Run, name: str, limit: float) -> bool:
    """Run a section in a process of its own, ended after ``limit`` seconds."""
    command = [sys.executable, str(Path(__file__).resolve()), "--section", name]
    if run.out is not None:
        command += ["--out", str(run.out)]
    try:
        return subprocess.run(command, timeout=limit, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        run.emit(name, failed=f"ended after {limit:.0f} s")
        return False


def summarize(run: Run) -> None:
    """Print the verdicts from the figures in the file."""
    if run.out is None:
        return
    rows = [json.loads(line) for line in run.out.read_text().splitlines()]
    print("\nsummary", flush=True)
    checks = [row for row in rows if row["section"] == "correctness"]
    for backend in sorted({row["backend"] for row in checks if "backend" in row}):
        mine = [row for row in checks if row.get("backend") == backend]
        passed = sum(bool(row.get("ok")) for row in mine)
        worst = max((row.get("error", float("inf")) for row in mine), default=float("inf"))
        run.emit("summary", backend=backend, passed=passed, of=len(mine), worst_error=worst)
    floors = {row["mode"]: row["floor_ms"] for row in rows if "floor_ms" in row}
    timed = [row for row in rows if "tiles_per_second" in row]
    for section in ("speed", "graphs", "compilation", "others"):
        for mode in MODES:
            mine = [r for r in timed if r["section"] == section and r["mode"] == mode]
            for net in sorted({str(r.get("net", "dypro-mamba")) for r in mine}):
                own = [r for r in mine if str(r.get("net", "dypro-mamba")) == net]
                best = max(own, key=lambda row: row["tiles_per_second"])
                reached = best["tiles_per_second"] >= TARGET_TILES
                least = floors.get(mode) if net == "dypro-mamba" else None
                run.emit(
                    "summary",
                    best_of=section,
                    net=net,
                    mode=mode,
                    tiles_per_second=best["tiles_per_second"],
                    batch=best["batch"],
                    error=best["error"],
                    over_floor=best["ms_per_tile"] / least if least else None,
                    target=reached and best["error"] <= TARGET_ERROR,
                )


def main() -> int:
    """Run the sections; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="file of figures, a JSON object a line; appended")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all sections together")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, in this order")
    parser.add_argument("--section", choices=SECTIONS, help="this one, in this process")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU, in one process")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print("no CUDA device: use --dry-run to run the same code on the CPU")
        return 2
    where = torch.device("cpu") if options.dry_run else torch.device("cuda", 0)
    if options.dry_run:
        torch.set_num_threads(1)  # too little work to share
    run = Run(where, options.dry_run, options.out)
    if options.section:
        return 0 if run_section(run, options.section) else 1
    end = time.monotonic() + 60 * options.minutes
    failed = []
    for name in options.sections.split(","):
        start = time.monotonic()
        limit = min(SECTIONS[name][1], end - start - 2)
        if limit < 10:
            run.emit(name, failed="no time left")
            failed.append(name)
            continue
        if not (run_section(run, name) if run.dry else run_apart(run, name, limit)):
            failed.append(name)
        print(f"  ({time.monotonic() - start:.1f} s)", flush=True)
    summarize(run)
    if failed:
        print(f"\nnot finished: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
