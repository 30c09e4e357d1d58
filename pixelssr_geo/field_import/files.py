"""Which files hold the spectra: folders looked through, companions told apart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.field_import.left_out import LeftOut
from pixelssr_geo.spectra.units import bright_ends, scale_by_size, scale_note
from pixelssr_geo.spectra_files import library_data, read_spectra_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pixelssr_geo.spectra_files import FieldSpectrum

_EXPORTS = (".txt", ".csv")
_BY_SIZE = {scale_note(scale, stated=False): scale for scale in (1.0, 100.0, 10_000.0)}
_DARKEST = 0.01
"""Bright end, reflectance, below which a file is rather in a unit of its own than in the others'."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectraRead:
    """All spectra of some files."""

    spectra: tuple[FieldSpectrum, ...]
    """In the files' order."""
    paths: tuple[Path, ...]
    """The file of each spectrum, ``(spectrum,)``."""
    files: int
    """How many files had spectra."""
    left_out: tuple[LeftOut, ...]
    """Files that are not spectra, and exports of files that were read."""


def read_all(
    places: Iterable[str | Path],
    *,
    besides: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> SpectraRead:
    """The spectra of files and folders.

    Parameters
    ----------
    places
        Files, and folders that are looked through with what is below them, without hidden files.
    besides
        A file among them that is something else: the coordinates.
    progress
        Called with a name, files done and files in all.

    Raises
    ------
    PointsError
        If a file that was named cannot be read as spectra, or a folder has no file. What cannot be
        read in a folder is left out instead, with its reason.
    """
    named = _listed(places)
    own = None if besides is None else Path(besides).resolve()
    known = {path.resolve() for path in named}
    spectra: list[FieldSpectrum] = []
    paths: list[Path] = []
    left_out = []
    done: set[Path] = set()
    files = 0
    for number, (path, is_named) in enumerate(named.items(), 1):
        if progress is not None:
            progress("read", number, len(named))
        if (data := library_data(path)) in done or path.resolve() == own:
            continue
        done.add(data)
        if (original := _original(path)).resolve() in known and original != path:
            reason = f"an export of '{original.name}', which is read"
            left_out.append(LeftOut(path.name, str(path), reason))
            continue
        try:
            found = read_spectra_file(path)
        except PointsError as error:
            if is_named:
                raise
            reason = str(error).removeprefix(f"'{path}' ")
            left_out.append(LeftOut(path.name, str(path), reason))
            continue
        files += 1
        spectra += found
        paths += [path] * len(found)
    return SpectraRead(_in_one_unit(spectra, paths), tuple(paths), files, tuple(left_out))


def _in_one_unit(
    spectra: Sequence[FieldSpectrum], paths: Sequence[Path]
) -> tuple[FieldSpectrum, ...]:
    """Spectra with the units settled anew that files of one format do not state.

    The size of a dark file's numbers says little by itself: 1.2 may be water in percent. The third
    quartile of the files decides, as that of the spectra does in a file, but for a file that would
    be brighter than its own numbers allow, or darker than nearly all ground.
    """
    settled = list(spectra)
    formats: dict[str, dict[Path, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, (one, path) in enumerate(zip(spectra, paths, strict=True)):
        if one.attributes["unit"] in _BY_SIZE:
            formats[one.attributes["format"]][path].append(at)
    for files in formats.values():
        scales = {path: _BY_SIZE[spectra[own[0]].attributes["unit"]] for path, own in files.items()}
        if len(set(scales.values())) < 2:
            continue
        tops = {path: _bright_end([spectra[at] for at in own]) for path, own in files.items()}
        numbers = np.array([tops[path] * scale for path, scale in scales.items()])
        common = scale_by_size(numbers, "files without a unit")
        for path, own in files.items():
            factor = scales[path] / common
            if factor < 1 and tops[path] * factor >= _DARKEST:
                for at in own:
                    settled[at] = _rescaled(spectra[at], factor, common)
    return tuple(settled)


def _bright_end(spectra: Sequence[FieldSpectrum]) -> float:
    """The third quartile of the bright ends of a file's spectra, as its unit was told by."""
    tops = [
        float(bright_ends(one.reflectance[None], one.wavelengths_nm)[0])
        for one in spectra
        if np.isfinite(one.reflectance).any()
    ]
    return float(np.quantile(tops, 0.75, method="inverted_cdf")) if tops else float("nan")


def _rescaled(one: FieldSpectrum, factor: float, scale: float) -> FieldSpectrum:
    return replace(
        one,
        reflectance=one.reflectance * factor,
        spread=None if one.spread is None else one.spread * factor,
        attributes={**one.attributes, "unit": scale_note(scale, stated=False)},
    )


def _listed(places: Iterable[str | Path]) -> dict[Path, bool]:
    """Each file once, in order, and whether it was named itself."""
    found: dict[Path, bool] = {}
    for place in map(Path, places):
        if not place.is_dir():
            found[place] = True
            continue
        below = [
            path
            for path in sorted(place.rglob("*"))
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(place).parts)
        ]
        if not below:
            raise PointsError(
                f"folder '{place}' has no files, spectrometer files are needed: check the path"
            )
        for path in below:
            found.setdefault(path, False)
    return found


def _original(path: Path) -> Path:
    """``x.asd`` for ``x.asd.txt``, the file itself for all others."""
    bare = path.with_suffix("")
    if path.suffix.lower() in _EXPORTS and bare.suffix.lower() in (".asd", ".sig", ".sed"):
        return bare
    return path
