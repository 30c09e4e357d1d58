"""A cube against its reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from pixelssr_geo.errors import SceneError
from pixelssr_geo.grid import MATCH_PIXELS
from pixelssr_geo.metrics import Score, VariantScore, score, variant_score
from pixelssr_geo.scene import open_cube, pixel_grid, read_mask

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from pixelssr_geo.points import PointSpectra

MATCH_NM = 0.5
"""Centres closer than this are one channel."""


@overload
def evaluate(
    cube: xr.DataArray | str | Path,
    reference: xr.DataArray | str | Path,
    *,
    exclude_points: PointSpectra | None = None,
    mask: str | Path | None = None,
    variants: Literal[False] = False,
) -> Score: ...


@overload
def evaluate(
    cube: xr.DataArray | str | Path,
    reference: xr.DataArray | str | Path,
    *,
    exclude_points: PointSpectra | None = None,
    mask: str | Path | None = None,
    variants: bool,
) -> Score | VariantScore: ...


def evaluate(
    cube: xr.DataArray | str | Path,
    reference: xr.DataArray | str | Path,
    *,
    exclude_points: PointSpectra | None = None,
    mask: str | Path | None = None,
    variants: bool = False,
) -> Score | VariantScore:
    """The metrics of a cube against a reference on the same grid and channels.

    Parameters
    ----------
    cube, reference
        Cubes, dims ``(wavelength, y, x)``, or their paths. A pixel that is NaN in any channel of
        either is left out.
    exclude_points
        Points whose pixels are left out, as they carried labels.
    mask
        Raster on the same grid; only its non-zero pixels count.
    variants
        Measure more: further metrics, and PSNR, SSIM and SAM as the paper's equations, the scripts
        of its author and the toolboxes of spectral reconstruction have them.

    Returns
    -------
    dict
        ``rmse``, ``psnr`` (peak 1, whole cube), ``mpsnr`` (mean over channels), ``ssim``, ``sam``
        (per pixel, degrees), ``sam_band`` (the paper's eq. 13), ``bands``, ``pixels``; with
        ``variants`` also those of :class:`~pixelssr_geo.metrics.VariantScore`.

    Raises
    ------
    SceneError
        If the two differ in size, place or channels, or no pixel is left.
    """
    ours, theirs = _opened(cube), _opened(reference)
    _check_alike(ours, theirs)
    valid = np.ones(ours.shape[1:], bool)
    if exclude_points is not None:
        valid &= ~_pixels_of(exclude_points, theirs)
    if mask is not None:
        valid &= read_mask(mask, (ours.shape[1], ours.shape[2]))
    measure = variant_score if variants else score
    result = measure(np.asarray(ours.values), np.asarray(theirs.values), valid)
    if not result["pixels"]:
        raise SceneError(
            "no pixel is valid in both cubes and not left out, at least one is needed: check "
            "nodata, the mask and that both cover the same place"
        )
    return result


def _opened(cube: xr.DataArray | str | Path) -> xr.DataArray:
    opened = open_cube(cube) if isinstance(cube, (str, Path)) else cube
    if set(opened.dims) != {"wavelength", "y", "x"}:
        raise SceneError(
            f"a cube has the dims ({', '.join(map(str, opened.dims))}), (wavelength, y, x) is needed: "
            "rename or select them"
        )
    return opened.transpose("wavelength", "y", "x")


def _check_alike(ours: xr.DataArray, theirs: xr.DataArray) -> None:
    if ours.shape != theirs.shape:
        raise SceneError(
            f"the cube has (channels, rows, columns) {ours.shape}, the reference {theirs.shape}, "
            "equal ones are needed: reconstruct with --wavelengths like:REFERENCE"
        )
    apart = np.abs(ours["wavelength"].values - theirs["wavelength"].values).max()
    if apart > MATCH_NM:
        raise SceneError(
            f"channels of the cube and the reference lie up to {apart:.1f} nm apart, at most "
            f"{MATCH_NM} is allowed: reconstruct with --wavelengths like:REFERENCE"
        )
    _check_place(ours, theirs)


def _check_place(ours: xr.DataArray, theirs: xr.DataArray) -> None:
    if not all({"x", "y"} <= set(cube.coords) for cube in (ours, theirs)):
        return
    apart = pixel_grid(ours).pixels_apart(pixel_grid(theirs))
    if apart > MATCH_PIXELS:
        raise SceneError(
            f"the cube and the reference lie {apart:.1f} pixels apart at a corner, at most "
            f"{MATCH_PIXELS} is allowed: compare cubes on the same grid"
        )


def _pixels_of(points: PointSpectra, cube: xr.DataArray) -> NDArray[np.bool_]:
    from pixelssr_geo.pairing import moved_points

    grid = pixel_grid(cube)
    rows, cols = grid.to_pixels(*moved_points(points, grid, str(cube.attrs.get("source", "cube"))))
    inside = grid.contains(rows, cols)
    covered = np.zeros(grid.shape, bool)
    covered[rows[inside], cols[inside]] = True
    return covered
