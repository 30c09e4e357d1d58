"""From spectrometer files and coordinates to points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import CRS, Transformer

from pixelssr_geo.errors import PointsError, SettingsError
from pixelssr_geo.field_import import import_spectra, read_coordinates
from pixelssr_geo.field_import.averaging import mean_and_spread, unlike_the_others
from pixelssr_geo.field_import.targets import plain_key
from pixelssr_geo.points import read_points, write_points

WAVELENGTHS = np.arange(400.0, 1001.0, 10.0)
SIG = "/*** Spectra Vista SIG Data ***/\nlongitude= {}\nlatitude= {}\ndata=\n{}\n"


def table(path, names, values, wavelengths=WAVELENGTHS):
    header = ",".join(["wavelength", *names])
    rows = [",".join(map(str, row)) for row in zip(wavelengths, *values, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def sig(path, level, longitude="", latitude=""):
    rows = "\n".join(f"{w} 1 1 {100 * level:.6f}" for w in WAVELENGTHS)
    path.write_text(SIG.format(longitude, latitude, rows))
    return path


def levels(*of):
    return [np.full(len(WAVELENGTHS), level) for level in of]


def places(path, text="name,lon,lat\noak,12.5,48.1\ntar,12.6,48.2\n"):
    path.write_text(text)
    return path


@pytest.fixture
def field(tmp_path):
    """Three scans of oak and two of tar in a file each, and where the two are."""
    table(tmp_path / "oak.csv", ["oak_01", "oak_02", "oak_03"], levels(0.1, 0.2, 0.3))
    table(tmp_path / "tar.csv", ["tar_01", "tar_02"], levels(0.05, 0.15))
    places(tmp_path / "places.txt")
    return tmp_path


def test_scans_of_a_file_are_averaged_where_the_table_names_the_file(field):
    done = import_spectra([field], coordinates=field / "places.txt")
    points = done.points
    assert (done.files, done.spectra) == (2, 5)
    assert points.ids == ("oak", "tar")
    assert points.attributes["replicates"] == (3, 2)
    assert points.attributes["source_files"] == ("oak", "tar")
    np.testing.assert_allclose(points.reflectance[:, 0], [0.2, 0.1])
    np.testing.assert_allclose(points.spread[:, 0], [0.1, np.std([0.05, 0.15], ddof=1)])
    np.testing.assert_array_equal([points.x, points.y], [[12.5, 12.6], [48.1, 48.2]])
    assert CRS.from_wkt(points.crs_wkt).to_epsg() == 4326
    assert done.left_out == ()
    assert done.unused == ()


def test_scans_named_in_the_table_are_points_of_their_own(field):
    text = "name,lon,lat\n" + "".join(
        f"{name},12.{n},48\n" for n, name in enumerate(["OAK 01", "oak-02", "Oak.03.asd", "tar_01"])
    )
    done = import_spectra([field], coordinates=places(field / "places.txt", text))
    assert done.points.ids == ("OAK 01", "oak-02", "Oak.03.asd", "tar_01")
    assert done.points.spread is None
    (left,) = done.left_out
    assert left.name == "tar_02"
    assert left.reason == "neither its name nor its target or file is in 'places.txt'"


@pytest.mark.parametrize("rule", ["prefix:[a-z]+", "prefix:([a-z]+)_", "file", "column:file"])
def test_grouping_rules_give_targets(field, rule):
    text = "target,lon,lat\noak.csv,1,2\noak,1,2\ntar,3,4\ntar.csv,3,4\n"
    done = import_spectra([field], coordinates=places(field / "p.txt", text), group_by=rule)
    assert done.points.attributes["replicates"] == (3, 2)
    np.testing.assert_array_equal(done.points.x, [1, 3])


def test_grouping_by_name_leaves_scans_alone_at_their_files_place(field):
    done = import_spectra([field], coordinates=field / "places.txt", group_by="name")
    assert done.points.ids == ("oak_01", "oak_02", "oak_03", "tar_01", "tar_02")
    np.testing.assert_array_equal(done.points.x, [12.5] * 3 + [12.6] * 2)


def test_scans_of_a_target_with_places_of_their_own_get_the_mean_place(field):
    text = "scan,lon,lat\noak_01,12.0,48\noak_02,12.2,48\ntar_01,13,49\n"
    done = import_spectra(
        [field], coordinates=places(field / "p.txt", text), group_by="prefix:[a-z]+"
    )
    assert done.points.ids == ("oak", "tar")
    assert done.points.attributes["replicates"] == (3, 2)
    np.testing.assert_allclose(done.points.x, [12.1, 13])
    assert "'oak' has 2 places, their mean is taken" in done.points.notes


def test_spectra_of_rows_without_coordinates_are_told(field):
    text = "name,lon,lat\noak_01,12.5,48.1\noak_02,,\n"
    done = import_spectra([field / "oak.csv"], coordinates=places(field / "places.txt", text))
    assert [one.name for one in done.left_out] == ["oak_02", "oak_03"]
    assert done.left_out[0].reason == "its row in 'places.txt' has no coordinates"
    assert "1 of 2 rows of 'places.txt' have no coordinates" in done.points.notes


def test_coordinates_without_spectra_are_told(field):
    text = "name,lon,lat\noak,12.5,48.1\ntar,12.6,48.2\nlake,12.7,48.3\n,12,48\n"
    done = import_spectra([field], coordinates=places(field / "places.txt", text))
    assert done.unused == ("lake",)


def test_the_column_that_names_most_spectra_is_taken(field):
    text = (
        "id;comment;spectrum;y_coord;east;north\n7;a;OAK;0;500000,5;5300000\n8;b;tar;0;500010;1\n"
    )
    places(field / "places.txt", text)
    done = import_spectra([field], coordinates=field / "places.txt", crs="EPSG:32633")
    assert done.points.ids == ("OAK", "tar")
    assert done.points.x[0] == 500000.5
    assert done.points.attributes["id"] == ("7", "8")
    assert done.points.attributes["comment"] == ("a", "b")
    assert "spectrum" not in done.points.attributes


def test_positions_in_the_files_need_no_table(tmp_path):
    sig(tmp_path / "a.sig", 0.1, "09230.0W, 09236.0W", "4630.0N, 4630.0N")
    sig(tmp_path / "b.sig", 0.2, "09230.0W, 09230.0W", "4636.0N, 4636.0N")
    sig(tmp_path / "c.sig", 0.3)
    done = import_spectra([tmp_path])
    assert done.points.ids == ("a", "b")
    np.testing.assert_allclose(done.points.x, [-92.6, -92.5])
    np.testing.assert_allclose(done.points.y, [46.5, 46.6])
    assert [(one.name, one.reason) for one in done.left_out] == [("c", "its file has no position")]


def test_positions_in_the_files_are_brought_to_the_tables_system(tmp_path):
    sig(tmp_path / "a.sig", 0.1, "01230.0E, 01230.0E", "4806.0N, 4806.0N")
    sig(tmp_path / "b.sig", 0.2)
    text = "name,x,y\nb,320000,5330000\n"
    done = import_spectra(
        [tmp_path], coordinates=places(tmp_path / "p.txt", text), crs="EPSG:32633"
    )
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True)
    by_name = dict(
        zip(done.points.ids, zip(done.points.x, done.points.y, strict=True), strict=True)
    )
    assert by_name["a"] == pytest.approx(to_utm.transform(12.5, 48.1))
    assert by_name["b"] == (320000, 5330000)


def test_eastings_in_a_table_of_spectra_need_a_system(tmp_path):
    rows = "id,easting,northing,400,500,600\na,320000,5330000,.1,.2,.3\nb,320010,5330000,.1,.2,.3\n"
    (tmp_path / "s.csv").write_text(rows)
    with pytest.raises(PointsError, match=r"none of 2 spectra .* has a place: give --crs"):
        import_spectra([tmp_path / "s.csv"])
    done = import_spectra([tmp_path / "s.csv"], crs="EPSG:32633")
    np.testing.assert_array_equal(done.points.x, [320000, 320010])
    assert CRS.from_wkt(done.points.crs_wkt).to_epsg() == 32633
    assert set(done.points.attributes) == {"replicates", "source_files"}


def test_coordinates_of_a_geopackage_and_geojson(field):
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.GeoDataFrame(
        {"plot": [1.0, 2.0], "target": ["Oak", "TAR"], "cover": ["tree", None]},
        geometry=geopandas.points_from_xy([320000, 320100], [5330000, 5330100]),
        crs="EPSG:32633",
    )
    frame.to_file(field / "p.gpkg", layer="places")
    frame.to_crs(4326).to_file(field / "p.geojson")
    from_gpkg = import_spectra([field / "oak.csv", field / "tar.csv"], coordinates=field / "p.gpkg")
    assert from_gpkg.points.ids == ("Oak", "TAR")
    np.testing.assert_array_equal(from_gpkg.points.x, [320000, 320100])
    assert from_gpkg.points.attributes["cover"] == ("tree", None)
    assert from_gpkg.points.attributes["plot"] == ("1", "2")
    from_json = import_spectra([field], coordinates=field / "p.geojson")
    assert CRS.from_wkt(from_json.points.crs_wkt).to_epsg() == 4326
    with pytest.raises(PointsError, match="has no layer 'other', it has 'places'"):
        read_coordinates(field / "p.gpkg", layer="other")


def test_spectra_of_several_instruments_keep_their_own_range(tmp_path):
    table(tmp_path / "a.csv", ["a"], [np.linspace(0.1, 0.7, 61)])
    fine = np.arange(500.0, 801.0, 5.0)
    table(tmp_path / "b.csv", ["b"], [np.linspace(0.2, 0.4, 61)], fine)
    text = "name,lon,lat\na,1,1\nb,2,2\n"
    points = import_spectra([tmp_path], coordinates=places(tmp_path / "p.txt", text)).points
    np.testing.assert_array_equal(points.wavelengths_nm, np.union1d(WAVELENGTHS, fine))
    np.testing.assert_allclose(points.reflectance[0], np.interp(
        points.wavelengths_nm, WAVELENGTHS, np.linspace(0.1, 0.7, 61)))  # fmt: skip
    inside = (points.wavelengths_nm >= 500) & (points.wavelengths_nm <= 800)
    np.testing.assert_array_equal(np.isfinite(points.reflectance[1]), inside)
    assert any("2 wavelength grids" in note for note in points.notes)


def test_a_scan_unlike_the_others_is_named_and_kept(tmp_path):
    rng = np.random.default_rng(1)
    values = 0.3 + rng.normal(0, 0.002, (10, len(WAVELENGTHS)))
    values[6] *= 0.4
    names = [f"oak_{number:02d}" for number in range(10)]
    table(tmp_path / "oak.csv", names, values.round(6))
    text = "name,lon,lat\noak,1,1\n"
    points = import_spectra([tmp_path], coordinates=places(tmp_path / "p.txt", text)).points
    assert any("1 scan is unlike the others of their target ('oak_06')" in n for n in points.notes)
    assert points.attributes["scans_unlike"] == ("oak_06",)
    assert points.attributes["replicates"] == (10,)
    np.testing.assert_allclose(points.reflectance[0], values.mean(0), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    arrays("f8", st.tuples(st.integers(1, 8), st.integers(1, 12)), elements=st.floats(0, 1)),
    st.integers(0, 2**32 - 1),
)
def test_mean_and_deviation_are_numpys_over_what_there_is(values, seed):
    values[np.random.default_rng(seed).random(values.shape) < 0.3] = np.nan
    mean, spread = mean_and_spread(values)
    for at, column in enumerate(values.T):
        own = column[np.isfinite(column)]
        assert mean[at] == pytest.approx(own.mean() if len(own) else np.nan, nan_ok=True)
        expected = own.std(ddof=1) if len(own) > 1 else np.nan
        assert spread[at] == pytest.approx(expected, nan_ok=True, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(5, 30), st.integers(0, 2**32 - 1), st.floats(0.5, 3.0))
def test_one_far_scan_is_told_and_like_scans_are_not(count, seed, factor):
    rng = np.random.default_rng(seed)
    values = 0.3 + rng.normal(0, 0.003, (count, 40))
    assert unlike_the_others(values) == []
    far = int(rng.integers(count))
    values[far] *= 1 + factor
    assert unlike_the_others(values) == [far]


def test_few_scans_tell_nothing():
    assert unlike_the_others(np.array([[0.1], [0.1], [0.9]])) == []


@pytest.mark.parametrize("other", ["OAK_01", "oak 01", "Oak-01.asd", "oak.01", "oak__01.asd.txt"])
def test_names_are_alike_whatever_their_case_and_marks(other):
    assert plain_key(other) == plain_key("oak_01")
    assert plain_key(other) != plain_key("oak_02")


def test_an_import_is_read_back_as_it_was(field):
    points = import_spectra([field], coordinates=field / "places.txt").points
    write_points(points, field / "field.gpkg")
    back = read_points(field / "field.gpkg")
    assert back.ids == points.ids
    np.testing.assert_allclose(back.wavelengths_nm, points.wavelengths_nm, atol=1e-3)
    np.testing.assert_allclose(back.reflectance, points.reflectance, atol=1e-6)
    np.testing.assert_allclose(back.spread, points.spread, atol=1e-6)
    np.testing.assert_array_equal([back.x, back.y], [points.x, points.y])
    assert back.attributes["replicates"] == (3, 2)
    assert not any("not used" in note for note in back.notes)


def test_what_a_folder_holds_besides_is_left_out_with_its_reason(field):
    (field / "notes.txt").write_text("cloudy after ten\n")
    (field / ".hidden.csv").write_text("name,400,410\nx,1,2\n")
    sub = field / "day 2"
    sub.mkdir()
    table(sub / "lake.csv", ["lake"], levels(0.02))
    text = "name,lon,lat\noak,1,1\ntar,2,2\nlake,3,3\n"
    done = import_spectra([field], coordinates=places(field / "places.txt", text))
    assert done.points.ids == ("lake", "oak", "tar")
    (left,) = done.left_out
    assert left.name == "notes.txt"
    assert left.reason.startswith("is no spectrometer file")


def test_a_file_that_was_named_must_be_readable(field):
    (field / "notes.txt").write_text("cloudy after ten\n")
    with pytest.raises(PointsError, match="is no spectrometer file"):
        import_spectra([field / "oak.csv", field / "notes.txt"], coordinates=field / "places.txt")


def test_a_library_and_its_header_are_one(tmp_path):
    values = np.array([[0.1, 0.2], [0.3, 0.4]], "<f4")
    (tmp_path / "lib.sli").write_bytes(values.tobytes())
    (tmp_path / "lib.hdr").write_text(
        "ENVI\nsamples = 2\nlines = 2\nbands = 1\ndata type = 4\nfile type = ENVI Spectral Library\n"
        "spectra names = {oak, tar}\nwavelength = {400, 500}\n"
    )
    places(tmp_path / "places.txt")
    for given_ in ([tmp_path], [tmp_path / "lib.hdr", tmp_path / "lib.sli"]):
        done = import_spectra(given_, coordinates=tmp_path / "places.txt")
        assert (done.files, done.spectra) == (1, 2)


def test_an_export_beside_its_original_is_no_second_scan(tmp_path):
    sig(tmp_path / "a.sig", 0.1, "01230.0E, 01230.0E", "4806.0N, 4806.0N")
    table(tmp_path / "a.sig.txt", ["a.sig"], levels(0.1))
    done = import_spectra([tmp_path])
    assert done.points.attributes["replicates"] == (1,)
    assert done.left_out[0].reason == "an export of 'a.sig', which is read"


def test_spectra_without_a_number_are_left_out(tmp_path):
    text = "name,Latitude,Longitude,400,410,420\na,1,1,0.1,0.2,0.3\nb,1,2,-9999,-9999,NA\n"
    (tmp_path / "s.csv").write_text(text)
    done = import_spectra([tmp_path / "s.csv"])
    assert done.points.ids == ("a",)
    assert [one.name for one in done.left_out] == ["b"]


def test_files_that_differ_in_unit_by_size_are_told(tmp_path):
    table(tmp_path / "a.csv", ["a"], levels(0.5))
    table(tmp_path / "b.csv", ["b"], levels(40.0))
    text = "name,lon,lat\na,1,1\nb,2,2\n"
    points = import_spectra([tmp_path], coordinates=places(tmp_path / "p.txt", text)).points
    np.testing.assert_allclose(points.reflectance[:, 0], [0.5, 0.4])
    (told,) = (note for note in points.notes if note.startswith("units that files do not state"))
    assert "reflectance 0-1: 'a.csv'; reflectance in percent, divided by 100: 'b.csv'" in told


def test_files_of_one_format_that_state_no_unit_get_one(tmp_path):
    table(tmp_path / "grass.csv", ["grass"], levels(30.0))
    table(tmp_path / "water.csv", ["water", "water_sd"], levels(1.2, 0.1))
    text = "name,lon,lat\ngrass,1,1\nwater,2,2\n"
    points = import_spectra([tmp_path], coordinates=places(tmp_path / "p.txt", text)).points
    np.testing.assert_allclose(points.reflectance[:, 0], [0.3, 0.012])
    np.testing.assert_allclose(points.spread[:, 0], [np.nan, 0.001])
    assert "reflectance in percent, divided by 100 (by size): 2 files" in points.notes
    assert not any(note.startswith("units that files") for note in points.notes)


def test_one_file_in_percent_among_many_keeps_its_unit(tmp_path):
    for name, level in (("a", 0.3), ("b", 0.4), ("c", 0.5), ("d", 30.0)):
        table(tmp_path / f"{name}.csv", [name], levels(level))
    text = "name,lon,lat\na,1,1\nb,2,2\nc,3,3\nd,4,4\n"
    points = import_spectra([tmp_path], coordinates=places(tmp_path / "p.txt", text)).points
    np.testing.assert_allclose(points.reflectance[:, 0], [0.3, 0.4, 0.5, 0.3])


def test_deviations_in_a_file_are_the_spread_of_a_single_scan(tmp_path):
    table(tmp_path / "oak.csv", ["oak", "oak_std"], levels(0.3, 0.02))
    table(tmp_path / "tar.csv", ["tar_1", "tar_1_std", "tar_2"], levels(0.1, 0.01, 0.2))
    text = "name,lon,lat\noak,1,1\ntar,2,2\n"
    points = import_spectra([tmp_path], coordinates=places(tmp_path / "p.txt", text)).points
    assert points.attributes["replicates"] == (1, 2)
    np.testing.assert_allclose(points.reflectance[:, 0], [0.3, 0.15])
    np.testing.assert_allclose(points.spread[:, 0], [0.02, np.std([0.1, 0.2], ddof=1)])
    assert "standard deviations of 1 point are those in the files" in points.notes
    assert any("1 point with replicates give way" in note for note in points.notes)


def test_a_second_column_in_doubt_is_told(tmp_path):
    (tmp_path / "snow.csv").write_text("400,0.9,0.03\n410,0.9,0.03\n420,0.8,0.02\n")
    text = "name,lon,lat\nsnow 1,1,1\nsnow 2,2,2\n"
    points = import_spectra([tmp_path], coordinates=places(tmp_path / "p.txt", text)).points
    assert len(points) == 2
    assert any(note.startswith("in doubt: a second column") for note in points.notes)


def test_small_eastings_are_taken_in_the_system_that_is_given(field):
    given_ = places(field / "places.txt", "name,x,y\noak,10,20\ntar,12,25\n")
    found = read_coordinates(given_, crs="EPSG:32633")
    np.testing.assert_array_equal([found.x, found.y], [[10, 12], [20, 25]])
    assert CRS.from_wkt(found.crs_wkt).to_epsg() == 32633


@pytest.mark.parametrize(
    ("text", "options", "error", "said"),
    [
        ("name,a,b\noak,1,2\n", {}, PointsError, "two of coordinates are needed"),
        ("name,lon,lat\n", {}, PointsError, "has a header and no places"),
        ("name,lon,lat\noak,,\n", {}, PointsError, "has no row with two coordinates"),
        ("name,lon,lat\noak,x,2\n", {}, PointsError, "has the text 'x' in column 2"),
        ("name,x,y\noak,320000,5330000\n", {}, PointsError, "are no degrees.*give --crs"),
        ("name,lon,lat\noak,1,1\n", {"crs": "EPSG:32633"}, SettingsError, "look like degrees"),
        ("name,x,y\noak,320000,1\n", {"crs": "EPSG:4326"}, SettingsError, "are no degrees"),
        ("name,x,y\noak,1,1\n", {"crs": "utm"}, SettingsError, "'utm' is not known"),
        ("name,lon,lat\nfir,1,1\n", {}, PointsError, "none of 5 spectra .* is named in"),
        ("name,lon,lat\noak,1,1\noak,2,2\n", {}, PointsError, "gives 'oak' several places"),
        ("name,lon,lat\noak,1,1\n", {"group_by": "day"}, SettingsError, "cannot group by 'day'"),
        ("name,lon,lat\noak,1,1\n", {"group_by": "prefix:("}, SettingsError, "no regular express"),
        ("name,lon,lat\noak,1,1\n", {"group_by": "column:x"}, SettingsError, "no spectrum has 'x'"),
    ],
)
def test_bad_coordinates_and_options_are_refused_in_one_line(field, text, options, error, said):
    given_ = places(field / "places.txt", text)
    with pytest.raises(error, match=said) as caught:
        import_spectra([field], coordinates=given_, **options)
    assert "\n" not in str(caught.value)


def test_missing_folders_and_places_are_refused(tmp_path, field):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PointsError, match="has no files"):
        import_spectra([tmp_path / "empty"])
    with pytest.raises(PointsError, match=r"none of 5 spectra .* has a place: give --coordinates"):
        import_spectra([field])
    with pytest.raises(PointsError, match="a table of coordinates is needed"):
        import_spectra([field], coordinates=field / "none.csv")
    (tmp_path / "empty" / "notes.txt").write_text("nothing\n")
    with pytest.raises(PointsError, match=r"no spectra in .* \(1 left out\)"):
        import_spectra([tmp_path / "empty"])


def test_the_gulfport_spectra_become_a_point_per_target(shared_data, tmp_path):
    folder = shared_data / "muufl_gulfport" / "ASD_Spectra"
    targets = sorted(
        {path.stem.split("__")[0] for path in folder.glob("*__*.txt")} - {"ASD_Spectra"}
    )
    rows = [f"{name.upper()},{294700 + at},{3359700 - at}\n" for at, name in enumerate(targets)]
    text = "target,easting,northing\n" + "".join(rows)
    done = import_spectra(
        [folder],
        coordinates=places(tmp_path / "places.csv", text),
        crs="EPSG:32616",
        group_by="prefix:[^_]+",
    )
    assert (done.files, done.spectra, len(done.points)) == (61, 560, len(targets))
    assert sum(done.points.attributes["replicates"]) == 560
    assert [one.name for one in done.left_out] == ["ASD_Spectra__README.txt"]
    # Ten scans in one file, averaged by another reader.
    at = [name.casefold() for name in done.points.ids].index("redcloth")
    text = (folder / "RedCloth__RedCloth01_10.txt").read_text().replace(",", " ")
    flat = np.loadtxt(text.splitlines())
    np.testing.assert_allclose(done.points.reflectance[at], flat[:, 1::2].mean(1), atol=1e-12)
    np.testing.assert_allclose(done.points.spread[at], flat[:, 1::2].std(1, ddof=1), atol=1e-12)
    write_points(done.points, tmp_path / "field.gpkg")
    back = read_points(tmp_path / "field.gpkg")
    np.testing.assert_allclose(back.reflectance, done.points.reflectance, atol=1e-6)


def test_real_coordinates_are_taken_in_degrees_or_in_the_system_that_is_given(shared_data):
    path = shared_data / "muufl_gulfport" / "MUUFL_Gulfport_GroundTruth.csv"
    degrees, utm = read_coordinates(path), read_coordinates(path, crs="EPSG:32616")
    assert len(degrees) == len(utm) == 64
    assert degrees.columns["Targets_ID"][:2] == ("Target_1", "Target_2")
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32616", always_xy=True)
    x, y = to_utm.transform(degrees.x, degrees.y)
    # Its degrees have four decimals.
    np.testing.assert_allclose([x, y], [utm.x, utm.y], atol=12)


def test_the_asd_folder_is_ten_scans_and_ten_exports(shared_data, tmp_path):
    text = "name,lon,lat\n" + "".join(f"ribb{n:05d},11.{n},48\n" for n in range(1, 11))
    done = import_spectra(
        [shared_data / "spectra" / "asd_binary"],
        coordinates=places(tmp_path / "places.csv", text),
    )
    assert (done.files, len(done.points), len(done.left_out)) == (10, 10, 10)


def test_coordinates_may_be_degrees_minutes_and_seconds(field):
    text = "name;lat;lon\noak;53°30'36\"N;12 15 E\ntar;S 33° 30';12,5\n"
    done = import_spectra([field], coordinates=places(field / "places.txt", text))
    np.testing.assert_allclose(done.points.x, [12.25, 12.5])
    np.testing.assert_allclose(done.points.y, [53.51, -33.5])


def test_marks_between_digits_tell_plots_apart(tmp_path):
    table(tmp_path / "s.csv", ["P11-1", "P1-12", "a 1"], levels(0.1, 0.2, 0.3))
    text = "name,lon,lat\nP1-11,1,1\nP1_12,2,2\nA1,3,3\n"
    done = import_spectra([tmp_path / "s.csv"], coordinates=places(tmp_path / "p.txt", text))
    assert done.points.ids == ("P1_12", "A1")
    assert [one.name for one in done.left_out] == ["P11-1"]


def test_names_alike_but_for_their_marks_at_several_places_are_matched_exactly(tmp_path):
    table(tmp_path / "s.csv", ["a-b", "A B", "c 1"], levels(0.1, 0.2, 0.3))
    text = "name,lon,lat\na-b,1,1\nab,2,2\nc1,3,3\n"
    done = import_spectra([tmp_path / "s.csv"], coordinates=places(tmp_path / "p.txt", text))
    assert done.points.ids == ("a-b", "c1")
    assert [one.name for one in done.left_out] == ["A B"]
