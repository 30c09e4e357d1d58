"""What the paper's tables consist of, and how they are told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelssr_geo.errors import SettingsError, UnknownNetError
from pixelssr_geo.experiments.exams import DatasetSource
from pixelssr_geo.experiments.networks import NO_MODE, VARIANTS, NetworkResult
from pixelssr_geo.experiments.paper_tables import (
    OURS,
    RATIOS,
    TABLES,
    Asked,
    Row,
    Training,
    figures,
    plan_table,
    printed_figures,
    table_report,
    table_text,
)
from pixelssr_geo.nets import list_nets

NETWORKS = {spec.name for spec in list_nets()}
NOTHING_BESIDE = Asked(methods=())


def rows_of(name, asked=NOTHING_BESIDE):
    return TABLES[name].rows(asked)


def result(psnr=30.0, **more):
    values = {
        "label_count": 10, "rmse": 0.05, "psnr": psnr, "ssim": 0.9, "sam": 5.0, "draws": 10,
        "rmse_variance": 1e-9, "psnr_variance": 2e-6, "ssim_variance": 3e-9,
        "sam_variance": 4e-7, "parameters": 600_000, "loss": 0.1, "seconds": 60.0,
    }  # fmt: skip
    return NetworkResult(**{**values, **more})


@pytest.mark.parametrize("name", TABLES)
def test_every_row_that_the_paper_printed_is_there_and_no_network_that_it_did_not(name):
    table = TABLES[name]
    ours = set(rows_of(name))
    printed = [set(rows) for (n, _), rows in printed_figures().items() if n in table.numbers]
    assert printed
    for rows in printed:
        assert rows <= ours
        more = {row for row in ours - rows if row.method != OURS}
        assert not more
    # what we add is our own network in the modes that the paper left out
    assert {row.mode for row in ours - printed[0]} <= {"unsupervised", "supervised"}


def test_the_paper_s_figures_are_of_rows_that_can_be_run():
    for rows in printed_figures().values():
        for row, printed in rows.items():
            assert row.method in NETWORKS
            assert row.variant in VARIANTS
            assert 20 < float(printed.psnr) < 50
            if printed.rmse and printed.sam:
                assert 0 < float(printed.rmse) < 0.1
                assert 0.3 < float(printed.ssim) <= 1


def test_tables_1_and_13_print_what_the_paper_prints_twice_alike():
    cave, universal = printed_figures()["1", "CAVE"], printed_figures()["13", "CAVE"]
    common = cave.keys() & universal.keys()
    assert len(common) == 8
    assert all(
        [float(x) for x in (cave[row].psnr, cave[row].sam)]
        == [float(x) for x in (universal[row].psnr, universal[row].sam)]
        for row in common
    )


def test_networks_ratios_and_methods_can_be_chosen():
    asked = Asked.of(networks=["MSTPP", "dypro"], ratios=["2%"], methods=["ridge"])
    assert rows_of("table2", asked) == [
        Row("mst++", "unsupervised", "0"),
        Row("mst++", "pixel", "2%"),
        Row("mst++", "supervised", "100%"),
        Row(OURS, "unsupervised", "0"),
        Row(OURS, "pixel", "2%"),
        Row(OURS, "supervised", "100%"),
        Row("ridge", NO_MODE, "0"),
        Row("ridge", NO_MODE, "2%"),
    ]


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"networks": ["alexnet"]}, UnknownNetError, "alexnet"),
        ({"ratios": ["18"]}, SettingsError, "above 0% and below 100%"),
        ({"ratios": ["100%"]}, SettingsError, "above 0% and below 100%"),
        ({"methods": ["magic"]}, SettingsError, "no method 'magic'"),
    ],
)
def test_what_is_not_known_is_refused(asked, error, told):
    with pytest.raises(error, match=told):
        Asked.of(**asked)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"protocol": "rows"}, "no protocol 'rows'"),
        ({"windows": "big"}, "expected their number and side"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_a_training_that_cannot_be_is_refused(wrong, told):
    with pytest.raises(SettingsError, match=told):
        Training(**wrong)


def test_a_plan_is_every_row_with_every_seed_and_tells_what_it_leaves_out(tiny):
    rows = [
        Row(OURS, "pixel", "1%"),
        Row("gpr", NO_MODE, "10%"),
        Row("gpr", NO_MODE, "40%"),
        Row("ridge", NO_MODE, "0"),
    ]
    cells, left_out = plan_table(rows, [tiny], Training(seeds=(0, 1), steps=5))
    assert [(cell.method, cell.labels, cell.seed) for cell in cells] == [
        (OURS, "1%", 0), (OURS, "1%", 1), ("gpr", "10%", 0), ("gpr", "10%", 1),
    ]  # fmt: skip
    assert {(cell.steps, cell.windows) for cell in cells} == {(5, "4x16"), (0, "")}
    assert left_out == [
        "tiny, 40%: 250 are the most for gpr",
        "tiny, 0: 2 are needed by ridge",
    ]


def test_methods_that_need_a_scene_are_left_out_of_a_dataset(tmp_path):
    source = DatasetSource("cave", f"cave:{tmp_path}", None, "RGB")
    rows = [Row("estimator", NO_MODE, "1%"), Row("ridge", NO_MODE, "1%"), Row(OURS, "pixel", "1%")]
    cells, left_out = plan_table(rows, [source], Training())
    assert [(cell.method, cell.protocol) for cell in cells] == [("ridge", "split"), (OURS, "split")]
    assert left_out == [f"{source.name}, 1%: estimator needs a scene with points"]


def made(rows, training, source, values):
    return {
        training.cell(row, source, seed): result(value)
        for row, by_seed in zip(rows, values, strict=True)
        for seed, value in enumerate(by_seed)
    }


@given(st.lists(st.floats(10, 60), min_size=2, max_size=5))
def test_a_figure_is_the_mean_over_its_seeds_and_their_spread(values):
    row = Row(OURS, "pixel", "1%")
    training = Training(seeds=tuple(range(len(values))))
    source = DatasetSource("cave", "cave:x", None, "RGB")
    (figure,) = figures(made([row], training, source, [values]), [row], training)
    assert figure.seeds == len(values)
    assert figure.mean["psnr"] == pytest.approx(np.mean(values))
    assert figure.deviation is not None
    assert figure.deviation["psnr"] == pytest.approx(np.std(values, ddof=1))
    assert figure.variance == pytest.approx({"rmse": 1e-9, "psnr": 2e-6, "ssim": 3e-9, "sam": 4e-7})


def test_other_budgets_protocols_and_seeds_do_not_count(tiny):
    row = Row(OURS, "pixel", "1%")
    ours = Training(steps=5)
    others = [Training(steps=6), Training(steps=5, windows="1x8"), Training("corner", steps=5)]
    cells = {one.cell(row, tiny, 0): result(20.0) for one in others}
    cells |= {ours.cell(row, tiny, 0): result(30.0), ours.cell(row, tiny, 7): result(40.0)}
    (figure,) = figures(cells, [row], ours)
    assert figure.mean["psnr"] == 30.0
    assert figure.deviation is None


def test_a_table_shows_what_tells_its_rows_apart_and_the_paper_s_figures(tiny):
    training = Training(seeds=(0, 1), steps=5)
    asked = Asked(ratios=("10%",), methods=("ridge",))
    rows = rows_of("table4", asked)
    cells = made(rows, training, tiny, [[30.0 + at, 32.0 + at] for at in range(len(rows))])
    found = figures(cells, rows, training)
    text = table_text(TABLES["table4"], found, training)
    lines = text.splitlines()
    assert lines[0].startswith(
        "Table 4, components of DyPro-Mamba: tiny, protocol block, 5 steps of 4x16 pixels; 2 seeds, ±"
    )
    head = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert head == [
        "network or method", "mode", "modelled as", "variant", "labels",
        "RMSE", "PSNR dB", "SSIM", "SAM degrees", "paper, CAVE",
    ]  # fmt: skip
    first = [cell.strip() for cell in lines[4].strip("|").split("|")]
    assert first[:5] == [OURS, "pixel", "Gamma", "without P_spa", "10% (10)"]
    assert first[6:] == ["31.00 ± 1.41", "0.900 ± 0.000", "5.00 ± 0.00", "39.04 / 4.84"]
    ridge = [cell.strip() for cell in lines[9 + 1].strip("|").split("|")]
    assert (ridge[0], ridge[3], ridge[-1]) == ("ridge", "", "")
    assert "200 epochs" in lines[-1]


def test_variances_stand_in_parentheses(tiny):
    training = Training()
    rows = rows_of("table7-9")
    assert [row.labels for row in rows] == list(RATIOS)
    found = figures(made(rows, training, tiny, [[30.0]] * 4), rows, training)
    text = table_text(TABLES["table7-9"], found, training)
    assert "| 0.01% (10) | 0.0500 (1.0e-09) | 30.00 (2.0e-06) |" in text
    assert "37.7298 (2.2e-07) | 39.5787 (7.8e-10) | 37.5713 (1.1e-09) |" in text


def test_a_report_has_the_same_as_values(tiny):
    training = Training()
    rows = rows_of("table5")
    found = figures(made(rows, training, tiny, [[30.0], [31.0]]), rows, training)
    report = table_report(TABLES["table5"], found)
    assert [one["variant"] for one in report] == ["fft", "whole"]
    assert [(one["labels"], one["label_count"]) for one in report] == [("10%", 10.0)] * 2
    assert report[0]["paper"] == {"5, CAVE": {"psnr": "39.64", "sam": "4.61"}}
    assert report[1]["mean"]["psnr"] == 31.0


def test_without_a_finished_cell_that_is_said():
    assert table_text(TABLES["table5"], [], Training()) == "No finished cell."


@pytest.mark.parametrize("name", TABLES)
def test_no_two_rows_are_alike(name):
    rows = TABLES[name].rows(Asked())
    assert len(rows) == len(set(rows))
    assert any(row.mode == NO_MODE for row in rows) or name == "table7-9"
