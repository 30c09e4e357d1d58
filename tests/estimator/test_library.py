"""The shipped spectral library and its mixtures."""

import numpy as np
import pytest

from pixelssr_geo.errors import WavelengthGridError
from pixelssr_geo.estimator import means
from pixelssr_geo.estimator.library import MIXTURES, fit_library, load_library, random_mixtures
from pixelssr_geo.spectra import ChannelGrid, get_sensor


def test_the_shipped_library_is_complete() -> None:
    library = load_library()
    assert library.reflectance.shape == (7261, 61)
    assert library.simulated.shape == (7261,)
    assert library.simulated.sum() == 2000
    assert len(library.material) == 7261
    np.testing.assert_array_equal(library.wavelengths_nm, np.arange(400, 1001, 10))
    assert library.reflectance.min() >= 0
    assert library.reflectance.max() <= 1


def test_only_green_plants_are_simulated() -> None:
    library = load_library()
    simulated = {
        name for name, made in zip(library.material, library.simulated, strict=True) if made
    }
    assert all(name.startswith("vegetation/") for name in simulated)


def test_its_own_channels_are_returned_as_they_are() -> None:
    library = load_library()
    found = library.on_channels(ChannelGrid.from_spec("400:1000:10"))
    np.testing.assert_allclose(found, library.reflectance, atol=1e-12)


def test_channels_between_are_interpolated() -> None:
    library = load_library()
    found = library.on_channels(ChannelGrid.from_spec("402.5:422.5:10"))
    expected = 0.75 * library.reflectance[:, :3] + 0.25 * library.reflectance[:, 1:4]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_channels_within_ten_nm_of_the_ends_take_the_end() -> None:
    library = load_library()
    found = library.on_channels(ChannelGrid.from_spec("391:1009:618"))
    np.testing.assert_allclose(found, library.reflectance[:, [0, -1]], atol=1e-12)


@pytest.mark.parametrize("spec", ["380:1000:10", "400:1020:10", "1500:1700:10"])
def test_channels_outside_are_refused(spec: str) -> None:
    with pytest.raises(WavelengthGridError, match="library covers 400-1000 nm: give --wavelengths"):
        load_library().on_channels(ChannelGrid.from_spec(spec))


def test_mixtures_depend_on_the_seed_alone() -> None:
    channels = ChannelGrid.from_spec("420:900:40")
    first = random_mixtures(load_library(), channels, count=50, seed=3)
    np.testing.assert_array_equal(
        first, random_mixtures(load_library(), channels, count=50, seed=3)
    )
    assert not np.array_equal(first, random_mixtures(load_library(), channels, count=50, seed=4))


def test_mixtures_stay_within_the_brightest_spectrum() -> None:
    channels, library = ChannelGrid.from_spec("420:900:40"), load_library()
    mixtures = random_mixtures(library, channels, count=3000)
    assert mixtures.shape == (3000, 13)
    assert mixtures.min() >= 0
    assert (mixtures.max(0) <= 1.2 * library.on_channels(channels).max(0)).all()


def test_a_fit_knows_the_mixtures_that_it_rests_on() -> None:
    channels = ChannelGrid.from_spec("400:1000:30")
    response = get_sensor("GF6-PMS").matrix(channels)
    prior = fit_library(channels, response, shapes=False)
    np.testing.assert_array_equal(prior.mixtures, random_mixtures(load_library(), channels))
    assert len(prior.mixtures) == MIXTURES
    seen = prior.mixtures @ response.T
    found = prior.projection(prior.regression.predict(seen), seen)
    error = np.sqrt(((found - prior.mixtures) ** 2).mean(0))
    # With 15 features and 20,000 mixtures a left-out error is hardly another.
    np.testing.assert_allclose(prior.error, error, rtol=0.05, atol=1e-6)
    assert prior.shape is prior.space is prior.gaussians is None


@pytest.mark.parametrize("bands", [1, 4])
def test_shapes_are_fitted_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, bands: int
) -> None:
    monkeypatch.setattr(means, "MIXTURE_SAMPLES", 1000)
    channels = ChannelGrid.from_spec("400:1000:30")
    response = get_sensor("GF6-PMS").matrix(channels)[:bands]
    prior = fit_library(channels, response)
    assert prior.shape is not None
    assert prior.space is not None
    assert (prior.gaussians is None) is (bands == 1)
    bare = fit_library(channels, response, shapes=False)
    np.testing.assert_array_equal(bare.regression.coefficients, prior.regression.coefficients)


def test_channels_outside_the_library_are_refused_by_a_fit() -> None:
    channels = ChannelGrid.from_spec("400:1100:10")
    with pytest.raises(WavelengthGridError):
        fit_library(channels, get_sensor("GF6-PMS").matrix(channels))
