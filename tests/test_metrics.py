import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.metrics import (
    PADDED,
    UNIFORM,
    UNIFORM_WIDE,
    SsimWindow,
    VariantScore,
    correlation,
    ergas,
    mae,
    mpsnr,
    mrae,
    psnr,
    psnr_elementwise,
    rmse,
    rmse_per_pixel,
    sam,
    sam_band,
    sam_per_pixel,
    score,
    ssim,
    variant_score,
)

BY_PIXEL = (rmse, mae, mrae, psnr, mpsnr, psnr_elementwise, sam, sam_band, ergas, correlation)
"""Metrics that look at no pixel's surroundings."""

METRICS = (*BY_PIXEL, ssim)


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

    def test_rmse_per_pixel_is_the_error_map(self):
        expected = [0.4 / np.sqrt(2), 0.3 / np.sqrt(2)]
        np.testing.assert_allclose(rmse_per_pixel(self.cube, self.reference), expected)

    def test_mae_and_mrae(self):
        assert mae(self.cube, self.reference) == pytest.approx(0.7 / 4)
        assert mrae(self.cube, self.reference) == pytest.approx((0.3 / 0.4 + 0.4 / 0.1) / 4)

    def test_values_whose_reference_is_zero_have_no_relative_error(self):
        reference = np.array([[0.5, 0.0], [0.1, 0.4]])
        assert mrae(self.cube, reference) == pytest.approx((0.4 / 0.1) / 3)
        with_zero = (0.1 / 1e-6 + 0.4 / (0.1 + 1e-6)) / 4
        assert mrae(self.cube, reference, epsilon=1e-6) == pytest.approx(with_zero)
        assert np.isnan(mrae(self.cube, np.zeros((2, 2))))

    def test_psnr_elementwise_is_equation_11_with_a_least_error(self):
        expected = -5 * np.log10(0.3) - 5 * np.log10(0.4) + 2 * 5 * 4
        assert psnr_elementwise(self.cube, self.reference, least=1e-4) == pytest.approx(expected)

    def test_clipping_leaves_out_what_no_image_can_show(self):
        cube = np.array([[1.5, -0.2], [0.5, 0.4]])
        reference = np.array([[1.0, 0.0], [0.5, 0.1]])
        expected = -10 * np.log10(0.3**2 / 4)
        assert psnr(cube, reference, clip=True) == pytest.approx(expected)
        assert psnr(2 * cube, 2 * reference, 2.0, clip=True) == pytest.approx(expected)
        assert mpsnr(cube[1:], reference[1:], clip=True) == mpsnr(cube[1:], reference[1:])
        assert mpsnr(cube, reference, clip=True) == np.inf

    def test_constant_channels_have_no_correlation(self):
        cube = np.array([[0.1, 0.2, 0.4], [0.3, 0.3, 0.3]])
        reference = np.array([[0.1, 0.3, 0.2], [0.1, 0.2, 0.3]])
        expected = np.corrcoef(cube[0], reference[0])[0, 1]
        assert correlation(cube, reference) == pytest.approx(expected)
        assert np.isnan(correlation(cube[1:], reference[1:]))

    def test_pixels_without_an_angle_can_count(self):
        cube, reference = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.5], [1.0, 0.5]])
        assert sam(cube, reference) == pytest.approx(45)
        assert sam(cube, reference, undefined=0) == pytest.approx(22.5)
        assert sam(cube, reference, undefined=90) == pytest.approx(67.5)


@pytest.fixture(scope="module")
def torchmetrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
        from torchmetrics import functional
        from torchmetrics.functional import image
    return functional, image


class TestAgainstTorchmetrics:
    """The same measures, computed by another library on images without nodata."""

    @staticmethod
    def tensors(noise=0.05):
        import torch

        arrays = cubes(noise=noise)
        return arrays, [torch.from_numpy(array)[None] for array in arrays]

    def test_psnr(self, torchmetrics):
        arrays, tensors = self.tensors()
        theirs = torchmetrics[1].peak_signal_noise_ratio(*tensors, data_range=1.0)
        assert psnr(*arrays) == pytest.approx(float(theirs), rel=1e-6)
        clipped = torchmetrics[1].peak_signal_noise_ratio(*tensors, data_range=(0.1, 0.5))
        shifted = [(array - 0.1) / 0.4 for array in arrays]
        assert psnr(*shifted, clip=True) == pytest.approx(float(clipped), rel=1e-6)

    def test_rmse_and_mae(self, torchmetrics):
        arrays, tensors = self.tensors()
        theirs = torchmetrics[0].mean_squared_error(*tensors, squared=False)
        assert rmse(*arrays) == pytest.approx(float(theirs), rel=1e-6)
        assert mae(*arrays) == pytest.approx(float(torchmetrics[0].mean_absolute_error(*tensors)))

    def test_mrae(self, torchmetrics):
        arrays, tensors = self.tensors()
        theirs = torchmetrics[0].mean_absolute_percentage_error(*tensors)
        assert mrae(*arrays) == pytest.approx(float(theirs), rel=1e-6)

    def test_sam(self, torchmetrics):
        arrays, tensors = self.tensors()
        theirs = np.degrees(float(torchmetrics[1].spectral_angle_mapper(*tensors)))
        assert sam(*arrays) == pytest.approx(theirs, rel=1e-6)
        images = [tensor.flatten(2).movedim(2, 1)[..., None] for tensor in tensors]
        bands = np.degrees(float(torchmetrics[1].spectral_angle_mapper(*images)))
        assert sam_band(*arrays) == pytest.approx(bands, rel=1e-6)

    def test_ergas(self, torchmetrics):
        arrays, tensors = self.tensors()
        measure = torchmetrics[1].error_relative_global_dimensionless_synthesis
        assert ergas(*arrays) == pytest.approx(float(measure(*tensors, ratio=1)), rel=1e-6)

    def test_correlation(self, torchmetrics):
        arrays, tensors = self.tensors()
        columns = [tensor[0].flatten(1).T for tensor in tensors]
        theirs = torchmetrics[0].pearson_corrcoef(*columns).mean()
        assert correlation(*arrays) == pytest.approx(float(theirs), rel=1e-5)

    @pytest.mark.parametrize("noise", [0.002, 0.05, 0.5])
    def test_ssim(self, torchmetrics, noise):
        arrays, tensors = self.tensors(noise)
        measure = torchmetrics[1].structural_similarity_index_measure
        # Its mean is over reflected borders, too; the map lets these out.
        _, similarity = measure(*tensors, data_range=1.0, return_full_image=True)
        expected = float(similarity[..., 5:-5, 5:-5].mean())
        assert ssim(*arrays) == pytest.approx(expected, abs=1e-6)


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

    @pytest.mark.parametrize(("window", "peak"), [(UNIFORM, 1.0), (UNIFORM_WIDE, 2.0)])
    def test_uniform_windows_are_scikit_image_s_defaults(self, window, peak):
        metrics = pytest.importorskip("skimage.metrics")
        cube, reference = cubes()
        expected = [
            metrics.structural_similarity(*images, data_range=peak)
            for images in zip(cube, reference, strict=True)
        ]
        found = ssim(cube, reference, window=window)
        assert found == pytest.approx(np.mean(expected), abs=1e-9)
        assert ssim(cube, reference, window=UNIFORM_WIDE) > ssim(cube, reference, window=UNIFORM)

    def test_padded_windows_are_a_convolution_with_zeros(self):
        import torch
        from torch.nn.functional import conv2d

        cube, reference = cubes()
        taps = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
        kernel = torch.from_numpy(np.outer(taps, taps) / taps.sum() ** 2)[None, None]

        def blur(image):
            return conv2d(image[:, None], kernel, padding=5)[:, 0]

        x, y = torch.from_numpy(cube), torch.from_numpy(reference)
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        expected = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        expected *= (2 * vxy + 9e-4) / (vx + vy + 9e-4)
        found = ssim(cube, reference, window=PADDED)
        assert found == pytest.approx(float(expected.mean()), abs=1e-9)
        centres = np.random.default_rng(1).random((20, 24)) < 0.3
        found = ssim(cube, reference, centres, window=PADDED)
        assert found == pytest.approx(float(expected.numpy()[:, centres].mean()), abs=1e-9)

    def test_padded_windows_leave_out_nodata_but_not_the_border(self):
        cube, reference = cubes((2, 30, 40))
        cube[0, 0, 0] = np.nan
        kept = np.ones((30, 40), bool)
        kept[:6, :6] = False
        filled = cube.copy()
        filled[0, 0, 0] = 0.3
        expected = ssim(filled, reference, kept, window=PADDED)
        assert ssim(cube, reference, window=PADDED) == pytest.approx(expected)

    @pytest.mark.parametrize("wrong", [{"size": 8}, {"size": 1}, {"sigma": 0.0}, {"peak": 0.0}])
    def test_windows_that_make_no_sense_are_refused(self, wrong):
        with pytest.raises(SettingsError, match="expected"):
            SsimWindow(**wrong)

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
        assert (mae(cube, cube), mrae(cube, cube)) == (0, 0)
        assert correlation(cube, cube) == pytest.approx(1)
        assert psnr_elementwise(cube, cube) == pytest.approx(120)
        for window in (SsimWindow(), PADDED, UNIFORM, UNIFORM_WIDE):
            assert ssim(cube, cube, window=window) == pytest.approx(1)

    @given(st.integers(0, 100), st.floats(0.1, 10))
    def test_errors_scale_with_the_unit_and_relative_ones_do_not(self, seed, factor):
        cube, reference = cubes(seed=seed)
        scaled = factor * cube, factor * reference
        for metric in (rmse, mae):
            assert metric(*scaled) == pytest.approx(factor * metric(cube, reference))
        for metric in (mrae, ergas, correlation, sam, sam_band):
            assert metric(*scaled) == pytest.approx(metric(cube, reference))
        for metric in (psnr, mpsnr):
            assert metric(*scaled, factor) == pytest.approx(metric(cube, reference))
        assert ssim(*scaled, window=SsimWindow(peak=factor)) == pytest.approx(ssim(cube, reference))

    @given(st.integers(0, 100), st.floats(0.5, 2), st.floats(-0.5, 0.5))
    def test_correlation_sees_no_gain_and_no_offset(self, seed, gain, offset):
        cube, reference = cubes(seed=seed)
        expected = correlation(cube, reference)
        assert correlation(gain * cube + offset, reference) == pytest.approx(expected)

    @given(st.integers(0, 100), st.floats(0.01, 0.3))
    def test_averages_of_logarithms_are_never_below_the_logarithm_of_the_average(self, seed, noise):
        cube, reference = cubes(seed=seed, noise=noise)
        assert psnr(cube, reference) <= mpsnr(cube, reference) + 1e-9
        assert mpsnr(cube, reference) <= psnr_elementwise(cube, reference) + 1e-9

    @given(st.integers(0, 100), st.floats(0.05, 1))
    def test_a_mask_is_a_crop(self, seed, share):
        cube, reference = cubes(seed=seed)
        mask = np.random.default_rng(seed).random((20, 24)) < share
        mask[0, 0] = mask[5, 7] = True
        for metric in BY_PIXEL:
            cropped = metric(cube[:, mask], reference[:, mask])
            assert metric(cube, reference, valid=mask) == pytest.approx(cropped, nan_ok=True)

    @given(st.integers(0, 30), st.sampled_from([SsimWindow(), UNIFORM]))
    def test_centres_of_a_crop_s_whole_windows_are_the_crop(self, seed, window):
        cube, reference = cubes((2, 30, 33), seed=seed)
        centres = np.zeros((30, 33), bool)
        margin = window.margin
        centres[4 + margin : 24 - margin, 6 + margin : 31 - margin] = True
        cropped = ssim(cube[:, 4:24, 6:31], reference[:, 4:24, 6:31], window=window)
        assert ssim(cube, reference, centres, window=window) == pytest.approx(cropped)

    @given(st.integers(0, 100), st.floats(1e-3, 1e3))
    def test_angles_do_not_depend_on_brightness(self, seed, factor):
        cube, reference = cubes(seed=seed)
        assert sam(factor * cube, reference) == pytest.approx(sam(cube, reference))
        assert sam_band(factor * cube, reference) == pytest.approx(sam_band(cube, reference))

    @given(st.integers(0, 100))
    def test_cube_and_reference_may_change_places(self, seed):
        cube, reference = cubes(seed=seed)
        for metric in set(METRICS) - {mrae, ergas}:
            assert metric(cube, reference) == pytest.approx(metric(reference, cube))

    @given(st.floats(1e-9, 1e-3))
    def test_small_angles_are_exact(self, angle):
        cube = np.array([[np.cos(angle)], [np.sin(angle)]])
        expected = np.degrees(np.arctan2(np.sin(angle), np.cos(angle)))
        assert sam(cube, np.array([[1.0], [0.0]])) == pytest.approx(expected, rel=1e-6)

    @given(st.integers(0, 50))
    def test_pixels_may_be_listed_or_laid_out(self, seed):
        cube, reference = cubes(seed=seed)
        for metric in BY_PIXEL:
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
        for metric in BY_PIXEL:
            expected = metric(cube[:, kept], reference[:, kept])
            assert metric(with_holes, reference_holes) == pytest.approx(expected)
        angles = sam_per_pixel(with_holes, reference_holes)
        assert np.isnan(angles[4, 5])
        assert np.isfinite(angles[kept]).all()

    @pytest.mark.parametrize("metric", METRICS)
    def test_nothing_but_nodata_gives_nan(self, metric):
        cube, reference = cubes()
        assert np.isnan(metric(np.full_like(cube, np.nan), reference))

    @pytest.mark.parametrize("metric", BY_PIXEL)
    def test_a_mask_of_another_shape_is_refused_by_each(self, metric):
        with pytest.raises(SettingsError, match="mask"):
            metric(*cubes(), valid=np.ones((24, 20), bool))

    def test_maps_are_nan_where_the_mask_is_not(self):
        cube, reference = cubes()
        mask = np.random.default_rng(3).random((20, 24)) < 0.5
        for metric in (sam_per_pixel, rmse_per_pixel):
            found = metric(cube, reference, valid=mask)
            np.testing.assert_array_equal(np.isfinite(found), mask)
            np.testing.assert_allclose(found[mask], metric(cube, reference)[mask])

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


class TestVariantScore:
    def test_it_holds_the_score_and_every_variant(self):
        cube, reference = cubes(noise=0.3)
        cube[:, 3, 3] = 0
        mask = np.random.default_rng(1).random((20, 24)) < 0.8
        mask[3, 3] = True
        result = variant_score(cube, reference, mask)
        plain = score(cube, reference, mask)
        assert {name: result[name] for name in plain} == plain
        alone = {
            "mae": mae(cube, reference, valid=mask),
            "mrae": mrae(cube, reference, valid=mask),
            "ergas": ergas(cube, reference, valid=mask),
            "correlation": correlation(cube, reference, valid=mask),
            "psnr_clipped": psnr(cube, reference, clip=True, valid=mask),
            "mpsnr_clipped": mpsnr(cube, reference, clip=True, valid=mask),
            "psnr_elementwise": psnr_elementwise(cube, reference, valid=mask),
            "ssim_uniform": ssim(cube, reference, mask, window=UNIFORM),
            "ssim_uniform_wide": ssim(cube, reference, mask, window=UNIFORM_WIDE),
            "ssim_padded": ssim(cube, reference, mask, window=PADDED),
            "sam_zeros": sam(cube, reference, undefined=0, valid=mask),
        }
        assert {name: result[name] for name in alone} == pytest.approx(alone)
        assert set(result) == set(plain) | set(alone) == set(VariantScore.__annotations__)
        assert result["psnr_clipped"] > result["psnr"]
        assert result["sam_zeros"] < result["sam"]

    def test_no_pixel_to_score_gives_nan(self):
        result = variant_score(*cubes(), np.zeros((20, 24), bool))
        assert result.pop("pixels") == 0
        assert result.pop("bands") == 4
        assert np.isnan(list(result.values())).all()
