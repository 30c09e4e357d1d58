"""The accuracy experiment on a small scene."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from pixelssr_geo.errors import SceneError, SceneReadError, SettingsError
from pixelssr_geo.experiments import accuracy as module
from pixelssr_geo.experiments.accuracy import (
    AccuracyCell,
    AccuracyWork,
    Choice,
    Grid,
    plan_cells,
    read_accuracy,
    run_accuracy,
)
from pixelssr_geo.experiments.cells import travelling
from pixelssr_geo.experiments.methods import ANCHORS, Reconstruction, reconstruct_trial
from pixelssr_geo.experiments.scenes import Ratio, load_trial
from pixelssr_geo.metrics import psnr, sam

CHEAP = Grid(
    protocols=("random", "block"),
    points=("0", "1%"),
    seeds=(0, 1),
    methods=("interpolation", "ridge+projection"),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "accuracy.csv"


def untimed(rows):
    return {cell: replace(result, seconds=0) for cell, result in rows.items()}


def test_the_plan_is_every_combination_that_can_be_run(tiny):
    cells, left_out = plan_cells([tiny], CHEAP)
    assert len(cells) == len(set(cells)) == 2 * (2 + 4)
    assert left_out == [
        f"tiny, {protocol}, 0 points: 2 are needed by: ridge+projection"
        for protocol in CHEAP.protocols
    ]


def test_the_plan_leaves_out_what_there_is_no_room_for(tiny):
    grid = Grid(protocols=("corner",), points=("10%", "251"), seeds=(0,), methods=("ridge", "gpr"))
    cells, left_out = plan_cells([tiny], grid)
    assert cells == []
    assert left_out == [
        "tiny, corner, 197 points: the protocol has 180 pixels for them",
        "tiny, corner, 251 points: the protocol has 180 pixels for them",
    ]
    cells, left_out = plan_cells([tiny], replace(grid, protocols=("random",)))
    assert [(cell.points, cell.method) for cell in cells] == [
        ("10%", "ridge"),
        ("10%", "gpr"),
        ("251", "ridge"),
    ]
    assert left_out == ["tiny, random, 251 points: 250 are the most for: gpr"]


def test_a_result_is_the_score_over_pixels_without_a_label(tiny):
    cell = AccuracyCell("tiny", "random", "1%", "0.2%", 1, "ridge+projection")
    result = AccuracyWork({"tiny": tiny})(cell)
    trial = load_trial(tiny, "random", Ratio.parse("1%"), 0.002, 1)
    cube = reconstruct_trial("ridge+projection", trial, 1).cube
    truth = trial.ground.cube.values
    labelled = np.zeros((40, 50), bool)
    labelled[trial.labels.rows, trial.labels.cols] = True
    counted = np.isfinite(truth).all(0) & ~labelled
    assert result.labels == 20
    assert result.pixels == counted.sum() == 2000 - 28 - 20
    assert result.psnr == pytest.approx(psnr(cube[:, counted], truth[:, counted]), abs=1e-3)
    assert result.sam == pytest.approx(sam(cube[:, counted], truth[:, counted]), abs=1e-3)
    assert result.residual < 1e-7
    assert result.cv_rmse is result.coverage is result.gate is None


def test_what_a_run_says_of_itself_is_kept(tiny, monkeypatch):
    trial = load_trial(tiny, "random", Ratio.parse("0"), 0.002, 0)
    told = Reconstruction(trial.ground.cube.values + np.float32(0.01), 0.02, 0.9, 0.5)
    monkeypatch.setattr(module, "reconstruct_trial", lambda *_: told)
    result = AccuracyWork({"tiny": tiny})(AccuracyCell("tiny", "random", "0", "0.2%", 0, "product"))
    assert (result.cv_rmse, result.coverage, result.gate) == (0.02, 0.9, 0.5)
    assert result.rmse == pytest.approx(0.01, abs=1e-6)
    assert result.psnr == pytest.approx(40, abs=1e-2)


def test_a_cube_with_gaps_is_not_scored(tiny, monkeypatch):
    trial = load_trial(tiny, "random", Ratio.parse("0"), 0.002, 0)
    cube = trial.ground.cube.values.copy()
    cube[5, 0, :3] = np.nan
    monkeypatch.setattr(module, "reconstruct_trial", lambda *_: Reconstruction(cube))
    with pytest.raises(SceneError, match="'ridge' gives no value at 3 of 1972 pixels"):
        AccuracyWork({"tiny": tiny})(AccuracyCell("tiny", "random", "0", "0.2%", 0, "ridge"))


def test_a_run_goes_on_where_it_was_cut_off(tiny, path, monkeypatch):
    rows, _ = run_accuracy([tiny], CHEAP, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    kept = len(read_accuracy(path))
    ran = []
    real = AccuracyWork.__call__
    monkeypatch.setattr(
        AccuracyWork, "__call__", lambda work, cell: (ran.append(cell), real(work, cell))[1]
    )
    again, _ = run_accuracy([tiny], CHEAP, path)
    assert untimed(again) == untimed(rows)
    assert untimed(read_accuracy(path)) == untimed(rows)
    assert 0 < kept == len(rows) - len(ran)


def test_processes_beside_each_other_give_what_one_gives(tiny, path, tmp_path):
    grid = Grid(points=("0", "2"), seeds=(0, 1), methods=("interpolation",))
    alone, _ = run_accuracy([tiny], grid, path)
    beside, _ = run_accuracy([tiny], grid, tmp_path / "beside.csv", jobs=2)
    assert list(untimed(beside).items()) == list(untimed(alone).items())


def test_a_failure_comes_back_from_another_process(tiny):
    """GDAL's own exceptions, which ours come from, cannot be unpickled."""
    work = AccuracyWork({"tiny": replace(tiny, cube=tiny.cube.with_name("gone.tif"))})
    cell = AccuracyCell("tiny", "random", "0", "0.2%", 0, "interpolation")
    with pytest.raises(SceneReadError) as caught:
        travelling(work, cell)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is SceneReadError
    assert "gone.tif" in str(again)


def test_a_failure_that_cannot_travel_is_told_as_text():
    class Stuck(Exception):  # noqa: N818
        """Not to be found by its name."""

    def stuck(cell):
        raise Stuck("as it is")

    with pytest.raises(RuntimeError, match="Stuck: as it is"):
        travelling(stuck, None)


class TestChoice:
    def test_texts_become_one_for_each_value(self):
        choice = Choice.of(
            points=["0.10%", "0.1%", "02"],
            noises=["1.0%", "0.2%"],
            seeds=["0", "3"],
            protocols=["corner"],
            methods=["anchors"],
        )
        assert choice.points == ("0.1%", "2")
        assert choice.noises == ("1%", "0.2%")
        assert choice.seeds == (0, 3)
        assert choice.methods == tuple(ANCHORS)
        assert choice.grid() == Grid(
            ("corner",), ("0.1%", "2"), ("1%", "0.2%"), (0, 3), tuple(ANCHORS)
        )

    def test_what_is_not_asked_for_is_run_by_default(self):
        assert Choice().grid() == Grid()
        assert Grid().noises == ("0.2%",)

    @pytest.mark.parametrize(
        "asked",
        [{"protocols": ["edge"]}, {"seeds": ["-1"]}, {"seeds": ["x"]}, {"points": ["many"]}],
    )
    def test_anything_else_is_refused(self, asked):
        with pytest.raises(SettingsError):
            Choice.of(**asked)

    def test_rows_of_every_method_are_chosen(self, tiny, path):
        rows, _ = run_accuracy([tiny], CHEAP, path)
        chosen = Choice.of(scenes=["tiny"], protocols=["block"], seeds=["1"], methods=["ridge"])
        assert {(cell.protocol, cell.seed) for cell in chosen.rows(rows)} == {("block", 1)}
        assert {cell.method for cell in chosen.rows(rows)} == set(CHEAP.methods)
        assert Choice.of(scenes=["other"]).rows(rows) == {}
        assert Choice.ran([tiny], CHEAP).rows(rows) == rows


def test_a_table_that_is_not_there_is_told(path):
    with pytest.raises(SettingsError, match="there is no file"):
        read_accuracy(path)
