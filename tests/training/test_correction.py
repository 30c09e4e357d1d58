"""The scene-trained correction: nothing at first, invisible to the bands always."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from pixelssr_geo.estimator import Estimator, FeatureScale, LibraryPrior, fit_blend, fit_library
from pixelssr_geo.fitting import SceneReader, feature_scale, scene_statistics, with_surroundings
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.process import products_on_one_thread
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.training.correction import (
    Correction,
    CorrectionPlan,
    correct_tiles,
    correction_at,
    train_correction,
)
from pixelssr_geo.training.loop import TrainingRecord

CPU = torch.device("cpu")
CHANNELS = ChannelGrid.from_spec("450:900:30")
RESPONSE = get_sensor("GF6-PMS").matrix(CHANNELS)
LANDSCAPE = make_landscape(32, seed=0, channels=CHANNELS)
SCENE = np.einsum("bc,cyx->byx", RESPONSE, LANDSCAPE.cube).astype("f4")
READER = SceneReader(SCENE)
PLAN = CorrectionPlan(steps=3, patch=8, batch=2)


def make_labels(count: int) -> Labels:
    chosen = np.random.default_rng(0).choice(32 * 32, count, replace=False)
    rows, cols = chosen // 32, chosen % 32
    labels = Labels(
        rows,
        cols,
        SCENE[:, rows, cols].T.astype("f8"),
        LANDSCAPE.cube[:, rows, cols].T.astype("f8"),
    )
    return with_surroundings(labels, READER)


@cache
def known() -> tuple[LibraryPrior, FeatureScale]:
    """What a fit needs beside labels."""
    statistics = scene_statistics(READER, lambda *_: None)
    with products_on_one_thread():
        return fit_library(CHANNELS, RESPONSE), feature_scale(READER, statistics)


def estimator_of(labels: Labels) -> Estimator:
    return fit_blend(labels, *known())


def trained(
    count: int, plan: CorrectionPlan = PLAN, losses: list[float] | None = None
) -> tuple[Correction, Estimator, Labels, TrainingRecord]:
    labels = make_labels(count)
    estimator = estimator_of(labels)
    heard: list[float] = [] if losses is None else losses
    correction, record = train_correction(
        estimator,
        labels,
        READER,
        plan,
        device=CPU,
        progress=lambda _step, _steps, loss: heard.append(loss),
    )
    return correction, estimator, labels, record


def corrections(correction: Correction, estimator: Estimator) -> np.ndarray:
    stack = np.stack([SCENE[:, :12, :12], SCENE[:, 12:24, 9:21]])
    estimates = [READER.estimate(estimator, row, col, 12) for row, col in ((0, 0), (12, 9))]
    return correct_tiles(correction, estimates, stack, CPU)


@pytest.mark.parametrize("count", [2, 8])
def test_a_correction_that_learnt_nothing_is_exactly_zero(count: int) -> None:
    correction, estimator, labels, _ = trained(count, replace(PLAN, learning_rate=0.0))
    assert (corrections(correction, estimator) == 0).all()
    at_labels = correction_at(correction, estimator, labels, READER, device=CPU)
    assert (at_labels == 0).all()


@pytest.mark.parametrize("count", [2, 4])
def test_no_band_sees_the_correction(count: int) -> None:
    correction, estimator, _, _ = trained(count)
    found = corrections(correction, estimator)
    assert found.dtype == np.float32
    assert found.shape == (2, len(CHANNELS), 12, 12)
    size = np.abs(found).max()
    assert size > 1e-5
    seen = np.einsum("bc,ncyx->nbyx", RESPONSE, found)
    assert np.abs(seen).max() < 1e-4 * size


def test_training_reduces_the_error_at_the_labels() -> None:
    losses: list[float] = []
    trained(4, replace(PLAN, steps=15, batch=4), losses)
    assert losses[0] == pytest.approx(1.0, rel=0.05), "no change leaves errors of unit size"
    assert np.mean(losses[-3:]) < 0.95


def test_no_label_is_held_out_and_every_step_is_taken() -> None:
    _, _, _, record = trained(10)
    assert record.validation is None
    assert record.best_step == record.steps == PLAN.steps


def test_a_seed_repeats_a_run_to_the_last_bit() -> None:
    before = torch.random.get_rng_state()
    first, estimator, _, _ = trained(4)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's draws are untouched"
    again, _, _, _ = trained(4)
    other, _, _, _ = trained(4, replace(PLAN, seed=1))
    one = corrections(first, estimator)
    np.testing.assert_array_equal(one, corrections(again, estimator))
    assert not np.array_equal(one, corrections(other, estimator))


def test_labels_are_corrected_as_their_patch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelssr_geo.training.correction.CONTEXT", 8)
    correction, estimator, labels, _ = trained(4)
    at_labels = correction_at(correction, estimator, labels, READER, device=CPU)
    for label, (row, col) in enumerate(zip(labels.rows, labels.cols, strict=True)):
        top, left = np.clip([row - 4, col - 4], 0, 24)
        patch = SCENE[None, :, top : top + 8, left : left + 8]
        estimate = READER.estimate(estimator, top, left, 8)
        whole = correct_tiles(correction, [estimate], patch, CPU)[0]
        expected = whole[:, row - top, col - left]
        np.testing.assert_allclose(at_labels[label], expected, atol=1e-6)


def test_a_scene_smaller_than_a_patch_can_be_trained_on() -> None:
    labels = make_labels(6)
    small = SceneReader(SCENE[:, :5, :6])
    inside = Labels(labels.rows % 5, labels.cols % 6, labels.bands, labels.spectra)
    inside = with_surroundings(inside, small)
    estimator = estimator_of(inside)
    correction, _ = train_correction(estimator, inside, small, PLAN, device=CPU)
    tile, estimate = small(0, 0, 8)[0][None], small.estimate(estimator, 0, 0, 8)
    assert estimate.mean.shape == (len(CHANNELS), 8, 8)
    assert np.isfinite(correct_tiles(correction, [estimate], tile, CPU)).all()
