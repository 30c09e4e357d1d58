"""The consistency projection: what it promises of spectra and cubes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import ResponseError
from pixelssr_geo.estimator import Projection, usable_bands
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor

CHANNELS = ChannelGrid.from_spec("400:1000:10")
RESPONSE = get_sensor("GF6-PMS").matrix(CHANNELS)


def make_spectra(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 0.6, (count, len(CHANNELS)))


@settings(max_examples=30, deadline=None)
@given(bands=st.integers(1, 6), channels=st.integers(6, 40), seed=st.integers(0, 10_000))
def test_projected_spectra_resimulate_the_bands(bands: int, channels: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    response = draws.dirichlet(np.ones(channels), bands)
    y, x = draws.random((5, channels)), draws.random((5, bands))
    projection = Projection.of(response)
    np.testing.assert_allclose(projection(y, x) @ response.T, x, atol=1e-9)


def test_projecting_twice_changes_nothing() -> None:
    projection = Projection.of(RESPONSE)
    y, x = make_spectra(20), make_spectra(20, seed=1) @ RESPONSE.T
    once = projection(y, x)
    np.testing.assert_allclose(projection(once, x), once, atol=1e-12)


def test_spectra_that_agree_already_are_kept() -> None:
    y = make_spectra(20)
    np.testing.assert_allclose(Projection.of(RESPONSE)(y, y @ RESPONSE.T), y, atol=1e-12)


def test_no_other_consistent_spectrum_is_nearer() -> None:
    projection = Projection.of(RESPONSE)
    y, x = make_spectra(10), make_spectra(10, seed=1) @ RESPONSE.T
    nearest = np.linalg.norm(projection(y, x) - y, axis=1)
    for seed in range(5):
        other = projection(make_spectra(10, seed=seed + 2), x)  # consistent as well
        assert (np.linalg.norm(other - y, axis=1) >= nearest - 1e-12).all()


def test_the_null_part_is_what_no_band_sees_and_the_rest_is_what_they_see() -> None:
    projection, y = Projection.of(RESPONSE), make_spectra(10)
    null = projection.null_part(y)
    np.testing.assert_allclose(null @ RESPONSE.T, 0, atol=1e-12)
    np.testing.assert_allclose(projection.null_part(null), null, atol=1e-12)
    np.testing.assert_allclose(projection(null, y @ RESPONSE.T), y, atol=1e-12)


def test_a_band_that_is_a_mixture_of_others_does_no_harm() -> None:
    response = np.vstack([RESPONSE, RESPONSE[:2].mean(0)])
    y, truth = make_spectra(10), make_spectra(10, seed=1)
    x = truth @ response.T
    np.testing.assert_allclose(Projection.of(response)(y, x) @ response.T, x, atol=1e-9)


def test_a_float32_cube_resimulates_the_scene() -> None:
    projection = Projection.of(RESPONSE)
    cube = make_spectra(24 * 17).T.reshape(-1, 24, 17).astype("f4")
    scene = (make_spectra(24 * 17, seed=1) @ RESPONSE.T).T.reshape(-1, 24, 17).astype("f4")
    found = projection.on_cube(cube.copy(), scene)
    assert found.dtype == np.float32
    seen = np.einsum("bc,cyx->byx", RESPONSE, found.astype("f8"))
    np.testing.assert_allclose(seen, scene, atol=1e-6)
    spectra = projection(
        np.moveaxis(cube, 0, -1).astype("f8"), np.moveaxis(scene, 0, -1).astype("f8")
    )
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), spectra, atol=1e-6)


def test_a_cube_is_changed_in_place_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    projection = Projection.of(RESPONSE)
    cube = make_spectra(9 * 7).T.reshape(-1, 9, 7).astype("f4")
    scene = (make_spectra(9 * 7, seed=1) @ RESPONSE.T).T.reshape(-1, 9, 7).astype("f4")
    cube = np.ascontiguousarray(cube)
    expected = projection.on_cube(cube.copy(), scene)
    monkeypatch.setattr("pixelssr_geo.estimator.projection.SLAB_PIXELS", 15)  # two rows, one left
    assert projection.on_cube(cube, scene) is cube
    np.testing.assert_allclose(cube, expected, atol=1e-7)


def test_a_pixel_without_data_stays_without_and_touches_no_other() -> None:
    projection = Projection.of(RESPONSE)
    cube = make_spectra(16).T.reshape(-1, 4, 4).astype("f4")
    scene = np.full((len(RESPONSE), 4, 4), 0.2, "f4")
    whole = projection.on_cube(cube.copy(), scene)
    scene[:, 1, 2] = np.nan
    holed = projection.on_cube(cube, scene)
    assert np.isnan(holed[:, 1, 2]).all()
    known = np.isfinite(scene[0])
    np.testing.assert_allclose(holed[:, known], whole[:, known], atol=1e-7)


def test_bands_beyond_the_channels_are_not_usable() -> None:
    response = SpectralResponse.from_bands([450, 650, 985, 1600], [60, 60, 60, 80])
    assert usable_bands(response, CHANNELS).tolist() == [0, 1]


def test_no_usable_band_is_an_error_that_names_the_cure() -> None:
    response = SpectralResponse.from_bands([1600, 2200], [80, 150])
    with pytest.raises(ResponseError, match=r"1600, 2200 nm, none lies .* give --wavelengths"):
        usable_bands(response, CHANNELS)
