"""Scenes that a sensor would have seen of cubes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from pixelssr_geo.datasets.pair import PairDataset, ScenePair
from pixelssr_geo.errors import SceneError, SettingsError
from pixelssr_geo.place import place_name
from pixelssr_geo.scene import open_cube
from pixelssr_geo.simulation import simulate_scene
from pixelssr_geo.spectra import SpectralResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import xarray as xr


@dataclass(frozen=True, slots=True, eq=False)
class _Sensor:
    """What sees the cubes."""

    response: SpectralResponse
    """Of its bands."""
    snr: float | None
    """Mean signal over standard deviation of the noise."""
    seed: int
    """Of the noise."""

    def of(self, name: str, cube: xr.DataArray | None) -> ScenePair:
        """The scene that the sensor sees, with its cube."""
        if cube is None:
            raise SceneError(
                f"scene '{name}' has no cube, one is needed to simulate from: leave it out with select"
            )
        # Noise of its own for each scene, whichever are asked for and in which order.
        seed = crc32(name.encode(), self.seed)
        scene = simulate_scene(cube, self.response, snr=self.snr, seed=seed)
        return ScenePair(name, scene, cube, self.response)


def simulated(
    cubes: PairDataset | Sequence[str | Path],
    response: SpectralResponse | str | Path,
    *,
    snr: float | None = 500.0,
    seed: int = 0,
) -> PairDataset:
    """The dataset of scenes that a sensor would have seen of cubes.

    Parameters
    ----------
    cubes
        A dataset, whose own scenes are set aside, or paths of cubes; these are read lazily.
    response
        Of the sensor, or its file; its bands must lie inside the cubes' channels.
    snr
        Mean signal over standard deviation of the white noise; None for no noise.
    seed
        Of the noise, 0 or more; every scene has noise of its own.

    Raises
    ------
    SettingsError
        If two paths have one name, or a number is out of range.
    ResponseError
        If the response cannot be read.
    """
    if seed < 0:
        raise SettingsError(f"seed is {seed}, 0 or more is needed: give another number")
    if not isinstance(response, SpectralResponse):
        response = SpectralResponse.from_file(response)
    sensor = _Sensor(response, snr, seed)
    if isinstance(cubes, PairDataset):
        title = f"{cubes.title} as simulated"
        return PairDataset(title, cubes.names, partial(_seen, cubes.loader, sensor), cubes.splits)
    paths = {Path(place_name(path)).stem: path for path in cubes}
    if len(paths) < len(cubes) or not paths:
        raise SettingsError(
            f"{len(cubes)} cubes are given with {len(paths)} different names, at least one and a name "
            "for each is needed: rename files, or leave some out"
        )
    return PairDataset("the simulated scenes", tuple(paths), partial(_opened, paths, sensor))


def _seen(load: Callable[[str], ScenePair], sensor: _Sensor, name: str) -> ScenePair:
    return sensor.of(name, load(name).cube)


def _opened(paths: Mapping[str, str | Path], sensor: _Sensor, name: str) -> ScenePair:
    return sensor.of(name, open_cube(paths[name]).sortby("wavelength"))
