"""Claims about the empirical line between a scene's values and its points' reflectance."""

import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.calibration import LEAST_POINTS, Calibration, fit_calibration
from pixelssr_geo.errors import PixelSSRWarning, PointsError, SettingsError
from pixelssr_geo.fitting import FittedModel, SceneReader, fit
from pixelssr_geo.identity import run_identity
from pixelssr_geo.metrics import psnr
from pixelssr_geo.points import PointSpectra, read_points
from pixelssr_geo.reconstruction import reconstruct, reconstruct_to_file
from pixelssr_geo.scene import open_cube, open_scene, scene_response
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.testing import make_cube, make_points, make_scene
from pixelssr_geo.tiling.plan import Window, plan_tiles
from pixelssr_geo.writers import write_cog, write_envi, write_zarr

pytestmark = pytest.mark.usefixtures("one_library")

GAIN = np.array([9000.0, 7000.0, 5200.0, 3100.0])
OFFSET = np.array([410.0, 260.0, 120.0, 35.0])
NAMES = ("Blue", "Green", "Red", "NIR")
UNITS = ("reflectance", "scene")


def counted(scene: xr.DataArray, gain: np.ndarray = GAIN, offset: np.ndarray = OFFSET):
    """The scene as counts, by a line of every band."""
    values = scene.data * gain[:, None, None] + offset[:, None, None]
    return scene.copy(data=values.astype("f4"))


def fit_on(scene: xr.DataArray, points: PointSpectra | None, **options: object) -> FittedModel:
    return fit(scene, points, Settings.of(**{"method": "estimator", **options}))


def cube_of(model: FittedModel) -> np.ndarray:
    plan = plan_tiles(model.reader.shape)
    return model.block(plan, Window(0, 0, *model.reader.shape))


def moved(points: PointSpectra, count: int) -> PointSpectra:
    """Some of the points with the spectrum of other places, brighter than any."""
    spectra = points.reflectance.copy()
    spectra[:count] = 0.9 - 0.5 * spectra[:count]
    return replace(points, reflectance=spectra)


class TestLines:
    @settings(max_examples=40, deadline=None)
    @given(
        count=st.integers(5, 60),
        kind=st.sampled_from(["gain", "gain-offset"]),
        gain=st.floats(1e-3, 1e5),
        level=st.floats(-0.3, 2),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_a_fifth_of_wild_points_does_not_move_an_exact_line(
        self, count, kind, gain, level, seed
    ):
        draws = np.random.default_rng(seed)
        x = draws.uniform(0.02, 0.6, (count, 1))
        offset = 0.0 if kind == "gain" else gain * level
        y = gain * x + offset
        y[: count // 5] += gain * draws.choice([-1, 1], (count // 5, 1)) * draws.uniform(1, 5)
        found = fit_calibration(x, y, kind)
        assert found.gain[0] == pytest.approx(gain, rel=1e-5)
        assert found.offset[0] == pytest.approx(offset, abs=1e-5 * gain)
        assert found.points == count

    @pytest.mark.parametrize("kind", ["gain", "gain-offset"])
    @pytest.mark.parametrize("seed", range(5))
    def test_noise_and_dark_outliers_leave_the_gain_within_a_hundredth(self, kind, seed):
        draws = np.random.default_rng(seed)
        x = draws.uniform(0.03, 0.5, (40, 4))
        y = GAIN * (x + 0.002 * draws.standard_normal(x.shape))
        y += OFFSET * (kind == "gain-offset")
        y[:8] *= 0.4
        found = fit_calibration(x, y, kind)
        np.testing.assert_allclose(found.gain, GAIN, rtol=0.01)
        assert (found.spread < 0.004).all()
        np.testing.assert_allclose(found.gain_error, 0.002, atol=0.004)

    def test_the_error_of_the_gain_is_what_repetition_shows(self):
        draws = np.random.default_rng(0)
        x = draws.uniform(0.1, 0.4, (30, 1))
        fits = [
            fit_calibration(x, 5 * x + 0.1 * draws.standard_normal(x.shape), "gain-offset")
            for _ in range(300)
        ]
        seen = np.std([found.gain[0] for found in fits]) / 5
        assert np.mean([found.gain_error[0] for found in fits]) == pytest.approx(seen, rel=0.2)
        assert np.mean([found.spread[0] for found in fits]) == pytest.approx(0.02, rel=0.1)

    def test_points_without_a_value_do_not_count(self):
        x = np.linspace(0.1, 0.5, 8)[:, None]
        y = 4 * x
        y[2] = np.nan
        assert fit_calibration(x, y, "gain").points == 7

    def test_many_points_are_fitted_like_few(self):
        draws = np.random.default_rng(0)
        x = draws.uniform(0, 1, (5000, 1))
        found = fit_calibration(x, 3 * x + 1 + 0.01 * draws.standard_normal(x.shape), "gain-offset")
        assert found.gain[0] == pytest.approx(3, rel=1e-3)

    @pytest.mark.parametrize("kind", ["gain", "gain-offset"])
    def test_too_few_points_are_refused_with_a_cure(self, kind):
        x = np.linspace(0.1, 0.5, LEAST_POINTS[kind])[:, None]
        assert fit_calibration(x, x, kind).gain[0] == pytest.approx(1)
        with pytest.raises(SettingsError, match=rf"needs {len(x)}: give more --points"):
            fit_calibration(x[1:], x[1:], kind)

    def test_a_gain_is_offered_where_points_for_it_are_there(self):
        x = np.linspace(0.1, 0.5, 4)[:, None]
        with pytest.raises(SettingsError, match="use --calibrate gain"):
            fit_calibration(x, x, "gain-offset")

    @pytest.mark.parametrize("kind", ["gain", "gain-offset"])
    def test_a_band_that_falls_where_the_points_rise_is_refused(self, kind):
        x = np.linspace(0.1, 0.5, 9)[:, None]
        y = -x if kind == "gain" else 1 - x
        with pytest.raises(PointsError, match=r"band Red .* does not rise .*check the points'"):
            fit_calibration(x, y, kind, names=["Red"])

    def test_pixels_that_have_nothing_to_do_with_the_points_are_refused(self):
        draws = np.random.default_rng(3)
        refused = 0
        for _ in range(40):
            try:
                fit_calibration(draws.random((15, 1)), draws.random((15, 1)), "gain-offset")
            except PointsError:
                refused += 1
        assert refused >= 37

    def test_points_without_contrast_are_refused_for_an_offset_only(self):
        x = np.full((9, 1), 0.2)
        with pytest.raises(PointsError, match=r"reflect the same in band B1.*--calibrate gain"):
            fit_calibration(x, 3 * x, "gain-offset")
        assert fit_calibration(x, 3 * x, "gain").gain[0] == pytest.approx(3)

    def test_black_points_are_refused(self):
        with pytest.raises(PointsError, match="reflect nothing in band B1"):
            fit_calibration(np.zeros((9, 1)), np.ones((9, 1)), "gain")

    def test_a_gain_a_hundred_times_the_others_is_refused(self):
        x = np.linspace(0.1, 0.5, 9)[:, None]
        with pytest.raises(PointsError, match=r"gain of band C is 500 and the bands' median 1,"):
            fit_calibration(np.tile(x, 3), x * [1, 1, 500], "gain", names="ABC")

    def test_weak_contrast_and_uncertain_gains_are_noted(self):
        draws = np.random.default_rng(0)
        x = np.column_stack([draws.uniform(0.1, 0.11, 30), draws.uniform(0.1, 0.6, 30)])
        noisy = 4 * x + 0.004 * draws.standard_normal(x.shape)
        (note,) = fit_calibration(x, noisy, "gain-offset", names="RN").notes("RN")
        assert "band R rests on points of weak contrast" in note
        assert "use --calibrate gain" in note
        assert fit_calibration(x, noisy, "gain").notes("RN") == []

    def test_shapes_that_differ_are_refused(self):
        with pytest.raises(SettingsError, match="expected one shape"):
            fit_calibration(np.ones((5, 2)), np.ones((5, 3)), "gain")


LINES = fit_calibration(
    np.linspace(0.05, 0.5, 12)[:, None] * np.ones(4),
    np.linspace(0.05, 0.5, 12)[:, None] * GAIN + OFFSET,
    "gain-offset",
)


class TestApplied:
    def test_blocks_and_spectra_become_reflectance_and_nan_stays(self):
        values = make_scene().values
        values[:, 3, 4] = np.nan
        found = LINES.on_block(counted(make_scene()).values)
        np.testing.assert_allclose(found, make_scene().values, atol=1e-6)
        assert found.dtype == np.float32
        holed = LINES.on_block(values)
        assert np.isnan(holed[:, 3, 4]).all()
        assert np.isnan(holed).sum() == 4
        np.testing.assert_allclose(LINES.reflectance(GAIN * 0.3 + OFFSET), 0.3)

    def test_a_reader_calibrates_once_whether_it_holds_or_not(self):
        scene = counted(make_scene()).values
        window, inner = Window(2, 3, 20, 20), Window(5, 6, 7, 8)
        for data in (scene, da.from_array(scene, chunks=(4, 7, 9))):
            reader = SceneReader(data, calibration=LINES)
            expected = make_scene().values[:, 5:12, 6:14]
            for known in (reader, reader.holding(window), reader.holding(window).holding(inner)):
                np.testing.assert_allclose(known.window(inner), expected, atol=1e-6)

    def test_it_survives_pickling(self):
        known: Calibration = pickle.loads(pickle.dumps(LINES))
        np.testing.assert_array_equal(known.gain, LINES.gain)
        assert known.told(NAMES) == LINES.told(NAMES)


class TestFit:
    def test_counts_give_the_cube_of_the_reflectance(self):
        scene, points = make_scene(), make_points(20)
        model = fit_on(counted(scene), points, calibrate="gain-offset")
        assert model.calibration is not None
        # The points' spectra on 10 nm channels see the bands a little otherwise than the scene.
        np.testing.assert_allclose(model.calibration.gain, GAIN, rtol=0.01)
        plain = cube_of(fit_on(scene, points))
        reference = make_cube().values
        assert psnr(cube_of(model), reference) > psnr(plain, reference) - 0.1

    def test_the_default_calibrates_nothing(self):
        assert fit_on(make_scene(), make_points(12)).calibration is None

    def test_a_lazy_scene_with_holes_gives_the_same(self):
        scene = counted(make_scene(nodata_hole=(slice(3, 9), slice(4, 30))))
        eager = fit_on(scene, make_points(30), calibrate="gain-offset")
        lazy = fit_on(scene.chunk({"y": 16, "x": 16}), make_points(30), calibrate="gain-offset")
        np.testing.assert_array_equal(cube_of(eager), cube_of(lazy))
        assert np.isnan(cube_of(eager)[:, 3:9, 4:30]).all()
        assert np.isfinite(cube_of(eager)[:, 10:]).all()

    def test_a_calibrated_model_can_be_sent_to_a_worker(self):
        model = fit_on(counted(make_scene()), make_points(12), calibrate="gain-offset")
        np.testing.assert_array_equal(cube_of(pickle.loads(pickle.dumps(model))), cube_of(model))

    def test_the_warning_of_scaled_values_looks_at_what_is_calibrated(self):
        counts = counted(make_scene())
        fit_on(counts, make_points(12), calibrate="gain-offset")
        with pytest.warns(PixelSSRWarning, match=r"give --scale .* or --calibrate"):
            fit_on(counts, make_points(12))

    def test_wrong_points_are_rejected_after_calibration_and_do_not_bend_it(self):
        points = moved(make_points(30), 5)
        model = fit_on(counted(make_scene()), points, calibrate="gain-offset", reject_outliers=True)
        assert model.calibration is not None
        assert model.paired is not None
        np.testing.assert_allclose(model.calibration.gain, GAIN, rtol=0.01)
        assert {point.id for point in model.paired.dropped} == {f"p{n}" for n in range(1, 6)}
        assert model.calibration.points == 30

    def test_bands_outside_the_channels_are_not_calibrated(self):
        model = fit_on(
            counted(make_scene()),
            make_points(12),
            calibrate="gain-offset",
            wavelengths="400:760:10",
        )
        assert model.calibration is not None
        assert list(model.calibration.told(model.bands)) == ["Blue", "Green", "Red"]

    @pytest.mark.parametrize("method", ["library", "ridge"])
    def test_other_methods_calibrate_too(self, method):
        scene, points = make_scene(), make_points(20)
        model = fit_on(counted(scene), points, calibrate="gain-offset", method=method)
        plain = cube_of(fit_on(scene, points, method=method))
        np.testing.assert_allclose(cube_of(model), plain, atol=0.02)
        noted = "to calibrate the scene and to measure the error" in " ".join(model.notes)
        assert noted == (method == "library")

    @pytest.mark.parametrize("count", [0, 4])
    def test_too_few_points_are_refused_before_the_scene_is_read(self, count):
        told: list[str] = []
        with pytest.raises(SettingsError, match=f"{count} are usable, it needs 5"):
            fit(
                make_scene(),
                make_points(count) if count else None,
                Settings.of(calibrate="gain-offset"),
                progress=lambda stage, *_: told.append(stage),
            )
        assert told == []

    def test_weak_contrast_is_a_note_of_the_fit(self):
        points = make_points(12)
        gray = 0.3 + 0.02 * (points.reflectance - 0.3)
        scene = make_scene()
        scene = counted(scene.copy(data=(0.3 + 0.02 * (scene.data - 0.3)).astype("f4")))
        model = fit_on(scene, replace(points, reflectance=gray), calibrate="gain-offset")
        assert any("weak contrast" in note for note in model.notes)


class TestReported:
    def test_summary_and_provenance_tell_the_lines(self, tmp_path: Path):
        output = tmp_path / "cube.tif"
        asked = Settings.of(method="estimator", calibrate="gain-offset")
        _, summary = reconstruct_to_file(counted(make_scene()), make_points(12), output, asked)
        assert summary.calibration is not None
        assert list(summary.calibration) == list(NAMES)
        assert summary.calibration["Red"]["gain"] == pytest.approx(GAIN[2], rel=0.01)
        assert json.loads(summary.to_json())["calibration"] == summary.calibration
        lines = [line for line in summary.lines() if " x reflectance " in line]
        assert lines[0].startswith("calibrated  Blue: scene = ")
        assert len(lines) == 4
        with rasterio.open(output) as file:
            assert json.loads(file.tags()["calibration"]) == summary.calibration
            assert json.loads(file.tags()["config"])["calibrate"] == "gain-offset"

    def test_without_calibration_there_is_none(self, tmp_path: Path):
        output = tmp_path / "cube.tif"
        asked = Settings.of(method="estimator")
        _, summary = reconstruct_to_file(make_scene(), make_points(12), output, asked)
        assert summary.calibration is None
        assert not any(line.startswith("calibrated") for line in summary.lines())
        with rasterio.open(output) as file:
            assert "calibration" not in file.tags()

    def test_it_is_part_of_a_runs_identity(self):
        scene, channels = make_scene(), ChannelGrid.from_spec("400:1000:10")
        told = [
            run_identity(scene, None, scene_response(scene), Settings.of(**options), channels)
            for options in ({}, {"calibrate": "gain"}, {"reject_outliers": True})
        ]
        assert told[0] != told[1]
        assert told[0] != told[2]


class TestUndone:
    """The cube in the scene's own units."""

    @settings(max_examples=40, deadline=None)
    @given(
        bands=st.integers(1, 6),
        seed=st.integers(0, 2**32 - 1),
        channels=st.integers(1, 30),
    )
    def test_lines_of_channels_lie_between_those_of_their_bands(self, bands, seed, channels):
        draws = np.random.default_rng(seed)
        centres = 400 + 600 * draws.random(bands)
        gain, offset = draws.uniform(1, 9, bands), draws.normal(size=bands)
        none = np.zeros(bands)
        lines = Calibration(gain, offset, none, 9, none, none, "gain-offset")
        wanted = 300 + 800 * draws.random(channels)
        found = lines.on_channels(centres, wanted)
        at_bands = lines.on_channels(centres, centres)
        np.testing.assert_allclose(at_bands.gain, gain)
        np.testing.assert_allclose(at_bands.offset, offset)
        assert ((found.gain >= gain.min() - 1e-9) & (found.gain <= gain.max() + 1e-9)).all()
        for beyond, band in ((wanted < centres.min(), 0), (wanted > centres.max(), -1)):
            last = np.argsort(centres)[band]
            np.testing.assert_allclose(found.gain[beyond], gain[last])
            np.testing.assert_allclose(found.offset[beyond], offset[last])

    def test_blocks_go_back_to_the_scene(self):
        scene = counted(make_scene()).values
        np.testing.assert_allclose(LINES.off_block(LINES.on_block(scene)), scene, rtol=1e-6)

    @settings(max_examples=4, deadline=None)
    @given(
        gain=st.floats(0.5, 2e4),
        offset=st.floats(-0.05, 0.2),
        kind=st.sampled_from(["gain", "gain-offset"]),
        method=st.sampled_from(["estimator", "ridge", "library"]),
    )
    def test_one_line_for_all_bands_gives_gain_times_the_cube_plus_offset(
        self, gain, offset, kind, method
    ):
        """Every channel has the line then, and the projection has nothing left to do."""
        offset *= gain * (kind == "gain-offset")
        scene, points = make_scene(), make_points(20)
        scene = scene.copy(data=(scene.data * gain + offset).astype("f4"))
        asked = {"calibrate": kind, "method": method}
        plain, undone = (fit_on(scene, points, **asked, units=u) for u in ("reflectance", "scene"))
        lines = plain.calibration
        assert lines is not None
        assert undone.lines is not None
        expected = undone.lines.on_spectra(np.moveaxis(cube_of(plain), 0, -1).astype("f8"))
        # The bands' own lines differ a little, for they are fitted: the projection moves by that.
        slack = np.ptp(lines.gain) + np.ptp(lines.offset) + 1e-4 * gain
        np.testing.assert_allclose(np.moveaxis(cube_of(undone), 0, -1), expected, atol=slack)

    @pytest.mark.parametrize("method", ["estimator", "ridge", "library"])
    def test_the_cube_re_simulates_the_scene_as_it_was_given(self, method):
        scene = counted(make_scene(nodata_hole=(slice(3, 9), slice(4, 30))))
        model = fit_on(
            scene, make_points(20), calibrate="gain-offset", units="scene", method=method
        )
        cube = cube_of(model)
        bands = np.einsum("bc,cyx->byx", model.projection.response, cube.astype("f8"))
        np.testing.assert_allclose(bands, scene.values, rtol=2e-6)
        misfit = model.misfit(cube, Window(0, 0, *model.reader.shape))
        assert np.sqrt(misfit.squares / misfit.values) < 1e-5 * scene.values[:, 20].mean()

    def test_lazily_and_to_file_it_is_the_same(self, tmp_path: Path):
        scene, points = counted(make_scene()), make_points(12)
        asked = {"method": "estimator", "calibrate": "gain", "units": "scene"}
        lazy = reconstruct(scene, points, **asked)
        assert lazy.name == "scene_value"
        assert lazy.attrs["long_name"] == "value in the scene's own units"
        assert "standard_name" not in lazy.attrs
        for name in ("cube.tif", "cube.zarr", "cube.bsq"):
            _, summary = reconstruct_to_file(scene, points, tmp_path / name, Settings.of(**asked))
            found = open_cube(tmp_path / name)
            np.testing.assert_array_equal(found.values, lazy.values)
            assert found.name == "scene_value"
            assert summary.units == "scene"
            assert any(line.startswith("units       the scene's own") for line in summary.lines())
        with rasterio.open(tmp_path / "cube.tif") as file:
            assert file.tags()["value_units"] == "scene"
            assert file.tags()["quantity"] == "scene_value"
        again = write_cog(open_cube(tmp_path / "cube.zarr"), tmp_path / "again.tif")
        assert open_cube(again).name == "scene_value"

    def test_the_papers_cube_keeps_what_it_re_simulates(self):
        """It need not agree with the scene, and undoing the calibration is no reason that it must."""
        scene, points = counted(make_scene()), make_points(12)
        asked = {
            "method": "paper",
            "steps": 1,
            "calibrate": "gain-offset",
            "tile": 32,
            "overlap": 8,
        }
        options = {"net_options": {"width": 8}, "wavelengths": "400:1000:50"}
        plain, undone = (fit_on(scene, points, **asked, **options, units=u) for u in UNITS)
        bands = plain.projection.response @ cube_of(plain).astype("f8").reshape(13, -1)
        found = plain.projection.response @ cube_of(undone).astype("f8").reshape(13, -1)
        assert plain.calibration is not None
        expected = bands * plain.calibration.gain[:, None] + plain.calibration.offset[:, None]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-2)

    @pytest.mark.parametrize("kind", ["gain", "gain-offset"])
    def test_labels_are_told_in_the_units_of_the_cube(self, kind):
        scene, points = counted(make_scene()), make_points(12)
        plain, undone = (fit_on(scene, points, calibrate=kind, units=u) for u in UNITS)
        labels, told = plain.labels_in_units(), undone.labels_in_units()
        assert labels is not None
        assert told is not None
        assert undone.lines is not None
        np.testing.assert_allclose(told.spectra, undone.lines.on_spectra(labels.spectra))
        assert fit_on(make_scene(), None, method="library").labels_in_units() is None

    def test_without_a_calibration_there_is_nothing_to_undo(self):
        with pytest.raises(SettingsError, match="undoes a calibration and there is none"):
            Settings.of(units="scene")

    def test_whole_numbers_that_end_at_six_are_refused(self, tmp_path: Path):
        scene, points = counted(make_scene()), make_points(12)
        asked = {"method": "estimator", "calibrate": "gain", "units": "scene"}
        said = "uint16', which ends at 6.5534 .* give --dtype float32, or --units reflectance"
        with pytest.raises(SettingsError, match=said):
            reconstruct_to_file(
                scene, points, tmp_path / "a.tif", Settings.of(**asked), dtype="uint16"
            )
        cube = reconstruct(scene, points, **asked)
        for write, name in ((write_cog, "a.tif"), (write_zarr, "a.zarr"), (write_envi, "a.bsq")):
            with pytest.raises(SettingsError, match=said):
                write(cube, tmp_path / name, dtype="uint16")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "pines",
        "potsdam",
        pytest.param("jasper", marks=pytest.mark.long),
        pytest.param("muufl", marks=pytest.mark.long),
    ],
)
def test_counts_of_real_scenes_are_recovered(benchmark_data: Path, name: str):
    """Planted gains to 1 %, the cube within 0.1 dB of that of the scene as it was."""
    folder = benchmark_data / name
    scene = open_scene(
        folder / "scene_s0.tif", response=benchmark_data / "gf6_pms_response.csv", scale=1
    )
    count = {"pines": 210, "potsdam": 184}.get(name, 100)
    points = read_points(folder / f"points_{count:04d}_s0.gpkg")
    reference = open_cube(folder / "reference.tif").values
    asked = {"method": "estimator", "wavelengths": f"like:{folder / 'reference.tif'}"}
    counts = scene.copy(data=scene.data * GAIN[:, None, None] + OFFSET[:, None, None])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PixelSSRWarning)
        plain = reconstruct(scene, points, **asked).values
    model = fit(counts, points, Settings.of(**asked, calibrate="gain-offset"))
    own = fit(scene, points, Settings.of(**asked, calibrate="gain-offset"))
    assert model.calibration is not None
    assert own.calibration is not None
    # What the points say of the untouched scene is no error of the calibration.
    np.testing.assert_allclose(model.calibration.gain, GAIN * own.calibration.gain, rtol=1e-4)
    np.testing.assert_allclose(model.calibration.gain, GAIN, rtol=0.01)
    calibrated = reconstruct(counts, points, **asked, calibrate="gain-offset").values
    known = np.isfinite(reference).all(0) & np.isfinite(plain).all(0)
    before = psnr(plain[:, None, known], reference[:, None, known])
    assert psnr(calibrated[:, None, known], reference[:, None, known]) > before - 0.1
