import pickle
import warnings

import numpy as np
import pytest
import rasterio
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem
from rasterio.enums import ColorInterp

from pixelssr_geo import scene as scene_module
from pixelssr_geo.errors import (
    MissingWavelengthsError,
    PixelSSRWarning,
    ResponseError,
    SceneError,
    SceneReadError,
    UnknownSensorError,
)
from pixelssr_geo.scene import (
    cube_channels,
    open_cube,
    open_scene,
    pixel_grid,
    read_mask,
    scene_response,
)
from pixelssr_geo.spectra import get_sensor
from pixelssr_geo.testing import make_cube, make_scene
from pixelssr_geo.writers import write_cog, write_scene, write_zarr

TRANSFORM = rasterio.Affine(8, 0, 390_000, 0, -8, 5_810_000)


def write_tif(path, values, *, crs="EPSG:32633", transform=TRANSFORM, driver="GTiff", **profile):
    """A raster of ``(band, y, x)`` and nothing more."""
    count, height, width = values.shape
    profile |= {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, crs=crs, transform=transform, **profile
        ) as dataset:
            dataset.write(values)
    return path


def edit(path):
    return rasterio.open(path, "r+")


@pytest.fixture
def memory():
    """An empty file system at memory://."""
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


@pytest.fixture
def values():
    return make_scene().values


@pytest.fixture
def plain(tmp_path, values):
    """A float scene of four bands that says nothing about wavelengths."""
    return write_tif(tmp_path / "plain.tif", values)


def test_pixels_grid_and_names_arrive(plain, values):
    scene = open_scene(plain, sensor="GF-6 PMS")
    assert scene.dims == ("band", "y", "x")
    assert scene.dtype == np.float32
    assert scene["band"].values.tolist() == ["Blue", "Green", "Red", "NIR"]
    np.testing.assert_array_equal(scene.values, values)
    grid = pixel_grid(scene)
    assert grid.transform == tuple(TRANSFORM)[:6]
    assert grid.shape == (40, 50)
    assert "UTM zone 33N" in grid.crs_wkt


def test_no_pixel_is_read_at_opening(plain, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pixel was read")

    with monkeypatch.context() as patch:
        patch.setattr(rasterio.DatasetReader, "read", refuse, raising=False)
        patch.setattr(scene_module, "_read_chunk", refuse)
        open_scene(plain, sensor="GF-6 PMS")
        open_scene(plain, sensor="GF-6 PMS").isel(y=slice(0, 5))


def test_a_window_reads_only_its_chunks(tmp_path, monkeypatch):
    path = write_tif(tmp_path / "wide.tif", np.ones((1, 8, 1600), "f4"))
    with edit(path) as dataset:
        dataset.update_tags(1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.66", FWHM_UM="0.06")
    scene = open_scene(path)
    assert scene.chunks[2] == (512, 512, 512, 64)
    reads = []
    opened = scene_module._opened
    monkeypatch.setattr(scene_module, "_opened", lambda path: reads.append(path) or opened(path))
    scene.isel(x=slice(600, 700)).compute(scheduler="synchronous")
    assert len(reads) == 1


class TestWavelengths:
    def test_from_the_imagery_domain(self, plain):
        with edit(plain) as dataset:
            for index, (centre, width) in enumerate(
                [(0.485, 0.07), (0.555, 0.08), (0.66, 0.06), (0.83, 0.14)], 1
            ):
                dataset.update_tags(
                    index, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{centre}", FWHM_UM=f"{width}"
                )
        scene = open_scene(plain)
        assert scene["wavelength"].values == pytest.approx([485, 555, 660, 830], abs=1)
        assert scene["fwhm"].values == pytest.approx([70, 80, 60, 140], abs=1)
        assert scene["wavelength"].attrs["units"] == "nm"

    @pytest.mark.parametrize(("unit", "factor"), [("Micrometers", 1e-3), ("Nanometers", 1)])
    def test_from_an_envi_header(self, tmp_path, values, unit, factor):
        path = write_tif(tmp_path / "scene.img", values, driver="ENVI")
        centres = ", ".join(str(nm * factor) for nm in (485, 555, 660, 830))
        widths = ", ".join(str(nm * factor) for nm in (70, 80, 60, 140))
        header = tmp_path / "scene.hdr"
        header.write_text(
            header.read_text()
            + f"wavelength units = {unit}\nwavelength = {{{centres}}}\nfwhm = {{{widths}}}\n"
        )
        scene = open_scene(path)
        assert scene["wavelength"].values == pytest.approx([485, 555, 660, 830], abs=1)
        assert scene["fwhm"].values == pytest.approx([70, 80, 60, 140], abs=1)

    def test_from_envi_tags_that_gdal_wrote(self, tmp_path, values):
        path = tmp_path / "scene.bsq"
        profile = {"count": 4, "height": 40, "width": 50, "dtype": "float32", "crs": "EPSG:32633"}
        with rasterio.open(path, "w", driver="ENVI", transform=TRANSFORM, **profile) as dataset:
            dataset.write(values)
            dataset.update_tags(
                ns="ENVI",
                wavelength="{485, 555, 660, 830}",
                wavelength_units="Nanometers",
                fwhm="{70, 80, 60, 140}",
            )
        scene = open_scene(path)
        assert scene["wavelength"].values == pytest.approx([485, 555, 660, 830], abs=1)
        assert scene["fwhm"].values == pytest.approx([70, 80, 60, 140], abs=1)

    @pytest.mark.parametrize(
        "descriptions",
        [
            ("Blue (485 nm)", "Green (555 nm)", "Red (660 nm)", "NIR (830 nm)"),
            ("0.485 Micrometers", "0.555 Micrometers", "0.66 Micrometers", "0.83 Micrometers"),
        ],
    )
    def test_from_descriptions(self, plain, descriptions):
        with edit(plain) as dataset:
            dataset.descriptions = descriptions
        with pytest.warns(PixelSSRWarning, match="no band widths"):
            scene = open_scene(plain)
        assert scene["wavelength"].values == pytest.approx([485, 555, 660, 830], abs=1)
        assert scene["band"].values.tolist() == list(descriptions)

    def test_a_sensor_is_matched_by_band_names_in_any_order(self, plain):
        with edit(plain) as dataset:
            dataset.descriptions = ("nir", "RED", "Green", "blue")
        scene = open_scene(plain, sensor="gf6_pms")
        assert scene["band"].values.tolist() == ["NIR", "Red", "Green", "Blue"]
        assert np.diff(scene["wavelength"].values).max() < 0

    def test_fewer_bands_than_the_sensor_are_matched_by_name(self, tmp_path):
        path = write_tif(tmp_path / "s2.tif", np.full((4, 8, 8), 0.1, "f4"))
        with edit(path) as dataset:
            dataset.descriptions = ("B02", "B03", "B04", "B08")
        scene = open_scene(path, sensor="S2A")
        assert scene["wavelength"].values == pytest.approx([492, 560, 665, 833], abs=3)
        assert scene_response(scene).names == tuple(scene["band"].values)

    def test_fewer_bands_are_matched_by_wavelength(self, plain):
        with edit(plain) as dataset:
            for index, centre in enumerate((0.49, 0.56, 0.665, 0.842), 1):
                dataset.update_tags(index, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{centre}")
        scene = open_scene(plain, sensor="Sentinel-2A")
        assert [name.lstrip("B0") for name in scene["band"].values] == ["2", "3", "4", "8"]

    def test_bands_that_cannot_be_matched_are_refused(self, plain):
        with pytest.raises(ResponseError, match=r"has 4 bands and sensor 'S2A' has 1[0-9]"):
            open_scene(plain, sensor="S2A")

    def test_a_response_table_gives_centres_and_widths(self, plain, tmp_path):
        table = tmp_path / "table.csv"
        lines = ["wavelength_nm,b,g,r,n"]
        for nm in range(400, 1001, 5):
            row = [np.exp(-4 * np.log(2) * ((nm - c) / 60) ** 2) for c in (490, 560, 660, 830)]
            lines.append(",".join(f"{value:.6f}" for value in (nm, *row)))
        table.write_text("\n".join(lines))
        scene = open_scene(plain, response=table)
        assert scene["wavelength"].values == pytest.approx([490, 560, 660, 830], abs=1)
        assert scene["fwhm"].values == pytest.approx([60] * 4, abs=1)
        assert scene_response(scene).names == ("b", "g", "r", "n")

    def test_a_table_of_other_bands_is_refused(self, plain, tmp_path):
        table = tmp_path / "table.csv"
        table.write_text("wavelength_nm,b\n480,0\n490,1\n500,0\n")
        with pytest.raises(ResponseError, match=r"describes 1 bands .* has 4"):
            open_scene(plain, response=table)

    def test_without_any_the_known_sensors_are_listed(self, plain):
        with pytest.raises(MissingWavelengthsError, match=r"GF-6 PMS.*--response CSV"):
            open_scene(plain)

    def test_an_unknown_sensor_is_refused(self, plain):
        with pytest.raises(UnknownSensorError, match="did you mean GF-6 PMS"):
            open_scene(plain, sensor="GF6PMSS")


class TestNodata:
    def test_the_nodata_value_is_per_band(self, tmp_path):
        stored = np.full((4, 6, 7), 0.2, "f4")
        stored[0, 0, 0] = stored[2, 3, 4] = -9999
        scene = open_scene(write_tif(tmp_path / "a.tif", stored, nodata=-9999), sensor="GF-6 PMS")
        missing = np.zeros(stored.shape, bool)
        missing[0, 0, 0] = missing[2, 3, 4] = True
        np.testing.assert_array_equal(np.isnan(scene.values), missing)

    def test_nodata_of_integers_is_not_scaled_away(self, tmp_path):
        stored = np.full((4, 6, 7), 2000, "i2")
        stored[:, 1, 1] = -32768
        path = write_tif(tmp_path / "a.tif", stored, nodata=-32768)
        scene = open_scene(path, sensor="GF-6 PMS", scale=1e-4)
        assert np.isnan(scene.values[:, 1, 1]).all()
        assert scene.values[:, 0, 0] == pytest.approx([0.2] * 4)

    def test_a_mask_band_hides_pixels(self, tmp_path):
        path = write_tif(tmp_path / "a.tif", np.full((4, 6, 7), 0.2, "f4"))
        mask = np.full((6, 7), 255, "u1")
        mask[2:4, 3] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), edit(path) as dataset:
            dataset.write_mask(mask)
        scene = open_scene(path, sensor="GF-6 PMS")
        np.testing.assert_array_equal(np.isnan(scene.values), np.stack([mask == 0] * 4))

    def test_alpha_is_no_band_and_hides_pixels(self, tmp_path):
        stored = np.full((4, 6, 7), 2000, "u2")
        stored[3] = 65535
        stored[3, 0] = 0
        path = write_tif(tmp_path / "a.tif", stored)
        with edit(path) as dataset:
            dataset.colorinterp = [
                ColorInterp.red,
                ColorInterp.green,
                ColorInterp.blue,
                ColorInterp.alpha,
            ]
        scene = open_scene(path, sensor="RGB", scale=1e-4)
        assert scene.sizes["band"] == 3
        assert np.isnan(scene.values[:, 0]).all()
        assert np.isfinite(scene.values[:, 1:]).all()

    def test_what_is_not_finite_becomes_nan(self, tmp_path):
        stored = np.full((4, 6, 7), 0.2, "f4")
        stored[1, 2, 3], stored[2, 2, 3], stored[3, 4, 4] = np.inf, np.nan, -np.inf
        scene = open_scene(write_tif(tmp_path / "a.tif", stored), sensor="GF-6 PMS")
        assert np.isnan(scene.values).sum() == 3
        assert not np.isinf(scene.values).any()

    def test_doubles_beyond_single_precision_become_nan_in_silence(self, tmp_path):
        stored = np.full((4, 6, 7), 0.2, "f8")
        stored[:, 0, 0] = -1.7976931348623157e308
        scene = open_scene(write_tif(tmp_path / "a.tif", stored), sensor="GF-6 PMS")
        assert np.isnan(scene.values[:, 0, 0]).all()
        assert np.isfinite(scene.values[:, 1:]).all()


class TestScale:
    @pytest.fixture
    def counts(self, tmp_path):
        return write_tif(tmp_path / "counts.tif", np.full((4, 6, 7), 1500, "u2"))

    def read(self, path, **options):
        return float(open_scene(path, sensor="GF-6 PMS", **options).values[0, 0, 0])

    def test_the_scale_that_is_given_wins(self, counts):
        with edit(counts) as dataset:
            dataset.scales = (2.0,) * 4
        assert self.read(counts, scale=1e-3) == pytest.approx(1.5)

    def test_gdal_scale_and_offset(self, counts):
        with edit(counts) as dataset:
            dataset.scales, dataset.offsets = (1e-4,) * 4, (-0.1,) * 4
        assert self.read(counts) == pytest.approx(0.05)

    def test_scale_and_offset_of_each_band(self, counts):
        with edit(counts) as dataset:
            dataset.scales, dataset.offsets = (1e-4, 2e-4, 1e-4, 1e-4), (0, 0, -0.1, 0)
        scene = open_scene(counts, sensor="GF-6 PMS")
        assert scene.values[:, 0, 0] == pytest.approx([0.15, 0.3, 0.05, 0.15])

    def test_the_factor_of_an_envi_header(self, tmp_path):
        path = write_tif(tmp_path / "a.img", np.full((4, 6, 7), 1500, "i2"), driver="ENVI")
        header = tmp_path / "a.hdr"
        header.write_text(header.read_text() + "reflectance scale factor = 10000\n")
        assert self.read(path) == pytest.approx(0.15)

    def test_integers_without_a_scale_are_reflectance_x_10000_and_that_is_said(self, counts):
        with pytest.warns(PixelSSRWarning, match=r"holds integers \(uint16\).*--scale"):
            assert self.read(counts) == pytest.approx(0.15)

    def test_floats_are_taken_as_they_are(self, plain, values):
        assert self.read(plain) == pytest.approx(values[0, 0, 0])

    @pytest.mark.parametrize("scale", [0.0, -1e-4, float("nan"), float("inf")])
    def test_a_scale_must_be_a_positive_number(self, plain, scale):
        with pytest.raises(SceneError, match=r"scale is .* positive"):
            open_scene(plain, sensor="GF-6 PMS", scale=scale)


class TestPlace:
    def test_a_scene_without_crs_takes_the_one_given(self, tmp_path, values):
        path = write_tif(tmp_path / "a.tif", values, crs=None)
        assert pixel_grid(open_scene(path, sensor="GF-6 PMS")).crs_wkt is None
        grid = pixel_grid(open_scene(path, sensor="GF-6 PMS", crs="EPSG:32650"))
        assert "UTM zone 50N" in grid.crs_wkt
        assert grid.transform == tuple(TRANSFORM)[:6]

    def test_a_crs_that_is_none_is_refused(self, plain):
        with pytest.raises(SceneError, match="'EPSG:nothing' is not a coordinate"):
            open_scene(plain, sensor="GF-6 PMS", crs="EPSG:nothing")

    @pytest.mark.parametrize(
        "transform",
        [
            rasterio.Affine(2.6949458523585647e-4, 0, 13.1, 0, -2.6949458523585647e-4, 52.7),
            rasterio.Affine(0.1, 0, 300_000.3, 0, -0.1, 4_000_000.7),
            rasterio.Affine(7, 2, 390_000, 3, -6, 5_810_000),
        ],
        ids=["degrees", "decimetres", "rotated"],
    )
    def test_the_grid_is_the_files_to_the_last_bit(self, tmp_path, values, transform):
        path = write_tif(tmp_path / "a.tif", values, transform=transform)
        assert pixel_grid(open_scene(path, sensor="GF-6 PMS")).transform == tuple(transform)[:6]

    def test_a_raster_without_transform_counts_pixels(self, tmp_path, values):
        path = write_tif(tmp_path / "a.tif", values, crs=None, transform=rasterio.Affine.identity())
        scene = open_scene(path, sensor="GF-6 PMS")
        assert pixel_grid(scene).transform == (1, 0, 0, 0, -1, 40)

    @pytest.mark.parametrize(
        ("part", "transform"),
        [
            ({"y": slice(10, 20), "x": slice(5, 25)}, (8, 0, 390_040, 0, -8, 5_809_920)),
            ({"y": slice(10, 11), "x": slice(5, 6)}, (8, 0, 390_040, 0, -8, 5_809_920)),
            (
                {"y": slice(None, None, 2), "x": slice(None, None, 2)},
                (16, 0, 389_996, 0, -16, 5_810_004),
            ),
            ({"y": slice(None, None, -1)}, (8, 0, 390_000, 0, 8, 5_809_680)),
        ],
        ids=["window", "pixel", "thinned", "reversed"],
    )
    def test_the_grid_of_a_part_is_the_parts(self, plain, part, transform):
        scene = open_scene(plain, sensor="GF-6 PMS").isel(part)
        assert pixel_grid(scene).transform == pytest.approx(transform)
        assert pixel_grid(make_scene().isel(part)).transform == pytest.approx(transform)

    def test_a_row_of_an_array_that_states_no_transform_lies_at_its_place(self):
        scene = make_scene()
        places = {"x": scene["x"].values[5:9], "y": scene["y"].values[[7]]}
        row = xr.DataArray(np.zeros((1, 1, 4)), dims=("band", "y", "x"), coords=places)
        x, y = pixel_grid(row).to_world(np.array([0]), np.array([2]))
        assert (x[0], y[0]) == (scene["x"].values[7], scene["y"].values[7])


class TestChannels:
    def test_widths_are_those_asked_for_else_stated_else_the_spacing(self):
        cube = make_cube(wavelengths="450:850:100")
        stated = cube_channels(cube).fwhm_nm
        np.testing.assert_array_equal(stated, cube["fwhm"].values)
        assert set(cube_channels(cube, fwhm_nm=7.0).fwhm_nm) == {7.0}
        assert set(cube_channels(cube.drop_vars("fwhm")).fwhm_nm) == {100.0}

    def test_a_single_channel_without_width_has_ten_nm(self):
        one = make_cube(wavelengths="450:850:100").drop_vars("fwhm").isel(wavelength=[2])
        assert cube_channels(one).fwhm_nm.tolist() == [10.0]


class TestZarrScenes:
    def test_a_written_scene_comes_back(self, tmp_path):
        scene = make_scene(nodata_hole=(slice(3, 5), slice(6, 9)))
        path = tmp_path / "scene.zarr"
        scene.drop_vars("band").to_dataset(name="reflectance").to_zarr(path, consolidated=False)
        opened = open_scene(path)
        assert opened.dims == ("band", "y", "x")
        np.testing.assert_array_equal(opened.values, scene.values)
        np.testing.assert_allclose(opened["wavelength"], scene["wavelength"], atol=0.01)
        assert opened.chunks is not None
        assert pixel_grid(opened).transform == pixel_grid(scene).transform
        assert pixel_grid(opened).crs_wkt is not None

    def test_a_wavelength_axis_is_taken_as_bands(self, tmp_path):
        path = tmp_path / "cube.zarr"
        write_zarr(make_cube((9, 8), wavelengths="450:850:100"), path)
        scene = open_scene(path)
        assert scene["wavelength"].values == pytest.approx([450, 550, 650, 750, 850], abs=1)
        assert scene.sizes["band"] == 5

    def test_names_in_a_zarr_match_a_sensor(self, tmp_path):
        path = tmp_path / "scene.zarr"
        scene = make_scene().isel(band=[3, 2, 1, 0])
        scene.to_dataset(name="reflectance").to_zarr(path, consolidated=False, zarr_format=2)
        opened = open_scene(path, sensor="GF-6 PMS")
        assert opened["band"].values.tolist() == ["NIR", "Red", "Green", "Blue"]

    @pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
    def test_no_store_is_refused(self, tmp_path, make):
        path = tmp_path / "none.zarr"
        make(path)
        with pytest.raises(SceneReadError, match="Zarr store"):
            open_scene(path, sensor="GF-6 PMS")

    def test_a_store_at_a_url_is_a_scene(self, memory):
        scene = make_scene(nodata_hole=(slice(0, 4), slice(0, 3)))
        url = "memory://folder/scene.zarr"
        scene.to_dataset(name="reflectance").to_zarr(url, consolidated=False, zarr_format=2)
        opened = open_scene(f"{url}/")
        assert opened.chunks is not None
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(opened)).values, scene.values)
        assert opened.attrs["source"] == f"{url}/"

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("memory://none.zarr", r"'memory://none.zarr' cannot be opened as a Zarr store \(.*"),
            ("nowhere://none.zarr", r".*Protocol not known: nowhere\).*"),
        ],
    )
    def test_what_is_not_at_a_url_is_one_line(self, memory, url, message):
        with pytest.raises(SceneReadError, match=f"^{message}check the URL, the network"):
            open_scene(url, sensor="GF-6 PMS")

    def test_passwords_are_neither_told_nor_kept(self, memory):
        # Here a part of the name, which looks like one.
        url = "memory://me:secret@host/scene.zarr"
        write_zarr(make_cube((9, 8), wavelengths="450:850:100"), url)
        opened = open_scene(url)
        assert opened.attrs["source"] == "memory://me:***@host/scene.zarr"
        assert "secret" not in repr(opened) + str(opened.attrs) + repr(open_cube(url))
        with pytest.raises(SceneReadError, match=r"me:\*\*\*@host") as caught:
            open_cube("memory://me:secret@host/none.zarr")
        assert "secret" not in str(caught.value)
        with pytest.raises(SceneReadError, match=r"me:\*\*\*@") as caught:
            open_scene("nowhere://me:secret@host/scene.tif", sensor="GF-6 PMS")
        assert "secret" not in str(caught.value)

    def test_a_file_url_is_a_path(self, tmp_path):
        write_zarr(make_cube((9, 8), wavelengths="450:850:100"), f"file://{tmp_path}/c.zarr")
        assert (tmp_path / "c.zarr" / "zarr.json").is_file()
        assert open_cube(f"file://{tmp_path}/c.zarr").shape == (5, 9, 8)

    def test_a_store_of_several_images_is_refused(self, tmp_path):
        scene = make_scene().drop_vars("band")
        path = tmp_path / "two.zarr"
        xr.Dataset({"a": scene, "b": scene}).to_zarr(path, consolidated=False)
        with pytest.raises(SceneReadError, match="2 image arrays"):
            open_scene(path)


class TestCubes:
    @pytest.fixture(params=["cube.tif", "cube.zarr"])
    def path(self, request, tmp_path):
        path = tmp_path / request.param
        write = write_zarr if path.suffix == ".zarr" else write_cog
        write(make_cube((30, 20), nodata_hole=(slice(2, 4), slice(5, 9))), path)
        return path

    def test_a_cube_comes_back_with_its_wavelengths(self, path):
        cube = open_cube(path)
        expected = make_cube((30, 20), nodata_hole=(slice(2, 4), slice(5, 9)))
        assert cube.dims == ("wavelength", "y", "x")
        assert cube.chunks is not None
        np.testing.assert_array_equal(cube.values, expected.values)
        np.testing.assert_allclose(cube["wavelength"], expected["wavelength"], atol=1e-3)
        np.testing.assert_allclose(cube["fwhm"], expected["fwhm"], atol=1e-3)
        assert pixel_grid(cube).transform == pixel_grid(expected).transform

    def test_integers_come_back_as_reflectance(self, tmp_path):
        write_cog(make_cube((30, 20)), tmp_path / "cube.tif", dtype="uint16")
        np.testing.assert_allclose(
            open_cube(tmp_path / "cube.tif").values, make_cube((30, 20)).values, atol=5.1e-5
        )

    def test_a_scene_without_wavelengths_is_no_cube(self, plain):
        with pytest.raises(MissingWavelengthsError, match="CENTRAL_WAVELENGTH_UM"):
            open_cube(plain)

    def test_a_zarr_scene_is_no_cube(self, tmp_path):
        scene = make_scene().drop_vars("band")
        scene.to_dataset(name="reflectance").to_zarr(tmp_path / "s.zarr", consolidated=False)
        with pytest.raises(MissingWavelengthsError, match="no wavelength dimension"):
            open_cube(tmp_path / "s.zarr")


class TestRefused:
    def test_a_path_that_is_not_there(self, tmp_path):
        with pytest.raises(SceneReadError, match="does not exist"):
            open_scene(tmp_path / "none.tif", sensor="RGB")

    def test_a_text_file(self, tmp_path):
        path = tmp_path / "text.tif"
        path.write_text("no raster")
        with pytest.raises(SceneReadError, match="cannot be opened as a raster"):
            open_scene(path, sensor="RGB")

    def test_a_truncated_file_when_its_pixels_are_read(self, tmp_path):
        noise = np.random.default_rng(0).random((4, 300, 300)).astype("f4")
        whole = write_tif(tmp_path / "whole.tif", noise)
        path = tmp_path / "cut.tif"
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(SceneReadError, match=r"truncated or damaged|cannot be opened"):
            open_scene(path, sensor="GF-6 PMS").compute()

    def test_complex_numbers(self, tmp_path):
        path = write_tif(tmp_path / "a.tif", np.ones((4, 6, 7), "c8"))
        with pytest.raises(SceneError, match="complex"):
            open_scene(path, sensor="GF-6 PMS")


CENTRES = {"b": 490, "g": 560, "r": 660, "n": 830}


def write_table(path, bands, fwhm=60, **wide):
    """A table of Gaussian responses in the order of the bands, and wider ones by name."""
    known = {name: (CENTRES[name], fwhm) for name in bands} | wide
    lines = ["wavelength_nm," + ",".join(known)]
    for nm in range(400, 1001, 5):
        row = [np.exp(-4 * np.log(2) * ((nm - c) / w) ** 2) for c, w in known.values()]
        lines.append(",".join(f"{value:.6f}" for value in (nm, *row)))
    path.write_text("\n".join(lines))
    return path


def write_stated(path, centres, widths=None, descriptions=None):
    """A scene of as many bands, band k holding k, that states wavelengths in nm."""
    count = len(centres)
    write_tif(path, np.tile(np.arange(1.0, count + 1, dtype="f4")[:, None, None], (1, 8, 8)))
    with edit(path) as dataset:
        for index, centre in enumerate(centres, 1):
            tags = {"CENTRAL_WAVELENGTH_UM": f"{centre / 1000}"}
            if widths is not None:
                tags["FWHM_UM"] = f"{widths[index - 1] / 1000}"
            dataset.update_tags(index, ns="IMAGERY", **tags)
        if descriptions:
            dataset.descriptions = descriptions
    return path


class TestBandMatching:
    def test_a_table_in_another_order_is_matched_by_wavelength_and_told(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgrn")
        path = write_stated(tmp_path / "a.tif", (842, 665, 560, 490))
        with pytest.warns(PixelSSRWarning, match=r"another order .*: 1 \(842 nm\) = n, 2 "):
            scene = open_scene(path, response=table)
        assert scene["response_band"].values.tolist() == list("nrgb")
        assert scene["wavelength"].values == pytest.approx([830, 660, 560, 490], abs=1)
        assert scene_response(scene).names == tuple("nrgb")
        assert scene.values[:, 0, 0].tolist() == [1, 2, 3, 4]

    def test_a_table_in_the_scenes_order_is_matched_in_silence(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgrn")
        scene = open_scene(write_stated(tmp_path / "a.tif", (485, 555, 660, 830)), response=table)
        assert scene_response(scene).names == tuple("bgrn")

    def test_names_match_too(self, plain, tmp_path):
        table = write_table(tmp_path / "table.csv", "nrgb")
        with edit(plain) as dataset:
            dataset.descriptions = ("B", "G", "R", "N")
        with pytest.warns(PixelSSRWarning, match="another order"):
            scene = open_scene(plain, response=table)
        assert scene_response(scene).names == tuple("bgrn")

    def test_names_that_contradict_the_wavelengths_do_not_count(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgrn")
        path = write_stated(tmp_path / "a.tif", (830, 660, 560, 490), None, tuple("bgrn"))
        with pytest.warns(PixelSSRWarning, match="another order"):
            scene = open_scene(path, response=table)
        assert scene_response(scene).names == tuple("nrgb")

    def test_parts_of_a_scene_keep_their_responses(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgrn")
        path = write_stated(tmp_path / "a.tif", (490, 560, 660, 830))
        part = open_scene(path, response=table).isel(band=[3, 0])
        assert scene_response(part).names == ("n", "b")

    def test_bands_that_a_table_lacks_are_left_out_and_told(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "rgb")
        path = write_stated(tmp_path / "a.tif", (490, 1610, 560, 660, 10_900))
        with pytest.warns(PixelSSRWarning) as caught:
            scene = open_scene(path, response=table)
        told = [str(warning.message) for warning in caught]
        assert "left out: 2 (1610 nm), 5 (10900 nm)" in told[0]
        assert "another order" in told[1]
        assert scene.values[:, 0, 0].tolist() == [1, 3, 4]
        assert scene_response(scene).names == tuple("bgr")

    @pytest.mark.parametrize("options", [{"response": True}, {"sensor": "GF-6 PMS"}])
    def test_wavelengths_of_other_bands_are_refused(self, tmp_path, options):
        if "response" in options:
            options = {"response": write_table(tmp_path / "table.csv", "bgrn")}
        path = write_stated(tmp_path / "a.tif", (1240, 1610, 2130, 2200))
        with pytest.raises(ResponseError, match=r"1 \(1240 nm\), .* cannot be matched"):
            open_scene(path, **options)

    def test_a_band_is_not_taken_for_one_of_quite_another_width(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgr", fwhm=30, Wide=(575, 300))
        narrow = write_stated(tmp_path / "a.tif", (490, 580, 660), (30, 30, 30))
        with pytest.warns(PixelSSRWarning, match="another order|left out"):
            scene = open_scene(
                write_stated(tmp_path / "b.tif", (490, 580, 660), (30, 300, 30)), response=table
            )
        assert scene_response(scene).names == ("b", "Wide", "r")
        assert scene_response(open_scene(narrow, response=table)).names == ("b", "g", "r")

    def test_no_band_of_the_table_is_taken_twice(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgrn", fwhm=100)
        path = write_stated(tmp_path / "a.tif", (490, 560, 660, 833, 850))
        with pytest.warns(PixelSSRWarning, match=r"left out: 5 \(850 nm\)"):
            scene = open_scene(path, response=table)
        assert scene_response(scene).names == tuple("bgrn")

    def test_a_panchromatic_band_is_used_where_the_table_has_it(self, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgrn", PAN=(650, 350))
        path = write_stated(
            tmp_path / "a.tif", (650, 490, 560, 660, 830), None, ("Pan", "b", "g", "r", "n")
        )
        with pytest.warns(PixelSSRWarning, match=r"Pan \(650 nm\) = PAN"):
            scene = open_scene(path, response=table)
        assert scene_response(scene).names == ("PAN", *"bgrn")

    def test_a_panchromatic_band_is_no_other_and_left_out(self, tmp_path):
        path = write_stated(
            tmp_path / "a.tif", (655, 485, 560, 830), None, ("PAN", "B1", "B2", "B4")
        )
        with pytest.warns(PixelSSRWarning, match=r"sensor 'GF6-PMS' .* left out: PAN \(655 nm\)"):
            scene = open_scene(path, sensor="GF6-PMS")
        assert scene["band"].values.tolist() == ["Blue", "Green", "NIR"]

    def test_a_table_with_a_panchromatic_band_more_goes_with_a_scene_without(self, plain, tmp_path):
        table = write_table(tmp_path / "table.csv", "bgrn", PAN=(650, 350))
        assert scene_response(open_scene(plain, response=table)).names == tuple("bgrn")

    @pytest.mark.parametrize("by", ["name", "wavelength"])
    def test_a_scene_of_all_sentinel_bands_goes_with_sensor_and_table(self, tmp_path, by):
        known = get_sensor("Sentinel-2A")
        path = write_stated(
            tmp_path / "s2.tif",
            known.centres_nm.round(),
            known.fwhm_nm if by == "wavelength" else None,
            known.names if by == "name" else None,
        )
        scene = open_scene(path, sensor="Sentinel-2A")
        assert scene_response(scene).names == known.names
        some = known.select(["B2", "B3", "B4", "B8", "B8A"])
        table = tmp_path / "some.csv"
        rows = zip(some.wavelengths_nm, *some.values, strict=True)
        lines = [",".join(map(str, row)) for row in rows]
        table.write_text("\n".join(["wavelength_nm," + ",".join(some.names), *lines]))
        with pytest.warns(PixelSSRWarning, match=r"left out: (B)?1 \(443 nm\).*2202 nm"):
            scene = open_scene(path, response=table)
        assert scene_response(scene).names == some.names
        assert scene.values[:, 0, 0].tolist() == [2, 3, 4, 8, 9]

    def test_names_alone_leave_a_mask_band_out(self, tmp_path):
        path = write_tif(tmp_path / "s2.tif", np.full((5, 8, 8), 0.1, "f4"))
        with edit(path) as dataset:
            dataset.descriptions = ("B02", "B03", "B04", "B08", "SCL")
        with pytest.warns(PixelSSRWarning, match="left out: SCL"):
            scene = open_scene(path, sensor="S2A")
        assert scene["band"].values.tolist() == ["B2", "B3", "B4", "B8"]

    def test_measured_tables_match_nominal_wavelengths(self, tmp_path, shared_data):
        folder = shared_data / "srf" / "acolite_rsr"
        for sensor, stem in (("GF-6 PMS", "GF6_PMS"), ("WorldView-2", "WorldView2")):
            known = get_sensor(sensor)
            path = write_stated(tmp_path / f"{stem}.tif", known.centres_nm, known.fwhm_nm)
            scene = open_scene(path, response=folder / f"{stem}.txt")
            assert scene.sizes["band"] == len(known.names)


class TestResponseOfAScene:
    def test_the_sensors_bands_in_the_scenes_order(self):
        scene = make_scene().isel(band=[2, 0])
        assert scene_response(scene).names == ("Red", "Blue")

    def test_gaussians_of_the_coordinates(self):
        scene = make_scene()
        del scene.attrs["sensor"]
        response = scene_response(scene)
        assert response.centres_nm == pytest.approx(get_sensor("GF-6 PMS").centres_nm, abs=1)
        assert response.names == ("Blue", "Green", "Red", "NIR")

    def test_without_wavelengths_there_is_none(self):
        scene = make_scene().drop_vars(["wavelength", "fwhm"])
        del scene.attrs["sensor"]
        with pytest.raises(MissingWavelengthsError):
            scene_response(scene)

    def test_another_number_of_bands_is_refused(self):
        scene = make_scene().isel(band=[0, 1]).drop_vars("band")
        with pytest.raises(ResponseError, match=r"describes 4 bands .* has 2"):
            scene_response(scene)


class TestMasks:
    def test_where_it_is_neither_zero_nor_nodata(self, tmp_path):
        stored = np.ones((1, 6, 7), "u1")
        stored[0, 0], stored[0, 1] = 0, 9
        path = write_tif(tmp_path / "mask.tif", stored, nodata=9)
        assert np.flatnonzero(~read_mask(path, (6, 7)).all(1)).tolist() == [0, 1]

    def test_another_size_is_refused(self, tmp_path):
        path = write_tif(tmp_path / "mask.tif", np.ones((1, 6, 7), "u1"))
        with pytest.raises(SceneError, match="6 x 7 pixels, 8 x 7"):
            read_mask(path, (8, 7))


def test_scenes_written_by_simulation_are_read_without_options(tmp_path, values):
    response = get_sensor("GF-6 PMS")
    grid = pixel_grid(make_scene())
    write_scene(tmp_path / "scene.tif", [(0, 0, values)], grid, response)
    scene = open_scene(tmp_path / "scene.tif")
    assert scene["band"].values.tolist() == list(response.names)
    np.testing.assert_allclose(scene["fwhm"], response.fwhm_nm, atol=0.01)
    np.testing.assert_array_equal(scene.values, values)
