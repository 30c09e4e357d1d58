"""The table of networks, and what every network in it keeps."""

import pickle
import subprocess
import sys

import pytest
import torch

from pixelssr_geo.errors import SettingsError, UnknownNetError
from pixelssr_geo.nets import SpectralNet, create_net, find_net, list_nets
from pixelssr_geo.nets.registry import NetSpec, _by_name

BANDS, CHANNELS = 4, 9
# Documented for 3 bands to 31 channels: all parameters.
PARAMETERS = {"dypro-mamba": 0.606e6, "mst++": 1.6196e6}


def make(name: str) -> SpectralNet:
    torch.manual_seed(0)
    return create_net(name, bands=BANDS, channels=CHANNELS)


@pytest.mark.parametrize("name", [spec.name for spec in list_nets()])
class TestEveryNet:
    @pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 9), (16, 8)], ids=str)
    def test_sizes_are_kept(self, name: str, size: tuple[int, int]) -> None:
        net = make(name).eval()
        with torch.no_grad():
            y = net(torch.rand(2, BANDS, *size))
        assert y.shape == (2, CHANNELS, *size)
        assert torch.isfinite(y).all()

    def test_gradient_reaches_every_parameter(self, name: str) -> None:
        net = make(name)
        net(torch.rand(1, BANDS, 8, 10), torch.rand(1, CHANNELS, 8, 10)).square().sum().backward()
        without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert not without

    def test_evaluation_is_deterministic(self, name: str) -> None:
        net = make(name).eval()
        x = torch.rand(1, BANDS, 8, 8)
        with torch.no_grad():
            assert torch.equal(net(x), net(x))

    def test_state_and_options_rebuild_it(self, name: str) -> None:
        net = make(name).eval()
        torch.manual_seed(1)
        other = create_net(
            name,
            bands=net.bands,
            channels=net.channels,
            guide_channels=net.guide_channels,
            **net.options,
        ).eval()
        other.load_state_dict(net.state_dict())
        x = torch.rand(1, BANDS, 6, 6)
        with torch.no_grad():
            assert torch.equal(net(x), other(x))

    def test_pickling_keeps_it(self, name: str) -> None:
        net = make(name).eval()
        other = pickle.loads(pickle.dumps(net))
        x = torch.rand(1, BANDS, 6, 6)
        with torch.no_grad():
            assert torch.equal(net(x), other(x))

    def test_float64_agrees_with_float32(self, name: str) -> None:
        net = make(name).eval()
        x = torch.rand(1, BANDS, 8, 8)
        with torch.no_grad():
            single, double = net(x), net.double()(x.double())
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)

    def test_parameters_are_as_documented(self, name: str) -> None:
        net = create_net(name, bands=3, channels=31)
        count = sum(p.numel() for p in net.parameters())
        assert count == pytest.approx(PARAMETERS[name], rel=0.02)

    def test_guide_matters_if_it_is_said_to(self, name: str) -> None:
        net = make(name).eval()
        x, guide = torch.rand(1, BANDS, 6, 6), torch.rand(1, CHANNELS, 6, 6)
        with torch.no_grad():
            changed = not torch.equal(net(x), net(x, guide))
        assert changed == find_net(name).uses_guide

    def test_wrong_inputs_are_refused(self, name: str) -> None:
        net = make(name)
        with pytest.raises(SettingsError, match="expects"):
            net(torch.rand(1, BANDS + 1, 6, 6))
        with pytest.raises(SettingsError, match="guide"):
            net(torch.rand(1, BANDS, 6, 6), torch.rand(1, CHANNELS + 1, 6, 6))


def test_names_are_forgiving() -> None:
    assert find_net("DyPro_Mamba ") is find_net("dypro") is find_net("dypro-mamba")
    assert find_net("MST++") is find_net("mstpp") is find_net("mst plus plus")


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNetError, match="did you mean 'dypro-mamba'"):
        create_net("dypro-manba", bands=3, channels=31)


def test_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'widht'.*width"):
        create_net("dypro", bands=3, channels=31, widht=8)


def test_a_network_needs_bands_and_channels() -> None:
    with pytest.raises(SettingsError, match="0 bands"):
        create_net("dypro", bands=0, channels=31)


def test_two_networks_of_one_name_are_a_mistake_in_the_table() -> None:
    specs = [NetSpec(n, "m:C", "paper", "MIT", aliases=("same",)) for n in ("a", "b")]
    with pytest.raises(ValueError, match="share 'same'"):
        _by_name(specs)


def test_listing_the_networks_imports_no_torch() -> None:
    code = "import sys; from pixelssr_geo.nets import list_nets; list_nets(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
