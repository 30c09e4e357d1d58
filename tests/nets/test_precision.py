"""The settings of float32 products hold while a network runs, and are as before afterwards."""

import subprocess
import sys
from threading import Barrier, Thread
from typing import Any

import pytest
import torch

from pixelssr_geo.nets.precision import Precision, _settings, products_in

CUDA = torch.device("cuda")


def current() -> list[Any]:
    return [getattr(place, name) for place, name, *_ in _settings()]


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_settings_hold_inside_and_are_as_before_afterwards(precision: Precision) -> None:
    before = current()
    wanted = [exact if precision == "float32" else tf32 for _, _, exact, tf32 in _settings()]

    def fail() -> None:
        assert current() == wanted
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="memory"), products_in(precision, CUDA):
        fail()
    assert current() == before


def test_the_last_thread_to_leave_puts_the_settings_back() -> None:
    before, inside, first_left = current(), Barrier(2), Barrier(2)
    seen: list[list[Any]] = []

    def early() -> None:
        with products_in("tf32", CUDA):
            inside.wait()
        first_left.wait()

    thread = Thread(target=early)
    thread.start()
    with products_in("tf32", CUDA):
        inside.wait()
        first_left.wait()
        seen.append(current())
    thread.join()
    assert seen == [[tf32 for *_, tf32 in _settings()]]
    assert current() == before


def test_nothing_is_touched_for_a_cpu() -> None:
    before = current()
    with products_in("tf32", torch.device("cpu")):
        assert current() == before


# What a user may have chosen before: each with the question that must still be answered afterwards.
CHOICES = {
    "nothing": ("pass", "torch.get_float32_matmul_precision()"),
    "matmul high": (
        "torch.set_float32_matmul_precision('high')",
        "torch.get_float32_matmul_precision()",
    ),
    "matmul medium": (
        "torch.set_float32_matmul_precision('medium')",
        "torch.get_float32_matmul_precision()",
    ),
    "old names": (
        "torch.backends.cuda.matmul.allow_tf32 = True",
        "torch.backends.cuda.matmul.allow_tf32",
    ),
    "new names": (
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.cuda.matmul.fp32_precision",
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_what_the_user_chose_survives(choice: str) -> None:
    do, ask = CHOICES[choice]
    code = f"""
import torch
from pixelssr_geo.nets.precision import products_in
{do}
before = {ask}
for name in ("float32", "tf32"):
    with products_in(name, torch.device("cuda")):
        pass
    with products_in(name, torch.device("cpu")):
        {ask}
assert {ask} == before, ({ask}, before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
