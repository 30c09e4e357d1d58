"""The three modes of training on pieces of scenes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import SceneError, SettingsError
from pixelssr_geo.losses import LossWeights
from pixelssr_geo.nets.contract import NeckedNet
from pixelssr_geo.training import modes
from pixelssr_geo.training.loop import train
from pixelssr_geo.training.modes import ModePlan, Piece, predict, train_mode

BANDS, CHANNELS = 3, 6
RESPONSE = np.kron(np.eye(BANDS), [[0.5, 0.5]])
CPU = torch.device("cpu")
SMALL = {"width": 4, "state": 2, "prompt_inner": 3}
PLAN = ModePlan(steps=3, patch=12, batch=3, label_ratio=0.05, net_options=SMALL)


def piece(labelled: int = 20, shape: tuple[int, int] = (20, 17), seed: int = 0) -> Piece:
    draws = np.random.default_rng(seed)
    rows, cols = np.indices(shape)
    base = np.linspace(0.2, 0.5, CHANNELS)[:, None, None]
    cube = base * (1 + 0.5 * np.sin(rows / 3) * np.cos(cols / 4)) + 0.01 * draws.random(
        (CHANNELS, *shape)
    )
    mask = np.zeros(shape, bool)
    mask.flat[draws.choice(mask.size, labelled, replace=False)] = True
    bands = np.einsum("bc,cyx->byx", RESPONSE, cube)
    bands[:, 2, 3] = np.nan
    return Piece.of(bands, cube, mask)


def run(plan: ModePlan = PLAN, pieces: tuple[Piece, ...] | None = None, **more: object):
    told = {"band_centres_nm": (500.0, 600.0, 700.0), "channel_centres_nm": tuple(range(6))}
    library = {"library": lambda: np.full((5, CHANNELS), 0.3)}
    return train_mode(pieces or (piece(),), RESPONSE, plan, device=CPU, **told, **library, **more)


def test_a_piece_holds_no_gap_and_no_label_without_data() -> None:
    cube = np.full((2, 3, 3), 0.5)
    cube[1, 0, 0] = np.nan
    bands = np.full((1, 3, 3), 0.5)
    bands[0, 2, 2] = np.nan
    made = Piece.of(bands, cube, np.ones((3, 3), bool))
    assert np.isfinite(made.bands).all()
    assert np.isfinite(made.cube).all()
    assert made.valid.sum() == 8
    assert made.labelled.sum() == len(made.spectra) == 7
    assert not Piece.of(bands, cube).labelled.any()


@pytest.mark.parametrize(
    ("mode", "necked", "terms"),
    [
        ("unsupervised", False, (0, 1, 0.3, 0)),
        ("pixel", True, (1, 1, 0.3, 0.3)),
        ("supervised", False, (1, 0, 0, 0)),
    ],
)
def test_a_mode_has_its_losses_and_its_neck(mode, necked, terms) -> None:
    options = {"stages": 1, "blocks": (1,)} | ({"neck": SMALL} if necked else {})
    plan = replace(PLAN, mode=mode, net="mst++", net_options=options)
    weights = plan.losses
    assert (weights.point, weights.projection, weights.ssim, weights.image) == terms
    fit = run(plan)
    assert isinstance(fit.model.net, NeckedNet) == necked
    assert fit.record.steps == plan.steps
    assert np.isfinite(fit.record.loss)


@pytest.mark.parametrize("mode", ["unsupervised", "pixel", "supervised"])
def test_the_rate_rises_over_the_first_eighth_of_the_steps(mode, monkeypatch) -> None:
    asked = []

    def spy(net, loss, schedule, **more):
        asked.append(schedule)
        return train(net, loss, replace(schedule, steps=1), **more)

    monkeypatch.setattr(modes, "train", spy)
    run(replace(PLAN, mode=mode, steps=40))
    assert [schedule.warm_up for schedule in asked] == [5]


def test_an_ablated_loss_is_left_out_of_mode_pixel() -> None:
    assert replace(PLAN, weights=LossWeights(ssim=0)).losses == LossWeights(ssim=0)
    # Three steps from an output of zero leave L_SSIM next to nothing to say.
    plan = replace(PLAN, weights=LossWeights(projection=0))
    assert plan.losses == LossWeights(projection=0)
    assert run(plan).record.loss != run().record.loss


def test_the_same_plan_gives_the_same_bits_and_another_seed_others() -> None:
    bands = piece().bands
    first, again = (predict(run().model, bands, device=CPU) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = predict(run(replace(PLAN, seed=1)).model, bands, device=CPU)
    assert not np.array_equal(first, other)


def test_each_draw_of_modelled_spectra_gives_another_cube() -> None:
    model, bands = run().model, piece().bands
    cubes = [predict(model, bands, draw=draw, device=CPU) for draw in (0, 0, 1)]
    np.testing.assert_array_equal(cubes[0], cubes[1])
    assert not np.array_equal(cubes[0], cubes[2])
    assert cubes[0].shape == (CHANNELS, 20, 17)


def test_only_labelled_spectra_are_learnt_from() -> None:
    known = piece()
    elsewhere = replace(known, cube=np.where(known.labelled, known.cube, 9).astype("f4"))
    model, other = run(pieces=(known,)).model, run(pieces=(elsewhere,)).model
    np.testing.assert_array_equal(
        predict(model, known.bands, device=CPU), predict(other, known.bands, device=CPU)
    )


def test_without_labels_no_spectrum_is_looked_at() -> None:
    plan = replace(PLAN, mode="unsupervised")
    known = piece()
    blind = replace(known, cube=np.full_like(known.cube, 9), labelled=np.zeros_like(known.labelled))
    cubes = [
        predict(run(plan, pieces=(one,)).model, known.bands, device=CPU) for one in (known, blind)
    ]
    np.testing.assert_array_equal(*cubes)


def test_steps_of_supervision_bring_the_cube_nearer() -> None:
    known = piece(labelled=340)
    plan = replace(PLAN, mode="supervised", steps=60, learning_rate=5e-3)

    def error(steps: int) -> float:
        cube = predict(
            run(replace(plan, steps=steps), pieces=(known,)).model, known.bands, device=CPU
        )
        return float(np.abs(cube - known.cube)[:, known.valid].mean())

    assert error(60) < 0.5 * error(1)


@settings(max_examples=25)
@given(
    size=st.integers(1, 24),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    labels=st.integers(0, 3),
    seed=st.integers(0, 50),
)
def test_windows_lie_inside_and_half_of_them_hold_a_label(size, shape, labels, seed) -> None:
    known = piece(min(labels, shape[0] * shape[1]), shape) if min(shape) > 3 else None
    if known is None or not known.valid.any():
        return
    plan = replace(PLAN, patch=size, batch=4, seed=seed)
    batch = modes._Windows.of((known,), plan).batch(2.0, CPU)
    assert batch.bands.shape == (4, BANDS, size, size)
    assert torch.isfinite(batch.bands).all()
    assert (batch.labelled <= batch.valid).all()
    if known.labelled.any():
        assert (batch.labelled.sum((1, 2, 3))[:2] > 0).all()
    known_values = batch.target.abs().sum(1, keepdim=True) > 0
    assert torch.equal(known_values, batch.labelled > 0)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(SceneError, match="none of 1 pieces to train on has a labelled pixel"):
        run(pieces=(piece(0),))
    dark = replace(piece(), bands=np.zeros_like(piece().bands))
    with pytest.raises(SceneError, match="no value above zero"):
        run(pieces=(dark,))
    with pytest.raises(SettingsError, match="steps is 0, expected at least 1"):
        ModePlan(steps=0)
