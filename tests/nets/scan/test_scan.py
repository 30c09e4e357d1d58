"""Every backend computes what the recurrence says, forward and backward."""

import pytest
import torch
from torch import Tensor

from pixelssr_geo.errors import DeviceError, SettingsError
from pixelssr_geo.nets.scan import (
    ScanBackend,
    available_backends,
    blocked,
    chosen_backend,
    scan_backends,
    selective_scan_2d,
    walks,
)

NAMES = ("x", "low", "w_dt", "a", "d", "dt_bias")
FAST = [name for name in available_backends() if name != "reference"]
# (batch, height, width, D, states, rank, direction numbers, axes of low / w_dt / a / d / bias)
SHAPES = {
    "one pixel": (1, 1, 1, 3, 4, 1, (0, 1, 2, 3), (4, 4, 4, 4, 4)),
    "one row": (2, 1, 23, 4, 3, 2, (0, 1, 2, 3), (1, 1, 1, 1, 1)),
    "odd and not square": (2, 9, 13, 5, 4, 2, (0, 1, 2, 3), (4, 4, 4, 4, 4)),
    "one direction": (1, 24, 16, 40, 16, 3, (0,), (1, 1, 1, 1, 1)),
    "diagonals": (1, 6, 9, 6, 4, 1, (4, 5, 6, 7), (4, 4, 4, 4, 4)),
    "columns only": (1, 7, 11, 6, 4, 1, (2, 3), (2, 2, 2, 2, 2)),
    "shared rates alone": (1, 8, 6, 6, 4, 1, (0, 1, 2, 3), (4, 4, 1, 1, 4)),
    "shared input, own rates": (2, 8, 6, 6, 4, 1, (0, 1, 2, 3), (1, 4, 4, 4, 1)),
    "width 80, all shared": (1, 16, 24, 80, 16, 3, (0, 1, 2, 3), (1, 1, 1, 1, 1)),
}


def make_arguments(case: str, *, stress: float = 1.0, seed: int = 0) -> tuple[list[Tensor], dict]:
    batch, height, width, inner, states, rank, directions, axes = SHAPES[case]
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    arguments = [
        normal(batch, height * width, inner),
        normal(batch, height * width, axes[0], rank + 2 * states),
        normal(axes[1], inner, rank) * stress,
        -torch.rand(axes[2], inner, states, generator=rng, dtype=torch.float64) * states,
        normal(axes[3], inner),
        normal(axes[4], inner) + (4.0 if stress > 1 else -3.0),
    ]
    return arguments, {"height": height, "width": width, "directions": directions}


def run(arguments: list[Tensor], settings: dict, backend: str) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in arguments]
    y = selective_scan_2d(*leaves, **settings, backend=backend)
    upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream)]


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
        scale = b.abs().max().clamp_min(1e-30)
        assert float((a.double() - b).abs().max() / scale) < tolerance, name


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("case", SHAPES)
def test_value_and_gradients_are_the_recurrences_in_float32(case: str, backend: str) -> None:
    arguments, settings = make_arguments(case)
    expected = run(arguments, settings, "reference")
    found = run([t.float() for t in arguments], settings, backend)
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("backend", FAST)
def test_large_steps_neither_overflow_nor_lose_accuracy(backend: str) -> None:
    arguments, settings = make_arguments("odd and not square", stress=3.0)
    expected = run(arguments, settings, "reference")
    found = run([t.float() for t in arguments], settings, backend)
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("case", SHAPES)
def test_blocked_scan_is_exact_in_float64(case: str) -> None:
    arguments, settings = make_arguments(case)
    expected = run(arguments, settings, "reference")
    assert_close(run(arguments, settings, "torch"), expected, 1e-12)


def test_blocked_scan_is_exact_over_several_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocked._SEGMENT_ELEMENTS, "cpu", 20 * 11)
    monkeypatch.setitem(blocked._STEP_ELEMENTS, "cpu", 20 * 4)
    arguments, settings = make_arguments("odd and not square")
    assert blocked._layout(9 * 13, 20, 8, "cpu").segments > 1
    expected = run(arguments, settings, "reference")
    assert_close(run(arguments, settings, "torch"), expected, 1e-12)


def test_blocked_gradients_pass_gradcheck() -> None:
    arguments, settings = make_arguments("shared input, own rates")
    settings |= {"height": 3, "width": 4}
    leaves = [arguments[0][:1, :12], arguments[1][:1, :12], *arguments[2:]]
    leaves = [t.clone().requires_grad_() for t in leaves]
    assert torch.autograd.gradcheck(
        lambda *tensors: selective_scan_2d(*tensors, **settings, backend="torch"), leaves
    )


def test_a_batch_gives_what_its_items_give() -> None:
    arguments, settings = make_arguments("odd and not square")
    together = selective_scan_2d(*arguments, **settings)
    for i in range(2):
        alone = selective_scan_2d(
            *(t[i : i + 1] for t in arguments[:2]), *arguments[2:], **settings
        )
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-14)


def test_walks_visit_the_pixels_in_their_order() -> None:
    # A constant state without decay: y at a pixel is the number of pixels visited so far.
    x = torch.ones(1, 6, 1)
    low = torch.tensor([0.0, 1.0, 1.0]).expand(1, 6, 1, 3)
    unit_step = torch.log(torch.expm1(torch.ones(1, 1)))
    parameters = torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1), unit_step
    expected = {
        0: [[1, 2, 3], [4, 5, 6]],
        1: [[6, 5, 4], [3, 2, 1]],
        2: [[1, 3, 5], [2, 4, 6]],
        3: [[6, 4, 2], [5, 3, 1]],
        4: [[1, 2, 4], [3, 5, 6]],
        5: [[6, 5, 3], [4, 2, 1]],
        6: [[4, 2, 1], [6, 5, 3]],
        7: [[3, 5, 6], [1, 2, 4]],
    }
    for direction, visits in expected.items():
        for backend in available_backends():
            y = selective_scan_2d(
                x, low, *parameters, height=2, width=3, directions=(direction,), backend=backend
            )
            torch.testing.assert_close(y.view(2, 3), torch.tensor(visits, dtype=torch.float32))


def test_half_precision_is_computed_in_float32() -> None:
    arguments, settings = make_arguments("odd and not square")
    half = [arguments[0].bfloat16(), *(t.float() for t in arguments[1:])]
    y = selective_scan_2d(*half, **settings)
    full = selective_scan_2d(half[0].float(), *half[1:], **settings)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, full.bfloat16())


@pytest.mark.parametrize("backend", FAST)
def test_autocast_does_not_reach_into_the_scan(backend: str) -> None:
    arguments, settings = make_arguments("odd and not square")
    single = [t.float() for t in arguments]
    expected = selective_scan_2d(*single, **settings, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        found = selective_scan_2d(*single, **settings, backend=backend)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_autocast_around_the_backward_pass_changes_no_gradient(backend: str) -> None:
    arguments, settings = make_arguments("shared input, own rates")
    single = [t.float() for t in arguments]
    expected = run(single, settings, backend)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(single, settings, backend)
    assert_close(found, [t.double() for t in expected], 1e-6)


def test_unknown_backend_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        DeviceError, match=r"'warp' is not known, expected one of .*torch, .*'auto'"
    ):
        chosen_backend("warp")


@pytest.mark.parametrize(("backend", "dtype"), [("warp", "float32"), ("cpp", "float64")])
def test_a_refusal_tries_no_other_backend(
    backend: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: ScanBackend, device: torch.device) -> None:
        pytest.fail(f"{self.module} was tried")

    monkeypatch.setattr(ScanBackend, "missing", missing)
    with pytest.raises(DeviceError, match=backend):
        chosen_backend(backend, dtype=getattr(torch, dtype))


def test_environment_variable_stands_in_for_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSSR_SCAN_BACKEND", "reference")
    assert chosen_backend() == "reference"
    assert chosen_backend("torch") == "torch"
    monkeypatch.setenv("PIXELSSR_SCAN_BACKEND", "warp")
    with pytest.raises(DeviceError, match="warp"):
        chosen_backend()


def test_every_backend_is_there_or_says_why_not() -> None:
    for name, reason in scan_backends().items():
        assert (reason is None) == (name in available_backends())
    assert {"torch", "reference"} <= set(available_backends())


@pytest.mark.parametrize("index", range(len(NAMES)))
def test_misshapen_arguments_are_refused(index: int) -> None:
    arguments, settings = make_arguments("odd and not square")
    arguments[index] = arguments[index][..., :-1] if index else arguments[index][:, :-1]
    with pytest.raises(SettingsError):
        selective_scan_2d(*arguments, **settings)


@pytest.mark.parametrize("index", range(len(NAMES)))
def test_a_missing_axis_is_refused(index: int) -> None:
    arguments, settings = make_arguments("odd and not square")
    arguments[index] = arguments[index][0]
    with pytest.raises(SettingsError, match=rf"'{NAMES[index]}' has shape .* axes"):
        selective_scan_2d(*arguments, **settings)


@pytest.mark.parametrize("index", range(1, len(NAMES)))
def test_a_tensor_on_another_device_is_refused(index: int) -> None:
    arguments, settings = make_arguments("odd and not square")
    arguments = [t.float() for t in arguments]
    arguments[index] = arguments[index].to("meta")
    with pytest.raises(SettingsError, match=rf"'{NAMES[index]}' lies on meta, expected cpu"):
        selective_scan_2d(*arguments, **settings)


@pytest.mark.parametrize("index", range(len(NAMES)))
def test_integers_are_refused(index: int) -> None:
    arguments, settings = make_arguments("one row")
    arguments[index] = arguments[index].long()
    with pytest.raises(SettingsError, match="expected floating point"):
        selective_scan_2d(*arguments, **settings)


@pytest.mark.parametrize("directions", [(8,), (-1,), (), (0.0,), (True,), ("0",), "0", 0, None])
def test_what_is_no_direction_is_refused(directions: object) -> None:
    arguments, settings = make_arguments("one direction")
    with pytest.raises(SettingsError, match="directions"):
        selective_scan_2d(*arguments, **settings | {"directions": directions})


@pytest.mark.parametrize(
    ("pixels", "inner", "states", "rank"), [(0, 2, 2, 1), (6, 0, 2, 1), (6, 2, 0, 1), (6, 2, 2, 0)]
)
def test_empty_axes_are_refused(pixels: int, inner: int, states: int, rank: int) -> None:
    arguments = [torch.ones(1, pixels, inner), torch.ones(1, pixels, 1, rank + 2 * states)]
    arguments += [torch.ones(1, inner, rank), -torch.ones(1, inner, states)]
    arguments += [torch.ones(1, inner), torch.ones(1, inner)]
    with pytest.raises(SettingsError):
        selective_scan_2d(*arguments, height=pixels // 3, width=3)


def test_negative_sizes_are_refused() -> None:
    arguments, settings = make_arguments("odd and not square")
    with pytest.raises(SettingsError, match="-9 x -13 pixels"):
        selective_scan_2d(*arguments, **settings | {"height": -9, "width": -13})


@pytest.mark.parametrize("backend", FAST)
def test_the_default_device_does_not_matter(backend: str) -> None:
    arguments, settings = make_arguments("diagonals")
    single = [t.float() for t in arguments]
    expected = run(single, settings, backend)
    walks._kept_walks.cache_clear()
    with torch.device("meta"):
        y = selective_scan_2d(*(t.requires_grad_() for t in single), **settings, backend=backend)
        with torch.device("cpu"):
            upstream = torch.linspace(-1, 1, y.numel()).view_as(y)
        found = [y.detach(), *torch.autograd.grad(y, single, upstream)]
    assert_close(found, [t.double() for t in expected], 1e-6)


def test_walks_first_made_in_inference_serve_training() -> None:
    walks._kept_walks.cache_clear()
    with torch.inference_mode():
        kept = walks.cached_walks((0, 3), 4, 5, device=torch.device("cpu"))
    assert not kept.pixel.is_inference()
    assert walks.cached_walks((0, 3), 4, 5, device=torch.device("cpu")) is kept
    steps = torch.arange(20).expand(2, -1)
    assert torch.equal(kept.step.gather(1, kept.pixel), steps)


def test_walks_of_large_images_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "_KEPT_PIXELS", 20)
    walks._kept_walks.cache_clear()
    for height, width in ((4, 5), (3, 7)):
        walks.cached_walks((0,), height, width, device=torch.device("cpu"))
    assert walks._kept_walks.cache_info().currsize == 1
