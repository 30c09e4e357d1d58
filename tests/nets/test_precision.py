"""The flags of float32 products are set while a network runs, and what they were afterwards."""

from threading import Barrier, Thread

import pytest
import torch

from pixelssr_geo.nets.precision import Precision, products_in


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True)])
def test_flags_hold_inside_and_are_as_before_afterwards(
    precision: Precision, allowed: bool
) -> None:
    before = flags()

    def fail() -> None:
        assert flags() == (allowed, allowed)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="memory"), products_in(precision):
        fail()
    assert flags() == before


def test_the_last_thread_to_leave_puts_the_flags_back() -> None:
    before, inside, first_left = flags(), Barrier(2), Barrier(2)
    seen: list[tuple[bool, bool]] = []

    def early() -> None:
        with products_in("tf32"):
            inside.wait()
        first_left.wait()

    thread = Thread(target=early)
    thread.start()
    with products_in("tf32"):
        inside.wait()
        first_left.wait()
        seen.append(flags())
    thread.join()
    assert seen == [(True, True)]
    assert flags() == before
