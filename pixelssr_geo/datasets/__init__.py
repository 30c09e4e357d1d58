"""Scenes and cubes of published datasets, one at a time, and patches of them with labels.

:func:`open_dataset` lists what lies in a folder; :class:`PairDataset` loads a scene with its cube
when it is asked for it; :func:`patches` cuts them into patches of a training, validation or test
part. ``docs/pages/datasets.md`` says where the data come from and how the folders must look.
"""

from pixelssr_geo.datasets.arad import open_arad
from pixelssr_geo.datasets.cave import open_cave
from pixelssr_geo.datasets.pair import PairDataset, ScenePair, Split
from pixelssr_geo.datasets.patches import Patch, PatchPlan, patch_windows, patches, scene_parts
from pixelssr_geo.datasets.rasters import open_rasters
from pixelssr_geo.datasets.registry import DatasetSpec, list_datasets, open_dataset
from pixelssr_geo.datasets.simulated import simulated

__all__ = [
    "DatasetSpec",
    "PairDataset",
    "Patch",
    "PatchPlan",
    "ScenePair",
    "Split",
    "list_datasets",
    "open_arad",
    "open_cave",
    "open_dataset",
    "open_rasters",
    "patch_windows",
    "patches",
    "scene_parts",
    "simulated",
]
