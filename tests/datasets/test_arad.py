import pickle
import sys

import numpy as np
import pytest

from pixelssr_geo.datasets import open_arad
from pixelssr_geo.datasets.images import read_matlab
from pixelssr_geo.errors import (
    MissingDependencyError,
    ResponseError,
    SceneError,
    SceneReadError,
    SettingsError,
    WavelengthGridError,
)
from pixelssr_geo.spectra import SpectralResponse, get_sensor
from pixelssr_geo.testing import camera_image, write_arad_scene, write_image, write_matlab


def files_of(root, name="ARAD_1K_0001"):
    return root / "Train_Spec" / f"{name}.mat", root / "Train_RGB" / f"{name}.jpg"


class TestScenes:
    def test_all_are_listed_and_none_is_read(self, arad):
        for path in arad.glob("*/*"):
            path.write_bytes(b"")
        numbers = (1, 2, 900, 901, 951)
        assert open_arad(arad).names == tuple(f"ARAD_1K_{number:04d}" for number in numbers)

    def test_a_cube_lies_as_its_image_does(self, arad):
        truth = write_arad_scene(arad, "ARAD_1K_0001", seed=5)
        pair = open_arad(arad).load("ARAD_1K_0001")
        assert pair.cube.dims == ("wavelength", "y", "x")
        np.testing.assert_array_equal(pair.cube.values, truth)
        assert pair.cube.dtype == np.float32
        np.testing.assert_array_equal(pair.channels.centres_nm, np.arange(400, 701, 10))
        np.testing.assert_array_equal(pair.channels.fwhm_nm, 10)
        # JPEG loses little of a smooth image: rows and columns, and colours, are in their order.
        np.testing.assert_allclose(pair.scene.values, camera_image(truth) / 255, atol=0.06)
        assert list(pair.scene["band"].values) == ["Red", "Green", "Blue"]
        np.testing.assert_array_equal(pair.scene["y"], pair.cube["y"])
        np.testing.assert_array_equal(pair.scene["x"], pair.cube["x"])

    def test_without_a_response_a_scene_has_no_wavelengths(self, arad):
        pair = open_arad(arad).load("ARAD_1K_0001")
        assert pair.response is None
        assert "wavelength" not in pair.scene.coords

    def test_the_response_can_be_told(self, arad):
        pair = open_arad(arad, response=get_sensor("RGB")).load("ARAD_1K_0001")
        np.testing.assert_allclose(pair.scene["wavelength"], [610, 540, 460])

    def test_of_a_mosaic_the_first_green_is_taken(self, arad, tmp_path):
        table = tmp_path / "RGB_Camera_QE.csv"
        table.write_text("Wavelength[nm],R,G1,G2,B\n400,0,0,0,1\n550,0,1,0.5,0\n650,1,0,0,0\n")
        pair = open_arad(arad, response=table).load("ARAD_1K_0001")
        assert pair.response.names == ("R", "G1", "B")

    def test_the_published_camera_is_known(self, arad, shared_data):
        table = shared_data / "srf" / "NTIRE2022_RGB_Camera_QE.csv"
        response = open_arad(arad, response=table).load("ARAD_1K_0002").response
        assert response.names == ("R", "G1", "B")
        assert np.all(np.diff(response.centres_nm) < 0)

    def test_a_response_of_other_bands_is_refused(self, arad):
        with pytest.raises(ResponseError, match="describes 4 bands"):
            open_arad(arad, response=get_sensor("GF-6 PMS"))

    def test_test_scenes_have_no_cube(self, arad):
        pair = open_arad(arad).load("ARAD_1K_0951")
        assert pair.cube is None
        assert pair.channels is None
        assert pair.valid().all()

    def test_scenes_are_loaded_one_at_a_time(self, arad):
        dataset = open_arad(arad)
        loading = iter(dataset)
        assert next(loading).name == dataset.names[0]
        for path in arad.glob("*_RGB/*"):
            path.unlink()
        with pytest.raises(SceneReadError):
            next(loading)

    def test_a_dataset_goes_to_workers(self, arad):
        dataset = pickle.loads(pickle.dumps(open_arad(arad, response=get_sensor("RGB"))))
        assert dataset.load("ARAD_1K_0900").shape == (24, 32)


class TestSplits:
    def test_numbers_tell_the_parts(self, arad):
        splits = open_arad(arad).splits
        assert splits["train"] == ("ARAD_1K_0001", "ARAD_1K_0002", "ARAD_1K_0900")
        assert splits["validation"] == ("ARAD_1K_0901",)
        assert splits["test"] == ("ARAD_1K_0951",)

    def test_validation_scenes_may_lie_beside_those_to_learn_from(self, arad):
        # As toolboxes ask for.
        for kind in ("Spec", "RGB"):
            for path in (arad / f"Valid_{kind}").iterdir():
                path.rename(arad / f"Train_{kind}" / path.name)
        assert open_arad(arad).splits["validation"] == ("ARAD_1K_0901",)

    def test_folders_tell_the_parts_of_scenes_of_other_names(self, tmp_path):
        pytest.importorskip("h5py", reason="h5py is not installed")
        write_arad_scene(tmp_path, "one", part="train")
        write_arad_scene(tmp_path, "two", part="VALID")
        splits = open_arad(tmp_path).splits
        assert (splits["train"], splits["validation"]) == (("one",), ("two",))

    def test_lists_go_before_numbers(self, arad):
        lists = arad / "split_txt"
        lists.mkdir()
        (lists / "train_list.txt").write_text("ARAD_1K_0002\nARAD_1K_0901.mat\n")
        (lists / "valid_list.txt").write_text("ARAD_1K_0001\n")
        assert open_arad(arad).splits == {
            "train": ("ARAD_1K_0002", "ARAD_1K_0901"),
            "validation": ("ARAD_1K_0001",),
        }

    def test_a_list_of_scenes_that_are_not_there_is_refused(self, arad):
        (arad / "split_txt").mkdir()
        (arad / "split_txt" / "train_list.txt").write_text("ARAD_1K_0001\nARAD_1K_0007\n")
        with pytest.raises(SceneReadError, match=r"names 'ARAD_1K_0007'.*unpack"):
            open_arad(arad)

    def test_some_scenes_keep_their_parts(self, arad):
        some = open_arad(arad).select(["ARAD_1K_0901", "ARAD_1K_0002"])
        assert some.names == ("ARAD_1K_0901", "ARAD_1K_0002")
        assert some.splits["train"] == ("ARAD_1K_0002",)
        assert len(some) == 2


def replaced(kind):
    """Puts something else in place of a scene's cube."""

    def damage(root):
        path, image = files_of(root)
        cube, bands = np.zeros((24, 32, 31)), np.arange(400.0, 701, 10)[None]
        match kind:
            case "old":
                path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: PCWIN64".ljust(600))
            case "page":
                path.write_bytes(b"<!DOCTYPE html><title>Sign in</title>".ljust(600))
            case "empty":
                path.write_bytes(b"")
            case "cut":
                path.write_bytes(path.read_bytes()[:3000])
            case "nameless":
                write_matlab(path, rad=cube, bands=bands)
            case "text":
                write_matlab(path, cube=np.array([b"no", b"numbers"]), bands=bands)
            case "flat":
                write_matlab(path, cube=np.zeros((24, 31)), bands=bands)
            case "few bands":
                write_matlab(path, cube=cube, bands=bands[:, :30])
            case "micrometres":
                write_matlab(path, cube=cube, bands=bands / 1000)
            case "no bands":
                write_matlab(path, cube=cube, bands=np.zeros((0, 0)))
            case "other size":
                write_matlab(path, cube=cube[1:], bands=bands)
            case "no image":
                image.unlink()
            case "image of text":
                image.write_text("not an image")
            case "grey image":
                write_image(image, np.zeros((1, 24, 32), "u1"), "JPEG")

    return damage


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        ("old", SceneReadError, "older than v7.3.*save it again"),
        ("page", SceneReadError, "begins with b'<!DOCTYP', expected a MATLAB v7.3"),
        ("empty", SceneReadError, "expected a MATLAB v7.3"),
        ("cut", SceneReadError, "truncated or damaged: download"),
        ("nameless", SceneError, "has the variables bands, rad, 'cube' is needed"),
        ("text", SceneError, "'cube' of .* is not numeric"),
        ("flat", SceneError, r"shape \(24, 31\) and 'bands' 31 wavelengths"),
        ("few bands", SceneError, r"shape \(24, 32, 31\) and 'bands' 30 wavelengths"),
        ("micrometres", WavelengthGridError, "'bands' of .* is no list of wavelengths in nm"),
        ("no bands", WavelengthGridError, "'bands' of .* is no list of wavelengths in nm"),
        ("other size", SceneError, "24 x 32 pixels, its cube 23 x 32"),
        ("no image", SceneReadError, "no image, a ARAD_1K_0001.jpg in a folder such as Train_RGB"),
        ("image of text", SceneReadError, "cannot be opened as a raster"),
        ("grey image", SceneError, "has 1 bands, a colour image has three"),
    ],
)
def test_malformed_files_are_told_in_a_line(arad, kind, error, match):
    replaced(kind)(arad)
    dataset = open_arad(arad)
    with pytest.raises(error, match=match) as told:
        dataset.load("ARAD_1K_0001")
    assert "\n" not in str(told.value)
    assert dataset.load("ARAD_1K_0002").shape == (24, 32)


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "other"])
def test_a_root_without_scenes_is_told_in_a_line(tmp_path, kind):
    root = tmp_path / "root"
    if kind == "file":
        root.write_text("")
    elif kind != "missing":
        root.mkdir()
    if kind == "other":
        (root / "Train_Spec").mkdir()
        (root / "Train_Spec" / "readme.txt").write_text("")
    with pytest.raises(SceneReadError, match="Train_Spec/") as told:
        open_arad(root)
    assert "\n" not in str(told.value)


def test_an_unknown_scene_is_refused_with_its_neighbours(arad):
    dataset = open_arad(arad)
    with pytest.raises(SettingsError, match=r"no scene 'ARAD_1K_0003'.*ARAD_1K_0001"):
        dataset.load("ARAD_1K_0003")
    with pytest.raises(SettingsError, match="no scene 'balloons'"):
        dataset.select(["ARAD_1K_0001", "balloons"])


def test_without_h5py_the_extra_is_named(arad, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"pixelssr-geo\[datasets\]"):
        open_arad(arad).load("ARAD_1K_0001")


def test_a_file_that_matlab_wrote_is_read(shared_data):
    pytest.importorskip("h5py", reason="h5py is not installed")
    path = shared_data / "muufl_gulfport" / "muufl_100x100x64.mat"
    cube, truth = read_matlab(path, "data", "groundtruth")
    assert (cube.shape, truth.shape) == ((100, 100, 64), (100, 100))
    assert np.isfinite(cube).all()


def test_a_response_needs_no_known_sensor(arad):
    response = SpectralResponse.from_bands([600, 550, 450], [90, 90, 90])
    assert open_arad(arad, response=response).load("ARAD_1K_0001").response is response
