"""Layers with parameters that tell an error in any of them, and images for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """The layer in float64 with parameters large enough to matter."""

    def change(layer: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(3)
        layer = layer.double().eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.5 * drawn)
        return layer

    return change


@pytest.fixture
def image() -> Callable[..., Tensor]:
    """A random image of a shape, float64."""

    def draw(*shape: int, seed: int = 5) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return draw
