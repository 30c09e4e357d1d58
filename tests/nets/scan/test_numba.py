"""The vectors that the numba kernel is written in, and when it is there."""

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from pixelssr_geo.errors import DeviceError
from pixelssr_geo.nets.scan import chosen_backend, cpp, numba_scan, scan_backends

CPU = torch.device("cpu")
needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason='numba is not there: the extra "fast"'
)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("PIXELSSR_SCAN_BACKEND", raising=False)
    monkeypatch.setattr(numba_scan, "_absence", numba_scan._absence.__wrapped__)
    monkeypatch.setattr(cpp, "missing", lambda device: "not in this test")
    return monkeypatch


def test_without_numba_the_extra_is_named(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(numba_scan, "find_spec", lambda name: None)
    reason = 'not installed: pip install "pixelssr-geo[fast]"'
    assert numba_scan.missing(CPU) == reason
    with pytest.raises(DeviceError, match="not installed"):
        chosen_backend("numba")
    assert chosen_backend() == "torch"


@needs_numba
def test_numba_that_works_is_taken_where_there_is_no_compiler(fresh: pytest.MonkeyPatch) -> None:
    assert numba_scan.missing(CPU) is None
    assert chosen_backend() == "numba"


@needs_numba
def test_numba_that_must_not_compile_is_not_taken(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("NUMBA_DISABLE_JIT", "1")
    assert numba_scan.missing(CPU) == "NUMBA_DISABLE_JIT is set: unset it"


def test_other_devices_are_refused() -> None:
    assert scan_backends("cuda")["numba"] == "computes on a CPU only"


@needs_numba
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ImportError("Numba needs NumPy 2.3 or less. Got 2.4.\nmore"),
            "NumPy 2.3 or less. Got 2.4",
        ),
        (OSError("Could not find/load shared object file: llvmlite.so"), "shared object file"),
        (AttributeError(), "AttributeError"),
    ],
)
def test_numba_that_does_not_import_is_told_and_not_taken(
    error: Exception, said: str, fresh: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    fresh.setattr(numba_scan, "import_module", fail)
    reason = numba_scan.missing(CPU)
    assert reason is not None
    assert reason.startswith("numba cannot be imported (")
    assert said in reason
    assert "\n" not in reason
    assert chosen_backend() == "torch"


def test_numba_is_not_imported_where_a_better_backend_serves() -> None:
    code = (
        "import sys; from pixelssr_geo.nets import scan;"
        "scan.cpp.missing = lambda device: None; assert scan.chosen_backend() == 'cpp';"
        "assert 'numba' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PIXELSSR_SCAN_BACKEND"}
    code = f"import pixelssr_geo.nets.scan.cpp; {code}"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def twice(array):
    array *= 2


@needs_numba
def test_what_was_compiled_is_taken_again_until_a_source_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core import config

    from pixelssr_geo.nets.scan import numba_kernels

    lanes = tmp_path / "lanes.py"
    lanes.write_text("LANES = 16")
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(numba_kernels, "_SOURCES", (lanes,))

    def is_compiled() -> bool:
        compiled = numba_kernels._kept(twice)
        compiled(np.ones(1, np.float32))
        return not compiled.stats.cache_hits

    assert is_compiled()
    assert not is_compiled()
    lanes.write_text("LANES = 32")
    assert is_compiled()
    assert not is_compiled()


@needs_numba
def test_both_sources_tell_what_was_compiled() -> None:
    from pixelssr_geo.nets.scan import numba_kernels

    names = [source.name for source in numba_kernels._SOURCES]
    assert names == ["numba_kernels.py", "numba_lanes.py"]
    assert numba_kernels._fingerprint() in numba_kernels.backward.__qualname__


@needs_numba
def test_a_compilation_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    import numba

    from pixelssr_geo.nets.scan import numba_kernels

    with caplog.at_level(logging.INFO, "pixelssr_geo"):
        numba.njit(lambda: 1)()
        assert not caplog.messages
        data = {"dispatcher": numba_kernels.forward}
        with numba.core.event.trigger_event("numba:compile", data=data):
            assert caplog.messages == ["compiling the numba scan, once: forward"]


KERNELS_WITHOUT_A_PLACE = """
import sys
sys.path.insert(0, {package!r})
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from pixelssr_geo.nets.scan import numba_kernels
assert numba_kernels.forward.py_func
"""


@needs_numba
def test_kernels_compile_where_nothing_can_be_kept() -> None:
    package = str(Path(numba_scan.__file__).parents[3])
    code = KERNELS_WITHOUT_A_PLACE.format(package=package)
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def lane_functions() -> SimpleNamespace:
    numba = pytest.importorskip("numba", reason='numba is not there: the extra "fast"')
    from pixelssr_geo.nets.scan import numba_lanes as lanes

    power_of, sums_of, load, store = lanes.power, lanes.lane_sums, lanes.load, lanes.store
    load_some, store_some = lanes.load_some, lanes.store_some

    @numba.njit
    def power(scale, rate, out):
        store(out, 0, power_of(load(scale, 0), load(rate, 0)))

    @numba.njit
    def lane_sums(table, out):
        store(out, 0, sums_of(table, 0))

    @numba.njit
    def copy_some(array, offset, count, spare, out):
        store_some(out, offset, count, spare, load_some(array, offset, count, spare))

    return SimpleNamespace(power=power, lane_sums=lane_sums, copy_some=copy_some)


def test_powers_are_exact_to_rounding(lane_functions: SimpleNamespace) -> None:
    exponents = np.linspace(-125.9, 0, 16000, dtype=np.float32).reshape(-1, 16)
    rate, found = np.full(16, 0.25, np.float32), np.empty(16, np.float32)
    for exponent in exponents:
        lane_functions.power(exponent * 4, rate, found)
        expected = np.exp2(exponent.astype(np.float64))
        np.testing.assert_allclose(found, expected, rtol=1.5e-7)


def test_powers_far_below_are_almost_nothing_and_none_is_not_a_number(
    lane_functions: SimpleNamespace,
) -> None:
    scale = np.array([127, 1e3, 1e9, 1e38, 3e38, np.inf, np.nan, 0] * 2, np.float32)
    found = np.empty(16, np.float32)
    lane_functions.power(scale, np.full(16, -1, np.float32), found)
    assert (np.abs(found[:6]) < 1e-37).all()
    assert np.isnan(found[6])
    assert found[7] == 1


def test_lane_sums_come_in_their_order(lane_functions: SimpleNamespace) -> None:
    table = np.arange(256, dtype=np.float32) ** 2
    found = np.empty(16, np.float32)
    lane_functions.lane_sums(table, found)
    np.testing.assert_array_equal(found, table.reshape(16, 16).sum(1))


@pytest.mark.parametrize("count", [1, 7, 15, 16])
def test_part_of_a_vector_touches_nothing_else(lane_functions: SimpleNamespace, count: int) -> None:
    array, out = np.arange(40, dtype=np.float32), np.full(40, -1, np.float32)
    lane_functions.copy_some(array, 20, count, np.empty(16, np.float32), out)
    expected = np.full(40, -1, np.float32)
    expected[20 : 20 + count] = array[20 : 20 + count]
    np.testing.assert_array_equal(out, expected)
