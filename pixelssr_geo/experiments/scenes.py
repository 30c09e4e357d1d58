"""Scenes whose cube is known, and the trials made from them: what a method is given and judged by.

A frozen scene is a folder of the benchmark: ``reference.tif``, the scene ``scene_s<seed>.tif`` seen
by the sensor of ``gf6_pms_response.csv`` with 0.2 % noise, and points ``points_<count>_s<seed>.gpkg``.
Of any other scene the cube is enough; scene and points are drawn from it, as is everything that the
frozen folder lacks: other noise, other numbers of points, other protocols, other seeds.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from pixelssr_geo.errors import SceneReadError, SettingsError
from pixelssr_geo.estimator import usable_bands
from pixelssr_geo.estimator.library import load_library
from pixelssr_geo.pairing import pair_points
from pixelssr_geo.points import PointSpectra, read_points
from pixelssr_geo.scene import cube_channels, open_cube, open_scene, pixel_grid
from pixelssr_geo.simulation import BLOCK_SIDE, CORNER, simulate_scene
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, get_sensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from pixelssr_geo.labels import Labels

Protocol = Literal["random", "block", "corner"]
"""Where points lie and what is scored. ``random``: anywhere, all pixels without a label; ``block``:
in every other block of a chequerboard of 10 x 10 pixels, the other half; ``corner``: in the upper
left 30 % x 30 %, everything else."""

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

RESPONSE_FILE = "gf6_pms_response.csv"
"""Response functions behind the frozen scenes."""

FROZEN_NOISE = 0.002
"""Standard deviation of the noise in the frozen scenes, as a share of their mean."""

LEAST_POINTS = 2
"""Points that a share of the pixels stands for at least."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many points there are: a number, or a share of the scene's valid pixels."""

    value: float
    """The number, or the share 0-1."""
    is_share: bool
    """Which of the two."""

    @staticmethod
    def parse(text: str) -> Ratio:
        """The ratio that a text such as ``18`` or ``0.1%`` asks for.

        Raises
        ------
        SettingsError
            If it is neither.

        Examples
        --------
        >>> Ratio.parse("0.1%").count(18_432)
        18
        """
        number, percent, rest = text.strip().partition("%")
        value = _number(number)
        whole = bool(percent) or value.is_integer()
        if rest or not (whole and 0 <= value <= (100 if percent else np.inf)):
            raise SettingsError(
                f"'{text}' is asked for as points, expected a number such as 18 or a share such as "
                "0.1%: give one of these"
            )
        return Ratio(value / 100 if percent else value, bool(percent))

    def __str__(self) -> str:
        return percent_text(self.value) if self.is_share else f"{self.value:.0f}"

    def count(self, valid: int) -> int:
        """Points on a scene with so many valid pixels."""
        return max(LEAST_POINTS, round(self.value * valid)) if self.is_share else int(self.value)


def parse_noise(text: str) -> float:
    """The share of the mean that a text such as ``0.2%`` asks for.

    Raises
    ------
    SettingsError
        If it is none.
    """
    number, percent, rest = text.strip().partition("%")
    value = _number(number)
    if rest or not percent or not 0 <= value < np.inf:
        raise SettingsError(
            f"'{text}' is asked for as noise, expected a share of the scene's mean such as 0.2%: "
            "give one"
        )
    return value / 100


def parse_seed(text: str) -> int:
    """The seed that a text asks for.

    Raises
    ------
    SettingsError
        If it is none.
    """
    if not text.isdecimal():
        raise SettingsError(f"'{text}' is no seed, expected a number from 0 on: give one")
    return int(text)


def percent_text(share: float) -> str:
    """A share as the shortest text in percent."""
    return f"{100 * share:.10g}%"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


@dataclass(frozen=True, slots=True)
class SceneSource:
    """Where a scene's truth is, and which sensor sees it; small, so that it can go anywhere."""

    name: str
    """What the scene is called in tables."""
    cube: Path
    """The reference."""
    response: Path | None = None
    """File of response functions, or None where the sensor is known by name."""
    sensor: str | None = None
    """Name of the sensor, or None."""
    frozen: bool = False
    """Whether frozen scenes and points lie beside the reference."""


def benchmark_folder(root: str | Path | None = None) -> Path:
    """The folder of the frozen scenes: as given, or ``benchmark`` beside ``$PIXELSSR_DATA``.

    Raises
    ------
    SceneReadError
        If there is no such folder, or nothing says where it is.
    """
    if root is None:
        data = os.environ.get("PIXELSSR_DATA")
        if data is None:
            raise SceneReadError(
                "nothing says where the frozen scenes are, a folder of them is needed: give --data "
                "ROOT, set PIXELSSR_DATA, or give a --scene of your own"
            )
        root = Path(data).parent / "benchmark"
    folder = Path(root)
    if not (folder / RESPONSE_FILE).is_file():
        raise SceneReadError(
            f"'{folder}' holds no {RESPONSE_FILE}, the folder of the frozen scenes was expected: "
            "give --data ROOT"
        )
    return folder


def frozen_scenes(folder: Path) -> dict[str, SceneSource]:
    """The frozen scenes of a folder, by name."""
    return {
        cube.parent.name: SceneSource(cube.parent.name, cube, folder / RESPONSE_FILE, frozen=True)
        for cube in sorted(folder.glob("*/reference.tif"))
    }


def chosen_scenes(
    names: Sequence[str] | None = None,
    cubes: Sequence[str] = (),
    *,
    data: str | Path | None = None,
    sensor: str | None = None,
    response: str | Path | None = None,
) -> tuple[SceneSource, ...]:
    """Scenes by name and cubes by path; all frozen scenes where neither is given.

    Parameters
    ----------
    names
        Of frozen scenes; None takes all of them, or none where there are ``cubes``.
    cubes
        References to make scenes from, as ``CUBE``, whose name is that of the file, or
        ``NAME=CUBE``.
    data
        Folder of the frozen scenes, see :func:`benchmark_folder`.
    sensor, response
        Name of the sensor that sees the cubes, or the file of its response functions.

    Raises
    ------
    SettingsError
        If there is no frozen scene of a name, two have one name, or the sensor is not told.
    SceneReadError
        If the frozen scenes are not found.
    """
    if (sensor is not None) + (response is not None) != bool(cubes):
        raise SettingsError(
            f"{len(cubes)} cubes are given with sensor {sensor} and response {response}, a cube "
            "needs one of the two: give --scene with either --sensor NAME or --response CSV"
        )
    chosen = []
    if names is not None or not cubes:
        known = frozen_scenes(benchmark_folder(data))
        for name in known if names is None else names:
            if name not in known:
                raise SettingsError(
                    f"there is no frozen scene '{name}', expected some of {', '.join(known)}: choose "
                    "from these, or give a cube as --scene"
                )
            chosen.append(known[name])
    table = None if response is None else Path(response)
    for text in cubes:
        name, given, path = text.partition("=")
        if not given or "/" in name:  # an equals sign inside a path
            name, path = Path(text).stem, text
        chosen.append(SceneSource(name, Path(path), table, sensor))
    listed = [source.name for source in chosen]
    if twice := [name for name in listed if listed.count(name) > 1]:
        raise SettingsError(
            f"two scenes are called '{twice[0]}', a name for each is needed to tell their results "
            "apart: leave one out, or give --scene NAME=CUBE"
        )
    return tuple(chosen)


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A scene's truth, and what its sensor can see of it."""

    cube: xr.DataArray
    """Reference on the channels that the library covers, dims ``(wavelength, y, x)``, in memory."""
    channels: ChannelGrid
    """Its channels."""
    response: SpectralResponse
    """Of the bands inside the channels."""
    bands: NDArray[np.int64]
    """Which of the sensor's bands these are."""
    valid: NDArray[np.bool_]
    """Pixels with a value in every channel, ``(y, x)``."""

    def allowed(self, protocol: Protocol) -> NDArray[np.bool_]:
        """Pixels that points may lie in, ``(y, x)``."""
        height, width = self.valid.shape
        rows, cols = np.ogrid[:height, :width]
        if protocol == "block":
            source = (rows // BLOCK_SIDE + cols // BLOCK_SIDE) % 2 == 0
        elif protocol == "corner":
            source = (rows < CORNER * height) & (cols < CORNER * width)
        else:
            source = np.ones_like(self.valid)
        return np.asarray(self.valid & source)

    def scored(self, protocol: Protocol) -> NDArray[np.bool_]:
        """Pixels that are scored unless they carry a label, ``(y, x)``."""
        return self.valid if protocol == "random" else self.valid & ~self.allowed(protocol)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a method is given, and what it is judged by."""

    ground: Ground
    """The truth."""
    scene: xr.DataArray
    """What the sensor sees, usable bands only, dims ``(band, y, x)``."""
    points: PointSpectra | None
    """Field spectra, or None."""
    labels: Labels | None
    """The pixels that they fall in, or None."""
    scored: NDArray[np.bool_]
    """Pixels that count, ``(y, x)``."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Response matrix S of the usable bands, ``(band, channel)``."""
        return self.ground.response.matrix(self.ground.channels)


@lru_cache(maxsize=2)
def load_ground(source: SceneSource) -> Ground:
    """The truth of a scene, read into memory and cut to the wavelengths of the spectral library.

    Raises
    ------
    PixelSSRError
        If the cube or the response cannot be read, or have nothing in common.
    """
    cube = open_cube(source.cube).transpose("wavelength", "y", "x")
    cube = cube.isel(wavelength=load_library().covers(cube_channels(cube))).load()
    channels = cube_channels(cube)
    if source.response is not None:
        response = SpectralResponse.from_file(source.response)
    else:
        response = get_sensor(str(source.sensor))
    bands = usable_bands(response, channels)
    valid = np.isfinite(cube.values).all(0)
    return Ground(cube, channels, response.select(bands), bands, valid)


def load_trial(
    source: SceneSource, protocol: Protocol, ratio: Ratio, noise: float, seed: int
) -> Trial:
    """A scene with points by a protocol, frozen ones where they exist.

    Raises
    ------
    SettingsError
        If there are fewer pixels than points.
    PixelSSRError
        If something cannot be read or does not fit.
    """
    ground, scene = load_ground(source), _load_scene(source, noise, seed)
    count = ratio.count(int(ground.valid.sum()))
    scored = ground.scored(protocol) & np.isfinite(scene.values).all(0)
    if not count:
        return Trial(ground, scene, None, None, scored)
    frozen = source.cube.with_name(f"points_{count:04d}_s{seed}.gpkg")
    if source.frozen and protocol == "random" and frozen.exists():
        points = read_points(frozen)
    else:
        points = _draw_points(ground, protocol, count, seed)
    paired = pair_points(scene, points, channels=ground.channels, response=ground.response)
    scored[paired.labels.rows, paired.labels.cols] = False
    return Trial(ground, scene, points, paired.labels, scored)


@lru_cache(maxsize=2)
def _load_scene(source: SceneSource, noise: float, seed: int) -> xr.DataArray:
    ground = load_ground(source)
    frozen = source.cube.with_name(f"scene_s{seed}.tif")
    if source.frozen and math.isclose(noise, FROZEN_NOISE) and frozen.exists():
        scene = open_scene(frozen, response=source.response, scale=1)
        return scene.isel(band=ground.bands).load()
    snr = 1 / noise if noise else None
    return simulate_scene(ground.cube, ground.response, snr=snr, seed=seed)


def _draw_points(ground: Ground, protocol: Protocol, count: int, seed: int) -> PointSpectra:
    places = np.argwhere(ground.allowed(protocol))
    if count > len(places):
        raise SettingsError(
            f"{count} points are asked for, protocol '{protocol}' has {len(places)} valid pixels "
            "for them: ask for fewer"
        )
    chosen = places[np.random.default_rng(seed).choice(len(places), count, replace=False)]
    rows, cols = chosen.T
    grid = pixel_grid(ground.cube)
    x, y = grid.to_world(rows, cols)
    return PointSpectra(
        ids=tuple(f"p{number}" for number in range(count)),
        x=x,
        y=y,
        crs_wkt=grid.crs_wkt,
        wavelengths_nm=ground.channels.centres_nm,
        reflectance=ground.cube.values[:, rows, cols].T.astype("f8"),
        source=str(ground.cube.attrs.get("source", "the reference")),
    )
