import json

import numpy as np
import pytest
import rasterio

from pixelssr_geo.errors import MissingCRSError, SceneError
from pixelssr_geo.evaluation import evaluate
from pixelssr_geo.metrics import VariantScore
from pixelssr_geo.scene import pixel_grid
from pixelssr_geo.testing import make_cube, make_points
from pixelssr_geo.writers import write_cog, write_zarr

KEYS = {"rmse", "psnr", "mpsnr", "ssim", "sam", "sam_band", "bands", "pixels"}


def write_mask(path, mask):
    profile = {"count": 1, "height": mask.shape[0], "width": mask.shape[1], "dtype": "uint8"}
    transform = rasterio.Affine(8, 0, 390_000, 0, -8, 5_810_000)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as dataset:
        dataset.write(mask.astype("u1"), 1)
    return path


def test_a_cube_equals_itself():
    result = evaluate(make_cube(), make_cube())
    assert set(result) == KEYS
    assert (result["rmse"], result["sam"], result["ssim"]) == pytest.approx((0, 0, 1), abs=1e-4)
    assert (result["bands"], result["pixels"]) == (61, 2000)


def test_a_constant_error_is_measured():
    result = evaluate(make_cube() + 0.01, make_cube())
    assert result["rmse"] == pytest.approx(0.01, rel=1e-4)
    assert result["psnr"] == pytest.approx(40, abs=1e-3)
    assert result["mpsnr"] == pytest.approx(40, abs=1e-3)


def test_brightness_alone_turns_no_angle():
    result = evaluate(make_cube() * 1.1, make_cube())
    assert result["sam"] == pytest.approx(0, abs=0.03)
    assert result["rmse"] > 0.01


def test_variants_are_measured_when_asked_for():
    cube, reference = make_cube() + 0.01, make_cube()
    result = evaluate(cube, reference, variants=True)
    assert {name: result[name] for name in KEYS} == evaluate(cube, reference)
    assert set(VariantScore.__annotations__) == set(result)
    assert result["mae"] == pytest.approx(0.01, rel=1e-4)
    assert result["psnr_elementwise"] == pytest.approx(40, abs=1e-2)


def test_the_result_is_json():
    assert set(json.loads(json.dumps(evaluate(make_cube() * 1.1, make_cube())))) == KEYS


def test_files_and_arrays_give_the_same(tmp_path):
    cube, reference = make_cube() * 1.05, make_cube()
    write_zarr(cube, tmp_path / "cube.zarr")
    write_cog(reference, tmp_path / "reference.tif")
    from_files = evaluate(tmp_path / "cube.zarr", str(tmp_path / "reference.tif"))
    assert from_files == pytest.approx(evaluate(cube, reference))


def test_nodata_of_either_is_left_out():
    ours = make_cube(nodata_hole=(slice(0, 4), slice(0, 5)))
    theirs = make_cube(nodata_hole=(slice(2, 6), slice(0, 5)))
    assert evaluate(ours, theirs)["pixels"] == 2000 - 6 * 5


def test_pixels_of_points_are_left_out():
    cube, points = make_cube(), make_points(12)
    rows, cols = pixel_grid(cube).to_pixels(points.x, points.y)
    wrong = cube.copy(deep=True)
    wrong.values[:, rows, cols] += 1
    result = evaluate(wrong, cube, exclude_points=points)
    assert result["pixels"] == 2000 - 12
    assert result["rmse"] == 0


def test_points_without_crs_cannot_be_left_out():
    with pytest.raises(MissingCRSError):
        evaluate(make_cube(), make_cube(), exclude_points=make_points(crs=None))


def test_only_pixels_of_the_mask_count(tmp_path):
    mask = np.zeros((40, 50))
    mask[:10] = 1
    wrong = make_cube()
    wrong.values[:, 10:] += 1
    result = evaluate(wrong, make_cube(), mask=write_mask(tmp_path / "mask.tif", mask))
    assert result["pixels"] == 500
    assert result["rmse"] == 0


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (lambda: make_cube((40, 51)), r"\(61, 40, 50\), the reference \(61, 40, 51\)"),
        (lambda: make_cube(wavelengths="400:1000:20"), r"the reference \(31, 40, 50\)"),
        (lambda: make_cube(wavelengths="405:1005:10"), "up to 5.0 nm apart"),
    ],
)
def test_cubes_that_differ_are_refused(other, match):
    with pytest.raises(SceneError, match=match):
        evaluate(make_cube(), other())


def test_cubes_of_different_places_are_refused():
    moved = make_cube()
    moved = moved.assign_coords(x=moved["x"] + 80)
    with pytest.raises(SceneError, match=r"10\.0 pixels apart"):
        evaluate(make_cube(), moved)


def test_cubes_of_other_pixel_sizes_are_refused():
    cube = make_cube()
    (a, _, c, _, e, f) = pixel_grid(cube).transform
    middles = {name: np.arange(size) + 0.5 for name, size in cube.sizes.items()}
    coarse = cube.assign_coords(x=c + 2 * a * middles["x"], y=f + 2 * e * middles["y"])
    with pytest.raises(SceneError, match=r"25\.0 pixels apart at a corner"):
        evaluate(cube, coarse)


@pytest.mark.parametrize("dims", [{"wavelength": "band"}, {"x": "column"}])
def test_arrays_with_other_dims_are_refused(dims):
    named = make_cube().drop_vars(["wavelength", "fwhm", "x"]).rename(dims)
    with pytest.raises(SceneError, match=r"\(wavelength, y, x\) is needed: rename"):
        evaluate(named, make_cube())


def test_no_pixel_left_is_refused(tmp_path):
    mask = write_mask(tmp_path / "mask.tif", np.zeros((40, 50)))
    with pytest.raises(SceneError, match="no pixel is valid"):
        evaluate(make_cube(), make_cube(), mask=mask)


def test_a_mask_of_another_size_is_refused(tmp_path):
    mask = write_mask(tmp_path / "mask.tif", np.ones((4, 5)))
    with pytest.raises(SceneError, match="4 x 5 pixels, 40 x 50"):
        evaluate(make_cube(), make_cube(), mask=mask)
