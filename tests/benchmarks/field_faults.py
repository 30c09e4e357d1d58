"""Field points with planted faults on the frozen scenes: what is found, and what rejection gives.

    python tests/benchmarks/field_faults.py --out field_faults.csv
    python tests/benchmarks/field_faults.py --table tests/benchmarks/results/field_faults.csv

Of 60 points, 10 % are moved by 3 pixels, 5 % scaled by 100 and 5 % given the spectrum of another
place; one has an id that is there twice, one the spectrum of another point, one lies on nodata, one
outside and one is NaN. `found` counts points with a warning or a fault that names theirs. The
estimator is then fitted on the points without faults, with them, and with them but with outliers
rejected. `--noise` adds what field spectra differ by from a satellite's pixel: brightness by so
much, every channel's colour by 0.4 of it in waves of about 100 nm.

False alarms of the score alone are counted on points without any fault.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.fitting import fit
from pixelssr_geo.metrics import psnr
from pixelssr_geo.pairing import SUSPICIOUS_Z, pair_points
from pixelssr_geo.points import PointSpectra, read_points
from pixelssr_geo.quality import PointQuality, PointsQuality, assess_points
from pixelssr_geo.scene import cube_channels, open_cube, open_scene, pixel_grid
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import SpectralResponse
from pixelssr_geo.tiling.plan import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import xarray as xr

HERE = Path(__file__).resolve()
RESULTS = HERE.with_name("results") / "field_faults.csv"
FIELDS = ("table", "scene", "seed", "points", "noise", "what", "planted", "found", "value")
FILES = {"jasper": 100, "muufl": 100, "potsdam": 184, "pines": 210}
MOVED = 3
ACCEPTED = {
    "moved 3 pixels": {"disagrees"},
    "scaled x100": {"disagrees", "units"},
    "another place": {"disagrees"},
    "id twice": {"duplicate id"},
    "same spectrum": {"same spectrum"},
    "on nodata": {"nodata"},
    "outside": {"outside"},
    "NaN": {"not finite"},
}
HARMLESS = {"shared pixel", "near nodata", "at the edge", "mixed ground", "negative"}
CASES = (
    "clean",
    "clean, rejected",
    "faulty",
    "faulty, rejected",
    "faulty but for x100",
    "the same, rejected",
)


@dataclass(frozen=True)
class Ground:
    """A scene, its true cube and points without faults."""

    name: str
    scene: xr.DataArray
    cube: np.ndarray
    points: PointSpectra
    response: SpectralResponse
    folder: Path


@dataclass(frozen=True)
class Planted:
    """Points with faults; rows of the points are rows of `kinds`."""

    points: PointSpectra
    scene: xr.DataArray
    kinds: tuple[str | None, ...]
    partners: frozenset[int]
    moves: dict[int, tuple[int, int]]


def benchmark_folder() -> Path:
    """The frozen scenes, beside the real data."""
    data = Path(os.environ.get("PIXELSSR_DATA", HERE.parents[3] / "shared" / "data"))
    return data.parent / "benchmark"


def ground(name: str, seed: int, folder: Path) -> Ground:
    """A frozen scene in memory."""
    table = folder / "gf6_pms_response.csv"
    scene = open_scene(folder / name / f"scene_s{seed % 3}.tif", response=table, scale=1).load()
    points = read_points(folder / name / f"points_{FILES[name]:04d}_s{seed % 3}.gpkg")
    cube = open_cube(folder / name / "reference.tif")
    response = SpectralResponse.from_file(table)
    return Ground(name, scene, cube.values, points, response, folder / name)


def drawn(points: PointSpectra, count: int, seed: int) -> tuple[PointSpectra, PointSpectra]:
    """Some of the points, and the others."""
    order = np.random.default_rng([seed, count]).permutation(len(points))
    return points.take(order[:count]), points.take(order[count:])


def roughened(points: PointSpectra, noise: float, seed: int) -> PointSpectra:
    """Spectra that differ from the scene's pixels as field spectra do."""
    if noise == 0:
        return points
    draws = np.random.default_rng([seed, 7])
    nm = points.wavelengths_nm
    level = draws.standard_normal((len(points), 1))
    turns = draws.uniform(0, 2 * np.pi, (len(points), 8, 1))
    lengths = draws.uniform(80, 400, (len(points), 8, 1))
    waves = np.sin(2 * np.pi * nm / lengths + turns).sum(1) / 2  # variance 1
    return replace(points, reflectance=points.reflectance * np.exp(noise * (level + 0.4 * waves)))


def plant(here: Ground, count: int, seed: int, noise: float = 0.0) -> Planted:
    """Points with faults of all kinds, and the scene with a pixel of nodata."""
    draws = np.random.default_rng([seed, 1])
    points, others = drawn(here.points, count, seed)
    points = roughened(points, noise, seed)
    scene, grid = here.scene.copy(deep=True), pixel_grid(here.scene)
    valid = np.isfinite(here.scene.values).all(0)
    rows, cols = grid.to_pixels(points.x, points.y)
    values = points.reflectance.copy()
    kinds: list[str | None] = [None] * count
    order = iter(draws.permutation(count).tolist())
    moves: dict[int, tuple[int, int]] = {}
    for _ in range(round(0.1 * count)):
        at = next(order)
        while True:
            turn = draws.uniform(0, 2 * np.pi)
            down, right = round(MOVED * np.sin(turn)), round(MOVED * np.cos(turn))
            row, col = rows[at] + down, cols[at] + right
            if grid.contains(row, col) and valid[row, col]:
                break
        rows[at], cols[at], moves[at] = row, col, (-down, -right)
        kinds[at] = "moved 3 pixels"
    for _ in range(round(0.05 * count)):
        at = next(order)
        values[at] *= 100
        kinds[at] = "scaled x100"
    for _ in range(round(0.05 * count)):
        at = next(order)
        values[at] = others.reflectance[draws.integers(len(others))]
        kinds[at] = "another place"
    hole, lost, copied, named = next(order), next(order), next(order), next(order)
    scene.values[:, rows[hole], cols[hole]] = np.nan
    values[lost] = np.nan
    kinds[hole], kinds[lost] = "on nodata", "NaN"
    far = next(order)
    kinds[far] = "outside"
    x, y = grid.to_world(rows, cols)
    x[far] += 10 * grid.shape[1] * abs(grid.transform[0])
    # Two points more: a copy under the same id, and the same spectrum under another elsewhere.
    free = np.argwhere(valid)[draws.integers(valid.sum())]
    there = grid.to_world(free[:1], free[1:])
    extended = replace(
        points.take(np.append(np.arange(count), [named, copied])),
        ids=(*points.ids, points.ids[named], "copy"),
        x=np.concatenate([x, x[[named]], there[0]]),
        y=np.concatenate([y, y[[named]], there[1]]),
        reflectance=np.concatenate([values, values[[named]] * 1.001, values[[copied]]]),
    )
    kinds += ["id twice", "same spectrum"]
    return Planted(extended, scene, tuple(kinds), frozenset({copied}), moves)


def judged(here: Ground, planted: Planted) -> PointsQuality:
    """What the check says about planted points."""
    channels = cube_channels(open_cube(here.folder / "reference.tif"))
    return assess_points(planted.points, planted.scene, channels=channels, response=here.response)


def is_found(point: PointQuality, kind: str) -> bool:
    """Whether a finding names the planted fault."""
    return bool({finding.kind for finding in point.findings} & ACCEPTED[kind])


def is_alarm(point: PointQuality) -> bool:
    """Whether a point without a fault has a warning or worse."""
    return any(
        finding.kind not in HARMLESS and finding.severity != "note" for finding in point.findings
    )


def count_faults(here: Ground, planted: Planted, seed: int, noise: float) -> Iterator[dict]:
    """Rows of the table of planted faults."""
    quality = judged(here, planted)
    tally: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for at, (point, kind) in enumerate(zip(quality.points, planted.kinds, strict=True)):
        name = kind or "none (false alarms)"
        if kind is None and at in planted.partners:
            continue
        tally[name][0] += 1
        tally[name][1] += is_found(point, kind) if kind else is_alarm(point)
        if kind == "moved 3 pixels" and point.place is not None and point.place.shift is not None:
            down, right = planted.moves[at]
            off = max(abs(point.place.shift.rows - down), abs(point.place.shift.cols - right))
            tally["place suggested"][0] += 1
            tally["place suggested"][1] += off <= 1
        if kind == "moved 3 pixels" and planted_difference(here, planted, at) > 0.2:
            tally["moved, bands differ by 20 %"][0] += 1
            tally["moved, bands differ by 20 %"][1] += is_found(point, kind)
    for name, (several, found) in tally.items():
        yield row("faults", here, seed, len(planted.points), noise, name, several, found)


def planted_difference(here: Ground, planted: Planted, at: int) -> float:
    """Relative difference between the bands where a moved point was and where it is."""
    grid = pixel_grid(here.scene)
    (r,), (c,) = grid.to_pixels(planted.points.x[[at]], planted.points.y[[at]])
    down, right = planted.moves[at]
    now, before = here.scene.values[:, r, c], here.scene.values[:, r + down, c + right]
    return float(np.sqrt(np.mean(((now - before) / np.maximum((now + before) / 2, 0.02)) ** 2)))


def count_alarms(here: Ground, seed: int, noise: float) -> Iterator[dict]:
    """Rows of the table of false alarms of the score on points without faults."""
    channels = cube_channels(open_cube(here.folder / "reference.tif"))
    for count in (5, 8, 15, 60):
        points, _ = drawn(here.points, count, seed)
        points = roughened(points, noise, seed)
        paired = pair_points(here.scene, points, channels=channels, response=here.response)
        scores = paired.matches.scores
        assert scores is not None
        found = int((scores.z > SUSPICIOUS_Z).sum())
        yield row("alarms", here, seed, count, noise, "alarms", count, found)


def measure_rejection(here: Ground, planted: Planted, seed: int, noise: float) -> Iterator[dict]:
    """Rows of the table of accuracies."""
    count = len(planted.points) - 2
    clean = roughened(drawn(here.points, count, seed)[0], noise, seed)
    values = planted.points.reflectance.copy()
    values[[kind == "scaled x100" for kind in planted.kinds]] /= 100
    milder = replace(planted.points, reflectance=values)
    runs = (
        (clean, here.scene, False),
        (clean, here.scene, True),
        (planted.points, planted.scene, False),
        (planted.points, planted.scene, True),
        (milder, planted.scene, False),
        (milder, planted.scene, True),
    )
    labelled = pixel_grid(here.scene).to_pixels(here.points.x, here.points.y)
    truth = here.cube.copy()
    truth[:, *labelled] = np.nan
    height, width = truth.shape[1:]
    for case, (points, scene, reject) in zip(CASES, runs, strict=True):
        settings = Settings.of(
            method="estimator",
            wavelengths=f"like:{here.folder / 'reference.tif'}",
            reject_outliers=reject,
        )
        model = fit(scene, points, settings, response=here.response)
        assert model.estimator is not None
        view = model.reader.view(Window(0, 0, height, width), model.estimator.halo)
        cube = model.estimator.mean(view)
        value = round(psnr(cube, truth), 3)
        yield row("accuracy", here, seed, len(points), noise, case, "", "", value)


def row(
    table: str,
    here: Ground,
    seed: int,
    points: int,
    noise: float,
    what: str,
    planted: int | str,
    found: int | str,
    value: float | str = "",
) -> dict[str, object]:
    """A row of the results."""
    cells = (table, here.name, seed, points, noise, what, planted, found, value)
    return dict(zip(FIELDS, cells, strict=True))


def tables(rows: list[dict[str, str]]) -> str:
    """The three tables as Markdown."""
    return "\n\n".join((fault_table(rows), accuracy_table(rows), alarm_table(rows)))


def scenes_of(rows: Iterable[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["scene"] for row in rows))


def noises_of(rows: Iterable[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["noise"] for row in rows))


def percent(noise: str) -> str:
    return f"{100 * float(noise):.0f} %"


def fault_table(rows: list[dict[str, str]]) -> str:
    """Found of planted by kind, scene and noise."""
    rows = [row for row in rows if row["table"] == "faults"]
    scenes, noises = scenes_of(rows), noises_of(rows)
    columns = [(scene, noise) for noise in noises for scene in scenes]
    names = [*ACCEPTED, "none (false alarms)", "moved, bands differ by 20 %", "place suggested"]
    lines = [
        "| planted | " + " | ".join(f"{scene}, noise {percent(n)}" for scene, n in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name in names:
        cells = []
        for scene, noise in columns:
            chosen = [
                row
                for row in rows
                if (row["scene"], row["noise"], row["what"]) == (scene, noise, name)
            ]
            found = sum(int(row["found"]) for row in chosen)
            planted = sum(int(row["planted"]) for row in chosen)
            cells.append(f"{found} / {planted}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def accuracy_table(rows: list[dict[str, str]]) -> str:
    """PSNR by scene and case, means over seeds."""
    rows = [row for row in rows if row["table"] == "accuracy"]
    lines = ["| scene | noise | " + " | ".join(CASES) + " |", "|---" * (2 + len(CASES)) + "|"]
    for noise in noises_of(rows):
        for scene in scenes_of(rows):
            cells = []
            for case in CASES:
                values = [
                    float(row["value"])
                    for row in rows
                    if (row["scene"], row["noise"], row["what"]) == (scene, noise, case)
                ]
                cells.append(f"{np.mean(values):.2f}" if values else "")
            lines.append(f"| {scene} | {percent(noise)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def alarm_table(rows: list[dict[str, str]]) -> str:
    """False alarms of the score in per cent of the points, by scene, noise and count."""
    rows = [row for row in rows if row["table"] == "alarms"]
    counts = sorted({int(row["points"]) for row in rows})
    lines = [
        "| scene | noise | " + " | ".join(f"{count} points" for count in counts) + " |",
        "|---" * (2 + len(counts)) + "|",
    ]
    for noise in noises_of(rows):
        for scene in scenes_of(rows):
            cells = []
            for count in counts:
                chosen = [
                    row
                    for row in rows
                    if (row["scene"], row["noise"], row["points"]) == (scene, noise, str(count))
                ]
                found = sum(int(row["found"]) for row in chosen)
                planted = sum(int(row["planted"]) for row in chosen)
                cells.append(f"{100 * found / planted:.1f} % of {planted}" if planted else "")
            lines.append(f"| {scene} | {percent(noise)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--scenes", nargs="+", default=["jasper", "muufl", "potsdam", "pines"])
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=10, help="draws of the faults")
    parser.add_argument("--fits", type=int, default=3, help="draws that are also fitted")
    parser.add_argument("--alarms", type=int, default=30, help="draws of points without faults")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--data", type=Path, default=benchmark_folder())
    parser.add_argument("--out", type=Path, default=Path("field_faults.csv"))
    parser.add_argument("--table", type=Path, help="print the tables of finished results and stop")
    options = parser.parse_args()
    if options.table is None:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            for noise in options.noise:
                for name in options.scenes:
                    for seed in range(max(options.seeds, options.alarms)):
                        here = ground(name, seed, options.data)
                        if seed < options.seeds:
                            planted = plant(here, options.points, seed, noise)
                            writer.writerows(count_faults(here, planted, seed, noise))
                            if seed < options.fits:
                                writer.writerows(measure_rejection(here, planted, seed, noise))
                        if seed < options.alarms:
                            writer.writerows(count_alarms(here, seed, noise))
                        file.flush()
    with (options.table or options.out).open(newline="") as file:
        print(tables(list(csv.DictReader(file))))


if __name__ == "__main__":
    main()
