"""The empirical line: what turns a scene's values into the reflectance that its points have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pixelssr_geo.errors import PointsError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Kind = Literal["gain", "gain-offset"]

LEAST_POINTS = {"gain": 3, "gain-offset": 5}
"""Points that a line needs, so that one wrong one can be told from the others."""

UNCERTAIN = 0.05
"""Relative standard error of a gain from which it is told."""

LITTLE_CONTRAST = 0.02
"""Standard deviation of the points' reflectance in a band, below which it is told."""

MOST_APART = 100.0
"""Factor between a band's gain and the bands' median above which it is a mistake."""

_BISQUARE = 4.685  # 95 % as efficient as least squares under normal errors
_MOST_ROUNDS = 100
_MOST_PAIRED = 1000  # points among which the first slopes are taken, half a million pairs
_LEAST_CONTRAST = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class ChannelLines:
    """A line for each channel of a cube, which takes reflectance to the scene's own units."""

    gain: NDArray[np.float64]
    """Scene units per reflectance, ``(channel,)``."""
    offset: NDArray[np.float64]
    """Scene units at reflectance 0, ``(channel,)``."""

    def on_spectra(self, spectra: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spectra ``(..., channel)`` in the scene's units."""
        return spectra * self.gain + self.offset

    def on_cube(self, cube: NDArray[np.float32]) -> NDArray[np.float32]:
        """A cube ``(channel, y, x)`` in the scene's units; in place."""
        cube *= self.gain.astype("f4")[:, None, None]
        cube += self.offset.astype("f4")[:, None, None]
        return cube

    def on_deviation(self, deviation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standard deviations ``(channel, y, x)`` in the scene's units; in place."""
        deviation *= self.gain.astype("f4")[:, None, None]
        return deviation


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A line for each band: scene = gain x reflectance + offset."""

    gain: NDArray[np.float64]
    """Scene units per reflectance, positive, ``(band,)``."""
    offset: NDArray[np.float64]
    """Scene units at reflectance 0, ``(band,)``."""
    spread: NDArray[np.float64]
    """Robust standard deviation of the points about the line, in reflectance, ``(band,)``."""
    points: int
    """Labels that the lines were fitted on."""
    gain_error: NDArray[np.float64]
    """Standard error of the gain, relative to it, ``(band,)``."""
    contrast: NDArray[np.float64]
    """Standard deviation of the points' reflectance, outliers left out, ``(band,)``."""
    kind: Kind
    """Whether there is an offset."""

    def reflectance(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reflectance ``(..., band)`` of scene values ``(..., band)``."""
        return (bands - self.offset) / self.gain

    def on_block(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reflectance of a block of the scene, ``(band, y, x)``; NaN stays NaN."""
        # In double precision: counts of a large offset would lose digits in the difference.
        gain, offset = self.gain[:, None, None], self.offset[:, None, None]
        return ((values - offset) / gain).astype("f4")

    def off_block(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scene's values of a block of reflectance, ``(band, y, x)``; NaN stays NaN."""
        gain, offset = self.gain[:, None, None], self.offset[:, None, None]
        return (values * gain + offset).astype("f4")

    def on_channels(
        self, band_centres_nm: NDArray[np.float64], channel_centres_nm: NDArray[np.float64]
    ) -> ChannelLines:
        """The lines of a cube's channels: linear in wavelength between the bands' centres.

        Beyond the first and the last band their lines hold on. No band measures a single channel,
        so what lies between two bands is a guess that is right where the lines vary slowly.

        Parameters
        ----------
        band_centres_nm
            Of the bands, in any order, ``(band,)``.
        channel_centres_nm
            Of the cube's channels, ``(channel,)``.
        """
        order = np.argsort(band_centres_nm, kind="stable")
        gain, offset = (
            np.interp(channel_centres_nm, band_centres_nm[order], values[order])
            for values in (self.gain, self.offset)
        )
        return ChannelLines(np.asarray(gain, "f8"), np.asarray(offset, "f8"))

    def told(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """``gain``, ``offset`` and ``spread`` of each band, by the bands' names."""
        rows = zip(names, self.gain, self.offset, self.spread, strict=True)
        return {
            name: {"gain": float(gain), "offset": float(offset), "spread": float(spread)}
            for name, gain, offset, spread in rows
        }

    def notes(self, names: Sequence[str]) -> list[str]:
        """What a user should know of lines that rest on little."""
        straight = self.kind == "gain"
        told = []
        for name, error, contrast in zip(names, self.gain_error, self.contrast, strict=True):
            flat = not straight and contrast < LITTLE_CONTRAST
            if error > UNCERTAIN or flat:
                cure = "" if straight else ", or use --calibrate gain"
                told.append(
                    f"the calibration of band {name} rests on points of weak contrast (standard "
                    f"deviation {contrast:.2g} in reflectance), its gain is known to "
                    f"{100 * error:.2g} %: add bright and dark points{cure}"
                )
        return told


def fit_calibration(
    simulated: ArrayLike,
    measured: ArrayLike,
    kind: Kind,
    *,
    names: Sequence[str] | None = None,
) -> Calibration:
    """Robust lines from reflectance to a scene's values, one for each band.

    They start at the median of the slopes between all pairs of points (Theil and Sen; of the
    ratios, without an offset), which a fifth of wrong points hardly moves, and are refined by
    weights that fall to zero at 4.7 robust standard deviations (Tukey's bisquare).

    Parameters
    ----------
    simulated
        Bands simulated from the points' spectra, reflectance 0-1, ``(point, band)``.
    measured
        The scene there, in its own units, ``(point, band)``. Points that are not finite in a band
        of either are left out.
    kind
        ``gain`` (the line goes through the origin) or ``gain-offset``.
    names
        Of the bands, for messages.

    Raises
    ------
    SettingsError
        If there are fewer than 3 points for a gain, or 5 for gain and offset.
    PointsError
        If a band has no contrast at the points, or its gain is not positive, not told from zero,
        or hundred times another's.
    """
    x, y = np.atleast_2d(np.asarray(simulated, "f8")), np.atleast_2d(np.asarray(measured, "f8"))
    if x.shape != y.shape or x.ndim != 2:
        raise SettingsError(
            f"simulated bands have shape {x.shape} and measured ones {y.shape}, expected one shape "
            "(point, band): give both for the same points"
        )
    known = np.isfinite(x).all(1) & np.isfinite(y).all(1)
    x, y = x[known], y[known]
    check_count(kind, len(x))
    named = [f"B{number}" for number in range(1, x.shape[1] + 1)] if names is None else names
    lines = [_fit_line(x[:, at], y[:, at], kind, name) for at, name in enumerate(named)]
    gain, offset, spread, error, contrast = np.array(lines).T
    _check_gains(gain, named)
    return Calibration(gain, offset, spread, len(x), error, contrast, kind)


def check_count(kind: Kind, count: int) -> None:
    """Do nothing if a line can be fitted on so many points.

    Raises
    ------
    SettingsError
        If it needs more.
    """
    if count < LEAST_POINTS[kind]:
        fewer = kind == "gain-offset" and count >= LEAST_POINTS["gain"]
        other = "use --calibrate gain" if fewer else "leave --calibrate out"
        raise SettingsError(
            f"calibrate '{kind}' fits lines on points and {count} are usable, it needs "
            f"{LEAST_POINTS[kind]}: give more --points, or {other}"
        )


def _fit_line(
    x: NDArray[np.float64], y: NDArray[np.float64], kind: Kind, name: str
) -> tuple[float, float, float, float, float]:
    """Gain, offset, spread, relative error of the gain and contrast of one band."""
    straight = kind == "gain"
    gain, offset = _first_line(x, y, straight, name)
    weights = np.ones(len(x))
    scale = 0.0
    for _ in range(_MOST_ROUNDS):
        residual = y - gain * x - offset
        scale = _scale(residual, 1 if straight else 2)
        # Points that lie on a line to the last digit leave no scale.
        floor = 1e-9 * float(np.abs(y).max())
        distance = residual / (_BISQUARE * max(scale, floor, np.finfo("f8").tiny))
        weights = np.clip(1 - distance**2, 0, None) ** 2
        before = gain
        gain, offset = _weighted_line(x, y, weights, straight, name)
        if abs(gain - before) <= 1e-12 * abs(gain):
            break
    total = weights.sum()
    mean = (weights @ x) / total
    contrast = float(np.sqrt((weights @ (x - mean) ** 2) / total))
    lever = float(np.sqrt((weights @ x**2) / total)) if straight else contrast
    _check_gain(gain, scale, lever * np.sqrt(total), name)
    return gain, offset, scale / gain, scale / (gain * lever * np.sqrt(total)), contrast


def _first_line(
    x: NDArray[np.float64], y: NDArray[np.float64], straight: bool, name: str
) -> tuple[float, float]:
    """Gain and offset that outliers hardly move."""
    if straight:
        bright = np.abs(x) > _LEAST_CONTRAST
        if not bright.any():
            raise _flat(name, "dark")
        return float(np.median(y[bright] / x[bright])), 0.0
    order = np.argsort(x, kind="stable")
    if len(x) > _MOST_PAIRED:
        order = order[np.linspace(0, len(x) - 1, _MOST_PAIRED).round().astype("i8")]
    first, second = np.triu_indices(len(order), 1)
    steps, rises = x[order][second] - x[order][first], y[order][second] - y[order][first]
    apart = steps > _LEAST_CONTRAST
    if not apart.any():
        raise _flat(name, "alike")
    gain = float(np.median(rises[apart] / steps[apart]))
    return gain, float(np.median(y - gain * x))


def _weighted_line(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    straight: bool,
    name: str,
) -> tuple[float, float]:
    total = weights.sum()
    mean_x = 0.0 if straight else (weights @ x) / total
    mean_y = 0.0 if straight else (weights @ y) / total
    across = weights @ (x - mean_x) ** 2
    if not across > total * _LEAST_CONTRAST**2:
        raise _flat(name, "dark" if straight else "alike")
    gain = float((weights @ ((x - mean_x) * (y - mean_y))) / across)
    return gain, float(mean_y - gain * mean_x)


def _scale(residual: NDArray[np.float64], parameters: int) -> float:
    """Robust standard deviation; as many residuals as a line can bring to zero do not count."""
    left = np.sort(np.abs(residual))[parameters - 1 :]
    # 1.4826 makes the median absolute deviation a standard deviation for normal errors.
    return 1.4826 * float(np.median(left))


def _flat(name: str, what: str) -> PointsError:
    if what == "dark":
        return PointsError(
            f"the points reflect nothing in band {name}, a gain needs bright ones: add such "
            "--points, or leave --calibrate out"
        )
    return PointsError(
        f"the points reflect the same in band {name}, gain and offset need dark and bright ones: "
        "add such --points, or use --calibrate gain"
    )


def _check_gain(gain: float, scale: float, lever: float, name: str) -> None:
    # Three standard errors: less is as likely for pixels that have nothing to do with the points.
    if gain * lever > 3 * scale and gain > 0:
        return
    raise PointsError(
        f"band {name} of the scene does not rise with the points' reflectance (gain {gain:.3g}, "
        f"known to {scale / lever:.2g}), a positive gain is expected: check the points' places, "
        "--sensor or --response, or leave --calibrate out"
    )


def _check_gains(gain: NDArray[np.float64], names: Sequence[str]) -> None:
    middle = float(np.median(gain))
    for name, value in zip(names, gain, strict=True):
        if not 1 / MOST_APART < value / middle < MOST_APART:
            raise PointsError(
                f"the gain of band {name} is {value:.3g} and the bands' median {middle:.3g}, alike "
                "ones are expected: check the bands' order and scale, or leave --calibrate out"
            )


def line_texts(told: dict[str, dict[str, Any]]) -> list[str]:
    """What :meth:`Calibration.told` gives, for people, a text for each band."""
    return [
        f"{name}: scene = {line['gain']:.5g} x reflectance {line['offset']:+.4g}, "
        f"spread {line['spread']:.2g}"
        for name, line in told.items()
    ]
