"""The shipped spectral library, and what a regression trained on its mixtures says of a scene.

The spectra are earthlib's (MIT): soils, built surfaces, dry vegetation and burned ground measured
in the field or the laboratory, and green canopies simulated with PROSAIL, labelled as simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import WavelengthGridError
from pixelssr_geo.estimator.means import ShapeSpace, fit_mixture, fit_shape
from pixelssr_geo.estimator.projection import Projection
from pixelssr_geo.estimator.ridge import fit_ridge, standardised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelssr_geo.estimator.means import ShapeMixture, ShapeRegression
    from pixelssr_geo.estimator.ridge import Ridge
    from pixelssr_geo.spectra import ChannelGrid

MIXTURES = 20_000
"""Random mixtures that a library regression is trained on."""

ENDMEMBERS = 3
"""Library spectra in a mixture."""


MARGIN_NM = 10.0
"""How far beyond the library channels may lie, which take its end's value: scenes of nominal
wavelengths start or end a channel beside its round numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectralLibrary:
    """Spectra of materials over a common wavelength axis."""

    wavelengths_nm: NDArray[np.float64]
    """Ascending, ``(wavelength,)``."""
    reflectance: NDArray[np.float64]
    """0-1, ``(spectrum, wavelength)``."""
    material: tuple[str, ...]
    """Class and kind, such as ``bare/soil``."""
    simulated: NDArray[np.bool_]
    """Which spectra come from a radiative transfer model, ``(spectrum,)``."""

    def covers(self, channels: ChannelGrid) -> NDArray[np.bool_]:
        """Which channels the library has values for, ``(channel,)``."""
        low, high = self.wavelengths_nm[[0, -1]]
        centres = channels.centres_nm
        return np.asarray((centres >= low - MARGIN_NM) & (centres <= high + MARGIN_NM))

    def on_channels(self, channels: ChannelGrid) -> NDArray[np.float64]:
        """Reflectance on the cube's channels, ``(spectrum, channel)``.

        The library is sampled every 10 nm, so channels take interpolated values.

        Raises
        ------
        WavelengthGridError
            If channels lie outside the library.
        """
        if not self.covers(channels).all():
            low, high = self.wavelengths_nm[[0, -1]]
            first, last = channels.centres_nm[[0, -1]]
            raise WavelengthGridError(
                f"channels {first:.0f}-{last:.0f} nm are asked, the spectral library covers "
                f"{low:.0f}-{high:.0f} nm: give --wavelengths inside that range"
            )
        position = np.interp(
            channels.centres_nm, self.wavelengths_nm, np.arange(len(self.wavelengths_nm))
        )
        below = np.floor(position).astype("i8").clip(0, len(self.wavelengths_nm) - 2)
        part = position - below
        return np.asarray(
            self.reflectance[:, below] * (1 - part) + self.reflectance[:, below + 1] * part
        )


@cache
def load_library() -> SpectralLibrary:
    """The shipped library: 7,261 spectra, 400-1000 nm every 10 nm, 2,000 of them simulated."""
    with (files(__package__) / "data" / "earthlib_vnir.npz").open("rb") as file, np.load(file) as z:
        return SpectralLibrary(
            wavelengths_nm=z["wavelengths_nm"],
            reflectance=z["reflectance"] / 1e4,
            material=tuple(map(str, z["material"])),
            simulated=z["simulated"],
        )


def random_mixtures(
    library: SpectralLibrary, channels: ChannelGrid, *, count: int = MIXTURES, seed: int = 0
) -> NDArray[np.float64]:
    """Mixtures of three library spectra under varying brightness, ``(count, channel)``.

    Abundances are Dirichlet(0.5), so that most pixels are nearly pure; brightness 0.3 to 1.2
    stands for slope and shade.
    """
    spectra = library.on_channels(channels)
    draws = np.random.default_rng(seed)
    abundance = draws.dirichlet([0.5] * ENDMEMBERS, count)
    members = draws.integers(0, len(spectra), (count, ENDMEMBERS))
    brightness = draws.uniform(0.3, 1.2, (count, 1))
    mixed = np.zeros((count, len(channels)))
    for k in range(ENDMEMBERS):
        mixed += abundance[:, k : k + 1] * spectra[members[:, k]]
    return mixed * brightness


@dataclass(frozen=True, slots=True, eq=False)
class LibraryPrior:
    """What library mixtures say of any scene of one sensor; fitted once, used for every fit."""

    projection: Projection
    """Of the sensor's usable bands."""
    regression: Ridge
    """Quadratic regression from bands to channels."""
    error: NDArray[np.float64]
    """Deviation of the projected regression over the mixtures, ``(channel,)``."""
    mixtures: NDArray[np.float64]
    """What it was fitted to, ``(sample, channel)``."""
    shape: ShapeRegression | None = None
    """Regression of the spectrum's shape; None where the regression alone was asked for."""
    space: ShapeSpace | None = None
    """What shapes there are."""
    gaussians: ShapeMixture | None = None
    """Gaussian mixture of the spectrum's shape; None too where there is a single band."""


def fit_library(
    channels: ChannelGrid, response: NDArray[np.float64], *, shapes: bool = True
) -> LibraryPrior:
    """What the library says for a response matrix S of the usable bands, ``(band, channel)``.

    Parameters
    ----------
    channels
        Channels of the cube.
    response
        S, ``(band, channel)``.
    shapes
        Whether the priors of the spectrum's shape are fitted as well, which takes some seconds.

    Raises
    ------
    WavelengthGridError
        If the channels lie outside the library.
    """
    projection = Projection.of(response)
    mixtures = random_mixtures(load_library(), channels)
    simulated = mixtures @ response.T
    regression = fit_ridge(simulated, mixtures, standardised(simulated, degree=2))
    return LibraryPrior(
        projection=projection,
        regression=regression,
        error=projection.null_part(regression.residuals).std(0),
        mixtures=mixtures,
        shape=fit_shape(mixtures, response) if shapes else None,
        space=ShapeSpace.of(mixtures / mixtures.mean(1, keepdims=True)) if shapes else None,
        gaussians=fit_mixture(mixtures, response) if shapes else None,
    )
