"""Text tables of every layout, delimiter and decimal mark."""

import codecs
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files import read_spectra_file
from pixelssr_geo.spectra_files.deviations import deviation_rows

WAVELENGTHS = np.arange(400.0, 1000.0, 50.0)
NAMES = ("oak leaf", "bare_soil-2", "Tar")
VALUES = np.round(np.linspace(0.02, 0.8, 36).reshape(3, 12), 4)


def number(value, decimal="."):
    return "" if np.isnan(value) else f"{value:.10g}".replace(".", decimal)


def wide(names, wavelengths, values, *, mark=",", decimal=".", header="{}", corner="name"):
    rows = [[corner, *(header.format(number(w, decimal)) for w in wavelengths)]]
    rows += [
        [name, *(number(v, decimal) for v in row)] for name, row in zip(names, values, strict=True)
    ]
    return "\n".join(mark.join(row) for row in rows) + "\n"


def transposed(names, wavelengths, values, *, mark=",", decimal=".", corner="Wavelength"):
    rows = [[corner, *names]]
    rows += [
        [number(w, decimal), *(number(v, decimal) for v in column)]
        for w, column in zip(wavelengths, values.T, strict=True)
    ]
    return "\n".join(mark.join(row) for row in rows) + "\n"


def long(names, wavelengths, values, *, mark=",", decimal="."):
    rows = [["sample id", "wavelength_nm", "reflectance"]]
    for name, row in zip(names, values, strict=True):
        rows += [
            [name, number(w, decimal), number(v, decimal)]
            for w, v in zip(wavelengths, row, strict=True)
        ]
    return "\n".join(mark.join(row) for row in rows) + "\n"


LAYOUTS = {"wide": wide, "transposed": transposed, "long": long}


def read_text(text, encoding="utf-8", name="table.csv"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return read_spectra_file(path)


def check(spectra, names=NAMES, wavelengths=WAVELENGTHS, values=VALUES):
    assert tuple(one.name for one in spectra) == tuple(names)
    for one, row in zip(spectra, values, strict=True):
        np.testing.assert_allclose(one.wavelengths_nm, wavelengths, rtol=1e-9)
        np.testing.assert_allclose(one.reflectance, row, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("mark", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")]
)
def test_layouts_of_any_delimiter_and_decimal_mark(layout, mark, decimal):
    check(read_text(LAYOUTS[layout](NAMES, WAVELENGTHS, VALUES, mark=mark, decimal=decimal)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("oak leaf", "Ähre µ").encode("latin-1"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace("\n", "\n\n").encode() + b"\n,,,\n",
        lambda text: text.rstrip().encode(),
    ],
)
def test_layouts_of_any_encoding_and_line_end(layout, encoded):
    text = LAYOUTS[layout](NAMES, WAVELENGTHS, VALUES)
    raw = encoded(text)
    names = ("Ähre µ", *NAMES[1:]) if b"\xc4" in raw else NAMES
    check(read_text(raw), names=names)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("factor", "said"), [(1, "0-1"), (100, "percent"), (10_000, "x 10000")])
def test_units_are_recognised_by_size_and_recorded(layout, factor, said):
    spectra = read_text(LAYOUTS[layout](NAMES, WAVELENGTHS, VALUES * factor))
    check(spectra)
    assert said in spectra[0].attributes["unit"]
    assert spectra[0].attributes["unit"].endswith("(by size)")


def test_the_unit_is_one_for_the_whole_file():
    # In percent, and dark enough to look like 0-1 if it were alone.
    dark = np.vstack([np.full((1, 12), 1.5), VALUES[1:] * 100])
    spectra = read_text(long(NAMES, WAVELENGTHS, dark))
    np.testing.assert_allclose(spectra[0].reflectance, 0.015)


def test_noise_beyond_the_clear_range_does_not_decide_the_unit():
    wavelengths = np.arange(400.0, 2500.0, 50.0)
    values = np.full((1, len(wavelengths)), 0.5)
    values[0, -6:] = [300, -250, 40, 20, -80, 9]
    (one,) = read_text(wide(["a"], wavelengths, values))
    assert one.reflectance[0] == 0.5


def test_percent_in_the_header_is_believed():
    (one,) = read_text("Wavelength (nm),Reflectance (%)\n400,1.0\n410,1.5\n420,1.9\n", name="x.csv")
    assert one.name == "x"
    np.testing.assert_allclose(one.reflectance, [0.01, 0.015, 0.019])
    assert one.attributes["unit"] == "reflectance in percent, divided by 100 (stated)"


def test_numbers_and_words_in_the_names_of_spectra_say_nothing_of_units():
    names = ("soil 20 %", "plot 10000", "Country road DN 3")
    check(read_text(transposed(names, WAVELENGTHS, VALUES)), names=names)


@pytest.mark.parametrize(
    ("corner", "wavelengths", "said"),
    [
        ("Wavelength (Angstrom)", WAVELENGTHS * 10, "Angstrom (stated)"),
        ("Wavenumber (cm-1)", 1e7 / WAVELENGTHS, "1/cm (stated)"),
        ("wavelength_um", WAVELENGTHS / 1000, "um (stated)"),
        ("lambda", WAVELENGTHS, "nm (by size)"),
    ],
)
def test_the_unit_in_the_heading_of_wavelengths_is_taken(corner, wavelengths, said):
    spectra = read_text(transposed(NAMES, wavelengths, VALUES, corner=corner))
    np.testing.assert_allclose(spectra[0].wavelengths_nm, WAVELENGTHS, rtol=1e-6)
    assert spectra[0].attributes["wavelength_unit"] == said


def test_a_frequency_is_refused_by_name():
    with pytest.raises(PointsError, match=r"has wavelengths in 'GHz'.*convert them"):
        read_text(transposed(NAMES, WAVELENGTHS, VALUES, corner="Frequency [GHz]"))


@pytest.mark.parametrize("header", ["{}", "X{}", "wl_{}", "R_{}nm", "{} nm", "band {}"])
def test_headers_of_wavelengths_as_programs_write_them(header):
    check(read_text(wide(NAMES, WAVELENGTHS, VALUES, header=header)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_micrometres_are_recognised(layout):
    text = LAYOUTS[layout](NAMES, WAVELENGTHS / 1000, VALUES).replace("wavelength_nm", "wavelength")
    check(read_text(text))


def test_descending_wavelengths_are_turned_round():
    for layout in LAYOUTS.values():
        check(read_text(layout(NAMES, WAVELENGTHS[::-1], VALUES[:, ::-1])))


def test_a_wide_table_keeps_its_other_columns_and_position():
    text = (
        'Sample ID,Latitude,Longitude,"species, full",400,450,500\n'
        'a1,46.5,-92.25,"Quercus, alba",0.1,0.2,0.3\n'
        "a2,NA,,Acer,0.1,,-9999\n"
    )
    first, second = read_text(text)
    assert (first.name, first.x, first.y) == ("a1", -92.25, 46.5)
    assert first.attributes["species, full"] == "Quercus, alba"
    assert (second.name, second.x, second.y) == ("a2", None, None)
    np.testing.assert_array_equal(second.reflectance, [0.1, np.nan, np.nan])


def test_a_transposed_table_keeps_the_rows_above_the_wavelengths():
    text = (
        "File Name,a.asd,b.asd\nLatitude,46.5,46.6\nLongitude,-92.25,-92.5\nUnit,,\n"
        "Cover,oak,soil\n400,0.1,0.4\n410,0.2,0.5\n420,0.3,0.6\n"
    )
    first, second = read_text(text)
    assert [first.name, second.name] == ["a", "b"]
    assert (second.x, second.y) == (-92.5, 46.6)
    assert first.attributes["Cover"] == "oak"
    np.testing.assert_allclose(second.reflectance, [0.4, 0.5, 0.6])


def test_numbered_samples_are_told_from_wavelengths():
    wavelengths = np.arange(400.0, 2400.0, 100.0)
    values = np.tile(np.linspace(0.1, 0.5, 20), (3, 1))
    names = ["1001", "1002", "1003"]
    check(
        read_text(transposed(names, wavelengths, values, corner="sample")),
        names, wavelengths, values,
    )  # fmt: skip
    check(read_text(wide(names, wavelengths, values, corner="id")), names, wavelengths, values)


def test_an_instruments_header_above_the_columns_is_passed_over():
    text = (
        "Text conversion of header file C:\\data\\oak.001\n"
        "---------------------------------------------\n"
        "The instrument number was 1234/5\n"
        "Spectrum saved: 01/02/2020 at 10:11:12\n"
        "VNIR integration time : 17\n\n"
        "Wavelength\toak_001.asd\toak_002.asd\n"
        "350\t2.5E-1\t3.5E-1\n351\t2.6E-1\t3.6E-1\n352\t2.7E-1\t3.7E-1\n"
    )
    first, second = read_text(text, name="oak.asd.txt")
    assert [first.name, second.name] == ["oak_001", "oak_002"]
    np.testing.assert_allclose(second.reflectance, [0.35, 0.36, 0.37])


def test_columns_of_blanks_with_a_commented_header():
    text = (
        "#Wavelength in nm, Average Reflectance 350 to 352nm, Standard Deviation: N = 25, UT: ,18\n"
        "     350 0.0100807 0.00188929\n     351 0.0102516 0.00184465\n     352 0.0103 0.0018\n"
    )
    (one,) = read_text(text, name="lawn.txt")
    assert one.name == "lawn"
    np.testing.assert_allclose(one.reflectance, [0.0100807, 0.0102516, 0.0103])
    np.testing.assert_allclose(one.spread, [0.00188929, 0.00184465, 0.0018])
    assert "left_out" not in one.attributes


def test_an_unnamed_dark_second_column_is_kept_and_told():
    both = read_text("350.0 0.9 0.03\n351.0 0.9 0.03\n352.0 0.8 0.02\n", name="snow.txt")
    assert [one.name for one in both] == ["snow 1", "snow 2"]
    assert [one.reflectance[0] for one in both] == [0.9, 0.03]
    assert all("may be standard deviations" in one.attributes["doubt"] for one in both)
    plain = read_text("350.0 0.05 0.3\n351.0 0.06 0.3\n352.0 0.06 0.2\n")
    assert [one.attributes.get("doubt") for one in plain] == [None, None]


@pytest.mark.parametrize("mark", ["a_std", "a sd", "A_Stdev", "std a", "a (sd)", "a std dev"])
def test_columns_of_deviations_become_the_spread_of_their_spectrum(mark):
    text = f"wavelength,a,{mark},b\n400,10,1,20\n410,12,2,21\n420,14,-9999,22\n"
    first, second = read_text(text)
    assert [first.name, second.name] == ["a", "b"]
    np.testing.assert_allclose(first.reflectance, [0.1, 0.12, 0.14])
    np.testing.assert_allclose(first.spread, [0.01, 0.02, np.nan])
    assert second.spread is None
    assert "left_out" not in first.attributes


@pytest.mark.parametrize("mark", ["a_std", "a sd", "A_Stdev", "a (sd)", "a std dev"])
def test_rows_of_deviations_become_the_spread_of_their_spectrum(mark):
    text = f"name,cover,400,410,420\na,grass,10,12,14\n{mark},,1,2,-9999\nb,soil,20,21,22\n"
    first, second = read_text(text)
    assert [first.name, second.name] == ["a", "b"]
    np.testing.assert_allclose(first.reflectance, [0.1, 0.12, 0.14])
    np.testing.assert_allclose(first.spread, [0.01, 0.02, np.nan])
    assert second.spread is None
    assert [one.attributes["cover"] for one in (first, second)] == ["grass", "soil"]


def test_spectra_of_a_long_list_named_as_deviations_are_the_spread():
    rows = [("a", 0.2), ("a_sd", 0.01), ("b_sd", 0.3)]
    lines = [f"{name},{nm},{value}" for name, value in rows for nm in (400, 410, 420)]
    first, second = read_text("\n".join(["id,wavelength,reflectance", *lines]) + "\n")
    assert [first.name, second.name] == ["a", "b_sd"]
    np.testing.assert_allclose(first.spread, 0.01)
    assert second.spread is None


@given(
    of=st.sampled_from(["a", "oak 1", "P-7"]),
    word=st.sampled_from(["sd", "STD", "stdev", "std_dev", "standard deviation"]),
    mark=st.sampled_from([" ", "_", ".", "-"]),
    levels=st.lists(st.floats(1e-4, 2), min_size=3, max_size=3),
)
def test_rows_are_deviations_only_where_they_are_darker_and_nothing_is_negative(
    of, word, mark, levels
):
    values = np.outer(levels, [1.0, 2.0])
    names = [of, f"{of}{mark}{word}", "other"]
    assert deviation_rows(names, values) == ({0: 1} if levels[1] < levels[0] else {})
    assert deviation_rows(names, -values) == {}
    assert deviation_rows([of, of, f"{of}_sd"], values) == {}


def test_means_and_deviations_belong_together_by_their_names():
    text = "wavelength,oak mean,oak std,tar mean,tar std\n400,.1,.01,.2,.02\n410,.1,.01,.2,.02\n"
    oak, tar = read_text(text)
    assert [oak.name, tar.name] == ["oak mean", "tar mean"]
    assert [oak.spread[0], tar.spread[0]] == [0.01, 0.02]


def test_a_name_with_sd_in_it_and_no_partner_is_a_spectrum():
    names = ["site_sd_1", "site_sd_2"]
    spectra = read_text("wavelength,site_sd_1,site_sd_2\n400,.1,.2\n410,.1,.2\n420,.1,.2\n")
    assert [one.name for one in spectra] == names


def test_standard_errors_are_left_out():
    one, two = read_text("wavelength,a,b,a std err\n400,.1,.2,.01\n410,.1,.2,.01\n")
    assert one.spread is None
    assert two.attributes["left_out"] == "standard deviation"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2)])
def test_a_long_list_gives_spread_and_attributes_that_are_one_for_a_spectrum(order):
    columns = [
        ["id", "a", "a", "a", "b", "b", "b"],
        ["wavelength", *[400, 410, 420] * 2],
        ["reflectance", 10, 20, 30, 40, 50, 60],
        ["reflectance_std", 1, 2, 3, 4, 5, 6],
    ]
    more = [["cover", *"gggsss"], ["line", *range(6)]]
    rows = zip(*(columns[at] for at in order), *more, strict=True)
    a, b = read_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    np.testing.assert_allclose([a.spread, b.spread], [[0.01, 0.02, 0.03], [0.04, 0.05, 0.06]])
    np.testing.assert_allclose(b.reflectance, [0.4, 0.5, 0.6])
    assert [one.attributes["cover"] for one in (a, b)] == ["g", "s"]
    assert not {"line", "reflectance_std"} & set(a.attributes)


names_ = st.lists(
    st.text("abcXYZ _-äß", min_size=1, max_size=8).map(lambda s: f"s{s.strip()}e"),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip
grids = st.integers(5, 40).flatmap(
    lambda n: st.tuples(st.integers(300, 900), st.integers(1, 30), st.just(n))
)


@settings(max_examples=40, deadline=None)
@given(
    names_,
    grids,
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")]),
    st.data(),
)
def test_what_was_written_is_read(names, grid, layout, marks, data):
    start, step, count = grid
    wavelengths = start + step * np.arange(float(count))
    cell = st.integers(0, 9999).map(lambda v: v / 10_000) | st.just(float("nan"))
    rows = data.draw(
        st.lists(
            st.lists(cell, min_size=count, max_size=count), min_size=len(names), max_size=len(names)
        )
    )
    values = np.array(rows)
    # A column that is all missing at its end would be no column.
    values[:, 0] = values[:, -1] = 0.25
    text = LAYOUTS[layout](names, wavelengths, values, mark=marks[0], decimal=marks[1])
    single = layout != "long" and len(names) == 1
    spectra = read_text(text)
    assert len(spectra) == len(names)
    if not single:
        assert [one.name for one in spectra] == [" ".join(name.split()) for name in names]
    for one, row in zip(spectra, values, strict=True):
        np.testing.assert_allclose(one.wavelengths_nm, wavelengths)
        np.testing.assert_allclose(one.reflectance, row)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,400,410,420\n", "has a header and no data below it"),
        ("wavelength,reflectance\n", "has a header and no data below it"),
        ("id,wavelength,value\n", "has a header and no data below it"),
        ("name,400,410,420\na,0.1,x,0.3\nb,0.1,0.2,0.3\n", "line 2 of .* has the text 'x' in col"),
        (
            "wavelength,a\n400,0.1\n410,bad\n420,0.3\n",
            "line 3 of .* has the text 'bad' in column 2",
        ),
        (
            "wavelength,a\n400,0.1\nbad,0.2\n420,0.3\n",
            "line 3 of .* has the text 'bad' in column 1",
        ),
        ("name,400,410,410\na,0.1,0.2,0.3\n", "gives wavelength 410 nm twice"),
        ("name,400,420,410\na,0.1,0.2,0.3\n", "wavelengths that do not ascend"),
        ("wavelength,a\n400,0.1\n400,0.2\n410,0.3\n", "gives wavelength 400 nm twice"),
        ("wavelength,a\n400,0.1\n420,0.2\n410,0.3\n", "420 nm is followed by 410 nm"),
        ("wavelength,a\n400,0.1\n,0.2\n410,0.3\n420,0.3\n", "has 1 missing wavelengths of 4"),
        (
            "id,wavelength,value\na,400,0.1\na,400,0.2\na,410,0.3\nb,400,.1\nb,410,.1\nb,420,.1\n",
            "gives wavelength 400 nm twice",
        ),
        ("wavelength,DN\n400,0.5\n410,0.5\n420,0.3\n", "has values in 'DN'"),
        ("wavelength,a\n400,53000\n410,54000\n420,53000\n", "look like counts or radiance"),
        ("id,lon,lat\n1,12.5,48.1\n2,12.6,48.2\n3,12.7,48.3\n", "is no spectrometer file"),
        ("name,class\noak,tree\ntar,road\n", "is no spectrometer file"),
        ("just a note\nwithout numbers\n", "is no spectrometer file"),
        ('{"type": "FeatureCollection", "features": [400, 410, 420]}', "is no spectrometer file"),
    ],
)
def test_damaged_tables_are_refused_in_one_line(text, said):
    with pytest.raises(PointsError, match=said) as caught:
        read_text(text)
    assert "\n" not in str(caught.value)


def test_a_table_of_a_thousand_spectra_takes_no_ages(tmp_path):
    wavelengths = np.arange(350.0, 2500.0, 5.0)
    values = np.random.default_rng(0).uniform(0, 0.9, (1000, len(wavelengths))).round(4)
    names = [f"spectrum {number}" for number in range(1000)]
    check(read_text(wide(names, wavelengths, values)), names, wavelengths, values)


@pytest.mark.parametrize(
    ("name", "count", "low", "high", "skipped", "delimiter"),
    [
        ("lmu_insitu_1nm.txt", 9, 350, 2500, 1, "\t"),
        ("pasadena_BeckmanLawn.txt", 1, 350, 2500, 1, None),
        ("pasadena_Horse_Trial2.txt", 2, 350, 2500, 0, None),
    ],
)
def test_real_columns_agree_with_numpys_reading(
    shared_data, name, count, low, high, skipped, delimiter
):
    path = shared_data / "spectra" / name
    other = np.loadtxt(path, skiprows=skipped, delimiter=delimiter)
    spectra = read_spectra_file(path)
    assert len(spectra) == count
    assert spectra[0].wavelengths_nm[[0, -1]].tolist() == [low, high]
    found = [one.reflectance for one in spectra]
    np.testing.assert_allclose(found, other[:, 1 : 1 + count].T, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "count", "first", "columns"),
    [
        ("ossl_sample_visnir.csv", 20, "08N03473MD01_2011-06-17 18:02:30", 2151),
        ("spectrolab_spec_matrix_meta.csv", 10, "ACHMI_1", 2001),
    ],
)
def test_real_wide_tables_agree_with_pandas(shared_data, name, count, first, columns):
    pandas = pytest.importorskip("pandas")
    other = pandas.read_csv(shared_data / "spectra" / name)
    spectra = read_spectra_file(shared_data / "spectra" / name)
    assert len(spectra) == count
    assert spectra[0].name == first
    values = other[[column for column in other.columns if column.isdigit()]].to_numpy("f8")
    assert values.shape == (count, columns)
    np.testing.assert_allclose([one.reflectance for one in spectra], values, rtol=1e-12)


def test_real_tables_of_attributes_alone_are_no_spectra(shared_data):
    for name in ("earthlib_spectra.csv", "roberts2017_urban.csv", "prosail_soil_reflectance.txt"):
        with pytest.raises(PointsError, match="is no spectrometer file"):
            read_spectra_file(shared_data / "spectra" / name)


def test_a_year_beside_wavelengths_is_an_attribute():
    header = ",".join(["name", *map(str, range(400, 1001, 50)), "2021"])
    (one,) = read_text(f"{header}\noak,{','.join(['0.2'] * 13)},7\n")
    assert one.wavelengths_nm[-1] == 1000
    assert one.attributes["2021"] == "7"
    assert one.attributes["left_out"] == "columns 2021, far from the other wavelengths"


def test_two_years_are_no_wavelengths():
    with pytest.raises(PointsError, match="is no spectrometer file"):
        read_text("name,2019,2020\noak,0.1,0.2\ntar,0.2,0.3\n")


def test_a_in_the_heading_of_wavelengths_is_angstrom():
    (one,) = read_text("Wavelength (A),oak\n4000,0.1\n5000,0.2\n6000,0.3\n")
    assert one.wavelengths_nm.tolist() == [400, 500, 600]
