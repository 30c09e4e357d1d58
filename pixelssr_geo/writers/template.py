"""What is known of a cube before its values are: grid, wavelengths and provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pixelssr_geo.errors import SettingsError, WavelengthGridError
from pixelssr_geo.grid import PixelGrid
from pixelssr_geo.scene import EXTRAPOLATION, FWHM_ATTRS, WAVELENGTH_ATTRS, pixel_grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

DIMS = ("wavelength", "y", "x")
REFLECTANCE = "reflectance"
SCENE_VALUE = "scene_value"
DEVIATION = "deviation"
SCENE_DEVIATION = "scene_deviation"
QUANTITIES: Mapping[str, Mapping[str, str]] = {
    REFLECTANCE: {
        "units": "1",
        "standard_name": "surface_bidirectional_reflectance",
        "long_name": "surface reflectance",
    },
    # In which unit, the scene does not say.
    SCENE_VALUE: {"long_name": "value in the scene's own units"},
    DEVIATION: {
        "units": "1",
        "long_name": "standard deviation of the error of surface reflectance",
    },
    SCENE_DEVIATION: {"long_name": "standard deviation of the error in the scene's own units"},
}
"""What a cube may hold, by the name of its array, with the attributes that CF gives it."""
IN_SCENE_UNITS = (SCENE_VALUE, SCENE_DEVIATION)
"""Those that may have any size."""
LAYERS: Mapping[str, Mapping[str, str]] = {
    EXTRAPOLATION: {
        "units": "1",
        "long_name": "how far the scene leaves what points and library cover, 0 inside",
    },
}
"""Images that may lie beside the channels, with their attributes."""
# Attributes that describe the array or its encoding, not where the cube came from.
_NOT_PROVENANCE = {
    "units", "standard_name", "long_name", "grid_mapping", "scale_factor", "add_offset",
    "_FillValue", "quantity", "layer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CubeTemplate:
    """Grid, channels and provenance of a cube; no values. Pickles."""

    shape: tuple[int, int]
    """Rows and columns."""
    wavelengths_nm: tuple[float, ...]
    """Centre of each channel."""
    fwhm_nm: tuple[float, ...]
    """Full width at half maximum of each channel."""
    crs_wkt: str | None
    """Coordinate reference system as WKT; None when the scene carries none."""
    transform: tuple[float, float, float, float, float, float]
    """Affine a, b, c, d, e, f from (column, row) corners to (x, y)."""
    attrs: Mapping[str, str] = field(default_factory=dict)
    """Provenance: tool version, configuration, weights, inputs."""
    quantity: str = REFLECTANCE
    """What the cube holds, one of :data:`QUANTITIES`, and the name of its array."""
    layer: str | None = None
    """An image ``(y, x)`` that is stored with the channels, one of :data:`LAYERS`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a cube."""
        if len(self.fwhm_nm) != len(self.wavelengths_nm):
            raise WavelengthGridError(
                f"{len(self.wavelengths_nm)} wavelengths come with {len(self.fwhm_nm)} widths,"
                " expected one width per wavelength: give as many"
            )
        numbers = (*self.wavelengths_nm, *self.fwhm_nm)
        if not numbers or not all(math.isfinite(value) and value > 0 for value in numbers):
            raise WavelengthGridError(
                f"wavelengths {_few(self.wavelengths_nm)} and widths {_few(self.fwhm_nm)} nm found,"
                " expected at least one channel and positive numbers: correct them"
            )
        if min(self.shape) < 1:
            raise SettingsError(
                f"cube has {self.shape[0]} rows and {self.shape[1]} columns, expected at least one"
                " pixel: check the scene or the window"
            )

    @classmethod
    def from_cube(cls, cube: xr.DataArray, layer: xr.DataArray | None = None) -> CubeTemplate:
        """Take the template of an existing cube, lazy or not; no values are read.

        Parameters
        ----------
        cube
            Dims ``wavelength``, ``y``, ``x`` in any order, coordinate ``wavelength`` in nm. Without
            a ``fwhm`` coordinate the distance between neighbouring channels is taken.
        layer
            An image on its grid that is stored with it, named as one of :data:`LAYERS`.

        Raises
        ------
        SettingsError
            If the dims are others, a single row or column leaves the pixel size unknown, or the
            layer is no such image.
        WavelengthGridError
            If the wavelengths are missing or not positive.
        """
        if set(cube.dims) != set(DIMS):
            raise SettingsError(
                f"array has the dims ({', '.join(map(str, cube.dims))}), a cube has"
                " (wavelength, y, x): rename or select them"
            )
        grid = _grid(cube)
        wavelengths = _wavelengths(cube)
        if layer is not None:
            _check_layer(layer, grid.shape)
        return cls(
            shape=grid.shape,
            wavelengths_nm=wavelengths,
            fwhm_nm=_widths(cube, wavelengths),
            crs_wkt=grid.crs_wkt,
            transform=grid.transform,
            attrs={
                str(key): str(value)
                for key, value in cube.attrs.items()
                if key not in _NOT_PROVENANCE
            },
            quantity=str(cube.name) if cube.name in QUANTITIES else REFLECTANCE,
            layer=None if layer is None else str(layer.name),
        )

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.wavelengths_nm)

    @property
    def cf_attrs(self) -> Mapping[str, str]:
        """Attributes that say what the values are."""
        return QUANTITIES[self.quantity]

    @property
    def images(self) -> int:
        """Number of images ``(y, x)`` in a file: the channels, and the layer if there is one."""
        return self.channels + (self.layer is not None)

    @property
    def tags(self) -> Mapping[str, str]:
        """What a file says of the cube as a whole: provenance, and what is no reflectance."""
        said = {} if self.quantity == REFLECTANCE else {"quantity": self.quantity}
        if self.layer is not None:
            said["layer"] = self.layer
        return {**self.attrs, **said}

    @property
    def grid(self) -> PixelGrid:
        """The pixel grid."""
        return PixelGrid(self.crs_wkt, self.transform, self.shape)

    def coords(self) -> dict[str, xr.Variable]:
        """Return the coordinates of the cube, after CF and as rioxarray reads them.

        ``wavelength`` and ``fwhm`` in nm, ``y`` and ``x`` at pixel centres (absent when the grid is
        rotated, for then they are no axes) and the scalar ``spatial_ref``.
        """
        coords = {
            "wavelength": xr.Variable(
                "wavelength", np.asarray(self.wavelengths_nm, np.float64), WAVELENGTH_ATTRS
            ),
            "fwhm": xr.Variable("wavelength", np.asarray(self.fwhm_nm, np.float64), FWHM_ATTRS),
        }
        a, b, c, d, e, f = self.transform
        if b == d == 0:
            axis_attrs = _axis_attrs(self.crs_wkt)
            y = f + e * (np.arange(self.shape[0]) + 0.5)
            x = c + a * (np.arange(self.shape[1]) + 0.5)
            coords["y"] = xr.Variable("y", y, axis_attrs["y"])
            coords["x"] = xr.Variable("x", x, axis_attrs["x"])
        return {**coords, "spatial_ref": xr.Variable((), 0, self._spatial_ref())}

    def to_dataarray(self, values: Any) -> xr.DataArray:
        """Wrap values as a cube.

        Parameters
        ----------
        values
            NumPy or Dask array ``(wavelength, y, x)``, reflectance.
        """
        cube = xr.DataArray(
            values,
            dims=DIMS,
            coords=self.coords(),
            name=self.quantity,
            attrs={**self.cf_attrs, **self.attrs},
        )
        # In the encoding, not in the attributes: that is where rioxarray and xarray look for it.
        cube.encoding["grid_mapping"] = "spatial_ref"
        return cube

    def to_layer(self, values: Any) -> xr.DataArray:
        """Wrap the values of the layer, ``(y, x)``."""
        assert self.layer is not None
        coords = {name: c for name, c in self.coords().items() if "wavelength" not in c.dims}
        image = xr.DataArray(
            values, dims=DIMS[1:], coords=coords, name=self.layer, attrs=dict(LAYERS[self.layer])
        )
        image.encoding["grid_mapping"] = "spatial_ref"
        return image

    def _spatial_ref(self) -> dict[str, Any]:
        a, b, c, d, e, f = self.transform
        # GDAL's order of the six numbers differs from affine's.
        geotransform = {"GeoTransform": " ".join(repr(float(v)) for v in (c, a, b, f, d, e))}
        if self.crs_wkt is None:
            return geotransform
        from pyproj import CRS

        return {
            **CRS.from_wkt(self.crs_wkt).to_cf(),
            "spatial_ref": self.crs_wkt,
            **geotransform,
        }


def _grid(cube: xr.DataArray) -> PixelGrid:
    grid = pixel_grid(cube)
    # rioxarray takes such a cube as one without georeference.
    if min(grid.shape) == 1 and {"x", "y"} <= set(cube.coords) and not _states_transform(cube):
        raise SettingsError(
            f"the pixel size of a cube with {grid.shape[0]} rows and {grid.shape[1]} columns cannot"
            " be told from its coordinates, expected a transform: set it with"
            " cube.rio.write_transform(...)"
        )
    return grid


def _check_layer(layer: xr.DataArray, shape: tuple[int, int]) -> None:
    found = tuple(layer.sizes.get(dim, 0) for dim in DIMS[1:])
    if layer.name not in LAYERS or layer.ndim != 2 or found != shape:
        raise SettingsError(
            f"the layer '{layer.name}' has the dims {dict(layer.sizes)}, expected one of "
            f"{', '.join(LAYERS)} with {shape[0]} rows and {shape[1]} columns: give such an image"
        )


def _states_transform(cube: xr.DataArray) -> bool:
    name = cube.rio.grid_mapping
    return name in cube.coords and "GeoTransform" in cube.coords[name].attrs


def _wavelengths(cube: xr.DataArray) -> tuple[float, ...]:
    if "wavelength" not in cube.coords:
        raise WavelengthGridError(
            f"cube has {cube.sizes['wavelength']} channels without wavelengths, expected a"
            " coordinate 'wavelength' in nm: set it with cube.assign_coords(wavelength=...)"
        )
    return tuple(float(value) for value in cube["wavelength"].values)


def _widths(cube: xr.DataArray, wavelengths: tuple[float, ...]) -> tuple[float, ...]:
    if "fwhm" in cube.coords:
        return tuple(float(value) for value in cube["fwhm"].values)
    if len(wavelengths) == 1:
        raise WavelengthGridError(
            "cube has one channel and no width, expected a coordinate 'fwhm' in nm: set it with"
            " cube.assign_coords(fwhm=('wavelength', [...]))"
        )
    spacing: NDArray[np.float64] = np.abs(np.gradient(np.asarray(wavelengths)))
    return tuple(float(value) for value in spacing)


def _axis_attrs(crs_wkt: str | None) -> dict[str, dict[str, Any]]:
    if crs_wkt is None:
        return {"y": {"axis": "Y"}, "x": {"axis": "X"}}
    from pyproj import CRS

    axes = {axis["axis"].lower(): axis for axis in CRS.from_wkt(crs_wkt).cs_to_cf()}
    return {name: axes.get(name, {"axis": name.upper()}) for name in ("y", "x")}


def _few(values: tuple[float, ...]) -> str:
    text = ", ".join(f"{value:g}" for value in values[:4])
    return f"[{text}{', ...' if len(values) > 4 else ''}]"
