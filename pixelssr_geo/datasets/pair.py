"""A scene with its cube, and a dataset of such pairs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import xarray as xr

from pixelssr_geo.errors import SceneError, SceneReadError, SettingsError
from pixelssr_geo.place import shown
from pixelssr_geo.scene import FWHM_ATTRS, WAVELENGTH_ATTRS, cube_channels
from pixelssr_geo.writers import CubeTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pixelssr_geo.spectra import ChannelGrid, SpectralResponse
    from pixelssr_geo.tiling.plan import Window

Split = Literal["train", "validation", "test"]
"""Parts of a dataset: what is learnt from, what settings are chosen by, and what is reported."""

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True, eq=False)
class ScenePair:
    """A scene and the cube of the same pixels.

    Raises
    ------
    SceneError
        If scene and cube differ in size.
    """

    name: str
    """What messages and splits call it."""
    scene: xr.DataArray
    """Dims ``(band, y, x)``, NaN for nodata; lazy where the files are large."""
    cube: xr.DataArray | None
    """Dims ``(wavelength, y, x)``, nm, ascending, NaN for nodata; None where it is not public."""
    response: SpectralResponse | None = None
    """Of the scene's bands, or None where nobody knows it."""

    def __post_init__(self) -> None:
        if self.cube is not None and self.shape != (self.cube.sizes["y"], self.cube.sizes["x"]):
            raise SceneError(
                f"scene '{self.name}' has {self.shape[0]} x {self.shape[1]} pixels, its cube "
                f"{self.cube.sizes['y']} x {self.cube.sizes['x']}, equal ones are needed: check that "
                "both files are of one scene"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.scene.sizes["y"], self.scene.sizes["x"]

    @property
    def channels(self) -> ChannelGrid | None:
        """Channels of the cube, or None without one."""
        return None if self.cube is None else cube_channels(self.cube)

    def crop(self, window: Window) -> ScenePair:
        """The pixels of a window, read into memory."""
        rows, cols = window.slices
        scene = self.scene.isel(y=rows, x=cols).load()
        cube = None if self.cube is None else self.cube.isel(y=rows, x=cols).load()
        return replace(self, scene=scene, cube=cube)

    def valid(self) -> NDArray[np.bool_]:
        """Pixels with data in every band and every channel, ``(y, x)``."""
        found = np.isfinite(self.scene.values).all(0)
        if self.cube is not None:
            found &= np.isfinite(self.cube.values).all(0)
        return np.asarray(found)


@dataclass(frozen=True, slots=True, eq=False)
class PairDataset:
    """The scenes of a dataset; each is loaded when it is asked for, and none is kept.

    Iterating loads one after the other.
    """

    title: str
    """What messages call the dataset."""
    names: tuple[str, ...]
    """Of all scenes, in order."""
    loader: Callable[[str], ScenePair]
    """Gives the scene of a name; pickles, for workers."""
    splits: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)
    """Which scenes the publisher says to learn from and to test with; empty where none is said."""

    def load(self, name: str) -> ScenePair:
        """The scene of that name.

        Raises
        ------
        SettingsError
            If there is none; the message names the nearest.
        PixelSSRError
            If its files are missing or malformed.
        """
        if name not in self.names:
            near = get_close_matches(name, self.names, n=3) or self.names[:3]
            raise SettingsError(
                f"{self.title} has no scene '{name}' among its {len(self.names)}, expected one such "
                f"as {', '.join(near)}: choose from its names"
            )
        return self.loader(name)

    def select(self, names: Sequence[str]) -> PairDataset:
        """The dataset of some of its scenes, in the given order.

        Raises
        ------
        SettingsError
            If there is no scene of a name.
        """
        if missing := [name for name in names if name not in self.names]:
            raise SettingsError(
                f"{self.title} has no scene '{missing[0]}' among its {len(self.names)}, expected "
                f"some such as {', '.join(self.names[:3])}: choose from its names"
            )
        splits = {
            split: tuple(name for name in own if name in names)
            for split, own in self.splits.items()
        }
        return replace(self, names=tuple(names), splits=splits)

    def __iter__(self) -> Iterator[ScenePair]:
        return map(self.loader, self.names)

    def __len__(self) -> int:
        return len(self.names)


def check_folder(root: Path, title: str, expected: str) -> None:
    """Refuse a root that is no folder.

    Raises
    ------
    SceneReadError
        If it is none; the message says what was ``expected`` in it.
    """
    if not root.is_dir():
        raise SceneReadError(
            f"'{shown(root)}' is {'no folder' if root.exists() else 'not there'}, the folder of "
            f"{title} was expected ({expected}): give its path"
        )


def image_scene(
    values: NDArray[np.float32],
    path: Path,
    names: tuple[str, ...],
    response: SpectralResponse | None,
) -> xr.DataArray:
    """A scene of an image without a place in the world, ``(band, y, x)``.

    It has wavelengths where there is a response.
    """
    coords: dict[str, object] = {"band": list(names), **_rows_and_columns(values.shape[1:])}
    if response is not None:
        coords["wavelength"] = ("band", response.centres_nm, WAVELENGTH_ATTRS)
        coords["fwhm"] = ("band", response.fwhm_nm, FWHM_ATTRS)
    scene = xr.DataArray(values, dims=("band", "y", "x"), coords=coords, name="reflectance")
    return scene.assign_attrs(source=shown(path))


def image_cube(values: NDArray[np.float32], path: Path, channels: ChannelGrid) -> xr.DataArray:
    """A cube without a place in the world, ``(wavelength, y, x)``."""
    _, height, width = values.shape
    template = CubeTemplate(
        shape=(height, width),
        wavelengths_nm=tuple(map(float, channels.centres_nm)),
        fwhm_nm=tuple(map(float, channels.fwhm_nm)),
        crs_wkt=None,
        transform=(1.0, 0.0, 0.0, 0.0, -1.0, float(height)),
        attrs={"source": shown(path)},
    )
    cube: xr.DataArray = template.to_dataarray(values)
    return cube


def _rows_and_columns(shape: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Coordinates of pixel centres, as those that GDAL's rasters without a place are given."""
    height, width = shape
    return {
        "y": height - 0.5 - np.arange(height, dtype="f8"),
        "x": np.arange(width, dtype="f8") + 0.5,
    }
