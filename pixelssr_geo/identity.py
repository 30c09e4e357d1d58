"""What decides the bytes of a run's result, by name: so that another run can be told from it."""

from __future__ import annotations

import hashlib
import json
import warnings
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from dask.base import tokenize
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pixelssr_geo.errors import SceneReadError
from pixelssr_geo.place import file_system, place, place_name, place_suffix, shown
from pixelssr_geo.scene import pixel_grid
from pixelssr_geo.weights import weights_hash, weights_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.spectra import ChannelGrid, SpectralResponse

UNIMPORTANT = ("batch_size",)
"""Settings that change no bit of the result; on a GPU the caller names them in ``more``."""

# Under which names file systems tell the content and the time of an object.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


def run_identity(
    scene: xr.DataArray,
    points: PointSpectra | None,
    response: SpectralResponse,
    settings: Settings,
    channels: ChannelGrid,
    **more: str,
) -> dict[str, str]:
    """Return what decides the result, one entry for each thing that a user could have changed.

    Parameters
    ----------
    scene
        Told by its grid and by how its values come about: scale, selections and what else was done
        to it, or the values themselves if they are in memory. Its files, all that GDAL names, are
        told by name, size and time. A Zarr store at a URL is told by a list of its objects with
        size, ETag and time, as far as the object store gives them; a raster at a URL likewise, where
        fsspec reaches it, and otherwise by its size and data type, which leaves a change of nothing
        but values unseen.
    points, response, channels
        Told by their values.
    settings
        All of them count but those that change no bit; weights by the file's content.
    **more
        What else counts: format, device.

    Raises
    ------
    SceneReadError
        If a Zarr store at a URL can no longer be reached.
    """
    identity = {
        "version": f"{version('pixelssr-geo')}, numpy {version('numpy')}",
        "scene": _scene(scene),
        "scene's grid": _grid(scene),
        "scene's values": tokenize(scene.data)[:16],
    }
    identity["points"] = "none" if points is None else _points(points)
    identity["response"] = _hash(response.wavelengths_nm, response.values)
    identity["channels"] = _hash(channels.centres_nm, channels.fwhm_nm)
    for name, value in settings.model_dump().items():
        if name not in UNIMPORTANT:
            identity[f"option {name}"] = shown(json.dumps(value))
    if settings.weights is not None:
        there = weights_path(settings.weights).is_file()
        identity["option weights"] = weights_hash(settings.weights) if there else "missing"
    return identity | more


def _scene(scene: xr.DataArray) -> str:
    source = str(scene.encoding.get("source", scene.attrs.get("source", "")))
    found = place(source)
    if isinstance(found, str):
        return _objects(found) or place_name(found)
    if not source or not found.exists():
        return "memory"
    files = _files(found)
    told = [(str(one.relative_to(base)), *_times(one)) for base, one in files]
    if len(told) == 1:
        return f"{found.name}, {told[0][1]} bytes, changed {told[0][2]}"
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    return f"{found.name}, {len(told)} files, {digest}"


def _grid(scene: xr.DataArray) -> str:
    grid = pixel_grid(scene)
    crs = hashlib.sha256((grid.crs_wkt or "").encode()).hexdigest()[:8]
    return f"{grid.shape[0]} x {grid.shape[1]} at {tuple(grid.transform)}, {crs}"


def _files(path: Path) -> list[tuple[Path, Path]]:
    """Return the files that a scene is made of, each after the folder that it is named from."""
    if path.is_dir():
        return [(path, one) for one in sorted(path.rglob("*")) if one.is_file()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with suppress(RasterioError), rasterio.open(path) as dataset:
            files = [Path(name) for name in dataset.files]
            return [(one.parent, one) for one in files if one.is_file()] or [(path.parent, path)]
    return [(path.parent, path)]


def _times(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _objects(url: str) -> str | None:
    """Return what an object store says about the objects under a URL; None if it cannot be asked."""
    if "***" in url:  # what was secret in it is not known any more
        return None
    store = place_suffix(url) == ".zarr"
    try:
        system, path = file_system(url)
        found = system.find(path, detail=True) if store else {path: system.info(path)}
    except Exception as error:  # each protocol's package has exceptions of its own
        if not store:  # GDAL reads it, with credentials of its own
            return None
        raise SceneReadError(
            f"'{shown(url)}' cannot be listed ({shown(' '.join(str(error).split()), url)}), the scene "
            "is needed: check the URL, the network and the credentials"
        ) from error
    told = [(name.removeprefix(path), *_facts(info)) for name, info in sorted(found.items())]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    return f"{place_name(url)}, {len(told)} objects, {digest}"


def _facts(info: Mapping[str, Any]) -> list[str]:
    known = (info.get(name) for name in ("size", *_TAGS, *_TIMES))
    # In seconds, for a date's text depends on the machine's time zone.
    return [
        str(value.timestamp() if isinstance(value, datetime) else value)
        for value in known
        if value is not None
    ]


def _points(points: PointSpectra) -> str:
    told = _hash(points.x, points.y, points.wavelengths_nm, points.reflectance)
    crs = hashlib.sha256((points.crs_wkt or "").encode()).hexdigest()[:8]
    return f"{len(points)} spectra, {told}-{crs}"


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
