"""Features of a pixel: as a plain loop gives them, the same in whatever window."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelssr_geo.estimator import HALO, FeatureScale, FeatureSums, View
from pixelssr_geo.estimator.surroundings import PixelFeatures, label_features, view_features
from pixelssr_geo.labels import Labels

Image = NDArray[np.float32]
TABLES = ("bands", "levels", "context", "differences", "rows", "cols")


def make_scene(
    shape: tuple[int, int, int] = (3, 17, 21), *, holes: int = 25, seed: int = 0
) -> Image:
    """Smooth and noisy at once, with single pixels and whole corners of no data."""
    draws = np.random.default_rng(seed)
    _, height, width = shape
    slope = np.linspace(0.5, 1.5, width) * np.linspace(1.2, 0.8, height)[:, None]
    scene = 0.2 * slope + 0.05 * draws.standard_normal(shape)
    scene[:, draws.integers(0, height, holes), draws.integers(0, width, holes)] = np.nan
    if holes:
        scene[:, :5, -6:] = np.nan
        scene[1, -1, 0] = np.nan  # a single band is enough
        scene[0, -1, 3] = np.inf
    return scene.astype("f4")


def cut(scene: Image, row: int, col: int, height: int, width: int) -> View:
    """A window with what lies around it, NaN outside."""
    margins = ((0, 0), (HALO, HALO), (HALO, HALO))
    padded = np.pad(scene, margins, constant_values=np.nan)
    inside = padded[:, row : row + height + 2 * HALO, col : col + width + 2 * HALO]
    return View(inside, row, col)


def whole(scene: Image) -> View:
    return cut(scene, 0, 0, *scene.shape[1:])


def level_of(scene: Image) -> NDArray[np.float64]:
    known = np.isfinite(scene).all(0)
    return scene[:, known].astype("f8").mean(1)


def around(
    scene: NDArray[np.float64], row: int, col: int, reach: int
) -> list[tuple[int, int, NDArray[np.float64] | None]]:
    """The pixels of a box, None where there is no data or the scene ends."""
    found = []
    for dy, dx in product(range(-reach, reach + 1), repeat=2):
        y, x = row + dy, col + dx
        inside = 0 <= y < scene.shape[1] and 0 <= x < scene.shape[2]
        known = inside and np.isfinite(scene[:, y, x]).all()
        found.append((dy, dx, scene[:, y, x] if known else None))
    return found


def plain_features(scene: Image, level: NDArray[np.float64], row: int, col: int) -> list[float]:
    """Levels, context and differences of one pixel, by loops in float64."""
    exact = scene.astype("f8")

    def levels(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(np.maximum(1 + values / level, 0.1))

    here = exact[:, row, col]
    known = bool(np.isfinite(here).all())
    nothing = np.zeros(len(scene))
    features = [levels(here) if known else nothing]
    for size in (3, 9):
        box = [levels(v) for *_, v in around(exact, row, col, size // 2) if v is not None]
        features += [np.mean(box, 0), np.std(box, 0)] if box else [nothing, nothing]
    for dy, dx, values in around(exact, row, col, 1):
        if (dy, dx) != (0, 0):
            features.append(values - here if known and values is not None else nothing)
    return np.concatenate(features).tolist()


def stacked(features: PixelFeatures) -> NDArray[np.float32]:
    return np.concatenate([features.levels, features.context, features.differences])


@pytest.mark.parametrize("holes", [0, 25, 200])
def test_levels_boxes_and_differences_are_those_of_a_plain_loop(holes: int) -> None:
    scene = make_scene(holes=holes)
    level = level_of(scene)
    found = view_features(whole(scene), level)
    _, height, width = scene.shape
    expected = [plain_features(scene, level, y, x) for y, x in product(range(height), range(width))]
    np.testing.assert_allclose(stacked(found), np.transpose(expected), atol=2e-4)
    known = np.isfinite(scene).all(0)
    np.testing.assert_array_equal(found.bands, np.where(known, scene, 0).reshape(3, -1))
    np.testing.assert_array_equal(found.rows, np.repeat(np.arange(height), width))
    np.testing.assert_array_equal(found.cols, np.tile(np.arange(width), height))


def test_bands_far_below_zero_have_a_level() -> None:
    scene = np.full((1, 9, 9), -0.5, "f4")
    found = view_features(whole(scene), np.array([0.1]))
    np.testing.assert_allclose(found.levels, np.log(0.1), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 16),
    col=st.integers(0, 20),
    height=st.integers(1, 17),
    width=st.integers(1, 21),
    holes=st.sampled_from([0, 25]),
)
def test_a_pixel_has_the_same_features_in_whatever_window(
    row: int, col: int, height: int, width: int, holes: int
) -> None:
    scene = make_scene(holes=holes)
    level = level_of(scene)
    height, width = min(height, 17 - row), min(width, 21 - col)
    whole_scene = view_features(whole(scene), level)
    window = view_features(cut(scene, row, col, height, width), level)
    inside = np.zeros((17, 21), bool)
    inside[row : row + height, col : col + width] = True
    for name in TABLES:
        part = getattr(whole_scene, name)[..., inside.ravel()]
        np.testing.assert_array_equal(getattr(window, name), part, err_msg=name)


def test_rows_of_a_window_are_the_window_of_these_rows() -> None:
    scene = make_scene()
    found, expected = cut(scene, 2, 3, 11, 9).rows(4, 7), cut(scene, 6, 3, 3, 9)
    assert (found.row, found.col, found.halo) == (6, 3, HALO)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.inner, scene[:, 6:9, 3:12])


def test_labels_have_the_features_of_their_pixels() -> None:
    scene = make_scene()
    level = level_of(scene)
    rows, cols = np.array([0, 16, 3, 9, 9]), np.array([0, 20, 14, 11, 11])
    surroundings = np.stack(
        [cut(scene, y, x, 1, 1).values for y, x in zip(rows, cols, strict=True)]
    )
    labels = Labels(rows, cols, scene[:, rows, cols].T.astype("f8"), np.zeros((5, 2)), surroundings)
    whole_scene, found = view_features(whole(scene), level), label_features(labels, level)
    for name in TABLES:
        part = getattr(whole_scene, name)[..., rows * scene.shape[2] + cols]
        np.testing.assert_array_equal(getattr(found, name), part, err_msg=name)


def test_a_pixel_without_data_is_seen_through_the_boxes_alone() -> None:
    scene = make_scene(holes=0)
    holed = scene.copy()
    holed[1, 8, 10] = np.nan
    level = level_of(scene)
    before, after = (view_features(whole(image), level) for image in (scene, holed))

    def changed(name: str) -> NDArray[np.bool_]:
        return (getattr(before, name) != getattr(after, name)).any(0).reshape(17, 21)

    own, near, far = (np.zeros((17, 21), bool) for _ in range(3))
    own[8, 10] = near[7:10, 9:12] = far[4:13, 6:15] = True
    for name, reach in (("bands", own), ("levels", own), ("differences", near), ("context", far)):
        assert not (changed(name) & ~reach).any(), name
    # What was filled in for it does not matter: it only lacks.
    towards = after.differences.reshape(8, 3, 17, 21)[:, :, 7:10, 9:12]
    assert (towards.reshape(8, 3, 9)[np.arange(8), :, [8, 7, 6, 5, 3, 2, 1, 0]] == 0).all()
    assert (towards[:, :, 1, 1] == 0).all()


@pytest.mark.parametrize("unit", [1e4, 1e-3])
def test_levels_and_boxes_do_not_depend_on_the_unit(unit: float) -> None:
    scene = make_scene()
    level = level_of(scene)
    one = view_features(whole(scene), level)
    other = view_features(whole((scene * unit).astype("f4")), level * unit)
    np.testing.assert_allclose(other.levels, one.levels, atol=1e-6)
    np.testing.assert_allclose(other.context, one.context, atol=2e-4)
    np.testing.assert_allclose(
        other.differences, one.differences * unit, rtol=2e-5, atol=unit * 1e-7
    )


def added(scene: Image, *windows: tuple[int, int, int, int]) -> FeatureSums:
    sums = FeatureSums(level_of(scene))
    for window in windows:
        sums.add(cut(scene, *window))
    return sums


def arrays_of(scale: FeatureScale) -> list[NDArray[np.float64]]:
    return [scale.level, *scale.bands, *scale.levels, *scale.context, scale.differences]


QUARTERS = ((0, 0, 8, 10), (0, 10, 8, 11), (8, 0, 9, 10), (8, 10, 9, 11))


def test_the_scale_is_mean_and_deviation_over_the_pixels_with_data() -> None:
    scene = make_scene()
    level, known = level_of(scene), np.isfinite(scene).all(0).ravel()
    features = view_features(whole(scene), level)
    scale = added(scene, (0, 0, 17, 21)).scale()
    for name in ("bands", "levels", "context"):
        table = getattr(features, name)[:, known].astype("f8")
        mean, deviation = getattr(scale, name)
        np.testing.assert_allclose(mean, table.mean(1), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(deviation, table.std(1), rtol=1e-6)
    squares = features.differences[:, known].astype("f8") ** 2
    np.testing.assert_allclose(scale.differences, np.sqrt(squares.mean(1)), rtol=1e-6)
    assert scale.brightness == pytest.approx(level.mean(), rel=1e-6)


def test_the_scale_does_not_depend_on_the_windows() -> None:
    scene = make_scene()
    one = added(scene, (0, 0, 17, 21)).scale()
    four = added(scene, *QUARTERS).scale()
    for a, b in zip(arrays_of(one), arrays_of(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_merged_sums_are_those_of_one_after_the_other() -> None:
    scene = make_scene()
    expected, merged = added(scene, *QUARTERS), FeatureSums(level_of(scene))
    for window in QUARTERS:
        merged.merge(added(scene, window))
    assert merged.count == expected.count == np.isfinite(scene).all(0).sum()
    for a, b in zip(arrays_of(merged.scale()), arrays_of(expected.scale()), strict=True):
        np.testing.assert_array_equal(a, b)
    assert merged.scale().texture == expected.scale().texture


def test_nothing_leaves_features_as_they_are() -> None:
    sums = FeatureSums(np.array([0.1, 0.2]))
    sums.add(View(np.full((2, 12, 12), np.nan, "f4"), 0, 0))
    sums.merge(FeatureSums(np.array([0.1, 0.2])))
    scale = sums.scale()
    for mean, deviation in (scale.bands, scale.levels, scale.context):
        assert (mean == 0).all()
        assert (deviation == 1).all()
    assert (scale.differences == 1).all()
    assert scale.texture == 0
    assert scale.least_brightness > 0


def test_a_constant_scene_divides_by_no_zero() -> None:
    scene = np.full((3, 17, 21), 0.25, "f4")
    scale = added(scene, (0, 0, 17, 21)).scale()
    assert all(np.isfinite(values).all() for values in arrays_of(scale))
    assert (scale.bands[1] == 1).all()
    assert (scale.differences == 1).all()
    assert scale.least_brightness == pytest.approx(0.02 * 0.25)


def test_the_texture_is_little_more_than_the_noise() -> None:
    draws = np.random.default_rng(0)
    scene = np.full((4, 60, 60), 0.3)
    scene[:, :, 30:] += 0.1 * draws.standard_normal((4, 60, 30))  # half of it has a strong texture
    scene += 0.01 * draws.standard_normal(scene.shape)
    scale = added(scene.astype("f4"), (0, 0, 60, 60)).scale()
    assert 0.005 < scale.texture < 0.012
    # The mean of four bands has half the noise; three times that is safe to divide by.
    assert scale.least_brightness == pytest.approx(max(1.5 * scale.texture, 0.02 * 0.3), rel=0.05)
