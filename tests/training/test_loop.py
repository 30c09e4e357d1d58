"""The training loop: what it keeps, when it stops, how far a step goes."""

import threading
from itertools import pairwise

import pytest
import torch

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.training.loop import Schedule, side_by_side, train


class Weight(torch.nn.Module):
    """A network of one number, which starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(()))


def towards(net: Weight, goal: float) -> torch.Tensor:
    return (net.value - goal).square()


def test_the_loss_falls_to_its_least() -> None:
    net = Weight()
    record = train(net, lambda _: towards(net, 1.0), Schedule(300, learning_rate=0.05))
    assert net.value.item() == pytest.approx(1.0, abs=0.02)
    assert record.steps == record.best_step == 300
    assert record.loss < 1e-3
    assert record.validation is None
    assert not net.training


def test_the_weights_that_do_best_at_the_held_out_points_are_kept() -> None:
    net = Weight()
    seen: dict[int, float] = {}

    def held_out() -> float:
        # Training goes to 1, the held-out points like 0.3 best.
        seen[len(seen)] = net.value.item()
        return abs(net.value.item() - 0.3)

    schedule = Schedule(200, learning_rate=0.02, validate_every=2, patience=1000)
    record = train(net, lambda _: towards(net, 1.0), schedule, validate=held_out)
    looks = [abs(value - 0.3) for value in seen.values()]
    best = looks.index(min(looks))
    assert record.steps == 200
    assert record.best_step == 2 * best
    assert record.validation == min(looks)
    assert net.value.item() == seen[best]


def test_a_net_that_only_gets_worse_keeps_its_first_weights() -> None:
    net = Weight()
    record = train(
        net,
        lambda _: towards(net, 1.0),
        Schedule(50, learning_rate=0.1, validate_every=5),
        validate=lambda: abs(net.value.item()),
    )
    assert net.value.item() == 0
    assert record.best_step == 0
    assert record.validation == 0


def test_it_stops_when_looks_in_a_row_bring_nothing() -> None:
    net = Weight()
    record = train(
        net,
        lambda _: towards(net, 1.0),
        Schedule(1000, learning_rate=0.01, validate_every=10, patience=3),
        validate=lambda: abs(net.value.item()),
    )
    assert record.steps == 30


def test_an_improvement_starts_the_patience_anew() -> None:
    errors = iter([9.0, 8.0, 8.5, 8.5, 7.0, 7.5, 7.5, 7.5, 1.0])
    net = Weight()
    record = train(
        net,
        lambda _: towards(net, 1.0),
        Schedule(1000, validate_every=1, patience=3),
        validate=lambda: next(errors),
    )
    assert record.steps == 7
    assert record.best_step == 4
    assert record.validation == 7.0


def test_an_error_that_is_not_a_number_is_no_improvement() -> None:
    errors = iter([2.0, float("nan"), 1.0, float("nan")])
    net = Weight()
    record = train(
        net,
        lambda _: towards(net, 1.0),
        Schedule(3, validate_every=1),
        validate=lambda: next(errors),
    )
    assert record.best_step == 2
    assert record.validation == 1.0


def test_validation_sees_the_net_in_evaluation_mode_and_training_in_its_own() -> None:
    net = Weight()
    modes: list[tuple[str, bool, bool]] = []

    def note(what: str) -> None:
        modes.append((what, net.training, torch.is_grad_enabled()))

    def loss(_: int) -> torch.Tensor:
        note("loss")
        return towards(net, 1.0)

    def held_out() -> float:
        note("validate")
        return 1.0

    train(net, loss, Schedule(2, validate_every=1), validate=held_out)
    assert set(modes) == {("loss", True, True), ("validate", False, False)}


def test_gradients_are_clipped() -> None:
    def moved(scale: float) -> list[float]:
        net = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.zeros_(net.weight)
        norms = []
        original = torch.nn.utils.clip_grad_norm_

        def clip(parameters: list[torch.nn.Parameter], largest: float) -> torch.Tensor:
            before = original(parameters, largest)
            norms.append(float(net.weight.grad.norm()))  # type: ignore[union-attr]
            return before

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
            train(net, lambda _: scale * net(torch.tensor([3.0, 4.0])).sum(), Schedule(3))
        return norms

    assert moved(100.0) == pytest.approx([1, 1, 1], rel=1e-4)
    assert moved(0.1) == pytest.approx([0.5, 0.5, 0.5], rel=1e-4)


@pytest.mark.parametrize("warm_up", [0, 3])
def test_the_learning_rate_rises_and_decays_with_power_one_and_a_half(warm_up: int) -> None:
    net = Weight()
    places = [0.0]
    # Under a constant gradient, Adam moves by the learning rate.
    train(
        net,
        lambda _: 0.5 * net.value,
        Schedule(10, learning_rate=0.1, warm_up=warm_up),
        progress=lambda *_: places.append(net.value.item()),
    )
    steps = [before - after for before, after in pairwise(places)]
    risen = [min(1, (k + 1) / (warm_up + 1)) for k in range(10)]
    expected = [0.1 * risen[k] * (1 - k / 10) ** 1.5 for k in range(10)]
    assert steps == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("first", [0, 3])
def test_a_step_without_finite_gradients_changes_nothing(broken: float, first: int) -> None:
    net = Weight()
    values: list[float] = []

    def loss(step: int) -> torch.Tensor:
        values.append(net.value.item())
        return towards(net, 1.0) * (broken if step == first else 1.0)

    train(net, loss, Schedule(20, learning_rate=0.05))
    assert values[first + 1] == values[first]
    assert values[-1] > values[first]


def test_training_that_learns_nothing_is_refused() -> None:
    net = Weight()
    with pytest.raises(SettingsError, match="none of 4 training steps"):
        train(net, lambda _: towards(net, 1.0) * float("nan"), Schedule(4))


def test_frozen_weights_stay() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    train(net, lambda _: net(torch.ones(1, 2)).square().sum(), Schedule(5, learning_rate=0.1))
    torch.testing.assert_close(net[0].weight, before, rtol=0, atol=0)


def test_progress_is_told_after_every_step() -> None:
    net = Weight()
    told: list[tuple[int, int, float]] = []
    train(
        net,
        lambda _: towards(net, 1.0),
        Schedule(4),
        progress=lambda step, steps, loss: told.append((step, steps, loss)),
    )
    assert [entry[:2] for entry in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[0][2] == 1.0


def test_the_same_start_gives_the_same_weights() -> None:
    def trained() -> torch.Tensor:
        torch.manual_seed(5)
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        x = torch.linspace(-1, 1, 30).reshape(10, 3)
        train(net, lambda step: (net(x[step % 8 :]) - 1).square().mean(), Schedule(30, 0.01))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    torch.testing.assert_close(trained(), trained(), rtol=0, atol=0)


def test_each_thread_has_as_many_threads_as_before_when_it_leaves() -> None:
    """Whoever leaves last; torch keeps the number for each thread."""
    cpu = torch.device("cpu")
    inside, over = threading.Event(), threading.Event()
    found: list[int] = []

    def other() -> None:
        torch.set_num_threads(2)
        with side_by_side(cpu):
            found.append(torch.get_num_threads())
            inside.set()
            over.wait(60)
        found.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    thread = threading.Thread(target=other)
    try:
        with side_by_side(cpu):
            thread.start()
            inside.wait(60)
            with side_by_side(cpu):
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        over.set()
        thread.join(60)
        assert found == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
