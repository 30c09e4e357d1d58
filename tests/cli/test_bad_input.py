"""Bad input: one clear line, exit 1, and the folder as it was."""

import errno
import os
import pickle
import re
import shutil
import sqlite3
from collections import namedtuple
from contextlib import closing

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.enums import ColorInterp

from pixelssr_geo.nets import create_net
from pixelssr_geo.points import write_points
from pixelssr_geo.prior import fit_prior
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.testing import make_points
from pixelssr_geo.training.pixel import PixelModel, save_pixel_model
from pixelssr_geo.writers import zarr_cube

SENSOR = ("--sensor", "GF6-PMS")
TRANSFORM = rasterio.Affine(8, 0, 390_000, 0, -8, 5_810_000)

Case = namedtuple("Case", ["prepare", "match"])
"""A function from the inputs to the command's arguments, and what the message must hold."""

CASES = {}


def case(match):
    """Register a function as a case under its name."""

    def register(prepare):
        CASES[prepare.__name__] = Case(prepare, match)
        return prepare

    return register


def listing(folder):
    """Every path below a folder with its size and time."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    } | {str(path): None for path in folder.rglob("*") if path.is_dir()}


def write_tif(path, values, crs="EPSG:32633", **profile):
    count, height, width = values.shape
    profile |= {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs, transform=TRANSFORM, **profile
    ) as dataset:
        dataset.write(values)
    return path


def write_layer(path, columns, geometry, **options):
    path.unlink(missing_ok=True)
    geopandas.GeoDataFrame(columns, geometry=geometry, crs=32633).to_file(
        path, layer="field", driver="GPKG", **options
    )


def with_points(inputs, *more):
    return ("reconstruct", inputs.scene, "--points", inputs.points, "--method", "ridge", *more)


@case("cannot be opened as a raster")
def not_a_raster(inputs):
    inputs.scene.write_text("no raster at all")
    return ("reconstruct", inputs.scene, *SENSOR)


@case("does not exist")
def no_such_scene(inputs):
    return ("reconstruct", inputs.scene.with_name("none.tif"), *SENSOR)


@case("as a Zarr store")
def no_such_store(inputs):
    return ("reconstruct", inputs.scene.with_name("none.zarr"), *SENSOR)


@case("truncated or damaged|cannot be opened")
def truncated_tiff(inputs):
    noise = np.random.default_rng(0).random((4, 400, 400)).astype("f4")
    write_tif(inputs.scene, noise)
    inputs.scene.write_bytes(inputs.scene.read_bytes()[:1_000_000])
    return ("reconstruct", inputs.scene, *SENSOR, "--method", "library")


@case("cannot be opened as a raster")
def tiff_cut_in_its_header(inputs):
    inputs.scene.write_bytes(inputs.scene.read_bytes()[:60])
    return ("reconstruct", inputs.scene, *SENSOR)


@case("no data band")
def nothing_but_alpha(inputs):
    write_tif(inputs.scene, np.full((1, 8, 8), 255, "u1"))
    with rasterio.open(inputs.scene, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha]
    return ("reconstruct", inputs.scene, *SENSOR)


@case("bands lie at 1610, 2200 nm, none lies inside")
def bands_beyond_the_cube(inputs):
    write_tif(inputs.scene, np.full((2, 20, 20), 0.2, "f4"))
    with rasterio.open(inputs.scene, "r+") as dataset:
        for band, centre in ((1, 1.61), (2, 2.2)):
            dataset.update_tags(
                band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{centre}", FWHM_UM="0.1"
            )
    return ("reconstruct", inputs.scene, "--method", "library")


@case("every pixel of the scene is nodata")
def all_nodata(inputs):
    write_tif(inputs.scene, np.full((4, 20, 20), -1, "f4"), nodata=-1)
    return ("reconstruct", inputs.scene, *SENSOR, "--method", "library")


@case("complex")
def complex_raster(inputs):
    write_tif(inputs.scene, np.ones((4, 20, 20), "c8"))
    return ("reconstruct", inputs.scene, *SENSOR)


@case("no coordinate reference system.*--crs")
def scene_without_crs(inputs):
    write_tif(inputs.scene, np.full((4, 20, 20), 0.2, "f4"), crs=None)
    return with_points(inputs, *SENSOR)


@case("does not say which wavelengths.*--sensor")
def scene_without_wavelengths(inputs):
    write_tif(inputs.scene, np.full((4, 20, 20), 0.2, "f4"))
    return ("reconstruct", inputs.scene)


@case("not a coordinate reference system")
def crs_that_is_none(inputs):
    return with_points(inputs, "--crs", "EPSG:99999999")


@case("scale is 0")
def scale_of_zero(inputs):
    return ("reconstruct", inputs.scene, "--scale", "0")


@case("no geometry")
def points_without_geometry(inputs):
    write_layer(inputs.points, {"450": [0.1, 0.1], "850": [0.3, 0.3]}, [shapely.Point(1, 1), None])
    return with_points(inputs)


@case("is empty")
def empty_layer(inputs):
    write_layer(inputs.points, {"450": [], "850": []}, [], geometry_type="Point")
    return with_points(inputs)


@case("no layer 'other'")
def wrong_layer(inputs):
    return with_points(inputs, "--layer", "other")


@case("no field 'other'")
def wrong_field(inputs):
    return with_points(inputs, "--field", "other")


@case("cover 1500-2400 nm")
def spectra_not_overlapping(inputs):
    columns = {f"{nm}": [0.1, 0.2] for nm in range(1500, 2401, 100)}
    write_layer(inputs.points, columns, shapely.points([[390_010, 5_809_900]] * 2))
    return with_points(inputs)


@case("do not overlap")
def spectra_not_overlapping_the_channels(inputs):
    columns = {f"{nm}": [0.1, 0.2] for nm in range(1500, 2401, 100)}
    write_layer(inputs.points, columns, shapely.points([[390_010, 5_809_900]] * 2))
    return with_points(inputs, "--wavelengths", "450:850:10")


@case("hold text")
def spectra_of_text(inputs):
    columns = {"450": ["low", "low"], "850": ["high", "high"]}
    write_layer(inputs.points, columns, shapely.points([[390_010, 5_809_900]] * 2))
    return with_points(inputs)


@case("is a Python pickle")
def pickled_blob(inputs):
    place = shapely.points([[390_010, 5_809_900]])
    write_layer(inputs.points, {"number": [0]}, place, SPATIAL_INDEX="NO")
    with closing(sqlite3.connect(inputs.points)) as database, database:
        database.execute("ALTER TABLE field ADD COLUMN profiles BLOB")
        database.execute("UPDATE field SET profiles = ?", (pickle.dumps({"x": [1], "y": [1]}),))
    return with_points(inputs)


@case("cannot be opened as a vector file")
def geopackage_that_is_text(inputs):
    inputs.points.write_text("id,450,850\n1,0.1,0.2\n")
    return with_points(inputs)


@case("does not exist")
def no_such_points(inputs):
    inputs.points.unlink()
    return with_points(inputs)


def write_weights(path, bands=(485.0, 560.0, 660.0, 830.0), wavelengths="400:1000:100"):
    """Weights of an untrained network, complete in all respects."""
    channels = ChannelGrid.from_spec(wavelengths)
    spectra = np.random.default_rng(0).uniform(0.1, 0.5, (20, len(channels)))
    model = PixelModel(
        net=create_net("dypro-mamba", bands=len(bands), channels=len(channels)),
        gain=1.0,
        prior=fit_prior(spectra, "gamma"),
        label_ratio=0.01,
        removed=False,
        seed=0,
        band_centres_nm=bands,
        channel_centres_nm=tuple(channels.centres_nm),
    )
    save_pixel_model(path, model, net="dypro-mamba", mode="pixel")


def with_weights(inputs, path):
    asked = ("--method", "paper", "--weights", path, "--wavelengths", "400:1000:100")
    return ("reconstruct", inputs.scene, *asked, "--device", "cpu")


@case("was trained on bands at 560, 660 nm, the scene has")
def weights_for_other_bands(inputs):
    path = inputs.scene.with_name("net.safetensors")
    write_weights(path, bands=(560.0, 660.0))
    return with_weights(inputs, path)


@case("gives 4 channels 400-1000 nm, the cube has 7")
def weights_for_other_channels(inputs):
    path = inputs.scene.with_name("net.safetensors")
    write_weights(path, wavelengths="400:1000:200")
    return with_weights(inputs, path)


@case("is a pickle")
def weights_that_are_a_pickle(inputs):
    path = inputs.scene.with_name("net.pt")
    torch.save({"weight": torch.zeros(3)}, path)
    return with_weights(inputs, path)


@case("no complete safetensors file")
def weights_truncated(inputs):
    path = inputs.scene.with_name("net.safetensors")
    write_weights(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return with_weights(inputs, path)


@case("no complete safetensors file")
def weights_that_are_text(inputs):
    path = inputs.scene.with_name("net.safetensors")
    path.write_text("weights")
    return with_weights(inputs, path)


@case("does not exist")
def no_such_weights(inputs):
    return with_weights(inputs, inputs.scene.with_name("none.safetensors"))


@case("'library' has no place for a network")
def weights_for_another_method(inputs):
    asked = ("--method", "library", "--weights", "net.safetensors")
    return ("reconstruct", inputs.scene, *asked)


@case("there is no folder")
def output_folder_missing(inputs):
    output = inputs.scene.parent / "none" / "cube.tif"
    return ("reconstruct", inputs.scene, "--method", "library", "-o", output)


@case("there is no folder")
def output_below_a_file(inputs):
    return ("reconstruct", inputs.scene, "--method", "library", "-o", inputs.points / "cube.tif")


@case("it is a folder and not a Zarr store")
def output_is_a_folder(inputs):
    (inputs.scene.parent / "out.tif").mkdir()
    output = inputs.scene.parent / "out.tif"
    return ("reconstruct", inputs.scene, "--method", "library", "-o", output, "--overwrite")


@case("exists.*--overwrite")
def output_exists(inputs):
    return ("reconstruct", inputs.scene, "--method", "library", "-o", inputs.cube)


@case("exists.*--overwrite")
def default_output_exists(inputs):
    inputs.scene.with_name("scene_hsi.tif").write_text("an earlier result")
    return ("reconstruct", inputs.scene, "--method", "library")


@case("is read by this run")
def output_is_the_scene(inputs):
    asked = ("--method", "library", "-o", inputs.scene, "--overwrite")
    return ("reconstruct", inputs.scene, *asked)


@case("ends with '.png'")
def output_of_another_kind(inputs):
    output = inputs.scene.with_name("cube.png")
    return ("reconstruct", inputs.scene, "--method", "library", "-o", output)


@case("there is no folder")
def picture_folder_missing(inputs):
    picture = inputs.scene.parent / "none" / "look.png"
    return ("reconstruct", inputs.scene, "--method", "library", "--quicklook", picture)


@case("'cuda:99' was asked for")
def cuda_that_is_not_there(inputs):
    return ("reconstruct", inputs.scene, "--method", "library", "--device", "cuda:99")


@case("option 'device' is 'gpu'")
def device_of_no_kind(inputs):
    return ("reconstruct", inputs.scene, "--device", "gpu")


@case("sensor 'GF9' is not known")
def sensor_unknown(inputs):
    return ("reconstruct", inputs.scene, "--sensor", "GF9")


@case("expected the header")
def response_without_header(inputs):
    path = inputs.scene.with_name("response.csv")
    path.write_text("400,0.1,0.2\n410,0.2,0.3\n")
    return ("reconstruct", inputs.scene, "--response", path)


@case("expected a number")
def response_with_text(inputs):
    path = inputs.scene.with_name("response.csv")
    path.write_text("wavelength_nm,a,b,c,d\n400,0.1,0.2,none,0.1\n")
    return ("reconstruct", inputs.scene, "--response", path)


@case("describes 2 bands .* has 4")
def response_of_other_bands(inputs):
    path = inputs.scene.with_name("response.csv")
    path.write_text("wavelength_nm,a,b\n400,0,0\n410,1,0\n420,0,1\n430,0,0\n")
    return ("reconstruct", inputs.scene, "--response", path)


@case("cannot be read")
def no_such_response(inputs):
    return ("reconstruct", inputs.scene, "--response", inputs.scene.with_name("none.csv"))


@case("neither START:STOP:STEP nor a file")
def wavelengths_malformed(inputs):
    return ("reconstruct", inputs.scene, "--wavelengths", "400-1000")


@case("do not ascend")
def wavelengths_backwards(inputs):
    return ("reconstruct", inputs.scene, "--wavelengths", "1000:400:10")


@case("does not say the wavelengths")
def wavelengths_like_a_mask(inputs):
    path = write_tif(inputs.scene.with_name("mask.tif"), np.ones((1, 8, 8), "u1"))
    return ("reconstruct", inputs.scene, "--wavelengths", f"like:{path}")


@case("the spectral library covers")
def wavelengths_beyond_the_library(inputs):
    asked = ("--wavelengths", "400:1500:10", "--method", "library")
    return ("reconstruct", inputs.scene, *asked)


@case("overlap 64 must be smaller than tile 64")
def overlap_as_large_as_a_tile(inputs):
    return ("reconstruct", inputs.scene, "--tile", "64", "--overlap", "64")


@case("ridge.*point")
def ridge_without_points(inputs):
    return ("reconstruct", inputs.scene, "--method", "ridge")


@case("ridge.*point")
def ridge_with_points_elsewhere(inputs):
    points = make_points()
    points.x[:] += 1e6
    write_points(points, inputs.points)
    return with_points(inputs)


@case("needs 5")
def dypro_with_too_few_points(inputs):
    write_points(make_points(3), inputs.points)
    return ("reconstruct", inputs.scene, "--points", inputs.points, "--method", "dypro")


@case("10 x 10 pixels, 40 x 50 are needed")
def mask_of_another_size(inputs):
    path = write_tif(inputs.scene.with_name("mask.tif"), np.ones((1, 10, 10), "u1"))
    return ("evaluate", inputs.cube, inputs.cube, "--mask", path)


@case("undoes a calibration and there is none")
def units_without_calibration(inputs):
    return ("reconstruct", inputs.scene, *SENSOR, "--units", "scene")


@case("'paper' gives a cube and nothing on its error")
def uncertainty_of_the_papers_cube(inputs):
    asked = ("--method", "paper", "--uncertainty", inputs.scene.with_name("sd.tif"))
    return ("reconstruct", inputs.scene, *SENSOR, *asked)


@case("'paper' gives a cube and nothing on its error")
def uncertainty_of_a_batch_of_the_papers_cubes(inputs):
    return ("batch", inputs.scene, *SENSOR, "--method", "paper", "--uncertainty")


@case("there is no folder")
def uncertainty_in_a_missing_folder(inputs):
    asked = ("--uncertainty", inputs.scene.parent / "nowhere" / "sd.tif")
    return ("reconstruct", inputs.scene, *SENSOR, *asked)


@case("a cube is one of")
def uncertainty_of_no_known_format(inputs):
    return ("reconstruct", inputs.scene, *SENSOR, "--uncertainty", inputs.scene.with_name("sd.png"))


@case("which ends at 6.5534")
def a_batch_in_the_scenes_units_as_small_numbers(inputs):
    asked = ("--calibrate", "gain", "--units", "scene", "--dtype", "uint16")
    return ("batch", inputs.scene, *SENSOR, "--points", inputs.points, *asked)


@case("does not say the wavelengths")
def evaluation_of_no_cube(inputs):
    path = write_tif(inputs.scene.with_name("plain.tif"), np.ones((3, 10, 10), "f4"))
    return ("evaluate", path, inputs.cube)


@case("either --sensor NAME or --response CSV")
def simulation_without_sensor(inputs):
    return ("simulate", inputs.cube, "--points", "5", "-o", inputs.cube.with_name("made"))


@case("1 to 2000 valid pixels")
def simulation_of_too_many_points(inputs):
    asked = ("--points", "5000", "-o", inputs.cube.with_name("made"))
    return ("simulate", inputs.cube, *SENSOR, *asked)


@case("cannot be made")
def simulation_below_a_missing_folder(inputs):
    asked = ("--points", "5", "-o", inputs.cube.parent / "none" / "made")
    return ("simulate", inputs.cube, *SENSOR, *asked)


@case("cover 1500-2400 nm|do not overlap")
def inspection_of_points_elsewhere(inputs):
    columns = {f"{nm}": [0.1, 0.2] for nm in range(1500, 2401, 100)}
    write_layer(inputs.points, columns, shapely.points([[390_010, 5_809_900]] * 2))
    return ("points", "inspect", inputs.points, "--scene", inputs.scene)


@case("exists.*--overwrite")
def training_onto_an_existing_file(inputs):
    return ("train", inputs.scene, "-o", inputs.cube)


def check(run, folder, arguments, match):
    before = listing(folder)
    ended = run(*arguments)
    # Progress lines end in a time; everything else on stderr is the error.
    said = [line for line in ended.err.splitlines() if not line.endswith(" s")]
    assert ended.code == 1
    assert ended.out == ""
    assert len(said) == 1, ended.err
    assert said[0].startswith("Error: ")
    assert "Traceback" not in ended.err
    assert re.search(match, said[0]), said[0]
    assert listing(folder) == before


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(name, run, inputs, tmp_path):
    check(run, tmp_path, CASES[name].prepare(inputs), CASES[name].match)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_read_only_folder_is_refused(run, inputs, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    output = folder / "cube.tif"
    check(
        run,
        tmp_path,
        ("reconstruct", inputs.scene, "--method", "library", "-o", output),
        "read-only",
    )


def test_too_little_disk_is_refused_before_the_work(run, inputs, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    arguments = ("reconstruct", inputs.scene, "--method", "library")
    check(run, tmp_path, arguments, "0.0 GB free.*free space")


def test_a_disk_that_fills_up_leaves_nothing(run, inputs, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr_cube, "encode", full)
    arguments = ("reconstruct", inputs.scene, "--method", "library")
    check(run, tmp_path, arguments, "No space left.*free space")
