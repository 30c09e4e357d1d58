"""The demonstration: a synthetic landscape, taken the whole way from scene to metrics.

Needs nothing but the package. The landscape is made of measured library spectra (and simulated
canopies), seen by the GF-6 PMS bands; see :mod:`pixelssr_geo.landscape`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import OutputError
from pixelssr_geo.evaluation import evaluate
from pixelssr_geo.landscape import Landscape, field_points, make_landscape
from pixelssr_geo.points import PointSpectra, read_points, write_points
from pixelssr_geo.reconstruction import Summary, reconstruct_to_file
from pixelssr_geo.report.pictures import quicklook
from pixelssr_geo.scene import open_cube, open_scene
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.writers import CubeTemplate, write_cog, write_scene

if TYPE_CHECKING:
    from pixelssr_geo.fitting import Progress
    from pixelssr_geo.metrics import Score
    from pixelssr_geo.settings import Method

SENSOR = "GF6-PMS"
"""Sensor of the scene."""

POINTS = 60
"""Field points."""

POSITION_ERROR_M = 2.0
"""Standard deviation of the points' positions, a quarter of a pixel."""

SNR = 200.0
"""Mean signal over the standard deviation of the scene's noise."""

METHODS: tuple[Method, ...] = ("product", "ridge", "library")
"""Methods that are compared, the product first."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the demonstration made."""

    folder: Path
    """Holds ``scene.tif``, ``field.gpkg``, ``reference.tif``, ``cube.tif`` and ``quicklook.png``."""
    scores: dict[str, Score]
    """Metrics by method, the pixels of the points left out."""
    summary: Summary
    """Of the product's run."""
    seconds: float
    """For everything."""


def run_demo(
    folder: str | Path,
    *,
    size: int = 256,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Demonstration:
    """Make a landscape, reconstruct it and compare with the truth.

    Parameters
    ----------
    folder
        Where to write; made if its parent exists.
    size
        Rows and columns of the landscape.
    seed
        Of the landscape, the points and the training.
    overwrite
        Replace what an earlier demonstration wrote.
    progress
        Called with stage, done, total.

    Raises
    ------
    OutputError
        If the folder cannot be written to or holds other results.
    """
    started = time.perf_counter()
    folder = Path(folder)
    _prepare(folder, overwrite)
    _write_inputs(folder, make_landscape(size, seed=seed), seed)
    scene = open_scene(folder / "scene.tif", sensor=SENSOR)
    points = read_points(folder / "field.gpkg")
    scores: dict[str, Score] = {}
    reference = open_cube(folder / "reference.tif")
    for method in reversed(METHODS):
        name = "cube.tif" if method == METHODS[0] else f"cube_{method}.tif"
        settings = Settings.of(method=method, seed=seed)
        model, summary = reconstruct_to_file(
            scene,
            points,
            folder / name,
            settings,
            overwrite=True,
            progress=_prefixed(progress, method),
        )
        scores[method] = evaluate(folder / name, reference, exclude_points=points)
    assert model.paired is not None
    quicklook(
        folder / "quicklook.png",
        open_cube(folder / "cube.tif"),
        reference=reference,
        labels=model.paired.labels,
        names=model.paired.ids,
        title=f"{SENSOR} scene, {POINTS} field points: reconstructed cube",
    )
    return Demonstration(
        folder,
        {method: scores[method] for method in METHODS},
        summary,
        time.perf_counter() - started,
    )


def _prefixed(progress: Progress | None, method: str) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{method}: {stage}", done, total)


def _prepare(folder: Path, overwrite: bool) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"folder '{folder}' cannot be made ({error.strerror}): create its parent or choose "
            "another"
        ) from error
    names = ("scene.tif", "field.gpkg", "reference.tif", "cube.tif", "quicklook.png")
    taken = [name for name in names if (folder / name).exists()]
    if taken and not overwrite:
        raise OutputError(
            f"folder '{folder}' already holds {', '.join(taken)}: choose another or give "
            "--overwrite"
        )


def _write_inputs(folder: Path, landscape: Landscape, seed: int) -> None:
    from pyproj import CRS

    response, channels = get_sensor(SENSOR), landscape.channels
    template = CubeTemplate(
        shape=(landscape.cube.shape[1], landscape.cube.shape[2]),
        wavelengths_nm=tuple(map(float, channels.centres_nm)),
        fwhm_nm=tuple(map(float, channels.fwhm_nm)),
        crs_wkt=CRS.from_user_input(landscape.crs).to_wkt(),
        transform=landscape.transform,
        attrs={"title": "synthetic landscape of library spectra"},
    )
    write_cog(template.to_dataarray(landscape.cube), folder / "reference.tif", overwrite=True)
    bands = np.einsum("bc,cyx->byx", response.matrix(channels), landscape.cube, optimize=True)
    noise = np.random.default_rng([seed, 2]).standard_normal(bands.shape) * bands.mean() / SNR
    scene = (bands + noise).astype("f4")
    write_scene(folder / "scene.tif", [(0, 0, scene)], template.grid, response, overwrite=True)
    x, y, rows, cols = field_points(landscape, POINTS, seed=seed, position_error_m=POSITION_ERROR_M)
    covers = [landscape.cover_names[code] for code in landscape.cover[rows, cols]]
    points = PointSpectra(
        ids=tuple(f"{number} {cover}" for number, cover in enumerate(covers, 1)),
        x=x,
        y=y,
        crs_wkt=template.crs_wkt,
        wavelengths_nm=channels.centres_nm,
        reflectance=landscape.cube[:, rows, cols].T.astype("f8"),
    )
    (folder / "field.gpkg").unlink(missing_ok=True)
    write_points(points, folder / "field.gpkg")
