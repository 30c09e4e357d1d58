"""Pictures of a cube as arrays and axes, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pixelssr_geo.report.quicklook import TRUE_COLOUR_NM, band_rgb, write_quicklook
from pixelssr_geo.writers import QUANTITIES, REFLECTANCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from pixelssr_geo.labels import Labels

QUICKLOOK_PIXELS = 1000
"""Longest side of the cube in a quicklook; larger cubes are thinned out."""


def rgb(
    cube: xr.DataArray, *, wavelengths_nm: tuple[float, float, float] = TRUE_COLOUR_NM
) -> xr.DataArray:
    """Three channels as a colour image, dims ``(y, x, rgb)``, 0-1, stretched, white for nodata.

    Parameters
    ----------
    cube
        Dims ``(wavelength, y, x)``, or a scene ``(band, y, x)`` with a ``wavelength`` coordinate;
        only three channels are computed.
    wavelengths_nm
        What is shown as red, green and blue; the nearest channels are taken.

    Examples
    --------
    ``cube.pixelssr.rgb().plot.imshow()``
    """
    spectral = "wavelength" if "wavelength" in cube.dims else "band"
    centres = np.asarray(cube["wavelength"].values, "f8")
    nearest = [int(np.abs(centres - wanted).argmin()) for wanted in wavelengths_nm]
    three = cube.isel({spectral: nearest}).transpose(spectral, "y", "x")
    image = band_rgb(np.asarray(three.values), centres[nearest], wavelengths_nm)
    return xr.DataArray(
        image,
        dims=("y", "x", "rgb"),
        coords={"y": cube["y"], "x": cube["x"], "rgb": ["red", "green", "blue"]},
        name="rgb",
    )


def plot_spectra(
    cube: xr.DataArray,
    rows: NDArray[np.int64] | Sequence[int],
    cols: NDArray[np.int64] | Sequence[int],
    *,
    axes: Axes | None = None,
    labels: Sequence[str] | None = None,
) -> Axes:
    """Plot the spectra of some pixels and return the axes.

    Parameters
    ----------
    cube
        Dims ``(wavelength, y, x)``; only these pixels are computed.
    rows, cols
        Pixels to plot.
    axes
        Where to plot; by default new axes on a figure of their own.
    labels
        Names of the pixels.
    """
    if axes is None:
        from matplotlib.figure import Figure

        axes = Figure(figsize=(7, 4), layout="constrained").add_subplot()
    under = cube.isel(y=xr.DataArray(list(rows), dims="p"), x=xr.DataArray(list(cols), dims="p"))
    spectra = np.asarray(under.transpose("p", "wavelength").values)
    names = labels or [f"row {row}, column {col}" for row, col in zip(rows, cols, strict=True)]
    for name, spectrum in zip(names, spectra, strict=True):
        axes.plot(cube["wavelength"].values, spectrum, label=name)
    axes.set_xlabel("wavelength (nm)")
    axes.set_ylabel(_quantity(cube))
    axes.legend(frameon=False)
    return axes


def quicklook(
    path: str | Path,
    cube: xr.DataArray,
    *,
    reference: xr.DataArray | None = None,
    labels: Labels | None = None,
    names: Sequence[str] = (),
    title: str = "",
) -> None:
    """Write a PNG of a cube: colours, the error against a reference, spectra at labelled pixels.

    Parameters
    ----------
    path
        The PNG file.
    cube
        Dims ``(wavelength, y, x)``; read thinned out where it is large.
    reference
        The true cube on the same grid and channels.
    labels, names
        Labelled pixels on the cube's channels, and what they are called.
    title
        Above everything.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    step = max(1, -(-max(cube.sizes["y"], cube.sizes["x"]) // QUICKLOOK_PIXELS))
    thin = {"y": slice(None, None, step), "x": slice(None, None, step)}
    points = []
    if labels is not None:
        places = zip(names, labels.rows, labels.cols, labels.spectra, strict=True)
        points = [
            (name, int(r) // step, int(c) // step, spectrum) for name, r, c, spectrum in places
        ]
    write_quicklook(
        path,
        np.asarray(cube.isel(thin).values),
        cube["wavelength"].values,
        reference=None if reference is None else np.asarray(reference.isel(thin).values),
        points=points,
        title=title,
        quantity=_quantity(cube).capitalize(),
    )


def _quantity(cube: xr.DataArray) -> str:
    """What the values of a cube are, in words."""
    name = str(cube.name) if cube.name in QUANTITIES else REFLECTANCE
    return name.replace("_", " ")
