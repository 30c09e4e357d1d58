"""The per-pixel methods on a real scene reach what is documented of them."""

import numpy as np
import pytest

from pixelssr_geo.experiments.methods import reconstruct_trial
from pixelssr_geo.experiments.scenes import Ratio, frozen_scenes, load_trial
from pixelssr_geo.metrics import psnr


@pytest.mark.parametrize(
    ("name", "seeds", "expected"),
    [
        ("library+projection", 1, 41.35),  # hardly depends on the seed
        ("ridge+projection", 3, 45.3),
        ("library+ridge+projection", 3, 46.63),
    ],
)
def test_anchors_of_potsdam_with_18_points_are_met(benchmark_data, name, seeds, expected):
    source, found = frozen_scenes(benchmark_data)["potsdam"], []
    for seed in range(seeds):
        trial = load_trial(source, "random", Ratio.parse("0.1%"), 0.002, seed)
        assert len(trial.labels) == 18
        cube = reconstruct_trial(name, trial, seed).cube
        found.append(psnr(cube[:, trial.scored], trial.ground.cube.values[:, trial.scored]))
    assert np.mean(found) == pytest.approx(expected, abs=0.15)
