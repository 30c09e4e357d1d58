"""Building the C++ kernel on the machine that runs it, once, into the user's cache.

A library is named by what it was made of and for: source, flags, compiler, system and machine. So a
new version never loads an old library, and machines of different kinds may share a home.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pixelssr_geo.errors import DeviceError

log = logging.getLogger(__name__)

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
_BUILDING = "building-"
_ABANDONED_SECONDS = 3600  # since a build began


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
        for part in reversed([folder, *folder.parents]):  # mkdir(parents=True) forgets the mode
            if not part.is_dir():
                part.mkdir(mode=0o700, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise DeviceError(f"cannot make a folder for the C++ kernel ({error}): {cure}") from error
    _refuse_foreign(folder, cure)
    folder = folder.resolve()
    for part in folder.parents:
        _refuse_exchangeable(part, cure)
    return folder


def _refuse_foreign(path: Path, cure: str) -> None:
    """Raise DeviceError unless ``path`` is the user's own, and only theirs to write."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise DeviceError(f"'{path}' is a link, code is not loaded through it: {cure}")
    if status.st_uid != os.getuid():
        raise DeviceError(f"'{path}' belongs to another user, code is not loaded from it: {cure}")
    if status.st_mode & 0o022:
        raise DeviceError(
            f"'{path}' is writable by others, code is not loaded from it: chmod go-w it, or {cure}"
        )


def _refuse_exchangeable(parent: Path, cure: str) -> None:
    """Raise DeviceError if others can put a folder of theirs in the place of one in ``parent``."""
    status = parent.lstat()
    if status.st_uid not in {os.getuid(), 0}:
        raise DeviceError(f"'{parent}' belongs to another user, who could exchange code: {cure}")
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise DeviceError(
            f"'{parent}' is writable by others, who could exchange code: chmod go-w it, or {cure}"
        )


def _remove_abandoned(folder: Path) -> None:
    """Remove what builds left that were killed."""
    for building in folder.glob(f"{_BUILDING}*"):
        try:
            if time.time() - building.lstat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(building)
        except OSError:  # another build was first
            continue


def _build(command: list[str], library: Path) -> None:
    """Write a library with a compiler's command, whole or not at all."""
    log.info("building the C++ scan, once on this machine")
    _remove_abandoned(library.parent)
    with TemporaryDirectory(dir=library.parent, prefix=_BUILDING) as building:
        fresh = Path(building) / library.name
        _run([*command, "-o", str(fresh)])
        fresh.chmod(0o700)
        fresh.replace(library)


def built_library(source: Path, *, anew: bool = False) -> Path:
    """Return the shared library made of a C++ source, built if it is not there.

    Processes that build at once do the same work and one result stays.

    Parameters
    ----------
    source
        The one file of the library.
    anew
        Build it even if it is there.

    Raises
    ------
    DeviceError
        If there is no compiler, it fails, or there is no safe place for the library.
    """
    if sys.platform == "win32":
        raise DeviceError('is not built on Windows: pip install "pixelssr-geo[fast]"')
    compiler, flags, folder = _compiler(), _flags(), cache_folder()
    made_of = [source.read_text(encoding="utf-8"), *flags, *compiler]
    made_of += [_run([*compiler, "--version"]), sys.platform, platform.machine()]
    library = folder / f"{source.stem}-{sha256(chr(0).join(made_of).encode()).hexdigest()[:32]}.so"
    cure = f"remove it, or set {CACHE_VARIABLE} to a folder of your own"
    try:
        if anew or not os.path.lexists(library):
            _build([*compiler, *flags, str(source)], library)
        _refuse_foreign(library, cure)
    except OSError as error:
        raise DeviceError(
            f"cannot write the C++ kernel ({error}): "
            f"set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    return library
