"""The long layout: one value per row, in a table beside the points or with the point in each row."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.attributes import ID_NAMES, plain_key
from pixelssr_geo.points.doubts import name_some
from pixelssr_geo.points.layouts import Candidate, FoundSpectra, numbers, on_one_grid
from pixelssr_geo.points.profiles import is_no_value
from pixelssr_geo.points.vector_file import listed
from pixelssr_geo.spectra.units import stated_scale, wavelengths_in_nm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from pixelssr_geo.points.vector_file import VectorFile

_UNIT = r"(?:[\s_.\[(]*(?P<unit>nm|[uµμ]m|nanomet(?:er|re)s?|micromet(?:er|re)s?|angstroms?|å|(?<=[\[(])a(?=[\])])|cm-?1)[\])]*)?"
WAVELENGTH = re.compile(
    rf"(?:wave_?lengths?|wave|wvls?|wls?|lambda|lam|nm|um|(?P<number>wave_?numbers?)){_UNIT}",
    re.IGNORECASE,
)
"""Names of fields of wavelengths: ``wavelength``, ``wavelength_nm``, ``wl``, ``lambda [um]``."""

_VALUES = (
    "reflectance",
    "refl",
    "rfl",
    "rho",
    "brf",
    "hcrf",
    "hdrf",
    "albedo",
    "value",
    "val",
    "r",
    "y",
)
VALUE = re.compile(
    rf"(?P<name>{'|'.join(_VALUES)})s?(?:[\s_.\[(]+(?P<unit>[^\])]*)[\])]*|(?P<percent>\s*%))?",
    re.IGNORECASE,
)
"""Names of fields of values: ``reflectance``, ``refl_pct``, ``value``."""

SPREAD = re.compile(r"(?:\w+_)?(?:std|stdev|stddev|std_?dev|sd|sigma|spread)", re.IGNORECASE)
"""Names of fields of standard deviations."""

_KEY = re.compile(
    r"(?:\w*[_ ])?(?:id|fid|key|ref|name|point|plot|sample|site|station)", re.IGNORECASE
)
_SAMPLE_ROWS = 20_000
_NEARBY = 2.0
"""Positions of one place scatter about so many metres around their mean."""
_DEGREE = 111_000.0
"""Metres of one degree."""


@dataclass(frozen=True, slots=True)
class LongFields:
    """Fields of a long table."""

    wavelength: str
    """Field of wavelengths."""
    value: str
    """Field of values."""
    spread: str | None
    """Field of standard deviations."""
    keys: tuple[str, ...]
    """All other fields, one of which may name the point."""

    @property
    def wavelength_unit(self) -> str:
        """Unit in the name of the field of wavelengths, empty if there is none."""
        match = WAVELENGTH.fullmatch(self.wavelength.strip())
        if match is None:
            return ""
        if match["number"]:
            return match["unit"] or "wavenumber"
        plain = self.wavelength.strip().casefold()
        return match["unit"] or (plain if plain in ("nm", "um") else "")

    def scale(self, where: str) -> float:
        """What divides the values, by the name of their field; NaN if it says nothing."""
        return stated_scale(self.value, where)


def long_fields(types: Mapping[str, str], value: str | None = None) -> LongFields | None:
    """The fields of a long table, by name and type; None if it is none.

    Parameters
    ----------
    types
        NumPy type of each field.
    value
        The field of values; by default the first of the usual names, else the only other one with
        decimal numbers.
    """
    matches = {name: WAVELENGTH.fullmatch(name.strip()) for name in types}
    waves = [name for name, match in matches.items() if match and types[name] != "bool"]
    if not waves or (value is not None and (value not in types or value == waves[0])):
        return None
    others = [name for name in types if name != waves[0]]
    spread = next((name for name in others if name != value and SPREAD.fullmatch(name)), None)
    if value is None:
        value = _value_field([name for name in others if name != spread], types)
    if value is None:
        return None
    keys = tuple(name for name in others if name not in (value, spread))
    return LongFields(waves[0], value, spread, keys)


def _value_field(names: Sequence[str], types: Mapping[str, str]) -> str | None:
    ranks = {
        name: _VALUES.index(match["name"].casefold())
        for name in names
        if (match := VALUE.fullmatch(name.strip()))
    }
    if ranks:
        return min(ranks, key=lambda name: ranks[name])
    decimal = [name for name in names if types[name].startswith("float")]
    return decimal[0] if len(decimal) == 1 else None


# --- A table beside the points --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Join:
    """How a table belongs to a layer."""

    table_field: str
    layer_field: str
    """Empty for the number of the feature."""

    def side(self, frame: pd.DataFrame) -> dict[str, int]:
        """The row of the layer for each key."""
        column = frame[self.layer_field].tolist() if self.layer_field else frame.index.tolist()
        return {_number_key(v): at for at, v in enumerate(column) if not is_no_value(v)}


def table_candidates(
    file: VectorFile,
    layer: str,
    frame: pd.DataFrame,
    *,
    tables: Sequence[str],
    field: str | None = None,
) -> list[Candidate]:
    """Long tables that belong to a layer of points, in the file's order.

    Those that no field joins to the layer come last, as what cannot be used.
    """
    candidates = []
    for table in tables:
        fields = long_fields(file.fields(table), field)
        if fields is not None:
            candidates.append(_table_candidate(file, layer, frame, table, fields))
    return sorted(candidates, key=lambda one: not one.usable)


def _table_candidate(
    file: VectorFile, layer: str, frame: pd.DataFrame, table: str, fields: LongFields
) -> Candidate:
    rows = max(_SAMPLE_ROWS, 5 * len(frame))
    sample = file.read_table(table, [fields.wavelength, *fields.keys], rows=rows)
    joins = _find_joins(sample, fields, frame, layer, file.fid_name(layer))
    what = f"values of field '{fields.value}' in table '{table}'"
    if len(joins) != 1:

        def refuse() -> FoundSpectra:
            if joins:
                raise _two_joins(file, layer, table, joins)
            raise _not_joined(file, layer, frame, table, fields, sample)

        return Candidate(what, refuse, usable=False)
    joined = joins[0]
    on = joined.layer_field or file.fid_name(layer)

    def read() -> FoundSpectra:
        return _read_table(file, frame, table, fields, joined)

    return Candidate(f"{what}, joined by '{joined.table_field}' to '{on}'", read)


def _find_joins(
    sample: pd.DataFrame, fields: LongFields, frame: pd.DataFrame, layer: str, fid: str
) -> list[_Join]:
    """The fields by which rows belong to points: those that fit best by values, then by name.

    Two where they fit equally well and give rows to different points. Numbers of features fit by
    chance: they count where the key is named so, or where the layer has nothing else.
    """
    named = [
        name
        for name in map(str, frame.columns)
        if len(known := frame[name].dropna()) and known.dtype.kind in "iufOT" and _is_key(known)
    ]
    keys = [
        key
        for key in fields.keys
        if _hashable(sample[key].dropna()) and not _repeats(sample, key, fields.wavelength)
    ]
    to_fields = [(_Join(key, name), name) for key in keys for name in named]
    to_numbers = [(_Join(key, ""), fid) for key in keys]
    by_name = [pair for pair in to_numbers if _names_features(pair[0].table_field, fid, layer)]
    best, share = _best_joins([*to_fields, *by_name], sample, frame, layer)
    if share < 1 and not any(_KEY.fullmatch(name) for name in named):
        others, more = _best_joins(to_numbers, sample, frame, layer)
        return others if more > share else best
    return best


def _best_joins(
    joins: Sequence[tuple[_Join, str]], sample: pd.DataFrame, frame: pd.DataFrame, layer: str
) -> tuple[list[_Join], float]:
    """The best of some joins, one as good that gives other points, if there is, and their share."""
    best: list[_Join] = []
    top: tuple[bool, int, float] = (False, 0, 0.0)
    for join, name in joins:
        side = join.side(frame)
        found = {_number_key(value) for value in sample[join.table_field].dropna().unique()}
        share = len(found & side.keys()) / len(found) if found else 0.0
        score = (share >= 0.5, _likeness(join.table_field, name, layer), share)
        if share and (not best or score > top):
            best, top = [join], score
        elif share and score == top and len(best) == 1:
            first, other = (_rows_of(one, sample, frame) for one in (best[0], join))
            if first != other:
                best.append(join)
    return best, top[2]


def _rows_of(join: _Join, sample: pd.DataFrame, frame: pd.DataFrame) -> list[int]:
    side = join.side(frame)
    return [side.get(_number_key(value), -1) for value in sample[join.table_field]]


def _number_key(value: Any) -> str:
    """A key as text, whole numbers without the zeros in front of them: 03 is 3."""
    plain = plain_key(value)
    return plain.lstrip("0") or "0" if plain.isdecimal() else plain


def _names_features(key: str, fid: str, layer: str) -> bool:
    """Whether a field is named as one that holds numbers of features."""
    layer = layer.casefold()
    own = {f"{name}_{end}" for name in (layer, layer.rstrip("s")) for end in ("fid", "id")}
    plain = key.casefold()
    return plain in {fid.casefold(), *own} or re.search(r"(?:^|_)fid(?:_|$)", plain) is not None


def _two_joins(file: VectorFile, layer: str, table: str, joins: Sequence[_Join]) -> PointsError:
    first, other = (
        f"'{join.table_field}' to '{join.layer_field or file.fid_name(layer)}'" for join in joins
    )
    return PointsError(
        f"table '{table}' of '{file.path}' can be joined to layer '{layer}' by {first} and by "
        f"{other}, which give different points: give both one key of the same name"
    )


def _hashable(column: pd.Series[Any]) -> bool:
    return not any(isinstance(value, (list, dict, np.ndarray)) for value in column.iloc[:1])


def _is_key(column: pd.Series[Any]) -> bool:
    """Whether each value is there once, also without the zeros in front of numbers."""
    return _hashable(column) and len({_number_key(value) for value in column}) == len(column)


def _repeats(sample: pd.DataFrame, key: str, wavelength: str) -> bool:
    """Whether a field cannot name the points: another value in each row, or a wavelength twice."""
    if len(sample) > 1 and sample[key].is_unique and not sample[wavelength].is_unique:
        return True
    return bool(sample.duplicated([key, wavelength]).any())


def _likeness(key: str, name: str, layer: str) -> int:
    """How much two names look like one key."""
    key, name, layer = key.casefold(), name.casefold(), layer.casefold()
    if key == name:
        return 3
    if key in (f"{layer}_{name}", f"{layer.rstrip('s')}_{name}", f"point_{name}"):
        return 2
    return 1 if _KEY.fullmatch(key) else 0


def _not_joined(
    file: VectorFile,
    layer: str,
    frame: pd.DataFrame,
    table: str,
    fields: LongFields,
    sample: pd.DataFrame,
) -> PointsError:
    told = f"table '{table}' of '{file.path}'"
    if not fields.keys:
        return PointsError(
            f"{told} has the fields '{fields.wavelength}' and '{fields.value}' and none that names "
            f"the point, one with the keys of layer '{layer}' is needed: add it"
        )
    twice = [key for key in fields.keys if sample.duplicated([key, fields.wavelength]).any()]
    if len(twice) == len(fields.keys):
        return PointsError(
            f"{told} has wavelengths twice for each value of {listed(twice)}, one value per point "
            "and wavelength is needed: average replicates, or add a field that names the point"
        )
    key = next(key for key in fields.keys if key not in twice)
    some = name_some([plain_key(value) for value in sample[key].dropna().unique()], 3)
    names = listed([file.fid_name(layer), *frame.columns])
    return PointsError(
        f"{told} has keys such as {some} in field '{key}', and no field of layer '{layer}' has "
        f"them ({names}): give both the same keys"
    )


def _read_table(
    file: VectorFile, frame: pd.DataFrame, table: str, fields: LongFields, join: _Join
) -> FoundSpectra:
    import pandas as pd

    where = f"table '{table}' of '{file.path}'"
    columns = [join.table_field, fields.wavelength, fields.value]
    columns += [fields.spread] if fields.spread else []
    rows = file.read_table(table, columns)
    number = join.side(frame)
    codes, keys = pd.factorize(rows[join.table_field])
    # The last one is for rows without a key, whose code is -1.
    points = np.array([*(number.get(_number_key(key), -1) for key in keys), -1], "i8")[codes]
    found = _assemble(rows, fields, points, len(frame), where)
    strangers = sorted({_number_key(key) for key in keys} - set(number))
    notes = found.notes
    if strangers:
        said = f"{len(strangers)} spectra of table '{table}' belong to no point"
        notes += (f"{said} ({name_some(strangers)}): left out",)
    return replace(found, notes=notes)


# --- The point in each row ------------------------------------------------------------------------


def row_candidates(
    file: VectorFile, layer: str, frame: pd.DataFrame, field: str | None = None
) -> list[Candidate]:
    """The layer itself as a long table: one feature per value, or nothing."""
    fields = long_fields(file.fields(layer), field)
    if fields is None:
        return []

    def read() -> FoundSpectra:
        return _read_rows(file, layer, frame, fields)

    parts = {fields.wavelength, fields.value, *([fields.spread] if fields.spread else [])}
    return [
        Candidate(f"values of field '{fields.value}', one feature each", read, frozenset(parts))
    ]


def _read_rows(
    file: VectorFile, layer: str, frame: pd.DataFrame, fields: LongFields
) -> FoundSpectra:
    x, y = file.read_places(layer)
    where = f"layer '{layer}' of '{file.path}'"
    key, points = _points_of_rows(frame, fields, x, y, where)
    count = int(points.max()) + 1
    found = _assemble(frame, fields, points, count, where)
    _, first = np.unique(points, return_index=True)
    sizes = np.bincount(points, minlength=count)
    centres = [np.bincount(points, c - c[0], count) / sizes + c[0] for c in (x, y)]
    apart = max(
        float(np.abs(c - centre[points]).max()) for c, centre in zip((x, y), centres, strict=True)
    )
    notes = found.notes
    if apart > 1e-9 * max(1.0, float(np.abs(x).max()), float(np.abs(y).max())):
        notes += (f"features of one point lie up to {apart:.3g} from their mean, which is taken",)
    else:
        centres = [x[first], y[first]]
    by = f"points told apart by field '{key}'" if key else "points told apart by their places"
    return replace(
        found,
        notes=(by, *notes),
        rows=first,
        places=(centres[0], centres[1]),
        id_column=key,
        varying=frozenset(_varying(frame, points, first, fields)),
    )


def _points_of_rows(
    frame: pd.DataFrame,
    fields: LongFields,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    where: str,
) -> tuple[str | None, NDArray[np.int64]]:
    """The field that names the points, if any, and the number of the point of each row."""
    import pandas as pd

    waves = pd.factorize(frame[fields.wavelength])[0].astype("i8")
    named = {name.casefold(): name for name in reversed(fields.keys)}
    usual = [named[name] for name in ID_NAMES if name in named]
    others = [name for name in fields.keys if name not in usual and _KEY.fullmatch(name)]
    scattered = []
    for name in (*usual, *others):
        codes = pd.factorize(frame[name])[0].astype("i8")
        several = codes.max() + 1 < len(codes) or len(codes) == 1
        if codes.min() >= 0 and several and not _pairs_repeat(codes, waves):
            if _at_one_place(codes, x, y):
                return name, codes
            scattered.append(name)
    columns, lines = (pd.factorize(c)[0].astype("i8") for c in (x, y))
    places = pd.factorize(columns * len(y) + lines)[0].astype("i8")
    if _pairs_repeat(places, waves):
        raise PointsError(
            f"{where} gives a wavelength twice for one place and has no field that tells the "
            "points apart, one value per point and wavelength is needed: add a field 'point_id'"
        )
    if scattered and len(np.unique(places)) == len(places) > 1:
        raise PointsError(
            f"{where} gives the same {listed(scattered)} to features that are far apart, and each "
            "feature has a place of its own: add a field 'point_id' that tells the points apart"
        )
    return None, places


def _at_one_place(codes: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether the rows of each code are as near to one another as positions of one place are."""
    degrees = bool((np.abs(x) <= 180).all() and (np.abs(y) <= 90).all())
    nearby = _NEARBY / _DEGREE if degrees else _NEARBY
    sizes = np.bincount(codes)
    return all(
        bool((np.abs(c - c[0] - (np.bincount(codes, c - c[0]) / sizes)[codes]) <= nearby).all())
        for c in (x, y)
    )


def _pairs_repeat(codes: NDArray[np.int64], waves: NDArray[np.int64]) -> bool:
    pairs = codes * (waves.max() + 1) + waves
    pairs.sort()
    return bool((pairs[1:] == pairs[:-1]).any())


def _varying(
    frame: pd.DataFrame, points: NDArray[np.int64], first: NDArray[np.int64], fields: LongFields
) -> list[str]:
    """Fields whose value is not the same in all rows of a point."""
    import pandas as pd

    varying = []
    for name in fields.keys:
        if _hashable(frame[name]):
            codes = pd.factorize(frame[name])[0]
            if (codes != codes[first][points]).any():
                varying.append(name)
    return varying


# --- Both -----------------------------------------------------------------------------------------


def _assemble(
    rows: pd.DataFrame,
    fields: LongFields,
    points: NDArray[np.int64],
    count: int,
    where: str,
) -> FoundSpectra:
    """Spectra of rows of one value each; ``points`` has the point of each row, -1 for none."""
    said = f"the fields of {where}"
    measured = numbers(rows, [fields.wavelength], said)[:, 0]
    names = [fields.value] + ([fields.spread] if fields.spread else [])
    values = numbers(rows, names, said)
    known = points >= 0
    points, measured, values = points[known], measured[known], values[known]
    waves, unit = _in_nm(
        measured, fields.wavelength_unit, f"field '{fields.wavelength}' of {where}"
    )
    points, waves, values = _in_order(points, waves, values)
    same = (points[1:] == points[:-1]) & (waves[1:] == waves[:-1])
    if same.any():
        raise PointsError(
            f"{where} gives wavelength {waves[1:][same][0]:g} nm twice for one point, one value "
            "per point and wavelength is needed: average replicates, or name them as points"
        )
    present, starts = np.unique(points, return_index=True)
    grids = _shared(np.split(waves, starts[1:]))
    tables = []
    for column in range(values.shape[1]):
        spectra: list[tuple[NDArray[np.float64], NDArray[np.float64]] | None] = [None] * count
        parts = np.split(values[:, column], starts[1:])
        for point, grid, part in zip(present, grids, parts, strict=True):
            spectra[int(point)] = (grid, part)
        grid, table, notes = on_one_grid(spectra)
        tables.append(table)
    if len(present) < count:
        notes += (f"{count - len(present)} points have no spectrum in {where}",)
    return FoundSpectra(
        wavelengths_nm=grid,
        values=tables[0],
        wavelength_unit=unit,
        scales=np.full(count, fields.scale(where)),
        spread=tables[1] if len(tables) > 1 else None,
        notes=notes,
    )


def _in_nm(measured: NDArray[np.float64], unit: str, where: str) -> tuple[NDArray[np.float64], str]:
    """Wavelengths of all rows in nm; converted once each, for ten million rows have few."""
    if np.isnan(measured).any():
        raise PointsError(
            f"{where} is empty in {int(np.isnan(measured).sum())} rows, a wavelength per value is "
            "needed: delete these rows"
        )
    different, which = np.unique(measured, return_inverse=True)
    converted, name = wavelengths_in_nm(different, unit, where)
    return converted[which], name


def _in_order(
    points: NDArray[np.int64], waves: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    step = np.diff(points)
    if ((step > 0) | ((step == 0) & (np.diff(waves) > 0))).all():
        return points, waves, values
    order = np.lexsort((waves, points))
    return points[order], waves[order], values[order]


def _shared(grids: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """The same grids, those that equal the one before being one array."""
    shared: list[NDArray[np.float64]] = []
    for grid in grids:
        same = bool(shared) and np.array_equal(shared[-1], grid)
        shared.append(shared[-1] if same else grid)
    return shared
