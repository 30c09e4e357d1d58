"""What decides the bytes of a run's result, by name: so that another run can be told from it."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from dask.base import tokenize

if TYPE_CHECKING:
    import xarray as xr

    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.spectra import SpectralResponse

UNIMPORTANT = ("batch_size",)
"""Settings that change no bit of the result."""


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
        Told by name, size and time of its file, or by its values if it is in memory.
    points, response
        Told by their values.
    settings
        All of them count but those that change no bit; weights by the file's content.
    **more
        What else counts: format, device.
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
    path = Path(str(scene.attrs.get("source", "")))
    if not path.exists():
        return f"{scene.shape}, {tokenize(scene.data)}"
    status = path.stat()
    return f"{path.name}, {status.st_size} bytes, changed {status.st_mtime_ns}"


def _points(points: PointSpectra) -> str:
    told = _hash(points.x, points.y, points.wavelengths_nm, points.reflectance)
    crs = hashlib.sha256((points.crs_wkt or "").encode()).hexdigest()[:8]
    return f"{len(points)} spectra, {told}-{crs}"


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
