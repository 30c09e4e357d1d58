"""The network and the scan's backends on a CUDA device give what the CPU and the recurrence give."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pixelssr_geo.nets import SpectralNet, create_net, create_pixel_net, list_nets
from pixelssr_geo.nets.scan import available_backends, scan_backends, selective_scan_2d

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def images(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = np.random.default_rng(0)
    x = draws.random((2, 4, size, size), "f4")
    guide = draws.random((2, 12, size, size), "f4")
    return torch.from_numpy(x), torch.from_numpy(guide)


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_net("dypro-mamba", bands=4, channels=12).eval()


@pytest.mark.parametrize("size", [32, 45, 128])
def test_a_tile_on_cuda_equals_the_cpu(size: int) -> None:
    x, guide = images(size)
    model = net()
    with torch.inference_mode():
        here = model(x, guide)
        there = model.cuda()(x.cuda(), guide.cuda()).cpu()
    assert torch.allclose(here, there, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [spec.name for spec in list_nets()])
@pytest.mark.parametrize("create", [create_net, create_pixel_net])
def test_every_network_on_cuda_equals_the_cpu(
    name: str, create: Callable[..., SpectralNet]
) -> None:
    torch.manual_seed(0)
    model = create(name, bands=4, channels=12).eval()
    x, guide = images(45)
    with torch.inference_mode():
        here = model(x, guide)
        there = model.cuda()(x.cuda(), guide.cuda()).cpu()
    scale = float(here.abs().max())
    assert float((here - there).abs().max()) < 2e-3 * scale


def test_gradients_on_cuda_equal_the_cpu() -> None:
    x, guide = images(32)
    model = net()
    model(x, guide).square().mean().backward()
    here = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.cuda()(x.cuda(), guide.cuda()).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        scale = float(here[name].abs().max()) + 1e-8
        error = float((parameter.grad.cpu() - here[name]).abs().max())
        assert error < 2e-3 * scale + 1e-6, name


def test_a_scan_backend_serves_cuda() -> None:
    assert "torch" in available_backends("cuda")


# (batch, height, width, D, states, rank, directions, sets of low / w_dt / a / d / bias, stress)
SCANS = {
    "odd, own sets": (2, 9, 13, 5, 4, 2, (0, 1, 2, 3), (4, 4, 4, 4, 4), 1.0),
    "diagonals": (1, 6, 9, 6, 3, 1, (4, 5, 6, 7), (1, 4, 1, 4, 1), 1.0),
    "neck": (3, 32, 48, 18, 16, 1, (0, 1, 2, 3), (4, 4, 4, 4, 4), 1.0),
    "trunk at half size": (2, 32, 32, 160, 16, 5, (0, 1, 2, 3), (1, 1, 1, 1, 1), 1.0),
    "many states, high rank": (1, 31, 33, 24, 20, 10, (0, 1, 2, 3), (4, 1, 4, 1, 4), 1.0),
    "large steps": (1, 64, 64, 18, 16, 1, (0, 1, 2, 3), (4, 4, 4, 4, 4), 3.0),
    "a tile, one direction": (1, 128, 128, 80, 16, 3, (2,), (1, 1, 1, 1, 1), 1.0),
}
BACKENDS = ("mamba-ssm", "triton", "torch")


def scan_arguments(case: str) -> tuple[list[torch.Tensor], dict[str, object]]:
    batch, height, width, inner, states, rank, directions, sets, stress = SCANS[case]
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    arguments = [
        normal(batch, height * width, inner),
        normal(batch, height * width, sets[0], rank + 2 * states),
        normal(sets[1], inner, rank) * stress,
        -torch.rand(sets[2], inner, states, generator=rng, dtype=torch.float64) * states,
        normal(sets[3], inner),
        normal(sets[4], inner) + (4.0 if stress > 1 else -3.0),
    ]
    return arguments, {"height": height, "width": width, "directions": directions}


def scan_results(arguments: list[torch.Tensor], settings: Any, backend: str) -> list[torch.Tensor]:
    leaves = [t.detach().cuda().requires_grad_() for t in arguments]
    y = selective_scan_2d(*leaves, **settings, backend=backend)
    upstream = torch.linspace(-1, 1, y.numel(), dtype=torch.float64, device="cuda")
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream.to(y.dtype).view_as(y))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", SCANS)
def test_scan_and_gradients_on_cuda_are_the_recurrences(case: str, backend: str) -> None:
    reason = scan_backends("cuda")[backend]
    if reason is not None:
        pytest.skip(reason)
    arguments, settings = scan_arguments(case)
    expected = scan_results(arguments, settings, "reference")
    found = scan_results([t.float() for t in arguments], settings, backend)
    names = ("y", "x", "low", "w_dt", "a", "d", "dt_bias")
    for name, a, b in zip(names, found, expected, strict=True):
        assert float((a.double() - b).abs().max() / b.abs().max()) < 2e-5, name


def test_triton_repeats_itself_to_the_last_bit() -> None:
    if (reason := scan_backends("cuda")["triton"]) is not None:
        pytest.skip(reason)
    arguments, settings = scan_arguments("neck")
    single = [t.float() for t in arguments]
    first, again = (scan_results(single, settings, "triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("batch", [1, 300])
def test_triton_cut_or_whole_walks_give_the_same(batch: int) -> None:
    if (reason := scan_backends("cuda")["triton"]) is not None:
        pytest.skip(reason)
    arguments, settings = scan_arguments("odd, own sets")
    single = [t.float().cuda() for t in arguments]
    x, low = (t[:1].expand(batch, *t.shape[1:]).contiguous() for t in single[:2])
    with torch.inference_mode():
        found = selective_scan_2d(x, low, *single[2:], **settings, backend="triton")
        expected = selective_scan_2d(x[:1], low[:1], *single[2:], **settings, backend="torch")
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) < 2e-5 * scale


def test_where_the_devices_memory_lacks_fewer_tiles_go_through() -> None:
    pytest.importorskip("dask", reason="tiling needs dask")
    from pixelssr_geo.tiling.mosaic import MicroBatch

    model = net().cuda()
    stack = np.random.default_rng(0).random((32, 4, 128, 128), "f4")
    sizes: list[int] = []

    def tiles(some: Any, indices: Any) -> Any:
        sizes.append(len(some))
        with torch.inference_mode():
            return model(torch.from_numpy(some).cuda()).cpu().numpy()

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    expected = np.concatenate([tiles(part, None) for part in np.split(stack, 8)])
    room = torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    batch = MicroBatch(32, lambda error: isinstance(error, torch.OutOfMemoryError))
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * room))
    try:
        found = batch.run(tiles, stack, np.arange(32), 12)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 32 in sizes
    assert batch.size < 32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
