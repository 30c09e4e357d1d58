import numpy as np
import pytest

from pixelssr_geo.datasets import open_cave
from pixelssr_geo.errors import SceneError, SceneReadError
from pixelssr_geo.testing import camera_image, write_cave_scene, write_image


def folder_of(root, name="beads"):
    return root / f"{name}_ms" / f"{name}_ms"


def test_channels_are_16_bit_reflectance_from_400_to_700_nm(cave):
    truth = write_cave_scene(cave, "beads", seed=7)
    dataset = open_cave(cave)
    assert dataset.names == ("balloons", "beads", "fake_and_real_food")
    assert dataset.splits == {}
    pair = dataset.load("beads")
    np.testing.assert_allclose(pair.cube.values, truth, atol=1e-5)
    np.testing.assert_array_equal(pair.channels.centres_nm, np.arange(400, 701, 10))
    np.testing.assert_allclose(pair.scene.values, camera_image(truth) / 255, atol=1e-6)
    assert pair.response is None
    assert str(folder_of(cave)) in pair.cube.attrs["source"]


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_scenes_are_found_however_deep_the_archive_put_them(cave, levels):
    if levels < 2:
        for folder in list(cave.glob("*_ms/*_ms")):
            target = cave / folder.name if levels else cave
            for path in list(folder.iterdir()):
                path.rename(target / path.name)
            folder.rmdir()
    assert len(open_cave(cave)) == 3
    assert open_cave(cave).load("balloons").cube.sizes["wavelength"] == 31
    assert len(open_cave(cave.parent)) == 3


def test_a_scene_of_grey_images_stored_as_colours_is_read(cave):
    truth = write_cave_scene(cave, "watercolors", colours=3)
    np.testing.assert_allclose(open_cave(cave).load("watercolors").cube, truth, atol=1e-5)


def test_eight_bits_are_read_too(cave):
    truth = write_cave_scene(cave, "old", dtype="uint8")
    np.testing.assert_allclose(open_cave(cave).load("old").cube, truth, atol=2.1e-3)


def test_what_a_mac_leaves_is_no_scene(cave):
    (cave / "__MACOSX").mkdir()
    (cave / "__MACOSX" / "._beads_ms_01.png").write_bytes(b"")
    assert len(open_cave(cave)) == 3


def damage(root, kind):
    folder = folder_of(root)
    match kind:
        case "channel":
            (folder / "beads_ms_17.png").unlink()
            (folder / "beads_ms_31.png").unlink()
        case "rgb":
            (folder / "beads_RGB.bmp").unlink()
        case "size":
            write_image(folder / "beads_ms_05.png", np.zeros((1, 16, 19), "u2"), "PNG")
        case "coloured":
            values = np.arange(3 * 16 * 20, dtype="u2").reshape(3, 16, 20)
            write_image(folder / "beads_ms_05.png", values, "PNG")
        case "cut":
            path = folder / "beads_ms_05.png"
            path.write_bytes(path.read_bytes()[:60])
        case "cut later":
            path = folder / "beads_ms_05.png"
            path.write_bytes(path.read_bytes()[:-60])
        case "other image":
            write_image(folder / "beads_RGB.bmp", np.zeros((3, 8, 20), "u1"), "BMP")


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        ("channel", SceneReadError, "lacks beads_ms_17.png and 1 other"),
        ("rgb", SceneReadError, "lacks beads_RGB.bmp"),
        ("size", SceneError, "beads_ms_05.png' has 16 x 19 pixels, the first channel 16 x 20"),
        ("coloured", SceneError, "3 different bands"),
        ("cut", SceneReadError, "beads_ms_05.png"),
        ("cut later", SceneReadError, "beads_ms_05.png"),
        ("other image", SceneError, "8 x 20 pixels, its cube 16 x 20"),
    ],
)
def test_malformed_scenes_are_told_in_a_line(cave, kind, error, match):
    damage(cave, kind)
    with pytest.raises(error, match=match) as told:
        open_cave(cave).load("beads")
    assert "\n" not in str(told.value)


def test_a_folder_without_scenes_is_told_in_a_line(tmp_path):
    with pytest.raises(SceneReadError, match=r"NAME_ms_01\.png") as told:
        open_cave(tmp_path)
    assert "\n" not in str(told.value)
