"""Seconds to read field points of each layout, and how they grow with the number of points.

    python tests/benchmarks/read_points.py [--points 500 1000 2000 5000] [--wavelengths 2151]
        [--layouts profiles wide table rows paths csv] [--csv FILE]

Each layout is written and read in a folder of its own, with made spectra every nanometre from 350 nm
on. Process time is printed, so other jobs on the machine disturb the figures little; the exponent is
the slope of log seconds over log points, 1 for reading that is linear. A GeoPackage cannot have more
than about 2,000 columns: wide tables are read with at most 1,000. Where every value is a feature with
a geometry (``rows``), a tenth of the points is taken. ``csv`` is one table without places, through
``read_spectra_file``.
"""

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely

from pixelssr_geo.points import PointSpectra, read_points, write_points
from pixelssr_geo.spectra_files import read_spectra_file

WIDEST = 1000
"""Columns of a wide table."""


def make_spectra(points: int, wavelengths: int) -> PointSpectra:
    """Smooth spectra with a little noise, at places on a line."""
    rng = np.random.default_rng(0)
    nm = 350.0 + np.arange(wavelengths, dtype="f8")
    level, slope = rng.uniform(0.1, 0.4, (2, points, 1))
    values = level + slope * (nm - 350) / wavelengths + rng.normal(0, 0.002, (points, wavelengths))
    return PointSpectra(
        ids=tuple(f"p{number}" for number in range(points)),
        x=390_000.0 + np.arange(points, dtype="f8"),
        y=np.full(points, 5_810_000.0),
        crs_wkt="EPSG:32633",
        wavelengths_nm=nm,
        reflectance=np.round(values, 6),
    )


def _layer(points: PointSpectra, path: Path, columns: dict[str, object]) -> None:
    frame = geopandas.GeoDataFrame(
        {"name": list(points.ids), **columns},
        geometry=shapely.points(points.x, points.y),
        crs=points.crs_wkt,
    )
    frame.to_file(path, layer="points", driver="GPKG")


def _long(points: PointSpectra) -> dict[str, object]:
    count, wavelengths = points.reflectance.shape
    return {
        "point": np.repeat(points.ids, wavelengths),
        "wavelength": np.tile(points.wavelengths_nm, count),
        "reflectance": points.reflectance.ravel(),
    }


def write_wide(points: PointSpectra, path: Path) -> None:
    """One column per wavelength."""
    columns = zip(points.wavelengths_nm, points.reflectance.T, strict=True)
    _layer(points, path, {f"wl_{nm:g}": values for nm, values in columns})


def write_table(points: PointSpectra, path: Path) -> None:
    """A layer of places, and a table of point, wavelength and value."""
    _layer(points, path, {})
    pyogrio.write_dataframe(pd.DataFrame(_long(points)), path, layer="spectra", driver="GPKG")


def write_rows(points: PointSpectra, path: Path) -> None:
    """One feature per value."""
    wavelengths = len(points.wavelengths_nm)
    places = shapely.points(np.repeat(points.x, wavelengths), np.repeat(points.y, wavelengths))
    frame = geopandas.GeoDataFrame(_long(points), geometry=places, crs=points.crs_wkt)
    frame.to_file(path, layer="points", driver="GPKG")


def write_paths(points: PointSpectra, path: Path) -> None:
    """One text file per point beside the layer."""
    folder = path.with_suffix(".spectra")
    folder.mkdir()
    for name, values in zip(points.ids, points.reflectance, strict=True):
        lines = (f"{nm:g},{v:.6f}" for nm, v in zip(points.wavelengths_nm, values, strict=True))
        (folder / f"{name}.csv").write_text("wavelength,reflectance\n" + "\n".join(lines))
    _layer(points, path, {"file": [f"{folder.name}/{name}.csv" for name in points.ids]})


def write_csv(points: PointSpectra, path: Path) -> None:
    """A row per spectrum, wavelengths as header."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["name", *(f"{nm:g}" for nm in points.wavelengths_nm)])
        out.writerows(
            [name, *row] for name, row in zip(points.ids, points.reflectance.tolist(), strict=True)
        )


WRITERS: dict[str, Callable[[PointSpectra, Path], None]] = {
    "profiles": write_points,
    "wide": write_wide,
    "table": write_table,
    "rows": write_rows,
    "paths": write_paths,
    "csv": write_csv,
}


def seconds_to_read(layout: str, points: int, wavelengths: int, folder: Path) -> float:
    """Process time of reading one file of a layout, which is written and checked first."""
    spectra = make_spectra(points, min(wavelengths, WIDEST) if layout == "wide" else wavelengths)
    path = folder / f"{layout}_{points}.{'csv' if layout == 'csv' else 'gpkg'}"
    WRITERS[layout](spectra, path)
    start = time.process_time()
    read = read_spectra_file(path) if layout == "csv" else read_points(path)
    taken = time.process_time() - start
    assert len(read) == points
    return taken


def growth(points: Sequence[int], seconds: Sequence[float]) -> float:
    """Exponent of the power law through the figures."""
    if len(points) < 2:
        return math.nan
    return float(np.polyfit(np.log(points), np.log(seconds), 1)[0])


def main() -> None:
    """Print a line per layout."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--wavelengths", type=int, default=2151)
    parser.add_argument("--layouts", nargs="+", choices=WRITERS, default=list(WRITERS))
    parser.add_argument("--csv", type=Path, help="Write the figures here too.")
    options = parser.parse_args()
    rows: list[list[object]] = []
    read_points_once()
    for layout in options.layouts:
        counts = [max(2, n // 10) for n in options.points] if layout == "rows" else options.points
        taken = []
        for points in counts:
            with tempfile.TemporaryDirectory() as folder:
                taken.append(seconds_to_read(layout, points, options.wavelengths, Path(folder)))
            print(f"{layout:9} {points:6d} points  {taken[-1]:7.2f} s", flush=True)
            rows.append([layout, points, round(taken[-1], 3)])
        print(f"{layout:9} exponent {growth(counts, taken):.2f}", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([["layout", "points", "seconds"], *rows])


def read_points_once() -> None:
    """Load what reading needs, so that the first figure does not count it."""
    with tempfile.TemporaryDirectory() as folder:
        for layout in ("profiles", "table"):
            seconds_to_read(layout, 2, 10, Path(folder))


if __name__ == "__main__":
    main()
