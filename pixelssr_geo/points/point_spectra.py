"""What field points are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PointSpectra:
    """Field spectra and where they were taken."""

    ids: tuple[str, ...]
    """Name of each point, ``(point,)``."""
    x: NDArray[np.float64]
    """Easting or longitude in :attr:`crs_wkt`, ``(point,)``."""
    y: NDArray[np.float64]
    """Northing or latitude, ``(point,)``."""
    crs_wkt: str | None
    """Coordinate reference system; None when the file carries none."""
    wavelengths_nm: NDArray[np.float64]
    """Ascending, ``(wavelength,)``."""
    reflectance: NDArray[np.float64]
    """0-1, NaN where a spectrum has no value, ``(point, wavelength)``."""
    source: str = "memory"
    """Where the points came from, for messages."""
    notes: tuple[str, ...] = ()
    """What was recognised on reading: layout, unit of reflectance, unit of wavelengths, the rest."""
    attributes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """What else is known of the points (class, date and so on): one str, int, float, bool or None
    for each point; dates are ISO 8601 text."""
    spread: NDArray[np.float64] | None = None
    """Standard deviation of the replicates behind each spectrum, reflectance, NaN where there are
    none, ``(point, wavelength)``; None when unknown for all."""

    def __post_init__(self) -> None:
        expected = (len(self.ids), len(self.wavelengths_nm))
        if self.reflectance.shape != expected or not len(self.x) == len(self.y) == len(self.ids):
            raise PointsError(
                f"points from {self.source} have {len(self.ids)} names, {len(self.x)} places and "
                f"spectra of shape {self.reflectance.shape}, expected spectra {expected}: pass one "
                "place and one spectrum per name"
            )
        if self.spread is not None and self.spread.shape != expected:
            raise PointsError(
                f"points from {self.source} have a spread of shape {self.spread.shape}, expected "
                f"{expected}: pass one standard deviation per value"
            )
        for name, values in self.attributes.items():
            if len(values) != len(self.ids):
                raise PointsError(
                    f"points from {self.source} have {len(values)} values of '{name}', expected "
                    f"{len(self.ids)}: pass one value per point"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> PointSpectra:
        """The points at ``index`` (integers or a boolean mask), in that order."""
        chosen = np.arange(len(self))[index]
        return PointSpectra(
            ids=tuple(self.ids[i] for i in chosen),
            x=self.x[chosen],
            y=self.y[chosen],
            crs_wkt=self.crs_wkt,
            wavelengths_nm=self.wavelengths_nm,
            reflectance=self.reflectance[chosen],
            source=self.source,
            notes=self.notes,
            attributes={
                name: tuple(values[i] for i in chosen) for name, values in self.attributes.items()
            },
            spread=None if self.spread is None else self.spread[chosen],
        )
