"""Every network behind the paper's neck keeps what it keeps by itself, and sees the guide."""

import pickle

import pytest
import torch

from pixelssr_geo.errors import SettingsError, UnknownNetError
from pixelssr_geo.nets import create_net, create_pixel_net, list_nets
from pixelssr_geo.nets.contract import NeckedNet
from pixelssr_geo.nets.cost import measure_cost
from pixelssr_geo.nets.dypro.drpn import DynamicReceptivePromptNeck
from pixelssr_geo.nets.dypro.net import DyProMamba, PixelToImage
from pixelssr_geo.nets.prompted import PromptedNet, check_pixel_options

BANDS, CHANNELS = 4, 6
NECK = {"width": 6, "state": 2, "prompt_inner": 3}
SMALL: dict[str, dict[str, object]] = {
    "mst++": {"stages": 1, "blocks": (1, 1)},
    "restormer": {"width": 4, "blocks": (1, 1), "refinement": 1},
    "saunet": {"stages": 1, "blocks": (1, 1)},
    "specat": {"width": 4, "blocks": (1, 1)},
    "retinex-mamba": {"width": 4, "blocks": (1, 1), "states": (2, 2)},
    "msfn": {"stages": 1, "blocks": (1, 1)},
    "unssr": {"width": 6, "blocks": 1},
}


def make(name: str) -> PromptedNet:
    torch.manual_seed(0)
    net = create_pixel_net(name, bands=BANDS, channels=CHANNELS, neck=NECK, **SMALL[name])
    assert isinstance(net, PromptedNet)
    return net


def test_all_networks_are_tried() -> None:
    assert {"dypro-mamba", *SMALL} == {spec.name for spec in list_nets()}


@pytest.mark.parametrize("name", SMALL)
class TestEveryNet:
    @pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 9)], ids=str)
    def test_sizes_are_kept(self, name: str, size: tuple[int, int]) -> None:
        net = make(name).eval()
        with torch.no_grad():
            y, y3 = net.forward_with_neck(torch.rand(2, BANDS, *size))
        assert y.shape == (2, CHANNELS, *size)
        assert y3.shape == (2, net.neck_width, *size)
        assert torch.isfinite(y).all()

    def test_gradients_reach_neck_network_and_image_head(self, name: str) -> None:
        net = make(name)
        head = PixelToImage(net.neck_width, BANDS)
        y, y3 = net.forward_with_neck(torch.rand(1, BANDS, 8, 8), torch.rand(1, CHANNELS, 8, 8))
        (y.square().sum() + head(y3).square().sum()).backward()
        named = [*net.named_parameters(), *head.named_parameters()]
        assert not [n for n, p in named if p.grad is None or not p.grad.any()]

    def test_the_guide_matters(self, name: str) -> None:
        net = make(name).eval()
        x, guide = torch.rand(1, BANDS, 6, 6), torch.rand(1, CHANNELS, 6, 6)
        with torch.no_grad():
            assert not torch.equal(net(x), net(x, guide))

    def test_state_and_options_rebuild_it(self, name: str) -> None:
        net = make(name).eval()
        torch.manual_seed(1)
        other = create_pixel_net(net.name, bands=BANDS, channels=CHANNELS, **net.options).eval()
        other.load_state_dict(net.state_dict())
        copied = pickle.loads(pickle.dumps(net))
        x = torch.rand(1, BANDS, 6, 6)
        with torch.no_grad():
            assert torch.equal(net(x), other(x))
            assert torch.equal(net(x), copied(x))
        assert other.options == net.options

    def test_the_network_is_the_one_that_stands_by_itself(self, name: str) -> None:
        net = make(name)
        assert net.name == name
        assert type(net.inside) is type(create_net(name, bands=1, channels=1, **SMALL[name]))
        assert net.inside.bands == net.neck_width

    def test_the_neck_is_that_of_the_papers_network(self, name: str) -> None:
        neck = make(name).neck
        whole = DyProMamba.config_type(**NECK, spe=False)
        wanted = DynamicReceptivePromptNeck(BANDS, CHANNELS, whole)
        assert neck.state_dict().keys() == wanted.state_dict().keys()

    def test_costs_can_be_counted(self, name: str) -> None:
        net = make(name)
        cost = measure_cost(net, 16, 16)
        assert cost.parameters == sum(p.numel() for p in net.parameters())
        assert cost.macs > measure_cost(net.inside, 16, 16).macs


def test_the_papers_network_is_itself() -> None:
    net = create_pixel_net("dypro", bands=3, channels=5, width=8)
    assert isinstance(net, DyProMamba)
    assert net.neck_width == 8


def test_a_scan_backend_goes_to_the_neck_and_to_a_network_that_scans() -> None:
    net = create_pixel_net(
        "retinex-mamba", bands=3, channels=4, neck=NECK, scan_backend="torch", **SMALL["retinex-mamba"]
    )  # fmt: skip
    backends = {m.backend for m in net.modules() if hasattr(m, "backend")}
    assert backends == {"torch"}
    net = create_pixel_net("mst++", bands=3, channels=4, neck=NECK, scan_backend="torch")
    assert net.options["scan_backend"] == "torch"
    assert (
        "scan_backend" not in create_net("mst++", bands=3, channels=4, scan_backend="torch").options
    )


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("mst++", {"neck": 3}, "expected a table"),
        ("mst++", {"neck": {"widht": 3}}, "'widht' was given to the neck"),
        ("mst++", {"neck": {"width": 0}}, "width is 0"),
        ("mst++", {"width": 8}, "'width' was given to network 'mst\\+\\+'"),
        ("dypro-mamba", {"neck": {"width": 8}}, "'neck' was given to network 'dypro-mamba'"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_before_anything_is_built(
    name: str, options: dict[str, object], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        check_pixel_options(name, options)
    with pytest.raises(SettingsError, match=told):
        create_pixel_net(name, bands=3, channels=4, **options)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNetError, match="expected one of dypro-mamba, mst"):
        check_pixel_options("alexnet", {})


def test_a_network_with_a_neck_gives_what_it_gives_with_its_y3() -> None:
    net = make("mst++").eval()
    assert isinstance(net, NeckedNet)
    x = torch.rand(1, BANDS, 6, 6)
    with torch.no_grad():
        assert torch.equal(net(x), net.forward_with_neck(x)[0])
