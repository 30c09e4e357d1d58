"""The frozen benchmark: `reconstruct` then `evaluate`, every method, scene, seed and protocol.

    python tests/benchmarks/frozen.py --scenes potsdam --points 18 184 --seeds 0 1 2 \
        --methods product estimator ridge library --out results.csv

Finished cells of an existing CSV are not run again. `--table` prints the means as Markdown.
Protocol `random` scores all valid pixels without a label; `block` takes the points from every
other 10 x 10 block of a chequerboard and scores the other half; `corner` takes them from the upper
left 30 % x 30 % of the scene and scores outside it.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

from pixelssr_geo.evaluation import evaluate
from pixelssr_geo.points import PointSpectra, read_points
from pixelssr_geo.reconstruction import reconstruct_to_file
from pixelssr_geo.scene import open_cube, open_scene, pixel_grid
from pixelssr_geo.settings import Settings

HERE = Path(__file__).resolve()
FIELDS = (
    "scene",
    "protocol",
    "points",
    "seed",
    "method",
    "psnr",
    "sam",
    "rmse",
    "pixels",
    "cv_rmse",
    "gate",
    "residual",
    "seconds",
)


def benchmark_folder() -> Path:
    """The frozen scenes, beside the real data."""
    data = Path(os.environ.get("PIXELSSR_DATA", HERE.parents[3] / "shared" / "data"))
    return data.parent / "benchmark"


def places(
    protocol: str, valid: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the points, and which pixels are scored, for a protocol of our own draw."""
    rows, cols = np.indices(valid.shape)
    if protocol == "block":
        source = (rows // 10 + cols // 10) % 2 == 0
    else:
        source = (rows < 0.3 * valid.shape[0]) & (cols < 0.3 * valid.shape[1])
    inside = np.argwhere(valid & source)
    chosen = inside[np.random.default_rng(seed).choice(len(inside), count, replace=False)]
    return chosen, valid & ~source


def run(cell: dict[str, str], folder: Path) -> dict[str, object]:
    """One cell of the table."""
    scene_folder = folder / cell["scene"]
    seed, count = int(cell["seed"]), int(cell["points"])
    reference = open_cube(scene_folder / "reference.tif")
    scene = open_scene(
        scene_folder / f"scene_s{seed}.tif", response=folder / "gf6_pms_response.csv", scale=1
    )
    frozen = read_points(scene_folder / f"points_{count:04d}_s{seed}.gpkg")
    with tempfile.TemporaryDirectory() as name:
        out, mask = Path(name) / "cube.tif", None
        points: PointSpectra = frozen
        if cell["protocol"] != "random":
            values = reference.values
            grid = pixel_grid(reference)
            chosen, scored = places(cell["protocol"], np.isfinite(values).all(0), count, seed)
            x, y = grid.to_world(chosen[:, 0], chosen[:, 1])
            points = PointSpectra(
                tuple(f"p{i}" for i in range(count)),
                x,
                y,
                grid.crs_wkt,
                reference["wavelength"].values,
                values[:, chosen[:, 0], chosen[:, 1]].T.astype("f8"),
            )
            mask = Path(name) / "mask.tif"
            with rasterio.open(
                mask,
                "w",
                driver="GTiff",
                dtype="uint8",
                count=1,
                height=grid.shape[0],
                width=grid.shape[1],
                crs=grid.crs_wkt,
                transform=grid.affine,
            ) as dataset:
                dataset.write(scored.astype("u1"), 1)
        settings = Settings.of(
            method=cell["method"],
            wavelengths=f"like:{scene_folder / 'reference.tif'}",
            seed=seed,
        )
        start = time.perf_counter()
        _, summary = reconstruct_to_file(scene, points, out, settings)
        spent = time.perf_counter() - start
        score = evaluate(out, reference, exclude_points=points, mask=mask)
    validation = summary.cross_validation
    return {
        **cell,
        "psnr": round(score["psnr"], 3),
        "sam": round(score["sam"], 3),
        "rmse": round(score["rmse"], 6),
        "pixels": score["pixels"],
        "cv_rmse": round(validation["rmse"], 6) if validation else "",
        "gate": "" if summary.gate is None else round(summary.gate, 3),
        "residual": f"{summary.msi_residual_rmse:.2g}",
        "seconds": round(spent, 1),
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    """Finished cells."""
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, str]]) -> str:
    """Means over seeds, PSNR dB / SAM degrees, as Markdown."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    groups = dict.fromkeys((row["scene"], row["protocol"], int(row["points"])) for row in rows)
    lines = ["| scene | protocol | points | " + " | ".join(methods) + " |"]
    lines.append("|---" * (3 + len(methods)) + "|")
    for scene, protocol, points in sorted(groups):
        cells = []
        for method in methods:
            key = (scene, protocol, str(points), method)
            found = [
                row
                for row in rows
                if (row["scene"], row["protocol"], row["points"], row["method"]) == key
            ]
            if not found:
                cells.append("")
                continue
            psnr = np.mean([float(row["psnr"]) for row in found])
            sam = np.mean([float(row["sam"]) for row in found])
            seeds = f" ({len(found)})" if len(found) != 3 else ""
            cells.append(f"{psnr:.2f} / {sam:.2f}{seeds}")
        lines.append(f"| {scene} | {protocol} | {points} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", nargs="+", default=["potsdam"])
    parser.add_argument("--points", nargs="+", default=["18", "184"])
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--protocols", nargs="+", default=["random", "block"])
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["product", "estimator", "dypro", "paper", "ridge", "library"],
    )
    parser.add_argument("--out", type=Path, default=Path("frozen.csv"))
    parser.add_argument("--table", action="store_true", help="print the means and stop")
    options = parser.parse_args()
    if options.table:
        print(table(read_rows(options.out)))
        return
    done = {tuple(row[name] for name in FIELDS[:5]) for row in read_rows(options.out)}
    new = not options.out.exists()
    with options.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for scene in options.scenes:
            for method in options.methods:
                for protocol in options.protocols:
                    for points in options.points:
                        for seed in options.seeds:
                            key = (scene, protocol, points, seed, method)
                            if key in done:
                                continue
                            row = run(dict(zip(FIELDS, key, strict=False)), benchmark_folder())
                            writer.writerow(row)
                            file.flush()
                            print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
