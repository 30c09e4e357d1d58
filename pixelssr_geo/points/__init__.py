"""Field spectra with a place: read from and written to GeoPackages (or any vector file).

Four layouts are read: the EnMAP-Box profile field (one JSON text per point), wide tables whose
column names are wavelengths, long tables with one value per row, and columns of paths to spectrum
files.
"""

from pixelssr_geo.points.point_spectra import PointSpectra
from pixelssr_geo.points.reading import read_points
from pixelssr_geo.points.writing import write_points

__all__ = ["PointSpectra", "read_points", "write_points"]
