"""Building the C++ kernel on the machine that runs it, once, into the user's cache.

A library is named by what it was made of: source, flags and compiler. So a new version never loads
an old library, and machines of different kinds may share a home.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pixelssr_geo.errors import DeviceError

CACHE_VARIABLE = "PIXELSSR_CACHE"
"""Names the folder for what is built; by default the user's cache folder."""
_COMPILERS = "c++", "g++", "clang++"
_FLAGS = "-O3", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=fast"
# What torch says of an x86 processor, as flags; others have what the kernel needs without any.
_X86_FLAGS = {
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "AVX2": ("-mavx2", "-mfma"),
}
_BUILD_SECONDS = 300


def _compiler() -> list[str]:
    """Return the command of the C++ compiler: ``$CXX``, or the first of the usual names."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    for command in [wanted] if wanted else [[name] for name in _COMPILERS]:
        if shutil.which(command[0]):
            return command
    if wanted:
        raise DeviceError(
            f"C++ compiler '{wanted[0]}' (CXX) not found: set CXX to one that is there"
        )
    raise DeviceError("no C++ compiler found: install g++ or clang++, or set CXX to one")


def _flags() -> tuple[str, ...]:
    """Return the compiler's flags for this machine's processor."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return _FLAGS
    return _FLAGS + _X86_FLAGS.get(torch.backends.cpu.get_cpu_capability(), ())


def _run(command: list[str]) -> str:
    """Return what a command prints; if it fails, raise DeviceError with its first error."""
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_BUILD_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"C++ compiler '{command[0]}' does not run ({error}): set CXX") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        first = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise DeviceError(
            f"C++ compiler '{command[0]}' failed ({first.strip()}): set CXX to another one"
        )
    return done.stdout


def cache_folder() -> Path:
    """Return the folder for libraries, made if it is not there.

    Raises
    ------
    DeviceError
        If it cannot be made, or somebody else could have put a library there.
    """
    if own := os.environ.get(CACHE_VARIABLE):
        base = Path(own)
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches/pixelssr-geo")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pixelssr-geo"
    cure = f"set {CACHE_VARIABLE} to a folder of your own"
    try:
        folder = base.expanduser().absolute() / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise DeviceError(f"cannot make a folder for the C++ kernel ({error}): {cure}") from error
    _refuse_foreign(folder, cure)
    return folder


def _refuse_foreign(path: Path, cure: str) -> None:
    """Raise DeviceError unless ``path`` is the user's own, and only theirs to write."""
    status = path.stat()
    if status.st_uid != os.getuid():
        raise DeviceError(f"'{path}' belongs to another user, code is not loaded from it: {cure}")
    if status.st_mode & 0o022:
        raise DeviceError(
            f"'{path}' is writable by others, code is not loaded from it: chmod go-w it, or {cure}"
        )


def built_library(source: Path) -> Path:
    """Return the shared library made of a C++ source, built if it is not there.

    Processes that build at once do the same work and one result stays.

    Raises
    ------
    DeviceError
        If there is no compiler, it fails, or there is no safe place for the library.
    """
    if sys.platform == "win32":
        raise DeviceError('is not built on Windows: pip install "pixelssr-geo[fast]"')
    compiler, flags, folder = _compiler(), _flags(), cache_folder()
    made_of = [source.read_text(), *flags, *compiler, _run([*compiler, "--version"])]
    library = folder / f"{source.stem}-{sha256(chr(0).join(made_of).encode()).hexdigest()[:32]}.so"
    if not library.exists():
        try:
            with TemporaryDirectory(dir=folder) as building:
                fresh = Path(building) / library.name
                _run([*compiler, *flags, str(source), "-o", str(fresh)])
                fresh.chmod(0o700)
                fresh.replace(library)
        except OSError as error:
            raise DeviceError(
                f"cannot write the C++ kernel ({error}): "
                f"set {CACHE_VARIABLE} to a folder that can be written"
            ) from error
    _refuse_foreign(library, f"remove it, or set {CACHE_VARIABLE} to a folder of your own")
    return library
