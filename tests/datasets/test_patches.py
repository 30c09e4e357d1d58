from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.datasets import (
    PairDataset,
    PatchPlan,
    ScenePair,
    open_arad,
    open_rasters,
    patch_windows,
    patches,
    scene_parts,
)
from pixelssr_geo.datasets.pair import SPLITS
from pixelssr_geo.errors import SceneError, SettingsError
from pixelssr_geo.testing import make_cube
from pixelssr_geo.writers import write_cog

SMALL = PatchPlan(size=8, by="block", block=16, shares=(0.5, 0.25, 0.25), label_ratio=0.05)
"""Sixteen blocks of four patches each in a scene of 64 x 64 pixels."""


def counted(shape):
    """A pair whose one band and one channel number the pixels."""
    values = np.arange(shape[0] * shape[1], dtype="f4").reshape(1, *shape)
    scene = xr.DataArray(values, dims=("band", "y", "x"))
    cube = xr.DataArray(values + 0.5, dims=("wavelength", "y", "x"))
    return scene, cube.assign_coords(wavelength=[500.0])


def dataset_of(*names, shape=(64, 64), hole=None, splits=None):
    """A dataset of such pairs."""

    def load(name):
        scene, cube = counted(shape)
        if hole is not None:
            cube[:, *hole] = np.nan
        return ScenePair(name, scene, cube)

    return PairDataset("the made scenes", names, load, splits or {})


def covered(shape, windows):
    """How many of the windows hold each pixel."""
    count = np.zeros(shape, int)
    for window in windows:
        count[window.slices] += 1
    return count


sizes = st.integers(1, 50)


class TestBlocks:
    @settings(deadline=None)  # thousands of patches of one pixel
    @given(sizes, sizes, st.integers(1, 15), st.integers(0, 20), st.integers(0, 5))
    def test_every_pixel_belongs_to_one_part(self, height, width, size, more, seed):
        plan = PatchPlan(size=size, by="block", block=size + more, shares=(1, 0, 0), seed=seed)
        whole = covered((height, width), patch_windows("a", (height, width), "train", plan))
        assert whole.min() >= 1
        plan = replace(plan, shares=(0.6, 0.2, 0.2))
        try:
            parts = [patch_windows("a", (height, width), split, plan) for split in SPLITS]
        except SettingsError:
            assert max(height, width) < 3 * (plan.block + size)
            return
        counts = np.array([covered((height, width), windows) > 0 for windows in parts])
        assert (counts.sum(0) == 1).all()
        assert counts.any((1, 2)).all()

    @settings(deadline=None)
    @given(sizes, sizes, st.integers(2, 20), st.data())
    def test_patches_lie_in_the_scene_and_are_of_full_size_where_it_is(
        self, height, width, size, data
    ):
        step = data.draw(st.integers(1, size))
        plan = PatchPlan(size=size, stride=step, by="block", block=2 * size, shares=(1, 0, 0))
        windows = patch_windows("a", (height, width), "train", plan)
        assert {window.shape for window in windows} == {(min(size, height), min(size, width))}
        assert all(window.row_stop <= height and window.col_stop <= width for window in windows)
        assert len(set(windows)) == len(windows)

    def test_shares_are_of_blocks(self):
        held = [len(patch_windows("a", (64, 64), split, SMALL)) // 4 for split in SPLITS]
        assert held == [8, 4, 4]

    def test_a_positive_share_gets_a_block_however_small(self):
        plan = replace(SMALL, shares=(0.998, 0.001, 0.001))
        held = [len(patch_windows("a", (64, 64), split, plan)) // 4 for split in SPLITS]
        assert held == [14, 1, 1]

    def test_the_deal_depends_on_seed_and_name(self):
        plans = [replace(SMALL, seed=seed) for seed in range(4)]
        dealt = {patch_windows("a", (64, 64), "test", plan) for plan in plans}
        named = {patch_windows(name, (64, 64), "test", SMALL) for name in "abcd"}
        assert len(dealt) == len(named) == 4

    def test_what_holds_no_patch_joins_its_neighbour(self):
        plan = PatchPlan(size=8, by="block", block=16, shares=(1, 0, 0))
        windows = patch_windows("a", (39, 16), "train", plan)
        # Rows 32 to 38 hold no patch of 8: the last block has 23 rows.
        assert sorted({window.row for window in windows}) == [0, 8, 16, 24, 31]

    def test_the_published_sizes_make_the_published_patches(self):
        scene = PatchPlan()
        assert len(patch_windows("a", (512, 512), "train", scene)) == 16
        assert len(patch_windows("a", (482, 512), "train", scene)) == 16
        blocks = PatchPlan(by="block", shares=(1, 0, 0))
        assert len(patch_windows("a", (1948, 4112), "train", blocks)) == 16 * 33

    def test_too_few_blocks_are_told_in_a_line(self):
        with pytest.raises(SettingsError, match=r"there are 1 blocks of 256.*make blocks smaller"):
            patch_windows("a", (300, 300), "train", PatchPlan(by="block"))


class TestScenes:
    names = tuple(f"s{number:02d}" for number in range(20))

    def test_the_publisher_s_parts_go_first(self, arad):
        dataset = open_arad(arad)
        assert scene_parts(dataset, PatchPlan()) == dataset.splits
        found = [patch.pair.name for patch in patches(dataset, "validation", PatchPlan(size=16))]
        assert set(found) == {"ARAD_1K_0901"}

    def test_parts_that_the_publisher_leaves_out_are_empty(self):
        dataset = dataset_of(*self.names, splits={"train": ("s03",)})
        parts = scene_parts(dataset, PatchPlan())
        assert parts == {"train": ("s03",), "validation": (), "test": ()}

    @given(st.integers(0, 50), st.tuples(*[st.integers(1, 9)] * 3))
    def test_other_scenes_are_dealt_by_seed(self, seed, weights):
        shares = tuple(weight / sum(weights) for weight in weights)
        plan = PatchPlan(shares=shares, seed=seed)
        parts = scene_parts(dataset_of(*self.names), plan)
        assert sorted(sum(parts.values(), ())) == list(self.names)
        for split, share in zip(SPLITS, shares, strict=True):
            assert parts[split]
            assert abs(len(parts[split]) - 20 * share) <= 1 + 1e-9
        assert scene_parts(dataset_of(*self.names), plan) == parts

    def test_too_few_scenes_are_told_in_a_line(self):
        with pytest.raises(SettingsError, match=r"2 scenes of the made scenes.*deal by 'block'"):
            scene_parts(dataset_of("a", "b"), PatchPlan())
        assert scene_parts(dataset_of("a", "b"), PatchPlan(shares=(0.5, 0, 0.5)))["test"]


class TestPatches:
    def test_a_patch_holds_its_window_of_scene_and_cube(self):
        scene, cube = counted((64, 64))
        found = list(patches(dataset_of("a"), "train", SMALL))
        assert len(found) == 32
        for patch in found:
            rows, cols = patch.window.slices
            np.testing.assert_array_equal(patch.pair.scene, scene[:, rows, cols])
            np.testing.assert_array_equal(patch.pair.cube, cube[:, rows, cols])

    def test_labels_are_the_same_in_every_epoch(self):
        dataset = dataset_of("a", "b")
        first, second = (list(patches(dataset, "train", SMALL)) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            assert one.window == other.window
            np.testing.assert_array_equal(one.labelled, other.labelled)

    def test_labels_do_not_depend_on_the_other_scenes(self):
        alone = list(patches(dataset_of("b"), "train", SMALL))
        beside = [p for p in patches(dataset_of("a", "b"), "train", SMALL) if p.pair.name == "b"]
        for one, other in zip(alone, beside, strict=True):
            np.testing.assert_array_equal(one.labelled, other.labelled)

    def test_every_patch_has_labels_of_its_own(self):
        drawn = Counter(
            patch.labelled.tobytes()
            for seed in (0, 1)
            for patch in patches(dataset_of("a", "b"), "train", replace(SMALL, seed=seed))
        )
        assert max(drawn.values()) == 1

    @settings(max_examples=30)
    @given(st.floats(1e-4, 1), st.integers(1, 16), st.integers(1, 16))
    def test_the_ratio_is_rounded_down_to_at_least_one_label(self, ratio, height, width):
        plan = PatchPlan(size=16, label_ratio=ratio, shares=(1, 0, 0))
        (patch,) = patches(dataset_of("a", shape=(height, width)), "train", plan)
        assert patch.labelled.sum() == max(1, int(ratio * height * width + 1e-9))

    def test_the_paper_s_least_ratio_is_one_label_a_patch(self):
        dataset = dataset_of("a", shape=(128, 256))
        found = list(patches(dataset, "train", PatchPlan(shares=(1, 0, 0))))
        assert [int(patch.labelled.sum()) for patch in found] == [1, 1]

    def test_labels_lie_on_valid_pixels_alone(self):
        plan = PatchPlan(size=16, label_ratio=0.5, shares=(1, 0, 0))
        dataset = dataset_of("a", shape=(16, 16), hole=(slice(0, 16), slice(0, 12)))
        (patch,) = patches(dataset, "train", plan)
        assert patch.valid.sum() == 64
        assert patch.labelled.sum() == 32
        assert not patch.labelled[~patch.valid].any()

    def test_patches_without_a_valid_pixel_are_left_out(self):
        plan = PatchPlan(size=8, shares=(1, 0, 0))
        dataset = dataset_of("a", shape=(16, 16), hole=(slice(0, 8), slice(0, 8)))
        assert len(list(patches(dataset, "train", plan))) == 3

    def test_labels_are_what_a_training_learns_from(self):
        patch = next(patches(dataset_of("a"), "train", SMALL))
        labels = patch.labels
        assert len(labels) == patch.labelled.sum() == 3
        rows, cols = labels.rows + patch.window.row, labels.cols + patch.window.col
        np.testing.assert_array_equal(labels.bands[:, 0], 64 * rows + cols)
        np.testing.assert_array_equal(labels.spectra, labels.bands + 0.5)

    def test_without_a_cube_there_are_no_spectra(self, arad):
        patch = next(patches(open_arad(arad), "test", PatchPlan(size=16)))
        with pytest.raises(SceneError, match="'ARAD_1K_0951' has no cube"):
            _ = patch.labels

    def test_a_large_raster_is_read_piece_by_piece(self, tmp_path, monkeypatch):
        from pixelssr_geo import scene

        shape = (600, 530)
        write_cog(make_cube(shape, wavelengths="450:750:150"), tmp_path / "a_msi.tif")
        write_cog(make_cube(shape, wavelengths="400:800:100"), tmp_path / "a_hsi.tif")
        read, calls = scene._read_chunk, []

        def counting(path, indexes, scales, offsets, block_info=None):
            calls.append(path)
            return read(path, indexes, scales, offsets, block_info)

        monkeypatch.setattr(scene, "_read_chunk", counting)
        plan = PatchPlan(size=64, by="block", block=128, shares=(0.5, 0.25, 0.25))
        dataset = open_rasters(tmp_path)
        found = sum(len(list(patches(dataset, split, plan))) for split in SPLITS)
        assert found == 90
        # Four chunks of two files, at most once for each part.
        assert len(calls) <= 4 * 2 * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"stride": 0},
        {"stride": 129},
        {"block": 100},
        {"by": "pixel"},
        {"shares": (0.5, 0.2, 0.2)},
        {"shares": (1.2, -0.1, -0.1)},
        {"shares": (0.5, 0.5)},
        {"label_ratio": 0},
        {"label_ratio": 1.5},
        {"seed": -1},
    ],
)
def test_plans_that_make_no_sense_are_refused_in_a_line(wrong):
    with pytest.raises(SettingsError, match="expected") as told:
        PatchPlan(**wrong)
    assert "\n" not in str(told.value)
