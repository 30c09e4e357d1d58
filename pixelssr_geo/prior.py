"""Point spectra drawn from a distribution: the paper's Section 3.1 and equation 2.

Every draw is counter-based: a generator keyed by ``(seed, stream)``, the stream being the number of
a tile or of a training step, is made for that draw alone. So a draw depends neither on the draws
before it nor on the worker that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Literal

import numpy as np

from pixelssr_geo.errors import PointsError, SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["gamma", "gamma-correlated", "gaussian"]

_SPECTRA, _MASK = 0, 1  # what a generator is for: keeps draws of one key apart

_LEAST_MEAN = 1e-4
_LEAST_SPREAD = 0.05
_LEAST_POINTS_FOR_CORRELATION = 3
_USUAL_CORRELATION = 0.95


def _generator(seed: int, stream: int, purpose: int) -> np.random.Generator:
    """Return the generator of one draw."""
    if seed < 0 or stream < 0:
        raise SettingsError(
            f"seed is {seed} and stream is {stream}, expected two numbers from 0 on: "
            "give non-negative integers"
        )
    key = np.array([seed % 2**64, stream % 2**64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, purpose]))


@dataclass(frozen=True, slots=True, eq=False)
class GammaPrior:
    """Gamma distribution of reflectance, channel by channel.

    With a correlation, the channels of a pixel form a chain: each takes a Beta-thinned share of the
    channel before it and adds an independent Gamma part. Sums of shares and parts are Gamma again,
    so each channel keeps its distribution exactly; neighbours correlate by ``correlation`` (less
    where their shapes differ too much for that), channels further apart by its powers.
    """

    shape: NDArray[np.float64]
    """Shape alpha, positive, ``(channel,)``."""
    scale: NDArray[np.float64]
    """Scale beta, positive, reflectance, ``(channel,)``."""
    correlation: float = 0.0
    """Correlation of neighbouring channels in [0, 1]; 0 draws them independently."""

    def __post_init__(self) -> None:
        _check_parameters("shape", self.shape, "scale", self.scale)
        if not (self.shape > 0).all() or not (self.scale > 0).all():
            raise SettingsError(
                "a Gamma prior has a shape or scale that is not positive, expected positive "
                "numbers: fit it with fit_prior"
            )
        if not 0 <= self.correlation <= 1:
            raise SettingsError(
                f"correlation of neighbouring channels is {self.correlation}, expected 0 to 1"
            )

    def sample(self, shape: tuple[int, int], *, seed: int, stream: int) -> NDArray[np.float32]:
        """Return one spectrum a pixel, non-negative, ``(channel, y, x)``.

        Parameters
        ----------
        shape
            Rows and columns.
        seed, stream
            Key of the draw, non-negative.
        """
        rng = _generator(seed, stream, _SPECTRA)
        drawn = np.empty((len(self.shape), *shape), dtype=np.float32)
        current = np.zeros(shape)
        before = 0.0
        for channel, alpha in enumerate(self.shape):
            shared = min(self.correlation * float(np.sqrt(alpha * before)), alpha, before)
            own = rng.standard_gamma(alpha - shared, size=shape)
            current = own + _thinned(current, before, shared, rng)
            drawn[channel] = current * self.scale[channel]
            before = float(alpha)
        return drawn


def _thinned(
    values: NDArray[np.float64], shape: float, kept: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the share of Gamma ``values`` of that shape whose own shape is ``kept``."""
    if kept <= 0:
        return np.zeros_like(values)
    if kept >= shape:
        return values
    return values * rng.beta(kept, shape - kept, size=values.shape)


@dataclass(frozen=True, slots=True, eq=False)
class GaussianPrior:
    """Normal distribution of reflectance, channel by channel: the paper's ablation.

    Its values can be negative, which is what the paper holds against it.
    """

    mean: NDArray[np.float64]
    """Mean, reflectance, ``(channel,)``."""
    std: NDArray[np.float64]
    """Standard deviation, reflectance, ``(channel,)``."""

    def __post_init__(self) -> None:
        _check_parameters("mean", self.mean, "std", self.std)
        if not (self.std >= 0).all():
            raise SettingsError(
                "a Gaussian prior has a negative standard deviation, expected 0 or more: "
                "fit it with fit_prior"
            )

    def sample(self, shape: tuple[int, int], *, seed: int, stream: int) -> NDArray[np.float32]:
        """Return one spectrum a pixel, ``(channel, y, x)``; see :meth:`GammaPrior.sample`."""
        rng = _generator(seed, stream, _SPECTRA)
        drawn = rng.standard_normal((len(self.mean), *shape))
        drawn = drawn * self.std[:, None, None] + self.mean[:, None, None]
        return drawn.astype(np.float32)


PointPrior = GammaPrior | GaussianPrior


def _check_parameters(
    first: str, a: NDArray[np.float64], second: str, b: NDArray[np.float64]
) -> None:
    """Raise SettingsError unless both are finite vectors of one length."""
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise SettingsError(
            f"{first} has shape {a.shape} and {second} {b.shape}, expected (channel,) for both"
        )
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        raise SettingsError(f"{first} or {second} is not finite, expected finite numbers")


def fit_prior(spectra: NDArray[np.floating], kind: Kind = "gamma") -> PointPrior:
    """Return the prior with the spectra's mean and variance in every channel.

    Negative values count as 0. The mean of a channel is at least 1e-4 and, in the Gamma kinds, its
    standard deviation at least a twentieth of the mean, so that one spectrum, or equal ones, give a
    narrow distribution around them and not a singular one (the Gaussian kind: at least a twentieth
    of the mean, too).

    Parameters
    ----------
    spectra
        Reflectance, ``(point, channel)``; NaN where a spectrum has no value.
    kind
        ``"gamma"`` (independent channels, the paper's equation), ``"gamma-correlated"`` (the
        paper's third property: neighbouring channels correlate as in the spectra, on average; 0.95
        below 3 spectra) or ``"gaussian"``.

    Raises
    ------
    PointsError
        If there is no spectrum, or a channel without a value.
    SettingsError
        If the kind is not known.

    Examples
    --------
    >>> prior = fit_prior(np.array([[0.1, 0.2], [0.3, 0.2]]))
    >>> prior.sample((4, 5), seed=0, stream=7).shape
    (2, 4, 5)
    """
    values = np.asarray(spectra, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise PointsError(
            f"spectra have shape {values.shape}, expected (point, channel) with at least one of "
            "each: give spectra or a fitted prior"
        )
    values = np.where(np.isfinite(values), np.clip(values, 0, None), np.nan)
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if len(empty):
        raise PointsError(
            f"{len(empty)} channels (the first is number {empty[0]}) have no value in any "
            "spectrum, expected at least one: narrow the wavelengths"
        )
    mean = np.maximum(np.nanmean(values, axis=0), _LEAST_MEAN)
    variance = np.maximum(np.nanvar(values, axis=0), (_LEAST_SPREAD * mean) ** 2)
    match kind:
        case "gamma":
            return GammaPrior(mean**2 / variance, variance / mean)
        case "gamma-correlated":
            return GammaPrior(mean**2 / variance, variance / mean, _neighbour_correlation(values))
        case "gaussian":
            return GaussianPrior(mean, np.sqrt(variance))
        case _:
            # Reached from configuration files, which no type checker reads.
            raise SettingsError(
                f"prior is '{kind}', expected 'gamma', 'gamma-correlated' or 'gaussian'"
            )


def given_prior(first: float, second: float, channels: int, kind: Kind = "gamma") -> PointPrior:
    """Return the prior with the same given parameters in every channel.

    Parameters
    ----------
    first, second
        Shape and scale of a Gamma distribution, or mean and standard deviation of a Gaussian one.
    channels
        Number of channels.
    kind
        ``"gamma"`` or ``"gaussian"``.

    Raises
    ------
    SettingsError
        If the parameters are out of range.
    """
    a, b = np.full(channels, float(first)), np.full(channels, float(second))
    return GaussianPrior(a, b) if kind == "gaussian" else GammaPrior(a, b)


def _neighbour_correlation(values: NDArray[np.float64]) -> float:
    """Return the mean correlation of neighbouring channels, in [0, 0.999]."""
    complete = values[~np.isnan(values).any(axis=1)]
    if len(complete) < _LEAST_POINTS_FOR_CORRELATION:
        return _USUAL_CORRELATION
    deviation = complete - complete.mean(axis=0)
    covariance = (deviation[:, 1:] * deviation[:, :-1]).mean(axis=0)
    spread = deviation.std(axis=0)
    product = spread[1:] * spread[:-1]
    varied = product > 0
    if not varied.any():
        return _USUAL_CORRELATION
    return float(np.clip((covariance[varied] / product[varied]).mean(), 0.0, 0.999))


def point_mask(
    shape: tuple[int, int], ratio: float, *, seed: int, stream: int
) -> NDArray[np.bool_]:
    """Return which pixels carry a point spectrum (eq. 2), ``(y, x)``.

    Exactly ``max(1, floor(ratio * pixels))`` pixels are True. (The equation sets the *selected*
    pixels to False; the prose around it, the ratio of point spectra, is what is meant.)

    Parameters
    ----------
    shape
        Rows and columns.
    ratio
        Share of the pixels, above 0 and at most 1.
    seed, stream
        Key of the draw, non-negative; independent of the spectra drawn with the same key.

    Raises
    ------
    SettingsError
        If the ratio is out of range or there is no pixel.
    """
    pixels = shape[0] * shape[1]
    if not 0 < ratio <= 1 or pixels < 1:
        raise SettingsError(
            f"ratio of point spectra is {ratio} on {shape[0]} x {shape[1]} pixels, expected above "
            "0 and at most 1 on at least one pixel"
        )
    # The margin keeps 0.29 * 100 = 28.999... at 29.
    count = max(1, floor(ratio * pixels + 1e-9))
    chosen = _generator(seed, stream, _MASK).choice(pixels, size=count, replace=False)
    mask = np.zeros(pixels, dtype=np.bool_)
    mask[chosen] = True
    return mask.reshape(shape)


def modelled_points(
    prior: PointPrior,
    shape: tuple[int, int],
    ratio: float,
    *,
    seed: int,
    stream: int,
    removed: bool = False,
) -> NDArray[np.float32]:
    """Return the modelled point spectra Y_g^p = Y_g * M, ``(channel, y, x)``, zero elsewhere.

    Parameters
    ----------
    prior
        Distribution of Y_g.
    shape, ratio, seed, stream
        See :func:`point_mask` and :meth:`GammaPrior.sample`.
    removed
        Read equation 2 by the letter: the selected pixels are blanked and all others carry a
        spectrum.
    """
    mask = point_mask(shape, ratio, seed=seed, stream=stream)
    return prior.sample(shape, seed=seed, stream=stream) * (~mask if removed else mask)
