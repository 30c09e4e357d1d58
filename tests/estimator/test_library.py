"""The shipped spectral library and its mixtures."""

import numpy as np
import pytest

from pixelssr_geo.errors import WavelengthGridError
from pixelssr_geo.estimator.library import load_library, random_mixtures
from pixelssr_geo.spectra import ChannelGrid


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
