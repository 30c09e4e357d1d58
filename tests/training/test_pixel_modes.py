"""Every network trains in every mode, and its weights bring it back by its name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelssr_geo.fitting import SceneReader
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.losses import LossTerms, LossWeights, overall_loss
from pixelssr_geo.nets import list_nets
from pixelssr_geo.nets.dypro.net import DyProMamba
from pixelssr_geo.nets.prompted import PromptedNet
from pixelssr_geo.prior import fit_prior
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.testing import make_cube
from pixelssr_geo.training import pixel
from pixelssr_geo.training.cubes import CubePlan, TrainingCube, train_on_cubes
from pixelssr_geo.training.pixel import (
    PixelFit,
    PixelPlan,
    load_pixel_model,
    save_pixel_model,
    train_pixel,
)
from pixelssr_geo.training.pretrained import (
    PretrainedMean,
    create_residual_net,
    load_residual_net,
    save_residual_net,
)

CPU = torch.device("cpu")
CHANNELS = ChannelGrid.from_spec("450:900:50")
SENSOR = get_sensor("GF6-PMS")
RESPONSE = SENSOR.matrix(CHANNELS)
LANDSCAPE = make_landscape(16, seed=0, channels=CHANNELS)
SCENE = np.einsum("bc,cyx->byx", RESPONSE, LANDSCAPE.cube).astype("f4")
NECK = {"width": 4, "state": 2, "prompt_inner": 3}
SMALL: dict[str, dict[str, object]] = {
    "dypro-mamba": {**NECK, "expand": 1},
    "mst++": {"stages": 1, "blocks": (1,)},
    "restormer": {"width": 4, "blocks": (1, 1), "refinement": 0},
    "saunet": {"stages": 1, "blocks": (1,)},
    "specat": {"width": 4, "blocks": (1,)},
    "retinex-mamba": {"width": 4, "blocks": (1,), "states": (2,)},
    "msfn": {"stages": 1, "blocks": (1,)},
    "unssr": {"width": 6, "blocks": 1},
}
EVERY = pytest.mark.parametrize("name", SMALL)


def labels_of(count: int) -> Labels:
    rows, cols = np.divmod(np.random.default_rng(0).choice(256, count, replace=False), 16)
    bands, spectra = SCENE[:, rows, cols].T, LANDSCAPE.cube[:, rows, cols].T
    return Labels(rows, cols, bands.astype("f8"), spectra.astype("f8"))


def options_of(name: str, *, neck: bool) -> dict[str, object]:
    """A network as small as it can be, behind a neck of that kind if it has none."""
    return {**SMALL[name], **({"neck": NECK} if neck and name != "dypro-mamba" else {})}


def fit_scene(name: str, count: int, *, steps: int = 2) -> PixelFit:
    plan = PixelPlan(
        steps=steps,
        patch=8,
        batch=2,
        unlabelled=4,
        label_ratio=0.1,
        net_options=options_of(name, neck=count > 0),
    )
    return train_pixel(
        labels_of(count) if count else None,
        SceneReader(SCENE),
        RESPONSE,
        fit_prior(labels_of(8).spectra),
        plan,
        gain=1.0,
        band_centres_nm=(485.0, 555.0, 660.0, 830.0),
        channel_centres_nm=tuple(CHANNELS.centres_nm),
        net=name,
        device=CPU,
    )


def test_all_networks_are_tried() -> None:
    assert set(SMALL) == {spec.name for spec in list_nets()}


@EVERY
@pytest.mark.parametrize(("mode", "count"), [("unsupervised", 0), ("pixel", 5)])
def test_weights_of_a_scene_are_read_back_by_name(
    name: str, mode: str, count: int, tmp_path: Path
) -> None:
    model = fit_scene(name, count).model
    assert model.net.name == name
    save_pixel_model(tmp_path / "w.safetensors", model, net=model.net.name, mode=mode)
    loaded, about = load_pixel_model(tmp_path / "w.safetensors", device=CPU)
    assert (about["net"], about["mode"]) == (name, mode)
    assert type(loaded.net) is type(model.net)
    tiles = np.array([0, 5])
    stack = np.stack([SCENE[:, :8, :8], SCENE[:, 8:, 5:13]])
    cube = model(stack, tiles, CPU)
    assert cube.shape == (2, len(CHANNELS), 8, 8)
    assert np.isfinite(cube).all()
    np.testing.assert_array_equal(loaded(stack, tiles, CPU), cube)


@EVERY
def test_modelled_spectra_reach_a_network_in_the_pixel_mode(name: str) -> None:
    net = fit_scene(name, 5, steps=1).model.net
    assert isinstance(net, DyProMamba if name == "dypro-mamba" else PromptedNet)
    x, guide = torch.rand(1, 4, 8, 8), torch.rand(1, len(CHANNELS), 8, 8)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x, guide))


def test_a_network_without_labels_stands_by_itself() -> None:
    net = fit_scene("mst++", 0, steps=1).model.net
    assert not isinstance(net, PromptedNet)


@pytest.mark.parametrize(("count", "used"), [(5, (1, 1, 1, 1)), (0, (0, 1, 1, 0))])
def test_the_modes_have_the_papers_losses(
    count: int, used: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[LossTerms, LossWeights]] = []

    def spy(terms: LossTerms, weights: LossWeights) -> torch.Tensor:
        seen.append((terms, weights))
        return overall_loss(terms, weights)

    monkeypatch.setattr(pixel, "overall_loss", spy)
    fit_scene("mst++", count, steps=8)
    # The first cubes are zero, whose channels are alike: L_SSIM needs some steps to count.
    terms, weights = seen[-1]
    for term, weight, wanted in zip(
        terms,
        (weights.point, weights.projection, weights.ssim, weights.image),
        used,
        strict=True,
    ):
        assert bool(weight) == bool(wanted)
        if wanted:
            assert term > 0
            assert term.requires_grad


@pytest.mark.parametrize("count", [0, 4])
def test_a_short_run_of_another_network_reduces_the_loss(count: int) -> None:
    losses = [fit_scene("mst++", count, steps=n).record.loss for n in (1, 24)]
    assert losses[1] < 0.8 * losses[0]


@EVERY
@pytest.mark.parametrize("mode", ["supervised", "pixel"])
def test_weights_of_cubes_are_read_back_by_name(name: str, mode: str, tmp_path: Path) -> None:
    made = make_cube((12, 12), wavelengths="400:1000:50")
    cube = TrainingCube("made", made.values, ChannelGrid.from_spec("400:1000:50"))
    options = options_of(name, neck=mode == "pixel")
    plan = CubePlan(steps=2, patch=8, batch=1, random_sensors=0, net_options=options)
    plan = replace(plan, mode=mode, label_ratio=0.1)  # type: ignore[arg-type]
    fit = train_on_cubes([cube], [SENSOR], plan, net=name, device=CPU)
    assert fit.net.name == name
    assert isinstance(fit.net.net, PromptedNet) == (mode == "pixel" and name != "dypro-mamba")
    save_residual_net(tmp_path / "w.safetensors", fit.net, net=fit.net.name, card={})
    loaded, _ = load_residual_net(tmp_path / "w.safetensors", device=CPU)
    stack = SCENE[None, :, :8, :8]
    found = []
    for net in (fit.net, loaded):
        mean = PretrainedMean.of(net, CHANNELS, RESPONSE, stack.mean((0, 2, 3), dtype="f8"))
        found.append(mean.tiles(stack))
        assert mean.changes(stack).any()
    np.testing.assert_array_equal(found[0], found[1])
    assert loaded.name == name


@EVERY
@pytest.mark.parametrize("modelled", [False, True])
def test_a_fresh_network_for_cubes_adds_nothing_and_learns_everywhere(
    name: str, modelled: bool
) -> None:
    prior = fit_prior(np.random.default_rng(0).gamma(2, 0.5, (20, 61)))
    net = create_residual_net(
        name, seed=0, prior=prior if modelled else None, **options_of(name, neck=modelled)
    )
    common, deviation = torch.rand(1, 61, 8, 8) + 0.5, torch.rand(1, 61, 8, 8) * 0.1
    drawn = net.modelled((8, 8), [0], seed=0)
    assert (drawn is not None) == modelled
    assert not net(common, deviation, drawn).any()
    # Adam's first step leaves zero, from where gradients reach everything.
    for _ in range(2):
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        optimiser.zero_grad()
        (net(common, deviation, drawn) - 1).square().sum().backward()
        optimiser.step()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
