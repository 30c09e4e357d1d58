"""Settings of the process itself: for whoever owns it, the command line or a worker, to apply."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import threadpool_limits

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def prepare_process() -> None:
    """Let threads sleep while they wait, and freed memory stay with the process.

    To be called before torch is imported. Both matter where a network runs tile after tile:

    * Threads that wait for others give their core away: on a busy machine spinning can cost several
      times the work itself.
    * A network's arrays are a few megabytes each. By default glibc gives such memory back to the
      system at once and asks for it again, page by page. That is so in the main
      thread; others have hardly any such faults. Other C libraries are left alone.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when OpenMP is loaded
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def products_on_one_thread() -> threadpool_limits:
    """Keep numpy's products to the thread that asks for them, from now on or for a ``with`` block.

    Where blocks are computed beside each other. Cut into pieces for other threads, the products of
    a slab of pixels take twice the time, on a busy machine many times as long.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")
