"""Time, memory and size of cubes in files: COG, Zarr and ENVI, beside a COG interleaved by pixel.

    python tests/benchmarks/formats.py --table results.csv
    python tests/benchmarks/formats.py [--quick] [--size 2048] [--channels 60] [--repeat 5]
        [--folder DIR] [--out results.csv]

The cube is lazy (Dask, chunks of 512 x 512 pixels with all channels): smooth fields times smooth
spectra, with noise of 0.002. Every file is written in a process of its own.

write s     seconds from the lazy cube to the finished file, computing the values included; "values"
            is the time to compute them alone, and "COG by pixel" starts from our finished COG
peak MB     highest resident memory of that process (VmHWM), with the libraries it has loaded
MB          size on disk, overviews included, 10^6 bytes
channel     milliseconds to read one channel whole
window      milliseconds to read 512 x 512 pixels of one channel at half the resolution; from the
            overview where there is one, else averaged from 1024 x 1024 pixels
spectrum    milliseconds to read all channels of one pixel
channel / COG
            the time for a channel divided by our COG's
strict      what rio-cogeo's strict validation as a COG says

"COG by pixel" holds the same values as our COG and is copied from it by GDAL's COG driver, as most
tools do. Reads are the median of some, each of which opens the file anew, with 256 MB of GDAL's
cache; the formats take turns. The system's own cache of files is warm, so that no disk is measured.

Every run appends to the CSV file; the table of a file shows the medians of its runs.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
import zarr
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from pixelssr_geo.writers import CubeTemplate, write_cog, write_envi, write_zarr
from pixelssr_geo.writers.encoding import CubeDtype

CHUNK = 512
NOISE = 0.002
DTYPES: tuple[CubeDtype, ...] = ("float32", "uint16")
SUFFIXES = {"values": "", "cog": ".tif", "pixel": ".pixel.tif", "zarr": ".zarr", "envi": ".bsq"}
LABELS = {
    "values": "values",
    "cog": "COG",
    "pixel": "COG by pixel",
    "zarr": "Zarr",
    "envi": "ENVI",
}
CACHE = {"GDAL_CACHEMAX": 256 * 2**20}


@dataclass(frozen=True, slots=True)
class Job:
    """One file."""

    format: str
    dtype: CubeDtype
    size: int
    """Rows and columns."""
    channels: int
    folder: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.folder, f"{self.dtype}{SUFFIXES[self.format]}")

    @property
    def block(self) -> int:
        """Side of a COG's tiles: small for small cubes, so that they have overviews too."""
        return min(512, self.size // 4)


# --- The cube ----------------------------------------------------------------------------------


def lazy_cube(job: Job) -> xr.DataArray:
    """The cube, nothing of it computed."""
    wavelengths = np.linspace(400, 1000, job.channels)
    template = CubeTemplate(
        shape=(job.size, job.size),
        wavelengths_nm=tuple(wavelengths),
        fwhm_nm=(10.0,) * job.channels,
        crs_wkt=CRS.from_epsg(32633).to_wkt(),
        transform=(10.0, 0.0, 500000.0, 0.0, -10.0, 5800000.0),
        attrs={"software": "pixelssr-geo"},
    )
    sides = tuple(min(CHUNK, job.size - start) for start in range(0, job.size, CHUNK))
    values = da.map_blocks(
        values_of_block,
        wavelengths,
        chunks=((job.channels,), sides, sides),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return template.to_dataarray(values)


def values_of_block(
    wavelengths: NDArray[np.float64], block_info: Any = None
) -> NDArray[np.float32]:
    """Reflectance ``(channel, y, x)``: soil and leaves, mixed by a smooth field, with noise."""
    (row, row_stop), (col, col_stop) = block_info[None]["array-location"][1:]
    rng = np.random.default_rng([row, col])
    y, x = np.arange(row, row_stop)[:, None] / 97, np.arange(col, col_stop) / 61
    cover = (0.5 + 0.25 * (np.sin(y + np.cos(x)) + np.cos(x * 1.3 - y))).astype("f4")
    soil = (0.05 + 0.3 * (wavelengths - 400) / 600).astype("f4")
    leaves = (0.04 + 0.45 / (1 + np.exp((715 - wavelengths) / 12))).astype("f4")
    shape = (len(wavelengths), *cover.shape)
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= NOISE
    values += soil[:, None, None]
    values += cover * (leaves - soil)[:, None, None]
    return np.clip(values, 0, None, out=values)


# --- Writing -----------------------------------------------------------------------------------


def write(job: Job) -> None:
    """Write the file of a job."""
    if job.format == "pixel":
        copy_by_pixel(Job("cog", job.dtype, job.size, job.channels, job.folder).path, job)
        return
    cube = lazy_cube(job)
    if job.format == "values":
        for row in range(0, job.size, CHUNK):
            for col in range(0, job.size, CHUNK):
                cube.isel(y=slice(row, row + CHUNK), x=slice(col, col + CHUNK)).load()
    elif job.format == "cog":
        write_cog(cube, job.path, dtype=job.dtype, blocksize=job.block)
    elif job.format == "zarr":
        write_zarr(cube, job.path, dtype=job.dtype)
    else:
        write_envi(cube, job.path, dtype=job.dtype)


def copy_by_pixel(source: Path, job: Job) -> None:
    """Copy a COG with GDAL's COG driver, interleaved by pixel whatever its version."""
    rasterio.shutil.copy(
        source,
        job.path,
        driver="COG",
        interleave="PIXEL",
        blocksize=job.block,
        compress="ZSTD",
        level=3,
        predictor="YES",
        bigtiff="IF_SAFER",
        num_threads="ALL_CPUS",
    )


def run_write(job: Job) -> dict[str, float]:
    """Seconds, peak memory and size of one job, done in a process of its own."""
    command = [sys.executable, __file__, "--job", json.dumps(asdict(job))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def do_write(job: Job) -> None:
    """What that process does: write, and print the figures."""
    start = time.perf_counter()
    write(job)
    seconds = time.perf_counter() - start
    figures = {"write_s": seconds, "peak_mb": peak_mb()}
    if job.format != "values":
        figures["mb"] = bytes_on_disk(job.path) / 1e6
    print(json.dumps(figures))


def peak_mb() -> float:
    """Highest resident memory of this process so far, 2^20 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def bytes_on_disk(path: Path) -> int:
    """Bytes of a file with its header, or of a store."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    header = path.with_suffix(".hdr")
    return path.stat().st_size + (header.stat().st_size if path.suffix == ".bsq" else 0)


# --- Reading -----------------------------------------------------------------------------------


def read_channel(job: Job) -> NDArray[Any]:
    """One channel, whole."""
    channel = job.channels // 2
    if job.format == "zarr":
        return np.asarray(opened_store(job)[channel])
    with rasterio.open(job.path) as dataset:
        return np.asarray(dataset.read(channel + 1))


def read_window(job: Job) -> NDArray[Any]:
    """Part of one channel at half the resolution, lying on four tiles of a COG."""
    channel, start, side = job.channels // 2, job.block // 2, job.block
    if job.format in ("cog", "pixel"):
        with rasterio.open(job.path, overview_level=0) as dataset:
            return np.asarray(dataset.read(channel + 1, window=Window(start, start, side, side)))
    where = slice(2 * start, 2 * (start + side))
    if job.format == "zarr":
        fine = np.asarray(opened_store(job)[channel, where, where])
    else:
        window = Window(2 * start, 2 * start, 2 * side, 2 * side)
        with rasterio.open(job.path) as dataset:
            fine = dataset.read(channel + 1, window=window)
    return np.asarray(fine.reshape(side, 2, side, 2).mean(axis=(1, 3)))


def read_spectrum(job: Job) -> NDArray[Any]:
    """All channels of one pixel."""
    row, col = job.size // 3, job.size // 2 + 1
    if job.format == "zarr":
        return np.asarray(opened_store(job)[:, row, col])
    with rasterio.open(job.path) as dataset:
        return np.asarray(dataset.read(window=Window(col, row, 1, 1)))[:, 0, 0]


def opened_store(job: Job) -> Any:
    """The array of a Zarr store, as stored."""
    return zarr.open_array(job.path / "reflectance", mode="r", zarr_format=3)


READS: dict[str, Callable[[Job], NDArray[Any]]] = {
    "channel_ms": read_channel,
    "window_ms": read_window,
    "spectrum_ms": read_spectrum,
}


def time_reads(jobs: Sequence[Job], repeat: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each read of each format; formats take turns."""
    times: dict[tuple[str, str], list[float]] = {}
    for name, read in READS.items():
        results = {job.format: read(job).astype("f8") for job in jobs}
        check_same(name, jobs[0].dtype, results)
        for _ in range(repeat):
            for job in jobs:
                start = time.perf_counter()
                read(job)
                seconds = time.perf_counter() - start
                times.setdefault((job.format, name), []).append(1e3 * seconds)
    return {
        job.format: {name: statistics.median(times[job.format, name]) for name in READS}
        for job in jobs
    }


def check_same(name: str, dtype: str, results: dict[str, NDArray[np.float64]]) -> None:
    """Fail if two formats hold other values."""
    # Overviews in integers are rounded.
    tolerance = 0.51 if dtype == "uint16" else 1e-6
    for format, values in results.items():
        np.testing.assert_allclose(
            values, results["cog"], rtol=0, atol=tolerance, err_msg=f"{name} of {format}"
        )


# --- The table ---------------------------------------------------------------------------------


def measure(size: int, channels: int, folder: str, repeat: int) -> list[dict[str, Any]]:
    """The figures of all formats and types."""
    rows = []
    for dtype in DTYPES:
        jobs = [Job(name, dtype, size, channels, folder) for name in SUFFIXES]
        found: dict[str, dict[str, Any]] = {job.format: dict(run_write(job)) for job in jobs}
        with rasterio.Env(**CACHE):
            for name, times in time_reads(jobs[1:], repeat).items():
                found[name] |= times
        for job in jobs[1:]:
            found[job.format]["ratio"] = (
                found[job.format]["channel_ms"] / found["cog"]["channel_ms"]
            )
        for job in jobs:
            if job.format in ("cog", "pixel"):
                found[job.format]["valid"] = validity(job.path)
            about = {"format": job.format, "dtype": dtype, "size": size, "channels": channels}
            rows.append({**about, **found[job.format]})
    return rows


def validity(path: Path) -> str:
    """What strict validation as a COG says."""
    valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
    return "valid" if valid else "; ".join([*errors, *warnings])


HEADINGS = {
    "write_s": ("write s", ".1f"),
    "peak_mb": ("peak MB", ".0f"),
    "mb": ("MB", ".0f"),
    "channel_ms": ("channel ms", ".1f"),
    "window_ms": ("window ms", ".1f"),
    "spectrum_ms": ("spectrum ms", ".1f"),
    "ratio": ("channel / COG", ".1f"),
}
ABOUT = ("cpu", "gdal", "zarr")


def print_markdown(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as the table of the documentation, the medians of all runs."""
    first = rows[0]
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault((row["format"], row["dtype"]), []).append(row)
    count = len(next(iter(runs.values())))
    print(
        f"{first['cpu']}, GDAL {first['gdal']}, zarr {first['zarr']};"
        f" {first['size']} x {first['size']} pixels, {first['channels']} channels;"
        f" {count} {'run' if count == 1 else 'runs'}.\n"
    )
    headings = ["format", "type", *(heading for heading, _ in HEADINGS.values()), "strict"]
    print("| " + " | ".join(headings) + " |")
    print("|---" * len(headings) + "|")
    for (name, dtype), same in runs.items():
        numbers = [median_cell(same, column) for column in HEADINGS]
        said = ", ".join(dict.fromkeys(row.get("valid") or "" for row in same))
        print("| " + " | ".join([LABELS[name], dtype, *numbers, said]) + " |")


def median_cell(rows: Sequence[dict[str, Any]], column: str) -> str:
    """One figure of the same format in all runs."""
    values = [float(row[column]) for row in rows if row.get(column) not in (None, "")]
    return format(statistics.median(values), HEADINGS[column][1]) if values else ""


def append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows to a CSV file."""
    fields = [*ABOUT, "format", "dtype", "size", "channels", *HEADINGS, "valid"]
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="")
        if fresh:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})


def cpu_name() -> str:
    """The CPU's model and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048, help="rows and columns")
    parser.add_argument("--channels", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=5, help="reads that the median is taken of")
    parser.add_argument("--quick", action="store_true", help="512 x 512 pixels")
    parser.add_argument("--folder", type=Path, help="where the files are put for the time being")
    parser.add_argument("--out", type=Path, help="CSV file that rows are appended to")
    parser.add_argument("--table", type=Path, help="only print a CSV file as Markdown")
    parser.add_argument("--job", help=argparse.SUPPRESS)  # the process of `run_write`
    return parser


def main() -> None:
    """Measure, print the table, append to the CSV file."""
    options = make_parser().parse_args()
    if options.job:
        do_write(Job(**json.loads(options.job)))
        return
    if options.table:
        with options.table.open(newline="") as file:
            print_markdown(list(csv.DictReader(file)))
        return
    size = 512 if options.quick else options.size
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="formats-") as folder:
        found = measure(size, options.channels, folder, options.repeat)
    about = dict(zip(ABOUT, (cpu_name(), rasterio.__gdal_version__, version("zarr")), strict=True))
    rows = [{**about, **row} for row in found]
    print_markdown(rows)
    if options.out:
        append_rows(options.out, rows)


if __name__ == "__main__":
    main()
