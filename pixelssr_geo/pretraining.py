"""Weights for scenes that nobody has spectra of, learnt from full cubes of other scenes.

Cubes come from files or are made of library spectra. What the weights can do on a new scene is
measured in ``tests/benchmarks/transfer.py``.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import SceneError, WavelengthGridError
from pixelssr_geo.estimator.library import MARGIN_NM, load_library
from pixelssr_geo.landscape import smooth_field
from pixelssr_geo.place import shown
from pixelssr_geo.scene import cube_channels, open_cube
from pixelssr_geo.spectra import get_sensor, list_sensors
from pixelssr_geo.training.cubes import CubeFit, CubePlan, TrainingCube, train_on_cubes
from pixelssr_geo.training.pretrained import COMMON, check_residual_options, save_residual_net

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from pixelssr_geo.spectra import SpectralResponse

NETWORK = "dypro-mamba"
"""Network that is trained unless another is asked for, by its registered name."""

_NOISE = 0.002  # standard deviation in every channel of a synthetic cube, reflectance


def pretrain(
    cubes: Sequence[xr.DataArray | str | Path],
    path: str | Path,
    plan: CubePlan | None = None,
    *,
    net: str = NETWORK,
    sensors: Sequence[SpectralResponse] = (),
    synthetic: int = 0,
    terms: str | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> CubeFit:
    """Train a network on full cubes and write weights that serve any sensor and any channels.

    Parameters
    ----------
    cubes
        Cubes, dims ``(wavelength, y, x)``, or their paths; reflectance or anything proportional to
        it. Their channels between 400 and 1000 nm are held in memory.
    path
        Weights to write, ``*.safetensors``.
    plan
        Mode, steps, patches, rate, seed; by default ``CubePlan()``.
    net
        Registered name of the network.
    sensors
        Train for these bands alone; by default for all known sensors and random ones.
    synthetic
        Further cubes, made of library spectra.
    terms
        Terms of use of the cubes, kept in the weights' card.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    progress
        Called with a stage, how much of it is done and how much there is.

    Raises
    ------
    PixelSSRError
        If a cube cannot be used, the device is absent or the weights cannot be written.
    """
    from pixelssr_geo.fitting import resolve_device
    from pixelssr_geo.writers import check_output

    check_output(path, overwrite=True)
    plan = CubePlan() if plan is None else plan
    check_residual_options(net, plan.net_options, modelled=plan.mode == "pixel")
    where = resolve_device(device)
    read = [read_training_cube(cube) for cube in cubes]
    read += synthetic_cubes(synthetic, seed=plan.seed)
    if sensors:
        plan = replace(plan, random_sensors=0)
    else:
        sensors = [get_sensor(sensor.name) for sensor in list_sensors()]

    def told(step: int, steps: int, _loss: float) -> None:
        if progress is not None:
            progress("training on cubes", step, steps)

    fit = train_on_cubes(read, sensors, plan, net=net, device=where, progress=told)
    card = {
        "data": [cube.name for cube in read],
        "terms": terms or "not stated",
        "plan": asdict(plan),
        "sensors": [sensor.source for sensor in sensors],
        "steps": fit.record.steps,
        "relative_error": fit.relative_error,
        "version": version("pixelssr-geo"),
    }
    save_residual_net(path, fit.net, net=fit.net.name, card=card)
    return fit


def read_training_cube(cube: xr.DataArray | str | Path) -> TrainingCube:
    """A cube's channels between 400 and 1000 nm, in memory; below zero is noise and becomes zero.

    Raises
    ------
    PixelSSRError
        If it cannot be read, does not say its wavelengths or has none in that range.
    """
    opened = open_cube(cube) if isinstance(cube, (str, Path)) else cube
    name = shown(cube) if isinstance(cube, (str, Path)) else str(opened.attrs.get("source", "cube"))
    if set(opened.dims) != {"wavelength", "y", "x"} or "wavelength" not in opened.coords:
        raise SceneError(
            f"cube '{name}' has the dims ({', '.join(map(str, opened.dims))}) and "
            f"{'a' if 'wavelength' in opened.coords else 'no'} wavelength coordinate, dims "
            "(wavelength, y, x) with wavelengths in nm are needed: rename or assign them"
        )
    opened = opened.transpose("wavelength", "y", "x").sortby("wavelength")
    centres = np.asarray(opened["wavelength"].values, "f8")
    low, high = COMMON.centres_nm[[0, -1]] + [-MARGIN_NM, MARGIN_NM]
    inside = np.flatnonzero((centres >= low) & (centres <= high))
    if not len(inside):
        raise WavelengthGridError(
            f"cube '{name}' has channels at {centres[0]:.0f}-{centres[-1]:.0f} nm, some in "
            f"{low:.0f}-{high:.0f} nm are needed: check the unit of its wavelengths"
        )
    opened = opened.isel(wavelength=inside)
    values = np.asarray(opened.values, "f4")
    return TrainingCube(Path(name).name, values.clip(0), cube_channels(opened))


def synthetic_cubes(count: int, *, size: int = 96, seed: int = 0) -> list[TrainingCube]:
    """Cubes of library spectra mixed by smooth random fields, 400 to 1000 nm every 10 nm.

    Each has 4 to 8 materials of its own, so that what one place of it tells holds at others, as in
    real scenes; a material varies between two library spectra of its class, and illumination
    varies by about a fifth. Nothing else is planted: :mod:`pixelssr_geo.landscape` ties spectra to
    texture by a rule of its own, which must not be learnt as if it were nature's.

    Parameters
    ----------
    count
        Number of cubes.
    size
        Rows and columns.
    seed
        Draws others.
    """
    library = load_library()
    spectra = library.on_channels(COMMON)
    material = np.array(library.material)
    made = []
    for number in range(count):
        draws = np.random.default_rng([seed, number])
        members = draws.integers(0, len(spectra), int(draws.integers(4, 9)))
        shares = _shares(len(members), size, draws)
        cube = np.zeros((len(COMMON), size, size))
        for member, share in zip(members, shares, strict=True):
            alike = np.flatnonzero(material == material[member])
            other = spectra[int(draws.choice(alike))]
            part = 1 / (1 + np.exp(-2 * smooth_field(size, float(draws.uniform(1, 8)), draws)))
            mixed = spectra[member][:, None, None] * part + other[:, None, None] * (1 - part)
            cube += share * mixed
        cube *= np.exp(0.2 * smooth_field(size, float(draws.uniform(1, 6)), draws))
        cube += _NOISE * draws.standard_normal(cube.shape)
        values = cube.clip(0, 1).astype("f4")
        made.append(TrainingCube(f"synthetic {number}", values, COMMON))
    return made


def _shares(count: int, size: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """Abundances of the materials, summing to 1, ``(member, y, x)``: patches with soft edges."""
    fields = [smooth_field(size, float(draws.uniform(1.5, 12)), draws) for _ in range(count)]
    weights = np.exp(draws.uniform(2, 6) * np.stack(fields).astype("f8"))
    return np.asarray(weights / weights.sum(0))
