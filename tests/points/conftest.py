"""A GeoPackage to write layers and tables into, as other software makes them."""

import json
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points import PointSpectra, read_points


class FieldFile:
    """A vector file in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def layer(
        self,
        columns: Mapping[str, Any],
        *,
        geometry: Any = None,
        crs: str | None = "EPSG:32633",
        name: str = "field",
        **options: Any,
    ) -> None:
        """A layer with the given columns, at places 8 m apart unless others are given."""
        if geometry is None:
            count = len(next(iter(columns.values())))
            geometry = shapely.points([[390_004 + 8 * i, 5_809_996 - 8 * i] for i in range(count)])
        frame = geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)
        options.setdefault("driver", "GPKG")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            frame.to_file(self.path, layer=name, mode="a" if self.path.exists() else "w", **options)

    def table(self, columns: Mapping[str, Any], name: str = "spectra") -> None:
        """A table without geometry."""
        pyogrio.write_dataframe(pd.DataFrame(columns), self.path, layer=name, driver="GPKG")

    def column(
        self, values: Sequence[object], name: str = "profiles", kind: str = "BLOB", **options: Any
    ) -> None:
        """A layer with a column of a type that geopandas does not write."""
        # The index would need functions that plain SQLite lacks.
        self.layer({"number": range(len(values))}, SPATIAL_INDEX="NO", **options)
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(f"ALTER TABLE field ADD COLUMN {name} {kind}")
            for number, value in enumerate(values):
                database.execute(f"UPDATE field SET {name} = ? WHERE number = ?", (value, number))

    def read(self, **options: Any) -> PointSpectra:
        return read_points(self.path, **options)

    def refused(self, match: str, **options: Any) -> None:
        """Reading is refused in one line that matches."""
        with pytest.raises(PointsError, match=match) as caught:
            read_points(self.path, **options)
        assert "\n" not in str(caught.value)


@pytest.fixture
def field(tmp_path: Path) -> FieldFile:
    return FieldFile(tmp_path / "field.gpkg")


@pytest.fixture
def made() -> SimpleNamespace:
    """Three spectra at four wavelengths, as numbers and as profiles."""
    nm = [450.0, 550.0, 650.0, 750.0]

    def profile(values: Any, wavelengths: Any = nm, **more: Any) -> str:
        return json.dumps({"x": list(wavelengths), "y": list(values), **more})

    spectra = np.array([[0.05, 0.1, 0.2, 0.4], [0.1, 0.12, 0.14, 0.16], [0.02, 0.08, 0.04, 0.5]])
    return SimpleNamespace(
        nm=nm,
        spectra=spectra,
        profile=profile,
        profiles=[profile(values) for values in spectra],
        long={
            "point": np.repeat(["a", "b", "c"], 4),
            "wavelength": nm * 3,
            "reflectance": spectra.ravel(),
        },
    )
