"""What the process is told before it works."""

import os
import platform
import subprocess
import sys

import numpy as np  # noqa: F401  (brings the BLAS library)
import pytest
from threadpoolctl import threadpool_info

from pixelssr_geo.process import core_count, products_on_one_thread

REPEAT = """
import ctypes, resource
{prepare}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
SIZE = 10 << 20

def work():
    for _ in range(5):
        blocks = [ctypes.c_void_p(libc.malloc(SIZE)) for _ in range(6)]
        for block in blocks:
            libc.memset(block, 1, SIZE)
        for block in blocks:
            libc.free(block)

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(prepare: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", REPEAT.format(prepare=prepare)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again() -> None:
    prepared = faults("from pixelssr_geo.process import prepare_process; prepare_process()")
    assert prepared < faults("") / 10


def test_products_keep_to_one_thread_inside_and_not_after() -> None:
    def threads() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    before = threads()
    first, second = products_on_one_thread(), products_on_one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert threads() == {1}
    second.__exit__(None, None, None)
    assert threads() == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_are_those_that_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert core_count() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert core_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)
