"""The default estimator on a CUDA device says what NumPy says."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelssr_geo.estimator import View
from pixelssr_geo.estimator.device import STRIP_PIXELS
from pixelssr_geo.estimator.surroundings import HALO
from pixelssr_geo.nets import precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"
CUDA = torch.device("cuda")
NAMES = ("mean", "deviation", "extrapolation")


@pytest.fixture(scope="module")
def script() -> Any:
    """The benchmark, which makes estimators with torch and numpy alone."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def cut(view: View, row: int, col: int, height: int, width: int) -> View:
    rows, cols = slice(row, row + height + 2 * HALO), slice(col, col + width + 2 * HALO)
    return View(view.values[:, rows, cols], view.row + row, view.col + col)


def assert_alike(found: Any, expected: Any) -> None:
    for name in NAMES:
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("count", [0, 3, 60, 300])
def test_an_estimate_on_cuda_equals_the_cpu(script: Any, count: int, double: bool) -> None:
    estimator, view = script.made_estimator(count, 100)
    view.values[:, 30:34, 50:60] = np.nan
    expected, found = estimator.predict(view), estimator.on(CUDA, double=double).predict(view)
    assert_alike(found, expected)


def test_a_pixel_on_cuda_hardly_depends_on_its_window(script: Any) -> None:
    estimator, view = script.made_estimator(60, 300)
    there = estimator.on(CUDA)
    whole, part = there.predict(view), there.predict(cut(view, 41, 17, 130, 207))
    for name in NAMES:
        same = getattr(whole, name)[..., 41:171, 17:224]
        np.testing.assert_allclose(getattr(part, name), same, rtol=0, atol=1e-6, err_msg=name)


def test_products_that_a_network_rounds_leave_the_estimate_alone(script: Any) -> None:
    estimator, view = script.made_estimator(60, 100)
    expected = estimator.on(CUDA).predict(view)
    with precision.products_in("tf32", CUDA):
        assert_alike(estimator.on(CUDA, double=True).predict(view), expected)


def test_products_that_the_user_had_rounded_are_not(script: Any) -> None:
    estimator, view = script.made_estimator(60, 100)
    expected = estimator.on(CUDA).predict(view)
    places = precision._settings()
    before = [getattr(place, name) for place, name, *_ in places]
    try:
        for place, name, _, rounded in places:
            setattr(place, name, rounded)
        assert_alike(estimator.on(CUDA).predict(view), expected)
    finally:
        for (place, name, *_), value in zip(places, before, strict=True):
            setattr(place, name, value)


def test_where_the_devices_memory_lacks_fewer_pixels_go_at_a_time(script: Any) -> None:
    estimator, view = script.made_estimator(300, 400)
    there = estimator.on(CUDA)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    few = there.predict(cut(view, 0, 0, 40, 400))
    room = torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2 * room))
    try:
        found = there.predict(view)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert there.elsewhere.strip.pixels < STRIP_PIXELS
    np.testing.assert_allclose(found.mean[:, :40], few.mean, rtol=0, atol=1e-6)
