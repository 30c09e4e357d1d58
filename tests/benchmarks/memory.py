"""Peak memory of all processes of a run together, and the run's speed, as the scene grows.

    python tests/benchmarks/memory.py --table results.csv
    python tests/benchmarks/memory.py [--quick] [--sizes 2000 4000 10000] [--method ridge]
        [--method network] [--workers 2] [--output-format zarr] [--dtype uint16]
        [--folder DIR] [--samples FILE] [--out results.csv]

A square scene of four bands (uint16, GF-6 PMS) and 60 points go through `pixelssr-geo reconstruct`,
to 60 channels between 400 and 1000 nm. "network" is method `paper` with weights that were trained
for a few steps, at the first size alone. Every 0.2 s all processes of the run are looked at from
outside (Linux).

all MB      highest sum over the processes of the memory that each has by itself plus its share of
            what several have mapped (PSS): what the run takes of the machine
RSS MB      highest sum of resident memory, in which shared pages count once for each process
client      highest PSS of the process that was started; Dask's scheduler is a part of it
worker      highest PSS of a worker, the largest of them; "other" are all other processes
peak in     stage in which the highest sum fell
fit ... s   seconds of the stages as the run reports them, and "wall" as seen from outside
GB          size of the cube on disk, 10^9 bytes
Mpixel/s    10^6 pixels of the scene per second of "total"

MB are 2^20 bytes. Every run appends to the CSV file; the table of a file shows, for each size and
method, the highest memory and the median of all else.
"""

import argparse
import csv
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from synthetic import (
    CHANNELS,
    append_row,
    bytes_on_disk,
    cpu_name,
    reconstruct_command,
    rounded,
    summary_of,
    write_inputs,
    write_weights,
)

SIZES = (2000, 4000, 10000)
QUICK_SIZES = (300,)
INTERVAL_S = 0.2
NETWORK = "network"
ROLES = ("client", "worker", "other")
STAGES = ("fit", "reconstruct", "write")
MB = 2**20


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    method: str
    size: int
    """Rows and columns."""
    workers: int
    """Processes of the local cluster; 0 for threads of one process."""
    format: str
    """Ending of the cube's name."""
    dtype: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of the processes at one moment."""

    seconds: float
    """Since the start."""
    pss: dict[tuple[str, int], int]
    """Bytes by role and process."""
    rss: int
    """Bytes of all."""

    @property
    def total(self) -> int:
        """PSS of all."""
        return sum(self.pss.values())


@dataclass(slots=True)
class Watch:
    """What was seen of a run."""

    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    """From the start of the process to its end."""

    def highest(self) -> Sample:
        """The moment when the run took most memory."""
        return max(self.samples, key=lambda sample: sample.total)

    def highest_of(self, role: str) -> int:
        """Highest PSS of one process of a role, bytes."""
        seen = (
            memory
            for sample in self.samples
            for (of, _), memory in sample.pss.items()
            if of == role
        )
        return max(seen, default=0)

    def stage(self, at_s: float, seconds: dict[str, float]) -> str:
        """Stage that a moment fell in, counted from the end: before the first lies the start."""
        left = self.seconds - at_s
        for name in reversed(STAGES):
            left -= seconds[name]
            if left < 0:
                return name
        return "start"


# --- Watching ----------------------------------------------------------------------------------


def watched(command: Sequence[str]) -> tuple[Watch, str]:
    """What is seen of a process and its descendants while it runs, and what it prints."""
    watch, start = Watch(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed)
        try:
            while process.poll() is None:
                watch.samples.append(sample_tree(process.pid, time.perf_counter() - start))
                time.sleep(INTERVAL_S)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        watch.seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}")
        printed.seek(0)
        return watch, printed.read()


def sample_tree(root: int, seconds: float) -> Sample:
    """Memory of a process and all its descendants now; those that end meanwhile are left out."""
    pss, rss = {}, 0
    for process in family(root):
        try:
            memory = pss_bytes(process.pid)
            rss += process.memory_info().rss
            pss[role(process, root), process.pid] = memory
        except (OSError, psutil.NoSuchProcess):
            continue
    return Sample(seconds, pss, rss)


def family(root: int) -> list[psutil.Process]:
    """A process and all its descendants, none if it has ended."""
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def role(process: psutil.Process, root: int) -> str:
    """What a process is for."""
    if process.pid == root:
        return "client"
    return "worker" if "spawn_main" in " ".join(process.cmdline()) else "other"


# --- Running -----------------------------------------------------------------------------------


def measure(case: Case, folder: Path) -> tuple[dict[str, Any], Watch]:
    """The figures of one run, whose cube is removed, and what was seen of it."""
    scene, points = write_inputs(folder, case.size)
    network = case.method == NETWORK
    output = folder / f"cube.{case.format}"
    command = reconstruct_command(
        scene,
        points,
        output,
        "paper" if network else case.method,
        weights=write_weights(folder) if network else None,
        workers=case.workers or None,
        dtype=case.dtype,
    )
    try:
        watch, printed = watched(command)
        size_gb = bytes_on_disk(output) / 1e9
    finally:
        remove(output)
    return figures(case, watch, summary_of(printed), size_gb), watch


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def figures(case: Case, watch: Watch, summary: dict[str, Any], size_gb: float) -> dict[str, Any]:
    """The row of one run."""
    highest, seconds = watch.highest(), summary["seconds"]
    row = {
        "cpu": cpu_name(),
        "method": case.method,
        "size": case.size,
        "channels": CHANNELS,
        "workers": case.workers,
        "format": case.format,
        "dtype": case.dtype,
        "pss_mb": highest.total / MB,
        "rss_mb": max(sample.rss for sample in watch.samples) / MB,
        **{f"{name}_mb": watch.highest_of(name) / MB for name in ROLES},
        "peak_in": watch.stage(highest.seconds, seconds),
        "told_mb": summary["peak_rss_mb"],
        **{f"{name}_s": seconds[name] for name in (*STAGES, "total")},
        "wall_s": watch.seconds,
        "gb": size_gb,
        "mpixel_s": case.size**2 / 1e6 / seconds["total"],
    }
    return rounded(row)


def write_samples(path: Path, case: Case, watch: Watch) -> None:
    """Append the course of a run's memory to a CSV file: seconds, and MB of each process."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["method", "size", "seconds", "role", "pid", "pss_mb"])
        for sample in watch.samples:
            for (name, pid), memory in sample.pss.items():
                row = [case.method, case.size, f"{sample.seconds:.1f}", name, pid]
                writer.writerow([*row, f"{memory / MB:.1f}"])


# --- The table ---------------------------------------------------------------------------------

HEADINGS = {
    "pss_mb": ("all MB", ".0f"),
    "rss_mb": ("RSS MB", ".0f"),
    "client_mb": ("client", ".0f"),
    "worker_mb": ("worker", ".0f"),
    "other_mb": ("other", ".0f"),
    "peak_in": ("peak in", "s"),
    "fit_s": ("fit s", ".1f"),
    "reconstruct_s": ("reconstruct s", ".1f"),
    "write_s": ("write s", ".1f"),
    "total_s": ("total s", ".1f"),
    "wall_s": ("wall s", ".1f"),
    "gb": ("GB", ".2f"),
    "mpixel_s": ("Mpixel/s", ".2f"),
}
CASE = ("method", "size", "workers", "format", "dtype")
FIELDS = ("cpu", *CASE, "channels", "told_mb", *HEADINGS)


def print_markdown(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as the table of the documentation."""
    runs: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault(tuple(str(row[name]) for name in CASE), []).append(row)
    print(f"{rows[0]['cpu']}; {rows[0]['channels']} channels.\n")
    headings = [*CASE, "runs", *(heading for heading, _ in HEADINGS.values())]
    print("| " + " | ".join(headings) + " |")
    print("|---" * len(headings) + "|")
    for case, same in runs.items():
        cells = [cell(same, column) for column in HEADINGS]
        print("| " + " | ".join([*case, str(len(same)), *cells]) + " |")


def cell(rows: Sequence[dict[str, Any]], column: str) -> str:
    """One figure of the runs of a case."""
    values = [row[column] for row in rows]
    if column == "peak_in":
        return ", ".join(dict.fromkeys(values))
    numbers = [float(value) for value in values]
    shown = max(numbers) if column.endswith("_mb") else statistics.median(numbers)
    return format(shown, HEADINGS[column][1])


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="rows and columns [default: 2000 4000 10000]"
    )
    parser.add_argument(
        "--method", action="append", help=f"method of the run, or {NETWORK} [default: ridge]"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes; 0: threads of one process"
    )
    parser.add_argument("--output-format", choices=["zarr", "tif"], default="zarr")
    parser.add_argument("--dtype", choices=["uint16", "float32"], default="uint16")
    parser.add_argument("--quick", action="store_true", help="300 x 300 pixels")
    parser.add_argument("--folder", type=Path, help="where files are put for the time being")
    parser.add_argument("--samples", type=Path, help="CSV file for the memory every 0.2 s")
    parser.add_argument("--out", type=Path, help="CSV file that rows are appended to")
    parser.add_argument("--table", type=Path, help="only print a CSV file as Markdown")
    return parser


def cases_of(options: argparse.Namespace) -> list[Case]:
    """The runs that were asked for."""
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    return [
        Case(method, size, options.workers, options.output_format, options.dtype)
        for method in options.method or ["ridge"]
        for size in (sizes[:1] if method == NETWORK else sizes)
    ]


def main() -> None:
    """Measure, print the table, append to the CSV file."""
    options = make_parser().parse_args()
    if options.table:
        with options.table.open(newline="") as file:
            print_markdown(list(csv.DictReader(file)))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="memory-") as folder:
        for case in cases_of(options):
            row, watch = measure(case, Path(folder))
            rows.append(row)
            if options.out:  # at once: a later run may fail
                append_row(options.out, row, FIELDS)
            if options.samples:
                write_samples(options.samples, case, watch)
    print_markdown(rows)


if __name__ == "__main__":
    main()
