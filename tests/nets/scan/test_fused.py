"""What holds for every fused backend, whatever compiles its kernel."""

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from pixelssr_geo.nets.scan import fused, scan_backends, selective_scan_2d

NAMES = ("x", "low", "w_dt", "a", "d", "dt_bias")
# batch, height, width, D, states, rank, directions, sets
CASES = {
    "drpn": (1, 11, 13, 18, 16, 3, (0, 1, 2, 3), 4),
    "trunk": (1, 9, 16, 40, 16, 3, (0, 1, 2, 3), 1),
    "half-size trunk": (1, 6, 9, 160, 16, 10, (0, 1, 2, 3), 1),
    "wide": (1, 5, 9, 80, 16, 5, (2,), 1),
    "just over two chunks": (2, 1, 2 * fused.CHUNK + 1, 3, 5, 1, (0, 1), 1),
    "states in all groups": (1, 4, 5, 17, 21, 2, (0, 3), 2),
    "many states, high rank": (1, 3, 7, 33, 37, 19, (1, 2), 1),
}


@pytest.fixture(params=["cpp", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    reason = scan_backends()[request.param]
    if reason:
        pytest.skip(f"scan backend '{request.param}': {reason}")
    return request.param


def make_arguments(
    case: str = "trunk", *, batch: int | None = None
) -> tuple[list[Tensor], dict[str, Any]]:
    size, height, width, inner, states, rank, directions, sets = CASES[case]
    rng = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    batch = batch or size
    arguments = [
        normal(batch, height * width, inner),
        normal(batch, height * width, sets, rank + 2 * states),
        normal(sets, inner, rank) * rank**-0.5,
        -torch.rand(sets, inner, states, generator=rng) * states,
        normal(sets, inner),
        normal(sets, inner) - 3,
    ]
    return arguments, {"height": height, "width": width, "directions": directions}


def run(arguments: list[Tensor], settings: dict[str, Any], backend: str) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in arguments]
    y = selective_scan_2d(*leaves, **settings, backend=backend)
    upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream)]


def assert_same_bits(found: list[Tensor], expected: list[Tensor]) -> None:
    for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_recurrences(case: str, backend: str) -> None:
    arguments, settings = make_arguments(case)
    expected = run([t.double() for t in arguments], settings, "reference")
    found = run(arguments, settings, backend)
    for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < 5e-6, name


def test_number_of_threads_changes_no_bit(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, settings = make_arguments("trunk", batch=3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = run(arguments, settings, backend)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert_same_bits(run(arguments, settings, backend), alone)


def test_grouping_of_items_changes_no_bit(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, settings = make_arguments("trunk", batch=5)
    expected = run(arguments, settings, backend)
    for tasks in (1, 6):
        monkeypatch.setattr(fused, "_TASKS_AT_ONCE", tasks)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        assert_same_bits(run(arguments, settings, backend), expected)


def test_calls_from_several_threads_do_not_disturb_each_other(backend: str) -> None:
    cases = [make_arguments(case) for case in ("drpn", "trunk", "wide")] * 4
    expected = [run(*case, backend) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: run(*case, backend), cases))
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other)


def test_batch_item_gives_the_bits_it_gives_alone(backend: str) -> None:
    arguments, settings = make_arguments("trunk", batch=3)
    together = selective_scan_2d(*arguments, **settings, backend=backend)
    for i in range(3):
        items = [t[i : i + 1] for t in arguments[:2]]
        alone = selective_scan_2d(*items, *arguments[2:], **settings, backend=backend)
        assert torch.equal(together[i], alone[0])


def test_inputs_stay_as_they_are(backend: str) -> None:
    arguments, settings = make_arguments("drpn")
    leaves = [t.clone().requires_grad_() for t in arguments]
    y = selective_scan_2d(*leaves, **settings, backend=backend)
    upstream = torch.ones_like(y)
    y.backward(upstream)
    assert all(torch.equal(a, b) for a, b in zip(leaves, arguments, strict=True))
    assert torch.equal(upstream, torch.ones_like(y))


@pytest.mark.parametrize("wanted", [{"x"}, {"low"}, {"a", "dt_bias"}, {"d"}, {"w_dt", "x"}])
def test_gradients_come_for_those_that_need_one_alone(wanted: set[str], backend: str) -> None:
    arguments, settings = make_arguments("drpn")
    expected = dict(zip(NAMES, run(arguments, settings, backend)[1:], strict=True))
    leaves = {
        name: t.clone().requires_grad_(name in wanted)
        for name, t in zip(NAMES, arguments, strict=True)
    }
    y = selective_scan_2d(*leaves.values(), **settings, backend=backend)
    y.backward(torch.linspace(-1, 1, y.numel()).view_as(y))
    for name, leaf in leaves.items():
        if name in wanted:
            assert leaf.grad is not None
            assert torch.equal(leaf.grad, expected[name])
        else:
            assert leaf.grad is None


def test_memory_layout_of_the_arguments_does_not_matter(backend: str) -> None:
    arguments, settings = make_arguments("drpn")
    expected = run(arguments, settings, backend)
    strided = [torch.stack([t, torch.full_like(t, torch.nan)], dim=-1)[..., 0] for t in arguments]
    assert not any(t.is_contiguous() for t in strided)
    y = selective_scan_2d(*(t.requires_grad_() for t in strided), **settings, backend=backend)
    upstream = torch.linspace(-1, 1, y.numel()).view_as(y)
    upstream = upstream.transpose(0, 2).contiguous().transpose(0, 2)
    assert_same_bits([y.detach(), *torch.autograd.grad(y, strided, upstream)], expected)


def test_nothing_is_kept_where_no_gradient_is_asked_for(backend: str) -> None:
    arguments, settings = make_arguments("drpn")
    leaves = [t.clone().requires_grad_() for t in arguments]
    recorded = selective_scan_2d(*leaves, **settings, backend=backend)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y = selective_scan_2d(*leaves, **settings, backend=backend)
        assert y.grad_fn is None
        assert torch.equal(y, recorded)
    with torch.inference_mode():
        y = selective_scan_2d(*(t + 0 for t in arguments), **settings, backend=backend)
    assert torch.equal(y, recorded)


class Scanner(torch.nn.Module):
    def __init__(self, backend: str) -> None:
        super().__init__()
        (_, self.low, *parameters), self.settings = make_arguments("trunk")
        self.parameters_ = torch.nn.ParameterList(parameters)
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        return selective_scan_2d(
            x, self.low, *self.parameters_, **self.settings, backend=self.backend
        )


def test_a_network_that_has_run_can_be_copied(backend: str) -> None:
    net, (x, *_) = Scanner(backend), make_arguments("trunk")[0]
    net(x).sum().backward()
    assert torch.equal(copy.deepcopy(net)(x), net(x))


def test_what_is_not_a_number_stays_so(backend: str) -> None:
    for index in range(len(NAMES)):
        arguments, settings = make_arguments("drpn")
        arguments[index] = torch.full_like(arguments[index], torch.nan)
        assert selective_scan_2d(*arguments, **settings, backend=backend).isnan().all()


def test_huge_steps_and_rates_stay_finite(backend: str) -> None:
    arguments, settings = make_arguments("drpn")
    arguments[5] += 1e4
    arguments[3] *= 1e3
    for found in run(arguments, settings, backend):
        assert found.isfinite().all()


def test_kept_states_are_a_fraction_of_all(backend: str) -> None:
    settings: dict[str, Any] = {"height": 64, "width": 64, "directions": (0, 1)}
    arguments = [torch.rand(1, 64 * 64, 16), torch.rand(1, 64 * 64, 1, 33), torch.rand(1, 16, 1)]
    arguments += [-torch.rand(1, 16, 16), torch.rand(1, 16), torch.rand(1, 16)]
    y = selective_scan_2d(*(t.requires_grad_() for t in arguments), **settings, backend=backend)
    kept = sum(t.numel() for t in y.grad_fn.saved_tensors) - sum(t.numel() for t in arguments)
    assert kept == 2 * 64 * 64 * 16 * 16 // fused.CHUNK


MEMORY = """
import resource, sys, torch
from pixelssr_geo.nets.scan import selective_scan_2d
torch.set_num_threads(2)
def scan(side):
    arguments = [torch.rand(1, side * side, 48), torch.rand(1, side * side, 1, 33)]
    arguments += [torch.rand(1, 48, 1), -torch.rand(1, 48, 16), torch.rand(1, 48), torch.rand(1, 48)]
    leaves = [t.requires_grad_() for t in arguments]
    selective_scan_2d(*leaves, height=side, width=side, backend=sys.argv[1]).sum().backward()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
scan(8)
before = peak()
scan(256)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_training_stores_no_state_of_every_pixel(backend: str) -> None:
    command = [sys.executable, "-c", MEMORY, backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    one_state_a_pixel = 256 * 256 * 48 * 16 * 4
    assert float(done.stdout) < 0.75 * one_state_a_pixel


def test_an_error_in_a_task_reaches_the_caller() -> None:
    def task(which: tuple[int, int]) -> None:
        raise MemoryError(f"task {which}")

    for threads in (1, 3):
        with pytest.raises(MemoryError, match="task"):
            fused._run(task, [(0, 0), (0, 1), (0, 2)], threads)


def test_every_task_runs_once() -> None:
    ran: list[tuple[int, int]] = []
    tasks = [(i, j) for i in range(20) for j in range(3)]
    fused._run(ran.append, tasks, 3)
    assert sorted(ran) == tasks
