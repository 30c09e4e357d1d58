"""What decides the bytes of a run's result, by name: so that another run can be told from it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import tokenize

from pixelssr_geo.errors import SceneReadError
from pixelssr_geo.place import file_system, place, place_name, place_suffix, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.spectra import SpectralResponse

UNIMPORTANT = ("batch_size",)
"""Settings that change no bit of the result."""

# Under which names file systems tell the content and the time of an object.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


def run_identity(
    scene: xr.DataArray,
    points: PointSpectra | None,
    response: SpectralResponse,
    settings: Settings,
    **more: str,
) -> dict[str, str]:
    """Return what decides the result, one entry for each thing that a user could have changed.

    Parameters
    ----------
    scene
        Told by name, size and time of its file, or by its values if it is in memory. A Zarr store
        at a URL is told by a list of its objects with size, ETag and time, as far as the object
        store gives them; a raster at a URL likewise, where fsspec reaches it, and otherwise by its
        size, grid and data type, which leaves a change of nothing but values unseen.
    points, response
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
    identity = {"version": version("pixelssr-geo"), "scene": _scene(scene)}
    identity["points"] = "none" if points is None else _points(points)
    identity["response"] = _hash(response.wavelengths_nm, response.values)
    for name, value in settings.model_dump().items():
        if name not in UNIMPORTANT:
            identity[f"option {name}"] = json.dumps(value)
    if settings.weights is not None:
        content = Path(settings.weights).read_bytes() if Path(settings.weights).is_file() else b""
        identity["option weights"] = hashlib.sha256(content).hexdigest()[:16]
    return identity | more


def _scene(scene: xr.DataArray) -> str:
    source = str(scene.encoding.get("source", scene.attrs.get("source", "")))
    found = place(source)
    if isinstance(found, str):
        return _objects(found) or f"{place_name(found)}, {scene.shape}, {tokenize(scene.data)}"
    if not source or not found.exists():
        return f"{scene.shape}, {tokenize(scene.data)}"
    status = found.stat()
    return f"{found.name}, {status.st_size} bytes, changed {status.st_mtime_ns}"


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
