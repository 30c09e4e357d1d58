"""The cube's standard deviation and extrapolation, written and given with it."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import rasterio
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo import reconstruction
from pixelssr_geo.errors import OutputError, ResumeError, SceneReadError, SettingsError
from pixelssr_geo.fitting import Coverage, FittedModel, fit
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.reconstruction import ESTIMATORS_ERROR, Summary, reconstruct, reconstruct_to_file
from pixelssr_geo.scene import open_cube, open_layer, open_scene
from pixelssr_geo.settings import Settings
from pixelssr_geo.testing import make_points, make_scene
from pixelssr_geo.tiling.plan import Window, plan_tiles
from pixelssr_geo.training import correction
from pixelssr_geo.writers import CubeDtype, output, write_cog, write_envi, write_zarr

pytestmark = pytest.mark.usefixtures("one_library")

Inputs: TypeAlias = tuple[xr.DataArray, PointSpectra]

METHODS: dict[str, dict[str, Any]] = {
    "ridge": {"method": "ridge"},
    "estimator": {"method": "estimator"},
    "dypro": {"method": "dypro", "steps": 2, "folds": 2, "tile": 32, "overlap": 8},
}
SPEC = "400:1000:50"
SHAPE = (96, 80)  # nine blocks
HOLE = (slice(5, 40), slice(20, 33))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    monkeypatch.setattr(correction, "create_net", partial(create_net, width=8))


@pytest.fixture
def memory() -> Iterator[None]:
    MemoryFileSystem.store.clear()
    yield
    MemoryFileSystem.store.clear()


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return make_scene(shape=SHAPE, nodata_hole=HOLE), make_points(14, SHAPE)


def settings_of(method: str, **more: Any) -> Settings:
    return Settings.of(wavelengths=SPEC, **METHODS[method], **more)


def run(
    inputs: Inputs, cube: Path | str, sd: Path | str | None, method: str, **more: Any
) -> Summary:
    asked = settings_of(method, **more.pop("settings", {}))
    return reconstruct_to_file(*inputs, cube, asked, uncertainty=sd, **more)[1]


@pytest.fixture(scope="module")
def lazy(inputs: Inputs) -> Callable[[str], xr.Dataset]:
    """Cube, deviation and extrapolation of a method, computed once."""
    known: dict[str, xr.Dataset] = {}

    def made(method: str) -> xr.Dataset:
        if method not in known:
            asked = {"wavelengths": SPEC, **METHODS[method]}
            known[method] = reconstruct(*inputs, uncertainty=True, **asked).compute()
        return known[method]

    return made


def bits(values: Any) -> Any:
    return np.asarray(values).view("u4")


def is_the_same(cube: Path | str, sd: Path | str, expected: xr.Dataset) -> None:
    """Both files hold the same bits as the dataset."""
    np.testing.assert_array_equal(bits(open_cube(cube)), bits(expected["reflectance"]))
    np.testing.assert_array_equal(bits(open_cube(sd)), bits(expected["deviation"]))
    found = open_layer(sd, "extrapolation")
    np.testing.assert_array_equal(bits(found), bits(expected["extrapolation"]))


class TestLazily:
    def test_a_dataset_holds_the_cube_and_what_is_known_of_its_error(
        self, inputs: Inputs, lazy: Callable[[str], xr.Dataset]
    ) -> None:
        scene, points = inputs
        asked = {"wavelengths": SPEC, "method": "estimator"}
        found = scene.pixelssr.reconstruct(points, uncertainty=True, **asked)
        assert isinstance(found, xr.Dataset)
        assert set(found.data_vars) == {"reflectance", "deviation", "extrapolation"}
        assert found["deviation"].dims == ("wavelength", "y", "x")
        assert found["extrapolation"].dims == ("y", "x")
        assert all(array.chunks is not None for array in found.values())
        alone = scene.pixelssr.reconstruct(points, **asked)
        assert isinstance(alone, xr.DataArray)
        np.testing.assert_array_equal(bits(alone), bits(lazy("estimator")["reflectance"]))
        assert found["deviation"].attrs["long_name"].startswith("standard deviation of the error")
        assert "standard_name" not in found["deviation"].attrs
        assert json.loads(found["deviation"].attrs["coverage"])["n"] == 14

    def test_a_block_is_computed_once_for_all_three(
        self, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        computed: list[Window] = []
        original = FittedModel.estimate

        def noted(model: FittedModel, plan: Any, window: Window, *rest: Any) -> Any:
            computed.append(window)
            return original(model, plan, window, *rest)

        monkeypatch.setattr(FittedModel, "estimate", noted)
        monkeypatch.setattr(FittedModel, "block", None)
        reconstruct(*inputs, uncertainty=True, wavelengths=SPEC, method="ridge").compute()
        assert len(computed) == 9

    @pytest.mark.parametrize("method", METHODS)
    def test_it_is_nan_where_the_cube_is_and_positive_elsewhere(
        self, method: str, lazy: Callable[[str], xr.Dataset]
    ) -> None:
        found = lazy(method)
        empty = np.zeros(SHAPE, bool)
        empty[HOLE] = True
        for name in ("reflectance", "deviation"):
            values = np.isnan(found[name].values)
            np.testing.assert_array_equal(values, np.broadcast_to(empty, values.shape))
        np.testing.assert_array_equal(np.isnan(found["extrapolation"].values), empty)
        assert (found["deviation"].values[:, ~empty] > 0).all()
        assert (found["extrapolation"].values[~empty] >= 0).all()

    def test_all_of_a_library_has_a_deviation_that_is_nan_without_data(self) -> None:
        scene = make_scene(shape=(20, 20), nodata_hole=(slice(2, 5), slice(3, 4)))
        found = reconstruct(scene, uncertainty=True, wavelengths=SPEC, method="library")
        for array in found.values():
            assert np.isnan(array.values[..., 2:5, 3]).all()
            assert np.isnan(array.values).mean() == pytest.approx(3 / 400)

    def test_extrapolation_is_nothing_at_the_points_and_grows_beyond(self, inputs: Inputs) -> None:
        scene, points = inputs
        far = scene.copy(data=scene.data.copy())
        far[:, 60:, 60:] = far[:, 60:, 60:] * [[[6.0]], [[0.2]], [[6.0]], [[0.1]]]
        model = fit(far, points.take(np.arange(10)), settings_of("ridge"))
        window = Window(0, 0, *SHAPE)
        assert model.paired is not None
        labels = model.paired.labels
        found = model.estimate(plan_tiles(SHAPE), window)
        assert (found.extrapolation[labels.rows, labels.cols] < 1e-3).all()
        usual, odd = found.extrapolation[:50, 40:], found.extrapolation[60:, 60:]
        assert np.median(odd) > 5 * np.median(usual) + 1

    def test_the_papers_network_knows_nothing_of_its_error(
        self, inputs: Inputs, tmp_path: Path
    ) -> None:
        with pytest.raises(SettingsError, match="'paper' gives a cube and nothing on its error"):
            reconstruct(*inputs, uncertainty=True, method="paper")
        with pytest.raises(SettingsError, match="use another --method, or leave it out"):
            reconstruct_to_file(
                *inputs, tmp_path / "a.tif", Settings(method="paper"), uncertainty="sd.tif"
            )
        assert not list(tmp_path.iterdir())


class TestSchedules:
    @pytest.mark.parametrize(
        ("method", "way"),
        [
            ("ridge", {"threads": 1}),
            ("ridge", {"block": 64, "threads": 2}),
            ("estimator", {"threads": 1}),
            ("estimator", {"threads": 3}),
            ("estimator", {"block": 128}),
            ("dypro", {"block": 64, "threads": 2}),
            pytest.param("dypro", {"threads": 1}, marks=pytest.mark.long),
            pytest.param("dypro", {"block": 128}, marks=pytest.mark.long),
        ],
        ids=str,
    )
    def test_threads_and_blocks_change_no_bit(
        self,
        method: str,
        way: dict[str, Any],
        inputs: Inputs,
        lazy: Callable[[str], xr.Dataset],
        tmp_path: Path,
    ) -> None:
        run(inputs, tmp_path / "cube.zarr", tmp_path / "sd.zarr", method, **way)
        is_the_same(tmp_path / "cube.zarr", tmp_path / "sd.zarr", lazy(method))

    def test_workers_change_no_bit(
        self, inputs: Inputs, lazy: Callable[[str], xr.Dataset], tmp_path: Path
    ) -> None:
        run(inputs, tmp_path / "cube.zarr", tmp_path / "sd.tif", "estimator", workers=2)
        is_the_same(tmp_path / "cube.zarr", tmp_path / "sd.tif", lazy("estimator"))

    @pytest.mark.parametrize("suffix", ["tif", "zarr", "bsq"])
    def test_the_cube_has_the_bytes_that_it_has_without(
        self, suffix: str, inputs: Inputs, tmp_path: Path
    ) -> None:
        one, other = (tmp_path / name for name in ("one", "other"))
        one.mkdir()
        other.mkdir()
        run(inputs, one / f"cube.{suffix}", one / "sd.tif", "estimator")
        run(inputs, other / f"cube.{suffix}", None, "estimator")
        for path in other.rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (one / path.relative_to(other)).read_bytes()


class TestFormats:
    @pytest.mark.parametrize("dtype", ["float32", "uint16"])
    @pytest.mark.parametrize(("cube", "sd"), [("tif", "zarr"), ("zarr", "bsq"), ("img", "tif")])
    def test_every_format_holds_the_same(
        self,
        cube: str,
        sd: str,
        dtype: CubeDtype,
        inputs: Inputs,
        lazy: Callable[[str], xr.Dataset],
        tmp_path: Path,
    ) -> None:
        places = tmp_path / f"cube.{cube}", tmp_path / f"sd.{sd}"
        summary = run(inputs, *places, "estimator", dtype=dtype)
        assert summary.uncertainty == str(places[1])
        expected = lazy("estimator")
        if dtype == "float32":
            is_the_same(*places, expected)
            return
        found = open_cube(places[1]), open_layer(places[1], "extrapolation")
        for values, name in zip(found, ("deviation", "extrapolation"), strict=True):
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=5.1e-5)

    def test_a_geotiff_has_the_extrapolation_as_its_last_band(
        self, inputs: Inputs, tmp_path: Path
    ) -> None:
        run(inputs, tmp_path / "cube.tif", tmp_path / "sd.tif", "estimator")
        with rasterio.open(tmp_path / "sd.tif") as file:
            assert file.count == 14
            assert file.descriptions[-1] == "extrapolation"
            assert file.tags()["quantity"] == "deviation"
            assert file.tags()["layer"] == "extrapolation"
            assert file.tags()["method"] == "estimator"
            assert set(json.loads(file.tags()["coverage"])) == {"68", "95", "n"}
            assert "CENTRAL_WAVELENGTH_UM" in file.tags(13, ns="IMAGERY")
            assert not file.tags(14, ns="IMAGERY")
        assert open_cube(tmp_path / "sd.tif").name == "deviation"
        # A file of deviations can be looked at as a scene, too; what is no channel stays out of it.
        assert open_scene(tmp_path / "sd.tif").sizes["band"] == 13

    def test_an_envi_header_calls_the_extrapolation_bad(
        self, inputs: Inputs, tmp_path: Path
    ) -> None:
        run(inputs, tmp_path / "cube.tif", tmp_path / "sd.bsq", "estimator")
        header = (tmp_path / "sd.hdr").read_text()
        assert "950.0 nm, 1000.0 nm, extrapolation}" in header
        assert "950, 1000, 0}" in header
        assert f"bbl = {{{'1, ' * 13}0}}" in header

    def test_a_store_has_an_array_for_each(self, inputs: Inputs, tmp_path: Path) -> None:
        run(inputs, tmp_path / "cube.tif", tmp_path / "sd.zarr", "estimator")
        with xr.open_zarr(tmp_path / "sd.zarr", consolidated=False) as store:
            assert set(store.data_vars) - {"spatial_ref"} == {"deviation", "extrapolation"}
            assert store["extrapolation"].dims == ("y", "x")
            assert store["extrapolation"].attrs["grid_mapping"] == "spatial_ref"

    @pytest.mark.parametrize(
        ("write", "name"), [(write_cog, "a.tif"), (write_zarr, "a.zarr"), (write_envi, "a.bsq")]
    )
    def test_a_lazy_dataset_is_written_with_its_layer(
        self, write: Any, name: str, inputs: Inputs, tmp_path: Path
    ) -> None:
        found = reconstruct(*inputs, uncertainty=True, wavelengths=SPEC, method="ridge")
        path = write(found["deviation"], tmp_path / name, layer=found["extrapolation"])
        np.testing.assert_array_equal(open_cube(path), found["deviation"])
        np.testing.assert_array_equal(open_layer(path, "extrapolation"), found["extrapolation"])
        plain = write(found["reflectance"], tmp_path / f"plain.{name[2:]}")
        with pytest.raises(SceneReadError, match="has no layer 'extrapolation'"):
            open_layer(plain, "extrapolation")
        for wrong in (found["extrapolation"][1:], found["extrapolation"].rename("other")):
            with pytest.raises(SettingsError, match="expected one of extrapolation with 96 rows"):
                write(found["deviation"], tmp_path / f"wrong.{name[2:]}", layer=wrong)

    def test_deviations_have_the_units_of_the_cube(self, inputs: Inputs, tmp_path: Path) -> None:
        scene, points = inputs
        counts = scene.copy(data=(scene.data * 5000).astype("f4")), points
        asked = {"wavelengths": SPEC, "method": "estimator", "calibrate": "gain"}
        plain = reconstruct(*counts, uncertainty=True, **asked).compute()
        undone = reconstruct(*counts, uncertainty=True, **asked, units="scene").compute()
        assert set(undone.data_vars) == {"scene_value", "scene_deviation", "extrapolation"}
        ratio = undone["scene_deviation"] / plain["deviation"]
        np.testing.assert_allclose(ratio.values[:, 60:], 5000, rtol=0.05)
        np.testing.assert_array_equal(undone["extrapolation"], plain["extrapolation"])
        run(
            counts,
            tmp_path / "cube.tif",
            tmp_path / "sd.tif",
            "estimator",
            settings={"calibrate": "gain", "units": "scene"},
        )
        found = open_cube(tmp_path / "sd.tif")
        assert found.name == "scene_deviation"
        np.testing.assert_array_equal(found, undone["scene_deviation"])


class TestSummary:
    def test_it_tells_where_the_uncertainty_is_and_how_often_it_held(
        self, inputs: Inputs, tmp_path: Path
    ) -> None:
        summary = run(inputs, tmp_path / "cube.tif", tmp_path / "sd.tif", "estimator")
        told = json.loads(summary.to_json())
        assert told["uncertainty"] == str(tmp_path / "sd.tif")
        assert told["coverage"]["n"] == told["cross_validation"]["n"]
        assert 0 < told["coverage"]["68"] <= told["coverage"]["95"] <= 1
        assert any("withheld points within 1 standard deviation" in s for s in summary.lines())
        plain = run(inputs, tmp_path / "plain.tif", None, "estimator")
        assert plain.uncertainty is None
        assert plain.coverage == summary.coverage
        assert not any("standard deviation" in line for line in plain.lines())

    def test_a_networks_part_is_not_counted_and_that_is_said(
        self, inputs: Inputs, tmp_path: Path
    ) -> None:
        summary = run(inputs, tmp_path / "cube.tif", tmp_path / "sd.tif", "dypro")
        assert ESTIMATORS_ERROR in summary.notes
        assert summary.coverage is not None
        ridge = run(inputs, tmp_path / "c.tif", tmp_path / "c_sd.tif", "ridge")
        assert ESTIMATORS_ERROR not in ridge.notes

    def test_without_withheld_points_nothing_is_told(self, inputs: Inputs, tmp_path: Path) -> None:
        alone = inputs[0], None
        summary = run(alone, tmp_path / "a.tif", tmp_path / "sd.tif", "estimator")  # type: ignore[arg-type]
        assert summary.coverage is None

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(0.2, 5))
    def test_normal_errors_are_covered_as_their_names_say(self, seed: int, factor: float) -> None:
        draws = np.random.default_rng(seed)
        deviations = draws.uniform(0.01, 1, (400, 50))
        errors = deviations * draws.standard_normal(deviations.shape)
        found = Coverage.of(errors, deviations)
        assert found.told() == pytest.approx({"68": 0.683, "95": 0.95, "n": 400}, abs=0.02)
        other = Coverage.of(errors, factor * deviations)
        less, more = sorted((found, other), key=lambda one: factor if one is other else 1.0)
        assert less.within_one <= more.within_one
        assert less.within_two <= more.within_two


class Interrupter:
    """Interrupts when a number of blocks is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        self.computed: list[Window] = []
        original = FittedModel.estimate

        def estimate(model: FittedModel, plan: Any, window: Window, *rest: Any) -> Any:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.computed.append(window)
            return original(model, plan, window, *rest)

        monkeypatch.setattr(FittedModel, "estimate", estimate)


class TestGoingOn:
    @pytest.mark.parametrize(
        ("method", "cube", "sd"),
        [
            ("estimator", "zarr", "zarr"),
            ("estimator", "tif", "bsq"),
            ("estimator", "bsq", "tif"),
            ("dypro", "zarr", "tif"),
        ],
    )
    def test_an_interrupted_run_goes_on_to_the_same_bits(
        self,
        method: str,
        cube: str,
        sd: str,
        inputs: Inputs,
        lazy: Callable[[str], xr.Dataset],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        places = tmp_path / f"cube.{cube}", tmp_path / f"sd.{sd}"
        with monkeypatch.context() as patch:
            Interrupter(patch, after=4)
            with pytest.raises(KeyboardInterrupt):
                run(inputs, *places, method, threads=1)
        parts = {f".{place.name}.part" for place in places}
        assert {path.name for path in tmp_path.iterdir()} == parts
        with monkeypatch.context() as patch:
            second = Interrupter(patch, after=-1)
            summary = run(inputs, *places, method, resume=True)
        assert len(second.computed) == 5
        is_the_same(*places, lazy(method))
        assert summary.coverage is not None
        headers = {place.with_suffix(".hdr").name for place in places if place.suffix == ".bsq"}
        assert {path.name for path in tmp_path.iterdir()} == {p.name for p in places} | headers

    @pytest.fixture
    def places(
        self, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[Path, Path]:
        """Of a run that was interrupted after two blocks."""
        (tmp_path / "sd").mkdir()
        places = tmp_path / "cube.zarr", tmp_path / "sd" / "sd.zarr"
        with monkeypatch.context() as patch:
            Interrupter(patch, after=2)
            with pytest.raises(KeyboardInterrupt):
                run(inputs, *places, "ridge", threads=1)
        return places

    def test_a_run_that_began_without_is_another_one(
        self, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cube = tmp_path / "cube.tif"
        original, left = FittedModel.block, [2]

        def block(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(FittedModel, "block", block)
            with pytest.raises(KeyboardInterrupt):
                run(inputs, cube, None, "ridge", threads=1)
        with pytest.raises(ResumeError, match=r"uncertainty \(none before, .tif now\)"):
            run(inputs, cube, tmp_path / "sd.tif", "ridge", resume=True)
        assert [path.name for path in tmp_path.iterdir()] == [".cube.tif.part"]
        run(inputs, cube, None, "ridge", resume=True)

    def test_asked_for_or_left_out_later_it_is_a_change(
        self, inputs: Inputs, places: tuple[Path, Path], tmp_path: Path
    ) -> None:
        with pytest.raises(ResumeError, match=r"uncertainty \(.zarr before, none now\)"):
            run(inputs, places[0], None, "ridge", resume=True)
        with pytest.raises(ResumeError, match=r"uncertainty \(.zarr before, .tif now\)"):
            run(inputs, places[0], tmp_path / "sd.tif", "ridge", resume=True)
        assert {path.name for path in tmp_path.iterdir()} == {".cube.zarr.part", "sd"}
        run(inputs, *places, "ridge", resume=True)

    def test_where_what_was_written_is_gone_all_is_computed_again(
        self,
        inputs: Inputs,
        places: tuple[Path, Path],
        lazy: Callable[[str], xr.Dataset],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        shutil.rmtree(places[1].parent / ".sd.zarr.part")
        again = Interrupter(monkeypatch, after=-1)
        run(inputs, *places, "ridge", resume=True)
        assert len(again.computed) == 9
        is_the_same(*places, lazy("ridge"))

    def test_the_uncertainty_of_another_cube_is_not_taken(
        self, inputs: Inputs, places: tuple[Path, Path], tmp_path: Path
    ) -> None:
        with pytest.raises(OutputError, match=r"sd.zarr.part' holds an unfinished run .*--resume"):
            run(inputs, tmp_path / "other.zarr", places[1], "ridge")
        with pytest.raises(ResumeError, match="beside another cube than"):
            run(inputs, tmp_path / "other.zarr", places[1], "ridge", resume=True)
        assert {path.name for path in tmp_path.iterdir()} == {".cube.zarr.part", "sd"}
        run(inputs, tmp_path / "other.zarr", places[1], "ridge", overwrite=True)
        assert {path.name for path in places[1].parent.iterdir()} == {"sd.zarr"}

    def test_at_a_url_and_on_disk_they_go_on_together(
        self,
        memory: None,
        inputs: Inputs,
        lazy: Callable[[str], xr.Dataset],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        url, path = "memory://bucket/one.zarr", tmp_path / "two.tif"
        for places in ((url, path), (path, url)):
            with monkeypatch.context() as patch:
                Interrupter(patch, after=3)
                with pytest.raises(KeyboardInterrupt):
                    run(inputs, *places, "ridge", threads=1)
            second = Interrupter(monkeypatch, after=-1)
            run(inputs, *places, "ridge", resume=True, threads=1)
            assert len(second.computed) == 6
            is_the_same(*places, lazy("ridge"))
            assert [one.name for one in tmp_path.iterdir()] == ["two.tif"]
            MemoryFileSystem.store.clear()
            path.unlink()


class TestPlaces:
    def test_an_existing_one_is_refused_before_anything_is_done(
        self, inputs: Inputs, tmp_path: Path
    ) -> None:
        (tmp_path / "sd.tif").write_text("precious")
        with pytest.raises(OutputError, match=r"sd.tif' exists"):
            run(inputs, tmp_path / "cube.tif", tmp_path / "sd.tif", "ridge")
        assert [path.name for path in tmp_path.iterdir()] == ["sd.tif"]
        run(inputs, tmp_path / "cube.tif", tmp_path / "sd.tif", "ridge", overwrite=True)
        assert open_cube(tmp_path / "sd.tif").name == "deviation"

    @pytest.mark.parametrize(
        ("cube", "sd"),
        [("a.tif", "a.tif"), ("a.bsq", "a.img"), ("memory://b/a.zarr", "memory://b/a.zarr")],
    )
    def test_two_results_under_one_name_are_refused(
        self, memory: None, cube: str, sd: str, inputs: Inputs, tmp_path: Path
    ) -> None:
        places = [one if "://" in one else tmp_path / one for one in (cube, sd)]
        with pytest.raises(OutputError, match="would be one file, or share a header"):
            run(inputs, *places, "ridge")
        assert not list(tmp_path.iterdir())

    def test_a_failure_leaves_neither(
        self, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError("a fault")

        monkeypatch.setattr(FittedModel, "estimate", fail)
        with pytest.raises(RuntimeError, match="a fault"):
            run(inputs, tmp_path / "cube.tif", tmp_path / "sd.zarr", "ridge")
        assert not list(tmp_path.iterdir())

    def test_the_cube_appears_last_and_not_at_all_without_the_other(
        self, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        original = output._put_in_place

        def noted(finished: Path, path: Path) -> None:
            order.append(path.name)
            original(finished, path)

        monkeypatch.setattr(output, "_put_in_place", noted)
        run(inputs, tmp_path / "cube.zarr", tmp_path / "sd.zarr", "ridge")
        assert order == ["sd.zarr", "cube.zarr"]

        def taken(stage: str, done: int, _: int) -> None:
            if (stage, done) == ("reconstructing", 9):
                (tmp_path / "b.zarr").write_text("of somebody else")

        with pytest.raises(OutputError, match=r"b.zarr' exists"):
            run(inputs, tmp_path / "b.zarr", tmp_path / "b_sd.zarr", "ridge", progress=taken)
        assert not (tmp_path / "b_sd.zarr").exists()

    def test_room_is_counted_for_both(
        self, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        run(inputs, tmp_path / "cube.zarr", None, "ridge")
        with pytest.raises(OutputError, match="what is asked for and its staging may need"):
            run(inputs, tmp_path / "b.zarr", tmp_path / "sd.zarr", "ridge")
        assert [path.name for path in tmp_path.iterdir()] == ["cube.zarr"]
