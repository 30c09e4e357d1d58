import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.agreement import MIN_POINTS, fit_agreement

GROUNDS = np.array(
    [
        [0.05, 0.08, 0.07, 0.45],  # leaves
        [0.12, 0.17, 0.22, 0.30],  # soil
        [0.04, 0.05, 0.03, 0.02],  # water
        [0.25, 0.27, 0.29, 0.31],  # concrete
    ]
)


def bands(count, seed, noise=0.04):
    """Simulated and measured bands of mixed grounds that differ by their brightness and colour."""
    draws = np.random.default_rng(seed)
    measured = draws.dirichlet(np.ones(4), count) @ GROUNDS
    level = noise * draws.standard_normal((count, 1))
    colour = 0.4 * noise * draws.standard_normal((count, 4))
    return measured * np.exp(level + colour), measured


def scores(simulated, measured):
    found = fit_agreement(simulated, measured)
    assert found is not None
    return found.score(simulated, measured)


class TestAgreeing:
    @pytest.mark.parametrize("count", [3, 5, 15, 60, 500])
    def test_points_are_rarely_called_wrong(self, count):
        several = max(1, 600 // count)
        z = np.concatenate([scores(*bands(count, seed)).z for seed in range(several)])
        assert (z > 4).mean() < 0.01

    @pytest.mark.parametrize("gain", [0.1, 1.0, 10_000.0])
    @pytest.mark.parametrize("offset", [0.0, 0.05])
    def test_a_common_gain_and_offset_change_little(self, gain, offset):
        # Of many scenes: one whose points tell the offset badly may lose a tenth of them.
        pairs = [bands(30, seed) for seed in range(40, 52)]
        plain = [scores(simulated, measured).z for simulated, measured in pairs]
        other = [scores(simulated, gain * (measured + offset)).z for simulated, measured in pairs]
        assert (np.array(other) > 4).mean() < 0.01
        assert (np.median(np.abs(np.subtract(other, plain)), axis=1) < 1).all()

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 50), st.permutations(range(20)))
    def test_the_order_of_points_does_not_matter(self, seed, order):
        simulated, measured = bands(20, seed)
        expected = scores(simulated, measured).z[order]
        np.testing.assert_allclose(scores(simulated[order], measured[order]).z, expected, atol=1e-6)

    def test_exact_agreement_makes_no_small_difference_a_large_one(self):
        simulated, measured = bands(200, 0, noise=0)
        simulated[0] *= 1.03
        assert scores(simulated, measured).z[0] < 4


class TestDisagreeing:
    @pytest.mark.parametrize("count", [6, 12, 60, 300])
    @pytest.mark.parametrize("seed", range(5))
    def test_a_sixth_of_wrong_points_is_found(self, count, seed):
        simulated, measured = bands(count, seed)
        wrong = np.arange(max(1, round(count / 6)))
        simulated[wrong[::2]] *= 100
        simulated[wrong[1::2]] *= [0.4, 0.5, 0.4, 3]
        z = scores(simulated, measured).z
        assert (z[wrong] > 4).all()
        assert (np.delete(z, wrong) > 4).mean() < 0.05

    def test_brightness_and_colour_are_told_apart(self):
        simulated, measured = bands(30, 1)
        simulated[0] *= 0.3  # shadow
        simulated[1] *= [1.5, 1, 1, 0.7]
        found = scores(simulated, measured)
        assert found.level_z[0] > max(4, 2 * found.shape_z[0])
        assert found.shape_z[1] > 4
        assert found.factor[0] == pytest.approx(0.3, abs=0.05)

    def test_noise_of_dark_water_is_no_disagreement(self):
        simulated, measured = bands(30, 2)
        measured[0] = [0.01, 0.008, 0.004, 0.002]
        simulated[0] = measured[0] + [0.002, -0.002, 0.002, -0.002]
        assert scores(simulated, measured).z[0] < 4


class TestTooLittle:
    def test_two_points_cannot_tell(self):
        assert fit_agreement(*bands(MIN_POINTS - 1, 0)) is None

    def test_points_without_a_value_do_not_count(self):
        simulated, measured = bands(4, 0)
        simulated[0, 2] = np.nan
        measured[1] = np.nan
        assert fit_agreement(simulated, measured) is None

    def test_a_single_band_has_brightness_alone(self):
        simulated, measured = bands(12, 0)
        simulated[0] *= 5
        found = scores(simulated[:, :1], measured[:, :1])
        assert found.level_z[0] > 4
        assert (found.shape_z == 0).all()

    def test_points_that_are_all_alike_have_no_line_and_are_judged_by_their_ratio(self):
        measured = np.tile(GROUNDS[1], (10, 1))
        simulated = measured.copy()
        simulated[0] *= 2
        z = scores(simulated, measured).z
        assert z[0] > 4
        assert (z[1:] < 1).all()

    def test_dark_points_alone_raise_nothing(self):
        z = scores(np.zeros((6, 4)), np.zeros((6, 4))).z
        assert (z < 1).all()
