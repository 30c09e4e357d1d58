"""Which spectra are scans of one target, and where that is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError, SettingsError
from pixelssr_geo.field_import.coordinates import DEGREES, are_degrees, known_crs
from pixelssr_geo.field_import.left_out import LeftOut
from pixelssr_geo.points.vector_file import listed
from pixelssr_geo.spectra_files.source import plain_name, plain_stem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyproj import Transformer

    from pixelssr_geo.field_import.coordinates import Coordinates
    from pixelssr_geo.field_import.files import SpectraRead

    Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Target:
    """Scans of one place."""

    name: str
    """Of the point that they become."""
    members: tuple[int, ...]
    """Which spectra they are."""
    x: float
    """Easting or longitude."""
    y: float
    """Northing or latitude."""
    rows: tuple[int, ...]
    """Rows of the coordinates that gave the place."""


@dataclass(frozen=True, slots=True)
class Targets:
    """All targets of an import."""

    targets: tuple[Target, ...]
    """In the order of their first spectra."""
    crs_wkt: str
    """Of their places."""
    left_out: tuple[LeftOut, ...]
    """Spectra without a place."""
    unused: tuple[str, ...]
    """Places without a spectrum."""
    name_column: str | None
    """Column of the coordinates that names the spectra."""
    notes: tuple[str, ...]
    """What else there is to say."""


def find_targets(
    read: SpectraRead,
    coordinates: Coordinates | None,
    *,
    crs: str | None = None,
    group_by: str | None = None,
) -> Targets:
    """Group spectra into targets and give each a place.

    Parameters
    ----------
    read
        The spectra.
    coordinates
        Named places; None to take the positions in the files.
    crs
        Coordinate reference system of positions in the files that are no degrees.
    group_by
        ``name``, ``file``, ``prefix:REGEX`` or ``column:NAME``. By default spectra that the
        coordinates give one place, by their names or by their file's, are one target, and those
        of one name are where the position is the file's own.

    Raises
    ------
    PointsError
        If no spectrum gets a place, or a name has several.
    SettingsError
        If ``group_by`` is malformed.
    """
    labels, left_out = _labels(read, group_by)
    index = None if coordinates is None else _best_index(coordinates, read, labels)
    wkt = known_crs(crs or DEGREES).to_wkt() if coordinates is None else coordinates.crs_wkt
    places = _FilePlaces(read, crs, wkt)
    rows = _rows(read, labels, index)
    targets, notes = [], []
    for name, members in _groups(read, labels, index, rows, by_place=group_by is None):
        found = {place for at in members if (place := _place(at, rows, coordinates, places))}
        if not found:
            left_out += [_without_place(at, read, coordinates, places) for at in members]
            continue
        x, y = np.mean(sorted(found), axis=0)
        used = tuple(sorted({rows[at] for at in members if at in rows}))
        targets.append(Target(name, tuple(members), float(x), float(y), used))
        if len(found) > 1:
            notes.append(f"'{name}' has {len(found)} places, their mean is taken")
    if not targets:
        raise _no_place(read, coordinates, index, left_out)
    told = {row for target in targets for row in target.rows}
    unused = (
        ()
        if index is None
        else tuple(n for at, n in enumerate(index.names) if n and at not in told)
    )
    column = None if index is None else index.column
    return Targets(tuple(targets), wkt, tuple(left_out), unused, column, tuple(notes))


def plain_key(text: str) -> str:
    """A name without what people write differently: case, blanks, marks, the file's ending.

    Between two digits a mark stays, whichever it is: it tells names apart.

    Examples
    --------
    >>> plain_key("Oak Leaf_01.asd") == plain_key("oakleaf-01")
    True
    >>> plain_key("P1-11") == plain_key("P11-1"), plain_key("P1-11") == plain_key("p 1.11")
    (False, True)
    """
    between_digits = re.sub(r"(?<=\d)[\s_.-]+(?=\d)", "-", plain_name(text).casefold())
    return re.sub(r"(?<!\d)[\s_.-]+|[\s_.-]+(?!\d)", "", between_digits)


def _rows(read: SpectraRead, labels: Sequence[str | None], index: _Index | None) -> dict[int, int]:
    """Row of the coordinates for each spectrum that has one: by target, name or file."""
    if index is None:
        return {}
    found = {}
    for at, (spectrum, path) in enumerate(zip(read.spectra, read.paths, strict=True)):
        tried = [name for name in (labels[at], spectrum.name, plain_stem(path)) if name]
        if (row := index.row(tried)) is not None:
            found[at] = row
    return found


def _groups(
    read: SpectraRead,
    labels: Sequence[str | None],
    index: _Index | None,
    rows: dict[int, int],
    *,
    by_place: bool,
) -> list[tuple[str, list[int]]]:
    """Names of targets and the spectra of each, in the order of their first spectra."""
    groups: dict[tuple[str, int | None], list[int]] = {}
    for at, label in enumerate(labels):
        if label is None:
            continue
        row = rows.get(at) if by_place else None
        named = label if row is None or index is None else index.names[row]
        groups.setdefault((named, row), []).append(at)
    return [(name, members) for (name, _), members in groups.items()]


@dataclass(frozen=True, slots=True)
class _Index:
    """A column of the coordinates as names."""

    column: str
    names: tuple[str, ...]
    exact: dict[str, int]
    plain: dict[str, int]

    def row(self, tried: Sequence[str]) -> int | None:
        for known, key in ((self.exact, str), (self.plain, plain_key)):
            for name in tried:
                if (found := known.get(key(name))) is not None:
                    return found
        return None


def _best_index(
    coordinates: Coordinates, read: SpectraRead, labels: Sequence[str | None]
) -> _Index | None:
    """The column whose values name most of the spectra."""
    best, most = None, -1
    for column, names in coordinates.columns.items():
        index = _index(column, names, coordinates)
        matched = sum(
            index.row([*([label] if label else []), spectrum.name, plain_stem(path)]) is not None
            for spectrum, path, label in zip(read.spectra, read.paths, labels, strict=True)
        )
        if matched > most:
            best, most = index, matched
    if best is not None and most > 0:
        _require_one_place(best, coordinates)
    return best


def _index(column: str, names: tuple[str, ...], coordinates: Coordinates) -> _Index:
    exact: dict[str, int] = {}
    plain: dict[str, int] = {}
    several: set[str] = set()
    x, y = coordinates.x, coordinates.y
    for row, name in enumerate(names):
        if name:
            exact.setdefault(name, row)
            first = plain.setdefault(key := plain_key(name), row)
            if (x[first], y[first]) != (x[row], y[row]):
                several.add(key)
    # Names alike but for their marks, at several places, are told apart by their marks.
    return _Index(column, names, exact, {k: row for k, row in plain.items() if k not in several})


def _require_one_place(index: _Index, coordinates: Coordinates) -> None:
    for row, name in enumerate(index.names):
        first = index.exact.get(name, row)
        if (coordinates.x[first], coordinates.y[first]) != (coordinates.x[row], coordinates.y[row]):
            raise PointsError(
                f"'{coordinates.source}' gives '{name}' several places, one per name is needed: "
                "correct the table"
            )


def _labels(read: SpectraRead, group_by: str | None) -> tuple[list[str | None], list[LeftOut]]:
    """The target of each spectrum as ``group_by`` says; None where it says none."""
    if group_by is None or group_by == "name":
        return [spectrum.name for spectrum in read.spectra], []
    if group_by == "file":
        return [plain_stem(path) for path in read.paths], []
    kind, _, rest = group_by.partition(":")
    if kind == "prefix" and rest:
        named = _prefixed(rest)
        return [named(spectrum.name) for spectrum in read.spectra], []
    if kind == "column" and rest:
        return _by_column(read, rest)
    raise SettingsError(
        f"cannot group by '{group_by}', one of name, file, prefix:REGEX and column:NAME is needed: "
        "correct --group-by"
    )


def _prefixed(pattern: str) -> Callable[[str], str]:
    try:
        known = re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"'{pattern}' is no regular expression ({error}), one that matches the beginning of "
            "the spectra's names is needed: correct --group-by"
        ) from error

    def named(name: str) -> str:
        found = known.match(name)
        if found is None:
            return name
        return (found[1] if known.groups else found[0]) or name

    return named


def _by_column(read: SpectraRead, column: str) -> tuple[list[str | None], list[LeftOut]]:
    wanted = plain_key(column)
    labels: list[str | None] = []
    left_out = []
    for spectrum, path in zip(read.spectra, read.paths, strict=True):
        found = next((v for k, v in spectrum.attributes.items() if plain_key(k) == wanted), None)
        labels.append(found)
        if found is None:
            left_out.append(LeftOut(spectrum.name, str(path), f"has no '{column}' to group by"))
    if len(left_out) == len(labels):
        known = dict.fromkeys(key for spectrum in read.spectra for key in spectrum.attributes)
        raise SettingsError(
            f"no spectrum has '{column}' to group by, they have {listed(known)}: correct --group-by"
        )
    return labels, left_out


class _FilePlaces:
    """Positions that the spectra's own files give, in the system of the result."""

    def __init__(self, read: SpectraRead, crs: str | None, wkt: str) -> None:
        self._spectra = read.spectra
        self._crs = crs
        self._wkt = wkt

    def place(self, at: int) -> Place | None:
        spectrum = self._spectra[at]
        if spectrum.x is None or spectrum.y is None:
            return None
        degrees = are_degrees(np.array([spectrum.x]), np.array([spectrum.y]))
        if not degrees and self._crs is None:
            return None
        own = DEGREES if degrees or self._crs is None else self._crs
        x, y = _transformed(spectrum.x, spectrum.y, own, self._wkt)
        return (x, y) if np.isfinite([x, y]).all() else None

    def unknown(self, at: int) -> bool:
        """Whether there is a position in a system that nobody names."""
        return self._spectra[at].x is not None


def _transformed(x: float, y: float, source: str, target_wkt: str) -> Place:
    transformer = _transformer(source, target_wkt)
    if transformer is None:
        return x, y
    found = transformer.transform(x, y)
    return float(found[0]), float(found[1])


@lru_cache(maxsize=8)
def _transformer(source: str, target_wkt: str) -> Transformer | None:
    """From one system to another, longitude first; None if they are one."""
    from pyproj import CRS, Transformer

    known, wanted = known_crs(source), CRS.from_wkt(target_wkt)
    if known.equals(wanted):
        return None
    return Transformer.from_crs(known, wanted, always_xy=True)


def _place(
    at: int, rows: dict[int, int], coordinates: Coordinates | None, places: _FilePlaces
) -> Place | None:
    if coordinates is not None and at in rows:
        return float(coordinates.x[rows[at]]), float(coordinates.y[rows[at]])
    return places.place(at)


def _without_place(
    at: int, read: SpectraRead, coordinates: Coordinates | None, places: _FilePlaces
) -> LeftOut:
    if places.unknown(at):
        reason = "its position is no longitude and latitude: give --crs"
    elif coordinates is None:
        reason = "its file has no position"
    elif read.spectra[at].name in coordinates.placeless:
        reason = f"its row in '{Path(coordinates.source).name}' has no coordinates"
    else:
        named = Path(coordinates.source).name
        reason = f"neither its name nor its target or file is in '{named}'"
    return LeftOut(read.spectra[at].name, str(read.paths[at]), reason)


def _no_place(
    read: SpectraRead,
    coordinates: Coordinates | None,
    index: _Index | None,
    left_out: Sequence[LeftOut],
) -> PointsError:
    count, first = len(read.spectra), read.spectra[0].name
    if coordinates is None:
        cure = "give --crs" if any("--crs" in one.reason for one in left_out) else (
            "give --coordinates with a table of names and places"
        )  # fmt: skip
        return PointsError(f"none of {count} spectra ('{first}', ...) has a place: {cure}")
    known = (
        "no names"
        if index is None
        else f"'{index.column}' with {listed(filter(None, index.names), 3)}"
    )
    return PointsError(
        f"none of {count} spectra ('{first}', ...) is named in '{coordinates.source}', which has "
        f"{known}: use the names of spectra, files or targets there, or give --group-by"
    )
