"""What every estimator does, whichever way it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pixelssr_geo.estimator.projection import Projection
    from pixelssr_geo.estimator.surroundings import View
    from pixelssr_geo.labels import Labels


@dataclass(frozen=True, slots=True, eq=False)
class SceneStatistics:
    """Mean and deviation of the scene's usable bands over all valid pixels."""

    mean: NDArray[np.float64]
    """``(band,)``."""
    deviation: NDArray[np.float64]
    """``(band,)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What an estimator says of a window."""

    mean: NDArray[np.float32]
    """Reflectance, consistent with the scene, ``(channel, y, x)``."""
    deviation: NDArray[np.float32]
    """Standard deviation of the mean's error, ``(channel, y, x)``."""
    extrapolation: NDArray[np.float32]
    """How far the scene leaves what points and library cover, 0 inside, ``(y, x)``."""


class Estimator(Protocol):
    """A fitted estimator of spectra; it pickles, and a window's result depends on nothing else."""

    @property
    def projection(self) -> Projection:
        """Makes the mean agree with the scene."""

    @property
    def left_out(self) -> NDArray[np.float64]:
        """Error at each point when it is left out, truth minus estimate, ``(point, channel)``."""

    @property
    def halo(self) -> int:
        """Pixels around a window that :meth:`predict` wants to see."""

    @property
    def sees_network(self) -> bool:
        """Whether views and labels have to say what a trained network says."""

    def at(self, labels: Labels) -> NDArray[np.float64]:
        """Mean spectra at labelled pixels, ``(label, channel)``."""

    def deviation_at(self, labels: Labels) -> NDArray[np.float64]:
        """Standard deviation of the error at labelled pixels, ``(label, channel)``."""

    def predict(self, view: View) -> Estimate:
        """The estimate for a window; NaN where a band is NaN."""

    def mean(self, view: View) -> NDArray[np.float32]:
        """The mean alone, ``(channel, y, x)``; NaN where a band is NaN."""
