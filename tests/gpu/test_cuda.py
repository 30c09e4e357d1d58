"""The network on a CUDA device gives what it gives on the CPU; needs torch and numpy alone."""

import numpy as np
import pytest
import torch

from pixelssr_geo.nets import create_net
from pixelssr_geo.nets.scan import available_backends

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
