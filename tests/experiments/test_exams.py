"""What networks are trained on and judged by."""

import numpy as np
import pytest

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.experiments.exams import ALL_LABELS, NO_LABELS, DatasetSource, load_exam
from pixelssr_geo.experiments.scenes import Ratio, load_trial
from pixelssr_geo.simulation import BLOCK_SIDE
from pixelssr_geo.testing import write_cave_scene


def chequerboard(shape):
    rows, cols = np.indices(shape) // BLOCK_SIDE
    return (rows + cols) % 2 == 0


@pytest.mark.parametrize("ratio", ["0.1%", "10%", ALL_LABELS])
def test_labels_of_a_scene_lie_where_the_protocol_says_and_nothing_else_is_scored(tiny, ratio):
    exam = load_exam(tiny, "block", ratio, 3)
    (piece,), (test,) = exam.training, exam.tests
    ours = chequerboard(piece.valid.shape)
    assert not (piece.labelled & ~ours).any()
    assert not (test.scored & ours).any()
    assert (test.scored == (piece.valid & ~ours)).all()
    assert exam.label_count == len(exam.labels) == piece.labelled.sum() > 0
    if ratio == ALL_LABELS:
        assert (piece.labelled == (piece.valid & ours)).all()
    np.testing.assert_array_equal(test.bands, piece.bands)
    spectra = test.truth[:, piece.labelled].T
    np.testing.assert_array_equal(exam.labels.spectra, spectra)


def test_without_labels_there_are_none(tiny):
    exam = load_exam(tiny, "block", NO_LABELS, 0)
    assert exam.label_count == 0
    assert exam.library(0).shape == (2000, len(exam.channels))


def test_a_method_and_a_network_are_given_the_same_labels(tiny):
    exam = load_exam(tiny, "block", "10%", 1)
    trial = load_trial(tiny, "block", Ratio.parse("10%"), 0.002, 1)
    assert trial.labels is not None
    places = {(int(r), int(c)) for r, c in zip(trial.labels.rows, trial.labels.cols, strict=True)}
    assert places == {tuple(map(int, place)) for place in np.argwhere(exam.training[0].labelled)}


def test_a_protocol_that_leaves_nothing_to_score_is_refused(tiny):
    with pytest.raises(SettingsError, match="leaves no pixel of scene 'tiny' to score"):
        load_exam(tiny, "random", ALL_LABELS, 0)


@pytest.fixture
def cave(tmp_path):
    for seed, name in enumerate("abcdef"):
        write_cave_scene(tmp_path, name, seed=seed)
    return f"cave:{tmp_path}"


def test_a_dataset_is_learnt_from_in_one_part_and_scored_in_another(cave):
    source = DatasetSource.of(cave, sensor="RGB", size=16, training=6, tests=2)
    exam = load_exam(source, "split", "1%", 0)
    assert source.name == "cave (6+2 patches of 16)"
    assert (len(exam.training), len(exam.tests)) == (6, 2)
    assert exam.label_count == sum(max(1, int(0.01 * one.valid.sum())) for one in exam.training)
    assert exam.matrix.shape == (3, len(exam.channels))
    assert exam.trial is None
    for test in exam.tests:
        assert test.scored.all()
        assert test.bands.shape == (3, 16, 16)
        for piece in exam.training:
            assert not np.array_equal(test.truth, piece.cube)


def test_a_dataset_s_labels_stay_and_depend_on_the_seed(cave):
    source = DatasetSource.of(cave, sensor="RGB", size=16, training=4, tests=1)

    def spectra(seed):
        load_exam.cache_clear()
        return load_exam(source, "split", "1%", seed).labels.spectra

    np.testing.assert_array_equal(spectra(0), spectra(0))
    assert not np.array_equal(spectra(0), spectra(1))


@pytest.mark.parametrize(("ratio", "share"), [(NO_LABELS, 0), (ALL_LABELS, 1)])
def test_none_or_all_pixels_of_a_dataset_can_be_labelled(cave, ratio, share):
    source = DatasetSource.of(cave, sensor="RGB", size=16, training=4, tests=1)
    exam = load_exam(source, "split", ratio, 0)
    assert exam.label_count == share * sum(int(one.valid.sum()) for one in exam.training)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "needs one of the two: give --sensor NAME or --response CSV"),
        ({"sensor": "RGB", "response": "x.csv"}, "needs one of the two"),
        ({"sensor": "RGB", "tests": 0}, "at least 1 of each is needed"),
    ],
)
def test_a_dataset_that_cannot_be_taken_is_refused(cave, options, told):
    with pytest.raises(SettingsError, match=told):
        DatasetSource.of(cave, **options)


def test_a_number_of_points_is_no_share_of_a_dataset(cave):
    source = DatasetSource.of(cave, sensor="RGB", size=16)
    with pytest.raises(SettingsError, match=r"expected a share of the pixels such as 0\.01%"):
        load_exam(source, "split", "18", 0)
