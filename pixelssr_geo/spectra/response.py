"""Spectral response functions: what a multispectral band sees of a spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pixelssr_geo.errors import ResponseError
from pixelssr_geo.spectra.quadrature import BandIntegral, integrate_bands
from pixelssr_geo.spectra.response_files import (
    read_bands,
    read_by_band,
    read_table,
    states_bands,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.spectra.channels import ChannelGrid

Shape = Literal["gaussian", "box"]

MIN_COVERAGE = 0.95
"""Share of a band's response that must lie inside the channel grid for the band to be used."""

_LEAST_COVERED = 1e-6
"""A band with less of its response inside a grid is not seen by it."""
_NEGATIVE_NOISE = 0.05
"""Measured tables dip below zero by noise; a deeper dip (of the peak) is a mistake."""
_LEAST_GAP_NM = 50.0
"""Channels that are further apart may have a gap between them ..."""
_GAP_STEPS = 3.0
"""... and have one if they are this many times as far apart as the grid's usual neighbours."""
_LEAST_RESOLVED = 1.5
"""Standard deviation, in channel widths, from which channels resolve a band (a box: 5 wide)."""
_SAMPLING_TOLERANCE = 0.25
"""How far, in channel widths, sampling may shift a resolved band ..."""
_SAMPLING_TOLERANCE_NM = 1.5
"""... and how far in nm, at most. Real bands are known to about 1 nm."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectralResponse:
    """Relative response of every band over wavelength; zero outside the wavelengths.

    Rows are scaled to a peak of 1 and small negative noise is set to zero.

    Raises
    ------
    ResponseError
        If shapes disagree, wavelengths are not strictly ascending nanometres, or a row is not
        finite, is clearly negative or has no response at all.
    """

    names: tuple[str, ...]
    """Band names in the scene's order, each once."""
    wavelengths_nm: NDArray[np.float64]
    """``(wavelength,)``, ascending."""
    values: NDArray[np.float64]
    """``(band, wavelength)``, 0 to 1."""
    source: str
    """Where the numbers come from."""

    def __post_init__(self) -> None:
        wavelengths = np.array(self.wavelengths_nm, dtype=np.float64)
        values = np.array(self.values, dtype=np.float64)
        _check_response(self.names, wavelengths, values, self.source)
        peaks = values.max(axis=1, keepdims=True)
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "wavelengths_nm", wavelengths)
        object.__setattr__(self, "values", (values / peaks).clip(0, 1))

    @classmethod
    def from_bands(
        cls,
        centres_nm: Sequence[float] | NDArray[np.float64],
        fwhm_nm: Sequence[float] | NDArray[np.float64],
        *,
        names: Sequence[str] | None = None,
        shape: Shape | Sequence[Shape] = "gaussian",
        source: str = "band centres and widths",
    ) -> SpectralResponse:
        """Responses of a simple shape, on a 1 nm grid (finer for bands under 10 nm).

        Parameters
        ----------
        centres_nm, fwhm_nm
            ``(band,)`` each.
        names
            ``None`` names them ``B1``, ``B2``, ...
        shape
            One for all bands or one each. A Gaussian ends where it is below 0.1 % of its peak;
            a box's flanks are one grid step wide, so that its FWHM and area are exact.
        source
            Where centres and widths come from.

        Raises
        ------
        ResponseError
            If the lists disagree in length or a centre or width is not positive.
        """
        centres = np.asarray(centres_nm, dtype=np.float64)
        fwhm = np.asarray(fwhm_nm, dtype=np.float64)
        count = centres.size
        shapes = (shape,) * count if isinstance(shape, str) else tuple(shape)
        if centres.ndim != 1 or centres.shape != fwhm.shape or count == 0 or len(shapes) != count:
            raise ResponseError(
                f"{centres.size} band centres, {fwhm.size} widths and {len(shapes)} shapes, "
                "expected as many of each, at least one: give one for every band"
            )
        if not (np.isfinite(centres).all() and np.isfinite(fwhm).all() and fwhm.min() > 0):
            raise ResponseError(
                "a band centre or width is not a positive number, expected nm: correct the list"
            )
        step = 1 / np.ceil(10 / min(10.0, fwhm.min()))
        reach = fwhm * 1.6 + step  # a Gaussian is at 0.08 % of its peak 1.6 FWHM from its centre
        low, high = np.floor((centres - reach).min()), np.ceil((centres + reach).max())
        wavelengths = low + step * np.arange(round((high - low) / step) + 1)
        rows = [
            _draw(kind, wavelengths - centre, width, step)
            for kind, centre, width in zip(shapes, centres, fwhm, strict=True)
        ]
        named = _numbered(count) if names is None else tuple(names)
        return cls(named, wavelengths, np.stack(rows), source)

    @classmethod
    def from_csv(cls, path: str | Path) -> SpectralResponse:
        """Responses of a table with the header ``wavelength_nm,<band>,<band>,...``.

        One row a wavelength; commas, semicolons, tabs or blanks. Rows are sorted; wavelengths
        are in the unit of their title, else in micrometres if all are under 100. Lines starting with ``#`` and columns
        without a title are ignored.

        Raises
        ------
        ResponseError
            If the file cannot be read, has no header, or holds something that is no number.
        """
        names, wavelengths, values = read_table(Path(path))
        return cls(names, wavelengths, values, Path(path).name)

    @classmethod
    def from_file(cls, path: str | Path, *, keep_panchromatic: bool = False) -> SpectralResponse:
        """Responses of a file in any layout that is known.

        - A CSV table, see :meth:`from_csv`.
        - A text file with one block per band: a comment (``;`` or ``#``) with the word *band* names
          each, as in ``;; BAND MS1`` or ``# GF1 Band 2 Green``, and its lines hold wavelength and
          response. Numbered bands get ``B`` in front.
        - GeoJSON, or a GeoPackage, of one feature per band, whose field ``response`` or
          ``profiles`` holds JSON text with ``x`` (wavelengths), ``y`` and maybe ``xUnit``. Of names
          such as ``B1 - Coastal aerosol (432-453 nm)`` the beginning is taken.
        - A table of band centres and widths with the header ``wavelength,fwhm``, read as Gaussians.

        Wavelengths may be in any unit of
        :func:`~pixelssr_geo.spectra.units.wavelengths_in_nm`, as stated; without one those that are
        all under 100 are micrometres.

        Parameters
        ----------
        path
            The file; its layout is recognised.
        keep_panchromatic
            Keep bands named ``PAN``, which a multispectral scene lacks. Columns of a table are kept
            in any case: somebody chose them.

        Raises
        ------
        ResponseError
            If the file cannot be read, is in none of these layouts (NumPy archives, MATLAB files
            and pickles are named as such), or holds something that is no number.
        """
        path = Path(path)
        found = read_by_band(path)
        if found is None and states_bands(path):
            return cls.from_bands(*read_bands(path), source=path.name)
        if found is None:
            return cls.from_csv(path)
        response = cls(*found, path.name)
        spectral = [name for name in response.names if not is_panchromatic(name)]
        return response if keep_panchromatic or not spectral else response.select(spectral)

    @classmethod
    def from_sensor(cls, name: str) -> SpectralResponse:
        """Response of a known sensor; see :func:`pixelssr_geo.spectra.get_sensor`."""
        from pixelssr_geo.spectra.sensors import get_sensor

        return get_sensor(name)

    @property
    def centres_nm(self) -> NDArray[np.float64]:
        """Response-weighted mean wavelength of each band, nm, ``(band,)``."""
        everywhere = (float(self.wavelengths_nm[0]), float(self.wavelengths_nm[-1]))
        return self._integrate(self.wavelengths_nm, everywhere).centroid_nm

    @property
    def fwhm_nm(self) -> NDArray[np.float64]:
        """Width between the outermost half-maximum crossings of each band, nm, ``(band,)``."""
        return np.array([_half_width(self.wavelengths_nm, row) for row in self.values])

    def select(self, bands: Sequence[int] | Sequence[str] | NDArray[np.int64]) -> SpectralResponse:
        """Bands at these indices or of these names (case ignored), in that order.

        Raises
        ------
        ResponseError
            If none is asked for or there is no such band.
        """
        index = [self._index_of(band) for band in bands]
        if not index:
            raise ResponseError("no band is selected, expected at least one: name some")
        names = tuple(self.names[i] for i in index)
        return SpectralResponse(names, self.wavelengths_nm, self.values[index], self.source)

    def coverage(self, grid: ChannelGrid) -> NDArray[np.float64]:
        """Share of each band's response inside the grid's range, 0 to 1, ``(band,)``.

        Nothing is known inside a gap, as where channels of water vapour are left out: neighbours
        more than 50 nm apart, and more than three times as far as is usual in the grid.
        """
        steps = np.diff(grid.centres_nm)
        gaps = (
            (steps > _LEAST_GAP_NM) & (steps > _GAP_STEPS * np.median(steps))
            if steps.size
            else None
        )
        return self._integrate(grid.centres_nm, grid.range_nm, gaps).covered

    def covered_bands(self, grid: ChannelGrid) -> NDArray[np.int64]:
        """Indices of the bands whose response lies inside the grid; there may be none."""
        return np.flatnonzero(self.coverage(grid) >= MIN_COVERAGE)

    def matrix(self, grid: ChannelGrid) -> NDArray[np.float64]:
        """How each band sees a cube on the grid: S, ``(band, channel)``.

        Rows are not negative and sum to 1; a band outside the grid's range, or inside a gap of it,
        gets zeros.

        Two forms are right in the limit of many channels, and each band takes one:

        *Sampled*: the response at the channel centres. This is how hyperspectral scenes are
        commonly turned into multispectral ones, so scenes simulated that way are met within
        their noise. Used where the channels resolve the band: its standard deviation is at
        least 1.5 channels, and centroid and standard deviation of the row agree with the
        response's within a quarter of a channel and 1.5 nm.

        *Integrated*: response times spectrum, the spectrum taken as linear between channel
        centres. It keeps every band's centroid to the last digit, on irregular grids and for
        bands narrower than a channel too, where sampling would miss the band or shift it.

        Sampling is not weighted by the channels' widths, though on an irregular grid that is
        the better integral: scenes simulated by sampling (0.2 % noise, EnMAP's channels) are
        met within 1.04 times their noise in every band without the widths and 2.0 times with
        them, and the difference, up to 0.4 % of the mean, is below a sensor's calibration error.
        """
        integral = self._integrate(grid.centres_nm, grid.range_nm)
        rows = _row_stochastic(integral.weights)
        rows[self.coverage(grid) < _LEAST_COVERED] = 0
        sampled = _row_stochastic(
            np.stack(
                [
                    np.interp(grid.centres_nm, self.wavelengths_nm, row, left=0, right=0)
                    for row in self.values
                ]
            )
        )
        faithful = _sampling_is_faithful(sampled, rows, integral, grid) & rows.any(axis=1)
        rows[faithful] = sampled[faithful]
        return rows

    def _integrate(
        self,
        samples_nm: NDArray[np.float64],
        range_nm: tuple[float, float],
        gaps: NDArray[np.bool_] | None = None,
    ) -> BandIntegral:
        return integrate_bands(self.wavelengths_nm, self.values, samples_nm, range_nm, gaps)

    def _index_of(self, band: int | str | np.int64) -> int:
        if not isinstance(band, str):
            if -len(self.names) <= band < len(self.names):
                return int(band)
        else:
            for index, name in enumerate(self.names):
                if name.casefold() == band.casefold():
                    return index
        raise ResponseError(
            f"band {band!r} is not among the response's {', '.join(self.names)}: "
            "select one of these, or their indices from 0"
        )

    def __len__(self) -> int:
        return len(self.names)


def is_panchromatic(name: str) -> bool:
    """Return whether a band of that name sees all colours at once."""
    return name.strip().lower() in ("pan", "panchromatic", "p")


def _check_response(
    names: tuple[str, ...],
    wavelengths: NDArray[np.float64],
    values: NDArray[np.float64],
    source: str,
) -> None:
    what = f"response {source!r}"
    if values.ndim != 2 or wavelengths.shape != values.shape[1:] or len(names) != len(values):
        raise ResponseError(
            f"{what} has {len(names)} names, wavelengths of shape {wavelengths.shape} and values "
            f"of shape {values.shape}, expected (band, wavelength): give one row for every band"
        )
    if len(names) == 0 or wavelengths.size < 2:
        raise ResponseError(
            f"{what} has {len(names)} bands at {wavelengths.size} wavelengths, "
            "expected at least one band at two wavelengths: give a finer table"
        )
    if len({name.casefold() for name in names}) < len(names):
        raise ResponseError(
            f"{what} names a band twice ({', '.join(names)}), expected each once: rename one"
        )
    if not (np.isfinite(wavelengths).all() and np.isfinite(values).all()):
        raise ResponseError(
            f"{what} holds a value that is not finite, expected numbers: write 0 for no response"
        )
    if np.diff(wavelengths).min() <= 0 or wavelengths[0] <= 0:
        raise ResponseError(
            f"{what} has wavelengths that do not ascend, expected each nm once: "
            "sort them and drop what is there twice"
        )
    for name, row in zip(names, values, strict=True):
        if row.max() <= 0:
            raise ResponseError(
                f"{what} is zero everywhere in band {name!r}, expected a response: "
                "give its values or drop the band"
            )
        if row.min() < -_NEGATIVE_NOISE * row.max():
            raise ResponseError(
                f"{what} falls to {row.min():g} in band {name!r}, expected values from 0: "
                "correct the table"
            )


def _draw(shape: str, offset: NDArray[np.float64], fwhm: float, step: float) -> NDArray[np.float64]:
    if shape == "gaussian":
        values = np.exp(-4 * np.log(2) * (offset / fwhm) ** 2)
        return np.where(values < 1e-3, 0.0, values)
    if shape == "box":
        return ((fwhm / 2 - np.abs(offset)) / step + 0.5).clip(0, 1)
    raise ResponseError(f"band shape {shape!r} is not known, expected 'gaussian' or 'box'")


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"B{number}" for number in range(1, count + 1))


def _half_width(wavelengths: NDArray[np.float64], row: NDArray[np.float64]) -> float:
    above = np.flatnonzero(row >= 0.5)
    first, last = int(above[0]), int(above[-1])
    low, high = wavelengths[first], wavelengths[last]
    if first > 0:
        low = np.interp(0.5, row[[first - 1, first]], wavelengths[[first - 1, first]])
    if last < len(row) - 1:
        high = np.interp(0.5, row[[last + 1, last]], wavelengths[[last + 1, last]])
    return float(high - low)


def _row_stochastic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows scaled to sum to 1; rows of zeros stay."""
    sums = weights.sum(axis=1, keepdims=True)
    scaled: NDArray[np.float64] = weights / np.where(sums > 0, sums, 1.0)
    return scaled


def _sampling_is_faithful(
    sampled: NDArray[np.float64],
    integrated: NDArray[np.float64],
    integral: BandIntegral,
    grid: ChannelGrid,
) -> NDArray[np.bool_]:
    """Whether sampling at the channel centres keeps each band's place and width, ``(band,)``."""
    centroid = sampled @ grid.centres_nm
    spread = np.sqrt((sampled * (grid.centres_nm - centroid[:, None]) ** 2).sum(axis=1))
    channel_width = integrated @ grid.widths_nm
    tolerance = np.minimum(_SAMPLING_TOLERANCE * channel_width, _SAMPLING_TOLERANCE_NM)
    # NaN (nothing covered) compares as false.
    resolved = integral.spread_nm >= _LEAST_RESOLVED * channel_width
    resolved &= (sampled.sum(axis=1) > 0) & (integral.covered >= _LEAST_COVERED)
    near = np.abs(centroid - integral.centroid_nm) <= tolerance
    alike = np.abs(spread - integral.spread_nm) <= tolerance
    faithful: NDArray[np.bool_] = resolved & near & alike
    return faithful
