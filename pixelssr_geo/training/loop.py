"""The training loop, readable from top to bottom."""

from __future__ import annotations

import copy
import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.process import core_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

WARM_UP = 1 / 8
"""Share of a training's steps over which its rate rises, where there is a warm-up."""


@contextmanager
def side_by_side(device: torch.device) -> Iterator[int]:
    """Let trainings run in threads beside each other; gives how many.

    On a CPU each operation keeps to one thread meanwhile: the tensors of sparse labels are small,
    and two cores do more as two trainings than as one (measured: 14.0 s one after the other with
    one thread, 19.5 s with two, 8.4 s beside each other).
    """
    if device.type != "cpu":
        yield 1
        return
    # Torch keeps this number for each thread by itself.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield core_count()
    finally:
        torch.set_num_threads(before)


def work_alone() -> None:
    """Keep the operations of the calling thread to it: for each of those that work side by side."""
    torch.set_num_threads(1)


def warm_up_steps(steps: int) -> int:
    """Steps of a warm-up, for trainings of the whole estimate: without, some never settle."""
    return int(steps * WARM_UP)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train."""

    steps: int
    """Optimiser steps at the most."""
    learning_rate: float = 2e-4
    """Decays from this as (1 - step / steps) ** 1.5."""
    warm_up: int = 0
    """Steps over which the rate comes up to that, in a straight line."""
    validate_every: int = 20
    """Steps between two looks at the held-out points."""
    patience: int = 5
    """Looks without improvement before training stops."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What happened in a training run."""

    steps: int
    """Steps taken."""
    best_step: int
    """Step whose weights were kept; the last one when nothing was held out."""
    loss: float
    """Training loss of the last step."""
    validation: float | None
    """Error at the held-out points for the weights kept, or None."""


def train(
    net: torch.nn.Module,
    loss: Callable[[int], torch.Tensor],
    schedule: Schedule,
    *,
    validate: Callable[[], float] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainingRecord:
    """Train a network in place and say how it went.

    Adam with the paper's settings (0.9, 0.99), its polynomial decay with power 1.5, a warm-up where
    one is asked for, and gradients clipped at norm 1; a step whose gradients are not finite changes
    nothing. With ``validate``, the weights with the least error at the held-out points are kept
    (those before the first step included), and training stops when ``patience`` looks in a row
    bring no improvement.

    Parameters
    ----------
    net
        Module to train, on its device.
    loss
        Takes the step's number and gives the loss of its batch.
    schedule
        Steps, learning rate, validation.
    validate
        Gives the error at held-out points, the net in evaluation mode.
    progress
        Called after each step with the step, the number of steps and the loss.

    Raises
    ------
    SettingsError
        If no step at all had finite gradients.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=schedule.learning_rate, betas=(0.9, 0.99))
    warm_up = schedule.warm_up
    rise = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / (warm_up + 1), total_iters=warm_up)
    decay = torch.optim.lr_scheduler.PolynomialLR(optimiser, schedule.steps, power=1.5)
    best, best_step, best_state, waited = float("inf"), 0, None, 0
    if validate is not None:
        best, best_state = _validated(net, validate), copy.deepcopy(net.state_dict())
    step, skipped, value = 0, 0, float("nan")
    while step < schedule.steps and waited < schedule.patience:
        net.train()
        optimiser.zero_grad(set_to_none=True)
        batch_loss = loss(step)
        batch_loss.backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(trained, 1.0)):
            # One such step would make every weight NaN for good; without gradients none moves.
            optimiser.zero_grad(set_to_none=True)
            skipped += 1
        optimiser.step()
        rise.step()
        decay.step()
        step, value = step + 1, float(batch_loss.detach())
        if progress is not None:
            progress(step, schedule.steps, value)
        if validate is not None and step % schedule.validate_every == 0:
            error = _validated(net, validate)
            log.debug("step %d: loss %.5f, held-out error %.5f", step, value, error)
            waited += 1
            if error < best:
                best, best_step, waited = error, step, 0
                best_state = copy.deepcopy(net.state_dict())
    if skipped == step:
        raise SettingsError(
            f"none of {step} training steps had finite gradients, the network has learnt nothing: "
            "check the scene's values and the options of the training"
        )
    if skipped:
        log.warning(
            "%d of %d training steps had no finite gradients and were skipped", skipped, step
        )
    if best_state is not None:
        net.load_state_dict(best_state)
    net.eval()
    return TrainingRecord(
        steps=step,
        best_step=best_step if validate is not None else step,
        loss=value,
        validation=best if validate is not None else None,
    )


def _validated(net: torch.nn.Module, validate: Callable[[], float]) -> float:
    net.eval()
    with torch.inference_mode():
        error = validate()
    return float("inf") if math.isnan(error) else error
