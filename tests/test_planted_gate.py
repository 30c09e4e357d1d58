"""The planted case: where pixels nearby tell what the estimator does not see, the gate must open."""

from functools import partial

import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr

from pixelssr_geo.estimator import Projection
from pixelssr_geo.estimator.library import load_library
from pixelssr_geo.fitting import FittedModel, fit
from pixelssr_geo.metrics import psnr
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.tiling.plan import plan_tiles
from pixelssr_geo.training import correction

SIZE, PIXEL_M, WEST, NORTH = 96, 8.0, 500_000.0, 4_400_000.0
CHANNELS = ChannelGrid.from_spec("430:920:20")
SENSOR = get_sensor("GF6-PMS")


def planted(strength: float) -> tuple[xr.DataArray, np.ndarray]:
    """A scene of mixed materials, and its cube with a red-edge shift that pixels nearby tell.

    The shift lies in the null space of the bands and is proportional to how bright the four pixels
    two steps away are in the near infrared: the estimator sees the nearest eight one by one, and
    those beyond in means and deviations alone.
    """
    library = load_library()
    spectra = library.on_channels(CHANNELS)
    kinds = ("vegetation/canopy", "bare/soil", "built/road")
    members = np.stack([spectra[library.material.index(kind) + 5] for kind in kinds])
    draws = np.random.default_rng(0)
    abundance = draws.dirichlet([1.0, 1.0, 1.0], (SIZE, SIZE))
    cube = np.einsum("yxk,kc->cyx", abundance, members)
    bands = np.einsum("bc,cyx->byx", SENSOR.matrix(CHANNELS), cube).astype("f4")
    nir = bands[3]
    around = sum(np.roll(nir, step, axis) for axis in (0, 1) for step in (-2, 2))
    excess = (around - around.mean()) / around.std()
    shape = np.exp(-(((CHANNELS.centres_nm - 730) / 25) ** 2))
    hidden = Projection.of(SENSOR.matrix(CHANNELS)).null_part(shape[None])[0]
    hidden /= np.sqrt((hidden**2).mean())
    cube = (cube + strength * hidden[:, None, None] * excess).astype("f4")
    scene = xr.DataArray(
        bands,
        dims=("band", "y", "x"),
        coords={
            "band": list(SENSOR.names),
            "wavelength": ("band", SENSOR.centres_nm),
            "y": NORTH - PIXEL_M * (np.arange(SIZE) + 0.5),
            "x": WEST + PIXEL_M * (np.arange(SIZE) + 0.5),
        },
        attrs={"sensor": "GF6-PMS"},
    )
    return scene.rio.write_crs("EPSG:32650"), cube


def fitted(
    scene: xr.DataArray, cube: np.ndarray, count: int, steps: int
) -> tuple[FittedModel, np.ndarray]:
    """The product fitted on points of the cube, and the pixels that carry none."""
    chosen = np.random.default_rng(1).choice(SIZE * SIZE, count, replace=False)
    rows, cols = np.divmod(chosen, SIZE)
    points = PointSpectra(
        tuple(f"p{number}" for number in range(count)),
        WEST + PIXEL_M * (cols + 0.5),
        NORTH - PIXEL_M * (rows + 0.5),
        scene.rio.crs.to_wkt(),
        CHANNELS.centres_nm,
        cube[:, rows, cols].T.astype("f8"),
    )
    settings = Settings.of(wavelengths="430:920:20", steps=steps, folds=2)
    unlabelled = np.ones((SIZE, SIZE), bool)
    unlabelled[rows, cols] = False
    return fit(scene, points, settings), unlabelled


def gain_db(model: FittedModel, cube: np.ndarray, unlabelled: np.ndarray) -> float:
    """How much better the product is than its estimator at pixels without a label."""
    plan = plan_tiles((SIZE, SIZE))
    (block,) = plan.blocks
    product = model.block(plan, block)
    assert model.estimator is not None
    without = model.estimator.mean(model.reader.view(block, model.estimator.halo))
    truth = cube[:, unlabelled]
    return psnr(product[:, unlabelled], truth) - psnr(without[:, unlabelled], truth)


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrower DyPro-Mamba, which shows the same in a third of the time."""
    narrow = partial(correction.create_net, width=16, state=4)
    monkeypatch.setattr(correction, "create_net", narrow)
    plan = partial(correction.CorrectionPlan, batch=24, patch=12)
    monkeypatch.setattr(correction, "CorrectionPlan", plan)


def test_the_gate_opens_where_pixels_nearby_tell_what_the_estimator_does_not_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small(monkeypatch)
    scene, cube = planted(0.02)
    model, unlabelled = fitted(scene, cube, count=150, steps=40)
    assert model.gate is not None
    assert model.gate.value > 0.3
    assert model.gate.gain_lower > 0
    assert gain_db(model, cube, unlabelled) > 1.0


def test_the_gate_stays_shut_where_there_is_nothing_to_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small(monkeypatch)
    scene, cube = planted(0.0)
    noisy = cube + np.random.default_rng(2).normal(0, 0.01, cube.shape).astype("f4")
    model, unlabelled = fitted(scene, noisy, count=60, steps=10)
    assert model.gate is not None
    assert model.gate.value == 0
    assert model.correction is None
    assert gain_db(model, noisy, unlabelled) == 0


@pytest.mark.long
def test_the_published_size_gains_more_than_three_decibels_on_the_planted_case() -> None:
    scene, cube = planted(0.02)
    model, unlabelled = fitted(scene, cube, count=150, steps=50)
    assert model.gate is not None
    assert model.gate.value > 0.5
    assert gain_db(model, cube, unlabelled) > 3.0
