"""Agreement of field spectra with the scene's pixels, as robust scores over all points.

A field spectrum seen through the bands should be what the scene measures at its place, up to what
is common to all points (calibration, haze) and the usual spread (mixed pixels, viewing angles).
What is usual is learnt from the points themselves, a good part of which may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.calibration import LEAST_POINTS, Calibration, fit_calibration
from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_POINTS = LEAST_POINTS["gain"]
"""Points that it takes to tell what is usual."""

OFFSET_POINTS = 8
"""Points from which a common offset can be told from a common gain."""

SOFT = 0.2
"""Share of a band's median below which differences count by their size, not in per cent: what is
seen of dark water is mostly noise and haze."""

LEAST_SOFT = 0.05
"""Least of what is added to both sides of a ratio, reflectance: surface reflectance of satellites
is asked to be right to 0.005 + 5 %, which is 5 % of 0.1 more than there is."""

_LEVEL_SPREAD = 0.05
"""Usual spread of the brightness, as a logarithm, before any point was seen ..."""
_SHAPE_SPREAD = 0.03
"""... and that of the bands against each other ..."""
_PRIOR_POINTS = 5
"""... which count as much as this many points."""
_LEAST_SPREAD = 0.01
"""No field spectrum agrees with a satellite better than to a per cent, by more than luck."""

_ROUNDS = 3
"""Times that line and spread are taken anew from the points that agreed."""
_KEPT_Z = 5.0
"""Score up to which a point counts as one that agreed in those rounds. Less would make the spread
of few points smaller and smaller."""

_WORTH = 0.8
"""An offset is taken if the median misfit falls below this share of the misfit without."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How well spectra and pixels agree, in robust standard deviations of all points."""

    factor: NDArray[np.float64]
    """Simulated over measured brightness, the common part removed."""
    level_z: NDArray[np.float64]
    """Deviation of the brightness, in standard deviations, 0 or more."""
    shape_z: NDArray[np.float64]
    """Deviation of the colour (bands against each other), in standard deviations."""

    @property
    def z(self) -> NDArray[np.float64]:
        """The worse of the two scores."""
        return np.maximum(self.level_z, self.shape_z)


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """What is usual between simulated and measured bands at the points of a scene."""

    calibration: Calibration
    """What is common to all points: scene = gain x reflectance + offset in every band."""
    soft: NDArray[np.float64]
    """Added to both sides of every ratio, reflectance, ``(band,)``."""
    level_centre: float
    """Median logarithm of the simulated over the predicted brightness."""
    level_scale: float
    """Standard deviation of the same."""
    shape_centre: NDArray[np.float64]
    """Median logarithms of simulated over predicted bands, the brightness removed, ``(band,)``."""
    shape_scale: NDArray[np.float64]
    """Standard deviations of the same, ``(band,)``."""

    def score(
        self,
        simulated: NDArray[np.float64],
        measured: NDArray[np.float64],
        doubt: NDArray[np.float64] | float = 0.0,
    ) -> Scores:
        """Scores of other pairs of bands.

        Parameters
        ----------
        simulated, measured
            Field spectra seen through the bands and what the scene measures, reflectance,
            ``(..., band)``, broadcast against each other.
        doubt
            Standard deviation of the simulated bands, for example by what is not known of the
            response, reflectance, ``(..., band)``.

        Returns
        -------
        Scores
            Arrays ``(...)``; NaN where a band has no value.
        """
        factor, level, shape = _split(simulated, self.calibration.reflectance(measured), self.soft)
        relative = doubt / (np.maximum(simulated, 0) + self.soft)
        shape = (shape - self.shape_centre) / np.hypot(self.shape_scale, relative)
        level_scale = np.hypot(self.level_scale, relative.mean(-1))
        return Scores(
            factor=factor,
            level_z=np.abs(level - self.level_centre) / level_scale,
            shape_z=_as_z((shape**2).sum(-1), shape.shape[-1] - 1),
        )


def fit_agreement(
    simulated: NDArray[np.float64],
    measured: NDArray[np.float64],
    doubt: NDArray[np.float64] | None = None,
) -> Agreement | None:
    """What is usual between simulated and measured bands, or None where too few points can tell.

    Per band, a common gain, or gain and offset where that explains clearly more; then the median
    and the median absolute deviation of the logarithm of what is left, split in brightness and
    colour. Spreads are drawn towards usual ones, the more the fewer the points. A quarter
    of the points may be wrong.

    Parameters
    ----------
    simulated
        Field spectra seen through the bands, reflectance, ``(point, band)``.
    measured
        What the scene measures, ``(point, band)``. Points with a value that is not finite do not
        count.
    doubt
        Standard deviation of the simulated bands, ``(point, band)``; see :meth:`Agreement.score`.
    """
    known = np.isfinite(simulated).all(1) & np.isfinite(measured).all(1)
    if known.sum() < MIN_POINTS or simulated.shape[1] == 0:
        return None
    simulated, measured = simulated[known], measured[known]
    doubt = np.zeros_like(simulated) if doubt is None else doubt[known]
    agreed = np.ones(len(simulated), bool)
    for _ in range(_ROUNDS):
        found = _fitted(simulated[agreed], measured[agreed])
        now = found.score(simulated, measured, doubt).z <= _KEPT_Z
        # Fewer than half that agree are no majority to learn from.
        if now.sum() < max(MIN_POINTS, len(now) / 2) or (now == agreed).all():
            break
        agreed = now
    return found


def _fitted(simulated: NDArray[np.float64], measured: NDArray[np.float64]) -> Agreement:
    soft = np.maximum(SOFT * np.median(np.abs(simulated), axis=0), LEAST_SOFT)
    calibration = _common(simulated, measured)
    ratio = log_ratio(simulated, calibration.reflectance(measured), soft)
    if len(simulated) >= OFFSET_POINTS:
        try:
            line = fit_calibration(simulated, measured, "gain-offset")
        except PointsError:
            line = calibration
        about = log_ratio(simulated, line.reflectance(measured), soft)
        if _misfit(about) < _WORTH * _misfit(ratio):
            calibration = line
    _, level, shape = _split(simulated, calibration.reflectance(measured), soft)
    return Agreement(
        calibration=calibration,
        soft=soft,
        level_centre=float(np.median(level)),
        level_scale=float(_drawn(_deviation(level), _LEVEL_SPREAD, len(level))),
        shape_centre=np.median(shape, axis=0),
        shape_scale=_drawn(_deviation(shape), _SHAPE_SPREAD, len(level)),
    )


def _common(simulated: NDArray[np.float64], measured: NDArray[np.float64]) -> Calibration:
    """The common gain, or none where the points tell none."""
    try:
        return fit_calibration(simulated, measured, "gain")
    except PointsError:
        one = np.ones(simulated.shape[1])
        return Calibration(
            gain=one,
            offset=0 * one,
            spread=_deviation(simulated - measured),
            points=len(simulated),
            gain_error=np.inf * one,
            contrast=simulated.std(0),
            kind="gain",
        )


def log_ratio(
    simulated: NDArray[np.float64], predicted: NDArray[np.float64], soft: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logarithm of simulated over predicted bands, ``soft`` added to both, ``(..., band)``."""
    least = soft / 10
    above = np.maximum(simulated + soft, least) / np.maximum(predicted + soft, least)
    return np.asarray(np.log(above))


def _split(
    simulated: NDArray[np.float64], predicted: NDArray[np.float64], soft: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Factor ``(...)``, its soft logarithm, and those of the bands against each other."""
    level = log_ratio(simulated, predicted, soft).mean(-1)
    # The factor that explains most: with the soft part, shadow would look like another colour.
    weight = predicted / (np.abs(predicted) + soft) ** 2
    total = (weight * predicted).sum(-1)
    factor = np.maximum((weight * simulated).sum(-1) / np.maximum(total, 1e-12), 0.0)
    shape = log_ratio(simulated, factor[..., None] * predicted, soft)
    return factor, level, shape - shape.mean(-1, keepdims=True)


def _misfit(ratio: NDArray[np.float64]) -> float:
    return float(np.median(np.sqrt((ratio**2).mean(1))))


def _deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation over points by the median absolute deviation."""
    # 1.4826 makes it that of normal errors.
    raw = 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    # Of few values it is too small, the more so as a line was fitted to the same ones.
    return np.asarray(raw * len(values) / (len(values) - 1.5))


def _drawn(spread: NDArray[np.float64], usual: float, count: int) -> NDArray[np.float64]:
    """Spreads of ``count`` points drawn towards the usual one."""
    mixed = (_PRIOR_POINTS * usual**2 + count * spread**2) / (_PRIOR_POINTS + count)
    return np.asarray(np.maximum(np.sqrt(mixed), _LEAST_SPREAD))


def _as_z(squares: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    """Sums of squares of ``freedom`` normal numbers as standard deviations (Fisher), 0 or more."""
    if freedom == 0:
        return np.zeros_like(squares)
    z = np.sqrt(2 * squares) - np.sqrt(2 * freedom - 1)
    return np.asarray(np.maximum(z, 0.0))
