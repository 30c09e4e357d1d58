"""The adapter to mamba-ssm hands its function what it asks for, and gives back the recurrence."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pixelssr_geo.nets.scan import mamba, scan_backends, selective_scan_2d
from pixelssr_geo.nets.scan.problem import ScanProblem

NAMES = ("x", "low", "w_dt", "a", "d", "dt_bias")
# (batch, height, width, D, states, rank, direction numbers, sets of low / w_dt / a / d / bias)
SHAPES = {
    "own parameters": (2, 5, 7, 5, 4, 2, (0, 1, 2, 3), (4, 4, 4, 4, 4)),
    "all shared": (2, 6, 4, 6, 3, 1, (0, 1, 2, 3), (1, 1, 1, 1, 1)),
    "shared input, own rates": (1, 4, 6, 6, 4, 1, (0, 1, 2, 3), (1, 4, 4, 4, 1)),
    "two columns": (1, 5, 3, 4, 2, 3, (2, 3), (2, 2, 1, 2, 2)),
    "diagonals": (1, 5, 6, 4, 2, 1, (4, 5, 6, 7), (4, 4, 4, 4, 4)),
}


def stand_in(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor:
    """The package's function, its demands checked, one step after the other."""
    assert D is not None
    assert delta_bias is not None
    assert z is None
    assert delta_softplus
    assert not return_last_state
    batch, dim, length = u.shape
    states = A.shape[1]
    groups = B.shape[1]
    assert dim % groups == 0
    assert delta.shape == u.shape
    assert B.shape == C.shape == (batch, groups, states, length)
    assert A.shape == (dim, states)
    assert D.shape == delta_bias.shape == (dim,)
    for tensor in (u, delta, B, C):
        assert tensor.dtype == u.dtype
        assert tensor.stride(-1) == 1
    for tensor in (A, D, delta_bias):
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
    dt = functional.softplus(delta + delta_bias[:, None])
    b, c = (t.repeat_interleave(dim // groups, dim=1) for t in (B, C))  # (batch, dim, N, step)
    h = u.new_zeros(batch, dim, states)
    outputs = []
    for t in range(length):
        h = torch.exp(dt[:, :, t, None] * A) * h + (dt * u)[:, :, t, None] * b[..., t]
        outputs.append((h * c[..., t]).sum(-1) + D * u[:, :, t])
    return torch.stack(outputs, dim=-1)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of the same names around the stand-in."""
    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = stand_in  # type: ignore[attr-defined]
    for module in ("mamba_ssm", "mamba_ssm.ops", "selective_scan_cuda"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    mamba._import_failure.cache_clear()
    yield
    mamba._import_failure.cache_clear()


def make_problem(case: str) -> ScanProblem:
    batch, height, width, inner, states, rank, directions, sets = SHAPES[case]
    rng = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng).requires_grad_()

    return ScanProblem(
        normal(batch, height * width, inner),
        normal(batch, height * width, sets[0], rank + 2 * states),
        normal(sets[1], inner, rank),
        (-torch.rand(sets[2], inner, states, generator=rng) * states).requires_grad_(),
        normal(sets[3], inner),
        normal(sets[4], inner),
        height,
        width,
        directions,
    )


def gradients(y: Tensor, tensors: tuple[Any, ...]) -> list[Tensor]:
    upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad(y, tensors, upstream)]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("case", SHAPES)
def test_value_and_gradients_are_the_recurrences(case: str) -> None:
    problem = make_problem(case)
    found = gradients(mamba.scan(problem), problem[:6])
    double = [t.detach().double().requires_grad_() for t in problem[:6]]
    height, width, directions = problem[6:]
    y = selective_scan_2d(
        *double, height=height, width=width, directions=directions, backend="reference"
    )
    for name, a, b in zip(("y", *NAMES), found, gradients(y, tuple(double)), strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).abs().max() / b.abs().max()) < 2e-5, name


@pytest.mark.usefixtures("package")
def test_autocast_leaves_the_scan_and_its_gradients_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mamba, "missing", lambda device: None)
    problem = make_problem("shared input, own rates")
    height, width, directions = problem.rest

    def run() -> list[Tensor]:
        y = selective_scan_2d(
            *problem.tensors,
            height=height,
            width=width,
            directions=directions,
            backend="mamba-ssm",
        )
        return gradients(y, problem.tensors)

    expected = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run()
    for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
        # The stand-in's own products and sums are elementwise, which autocast leaves alone.
        assert float((a - b).abs().max() / b.abs().max()) < 1e-6, name


@pytest.mark.usefixtures("package")
def test_an_importable_package_serves_cuda_alone() -> None:
    assert mamba.missing(torch.device("cuda")) is None
    assert mamba.missing(torch.device("cpu")) == "needs a CUDA device"


def test_a_cpu_does_not_import_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mamba, "import_module", lambda name: pytest.fail(f"imported {name}"))
    assert scan_backends("cpu")["mamba-ssm"] == "needs a CUDA device"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("libcudart.so.12: cannot open\nmore lines"), "libcudart.so.12: cannot open"),
        (AttributeError("no attribute 'selective_scan_fn'"), "no attribute 'selective_scan_fn'"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_failing_import_becomes_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(mamba, "import_module", fail)
    mamba._import_failure.cache_clear()
    reason = mamba.missing(torch.device("cuda"))
    mamba._import_failure.cache_clear()
    assert reason == (f'mamba-ssm cannot be imported ({said}): pip install "pixelssr-geo[cuda]"')
