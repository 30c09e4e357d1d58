import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.metrics import (
    ergas,
    mpsnr,
    psnr,
    rmse,
    sam,
    sam_band,
    sam_per_pixel,
    score,
    ssim,
)

METRICS = (rmse, psnr, mpsnr, sam, sam_band, ergas, ssim)


def cubes(shape=(4, 20, 24), seed=0, noise=0.05):
    draw = np.random.default_rng(seed)
    reference = draw.uniform(0.05, 0.6, shape)
    return reference + draw.normal(0, noise, shape), reference


def ssim_maps(cube, reference):
    """Similarity of every whole window, ``(channel, y - 10, x - 10)``, by another Gaussian filter."""

    def blur(image):
        return gaussian_filter(image, 1.5, truncate=3.5)

    maps = []
    for x, y in zip(cube, reference, strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        contrast = (2 * vxy + 9e-4) / (vx + vy + 9e-4)
        maps.append((2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4) * contrast)
    return np.array(maps)[:, 5:-5, 5:-5]


class TestByHand:
    cube = np.array([[0.5, 0.1], [0.5, 0.4]])
    reference = np.array([[0.5, 0.4], [0.1, 0.4]])

    def test_rmse(self):
        assert rmse(self.cube, self.reference) == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 4))

    def test_psnr_is_of_the_whole_cube(self):
        expected = -10 * np.log10((0.3**2 + 0.4**2) / 4)
        assert psnr(self.cube, self.reference) == pytest.approx(expected)
        assert psnr(self.cube, self.reference, peak=10) == pytest.approx(expected + 20)

    def test_mpsnr_is_the_mean_of_the_channels(self):
        expected = -5 * np.log10(0.3**2 / 2) - 5 * np.log10(0.4**2 / 2)
        assert mpsnr(self.cube, self.reference) == pytest.approx(expected)

    def test_sam_is_the_angle_between_spectra(self):
        angles = [45 - np.degrees(np.arctan(0.2)), np.degrees(np.arctan(4)) - 45]
        np.testing.assert_allclose(sam_per_pixel(self.cube, self.reference), angles)
        assert sam(self.cube, self.reference) == pytest.approx(np.mean(angles))

    def test_sam_band_is_the_angle_between_images(self):
        def angle(a, b):
            return np.degrees(np.arccos(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)))

        expected = (angle([0.5, 0.1], [0.5, 0.4]) + angle([0.5, 0.4], [0.1, 0.4])) / 2
        assert sam_band(self.cube, self.reference) == pytest.approx(expected)

    def test_ergas(self):
        relative = (0.3**2 / 2 / 0.45**2 + 0.4**2 / 2 / 0.25**2) / 2
        assert ergas(self.cube, self.reference) == pytest.approx(100 * np.sqrt(relative))
        assert ergas(self.cube, self.reference, 0.25) == pytest.approx(25 * np.sqrt(relative))


class TestSsim:
    @pytest.mark.parametrize("noise", [0.002, 0.05, 0.5])
    def test_it_agrees_with_scikit_image(self, noise):
        metrics = pytest.importorskip("skimage.metrics")
        cube, reference = cubes(noise=noise)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        maps = [
            metrics.structural_similarity(*images, **options, data_range=1, full=True)[1]
            for images in zip(cube, reference, strict=True)
        ]
        expected = np.array(maps)[:, 5:-5, 5:-5].mean()
        assert ssim(cube, reference) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("noise", [0.002, 0.05, 0.5])
    def test_it_is_the_mean_over_whole_windows(self, noise):
        cube, reference = cubes(noise=noise)
        expected = ssim_maps(cube, reference).mean()
        assert ssim(cube, reference) == pytest.approx(expected, abs=1e-9)

    def test_windows_that_hold_a_nodata_pixel_are_left_out(self):
        cube, reference = cubes((2, 30, 40))
        expected = ssim_maps(cube, reference)
        cube[1, 3, 3] = np.nan
        reference[0, 25, 33] = np.inf
        kept = np.ones((20, 30), bool)
        kept[:4, :4] = False
        kept[15:, 23:] = False
        assert ssim(cube, reference) == pytest.approx(expected[:, kept].mean(), abs=1e-9)

    def test_windows_count_by_their_centre(self):
        cube, reference = cubes()
        centres = np.random.default_rng(1).random((20, 24)) < 0.3
        expected = ssim_maps(cube, reference)[:, centres[5:-5, 5:-5]].mean()
        assert ssim(cube, reference, centres) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("shape", [(3, 10, 40), (3, 40, 10), (3, 400), (3, 1, 1)])
    def test_it_is_nan_where_no_window_fits(self, shape):
        assert np.isnan(ssim(*cubes(shape)))

    def test_it_is_nan_where_no_window_is_whole(self):
        cube, reference = cubes((1, 15, 15))
        cube[0, 7, 7] = np.nan
        assert np.isnan(ssim(cube, reference))


class TestProperties:
    @given(st.integers(0, 100))
    def test_equal_cubes_have_no_error(self, seed):
        _, cube = cubes(seed=seed)
        assert rmse(cube, cube) == 0
        assert psnr(cube, cube) == np.inf
        assert mpsnr(cube, cube) == np.inf
        assert sam(cube, cube) == 0
        assert sam_band(cube, cube) == 0
        assert ergas(cube, cube) == 0
        assert ssim(cube, cube) == pytest.approx(1)

    @given(st.integers(0, 100), st.floats(1e-3, 1e3))
    def test_angles_do_not_depend_on_brightness(self, seed, factor):
        cube, reference = cubes(seed=seed)
        assert sam(factor * cube, reference) == pytest.approx(sam(cube, reference))
        assert sam_band(factor * cube, reference) == pytest.approx(sam_band(cube, reference))

    @given(st.integers(0, 100))
    def test_cube_and_reference_may_change_places(self, seed):
        cube, reference = cubes(seed=seed)
        for metric in (rmse, psnr, mpsnr, sam, sam_band, ssim):
            assert metric(cube, reference) == pytest.approx(metric(reference, cube))

    @given(st.floats(1e-9, 1e-3))
    def test_small_angles_are_exact(self, angle):
        cube = np.array([[np.cos(angle)], [np.sin(angle)]])
        expected = np.degrees(np.arctan2(np.sin(angle), np.cos(angle)))
        assert sam(cube, np.array([[1.0], [0.0]])) == pytest.approx(expected, rel=1e-6)

    @given(st.integers(0, 50))
    def test_pixels_may_be_listed_or_laid_out(self, seed):
        cube, reference = cubes(seed=seed)
        for metric in (rmse, psnr, mpsnr, sam, sam_band, ergas):
            listed = metric(cube.reshape(4, -1), reference.reshape(4, -1))
            assert listed == pytest.approx(metric(cube, reference))

    def test_float32_cubes_are_summed_in_float64(self):
        cube, reference = (array.astype(np.float32) for array in cubes())
        expected = rmse(cube.astype(np.float64), reference.astype(np.float64))
        assert rmse(cube, reference) == expected


class TestNodata:
    def test_a_pixel_with_nodata_in_any_channel_of_either_is_left_out(self):
        cube, reference = cubes()
        with_holes, reference_holes = cube.copy(), reference.copy()
        with_holes[2, 4, 5] = np.nan
        reference_holes[0, 7, 8] = np.nan
        kept = np.ones((20, 24), bool)
        kept[4, 5] = kept[7, 8] = False
        for metric in (rmse, psnr, mpsnr, sam, sam_band, ergas):
            expected = metric(cube[:, kept], reference[:, kept])
            assert metric(with_holes, reference_holes) == pytest.approx(expected)
        angles = sam_per_pixel(with_holes, reference_holes)
        assert np.isnan(angles[4, 5])
        assert np.isfinite(angles[kept]).all()

    @pytest.mark.parametrize("metric", METRICS)
    def test_nothing_but_nodata_gives_nan(self, metric):
        cube, reference = cubes()
        assert np.isnan(metric(np.full_like(cube, np.nan), reference))

    def test_spectra_of_zeros_have_no_angle(self):
        cube, reference = cubes()
        cube[:, 3, 3] = 0
        angles = sam_per_pixel(cube, reference)
        assert np.isnan(angles[3, 3])
        assert sam(cube, reference) == pytest.approx(np.nanmean(angles))


class TestScore:
    def test_it_holds_every_metric(self):
        cube, reference = cubes()
        result = score(cube, reference)
        for metric in (rmse, psnr, mpsnr, ssim, sam, sam_band):
            assert result[metric.__name__] == pytest.approx(metric(cube, reference))
        assert (result["bands"], result["pixels"]) == (4, 480)
        assert list(result) == [
            "rmse",
            "psnr",
            "mpsnr",
            "ssim",
            "sam",
            "sam_band",
            "bands",
            "pixels",
        ]

    def test_excluded_pixels_are_not_scored_but_may_lie_in_windows(self):
        cube, reference = cubes()
        valid = np.random.default_rng(1).random((20, 24)) < 0.5
        cube[0, 2, 2] = np.nan
        valid[2, 2] = True
        result = score(cube, reference, valid)
        kept = valid.copy()
        kept[2, 2] = False
        assert result["pixels"] == kept.sum()
        assert result["rmse"] == pytest.approx(rmse(cube[:, kept], reference[:, kept]))
        assert result["ssim"] == pytest.approx(ssim(cube, reference, valid))

    def test_no_pixel_to_score_gives_nan(self):
        cube, reference = cubes()
        result = score(cube, reference, np.zeros((20, 24), bool))
        assert result["pixels"] == 0
        assert np.isnan([result["rmse"], result["psnr"], result["ssim"], result["sam"]]).all()

    def test_listed_pixels_have_no_ssim(self):
        result = score(*cubes((4, 100)))
        assert np.isnan(result["ssim"])
        assert result["pixels"] == 100

    @pytest.mark.parametrize("shape", [(4, 20, 23), (3, 20, 24), (480, 4)])
    def test_different_shapes_are_refused(self, shape):
        cube, _ = cubes()
        with pytest.raises(SettingsError, match="expected the same"):
            score(cube, np.zeros(shape))

    def test_a_mask_of_another_shape_is_refused(self):
        with pytest.raises(SettingsError, match="mask"):
            score(*cubes(), np.ones((24, 20), bool))
