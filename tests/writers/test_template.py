"""Claims about the template of a cube."""

import pickle

import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from pixelssr_geo.errors import SettingsError, WavelengthGridError
from pixelssr_geo.writers import CubeTemplate
from pixelssr_geo.writers.encoding import encode

# rioxarray 0.19 multiplies with `*`, which affine 3 means to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")

UTM = CRS.from_epsg(32650).to_wkt()
NORTH_UP = (30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0)


def make_template(**changes: object) -> CubeTemplate:
    fields = {
        "shape": (4, 6),
        "wavelengths_nm": (450.0, 550.5, 665.0),
        "fwhm_nm": (10.0, 12.5, 30.0),
        "crs_wkt": UTM,
        "transform": NORTH_UP,
        "attrs": {"version": "1.0", "config": "abc"},
    }
    return CubeTemplate(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 6), (1, 6), (4, 1), (1, 1)])
@pytest.mark.parametrize("crs_wkt", [UTM, CRS.from_epsg(4326).to_wkt(), None])
@pytest.mark.parametrize(
    "transform", [NORTH_UP, (10.0, 2.0, 5.0, 1.0, -9.0, 7.0), (0.1, 0.0, -3.0, 0.0, 0.2, 4.0)]
)
def test_a_cube_gives_its_template_back(
    shape: tuple[int, int], crs_wkt: str | None, transform: tuple[float, ...]
) -> None:
    template = make_template(shape=shape, crs_wkt=crs_wkt, transform=transform)
    cube = template.to_dataarray(np.zeros((3, *shape), np.float32))
    result = CubeTemplate.from_cube(cube)
    np.testing.assert_allclose(result.transform, transform, rtol=1e-12)
    assert result.crs_wkt == crs_wkt
    assert (result.shape, result.attrs) == (shape, template.attrs)
    assert (result.wavelengths_nm, result.fwhm_nm) == (template.wavelengths_nm, template.fwhm_nm)


def test_a_cut_cube_has_the_transform_of_its_own_corner() -> None:
    cube = make_template().to_dataarray(np.zeros((3, 4, 6), np.float32))
    part = CubeTemplate.from_cube(cube.isel(x=slice(2, 5), y=slice(1, 4)))
    assert part.transform == (30.0, 0.0, 500060.0, 0.0, -30.0, 3999970.0)


def test_coordinates_follow_cf_and_lie_at_pixel_centres() -> None:
    cube = make_template().to_dataarray(np.zeros((3, 4, 6), np.float32))
    assert cube.dims == ("wavelength", "y", "x")
    assert cube["wavelength"].attrs["standard_name"] == "radiation_wavelength"
    assert cube["wavelength"].attrs["units"] == cube["fwhm"].attrs["units"] == "nm"
    assert cube["x"].attrs["standard_name"] == "projection_x_coordinate"
    assert float(cube["x"][0]) == 500015
    assert float(cube["y"][0]) == 3999985
    assert cube.rio.crs == CRS.from_epsg(32650)
    assert float(cube.sel(wavelength=560, method="nearest")["wavelength"]) == 550.5


def test_taking_a_template_reads_no_values() -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise AssertionError("values were read")

    lazy = da.zeros((3, 4, 6), dtype=np.float32).map_blocks(
        fail, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    CubeTemplate.from_cube(make_template().to_dataarray(lazy))


def test_a_cube_without_georeference_has_the_identity() -> None:
    cube = xr.DataArray(
        np.zeros((2, 3, 4)), dims=("wavelength", "y", "x"), coords={"wavelength": [500.0, 510.0]}
    )
    template = CubeTemplate.from_cube(cube)
    assert template.transform == (1, 0, 0, 0, 1, 0)
    assert template.crs_wkt is None
    assert template.fwhm_nm == (10.0, 10.0)


def test_a_template_pickles() -> None:
    assert pickle.loads(pickle.dumps(make_template())) == make_template()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fwhm_nm": (10.0,)}, "3 wavelengths come with 1 widths"),
        ({"wavelengths_nm": (1.0, 2.0, float("nan"))}, "expected at least one channel"),
        ({"wavelengths_nm": (), "fwhm_nm": ()}, "expected at least one channel"),
        ({"fwhm_nm": (1.0, 0.0, 1.0)}, "positive"),
    ],
)
def test_impossible_channels_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WavelengthGridError, match=message):
        make_template(**changes)


def test_an_empty_cube_is_refused() -> None:
    with pytest.raises(SettingsError, match="0 rows"):
        make_template(shape=(0, 3))


@pytest.mark.parametrize(
    ("cube", "error", "message"),
    [
        (xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x")), SettingsError, "band"),
        (
            xr.DataArray(np.zeros((2, 3, 4)), dims=("wavelength", "y", "x")),
            WavelengthGridError,
            "without wavelengths",
        ),
        (
            xr.DataArray(
                np.zeros((1, 3, 4)), dims=("wavelength", "y", "x"), coords={"wavelength": [500.0]}
            ),
            WavelengthGridError,
            "no width",
        ),
        (
            xr.DataArray(
                np.zeros((2, 1, 1)),
                dims=("wavelength", "y", "x"),
                coords={"wavelength": [500.0, 510.0], "y": [3.0], "x": [4.0]},
            ),
            SettingsError,
            "pixel size",
        ),
    ],
)
def test_what_is_no_cube_is_refused_with_the_cure(
    cube: xr.DataArray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CubeTemplate.from_cube(cube)


@given(st.floats(0, 6.5534))
def test_uint16_is_within_half_a_step(value: float) -> None:
    stored = encode(np.array([value]), "uint16")
    assert abs(float(stored[0]) * 1e-4 - value) <= 5e-5 + 1e-12


@given(st.floats(width=32))
def test_any_number_has_a_uint16(value: float) -> None:
    stored = int(encode(np.array([value], np.float32), "uint16")[0])
    assert (stored == 65535) == (not np.isfinite(value))
