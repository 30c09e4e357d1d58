"""Vector files: their layers, the tables of these, and where their points are."""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A vector file that was found to open."""

    path: Path
    """The file."""
    layers: Mapping[str, str | None]
    """Kind of geometry of each layer, in the file's order; None for a table without."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Layers without geometry."""
        return tuple(name for name, kind in self.layers.items() if kind is None)

    @property
    def places(self) -> tuple[str, ...]:
        """Layers with geometry: those of points first, those of unknown kind second."""

        def rank(name: str) -> int:
            kind = str(self.layers[name]).lower()
            return 0 if "point" in kind else 1 if "unknown" in kind or "collection" in kind else 2

        return tuple(sorted((n for n, kind in self.layers.items() if kind is not None), key=rank))

    def fields(self, layer: str) -> dict[str, str]:
        """NumPy type of each field of a layer, as ``int64``, ``float64`` or ``object``."""
        import pyogrio

        with _reading(self.path):
            info = pyogrio.read_info(self.path, layer=layer)
        return dict(zip(map(str, info["fields"]), map(str, info["dtypes"]), strict=True))

    def fid_name(self, layer: str) -> str:
        """Name of the column that numbers the features of a layer."""
        import pyogrio

        with _reading(self.path):
            return str(pyogrio.read_info(self.path, layer=layer)["fid_column"]) or "fid"

    def crs_wkt(self, layer: str) -> str | None:
        """Coordinate reference system of a layer, None where it has none."""
        import pyogrio
        from pyproj import CRS

        with _reading(self.path):
            named = pyogrio.read_info(self.path, layer=layer)["crs"]
        return None if named is None else str(CRS.from_user_input(named).to_wkt())

    def read_table(
        self, layer: str, columns: Sequence[str] | None = None, *, rows: int | None = None
    ) -> pd.DataFrame:
        """Fields of a layer, without geometry, indexed by the numbers of the features.

        Parameters
        ----------
        layer
            One of :attr:`layers`.
        columns
            The fields to read; all by default.
        rows
            How many rows to read at most; all by default.
        """
        import pyogrio

        with _reading(self.path):
            frame = pyogrio.read_dataframe(
                self.path,
                layer=layer,
                columns=columns,
                max_features=rows,
                read_geometry=False,
                fid_as_index=True,
            )
        if columns is None:
            # GDAL leaves out columns that other software declared as JSON.
            for name, values in self._json_columns(layer).items():
                frame[name] = [values.get(fid) for fid in frame.index]
        return cast("pd.DataFrame", frame)

    def read_places(self, layer: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X and y of a layer's points, ``(feature,)`` each.

        Raises
        ------
        PointsError
            If a feature has no geometry, or one that is not a single point.
        """
        import pyogrio

        kind = str(self.layers[layer])
        if "point" not in kind.lower():
            return self._places_of_any_kind(layer)
        with _reading(self.path):
            # A point is its own bounds; so no geometry is built for each of ten million rows.
            _, (left, bottom, right, top) = pyogrio.read_bounds(self.path, layer=layer)
        self._require_all(np.isfinite(left) & np.isfinite(bottom), layer)
        several = int(((left != right) | (bottom != top)).sum())
        if several:
            raise PointsError(
                f"{several} of {len(left)} features in layer '{layer}' of '{self.path}' hold "
                "several points, one place per spectrum is needed: split them into single parts"
            )
        return np.asarray(left, "f8"), np.asarray(bottom, "f8")

    def _places_of_any_kind(self, layer: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        import pyogrio

        with _reading(self.path):
            geometry = pyogrio.read_dataframe(self.path, layer=layer, columns=[]).geometry
        self._require_all(np.asarray(~(geometry.isna() | geometry.is_empty)), layer)
        kinds = set(geometry.geom_type)
        if not kinds <= {"Point", "MultiPoint"} or (geometry.count_geometries() > 1).any():
            raise PointsError(
                f"layer '{layer}' of '{self.path}' holds {listed(sorted(kinds))}, points are "
                "needed: take the centroids of polygons and lines, or single parts, first"
            )
        bounds = geometry.bounds
        return np.asarray(bounds["minx"], "f8"), np.asarray(bounds["miny"], "f8")

    def _require_all(self, located: NDArray[np.bool_], layer: str) -> None:
        missing = int((~located).sum())
        if missing:
            raise PointsError(
                f"{missing} of {len(located)} features in layer '{layer}' of '{self.path}' have no "
                "geometry, each spectrum needs a place: delete or locate them"
            )

    def _json_columns(self, layer: str) -> dict[str, dict[int, Any]]:
        """Values by feature number of the columns that are declared as JSON in an SQLite file."""
        with self.path.open("rb") as file:
            if file.read(15) != b"SQLite format 3":
                return {}
        try:
            with closing(
                sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
            ) as database:
                columns = database.execute(
                    "SELECT name FROM pragma_table_info(?) WHERE upper(type) = 'JSON'", (layer,)
                ).fetchall()
                return {
                    name: dict(
                        database.execute(f"SELECT rowid, {_quoted(name)} FROM {_quoted(layer)}")
                    )
                    for (name,) in columns
                }
        except sqlite3.Error:
            # What is damaged or locked, GDAL has told or reads nevertheless.
            return {}


def open_vector_file(path: str | Path) -> VectorFile:
    """Layers of a vector file.

    Raises
    ------
    PointsError
        If the file does not exist or cannot be opened.
    """
    import pyogrio

    path = Path(path)
    if not path.exists():
        raise PointsError(f"'{path}' does not exist, a point file is needed: check the path")
    with _reading(path):
        found = pyogrio.list_layers(path)
    return VectorFile(path, {str(name): kind and str(kind) for name, kind in found})


def listed(names: Iterable[object], most: int = 40) -> str:
    """Names in quotes, for messages; the first ones and a count where they are many."""
    every = [f"'{name}'" for name in names]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more or "none"


def one_line(error: BaseException) -> str:
    """An error's own words, on one line."""
    return " ".join(str(error).split())


def _cannot_open(path: Path, error: BaseException) -> PointsError:
    return PointsError(
        f"'{path}' cannot be opened as a vector file ({one_line(error)}), a GeoPackage with points "
        "is needed: check the file"
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    from pyogrio import errors

    with warnings.catch_warnings():
        # GDAL tells of every column that it cannot read; those are found in another way, or are
        # no spectra.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            yield
        except (
            errors.DataSourceError,
            errors.DataLayerError,
            errors.FeatureError,
            errors.FieldError,
            errors.GeometryError,
        ) as error:
            raise _cannot_open(path, error) from error


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
