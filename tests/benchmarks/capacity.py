"""Wall time, core hours and cost of large scenes by a small model, from rates measured here.

    python tests/benchmarks/capacity.py --table rates.json
    python tests/benchmarks/capacity.py [--quick] [--folder DIR] [--out rates.json]
    python tests/benchmarks/capacity.py --table rates.json [--workers 1 10 100]
        [--tile-seconds F] [--storage-mb-s F] [--price F]

    wall = python + fit + start + max(turns x work / blocks, blocks x hand-out, bytes / storage)
    fit = fit at once + pass x pixels            turns = blocks / workers, rounded up
    work = work x pixels + tile x tiles in blocks
    GeoTIFF: wall + assembly x pixels            core hours = workers x wall

python       seconds to start the command and to leave it
fit          seconds of the fit, a part at once, and a pass over the scene's pixels, on one core;
             weights are at hand
start        seconds until two new workers have done their first, tiny block
work         CPU seconds per 10^6 pixels of a worker but for the network: reading, estimate,
             blending, projection, compression, writing
tile         CPU seconds of the network for a tile of 128 x 128 pixels; tiles that several blocks
             touch are computed in each
hand-out     seconds in which the scheduler and the ledger deal with one block that takes no time
storage      10^6 bytes per second that can be written, here to the folder of this run
assembly     seconds per 10^6 pixels to make a COG of the store, on one machine

A worker is one core; with --tile-seconds it is one core with a GPU, which takes that long for a
tile (tests/benchmarks/gpu.py measures it), and core hours are GPU hours. The rates take some four
minutes to measure, with --quick one. The check runs the command with one and two workers and sets
its wall time beside the model's.
"""

from pixelssr_geo.process import prepare_process

prepare_process()  # as the command line does, before torch is imported

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from scaling import profile
from synthetic import (
    CHANNELS,
    SCALE,
    SENSOR,
    bytes_on_disk,
    cpu_name,
    reconstruct_command,
    summary_of,
    write_inputs,
    write_weights,
)

from pixelssr_geo.reconstruction import BLOCK
from pixelssr_geo.tiling.plan import Window, plan_tiles

METHODS = ("ridge", "estimator", "paper")
CHECKED = ("ridge", "paper")
NETWORK = ("network", "guide")
TINY = 64
MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done to measure."""

    network: int
    """Rows and columns of the scene that a network is timed on."""
    closed: int
    """Of the scene for the other methods, the pass and the assembly."""
    blocks: int
    """Blocks of no work."""
    storage_mb: int
    check_closed: int
    check_network: int


FULL = Sizes(768, 2304, 1000, 512, 3072, 1536)
QUICK = Sizes(200, 300, 50, 16, 300, 200)


@dataclass(frozen=True, slots=True)
class MethodRates:
    """What one method costs."""

    fit_s: float
    """The fit's part that does not grow with the scene."""
    start_s: float
    """From the fit to the first block done by new workers."""
    work_s: float
    """CPU seconds per 10^6 pixels, without the network."""
    tile_s: float
    """CPU seconds of the network for a tile, 0 without one."""


@dataclass(frozen=True, slots=True)
class Check:
    """A run that was measured."""

    method: str
    size: int
    workers: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class Rates:
    """All that the model knows."""

    cpu: str
    methods: dict[str, MethodRates]
    python_s: float
    pass_s: float
    """Seconds per 10^6 pixels of the pass over the scene in the fit."""
    block_s: float
    """Seconds of the scheduler and the ledger for one block."""
    assembly_s: float
    """Seconds per 10^6 pixels to make a COG."""
    bytes_px: float
    """Bytes of the store per pixel, all channels."""
    storage_mb_s: float
    checks: tuple[Check, ...] = ()

    @staticmethod
    def read(path: Path) -> "Rates":
        """The rates that :meth:`write` wrote."""
        values = json.loads(path.read_text())
        methods = {name: MethodRates(**rates) for name, rates in values.pop("methods").items()}
        checks = tuple(Check(**check) for check in values.pop("checks"))
        return Rates(methods=methods, checks=checks, **values)

    def write(self, path: Path) -> None:
        """Write all to a JSON file."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Job:
    """A scene to be reconstructed."""

    name: str
    rows: int
    cols: int

    @property
    def mega(self) -> float:
        """10^6 pixels."""
        return self.rows * self.cols / MEGA


JOBS = (
    Job("scene, 10,000 x 10,000", 10_000, 10_000),
    Job("Germany, 10 m", 60_000, 60_000),
    Job("Germany, 2 m", 300_000, 300_000),
)
"""Germany has 357,600 square kilometres: 3.6e9 pixels of 10 m and 9e10 of 2 m."""


# --- The model ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds of a run."""

    ahead_s: float
    """Python, fit and start: while nothing is computed in parallel."""
    compute_s: float
    """What the workers need for the blocks."""
    hand_out_s: float
    """What the scheduler needs for them."""
    storage_s: float
    """What the storage needs for them."""
    assembly_s: float

    @property
    def wall_s(self) -> float:
        """Seconds to a Zarr store."""
        return self.ahead_s + max(self.compute_s, self.hand_out_s, self.storage_s)

    @property
    def limit(self) -> str:
        """What takes longest."""
        times = {
            "workers": self.compute_s,
            "scheduler": self.hand_out_s,
            "storage": self.storage_s,
            "fit": self.ahead_s,
        }
        return max(times, key=lambda name: times[name])


def predict(rates: Rates, job: Job, method: str, workers: int) -> Prediction:
    """What the model says of a run."""
    cost = rates.methods[method]
    blocks = blocks_along(job.rows) * blocks_along(job.cols)
    work = cost.work_s * job.mega
    if cost.tile_s:
        work += cost.tile_s * tiles_along(job.rows) * tiles_along(job.cols)
    return Prediction(
        ahead_s=rates.python_s + cost.fit_s + rates.pass_s * job.mega + cost.start_s,
        compute_s=math.ceil(blocks / workers) * work / blocks,
        hand_out_s=blocks * rates.block_s,
        storage_s=rates.bytes_px * job.mega / rates.storage_mb_s,
        assembly_s=rates.assembly_s * job.mega,
    )


def blocks_along(size: int) -> int:
    """Blocks along one axis."""
    return math.ceil(size / BLOCK)


@lru_cache
def tiles_along(size: int) -> int:
    """Tiles along one axis, counted in every block that they touch."""
    plan = plan_tiles((size, 1), block=BLOCK)
    return sum(len(plan.tiles_of(block)) for block in plan.blocks)


# --- Measuring ---------------------------------------------------------------------------------


def measure(sizes: Sizes, folder: Path) -> Rates:
    """All rates and checks."""
    say("work of a block")
    for method in METHODS:  # what is loaded and compiled at the first use is a part of the start
        profile(method, TINY, "zarr", folder)
    profiles = {
        method: profile(
            method, sizes.network if method == "paper" else sizes.closed, "zarr", folder
        )
        for method in METHODS
    }
    say("start of workers")
    starts = {method: run(folder, method, TINY, workers=2) for method in METHODS}
    say("pass, hand-out, storage, assembly")
    pass_s = time_pass(folder, sizes.closed)
    methods = {
        method: MethodRates(
            fit_s=starts[method]["fit_s"],
            start_s=starts[method]["reconstruct_s"],
            **work_of(profiles[method]),
        )
        for method in METHODS
    }
    rates = Rates(
        cpu=cpu_name(),
        methods=methods,
        python_s=min(start["wall_s"] - start["total_s"] for start in starts.values()),
        pass_s=pass_s,
        block_s=time_hand_out(folder, sizes.blocks),
        assembly_s=time_assembly(folder, sizes.closed),
        bytes_px=bytes_on_disk(folder / "ridge.zarr") / sizes.closed**2,
        storage_mb_s=time_storage(folder, sizes.storage_mb),
    )
    say("checks")
    return replace(rates, checks=tuple(run_checks(sizes, folder)))


def say(what: str) -> None:
    """Tell on stderr what is being measured."""
    print(f"measuring: {what}", file=sys.stderr)


def work_of(row: dict[str, Any]) -> dict[str, float]:
    """Work and tile seconds from a profile."""
    size, share = row["size"], sum(row[name] for name in NETWORK)
    network = row["cpu_s"] * share
    return {
        "work_s": (row["cpu_s"] - network) / (size**2 / MEGA),
        "tile_s": network / tiles_along(size) ** 2,
    }


def run(folder: Path, method: str, size: int, *, workers: int) -> dict[str, float]:
    """Seconds of the stages of a run of the command, and by the wall clock."""
    scene, field = write_inputs(folder, size)
    weights = write_weights(folder) if method == "paper" else None
    command = reconstruct_command(
        scene, field, folder / "cube.zarr", method, weights=weights, workers=workers
    )
    seconds, done = timed(
        lambda: subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    )
    stages = summary_of(done.stdout)["seconds"]
    return {"wall_s": seconds, **{f"{name}_s": value for name, value in stages.items()}}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of a call, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def time_pass(folder: Path, size: int) -> float:
    """Seconds per 10^6 pixels of the fit's pass over the scene."""
    from pixelssr_geo.fitting import SceneReader, scene_statistics
    from pixelssr_geo.scene import open_scene

    path, _ = write_inputs(folder, size)
    reader = SceneReader(open_scene(path, sensor=SENSOR, scale=SCALE).data)
    seconds, _ = timed(lambda: scene_statistics(reader, lambda *_: None))
    return seconds / (size**2 / MEGA)


def time_hand_out(folder: Path, count: int) -> float:
    """Seconds for a block that takes no time, noted in the ledger, with two workers."""
    from pixelssr_geo.tiling.cluster import cluster_client, map_blocks_on
    from pixelssr_geo.tiling.ledger import Ledger

    blocks = [Window(0, col, 1, 1) for col in range(count)]

    def note(block: Window, nothing: float) -> None:
        ledger.add(block, squares=nothing, values=0)

    with (
        Ledger(folder / "ledger.jsonl", {"run": "empty"}) as ledger,
        cluster_client(workers=2) as client,
    ):
        map_blocks_on(client, blocks[:4], empty_block)
        seconds, _ = timed(lambda: map_blocks_on(client, blocks, empty_block, on_done=note))
    return seconds / count


def empty_block() -> Callable[[Window], float]:
    """What a worker calls for a block that takes no time."""
    return lambda block: 0.0


def time_assembly(folder: Path, size: int) -> float:
    """Seconds per 10^6 pixels of making a COG of a store."""
    from pixelssr_geo.scene import open_cube
    from pixelssr_geo.writers import write_cog

    cube = open_cube(folder / "ridge.zarr")
    seconds, _ = timed(lambda: write_cog(cube, folder / "cube.tif", dtype="uint16"))
    return seconds / (size**2 / MEGA)


def time_storage(folder: Path, megabytes: int) -> float:
    """10^6 bytes per second that reach the storage."""
    chunk = os.urandom(10**6)

    def write() -> None:
        with (folder / "storage").open("wb") as file:
            for _ in range(megabytes):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    seconds, _ = timed(write)
    return megabytes / seconds


def run_checks(sizes: Sizes, folder: Path) -> Iterable[Check]:
    """Runs of the command with one and two workers."""
    for method in CHECKED:
        size = sizes.check_network if method == "paper" else sizes.check_closed
        for workers in (1, 2):
            found = run(folder, method, size, workers=workers)
            yield Check(method, size, workers, round(found["wall_s"], 2))


# --- The tables --------------------------------------------------------------------------------


def print_rates(rates: Rates) -> None:
    """Print the rates."""
    print(f"{rates.cpu}; {CHANNELS} channels, uint16; blocks of {BLOCK} x {BLOCK} pixels.\n")
    print("| method | fit at once s | start s | work s/Mpixel | tile s |")
    print("|---|---|---|---|---|")
    for name, cost in rates.methods.items():
        tile = f"{cost.tile_s:.3f}" if cost.tile_s else ""
        print(f"| {name} | {cost.fit_s:.1f} | {cost.start_s:.1f} | {cost.work_s:.2f} | {tile} |")
    print(
        f"\npython {rates.python_s:.1f} s; pass {rates.pass_s:.3f} s/Mpixel; hand-out "
        f"{1e3 * rates.block_s:.1f} ms/block; {rates.bytes_px:.0f} bytes/pixel; storage "
        f"{rates.storage_mb_s:.0f} MB/s; assembly {rates.assembly_s:.2f} s/Mpixel."
    )


def print_predictions(rates: Rates, workers: Iterable[int], price: float) -> None:
    """Print what the model says of the large scenes."""
    print("| scene | method | workers | wall | core hours | cost | longest | GeoTIFF |")
    print("|---" * 8 + "|")
    for job in JOBS:
        for method in rates.methods:
            for count in workers:
                found = predict(rates, job, method, count)
                hours = count * found.wall_s / 3600
                cells = [
                    job.name, method, str(count), duration(found.wall_s), number(hours),
                    number(hours * price), found.limit, f"+ {duration(found.assembly_s)}",
                ]  # fmt: skip
                print("| " + " | ".join(cells) + " |")


def print_checks(rates: Rates) -> None:
    """Print the check of the model."""
    print("| method | size | workers | predicted s | measured s | predicted / measured |")
    print("|---" * 6 + "|")
    for check in rates.checks:
        job = Job("", check.size, check.size)
        told = predict(rates, job, check.method, check.workers).wall_s
        cells = [check.method, str(check.size), str(check.workers), f"{told:.1f}"]
        cells += [f"{check.wall_s:.1f}", f"{told / check.wall_s:.2f}"]
        print("| " + " | ".join(cells) + " |")


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def number(value: float) -> str:
    """Two digits, or all that are before the point."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def print_all(rates: Rates, options: argparse.Namespace) -> None:
    """Print the three tables, with what was given instead of measured."""
    if options.tile_seconds is not None:
        faster = {
            name: replace(cost, tile_s=options.tile_seconds if cost.tile_s else 0.0)
            for name, cost in rates.methods.items()
        }
        rates = replace(rates, methods=faster, checks=())
    if options.storage_mb_s is not None:
        rates = replace(rates, storage_mb_s=options.storage_mb_s)
    print_rates(rates)
    print()
    print_predictions(rates, options.workers, options.price)
    if rates.checks:
        print()
        print_checks(rates)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--tile-seconds", type=float, metavar="F", help="of a GPU, instead of tile")
    parser.add_argument(
        "--storage-mb-s", type=float, metavar="F", help="of the storage, instead of this folder's"
    )
    parser.add_argument("--price", type=float, default=0.05, metavar="F", help="of a core hour")
    parser.add_argument("--quick", action="store_true", help="small scenes; rates are rough")
    parser.add_argument("--folder", type=Path, help="where files are put for the time being")
    parser.add_argument("--out", type=Path, help="JSON file for the rates and checks")
    parser.add_argument(
        "--table", type=Path, help="print the tables of a JSON file, measure nothing"
    )
    return parser


def main() -> None:
    """Measure, print the tables, write the rates."""
    options = make_parser().parse_args()
    if options.table:
        rates = Rates.read(options.table)
    else:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="capacity-") as folder:
            rates = measure(QUICK if options.quick else FULL, Path(folder))
        if options.out:
            rates.write(options.out)
    print_all(rates, options)


if __name__ == "__main__":
    main()
