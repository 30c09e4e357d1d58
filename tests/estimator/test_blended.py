"""The default estimator: what it promises, and how good it is on a real scene."""

import pickle
import warnings
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelssr_geo.estimator import (
    HALO,
    BlendedEstimator,
    blend_library,
    blended,
    fit_blend,
    fit_library,
    means,
)
from pixelssr_geo.estimator.kernel import KernelParameters
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse
from pixelssr_geo.tiling.plan import Window

Array = NDArray[np.float64]
COUNTS = [0, 1, 2, 4, 5, 12, 50]
MEMBERS = ("library", "shape", "mixture", "none", "linear", "quadratic")
"""Means whose left-out errors are closed forms."""


def fitted(site: Any, count: int) -> BlendedEstimator:
    """The estimator at the first points, fitted once for all tests of this module."""
    if count not in fitted.known:
        made = site.fit(count) if count else blend_library(site.library, site.scale)
        fitted.known[count] = made
    return fitted.known[count]


fitted.known = {}


def resimulated(site: Any, cube: NDArray[np.float32]) -> Array:
    return np.einsum("bc,cyx->byx", site.library.projection.response, cube.astype("f8"))


def alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let one mean have all the weight."""

    def weights(errors: Array, trust: Array) -> Array:
        del errors
        chosen = np.zeros(len(trust))
        names = ["library", "shape", "mixture", "gains", "none", "linear", "quadratic"]
        chosen[names.index(name)] = 1
        return chosen

    monkeypatch.setattr(blended, "blend_weights", weights)


class TestAnyNumberOfPoints:
    @pytest.mark.parametrize("count", COUNTS)
    def test_the_cube_is_finite_and_re_simulates_the_scene(self, site, count):
        estimator = fitted(site, count)
        found = estimator.predict(site.view())
        assert found.mean.dtype == found.deviation.dtype == found.extrapolation.dtype == np.float32
        assert found.mean.shape == found.deviation.shape == site.truth.shape
        assert found.extrapolation.shape == site.truth.shape[1:]
        for values in (found.mean, found.deviation, found.extrapolation):
            assert np.isfinite(values).all()
        np.testing.assert_allclose(resimulated(site, found.mean), site.scene, atol=1e-6)
        assert (found.deviation > 0).all()
        assert (found.extrapolation >= 0).all()
        assert estimator.left_out.shape == (count, len(site.truth))
        assert estimator.halo == (HALO if count else 0)

    @pytest.mark.parametrize("count", COUNTS)
    def test_weights_are_shares_of_means_that_are_computed(self, site, count):
        estimator = fitted(site, count)
        assert sum(estimator.weights.values()) == pytest.approx(1)
        kept = [weight for weight in estimator.weights.values() if weight > 0]
        assert list(estimator.shares) == kept
        assert len(estimator.means) == len(kept)
        expected = {"library", "shape", "mixture"}
        expected |= {"gains"} if count else set()
        expected |= {"none"} if count >= 5 else set()
        expected |= {"linear", "quadratic"} if count >= 50 else set()
        assert set(estimator.weights) == expected

    @pytest.mark.parametrize("count", COUNTS)
    def test_the_mean_alone_is_that_of_the_whole_estimate(self, site, count):
        estimator = fitted(site, count)
        whole = estimator.predict(site.view())
        np.testing.assert_array_equal(estimator.mean(site.view()), whole.mean)

    @pytest.mark.parametrize("count", COUNTS[1:])
    def test_at_a_point_it_says_what_the_cube_has_there(self, site, count):
        estimator, labels = fitted(site, count), site.labels(count)
        found = estimator.predict(site.view())
        at = np.s_[:, labels.rows, labels.cols]
        np.testing.assert_allclose(estimator.at(labels), found.mean[at].T, atol=1e-5)
        deviation = estimator.deviation_at(labels)
        np.testing.assert_allclose(deviation, found.deviation[at].T, rtol=1e-3, atol=1e-6)

    def test_without_points_it_says_at_a_pixel_what_the_cube_has_there(self, site):
        estimator, labels = fitted(site, 0), site.labels(9)
        found = estimator.predict(site.view())
        at = np.s_[:, labels.rows, labels.cols]
        np.testing.assert_allclose(estimator.at(labels), found.mean[at].T, atol=1e-5)
        np.testing.assert_allclose(estimator.deviation_at(labels), found.deviation[at].T, rtol=1e-6)

    def test_points_help(self, site):
        figures = [site.psnr(fitted(site, count)) for count in (0, 5, 50)]
        assert figures[1] > figures[0] + 0.3
        assert figures[2] > figures[1] + 1

    @pytest.mark.parametrize("count", [0, 4, 50])
    def test_a_pickled_one_estimates_the_same(self, site, count):
        estimator = fitted(site, count)
        again = pickle.loads(pickle.dumps(estimator))
        one, other = (found.predict(site.view()) for found in (estimator, again))
        for name in ("mean", "deviation", "extrapolation"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    def test_the_same_points_give_the_same_to_the_last_bit(self, site):
        again = site.fit(12)
        np.testing.assert_array_equal(again.mean(site.view()), fitted(site, 12).mean(site.view()))


class TestWindows:
    @settings(max_examples=25, deadline=None)
    @given(
        row=st.integers(0, 71),
        col=st.integers(0, 71),
        height=st.integers(1, 72),
        width=st.integers(1, 72),
        count=st.sampled_from([0, 4, 50]),
    )
    def test_a_window_is_part_of_the_whole_to_the_last_bit(
        self, site, row, col, height, width, count
    ):
        estimator = fitted(site, count)
        if ("whole", count) not in fitted.known:
            fitted.known["whole", count] = estimator.predict(site.view())
        whole = fitted.known["whole", count]
        window = Window(row, col, min(height, 72 - row), min(width, 72 - col))
        part = estimator.predict(site.view(window, estimator.halo))
        np.testing.assert_array_equal(part.mean, whole.mean[:, *window.slices])
        np.testing.assert_array_equal(part.deviation, whole.deviation[:, *window.slices])
        np.testing.assert_array_equal(part.extrapolation, whole.extrapolation[window.slices])
        mean = estimator.mean(site.view(window, estimator.halo))
        np.testing.assert_array_equal(mean, part.mean)

    @pytest.mark.parametrize("count", [0, 12])
    def test_strips_do_not_show(self, site, monkeypatch, count):
        estimator = fitted(site, count)
        whole = estimator.predict(site.view())
        monkeypatch.setattr(blended, "STRIP_PIXELS", 100)
        strips = estimator.predict(site.view())
        np.testing.assert_array_equal(strips.mean, whole.mean)
        np.testing.assert_array_equal(strips.deviation, whole.deviation)

    @pytest.mark.parametrize("count", [0, 4, 50])
    def test_without_data_there_is_no_estimate(self, site, count):
        scene = site.scene.copy()
        scene[:, 20:30, 40:60] = np.nan
        scene[2, 5, 6] = np.nan
        hole = np.isnan(scene).any(0)
        holed = replace(site, scene=scene)
        found = fitted(site, count).predict(holed.view())
        for values in (*found.mean, *found.deviation, found.extrapolation):
            np.testing.assert_array_equal(np.isnan(values), hole)

    def test_what_is_more_than_four_pixels_from_a_hole_stays_to_the_last_bit(self, site):
        scene = site.scene.copy()
        scene[1, 30, 40] = np.nan
        holed = replace(site, scene=scene)
        before, after = (fitted(site, 50).predict(one.view()) for one in (site, holed))
        near = np.zeros(scene.shape[1:], bool)
        near[26:35, 36:45] = True
        for name in ("mean", "deviation"):
            one, other = getattr(before, name), getattr(after, name)
            np.testing.assert_array_equal(one[:, ~near], other[:, ~near])
        near[30, 40] = False
        change = np.abs(after.mean - before.mean)[:, near]
        assert 0 < change.max() < 0.05

    def test_nodata_alone_gives_nodata_alone(self, site):
        nothing = replace(site, scene=np.full_like(site.scene, np.nan))
        for count in (0, 12):
            found = fitted(site, count).predict(nothing.view())
            assert np.isnan(found.mean).all()
            assert np.isnan(found.deviation).all()


class TestLeftOutErrors:
    @pytest.mark.parametrize(
        ("name", "count"),
        [*product(("library", "shape", "mixture", "none"), (7, 20)), *product(MEMBERS, (55,))],
    )
    def test_they_are_those_of_a_fit_without_the_point(self, site, monkeypatch, name, count):
        alone(monkeypatch, name)
        labels, projection = site.labels(count), site.library.projection
        parameters = site.fit(count).parameters
        if count >= 12:
            # Components turn with the point that is left out; what does not depend on them is the
            # same noise for all.
            parameters = {
                served: KernelParameters(
                    found.weights, found.lengths, np.full_like(found.noise, found.noise.mean())
                )
                for served, found in parameters.items()
            }
        whole = fit_blend(labels, site.library, site.scale, parameters=parameters)
        for out in (0, 3, count - 1):
            kept = np.arange(count) != out
            fewer = fit_blend(labels.take(kept), site.library, site.scale, parameters=parameters)
            missed = labels.take(~kept)
            error = projection.null_part(missed.spectra - fewer.at(missed))[0]
            size = np.abs(whole.left_out).max()
            if name in ("linear", "quadratic"):
                # Features are standardised by the points themselves, and the strength is theirs.
                np.testing.assert_allclose(whole.left_out[out], error, atol=0.1 * size)
            else:
                np.testing.assert_allclose(whole.left_out[out], error, atol=2e-4 * size)

    def test_no_band_sees_them(self, site):
        errors = fitted(site, 50).left_out
        seen = errors @ site.library.projection.response.T
        assert np.abs(seen).max() < 1e-12

    def test_few_points_refit_the_gains_that_they_share(self, site, monkeypatch):
        alone(monkeypatch, "gains")
        for count, same in ((6, False), (31, True)):
            refitted = site.fit(count)
            with monkeypatch.context() as patch:
                patch.setattr(blended, "GAIN_LABELS", 0)
                closed = site.fit(count, parameters=refitted.parameters)
            equal = np.allclose(refitted.left_out, closed.left_out)
            assert equal is same
        # One at a time with six points: as if it had never been there.
        labels, six = site.labels(6), site.fit(6)
        kept = np.arange(6) != 2
        fewer = fit_blend(labels.take(kept), site.library, site.scale, parameters=six.parameters)
        missed = labels.take(~kept)
        error = site.library.projection.null_part(missed.spectra - fewer.at(missed))[0]
        size = np.abs(six.left_out).max()
        np.testing.assert_allclose(six.left_out[2], error, atol=2e-4 * size)

    def test_they_foretell_the_error_elsewhere(self, site):
        estimator = fitted(site, 50)
        error = np.sqrt(((estimator.mean(site.view()) - site.truth) ** 2).mean())
        foretold = np.sqrt((estimator.left_out**2).mean())
        assert 0.5 < foretold / error < 2


class TestDeviation:
    @pytest.mark.parametrize("count", [4, 50])
    def test_it_is_smaller_at_the_points_and_grows_away_from_them(self, site, count):
        estimator, labels = fitted(site, count), site.labels(count)
        everywhere = estimator.predict(site.view()).deviation.mean()
        here = estimator.deviation_at(labels).mean()
        assert here < 0.9 * everywhere
        strange = replace(
            labels,
            bands=3 * labels.bands,
            rows=labels.rows + 500,
            surroundings=3 * labels.surroundings[:, :, ::-1],
        )
        assert estimator.deviation_at(strange).mean() > 1.5 * everywhere

    def test_it_is_of_the_size_of_the_error(self, site):
        found = fitted(site, 50).predict(site.view())
        error = np.sqrt(((found.mean - site.truth) ** 2).mean())
        stated = np.sqrt((found.deviation.astype("f8") ** 2).mean())
        assert 0.4 < stated / error < 2.5

    @pytest.mark.parametrize("count", [0, 12])
    def test_it_can_be_widened(self, site, count):
        estimator, labels = fitted(site, count), site.labels(5)
        wide = estimator.widened(1.5).widened(2)
        before, after = (one.predict(site.view()) for one in (estimator, wide))
        np.testing.assert_allclose(after.deviation, 3 * before.deviation, rtol=1e-6)
        np.testing.assert_array_equal(after.mean, before.mean)
        at = estimator.deviation_at(labels)
        np.testing.assert_allclose(wide.deviation_at(labels), 3 * at, rtol=1e-6)

    def test_it_is_that_of_a_plain_gaussian_process(self, site, monkeypatch):
        """With one prior mean and one noise: variance K** + noise - k' (K + noise)^-1 k."""
        alone(monkeypatch, "library")
        labels = site.labels(9)
        estimator = site.fit(9)
        process, parameters = estimator.process, estimator.parameters["library"]
        others = site.labels_at(np.array([3, 40, 71]), np.array([66, 2, 30]))
        points, there = (
            blended.kernel_inputs(blended.label_features(one, site.scale.level), site.scale)
            for one in (labels, others)
        )
        kernel = blended.Distances.between(points, points).kernel(parameters)
        cross = blended.Distances.between(points, there).kernel(parameters)
        before = np.diag(blended.Distances.between(there, there).kernel(parameters))
        noise = np.exp(parameters.noise[0])
        noisy = kernel + noise * np.eye(9)
        left = before + noise - (cross * np.linalg.solve(noisy, cross)).sum(0)
        library = site.library
        bare = library.projection(library.regression.predict(labels.bands), labels.bands)
        residual = library.projection.null_part(labels.spectra - bare)
        energy = (residual * np.linalg.solve(noisy, residual)).sum(0)
        prior = blended.LIBRARY_POINTS * library.error**2
        sizes = (energy + prior) / (9 + blended.LIBRARY_POINTS)
        expected = np.sqrt(left[:, None] * sizes)
        np.testing.assert_allclose(estimator.deviation_at(others), expected, rtol=2e-3)
        # And the mean with it.
        mean = library.projection(library.regression.predict(others.bands), others.bands)
        mean = mean + cross.T @ np.linalg.solve(noisy, residual)
        np.testing.assert_allclose(estimator.at(others), mean, atol=1e-5)
        assert process is not None

    def test_ground_beyond_all_points_is_extrapolation(self, site):
        scene = site.scene.copy()
        scene[:, 30:40, 30:40] += 3 * site.scene.max()
        found = fitted(site, 50).predict(replace(site, scene=scene).view()).extrapolation
        assert found[30:40, 30:40].min() > 1
        labels = site.labels(50)
        known = fitted(site, 50).predict(site.view()).extrapolation
        assert (known[labels.rows, labels.cols] < 1e-3).all()
        assert np.median(known) < 0.1

    def test_without_points_ground_beyond_the_library_is_extrapolation(self, site):
        scene = site.scene.copy()
        scene[:, 30:40, 30:40] += 3
        found = fitted(site, 0).predict(replace(site, scene=scene).view()).extrapolation
        assert found[30:40, 30:40].min() > 1
        assert fitted(site, 0).predict(site.view()).extrapolation.max() < 0.5

    @pytest.mark.parametrize("name", ["none", "quadratic"])
    def test_it_is_told_where_no_library_has_weight(self, site, monkeypatch, name):
        alone(monkeypatch, name)
        found = site.fit(50)
        stated = found.deviation_at(site.labels(50))
        np.testing.assert_array_less(0, stated)
        assert stated.mean() < 0.1


class TestStrangeScenes:
    @pytest.mark.parametrize("count", [1, 4, 12, 50])
    def test_points_that_are_there_twice_do_not_break_it(self, site, count):
        labels = site.labels(count)
        twice = labels.take(np.arange(2 * count) % count)
        found = fit_blend(twice, site.library, site.scale)
        estimate = found.predict(site.view())
        assert np.isfinite(estimate.mean).all()
        assert np.isfinite(estimate.deviation).all()
        # They look as if nothing were noise, and a left-out point as if it were known.
        assert site.psnr(found) > site.psnr(fitted(site, count)) - 3

    @pytest.mark.parametrize("count", [0, 1, 4, 12, 50])
    def test_a_constant_scene_divides_by_no_zero(self, site, count):
        flat = np.broadcast_to(site.scene.mean((1, 2))[:, None, None], site.scene.shape)
        constant = type(site).of(flat, site.truth, site.library, site.places)
        estimator = (
            constant.fit(count) if count else blend_library(constant.library, constant.scale)
        )
        found = estimator.predict(constant.view())
        assert np.isfinite(found.mean).all()
        assert np.isfinite(found.deviation).all()
        np.testing.assert_allclose(resimulated(site, found.mean), constant.scene, atol=1e-6)

    @pytest.mark.parametrize("count", [1, 12, 50])
    def test_points_that_are_all_alike_divide_by_no_zero(self, site, count):
        labels = site.labels(1).take(np.zeros(count, "i8"))
        found = fit_blend(labels, site.library, site.scale).predict(site.view())
        assert np.isfinite(found.mean).all()
        assert np.isfinite(found.deviation).all()

    @pytest.mark.parametrize("count", [1, 4, 12])
    def test_points_that_the_library_knows_exactly_leave_nothing_to_learn(self, site, count):
        labels = site.labels(count)
        bands = labels.bands
        known = site.library.projection(site.library.regression.predict(bands), bands)
        found = fit_blend(replace(labels, spectra=known), site.library, site.scale)
        assert np.isfinite(found.predict(site.view()).mean).all()
        np.testing.assert_allclose(found.at(labels), known, atol=0.02)

    def test_a_band_that_never_changes_does_no_harm(self, site):
        scene = site.scene.copy()
        scene[1] = 0.1
        flat = type(site).of(scene, site.truth, site.library, site.places)
        for count in (1, 12, 50):
            assert np.isfinite(flat.fit(count).predict(flat.view()).mean).all()

    def test_values_below_zero_are_estimated_too(self, site):
        scene = site.scene.copy()
        scene[:, 10:20] -= 0.3
        dark = type(site).of(scene, site.truth, site.library, site.places)
        for count in (4, 50):
            found = dark.fit(count).predict(dark.view())
            assert np.isfinite(found.mean).all()
            np.testing.assert_allclose(resimulated(site, found.mean), scene, atol=2e-6)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (30, 1), (5, 7)])
    def test_scenes_smaller_than_a_box_can_be_estimated(self, site, shape):
        scene = site.scene[:, : shape[0], : shape[1]]
        truth = site.truth[:, : shape[0], : shape[1]]
        pixels = np.arange(min(5, shape[0] * shape[1]))
        places = pixels // shape[1], pixels % shape[1]
        tiny = type(site).of(scene, truth, site.library, places)
        found = tiny.fit(len(pixels)).predict(tiny.view())
        assert found.mean.shape == truth.shape
        assert np.isfinite(found.mean).all()
        assert np.isfinite(found.deviation).all()

    @pytest.mark.parametrize("bands", [1, 8])
    def test_other_numbers_of_bands(self, site, monkeypatch, bands):
        monkeypatch.setattr(means, "MIXTURE_SAMPLES", 2000)
        channels = ChannelGrid.from_spec("400:1000:20")
        centres = np.linspace(450, 900, bands + 2)[1:-1]
        response = SpectralResponse.from_bands(centres, np.full(bands, 40.0)).matrix(channels)
        scene = np.einsum("bc,cyx->byx", response, site.truth)
        library = fit_library(channels, response)
        other = type(site).of(scene, site.truth, library, site.places)
        view = other.view()
        figures = []
        for count in (0, 1, 5, 50):
            found = other.fit(count) if count else blend_library(library, other.scale)
            assert ("mixture" in found.weights) is (bands > 1)
            estimate = found.predict(view)
            seen = np.einsum("bc,cyx->byx", response, estimate.mean.astype("f8"))
            np.testing.assert_allclose(seen, other.scene, atol=1e-6)
            window = Window(11, 3, 37, 29)
            part = found.predict(other.view(window, found.halo))
            np.testing.assert_array_equal(part.mean, estimate.mean[:, *window.slices])
            np.testing.assert_array_equal(part.deviation, estimate.deviation[:, *window.slices])
            figures.append(other.psnr(found))
        assert figures[-1] > figures[0] + 1


class TestUnits:
    UNIT = 1e4

    def in_counts(self, site: Any) -> Any:
        return type(site).of(
            self.UNIT * site.scene.astype("f8"),
            self.UNIT * site.truth.astype("f8"),
            site.library,
            site.places,
        )

    @pytest.mark.parametrize("name", ["shape", "mixture", "gains", "none", "linear", "quadratic"])
    def test_a_scene_in_counts_gives_the_cube_in_counts(self, site, monkeypatch, name):
        """By every mean but the plain library regression, which knows reflectance alone."""
        alone(monkeypatch, name)
        counts = self.in_counts(site)
        one = site.fit(50)
        other = counts.fit(50, parameters=one.parameters)
        expected = self.UNIT * one.predict(site.view()).mean
        found = other.predict(counts.view()).mean
        np.testing.assert_allclose(found, expected, atol=2e-4 * self.UNIT)
        stated = one.predict(site.view()).deviation
        np.testing.assert_allclose(
            other.predict(counts.view()).deviation, self.UNIT * stated, rtol=0.02
        )

    def test_the_library_regression_is_left_out_where_points_show_that_it_is_wrong(self, site):
        counts = self.in_counts(site)
        found = counts.fit(50)
        assert found.weights["library"] == 0
        # PSNR with a peak of 10,000.
        assert counts.psnr(found) + 80 > site.psnr(fitted(site, 50)) - 1


class TestManyPoints:
    def test_points_beyond_the_most_still_have_left_out_errors(self, site, monkeypatch):
        monkeypatch.setattr(blended, "MOST_POINTS", 40)
        labels = site.labels(60)
        found = site.fit(60)
        assert found.process is not None
        assert found.process.points.bands.shape[1] == 40
        assert found.left_out.shape == labels.spectra.shape
        chosen = np.random.default_rng(0).choice(60, 40, replace=False)
        spare = np.setdiff1d(np.arange(60), chosen)
        # Those that were not drawn were not seen by the process, so their error is just that.
        missed = labels.take(spare)
        error = site.library.projection.null_part(missed.spectra - found.at(missed))
        np.testing.assert_allclose(found.left_out[spare], error, atol=1e-5)
        # And those that were have errors as large.
        sizes = [np.sqrt((found.left_out[some] ** 2).mean()) for some in (chosen, spare)]
        assert 0.4 < sizes[0] / sizes[1] < 2.5
        np.testing.assert_allclose(
            resimulated(site, found.mean(site.view())), site.scene, atol=1e-6
        )

    def test_a_fit_of_parameters_looks_at_some_of_many_points(self, site, monkeypatch):
        expected = fitted(site, 50)
        monkeypatch.setattr(blended, "LARGEST_FIT", 30)
        found = site.fit(50)
        before, after = (one.parameters["library"].weights for one in (expected, found))
        assert not np.allclose(before[:-1], after[:-1])
        assert abs(site.psnr(found) - site.psnr(expected)) < 1

    def test_given_parameters_are_not_fitted_again(self, site):
        first = fitted(site, 50)
        again = site.fit(50, parameters=first.parameters)
        assert again.parameters == first.parameters
        np.testing.assert_array_equal(again.mean(site.view()), first.mean(site.view()))


def test_no_warning_is_given_by_a_scene_with_holes(site):
    scene = site.scene.copy()
    scene[:, ::3, ::2] = np.nan
    holed = type(site).of(scene, site.truth, site.library, site.places)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fitted(site, 50).predict(holed.view())
    assert np.isfinite(found.mean[:, 1::3]).all()


class TestRealScene:
    def test_the_library_alone_reaches_41_db(self, potsdam):
        site, _ = potsdam
        assert site.psnr(blend_library(site.library, site.scale)) >= 41.0

    @pytest.mark.parametrize(("count", "anchor", "margin"), [(18, 46.63, 0.3), (184, 47.67, 1.5)])
    def test_it_beats_every_regression_that_sees_one_pixel(self, potsdam, count, anchor, margin):
        site, labels = potsdam
        found = fit_blend(labels[count], site.library, site.scale)
        assert site.psnr(found, labels[count]) >= anchor + margin
