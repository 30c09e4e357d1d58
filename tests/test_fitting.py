"""From scene, points and settings to a fitted model: what is read, refused and remembered."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from pixelssr_geo import fitting
from pixelssr_geo.errors import (
    DeviceError,
    OutputError,
    PixelSSRWarning,
    ResponseError,
    SceneError,
    SettingsError,
    WavelengthGridError,
    WeightsError,
)
from pixelssr_geo.fitting import (
    CrossValidation,
    FittedModel,
    SceneReader,
    fit,
    resolve_channels,
    resolve_device,
    scene_statistics,
    train,
)
from pixelssr_geo.landscape import Landscape, make_landscape
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor
from pixelssr_geo.testing import make_cube
from pixelssr_geo.testing import make_points as made_points
from pixelssr_geo.tiling.plan import Window, plan_tiles
from pixelssr_geo.training import correction, pixel
from pixelssr_geo.training.correction import CorrectionPlan
from pixelssr_geo.training.pixel import PixelPlan
from pixelssr_geo.writers import CubeTemplate, write_cog

pytestmark = pytest.mark.usefixtures("one_library")

CHANNELS = ChannelGrid.from_spec("400:1000:20")
SPEC = "400:1000:20"
SENSOR = get_sensor("GF6-PMS")
RESPONSE = SENSOR.matrix(CHANNELS)
SIZE = 40
LANDSCAPE = make_landscape(SIZE, seed=0, channels=CHANNELS)
BANDS = np.einsum("bc,cyx->byx", RESPONSE, LANDSCAPE.cube).astype("f4")


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """Narrow networks on small patches, on one thread: tiny images are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "CorrectionPlan", partial(CorrectionPlan, patch=12, batch=3))
        patch.setattr(pixel, "PixelPlan", partial(PixelPlan, patch=12, unlabelled=4))
        for module in (correction, pixel):
            patch.setattr(module, "create_net", partial(create_net, width=8))
        patch.setattr(correction, "CONTEXT", 12)
        yield
    torch.set_num_threads(before)


def make_scene(bands: np.ndarray = BANDS, sensor: str | None = "GF6-PMS") -> xr.DataArray:
    """A scene in memory on the landscape's grid."""
    a, _, c, _, e, f = LANDSCAPE.transform
    height, width = bands.shape[1:]
    scene = xr.DataArray(
        bands,
        dims=("band", "y", "x"),
        coords={
            "band": list(SENSOR.names),
            "y": f + e * (np.arange(height) + 0.5),
            "x": c + a * (np.arange(width) + 0.5),
        },
    )
    if sensor is not None:
        scene.attrs["sensor"] = sensor
    located: xr.DataArray = scene.rio.write_crs(LANDSCAPE.crs)
    return located


def make_points(
    count: int, landscape: Landscape = LANDSCAPE, spectra: np.ndarray | None = None
) -> PointSpectra:
    size = landscape.cube.shape[1]
    chosen = np.random.default_rng(0).choice(size * size, count, replace=False)
    rows, cols = chosen // size, chosen % size
    a, _, c, _, e, f = landscape.transform
    values = landscape.cube[:, rows, cols].T.astype("f8")
    return PointSpectra(
        ids=tuple(map(str, range(count))),
        x=c + a * (cols + 0.5),
        y=f + e * (rows + 0.5),
        crs_wkt=CRS.from_string(landscape.crs).to_wkt(),
        wavelengths_nm=CHANNELS.centres_nm,
        reflectance=values if spectra is None else spectra,
    )


def fitted(count: int, scene: xr.DataArray | None = None, **options: Any) -> FittedModel:
    steps = {} if "weights" in options else {"steps": 1}
    return fit(
        make_scene() if scene is None else scene,
        make_points(count) if count else None,
        Settings.of(**{"wavelengths": SPEC, "tile": 16, "overlap": 4, **steps, **options}),
    )


def cube_of(model: FittedModel) -> np.ndarray:
    plan = plan_tiles(model.reader.shape, tile=model.settings.tile, overlap=model.settings.overlap)
    return model.block(plan, Window(0, 0, *model.reader.shape))


class TestReading:
    def test_a_pixel_without_data_in_one_band_has_none_in_any(self) -> None:
        values = BANDS.copy()
        values[2, 3, 4], values[0, 5, 6] = np.nan, np.inf
        window = SceneReader(values).window(Window(2, 2, 10, 10))
        missing = np.isnan(window)
        assert missing.all(0).sum() == missing.any(0).sum() == 2
        assert missing[:, 1, 2].all()
        assert missing[:, 3, 4].all()

    def test_reading_does_not_change_the_scene(self) -> None:
        values = BANDS.copy()
        values[2, 3, 4] = np.nan
        SceneReader(values).window(Window(0, 0, SIZE, SIZE))
        assert np.isfinite(values[0]).all()

    def test_lazy_and_eager_scenes_read_the_same(self) -> None:
        lazy = SceneReader(da.from_array(BANDS, chunks=(4, 7, 9)))
        window = Window(3, 5, 20, 30)
        np.testing.assert_array_equal(lazy.window(window), SceneReader(BANDS).window(window))
        assert lazy.shape == (SIZE, SIZE)

    @pytest.mark.parametrize("size", [1, 8, 40, 100])
    def test_patches_are_padded_and_the_padding_is_not_valid(self, size: int) -> None:
        values, valid = SceneReader(BANDS)(10, 20, size)
        assert values.shape == (4, size, size)
        height, width = min(size, SIZE - 10), min(size, SIZE - 20)
        np.testing.assert_array_equal(
            values[:, :height, :width], BANDS[:, 10 : 10 + height, 20 : 20 + width]
        )
        assert valid.sum() == height * width
        assert np.isfinite(values).all()

    @settings(max_examples=20, deadline=None)
    @given(
        block=st.sampled_from([7, 16, 1024]),
        missing=st.floats(0, 0.9),
        seed=st.integers(0, 100),
    )
    def test_statistics_are_those_of_the_valid_pixels(
        self, block: int, missing: float, seed: int
    ) -> None:
        values = BANDS[:, :30, :23].copy()
        gone = np.random.default_rng(seed).random((30, 23)) < missing
        values[1, gone] = np.nan
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "STATISTICS_BLOCK", block)
            found = scene_statistics(SceneReader(values), lambda *_: None)
        known = values[:, ~gone].astype("f8")
        np.testing.assert_allclose(found.mean, known.mean(1), rtol=1e-9)
        np.testing.assert_allclose(found.deviation, known.std(1), rtol=1e-6)

    def test_a_scene_of_nothing_but_nodata_is_refused(self) -> None:
        with pytest.raises(SceneError, match=r"every pixel .* is nodata"):
            fitted(0, make_scene(np.full_like(BANDS, np.nan)), method="library")


class TestWhatIsAskedFor:
    def test_the_cpu_is_found(self) -> None:
        assert resolve_device("cpu") == torch.device("cpu")
        assert resolve_device("auto").type in ("cpu", "cuda")

    def test_a_missing_gpu_is_refused_with_a_cure(self) -> None:
        with pytest.raises(DeviceError, match=r"cuda:63.*give --device cpu"):
            resolve_device("cuda:63")

    def test_channels_follow_the_points_by_default(self) -> None:
        points = make_points(3)
        red = points.wavelengths_nm < 700
        short = replace(
            points,
            wavelengths_nm=points.wavelengths_nm[red],
            reflectance=points.reflectance[:, red],
        )
        found = resolve_channels(Settings(), short)
        assert found.centres_nm[0] == 400
        assert found.centres_nm[-1] == 680
        assert len(resolve_channels(Settings(), None)) == 61

    def test_channels_can_be_those_of_another_cube(self, tmp_path: Path) -> None:
        template = CubeTemplate(
            (20, 20), (450.0, 553.5, 700.0), (9.0, 10.0, 11.0), None, (1, 0, 0, 0, -1, 20)
        )
        cube = template.to_dataarray(np.zeros((3, 20, 20), "f4"))
        write_cog(cube, tmp_path / "other.tif")
        found = resolve_channels(Settings(wavelengths=f"like:{tmp_path / 'other.tif'}"), None)
        np.testing.assert_allclose(found.centres_nm, [450, 553.5, 700])
        np.testing.assert_allclose(found.fwhm_nm, [9, 10, 11])
        wide = Settings(wavelengths=f"like:{tmp_path / 'other.tif'}", fwhm=25)
        np.testing.assert_allclose(resolve_channels(wide, None).fwhm_nm, 25)

    def test_the_order_of_dims_does_not_matter(self) -> None:
        scene = make_scene()
        one, other = fitted(10, scene), fitted(10, scene.transpose("y", "x", "band"))
        np.testing.assert_array_equal(cube_of(one), cube_of(other))

    def test_other_dims_are_refused(self) -> None:
        with pytest.raises(SceneError, match=r"dims \(channel, y, x\), \(band, y, x\) is needed"):
            fitted(0, make_scene().rename(band="channel"))

    def test_bands_beyond_the_cube_are_left_out_and_named(self) -> None:
        model = fitted(10, wavelengths="400:760:20")
        assert model.bands == SENSOR.names[:3]
        assert any("bands not used" in note and SENSOR.names[3] in note for note in model.notes)
        assert np.isfinite(cube_of(model)).all()

    def test_no_band_inside_the_cube_is_refused(self) -> None:
        with pytest.raises(ResponseError, match="none lies inside"):
            fitted(0, wavelengths="950:1000:10")

    def test_a_given_response_takes_the_place_of_the_scenes_own(self) -> None:
        scene = make_scene(sensor=None)
        model = fit(scene, make_points(10), Settings.of(wavelengths=SPEC), response=SENSOR)
        np.testing.assert_array_equal(cube_of(model), cube_of(fitted(10)))

    @pytest.mark.parametrize("names", [SENSOR.names[:3], (*SENSOR.names, "NIR")])
    def test_a_response_of_other_bands_is_refused(self, names: tuple[str, ...]) -> None:
        response = SpectralResponse.from_bands(
            np.linspace(500, 800, len(names)), np.full(len(names), 40.0)
        )
        with pytest.raises(ResponseError, match=rf"describes {len(names)} bands .* scene has 4"):
            fit(make_scene(), None, Settings.of(wavelengths=SPEC), response=response)

    def test_scaled_values_are_warned_of(self) -> None:
        with pytest.warns(PixelSSRWarning, match=r"reflectance lies in 0-1: give --scale"):
            fitted(0, make_scene(BANDS * 10000), method="library")

    def test_dypro_without_enough_points_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=r"4 are usable, it needs 5.*--method product"):
            fitted(4, method="dypro")

    def test_too_few_points_are_refused_before_the_scene_is_read(self) -> None:
        told: list[str] = []
        with pytest.raises(SettingsError, match="method 'dypro' trains on points"):
            fit(
                make_scene(),
                None,
                Settings.of(method="dypro", wavelengths=SPEC),
                progress=lambda stage, *_: told.append(stage),
            )
        assert told == []

    def test_a_scene_of_zeros_cannot_train_the_papers_network(self) -> None:
        with pytest.raises(SceneError, match="no band of the scene rises above 0"):
            fitted(0, make_scene(np.zeros_like(BANDS)), method="paper")

    def test_ridge_without_points_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="learns from points alone"):
            fitted(0, method="ridge")


WIDE = "400:2400:20"


def swir_scene() -> xr.DataArray:
    """A scene of all Sentinel-2 bands, in memory."""
    response = get_sensor("Sentinel-2A")
    cube = make_cube((30, 30), wavelengths=WIDE)
    values = np.einsum("bc,cyx->byx", response.matrix(ChannelGrid.from_spec(WIDE)), cube.values)
    scene = xr.DataArray(
        values.astype("f4"),
        dims=("band", "y", "x"),
        coords={"band": list(response.names), "y": cube["y"], "x": cube["x"]},
        attrs={"sensor": "Sentinel-2A"},
    )
    located: xr.DataArray = scene.rio.write_crs(cube.rio.crs)
    return located


def swir_points(missing: tuple[float, float] = (0, 0)) -> PointSpectra:
    """Points over 400-2400 nm without the values in a range."""
    points = made_points(15, (30, 30), wavelengths=WIDE)
    low, high = missing
    gone = (points.wavelengths_nm > low) & (points.wavelengths_nm < high)
    return replace(points, reflectance=np.where(gone, np.nan, points.reflectance))


def swir_fit(points: PointSpectra | None, wavelengths: str, **options: Any) -> FittedModel:
    return fit(swir_scene(), points, Settings.of(wavelengths=wavelengths, **options))


class TestChannelsThatLittleSupports:
    def test_ridge_reaches_as_far_as_the_points_do(self) -> None:
        model = swir_fit(swir_points(), WIDE, method="ridge")
        assert model.bands == get_sensor("Sentinel-2A").names
        expected = make_cube((30, 30), wavelengths=WIDE).values
        assert np.abs(cube_of(model) - expected).mean() < 0.02

    @pytest.mark.parametrize("method", ["product", "library", "dypro"])
    def test_beyond_the_library_its_methods_name_the_one_that_can(self, method: str) -> None:
        told = r"channels at 1020-2400 nm .* covers 400-1000 nm: give --method ridge"
        with pytest.raises(WavelengthGridError, match=told):
            swir_fit(swir_points(), WIDE, method=method)

    def test_what_neither_points_nor_library_support_is_refused(self) -> None:
        told = r"at 1360-1440 nm .* 400-1000 nm and points cover 400-1340, 1460-2400 nm: give"
        with pytest.raises(WavelengthGridError, match=told):
            swir_fit(swir_points((1345, 1455)), WIDE, method="ridge")
        with pytest.raises(WavelengthGridError, match="points cover none of them"):
            swir_fit(None, WIDE, method="library")

    def test_a_list_without_the_gap_is_taken(self) -> None:
        listed = [*range(400, 1341, 20), *range(1460, 2401, 20)]
        asked = ",".join(map(str, listed))
        model = swir_fit(swir_points((1345, 1455)), asked, method="ridge", fwhm=20)
        assert model.channels.centres_nm.tolist() == listed
        assert "B10" not in model.bands
        assert np.isfinite(cube_of(model)).all()

    def test_what_the_points_leave_to_the_library_is_noted(self) -> None:
        few = swir_fit(swir_points((965, 9999)), "400:1000:20", method="estimator")
        assert any("at 980-1000 nm: the spectra's nearest" in note for note in few.notes)
        none = swir_fit(swir_points((805, 9999)), "400:1000:20", method="estimator")
        assert any("all points are left out: --wavelengths 400-800" in note for note in none.notes)
        with pytest.raises(WavelengthGridError, match="method 'ridge' needs points there"):
            swir_fit(swir_points((805, 9999)), "400:1000:20", method="ridge")

    def test_bands_beyond_the_channels_are_named(self) -> None:
        model = swir_fit(swir_points(), "400:1000:20", method="estimator")
        assert len(model.bands) == 10
        assert any("B10 (1373 nm), B11 (1614 nm), B12" in note for note in model.notes)

    def test_covered_channels_leave_no_note(self) -> None:
        notes = fitted(10, method="ridge").notes
        assert not any("no point covers" in note for note in notes)


class TestMethods:
    def test_the_product_is_the_estimator_below_fifty_points(self) -> None:
        product, estimator = fitted(15), fitted(15, method="estimator")
        np.testing.assert_array_equal(cube_of(product), cube_of(estimator))
        assert product.gate is None
        assert product.network is None
        assert any("tried from 50 on" in note for note in product.notes)
        assert product.cross_validation == estimator.cross_validation

    def test_the_product_is_the_estimator_where_the_gate_is_shut(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fitting, "GATE_POINTS", 15)
        # A rate of zero leaves the correction at zero, which no gate lets through.
        monkeypatch.setattr(
            correction, "CorrectionPlan", partial(CorrectionPlan, patch=12, learning_rate=0.0)
        )
        product = fitted(15)
        assert product.gate is not None
        assert product.gate.value == 0
        assert product.correction is None
        assert any(note.startswith("gate shut") for note in product.notes)
        np.testing.assert_array_equal(cube_of(product), cube_of(fitted(15, method="estimator")))

    def test_the_gate_opens_for_a_correction_that_knows_the_truth(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fitting, "GATE_POINTS", 30)

        def knowing(_: Any, estimator: Any, labels: Any, *__: Any, **___: Any) -> np.ndarray:
            missed: np.ndarray = labels.spectra - estimator.at(labels)
            return missed

        monkeypatch.setattr(correction, "correction_at", knowing)
        product = fitted(30)
        assert product.gate is not None
        assert product.gate.value == pytest.approx(1)
        assert product.correction is not None
        assert product.network == "dypro-mamba"
        assert product.cross_validation is not None
        assert product.cross_validation.rmse == pytest.approx(0, abs=1e-9)

    def test_dypro_passes_the_gate_in_any_case(self) -> None:
        model = fitted(8, method="dypro", folds=2)
        assert model.gate is not None
        assert model.gate.value == 1
        assert model.network == "dypro-mamba"

    def test_points_outside_the_scene_leave_the_library(self) -> None:
        points = make_points(4)
        away = replace(points, x=points.x + 1e5)
        model = fit(make_scene(), away, Settings.of(wavelengths=SPEC))
        assert model.paired is not None
        assert [point.reason for point in model.paired.dropped] == ["outside"] * 4
        assert any("no usable point" in note for note in model.notes)
        np.testing.assert_array_equal(cube_of(model), cube_of(fitted(0)))
        assert model.cross_validation is None

    @pytest.mark.parametrize("method", ["product", "ridge", "library", "dypro"])
    def test_every_point_takes_part_in_the_validation(self, method: str) -> None:
        validation = fitted(9, method=method, folds=2).cross_validation
        assert isinstance(validation, CrossValidation)
        assert validation.n == 9
        assert 0 < validation.rmse < 0.3
        assert 0 < validation.sam < 60
        assert validation.spread is not None
        assert 0 < validation.spread < validation.rmse

    def test_points_in_a_single_block_have_no_spread(self) -> None:
        validation = fitted(1, method="library").cross_validation
        assert validation is not None
        assert validation.n == 1
        assert validation.spread is None, "not a number would be no JSON"

    @pytest.mark.parametrize("method", ["product", "ridge", "paper"])
    def test_a_single_point_cannot_be_validated(self, method: str) -> None:
        assert fitted(1, method=method).cross_validation is None

    @pytest.mark.parametrize("method", ["product", "ridge", "dypro", "paper"])
    def test_points_in_one_row_work(self, method: str) -> None:
        points = make_points(12)
        line = replace(points, y=np.full(12, points.y[0]), x=np.sort(points.x))
        settings = Settings.of(
            method=method, wavelengths=SPEC, tile=16, overlap=4, steps=1, folds=3
        )
        assert np.isfinite(cube_of(fit(make_scene(), line, settings))).all()

    def test_validation_foretells_the_error_over_the_scene(self) -> None:
        model = fitted(40)
        assert model.cross_validation is not None
        error = float(np.sqrt(((cube_of(model) - LANDSCAPE.cube) ** 2).mean()))
        assert 0.5 < model.cross_validation.rmse / error < 2


class TestWeights:
    def test_trained_weights_give_the_cube_that_training_gives(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        options = {"wavelengths": SPEC, "tile": 16, "overlap": 4, "steps": 2}
        validation = train(make_scene(), make_points(10), path, **options)
        assert validation is not None
        assert validation.n == 2
        direct = fitted(10, method="paper", steps=2)
        loaded = fitted(0, method="paper", weights=str(path))
        assert loaded.weights_hash is not None
        assert len(loaded.weights_hash) == 16
        np.testing.assert_array_equal(cube_of(loaded), cube_of(direct))
        drawn_anew = fitted(10, method="paper", weights=str(path), seed=1)
        assert not np.array_equal(cube_of(drawn_anew), cube_of(direct))
        assert "the points are not used: the weights are taken as they were trained" in (
            drawn_anew.notes
        )

    def test_training_without_points_is_unsupervised(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        assert train(make_scene(), None, path, wavelengths=SPEC, steps=1) is None
        model = fitted(0, method="paper")
        assert any("unsupervised" in note for note in model.notes)

    def test_a_missing_folder_is_refused_before_training(self, tmp_path: Path) -> None:
        told: list[str] = []
        with pytest.raises(OutputError, match="no folder"):
            train(
                make_scene(),
                None,
                tmp_path / "none" / "w.safetensors",
                progress=lambda stage, *_: told.append(stage),
            )
        assert told == []

    def test_weights_for_other_bands_or_channels_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        train(make_scene(), None, path, wavelengths=SPEC, steps=1)
        with pytest.raises(WeightsError, match="give --wavelengths as in training"):
            fitted(0, method="paper", weights=str(path), wavelengths="400:1000:10")
        with pytest.raises(WeightsError, match="train weights for this sensor"):
            fitted(0, make_scene()[:3], method="paper", weights=str(path))

    def test_a_scan_backend_goes_with_weights(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        train(make_scene(), None, path, wavelengths=SPEC, steps=1)
        named = {"net_options": {"scan_backend": "torch"}}
        model = fitted(0, method="paper", weights=str(path), **named)
        assert model.pixel_model is not None
        assert model.pixel_model.net.options["scan_backend"] == "torch"

    def test_train_takes_a_file_of_the_papers_method(self, tmp_path: Path) -> None:
        train(make_scene(), None, tmp_path / "w.safetensors", method="paper", steps=1)
        with pytest.raises(SettingsError, match="method 'ridge'"):
            train(make_scene(), None, tmp_path / "v.safetensors", method="ridge")

    @pytest.mark.parametrize(
        ("options", "named"),
        [({"widht": 3}, "widht"), ({"width": "40"}, "width"), ({"scan_backend": "warp"}, "warp")],
    )
    def test_options_of_the_network_are_refused_before_the_scene_is_read(
        self, options: dict[str, object], named: str
    ) -> None:
        told: list[str] = []
        with pytest.raises((SettingsError, DeviceError), match=named):
            fit(
                make_scene(),
                make_points(10),
                Settings.of(method="paper", net_options=options),
                progress=lambda stage, *_: told.append(stage),
            )
        assert told == []

    def test_weights_without_a_place_for_a_network_are_refused(self) -> None:
        with pytest.raises(SettingsError, match="'ridge' has no place for a network"):
            fitted(0, method="ridge", weights="w.safetensors")

    @pytest.mark.parametrize("kind", ["gamma-correlated", "gaussian"])
    def test_every_prior_can_be_trained_with(self, kind: str) -> None:
        assert np.isfinite(cube_of(fitted(6, method="paper", prior=kind))).all()


@pytest.mark.parametrize(
    ("method", "count", "note"),
    [
        ("product", 0, "no usable point: the cube rests on the spectral library alone"),
        ("library", 0, "no usable point: the cube rests on the spectral library alone"),
        ("library", 6, "the points are used to measure the error alone"),
        ("paper", 0, "trained without points: L_rep and L_SSIM alone (unsupervised)"),
    ],
)
def test_what_points_do_not_do_is_noted(method: str, count: int, note: str) -> None:
    notes = fitted(count, method=method).notes
    assert note in notes
    assert sum("point" in line and "network" not in line for line in notes) == 1


def test_a_failing_fold_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Barrier(2, timeout=60)
    failed = threading.Event()
    steps: list[int] = []

    def told(stage: str, done: int, total: int) -> None:
        if not stage.startswith("training") or done > 1:
            steps.append(done)
            return
        started.wait()
        if stage == "training, fold 1 of 2":
            failed.set()
            raise RuntimeError("planted")
        failed.wait(60)
        time.sleep(0.2)

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    options = Settings.of(method="dypro", wavelengths=SPEC, steps=1000, folds=2)
    with pytest.raises(RuntimeError, match="planted"):
        fit(make_scene(), make_points(10), options, progress=told)
    assert max(steps) < 1000


def test_progress_names_the_folds() -> None:
    told: list[tuple[str, int, int]] = []
    fit(
        make_scene(),
        make_points(10),
        Settings.of(method="dypro", wavelengths=SPEC, steps=1, folds=2),
        progress=lambda *entry: told.append(entry),
    )
    assert told[0] == ("reading the scene", 1, 1)
    # the folds train beside each other: either may be the first to tell
    assert sorted(told[1:3]) == [("training, fold 1 of 2", 1, 1), ("training, fold 2 of 2", 1, 1)]
    assert told[3:] == [("training on all points", 1, 1)]


def test_a_precision_that_changes_nothing_is_noted() -> None:
    told = "precision tf32 changes nothing on a CPU"
    assert told in fitted(6, method="ridge", precision="tf32").notes
    assert told not in fitted(6, method="ridge").notes


@pytest.mark.parametrize("method", ["product", "dypro", "paper"])
def test_a_scene_with_holes_is_fitted_on_what_it_has(method: str) -> None:
    bands = BANDS.copy()
    bands[:, 10:25, 5:30] = np.nan
    model = fitted(20, make_scene(bands), method=method)
    assert model.paired is not None
    assert {point.reason for point in model.paired.dropped} == {"nodata"}
    cube = cube_of(model)
    hole = np.zeros((SIZE, SIZE), bool)
    hole[10:25, 5:30] = True
    np.testing.assert_array_equal(np.isnan(cube), np.broadcast_to(hole, cube.shape))


@pytest.mark.parametrize("option", [{"method": "estimator"}, {"weights": "w.safetensors"}])
def test_train_refuses_options_under_which_it_would_not_train(
    option: dict[str, str], tmp_path: Path
) -> None:
    scene = xr.DataArray(np.zeros((4, 2, 2)), dims=("band", "y", "x"))
    with pytest.raises(SettingsError, match="leave that out"):
        fitting.train(scene, None, tmp_path / "w.safetensors", **option)
    assert not list(tmp_path.iterdir())
