"""Field spectra with a place: read from and written to GeoPackages (or any vector file).

Two layouts are read here: the EnMAP-Box profile field (one JSON text per point) and wide tables
whose column names are wavelengths.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import OutputError, PointsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WIDE_COLUMN = re.compile(
    r"^(?:wl|x|b|r|band|refl?)?[_ ]?(\d+(?:\.\d+)?)[_ ]?(?:nm|um)?$", re.IGNORECASE
)
"""Column names that are wavelengths: ``665``, ``X665.0``, ``wl_665``, ``R_665nm``, ``665 nm``."""


@dataclass(frozen=True, slots=True, eq=False)
class PointSpectra:
    """Field spectra and where they were taken."""

    ids: tuple[str, ...]
    """Name of each point, ``(point,)``."""
    x: NDArray[np.float64]
    """Easting or longitude in :attr:`crs_wkt`, ``(point,)``."""
    y: NDArray[np.float64]
    """Northing or latitude, ``(point,)``."""
    crs_wkt: str | None
    """Coordinate reference system; None when the file carries none."""
    wavelengths_nm: NDArray[np.float64]
    """Ascending, ``(wavelength,)``."""
    reflectance: NDArray[np.float64]
    """0-1, NaN where a spectrum has no value, ``(point, wavelength)``."""
    source: str = "memory"
    """Where the points came from, for messages."""
    notes: tuple[str, ...] = ()
    """What was recognised on reading: layout, units."""

    def __post_init__(self) -> None:
        expected = (len(self.ids), len(self.wavelengths_nm))
        if self.reflectance.shape != expected or not len(self.x) == len(self.y) == len(self.ids):
            raise PointsError(
                f"points from {self.source} have {len(self.ids)} names, {len(self.x)} places and "
                f"spectra of shape {self.reflectance.shape}, expected spectra {expected}: pass one "
                "place and one spectrum per name"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> PointSpectra:
        """The points at ``index`` (integers or a boolean mask), in that order."""
        chosen = np.arange(len(self))[index]
        return PointSpectra(
            tuple(self.ids[i] for i in chosen),
            self.x[chosen],
            self.y[chosen],
            self.crs_wkt,
            self.wavelengths_nm,
            self.reflectance[chosen],
            self.source,
            self.notes,
        )


def read_points(
    path: str | Path, *, layer: str | None = None, field: str | None = None
) -> PointSpectra:
    """Field spectra of a GeoPackage or another vector file, as reflectance 0-1 over nm.

    Parameters
    ----------
    path
        Vector file with point geometries.
    layer
        Layer name; by default the only layer, or the first that has points.
    field
        Column that holds the spectra as JSON, as ``{"x": [...], "y": [...], "xUnit": "nm"}``.
        By default the layout is detected: such a column first, wavelength-named columns second.

    Notes
    -----
    Wavelengths below 100 are taken as micrometres unless the file names the unit. Reflectance in
    percent or x 10000 is recognised by its size; what was recognised is in ``notes``.

    Raises
    ------
    PointsError
        If the file, the layer, the geometries or the spectra cannot be used.
    """
    frame = _read_frame(path, layer)
    column = _profile_column(frame, field, path)
    if column is not None:
        wavelengths, values, layout = _from_profiles(frame[column].tolist(), column, path)
    else:
        wavelengths, values, layout = _from_wide(frame, path)
    if not np.isfinite(values).any():
        raise PointsError(
            f"'{path}' holds spectra without a single number, reflectance values are needed: "
            "check the export"
        )
    values, unit = _as_reflectance(values)
    geometry = frame.geometry
    return PointSpectra(
        ids=_identifiers(frame),
        x=np.asarray(geometry.x, "f8"),
        y=np.asarray(geometry.y, "f8"),
        crs_wkt=frame.crs.to_wkt() if frame.crs is not None else None,
        wavelengths_nm=wavelengths,
        reflectance=values,
        source=str(path),
        notes=(layout, unit),
    )


def write_points(points: PointSpectra, path: str | Path) -> None:
    """Write points as a GeoPackage whose ``profiles`` field EnMAP-Box and :func:`read_points` read.

    The file appears under its name when it is complete; an older one is replaced.

    Raises
    ------
    OutputError
        If the folder is missing or cannot be written.
    """
    import geopandas
    from pyogrio.errors import DataLayerError, DataSourceError

    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"folder '{path.parent}' does not exist: create it first")
    centres = [round(float(value), 3) for value in points.wavelengths_nm]
    profiles = [
        json.dumps(
            {
                "x": centres,
                "y": [round(float(v), 6) if np.isfinite(v) else None for v in row],
                "xUnit": "nm",
            }
        )
        for row in points.reflectance
    ]
    frame = geopandas.GeoDataFrame(
        {"name": list(points.ids), "profiles": profiles},
        geometry=geopandas.points_from_xy(points.x, points.y),
        crs=points.crs_wkt,
    )
    temporary = path.with_name(f".{path.name}.part.gpkg")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            frame.to_file(temporary, layer="points", driver="GPKG")
        temporary.replace(path)
    except (OSError, DataSourceError, DataLayerError) as error:
        raise OutputError(
            f"points cannot be written to '{path}' ({_one_line(error)}): check rights and space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _read_frame(path: str | Path, layer: str | None) -> Any:
    import geopandas
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if not Path(path).exists():
        raise PointsError(f"'{path}' does not exist, a point file is needed: check the path")
    try:
        layers = {str(name): kind for name, kind in pyogrio.list_layers(path)}
        chosen = layer if layer is not None else _spatial_layer(layers, path)
        if chosen not in layers:
            raise PointsError(
                f"'{path}' has no layer '{chosen}', it has {_listed(layers)}: give --layer"
            )
        frame = geopandas.read_file(path, layer=chosen, engine="pyogrio")
    except (DataSourceError, DataLayerError) as error:
        raise PointsError(
            f"'{path}' cannot be opened as a vector file ({_one_line(error)}), a "
            "GeoPackage with points is needed: check the file"
        ) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise PointsError(
            f"layer '{chosen}' of '{path}' has no geometry, points are needed: give --layer"
        )
    if frame.empty:
        raise PointsError(f"layer '{chosen}' of '{path}' is empty, points are needed: give --layer")
    _require_points(frame, chosen, path)
    return frame


def _spatial_layer(layers: dict[str, Any], path: str | Path) -> str:
    spatial = [name for name, kind in layers.items() if kind is not None]
    if not spatial:
        raise PointsError(
            f"'{path}' has no layer with geometries ({_listed(layers)}), points are needed: "
            "export a point layer"
        )
    points = [name for name in spatial if "point" in str(layers[name]).lower()]
    return (points or spatial)[0]


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _require_points(frame: Any, layer: str, path: str | Path) -> None:
    missing = int((frame.geometry.isna() | frame.geometry.is_empty).sum())
    if missing:
        raise PointsError(
            f"{missing} of {len(frame)} features in layer '{layer}' of '{path}' have no geometry, "
            "each spectrum needs a place: delete or locate them"
        )
    kinds = set(frame.geometry.geom_type)
    if kinds == {"MultiPoint"} and (frame.geometry.count_geometries() == 1).all():
        frame.geometry = frame.geometry.explode(ignore_index=True)
    elif kinds != {"Point"}:
        raise PointsError(
            f"layer '{layer}' of '{path}' holds {_listed(sorted(kinds))}, points are needed: "
            "take the centroids of polygons first"
        )


def _identifiers(frame: Any) -> tuple[str, ...]:
    for name in ("id", "name", "point_id", "ID", "Name"):
        if name in frame.columns and frame[name].notna().all():
            return tuple(str(value) for value in frame[name])
    return tuple(f"point {number}" for number in range(1, len(frame) + 1))


def _profile_column(frame: Any, field: str | None, path: str | Path) -> str | None:
    columns = [str(name) for name in frame.columns if name != frame.geometry.name]
    if field is not None:
        if field not in columns:
            raise PointsError(
                f"'{path}' has no field '{field}', it has {_listed(columns)}: give --field"
            )
        return field
    for name in sorted(columns, key=lambda name: name != "profiles"):
        values = [value for value in frame[name].tolist() if isinstance(value, (str, bytes, dict))]
        if values and _looks_like_profile(values[0], name, path):
            return name
    return None


def _looks_like_profile(value: Any, name: str, path: str | Path) -> bool:
    if isinstance(value, bytes):
        if value[:1] == b"\x80":
            raise PointsError(
                f"field '{name}' of '{path}' is a Python pickle, which can run code when opened "
                "and is never read: save the profiles as JSON text"
            )
        if value[:4] == b"qbjs":
            raise PointsError(
                f"field '{name}' of '{path}' is Qt binary JSON, only JSON text is read: save the "
                "spectral library again with a text or JSON profile field"
            )
        return value.lstrip()[:1] == b"{"
    return isinstance(value, dict) or value.lstrip()[:1] == "{"


def _from_profiles(
    raw: Sequence[Any], column: str, path: str | Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    parsed = [_parse_profile(value, row, column, path) for row, value in enumerate(raw, 1)]
    first = parsed[0][0]
    if all(x.shape == first.shape and np.array_equal(x, first) for x, _ in parsed):
        grid = first
        values = np.stack([y for _, y in parsed])
    else:
        # Spectra of several instruments: each is interpolated over its own range to the union.
        grid = np.unique(np.concatenate([x for x, _ in parsed]))
        values = np.stack([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in parsed])
    return grid, values, f"profiles in field '{column}'"


def _parse_profile(
    value: Any, row: int, column: str, path: str | Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    where = f"feature {row}, field '{column}' of '{path}'"
    if isinstance(value, bytes) and not _looks_like_profile(value, column, path):
        raise PointsError(f"{where} is binary and not JSON: save the profiles as JSON text")
    try:
        profile = value if isinstance(value, dict) else json.loads(value)
        y = np.array([np.nan if v is None else v for v in profile["y"]], "f8")
        x = np.array(profile["x"], "f8")
    except (TypeError, ValueError, KeyError) as error:
        raise PointsError(
            f"{where} is not a spectrum, JSON with number lists 'x' (wavelengths) and 'y' "
            f"(reflectance) is needed ({type(error).__name__}: {error}): export it again or delete "
            "the feature"
        ) from error
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0 or not np.isfinite(x).all():
        raise PointsError(
            f"{where} has {x.size} wavelengths and {y.size} values, one finite wavelength per "
            "value is needed: export it again"
        )
    order = np.argsort(x, kind="stable")
    if (twice := x[order][1:][np.diff(x[order]) == 0]).size:
        raise PointsError(
            f"{where} gives wavelength {twice[0]:g} twice, one value per wavelength is needed: "
            "export it again"
        )
    return _wavelengths_in_nm(x[order], str(profile.get("xUnit") or "")), y[order]


def _wavelengths_in_nm(values: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    plain = unit.strip().lower()
    if plain.startswith(("nm", "nano")):
        return values
    if plain.startswith(("um", "µm", "μm", "micro")) or values.max() < 100:
        return values * 1000
    return values


def _from_wide(
    frame: Any, path: str | Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    named = {str(name): WIDE_COLUMN.match(str(name)) for name in frame.columns}
    # Short names such as "b1" are band numbers, not wavelengths.
    found = {
        name: float(match[1])
        for name, match in named.items()
        if match and (float(match[1]) >= 200 or "." in match[1])
    }
    if len(found) < 2:
        raise PointsError(
            f"'{path}' holds no spectra: found the fields {_listed(named)}, expected a JSON "
            "profile field or columns named by wavelength (such as 665.0): give --field"
        )
    columns = sorted(found, key=lambda name: found[name])
    try:
        values = frame[columns].to_numpy(dtype="f8", na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise PointsError(
            f"the wavelength columns of '{path}' hold text ({_one_line(error)}), "
            "numbers are needed: convert them"
        ) from error
    grid = _wavelengths_in_nm(np.array([found[name] for name in columns]), "")
    return grid, values, f"{len(columns)} wavelength columns"


def _as_reflectance(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    # A high percentile, so that a few wild values do not decide; saturated snow stays under 2.
    finite = values[np.isfinite(values)]
    top = float(np.percentile(finite, 99))
    if top > 150:
        return values / 10_000, "reflectance x 10000, divided by 10000"
    if top > 2:
        return values / 100, "reflectance in percent, divided by 100"
    return values, "reflectance 0-1"
