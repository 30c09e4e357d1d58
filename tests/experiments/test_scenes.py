import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import SceneReadError, SettingsError
from pixelssr_geo.experiments.scenes import (
    PROTOCOLS,
    Ratio,
    SceneSource,
    benchmark_folder,
    chosen_scenes,
    frozen_scenes,
    load_ground,
    load_trial,
    parse_noise,
    percent_text,
)
from pixelssr_geo.points import read_points
from pixelssr_geo.scene import open_scene
from pixelssr_geo.simulation import simulate
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_cube
from pixelssr_geo.writers import write_cog


def trial_of(source, protocol="random", points="20", noise=0.002, seed=0):
    return load_trial(source, protocol, Ratio.parse(points), noise, seed)


class TestRatio:
    @pytest.mark.parametrize(
        ("text", "valid", "count"),
        [
            ("0", 1000, 0),
            ("2", 1000, 2),
            ("18", 10, 18),
            ("0.1%", 18_432, 18),
            ("1%", 18_432, 184),
            ("10%", 21_025, 2102),
            ("0.01%", 10_000, 2),
        ],
    )
    def test_it_counts_as_the_frozen_points_do(self, text, valid, count):
        assert Ratio.parse(text).count(valid) == count
        assert str(Ratio.parse(text)) == text

    @given(thousandths=st.integers(0, 100_000))
    def test_texts_are_one_for_each_share(self, thousandths):
        ratio = Ratio.parse(f"{thousandths / 1000:.3f}%")
        assert Ratio.parse(str(ratio)) == ratio
        assert parse_noise(percent_text(ratio.value)) == pytest.approx(ratio.value)

    @pytest.mark.parametrize(
        "text", ["", "x", "-1", "1.5", "nan", "inf", "101%", "-1%", "1%x", "%"]
    )
    def test_anything_else_is_refused(self, text):
        with pytest.raises(SettingsError, match="asked for as points"):
            Ratio.parse(text)

    @pytest.mark.parametrize("text", ["", "1", "-1%", "x%", "inf%"])
    def test_noise_is_a_share(self, text):
        with pytest.raises(SettingsError, match="asked for as noise"):
            parse_noise(text)


class TestProtocols:
    def test_random_takes_and_scores_every_valid_pixel(self, tiny):
        ground = load_ground(tiny)
        assert ground.valid.sum() == 2000 - 28
        assert (ground.allowed("random") == ground.valid).all()
        assert (ground.scored("random") == ground.valid).all()

    @pytest.mark.parametrize("protocol", ["block", "corner"])
    def test_the_others_score_what_they_take_no_points_from(self, tiny, protocol):
        ground = load_ground(tiny)
        taken, scored = ground.allowed(protocol), ground.scored(protocol)
        assert not (taken & scored).any()
        assert ((taken | scored) == ground.valid).all()

    def test_block_is_a_chequerboard_and_corner_the_upper_left(self, tiny):
        ground = load_ground(tiny)
        block, corner = ground.allowed("block"), ground.allowed("corner")
        assert block[:10, :10].all()
        assert not block[:10, 10:20].any()
        assert block[10:20, 10:20].all()
        assert corner[:12, :15].all()
        assert corner.sum() == 12 * 15

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_points_lie_where_they_may_and_are_not_scored(self, tiny, protocol):
        trial = trial_of(tiny, protocol)
        rows, cols = trial.labels.rows, trial.labels.cols
        assert len(trial.labels) == 20
        assert trial.ground.allowed(protocol)[rows, cols].all()
        assert not trial.scored[rows, cols].any()
        rest = trial.ground.scored(protocol).sum() - (20 if protocol == "random" else 0)
        assert trial.scored.sum() == rest
        truth = trial.ground.cube.values[:, rows, cols].T
        np.testing.assert_allclose(trial.labels.spectra, truth, atol=1e-6)

    def test_without_points_the_same_pixels_are_scored(self, tiny):
        none, some = trial_of(tiny, "block", "0"), trial_of(tiny, "block")
        assert none.labels is None
        assert none.points is None
        assert (none.scored == some.scored).all()

    def test_more_points_than_pixels_are_refused(self, tiny):
        with pytest.raises(SettingsError, match="protocol 'corner' has 180 valid pixels"):
            trial_of(tiny, "corner", "181")


class TestDraws:
    def test_a_seed_is_a_draw(self, tiny):
        first, again, other = trial_of(tiny), trial_of(tiny), trial_of(tiny, seed=1)
        np.testing.assert_array_equal(first.scene.values, again.scene.values)
        np.testing.assert_array_equal(first.labels.rows, again.labels.rows)
        assert (first.labels.rows != other.labels.rows).any()
        assert np.nanmax(np.abs(first.scene.values - other.scene.values)) > 0

    @pytest.mark.parametrize("noise", [0, 0.002, 0.03])
    def test_noise_is_a_share_of_the_mean(self, tiny, noise):
        trial = trial_of(tiny, noise=noise)
        clean = np.einsum("bc,cyx->byx", trial.matrix, trial.ground.cube.values)
        spread = np.nanstd(trial.scene.values - clean)
        assert spread == pytest.approx(noise * np.nanmean(clean), rel=0.03, abs=1e-7)

    def test_the_scene_is_that_of_simulate(self, tiny, tmp_path):
        trial = trial_of(tiny, noise=0.01, seed=3)
        written = simulate(tiny.cube, get_sensor("GF6-PMS"), tmp_path, points=5, snr=100, seed=3)
        theirs = open_scene(written.scene).values
        np.testing.assert_allclose(trial.scene.values, theirs, atol=1e-6)

    def test_channels_outside_the_library_are_cut_and_with_them_bands(self, tmp_path):
        write_cog(make_cube(wavelengths="550:1200:10"), tmp_path / "wide.tif")
        source = SceneSource("wide", tmp_path / "wide.tif", sensor="GF6-PMS")
        trial = trial_of(source)
        assert trial.ground.channels.centres_nm[-1] == 1010
        assert trial.ground.response.names == ("Red", "NIR")
        assert trial.scene.shape == (2, 40, 50)
        assert trial.labels.bands.shape == (20, 2)


class TestChosenScenes:
    def test_cubes_are_named_by_their_file_or_as_told(self):
        cubes = ["some/park.tif", "north=a=1/park.tif", "year/a=1/city.tif"]
        found = chosen_scenes(cubes=cubes, sensor="GF6-PMS")
        assert [source.name for source in found] == ["park", "north", "city"]
        paths = ["some/park.tif", "a=1/park.tif", "year/a=1/city.tif"]
        assert [str(source.cube) for source in found] == paths

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"cubes": ["a.tif"]}, "needs one of the two"),
            ({"cubes": ["a.tif"], "sensor": "GF6-PMS", "response": "r.csv"}, "one of the two"),
            ({"cubes": ["a/a.tif", "b/a.tif"], "sensor": "GF6-PMS"}, "two scenes are called 'a'"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, options, told):
        with pytest.raises(SettingsError, match=told):
            chosen_scenes(**options)

    def test_a_missing_benchmark_is_told(self, monkeypatch, tmp_path):
        monkeypatch.delenv("PIXELSSR_DATA", raising=False)
        with pytest.raises(SceneReadError, match="give --data ROOT"):
            chosen_scenes()
        monkeypatch.setenv("PIXELSSR_DATA", str(tmp_path / "data"))
        with pytest.raises(SceneReadError, match=r"benchmark' holds no gf6_pms_response\.csv"):
            chosen_scenes()


class TestFrozenScenes:
    def test_every_scene_is_found_by_name(self, benchmark_data):
        assert benchmark_folder(benchmark_data) == benchmark_data
        assert set(frozen_scenes(benchmark_data)) == {"potsdam", "jasper", "pines", "muufl"}
        chosen = chosen_scenes(["muufl"], data=benchmark_data)
        assert [source.name for source in chosen] == ["muufl"]
        with pytest.raises(SettingsError, match="no frozen scene 'x', expected some of jasper"):
            chosen_scenes(["x"], data=benchmark_data)

    @pytest.mark.parametrize("points", ["2", "0.1%", "1%", "10%"])
    def test_shares_are_those_of_the_frozen_points(self, benchmark_data, points):
        for name, source in frozen_scenes(benchmark_data).items():
            count = Ratio.parse(points).count(int(load_ground(source).valid.sum()))
            assert (benchmark_data / name / f"points_{count:04d}_s0.gpkg").exists()

    def test_a_trial_has_the_frozen_scene_and_points(self, benchmark_data):
        source = frozen_scenes(benchmark_data)["potsdam"]
        trial = trial_of(source, points="0.1%", seed=1)
        frozen = read_points(benchmark_data / "potsdam" / "points_0018_s1.gpkg")
        np.testing.assert_array_equal(trial.points.x, frozen.x)
        scene = open_scene(
            benchmark_data / "potsdam" / "scene_s1.tif", response=source.response, scale=1
        )
        np.testing.assert_array_equal(trial.scene.values, scene.values)
        assert trial.scored.sum() == 18_432 - 18

    def test_other_noise_has_the_frozen_points_too(self, benchmark_data):
        source = frozen_scenes(benchmark_data)["jasper"]
        usual, noisy = trial_of(source, points="10"), trial_of(source, points="10", noise=0.03)
        np.testing.assert_array_equal(usual.labels.rows, noisy.labels.rows)
        apart = np.std(usual.scene.values - noisy.scene.values)
        assert apart == pytest.approx(0.03 * usual.scene.values.mean(), rel=0.05)
