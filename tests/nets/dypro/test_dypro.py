"""DyPro-Mamba has the paper's size, and its parts can be switched off."""

import pytest
import torch

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.dypro.net import DyProConfig, DyProMamba, PixelToImage

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
    ("option", "expected"),
    [
        ("spa", 0.596e6),
        ("hf", 0.605e6),
        ("spe", 0.605e6),
        ("drpn", 0.565e6),
        ("prompt_ssm", 0.56e6),
    ],
)
def test_parameters_without_a_part_are_as_documented(option: str, expected: float) -> None:
    assert parameters(**{option: False}) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"spa": False},
        {"hf": False},
        {"spa": False, "hf": False},
        {"spe": False},
        {"drpn": False},
        {"prompt_ssm": False},
        {"transform": "fft"},
        {"transform": "none"},
    ],
    ids=str,
)
def test_switched_off_parts_leave_a_network_that_trains(options: dict[str, object]) -> None:
    net = small_net(**options)
    y = net(torch.rand(1, 3, 7, 6), torch.rand(1, 5, 7, 6))
    assert y.shape == (1, 5, 7, 6)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


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


@pytest.mark.parametrize("options", [{"width": 0}, {"transform": "wavelet"}], ids=str)
def test_senseless_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        DyProConfig(**options)
