"""ARAD-1K, the data of the NTIRE 2022 challenge on spectral recovery.

A cube is a MATLAB v7.3 file with the variables ``cube`` (31 channels, 400 to 700 nm) and ``bands``
(their wavelengths, nm), its scene a JPEG of the same name. Which scenes are for what is said by
``split_txt/*_list.txt`` where these lists are there, as toolboxes have them, otherwise by the
numbers that the challenge gave out: 1 to 900 to learn from, 901 to 950 to validate, the rest, whose
cubes were never published, to test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.datasets.images import COLOURS, camera_response, read_colours, read_matlab
from pixelssr_geo.datasets.pair import (
    SPLITS,
    PairDataset,
    ScenePair,
    Split,
    check_folder,
    image_cube,
    image_scene,
)
from pixelssr_geo.errors import SceneError, SceneReadError, WavelengthGridError
from pixelssr_geo.place import shown
from pixelssr_geo.spectra import ChannelGrid
from pixelssr_geo.spectra.quadrature import local_spacing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pixelssr_geo.spectra import SpectralResponse

TITLE = "ARAD-1K"
FILES = "Train_Spec/*.mat, Train_RGB/*.jpg, and Valid_ and Test_ folders alike"

_PARTS: dict[str, Split] = {
    "train": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
_FOLDER = re.compile(r"(train|valid|val|validation|test)_(spec|spectral|rgb)", re.IGNORECASE)
_LIST = re.compile(r"(train|valid|val|validation|test)_list\.txt", re.IGNORECASE)
_NUMBER = re.compile(r"ARAD_1K_(\d{4})")
_LAST_TRAIN, _LAST_VALIDATION = 900, 950
_IMAGES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class _Files:
    """Files of one scene."""

    image: Path | None
    """Its colour image."""
    cube: Path | None
    """Its cube."""
    folder: Split
    """Part that the folder's name says."""


def open_arad(
    root: str | Path, *, response: SpectralResponse | str | Path | None = None
) -> PairDataset:
    """The scenes of a folder of ARAD-1K.

    Parameters
    ----------
    root
        Folder that holds ``Train_Spec``, ``Train_RGB`` and so on.
    response
        Of the camera behind the images, or its file. The published images are scaled one by one,
        noisy and compressed, so that they agree with it up to a factor.

    Raises
    ------
    SceneReadError
        If the folder holds no scene, or a list names one that it does not hold.
    """
    root = Path(root)
    check_folder(root, TITLE, FILES)
    files = _listed(root)
    if not files:
        raise SceneReadError(
            f"'{shown(root)}' holds no cube and no image of {TITLE}, expected {FILES}: unpack the "
            "archives into it"
        )
    load = partial(_load, files, camera_response(response))
    names = tuple(sorted(files))
    return PairDataset(TITLE, names, load, _splits(root, files))


def _listed(root: Path) -> dict[str, _Files]:
    images: dict[str, Path] = {}
    cubes: dict[str, Path] = {}
    part: dict[str, Split] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if not (kind := _FOLDER.fullmatch(folder.name)):
            continue
        is_image = kind[2].lower() == "rgb"
        endings = _IMAGES if is_image else (".mat",)
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in endings and not path.name.startswith("."):
                (images if is_image else cubes)[path.stem] = path
                part.setdefault(path.stem, _PARTS[kind[1].lower()])
    return {name: _Files(images.get(name), cubes.get(name), part[name]) for name in part}


def _splits(root: Path, files: Mapping[str, _Files]) -> dict[Split, tuple[str, ...]]:
    listed = [
        (path, _PARTS[kind[1].lower()])
        for path in sorted(root.glob("split_txt/*.txt"))
        if (kind := _LIST.fullmatch(path.name))
    ]
    if listed:
        splits: dict[Split, tuple[str, ...]] = {split: _names(path) for path, split in listed}
        for path, split in listed:
            if missing := [name for name in splits[split] if name not in files]:
                raise SceneReadError(
                    f"list '{shown(path)}' names '{missing[0]}' and {len(missing) - 1} others that "
                    f"'{shown(root)}' does not hold, {FILES} were expected: unpack all archives"
                )
        return splits
    dealt = {name: _published_part(name, own.folder) for name, own in files.items()}
    return {
        split: tuple(sorted(name for name, part in dealt.items() if part == split))
        for split in SPLITS
    }


def _names(path: Path) -> tuple[str, ...]:
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    return tuple(sorted({line.removesuffix(".mat") for line in lines}))


def _published_part(name: str, folder: Split) -> Split:
    """Part of a scene by its number, for toolboxes keep those to validate with those to learn from."""
    if not (number := _NUMBER.fullmatch(name)):
        return folder
    if int(number[1]) <= _LAST_TRAIN:
        return "train"
    return "validation" if int(number[1]) <= _LAST_VALIDATION else "test"


def _load(files: Mapping[str, _Files], response: SpectralResponse | None, name: str) -> ScenePair:
    own = files[name]
    if own.image is None:
        raise SceneReadError(
            f"scene '{name}' has the cube '{shown(own.cube or name)}' and no image, a {name}.jpg in a "
            "folder such as Train_RGB is needed: unpack the archive of images, too"
        )
    scene = image_scene(read_colours(own.image), own.image, COLOURS, response)
    cube = None
    if own.cube is not None:
        values, bands = read_matlab(own.cube, "cube", "bands")
        channels = _channels(np.ravel(bands).astype("f8"), own.cube)
        if values.ndim != 3 or values.shape[2] != len(channels):
            raise SceneError(
                f"variable 'cube' of '{shown(own.cube)}' has shape {values.shape} and 'bands' "
                f"{len(channels)} wavelengths, expected (row, column, channel) with one wavelength "
                "each: download the file again"
            )
        layers = np.ascontiguousarray(np.moveaxis(values, 2, 0), dtype=np.float32)
        cube = image_cube(layers, own.cube, channels)
    return ScenePair(name, scene, cube, response)


def _channels(centres: NDArray[np.float64], path: Path) -> ChannelGrid:
    try:
        return ChannelGrid(centres, local_spacing(centres))
    except (WavelengthGridError, IndexError) as error:
        raise WavelengthGridError(
            f"variable 'bands' of '{shown(path)}' is no list of wavelengths in nm ({error}), "
            "expected ascending ones, such as 400, 410, ... 700: download the file again"
        ) from error
