"""Every per-pixel method on a small scene, and their figures on a real one."""

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.estimator import Projection
from pixelssr_geo.experiments import methods
from pixelssr_geo.experiments.methods import (
    ANCHORS,
    METHODS,
    PROJECTION,
    PackageMethod,
    PixelMethod,
    chosen_methods,
    library_mixtures,
    reconstruct_trial,
)
from pixelssr_geo.experiments.scenes import Ratio, load_trial
from pixelssr_geo.metrics import rmse
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid

PLAIN = [name for name in ANCHORS if not name.endswith(PROJECTION)]


@pytest.fixture(scope="module")
def few_mixtures():
    """The library regression in a tenth of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "MIXTURES", 2000)
        yield


@pytest.fixture(scope="module")
def trial(tiny, few_mixtures):
    return load_trial(tiny, "random", Ratio.parse("30"), 0.002, 0)


@pytest.fixture(scope="module")
def cube_of(trial):
    """The cube of a method, made once."""

    @cache
    def made(name):
        return reconstruct_trial(name, trial, 0).cube

    return made


@pytest.mark.parametrize("name", ANCHORS)
def test_a_cube_has_a_value_where_the_scene_has_and_nowhere_else(trial, cube_of, name):
    cube = cube_of(name)
    assert cube.shape == (61, 40, 50)
    assert cube.dtype == np.float32
    known = np.isfinite(trial.scene.values).all(0)
    assert np.isfinite(cube[:, known]).all()
    assert np.isnan(cube[:, ~known]).all()


@pytest.mark.parametrize("name", PLAIN)
def test_the_projected_method_is_the_plain_one_made_to_agree_with_the_scene(trial, cube_of, name):
    plain, projected = cube_of(name), cube_of(name + PROJECTION)
    scene = trial.scene.values
    seen = np.einsum("bc,cyx->byx", trial.matrix, projected)
    np.testing.assert_allclose(seen, scene, atol=1e-6)
    known = trial.scored
    expected = Projection.of(trial.matrix)(plain[:, known].T.astype("f8"), scene[:, known].T)
    np.testing.assert_allclose(projected[:, known].T, expected, atol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_a_second_run_gives_the_same_bits(trial, cube_of, name):
    np.testing.assert_array_equal(reconstruct_trial(name, trial, 1).cube, cube_of(name))


@pytest.mark.parametrize("name", [name for name in PLAIN if ANCHORS[name].least])
def test_methods_that_learn_from_points_beat_the_lines_between_bands(trial, cube_of, name):
    truth = trial.ground.cube.values[:, trial.scored]
    lines = rmse(cube_of("interpolation")[:, trial.scored], truth)
    assert rmse(cube_of(name)[:, trial.scored], truth) < lines


@pytest.mark.parametrize("name", [name for name in PLAIN if not ANCHORS[name].least])
def test_methods_without_points_do_not_look_at_them(trial, cube_of, name):
    unlabelled = replace(trial, labels=None, points=None)
    np.testing.assert_array_equal(reconstruct_trial(name, unlabelled, 0).cube, cube_of(name))


def test_two_points_are_enough_for_every_method(tiny):
    trial = load_trial(tiny, "corner", Ratio.parse("2"), 0.002, 0)
    for name in ("ridge", "poly2", "gpr"):
        cube = reconstruct_trial(name, trial, 0).cube
        assert np.isfinite(cube[:, trial.scored]).all()


def test_interpolation_meets_a_straight_spectrum_between_the_outer_bands(trial):
    channels, response = trial.ground.channels, trial.matrix[::-1]  # bands in any order
    spectrum = 0.1 + 5e-4 * (channels.centres_nm - 400)
    scene = np.broadcast_to((response @ spectrum)[:, None, None], (4, 2, 3)).astype("f4")
    cube = ANCHORS["interpolation"](None, scene, response, channels)
    low, *_, high = np.sort(response @ channels.centres_nm)
    expected = 0.1 + 5e-4 * (channels.centres_nm.clip(low, high) - 400)
    np.testing.assert_allclose(
        cube, np.broadcast_to(expected[:, None, None], cube.shape), rtol=1e-6
    )


def test_a_regression_recovers_what_is_linear_in_the_bands(trial):
    draws = np.random.default_rng(0)
    mixing = draws.uniform(0, 1, (4, len(trial.ground.channels)))
    bands = draws.uniform(0.05, 0.5, (40, 4))
    labels = replace(trial.labels, bands=bands, spectra=bands @ mixing + 0.02)
    scene = draws.uniform(0.05, 0.5, (4, 5, 6)).astype("f4")
    expected = np.einsum("bc,byx->cyx", mixing, scene) + 0.02
    for name in ("ridge", "poly2", "gpr"):
        cube = ANCHORS[name](labels, scene, trial.matrix, trial.ground.channels)
        np.testing.assert_allclose(cube, expected, atol=0.01)


def test_pixels_beyond_one_slab_are_predicted_too(trial, monkeypatch, cube_of):
    monkeypatch.setattr(methods, "SLAB_PIXELS", 700)
    cube = reconstruct_trial("ridge", trial, 0).cube
    np.testing.assert_allclose(cube, cube_of("ridge"), atol=1e-6)


def test_library_mixtures_are_always_the_same(few_mixtures):
    channels = ChannelGrid.from_spec("450:900:50")
    first = library_mixtures(channels)
    assert first.shape == (2000, 10)
    assert first.min() >= 0
    np.testing.assert_array_equal(first, library_mixtures(channels))


class TestNames:
    def test_every_per_pixel_method_is_there_with_and_without_projection(self):
        assert {name + PROJECTION for name in PLAIN} | set(PLAIN) == set(ANCHORS)
        assert [m.projected for m in ANCHORS.values()] == [False, True] * len(PLAIN)

    def test_the_package_s_methods_are_settings(self):
        own = {name: m for name, m in METHODS.items() if isinstance(m, PackageMethod)}
        assert set(own) == {"product", "estimator", "dypro", "paper"}
        assert all(Settings.of(method=method.method) for method in own.values())

    def test_two_names_stand_for_all_of_them_and_for_the_projected(self):
        assert chosen_methods(["anchors", "ridge", "product"]) == [*ANCHORS, "product"]
        projected = [name + PROJECTION for name in PLAIN]
        assert chosen_methods(["ridge+projection", "projected"]) == [
            "ridge+projection",
            *(name for name in projected if name != "ridge+projection"),
        ]

    def test_an_unknown_one_is_refused_with_those_that_are_known(self):
        with pytest.raises(SettingsError, match=r"no method 'rigde', expected anchors .* ridge, "):
            chosen_methods(["ridge", "rigde"])


class TestOwnMethods:
    @pytest.mark.parametrize("name", ["estimator", "product"])
    def test_a_method_of_the_package_gives_a_cube_and_its_own_error(self, trial, name):
        made = reconstruct_trial(name, trial, 0)
        assert made.cube.shape == (61, 40, 50)
        assert np.isfinite(made.cube[:, trial.scored]).all()
        truth = trial.ground.cube.values[:, trial.scored]
        assert 0.1 < made.cv_rmse / rmse(made.cube[:, trial.scored], truth) < 10
        assert made.gate is None

    def test_without_points_it_goes_by_the_library_alone(self, trial):
        made = reconstruct_trial("estimator", replace(trial, labels=None, points=None), 0)
        assert made.cv_rmse is None
        assert np.isfinite(made.cube[:, trial.scored]).all()

    @pytest.mark.long
    @pytest.mark.parametrize("name", ["dypro", "paper"])
    def test_networks_are_trained_on_the_scene(self, trial, name):
        made = reconstruct_trial(name, trial, 0)
        assert np.isfinite(made.cube[:, trial.scored]).all()
        assert made.gate == (1.0 if name == "dypro" else None)


def test_no_warning_of_a_regression_reaches_the_user(trial):
    # A process on constant spectra ends at the bounds of its search.
    labels = replace(trial.labels, spectra=np.full_like(trial.labels.spectra, 0.3))
    method: PixelMethod = ANCHORS["gpr"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cube = method(labels, trial.scene.values, trial.matrix, trial.ground.channels)
    assert np.nanmax(np.abs(cube - 0.3)) < 1e-3
