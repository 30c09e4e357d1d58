"""Labels: what field points become once they are on the scene's pixels and the cube's channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labelled pixels as plain arrays, the form that estimators and networks learn from."""

    rows: NDArray[np.int64]
    """Pixel rows, ``(point,)``."""
    cols: NDArray[np.int64]
    """Pixel columns, ``(point,)``."""
    bands: NDArray[np.float64]
    """What the scene measures there, reflectance, ``(point, band)``."""
    spectra: NDArray[np.float64]
    """Field spectra on the cube's channels, reflectance, ``(point, channel)``."""
    surroundings: NDArray[np.float32] | None = None
    """The scene around each pixel, ``(point, band, 9, 9)``, NaN without data; None: not read."""
    network: NDArray[np.float64] | None = None
    """What a trained network says there, reflectance, ``(point, channel)``; None: no such network."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Labels:
        """The labels at ``index`` (integers or a boolean mask), in that order."""
        around = None if self.surroundings is None else self.surroundings[index]
        said = None if self.network is None else self.network[index]
        return Labels(
            self.rows[index], self.cols[index], self.bands[index], self.spectra[index], around, said
        )
