"""The arithmetic behind the figures, on planted images and samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from pixelssr_geo.experiments.figure_numbers import (
    QUARTER,
    bin_edges,
    bin_shares,
    correlation,
    edge_strength,
    low_share,
    power_planes,
    radial_frequencies,
    radial_profile,
    skewness,
    total_variation,
    wasserstein,
)

samples = hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(-2, 2, width=32))


def waves(frequency, shape=(64, 48), *, along=(1.0, 0.0)):
    """A plane wave of so many cycles per pixel, ``(1, y, x)``."""
    rows, cols = np.indices(shape)
    phase = 2 * np.pi * frequency * (along[0] * rows + along[1] * cols)
    return np.cos(phase)[None].astype("f4")


def everywhere(image):
    return np.ones(image.shape[1:], bool)


class TestDistributions:
    def test_the_skewness_of_a_gamma_sample_is_scipy_s_and_near_that_of_the_distribution(self):
        sample = np.random.default_rng(0).gamma(4.0, 0.1, (3, 20_000)).astype("f4")
        assert float(skewness(sample)) == pytest.approx(stats.skew(sample, axis=None), rel=1e-4)
        np.testing.assert_allclose(skewness(sample, axis=1), stats.skew(sample, axis=1), rtol=1e-4)
        assert float(skewness(sample)) == pytest.approx(2 / np.sqrt(4), rel=0.05)
        assert np.isnan(skewness(np.ones(5)))

    @given(samples, st.floats(-3, 3))
    def test_the_way_to_a_shifted_distribution_is_the_shift(self, values, shift):
        assert wasserstein(values + shift, values) == pytest.approx(abs(shift), abs=1e-9)

    @given(samples, st.randoms())
    @settings(max_examples=30)
    def test_the_way_between_distributions_is_scipy_s_in_any_order(self, values, random):
        other = np.array(random.sample(list(values), len(values))) ** 2
        expected = stats.wasserstein_distance(values, other)
        assert wasserstein(values, other) == pytest.approx(expected, abs=1e-9)

    @given(samples, samples)
    @settings(max_examples=30)
    def test_shares_sum_to_one_and_differ_by_zero_to_one(self, one, other):
        edges = bin_edges(one, [other], bins=7, cut=0.1)
        shares = [bin_shares(values, edges) for values in (one, other)]
        for share in shares:
            assert share.sum() == pytest.approx(1)
        assert 0 <= total_variation(*shares) <= 1 + 1e-9
        assert total_variation(shares[0], shares[0]) == 0

    def test_distributions_apart_differ_by_one(self):
        edges = bin_edges(np.zeros(5), [np.ones(5)], bins=4, cut=0)
        assert total_variation(bin_shares(np.zeros(5), edges), bin_shares(np.ones(5), edges)) == 1

    def test_bins_reach_half_of_the_reference_s_extent_beyond_it_where_there_is_anything(self):
        reference = np.array([0.0, 1.0])
        edges = bin_edges(reference, [np.array([-9.0, 1.2])], bins=10, cut=0)
        assert (edges[0], edges[-1]) == (-0.5, 1.2)


class TestFrequencies:
    @pytest.mark.parametrize(
        ("frequency", "low"), [(QUARTER / 2, 1.0), (QUARTER * 2.5, 0.0), (0.5, 0.0)]
    )
    @pytest.mark.parametrize("along", [(1, 0), (0, 1), (0.6, -0.8)])
    def test_a_plane_wave_lies_below_a_quarter_of_nyquist_or_above(self, frequency, low, along):
        image = waves(frequency, along=along) + 7
        assert low_share(power_planes(image, everywhere(image))) == pytest.approx(low, abs=0.01)

    def test_two_waves_share_the_variance_as_their_squares(self):
        image = 3 * waves(QUARTER / 2) + waves(3 * QUARTER)
        assert low_share(power_planes(image, everywhere(image))) == pytest.approx(0.9, abs=0.01)

    def test_channels_count_alike_whatever_their_size(self):
        image = np.concatenate([1e3 * waves(QUARTER / 2), waves(3 * QUARTER)])
        assert low_share(power_planes(image, everywhere(image))) == pytest.approx(0.5, abs=0.01)

    def test_the_profile_peaks_where_the_wave_is(self):
        image = waves(0.3, (60, 60), along=(0, 1))
        frequencies, profile = radial_profile(power_planes(image, everywhere(image)))
        assert frequencies[profile.argmax()] == pytest.approx(0.3, abs=0.02)
        assert frequencies[-1] < 0.5

    def test_white_noise_is_spread_as_the_area(self):
        noise = np.random.default_rng(0).normal(size=(20, 64, 64))
        planes = power_planes(noise, everywhere(noise))
        area = (radial_frequencies((64, 64)) < QUARTER).mean()
        assert low_share(planes) == pytest.approx(area, rel=0.15)
        _, profile = radial_profile(planes)
        np.testing.assert_allclose(profile[3:], 1 / 64**2, rtol=0.3)

    def test_an_image_of_equal_values_has_none(self):
        image = np.full((1, 9, 8), 0.3, "f4")
        planes = power_planes(image, everywhere(image))
        assert not planes.any()
        assert np.isnan(low_share(planes))

    def test_nodata_has_no_say(self):
        image = waves(QUARTER / 2)
        valid = everywhere(image)
        valid[10:14, 20:25] = False
        holed = np.where(valid, image, 1e6)
        np.testing.assert_array_equal(power_planes(holed, valid), power_planes(image, valid))

    @given(
        hnp.arrays(
            np.float64,
            st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
            elements=st.floats(-1, 1, width=16),
        )
    )
    @settings(max_examples=40, deadline=None)
    def test_shares_of_any_image_sum_to_one_or_are_zero(self, image):
        planes = power_planes(image, everywhere(image))
        totals = planes.sum(axis=(1, 2))
        assert np.all(np.isclose(totals, 1) | (totals == 0))
        share = low_share(planes)
        assert np.isnan(share) or -1e-9 <= share <= 1 + 1e-9


def test_the_gradient_of_a_ramp_is_its_slope():
    rows, cols = np.indices((6, 7))
    np.testing.assert_allclose(edge_strength(3 * rows - 4 * cols), 5)
    np.testing.assert_allclose(edge_strength((3 * rows - 4 * cols)[:1]), 4)
    np.testing.assert_array_equal(edge_strength(np.ones((1, 1))), 0)


def test_correlation_is_one_of_a_line_and_nothing_of_a_constant():
    values = np.arange(5.0)
    assert correlation(values, 3 - 2 * values) == pytest.approx(-1)
    assert np.isnan(correlation(values, np.ones(5)))
