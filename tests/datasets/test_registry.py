from pathlib import Path

import numpy as np
import pytest

from pixelssr_geo.datasets import list_datasets, open_cave, open_dataset
from pixelssr_geo.errors import SceneReadError, SettingsError
from pixelssr_geo.evaluation import evaluate
from pixelssr_geo.pretraining import read_training_cube
from pixelssr_geo.spectra import get_sensor


def test_a_text_opens_a_dataset(cave, arad):
    assert open_dataset(f"cave:{cave}").names == open_cave(cave).names
    assert len(open_dataset(f"NTIRE2022:{arad}")) == 5
    assert open_dataset(f"CAVE:{cave}", response=get_sensor("RGB")).load("beads").response


@pytest.mark.parametrize("text", ["cave", "cave:", "kave:data", ":data", "data/CAVE"])
def test_other_texts_are_told_the_form(text):
    with pytest.raises(SettingsError, match=r"one of arad-1k:ROOT, cave:ROOT, rasters:ROOT"):
        open_dataset(text)


def test_options_are_those_of_the_dataset(cave):
    with pytest.raises(SettingsError, match="'scale' was given for dataset 'cave'"):
        open_dataset(f"cave:{cave}", scale=1.0)


@pytest.mark.parametrize("spec", list_datasets(), ids=lambda spec: spec.name)
def test_every_dataset_says_what_its_folder_must_hold(spec, tmp_path):
    for name in (spec.name, *spec.aliases):
        with pytest.raises(SceneReadError) as told:
            open_dataset(f"{name}:{tmp_path}")
        assert spec.files in str(told.value)
        with pytest.raises(SceneReadError, match="is not there"):
            open_dataset(f"{name}:{tmp_path / 'nowhere'}")


def test_a_pair_goes_where_scenes_and_cubes_go(cave):
    pair = open_dataset(f"cave:{cave}").load("beads")
    training = read_training_cube(pair.cube)
    assert training.values.shape == (31, 16, 20)
    assert training.name == "beads_ms"
    result = evaluate(pair.cube, pair.cube)
    assert result["pixels"] == 320
    assert np.isinf(result["psnr"])


def test_the_page_lists_the_datasets_of_the_code():
    page = Path(__file__).resolve().parents[2] / "docs" / "pages" / "datasets.md"
    if not page.is_file():
        pytest.skip("the tests run beside an installed package")
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list_datasets())
    for row, spec in zip(rows, list_datasets(), strict=True):
        name, _, files, terms = (cell.strip() for cell in row.strip("|").split(" | "))
        assert name.replace("`", "").partition(" ")[0] == spec.name
        assert all(f"`{alias}`" in name for alias in spec.aliases)
        assert files.replace("`", "") == spec.files
        assert terms == spec.terms
