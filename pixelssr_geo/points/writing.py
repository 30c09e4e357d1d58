"""Writing points as EnMAP-Box reads them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import OutputError
from pixelssr_geo.points.attributes import ID_NAMES
from pixelssr_geo.points.profiles import PROFILES, SPREAD_SUFFIX
from pixelssr_geo.points.vector_file import one_line
from pixelssr_geo.spectra.units import DECIMALS_NM

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.points.point_spectra import PointSpectra

_DECIMALS = 6
_Y_UNIT = "reflectance 0-1"


def write_points(points: PointSpectra, path: str | Path) -> None:
    """Write points as a GeoPackage whose ``profiles`` field EnMAP-Box and :func:`read_points` read.

    Beside it are the points' names (field ``name``, or ``id`` if there is an attribute of that
    name), their attributes, and in ``profiles_std`` the standard deviations if known. Attributes
    whose names are taken get a number behind them. The file appears under its name when it is
    complete; an older one is replaced.

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
    frame = geopandas.GeoDataFrame(
        _columns(points),
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
            f"points cannot be written to '{path}' ({one_line(error)}): check rights and space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _columns(points: PointSpectra) -> dict[str, Any]:
    named = {name.casefold() for name in points.attributes}
    # Of these two the reader takes `id` first.
    name = "id" if named & set(ID_NAMES) else "name"
    columns: dict[str, Any] = {
        name: list(points.ids),
        PROFILES: profile_texts(points.wavelengths_nm, points.reflectance, _Y_UNIT),
    }
    if points.spread is not None:
        columns[PROFILES + SPREAD_SUFFIX] = profile_texts(
            points.wavelengths_nm, points.spread, _Y_UNIT
        )
    return columns | _attribute_columns(points.attributes, {*columns, PROFILES + SPREAD_SUFFIX})


def profile_texts(
    wavelengths_nm: NDArray[np.float64], values: NDArray[np.float64], unit: str
) -> list[str]:
    """One JSON text per spectrum, as EnMAP-Box stores profiles; null where there is no value."""
    centres = json.dumps([round(float(value), DECIMALS_NM) for value in wavelengths_nm])
    rows = np.round(values, _DECIMALS)
    texts = []
    for row, finite in zip(rows, np.isfinite(rows), strict=True):
        listed = row.tolist()
        if not finite.all():
            listed = [value if good else None for value, good in zip(listed, finite, strict=True)]
        texts.append(
            f'{{"x": {centres}, "y": {json.dumps(listed)}, "xUnit": "nm", "yUnit": "{unit}"}}'
        )
    return texts


def _attribute_columns(
    attributes: Mapping[str, Sequence[Any]], reserved: Collection[str]
) -> dict[str, Any]:
    """Columns of attributes, under names that differ in more than case, as SQLite needs them."""
    taken = {*reserved, "fid", "geom", "geometry"}
    columns = {}
    for name, values in attributes.items():
        free, number = name, 1
        while free.casefold() in taken:
            number += 1
            free = f"{name}_{number}"
        taken.add(free.casefold())
        columns[free] = _column(values)
    return columns


def _column(values: Sequence[Any]) -> Any:
    """Values of one attribute, in the column type that has them all."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.array(list(values), dtype="boolean")
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pd.array(list(values), dtype="Int64")
    if kinds and kinds <= {int, float}:
        return [np.nan if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]
