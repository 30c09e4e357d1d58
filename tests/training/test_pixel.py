"""Pixel-SSR on a tiny scene: it learns, repeats itself, and survives being saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelssr_geo.errors import WeightsError
from pixelssr_geo.fitting import SceneReader
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.losses import LossTerms, LossWeights, overall_loss
from pixelssr_geo.prior import PointPrior, fit_prior
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.training import pixel
from pixelssr_geo.training.checkpoint import load_checkpoint, save_checkpoint
from pixelssr_geo.training.loop import Schedule, TrainingRecord, train
from pixelssr_geo.training.pixel import (
    PixelFit,
    PixelModel,
    PixelPlan,
    load_pixel_model,
    save_pixel_model,
    train_pixel,
)

CPU = torch.device("cpu")
CHANNELS = ChannelGrid.from_spec("450:900:50")
RESPONSE = get_sensor("GF6-PMS").matrix(CHANNELS)
LANDSCAPE = make_landscape(32, seed=0, channels=CHANNELS)
SCENE = np.einsum("bc,cyx->byx", RESPONSE, LANDSCAPE.cube).astype("f4")
READER = SceneReader(SCENE)
GAIN = 2.0
PLAN = PixelPlan(steps=3, patch=8, batch=2, unlabelled=4, learning_rate=2e-3, label_ratio=0.1)


def make_labels(count: int) -> Labels:
    chosen = np.random.default_rng(0).choice(32 * 32, count, replace=False)
    rows, cols = chosen // 32, chosen % 32
    return Labels(
        rows,
        cols,
        SCENE[:, rows, cols].T.astype("f8"),
        LANDSCAPE.cube[:, rows, cols].T.astype("f8"),
    )


def fit_on(
    labels: Labels | None, prior: PointPrior, plan: PixelPlan, losses: list[float]
) -> PixelFit:
    return train_pixel(
        labels,
        READER,
        RESPONSE,
        prior,
        plan,
        gain=GAIN,
        band_centres_nm=(485.0, 555.0, 660.0, 830.0),
        channel_centres_nm=tuple(CHANNELS.centres_nm),
        device=CPU,
        progress=lambda _step, _steps, loss: losses.append(loss),
    )


def fit(count: int, plan: PixelPlan = PLAN, losses: list[float] | None = None) -> PixelFit:
    labels = make_labels(count) if count else None
    prior = fit_prior((labels or make_labels(5)).spectra * GAIN)
    return fit_on(labels, prior, plan, [] if losses is None else losses)


@pytest.fixture(scope="module")
def fitted() -> PixelFit:
    return fit(8)


def cube_of(model: PixelModel, tiles: tuple[int, ...] = (0, 5)) -> np.ndarray:
    stack = np.stack([SCENE[:, :12, :12], SCENE[:, 12:24, 9:21]])
    return model(stack, np.array(tiles), CPU)


@pytest.mark.parametrize("count", [4, 0])
def test_a_short_run_reduces_the_loss(count: int) -> None:
    losses: list[float] = []
    fit(count, replace(PLAN, steps=16), losses)
    assert len(losses) == 16
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


@pytest.mark.parametrize("count", [8, 0])
def test_the_rate_rises_over_the_first_eighth_of_the_steps(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Schedule] = []

    def spy(net: torch.nn.Module, loss: Any, schedule: Schedule, **more: Any) -> TrainingRecord:
        asked.append(schedule)
        return train(net, loss, replace(schedule, steps=1), **more)

    monkeypatch.setattr(pixel, "train", spy)
    fit(count, replace(PLAN, steps=200))
    assert [schedule.warm_up for schedule in asked] == [25]


@pytest.mark.parametrize(("count", "used"), [(8, True), (0, False)])
def test_the_image_loss_takes_part_exactly_where_there_are_labels(
    count: int, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[LossTerms, LossWeights]] = []

    def spy(terms: LossTerms, weights: LossWeights) -> torch.Tensor:
        seen.append((terms, weights))
        return overall_loss(terms, weights)

    monkeypatch.setattr(pixel, "overall_loss", spy)
    fit(count, replace(PLAN, steps=1))
    ((terms, weights),) = seen
    assert terms.image > 0
    assert terms.image.requires_grad
    assert (weights.image > 0) is used
    assert (weights.point > 0) is used


def test_options_of_the_network_travel_with_its_weights_but_not_what_runs_it(
    tmp_path: Path,
) -> None:
    options = {"width": 8, "state": 4, "directions": (4, 5)}
    plan = replace(PLAN, steps=1, net_options={**options, "scan_backend": "torch"})
    narrow = fit(8, plan).model
    save_pixel_model(tmp_path / "w.safetensors", narrow, net="dypro-mamba", mode="pixel")
    loaded, _ = load_pixel_model(tmp_path / "w.safetensors", device=CPU)
    assert loaded.net.options == {**narrow.net.options, "scan_backend": "auto"}
    np.testing.assert_allclose(cube_of(loaded), cube_of(narrow), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_labels_hold_none_back(count: int) -> None:
    found = fit(count, replace(PLAN, steps=1))
    assert len(found.held) == 0
    assert found.held_errors.shape == (0, len(CHANNELS))
    assert found.record.validation is None
    assert np.isfinite(cube_of(found.model)).all()


def test_labels_held_out_do_not_enter_the_training(fitted: PixelFit) -> None:
    assert len(fitted.held) == 1
    assert fitted.held_errors.shape == (1, len(CHANNELS))
    assert fitted.record.validation == pytest.approx(np.abs(fitted.held_errors).mean())
    spoilt = make_labels(8)
    spoilt.spectra[fitted.held] = 0.9
    losses: list[list[float]] = [[], []]
    for labels, heard in zip((make_labels(8), spoilt), losses, strict=True):
        fit_on(labels, fit_prior(make_labels(8).spectra * GAIN), PLAN, heard)
    assert losses[0] == losses[1]


def test_a_seed_repeats_a_run_to_the_last_bit(fitted: PixelFit) -> None:
    before = torch.random.get_rng_state()
    again = fit(8)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's draws are untouched"
    state = again.model.net.state_dict()
    for name, tensor in fitted.model.net.state_dict().items():
        assert torch.equal(state[name], tensor), name
    np.testing.assert_array_equal(cube_of(again.model), cube_of(fitted.model))
    other = fit(8, replace(PLAN, seed=1))
    assert not np.array_equal(cube_of(other.model), cube_of(fitted.model))


def test_the_guide_depends_on_seed_and_tile_alone(fitted: PixelFit) -> None:
    model = fitted.model
    np.testing.assert_array_equal(model.guide((12, 12), 5), model.guide((12, 12), 5))
    assert not np.array_equal(model.guide((12, 12), 5), model.guide((12, 12), 6))
    assert not np.array_equal(model.guide((12, 12), 5), replace(model, seed=9).guide((12, 12), 5))
    one, other = cube_of(model, (0, 5)), cube_of(model, (3, 5))
    np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(one[0], other[0])


def test_the_guide_carries_the_share_of_modelled_spectra_that_was_asked_for(
    fitted: PixelFit,
) -> None:
    guide = fitted.model.guide((20, 20), 0)
    assert guide.shape == (len(CHANNELS), 20, 20)
    assert (guide != 0).any(0).sum() == 40
    assert guide.min() >= 0


def test_a_saved_model_gives_the_same_cube(fitted: PixelFit, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_pixel_model(path, fitted.model, net="dypro-mamba", mode="pixel")
    loaded, _ = load_pixel_model(path, device=CPU)
    assert not loaded.net.training
    assert loaded.channel_centres_nm == tuple(CHANNELS.centres_nm)
    assert loaded.band_centres_nm == fitted.model.band_centres_nm
    np.testing.assert_array_equal(cube_of(loaded), cube_of(fitted.model))


@pytest.mark.parametrize("kind", ["gamma", "gamma-correlated", "gaussian"])
def test_every_prior_survives_saving(fitted: PixelFit, kind: str, tmp_path: Path) -> None:
    model = replace(fitted.model, prior=fit_prior(make_labels(9).spectra, kind))  # type: ignore[arg-type]
    save_pixel_model(tmp_path / "w.safetensors", model, net="dypro-mamba", mode="pixel")
    loaded, _ = load_pixel_model(tmp_path / "w.safetensors", device=CPU)
    np.testing.assert_array_equal(loaded.guide((9, 9), 4), model.guide((9, 9), 4))


@pytest.mark.parametrize(
    "change",
    [
        {"net": "unheard-of"},
        {"channel_centres_nm": [500.0, 600.0]},
        {"options": {"no_such_option": 1}},
        {"gain": "bright"},
        {"prior": {"kind": "gamma"}},
        {"prior": None},
        {"prior": {"kind": "gaussian", "mean": [1.0], "std": [-1.0]}},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_is_refused(
    fitted: PixelFit, change: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_pixel_model(path, fitted.model, net="dypro-mamba", mode="pixel")
    state, about = load_checkpoint(path)
    save_checkpoint(path, state, {**about, **change})
    with pytest.raises(WeightsError, match="does not describe a usable network") as caught:
        load_pixel_model(path, device=CPU)
    assert "\n" not in str(caught.value)


def test_an_empty_description_is_refused(fitted: PixelFit, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, fitted.model.net.state_dict(), {})
    with pytest.raises(WeightsError, match="KeyError"):
        load_pixel_model(path, device=CPU)


READINGS = [
    {"removed": True},
    {"point_loss_everywhere": True},
    {"redraw": False},
    {"net_options": {"width": 8, "directions": [4, 5, 6, 7]}},
]


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_every_reading_of_the_training_makes_another_network(
    reading: dict[str, Any], fitted: PixelFit
) -> None:
    other = fit(8, replace(PLAN, **reading))
    assert np.isfinite(cube_of(other.model)).all()
    assert not np.array_equal(cube_of(other.model), cube_of(fitted.model))


def test_a_removed_mask_is_the_complement_and_survives_saving(
    fitted: PixelFit, tmp_path: Path
) -> None:
    model = replace(fitted.model, removed=True)
    kept, rest = fitted.model.guide((12, 12), 3), model.guide((12, 12), 3)
    assert (kept.any(axis=0) != rest.any(axis=0)).all()
    path = tmp_path / "w.safetensors"
    save_pixel_model(path, model, net="dypro-mamba", mode="pixel")
    assert np.array_equal(load_pixel_model(path, device=CPU)[0].guide((12, 12), 3), rest)


def test_spectra_drawn_once_are_the_same_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = PixelModel.guide

    def watched(self: PixelModel, size: int, stream: int) -> np.ndarray:
        seen.append(stream)
        return original(self, size, stream)

    monkeypatch.setattr(PixelModel, "guide", watched)
    fit(4, replace(PLAN, steps=6, redraw=False))
    assert len(set(seen)) < len(seen)  # patches come again, and their spectra with them
    seen.clear()
    fit(4, replace(PLAN, steps=6))
    assert len(set(seen)) == len(seen)
