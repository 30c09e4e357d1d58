"""What a network costs at a given size: parameters and multiply-accumulates, layer by layer.

Two totals are wanted. Papers print what the profiler ``thop`` prints: the layers that it knows, with
its rules for them, and nothing else. The truth also has the attention products, transforms and
scans, and the parameters of layers that ``thop`` does not know. Layers that do such work themselves
say so in a method ``own_macs(*input shapes) -> {kind: multiply-accumulates}``.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pixelssr_geo.nets.contract import SpectralNet


@dataclass(frozen=True, slots=True)
class CostRow:
    """One kind of work of one layer."""

    name: str
    """Where the layer is in the network, dotted; empty for the network itself."""
    kind: str
    """Class of the layer, or the kind of its own work."""
    parameters: int
    """Parameters of the layer itself, without its children's."""
    macs: int
    """Multiply-accumulates of one forward pass."""
    profiled: bool
    """Whether ``thop`` counts it."""


@dataclass(frozen=True, slots=True)
class NetCost:
    """Cost of one forward pass."""

    rows: tuple[CostRow, ...]
    """All layers with parameters or work."""

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions, linear layers, matrix products and scans."""
        return sum(row.macs for row in self.rows)

    @property
    def profiled_parameters(self) -> int:
        """The parameters that ``thop`` prints, as the paper's Table 10 does."""
        return sum(row.parameters for row in self.rows if row.profiled)

    @property
    def profiled_macs(self) -> int:
        """The multiply-accumulates that ``thop`` prints, as the paper's Table 10 does."""
        return sum(row.macs for row in self.rows if row.profiled)


def _convolution(layer: Any, inputs: Tensor, output: Tensor) -> int:
    return output.numel() * (inputs.shape[1] // int(layer.groups)) * int(prod(layer.kernel_size))


def _linear(layer: Any, inputs: Tensor, output: Tensor) -> int:
    return output.numel() * int(layer.in_features)


def _normalisation(layer: Any, inputs: Tensor, output: Tensor) -> int:
    affine = getattr(layer, "affine", False) or getattr(layer, "elementwise_affine", False)
    return inputs.numel() * (4 if affine else 2)


def _softmax(layer: Any, inputs: Tensor, output: Tensor) -> int:
    features = inputs.shape[int(layer.dim)]
    return inputs.numel() // features * (3 * features - 1)


def _average(layer: Any, inputs: Tensor, output: Tensor) -> int:
    return output.numel()


def _adaptive_average(layer: Any, inputs: Tensor, output: Tensor) -> int:
    window = prod(a / b for a, b in zip(inputs.shape[2:], output.shape[2:], strict=True))
    return int((window + 1) * output.numel())


def _upsample(layer: Any, inputs: Tensor, output: Tensor) -> int:
    per_element = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}
    return output.numel() * per_element.get(layer.mode, 0)


def _nothing(layer: Any, inputs: Tensor, output: Tensor) -> int:
    return 0


def _prelu(layer: Any, inputs: Tensor, output: Tensor) -> int:
    return 0 if layer.training else inputs.numel()


# thop's rules, layer by layer. A transposed convolution with a stride is overcounted by them.
_RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.Linear: _linear,
    nn.LayerNorm: _normalisation,
    nn.BatchNorm2d: _normalisation,
    nn.InstanceNorm2d: _normalisation,
    nn.Softmax: _softmax,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _adaptive_average,
    nn.Upsample: _upsample,
    nn.PReLU: _prelu,
    nn.LeakyReLU: _nothing,
    nn.ReLU: _nothing,
    nn.Dropout: _nothing,
}


def _shapes(inputs: Iterable[Any]) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in inputs if isinstance(value, Tensor)]


def measure_cost(net: SpectralNet, height: int, width: int, *, batch: int = 1) -> NetCost:
    """Return what one forward pass of ``net`` costs.

    A copy of the network is run with shapes alone (torch's meta device): nothing is computed.

    Parameters
    ----------
    net
        The network; stays as it is.
    height, width
        Size of the image in pixels.
    batch
        Images in the batch.

    Examples
    --------
    >>> from pixelssr_geo.nets import create_net
    >>> cost = measure_cost(create_net("dypro-mamba", bands=3, channels=31), 128, 128)
    >>> f"{cost.parameters / 1e6:.2f} M, {cost.profiled_macs / 1e9:.2f} G"
    '0.61 M, 4.65 G'
    """
    shadow = deepcopy(net).to("meta").eval()
    macs: dict[tuple[str, str], int] = {}
    called: set[str] = set()

    def watch(name: str, layer: nn.Module) -> None:
        rule = _RULES.get(type(layer))
        own: Any = getattr(layer, "own_macs", None)

        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            called.add(name)
            work: dict[str, int] = {}
            if rule is not None:
                work[type(layer).__name__] = rule(layer, inputs[0], output)
            elif own is not None:
                work = own(*_shapes(inputs))
            for kind, count in work.items():
                macs[name, kind] = macs.get((name, kind), 0) + count

        layer.register_forward_hook(note)

    layers = dict(shadow.named_modules())
    for name, layer in layers.items():
        watch(name, layer)
    with torch.no_grad():
        shadow(torch.empty(batch, net.bands, height, width, device="meta"))
    rows = [
        row
        for name, layer in layers.items()
        for row in _rows(name, layer, macs, profiled=type(layer) in _RULES and name in called)
    ]
    return NetCost(tuple(rows))


def _rows(
    name: str, layer: nn.Module, macs: dict[tuple[str, str], int], *, profiled: bool
) -> list[CostRow]:
    """Return the rows of one layer: its parameters first, then what else it does itself."""
    parameters = sum(p.numel() for p in layer.parameters(recurse=False))
    kind = type(layer).__name__
    work = {k: count for (where, k), count in macs.items() if where == name}
    rows = [CostRow(name, kind, parameters, work.pop(kind, 0), profiled)]
    rows += [CostRow(name, k, 0, count, profiled=False) for k, count in work.items()]
    return [row for row in rows if row.parameters or row.macs]
