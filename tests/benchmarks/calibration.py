"""Calibration: gains and offsets planted into the frozen scenes, recovered, and what it costs.

    python tests/benchmarks/calibration.py --scenes pines potsdam --points 18 21 184 210

Every scene becomes counts by a line of its own for each band; `reconstruct` gets the counts and
`--calibrate`. A row is the mean over the seeds: the largest error of a gain in percent, PSNR without
the planted lines (`plain`), with them and calibrated (`calibrated`), and calibrated where a fifth of
the points have another point's spectrum, used (`wrong`) or rejected (`rejected`); `plain wrong` is
the scene as it was with the wrong points. Scored over the valid pixels without a label.
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.calibration import LEAST_POINTS
from pixelssr_geo.errors import PixelSSRWarning
from pixelssr_geo.evaluation import evaluate
from pixelssr_geo.fitting import fit
from pixelssr_geo.points import PointSpectra, read_points
from pixelssr_geo.reconstruction import reconstruct
from pixelssr_geo.scene import open_cube, open_scene
from pixelssr_geo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr

HERE = Path(__file__).resolve()
COLUMNS = ("gain error %", "plain", "calibrated", "plain wrong", "wrong", "rejected")


def benchmark_folder() -> Path:
    """The frozen scenes, beside the real data."""
    data = Path(os.environ.get("PIXELSSR_DATA", HERE.parents[3] / "shared" / "data"))
    return data.parent / "benchmark"


def planted(bands: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gains and offsets as of 12-bit counts, offsets up to a tenth of the gain."""
    draws = np.random.default_rng([seed, 7])
    gain = draws.uniform(2000, 9000, bands)
    offset = gain * draws.uniform(0.01, 0.1, bands)
    return gain, offset * (kind == "gain-offset")


def with_wrong(points: PointSpectra, seed: int) -> PointSpectra:
    """A fifth of the points with the spectra of others."""
    wrong = np.random.default_rng([seed, 8]).permutation(len(points))[: max(2, len(points) // 5)]
    spectra = points.reflectance.copy()
    spectra[wrong] = spectra[np.roll(wrong, 1)]
    return replace(points, reflectance=spectra)


def cell(folder: Path, scene_name: str, count: int, seed: int, kind: str) -> list[float]:
    """The figures of one scene, number of points and seed."""
    place = folder / scene_name
    scene = open_scene(
        place / f"scene_s{seed}.tif", response=folder / "gf6_pms_response.csv", scale=1
    )
    points = read_points(place / f"points_{count:04d}_s{seed}.gpkg")
    wrong = with_wrong(points, seed)
    gain, offset = planted(scene.sizes["band"], kind, seed)
    counts = scene.copy(data=scene.data * gain[:, None, None] + offset[:, None, None])
    reference = open_cube(place / "reference.tif")
    asked: dict[str, Any] = {
        "method": "estimator",
        "wavelengths": f"like:{place / 'reference.tif'}",
    }

    def score(given: xr.DataArray, labels: PointSpectra, **options: Any) -> float:
        cube = reconstruct(given, labels, **asked, **options)
        return float(evaluate(cube, reference, exclude_points=points)["psnr"])

    found = fit(counts, points, Settings.of(**asked, calibrate=kind)).calibration
    assert found is not None
    return [
        100 * float(np.abs(found.gain / gain - 1).max()),
        score(scene, points),
        score(counts, points, calibrate=kind),
        score(scene, wrong),
        score(counts, wrong, calibrate=kind),
        score(counts, wrong, calibrate=kind, reject_outliers=True),
    ]


def sizes(place: Path, asked: list[int], kind: str) -> Iterator[int]:
    """Numbers of points that the scene has, and that were asked for."""
    for path in sorted(place.glob("points_*_s0.gpkg")):
        count = int(path.stem.split("_")[1])
        if count >= LEAST_POINTS[kind] and (not asked or count in asked):
            yield count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", nargs="+", default=["pines", "potsdam", "jasper", "muufl"])
    parser.add_argument("--points", nargs="+", type=int, default=[], help="numbers, by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--kind", choices=["gain", "gain-offset"], default="gain-offset")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", PixelSSRWarning)
    folder = benchmark_folder()
    print("| scene | points | " + " | ".join(COLUMNS) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for name in arguments.scenes:
        for count in sizes(folder / name, arguments.points, arguments.kind):
            cells = [cell(folder, name, count, seed, arguments.kind) for seed in arguments.seeds]
            figures = " | ".join(f"{value:.2f}" for value in np.mean(cells, axis=0))
            print(f"| {name} | {count} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
