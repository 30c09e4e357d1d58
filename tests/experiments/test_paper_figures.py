"""The paper's figures on a small scene."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from pixelssr_geo.errors import OutputError, SettingsError
from pixelssr_geo.experiments import networks as module
from pixelssr_geo.experiments.drawing import check_picture, draw, write_paper_figure
from pixelssr_geo.experiments.exams import DatasetSource
from pixelssr_geo.experiments.networks import VARIANTS, NetworkResult
from pixelssr_geo.experiments.paper_figures import (
    BESIDE_NETWORKS,
    BINS,
    FIGURES,
    Drawn,
    FeaturePower,
    Place,
    Studio,
    bright_places,
    check_single,
    json_numbers,
    mode_scores,
    numbers_text,
)
from pixelssr_geo.experiments.paper_tables import Asked, Training, plan_table
from pixelssr_geo.experiments.paper_titles import FIGURE_TITLES
from pixelssr_geo.metrics import score
from pixelssr_geo.testing import write_cave_scene

ASKED = Asked.of(networks=["unssr"], ratios=["1%"], methods=["ridge+projection"])
TRAINING = Training("block", (0,), 1, "1x8")
FROM_CELLS = [name for name in FIGURES if name != "figure1"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """DyPro-Mamba in a size that trains in no time."""
    options = {"width": 4, "state": 2, "prompt_inner": 3}
    narrow = replace(VARIANTS["whole"], net_options=options)
    monkeypatch.setitem(VARIANTS, "whole", narrow)
    # Another network has no such options.
    plan = module.network_plan

    def planned(cell, exam):
        found = plan(cell, exam)
        return found if cell.method == "dypro-mamba" else replace(found, net_options={})

    monkeypatch.setattr(module, "network_plan", planned)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def content(tiny, kept):
    """What a figure of the small scene shows; networks are trained once."""

    def make(name, **more):
        paper = FIGURES[name]
        studio = Studio(tiny, TRAINING, "1%", "cpu", kept, **more)
        cells, _ = plan_table(paper.rows(ASKED), [tiny], TRAINING)
        return paper.content(studio, cells)

    return make


def planned(name, asked=ASKED):
    return [(row.method, row.mode, row.labels, row.prior) for row in FIGURES[name].rows(asked)]


def texts(figure):
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [text.get_text() for text in found if text.get_text()]


def test_there_is_a_figure_for_every_title_and_none_of_the_diagram():
    assert list(FIGURES) == list(FIGURE_TITLES)
    assert "figure3" not in FIGURES


def test_figures_are_drawn_from_these_networks():
    both = [("dypro-mamba", "pixel", "1%", prior) for prior in ("gamma", "gaussian")]
    assert planned("figure2") == planned("figure5") == both
    assert planned("figure4") == planned("figure8") == both[:1]
    assert planned("figure6") == planned("figure7") == [
        ("unssr", "pixel", "1%", "gamma"),
        both[0],
        ("ridge+projection", "per-pixel", "1%", "gamma"),
    ]  # fmt: skip
    every = planned("figure6", Asked())
    assert len(every) == 7 + 1 + len(BESIDE_NETWORKS)
    assert {labels for _, _, labels, _ in every} == {"0.01%"}


@pytest.mark.parametrize("name", FROM_CELLS)
def test_a_figure_is_a_picture_with_its_numbers(name, content, tmp_path):
    found, path = content(name), tmp_path / "figure.png"
    write_paper_figure(FIGURES[name], found, path)
    height, width, _ = imread(path).shape
    assert 500 < height < 2500
    assert 1000 < width < 2600
    assert list(tmp_path.iterdir()) == [path]
    assert "tiny, protocol block, 1% labels (20), 1 step of 1x8 pixels, seed 0" in found.caption
    head, line, *rows = numbers_text(found.numbers).splitlines()
    assert len(rows) == len(found.numbers) > 0
    assert {row.count("|") for row in (head, line, *rows)} == {len(found.numbers[0]) + 1}
    for row in found.numbers:
        for value in row.values():
            assert isinstance(value, str) or np.isfinite(value)


def test_kept_networks_are_not_trained_again(content, monkeypatch):
    told = []
    first = content("figure6").numbers

    def again(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train_mode", again)
    assert content("figure6", progress=lambda *now: told.append(now)).numbers == first
    assert content("figure4").numbers
    assert told == []


def test_progress_tells_which_network_is_trained(tiny, tmp_path):
    told = []
    cells, _ = plan_table(FIGURES["figure5"].rows(ASKED), [tiny], TRAINING)
    studio = Studio(tiny, TRAINING, "1%", "cpu", None, lambda *now: told.append(now))
    FIGURES["figure5"].content(studio, cells)
    assert told == [("dypro-mamba, gamma", 1, 1), ("dypro-mamba, gaussian", 1, 1)]


def test_distributions_are_those_of_the_scored_pixels(content, tiny):
    found = content("figure2")
    test = Studio(tiny, TRAINING, "1%").test
    values = test.truth[:, test.scored]
    truth, gamma, gaussian = found.numbers
    assert [row["cube"] for row in found.numbers] == ["truth", "gamma", "gaussian"]
    assert truth["mean"] == pytest.approx(values.mean(), rel=1e-5)
    assert truth["wasserstein"] == truth["total_variation"] == truth["below_zero"] == 0
    assert min(gamma["wasserstein"], gaussian["wasserstein"]) > 0
    assert found.quantiles.shape == (4, len(found.centres_nm))
    assert (np.diff(found.quantiles, axis=0) >= 0).all()
    assert all(one.shares.shape == (BINS,) for one in found.each)


def test_the_power_of_a_slow_and_a_fast_pattern_is_told_apart():
    rows, _ = np.indices((40, 40))
    valid = np.ones((40, 40), bool)
    slow = FeaturePower.of(np.cos(2 * np.pi * rows / 20)[None], valid)
    fast = FeaturePower.of(np.cos(np.pi * rows)[None], valid)
    assert slow.low > 0.98
    assert fast.low < 0.02
    assert slow.frequencies[slow.profile.argmax()] == pytest.approx(0.05, abs=0.02)
    assert np.isfinite(fast.plane).all()


def test_frequencies_are_of_the_prompts_beside_the_scene(content):
    found = content("figure4")
    assert list(found.each) == ["scene", "F1", "P_spa", "P_hf", "Y3"]
    for row in found.numbers:
        assert row["below_quarter"] + row["above_quarter"] == pytest.approx(1)
    # What a blur takes away holds higher frequencies than what it is taken from.
    low = {row["feature"]: row["below_quarter"] for row in found.numbers}
    assert low["P_hf"] < low["F1"]
    np.testing.assert_allclose(found.prompt.sum(axis=1), 1, rtol=1e-5)


def test_features_are_as_large_as_the_image(content):
    found = content("figure8")
    assert list(found.features) == ["F1", "P_spa", "P_hf", "Y3"]
    assert {image.shape[1:] for image in found.features.values()} == {(40, 50)}
    assert [row["channels"] for row in found.numbers] == [3, 3, 3, 4]


def test_curves_are_of_a_dark_a_middling_and_a_bright_scored_pixel(content, tiny):
    found = content("figure5")
    test = Studio(tiny, TRAINING, "1%").test
    bright = [test.truth[:, place.row, place.col].mean() for place in found.places]
    assert bright == sorted(bright)
    everything = test.truth[:, test.scored].mean(axis=0)
    np.testing.assert_allclose(bright, np.quantile(everything, [0.02, 0.5, 0.98]), rtol=0.02)
    assert [(p.name, p.row, p.col) for p in found.places] == bright_places(test)
    assert all(test.scored[place.row, place.col] for place in found.places)
    assert len(found.numbers) == 3 * 2


def test_a_pixel_is_as_wrong_as_was_planted(tiny):
    studio = Studio(tiny, TRAINING, "1%")
    test = studio.test
    row, col = np.argwhere(test.scored)[0]
    cells, _ = plan_table(FIGURES["figure4"].rows(ASKED), [tiny], TRAINING)
    drawn = {
        "right": Drawn(cells[0], test.truth, test),
        "brighter": Drawn(cells[0], test.truth + np.float32(0.1), test),
    }
    right, brighter = Place.of("here", row, col, studio, drawn).numbers
    assert right["rmse"] == 0
    assert brighter["rmse"] == pytest.approx(0.1, rel=1e-4)
    assert brighter["sam"] > right["sam"] == pytest.approx(0, abs=1e-3)
    assert brighter["pixel"] == f"here (row {row}, column {col})"
    assert drawn["brighter"].numbers["psnr"] == pytest.approx(20, abs=1e-3)


def test_error_maps_are_those_that_the_scores_are_made_of(content, tiny):
    found, test = content("figure6"), Studio(tiny, TRAINING, "1%").test
    assert [row["method"] for row in found.numbers] == ["unssr", "dypro-mamba", "ridge+projection"]
    for title, error in found.maps.items():
        expected = score(found.drawn[title].cube, test.truth, test.scored)["rmse"]
        assert np.sqrt((error[test.scored] ** 2).mean()) == pytest.approx(expected, rel=1e-5)
        assert np.isnan(error[~np.isfinite(test.truth).all(0)]).all()
    assert test.scored[found.place.row, found.place.col]
    assert content("figure6").place.row == found.place.row


def test_channel_errors_are_at_three_wavelengths(content, tiny):
    found, test = content("figure7"), Studio(tiny, TRAINING, "1%").test
    assert list(found.numbers[0]) == ["method", "mae_500nm", "mae_700nm", "mae_900nm"]
    row = found.numbers[0]
    at = list(Studio(tiny, TRAINING, "1%").centres_nm).index(700)
    np.testing.assert_array_equal(found.truth[1], test.truth[at])
    assert row["mae_700nm"] == pytest.approx(found.maps["unssr"][1][test.scored].mean())
    assert "| method | MAE at 500nm |" in numbers_text(found.numbers)


def test_numbers_that_are_none_are_empty_and_null():
    numbers = [{"method": "a", "psnr": float("inf"), "parameters": None, "sam": 1.23456}]
    assert numbers_text(numbers).endswith("| a |  |  | 1.235 |")
    assert json_numbers(numbers) == [
        {"method": "a", "psnr": None, "parameters": None, "sam": 1.23456}
    ]


def result(psnr, parameters=None):
    return NetworkResult(
        label_count=2, rmse=0.1, psnr=psnr, ssim=0.9, sam=3.0, draws=1, rmse_variance=None,
        psnr_variance=None, ssim_variance=None, sam_variance=None, parameters=parameters,
        loss=None, seconds=1.0,
    )  # fmt: skip


@pytest.fixture
def finished(tiny):
    """Cells of Figure 1, without training any."""
    rows = FIGURES["figure1"].rows(replace(ASKED, methods=None))
    cells, _ = plan_table(rows, [tiny], TRAINING)
    sizes = {"unssr": 5_000_000, "dypro-mamba": 600_000}
    done = {cell: result(20.0 + n, sizes.get(cell.method)) for n, cell in enumerate(cells)}
    return rows, done


def test_modes_are_markers_and_methods_lines(finished, tmp_path):
    rows, done = finished
    found = mode_scores(done, rows, TRAINING)
    assert [row["psnr"] for row in found.numbers] == [20.0 + n for n in range(8)]
    assert found.numbers[-1]["parameters"] is None
    figure = draw(found)
    (axes,) = figure.axes
    assert len(axes.collections) == 2 * 3
    told = texts(figure)
    assert {"estimator, no label", "estimator, 1% labels", "unssr", "5 M parameters"} <= set(told)
    assert "Pixel-SSR, 1% labels" in told
    write_paper_figure(FIGURES["figure1"], found, tmp_path / "figure1.png")
    assert numbers_text(found.numbers).endswith("|  |")


def test_modes_of_no_or_several_scenes_are_refused(finished):
    rows, done = finished
    with pytest.raises(SettingsError, match="no finished cell is there"):
        mode_scores(done, rows, replace(TRAINING, steps=2, seeds=(4,)))
    several = {replace(cell, scene=name): one for name in "ab" for cell, one in done.items()}
    with pytest.raises(SettingsError, match=r"2 scenes \(a, b\) are there for the figure"):
        mode_scores(several, rows, TRAINING)
    check_single(["a"])


def test_the_first_test_image_of_a_dataset_is_drawn(tmp_path):
    for seed, name in enumerate("abc"):
        write_cave_scene(tmp_path, name, seed=seed)
    source = DatasetSource.of(f"cave:{tmp_path}", sensor="RGB", size=16, training=2, tests=2)
    studio = Studio(source, TRAINING, "1%", "cpu")
    rows = FIGURES["figure7"].rows(replace(ASKED, networks=(), methods=None))
    cells, left_out = plan_table(rows, [source], TRAINING)
    assert [cell.method for cell in cells] == ["dypro-mamba"]
    assert left_out
    found = FIGURES["figure7"].content(studio, cells)
    assert found.truth.shape == (3, 16, 16)
    assert "first test image, 1% labels" in found.caption
    write_paper_figure(FIGURES["figure7"], found, tmp_path / "figure7.png")


def test_a_picture_has_a_png_s_name_and_a_free_one(tmp_path):
    path = tmp_path / "a.png"
    check_picture(path)
    path.touch()
    check_picture(path, overwrite=True)
    with pytest.raises(OutputError, match="--overwrite"):
        check_picture(path)
    with pytest.raises(OutputError, match=r"ends in \.png"):
        check_picture(tmp_path / "a.jpg")
