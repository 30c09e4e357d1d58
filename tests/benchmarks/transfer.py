"""Does a network trained on other scenes help on a new one? Leave one scene out, and see.

    python tests/benchmarks/transfer.py --variants supervised synthetic --out transfer.csv
    python tests/benchmarks/transfer.py --table --out tests/benchmarks/results/transfer.csv
    python tests/benchmarks/transfer.py --ship pixelssr_geo/data/builtin.safetensors \
        --out tests/benchmarks/results/transfer.csv

The last one trains the weights that ship with the package (`--weights builtin`) on all cubes that
variant `no-counts` may see, without leaving a scene out; their card has the figures of the CSV.

Each frozen scene (see frozen.py) is reconstructed by a network that was trained on full cubes of
other scenes only. Every MUUFL cube is left out when MUUFL is tested, as they are crops of one
campus. What is trained on otherwise are the cubes whose terms allow weights to be passed on:
Jasper Ridge, Indian Pines, the two 72-channel MUUFL crops and two NEON plots; variant `all` adds
Potsdam and the 64-channel MUUFL crop. Variants:

    supervised    full cubes
    no-counts     the same without Indian Pines, which is radiance
    tilted        full cubes, each draw under a random gain over wavelength of 10 % instead of 3 %
    few-made      full cubes and 3 made of library spectra
    synthetic     full cubes and 12 made ones
    made          the 12 alone
    points        few-made, half of the time on estimates that were fitted on 2 to 100 points
    pixel         Pixel-SSR on full cubes: 1 % of the labels, modelled spectra, L_SSIM
    no-context    supervised, the pixels of every cube shuffled: no neighbourhood
    all           supervised with the two further cubes
    more-steps    supervised, three times as long
    same          the upper half of the very scene; here the lower half alone is scored, and of the
                  points those in it are used, about half of them
    same-long     the same, for the bands of GF-6 PMS alone and four times as long

What is scored, PSNR (peak 1) and SAM over the pixels without a label:

    library       method `library`: the regression on reflectance
    ratios        the scale-free library regression that the network starts from
    pooled        `ratios` with the training cubes' spectra among the mixtures
    regression    in `same`: degree-2 ridge on all spectra of the upper half
    fitted        in `same`: method `estimator` with all spectra of the upper half as points
    net           `ratios` and the network's change
    estimator     method `estimator`: what the product gives without weights
    with net      the same with `net` as one more prior mean: what it gives with `--weights`
    with pooled, with regression    the same with one of these in the network's place
    corrected     in `points`: `estimator` and the network's change, with the estimate as its guide

Finished cells of an existing CSV are not run again, and weights in `--weights` are not trained
again. It takes about a minute of one core for each variant and scene (`--steps 400`, width 16).
On a GPU the published width and more steps are affordable:

    python tests/benchmarks/transfer.py --device cuda --width full --steps 20000 --batch 16 \
        --patch 64 --weights gpu_weights --out transfer_gpu.csv

MUUFL's files are read with SciPy.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import torch

from pixelssr_geo.estimator import (
    HALO,
    BlendedEstimator,
    blend_library,
    fit_blend,
    fit_library,
    library_alone,
    usable_bands,
)
from pixelssr_geo.estimator.ridge import fit_ridge, standardised
from pixelssr_geo.fitting import (
    SceneReader,
    feature_scale,
    scene_statistics,
    with_surroundings,
)
from pixelssr_geo.labels import Labels
from pixelssr_geo.metrics import psnr, sam
from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import read_points
from pixelssr_geo.pretraining import synthetic_cubes
from pixelssr_geo.scene import cube_channels, open_cube, open_scene
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor, list_sensors
from pixelssr_geo.tiling.mosaic import MicroBatch, blend_block
from pixelssr_geo.tiling.plan import Window, plan_tiles
from pixelssr_geo.training.cubes import CubePlan, TrainingCube, train_on_cubes
from pixelssr_geo.training.pretrained import (
    PretrainedMean,
    create_residual_net,
    interpolation,
    load_residual_net,
    save_residual_net,
)
from pixelssr_geo.weights import BUILTIN

if TYPE_CHECKING:
    from pixelssr_geo.training.cubes import CubeFit

HERE = Path(__file__).resolve()
FIELDS = (
    "variant", "scene", "points", "seed", "estimate", "psnr", "sam", "weight", "steps", "width",
    "fit", "seconds",
)  # fmt: skip
POINTS = {
    "potsdam": (2, 18, 184),
    "jasper": (2, 10, 100),
    "pines": (2, 21, 210),
    "muufl": (2, 10, 100),
}
MADE = {"few-made": 3, "points": 3, "synthetic": 12, "made": 12}
"""Cubes made of library spectra, by variant."""
SMALL = {"width": 16, "state": 8, "prompt_inner": 9}
SHIPPED = "no-counts"
"""The variant of the weights that ship: the best on scenes that were left out."""
TERMS = {
    "jasper": "AVIRIS Jasper Ridge (JPL/NASA), public domain",
    "neon HARV": "NEON AOP, Harvard Forest, CC0 1.0",
    "neon OSBS": "NEON AOP, Ordway-Swisher, CC0 1.0",
    "muufl 72 51x88": "MUUFL Gulfport (Gader et al. 2013, REP-2013-570), GatorSense, MIT",
    "muufl 72 36x36": "MUUFL Gulfport (Gader et al. 2013, REP-2013-570), GatorSense, MIT",
}
"""Source and terms of the cubes that shipped weights are trained on."""
VARIANTS = (
    "supervised", "no-counts", "tilted", "few-made", "synthetic", "made", "points", "pixel", "no-context",
    "all", "more-steps", "same", "same-long",
)  # fmt: skip


def data_folder() -> Path:
    """The real data, beside which the frozen scenes lie."""
    return Path(os.environ.get("PIXELSSR_DATA", HERE.parents[3] / "shared" / "data"))


def frozen_cube(scene: str) -> TrainingCube:
    cube = open_cube(data_folder().parent / "benchmark" / scene / "reference.tif")
    return TrainingCube(scene, np.asarray(cube.values, "f4"), cube_channels(cube))


def muufl_cube(file: str, variable: str) -> TrainingCube:
    import scipy.io

    folder = data_folder() / "muufl_gulfport"
    values = scipy.io.loadmat(folder / file)[variable].transpose(2, 0, 1)
    named = scipy.io.loadmat(folder / "muufl_51x88x72_with_wavelengths.mat")["wavelengths"].ravel()
    return inside_range(f"muufl 72 {file[6:11]}", values.astype("f4"), named)


def neon_cube(site: str) -> TrainingCube:
    [path] = (data_folder() / "neon_aop").glob(f"*{site}*.tif")
    with rasterio.open(path) as file:
        values = file.read().astype("f4")
    values[values >= 14998] = np.nan
    return inside_range(f"neon {site}", values / 1e4, 381.4 + 5.008 * np.arange(len(values)))


def inside_range(name: str, values: np.ndarray, centres: np.ndarray) -> TrainingCube:
    """A cube of the channels in 400 to 1000 nm; below zero is noise of dark pixels."""
    inside = (centres >= 395) & (centres <= 1005)
    centres = centres[inside]
    channels = ChannelGrid(centres, np.gradient(centres))
    return TrainingCube(name, values[inside].clip(0), channels)


def training_cubes(scene: str, variant: str) -> list[TrainingCube]:
    """The cubes that a network for this scene may see."""
    if variant.startswith("same"):
        cube = frozen_cube(scene)
        return [replace(cube, values=cube.values[:, : cube.values.shape[1] // 2])]
    passed_on = ("jasper",) if variant == "no-counts" else ("jasper", "pines")
    cubes = [frozen_cube(name) for name in passed_on if name != scene]
    cubes += [neon_cube("HARV"), neon_cube("OSBS")]
    if scene != "muufl":
        cubes.append(muufl_cube("muufl_51x88x72_with_wavelengths.mat", "hsi_img_sub"))
        cubes.append(muufl_cube("muufl_36x36x72_target.mat", "hsi_sub"))
    if variant == "all":
        cubes += [frozen_cube(name) for name in ("potsdam", "muufl") if name != scene]
    if variant == "made":
        cubes = []
    cubes += synthetic_cubes(MADE.get(variant, 0))
    if variant == "no-context":
        cubes = [shuffled(cube, np.random.default_rng(0)) for cube in cubes]
    return cubes


def shuffled(cube: TrainingCube, draws: np.random.Generator) -> TrainingCube:
    values = cube.values.reshape(len(cube.values), -1)
    mixed = values[:, draws.permutation(values.shape[1])].reshape(cube.values.shape)
    return replace(cube, values=mixed)


def plan_of(variant: str, options: argparse.Namespace) -> CubePlan:
    times = {"more-steps": 3, "same-long": 4}.get(variant, 1)
    return CubePlan(
        mode="pixel" if variant == "pixel" else "supervised",
        steps=options.steps * times,
        patch=options.patch,
        batch=options.batch,
        learning_rate=options.rate,
        tilt=0.1 if variant == "tilted" else 0.03,
        estimates=4 if variant == "points" else 0,
        random_sensors=0 if variant == "same-long" else 24,
        net_options={} if options.width == "full" else {**SMALL, "width": int(options.width)},
    )


def trained(variant: str, scene: str, options: argparse.Namespace) -> tuple[Path, float]:
    """Weights of a variant for a scene, trained unless they are there, and how well they fit."""
    path = options.weights / f"{variant}_{scene}.safetensors"
    if not path.exists():
        start = time.perf_counter()
        fit, card = fitted(variant, scene, options)
        card["seconds"] = round(time.perf_counter() - start, 1)
        options.weights.mkdir(parents=True, exist_ok=True)
        save_residual_net(path, fit.net, net="dypro-mamba", card=card)
        print(path.name, card, flush=True)
    _, card = load_residual_net(path, device=torch.device("cpu"))
    return path, float(card["relative_error"])


def fitted(variant: str, scene: str, options: argparse.Namespace) -> tuple[CubeFit, dict[str, Any]]:
    """Train a variant on all cubes that a network for this scene may see, and say what it is."""
    cubes, plan = training_cubes(scene, variant), plan_of(variant, options)
    sensors = [get_sensor(sensor.name) for sensor in list_sensors()]
    if variant == "same-long":
        sensors = [get_sensor("GF-6 PMS")]
    fit = train_on_cubes(cubes, sensors, plan, device=torch.device(options.device))
    card = {
        "data": [cube.name for cube in cubes],
        "plan": asdict(plan),
        "sensors": [sensor.source for sensor in sensors],
        "steps": fit.record.steps,
        "relative_error": fit.relative_error,
        "version": version("pixelssr-geo"),
    }
    return fit, card


def ship(path: Path, rows: list[dict[str, str]], options: argparse.Namespace) -> None:
    """Train on all cubes of :data:`SHIPPED` and write the weights with a card that is complete."""
    fit, card = fitted(SHIPPED, "", options)
    card |= {
        "name": BUILTIN,
        "variant": SHIPPED,
        "terms": {name: TERMS[name] for name in card["data"]},
        "library": "earthlib 1.1.0, MIT: the shapes that the network sees",
        "measured_on": "scenes left out of the training of weights of their own: PSNR in dB of method "
        "estimator, gain with the network as one more prior mean, its weight",
        "measured": left_out(rows, SHIPPED),
    }
    save_residual_net(path, fit.net, net="dypro-mamba", card=card)
    print(path, path.stat().st_size, f"bytes, error {fit.relative_error:.3f} of that before")


def left_out(rows: list[dict[str, str]], variant: str) -> list[dict[str, Any]]:
    """What a variant's network adds to the estimator, by scene and points, means over seeds."""
    means = means_of(rows)
    found = []
    for scene, points in ((name, count) for name in POINTS for count in (0, *POINTS[name])):
        without = means.get(("none", "estimator", scene, points))
        given = means.get((variant, "with net", scene, points))
        if without is not None and given is not None:
            gain, weight = given[0] - without[0], given[2]
            known = {"scene": scene, "points": points, "estimator": round(without[0], 2)}
            found.append(known | {"gain": round(gain, 2) + 0.0, "weight": round(weight, 2)})
    return found


class Scene:
    """A frozen scene with what every estimate of it needs."""

    def __init__(self, name: str, seed: int) -> None:
        folder = data_folder().parent / "benchmark"
        self.name, self.seed = name, seed
        response = SpectralResponse.from_csv(folder / "gf6_pms_response.csv")
        reference = open_cube(folder / name / "reference.tif")
        self.truth = np.asarray(reference.values, "f4")
        self.channels = cube_channels(reference)
        self.used = usable_bands(response, self.channels)
        self.response = response.matrix(self.channels)[self.used]
        self.opened = open_scene(
            folder / name / f"scene_s{seed}.tif",
            response=folder / "gf6_pms_response.csv",
            scale=1,
        )
        self.reader = SceneReader(np.asarray(self.opened.values, "f4")[self.used])
        self.view = self.reader.view(Window(0, 0, *self.reader.shape), HALO)
        self.bands = self.view.inner
        self.valid = np.isfinite(self.bands[0]) & np.isfinite(self.truth).all(0)
        self.statistics = scene_statistics(self.reader, lambda *_: None)
        self.scale = feature_scale(self.reader, self.statistics)
        self.library = fit_library(self.channels, self.response)
        self.scored = self.valid

    def lower_half(self) -> np.ndarray:
        """The valid pixels that variant ``same`` has not seen."""
        return self.valid & (np.arange(len(self.valid)) >= len(self.valid) // 2)[:, None]

    def labels(self, count: int) -> Labels | None:
        """The points where the scene is scored, with what lies around them; None for no points."""
        if not count:
            return None
        path = (
            data_folder().parent / "benchmark" / self.name / f"points_{count:04d}_s{self.seed}.gpkg"
        )
        labels = pair_points(self.opened, read_points(path), channels=self.channels).labels
        used = replace(labels, bands=labels.bands[:, self.used])
        # Where a network was trained, it has seen what the points tell.
        used = used.take(self.scored[used.rows, used.cols])
        return with_surroundings(used, self.reader) if len(used) else None

    def estimator(self, labels: Labels | None, said: np.ndarray | None = None) -> BlendedEstimator:
        """The product's, with what a network, or something else, says of the scene."""
        if labels is None:
            return blend_library(self.library, self.scale, network=said is not None)
        if said is not None:
            there = said[:, labels.rows, labels.cols].T.astype("f8")
            labels = replace(labels, network=there)
        return fit_blend(labels, self.library, self.scale)

    def estimated(self, labels: Labels | None, said: np.ndarray | None = None) -> np.ndarray:
        """Its mean over the scene."""
        view = replace(self.view, network=said)
        return self.estimator(labels, said).mean(view)

    def over(self, function) -> np.ndarray:
        """A function of tiles ``(n, band, y, x)`` and their windows over the scene, blended."""
        plan = plan_tiles(self.reader.shape)
        return blend_block(
            plan,
            Window(0, 0, *self.reader.shape),
            function,
            self.reader.window,
            channels=len(self.channels),
            batch=MicroBatch(1),
        )

    def scores(self, cube: np.ndarray, labels=None) -> tuple[float, float]:
        scored = self.scored.copy()
        if labels is not None:
            scored[labels.rows, labels.cols] = False
        return psnr(cube[:, scored], self.truth[:, scored]), sam(
            cube[:, scored], self.truth[:, scored]
        )


def pooled(scene: Scene, cubes: list[TrainingCube]) -> np.ndarray:
    """The scale-free regression of library mixtures and of the cubes' spectra, half and half."""
    from pixelssr_geo.estimator.library import load_library, random_mixtures

    mixtures = random_mixtures(load_library(), scene.channels, count=8000)
    draws, spectra = np.random.default_rng(0), [mixtures]
    for known_cube in cubes:
        values = known_cube.values.reshape(len(known_cube.values), -1)
        values = values[:, np.isfinite(values).all(0)]
        # Nearly black pixels are noise once they are divided by their brightness.
        values = values[:, values.mean(0) > 0.2 * values.mean()]
        chosen = draws.choice(values.shape[1], 8000 // len(cubes))
        matrix = interpolation(known_cube.channels.centres_nm, scene.channels.centres_nm)
        spectra.append((matrix @ values[:, chosen]).T)
    known = np.concatenate(spectra)
    bands = known @ scene.response.T
    brightness = np.maximum(bands.mean(1, keepdims=True), 1e-4)
    ratios = bands / brightness
    low, high = np.quantile(ratios, [0.001, 0.999], axis=0)
    ridge = fit_ridge(ratios, known / brightness, standardised(ratios, degree=2))
    x = scene.bands[:, scene.valid].T.astype("f8")
    level = np.maximum(x.mean(1, keepdims=True), 0.05 * x.mean())
    cube = np.full_like(scene.truth, np.nan)
    cube[:, scene.valid] = (ridge.predict((x / level).clip(low, high)) * level).T
    return scene.library.projection.on_cube(cube, scene.bands)


def regression(scene: Scene) -> np.ndarray:
    """What the spectra of the pixels that variant ``same`` learns from say in closed form."""
    learnt = scene.valid & ~scene.lower_half()
    spectra, bands = scene.truth[:, learnt].T.astype("f8"), scene.bands[:, learnt].T.astype("f8")
    ridge = fit_ridge(bands, spectra, standardised(bands, degree=2))
    cube = np.full_like(scene.truth, np.nan)
    cube[:, scene.valid] = ridge.predict(scene.bands[:, scene.valid].T.astype("f8")).T
    return scene.library.projection.on_cube(cube, scene.bands)


def fitted_on_half(scene: Scene) -> np.ndarray:
    """What the estimator gives with the pixels that variant ``same`` learns from as points."""
    rows, cols = np.nonzero(scene.valid & ~scene.lower_half())
    spectra, bands = (cube[:, rows, cols].T.astype("f8") for cube in (scene.truth, scene.bands))
    return scene.estimated(with_surroundings(Labels(rows, cols, bands, spectra), scene.reader))


def shuffled_tiles(function):
    """The same function of tiles with their pixels in random order."""

    def run(stack: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        order = np.random.default_rng(0).permutation(stack[0, 0].size)
        flat = stack.reshape(*stack.shape[:2], -1)[..., order].reshape(stack.shape)
        found = function(flat, numbers)
        result = np.empty_like(found.reshape(*found.shape[:2], -1))
        result[..., order] = found.reshape(*found.shape[:2], -1)
        return result.reshape(found.shape)

    return run


def cells(variant: str, name: str, seed: int, options: argparse.Namespace):
    """Yield (points, estimate, (psnr, sam), weight or None, fit) of one scene."""
    scene = Scene(name, seed)
    filled = np.where(scene.valid, scene.bands, scene.statistics.mean[:, None, None]).astype("f4")
    alone, base = variant == "none" or variant.startswith("same"), variant == "none"
    if variant.startswith("same"):
        scene.scored = scene.lower_half()
    if base:
        fit, net = float("nan"), create_residual_net("dypro-mamba", seed=0, width=1)
    else:
        path, fit = trained(variant, name, options)
        net, _ = load_residual_net(path, device=torch.device(options.device))
    mean = PretrainedMean.of(net, scene.channels, scene.response, scene.statistics.mean)

    def tiles(stack: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return mean.tiles(stack, numbers=numbers)

    if alone:
        yield 0, "library", scene.scores(library_alone(scene.library).mean(scene.view)), None, fit
        yield 0, "ratios", scene.scores(mean.library(filled[None])[0]), None, fit
    if variant == "same":
        yield 0, "fitted", scene.scores(fitted_on_half(scene)), None, fit
    maps: dict[str, np.ndarray] = {}
    if base:
        maps["pooled"] = pooled(scene, training_cubes(name, "supervised"))
    if variant.startswith("same"):
        maps["regression"] = regression(scene)
    if not base:
        maps["net"] = scene.over(shuffled_tiles(tiles) if variant == "no-context" else tiles)
    for estimate, cube in maps.items():
        yield 0, estimate, scene.scores(cube), None, fit
    for count in (0, *POINTS[name]):
        if count > options.most_points:
            continue
        labels = scene.labels(count)
        if count and labels is None:
            continue
        if alone:
            yield count, "estimator", scene.scores(scene.estimated(labels), labels), None, fit
        for estimate, said in maps.items():
            weight = scene.estimator(labels, said).network
            found = scene.estimated(labels, said)
            yield count, f"with {estimate}", scene.scores(found, labels), weight, fit
        if base or not net.corrects or labels is None:
            continue
        found = scene.over(corrections(scene, mean, scene.estimator(labels)))
        yield count, "corrected", scene.scores(found, labels), None, fit


def corrections(scene: Scene, mean: PretrainedMean, estimator: BlendedEstimator):
    """A function of tiles: the network's correction of what an estimator says of them."""
    plan = plan_tiles(scene.reader.shape)

    def run(stack: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        windows = [plan.tile_window(int(number)) for number in numbers]
        known = [scene.reader.estimate(estimator, w.row, w.col, plan.tile) for w in windows]
        return mean.tiles(
            stack,
            mean=np.stack([one.mean for one in known]),
            deviation=np.stack([one.deviation for one in known]),
            numbers=numbers,
        )

    return run


def read_rows(path: Path) -> list[dict[str, str]]:
    """Finished cells."""
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", default=["none", *VARIANTS])
    parser.add_argument("--scenes", nargs="+", default=list(POINTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--most-points", type=int, default=250)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", default="16", help="a number, or full: the published size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=Path("transfer_weights"))
    parser.add_argument("--out", type=Path, default=Path("transfer.csv"))
    parser.add_argument("--table", action="store_true", help="print the means and stop")
    parser.add_argument("--ship", type=Path, metavar="FILE", help="train what ships and stop")
    options = parser.parse_args()
    if options.table:
        rows = read_rows(options.out)
        print("\n\n".join([table(rows), many_labels(rows), shipped(rows)]))
        return
    torch.set_num_threads(options.threads)
    if options.ship is not None:
        ship(options.ship, read_rows(options.out), options)
        return
    done = {(row["variant"], row["scene"], row["seed"]) for row in read_rows(options.out)}
    new = not options.out.exists()
    with options.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for variant in options.variants:
            for scene in options.scenes:
                for seed in options.seeds:
                    if (variant, scene, str(seed)) in done:
                        continue
                    start = time.perf_counter()
                    found = list(cells(variant, scene, seed, options))
                    spent = round(time.perf_counter() - start, 1)
                    plan = plan_of(variant, options)
                    for points, estimate, (db, angle), weight, fit in found:
                        writer.writerow(
                            dict(
                                zip(
                                    FIELDS,
                                    (
                                        variant, scene, points, seed, estimate, round(db, 3),
                                        round(angle, 3), "" if weight is None else round(weight, 3),
                                        0 if variant == "none" else plan.steps,
                                        options.width, round(fit, 3), spent,
                                    ),
                                    strict=True,
                                )
                            )
                        )  # fmt: skip
                        print(variant, scene, points, seed, estimate, round(db, 2), weight)
                    file.flush()


def means_of(rows: list[dict[str, str]]) -> dict[tuple[str, str, str, int], list[float]]:
    """PSNR, SAM and weight by variant, estimate, scene and points, means over seeds."""
    scores: dict[tuple[str, str, str, int], list[tuple[float, float, float]]] = {}
    for row in rows:
        key = row["variant"], row["estimate"], row["scene"], int(row["points"])
        found = float(row["psnr"]), float(row["sam"]), float(row["weight"] or "nan")
        scores.setdefault(key, []).append(found)
    return {key: np.mean(found, axis=0).tolist() for key, found in scores.items()}


def table(rows: list[dict[str, str]]) -> str:
    """Three Markdown tables, means over seeds: without points, what is gained, and over all scenes.

    The first has PSNR in dB / SAM in degrees; the second the PSNR of the estimator and, for all
    else, the difference to it / the weight in the blend; the third the mean of these differences
    and that of the worst scene.
    """
    means = means_of(rows)
    scenes = [scene for scene in POINTS if any(key[2] == scene for key in means)]
    order = ("none", *VARIANTS)
    kinds = sorted(dict.fromkeys(key[:2] for key in means), key=lambda kind: order.index(kind[0]))
    lines = ["| trained on | estimate | " + " | ".join(scenes) + " |"]
    lines.append("|---" * (2 + len(scenes)) + "|")
    for kind in kinds:
        found = [means.get((*kind, scene, 0)) for scene in scenes]
        texts = ["" if cell is None else f"{cell[0]:.2f} / {cell[1]:.2f}" for cell in found]
        if any(texts):
            lines.append(f"| {kind[0]} | {kind[1]} | " + " | ".join(texts) + " |")
    columns = [(scene, n) for scene in scenes for n in POINTS[scene]]
    lines += ["", "| trained on | estimate | " + " | ".join(f"{s}, {n}" for s, n in columns) + " |"]
    lines.append("|---" * (2 + len(columns)) + "|")
    for kind in kinds:
        # Half of the scene is scored in these, which have an estimator of their own.
        own = kind[0] if kind[0].startswith("same") else "none"
        texts = []
        for scene, n in columns:
            cell, before = means.get((*kind, scene, n)), means.get((own, "estimator", scene, n))
            if kind[1] == "estimator":
                texts.append("" if cell is None else f"{cell[0]:.2f}")
            else:
                gain = None if cell is None or before is None else cell[0] - before[0]
                weight = "" if cell is None or np.isnan(cell[2]) else f" / {cell[2]:.2f}"
                texts.append("" if gain is None else f"{gain:+.2f}{weight}")
        if any(texts):
            lines.append(f"| {kind[0]} | {kind[1]} | " + " | ".join(texts) + " |")
    lines += ["", "| trained on | estimate | 0 | 2 | 0.1 % | 1 % |", "|---" * 6 + "|"]
    for kind in kinds:
        own = kind[0] if kind[0].startswith("same") else "none"
        texts = []
        for place in range(4):
            keys = [(scene, (0, *POINTS[scene])[place]) for scene in scenes]
            gains = [
                means[*kind, *key][0] - means[own, "estimator", *key][0]
                for key in keys
                if (*kind, *key) in means and (own, "estimator", *key) in means
            ]
            texts.append(f"{np.mean(gains):+.2f} ({min(gains):+.2f})" if gains else "")
        if any(texts) and kind[1].startswith(("with", "corrected")):
            lines.append(f"| {kind[0]} | {kind[1]} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def many_labels(rows: list[dict[str, str]]) -> str:
    """A Markdown table of what half of a scene teaches of the other: PSNR in dB / SAM in degrees."""
    means = means_of(rows)
    kinds = {
        ("same", "library"): "nothing: the library alone",
        ("same", "fitted"): "the estimator, with these spectra as points",
        ("same", "regression"): "a regression in closed form",
        ("same", "net"): "the network",
        ("same-long", "net"): "the network, four times as long and for this sensor alone",
    }
    lines = ["| learnt by | " + " | ".join(POINTS) + " |", "|---" * (1 + len(POINTS)) + "|"]
    for kind, name in kinds.items():
        found = [means.get((*kind, scene, 0)) for scene in POINTS]
        texts = ["" if cell is None else f"{cell[0]:.2f} / {cell[1]:.2f}" for cell in found]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def shipped(rows: list[dict[str, str]]) -> str:
    """A Markdown table of what :data:`SHIPPED` adds to the estimator, dB / weight in the blend."""
    found = {(row["scene"], row["points"]): row for row in left_out(rows, SHIPPED)}
    lines = ["| points | " + " | ".join(POINTS) + " |", "|---" * (1 + len(POINTS)) + "|"]
    for place, share in enumerate(("0", "2", "0.1 %", "1 %")):
        cells = [found.get((scene, (0, *counts)[place])) for scene, counts in POINTS.items()]
        texts = [
            "" if row is None else f"{row['gain']:+.2f} / {row['weight']:.2f}" for row in cells
        ]
        lines.append(f"| {share} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
