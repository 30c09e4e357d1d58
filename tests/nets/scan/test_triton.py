"""The Triton kernels: right under the interpreter, and compiled as they are meant, without a GPU.

Triton reads TRITON_INTERPRET when it is imported, so the kernels run in a process of their own: this
file, run as a script, prints the errors of each case.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.scan import chosen_backend, mamba, scan_backends, triton_scan
from pixelssr_geo.nets.scan.problem import ScanProblem

pytest.importorskip("triton")

HERE = Path(__file__).resolve().parent
# (batch, height, width, D, states, rank, direction numbers, axes of low / w_dt / a / d / bias), as in
# test_scan, but for an interpreter: every step of every walk takes it milliseconds.
SHAPES = {
    "one pixel, two blocks of channels": (1, 1, 1, 34, 5, 5, (0, 3), (2, 2, 2, 2, 2)),
    "row": (2, 1, 19, 4, 3, 2, (0, 1), (1, 1, 1, 1, 1)),
    "diagonals": (1, 3, 5, 6, 4, 1, (4, 5, 6, 7), (4, 4, 4, 4, 4)),
    "shared rates alone": (1, 2, 4, 6, 4, 1, (0, 1, 2, 3), (4, 4, 1, 1, 4)),
    "shared input, own rates": (2, 3, 5, 6, 2, 1, (1, 2), (1, 2, 2, 2, 1)),
    "columns": (1, 5, 4, 6, 4, 1, (2, 3), (2, 2, 2, 2, 2)),
}
# Name: (shape, factor on the steps' weights, least steps of a chunk).
CASES = {
    "one pixel, two blocks of channels": ("one pixel, two blocks of channels", 1.0, 64),
    "row in chunks": ("row", 1.0, 8),
    "diagonals": ("diagonals", 1.0, 64),
    "shared rates alone": ("shared rates alone", 1.0, 64),
    "shared input, own rates, in chunks": ("shared input, own rates", 1.0, 8),
    "large steps, in chunks": ("columns", 3.0, 8),
}


def measure(case: str) -> dict[str, Any]:
    """Largest error of each result relative to its largest value, and the number of chunks."""
    import test_scan

    shape, stress, shortest = CASES[case]
    test_scan.SHAPES.update(SHAPES)
    triton_scan.TUNING = triton_scan.Tuning(shortest=shortest, steps=8 if shortest > 8 else 4)
    arguments, settings = test_scan.make_arguments(shape, stress=stress)
    expected = test_scan.run(arguments, settings, "reference")
    single = [t.float() for t in arguments]
    found = again = test_scan.run(single, settings, "triton")
    if case == "row in chunks":
        with torch.autocast("cpu", torch.bfloat16):
            again = test_scan.run(single, settings, "triton")
    names = ("y", *test_scan.NAMES)
    error = {
        name: float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-30))
        for name, a, b in zip(names, found, expected, strict=True)
    }
    x = arguments[0]
    walks = len(settings["directions"]) * len(x)
    plan = triton_scan._plan(walks, x.shape[2], x.shape[1], 1, training=True)
    same = all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    return {"error": error, "chunks": plan.chunks, "reproducible": same}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, dict[str, Any]]:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PIXELSSR_SCAN_BACKEND", None)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return result


def test_the_interpreter_serves_those_who_name_it_alone(
    interpreted: dict[str, dict[str, Any]],
) -> None:
    assert interpreted["chosen"]["triton"] == "triton"
    assert interpreted["chosen"]["auto"] in {"cpp", "numba", "torch"}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_the_recurrences(
    case: str, interpreted: dict[str, dict[str, Any]]
) -> None:
    found = interpreted[case]
    assert (found["chunks"] > 1) == ("in chunks" in case)
    assert found["reproducible"]
    for name, error in found["error"].items():
        assert error < 2e-5, name


def compiled(kernel: str, capability: int, constants: dict[str, object], warps: int) -> Any:
    """A kernel as Triton's compiler returns it: ``asm`` and ``metadata``."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pixelssr_geo.nets.scan import triton_kernels

    function = getattr(triton_kernels, kernel)
    integers = {"lanes", "batch", "chunks", "channels", "length", "blocks", "walks"}
    sets = {f"{name}_sets" for name in ("low", "w", "rate", "skip", "bias")}
    signature, attributes = {}, {}
    for place, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in integers | sets:
            signature[name] = "i32"
        else:
            signature[name] = "*i32" if name == "walk" else "*fp32"
            attributes[(place,)] = [["tt.divisibility", 16]]  # as torch allocates
    source = ASTSource(function, signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def assert_offsets_of_pixels_have_64_bits(code: str) -> None:
    """The number of channels is multiplied in 32 bits by a number of a set alone, never by a pixel."""
    channels = {"%channels", *re.findall(r"(%\w+) = tt\.splat %channels ", code)}
    products = re.findall(r"arith\.muli (%\w+), (%\w+) : \S*i32\b", code)
    factors = [a for a, b in products if b in channels]
    assert factors
    for factor in factors:
        assert re.search(rf"{factor} = arith\.remsi ", code), factor


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


COMMON = {"N": 16, "NP": 16, "R": 3, "RP": 4, "STEPS": 8}


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.skipif(triton_scan._interpreted(), reason="TRITON_INTERPRET replaces the compiler")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("task", ["ends", "outputs", "marks"])
def test_all_states_of_a_lane_stay_in_one_thread(task: str, chunked: bool, capability: int) -> None:
    constants = COMMON | {"TASK": task, "CHUNKED": chunked, "LANES": 128}
    kernel = compiled("walk_chunks", capability, constants, 4)
    code = kernel.asm["ptx"]
    assert kernel.metadata.shared == 0
    assert "shfl" not in code
    assert "bar.sync" not in code
    assert code.count("ld.global.v4") >= 5  # one of the low rank, four of B
    assert_offsets_of_pixels_have_64_bits(kernel.asm["ttir"])


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.skipif(triton_scan._interpreted(), reason="TRITON_INTERPRET replaces the compiler")
@pytest.mark.parametrize("capability", [80, 90])
def test_the_other_kernels_compile_without_shared_memory(capability: int) -> None:
    carry = {"BACKWARDS": True, "N": 16, "AHEAD": 8, "LANES": 64}
    assert compiled("carry_over_chunks", capability, carry, 2).metadata.shared == 0
    back = compiled("walk_back", capability, COMMON | {"LANES": 32}, 1)
    assert back.metadata.shared == 0
    assert_offsets_of_pixels_have_64_bits(back.asm["ttir"])


@pytest.mark.parametrize("walks", [1, 4, 40, 4096])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 1000, 16384])
@pytest.mark.parametrize("training", [True, False])
def test_chunks_cover_a_walk_and_none_is_empty(walks: int, length: int, training: bool) -> None:
    plan = triton_scan._plan(walks, 80, length, 132, training=training)
    steps = plan.blocks * triton_scan.TUNING.steps
    assert (plan.chunks - 1) * steps < length <= plan.chunks * steps
    if training:
        assert steps <= triton_scan.TUNING.longest + triton_scan.TUNING.steps


def test_a_batch_that_fills_the_device_is_not_cut() -> None:
    assert triton_scan._plan(4 * 128, 80, 16384, 132, training=False).chunks == 1
    assert triton_scan._plan(4, 80, 16384, 132, training=False).chunks > 100


@pytest.mark.skipif(triton_scan._interpreted(), reason="TRITON_INTERPRET serves the CPU")
def test_the_cpu_is_told_what_is_missing() -> None:
    assert scan_backends("cpu")["triton"] == "needs a CUDA device"


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process that sees a CUDA device, as far as asking for the backend goes."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    triton_scan.missing.cache_clear()
    yield monkeypatch
    triton_scan.missing.cache_clear()


def fail(error: Exception) -> Any:
    raise error


CUDA = torch.device("cuda")


def test_a_driver_with_its_launcher_needs_no_compiler(on_cuda: pytest.MonkeyPatch) -> None:
    utils = SimpleNamespace(launch=lambda: None)
    on_cuda.setattr(triton_scan, "_driver", lambda: SimpleNamespace(utils=utils))
    on_cuda.setenv("PATH", "")
    assert triton_scan.missing(CUDA) is None


@pytest.mark.parametrize("compiler", [None, "no-such-compiler"])
def test_older_releases_are_not_there_without_a_compiler(
    compiler: str | None, on_cuda: pytest.MonkeyPatch
) -> None:
    on_cuda.setattr(triton_scan, "_driver", lambda: SimpleNamespace(utils=SimpleNamespace()))
    on_cuda.delenv("CC", raising=False)
    on_cuda.setattr(triton_scan.shutil, "which", lambda name: name if name == "clang" else None)
    assert triton_scan.missing(CUDA) is None
    triton_scan.missing.cache_clear()
    if compiler is None:
        on_cuda.setattr(triton_scan.shutil, "which", lambda name: None)
    else:
        on_cuda.setenv("CC", compiler)
    assert "finds no C compiler" in str(triton_scan.missing(CUDA))


def test_a_launcher_that_cannot_be_made_is_told_and_triton_is_not_taken(
    on_cuda: pytest.MonkeyPatch,
) -> None:
    error = RuntimeError("Failed to find C compiler. Please specify via CC\nmore")
    on_cuda.setattr(triton_scan, "_driver", lambda: fail(error))
    reason = str(triton_scan.missing(CUDA))
    assert reason.startswith("triton cannot make its launcher (Failed to find C compiler.")
    assert "\n" not in reason
    on_cuda.delenv("PIXELSSR_SCAN_BACKEND", raising=False)
    on_cuda.setattr(mamba, "missing", lambda device: "not in this test")
    assert chosen_backend(device="cuda") == "torch"


def test_a_broken_installation_is_told(on_cuda: pytest.MonkeyPatch) -> None:
    on_cuda.setattr(triton_scan, "import_module", lambda name: fail(OSError("libtriton.so: bad")))
    assert "triton cannot be imported (libtriton.so: bad)" in str(triton_scan.missing(CUDA))


def test_more_lanes_than_can_be_numbered_are_refused() -> None:
    def check(batch: int, side: int, channels: int, walks: int) -> None:
        x = torch.empty(batch, side * side, channels, device="meta")
        problem = ScanProblem(x, *[x] * 5, side, side, tuple(range(walks)))
        plan = triton_scan._plan(walks * batch, channels, side * side, 132, training=False)
        triton_scan._check_numbers(problem, plan)

    check(batch=1, side=1 << 13, channels=80, walks=4)  # more values than 32 bits can number
    for batch, side, channels, walks in ((1, 1 << 14, 1, 8), (1 << 20, 8, 160, 4)):
        with pytest.raises(SettingsError, match="too large for the backend 'triton'"):
            check(batch, side, channels, walks)


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = {name: chosen_backend(name) for name in ("auto", "triton")}
    print(json.dumps({case: measure(case) for case in CASES} | {"chosen": chosen}))
