"""Cubes as ENVI files: plain numbers channel by channel, and a text header beside them.

GDAL's ENVI driver writes neither wavelengths nor scale into the header of its own accord, names
the file by its temporary name, and says nothing when a full disk cuts what it writes while closing.
So numbers and header are written here, and GDAL is only asked for the lines on map projection,
which need its knowledge of names, and whether it reads the same grid from them.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import BinaryIO

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from pixelssr_geo.errors import OutputError
from pixelssr_geo.writers.encoding import (
    UINT16_SCALE,
    CubeDtype,
    check_dtype,
    encode,
    nodata_value,
)
from pixelssr_geo.writers.output import ENVI_SUFFIXES, new_output, writing
from pixelssr_geo.writers.streaming import piece_count, pieces, with_layer
from pixelssr_geo.writers.template import DIMS, IN_SCENE_UNITS, CubeTemplate

_PIECE = 512
_DATA_TYPES = {"float32": 4, "uint16": 12}
_MAP_KEYS = ("map info", "projection info", "coordinate system string")
# Pixels by which a corner may move in the header's 15 digits.
_CORNER_TOLERANCE = 1e-4


def write_envi(
    cube: xr.DataArray,
    path: str | Path,
    *,
    dtype: CubeDtype = "float32",
    overwrite: bool = False,
    layer: xr.DataArray | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a cube as a band-sequential ENVI file with its header, and return the file's path.

    A lazy cube is computed and written piece by piece. Both files appear under their names when
    they are complete, the header last; on failure nothing is left.

    The header states wavelengths and widths (nm), band names, nodata, map projection and, for
    ``"uint16"``, the reflectance scale factor 10000. The cube's attributes follow as ``cube ...``.

    Parameters
    ----------
    cube
        Reflectance, dims ``wavelength``, ``y``, ``x``; coordinates as in
        :meth:`CubeTemplate.coords`.
    path
        Of the data, ``*.bsq`` or ``*.img``; the header is ``*.hdr``.
    dtype
        ``"float32"`` with NaN, or ``"uint16"`` in steps of 1e-4 (0 to 6.5534, 65535 for no data).
    overwrite
        Replace an existing file and its header.
    layer
        An image ``(y, x)`` on the cube's grid that follows its channels as the last band, such as
        the ``extrapolation`` of :func:`~pixelssr_geo.reconstruct`. The header gives it the
        wavelength 0 and calls it bad in ``bbl``.
    progress
        Called after each piece with the pieces written and the pieces in all.

    Raises
    ------
    OutputError
        If the name is no ENVI file's, :func:`check_envi_grid` refuses the grid, or the place is
        taken, missing, read-only or full. Only the last is found after values were computed.
    SettingsError
        If the array is not a cube, or ``dtype`` is not possible.
    """
    path = Path(path)
    template = CubeTemplate.from_cube(cube, layer)
    check_dtype(dtype, scene_units=template.quantity in IN_SCENE_UNITS)
    if path.suffix.lower() not in ENVI_SUFFIXES:
        raise OutputError(
            f"'{path}' ends with '{path.suffix}', an ENVI file is one of"
            f" {', '.join(ENVI_SUFFIXES)}: give such a name"
        )
    cube = with_layer(cube.transpose(*DIMS), layer)
    with new_output(path, overwrite=overwrite) as temporary:
        with writing(path):
            header = _header(template, dtype)
        with _new_file(temporary, path) as file:
            total = piece_count(cube, _PIECE)
            for done, (row, col, values) in enumerate(pieces(cube, _PIECE), start=1):
                # The header states that the low byte comes first.
                stored = np.ascontiguousarray(
                    encode(values, dtype), np.dtype(dtype).newbyteorder("<")
                )
                with writing(path):
                    _write_piece(file, stored, row, col, template.shape)
                if progress is not None:
                    progress(done, total)
        with writing(path):
            temporary.with_suffix(".hdr").write_text(header, encoding="utf-8")
    return path


def check_envi_grid(template: CubeTemplate) -> None:
    """Refuse a grid that no ENVI header can state.

    A header knows a pixel's size and one angle of rotation, and the reference systems that fit
    Esri's names: a sheared grid or a three-dimensional reference system is lost in it.

    Raises
    ------
    OutputError
        If GDAL would read another grid from the header.
    """
    _map_keys(template)


@contextmanager
def _new_file(temporary: Path, path: Path) -> Iterator[BinaryIO]:
    with writing(path):
        file = temporary.open("wb")
    try:
        yield file
    finally:
        with writing(path):
            file.close()


def _write_piece(
    file: BinaryIO, stored: NDArray[np.generic], row: int, col: int, shape: tuple[int, int]
) -> None:
    rows, cols = shape
    height, width = stored.shape[1:]
    for channel, image in enumerate(stored):
        # Whole lines follow each other in the file, parts of lines do not.
        parts = [image] if width == cols else image
        step = height if width == cols else 1
        for number, part in enumerate(parts):
            pixel = (channel * rows + row + number * step) * cols + col
            file.seek(pixel * stored.itemsize)
            file.write(part.data)


def _header(template: CubeTemplate, dtype: CubeDtype) -> str:
    keys = {
        **_data_keys(template, dtype),
        **_map_keys(template),
        **_spectral_keys(template),
        **_provenance(template),
    }
    return "\n".join(["ENVI", *(f"{key} = {value}" for key, value in keys.items()), ""])


def _data_keys(template: CubeTemplate, dtype: CubeDtype) -> dict[str, str]:
    rows, cols = template.shape
    keys = {
        "description": f"{{{template.cf_attrs['long_name']}}}",
        "samples": str(cols),
        "lines": str(rows),
        "bands": str(template.images),
        "header offset": "0",
        "file type": "ENVI Standard",
        "data type": str(_DATA_TYPES[dtype]),
        "interleave": "bsq",
        "byte order": "0",
        "data ignore value": f"{nodata_value(dtype):g}",
    }
    if dtype == "uint16":
        keys["reflectance scale factor"] = f"{1 / UINT16_SCALE:g}"
    return keys


def _spectral_keys(template: CubeTemplate) -> dict[str, str]:
    names = [f"{wavelength:.1f} nm" for wavelength in template.wavelengths_nm]
    centres, widths = (
        [f"{v:.10g}" for v in n] for n in (template.wavelengths_nm, template.fwhm_nm)
    )
    bad = {}
    if template.layer is not None:
        # Readers want lists as long as there are bands, and leave bad ones out of spectra.
        names, centres, widths = [*names, template.layer], [*centres, "0"], [*widths, "0"]
        bad["bbl"] = _listed(["1"] * template.channels + ["0"])
    return {
        "band names": _listed(names),
        "wavelength units": "Nanometers",
        "wavelength": _listed(centres),
        "fwhm": _listed(widths),
        **bad,
    }


def _listed(values: list[str]) -> str:
    return f"{{{', '.join(values)}}}"


def _provenance(template: CubeTemplate) -> dict[str, str]:
    # With a word before them, no attribute is taken for one of ENVI's own keys.
    found = {
        f"cube {re.sub('[^a-z0-9]+', ' ', name.lower()).strip()}": _one_line(value)
        for name, value in template.tags.items()
    }
    return {key: value for key, value in found.items() if value}


def _one_line(value: str) -> str:
    """Return a text that parsers of headers do not continue on the next line."""
    text = " ".join(value.split())
    open_ended = ("{" in text and "}" not in text) or (text[:1] == "{" and text[-1] != "}")
    return text.replace("{", "(").replace("}", ")") if open_ended else text


def _map_keys(template: CubeTemplate) -> dict[str, str]:
    affine = template.grid.affine
    crs = CRS.from_wkt(template.crs_wkt) if template.crs_wkt else None
    if crs is None and affine == Affine.identity():
        return {}
    try:
        header, found_crs, found_affine = _asked_of_gdal(crs, affine)
    except SystemError as error:  # what rasterio raises where GDAL gives no reason
        raise OutputError(
            f"cannot write a header to try out in '{gettempdir()}', expected room and permission to"
            " write: free space or set TMPDIR"
        ) from error
    # Where there is no reference system, ENVI's is called arbitrary.
    same_crs = crs is None or found_crs == crs
    if not same_crs or _corner_shift(template, found_affine) > _CORNER_TOLERANCE:
        lost = "transform" if same_crs else "coordinate reference system"
        raise OutputError(
            f"an ENVI header cannot state the cube's {lost}, expected one without shear in a plain"
            " map projection: write a GeoTIFF or a Zarr store"
        )
    lines = (line.partition(" = ") for line in header.splitlines())
    return {key: value for key, _, value in lines if key in _MAP_KEYS}


def _asked_of_gdal(crs: CRS | None, affine: Affine) -> tuple[str, CRS | None, Affine]:
    """Return the header that GDAL writes for a grid, and the grid that it reads from it."""
    profile = {"driver": "ENVI", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    with (
        TemporaryDirectory(prefix="pixelssr-") as folder,
        rasterio.Env(GDAL_PAM_ENABLED="NO"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        path = Path(folder, "grid.bsq")
        with rasterio.open(path, "w", crs=crs, transform=affine, **profile):
            pass
        with rasterio.open(path) as dataset:
            header = path.with_suffix(".hdr").read_text(encoding="utf-8")
            return header, dataset.crs, dataset.transform


def _corner_shift(template: CubeTemplate, found: Affine) -> float:
    """Return by how many pixels a corner of the cube lies elsewhere under another transform."""
    a, b, c, d, e, f = (
        new - old for new, old in zip(tuple(found)[:6], template.transform, strict=True)
    )
    rows, cols = template.shape
    shifts = [
        math.hypot(a * col + b * row + c, d * col + e * row + f)
        for row in (0, rows)
        for col in (0, cols)
    ]
    pixel = math.sqrt(abs(template.grid.affine.determinant))
    return max(shifts) / pixel if pixel else math.inf
