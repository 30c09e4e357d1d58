"""Cubes to train on for scenes that nobody has spectra of: from files, and made of library spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.estimator.library import load_library
from pixelssr_geo.landscape import smooth_field
from pixelssr_geo.training.cubes import TrainingCube
from pixelssr_geo.training.pretrained import COMMON

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOISE = 0.002  # standard deviation in every channel of a synthetic cube, reflectance


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
