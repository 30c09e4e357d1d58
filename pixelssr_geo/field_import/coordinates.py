"""Where field spectra were taken: a table or a vector file of named places."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError, SettingsError
from pixelssr_geo.points.vector_file import listed, open_vector_file
from pixelssr_geo.spectra_files.positions import degrees_of
from pixelssr_geo.spectra_files.source import open_source
from pixelssr_geo.spectra_files.tables import NAME_WORDS, column_of
from pixelssr_geo.spectra_files.text import MISSING, split_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from pyproj import CRS

    from pixelssr_geo.spectra_files.text import TextTable

DEGREES = "EPSG:4326"
"""The system of positions in degrees that name no other."""

_LON = ("longitude", "lon", "long", "lng")
_LAT = ("latitude", "lat")
_X = ("x", "easting", "east", "utmx", "utme", "xcoord")
_Y = ("y", "northing", "north", "utmy", "utmn", "ycoord")
_VECTOR = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".kml", ".gml", ".sqlite", ".gpx")


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """Named places."""

    source: str
    """The file."""
    x: NDArray[np.float64]
    """Easting or longitude, ``(place,)``."""
    y: NDArray[np.float64]
    """Northing or latitude, ``(place,)``."""
    crs_wkt: str
    """Their coordinate reference system."""
    columns: Mapping[str, tuple[str, ...]]
    """What else the file says of each place, as text: one of them names the spectra. Those with
    names that say so come first."""
    notes: tuple[str, ...]
    """What was recognised."""
    placeless: frozenset[str] = frozenset()
    """All texts of rows that have no coordinates."""

    def __len__(self) -> int:
        return len(self.x)


def read_coordinates(
    path: str | Path, *, crs: str | None = None, layer: str | None = None
) -> Coordinates:
    """Named places of a text table, or of the points of a vector file.

    Parameters
    ----------
    path
        Text with a header (CSV; delimiter and decimal mark are recognised), or a GeoPackage,
        GeoJSON, Shapefile and so on. In a table, columns named as longitude and latitude, or as x,
        y, easting, northing, hold the places.
    crs
        Coordinate reference system of a file that states none. Without it, numbers that can be
        degrees are EPSG:4326.
    layer
        Layer of a vector file; by default the first of points.

    Raises
    ------
    PointsError
        If the file has no places, or its coordinate reference system is not known.
    SettingsError
        If ``crs`` is not known, or contradicts the numbers.
    """
    path = Path(path)
    given = None if crs is None else known_crs(crs)
    source = open_source(path, needed="a table of coordinates")
    text = source.is_text and source.first_text().lstrip()[:1] not in ("{", "<")
    if text and source.ending not in _VECTOR:
        return _of_table(path, source.text(), given)
    return _of_vector(path, given, layer)


def known_crs(crs: str) -> CRS:
    """The coordinate reference system of that name.

    Raises
    ------
    SettingsError
        If there is none.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        raise SettingsError(
            f"coordinate reference system '{crs}' is not known, one such as EPSG:32633 is needed: "
            "correct --crs"
        ) from error


def are_degrees(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether numbers can be longitudes and latitudes."""
    return bool((np.abs(x) <= 180).all() and (np.abs(y) <= 90).all())


def _of_table(path: Path, text: str, crs: CRS | None) -> Coordinates:
    table = split_text(text, str(path))
    if not table.rows:
        raise PointsError(f"'{path}' has no cells, a table of coordinates is needed: check it")
    widest = max(map(len, table.rows))
    top = next(at for at, row in enumerate(table.rows) if 2 * len(row) > widest)
    header = table.rows[top]
    rows = range(top + 1, len(table.rows))
    pairs = [(column_of(header, _LON), column_of(header, _LAT))]
    pairs.insert(
        0 if crs is not None and not crs.is_geographic else 1,
        (column_of(header, _X), column_of(header, _Y)),
    )
    chosen = next(((x, y) for x, y in pairs if x is not None and y is not None and x != y), None)
    if chosen is None:
        raise PointsError(
            f"'{path}' has the columns {listed(header)}, two of coordinates are needed: name them "
            "lon and lat, or x and y"
        )
    if not rows:
        raise PointsError(f"'{path}' has a header and no places below it: complete the table")
    numbers = _positions(table, rows, chosen)
    good = [bool(np.isfinite(row).all()) for row in numbers]
    if not any(good):
        raise PointsError(f"'{path}' has no row with two coordinates: complete the table")
    coordinates = {at for pair in pairs for at in pair if at is not None}
    kept = [row for row, keep in zip(rows, good, strict=True) if keep]
    columns = {
        name: tuple(_cell(table.rows[row], at) for row in kept)
        for at, name in enumerate(header)
        if at not in coordinates and name
    }
    x, y = numbers[good].T
    named = f"columns '{header[chosen[0]]}' and '{header[chosen[1]]}'"
    geographic = chosen == (column_of(header, _LON), column_of(header, _LAT))
    wkt, note = _settled(x, y, crs, path, named_degrees=geographic)
    notes = [f"coordinates from {named} of '{path.name}', {note}"]
    if missing := len(rows) - len(kept):
        notes.append(f"{missing} of {len(rows)} rows of '{path.name}' have no coordinates")
    placeless = frozenset(
        cell for row, keep in zip(rows, good, strict=True) if not keep for cell in table.rows[row]
    )
    return Coordinates(str(path), x, y, wkt, _by_name(columns), tuple(notes), placeless)


def _positions(table: TextTable, rows: range, columns: Sequence[int]) -> NDArray[np.float64]:
    """Numbers of two columns, ``(row, column)``; in degrees where their text is a position."""
    try:
        return table.block(rows, columns)
    except PointsError:
        found = np.full((len(rows), len(columns)), np.nan)
        for at, row in enumerate(rows):
            for place, column in enumerate(columns):
                cell = _cell(table.rows[row], column)
                if cell.lower() in MISSING:
                    continue
                if (degrees := degrees_of(cell)) is None:
                    raise
                found[at, place] = degrees
        return found


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""


def _of_vector(path: Path, crs: CRS | None, layer: str | None) -> Coordinates:
    file = open_vector_file(path)
    if layer is not None and layer not in file.layers:
        raise PointsError(
            f"'{path}' has no layer '{layer}', it has {listed(file.layers)}: correct --layer"
        )
    if layer is None and not file.places:
        raise PointsError(f"'{path}' has no layer with geometries, points are needed: check it")
    chosen = layer if layer is not None else file.places[0]
    if file.layers[chosen] is None:
        raise PointsError(
            f"layer '{chosen}' of '{path}' has no geometries, points are needed: correct --layer"
        )
    x, y = file.read_places(chosen)
    frame = file.read_table(chosen)
    columns = {
        str(name): tuple(_plain(value) for value in frame[name].tolist()) for name in frame.columns
    }
    if (wkt := file.crs_wkt(chosen)) is not None:
        note = "coordinate reference system as in the file"
    else:
        wkt, note = _settled(x, y, crs, path)
    notes = (f"coordinates from layer '{chosen}' of '{path.name}', {note}",)
    return Coordinates(str(path), x, y, wkt, _by_name(columns), notes)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    return "" if value is None else str(value)


def _settled(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    crs: CRS | None,
    path: Path,
    *,
    named_degrees: bool = False,
) -> tuple[str, str]:
    degrees = are_degrees(x, y)
    if crs is None:
        if not degrees:
            raise PointsError(
                f"'{path}' has coordinates such as {x[0]:g}, {y[0]:g}, which are no degrees, and "
                "names no coordinate reference system: give --crs, as EPSG:32633"
            )
        return known_crs(DEGREES).to_wkt(), f"taken as degrees ({DEGREES})"
    # Small eastings of a local system look like degrees too: only a name tells that they are.
    if degrees and named_degrees and not crs.is_geographic:
        raise SettingsError(
            f"'{path}' has coordinates such as {x[0]:g}, {y[0]:g}, which look like degrees, and "
            f"--crs gives '{crs.name}': give the system of these columns, as {DEGREES}"
        )
    if not degrees and crs.is_geographic:
        raise SettingsError(
            f"'{path}' has coordinates such as {x[0]:g}, {y[0]:g}, which are no degrees, and --crs "
            f"gives '{crs.name}': give the system that they are in"
        )
    return crs.to_wkt(), f"in {crs.name}"


def _by_name(columns: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Columns that are named as names, best first, then the others in their order."""
    rest = dict(columns)
    ordered = {}
    while (at := column_of(names := list(rest), NAME_WORDS)) is not None:
        ordered[names[at]] = rest.pop(names[at])
    return ordered | rest
