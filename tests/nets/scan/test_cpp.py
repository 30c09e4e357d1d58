"""The C++ kernel is built once, into a place that is safe to load code from, or says why not."""

import ctypes
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pixelssr_geo.errors import DeviceError
from pixelssr_geo.nets.scan import (
    available_backends,
    chosen_backend,
    cpp,
    cpp_build,
    scan_backends,
    selective_scan_2d,
)

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is built on Windows")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of the test's own, and a process that has not loaded the kernel."""
    monkeypatch.setenv("PIXELSSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PIXELSSR_SCAN_BACKEND", raising=False)
    cpp._load.cache_clear()
    yield tmp_path / "cache" / "kernels"
    cpp._load.cache_clear()


@pytest.fixture
def compiler() -> None:
    try:
        cpp_build._compiler()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source that is built at once."""
    path = tmp_path / "seven.cpp"
    path.write_text('extern "C" int seven() { return 7; }')
    return path


def script(folder: Path, text: str) -> Path:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("compiler")
def test_library_is_built_into_a_folder_of_the_users_own(cache: Path, source: Path) -> None:
    library = cpp_build.built_library(source)
    assert library.parent == cache
    assert [path.name for path in cache.iterdir()] == [library.name]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert library.stat().st_mode & 0o022 == 0
    assert ctypes.CDLL(str(library)).seven() == 7


@pytest.mark.usefixtures("compiler")
def test_library_is_built_once_and_again_for_another_source_or_other_flags(
    cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cpp_build.built_library(source)
    written = first.stat().st_mtime_ns
    assert cpp_build.built_library(source) == first
    assert first.stat().st_mtime_ns == written
    source.write_text('extern "C" int seven() { return 3 + 4; }')
    assert cpp_build.built_library(source) != first
    monkeypatch.setattr(cpp_build, "_flags", lambda: ("-O1", "-fPIC", "-shared"))
    cpp_build.built_library(source)
    assert len(list(cache.iterdir())) == 3


@pytest.mark.usefixtures("compiler")
def test_builds_at_once_leave_one_whole_library(cache: Path, source: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        built = set(pool.map(cpp_build.built_library, [source] * 4))
    assert list(cache.iterdir()) == list(built)
    assert ctypes.CDLL(str(built.pop())).seven() == 7


def test_without_a_compiler_auto_takes_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert cpp.missing(CPU) == ("no C++ compiler found: install g++ or clang++, or set CXX to one")
    assert "cpp" not in available_backends()
    assert chosen_backend() in {"numba", "torch"}
    with pytest.raises(DeviceError, match="no C\\+\\+ compiler found"):
        chosen_backend("cpp")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 3", "failed \\(exit status 3\\)"),
        ("echo note >&2; echo 'x.cpp:1: error: no header' >&2; exit 1", "error: no header"),
        ("exit 0", "cannot write the C\\+\\+ kernel"),
    ],
)
def test_a_compiler_that_does_not_work_is_told_and_breaks_no_run(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", f"{script(tmp_path, text)} -quick")
    with pytest.raises(DeviceError, match=reason):
        chosen_backend("cpp")
    assert chosen_backend() != "cpp"


def test_a_library_that_cannot_be_loaded_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 'for last; do :; done; test "$1" = --version || echo no library > "$last"'
    monkeypatch.setenv("CXX", str(script(tmp_path, writes)))
    assert "cannot be loaded" in str(cpp.missing(CPU))
    assert chosen_backend() != "cpp"


def test_failed_builds_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("CXX", str(script(tmp_path, f"echo run >> {log}; exit 1")))
    for _ in range(3):
        assert cpp.missing(CPU)
    assert log.read_text() == "run\n"


def test_compiler_of_the_environment_is_taken_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -pipe")
    assert "'no-such-compiler' (CXX) not found" in str(cpp.missing(CPU))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_that_others_can_write_is_refused(mode: int, cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    assert "is writable by others" in str(cpp.missing(CPU))
    assert chosen_backend() != "cpp"


@pytest.mark.usefixtures("compiler")
def test_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert "belongs to another user" in str(cpp.missing(CPU))


@pytest.mark.usefixtures("compiler")
def test_library_that_others_can_write_is_refused(source: Path) -> None:
    cpp_build.built_library(source).chmod(0o722)
    with pytest.raises(DeviceError, match="writable by others"):
        cpp_build.built_library(source)


@pytest.mark.usefixtures("compiler")
def test_folder_that_others_can_exchange_is_refused(cache: Path, tmp_path: Path) -> None:
    cpp_build.cache_folder()
    tmp_path.chmod(0o777)
    try:
        with pytest.raises(DeviceError, match=f"'{tmp_path}' is writable by others, who could"):
            cpp_build.cache_folder()
        tmp_path.chmod(0o1777)  # as the system's folder for temporary files
        assert cpp_build.cache_folder() == cache.resolve()
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.usefixtures("compiler")
def test_folder_in_another_users_folder_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpp_build.cache_folder()
    lstat = Path.lstat

    def of_another(path: Path) -> os.stat_result:
        found = lstat(path)
        return os.stat_result((*found[:4], 12345, *found[5:])) if path == tmp_path else found

    monkeypatch.setattr(Path, "lstat", of_another)
    with pytest.raises(DeviceError, match=f"'{tmp_path}' belongs to another user, who could"):
        cpp_build.cache_folder()


@pytest.mark.usefixtures("compiler")
def test_code_is_not_loaded_through_links(cache: Path, source: Path, tmp_path: Path) -> None:
    library = cpp_build.built_library(source)
    library.rename(tmp_path / library.name)
    library.symlink_to(tmp_path / library.name)
    with pytest.raises(DeviceError, match="is a link"):
        cpp_build.built_library(source)
    cache.rename(tmp_path / "elsewhere")
    cache.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceError, match=f"'{cache}' is a link"):
        cpp_build.built_library(source)


def test_folders_are_made_for_the_user_alone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELSSR_CACHE", str(tmp_path / "a" / "b"))
    before = os.umask(0o002)
    try:
        folder = cpp_build.cache_folder()
    finally:
        os.umask(before)
    for made in (folder, folder.parent, folder.parent.parent):
        assert made.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("compiler")
def test_what_killed_builds_left_is_removed(cache: Path, source: Path) -> None:
    old, fresh = (cpp_build.cache_folder() / f"building-{name}" for name in ("old", "fresh"))
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "part.so").touch()
    long_ago = time.time() - 2 * cpp_build._ABANDONED_SECONDS
    os.utime(old, (long_ago, long_ago))
    cpp_build.built_library(source)
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.usefixtures("compiler")
def test_a_spoilt_library_is_built_once_more() -> None:
    library = cpp_build.built_library(cpp.SOURCE)
    library.write_bytes(b"spoilt")
    assert cpp.missing(CPU) is None
    assert library.stat().st_size > 1000


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(platform, "machine", lambda: "sparc"), (sys, "platform", "sunos")],
)
def test_systems_and_machines_that_share_a_home_have_their_own_libraries(
    module: object,
    name: str,
    value: object,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpp_build, "_flags", lambda: ("-O1", "-fPIC", "-shared"))
    here = cpp_build.built_library(source)
    monkeypatch.setattr(module, name, value)
    assert cpp_build.built_library(source) != here


@pytest.mark.usefixtures("compiler")
def test_a_build_is_announced(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pixelssr_geo"):
        for _ in range(2):
            cpp_build.built_library(source)
    assert caplog.messages == ["building the C++ scan, once on this machine"]


@pytest.mark.parametrize("backend", ["warp", "mamba-ssm"])
def test_an_error_message_builds_nothing(backend: str, cache: Path) -> None:
    with pytest.raises(DeviceError):
        chosen_backend(backend)
    assert not cache.exists()


@pytest.mark.usefixtures("compiler")
def test_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PIXELSSR_CACHE", str(tmp_path / "file"))
    assert "set PIXELSSR_CACHE to a folder of your own" in str(cpp.missing(CPU))


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/pixelssr-geo/kernels"),
        ("linux", {"XDG_CACHE_HOME": ""}, ".cache/pixelssr-geo/kernels"),
        ("darwin", {}, "Library/Caches/pixelssr-geo/kernels"),
        ("linux", {"PIXELSSR_CACHE": "{home}/own"}, "own/kernels"),
    ],
)
def test_folder_lies_where_the_system_keeps_caches(
    system: str,
    environment: dict[str, str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PIXELSSR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", system)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    assert cpp_build.cache_folder() == tmp_path / expected


def test_nothing_is_built_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert cpp.missing(CPU) == 'is not built on Windows: pip install "pixelssr-geo[fast]"'


def test_other_devices_are_refused_without_a_build(cache: Path) -> None:
    assert scan_backends("cuda")["cpp"] == "computes on a CPU only"
    assert not cache.exists()


X86 = platform.machine().lower() in {"x86_64", "amd64"}
WIDTHS = {"no more than x86-64": "DEFAULT", "AVX2": "AVX2"}


@pytest.mark.skipif(not X86, reason="other processors have one build alone")
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("capability", WIDTHS.values(), ids=WIDTHS)
def test_builds_for_lesser_processors_compute_the_same(
    capability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.backends.cpu.get_cpu_capability() not in {capability, "AVX2", "AVX512"}:
        pytest.skip(f"this processor has no {capability}")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    torch.manual_seed(0)
    inner, states, pixels = 27, 21, 70
    arguments = [
        torch.randn(1, pixels, inner, dtype=torch.float64),
        torch.randn(1, pixels, 1, 3 + 2 * states, dtype=torch.float64),
        torch.randn(1, inner, 3, dtype=torch.float64),
        -torch.rand(1, inner, states, dtype=torch.float64) * 9,
        torch.randn(1, inner, dtype=torch.float64),
        torch.randn(1, inner, dtype=torch.float64) - 2,
    ]

    def run(dtype: torch.dtype, backend: str) -> list[torch.Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in arguments]
        y = selective_scan_2d(*leaves, height=7, width=10, backend=backend)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), leaves)]

    expected, found = run(torch.float64, "reference"), run(torch.float32, "cpp")
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < 5e-6
