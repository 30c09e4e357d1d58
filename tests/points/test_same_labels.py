"""The same spectra in every layout give the same labels."""

import json

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely

from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import PointSpectra, read_points, write_points
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.testing import make_points, make_scene

COUNT = 40


def made_spectra():
    """As a full-range field spectrometer gives them: 350 to 2500 nm every nanometre, with noise."""
    rng = np.random.default_rng(0)
    nm = np.arange(350.0, 2501.0)
    red_edge = 1 / (1 + np.exp((718 - nm) / 12))
    shares = rng.dirichlet([1, 1], COUNT)
    values = shares @ np.stack([0.03 + 0.45 * red_edge, 0.06 + 0.3 * (1 - np.exp(-nm / 900))])
    dark = (np.abs(nm - 1400) < 20) | (np.abs(nm - 1900) < 50)
    return nm, values + rng.normal(0, np.where(dark, 0.5, 0.002), values.shape)


def measured_spectra(data):
    """The first spectrum of each of forty files of an ASD spectrometer, 325 to 1075 nm."""
    files = sorted((data / "muufl_gulfport" / "ASD_Spectra").glob("*_*[0-9].txt"))[:COUNT]
    tables = [
        [line.split("\t")[0].split(",") for line in path.read_text().splitlines() if line.strip()]
        for path in files
    ]
    values = np.array(tables, "f8")
    np.testing.assert_array_equal(
        values[:, :, 0], np.broadcast_to(values[0, :, 0], values.shape[:2])
    )
    return values[0, :, 0], values[:, :, 1]


def located(nm, values):
    """Spectra at the centres of different pixels of the made scene."""
    places = make_points(COUNT)
    return PointSpectra(places.ids, places.x, places.y, places.crs_wkt, nm, values)


def layer(points, path, columns, **options):
    geometry = options.pop("geometry", shapely.points(points.x, points.y))
    frame = geopandas.GeoDataFrame(columns, geometry=geometry, crs=points.crs_wkt)
    frame.to_file(path, layer="field", **options)


def long(points):
    count, wavelengths = points.reflectance.shape
    return {
        "name": np.repeat(points.ids, wavelengths),
        "wavelength": np.tile(points.wavelengths_nm, count),
        "reflectance": points.reflectance.ravel(),
    }


def written(points, folder):
    write_points(points, folder / "written.gpkg")
    return folder / "written.gpkg"


def profiles(points, folder):
    micrometres = (points.wavelengths_nm / 1000).tolist()
    texts = [
        json.dumps({"x": micrometres, "y": (100 * values).tolist(), "xUnit": "Micrometers"})
        for values in points.reflectance
    ]
    layer(points, folder / "profiles.gpkg", {"name": points.ids, "profiles": texts}, driver="GPKG")
    return folder / "profiles.gpkg"


def wide(points, folder):
    # SQLite stops near 2000 columns.
    kind = ("GPKG", "gpkg") if len(points.wavelengths_nm) < 1000 else ("GeoJSON", "geojson")
    columns = zip(points.wavelengths_nm, points.reflectance.T, strict=True)
    table = {f"X{nm:g}": values for nm, values in columns}
    path = folder / f"wide.{kind[1]}"
    layer(points, path, {"name": points.ids, **table}, driver=kind[0])
    return path


def table(points, folder):
    path = folder / "table.gpkg"
    layer(points, path, {"name": points.ids}, driver="GPKG")
    pyogrio.write_dataframe(pd.DataFrame(long(points)), path, layer="spectra", driver="GPKG")
    return path


def rows(points, folder):
    path = folder / "rows.gpkg"
    places = [np.repeat(axis, len(points.wavelengths_nm)) for axis in (points.x, points.y)]
    layer(points, path, long(points), geometry=shapely.points(*places), driver="GPKG")
    return path


def paths(points, folder):
    (folder / "spectra").mkdir()
    for name, values in zip(points.ids, points.reflectance, strict=True):
        pairs = zip(points.wavelengths_nm.tolist(), values.tolist(), strict=True)
        text = "\n".join(f"{nm},{value}" for nm, value in pairs)
        (folder / "spectra" / f"{name}.csv").write_text(f"wavelength,reflectance\n{text}")
    files = [f"spectra/{name}.csv" for name in points.ids]
    layer(points, folder / "paths.gpkg", {"name": points.ids, "file": files}, driver="GPKG")
    return folder / "paths.gpkg"


@pytest.mark.parametrize("write", [written, profiles, wide, table, rows, paths])
@pytest.mark.parametrize("kind", ["made", "measured"])
def test_every_layout_gives_the_labels_of_the_spectra_themselves(kind, write, tmp_path, request):
    if kind == "made":
        points = located(*made_spectra())
    else:
        points = located(*measured_spectra(request.getfixturevalue("shared_data")))
    scene, channels = make_scene(), ChannelGrid.from_spec("400:1000:10")
    expected = pair_points(scene, points, channels=channels)
    read = read_points(write(points, tmp_path))
    assert read.ids == points.ids
    assert read.reflectance.shape == points.reflectance.shape
    found = pair_points(scene, read, channels=channels)
    assert found.ids == expected.ids
    assert found.dropped == expected.dropped == ()
    np.testing.assert_array_equal(found.labels.rows, expected.labels.rows)
    np.testing.assert_array_equal(found.labels.cols, expected.labels.cols)
    np.testing.assert_allclose(found.labels.spectra, expected.labels.spectra, rtol=0, atol=1e-6)
