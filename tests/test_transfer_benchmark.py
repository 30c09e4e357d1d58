"""The benchmark of networks trained on other scenes: it scores and lists what it says it does."""

import argparse
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelssr_geo.training.pretrained import load_residual_net
from pixelssr_geo.weights import BUILTIN, weights_path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the tests run beside an installed package", allow_module_level=True)


@pytest.fixture(scope="module")
def transfer():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("transfer")


def test_shuffled_tiles_come_back_in_order(transfer):
    stack = np.random.default_rng(0).random((2, 3, 4, 5)).astype("f4")
    seen = []

    def twice(tiles, numbers):
        seen.append(tiles)
        return tiles * 2

    np.testing.assert_array_equal(transfer.shuffled_tiles(twice)(stack, None), stack * 2)
    assert not np.array_equal(seen[0], stack)


def test_a_shuffled_cube_keeps_its_spectra(transfer):
    from pixelssr_geo.pretraining import synthetic_cubes

    cube = synthetic_cubes(1, size=16)[0]
    mixed = transfer.shuffled(cube, np.random.default_rng(0)).values
    assert not np.array_equal(mixed, cube.values)
    np.testing.assert_array_equal(np.sort(mixed[5].ravel()), np.sort(cube.values[5].ravel()))


def test_the_tables_have_means_over_seeds_and_gains_over_the_estimator(transfer):
    def row(variant, estimate, points, psnr, sam, weight=""):
        return {
            "variant": variant, "scene": "jasper", "points": points, "estimate": estimate,
            "psnr": psnr, "sam": sam, "weight": weight,
        }  # fmt: skip

    shown = transfer.table(
        [
            row("made", "net", "0", "30.0", "2.0"),
            row("made", "net", "0", "31.0", "4.0"),
            row("none", "estimator", "10", "33", "1"),
            row("made", "corrected", "10", "32.5", "1.25"),
            row("made", "with net", "10", "33.25", "1.0", "0.125"),
            row("made", "with net", "10", "33.75", "1.0", "0.375"),
            row("same", "estimator", "10", "40", "1"),
            row("same", "corrected", "10", "41", "0.5"),
        ]
    )
    assert "| made | net | 30.50 / 3.00 |" in shown
    assert "| trained on | estimate | jasper, 2 | jasper, 10 | jasper, 100 |" in shown
    assert "| none | estimator |  | 33.00 |  |" in shown
    assert "| made | corrected |  | -0.50 |  |" in shown
    assert "| made | with net |  | +0.50 / 0.25 |  |" in shown
    assert "| same | corrected |  | +1.00 |  |" in shown
    assert "| trained on | estimate | 0 | 2 | 0.1 % | 1 % |" in shown
    assert "| made | with net |  |  | +0.50 (+0.50) |  |" in shown
    assert "| none | estimator |  |  |" not in shown.split("0.1 %")[1]


def test_the_documented_tables_are_what_the_command_prints(transfer):
    rows = transfer.read_rows(BENCHMARKS / "results" / "transfer.csv")
    shown = transfer.table(rows)
    page = (ROOT / "docs" / "pages" / "when-the-network-helps.md").read_text()
    assert f"<!-- transfer -->\n{shown}\n<!-- end -->" in page
    assert f"<!-- many -->\n{transfer.many_labels(rows)}\n<!-- end -->" in page
    assert f"<!-- shipped -->\n{transfer.shipped(rows)}\n<!-- end -->" in page
    scores = transfer.read_rows(BENCHMARKS / "results" / "many_labels.csv")
    told = {
        (row["scene"], row["points"], row["method"]): f"{float(row['psnr']):.2f} / "
        f"{float(row['sam']):.2f}"
        for row in scores
    }
    for scene, points, method in told:
        pair = " | ".join(told[scene, points, name] for name in ("estimator", "dypro"))
        assert method in ("estimator", "dypro")
        assert f"| {scene} | {points.replace('%', ' %')} | {pair} |" in page


def test_the_card_of_the_shipped_weights_has_the_figures_of_the_table(transfer):
    rows = transfer.read_rows(BENCHMARKS / "results" / "transfer.csv")
    measured = transfer.left_out(rows, transfer.SHIPPED)
    assert len(measured) == 16
    _, card = load_residual_net(weights_path(BUILTIN), device=torch.device("cpu"))
    assert card["measured"] == measured
    assert card["variant"] == transfer.SHIPPED
    assert card["terms"] == {name: transfer.TERMS[name] for name in card["data"]}
    assert card["plan"]["net_options"] == transfer.SMALL


def test_what_ships_is_trained_on_cubes_that_may_be_passed_on(transfer, benchmark_data):
    pytest.importorskip("scipy", reason="MUUFL's files are read with SciPy")
    names = [cube.name for cube in transfer.training_cubes("", transfer.SHIPPED)]
    assert names == list(transfer.TERMS)


def test_what_ships_can_be_trained_again(transfer, benchmark_data, tmp_path):
    pytest.importorskip("scipy", reason="MUUFL's files are read with SciPy")
    options = argparse.Namespace(steps=1, rate=2e-3, patch=16, batch=1, width="4", device="cpu")
    rows = transfer.read_rows(BENCHMARKS / "results" / "transfer.csv")
    for name in ("a", "b"):
        transfer.ship(tmp_path / name, rows, options)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    _, card = load_residual_net(tmp_path / "a", device=torch.device("cpu"))
    _, shipped = load_residual_net(weights_path(BUILTIN), device=torch.device("cpu"))
    differ = {key for key in shipped if card[key] != shipped[key]}
    # A later version may know more sensors than the file was trained with.
    assert differ - {"version", "sensors"} == {"plan", "steps", "relative_error"}
    assert card.keys() == shipped.keys()


def test_no_scene_is_trained_on_that_is_tested(transfer, benchmark_data):
    pytest.importorskip("scipy", reason="MUUFL's files are read with SciPy")
    for scene in transfer.POINTS:
        for variant in ("supervised", "all"):
            names = [cube.name for cube in transfer.training_cubes(scene, variant)]
            assert not [name for name in names if name.startswith(scene)]
            # What may not be passed on takes part in no other variant.
            assert ("potsdam" in names) == (variant == "all" and scene != "potsdam")


def test_a_scene_is_scored_from_training_to_table(transfer, benchmark_data, tmp_path):
    pytest.importorskip("scipy", reason="MUUFL's files are read with SciPy")
    options = argparse.Namespace(
        weights=tmp_path, steps=1, rate=2e-3, patch=16, batch=1, width="4", device="cpu",
        most_points=2,
    )  # fmt: skip
    found = list(transfer.cells("supervised", "muufl", 0, options))
    assert [(points, estimate) for points, estimate, *_ in found] == [
        (0, "net"), (0, "with net"), (2, "with net"),
    ]  # fmt: skip
    assert [weight is None for *_, weight, _ in found] == [True, False, False]
    known = {(p, e): score for p, e, score, *_ in transfer.cells("none", "muufl", 0, options)}
    # One step moves next to nothing, so the network is still the regression that it starts from.
    assert abs(found[0][2][0] - known[0, "ratios"][0]) < 0.2
    assert abs(known[0, "library"][0] - 33.56) < 0.05
    assert abs(known[0, "pooled"][0] - 31.24) < 0.05
