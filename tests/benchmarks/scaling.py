"""Speed-up of a whole run with the number of processes, and where its CPU time goes.

    python tests/benchmarks/scaling.py --table scaling.csv
    python tests/benchmarks/scaling.py [--quick] [--workers 1 2] [--repeat 3] [--size 1536]
        [--method paper] [--folder DIR] [--out scaling.csv]
    python tests/benchmarks/scaling.py --profile [--quick] [--size 1024]
        [--profile-methods ridge dypro paper] [--folder DIR] [--out shares.csv]
    python tests/benchmarks/scaling.py --profile --table shares.csv

Scaling: `pixelssr-geo reconstruct` on a synthetic scene of four bands to 60 channels, uint16 Zarr,
with each number of workers in turn, so that other jobs on the machine hit them alike. Method
`paper` uses weights that were trained for a few steps; their quality does not change the speed.

tiles/s         tiles of the lattice per second of "reconstruct"; those that lie in several blocks
                are computed for each and count once
reconstruct s   from the fitted model to the last block, the start of the workers included; best
total s         of the whole run without the start of Python; best
speed-up        best time with the first number of workers divided by the best with this one

The number of blocks sets a limit of its own: of 9 equal blocks two workers do 5 and 4, which makes
1.8 at best. The default size gives blocks that two workers share evenly.

Profile: the same run within this process, block by block and tile by tile on one thread. CPU
seconds of the process are counted while a function runs, less those of the functions within it.
They include the threads of Zarr's codecs, which nothing else runs beside. The fit is left out.

read         windows of the scene: decompression, scale, nodata
estimator    the estimate and its deviation
network      forward passes
guide        modelled point spectra, which the paper's network takes as input
blend        cutting, filling and weighting of tiles
projection   agreement with the scene, and the residual that the summary reports
encode       to the type of the file
write        compression and files; for GeoTIFF the assembly from the store, too
rest         everything else within a block
overhead     read, blend, encode and write together
"""

from pixelssr_geo.process import prepare_process

prepare_process()  # as the command line does, before torch is imported

import argparse
import csv
import pkgutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from synthetic import (
    CHANNELS,
    CUBE,
    SCALE,
    SENSOR,
    append_row,
    cpu_name,
    reconstruct_command,
    rounded,
    summary_of,
    write_inputs,
    write_weights,
)

SIZE, PROFILE_SIZE, QUICK_SIZE = 1536, 1024, 300
PROFILED = ("ridge", "dypro", "paper")
FEW_STEPS = 2
STAGES = ("fit", "reconstruct", "write", "total")

ROOTS = {
    "pixelssr_geo.reconstruction.BlockWork.__call__": "rest",
    "pixelssr_geo.reconstruction.write_cog": "write",
}
"""Functions that are counted wherever they are called, and what for."""

PARTS = {
    "pixelssr_geo.fitting.SceneReader.holding": "read",
    "pixelssr_geo.fitting.SceneReader.window": "read",
    "pixelssr_geo.estimator.BlendedEstimator.mean": "estimator",
    "pixelssr_geo.estimator.BlendedEstimator.predict": "estimator",
    "pixelssr_geo.estimator.PixelEstimator.mean": "estimator",
    "pixelssr_geo.estimator.PixelEstimator.predict": "estimator",
    "pixelssr_geo.training.pixel.PixelModel.__call__": "network",
    "pixelssr_geo.training.pixel.PixelModel.guide": "guide",
    "pixelssr_geo.training.correction.correct_tiles": "network",
    "pixelssr_geo.fitting.blend_block": "blend",
    "pixelssr_geo.estimator.Projection.on_cube": "projection",
    "pixelssr_geo.fitting.FittedModel.misfit": "projection",
    "pixelssr_geo.writers.zarr_cube.encode": "encode",
    "pixelssr_geo.reconstruction.write_region": "write",
}
"""Functions that are counted within those, and what for."""

CATEGORIES = tuple(dict.fromkeys([*PARTS.values(), *ROOTS.values()]))
OVERHEAD = ("read", "blend", "encode", "write")


# --- Scaling -----------------------------------------------------------------------------------


def measure_scaling(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all runs; numbers of workers take turns."""
    size = options.size or (QUICK_SIZE if options.quick else SIZE)
    scene, field = write_inputs(folder, size)
    weights = write_weights(folder) if options.method == "paper" else None
    for turn in range(options.repeat):
        for workers in options.workers:
            command = reconstruct_command(
                scene,
                field,
                folder / "cube.zarr",
                options.method,
                weights=weights,
                workers=workers or None,
            )
            start = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            wall = time.perf_counter() - start
            if done.returncode:
                sys.exit(f"{' '.join(command)} ended with {done.returncode}")
            summary = summary_of(done.stdout)
            seconds = {f"{name}_s": summary["seconds"][name] for name in STAGES}
            yield {
                "cpu": cpu_name(),
                "method": options.method,
                "size": size,
                "channels": CHANNELS,
                "workers": workers,
                "turn": turn,
                "tiles": summary["tiles"],
                **seconds,
                "wall_s": wall,
            }


SCALING_FIELDS = (
    "cpu", "method", "size", "channels", "workers", "turn", "tiles",
    "fit_s", "reconstruct_s", "write_s", "total_s", "wall_s",
)  # fmt: skip


def print_scaling(rows: Sequence[dict[str, Any]]) -> None:
    """Print runs as the table of the documentation."""
    print(f"{rows[0]['cpu']}; {rows[0]['channels']} channels.\n")
    headings = (
        "method", "size", "workers", "runs", "tiles/s", "reconstruct s", "speed-up", "total s",
        "speed-up",
    )  # fmt: skip
    print("| " + " | ".join(headings) + " |")
    print("|---" * len(headings) + "|")
    cases: dict[tuple[str, int], dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        by_workers = cases.setdefault((row["method"], int(row["size"])), {})
        by_workers.setdefault(int(row["workers"]), []).append(row)
    for (method, size), by_workers in cases.items():
        first = next(iter(by_workers.values()))
        for workers, runs in by_workers.items():
            cells = [method, str(size), str(workers) if workers else "threads", str(len(runs))]
            cells.append(f"{int(runs[0]['tiles']) / best(runs, 'reconstruct_s'):.2f}")
            for name in ("reconstruct_s", "total_s"):
                cells += [f"{best(runs, name):.1f}", f"{best(first, name) / best(runs, name):.2f}"]
            print("| " + " | ".join(cells) + " |")


def best(rows: Sequence[dict[str, Any]], column: str) -> float:
    """Shortest time of some runs."""
    return min(float(row[column]) for row in rows)


# --- Profile -----------------------------------------------------------------------------------


class Clock:
    """CPU seconds of this process by category, each without those of what it calls."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(CATEGORIES, 0.0)
        self._running: list[str] = []
        self._since = 0.0

    def _lap(self) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def counted(
        self, function: Callable[..., Any], category: str, *, root: bool
    ) -> Callable[..., Any]:
        """The same function; while it runs, time counts for the category."""

        def counting(*arguments: Any, **named: Any) -> Any:
            if not (root or self._running):  # the fit, which may call from several threads
                return function(*arguments, **named)
            self._lap()
            self._running.append(category)
            try:
                return function(*arguments, **named)
            finally:
                self._lap()
                self._running.pop()

        return counting


@contextmanager
def counting_clock() -> Iterator[Clock]:
    """A clock that counts while the package's functions run, tile after tile on one thread."""
    clock = Clock()
    with ExitStack() as stack:
        for root, functions in ((True, ROOTS), (False, PARTS)):
            for name, category in functions.items():
                function = pkgutil.resolve_name(name)
                if name.endswith(".blend_block"):
                    function = without_pool(function)
                counted = clock.counted(function, category, root=root)
                stack.enter_context(mock.patch(name, counted))
        yield clock


def without_pool(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which leaves the pool that it is given alone."""

    def alone(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **{**named, "pool": None})

    return alone


def profile(method: str, size: int, format: str, folder: Path) -> dict[str, Any]:
    """The row of one run within this process."""
    from pixelssr_geo.points import read_points
    from pixelssr_geo.reconstruction import reconstruct_to_file
    from pixelssr_geo.scene import open_scene
    from pixelssr_geo.settings import Settings

    path, field = write_inputs(folder, size)
    given: dict[str, Any] = {"method": method, "wavelengths": CUBE}
    if method == "paper":
        given["weights"] = str(write_weights(folder))
    elif method == "dypro":
        given |= {"steps": FEW_STEPS, "folds": 2}
    with counting_clock() as clock:
        _, summary = reconstruct_to_file(
            open_scene(path, sensor=SENSOR, scale=SCALE),
            read_points(field),
            folder / f"{method}.{format}",
            Settings.of(**given),
            dtype="uint16",
            overwrite=True,
            threads=1,
        )
    total = sum(clock.seconds.values())
    return {
        "cpu": cpu_name(),
        "method": method,
        "size": size,
        "channels": CHANNELS,
        "format": format,
        "reconstruct_s": summary.seconds["reconstruct"],
        "cpu_s": total,
        **{name: seconds / total for name, seconds in clock.seconds.items()},
        "overhead": sum(clock.seconds[name] for name in OVERHEAD) / total,
    }


PROFILE_FIELDS = (
    "cpu", "method", "size", "channels", "format", "reconstruct_s", "cpu_s", *CATEGORIES, "overhead",
)  # fmt: skip


def print_profile(rows: Sequence[dict[str, Any]]) -> None:
    """Print shares as the table of the documentation, the medians of all runs."""
    print(f"{rows[0]['cpu']}; {rows[0]['channels']} channels.\n")
    headings = ("method", "size", "format", "CPU s/Mpixel", *CATEGORIES, "overhead")
    print("| " + " | ".join(headings) + " |")
    print("|---" * len(headings) + "|")
    cases: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault((row["method"], str(row["size"]), row["format"]), []).append(row)
    for (method, size, format), runs in cases.items():
        middle = {
            name: statistics.median(float(row[name]) for row in runs) for name in PROFILE_FIELDS[6:]
        }
        cells = [method, size, format, f"{middle['cpu_s'] / (int(size) ** 2 / 1e6):.2f}"]
        cells += [f"{100 * middle[name]:.1f} %" for name in (*CATEGORIES, "overhead")]
        print("| " + " | ".join(cells) + " |")


# --- The command -------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, help=f"rows and columns [default: {SIZE}, profile {PROFILE_SIZE}]"
    )
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="processes; 0: threads of one"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs with each number of workers")
    parser.add_argument("--method", choices=["paper", "ridge", "estimator"], default="paper")
    parser.add_argument("--profile", action="store_true", help="where the CPU time goes, instead")
    parser.add_argument("--profile-methods", nargs="+", choices=PROFILED, default=PROFILED)
    parser.add_argument(
        "--output-format", choices=["zarr", "tif"], default="zarr", help="of the profile"
    )
    parser.add_argument("--quick", action="store_true", help="300 x 300 pixels")
    parser.add_argument("--folder", type=Path, help="where files are put for the time being")
    parser.add_argument("--out", type=Path, help="CSV file that rows are appended to")
    parser.add_argument("--table", type=Path, help="only print a CSV file as Markdown")
    return parser


def measure_profile(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all methods."""
    size = options.size or (QUICK_SIZE if options.quick else PROFILE_SIZE)
    for method in options.profile_methods:
        yield profile(method, size, options.output_format, folder)


def main() -> None:
    """Measure, print the table, append to the CSV file."""
    options = make_parser().parse_args()
    show = print_profile if options.profile else print_scaling
    if options.table:
        with options.table.open(newline="") as file:
            show(list(csv.DictReader(file)))
        return
    measure = measure_profile if options.profile else measure_scaling
    fields = PROFILE_FIELDS if options.profile else SCALING_FIELDS
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="scaling-") as folder:
        for row in map(rounded, measure(options, Path(folder))):
            rows.append(row)
            if options.out:  # at once: a later run may fail
                append_row(options.out, row, fields)
    show(rows)


if __name__ == "__main__":
    main()
