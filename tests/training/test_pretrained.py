"""The prior mean of a network trained on cubes: any unit, any bands, any channels, consistent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pixelssr_geo.errors import (
    SceneError,
    SettingsError,
    WavelengthGridError,
    WeightsError,
)
from pixelssr_geo.estimator import usable_bands
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.nets import create_net
from pixelssr_geo.prior import GammaPrior
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor
from pixelssr_geo.training.checkpoint import save_checkpoint
from pixelssr_geo.training.pretrained import (
    COMMON,
    PretrainedMean,
    ResidualNet,
    SensorView,
    create_residual_net,
    interpolation,
    load_residual_net,
    save_residual_net,
)

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
TINY = {"width": 4, "state": 2, "prompt_inner": 3, "expand": 1}
CHANNELS = ChannelGrid.from_spec("450:900:15")


def lively_net(*, prior: GammaPrior | None = None, corrects: bool = False) -> ResidualNet:
    """A network that says something: its head is not at zero."""
    return create_residual_net(
        "dypro-mamba",
        seed=0,
        prior=prior,
        corrects=corrects,
        zero_head=False,
        label_ratio=0.1,
        **TINY,
    )


def scene_of(
    response: SpectralResponse, channels: ChannelGrid = CHANNELS, size: int = 16
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bands ``(1, band, y, x)``, the matrix of the usable ones and their mean."""
    cube = make_landscape(size, seed=3, channels=channels).cube
    matrix = response.matrix(channels)[usable_bands(response, channels)]
    bands = np.einsum("bc,cyx->byx", matrix, cube).astype("f4")[None]
    return bands, matrix, bands.mean((0, 2, 3), dtype="f8")


def mean_of(net: ResidualNet, factor: float = 1.0) -> tuple[PretrainedMean, np.ndarray]:
    bands, matrix, middle = scene_of(get_sensor("GF-6 PMS"))
    return PretrainedMean.of(net, CHANNELS, matrix, middle * factor), bands * np.float32(factor)


@pytest.mark.parametrize("factor", [2.0**-7, 2.0**12])
def test_a_scene_in_another_unit_gives_the_same_cube_in_that_unit(factor: float) -> None:
    net = lively_net()
    one, bands = mean_of(net)
    other, scaled = mean_of(net, factor)
    # A power of two changes no digit.
    np.testing.assert_array_equal(other.tiles(scaled), one.tiles(bands) * np.float32(factor))


RGB, SENTINEL = get_sensor("RGB"), get_sensor("Sentinel-2A")
TWO = SpectralResponse.from_bands([480.0, 800.0], [60.0, 90.0])
TWELVE = SpectralResponse.from_bands(np.linspace(430, 960, 12), np.full(12, 30.0))


@pytest.mark.parametrize(
    ("response", "spec"),
    [
        pytest.param(RGB, "400:1000:10", id="3 bands"),
        pytest.param(TWO, "420:990:5", id="2 bands, 115 channels"),
        pytest.param(TWELVE, "400:1000:30", id="12 bands, 21 channels"),
        pytest.param(SENTINEL, "420:720:7", id="the visible alone"),
    ],
)
def test_any_bands_and_any_channels_give_a_cube_that_agrees_with_the_scene(
    response: SpectralResponse, spec: str
) -> None:
    channels = ChannelGrid.from_spec(spec)
    bands, matrix, middle = scene_of(response, channels)
    mean = PretrainedMean.of(lively_net(), channels, matrix, middle)
    cube = mean.tiles(bands)
    assert cube.shape == (1, len(channels), 16, 16)
    again = np.einsum("bc,ncyx->nbyx", matrix, cube.astype("f8"))
    np.testing.assert_allclose(again, bands, atol=2e-6)


def test_the_network_changes_only_what_no_band_sees() -> None:
    mean, bands = mean_of(lively_net())
    change = mean.changes(bands)
    seen = np.einsum("bc,ncyx->nbyx", mean.view.response.numpy(), change)
    assert np.abs(change).max() > 1e-4
    assert np.abs(seen).max() < 1e-6
    np.testing.assert_allclose(mean.library(bands) + change, mean.tiles(bands), atol=1e-6)


def test_a_fresh_network_gives_the_library_estimate() -> None:
    mean, bands = mean_of(create_residual_net("dypro-mamba", seed=0, **TINY))
    np.testing.assert_array_equal(mean.changes(bands), 0)
    np.testing.assert_allclose(mean.tiles(bands), mean.library(bands), atol=1e-6)


def test_the_library_estimate_is_a_usable_one() -> None:
    bands, matrix, middle = scene_of(get_sensor("GF-6 PMS"))
    truth = make_landscape(16, seed=3, channels=CHANNELS).cube
    found = PretrainedMean.of(lively_net(), CHANNELS, matrix, middle).library(bands)[0]
    flat = np.broadcast_to(bands[0].mean(0), truth.shape)
    assert np.abs(found - truth).mean() < 0.3 * np.abs(flat - truth).mean()


def test_a_given_estimate_is_what_is_corrected() -> None:
    mean, bands = mean_of(lively_net(corrects=True))
    rest = mean.view.unseen(torch.full((1, len(CHANNELS), 16, 16), 0.01)).numpy()
    given = mean.library(bands) + rest
    deviation = np.full_like(given, 0.02)
    change = mean.changes(bands, mean=given, deviation=deviation)
    np.testing.assert_allclose(
        mean.tiles(bands, mean=given, deviation=deviation), given + change, atol=1e-6
    )
    assert not np.array_equal(change, mean.changes(bands))
    assert not np.array_equal(change, mean.changes(bands, mean=given, deviation=deviation * 3))


def test_modelled_spectra_depend_on_the_tile_and_the_seed_alone() -> None:
    prior = GammaPrior(np.full(len(COMMON), 4.0), np.full(len(COMMON), 0.25))
    mean, bands = mean_of(lively_net(prior=prior))
    both = np.concatenate([bands, bands])
    first = mean.tiles(both, numbers=[7, 9])
    np.testing.assert_allclose(mean.tiles(bands, numbers=[9])[0], first[1], atol=1e-6)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(replace(mean, seed=1).tiles(both, numbers=[7, 9]), first)


def test_the_same_scene_gives_the_same_cube_again() -> None:
    results = [mean.tiles(bands) for mean, bands in (mean_of(lively_net()) for _ in range(2))]
    np.testing.assert_array_equal(*results)


def test_a_pixel_darker_than_the_scenes_noise_is_not_divided_by() -> None:
    mean, bands = mean_of(lively_net())
    bands[0, :, 0, 0] = 1e-12
    bands[0, :, 0, 1] = -0.001
    assert np.isfinite(mean.tiles(bands)).all()
    assert np.abs(mean.library(bands)[0, :, 0, :2]).max() < 0.02


def test_moving_a_prior_mean_leaves_the_original_where_it_is() -> None:
    mean, bands = mean_of(lively_net())
    moved = mean.to(CPU)
    assert moved.net is not mean.net
    np.testing.assert_array_equal(moved.tiles(bands), mean.tiles(bands))


def test_a_common_channel_beyond_the_cube_takes_the_librarys_shape() -> None:
    """A cube of the visible alone: the network still sees the library's near infrared."""
    visible = ChannelGrid.from_spec("420:700:10")
    bands, matrix, middle = scene_of(get_sensor("RGB"), visible)
    view = PretrainedMean.of(lively_net(), visible, matrix, middle).view
    common = view.guide(torch.from_numpy(bands), 1e-3).common
    library, cube = view.spectra(torch.from_numpy(bands), 1e-3)
    shift = common - library
    last = int(np.flatnonzero(COMMON.centres_nm == 700)[0])
    torch.testing.assert_close(
        shift[:, last + 1 :], shift[:, last : last + 1].expand(-1, 30, -1, -1)
    )
    assert cube.shape[1] == len(visible)


def test_interpolation_is_exact_between_the_centres_and_holds_the_ends() -> None:
    matrix = interpolation(np.array([400.0, 500.0]), np.array([390.0, 425.0, 500.0, 510.0]))
    np.testing.assert_allclose(matrix @ [1.0, 2.0], [1.0, 1.25, 2.0, 2.0])


def test_channels_outside_the_library_are_refused() -> None:
    channels = ChannelGrid.from_spec("900:1100:10")
    matrix = SpectralResponse.from_bands([950.0], [60.0]).matrix(channels)
    with pytest.raises(WavelengthGridError, match="library covers 400-1000 nm"):
        SensorView(channels, matrix)


@pytest.mark.parametrize("middle", [0.0, np.nan, -1.0])
def test_a_scene_without_light_is_refused(middle: float) -> None:
    _, matrix, _ = scene_of(get_sensor("GF-6 PMS"))
    with pytest.raises(SceneError, match="positive"):
        PretrainedMean.of(lively_net(), CHANNELS, matrix, np.full(len(matrix), middle))


def test_tiles_of_another_number_of_bands_and_half_an_estimate_are_refused() -> None:
    mean, bands = mean_of(lively_net())
    with pytest.raises(SettingsError, match="expected \\(n, 4, y, x\\)"):
        mean.tiles(bands[:, :3])
    given = np.zeros((1, len(CHANNELS), 16, 16), "f4")
    with pytest.raises(SettingsError, match="both are needed"):
        mean.tiles(bands, mean=given)


def test_a_network_that_never_saw_estimates_is_given_none() -> None:
    mean, bands = mean_of(lively_net())
    given = mean.library(bands)
    with pytest.raises(SettingsError, match="trained on the library's alone"):
        mean.tiles(bands, mean=given, deviation=given)


@pytest.mark.parametrize("with_prior", [False, True])
def test_what_is_saved_is_loaded_with_its_card(tmp_path: Path, with_prior: bool) -> None:
    prior = GammaPrior(np.full(61, 4.0), np.full(61, 0.25), 0.5) if with_prior else None
    net = lively_net(prior=prior, corrects=with_prior)
    card = {"data": ["here"], "terms": "CC0", "steps": 3}
    save_residual_net(tmp_path / "w.safetensors", net, net="dypro-mamba", card=card)
    loaded, found = load_residual_net(tmp_path / "w.safetensors", device=CPU)
    assert found == card
    assert loaded.corrects == with_prior
    mean, bands = mean_of(net)
    again, _ = mean_of(loaded)
    np.testing.assert_array_equal(again.tiles(bands), mean.tiles(bands))


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    net = create_net("dypro-mamba", bands=4, channels=5, **TINY)
    save_checkpoint(path, net.state_dict(), {"net": "dypro-mamba", "mode": "pixel"})
    with pytest.raises(WeightsError, match="train CUBE"):
        load_residual_net(path, device=CPU)


def test_weights_whose_description_does_not_fit_them_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    about = {"kind": "cubes", "net": "dypro-mamba", "options": {}, "prior": None, "card": {}}
    about = {**about, "label_ratio": 0.01, "corrects": False}
    save_checkpoint(path, lively_net().state_dict(), about)
    with pytest.raises(WeightsError, match="does not describe a usable network"):
        load_residual_net(path, device=CPU)
