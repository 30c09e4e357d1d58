"""What the process is told before it works."""

import platform
import subprocess
import sys

import pytest

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
