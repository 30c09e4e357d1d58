"""The default estimator on tensors says what NumPy says; the CPU stands in for a GPU."""

import logging
import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelssr_geo.estimator import (
    BlendedEstimator,
    Estimate,
    FeatureScale,
    FeatureSums,
    LibraryPrior,
    View,
    blend_library,
    fit_blend,
    fit_library,
)
from pixelssr_geo.estimator.device import STRIP_PAIRS, OnDevice, Strip, moved
from pixelssr_geo.estimator.kernel import COMPONENTS, KernelParameters, prior_parameters
from pixelssr_geo.estimator.surroundings import HALO
from pixelssr_geo.labels import Labels
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.spectra import ChannelGrid, get_sensor

CPU = torch.device("cpu")
SIDE = 48
COUNTS = (0, 3, 60, 300)
TOLERANCE = 1e-5  # of the brightest reflectance
PARAMETERS = {
    name: prior_parameters(COMPONENTS + 1, square=name == "none") for name in ("library", "none")
}


@dataclass(frozen=True)
class Site:
    """A scene with gaps, its truth, and estimators of it that NumPy runs."""

    values: NDArray[np.float32]
    truth: NDArray[np.float32]
    library: LibraryPrior
    scale: FeatureScale
    estimators: dict[int, BlendedEstimator]

    def view(self, row: int, col: int, height: int, width: int) -> View:
        around = self.values[:, row : row + height + 2 * HALO, col : col + width + 2 * HALO]
        return View(around, row, col)

    def labels(self, count: int) -> Labels:
        known = np.argwhere(np.isfinite(self.view(0, 0, SIDE, SIDE).inner[0]))
        rows, cols = known[np.random.default_rng(count).choice(len(known), count, False)].T
        side = 2 * HALO + 1
        around = np.stack(
            [self.values[:, y : y + side, x : x + side] for y, x in zip(rows, cols, strict=True)]
        )
        bands = self.values[:, rows + HALO, cols + HALO].T.astype("f8")
        return Labels(rows, cols, bands, self.truth[:, rows, cols].T.astype("f8"), around)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Tensors here are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def site() -> Site:
    landscape = make_landscape(SIDE, seed=0, channels=ChannelGrid.from_spec("400:1000:20"))
    response = get_sensor("GF6-PMS").matrix(landscape.channels)
    scene = np.einsum("bc,cyx->byx", response, landscape.cube)
    scene += 0.002 * np.random.default_rng(0).standard_normal(scene.shape)
    values = np.full((4, SIDE + 2 * HALO, SIDE + 2 * HALO), np.nan, "f4")
    values[:, HALO:-HALO, HALO:-HALO] = scene
    values[:, 20:23, 30:36] = np.nan
    library = fit_library(landscape.channels, response)
    sums = FeatureSums(np.nanmean(values, (1, 2), dtype="f8"))
    sums.add(View(values, 0, 0))
    scale = sums.scale()
    made = Site(values, landscape.cube, library, scale, {})
    for count in COUNTS:
        made.estimators[count] = fitted(made, count).widened(1.3)
    return made


def fitted(site: Site, count: int, parameters: Any = None) -> BlendedEstimator:
    if not count:
        return blend_library(site.library, site.scale)
    # Of many points the kernel is not fitted: that takes seconds and changes nothing here.
    known = PARAMETERS if count > 3 and parameters is None else parameters
    return fit_blend(site.labels(count), site.library, site.scale, parameters=known)


def assert_close(found: Estimate, expected: Estimate) -> None:
    size = float(np.nanmax(expected.mean))
    for name, scale in (("mean", size), ("deviation", size), ("extrapolation", 1.0)):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype == np.float32
        assert one.shape == other.shape
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other), err_msg=name)
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * scale, err_msg=name)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_tensors_give_what_arrays_give(site: Site, count: int, double: bool) -> None:
    estimator = site.estimators[count]
    view = site.view(0, 0, SIDE, SIDE)
    there = estimator.through_torch(CPU, double=double)
    expected, found = estimator.predict(view), there.predict(view)
    assert_close(found, expected)
    assert np.isnan(found.mean[0]).any()
    np.testing.assert_array_equal(there.mean(view), found.mean)


def test_every_kind_of_prior_mean_is_the_same_on_tensors(site: Site) -> None:
    means = site.estimators[3].means + site.estimators[60].means
    kinds = {type(mean).__name__ for mean in means}
    assert kinds == {"Ridge", "ShapeRegression", "ShapeMixture", "NoMean"}
    bands = site.labels(60).bands
    for mean in means:
        found: Any = moved(mean, CPU).predict(torch.tensor(bands))  # type: ignore[arg-type]
        np.testing.assert_allclose(found.numpy(), mean.predict(bands), rtol=1e-9, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_windows_of_any_shape_and_gaps_are_the_same_on_tensors(
    site: Site, data: st.DataObject
) -> None:
    row, col, height, width = (data.draw(st.integers(1, 20)) for _ in range(4))
    view = site.view(row, col, height, width)
    gaps = np.random.default_rng(data.draw(st.integers(0, 99))).random(view.values.shape[1:])
    values = view.values.copy()
    values[:, gaps < data.draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    view = replace(view, values=values)
    count = data.draw(st.sampled_from(COUNTS[:3]))
    estimator = site.estimators[count]
    found = estimator.through_torch(CPU).predict(view)
    for name in ("mean", "deviation", "extrapolation"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(estimator.predict(view), name), rtol=1e-4, atol=TOLERANCE
        )


def test_a_pixel_hardly_depends_on_the_window_that_it_is_computed_in(site: Site) -> None:
    there = site.estimators[60].through_torch(CPU)
    whole = there.predict(site.view(0, 0, SIDE, SIDE))
    part = there.predict(site.view(7, 11, 30, 25))
    for name in ("mean", "deviation", "extrapolation"):
        cut = getattr(whole, name)[..., 7:37, 11:36]
        np.testing.assert_allclose(getattr(part, name), cut, rtol=0, atol=1e-6, err_msg=name)


def test_the_cube_still_agrees_with_the_scene(site: Site) -> None:
    view = site.view(0, 0, SIDE, SIDE)
    cube = site.estimators[60].through_torch(CPU).mean(view).astype("f8")
    seen = np.einsum("bc,cyx->byx", site.library.projection.response, cube)
    np.testing.assert_allclose(seen, view.inner, rtol=0, atol=1e-6)


def test_on_a_cpu_numpy_computes(site: Site) -> None:
    estimator = site.estimators[3]
    there = estimator.through_torch(CPU)
    view = site.view(4, 4, 9, 9)
    for device in (None, CPU):
        back = there.on(device)
        assert back.elsewhere is None
        np.testing.assert_array_equal(back.mean(view), estimator.mean(view))


def test_it_pickles_before_it_is_moved_and_after_it_came_back(site: Site) -> None:
    estimator = site.estimators[60]
    view = site.view(4, 4, 9, 9)
    moved_there = estimator.through_torch(CPU)
    expected = estimator.mean(view)
    for one in (estimator, moved_there.on(None)):
        copy = pickle.loads(pickle.dumps(one))
        np.testing.assert_array_equal(copy.mean(view), expected)
        again = copy.through_torch(CPU)
        np.testing.assert_array_equal(again.mean(view), moved_there.mean(view))


def test_what_it_says_of_labels_does_not_change(site: Site) -> None:
    labels = site.labels(60)
    estimator = site.estimators[60]
    there = estimator.through_torch(CPU)
    np.testing.assert_array_equal(there.at(labels), estimator.at(labels))
    np.testing.assert_array_equal(there.deviation_at(labels), estimator.deviation_at(labels))
    np.testing.assert_array_equal(there.left_out, estimator.left_out)


@pytest.mark.parametrize("count", [0, 60])
def test_a_moved_estimator_can_be_widened(site: Site, count: int) -> None:
    view = site.view(4, 4, 12, 9)
    there = site.estimators[count].through_torch(CPU, double=True)
    wider = there.widened(2.0)
    assert wider.elsewhere is not None
    assert wider.elsewhere.double
    np.testing.assert_allclose(
        wider.predict(view).deviation, 2 * there.predict(view).deviation, rtol=1e-6
    )


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let the device hold so many pixels; gives the numbers that are tried."""
    tried: list[int] = []
    original = OnDevice._on_tensors

    def small_device(self: OnDevice, strip: View, **asked: Any) -> Any:
        tried.append(strip.inner[0].numel())  # type: ignore[attr-defined]
        if tried[-1] > most:
            raise torch.OutOfMemoryError("the device is full")
        return original(self, strip, **asked)

    monkeypatch.setattr(OnDevice, "_on_tensors", small_device)
    return tried


def test_where_memory_lacks_half_as_many_pixels_go_at_a_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there = site.estimators[60].through_torch(CPU)
    view = site.view(0, 0, 40, 16)
    expected = there.predict(view)
    tried = limited(monkeypatch, 200)
    with caplog.at_level(logging.WARNING):
        found = there.predict(view)
        again = there.predict(view)
    assert tried == [640, 320, 160, 160, 160, 160, 160, 160, 160, 160]
    assert [record.getMessage() for record in caplog.records] == [
        "memory does not suffice for 640 pixels: 320 from now on",
        "memory does not suffice for 320 pixels: 160 from now on",
    ]
    for one in (found, again):
        np.testing.assert_allclose(one.mean, expected.mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.deviation, expected.deviation, rtol=0, atol=1e-6)


def test_without_memory_for_a_row_it_gives_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    there = site.estimators[60].through_torch(CPU)
    tried = limited(monkeypatch, 15)
    with pytest.raises(torch.OutOfMemoryError):
        there.mean(site.view(0, 0, 4, 16))
    assert tried == [64, 32, 16]


def test_more_points_leave_room_for_fewer_pixels(site: Site) -> None:
    few, many = site.estimators[60], site.estimators[300]
    assert OnDevice.of(few, CPU, double=False).strip.pixels == 1 << 16
    process = many.process
    assert process is not None
    points = process.points.take(np.arange(300).repeat(10))
    crowd = replace(many, process=replace(process, points=points))
    assert OnDevice.of(crowd, CPU, double=False).strip == Strip(STRIP_PAIRS // 3000)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_nothing_leaves_the_device_before_the_end(
    site: Site, count: int, double: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors on the meta device have no values: what asks for one, or mixes devices, fails."""
    # A weight of the kernel is compared with zero, which is worth the wait.
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda _: True)
    meta = torch.device("meta")
    there = OnDevice.of(site.estimators[count], meta, double=double)
    strip = moved(site.view(0, 0, 12, 10), meta)
    mean, told = there._on_tensors(strip, whole=True)
    assert told is not None
    assert mean.shape == (31, 120)
    assert {str(tensor.device) for tensor in (mean, *told)} == {"meta"}  # type: ignore[attr-defined]


def test_moving_leaves_what_is_no_array_alone() -> None:
    parameters = KernelParameters(np.zeros(8), np.ones(3, "f4"), np.arange(3))
    found: Any = moved((parameters, "text", None), CPU, double=True)
    assert found[1:] == ("text", None)
    kinds = [getattr(found[0], name).dtype for name in ("weights", "lengths", "noise")]
    assert kinds == [torch.float64, torch.float64, torch.int64]
