"""The Triton kernels: right under the interpreter, and compiled as they are meant, without a GPU.

Triton reads TRITON_INTERPRET when it is imported, so the kernels run in a process of their own: this
file, run as a script, prints the errors of each case.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelssr_geo.nets.scan import scan_backends, triton_scan

pytest.importorskip("triton")

HERE = Path(__file__).resolve().parent
# Name: (shape of test_scan, factor on the steps' weights, least steps of a chunk).
CASES = {
    "one pixel": ("one pixel", 1.0, 64),
    "one row in chunks": ("one row", 1.0, 8),
    "diagonals": ("diagonals", 1.0, 64),
    "columns only": ("columns only", 1.0, 128),
    "shared rates alone": ("shared rates alone", 1.0, 64),
    "shared input, own rates, in chunks": ("shared input, own rates", 1.0, 16),
    "large steps, in chunks": ("columns only", 3.0, 24),
}


def measure(case: str) -> dict[str, Any]:
    """Largest error of each result relative to its largest value, and the number of chunks."""
    import test_scan

    shape, stress, shortest = CASES[case]
    triton_scan.TUNING = triton_scan.Tuning(shortest=shortest)
    arguments, settings = test_scan.make_arguments(shape, stress=stress)
    expected = test_scan.run(arguments, settings, "reference")
    single = [t.float() for t in arguments]
    found = test_scan.run(single, settings, "triton")
    again = test_scan.run(single, settings, "triton") if case == "one row in chunks" else found
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


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_the_recurrences(
    case: str, interpreted: dict[str, dict[str, Any]]
) -> None:
    found = interpreted[case]
    assert (found["chunks"] > 1) == ("in chunks" in case)
    assert found["reproducible"]
    for name, error in found["error"].items():
        assert error < 2e-5, name


def compiled(
    kernel: str, capability: int, constants: dict[str, object], warps: int
) -> tuple[str, int]:
    """PTX of a kernel and the bytes of shared memory that it takes."""
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
    result = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return result.asm["ptx"], result.metadata.shared


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
    code, shared = compiled("walk_chunks", capability, constants, 4)
    assert shared == 0
    assert "shfl" not in code
    assert "bar.sync" not in code
    assert code.count("ld.global.v4") >= 5  # one of the low rank, four of B


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.skipif(triton_scan._interpreted(), reason="TRITON_INTERPRET replaces the compiler")
@pytest.mark.parametrize("capability", [80, 90])
def test_the_other_kernels_compile_without_shared_memory(capability: int) -> None:
    carry = {"BACKWARDS": True, "N": 16, "AHEAD": 8, "LANES": 64}
    assert compiled("carry_over_chunks", capability, carry, 2)[1] == 0
    assert compiled("walk_back", capability, COMMON | {"LANES": 32}, 1)[1] == 0


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({case: measure(case) for case in CASES}))
