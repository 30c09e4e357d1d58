"""Patches of a scene, and labels laid into them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.fitting import SceneReader
from pixelssr_geo.labels import Labels
from pixelssr_geo.training.patches import Patches, cut_patches

CPU = torch.device("cpu")


def make_reader(height: int, width: int) -> SceneReader:
    """A scene whose first band is the pixel's number, the second its negative."""
    numbers = np.arange(height * width, dtype="f4").reshape(height, width)
    return SceneReader(np.stack([numbers, -numbers]))


def make_labels(reader: SceneReader, count: int, seed: int = 0) -> Labels:
    height, width = reader.shape
    chosen = np.random.default_rng(seed).choice(height * width, count, replace=False)
    rows, cols = chosen // width, chosen % width
    bands = np.stack([chosen, -chosen], axis=1).astype("f8")
    spectra = chosen[:, None] + np.array([0.25, 0.5, 0.75])
    return Labels(rows, cols, bands, spectra)


def assert_labels_are_in_place(patches: Patches, labels: Labels, members: np.ndarray) -> None:
    used = labels.take(members)
    batch = patches.batch(np.arange(len(patches)), used, used.spectra, CPU)
    number = batch.bands[:, :1]
    expected = number + torch.tensor([0.25, 0.5, 0.75])[:, None, None]
    labelled = batch.labelled.bool()
    torch.testing.assert_close(batch.target, torch.where(labelled, expected, 0.0))
    # A patch shows exactly those labels whose pixel lies in it, and never one that was left out.
    known = torch.from_numpy(used.bands[:, 0].astype("f4"))
    torch.testing.assert_close(labelled, torch.isin(number, known) & batch.valid.bool())


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 24),
    extra=st.integers(0, 3),
    centred=st.booleans(),
    seed=st.integers(0, 100),
    data=st.data(),
)
def test_labels_land_on_their_pixels(
    height: int,
    width: int,
    size: int,
    extra: int,
    centred: bool,
    seed: int,
    data: st.DataObject,
) -> None:
    reader = make_reader(height, width)
    count = data.draw(st.integers(1, min(12, height * width)))
    labels = make_labels(reader, count, seed)
    patches = cut_patches(reader, labels, size=size, extra=extra, seed=seed, centred=centred)
    assert patches.bands.shape == (count + extra, 2, size, size)
    assert patches.valid.shape == (count + extra, size, size)
    assert patches.size == size
    assert len(patches) == count + extra
    own = patches.batch(np.arange(count), labels, labels.spectra, CPU)
    for k, (row, col) in enumerate(zip(labels.rows, labels.cols, strict=True)):
        top, left = patches.origins[k]
        assert own.labelled[k, 0, row - top, col - left] == 1, "a patch holds its own label"
    members = np.arange(count)[:: data.draw(st.integers(1, 2))]
    assert_labels_are_in_place(patches, labels, members)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 24))
def test_patches_stay_inside_where_the_scene_is_large_enough(
    height: int, width: int, size: int
) -> None:
    reader = make_reader(height, width)
    patches = cut_patches(reader, make_labels(reader, 1), size=size, extra=8)
    assert (patches.origins >= 0).all()
    for (row, col), valid in zip(patches.origins, patches.valid, strict=True):
        inside = np.zeros((size, size), bool)
        inside[: height - row, : width - col] = True
        np.testing.assert_array_equal(valid, inside)
        if height >= size:
            assert row + size <= height


def test_a_centred_label_lies_in_the_middle() -> None:
    reader = make_reader(50, 60)
    labels = Labels(np.array([25]), np.array([30]), np.zeros((1, 2)), np.zeros((1, 3)))
    patches = cut_patches(reader, labels, size=9, centred=True)
    assert patches.origins.tolist() == [[21, 26]]


def test_pixels_without_data_are_filled_and_not_valid() -> None:
    scene = make_reader(20, 20).data.copy()
    scene[0, 3:6, 3:6] = np.nan
    reader = SceneReader(scene)
    labels = make_labels(reader, 1).take(np.array([0]))
    patches = cut_patches(reader, labels, size=20)
    assert np.isfinite(patches.bands).all()
    expected = np.ones((20, 20), bool)
    expected[3:6, 3:6] = False
    np.testing.assert_array_equal(patches.valid[0], expected)
    np.testing.assert_array_equal(patches.bands[0][:, expected], scene[:, expected])
    batch = patches.batch([0], labels, labels.spectra, CPU)
    np.testing.assert_array_equal(batch.valid[0, 0].numpy(), expected.astype("f4"))


def test_a_patch_of_nothing_but_nodata_is_finite_and_not_valid() -> None:
    values, valid = SceneReader(np.full((2, 10, 10), np.nan, "f4"))(0, 0, 6)
    assert np.isfinite(values).all()
    assert not valid.any()


@pytest.mark.parametrize("same", [True, False])
def test_the_draws_depend_on_the_seed(same: bool) -> None:
    reader = make_reader(50, 60)
    labels = make_labels(reader, 5)
    one = cut_patches(reader, labels, size=9, extra=4, seed=1)
    other = cut_patches(reader, labels, size=9, extra=4, seed=1 if same else 2)
    assert np.array_equal(one.origins, other.origins) is same


def test_patches_without_labels_are_cut_for_losses_that_need_none() -> None:
    reader = make_reader(30, 30)
    none = make_labels(reader, 1).take(np.empty(0, "i8"))
    patches = cut_patches(reader, none, size=8, extra=5)
    batch = patches.batch([0, 4], none, none.spectra, CPU)
    assert batch.bands.shape == (2, 2, 8, 8)
    assert batch.labelled.sum() == 0
