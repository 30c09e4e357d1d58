"""Time of the default estimator on one thread, by the number of points: its fit, and its cubes.

    python tests/benchmarks/estimator_speed.py [--points 20 200 2000] [--pixels 16384] [--repeat 3]

The scene is the synthetic landscape, four bands to 61 channels. Seconds are processor time of this
process, which other jobs on the machine change little; the best of the repetitions counts.

library     once for a sensor and its channels: regressions and the Gaussian mixture
fit         kernel, weights and coefficients from the points, without withheld blocks
mean        millions of pixels a second and core, the cube alone
both        the same with standard deviation and extrapolation
"""

from pixelssr_geo.process import prepare_process

prepare_process()  # as the command line does

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from pixelssr_geo.estimator import View, fit_blend, fit_library
from pixelssr_geo.fitting import SceneReader, feature_scale, scene_statistics, with_surroundings
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.process import products_on_one_thread
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.tiling.plan import Window

POINTS = (20, 60, 200, 500, 1000, 2000, 3000)
SIDE = 256
NOISE = 0.0005


@dataclass(frozen=True, slots=True)
class Speed:
    """The row of one number of points."""

    points: int
    fit: float
    """Seconds."""
    mean: float
    """Millions of pixels a second."""
    both: float
    """Millions of pixels a second, deviation and extrapolation included."""

    def cells(self) -> str:
        """The row as Markdown."""
        return f"| {self.points} | {self.fit:.2f} | {self.mean:.3f} | {self.both:.3f} |"


def seconds(function: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def pixels_per_second(function: Callable[[View], object], view: View, repeat: int) -> float:
    """Millions of pixels a second, the best of some calls."""
    best = min(seconds(lambda: function(view)) for _ in range(repeat))
    return view.inner[0].size / best / 1e6


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, nargs="+", default=POINTS)
    parser.add_argument("--pixels", type=int, default=1 << 14, help="of the window that is timed")
    parser.add_argument("--repeat", type=int, default=3, help="calls, of which the best counts")
    options = parser.parse_args()
    landscape = make_landscape(SIDE, seed=0)
    response = get_sensor("GF6-PMS").matrix(landscape.channels)
    draws = np.random.default_rng(0)
    scene = np.einsum("bc,cyx->byx", response, landscape.cube)
    scene += NOISE * draws.standard_normal(scene.shape)
    reader = SceneReader(scene.astype("f4"))
    places = draws.permutation(SIDE * SIDE)
    view = reader.view(Window(0, 0, max(1, options.pixels // SIDE), SIDE).clip(reader.shape), 4)
    with products_on_one_thread():
        import_module("sklearn.mixture")  # loaded on first use, which takes seconds
        start = time.process_time()
        library = fit_library(landscape.channels, response)
        print(f"library: {time.process_time() - start:.2f} s\n")
        scale = feature_scale(reader, scene_statistics(reader, lambda *_: None))
        print("| points | fit s | mean Mpixel/s | both Mpixel/s |")
        print("|---|---|---|---|")
        for count in options.points:
            rows, cols = np.divmod(places[:count], SIDE)
            at = np.s_[:, rows, cols]
            bands, spectra = reader.data[at].T, landscape.cube[at].T
            labels = Labels(rows, cols, bands.astype("f8"), spectra.astype("f8"))
            labels = with_surroundings(labels, reader)
            start = time.process_time()
            estimator = fit_blend(labels, library, scale)
            spent = time.process_time() - start
            mean = pixels_per_second(estimator.mean, view, options.repeat)
            both = pixels_per_second(estimator.predict, view, options.repeat)
            print(Speed(count, spent, mean, both).cells(), flush=True)


if __name__ == "__main__":
    main()
