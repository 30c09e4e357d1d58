"""The multispectral image database of CAVE, Columbia University.

A scene is a folder with 31 grey 16-bit PNG images, ``NAME_ms_01.png`` (400 nm) to
``NAME_ms_31.png`` (700 nm), and ``NAME_RGB.bmp``, its colours in sRGB under D65. The archives hold
the folder inside another of the same name; both are found.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.datasets.images import COLOURS, camera_response, read_colours, read_grey
from pixelssr_geo.datasets.pair import (
    PairDataset,
    ScenePair,
    check_folder,
    image_cube,
    image_scene,
)
from pixelssr_geo.errors import SceneError, SceneReadError
from pixelssr_geo.place import shown
from pixelssr_geo.spectra import ChannelGrid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pixelssr_geo.spectra import SpectralResponse

TITLE = "CAVE"
FILES = "folders NAME_ms with NAME_ms_01.png to NAME_ms_31.png and NAME_RGB.bmp"
WAVELENGTHS = "400:700:10"
"""Channels of every scene, nm."""

_MOST_LEVELS = 3  # folders between root and images: complete_ms_data/NAME_ms/NAME_ms


def open_cave(
    root: str | Path, *, response: SpectralResponse | str | Path | None = None
) -> PairDataset:
    """The scenes of a folder of CAVE.

    Parameters
    ----------
    root
        Folder that holds the scenes' folders.
    response
        Of the camera that the images are taken to come from, or its file. They are rendered, not
        measured: for one that holds, simulate scenes from the cubes.

    Raises
    ------
    SceneReadError
        If the folder holds no scene.
    """
    root = Path(root)
    check_folder(root, TITLE, FILES)
    folders = {
        path.name.removesuffix("_ms_01.png"): path.parent
        for level in range(_MOST_LEVELS + 1)
        for path in sorted(root.glob("*/" * level + "*_ms_01.png"))
        if not path.name.startswith(".")
    }
    if not folders:
        raise SceneReadError(
            f"'{shown(root)}' holds no scene of {TITLE}, expected {FILES}: unpack the archive into it"
        )
    load = partial(_load, folders, camera_response(response))
    return PairDataset(TITLE, tuple(sorted(folders)), load)


def _load(folders: Mapping[str, Path], response: SpectralResponse | None, name: str) -> ScenePair:
    folder, channels = folders[name], ChannelGrid.from_spec(WAVELENGTHS)
    paths = [folder / f"{name}_ms_{number:02d}.png" for number in range(1, len(channels) + 1)]
    image = folder / f"{name}_RGB.bmp"
    if missing := [path.name for path in (*paths, image) if not path.is_file()]:
        raise SceneReadError(
            f"folder '{shown(folder)}' lacks {missing[0]} and {len(missing) - 1} other files, "
            f"{len(paths)} channels and an RGB image were expected: unpack the archive again"
        )
    scene = image_scene(read_colours(image), image, COLOURS, response)
    return ScenePair(name, scene, image_cube(_stacked(paths), folder, channels), response)


def _stacked(paths: list[Path]) -> NDArray[np.float32]:
    images = [read_grey(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise SceneError(
                f"image '{shown(path)}' has {image.shape[0]} x {image.shape[1]} pixels, the first "
                f"channel {images[0].shape[0]} x {images[0].shape[1]}, equal ones are needed: unpack "
                "the archive again"
            )
    return np.stack(images)
