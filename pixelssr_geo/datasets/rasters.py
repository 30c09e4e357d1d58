"""Pairs of rasters on one grid: a multispectral and a hyperspectral one, as of the satellite GF-X.

A folder holds files ``NAME_msi.tif`` and ``NAME_hsi.tif``, or folders ``NAME`` with ``msi.tif`` and
``hsi.tif``. Both are read lazily, for such a pair can be larger than the memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pixelssr_geo.datasets.pair import PairDataset, ScenePair, check_folder
from pixelssr_geo.errors import SceneError, SceneReadError, SettingsError
from pixelssr_geo.grid import MATCH_PIXELS
from pixelssr_geo.place import shown
from pixelssr_geo.scene import open_cube, open_scene, pixel_grid, scene_response
from pixelssr_geo.spectra import ChannelGrid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

TITLE = "the raster pairs"
FILES = "NAME_msi.tif and NAME_hsi.tif, or folders NAME with msi.tif and hsi.tif"

_FILE = re.compile(r"(?:(?P<name>.+)[_-])?(?P<kind>msi|hsi)\.tiff?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Opening:
    """How the rasters are read."""

    sensor: str | None
    """Name of the sensor of the multispectral ones."""
    response: str | Path | None
    """File of its response functions."""
    scale: float | None
    """Factor of the multispectral ones to reflectance."""
    channels: ChannelGrid | None
    """Of the hyperspectral ones, where these do not say it."""
    cube_scale: float | None
    """Factor of the hyperspectral ones to reflectance."""


def open_rasters(
    root: str | Path,
    *,
    sensor: str | None = None,
    response: str | Path | None = None,
    scale: float | None = None,
    wavelengths: str | None = None,
    cube_scale: float | None = None,
) -> PairDataset:
    """The pairs of a folder.

    Parameters
    ----------
    root
        Folder of the pairs.
    sensor, response, scale
        Of the multispectral rasters, see :func:`~pixelssr_geo.scene.open_scene`.
    wavelengths
        Of the hyperspectral rasters' bands where these do not state them: ``START:STOP:STEP`` in nm,
        a list or a file, see :meth:`~pixelssr_geo.spectra.ChannelGrid.from_spec`.
    cube_scale
        Factor from their stored values to reflectance, by default as they state it.

    Raises
    ------
    SceneReadError
        If the folder holds no pair, or one without its other half.
    WavelengthGridError
        If the wavelengths make no grid.
    SettingsError
        If two pairs have one name.
    """
    root = Path(root)
    check_folder(root, TITLE, FILES)
    found = _listed(root)
    if not found:
        raise SceneReadError(
            f"'{shown(root)}' holds no pair of rasters, expected {FILES}: rename the files"
        )
    for name, files in found.items():
        if lacking := {"msi", "hsi"} - set(files):
            (there,) = files.values()
            raise SceneReadError(
                f"'{shown(there)}' has no {lacking.pop()} raster beside it, a pair was expected "
                f"({FILES}): add it, or take '{name}' away"
            )
    channels = ChannelGrid.from_spec(wavelengths) if wavelengths is not None else None
    opening = _Opening(sensor, response, scale, channels, cube_scale)
    return PairDataset(TITLE, tuple(sorted(found)), partial(_load, found, opening))


def _listed(root: Path) -> dict[str, dict[str, Path]]:
    """Files of each pair, by name and kind."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted([*root.glob("*.tif*"), *root.glob("*/*.tif*")]):
        if not (match := _FILE.fullmatch(path.name)) or path.name.startswith("."):
            continue
        name = match["name"] or path.parent.name
        own, kind = found.setdefault(name, {}), match["kind"].lower()
        if kind in own:
            raise SettingsError(
                f"'{shown(own[kind])}' and '{shown(path)}' are both called '{name}', a name for each "
                "pair is needed: rename one"
            )
        own[kind] = path
    return found


def _load(found: Mapping[str, Mapping[str, Path]], opening: _Opening, name: str) -> ScenePair:
    files = found[name]
    scene = open_scene(
        files["msi"], sensor=opening.sensor, response=opening.response, scale=opening.scale
    )
    cube = open_cube(files["hsi"], channels=opening.channels, scale=opening.cube_scale)
    pair = ScenePair(name, scene, cube.sortby("wavelength"), scene_response(scene))
    _check_place(name, scene, cube)
    return pair


def _check_place(name: str, scene: xr.DataArray, cube: xr.DataArray) -> None:
    ours, theirs = pixel_grid(scene), pixel_grid(cube)
    if ours.crs_wkt is None or theirs.crs_wkt is None:
        return  # of a raster without a place, its size is all that can be compared
    if (apart := ours.pixels_apart(theirs)) > MATCH_PIXELS:
        raise SceneError(
            f"scene and cube of '{name}' lie {apart:.1f} pixels apart at a corner, at most "
            f"{MATCH_PIXELS} is allowed: warp one to the other's grid"
        )
