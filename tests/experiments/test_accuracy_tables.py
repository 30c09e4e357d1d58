"""The arithmetic of the tables, on rows made by hand."""

import json
from dataclasses import asdict

import pytest

from pixelssr_geo.experiments.accuracy import AccuracyCell, AccuracyResult
from pixelssr_geo.experiments.accuracy_tables import (
    accuracy_report,
    accuracy_tables,
    earlier_figures,
    figures,
    lost,
    mean_gains,
)
from pixelssr_geo.experiments.methods import METHODS
from pixelssr_geo.experiments.scenes import Ratio


def row(scene, method, psnr, *, seed=0, points="1%", protocol="random", noise="0.2%", **more):
    told = {"sam": 100 - psnr, "seconds": 1.0, "cv_rmse": None, "coverage": None, "gate": None}
    result = AccuracyResult(
        labels=5, psnr=psnr, rmse=0.1, pixels=10, residual=0.0, **{**told, **more}
    )
    return AccuracyCell(scene, protocol, points, noise, seed, method), result


def only(rows, **asked):
    (found,) = (
        figure
        for figure in figures(dict(rows))
        if {**asdict(figure.group), "method": figure.method}.items() >= asked.items()
    )
    return found


def seeds(scene, method, values, **more):
    return [row(scene, method, value, seed=seed, **more) for seed, value in enumerate(values)]


def test_the_best_anchor_is_the_one_with_the_highest_mean():
    rows = [
        *seeds("a", "ridge", [40, 41, 42]),
        *seeds("a", "forest", [39, 39, 50]),  # the best mean, though not in most seeds
        *seeds("a", "estimator", [43, 43, 46]),
    ]
    found = only(rows, method="estimator")
    assert found.best.method == "forest"
    assert found.best.psnr == pytest.approx(128 / 3)
    assert found.best.sam == pytest.approx(100 - 128 / 3)
    assert found.gain == pytest.approx(44 - 128 / 3)
    assert found.seeds == 3
    assert only(rows, method="ridge").best is None


def test_a_method_is_held_against_anchors_over_its_own_seeds():
    rows = [
        *seeds("a", "ridge", [40, 41, 60]),
        *seeds("a", "forest", [50]),  # not run with the second seed
        *seeds("a", "product", [42, 42]),
    ]
    found = only(rows, method="product")
    assert found.best.method == "ridge"
    assert found.gain == pytest.approx(42 - 40.5)


def test_groups_that_differ_in_anything_but_seed_and_method_do_not_mix():
    kinds = [{}, {"points": "2"}, {"protocol": "block"}, {"noise": "1%"}]
    rows = [one for n, kind in enumerate(kinds) for one in seeds("a", "ridge", [40 + n], **kind)]
    rows += seeds("b", "ridge", [50])
    rows += [one for n, kind in enumerate(kinds) for one in seeds("a", "paper", [41 + n], **kind)]
    gains = [figure.gain for figure in figures(dict(rows)) if figure.method == "paper"]
    assert gains == [1.0] * 4


def test_without_an_anchor_there_is_no_gain():
    rows = dict(seeds("a", "estimator", [40, 41]))
    (found,) = figures(rows)
    assert found.best is found.gain is None
    assert mean_gains([found]) == lost([found]) == []
    assert "Gain" not in accuracy_tables(rows)


def test_mean_gains_are_over_scenes():
    rows = [
        *seeds("a", "ridge", [40, 42]), *seeds("a", "estimator", [43, 43]),
        *seeds("b", "ridge", [30, 30]), *seeds("b", "estimator", [29, 30]),
        *seeds("b", "ridge", [20], points="2"), *seeds("b", "estimator", [25], points="2"),
    ]  # fmt: skip
    means = {
        (mean.points, mean.method): (mean.gain, mean.scenes)
        for mean in mean_gains(figures(dict(rows)))
    }
    assert means == {("1%", "estimator"): (0.75, 2), ("2", "estimator"): (5.0, 1)}


def test_cells_lost_by_more_than_a_fifth_of_a_decibel_are_listed_worst_first():
    rows = [
        *seeds("a", "ridge", [40]), *seeds("a", "product", [39.81]),
        *seeds("b", "ridge", [40]), *seeds("b", "product", [39.7]),
        *seeds("c", "ridge", [40]), *seeds("c", "product", [38]),
    ]  # fmt: skip
    assert [figure.group.scene for figure in lost(figures(dict(rows)))] == ["c", "b"]
    text = accuracy_tables(dict(rows))
    assert "Lost by more than 0.2 dB: 2 of 3." in text
    assert (
        "| c | random | 1% | 0.2% | product | 38.00 / 62.00 (1) | 40.00 / 60.00 (1) ridge | -2.00 |"
    ) in text


def test_own_errors_are_means_where_every_seed_has_one():
    rows = [
        row("a", "product", 40, seed=0, cv_rmse=0.01, coverage=0.8),
        row("a", "product", 40, seed=1, cv_rmse=0.03),
    ]
    found = only(rows, method="product")
    assert found.cv_rmse == pytest.approx(0.02)
    assert found.coverage is None


def test_the_tables_show_what_is_asked_for_beside_the_best_of_all_anchors():
    rows = dict(
        [
            *seeds("a", "ridge", [40, 41, 42]),
            *seeds("a", "library", [30, 30, 30], points="0"),
            *seeds("a", "estimator", [42, 42, 42]),
            *seeds("a", "estimator", [31, 31, 31], points="0"),
        ]
    )
    told, *tables = accuracy_tables(rows, ["estimator"]).splitlines()
    assert told == (
        "PSNR in dB / mean spectral angle in degrees, noise 0.2%; points in the columns. Means of 3 "
        "seeds, or of the number in parentheses."
    )
    assert tables == [
        "",
        "| scene | protocol | method | 0 | 1% |",
        "|---|---|---|---|---|",
        "| a | random | estimator | 31.00 / 69.00 | 42.00 / 58.00 |",
        "| a | random | best anchor | 30.00 / 70.00 library | 41.00 / 59.00 ridge |",
        "",
        "Gain in dB over the best anchor, noise 0.2%; in parentheses the number of scenes in a mean.",
        "",
        "| scene | protocol | method | 0 | 1% |",
        "|---|---|---|---|---|",
        "| a | random | estimator | +1.00 | +1.00 |",
        "| mean | random | estimator | +1.00 (1) | +1.00 (1) |",
        "",
        "Lost by more than 0.2 dB: 0 of 2.",
    ]
    assert accuracy_tables(rows, ["paper"]) == accuracy_tables({}) == "No finished cell."


def test_noise_has_a_table_where_there_is_more_than_one():
    rows = [
        *seeds("a", "ridge", [40, 40, 40]), *seeds("a", "estimator", [41, 41, 41]),
        *seeds("a", "ridge", [35, 35, 35], noise="3%"),
        *seeds("a", "estimator", [34, 34, 34], noise="3%"),
        *seeds("a", "ridge", [20, 20, 20], points="2"),
    ]  # fmt: skip
    text = accuracy_tables(dict(rows))
    table = text.rpartition("in the columns.\n\n")[2].splitlines()
    assert table == [
        "| scene | protocol | points | method | 0.2% | 3% |",
        "|---|---|---|---|---|---|",
        "| a | random | 1% | ridge | 40.00 / 60.00 | 35.00 / 65.00 |",
        "| a | random | 1% | estimator | 41.00 / 59.00 | 34.00 / 66.00 |",
        "| a | random | 1% | best anchor | 40.00 / 60.00 ridge | 35.00 / 65.00 ridge |",
    ]
    # The other tables are of the usual noise; a cell can be lost in any.
    assert "| a | random | estimator |  | +1.00 |" in text
    assert "Lost by more than 0.2 dB: 1 of 2." in text


def test_columns_ascend_numbers_first():
    rows = [one for p in ("10%", "0.1%", "18", "2") for one in seeds("a", "ridge", [40], points=p)]
    assert "| scene | protocol | method | 2 | 18 | 0.1% | 10% |" in accuracy_tables(dict(rows))


def test_the_report_is_the_same_as_plain_values():
    rows = dict([*seeds("a", "ridge", [40]), *seeds("a", "product", [39])])
    report = json.loads(json.dumps(accuracy_report(rows, ["product"])))
    (figure,) = report["figures"]
    assert figure["gain"] == -1.0
    assert figure["best"]["method"] == "ridge"
    assert {"scene", "protocol", "points", "noise", "method", "psnr", "sam"} <= figure.keys()
    assert report["lost"] == report["figures"]
    assert [mean["gain"] for mean in report["mean_gains"]] == [-1.0]


class TestEarlierFigures:
    def test_they_are_of_the_frozen_scenes_and_of_methods_that_there_are(self):
        found = earlier_figures()
        assert {one.group.scene for one in found} == {"potsdam", "jasper", "pines", "muufl"}
        assert {one.method for one in found} <= set(METHODS)
        assert all(str(Ratio.parse(one.group.points)) == one.group.points for one in found)
        assert len({(one.group, one.kind) for one in found}) == len(found) == 4 * (5 + 4)

    def test_the_prototype_s_mean_gains_are_shown_beside_ours(self):
        rows = [
            one
            for points in ("2", "0.1%", "1%", "10%")
            for one in [
                *seeds("potsdam", "ridge", [40, 40, 40], points=points),
                *seeds("potsdam", "estimator", [41, 41, 41], points=points),
            ]
        ]
        text = accuracy_tables(dict(rows))
        assert "| mean | random | earlier prototype | +0.46 | +1.08 | +1.12 | +2.61 |" in text
        assert "| potsdam | random | earlier prototype | 44.73 / 4.90 |" in text
        assert "| earlier anchor | 43.45 / 5.47 library+gpr+projection |" in text
