"""Which files hold the spectra: folders looked through, companions told apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pixelssr_geo.errors import PointsError
from pixelssr_geo.field_import.left_out import LeftOut
from pixelssr_geo.spectra_files import library_data, read_spectra_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pixelssr_geo.spectra_files import FieldSpectrum

_EXPORTS = (".txt", ".csv")


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
    return SpectraRead(tuple(spectra), tuple(paths), files, tuple(left_out))


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
