"""From spectrometer files and coordinates to field points."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.field_import.averaging import agreed, mean_and_spread, unlike_the_others
from pixelssr_geo.field_import.coordinates import read_coordinates
from pixelssr_geo.field_import.files import SpectraRead, read_all
from pixelssr_geo.field_import.left_out import LeftOut
from pixelssr_geo.field_import.targets import Target, Targets, find_targets
from pixelssr_geo.points import PointSpectra
from pixelssr_geo.points.doubts import name_some, unit_doubts
from pixelssr_geo.points.layouts import interpolated, on_one_grid
from pixelssr_geo.spectra.units import BY_SIZE
from pixelssr_geo.spectra_files.source import plain_stem
from pixelssr_geo.spectra_files.tables import X_WORDS, Y_WORDS, column_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pixelssr_geo.field_import.coordinates import Coordinates
    from pixelssr_geo.spectra_files import FieldSpectrum

_ABOUT_FILES = ("file", "format", "unit", "wavelength_unit", "overlap", "left_out", "doubt")
_SAYS = {"wavelength_unit": "wavelengths in ", "left_out": "left out: ", "doubt": "in doubt: "}
_MOST_FILES = 5
_MOST_UNLIKE = 10


@dataclass(frozen=True, slots=True, eq=False)
class FieldImport:
    """Field points, and what became of everything else."""

    points: PointSpectra
    """One point per target, the mean of its scans; attribute ``replicates`` counts them."""
    files: int
    """Files that had spectra."""
    spectra: int
    """Spectra in them."""
    left_out: tuple[LeftOut, ...]
    """Files and spectra that are not among the points."""
    unused: tuple[str, ...]
    """Coordinates that no spectrum has."""


def import_spectra(
    places: Sequence[str | Path],
    *,
    coordinates: str | Path | None = None,
    layer: str | None = None,
    crs: str | None = None,
    group_by: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> FieldImport:
    """Field points out of spectrometer files, one per target.

    Parameters
    ----------
    places
        Files of any format that :func:`pixelssr_geo.spectra_files.read_spectra_file` reads, and
        folders of them. A file that is named must be readable; in a folder, what is not is left
        out.
    coordinates
        Table or vector file of named places. Names are those of spectra, of files or of targets,
        whatever their case, blanks and underscores. By default the files' own positions.
    layer
        Layer of a vector file of coordinates.
    crs
        Coordinate reference system of coordinates or positions that state none, as
        ``EPSG:32616``; by default EPSG:4326 for what can be degrees.
    group_by
        What makes spectra scans of one target: ``name``, ``file``, ``prefix:REGEX`` (what the
        expression matches at the beginning of the name, or its first group) or ``column:NAME`` (an
        attribute). By default spectra that get one place by their names or their file's.
    progress
        Called with a name, files done and files in all.

    Notes
    -----
    Scans of one target are averaged, and their standard deviation is kept; of a single one, that in
    its file. A scan unlike the others is named in the points' notes and stays in the mean. Files of
    one format that state no unit get one by the size of all their numbers. Spectra of several instruments are
    interpolated, each over its own range, to the union of their wavelengths.

    Raises
    ------
    PointsError
        If files or coordinates cannot be used, or no spectrum has a place.
    SettingsError
        If an option is malformed.
    """
    given = None if coordinates is None else read_coordinates(coordinates, crs=crs, layer=layer)
    read = read_all(places, besides=coordinates, progress=progress)
    read, empty = _without_empty(read)
    if not read.spectra:
        raise PointsError(
            f"no spectra in {name_some([str(place) for place in places])} "
            f"({len(read.left_out) + len(empty)} left out), spectrometer files are needed: check "
            "the path, or name one file to see why it is not read"
        )
    found = find_targets(read, given, crs=crs, group_by=group_by)
    points = _averaged(read, found, given)
    return FieldImport(
        points=points,
        files=read.files,
        spectra=len(read.spectra),
        left_out=(*read.left_out, *empty, *found.left_out),
        unused=found.unused,
    )


def _without_empty(read: SpectraRead) -> tuple[SpectraRead, list[LeftOut]]:
    kept = [at for at, one in enumerate(read.spectra) if np.isfinite(one.reflectance).any()]
    empty = [
        LeftOut(read.spectra[at].name, str(read.paths[at]), "has no value that is a number")
        for at in sorted(set(range(len(read.spectra))) - set(kept))
    ]
    spectra = tuple(read.spectra[at] for at in kept)
    return SpectraRead(
        spectra, tuple(read.paths[at] for at in kept), read.files, read.left_out
    ), empty


def _averaged(read: SpectraRead, found: Targets, coordinates: Coordinates | None) -> PointSpectra:
    targets = found.targets
    used = [at for target in targets for at in target.members]
    grid, values, notes = on_one_grid(
        [(read.spectra[at].wavelengths_nm, read.spectra[at].reflectance) for at in used]
    )
    row_of = {at: row for row, at in enumerate(used)}
    means = np.full((len(targets), len(grid)), np.nan)
    spreads = np.full_like(means, np.nan)
    unlike: dict[Target, list[str]] = {}
    for number, target in enumerate(targets):
        own = values[[row_of[at] for at in target.members]]
        means[number], spreads[number] = mean_and_spread(own)
        alone = np.isfinite(own).sum(0) == 1
        stated = _stated_spreads(read, target, grid)
        spreads[number, alone] = np.where(np.isfinite(own), stated, 0.0).sum(0)[alone]
        unlike[target] = [
            read.spectra[target.members[scan]].name for scan in unlike_the_others(own)
        ]
    ids = _distinct([target.name for target in targets])
    told = [
        *_recognised(read, used),
        *notes,
        *(() if coordinates is None else coordinates.notes),
        *found.notes,
        *_unlike_note(unlike),
        *_spread_notes(read, targets),
        *unit_doubts(ids, means, grid),
    ]
    return PointSpectra(
        ids=ids,
        x=np.array([target.x for target in targets]),
        y=np.array([target.y for target in targets]),
        crs_wkt=found.crs_wkt,
        wavelengths_nm=grid,
        reflectance=means,
        source=name_some(sorted({str(path.parent) for path in read.paths})),
        notes=tuple(told),
        attributes=_attributes(read, found, coordinates, unlike, ids),
        spread=spreads if np.isfinite(spreads).any() else None,
    )


def _stated_spreads(
    read: SpectraRead, target: Target, grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard deviations that files give for a target's scans, ``(scan, wavelength)``, or NaN."""
    members = [read.spectra[at] for at in target.members]
    return interpolated(
        grid,
        [None if one.spread is None else (one.wavelengths_nm, one.spread) for one in members],
    )


def _spread_notes(read: SpectraRead, targets: Sequence[Target]) -> list[str]:
    """Whose the standard deviations are, where files give some."""
    given = [
        len(target.members)
        for target in targets
        if any(read.spectra[at].spread is not None for at in target.members)
    ]
    kept, replaced = sum(count == 1 for count in given), sum(count > 1 for count in given)
    told = []
    if kept:
        told.append(f"standard deviations of {_points(kept)} are those in the files")
    if replaced:
        told.append(
            f"standard deviations in the files of {_points(replaced)} with replicates give way to "
            "those of the replicates"
        )
    return told


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names with a number behind those that come again."""
    seen: Counter[str] = Counter()
    taken = set(names)
    distinct = []
    for name in names:
        seen[name] += 1
        new = name
        while seen[name] > 1 and new in taken:
            new = f"{name} ({seen[name]})"
            seen[name] += new in taken
        taken.add(new)
        distinct.append(new)
    return tuple(distinct)


def _recognised(read: SpectraRead, used: Sequence[int]) -> list[str]:
    """Formats and units, each with the number of files."""
    told = []
    for key in _ABOUT_FILES[1:]:
        files: dict[str, set[Path]] = defaultdict(set)
        for at in used:
            if (said := read.spectra[at].attributes.get(key)) is not None:
                files[said].add(read.paths[at])
        what = _SAYS.get(key, "")
        told += [f"{what}{said}: {_counted(len(paths))}" for said, paths in files.items()]
        sized = {said: paths for said, paths in files.items() if said.endswith(BY_SIZE)}
        if key == "unit" and len(sized) > 1:
            sets = "; ".join(
                f"{said.removesuffix(BY_SIZE).strip()}: "
                f"{name_some(sorted(path.name for path in paths))}"
                for said, paths in sized.items()
            )
            told.append(
                f"units that files do not state differ between them ({sets}): check their values"
            )
    return told


def _counted(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _unlike_note(unlike: Mapping[Target, Sequence[str]]) -> list[str]:
    names = [name for scans in unlike.values() for name in scans]
    if not names:
        return []
    scans = "1 scan is" if len(names) == 1 else f"{len(names)} scans are"
    told = f"{scans} unlike the others of their target ({name_some(names, _MOST_UNLIKE)})"
    return [f"{told}: they are in the mean, remove them if they are wrong"]


def _attributes(
    read: SpectraRead,
    found: Targets,
    coordinates: Coordinates | None,
    unlike: Mapping[Target, Sequence[str]],
    ids: Sequence[str],
) -> dict[str, tuple[Any, ...]]:
    targets = found.targets
    members = [[read.spectra[at] for at in target.members] for target in targets]
    keys = list(dict.fromkeys(key for own in members for one in own for key in one.attributes))
    placed = {column_of(keys, words) for words in (X_WORDS, Y_WORDS)}
    about = {
        "replicates": tuple(len(own) for own in members),
        "scans_unlike": tuple("; ".join(unlike[target]) or None for target in targets),
        "source_files": tuple(_sources(read, target) for target in targets),
    }
    told: dict[str, tuple[Any, ...]] = {
        key: tuple(_said(key, own) for own in members)
        for at, key in enumerate(keys)
        if key not in _ABOUT_FILES and at not in placed
    }
    told |= _of_coordinates(coordinates, targets, found.name_column)
    more = {key: v for key, v in told.items() if key not in about and _says_more(v, ids)}
    return {key: v for key, v in about.items() if any(v)} | more


def _says_more(told: tuple[Any, ...], ids: Sequence[str]) -> bool:
    return any(one is not None for one in told) and told != tuple(ids)


def _said(key: str, members: Sequence[FieldSpectrum]) -> str | None:
    values = [one.attributes.get(key) for one in members]
    # Scans of a target follow one another: the first says when.
    return values[0] if key == "date" else agreed(values)


def _sources(read: SpectraRead, target: Target) -> str:
    """Names of the files, without endings: with them they would be paths to be followed."""
    names = list(dict.fromkeys(plain_stem(read.paths[at]) for at in target.members))
    more = f" and {len(names) - _MOST_FILES} more" if len(names) > _MOST_FILES else ""
    return "; ".join(names[:_MOST_FILES]) + more


def _of_coordinates(
    coordinates: Coordinates | None, targets: Sequence[Target], name_column: str | None
) -> Mapping[str, tuple[Any, ...]]:
    """What the coordinates say of the targets, where all their rows say the same."""
    if coordinates is None:
        return {}
    return {
        column: tuple(agreed([cells[row] or None for row in target.rows]) for target in targets)
        for column, cells in coordinates.columns.items()
        if column != name_column
    }
