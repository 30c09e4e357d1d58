"""Channel grids: the wavelengths that a cube is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import WavelengthGridError
from pixelssr_geo.spectra.quadrature import local_spacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_CHANNELS = 10_000
"""More are a slip of the keyboard (``400:1000:0.01``), not an imaging spectrometer."""
_LEAST_NM = 100.0
"""Centres below are micrometres, not nanometres."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGrid:
    """Centres and widths of a cube's channels.

    Raises
    ------
    WavelengthGridError
        If the arrays differ in length, are empty or not finite, the centres are not strictly
        ascending nanometres or a width is not positive.
    """

    centres_nm: NDArray[np.float64]
    """Channel centres, nm, ``(channel,)``, strictly ascending."""
    fwhm_nm: NDArray[np.float64]
    """Full widths at half maximum, nm, ``(channel,)``."""

    def __post_init__(self) -> None:
        centres = np.array(self.centres_nm, dtype=np.float64)
        fwhm = np.array(self.fwhm_nm, dtype=np.float64)
        object.__setattr__(self, "centres_nm", centres)
        object.__setattr__(self, "fwhm_nm", fwhm)
        if centres.ndim != 1 or centres.shape != fwhm.shape:
            raise WavelengthGridError(
                f"channel centres have shape {centres.shape} and widths {fwhm.shape}, "
                "expected two lists of one length: give one width for each centre"
            )
        if centres.size == 0:
            raise WavelengthGridError("no channel is left, expected at least one: ask for more")
        if not (np.isfinite(centres).all() and np.isfinite(fwhm).all()):
            raise WavelengthGridError(
                "a channel's centre or width is not finite, expected numbers in nm: check the list"
            )
        if centres.min() < _LEAST_NM:
            raise WavelengthGridError(
                f"a channel is centred at {centres.min():g}, expected nanometres: "
                "multiply micrometres by 1000"
            )
        if (steps := np.diff(centres)).size and steps.min() <= 0:
            at = int(np.argmin(steps > 0))
            raise WavelengthGridError(
                f"channel centre {centres[at + 1]:g} nm follows {centres[at]:g} nm, "
                "expected strictly ascending centres: sort the list and drop what is there twice"
            )
        if fwhm.min() <= 0:
            raise WavelengthGridError(
                f"a channel is {fwhm.min():g} nm wide, expected a positive FWHM: correct the width"
            )

    @classmethod
    def from_spec(cls, text: str, fwhm_nm: float | None = None) -> ChannelGrid:
        """Channel grid that a command-line text asks for.

        Parameters
        ----------
        text
            ``START:STOP:STEP`` in nm, both ends included; a list of centres, ``450,550,650``; or
            the path of a text file with one centre in nm a line and, optionally, its FWHM behind a
            comma or blanks (``#`` starts a comment).
        fwhm_nm
            Width of every channel; ``None`` takes the file's or else the local spacing.

        Raises
        ------
        WavelengthGridError
            If the text is none of these, the file cannot be read, or the numbers make no grid.

        Examples
        --------
        >>> len(ChannelGrid.from_spec("400:1000:10"))
        61
        """
        parts = text.split(":")
        if len(parts) == 3 and (numbers := _numbers(parts)) is not None:
            centres = _regular(text, *numbers)
            own_width = None if len(centres) > 1 else np.array([numbers[2]])
        elif _is_file(text):
            centres, own_width = _read_grid(Path(text))
        elif (listed := _numbers(text.split(","))) is not None:
            centres, own_width = np.array(listed), None
        else:
            raise WavelengthGridError(
                f"wavelengths {text!r} are neither START:STOP:STEP nor a file nor a list: give "
                "e.g. 400:1000:10 or 450,550,650, or the path of a list of centres in nm"
            )
        if fwhm_nm is not None:
            own_width = np.full(len(centres), fwhm_nm, dtype=np.float64)
        return cls(centres, _spacing(centres) if own_width is None else own_width)

    @property
    def widths_nm(self) -> NDArray[np.float64]:
        """What each channel stands for in an integral, nm, ``(channel,)``.

        From halfway to one neighbour to halfway to the other; the outer channels are as wide
        outwards as inwards. A single channel stands for its FWHM.
        """
        return self.fwhm_nm.copy() if len(self) == 1 else local_spacing(self.centres_nm)

    @property
    def range_nm(self) -> tuple[float, float]:
        """What the channels cover together, nm: half a width beyond the outer centres."""
        half = self.widths_nm / 2
        return float(self.centres_nm[0] - half[0]), float(self.centres_nm[-1] + half[-1])

    def within(self, low_nm: float, high_nm: float) -> ChannelGrid:
        """Channels with a centre between the two, both included.

        Raises
        ------
        WavelengthGridError
            If there is none.
        """
        inside = (self.centres_nm >= low_nm) & (self.centres_nm <= high_nm)
        if not inside.any():
            raise WavelengthGridError(
                f"the channels lie at {self.centres_nm[0]:g} to {self.centres_nm[-1]:g} nm, "
                f"none between {low_nm:g} and {high_nm:g} nm: ask for wavelengths in that range"
            )
        return self.take(inside)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> ChannelGrid:
        """Channels at ``index`` (ascending integers or a boolean mask)."""
        return ChannelGrid(self.centres_nm[index], self.fwhm_nm[index])

    def __len__(self) -> int:
        return len(self.centres_nm)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a long list is no name that a file can have
        return False


def _numbers(words: list[str]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def _regular(text: str, start: float, stop: float, step: float) -> NDArray[np.float64]:
    if not (np.isfinite([start, stop, step]).all() and step > 0 and stop >= start):
        raise WavelengthGridError(
            f"wavelengths {text!r} do not ascend, expected START:STOP:STEP with START <= STOP "
            "and STEP > 0: give e.g. 400:1000:10"
        )
    # The allowance keeps the last channel where stop - start is a multiple of the step but
    # for rounding (400:700:0.1).
    intervals = np.floor((stop - start) / step + 1e-6)
    if intervals >= _MOST_CHANNELS:
        raise WavelengthGridError(
            f"wavelengths {text!r} are {intervals + 1:.0f} channels, expected at most "
            f"{_MOST_CHANNELS}: give a larger step"
        )
    centres: NDArray[np.float64] = start + step * np.arange(int(intervals) + 1, dtype=np.float64)
    return centres


def _read_grid(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WavelengthGridError(
            f"wavelength list {path} cannot be read ({error}), "
            "expected a text file: give one centre in nm a line"
        ) from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        row = _numbers(words)
        if row is None and not rows:
            continue  # column titles
        if row is None or len(row) > 2 or (rows and len(row) != len(rows[0])):
            raise WavelengthGridError(
                f"line {number} of wavelength list {path} is {line.strip()!r}, expected a centre "
                "in nm and, on every line or none, a FWHM: correct the line"
            )
        rows.append(row)
    if not rows:
        raise WavelengthGridError(
            f"wavelength list {path} has no numbers, expected one centre in nm a line: fill it"
        )
    table = np.array(rows)
    return table[:, 0], table[:, 1] if table.shape[1] == 2 else None


def _spacing(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(centres) == 1:
        raise WavelengthGridError(
            "a single wavelength has no spacing, expected its width: give a FWHM"
        )
    return local_spacing(centres)
