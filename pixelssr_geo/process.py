"""Settings of the process itself: for whoever owns it, the command line or a worker, to apply."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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


def core_count() -> int:
    """Cores that this process may use; a batch system may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def products_on_one_thread() -> AbstractContextManager[None]:
    """Keep numpy's products to the thread that asks for them, for the time of a ``with`` block.

    Where blocks are computed beside each other. Cut into pieces for other threads, the products of
    a slab of pixels take longer, for the cores have work of their own.
    """
    return _ONE_THREAD


class _OneThread:
    """Keeps numpy's BLAS to one thread while anybody is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if not self._inside:
                self._limits = threadpool_limits(1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._limits is not None:
                self._limits.restore_original_limits()


_ONE_THREAD = _OneThread()
