"""Writing a multispectral scene as a GeoTIFF whose bands carry their wavelengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rasterio

from pixelssr_geo.writers.output import new_output, writing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pixelssr_geo.grid import PixelGrid
    from pixelssr_geo.spectra import SpectralResponse


def write_scene(
    path: Path,
    blocks: Iterable[tuple[int, int, NDArray[np.float32]]],
    grid: PixelGrid,
    response: SpectralResponse,
    *,
    overwrite: bool = False,
) -> None:
    """Write a scene block by block; it appears under its name when it is complete.

    Parameters
    ----------
    path
        Of the GeoTIFF.
    blocks
        First row, first column and reflectance ``(band, y, x)`` of windows that cover the scene.
    grid
        Grid of the scene.
    response
        Names, centres and widths of the bands.
    overwrite
        Replace an existing file.

    Raises
    ------
    OutputError
        If the place is taken, missing, read-only or full.
    """
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": len(response.names),
        "height": grid.shape[0],
        "width": grid.shape[1],
        "crs": grid.crs_wkt,
        "transform": grid.affine,
        "nodata": float("nan"),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "predictor": 3,
        "bigtiff": "if_safer",
    }
    with (
        new_output(path, overwrite=overwrite) as temporary,
        writing(path),
        rasterio.open(temporary, "w", **profile) as dataset,
    ):
        described = zip(response.names, response.centres_nm, response.fwhm_nm, strict=True)
        for index, (name, centre, width) in enumerate(described, 1):
            dataset.set_band_description(index, name)
            dataset.update_tags(
                index,
                ns="IMAGERY",
                CENTRAL_WAVELENGTH_UM=f"{centre / 1000:.6f}",
                FWHM_UM=f"{width / 1000:.6f}",
            )
        for row, col, values in blocks:
            window = rasterio.windows.Window(col, row, values.shape[2], values.shape[1])
            dataset.write(values, window=window)
