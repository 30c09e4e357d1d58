"""Scenes of any size, field points and weights for benchmarks of whole runs; no command itself.

Soil, leaves and water are mixed by smooth fields of the pixel's place and seen by GF-6 PMS, with
noise that is keyed by the block, so that a scene of 10,000 x 10,000 pixels takes no more memory to
write than one of 1,000 x 1,000. Spectra at points are those of the pixels under them.
"""

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window

from pixelssr_geo.points import PointSpectra, write_points
from pixelssr_geo.spectra import ChannelGrid, get_sensor

SENSOR = "GF6-PMS"
SPECTRUM = "400:1000:10"
"""Channels of the spectra at points, nm."""
CUBE = "405:995:10"
"""Channels of the cubes, nm: 60 between 400 and 1000 nm."""
CHANNELS = 60
POINTS = 60
SCALE = 1e-4
PIXEL_M = 8.0
CORNER = (390_000.0, 5_810_000.0)
NOISE = 0.002
FILE_BLOCK = 512
TRAINING_SIZE = 192
TRAINING_STEPS = 3

# Radians a pixel along rows and columns, and phase, of the waves that make up a field.
_COVER = np.array([[0.021, 0.013, 0.3], [0.0083, 0.031, 1.9], [0.0031, 0.0047, 4.2]])
_WETNESS = np.array([[0.0051, 0.0072, 2.1], [0.017, 0.0029, 0.7], [0.0019, 0.0121, 5.5]])
_LIGHT = np.array([[0.043, 0.037, 1.1], [0.0023, 0.0039, 3.3], [0.0113, 0.0061, 0.2]])


def materials(wavelengths_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reflectance of soil, leaves and water, ``(material, wavelength)``."""
    nm = wavelengths_nm
    soil = 0.05 + 0.3 * (nm - 400) / 600
    leaves = 0.04 + 0.06 * np.exp(-(((nm - 552) / 32) ** 2)) + 0.42 / (1 + np.exp((715 - nm) / 12))
    water = 0.01 + 0.05 * np.exp(-(nm - 400) / 160)
    return np.stack([soil, leaves, water])


def abundances(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float32]:
    """Share of each material times illumination, ``(material, row, col)``, of a grid of pixels."""
    cover, wetness, light = (_field(rows, cols, waves) for waves in (_COVER, _WETNESS, _LIGHT))
    leaves, dry = 0.5 + 0.5 * cover, 0.5 + 0.5 * wetness
    shares = np.stack([(1 - leaves) * dry, leaves, (1 - leaves) * (1 - dry)])
    return np.asarray(shares * (0.9 + 0.1 * light), "f4")


def _field(
    rows: NDArray[np.int64], cols: NDArray[np.int64], waves: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Mean of products of waves along rows and columns, -1 to 1: a matrix product of few terms."""
    along, across, phase = waves.T
    down = np.sin(np.outer(rows, along) + phase)
    right = np.cos(np.outer(across, cols) + phase[:, None])
    return np.asarray(down @ right / len(waves), "f4")


def write_scene(path: Path, size: int) -> None:
    """Write a square scene of four bands, uint16 in steps of 1e-4, block by block."""
    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": 4,
        "height": size,
        "width": size,
        "crs": CRS.from_epsg(32633),
        "transform": rasterio.transform.from_origin(*CORNER, PIXEL_M, PIXEL_M),
        "nodata": 0,
        "tiled": True,
        "blockxsize": FILE_BLOCK,
        "blockysize": FILE_BLOCK,
        "interleave": "pixel",
        "compress": "deflate",
        "zlevel": 1,
        "predictor": 2,
        "bigtiff": "if_safer",
    }
    # A block is written once and whole, so that there is nothing to keep for later.
    with (
        rasterio.Env(GDAL_CACHEMAX=64 * 2**20),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        for row, col, counts in scene_blocks(size):
            window = Window(col, row, counts.shape[2], counts.shape[1])
            dataset.write(counts, window=window)


def scene_blocks(size: int) -> Iterator[tuple[int, int, NDArray[np.uint16]]]:
    """First row, first column and counts ``(band, y, x)`` of the blocks of a scene."""
    channels = ChannelGrid.from_spec(SPECTRUM)
    seen = get_sensor(SENSOR).matrix(channels) @ materials(channels.centres_nm).T
    for row in range(0, size, FILE_BLOCK):
        for col in range(0, size, FILE_BLOCK):
            rows, cols = (np.arange(at, min(at + FILE_BLOCK, size)) for at in (row, col))
            values = np.einsum("bm,myx->byx", seen.astype("f4"), abundances(rows, cols))
            noise = np.random.Generator(np.random.Philox(key=1, counter=[0, 0, row, col]))
            values += NOISE * noise.standard_normal(values.shape, np.float32)
            yield row, col, np.rint(values / SCALE).clip(1, 65535).astype("u2")


def write_field(path: Path, size: int, count: int = POINTS) -> None:
    """Write a GeoPackage of spectra at random pixels of a scene of that size."""
    channels = ChannelGrid.from_spec(SPECTRUM)
    places = np.random.default_rng(2).choice(size * size, count, replace=False)
    rows, cols = np.divmod(places, size)
    shares = np.stack(
        [abundances(row[None], col[None])[:, 0, 0] for row, col in zip(rows, cols, strict=True)]
    )
    points = PointSpectra(
        ids=tuple(f"p{number}" for number in range(1, count + 1)),
        x=CORNER[0] + PIXEL_M * (cols + 0.5),
        y=CORNER[1] - PIXEL_M * (rows + 0.5),
        crs_wkt=CRS.from_epsg(32633).to_wkt(),
        wavelengths_nm=channels.centres_nm,
        reflectance=shares.astype("f8") @ materials(channels.centres_nm),
        source=str(path),
    )
    write_points(points, path)


def write_inputs(folder: Path, size: int) -> tuple[Path, Path]:
    """Write a scene and its points, unless they are there, and return where."""
    scene, field = folder / f"scene-{size}.tif", folder / f"field-{size}.gpkg"
    if not scene.exists():
        write_scene(scene, size)
        write_field(field, size)
    return scene, field


def write_weights(folder: Path) -> Path:
    """Train the paper's network for few steps on a small scene: its speed is that of any weights."""
    weights = folder / "weights.safetensors"
    if not weights.exists():
        scene, field = write_inputs(folder, TRAINING_SIZE)
        run_cli("train", scene, "--points", field, *INPUT_OPTIONS, "-o", weights,
                "--steps", TRAINING_STEPS, "-q")  # fmt: skip
    return weights


INPUT_OPTIONS = ("--sensor", SENSOR, "--scale", SCALE, "--wavelengths", CUBE)
"""What the command line is told of every scene here."""


def cli_command(*arguments: object) -> list[str]:
    """The package's command line in this Python."""
    return [sys.executable, "-m", "pixelssr_geo.cli", *map(str, arguments)]


def reconstruct_command(
    scene: Path,
    field: Path,
    output: Path,
    method: str,
    *,
    weights: Path | None = None,
    workers: int | None = None,
    dtype: str = "uint16",
) -> list[str]:
    """The command that reconstructs a scene and prints a JSON summary."""
    more: list[object] = ["--weights", weights] if weights else []
    more += ["--workers", workers] if workers else []
    return cli_command(
        "reconstruct", scene, "--points", field, "--method", method, "--dtype", dtype,
        *INPUT_OPTIONS, *more, "-o", output, "--overwrite", "--json", "-q",
    )  # fmt: skip


def run_cli(*arguments: object) -> str:
    """What the package's command line prints; its errors are shown and end this program."""
    done = subprocess.run(cli_command(*arguments), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def summary_of(printed: str) -> dict[str, Any]:
    """The summary that ``--json`` printed."""
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def bytes_on_disk(path: Path) -> int:
    """Bytes of a file or of everything in a folder."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """The same row with five digits of each number, in print as in its file."""
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}


def append_row(path: Path, row: dict[str, Any], fields: Sequence[str]) -> None:
    """Append a row to a CSV file."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def cpu_name() -> str:
    """The CPU's model and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"
