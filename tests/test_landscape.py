import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import SettingsError, WavelengthGridError
from pixelssr_geo.landscape import (
    COVER_NAMES,
    PIXEL_SIZE_M,
    TEXTURED,
    field_points,
    make_landscape,
    smooth_field,
    trait_spectrum,
    water_spectrum,
)
from pixelssr_geo.spectra import ChannelGrid, get_sensor


@pytest.fixture(scope="module")
def landscape():
    return make_landscape(192, seed=1)


@pytest.fixture(scope="module")
def bands(landscape):
    """What GF-6 PMS sees, with 0.2 % noise: S and the scene ``(band, y, x)``."""
    response = get_sensor("GF-6 PMS").matrix(landscape.channels)
    scene = np.einsum("bc,cyx->byx", response, landscape.cube)
    noise = np.random.default_rng(0).standard_normal(scene.shape)
    return response, scene * (1 + 0.002 * noise)


def window_deviation(scene, width=5):
    margin = width // 2
    padded = np.pad(scene, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(1, 2))
    return windows.std(axis=(-1, -2))


def quadratic(values):
    pairs = [values[:, i] * values[:, j] for i in range(values.shape[1]) for j in range(i + 1)]
    return np.column_stack([np.ones(len(values)), values, *pairs])


def withheld_variance(features, target, training):
    """Mean squared error, at withheld pixels, of a quadratic ridge regression."""
    own = features[training]
    terms = quadratic((features - own.mean(axis=0)) / own.std(axis=0))
    seen = terms[training]
    normal = seen.T @ seen + 1e-5 * len(seen) * np.eye(seen.shape[1])
    weights = np.linalg.solve(normal, seen.T @ target[training])
    return ((target - terms @ weights)[~training] ** 2).mean()


def test_a_cube_of_reflectances_on_the_channels_asked():
    channels = ChannelGrid.from_spec("450:950:20")
    made = make_landscape(48, channels=channels)
    assert made.cube.shape == (26, 48, 48)
    assert made.cube.dtype == np.float32
    assert made.cover.dtype == np.int8
    assert made.channels is channels
    assert made.cube.min() > 0
    assert made.cube.max() <= 1


def test_the_same_seed_gives_the_same_landscape():
    first, again, other = (make_landscape(32, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.cube, again.cube)
    np.testing.assert_array_equal(first.cover, again.cover)
    assert not np.array_equal(first.cover, other.cover)


@pytest.mark.parametrize("seed", range(3))
def test_every_land_cover_is_there_and_farmland_prevails(seed):
    cover = make_landscape(128, seed=seed).cover
    share = dict(zip(COVER_NAMES, np.bincount(cover.ravel()) / cover.size, strict=True))
    assert min(share.values()) > 0.01
    assert share["crop"] + share["meadow"] + share["bare soil"] > 0.5


def test_land_covers_look_as_they_do_from_space(landscape):
    red, infrared = (np.argmin(np.abs(landscape.channels.centres_nm - nm)) for nm in (660, 830))
    mean = {name: landscape.cube[:, landscape.is_cover(name)].mean(axis=1) for name in COVER_NAMES}
    for name in ("crop", "meadow", "forest"):
        assert mean[name][infrared] > 3 * mean[name][red], name
    assert mean["water"][infrared] < mean["water"][0]
    assert mean["water"].max() < 0.1
    assert mean["bare soil"][infrared] < 2 * mean["bare soil"][red]
    assert mean["forest"].mean() < mean["crop"].mean()


def test_pixels_on_borders_are_mixed(landscape):
    """No pixel of the river's banks jumps from water to land."""
    infrared = np.argmin(np.abs(landscape.channels.centres_nm - 830))
    row = landscape.cube[infrared]
    bank = (row > 0.1) & (row < 0.2) & ~landscape.is_cover("road", "building", "bare soil")
    water = landscape.is_cover("water")
    beside = np.zeros_like(water)
    beside[1:] |= water[:-1]
    beside[:-1] |= water[1:]
    beside[:, 1:] |= water[:, :-1]
    beside[:, :-1] |= water[:, 1:]
    assert (bank & (beside | water)).sum() > 0.25 * (beside & ~water).sum()


def test_bands_of_gf6_do_not_see_the_trait(landscape, bands):
    response, _ = bands
    change = trait_spectrum(landscape.channels.centres_nm)
    assert np.abs(response @ change).max() < 0.01 * np.abs(change).max()


def test_the_trait_matters_between_the_bands(landscape):
    nm = landscape.channels.centres_nm
    affected = ((nm >= 680) & (nm <= 780)) | (nm >= 900)
    trait = landscape.trait[landscape.is_cover(*TEXTURED)]
    signal = np.sqrt((trait**2).mean() * (trait_spectrum(nm)[affected] ** 2).mean())
    assert 0.01 <= signal <= 0.02


def test_the_neighbourhood_tells_what_the_pixel_does_not(landscape, bands):
    """Local deviations of the bands explain much of what no band sees in green places."""
    response, scene = bands
    green = landscape.is_cover(*TEXTURED)
    spectra = landscape.cube[:, green].T.astype("f8")
    hidden = spectra - spectra @ response.T @ np.linalg.pinv(response).T
    pixel = scene[:, green].T
    neighbourhood = np.column_stack([pixel, window_deviation(scene)[:, green].T])
    training = np.random.default_rng(0).random(len(pixel)) < 0.3
    assert training.sum() > 3000
    by_pixel = withheld_variance(pixel, hidden, training)
    by_neighbourhood = withheld_variance(neighbourhood, hidden, training)
    assert by_neighbourhood <= 0.65 * by_pixel

    trait = landscape.trait[green].astype("f8")
    assert withheld_variance(pixel, trait, training) > 0.8 * trait.var()
    assert withheld_variance(neighbourhood, trait, training) < 0.55 * trait.var()


def test_texture_has_a_contrast_of_a_few_percent(landscape):
    infrared = landscape.cube[np.argmin(np.abs(landscape.channels.centres_nm - 830))]
    contrast = window_deviation(infrared[None])[0] / infrared
    typical = np.quantile(contrast[landscape.is_cover("crop")], [0.1, 0.5])
    assert 0.02 < typical[0] < 0.06
    assert 0.05 < typical[1] < 0.12


def test_field_points_are_spread_over_the_land(landscape):
    x, y, rows, cols = field_points(landscape, 60, seed=3)
    assert x.shape == y.shape == rows.shape == cols.shape == (60,)
    assert len(np.unique(rows * 192 + cols)) == 60
    classes = landscape.cover[rows, cols]
    assert set(classes) == set(range(1, len(COVER_NAMES)))  # all but water
    gaps = np.hypot(rows[:, None] - rows, cols[:, None] - cols) + 1e9 * np.eye(60)
    assert np.median(gaps.min(axis=1)) > 0.5 * 192 / np.sqrt(60)


def test_field_points_lie_in_their_pixels_but_for_the_position_error(landscape):
    a, b, left, d, e, top = landscape.transform
    assert (a, e, b, d) == (PIXEL_SIZE_M, -PIXEL_SIZE_M, 0, 0)
    x, y, rows, cols = field_points(landscape, 200, position_error_m=0.0)
    np.testing.assert_allclose((x - left) / a, cols + 0.5)
    np.testing.assert_allclose((y - top) / e, rows + 0.5)
    noted_x, noted_y, *pixels = field_points(landscape, 200, position_error_m=2.0)
    np.testing.assert_array_equal(pixels, [rows, cols])
    assert 1.7 < np.std(np.concatenate([noted_x - x, noted_y - y])) < 2.3


@given(seed=st.integers(0, 10**6), count=st.integers(1, 150))
@settings(max_examples=25, deadline=None)
def test_field_points_are_as_many_different_land_pixels_as_asked(seed, count):
    tiny = make_landscape(16)
    count = min(count, int((tiny.cover != 0).sum()))
    _, _, rows, cols = field_points(tiny, count, seed=seed)
    assert len(np.unique(rows * 16 + cols)) == count
    assert (tiny.cover[rows, cols] != 0).all()


def test_field_points_can_take_every_land_pixel():
    tiny = make_landscape(16)
    land = int((tiny.cover != 0).sum())
    _, _, rows, _ = field_points(tiny, land)
    assert len(rows) == land
    with pytest.raises(SettingsError, match=f"{land + 1} field points .* {land} pixels of land"):
        field_points(tiny, land + 1)


def test_settings_that_make_no_landscape_are_refused(landscape):
    with pytest.raises(SettingsError, match="at least 16"):
        make_landscape(15)
    with pytest.raises(WavelengthGridError, match="1200"):
        make_landscape(32, channels=ChannelGrid.from_spec("400:1200:10"))
    with pytest.raises(SettingsError, match="position error"):
        field_points(landscape, 5, position_error_m=-1)


@given(length=st.floats(0.5, 20), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_smooth_fields_vary_slowly(length, seed):
    field = smooth_field(64, length, np.random.default_rng(seed))
    assert field.shape == (64, 64)
    # Derivative of a field with a Gaussian correlation: 1 / (sqrt(2) length) a pixel on average.
    assert np.abs(np.diff(field, axis=0)).mean() < 2 / length


def test_water_darkens_with_wavelength():
    spectrum = water_spectrum(np.arange(400.0, 1001, 10), 90)
    assert (np.diff(spectrum) < 0).all()
    assert spectrum[0] == pytest.approx(0.065)
