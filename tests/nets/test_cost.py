"""Counted costs are thop's where thop counts, and complete where it does not."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pixelssr_geo.nets import create_net, list_nets
from pixelssr_geo.nets.cost import measure_cost

NAMES = [spec.name for spec in list_nets()]
# The rows of the table of ablations.
ABLATIONS: list[dict[str, object]] = [
    {"spa": False},
    {"hf": False},
    {"spe": False},
    {"drpn": False},
    {"prompt_ssm": "no-last"},
    {"prompt_ssm": "no-attention"},
    {"transform": "fft"},
    {"transform": "none"},
    {"projections": "full"},
]


# thop reads torch.__version__ through distutils.version, which warns on import and on use.
@pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This API is being deprecated:UserWarning")  # its own PReLU rule
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in NAMES), *(("dypro-mamba", options) for options in ABLATIONS)],
    ids=str,
)
def test_profiled_totals_are_thops(name: str, options: dict[str, object]) -> None:
    thop = pytest.importorskip("thop")
    net = create_net(name, bands=4, channels=20, **options).eval()
    cost = measure_cost(net, 32, 48)
    macs, parameters = thop.profile(net, (torch.zeros(1, 4, 32, 48),), verbose=False)
    assert cost.profiled_macs == macs
    assert cost.profiled_parameters == parameters


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_all_there(name: str) -> None:
    net = create_net(name, bands=4, channels=20)
    assert measure_cost(net, 16, 16).parameters == sum(p.numel() for p in net.parameters())


def test_dypro_mamba_costs_what_the_paper_prints() -> None:
    cost = measure_cost(create_net("dypro-mamba", bands=3, channels=31), 128, 128)
    assert cost.parameters == pytest.approx(0.606e6, rel=0.02)
    assert cost.profiled_macs == pytest.approx(4.65e9, rel=0.02)


# thop counts norms and activations, too, and each transposed convolution as if it had no stride.
@pytest.mark.parametrize("name", NAMES[1:])
def test_all_products_are_those_that_torch_counts(name: str) -> None:
    net = create_net(name, bands=3, channels=8).eval()
    cost = measure_cost(net, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    layers = dict(net.named_modules())
    ours = 0
    for row in cost.rows:
        layer = layers[row.name]
        if row.kind == "ConvTranspose2d":
            ours += row.macs // layer.stride[0] ** 2
        elif row.kind == "scan projections":  # half of the step sizes' is the scan's own work
            states, rank = layer.a_log.shape[2], layer.w_dt.shape[2]
            ours += row.macs * (rank + 2 * states) // (2 * rank + 2 * states)
        elif row.kind in ("Conv2d", "Linear", "attention", "low rank"):
            ours += row.macs
    assert 2 * ours == counter.get_total_flops()


def test_work_outside_layers_is_counted() -> None:
    cost = measure_cost(create_net("dypro-mamba", bands=3, channels=31), 128, 128)
    kinds = {row.kind: 0 for row in cost.rows}
    for row in cost.rows:
        kinds[row.kind] += row.macs
    # 2 x (128 x 128, D 80) + (64 x 64, D 160) + 2 x (128 x 128, D 18); 4 directions, 16 states, 3 each
    assert kinds["scan"] == 4 * 16 * 3 * (128**2 * (2 * 80 + 160 // 4 + 2 * 18))
    assert {"attention", "transform", "scan projections"} <= set(kinds)
    assert cost.macs > cost.profiled_macs


def test_measuring_leaves_the_network_alone() -> None:
    net = create_net("dypro", bands=3, channels=5, width=8)
    measure_cost(net, 8, 8)
    assert net.training
    assert next(net.parameters()).device.type == "cpu"
    assert not any(module._forward_hooks for module in net.modules())


def test_work_grows_with_the_batch() -> None:
    net = create_net("dypro", bands=3, channels=5, width=8)
    assert (
        measure_cost(net, 8, 8, batch=3).profiled_macs == 3 * measure_cost(net, 8, 8).profiled_macs
    )
