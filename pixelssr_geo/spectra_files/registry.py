"""The formats that are read, and which of them a file is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files import asd, envi, pairs, sed, svc, tables
from pixelssr_geo.spectra_files.source import open_source, refuse_other_kinds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pixelssr_geo.spectra_files.source import Source
    from pixelssr_geo.spectra_files.spectrum import FieldSpectrum


@dataclass(frozen=True, slots=True)
class SpectraFormat:
    """A format family."""

    name: str
    """For messages and documentation."""
    recognises: Callable[[Source], bool]
    """Whether a file's content is of this format."""
    read: Callable[[Source], list[FieldSpectrum]]
    """Its spectra."""
    endings: tuple[str, ...] = ()
    """By which a file is taken for this format whose content is not recognised."""


FORMATS = (
    SpectraFormat("ASD binary", asd.recognises, asd.read, (".asd",)),
    SpectraFormat("SVC .sig", svc.recognises, svc.read, (".sig",)),
    SpectraFormat("Spectral Evolution .sed", sed.recognises, sed.read, (".sed",)),
    SpectraFormat("ENVI spectral library", envi.recognises, envi.read, (".sli", ".slb")),
    SpectraFormat("columns of pairs", pairs.recognises, pairs.read),
)
"""In the order in which a file's content is tried; text tables of any layout come after them."""


def read_spectra_file(path: str | Path) -> list[FieldSpectrum]:
    """All spectra of a spectrometer file, as reflectance 0-1 over ascending wavelengths in nm.

    Parameters
    ----------
    path
        File of any of :data:`FORMATS` or a text table, known by its content and, where that says nothing, by its
        ending. An ENVI library may be given by its header or its data.

    Notes
    -----
    Units of wavelengths and reflectance are those that the file states, else they are recognised by
    the size of all its numbers; both are in each spectrum's ``attributes``. Nothing is unpickled.

    Raises
    ------
    PointsError
        If the file cannot be read, is of no such format, or is damaged.
    """
    source = open_source(path)
    if not envi.is_announced(source):
        refuse_other_kinds(source)
    for kind in FORMATS:
        if kind.recognises(source):
            return kind.read(source)
    if source.is_text and (spectra := tables.read_table(source)) is not None:
        return spectra
    for kind in FORMATS:
        if source.ending in kind.endings:
            return kind.read(source)
    tried = ", ".join([*(kind.name for kind in FORMATS), tables.LAYOUTS])
    raise PointsError(
        f"'{path}' is no spectrometer file that is known (tried: {tried}): export it as CSV, a row "
        "per spectrum and wavelengths as header"
    )
