"""Seams of the tiled network: how much a pixel's value depends on where the lattice of tiles lies.

    python tests/benchmarks/seams.py --table results.csv
    python tests/benchmarks/seams.py [--quick] [--scenes landscape muufl] [--methods dypro paper]
        [--overlaps 0 16] [--steps N] [--out results.csv]

The networks see a whole tile, so no distance is beyond their reach. Each is trained once on its
scene, and the same pixels are then reconstructed with the lattice at several places (the scene's
first rows and columns are cut off). Places are multiples of 8 pixels, as the strides are: inside a
network pixels are merged two by two, on the same grid in every tile of a lattice. The pixels that
are compared are a tile and more away from the scene's edge. Differences are in reflectance, root
mean squares over pixels, channels and pairs of places, unless said otherwise.

difference  between two lattices, all pixels
99.9 %      its 99.9th percentile, as an absolute value
at borders  the same within 2 pixels of a border of a tile of either lattice
centres     the same over the tenth of the pixels farthest from such borders
step        how much the difference changes from one pixel to the next across such a border: the
            visible edge
/ network   "at borders" over what the network adds; for `paper`, over the cube's departure from its
            mean spectrum, as nothing else is there
/ error     "at borders" over the error against the reference
PSNR        of the cube over the compared pixels, dB, peak 1, mean of the places

`dypro` is the correction trained on the scene, its gate wide open: what a product with an open
gate does at most. `paper` draws its modelled spectra by the number of the tile, so that another
lattice is another draw. In "paper" they are tied to the scene instead, and only the lattice
differs; in "paper, draw" only the draw differs; in "paper, as used" both do.

Without overlap, the difference and the error are given by the distance from the nearest border as
well. "one pixel changed" is how far a network reaches inside a tile: the middle pixel of some tiles
is made brighter by a tenth, "response" is the change of the result at a distance over that at the
pixel itself, and "squares beyond" the share of the squared change that lies farther away.

"computed" is the number of tiles that are computed, as each block computes all that touch it, over
the number that cover the scene without overlap; in parentheses over the tiles of the lattice.

Scenes: the synthetic landscape with 200 points; MUUFL Gulfport with 100, which is real but smaller
than a tile: trained as it is, then mirrored over and over, as tiles beyond a scene's edge are.
"""

import argparse
import csv
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# As the command line does, before torch is imported: see pixelssr_geo.cli.main.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import rioxarray  # noqa: F401  (registers .rio)
import torch
import xarray as xr
from numpy.typing import NDArray

from pixelssr_geo.estimator import BlendedEstimator
from pixelssr_geo.fitting import FittedModel, SceneReader, fit
from pixelssr_geo.landscape import field_points, make_landscape
from pixelssr_geo.points import PointSpectra, read_points
from pixelssr_geo.scene import open_cube, open_scene
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.tiling.plan import TilePlan, Window, plan_tiles
from pixelssr_geo.training.loop import side_by_side
from pixelssr_geo.training.pixel import PixelModel

HERE = Path(__file__).resolve()
TILE = 128
GRID = 8
"""Pixels that a lattice is moved by are a multiple of this."""
PLACES = ((0.0, 0.0), (0.31, 0.62), (0.64, 0.23))
"""Where the lattices lie: rows and columns in parts of a stride."""
DEPTHS = (0, 1, 2, 4, 8, 16, 32, 64)
"""Pixels from a border, and from a pixel that is changed."""
BRIGHTER = 1.1
"""What a pixel is multiplied by to see how far that tells."""
BLOCKS = (512, 768, 1024)
FIELDS = ("table", "scene", "case", "at", "figure", "value")
WHOLE_TILES = 12_288
"""Side of a scene that blocks of all sizes divide."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    overlaps: tuple[int, ...] = (0, 8, 16, 24, 32, 48, 64)
    places: int = 3
    points: int = 200
    """On the landscape."""
    tiles: int = 8
    """Tiles in which a pixel is changed."""
    compared: int = 256
    """Rows and columns that are compared."""
    steps: int | None = None
    """Of training; None is the default of the method."""

    @property
    def size(self) -> int:
        """Rows and columns of a scene: it goes on for a tile and more around what is compared."""
        return self.window.row_stop + TILE

    @property
    def window(self) -> Window:
        """What is compared, in the whole scene: around a corner of the tiles without overlap."""
        first = 3 * TILE - self.compared // 2
        return Window(first, first, self.compared, self.compared)


QUICK = Plan(overlaps=(0, 32), places=2, points=60, tiles=1, compared=32, steps=2)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network trained on a scene."""

    scene: str
    name: str
    model: FittedModel
    """Its reader gives the scene, made as large as the plan wants it."""
    truth: NDArray[np.float32]
    """The reference over the plan's window, ``(channel, y, x)``."""


# --- Scenes ------------------------------------------------------------------------------------


def landscape(plan: Plan, method: str) -> Case:
    """A network trained on the synthetic landscape."""
    made = make_landscape(plan.size)
    sensor = get_sensor("GF6-PMS")
    bands = np.einsum("bc,cyx->byx", sensor.matrix(made.channels), made.cube, optimize=True)
    bands += bands.mean() / 200 * np.random.default_rng(0).standard_normal(bands.shape)
    step, _, west, _, _, north = made.transform
    scene = xr.DataArray(
        bands.astype("f4"),
        dims=("band", "y", "x"),
        coords={
            "band": list(sensor.names),
            "wavelength": ("band", sensor.centres_nm),
            "y": north - step * (np.arange(plan.size) + 0.5),
            "x": west + step * (np.arange(plan.size) + 0.5),
        },
        attrs={"sensor": "GF6-PMS"},
    ).rio.write_crs(made.crs)
    x, y, rows, cols = field_points(made, plan.points, position_error_m=0)
    points = PointSpectra(
        tuple(f"p{number}" for number in range(plan.points)),
        x,
        y,
        scene.rio.crs.to_wkt(),
        made.channels.centres_nm,
        made.cube[:, rows, cols].T.astype("f8"),
    )
    model = fit(scene, points, Settings.of(method=method, steps=plan.steps))
    return Case("landscape", method, model, made.cube[:, *plan.window.slices])


def muufl(plan: Plan, method: str) -> Case:
    """A network trained on MUUFL Gulfport, which is mirrored to the plan's size afterwards."""
    folder = benchmark_folder()
    reference = open_cube(folder / "muufl" / "reference.tif")
    scene = open_scene(
        folder / "muufl" / "scene_s0.tif", response=folder / "gf6_pms_response.csv", scale=1
    )
    points = read_points(folder / "muufl" / "points_0100_s0.gpkg")
    like = f"like:{folder / 'muufl' / 'reference.tif'}"
    model = fit(scene, points, Settings.of(method=method, wavelengths=like, steps=plan.steps))
    bands = model.reader.window(Window(0, 0, *model.reader.shape))
    model = replace(model, reader=SceneReader(mirrored(bands, plan.size)))
    truth = mirrored(np.asarray(reference.values, "f4"), plan.size)
    return Case("muufl", method, model, truth[:, *plan.window.slices])


def benchmark_folder() -> Path:
    """The frozen scenes, beside the real data."""
    data = Path(os.environ.get("PIXELSSR_DATA", HERE.parents[3] / "shared" / "data"))
    return data.parent / "benchmark"


def mirrored(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Values ``(band, y, x)`` continued to ``size`` rows and columns by mirroring."""
    after = ((0, size - length) for length in values.shape[1:])
    return np.pad(values, ((0, 0), *after), mode="reflect")


SCENES = {"landscape": landscape, "muufl": muufl}


# --- Reconstruction on a moved lattice ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lattice:
    """A lattice of tiles that starts at some row and column of the whole scene."""

    plan: TilePlan
    """Of the scene without the rows and columns before it."""
    row: int
    col: int

    def distances(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels between the window's rows ``(y,)`` and columns ``(x,)`` and the nearest border."""
        return (
            self._along(self.plan.row_starts, self.row, window.row, window.height),
            self._along(self.plan.col_starts, self.col, window.col, window.width),
        )

    def _along(
        self, starts: tuple[int, ...], moved: int, first: int, count: int
    ) -> NDArray[np.int64]:
        pixels = first + np.arange(count)
        borders = np.unique(np.add.outer((0, self.plan.tile), starts)) + moved
        gap = pixels[:, None] - borders
        return np.asarray(np.where(gap >= 0, gap, -gap - 1).min(1))


def lattices(plan: Plan, overlap: int) -> list[Lattice]:
    """The lattice of an overlap at every place."""
    stride = TILE - overlap
    found = []
    for place in PLACES[: plan.places]:
        row, col = (GRID * round(part * stride / GRID) for part in place)
        shape = plan.size - row, plan.size - col
        found.append(Lattice(plan_tiles(shape, tile=TILE, overlap=overlap), row, col))
    return found


class TiedToScene:
    """A paper model whose modelled spectra belong to pixels of the scene, not of a tile."""

    def __init__(self, model: Any, lattice: Lattice, size: int) -> None:
        self.model, self.lattice = model, lattice
        self.field = model.guide((size, size), 0)

    def __call__(
        self, stack: NDArray[np.float32], tiles: NDArray[np.int64], device: torch.device
    ) -> NDArray[np.float32]:
        """As :meth:`pixelssr_geo.training.pixel.PixelModel.__call__`."""
        results = []
        for image, index in zip(stack, tiles, strict=True):
            tile = self.lattice.plan.tile_window(int(index))
            placed = Window(tile.row + self.lattice.row, tile.col + self.lattice.col, *tile.shape)
            guide = self.field[:, *placed.slices]
            results.append(run_paper(self.model, image, guide, device))
        return np.stack(results)


def run_paper(
    model: Any, image: NDArray[np.float32], guide: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """The cube of one tile for given modelled spectra, reflectance."""
    with torch.inference_mode():
        x, prompt = (torch.from_numpy(values[None].copy()).to(device) for values in (image, guide))
        cube = model.net(x * model.gain, prompt)[0] / model.gain
    return np.asarray(cube.cpu().numpy())


def reconstructed(
    model: FittedModel, lattice: Lattice, window: Window, pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """The cube over a window of the whole scene, ``(channel, y, x)``."""
    data = model.reader.data[:, lattice.row :, lattice.col :]
    estimator = model.estimator
    if isinstance(estimator, BlendedEstimator):
        estimator = estimator.moved(-lattice.row, -lattice.col)
    moved = replace(model, reader=SceneReader(data), estimator=estimator)
    local = Window(window.row - lattice.row, window.col - lattice.col, *window.shape)
    return moved.block(lattice.plan, local, pool)


# --- Seams -------------------------------------------------------------------------------------


class Differences:
    """What two lattices' cubes differ by over a window, gathered over pairs."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.sizes: list[NDArray[np.float32]] = []
        self.squares: list[NDArray[np.float64]] = []
        self.distances: list[NDArray[np.int64]] = []
        self.steps: list[NDArray[np.float64]] = []

    def add(self, cubes: Sequence[NDArray[np.float32]], lattices: Sequence[Lattice]) -> None:
        """Take in a pair of cubes ``(channel, y, x)`` with their lattices."""
        difference = cubes[0] - cubes[1]
        self.sizes.append(np.abs(difference).ravel())
        self.squares.append((difference.astype("f8") ** 2).mean(0).ravel())
        # Rows and columns, from the nearest border of either lattice.
        each = (lattice.distances(self.window) for lattice in lattices)
        both = [np.minimum(*pair) for pair in zip(*each, strict=True)]
        self.distances.append(np.minimum.outer(*both).ravel())
        for axis, gaps in enumerate(both, 1):
            steps = (np.diff(difference.astype("f8"), axis=axis) ** 2).mean(0)
            across = (gaps[1:] == 0) & (gaps[:-1] == 0)
            self.steps.append(np.compress(across, steps, axis - 1).ravel())

    def figures(self) -> dict[str, float]:
        """The table's columns on differences."""
        squares, distances = np.concatenate(self.squares), np.concatenate(self.distances)
        central = distances >= np.quantile(distances, 0.9)
        return {
            "difference": root(squares),
            "percentile": float(np.quantile(np.concatenate(self.sizes), 0.999)),
            "borders": root(squares[distances < 2]),
            "centres": root(squares[central]),
            "step": root(np.concatenate(self.steps)),
        }

    def by_depth(self) -> dict[int, float]:
        """The difference by the distance from the nearest border, pixels."""
        squares, distances = np.concatenate(self.squares), np.concatenate(self.distances)
        return dict(in_depths(squares, distances))


def root(squares: NDArray[np.float64]) -> float:
    """Square root of the mean."""
    return float(np.sqrt(squares.mean()))


def in_depths(
    squares: NDArray[np.float64], distances: NDArray[np.int64]
) -> Iterator[tuple[int, float]]:
    """The root mean square from each of the depths to the next."""
    for first, stop in itertools.pairwise((*DEPTHS, TILE)):
        inside = (distances >= first) & (distances < stop)
        if inside.any():
            yield first, root(squares[inside])


def measure_seams(case: Case, plan: Plan, pool: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
    """Rows on differences, errors and depths for one network."""
    paper = case.model.pixel_model is not None
    base = departure(case.model, plan)
    for overlap in plan.overlaps:
        placed = lattices(plan, overlap)
        found: dict[str, list[NDArray[np.float32]]] = {}
        for lattice in placed:
            for name, model in variants(case, lattice, plan):
                cube = reconstructed(model, lattice, plan.window, pool)
                found.setdefault(name, []).append(cube)
        if paper and not overlap:
            found["paper, draw"] = redrawn(case.model, placed[0], plan, pool)
        for name, cubes in found.items():
            where = [placed[0]] * len(cubes) if name == "paper, draw" else placed
            yield from told(case, name, plan.window, where, cubes, base)


def variants(case: Case, lattice: Lattice, plan: Plan) -> Iterator[tuple[str, FittedModel]]:
    """What is reconstructed on every lattice, by name."""
    if case.model.pixel_model is None:
        yield case.name, case.model
        return
    tied: Any = TiedToScene(case.model.pixel_model, lattice, plan.size)
    yield "paper", replace(case.model, pixel_model=tied)
    yield "paper, as used", case.model


def redrawn(
    model: FittedModel, lattice: Lattice, plan: Plan, pool: ThreadPoolExecutor
) -> list[NDArray[np.float32]]:
    """Cubes on one lattice with different draws of the modelled spectra."""
    assert model.pixel_model is not None
    cubes = []
    for seed in range(2):
        drawn = replace(model.pixel_model, seed=seed)
        cubes.append(reconstructed(replace(model, pixel_model=drawn), lattice, plan.window, pool))
    return cubes


def departure(model: FittedModel, plan: Plan) -> NDArray[np.float32] | None:
    """The cube without the network over the compared pixels, or None where there is none."""
    if model.estimator is None:
        return None
    bare = replace(model, correction=None, gate=None)
    lattice = Lattice(plan_tiles(model.reader.shape, tile=TILE), 0, 0)
    return bare.block(lattice.plan, plan.window)


def told(
    case: Case,
    name: str,
    window: Window,
    lattices: list[Lattice],
    cubes: list[NDArray[np.float32]],
    base: NDArray[np.float32] | None,
) -> Iterator[dict[str, Any]]:
    """The rows of one overlap."""
    gathered = Differences(window)
    for a, b in itertools.combinations(range(len(cubes)), 2):
        gathered.add((cubes[a], cubes[b]), (lattices[a], lattices[b]))
    missed = [((cube.astype("f8") - case.truth) ** 2).mean(0) for cube in cubes]
    added = [
        (cube - (cube.mean((1, 2), keepdims=True) if base is None else base)) ** 2 for cube in cubes
    ]
    figures = gathered.figures()
    error = root(np.stack(missed))
    figures |= {
        "network": root(np.stack(added).astype("f8")),
        "error": error,
        "psnr": -20 * float(np.log10(error)),
    }
    key = {"scene": case.scene, "case": name}
    overlap = lattices[0].plan.overlap
    for figure, value in figures.items():
        yield {"table": "seams", **key, "at": overlap, "figure": figure, "value": value}
    if overlap:
        return
    for depth, value in gathered.by_depth().items():
        yield {"table": "depth", **key, "at": depth, "figure": "difference", "value": value}
    distances = [np.minimum.outer(*lattice.distances(window)) for lattice in lattices]
    for depth, value in in_depths(np.stack(missed).ravel(), np.stack(distances).ravel()):
        yield {"table": "depth", **key, "at": depth, "figure": "error", "value": value}


# --- Reach -------------------------------------------------------------------------------------


def measure_reach(case: Case, plan: Plan) -> Iterator[dict[str, Any]]:
    """Rows on how far a pixel that is made brighter changes a tile's result."""
    middle = TILE // 2
    rows, cols = np.indices((TILE, TILE)) - middle
    away = np.hypot(rows, cols)
    total = np.zeros((TILE, TILE))
    draws = np.random.default_rng(0)
    for row, col in draws.integers(0, plan.size - TILE, (plan.tiles, 2)):
        tile = case.model.reader.window(Window(int(row), int(col), TILE, TILE))
        changed = tile.copy()
        changed[:, middle, middle] *= BRIGHTER
        before, after = (run_tile(case.model, image) for image in (tile, changed))
        total += ((after.astype("f8") - before) ** 2).mean(0)
    key = {"table": "reach", "scene": case.scene, "case": case.name}
    for distance in DEPTHS:
        ring = total[np.abs(away - distance) < 0.5]
        response = float(np.sqrt(ring.mean() / total[middle, middle]))
        beyond = float(total[away > distance].sum() / total.sum())
        yield {**key, "at": distance, "figure": "response", "value": response}
        yield {**key, "at": distance, "figure": "beyond", "value": beyond}


def run_tile(model: FittedModel, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network makes of one tile, ``(channel, y, x)``."""
    assert model.device is not None
    if isinstance(model.pixel_model, PixelModel):
        return run_paper(
            model.pixel_model, image, model.pixel_model.guide((TILE, TILE), 0), model.device
        )
    from pixelssr_geo.training.correction import correct_tiles

    assert model.correction is not None
    assert model.estimator is not None
    estimate = SceneReader(image).estimate(model.estimator, 0, 0, TILE)
    return correct_tiles(model.correction, [estimate], image[None], model.device)[0]


# --- Cost --------------------------------------------------------------------------------------


def measure_cost(plan: Plan) -> Iterator[dict[str, Any]]:
    """Rows on the tiles that an overlap costs."""
    key = {"table": "cost", "scene": "", "case": ""}
    least = plan_tiles((1000, 1000), tile=TILE, overlap=0).tile_count
    for overlap in plan.overlaps:
        tiles = plan_tiles((1000, 1000), tile=TILE, overlap=overlap).tile_count
        yield {**key, "at": overlap, "figure": "tiles", "value": tiles}
        yield {**key, "at": overlap, "figure": "relative", "value": tiles / least}
        for block in BLOCKS:
            whole = plan_tiles((WHOLE_TILES, WHOLE_TILES), tile=TILE, overlap=overlap, block=block)
            computed = sum(len(whole.tiles_of(window)) for window in whole.blocks)
            area = (WHOLE_TILES / TILE) ** 2
            yield {
                **key, "at": overlap, "figure": f"computed {block}", "value": computed / area
            }  # fmt: skip
            yield {
                **key, "at": overlap, "figure": f"again {block}",
                "value": computed / whole.tile_count,
            }  # fmt: skip


# --- Tables ------------------------------------------------------------------------------------


def print_tables(rows: Sequence[dict[str, Any]]) -> None:
    """Print all tables in Markdown."""
    values = {tuple(str(row[name]) for name in FIELDS[:5]): float(row["value"]) for row in rows}
    first = True
    for table, show in TABLES.items():
        if any(key[0] == table for key in values):
            if not first:
                print()
            first = False
            show({key[1:]: value for key, value in values.items() if key[0] == table})


Values = dict[tuple[str, ...], float]


def unique(values: Values, *columns: int) -> list[tuple[str, ...]]:
    """The different keys in these columns, in order."""
    return list(dict.fromkeys(tuple(key[column] for column in columns) for key in values))


def heading(*names: str) -> None:
    """Print the head of a table."""
    print("| " + " | ".join(names) + " |")
    print("|---" * len(names) + "|")


def line(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(map(str, cells)) + " |")


def show_seams(values: Values) -> None:
    """Print the differences between lattices, and their ratios."""
    heading(
        "scene", "network", "overlap", "difference", "99.9 %", "at borders", "centres", "step",
        "/ network", "/ error", "PSNR",
    )  # fmt: skip
    for scene, case, overlap in unique(values, 0, 1, 2):
        found = {
            key[3]: value for key, value in values.items() if key[:3] == (scene, case, overlap)
        }
        plain = ("difference", "percentile", "borders", "centres", "step")
        line(
            scene,
            case,
            overlap,
            *(f"{found[name]:.2e}" for name in plain),
            *(f"{found['borders'] / found[name]:.1%}" for name in ("network", "error")),
            f"{found['psnr']:.3f}",
        )


def show_depth(values: Values) -> None:
    """Print difference and error by the distance from a border, without overlap."""
    depths = [at for (at,) in unique(values, 2)]
    heading("scene", "network", "without overlap", *(spans(depths)))
    names = {"difference": "difference", "error": "error"}
    for scene, case in unique(values, 0, 1):
        for figure, name in names.items():
            cells = (values.get((scene, case, depth, figure)) for depth in depths)
            line(scene, case, name, *("" if c is None else f"{c:.2e}" for c in cells))


def spans(depths: Sequence[str]) -> list[str]:
    """Names of the distances, from each to the next."""
    firsts = [*map(int, depths), TILE]
    pairs = itertools.pairwise(firsts)
    return [f"{a} px" if b == a + 1 else f"{a}-{min(b, TILE // 2) - 1} px" for a, b in pairs]


def show_reach(values: Values) -> None:
    """Print the decay of the response."""
    distances = [at for (at,) in unique(values, 2)]
    heading("scene", "network", "one pixel changed", *(f"{at} px" for at in distances))
    for scene, case in unique(values, 0, 1):
        for figure, name in {"response": "response", "beyond": "squares beyond"}.items():
            cells = (values[scene, case, at, figure] for at in distances)
            shown = (f"{c:.1e}" if figure == "response" else f"{c:.1%}" for c in cells)
            line(scene, case, name, *shown)


def show_cost(values: Values) -> None:
    """Print the tiles that an overlap costs."""
    heading(
        "overlap", "tiles on 1,000 x 1,000", "relative",
        *(f"computed, blocks of {block}" for block in BLOCKS),
    )  # fmt: skip
    for (overlap,) in unique(values, 2):
        found = {key[3]: value for key, value in values.items() if key[2] == overlap}
        blocks = (
            f"{found[f'computed {block}']:.2f} ({found[f'again {block}']:.2f})" for block in BLOCKS
        )
        line(overlap, f"{found['tiles']:.0f}", f"{found['relative']:.2f}", *blocks)


# By the first column of the rows, in this order.
TABLES = {"seams": show_seams, "depth": show_depth, "reach": show_reach, "cost": show_cost}


# --- The command -------------------------------------------------------------------------------


def measure(plan: Plan, scenes: Iterable[str], methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    """All rows."""
    for scene, method in itertools.product(scenes, methods):
        started = time.perf_counter()
        case = SCENES[scene](plan, method)
        fitted = time.perf_counter()
        assert case.model.device is not None
        with side_by_side(case.model.device) as cores, ThreadPoolExecutor(cores) as pool:
            yield from measure_seams(case, plan, pool)
            yield from measure_reach(case, plan)
        spent = time.perf_counter() - fitted
        print(f"{scene} {method}: fit {fitted - started:.0f} s, {spent:.0f} s", file=sys.stderr)
    yield from measure_cost(plan)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs="+", choices=SCENES, help="default: those that are there")
    parser.add_argument("--methods", nargs="+", choices=("dypro", "paper"))
    parser.add_argument("--quick", action="store_true", help="a dry run of hardly trained networks")
    parser.add_argument("--overlaps", nargs="+", type=int, help="pixels, multiples of 8")
    parser.add_argument("--steps", type=int, help="of training; default: the method's")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--table", type=Path, help="only print a CSV file as Markdown")
    return parser


def main() -> None:
    """Measure, print the tables, write the CSV file."""
    options = make_parser().parse_args()
    if options.table:
        with options.table.open(newline="") as file:
            print_tables(list(csv.DictReader(file)))
        return
    scenes = options.scenes or ["landscape", *(["muufl"] if benchmark_folder().is_dir() else [])]
    plan = QUICK if options.quick else Plan()
    if options.steps is not None:
        plan = replace(plan, steps=options.steps)
    if options.overlaps:
        plan = replace(plan, overlaps=tuple(options.overlaps))
    rows = []
    with options.out.open("w", newline="") if options.out else nullcontext() as file:
        writer = csv.DictWriter(file, FIELDS) if file else None
        if writer:
            writer.writeheader()
        for row in measure(plan, scenes, options.methods or ("dypro", "paper")):
            rows.append({**row, "value": f"{row['value']:.6g}"})
            if file and writer:
                writer.writerow(rows[-1])
                file.flush()  # what is there outlives an interrupt
    print_tables(rows)


if __name__ == "__main__":
    main()
