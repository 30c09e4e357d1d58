"""Prior means: what library mixtures, alone or fitted to the points, say of a pixel's spectrum.

Each is a function of the pixel's bands; where one errs another may not, so that the estimator learns
the residual of each at the points and blends the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pixelssr_geo.estimator.arrays import functions_of
from pixelssr_geo.estimator.ridge import Features, fit_ridge, standardised

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPONENTS = 12
"""Gaussians of the mixture."""

DIRECTIONS = 12
"""Principal directions of the spectra's shape that the mixture models."""

MIXTURE_SAMPLES = 12_000
"""Library mixtures that the Gaussians are fitted to."""

GAIN_SAMPLES = 2000
"""Library mixtures that a regression with the gains of the points is fitted to."""

GAIN_STRENGTH = 1e-3
"""Ridge strength of that regression: thousands of samples for a dozen of features leave it idle."""

GAIN_ROUNDS = 3
"""Times that the gains are taken anew from the regression that they change."""

GAIN_SOFT = 0.3
"""Share of the scene's brightness that is added to a point's when points are weighed: a dark one is
mostly noise, and its ratios are large."""


class PriorMean(Protocol):
    """A spectrum for every pixel, from its bands."""

    def predict(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spectra ``(..., channel)`` for bands ``(..., band)``."""


@dataclass(frozen=True, slots=True, eq=False)
class NoMean:
    """Zero everywhere: what is left is learnt from the points alone."""

    channels: int
    """Channels of the spectra."""

    def predict(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """Zeros ``(..., channel)``."""
        xp = functions_of(bands)
        zeros: NDArray[np.float64] = xp.broadcast_to(
            xp.zeros_like(bands[..., :1]), (*bands.shape[:-1], self.channels)
        )
        return zeros


@dataclass(frozen=True, slots=True, eq=False)
class ShapeRegression:
    """Quadratic ridge regression of the spectrum's shape, times the pixel's brightness.

    It does not depend on the scene's units, and goes on in proportion beyond what it was fitted to.
    """

    regression: PriorMean
    """From bands to channels, both divided by the mean of the bands."""
    least: float
    """Brightness that a darker pixel is lifted to, all its bands by the same."""

    def predict(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spectra ``(..., channel)`` for bands ``(..., band)``."""
        brightness, lift = _lifted(bands, self.least)
        return self.regression.predict((bands + lift) / brightness) * brightness - lift


def _lifted(
    bands: NDArray[np.float64], least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brightness that is divided by, and what is added to a darker pixel's bands, ``(..., 1)`` each.

    Divided by more than its brightness, a dark pixel would have a shape like no spectrum, and one
    whose bands lie below zero, as over water where too much haze was taken away, one far beyond.
    """
    own = bands.mean(-1, keepdims=True)
    brightness: NDArray[np.float64] = own.clip(least)
    return brightness, brightness - own


def fit_shape(mixtures: NDArray[np.float64], response: NDArray[np.float64]) -> ShapeRegression:
    """The shape regression for mixtures ``(sample, channel)`` seen by ``(band, channel)``."""
    bands = mixtures @ response.T
    brightness = bands.mean(1, keepdims=True)
    shape = bands / brightness
    fitted = fit_ridge(shape, mixtures / brightness, standardised(shape, degree=2))
    return ShapeRegression(fitted, 1e-9)


@dataclass(frozen=True, slots=True, eq=False)
class _Quadratic:
    """A quadratic regression that is told its strength, quick to fit."""

    features: Features
    centre: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @staticmethod
    def of(x: NDArray[np.float64], y: NDArray[np.float64]) -> _Quadratic:
        features = standardised(x, degree=2)
        raw = features(x)
        centre, intercept = raw.mean(0), y.mean(0)
        raw -= centre
        square = raw.T @ raw + GAIN_STRENGTH * np.eye(raw.shape[1])
        return _Quadratic(
            features, centre, np.linalg.solve(square, raw.T @ (y - intercept)), intercept
        )

    def predict(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        return (self.features(bands) - self.centre) @ self.coefficients + self.intercept


def fit_gains(
    mixtures: NDArray[np.float64],
    response: NDArray[np.float64],
    bands: NDArray[np.float64],
    spectra: NDArray[np.float64],
    *,
    brightness: float,
    least: float,
) -> ShapeRegression:
    """The shape regression for mixtures times one gain per channel, fitted to the points.

    For scenes in radiance or counts, and for a bias that is common to the scene: illumination,
    instrument, the kind of ground. Gains are shrunk as by one more point with a gain of one.

    Parameters
    ----------
    mixtures
        ``(sample, channel)``.
    response
        Matrix S, ``(band, channel)``.
    bands, spectra
        Of the points, ``(point, band)`` and ``(point, channel)``.
    brightness
        Mean of the bands over the scene.
    least
        See :class:`ShapeRegression`.
    """
    some = mixtures[:GAIN_SAMPLES]
    inverse = np.linalg.pinv(response)
    # Over dark ground corrected bands may lie below zero, which must not divide.
    scale = bands.mean(1, keepdims=True).clip(0) + GAIN_SOFT * max(brightness, least)
    gain = np.ones(spectra.shape[1])
    for _ in range(GAIN_ROUNDS):
        found = _with_gain(some, gain, response, least).predict(bands)
        found = found + (bands - found @ response.T) @ inverse.T
        bare, wanted = found / gain / scale, spectra / scale
        energy = (bare**2).mean(0)
        gain = ((bare * wanted).sum(0) + energy) / ((bare**2).sum(0) + energy)
        gain = np.maximum(gain, 0.01)
    return _with_gain(some, gain, response, least)


def _with_gain(
    mixtures: NDArray[np.float64],
    gain: NDArray[np.float64],
    response: NDArray[np.float64],
    least: float,
) -> ShapeRegression:
    bands = mixtures @ (response * gain).T
    brightness = bands.mean(1, keepdims=True)
    fitted = _Quadratic.of(bands / brightness, mixtures * gain / brightness)
    return ShapeRegression(fitted, least)


@dataclass(frozen=True, slots=True, eq=False)
class ShapeSpace:
    """What shapes the library's mixtures take: their mean and leading directions."""

    centre: NDArray[np.float64]
    """Mean shape, ``(channel,)``."""
    directions: NDArray[np.float64]
    """Orthonormal, ``(direction, channel)``."""

    @staticmethod
    def of(shapes: NDArray[np.float64]) -> ShapeSpace:
        """The space of spectra ``(sample, channel)`` that were divided by their brightness."""
        centre = shapes.mean(0)
        apart = shapes - centre
        _, vectors = np.linalg.eigh(apart.T @ apart)
        return ShapeSpace(centre, np.ascontiguousarray(vectors[:, : -DIRECTIONS - 1 : -1].T))

    def strangeness(self, spectra: NDArray[np.float64], brightness: float) -> float:
        """How far spectra leave the space, relative to their brightness.

        Spectra of dark ground, which are mostly noise, count less; and of all of them the quarter
        that is spanned best, as a common bias of radiance or counts shows in every spectrum and an
        unusual material does not.

        Parameters
        ----------
        spectra
            Of the points, ``(point, channel)``.
        brightness
            Mean of the bands over the scene.
        """
        level = np.maximum(spectra.mean(1, keepdims=True), 1e-9)
        away = spectra - level * self.centre
        away -= (away @ self.directions.T) @ self.directions
        soft = (level[:, 0] + GAIN_SOFT * brightness) / (1 + GAIN_SOFT)
        return float(np.quantile(np.sqrt((away**2).mean(1)) / soft, 0.25))


@dataclass(frozen=True, slots=True, eq=False)
class ShapeMixture:
    """Conditional mean of the spectrum's shape given that of the bands, under a Gaussian mixture.

    Far from every Gaussian it goes on linearly, which bends less than a quadratic regression.
    """

    centre: NDArray[np.float64]
    """Mean shape, ``(channel,)``."""
    directions: NDArray[np.float64]
    """Principal directions in units of their deviation, ``(direction, channel)``."""
    band_centre: NDArray[np.float64]
    """Mean of the bands' shape, the last one left out as it follows, ``(band - 1,)``."""
    band_scale: NDArray[np.float64]
    """Deviation of the same."""
    log_weights: NDArray[np.float64]
    """Of the Gaussians, with their normalisation over the bands, ``(component,)``."""
    means: NDArray[np.float64]
    """Means of the bands' shape, ``(component, band - 1)``."""
    whiten: NDArray[np.float64]
    """Inverse Cholesky factors of the bands' covariances, ``(component, band - 1, band - 1)``."""
    intercepts: NDArray[np.float64]
    """Direction scores where the bands' shape is zero, ``(component, direction)``."""
    slopes: NDArray[np.float64]
    """Their change with the bands' shape, ``(component, band - 1, direction)``."""
    least: float
    """Brightness that a darker pixel is lifted to, all its bands by the same."""

    def predict(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spectra ``(..., channel)`` for bands ``(..., band)``."""
        xp = functions_of(bands)
        brightness, lift = _lifted(bands, self.least)
        shape = (((bands + lift) / brightness)[..., :-1] - self.band_centre) / self.band_scale
        # All Gaussians in one product, and all their slopes in another.
        components, count = self.means.shape
        centres = xp.einsum("kij,kj->ki", self.whiten, self.means).reshape(-1)
        white = shape @ self.whiten.reshape(-1, count).T - centres
        squares = (white**2).reshape(*shape.shape[:-1], components, count).sum(-1)
        logs = self.log_weights - 0.5 * squares
        share = xp.exp(logs - xp.amax(logs, -1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        parts = (share[..., None] * shape[..., None, :]).reshape(*shape.shape[:-1], -1)
        slopes = self.slopes.reshape(components * count, -1)
        scores: NDArray[np.float64] = share @ self.intercepts + parts @ slopes
        return (self.centre + scores @ self.directions) * brightness - lift


def fit_mixture(
    mixtures: NDArray[np.float64], response: NDArray[np.float64], *, seed: int = 0
) -> ShapeMixture | None:
    """The Gaussian mixture for library mixtures ``(sample, channel)``; None for a single band."""
    from sklearn.mixture import GaussianMixture  # late, it takes a second
    from threadpoolctl import threadpool_limits

    if len(response) < 2:
        return None
    some = mixtures[:MIXTURE_SAMPLES]
    bands = some @ response.T
    brightness = bands.mean(1, keepdims=True)
    spectra, shape = some / brightness, (bands / brightness)[:, :-1]
    space = ShapeSpace.of(spectra)
    scores = (spectra - space.centre) @ space.directions.T
    size = np.maximum(scores.std(0), 1e-9)
    band_centre, band_scale = shape.mean(0), np.maximum(shape.std(0), 1e-9)
    joint = np.concatenate([(shape - band_centre) / band_scale, scores / size], axis=1)
    gaussians = GaussianMixture(
        COMPONENTS, reg_covar=1e-4, max_iter=60, tol=1e-2, random_state=seed
    )
    # Sums by several threads come in any order, and what is fitted must be the same every time.
    with threadpool_limits(1):
        found = gaussians.fit(joint)
    count = shape.shape[1]
    seen, mean = found.covariances_[:, :count, :count], found.means_
    slopes = np.linalg.solve(seen, found.covariances_[:, :count, count:])
    whiten = np.linalg.inv(np.linalg.cholesky(seen))
    logs = np.log(found.weights_) + np.log(np.abs(np.linalg.det(whiten)))
    return ShapeMixture(
        centre=space.centre,
        directions=space.directions * size[:, None],
        band_centre=band_centre,
        band_scale=band_scale,
        log_weights=logs,
        means=mean[:, :count],
        whiten=whiten,
        intercepts=mean[:, count:] - np.einsum("kb,kbd->kd", mean[:, :count], slopes),
        slopes=slopes,
        least=1e-9,
    )
