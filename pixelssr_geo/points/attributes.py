"""Names of points, and what else a layer's fields say about them."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd

ID_NAMES = (
    "id", "name", "point_id", "point", "sample_id", "sample", "plot_id", "plot", "site_id", "site",
    "station_id", "station",
)  # fmt: skip
"""Fields that name points, whatever their case; see :func:`identifiers`."""

_IDS = ("id", "point_id", "sample_id")
"""These are taken in their turn though some values recur: they are what the file calls its points,
and another field would hide that some are there twice."""

_NAMES_IN_ANY_CASE = 3
"""So many of :data:`ID_NAMES` are taken with repeated values too, if none has differing ones."""


def identifiers(frame: pd.DataFrame, column: str | None = None) -> tuple[tuple[str, ...], str]:
    """Name of each row, and the field that it is from; numbers and an empty name where none is.

    Parameters
    ----------
    frame
        Fields of the points.
    column
        The field to take; by default one of :data:`ID_NAMES`.
    """
    named = {str(name).casefold(): str(name) for name in reversed(frame.columns)}
    known = [named[name] for name in ID_NAMES if name in named]
    usual = [named[name] for name in ID_NAMES[:_NAMES_IN_ANY_CASE] if name in named]
    filled = [
        name for name in known if frame[name].notna().all() and not _is_structured(frame[name])
    ]
    taken = [
        name
        for name in filled
        if frame[name].is_unique or (name.casefold() in _IDS and _differs(frame[name]))
    ]
    chosen = column or next(iter([*taken, *(name for name in usual if name in filled)]), "")
    if not chosen:
        return tuple(f"point {number}" for number in range(1, len(frame) + 1)), ""
    return tuple(plain_key(value) for value in frame[chosen].tolist()), chosen


def names_in(frame: pd.DataFrame, ids: Sequence[str]) -> list[Sequence[str]]:
    """The ids, and the values of the other fields of text that may name the rows."""
    usual = [str(name) for name in frame.columns if str(name).casefold() in ID_NAMES]
    texts = [frame[name].tolist() for name in usual]
    return [ids, *(own for own in texts if all(isinstance(value, str) for value in own))]


def _differs(column: pd.Series[Any]) -> bool:
    """Whether a field has more than one value: an id of 0 in all rows is one never filled in."""
    return len(column) == 1 or column.nunique() > 1


def _is_structured(column: pd.Series[Any]) -> bool:
    return any(isinstance(value, (bytes, list, dict, np.ndarray)) for value in column.iloc[:1])


def plain_key(value: Any) -> str:
    """A key as text: whole numbers alike, whether they are stored as integers or not."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def attributes_of(
    frame: pd.DataFrame, types: Mapping[str, str], without: Collection[str]
) -> dict[str, tuple[Any, ...]]:
    """Plain values of the fields that are no spectra.

    Parameters
    ----------
    frame
        Fields of the points.
    types
        NumPy types of the fields in the file; integers with gaps are read as floats.
    without
        Fields to leave out.
    """
    kept: dict[str, tuple[Any, ...]] = {}
    for name in map(str, frame.columns):
        if name not in without:
            values = _plain_column(frame[name], types.get(name, "object"))
            if values is not None:
                kept[name] = values
    return kept


def _plain_column(column: pd.Series[Any], kind: str) -> tuple[Any, ...] | None:
    """Values that JSON has, None for a field that has others."""
    if column.dtype.kind == "M":
        known = column.dropna()
        whole_days = bool((known == known.dt.normalize()).all())
        return tuple(
            _iso(value, whole_days) if there else None
            for value, there in zip(column, column.notna(), strict=True)
        )
    values = [_plain(value, kind) for value in column.tolist()]
    return None if any(value is NotImplemented for value in values) else tuple(values)


def _iso(value: datetime, whole_days: bool) -> str:
    return value.date().isoformat() if whole_days else value.isoformat()


def _plain(value: Any, kind: str) -> Any:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return bool(value) if kind == "bool" else int(value) if "int" in kind else value
    if isinstance(value, (date, time)):
        return value.isoformat()
    return NotImplemented
