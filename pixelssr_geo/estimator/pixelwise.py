"""Estimators that see one pixel at a time: ridge regression on the points, and the library alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.estimator.arrays import functions_of
from pixelssr_geo.estimator.contract import Estimate
from pixelssr_geo.estimator.projection import slabs
from pixelssr_geo.estimator.ridge import fit_ridge, standardised

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pixelssr_geo.estimator.library import LibraryPrior
    from pixelssr_geo.estimator.projection import Projection
    from pixelssr_geo.estimator.ridge import Ridge
    from pixelssr_geo.estimator.surroundings import View
    from pixelssr_geo.labels import Labels

Kind = Literal["library", "ridge"]


@dataclass(frozen=True, slots=True, eq=False)
class PixelEstimator:
    """One regression from bands to spectra; plain arrays, so it pickles and needs no scene."""

    kind: Kind
    """Which regression is inside."""
    projection: Projection
    """Makes the mean agree with the scene."""
    regression: Ridge
    """From bands to channels."""
    noise: NDArray[np.float64]
    """Standard deviation of the error where what it learnt from is dense, ``(channel,)``."""
    left_out: NDArray[np.float64]
    """Error at each point when it is left out, truth minus estimate, ``(point, channel)``."""

    @property
    def halo(self) -> int:
        """Pixels around a window that :meth:`predict` wants to see: none."""
        return 0

    @property
    def sees_network(self) -> bool:
        """Whether views and labels have to say what a trained network says: no."""
        return False

    def at(self, labels: Labels) -> NDArray[np.float64]:
        """Mean spectra at labelled pixels, ``(label, channel)``."""
        return self._at(labels.bands)

    def deviation_at(self, labels: Labels) -> NDArray[np.float64]:
        """Standard deviation of the error at labelled pixels, ``(label, channel)``."""
        return self._deviation_at(labels.bands)

    def predict(self, view: View) -> Estimate:
        """The estimate for a window; NaN where a band is NaN."""
        deviation = self._by_slabs(self._deviation_at, view.inner)
        outside = self._by_slabs(self._outside, view.inner, images=1)[0]
        return Estimate(mean=self.mean(view), deviation=deviation, extrapolation=outside)

    def mean(self, view: View) -> NDArray[np.float32]:
        """The mean alone, ``(channel, y, x)``; NaN where a band is NaN."""
        cube = self._by_slabs(self._at, view.inner)
        # Once more in float32, so that rounding does not part the cube from the scene.
        return self.projection.on_cube(cube, view.inner)

    def _at(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.projection(self.regression.predict(bands), bands)

    def _deviation_at(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        factor = np.sqrt(1 + self.regression.leverage(bands))
        return np.asarray(factor[..., None] * self.noise)

    def _outside(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        return leaving(self.regression, bands)[..., None]

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


def leaving(regression: Ridge, bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far bands ``(..., band)`` leave those that a regression was fitted to, ``(...)``, 0 inside.

    The leverage of its own samples is at most 1; this is the root of what is above.
    """
    above = (regression.leverage(bands) - 1).clip(0)
    root: NDArray[np.float64] = functions_of(above).sqrt(above)
    return root


def library_alone(library: LibraryPrior) -> PixelEstimator:
    """The library regression, which learns nothing from points."""
    none = np.empty((0, len(library.error)))
    return PixelEstimator("library", library.projection, library.regression, library.error, none)


def fit_points_alone(labels: Labels | None, projection: Projection) -> PixelEstimator:
    """Ridge regression on the points, which needs no library and so any channels will do.

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
    # Without its only point nothing is known, and zero is what the projection starts from.
    missed = ridge.residuals if len(labels) > 1 else labels.spectra
    left_out = projection.null_part(missed)
    noise = np.sqrt((left_out**2).mean(0))
    return PixelEstimator("ridge", projection, ridge, noise, left_out)
