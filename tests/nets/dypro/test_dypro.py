"""DyPro-Mamba has the paper's size, and its parts can be switched off."""

import json
from copy import deepcopy
from dataclasses import fields

import pytest
import torch

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.dypro.block import SS2D
from pixelssr_geo.nets.dypro.config import DyProConfig
from pixelssr_geo.nets.dypro.net import DyProMamba, PixelToImage
from pixelssr_geo.nets.scan.walks import DIAGONALS

SMALL = {"width": 8, "state": 4}


def small_net(**options: object) -> DyProMamba:
    torch.manual_seed(0)
    return DyProMamba(3, 5, config=DyProConfig(**{**SMALL, **options}))


def parameters(**options: object) -> int:
    net = DyProMamba(3, 31, config=DyProConfig(**options))
    return sum(p.numel() for p in net.parameters())


def test_parameters_are_the_papers() -> None:
    assert parameters() == pytest.approx(0.606e6, rel=0.02)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"spa": False}, 0.596e6),
        ({"hf": False}, 0.605e6),
        ({"spe": False}, 0.605e6),
        ({"drpn": False}, 0.565e6),
        ({"prompt_ssm": "no-attention"}, 0.591e6),
        ({"prompt_ssm": "no-last"}, 0.559e6),
    ],
    ids=str,
)
def test_parameters_without_a_part_are_as_documented(
    options: dict[str, object], expected: float
) -> None:
    assert parameters(**options) == pytest.approx(expected, abs=0.5e3)


# Every option away from its default, one at a time: whoever adds one adds it here.
READINGS = [
    {"width": 6},
    {"state": 3},
    {"expand": 3},
    {"prompt_width": 2},
    {"prompt_inner": 12},
    {"directions": (0, 1)},
    {"directions": (2, 3)},
    {"directions": DIAGONALS},
    {"share_directions": False},
    {"transform": "fft"},
    {"transform": "none"},
    {"initial_order": 0.25},
    {"learn_order": False, "initial_order": 0.75},
    {"parts": "apart"},
    {"inverse": "magnitude"},
    {"gate": "before"},
    {"upsampling": "nearest"},
    {"grey": (0, 2)},
    {"attention": "product"},
    {"attention_sums": "columns"},
    {"projections": "full"},
    {"norms": False},
    {"residuals": False},
    {"feed_forward_convs": 3},
    {"skip": True},
    {"spa": False},
    {"hf": False},
    {"spa": False, "hf": False},
    {"spe": False},
    {"drpn": False},
    {"prompt_ssm": "no-attention"},
    {"prompt_ssm": "no-last"},
]


def test_every_option_is_tried() -> None:
    tried = {name for reading in READINGS for name in reading}
    elsewhere = {"zero_head", "scan_backend"}
    assert tried | elsewhere == {field.name for field in fields(DyProConfig)}


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_every_reading_is_another_network_that_trains(options: dict[str, object]) -> None:
    x, guide = torch.rand(1, 3, 7, 6), torch.rand(1, 5, 7, 6)
    net = small_net(**options).double()
    x, guide = x.double(), guide.double()
    y = net(x, guide)
    assert y.shape == (1, 5, 7, 6)
    assert not torch.allclose(y, small_net().double()(x, guide))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_a_reading_survives_a_file(options: dict[str, object]) -> None:
    options = json.loads(json.dumps(small_net(**options).options))
    assert (
        DyProMamba(3, 5, config=DyProConfig(**options)).options
        == DyProMamba(3, 5, config=DyProConfig(**options)).options
    )


def test_the_diagonal_walks_are_the_same_image_turned() -> None:
    # Walk 4 starts top left, walk 6 top right: turning the image left to right swaps them.
    config = DyProConfig(**SMALL, directions=(4,))
    scan = SS2D(4, config, expand=2, share=True).double()
    turned = deepcopy(scan)
    turned.scan.directions = (6,)
    turned.conv.weight.data = scan.conv.weight.data.flip(3)
    image = torch.rand(1, 4, 5, 7, dtype=torch.float64)
    # Within a line both go from the top down, so the turned walk visits the same pixels in order.
    torch.testing.assert_close(turned(image.flip(3)).flip(3), scan(image))


def test_zero_head_starts_at_zero_and_learns() -> None:
    net = small_net(zero_head=True)
    y = net(torch.rand(1, 3, 6, 6))
    assert not y.any()
    (y - 1).square().sum().backward()
    assert net.head.weight.grad is not None
    assert net.head.weight.grad.any()


def test_guide_of_an_estimate_and_its_deviation_is_taken() -> None:
    net = DyProMamba(4, 6, 7, DyProConfig(**SMALL))
    x, guide = torch.rand(2, 4, 5, 5), torch.rand(2, 7, 5, 5)
    assert net(x, guide).shape == (2, 6, 5, 5)
    assert not torch.equal(net(x, guide), net(x))


def test_no_guide_means_zeros() -> None:
    net = small_net().eval()
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(net(x), net(x, torch.zeros(1, 5, 6, 6)))


def test_neck_is_handed_out_for_the_image_loss() -> None:
    net = small_net()
    x = torch.rand(1, 3, 5, 7)
    y, y3 = net.forward_with_neck(x)
    assert torch.equal(y, net(x))
    assert PixelToImage(8, 3)(y3).shape == x.shape


def test_scan_backend_does_not_change_the_result() -> None:
    x = torch.rand(1, 3, 7, 6)
    torch.testing.assert_close(
        small_net(scan_backend="torch")(x), small_net(scan_backend="reference")(x)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"feed_forward_convs": 0},
        {"transform": "wavelet"},
        {"prompt_ssm": True},
        {"directions": ()},
        {"directions": (8,)},
        {"directions": 5},
        {"directions": [0.0, 1.0]},
        {"grey": ["red"]},
        {"width": "40"},
        {"width": 40.5},
        {"width": True},
        {"share_directions": "false"},
        {"initial_order": float("nan")},
        {"initial_order": "x"},
        {"scan_backend": 3},
    ],
    ids=str,
)
def test_senseless_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        DyProConfig(**options)


def test_a_grey_band_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="0 to 2"):
        small_net(grey=(0, 3))


def test_the_neck_s_features_are_handed_out_by_name() -> None:
    net = small_net().eval()
    x, guide = torch.rand(2, 3, 5, 7), torch.rand(2, 5, 5, 7)
    found = net.neck_features(x, guide)
    assert torch.equal(found.y3, net.forward_with_neck(x, guide)[1])
    assert found.f1 is not None
    assert found.spatial is not None
    assert found.edges is not None
    assert found.spectral is not None
    sizes = [tuple(image.shape) for image in (found.f1, found.spatial, found.edges)]
    assert sizes == [(2, 3, 5, 7)] * 3
    assert found.y1.shape == found.y2.shape == found.y3.shape == (2, 8, 5, 7)
    assert found.spectral.shape == (2, 1, 8, 8)
    assert not torch.equal(found.y1, net.neck_features(x).y1)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"spa": False}, {"spatial"}),
        ({"hf": False}, {"edges"}),
        ({"spe": False}, {"spectral"}),
        ({"drpn": False}, {"f1", "spatial", "edges", "spectral"}),
    ],
)
def test_features_that_are_switched_off_are_none(
    options: dict[str, bool], missing: set[str]
) -> None:
    found = small_net(**options).neck_features(torch.rand(1, 3, 4, 4))
    assert {name for name, image in found._asdict().items() if image is None} == missing
