"""Cells of the paper's tables."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.experiments import networks as module
from pixelssr_geo.experiments.exams import DatasetSource, load_exam
from pixelssr_geo.experiments.methods import reconstruct_trial
from pixelssr_geo.experiments.networks import (
    DRAWS,
    LEAST_SHARE,
    VARIANTS,
    NetworkCell,
    NetworkWork,
    cell_key,
    network_plan,
    parse_windows,
    read_networks,
    run_networks,
    trained_network,
)
from pixelssr_geo.losses import LossWeights
from pixelssr_geo.metrics import score
from pixelssr_geo.nets import create_net
from pixelssr_geo.testing import write_cave_scene
from pixelssr_geo.training.modes import predict

CPU = torch.device("cpu")
PIXEL = NetworkCell(
    "tiny", "block", "dypro-mamba", "pixel", "1%", "gamma", "whole", 2, "2x8", 0
)  # fmt: skip
RIDGE = replace(PIXEL, method="ridge+projection", mode="per-pixel", steps=0, windows="")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """DyPro-Mamba in a size that trains in no time."""
    options = {"width": 4, "state": 2, "prompt_inner": 3}
    for name, variant in VARIANTS.items():
        narrow = replace(variant, net_options={**options, **variant.net_options})
        monkeypatch.setitem(VARIANTS, name, narrow)


def test_a_network_is_scored_where_no_label_is_as_the_mean_of_ten_draws(tiny):
    result = NetworkWork({"tiny": tiny}, "cpu")(PIXEL)
    exam = load_exam(tiny, "block", "1%", 0)
    trained = trained_network(PIXEL, exam, CPU)
    (test,) = exam.tests
    scores = [
        score(predict(trained.model, test.bands, draw=draw, device=CPU), test.truth, test.scored)
        for draw in range(DRAWS)
    ]
    assert result.draws == DRAWS
    assert result.label_count == exam.label_count
    for name in ("rmse", "psnr", "ssim", "sam"):
        values = [one[name] for one in scores]
        assert getattr(result, name) == pytest.approx(np.mean(values), abs=1e-3)
        variance = getattr(result, f"{name}_variance")
        assert variance == pytest.approx(np.var(values, ddof=1), rel=1e-2, abs=1e-12)
    assert result.parameters == sum(p.numel() for p in trained.model.net.parameters())
    assert result.loss == pytest.approx(trained.loss, abs=1e-6)


def test_a_network_that_sees_no_modelled_spectra_is_tested_once(tiny, monkeypatch):
    cell = replace(PIXEL, method="mst++", mode="unsupervised", labels="0")
    plan = module.network_plan
    tiny_net = {"stages": 1, "blocks": (1,)}
    monkeypatch.setattr(
        module, "network_plan", lambda *told: replace(plan(*told), net_options=tiny_net)
    )
    result = NetworkWork({"tiny": tiny}, "cpu")(cell)
    assert (result.draws, result.psnr_variance, result.label_count) == (1, None, 0)
    bands, channels = load_exam(tiny, "block", "0", 0).matrix.shape
    net = create_net("mst++", bands=bands, channels=channels, **tiny_net)
    assert result.parameters == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("method", ["ridge+projection", "estimator"])
def test_a_method_gives_what_it_gives_in_the_accuracy_experiment(tiny, method):
    cell = replace(RIDGE, method=method, labels="10%")
    result = NetworkWork({"tiny": tiny})(cell)
    exam = load_exam(tiny, "block", "10%", 0)
    cube = reconstruct_trial(method, exam.trial, 0).cube
    (test,) = exam.tests
    expected = score(cube, test.truth, test.scored)
    assert result.psnr == pytest.approx(expected["psnr"], abs=1e-3)
    assert result.sam == pytest.approx(expected["sam"], abs=1e-3)
    assert (result.parameters, result.loss, result.draws) == (None, None, 1)


@pytest.mark.parametrize(("mode", "labels"), [("unsupervised", "0"), ("supervised", "100%")])
def test_modelled_spectra_are_as_rare_as_labels_and_never_none(tiny, mode, labels):
    exam = load_exam(tiny, "block", "1%", 0)
    plan = network_plan(PIXEL, exam)
    valid = exam.training[0].valid.sum()
    assert plan.label_ratio == pytest.approx(exam.label_count / valid)
    other = replace(PIXEL, mode=mode, labels=labels)
    assert network_plan(other, load_exam(tiny, "block", labels, 0)).label_ratio == LEAST_SHARE


def test_a_variant_changes_the_network_or_a_loss_and_nothing_else(tiny):
    exam = load_exam(tiny, "block", "1%", 0)
    whole = network_plan(PIXEL, exam)
    fft = network_plan(replace(PIXEL, variant="fft"), exam)
    assert fft == replace(whole, net_options={**whole.net_options, "transform": "fft"})
    blind = network_plan(replace(PIXEL, variant="no-ssim-loss"), exam)
    assert blind == replace(whole, weights=LossWeights(ssim=0))


def test_a_kept_network_is_loaded_and_no_other_is(tiny, tmp_path, monkeypatch):
    exam = load_exam(tiny, "block", "1%", 0)
    first = trained_network(PIXEL, exam, CPU, tmp_path)
    trained = []
    real = module.train_mode
    monkeypatch.setattr(module, "train_mode", lambda *a, **k: (trained.append(1), real(*a, **k))[1])
    again = trained_network(PIXEL, exam, CPU, tmp_path)
    bands = exam.tests[0].bands
    np.testing.assert_array_equal(
        predict(first.model, bands, device=CPU), predict(again.model, bands, device=CPU)
    )
    assert (again.loss, again.parameters) == (first.loss, first.parameters)
    assert not trained
    trained_network(replace(PIXEL, seed=1), exam, CPU, tmp_path)
    assert len(trained) == 1
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_keys_of_cells_differ_in_every_field():
    other = {"steps": 3, "seed": 1}
    cells = [replace(PIXEL, **{name: other.get(name, "x")}) for name in PIXEL.__dataclass_fields__]
    assert len({cell_key(cell) for cell in [PIXEL, *cells]}) == len(cells) + 1


def test_what_is_finished_is_not_run_again(tiny, tmp_path, monkeypatch):
    path = tmp_path / "networks.csv"
    rows = run_networks([PIXEL, RIDGE], [tiny], path, device="cpu")
    monkeypatch.setattr(NetworkWork, "__call__", lambda *_: pytest.fail("ran again"))
    assert run_networks([RIDGE, PIXEL], [tiny], path) == rows == read_networks(path)


def test_networks_and_methods_run_on_a_dataset(tmp_path):
    for seed, name in enumerate("abcd"):
        write_cave_scene(tmp_path, name, seed=seed)
    source = DatasetSource.of(f"cave:{tmp_path}", sensor="RGB", size=16, training=4, tests=2)
    work = NetworkWork({source.name: source}, "cpu")
    pixel = replace(PIXEL, scene=source.name, protocol="split")
    result = work(pixel)
    assert np.isfinite([result.psnr, result.ssim, result.sam]).all()
    ridge = work(replace(RIDGE, scene=source.name, protocol="split"))
    assert ridge.label_count == result.label_count
    assert ridge.psnr > result.psnr
    with pytest.raises(SettingsError, match=r"'estimator' was asked of dataset .* leave it out"):
        work(replace(RIDGE, scene=source.name, protocol="split", method="estimator"))


@pytest.mark.parametrize("text", ["", "4", "x32", "4x", "0x32", "4x0", "4x32x2", "axb"])
def test_windows_that_are_none_are_refused(text):
    with pytest.raises(SettingsError, match="expected their number and side such as 4x32"):
        parse_windows(text)


def test_windows_are_a_number_and_a_side():
    assert parse_windows("4x32") == (4, 32)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"no file '.*gone\.csv'"):
        read_networks(tmp_path / "gone.csv")
