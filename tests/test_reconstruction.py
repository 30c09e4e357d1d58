"""Scene and points in, cube out: what every method promises, end to end."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xarray as xr
from numpy.typing import NDArray
from rio_cogeo import cog_validate

from pixelssr_geo import reconstruction
from pixelssr_geo.errors import OutputError, SettingsError
from pixelssr_geo.fitting import FittedModel, SceneReader, fit
from pixelssr_geo.landscape import make_landscape
from pixelssr_geo.nets import create_net
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.reconstruction import Summary, reconstruct, reconstruct_to_file
from pixelssr_geo.scene import open_cube, open_scene, pixel_grid
from pixelssr_geo.settings import Settings
from pixelssr_geo.spectra import ChannelGrid, get_sensor
from pixelssr_geo.tiling.plan import Window, plan_tiles
from pixelssr_geo.training import correction, pixel
from pixelssr_geo.training.correction import CorrectionPlan
from pixelssr_geo.training.pixel import PixelPlan
from pixelssr_geo.writers import CubeTemplate, write_scene

pytestmark = pytest.mark.usefixtures("one_library")

CHANNELS = ChannelGrid.from_spec("400:1000:20")
RESPONSE = get_sensor("GF6-PMS").matrix(CHANNELS)
SMALL_NET: dict[str, Any] = {"tile": 32, "overlap": 8, "steps": 2, "folds": 2}
RUNS: dict[str, tuple[int, dict[str, Any]]] = {
    "product": (15, {"method": "product"}),
    "product from 50 points on": (60, {"method": "product", **SMALL_NET}),
    "estimator": (15, {"method": "estimator"}),
    "ridge": (15, {"method": "ridge"}),
    "library": (0, {"method": "library"}),
    "dypro": (15, {"method": "dypro", **SMALL_NET}),
    "paper": (15, {"method": "paper", **SMALL_NET}),
    "paper without points": (0, {"method": "paper", **SMALL_NET}),
}
"""Number of points and settings of every way to a cube."""


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """Narrow networks on small patches, on one thread: tiny images are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "CorrectionPlan", partial(CorrectionPlan, patch=12, batch=3))
        patch.setattr(pixel, "PixelPlan", partial(PixelPlan, patch=16, unlabelled=4))
        for module in (correction, pixel):
            patch.setattr(module, "create_net", partial(create_net, width=8))
        patch.setattr(correction, "CONTEXT", 12)
        yield
    torch.set_num_threads(before)


def make_inputs(
    folder: Path, shape: tuple[int, int], count: int
) -> tuple[xr.DataArray, PointSpectra]:
    """A lazy scene on disk, and as many points (or fewer, in fewer pixels)."""
    landscape = make_landscape(max(16, *shape), seed=0, channels=CHANNELS)
    cube = landscape.cube[:, : shape[0], : shape[1]]
    template = CubeTemplate(
        shape=shape,
        wavelengths_nm=tuple(CHANNELS.centres_nm),
        fwhm_nm=tuple(CHANNELS.fwhm_nm),
        crs_wkt=rasterio.crs.CRS.from_string(landscape.crs).to_wkt(),
        transform=landscape.transform,
    )
    bands = np.einsum("bc,cyx->byx", RESPONSE, cube).astype("f4")
    path = folder / "scene.tif"
    write_scene(path, [(0, 0, bands)], template.grid, get_sensor("GF6-PMS"), overwrite=True)
    pixels = shape[0] * shape[1]
    chosen = np.random.default_rng(0).choice(pixels, min(count, pixels), replace=False)
    rows, cols = chosen // shape[1], chosen % shape[1]
    a, _, c, _, e, f = landscape.transform
    points = PointSpectra(
        ids=tuple(map(str, range(len(chosen)))),
        x=c + a * (cols + 0.5),
        y=f + e * (rows + 0.5),
        crs_wkt=template.crs_wkt,
        wavelengths_nm=CHANNELS.centres_nm,
        reflectance=cube[:, rows, cols].T.astype("f8"),
    )
    return open_scene(path, sensor="GF6-PMS"), points


Run = tuple[Path, FittedModel, Summary]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.DataArray, PointSpectra]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), (64, 80), 60)


@pytest.fixture(scope="module")
def run_of(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    """Runs to a GeoTIFF, each made when it is first asked for."""
    folder = tmp_path_factory.mktemp("cubes")

    @cache
    def made(name: str) -> Run:
        path = folder / f"{name.replace(' ', '_')}.tif"
        return path, *run(inputs, name, path)

    return made


def run(
    inputs: tuple[xr.DataArray, PointSpectra], name: str, path: Path, **changes: Any
) -> tuple[FittedModel, Summary]:
    scene, points = inputs
    count, options = RUNS[name]
    settings = Settings.of(wavelengths="400:1000:20", **options)
    given = points.take(np.arange(count)) if count else None
    return reconstruct_to_file(scene, given, path, settings, **changes)


def values_of(path: Path) -> NDArray[np.float32]:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read())


@pytest.mark.parametrize("name", RUNS)
class TestEveryMethod:
    def test_the_cube_has_the_grid_of_the_scene(
        self,
        name: str,
        run_of: Callable[[str], Run],
        inputs: tuple[xr.DataArray, PointSpectra],
    ) -> None:
        path, _, summary = run_of(name)
        scene = inputs[0]
        cube = open_cube(path)
        assert pixel_grid(cube) == pixel_grid(scene)
        assert cube.rio.crs == scene.rio.crs
        assert cube.shape == summary.shape == (len(CHANNELS), 64, 80)
        assert cube.dtype == np.float32
        assert np.isfinite(cube.values).all()
        np.testing.assert_allclose(cube.wavelength, CHANNELS.centres_nm)

    def test_the_file_is_a_valid_cog(self, name: str, run_of: Callable[[str], Run]) -> None:
        path, _, _ = run_of(name)
        valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
        assert (valid, errors, warnings) == (True, [], [])

    def test_only_the_result_is_left(self, name: str, run_of: Callable[[str], Run]) -> None:
        path, _, _ = run_of(name)
        assert [entry.name for entry in path.parent.iterdir() if entry.suffix != ".tif"] == []

    def test_the_summary_says_what_happened(self, name: str, run_of: Callable[[str], Run]) -> None:
        path, model, summary = run_of(name)
        count, options = RUNS[name]
        told = json.loads(summary.to_json())
        assert told["output"] == str(path)
        assert told["method"] == options["method"]
        assert told["points_used"] == count
        assert told["points_dropped"] == []
        assert told["seed"] == 0
        assert told["wavelengths_nm"] == pytest.approx(CHANNELS.centres_nm)
        assert told["net"] == model.network
        assert (told["net"] is None) == (told["scan_backend"] is None)
        spent = told["seconds"]
        assert spent["total"] == pytest.approx(sum(spent.values()) - spent["total"], abs=0.01)
        if count:
            assert told["cross_validation"]["n"] > 0
            assert 0 < told["cross_validation"]["rmse"] < 0.5
        else:
            assert told["cross_validation"] is None
            said = "trained without points" if told["method"] == "paper" else "no usable point"
            assert any(said in note for note in told["notes"])
        assert all(isinstance(line, str) for line in summary.lines())

    def test_the_file_remembers_how_it_was_made(
        self, name: str, run_of: Callable[[str], Run]
    ) -> None:
        path, model, _ = run_of(name)
        with rasterio.open(path) as dataset:
            tags = dataset.tags()
        assert tags["method"] == model.settings.method
        assert tags["config_hash"] == model.settings.fingerprint()
        assert tags["scene"] == "scene.tif"
        assert json.loads(tags["config"])["seed"] == 0


@pytest.mark.parametrize(
    "name", [name for name in RUNS if not name.startswith("paper")], ids=lambda name: name
)
def test_the_cube_resimulates_the_scene(
    name: str, run_of: Callable[[str], Run], inputs: tuple[xr.DataArray, PointSpectra]
) -> None:
    path, _, summary = run_of(name)
    seen = np.einsum("bc,cyx->byx", RESPONSE, values_of(path).astype("f8"))
    residual = np.sqrt(((seen - inputs[0].values) ** 2).mean())
    assert residual < 1e-4
    assert summary.msi_residual_rmse == pytest.approx(residual, abs=1e-6)


def test_the_paper_states_how_far_it_is_from_the_scene(
    run_of: Callable[[str], Run], inputs: tuple[xr.DataArray, PointSpectra]
) -> None:
    path, _, summary = run_of("paper")
    seen = np.einsum("bc,cyx->byx", RESPONSE, values_of(path).astype("f8"))
    residual = np.sqrt(((seen - inputs[0].values) ** 2).mean())
    assert summary.msi_residual_rmse == pytest.approx(residual, rel=1e-4)


def test_the_networks_are_named_where_they_take_part(run_of: Callable[[str], Run]) -> None:
    assert run_of("paper")[2].net == "dypro-mamba"
    assert run_of("dypro")[2].net == "dypro-mamba"
    assert run_of("dypro")[2].gate == 1.0
    assert run_of("estimator")[2].net is None
    assert run_of("product")[2].gate is None
    gated = run_of("product from 50 points on")[2]
    assert gated.gate is not None
    assert (gated.net is None) == (gated.gate == 0)


def test_gis_programs_find_the_wavelengths(run_of: Callable[[str], Run]) -> None:
    path, _, _ = run_of("estimator")
    with rasterio.open(path) as dataset:
        for index, centre, width in zip(
            dataset.indexes, CHANNELS.centres_nm, CHANNELS.fwhm_nm, strict=True
        ):
            imagery = dataset.tags(index, ns="IMAGERY")
            assert float(imagery["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(centre / 1000)
            assert float(imagery["FWHM_UM"]) == pytest.approx(width / 1000)
            assert float(dataset.tags(index)["wavelength"]) == pytest.approx(centre)
            assert dataset.descriptions[index - 1]
    with rioxarray.open_rasterio(path, band_as_variable=True) as opened:
        assert opened.rio.crs.to_epsg() == 32650
        found = [float(band.attrs["wavelength"]) for band in opened.data_vars.values()]
        np.testing.assert_allclose(found, CHANNELS.centres_nm)


def test_gdalinfo_finds_the_wavelengths(run_of: Callable[[str], Run]) -> None:
    program = shutil.which("gdalinfo")
    if program is None:
        pytest.skip("gdalinfo is not installed")
    path, _, _ = run_of("estimator")
    told = subprocess.run(
        [program, "-json", "-mdd", "all", str(path)], capture_output=True, text=True, check=True
    ).stdout
    found = [
        float(band["metadata"]["IMAGERY"]["CENTRAL_WAVELENGTH_UM"])
        for band in json.loads(told)["bands"]
    ]
    np.testing.assert_allclose(found, CHANNELS.centres_nm / 1000)


def test_a_zarr_store_opens_with_its_coordinates(
    run_of: Callable[[str], Run], inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    path = tmp_path / "cube.zarr"
    run(inputs, "estimator", path)
    dataset = xr.open_zarr(path, decode_coords="all", consolidated=False)
    (name,) = dataset.data_vars
    cube = dataset[name]
    assert cube.dims == ("wavelength", "y", "x")
    assert cube.rio.crs.to_epsg() == 32650
    np.testing.assert_allclose(cube["wavelength"], CHANNELS.centres_nm)
    np.testing.assert_allclose(cube["x"], inputs[0]["x"])
    np.testing.assert_allclose(cube["y"], inputs[0]["y"])
    np.testing.assert_array_equal(cube.values, values_of(run_of("estimator")[0]))
    assert [entry.name for entry in tmp_path.iterdir()] == ["cube.zarr"]


@pytest.mark.parametrize("suffix", ["tif", "zarr"])
def test_uint16_keeps_the_cube_to_half_a_step(
    suffix: str,
    run_of: Callable[[str], Run],
    inputs: tuple[xr.DataArray, PointSpectra],
    tmp_path: Path,
) -> None:
    path = tmp_path / f"cube.{suffix}"
    run(inputs, "estimator", path, dtype="uint16")
    exact = values_of(run_of("estimator")[0])
    np.testing.assert_allclose(open_cube(path).values, exact.clip(0, None), atol=0.51e-4)


@pytest.mark.parametrize("name", ["product from 50 points on", "dypro", "paper"])
def test_equal_seeds_give_equal_cubes_to_the_last_bit(
    name: str,
    run_of: Callable[[str], Run],
    inputs: tuple[xr.DataArray, PointSpectra],
    tmp_path: Path,
) -> None:
    path = tmp_path / "again.tif"
    _, summary = run(inputs, name, path, threads=1)
    first, _, before = run_of(name)
    np.testing.assert_array_equal(values_of(path), values_of(first))
    assert summary.cross_validation == before.cross_validation
    assert summary.gate == before.gate


@pytest.mark.parametrize("name", ["estimator", "paper"])
def test_the_lazy_cube_equals_the_file(
    name: str, run_of: Callable[[str], Run], inputs: tuple[xr.DataArray, PointSpectra]
) -> None:
    scene, points = inputs
    count, options = RUNS[name]
    cube = reconstruct(scene, points.take(np.arange(count)), wavelengths="400:1000:20", **options)
    assert cube.dims == ("wavelength", "y", "x")
    assert cube.chunks is not None
    assert pixel_grid(cube) == pixel_grid(scene)
    np.testing.assert_allclose(cube["wavelength"], CHANNELS.centres_nm)
    np.testing.assert_array_equal(cube.values, values_of(run_of(name)[0]))


def test_a_lazy_cube_computes_only_what_is_asked_for(
    inputs: tuple[xr.DataArray, PointSpectra], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, points = inputs
    asked: list[Window] = []
    original = FittedModel.block

    def watched(self: FittedModel, plan: Any, window: Window) -> NDArray[np.float32]:
        asked.append(window)
        return original(self, plan, window)

    monkeypatch.setattr(FittedModel, "block", watched)
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    cube = reconstruct(scene, points, method="estimator")
    assert asked == []
    cube.isel(x=slice(40, 50), y=slice(0, 10)).compute()
    assert asked == [Window(0, 32, 32, 32)]


@pytest.mark.parametrize("name", ["estimator", "dypro", "paper"])
def test_blocks_do_not_show(
    name: str, run_of: Callable[[str], Run], inputs: tuple[xr.DataArray, PointSpectra]
) -> None:
    path, model, _ = run_of(name)
    settings = model.settings
    plan = plan_tiles((64, 80), tile=settings.tile, overlap=settings.overlap, block=40)
    whole = values_of(path)
    for window in plan.blocks:
        block = model.block(plan, window)
        np.testing.assert_allclose(block, whole[:, *window.slices], atol=1e-6)


def test_progress_tells_of_every_stage(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    told: list[tuple[str, int, int]] = []
    run(inputs, "estimator", tmp_path / "cube.tif", progress=lambda *entry: told.append(entry))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
        "reading the scene",
        "reconstructing",
        "writing",
    ]
    for stage in ("reading the scene", "reconstructing", "writing"):
        steps = [(done, total) for name, done, total in told if name == stage]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1][0] == steps[-1][1]
    assert [done for name, done, _ in told if name == "reconstructing"] == list(range(7))


@pytest.mark.parametrize("name", ["cube.tif", "cube.zarr"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_failing_block_leaves_nothing_behind(
    name: str,
    threads: int,
    inputs: tuple[xr.DataArray, PointSpectra],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconstruction, "BLOCK", 32)
    monkeypatch.setattr(reconstruction, "CHUNK", 32)
    original = FittedModel.block

    def failing(self: FittedModel, plan: Any, window: Window, *rest: Any) -> NDArray[np.float32]:
        if window.col == 32:
            raise RuntimeError("planted")
        return original(self, plan, window, *rest)

    monkeypatch.setattr(FittedModel, "block", failing)
    with pytest.raises(RuntimeError, match="planted"):
        run(inputs, "estimator", tmp_path / name, threads=threads)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_result_that_it_was_to_replace(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cube.tif"
    path.write_text("the old one")

    def failing(*_: object) -> NDArray[np.float32]:
        raise RuntimeError("planted")

    monkeypatch.setattr(FittedModel, "block", failing)
    with pytest.raises(RuntimeError, match="planted"):
        run(inputs, "estimator", path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["cube.tif"]
    assert path.read_text() == "the old one"


def test_an_existing_result_is_refused_before_anything_is_done(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path
) -> None:
    path = tmp_path / "cube.tif"
    path.touch()
    told: list[str] = []
    with pytest.raises(OutputError, match="exists"):
        run(inputs, "estimator", path, progress=lambda stage, *_: told.append(stage))
    assert told == []


def test_too_little_room_is_refused_before_a_block_is_computed(
    inputs: tuple[xr.DataArray, PointSpectra], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"0\.0 GB free, .* may need"):
        run(inputs, "estimator", tmp_path / "cube.tif")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_refused(inputs: tuple[xr.DataArray, PointSpectra]) -> None:
    with pytest.raises(SettingsError, match="'tiles'"):
        reconstruct(*inputs, tiles=3)


@pytest.mark.parametrize("method", ["product", "dypro", "paper"])
@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (5, 7), (13, 21)])
def test_scenes_smaller_than_a_tile_work(
    shape: tuple[int, int], method: str, tmp_path: Path
) -> None:
    scene, points = make_inputs(tmp_path, shape, 6)
    settings = Settings.of(
        method=method, wavelengths="400:1000:20", tile=16, overlap=4, steps=1, folds=2
    )
    _, summary = reconstruct_to_file(scene, points, tmp_path / "cube.tif", settings)
    assert summary.shape == (len(CHANNELS), *shape)
    assert summary.points_used == 6
    cube = open_cube(tmp_path / "cube.tif")
    assert np.isfinite(cube.values).all()
    assert pixel_grid(cube) == pixel_grid(scene)


@pytest.mark.parametrize("method", ["product", "ridge", "paper"])
def test_a_single_pixel_works(method: str, tmp_path: Path) -> None:
    scene, points = make_inputs(tmp_path, (1, 1), 1)
    settings = Settings.of(method=method, wavelengths="400:1000:20", tile=8, overlap=2, steps=1)
    reconstruct_to_file(scene, points, tmp_path / "cube.tif", settings)
    assert np.isfinite(values_of(tmp_path / "cube.tif")).all()


HOLE = (slice(20, 40), slice(20, 40))


@pytest.mark.parametrize("method", ["estimator", "dypro", "paper"])
def test_a_hole_stays_a_hole_and_is_not_felt_far_away(method: str, tmp_path: Path) -> None:
    scene, points = make_inputs(tmp_path, (200, 200), 12)
    settings = Settings.of(
        method=method, wavelengths="400:1000:20", tile=64, overlap=16, steps=1, folds=2
    )
    model = fit(scene.compute(), points, settings)
    if model.correction is not None:
        # One step hardly moves the head from zero; here it must have something to say.
        torch.manual_seed(0)
        torch.nn.init.normal_(model.correction.net.head.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    values = np.array(model.reader.data)
    values[1, *HOLE] = np.nan  # one band is enough
    holed = replace(model, reader=SceneReader(values))
    plan = plan_tiles((200, 200), tile=64, overlap=16)

    near = Window(0, 0, 48, 48)
    before, after = model.block(plan, near), holed.block(plan, near)
    hole = np.zeros((48, 48), bool)
    hole[HOLE] = True
    np.testing.assert_array_equal(np.isnan(after), np.broadcast_to(hole, after.shape))
    assert np.isfinite(before).all()
    change = np.abs(after - before)[:, ~hole]
    assert change.max() < 0.3 * np.ptp(before), "neighbours are not torn along"

    far = Window(0, 104, 8, 96)
    np.testing.assert_array_equal(holed.block(plan, far), model.block(plan, far))
    below = Window(104, 30, 8, 8)
    np.testing.assert_array_equal(holed.block(plan, below), model.block(plan, below))
