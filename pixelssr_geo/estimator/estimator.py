"""The closed-form estimator Y0: a library regression, corrected at the points, projected.

This is the seam through which every later estimator is used: :func:`fit_estimator` learns from the
labels once, :meth:`Estimator.predict` then turns any block of the scene into a mean and a standard
deviation, without memory of other blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.estimator.library import load_library, random_mixtures
from pixelssr_geo.estimator.projection import Projection, slabs
from pixelssr_geo.estimator.ridge import Features, Ridge, fit_ridge, standardised

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pixelssr_geo.labels import Labels
    from pixelssr_geo.spectra import ChannelGrid

Kind = Literal["estimator", "library", "ridge"]

STRENGTH_PRIOR = (-1.0, 2.0)
"""Mean and deviation of the log strength of the correction: with few points it decides, with many
the leave-one-out error does. Set on the four development scenes of docs/pages/benchmarks.md."""

DEGREE_PENALTY = 2.0
"""What a quadratic correction must gain in the criterion over a linear one."""

CLIP_POINTS = 20
"""Labels from which the correction does not extrapolate beyond their bands. With fewer, the range
that they span says too little about the scene; measured on the development scenes."""

LIBRARY_POINTS = 3
"""How many left-out points the library's own error counts for in the standard deviation."""


@dataclass(frozen=True, slots=True, eq=False)
class SceneStatistics:
    """Mean and deviation of the scene's usable bands over all valid pixels."""

    mean: NDArray[np.float64]
    """``(band,)``."""
    deviation: NDArray[np.float64]
    """``(band,)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What an estimator says of a block."""

    mean: NDArray[np.float32]
    """Reflectance, consistent with the scene, ``(channel, y, x)``."""
    deviation: NDArray[np.float32]
    """Standard deviation of the mean's error, ``(channel, y, x)``."""
    extrapolation: NDArray[np.float32]
    """How far the scene leaves what points and library cover, 0 inside, ``(y, x)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimator:
    """A fitted estimator; plain arrays, so it pickles and needs no scene."""

    kind: Kind
    """Which regressions are inside."""
    projection: Projection
    """Makes the mean agree with the scene."""
    prior: Ridge | None
    """Library regression, or None."""
    correction: Ridge | None
    """Regression at the points, or None without points."""
    noise: NDArray[np.float64]
    """Standard deviation of the error where the points are dense, ``(channel,)``."""
    left_out: NDArray[np.float64]
    """Error at each point when it is left out, truth minus estimate, ``(point, channel)``."""

    @property
    def halo(self) -> int:
        """Pixels around a block that :meth:`predict` wants to see; none, as it works per pixel."""
        return 0

    def at(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean spectra ``(..., channel)`` for bands ``(..., band)``."""
        if self.prior is None:
            mean = np.zeros((*bands.shape[:-1], len(self.noise)))
        else:
            mean = self.projection(self.prior.predict(bands), bands)
        if self.correction is not None:
            mean = mean + self.correction.predict(bands)
        return self.projection(mean, bands)

    def deviation_at(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard deviation of the error ``(..., channel)`` for bands ``(..., band)``."""
        regression = self.correction if self.correction is not None else self.prior
        if regression is None:
            return np.broadcast_to(self.noise, (*bands.shape[:-1], len(self.noise)))
        factor = np.sqrt(1 + regression.leverage(bands))
        return np.asarray(factor[..., None] * self.noise)

    def predict(self, block: NDArray[np.float32]) -> Estimate:
        """The estimate for a block of usable bands ``(band, y, x)``; NaN where a band is NaN."""
        deviation = self._by_slabs(self.deviation_at, block)
        outside = self._by_slabs(self.extrapolation_at, block, images=1)[0]
        return Estimate(mean=self.mean(block), deviation=deviation, extrapolation=outside)

    def extrapolation_at(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far bands ``(..., band)`` leave those of the samples, 0 inside, ``(..., 1)``.

        The leverage of a regression's own samples is at most 1; this is the root of what is above.
        """
        regression = self.correction if self.correction is not None else self.prior
        leverage = np.zeros(bands.shape[:-1]) if regression is None else regression.leverage(bands)
        return np.asarray(np.sqrt(np.maximum(leverage - 1, 0))[..., None])

    def mean(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean alone, ``(channel, y, x)``; NaN where a band is NaN."""
        cube = self._by_slabs(self.at, block)
        # Once more in float32, so that rounding does not part the cube from the scene.
        return self.projection.on_cube(cube, block)

    def _by_slabs(
        self,
        function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        block: Any,
        images: int = 0,
    ) -> NDArray[np.float32]:
        """Apply a function of bands ``(..., band)`` in slabs, which bounds the float64 copies."""
        cube = np.empty((images or len(self.noise), block[0].size), "f4")
        for part, (bands,) in slabs(block):
            spectra = function(np.ascontiguousarray(bands.T, "f8"))
            cube[:, part] = spectra[: part.stop - part.start].T
        return cube.reshape(-1, *block.shape[1:])


@dataclass(frozen=True, slots=True, eq=False)
class LibraryPrior:
    """What library mixtures say of any scene of one sensor; fitted once, used for every fit."""

    projection: Projection
    """Of the sensor's usable bands."""
    regression: Ridge
    """From bands to channels."""
    error: NDArray[np.float64]
    """Deviation of the projected regression over the mixtures, ``(channel,)``."""


def fit_library(channels: ChannelGrid, response: NDArray[np.float64]) -> LibraryPrior:
    """The library regression for a response matrix S of the usable bands, ``(band, channel)``.

    Raises
    ------
    WavelengthGridError
        If the channels lie outside the library.
    """
    projection = Projection.of(response)
    mixtures = random_mixtures(load_library(), channels)
    simulated = mixtures @ response.T
    regression = fit_ridge(simulated, mixtures, standardised(simulated, degree=2))
    return LibraryPrior(projection, regression, projection.null_part(regression.residuals).std(0))


def fit_estimator(
    labels: Labels | None,
    library: LibraryPrior,
    statistics: SceneStatistics,
    *,
    kind: Kind = "estimator",
) -> Estimator:
    """Fit an estimator on the labels.

    Parameters
    ----------
    labels
        Labelled pixels with the usable bands only; None or empty when there are none.
    library
        Library regression for the same bands and channels.
    statistics
        Of the usable bands over the scene.
    kind
        ``estimator`` (library and points), ``library`` (no points) or ``ridge`` (points alone).

    Raises
    ------
    SettingsError
        If ``ridge`` is asked for without a point.
    """
    projection, prior = library.projection, library.regression
    if kind == "ridge":
        return fit_points_alone(labels, projection)
    if kind == "library" or labels is None or not len(labels):
        none = np.empty((0, len(library.error)))
        return Estimator(kind, projection, prior, None, library.error, none)
    base = projection(prior.predict(labels.bands), labels.bands)
    # What the bands see is settled by the projection; only the rest is learnt from the points.
    correction = _fit_correction(
        labels.bands, projection.null_part(labels.spectra - base), statistics
    )
    noise = _pooled(correction.residuals, library.error)
    return Estimator(kind, projection, prior, correction, noise, correction.residuals)


def _fit_correction(
    bands: NDArray[np.float64], residual: NDArray[np.float64], statistics: SceneStatistics
) -> Ridge:
    count = bands.shape[1]
    # A linear kernel of unit size at one deviation from the scene's mean, whatever the bands.
    scale = np.where(statistics.deviation > 1e-9, statistics.deviation, 1.0)
    low, high = (bands.min(0), bands.max(0)) if len(bands) >= CLIP_POINTS else (-np.inf, np.inf)
    candidates = []
    for degree in (1, 2):
        features = Features(statistics.mean, scale * count ** (0.5 / degree), degree, low, high)
        candidates.append(
            fit_ridge(
                bands,
                residual,
                features,
                strengths=[float(s) for s in np.exp(np.arange(-9.0, 2.5, 0.5))],
                prior=STRENGTH_PRIOR,
                free_intercept=False,
            )
        )
    linear, quadratic = candidates
    return quadratic if quadratic.criterion + DEGREE_PENALTY < linear.criterion else linear


def fit_points_alone(labels: Labels | None, projection: Projection) -> Estimator:
    """Fit the estimator of kind ``ridge``, which needs no library and so any channels will do.

    Raises
    ------
    SettingsError
        If there is no point.
    """
    if labels is None or not len(labels):
        raise SettingsError(
            "method 'ridge' learns from points alone and there are none: give --points, or use "
            "--method library"
        )
    ridge = fit_ridge(labels.bands, labels.spectra, standardised(labels.bands, degree=1))
    left_out = projection.null_part(ridge.residuals)
    noise = np.sqrt((left_out**2).mean(0))
    return Estimator("ridge", projection, None, ridge, noise, left_out)


def _pooled(left_out: NDArray[np.float64], library: NDArray[np.float64]) -> NDArray[np.float64]:
    total = (left_out**2).sum(0) + LIBRARY_POINTS * library**2
    return np.asarray(np.sqrt(total / (len(left_out) + LIBRARY_POINTS)))
