"""Time, memory and work of whole networks on a CPU, beside MST++ and beside what the CPU could do.

    python tests/benchmarks/tile_speed.py --table results.csv
    python tests/benchmarks/tile_speed.py [--quick] [--nets dypro-mamba] [--sizes 3:31 4:60]
        [--backends torch] [--repeat 5] [--batch 1] [--workers N] [--out results.csv]

One tile is 128 x 128 pixels, float32. All figures of one run belong together: the rounds of all
networks are interleaved, so that other jobs on the machine hit them alike, and ratios are made
within the run.

forward, train   CPU milliseconds a tile on one thread (process time, best of the rounds), of the
                 forward pass and of a training step (forward and backward)
tiles/s          by the clock, of as many threads as there are workers, each with one thread inside
MB               what the process grows by at its peak in one forward pass or training step
/ MST++          that time divided by MST++'s at the same size
loop /           the plain loop's time divided by that time; the loop is timed on 32 x 32 pixels
floor            milliseconds for the multiply-accumulates and the scans' exponentials, at the speed
                 of a large matrix product; gap is forward / floor
traffic          milliseconds, were every innermost layer's input and output to pass memory once at
                 the speed of a large copy
shares           of a forward pass, by process time within the layers of each kind, less that of
                 layers within them. "scan" has the scans' projections, "attention" the products,
                 softmax and what else its layer does between other layers, "rest" linear layers,
                 norms, activations and sums
"""

from pixelssr_geo.process import prepare_process

prepare_process()  # as the command line does, before torch is imported

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelssr_geo.nets import SpectralNet, create_net, find_net
from pixelssr_geo.nets.cost import NetCost, measure_cost
from pixelssr_geo.nets.scan import available_backends

SIDE = 128
PART_SIDE = 32  # of the plain loop, which takes a step a pixel
YARDSTICK, LOOP = "mst++", "reference"
EXP_MACS = 8  # range reduction in two, a polynomial of degree 5 in five, scaling in one
SHARES = ("scan", "convolution", "transform", "attention", "rest")
COPY_MB = 128


@dataclass(frozen=True, slots=True)
class Case:
    """One network at one size."""

    net: str
    bands: int
    channels: int
    backend: str = ""
    """Scan backend; empty for a network without scans."""
    batch: int = 1

    @property
    def side(self) -> int:
        """Side of the image that is timed."""
        return PART_SIDE if self.backend == LOOP else SIDE

    @property
    def tiles(self) -> float:
        """Tiles in what is timed, by pixels."""
        return self.batch * (self.side / SIDE) ** 2

    def create(self) -> SpectralNet:
        """The network, the same at every call."""
        torch.manual_seed(0)
        options: dict[str, Any] = {"scan_backend": self.backend} if self.backend else {}
        return create_net(self.net, bands=self.bands, channels=self.channels, **options).eval()

    def inputs(self, side: int | None = None) -> tuple[Tensor, ...]:
        """An image, and a guide if the network uses one."""
        side = side or self.side
        torch.manual_seed(1)
        image = torch.rand(self.batch, self.bands, side, side)
        if not find_net(self.net).uses_guide:
            return (image,)
        return image, torch.rand(self.batch, self.channels, side, side)


def forward(net: SpectralNet, inputs: tuple[Tensor, ...]) -> None:
    """One forward pass as in use."""
    with torch.inference_mode():
        net(*inputs)


def train_step(net: SpectralNet, inputs: tuple[Tensor, ...]) -> None:
    """One forward and backward pass, without the optimiser."""
    net.zero_grad(set_to_none=True)
    net(*inputs).square().mean().backward()


def cpu_seconds(function: Callable[[], object]) -> float:
    """Process time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


# --- What the machine can do -------------------------------------------------------------------


@dataclass(slots=True)
class Machine:
    """The best speeds of one thread seen in this run."""

    gflops: float = 0.0
    """10^9 float32 operations a second in a large matrix product; a multiply-accumulate is two."""
    gbytes: float = 0.0
    """10^9 bytes a second, read or written, in a large copy."""
    _matrix: Tensor = field(default_factory=lambda: torch.rand(1024, 1024))
    _large: Tensor = field(default_factory=lambda: torch.rand(COPY_MB * 2**18))

    def measure(self) -> None:
        """Measure once more and keep the best."""
        operations, result = 2 * 1024**3, torch.empty_like(self._matrix)
        seconds = cpu_seconds(lambda: torch.mm(self._matrix, self._matrix, out=result))
        self.gflops = max(self.gflops, operations / seconds / 1e9)
        target = torch.empty_like(self._large)
        target.zero_()  # so that the copy meets no fresh pages
        seconds = cpu_seconds(lambda: target.copy_(self._large))
        self.gbytes = max(self.gbytes, 2 * 4 * len(target) / seconds / 1e9)

    def floor_ms(self, macs: float) -> float:
        """Milliseconds for so many multiply-accumulates."""
        return 1e3 * 2 * macs / self.gflops / 1e9

    def traffic_ms(self, numbers: int) -> float:
        """Milliseconds for so many float32 numbers to pass memory."""
        return 1e3 * 4 * numbers / self.gbytes / 1e9


def cpu_name() -> str:
    """The CPU's model and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"


def true_macs(net: SpectralNet, cost: NetCost) -> int:
    """Multiply-accumulates of a pass, without what thop's rule adds to transposed convolutions."""
    total = cost.macs
    for row in cost.rows:
        layer = net.get_submodule(row.name)
        if isinstance(layer, nn.ConvTranspose2d):
            total -= row.macs - row.macs // prod(layer.stride)
    return total


def scan_exps(cost: NetCost) -> float:
    """Exponentials of a pass: a scan makes three multiply-accumulates for each."""
    return sum(row.macs for row in cost.rows if row.kind == "scan") / 3


def layer_numbers(net: SpectralNet, inputs: tuple[Tensor, ...]) -> int:
    """Numbers that go into and come out of all innermost layers in a forward pass."""
    total = 0

    def note(_: nn.Module, given: tuple[Any, ...], result: Any) -> None:
        nonlocal total
        results = result if isinstance(result, tuple) else (result,)
        total += sum(t.numel() for t in (*given, *results) if isinstance(t, Tensor))

    innermost = [layer for layer in net.modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in innermost]
    forward(net, inputs)
    for hook in hooks:
        hook.remove()
    return total


# --- Shares of a forward pass ------------------------------------------------------------------


class Stopwatch:
    """Process time by kind of layer; time within an inner layer is not the outer one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        """Give the time since the last turn to the innermost open layer."""
        now = time.process_time()
        self.seconds[self._open[-1] if self._open else "rest"] += now - self._since
        self._since = now

    def start(self) -> None:
        """Begin with no layer open."""
        self._since = time.process_time()

    def stop(self) -> None:
        """Give the rest of the time away."""
        self._turn()

    def watched(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        """``function``, its time put to ``kind``."""

        def call(*arguments: Any, **options: Any) -> Any:
            self._turn()
            self._open.append(kind)
            try:
                return function(*arguments, **options)
            finally:
                self._turn()
                self._open.pop()

        return call


def kinds_of_layers(net: SpectralNet, cost: NetCost) -> dict[str, str]:
    """Name of a layer to the share that it belongs to: what :mod:`pixelssr_geo.nets.cost` counts."""
    own = {row.name: row.kind for row in cost.rows if row.kind in SHARES}
    kinds = {}
    for name, layer in net.named_modules():
        if name in own:
            kinds[name] = own[name]
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            kinds[name] = "convolution"
        elif not any(layer.children()):
            kinds[name] = "rest"
    return kinds


def shares(case: Case, cost: NetCost, repeat: int) -> dict[str, float]:
    """Fractions of a forward pass by kind of layer, over ``repeat`` passes."""
    net, inputs = case.create(), case.inputs()
    forward(net, inputs)
    watch = Stopwatch()
    layers = dict(net.named_modules())
    for name, kind in kinds_of_layers(net, cost).items():
        layer = layers[name]
        for method in ("forward", "invert"):  # a transform's way back is no layer of its own
            if hasattr(layer, method):
                setattr(layer, method, watch.watched(getattr(layer, method), kind))
    watch.start()
    for _ in range(repeat):
        forward(net, inputs)
    watch.stop()
    total = sum(watch.seconds.values())
    return {kind: watch.seconds[kind] / total for kind in SHARES}


# --- Memory ------------------------------------------------------------------------------------


def status_mb(key: str) -> float:
    """A figure of this process as Linux tells it, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024 / 1e6


def growth_mb(function: Callable[[], object]) -> float:
    """MB by which this process grows at the peak of one call."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = status_mb("VmRSS")
    function()
    return status_mb("VmHWM") - before


def print_memory(case: Case) -> None:
    """Print the peaks of a forward pass and a training step: what the subprocess is for."""
    torch.set_num_threads(1)
    net, inputs, small = case.create(), case.inputs(), case.inputs(16)
    forward(net, small)  # libraries load what they need
    peaks = {"forward_mb": growth_mb(lambda: forward(net, inputs))}
    train_step(net, small)
    peaks["train_mb"] = growth_mb(lambda: train_step(net, inputs))
    print(json.dumps(peaks))


def memory(case: Case) -> dict[str, float]:
    """Peaks of a forward pass and a training step in a process of their own; {} if none is told."""
    if case.backend == LOOP or not Path("/proc/self/clear_refs").exists():
        return {}
    command = [sys.executable, __file__, "--memory-of", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return peaks


# --- Time --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Times:
    """The best times of one case so far, seconds a tile."""

    forward: float = float("inf")
    train: float = float("inf")
    wall: float = float("inf")
    """By the clock, all workers together; of the plain loop, never measured."""


def wall_seconds(net: SpectralNet, inputs: tuple[Tensor, ...], workers: int, calls: int) -> float:
    """Seconds by the clock of ``calls`` passes on ``workers`` threads, each with one inside."""

    def work(_: int) -> None:
        forward(net, inputs)

    # The number of inner threads is a setting of each thread.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(work, range(workers)))
        start = time.perf_counter()
        list(pool.map(work, range(calls)))
        return time.perf_counter() - start


def time_cases(
    cases: Sequence[Case], machine: Machine, *, repeat: int, workers: int
) -> dict[Case, Times]:
    """The best times of all cases, from interleaved rounds."""
    nets = {case: (case.create(), case.inputs()) for case in cases}
    best = {case: Times() for case in cases}
    for net, inputs in nets.values():
        forward(net, inputs)
        train_step(net, inputs)
    for turn in range(repeat):
        print(f"round {turn + 1} of {repeat}", file=sys.stderr)
        machine.measure()
        for case, (net, inputs) in nets.items():
            once = cpu_seconds(partial(forward, net, inputs))
            both = cpu_seconds(partial(train_step, net, inputs))
            known = best[case]
            known.forward = min(known.forward, once / case.tiles)
            known.train = min(known.train, both / case.tiles)
            if case.backend != LOOP:
                calls = 4 * max(workers, 2)
                wall = wall_seconds(net, inputs, workers, calls) / calls
                known.wall = min(known.wall, wall / case.tiles)
    return best


# --- The report --------------------------------------------------------------------------------


def describe(case: Case, times: Times, machine: Machine, repeat: int) -> dict[str, Any]:
    """The figures of one case that need no other."""
    net = case.create()
    cost = measure_cost(net, case.side, case.side, batch=case.batch)
    macs = true_macs(net, cost)
    floor = machine.floor_ms(macs + EXP_MACS * scan_exps(cost)) / case.tiles
    numbers = layer_numbers(net, case.inputs()) / case.tiles
    return {
        "net": case.net,
        "backend": case.backend,
        "bands": case.bands,
        "channels": case.channels,
        "batch": case.batch,
        "side": case.side,
        "forward_ms": 1e3 * times.forward,
        "train_ms": 1e3 * times.train,
        "train_over_forward": times.train / times.forward,
        **({} if case.backend == LOOP else {"tiles_per_s": 1 / times.wall}),
        **memory(case),
        "parameters": cost.parameters,
        "gmacs": macs / case.tiles / 1e9,
        "floor_ms": floor,
        "gap": 1e3 * times.forward / floor,
        "traffic_ms": machine.traffic_ms(int(numbers)),
        **{f"share_{kind}": part for kind, part in shares(case, cost, repeat).items()},
    }


def add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """Put the ratios to MST++ and to the plain loop of the same size into every row."""
    by_key = {(row["net"], row["backend"], row["bands"], row["channels"]): row for row in rows}
    for row in rows:
        size = row["bands"], row["channels"]
        yardstick = by_key[YARDSTICK, "", *size]
        loop = by_key.get((row["net"], LOOP, *size))
        for kind in ("forward", "train"):
            row[f"{kind}_over_mstpp"] = row[f"{kind}_ms"] / yardstick[f"{kind}_ms"]
            if loop is not None:
                row[f"loop_over_{kind}"] = loop[f"{kind}_ms"] / row[f"{kind}_ms"]
        if "tiles_per_s" in row:
            row["tiles_over_mstpp"] = row["tiles_per_s"] / yardstick["tiles_per_s"]


HEADINGS = {
    "forward_ms": ("forward ms", "9.1f"),
    "train_ms": ("train ms", "9.1f"),
    "train_over_forward": ("train / fwd", "5.2f"),
    "tiles_per_s": ("tiles/s", "6.2f"),
    "tiles_over_mstpp": ("tiles / MST++", "5.2f"),
    "forward_over_mstpp": ("fwd / MST++", "5.2f"),
    "train_over_mstpp": ("train / MST++", "5.2f"),
    "loop_over_forward": ("loop / fwd", "6.1f"),
    "loop_over_train": ("loop / train", "6.1f"),
    "forward_mb": ("fwd MB", "6.0f"),
    "train_mb": ("train MB", "6.0f"),
    "gmacs": ("G MACs", "6.2f"),
    "floor_ms": ("floor ms", "7.1f"),
    "gap": ("gap", "6.1f"),
    "traffic_ms": ("traffic ms", "7.1f"),
    **{f"share_{kind}": (kind, "6.1%") for kind in SHARES},
}
TABLES = (
    tuple(HEADINGS)[:5],
    tuple(HEADINGS)[5:11],
    tuple(HEADINGS)[11:15],
    tuple(HEADINGS)[15:],
)


def label(row: dict[str, Any]) -> str:
    """What the row is about, for the table."""
    backend = f" {row['backend']}" if row["backend"] else ""
    return f"{row['net']}{backend} {row['bands']}->{row['channels']}"


def print_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print some columns of all rows; what a row does not have is a dash."""
    print(" " * 30 + "".join(f"{HEADINGS[name][0]:>14s}" for name in columns))
    for row in rows:
        cells = (format(row[n], HEADINGS[n][1]) if n in row else "-" for n in columns)
        print(f"{label(row):30s}" + "".join(f"{cell.strip():>14s}" for cell in cells))
    print()


def print_markdown(path: Path) -> None:
    """Print the rows of a CSV file as the tables of the documentation."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    about = rows[0]
    print(
        f"{about['cpu']}, torch {about['torch']}, {about['workers']} workers; one thread: "
        f"{float(about['gflops']):.0f} GFLOP/s, copy {float(about['gbytes']):.0f} GB/s.\n"
    )
    for columns in TABLES:
        headings = ["network", *(HEADINGS[name][0] for name in columns)]
        print("| " + " | ".join(headings) + " |")
        print("|---" * len(headings) + "|")
        for row in rows:
            cells = [
                format(float(row[name]), HEADINGS[name][1]).strip() if row[name] else ""
                for name in columns
            ]
            print("| " + " | ".join([label(row), *cells]) + " |")
        print()


def append_rows(path: Path, rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> None:
    """Append the rows to a CSV file, with what is true of the run in every one."""
    fields = [*about, "net", "backend", "bands", "channels", "batch", "side", "parameters"]
    fields += list(HEADINGS)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="")
        if fresh:
            writer.writeheader()
        for row in rows:
            rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow({**about, **rounded})


def size(text: str) -> tuple[int, int]:
    """Bands and channels from ``3:31``."""
    bands, channels = text.split(":")
    return int(bands), int(channels)


def make_cases(options: argparse.Namespace) -> list[Case]:
    """The networks at all sizes, MST++ first, and each that scans with every backend."""
    sizes = options.sizes[:1] if options.quick else options.sizes
    scans = options.backends or available_backends()
    names = dict.fromkeys([YARDSTICK, *(find_net(name).name for name in options.nets)])
    cases = []
    for (bands, channels), name in product(sizes, names):
        net = create_net(name, bands=bands, channels=channels)
        backends = scans if "scan_backend" in net.options else [""]
        cases += [Case(name, bands, channels, backend, options.batch) for backend in backends]
    return cases


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="*", default=["dypro-mamba"], help="beside MST++")
    parser.add_argument("--sizes", type=size, nargs="+", default=[(3, 31), (4, 60)])
    parser.add_argument("--backends", nargs="+", help="scan backends, by default all there are")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of timing")
    parser.add_argument("--batch", type=int, default=1, help="tiles in a batch")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads")
    parser.add_argument("--out", type=Path, help="CSV file that rows are appended to")
    parser.add_argument(
        "--quick", action="store_true", help="first size, two rounds: a minute or two"
    )
    parser.add_argument("--table", type=Path, help="only print a CSV file as Markdown")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)  # the subprocess of `memory`
    return parser


def main() -> None:
    """Measure, print the tables, append to the CSV file."""
    options = make_parser().parse_args()
    if options.memory_of:
        print_memory(Case(**json.loads(options.memory_of)))
        return
    if options.table:
        print_markdown(options.table)
        return
    torch.set_num_threads(1)
    repeat = 2 if options.quick else options.repeat
    cases = make_cases(options)
    machine = Machine()
    times = time_cases(cases, machine, repeat=repeat, workers=options.workers)
    rows = [describe(case, times[case], machine, repeat) for case in cases]
    add_ratios(rows)
    about = {
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "workers": options.workers,
        "gflops": round(machine.gflops, 2),
        "gbytes": round(machine.gbytes, 2),
    }
    print(
        f"{about['cpu']}; torch {torch.__version__}; one thread: {machine.gflops:.0f} GFLOP/s, "
        f"copy {machine.gbytes:.1f} GB/s; {SIDE} x {SIDE} pixels, batch {options.batch}; "
        f"{options.workers} workers\n"
    )
    for columns in TABLES:
        print_table(rows, columns)
    if options.out:
        append_rows(options.out, rows, about)


if __name__ == "__main__":
    main()
