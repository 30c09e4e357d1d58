"""A scene with its truth and everything that a fit needs, simulated or real."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelssr_geo.estimator import (
    HALO,
    BlendedEstimator,
    Estimator,
    FeatureScale,
    LibraryPrior,
    View,
    fit_blend,
    fit_library,
    usable_bands,
)
from pixelssr_geo.fitting import SceneReader, feature_scale, scene_statistics, with_surroundings
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import field_points, make_landscape
from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import read_points
from pixelssr_geo.process import products_on_one_thread
from pixelssr_geo.scene import open_cube, open_scene, scene_response
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.tiling.plan import Window


@dataclass(frozen=True, eq=False)
class Site:
    """One scene and its truth."""

    scene: NDArray[np.float32]
    truth: NDArray[np.float32]
    library: LibraryPrior
    scale: FeatureScale
    places: tuple[NDArray[np.int64], NDArray[np.int64]]

    @staticmethod
    def of(scene: Any, truth: Any, library: LibraryPrior, places: Any) -> "Site":
        reader = SceneReader(np.asarray(scene, "f4"))
        statistics = scene_statistics(reader, lambda *_: None)
        scale = feature_scale(reader, statistics)
        return Site(reader.data, np.asarray(truth, "f4"), library, scale, places)

    @property
    def window(self) -> Window:
        return Window(0, 0, *self.scene.shape[1:])

    def labels(self, count: int) -> Labels:
        """The first points."""
        return self.labels_at(*(place[:count] for place in self.places))

    def labels_at(self, rows: Any, cols: Any) -> Labels:
        bands, spectra = (
            image[:, rows, cols].T.astype("f8").copy() for image in (self.scene, self.truth)
        )
        return with_surroundings(Labels(rows, cols, bands, spectra), SceneReader(self.scene))

    def fit(self, count: int, **options: Any) -> BlendedEstimator:
        return fit_blend(self.labels(count), self.library, self.scale, **options)

    def view(self, window: Window | None = None, halo: int = HALO) -> View:
        return SceneReader(self.scene).view(window or self.window, halo)

    def psnr(self, estimator: Estimator, labels: Labels | None = None) -> float:
        """Over all pixels with data but those of the labels, dB."""
        scored = np.isfinite(self.truth).all(0) & np.isfinite(self.scene).all(0)
        if labels is not None:
            scored[labels.rows, labels.cols] = False
        squares = (estimator.mean(self.view()) - self.truth) ** 2
        return float(-10 * np.log10(squares[:, scored].mean()))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep products to one thread, as the pipeline does."""
    with products_on_one_thread():
        yield


@pytest.fixture(scope="session")
def site() -> Site:
    """A simulated landscape, 72 x 72 pixels, seen in four bands with a little noise."""
    landscape = make_landscape(72, seed=0, channels=ChannelGrid.from_spec("400:1000:20"))
    response = get_sensor("GF6-PMS").matrix(landscape.channels)
    scene = np.einsum("bc,cyx->byx", response, landscape.cube)
    scene += 0.0005 * np.random.default_rng(0).standard_normal(scene.shape)
    _, _, rows, cols = field_points(landscape, 60)
    mixed = np.random.default_rng(1).permutation(60)
    library = fit_library(landscape.channels, response)
    return Site.of(scene, landscape.cube, library, (rows[mixed], cols[mixed]))


@pytest.fixture(scope="session")
def potsdam(benchmark_data: Path) -> tuple[Site, dict[int, Labels]]:
    """A real scene, and the labels of the benchmark by their number."""
    folder = benchmark_data / "potsdam"
    scene = open_scene(
        folder / "scene_s0.tif", response=benchmark_data / "gf6_pms_response.csv", scale=1
    )
    reference = open_cube(folder / "reference.tif")
    channels = ChannelGrid(reference["wavelength"].values, reference["fwhm"].values)
    response = scene_response(scene)
    assert usable_bands(response, channels).tolist() == [0, 1, 2, 3]
    library = fit_library(channels, response.matrix(channels))
    site = Site.of(scene.values, reference.values, library, ())
    labels = {
        count: with_surroundings(
            pair_points(
                scene, read_points(folder / f"points_{count:04d}_s0.gpkg"), channels=channels
            ).labels,
            SceneReader(site.scene),
        )
        for count in (18, 184)
    }
    return site, labels
