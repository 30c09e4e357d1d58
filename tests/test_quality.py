import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.quality import NEARBY, assess_points, quality_table
from pixelssr_geo.scene import pixel_grid
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.testing import make_points, make_scene

BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"


def fine_points(count=8):
    """Spectra every nanometre from 350 to 2500 nm, as a field spectrometer's."""
    points = make_points(count)
    nm = np.arange(350.0, 2501)
    rows = [np.interp(nm, points.wavelengths_nm, row) for row in points.reflectance]
    rough = np.random.default_rng(0).normal(0, 2e-4, (count, len(nm)))
    return replace(points, wavelengths_nm=nm, reflectance=np.array(rows) + rough)


def kinds(quality):
    """Kinds of the warnings and faults of each point that has some."""
    return {
        point.id: {finding.kind for finding in point.findings if finding.severity != "note"}
        for point in quality.points
        if point.flagged
    }


def at_pixels(points, scene, rows, cols):
    """The points moved to pixels."""
    x, y = pixel_grid(scene).to_world(np.array(rows), np.array(cols))
    return replace(points, x=x, y=y)


def test_what_is_dark_is_told_once_for_all_points(monkeypatch):
    quality = importlib.import_module("pixelssr_geo.quality")
    calls, plain = [], np.median
    monkeypatch.setattr(quality.np, "median", lambda *a, **k: calls.append(1) or plain(*a, **k))
    counts = []
    for count in (20, 40):
        calls.clear()
        points = make_points(count)
        surroundings = quality._Surroundings.of(
            make_scene(), points, pair_points(make_scene(), points)
        )
        calls.clear()
        assert len(surroundings.places()) == count
        counts.append(len(calls))
    assert counts == [0, 0]


def test_a_scene_whose_other_bands_are_empty_is_no_place_without_data():
    scene = make_scene()
    scene.values[3] = np.nan
    channels = ChannelGrid.from_spec("400:750:10")
    found = assess_points(make_points(8), scene, channels=channels)
    assert all(point.used for point in found.points)
    assert all(np.isnan(point.place.nodata_distance) for point in found.points)


def test_a_range_that_some_spectra_exceed_is_told():
    points = make_points(30)
    points.reflectance[1:, points.wavelengths_nm > 900] = np.nan
    assert any("1 of 30 spectra go beyond" in n for n in assess_points(points, make_scene()).notes)


class TestSpectrum:
    def test_of_good_spectra_nothing_is_said(self):
        assert kinds(assess_points(fine_points())) == {}
        assert kinds(assess_points(make_points())) == {}

    def test_coverage_is_the_share_of_channels(self):
        points = fine_points()
        points.reflectance[2, points.wavelengths_nm > 700] = np.nan
        quality = assess_points(points)
        assert quality.points[1].spectrum.coverage == 1
        assert quality.points[2].spectrum.coverage == pytest.approx(0.5, abs=0.02)
        assert kinds(quality) == {"p3": {"too few valid channels"}}
        assert not quality.points[2].used

    @settings(max_examples=20, deadline=None)
    @given(st.floats(0.1, 0.3))
    def test_noise_is_measured_and_told(self, size):
        points = make_points(8)
        draws = np.random.default_rng(0).standard_normal(61)
        points.reflectance[3] *= 1 + size * draws
        quality = assess_points(points)
        assert kinds(quality) == {"p4": {"noisy"}}
        # The dark part counts in reflectance, so that noise of so many per cent is told as less.
        assert 0.2 * size < quality.points[3].spectrum.noise < 1.5 * size

    def test_a_single_noisy_spectrum_is_told_without_others(self):
        points = make_points(1)
        points.reflectance[0] *= 1 + 0.15 * np.random.default_rng(0).standard_normal(61)
        assert kinds(assess_points(points)) == {"p1": {"noisy"}}

    def test_a_cut_off_top_is_saturated(self):
        points = fine_points()
        row = points.reflectance[1]
        row[:] = np.minimum(row, 0.7 * row.max())
        assert kinds(assess_points(points)) == {"p2": {"saturated"}}

    def test_a_rounded_smooth_top_is_not(self):
        points = fine_points()
        nm = points.wavelengths_nm
        points.reflectance[1] = np.round(0.3 + 0.1 * np.sin(nm / 120), 3)
        points.reflectance[2] = 0.25
        assert kinds(assess_points(points)) == {}

    def test_more_light_than_there_is_is_saturated(self):
        points = fine_points()
        points.reflectance[1, 300:320] = 1.3
        assert "saturated" in kinds(assess_points(points))["p2"]

    @pytest.mark.parametrize(("joint", "flagged"), [(1000.0, True), (1830.0, False)])
    def test_steps_at_detector_joints_are_measured(self, joint, flagged):
        points = fine_points()
        points.reflectance[1, points.wavelengths_nm > joint] *= 1.1
        quality = assess_points(points)
        own = quality.points[1].spectrum
        assert own.step == pytest.approx(0.1, abs=0.02)
        assert own.step_nm == joint
        # A joint beyond the channels is told as a note.
        assert kinds(quality) == ({"p2": {"step"}} if flagged else {})
        assert quality.counts()["step"] == 1

    def test_a_slope_or_coarse_sampling_is_no_step(self):
        points = fine_points()
        nm = points.wavelengths_nm
        points.reflectance[1] *= 1 + (nm - 1000) / 800
        quality = assess_points(points)
        assert np.isnan(quality.points[1].spectrum.step)
        assert np.isnan(assess_points(make_points()).points[0].spectrum.step)

    def test_water_vapour_matters_where_there_are_channels(self):
        points = fine_points()
        assert "water vapour" not in assess_points(points).counts()
        assert assess_points(points).points[0].spectrum.water_vapour == 71 + 151
        from pixelssr_geo.spectra import ChannelGrid

        wide = assess_points(points, channels=ChannelGrid.from_spec("400:2400:10"))
        assert wide.counts()["water vapour"] == 8

    def test_negative_values_are_a_note_unless_they_are_deep(self):
        points = make_points(6)
        points.reflectance[1, :3] = -0.002
        points.reflectance[2, :3] = -0.05
        quality = assess_points(points)
        assert quality.counts()["negative"] == 2
        assert "negative" in kinds(quality)["p3"]
        assert "negative" not in kinds(quality).get("p2", set())
        assert quality.points[2].spectrum.lowest == -0.05

    @pytest.mark.parametrize(("factor", "cure"), [(100.0, "divide"), (0.005, "multiply")])
    def test_another_unit_than_the_others(self, factor, cure):
        points = make_points(6)
        points.reflectance[4] *= factor
        quality = assess_points(points)
        (finding,) = quality.points[4].findings[:1]
        assert (finding.kind, finding.severity) == ("units", "fault")
        assert finding.cure.startswith(cure)
        assert {point.id for point in quality.points if point.flagged} == {"p5"}

    def test_equal_spectra_and_equal_ids(self):
        points = make_points(6)
        points.reflectance[4] = points.reflectance[1]
        points = replace(points, ids=("a", "b", "c", "d", "e", "a"))
        quality = assess_points(points)
        assert quality.points[1].spectrum.same_as == ("e",)
        assert quality.points[4].spectrum.same_as == ("b",)
        assert kinds(quality) == {
            "b": {"same spectrum"},
            "e": {"same spectrum"},
            "a": {"duplicate id"},
        }
        assert [point.used for point in quality.points] == [True] * 5 + [False]

    def test_replicates_that_differ(self):
        points = make_points(6)
        spread = 0.02 * points.reflectance
        spread[3] *= 10
        spread[5] = np.nan
        quality = assess_points(replace(points, spread=spread))
        assert quality.points[3].spectrum.replicate_spread == pytest.approx(0.2)
        assert np.isnan(quality.points[5].spectrum.replicate_spread)
        assert kinds(quality) == {"p4": {"replicates"}}

    def test_what_cannot_be_used_anywhere(self):
        points = make_points(6)
        points.reflectance[0] = np.nan
        points.reflectance[1, 4] = np.inf
        assert kinds(assess_points(points)) == {"p1": {"not finite"}, "p2": {"not finite"}}

    def test_spectra_beyond_the_usual_channels_have_their_own(self):
        nm = np.linspace(1500, 2400, 61)
        quality = assess_points(replace(make_points(3), wavelengths_nm=nm))
        assert quality.channels.centres_nm[[0, -1]].tolist() == [1500, 2400]
        assert all(point.used for point in quality.points)


class TestPlace:
    def test_points_that_share_a_pixel_name_each_other(self):
        points = make_points(6)
        points.x[3], points.y[3] = points.x[0] + 1, points.y[0] - 1
        quality = assess_points(points, make_scene())
        assert quality.points[0].place.sharing == ("p4",)
        assert quality.points[3].place.sharing == ("p1",)
        assert quality.points[1].place.sharing == ()

    def test_distances_to_edge_and_nodata(self):
        scene = make_scene()
        scene.values[:, 10, 12] = np.nan
        rows, cols = [0, 20, 10, 13, 10, 39], [25, 47, 12, 16, 40, 10]
        points = at_pixels(make_points(6), scene, rows, cols)
        places = [point.place for point in assess_points(points, scene).points]
        assert [place.edge_distance for place in places] == [0, 2, 10, 13, 9, 0]
        found = [place.nodata_distance for place in places]
        np.testing.assert_allclose(found, [np.nan, np.nan, 0, 5, np.nan, np.nan])

    def test_one_band_without_data_is_nodata(self):
        scene = make_scene()
        scene.values[2, 10, 12] = np.nan
        points = at_pixels(make_points(1), scene, [10], [13])
        assert assess_points(points, scene).points[0].place.nodata_distance == 1

    def test_outside_the_scene_there_is_nothing_to_measure(self):
        points = make_points(6)
        points.x[2] += 1e6
        quality = assess_points(points, make_scene())
        place = quality.points[2].place
        assert not place.inside
        assert place.edge_distance < 0
        assert np.isnan([place.z, place.nodata_distance, place.roughness]).all()
        assert kinds(quality) == {"p3": {"outside"}}

    def test_roughness_is_that_of_the_neighbours(self):
        scene = make_scene()
        scene.values[:] = 0.3
        scene.values[:, 19:22, 29:32] = 0.6
        scene.values[:, 20, 30] = 0.3
        points = at_pixels(make_points(2), scene, [10, 20], [10, 30])
        places = [point.place for point in assess_points(points, scene).points]
        assert places[0].roughness == 0
        assert places[1].roughness == pytest.approx(0.61, abs=0.02)  # log(0.66 / 0.36)

    def test_ids_that_are_there_twice_keep_their_reasons(self):
        points = replace(make_points(6), ids=("a", "b", "a", "c", "d", "e"))
        points.x[5] += 1e6
        quality = assess_points(points, make_scene())
        assert kinds(quality) == {"a": {"duplicate id"}, "e": {"outside"}}
        assert [point.used for point in quality.points] == [True, True, False, True, True, False]


class TestAgreement:
    def test_scores_are_those_of_the_pairing(self):
        points = make_points(20)
        quality = assess_points(points, make_scene())
        expected = pair_points(make_scene(), points).matches.scores.z
        np.testing.assert_array_equal([point.place.z for point in quality.points], expected)

    def test_a_moved_point_is_told_where_it_agrees(self):
        points = make_points(30)
        grid = pixel_grid(make_scene())
        _, cols = grid.to_pixels(points.x, points.y)
        at = int(np.flatnonzero(cols < 40)[0])
        right = replace(points, x=points.x + np.where(np.arange(30) == at, 24.0, 0))
        point = assess_points(right, make_scene()).points[at]
        assert point.suspicious
        assert (point.place.shift.rows, point.place.shift.cols) == (0, -3)
        assert (point.place.shift.dx, point.place.shift.dy) == (-24, 0)
        assert point.place.shift.z_after < 1 < point.place.shift.z_before
        # Told, and not done.
        assert point.place.col == cols[at] + 3

    def test_a_scaled_point_is_told_the_factor(self):
        points = make_points(20)
        points.reflectance[3] *= 0.1
        (finding,) = [
            finding
            for finding in assess_points(points, make_scene()).points[3].findings
            if finding.kind == "disagrees"
        ]
        assert finding.cure == "multiply it by 10"

    def test_a_shadow_is_no_other_ground(self):
        points = make_points(30)
        points.reflectance[3] *= 0.5
        point = assess_points(points, make_scene()).points[3]
        assert point.place.factor == pytest.approx(0.5, abs=0.03)
        if point.place.shift is None:
            assert "shadow" in point.findings[0].cure

    def test_a_shift_of_all_points_is_seen_in_common(self):
        points = make_points(30)
        grid = pixel_grid(make_scene())
        rows, cols = grid.to_pixels(points.x, points.y)
        inner = np.flatnonzero((rows > 3) & (cols < 45))
        moved = replace(points, x=points.x + 16, y=points.y + 8).take(inner)
        quality = assess_points(moved, make_scene())
        assert quality.common_shift == (1, -2)
        assert any("georeference" in note for note in quality.notes)
        assert assess_points(points, make_scene()).common_shift is None

    def test_points_in_another_unit_than_the_scene_are_told(self):
        points = make_points(12)
        quality = assess_points(replace(points, reflectance=points.reflectance / 100), make_scene())
        assert any("about 100 times" in note for note in quality.notes)
        assert kinds(quality) == {}

    def test_few_points_are_not_judged(self):
        quality = assess_points(make_points(2), make_scene())
        assert np.isnan([point.place.z for point in quality.points]).all()
        assert "too few points" in quality.notes[0]


class TestTable:
    def test_worst_come_first(self):
        points = make_points(20)
        points.x[4] += 1e6
        points.reflectance[7] *= 0.5
        points.reflectance[9] *= 0.2
        ids = [point.id for point in assess_points(points, make_scene()).worst_first()]
        assert ids[:3] == ["p5", "p10", "p8"]

    def test_it_is_json_with_none_for_what_is_not_known(self):
        import json

        points = make_points(6)
        points.reflectance[0] = np.nan
        table = quality_table(assess_points(points, make_scene()))
        assert json.loads(json.dumps(table, allow_nan=False)) == table
        assert table["quality"][0]["spectrum"]["level"] is None
        assert table["quality"][1]["place"]["z"] >= 0
        assert set(table["common"]["bands"]) == {"Blue", "Green", "Red", "NIR"}


def test_only_the_windows_around_points_are_read():
    scene = make_scene(shape=(96, 96)).chunk(y=8, x=8)
    touched = []
    watched = scene.copy(
        data=scene.data.map_blocks(
            lambda block: touched.append(1) or block, dtype="f4", meta=scene.data._meta
        )
    )
    points = at_pixels(make_points(3), scene, [20, 20, 70], [20, 21, 70])
    assess_points(points, watched)
    # A window touches at most 3 x 3 chunks, once; and each point's pixel is read for the pairing.
    assert NEARBY == 5
    assert len(touched) <= 2 * 9 + 2 + 2


@pytest.fixture
def field_faults():
    if not BENCHMARKS.is_dir():
        pytest.skip("the tests run beside an installed package")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("field_faults")


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_gross_faults_on_a_real_scene_are_found_with_few_false_alarms(
    benchmark_data, field_faults, noise
):
    found, planted = {}, {}
    for seed in range(2):
        here = field_faults.ground("potsdam", seed, benchmark_data)
        faults = field_faults.plant(here, 60, seed, noise)
        for row in field_faults.count_faults(here, faults, seed, noise):
            found[row["what"]] = found.get(row["what"], 0) + row["found"]
            planted[row["what"]] = planted.get(row["what"], 0) + row["planted"]
    certain = ("scaled x100", "id twice", "same spectrum", "on nodata", "outside", "NaN")
    assert {kind: found[kind] for kind in certain} == {kind: planted[kind] for kind in certain}
    assert found["another place"] >= planted["another place"] - 1
    assert found["moved 3 pixels"] >= 0.7 * planted["moved 3 pixels"]
    assert found["none (false alarms)"] <= 0.03 * planted["none (false alarms)"]


def test_points_of_a_file_with_attributes_are_judged_alike():
    points = make_points(6)
    more = PointSpectra(
        points.ids,
        points.x,
        points.y,
        points.crs_wkt,
        points.wavelengths_nm,
        points.reflectance,
        attributes={"class": ("soil",) * 6},
    )
    plain, other = (quality_table(assess_points(p, make_scene())) for p in (points, more))
    assert plain == other


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(np.nan)), max_size=9))
def test_what_is_usual_is_the_median_of_the_others(values):
    from pixelssr_geo.quality import _medians_of_others

    for at, found in enumerate(_medians_of_others(values)):
        others = [value for i, value in enumerate(values) if i != at and np.isfinite(value)]
        expected = np.median(others) if others else np.nan
        np.testing.assert_allclose(found, expected)


def test_the_tables_of_faulty_points_are_what_the_command_prints(field_faults):
    import csv

    page = BENCHMARKS.parents[1] / "docs" / "pages" / "benchmarks.md"
    if not page.is_file():
        pytest.skip("the tests run beside an installed package")
    with field_faults.RESULTS.open(newline="") as file:
        printed = field_faults.tables(list(csv.DictReader(file)))
    assert f"<!-- faults -->\n{printed}\n<!-- end -->" in page.read_text()
