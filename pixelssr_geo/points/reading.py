"""Reading points: find the layout, read the spectra, settle their units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.points.attributes import attributes_of, identifiers, names_in
from pixelssr_geo.points.doubts import name_some, unit_doubts
from pixelssr_geo.points.long_table import long_fields, row_candidates, table_candidates
from pixelssr_geo.points.point_spectra import PointSpectra
from pixelssr_geo.points.profiles import profile_candidates
from pixelssr_geo.points.spectrum_paths import path_candidates
from pixelssr_geo.points.vector_file import listed, open_vector_file
from pixelssr_geo.points.wide import wide_candidates
from pixelssr_geo.spectra.units import reflectance_scales
from pixelssr_geo.spectra_files.deviations import deviation_rows
from pixelssr_geo.spectra_files.spectrum import without_flags

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from pixelssr_geo.points.layouts import Candidate, FoundSpectra
    from pixelssr_geo.points.vector_file import VectorFile


def read_points(
    path: str | Path, *, layer: str | None = None, field: str | None = None
) -> PointSpectra:
    """Field spectra of a GeoPackage or another vector file, as reflectance 0-1 over nm.

    Parameters
    ----------
    path
        Vector file with point geometries.
    layer
        Layer of points, or the long table beside it. By default the first layer of points that has
        spectra.
    field
        Field that holds the spectra: JSON profiles, values of a long table or paths; or the prefix
        of wavelength columns. By default the first of these layouts that is there:

        1. a field of profiles as EnMAP-Box writes them, ``{"x": [...], "y": [...], "xUnit": "nm"}``
           as text, JSON or UTF-8 bytes; the one named ``profiles`` first;
        2. columns named by wavelength, the prefix with most of them first;
        3. a long table with fields for point, wavelength and value, beside the points or with the
           point in each row;
        4. a field of paths to spectrometer files, relative to the folder of ``path``.

    Notes
    -----
    Units are taken as the file states them. Otherwise wavelengths below 100 are micrometres, and
    reflectance in percent or x 10000 is recognised by the size of all spectra together
    (:func:`~pixelssr_geo.spectra.units.scale_by_size`): one in another unit than the rest is not
    converted. What was recognised is in ``notes``.

    Raises
    ------
    PointsError
        If the file, the layer, the geometries or the spectra cannot be used.
    """
    file = open_vector_file(path)
    chosen = _choose(file, layer, field)
    found = chosen.candidates[0].read()
    places = found.places or file.read_places(chosen.layer)
    frame = chosen.frame if found.rows is None else chosen.frame.iloc[found.rows]
    ids, id_column = identifiers(frame, found.id_column)
    spectra = {name for one in chosen.candidates for name in one.columns}
    known = attributes_of(frame, file.fields(chosen.layer), spectra | found.varying | {id_column})
    found, kept, noted = _deviations_apart(found, names_in(frame, ids), places)
    values, spread, said = _as_reflectance(found, ids, path)
    if twice := len(ids) - len(set(ids)):
        said += (f"{twice} of {len(ids)} points have an id of field '{id_column}' that recurs",)
    points = PointSpectra(
        ids=ids,
        x=places[0],
        y=places[1],
        crs_wkt=file.crs_wkt(chosen.layer),
        wavelengths_nm=found.wavelengths_nm,
        reflectance=values,
        source=str(path),
        notes=(chosen.candidates[0].what, *said, *found.notes, *noted, *chosen.notes),
        attributes={**found.attributes, **known},
        spread=spread,
    )
    return points if kept.all() else points.take(kept)


def _deviations_apart(
    found: FoundSpectra,
    names: Sequence[Sequence[str]],
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[FoundSpectra, NDArray[np.bool_], tuple[str, ...]]:
    """Spectra with the deviations that are rows of their own, which rows are left, and a note.

    Parameters
    ----------
    found
        The spectra. What states deviations otherwise is left as it is.
    names
        Names of the rows, one sequence for each field that may name them; the first counts by which
        a row is another's.
    places
        X and y of the rows: only what is at one place belongs together.
    """
    kept = np.ones(len(found.values), bool)
    if found.spread is not None:
        return found, kept, ()
    for own in names:
        pairs = {
            at: row
            for at, row in deviation_rows(own, found.values).items()
            if all(axis[at] == axis[row] for axis in places)
        }
        if pairs:
            break
    else:
        return found, kept, ()
    spectra, rows = list(pairs), list(pairs.values())
    values, spread = found.values.copy(), np.full_like(found.values, np.nan)
    scales = np.full(len(values), np.nan)
    spread[spectra], scales[spectra] = values[rows], found.scales[rows]
    # So that the unit is told from the spectra alone.
    values[rows] = np.nan
    kept[rows] = False
    what = "1 row is" if len(rows) == 1 else f"{len(rows)} rows are"
    note = (
        f"{what} taken as the standard deviations of others, by name "
        f"({name_some([own[row] for row in rows])})"
    )
    return replace(found, values=values, spread=spread, spread_scales=scales), kept, (note,)


def _as_reflectance(
    found: FoundSpectra, ids: Sequence[str], path: str | Path
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, tuple[str, ...]]:
    """Reflectance, its spread, and notes: the unit, the unit of wavelengths, what is in doubt."""
    values = without_flags(found.values)
    flagged = np.isnan(values) & ~np.isnan(found.values)
    if not np.isfinite(values).any():
        raise PointsError(
            f"'{path}' holds spectra without a single number, reflectance values are needed: "
            "check the export"
        )
    grid = found.wavelengths_nm
    scales, unit = reflectance_scales(values, grid, found.scales, f"'{path}'")
    values /= scales[:, None]
    notes = [found.unit or unit, f"wavelengths in {found.wavelength_unit}"]
    if flagged.any():
        notes.append(f"{int(flagged.sum())} values such as -9999 taken as missing")
    spread = None
    if found.spread is not None:
        own = found.spread_scales
        scales = scales if own is None else np.where(np.isfinite(own), own, scales)
        spread = without_flags(found.spread)
        spread = np.where(spread >= 0, spread, np.nan) / scales[:, None]
    return values, spread, (*notes, *unit_doubts(ids, values, grid))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A layer and what spectra it may hold, the first of which is read."""

    layer: str
    frame: pd.DataFrame
    candidates: Sequence[Candidate]
    notes: tuple[str, ...] = ()


def _choose(file: VectorFile, layer: str | None, field: str | None) -> _Chosen:
    """The first layer with spectra that can be read, else the first with any."""
    layers, tables = _layers(file, layer)
    only_tables = layer in tables
    refused: _Chosen | None = None
    empty: list[str] = []
    seen: dict[str, Any] = {}
    for name in layers:
        frame = file.read_table(name)
        if frame.empty:
            empty.append(name)
            continue
        seen[name] = frame
        candidates = (
            table_candidates(file, name, frame, tables=tables, field=field)
            if only_tables
            else _candidates(file, name, frame, tables, field)
        )
        if candidates and candidates[0].usable:
            return _Chosen(name, frame, candidates, _notes(name, layers, candidates))
        if candidates and refused is None:
            refused = _Chosen(name, frame, candidates)
    if refused is not None:
        return refused
    if not seen:
        raise PointsError(
            f"layer '{empty[0]}' of '{file.path}' is empty, points are needed: give --layer"
        )
    # Polygons are said to be wrong before their missing spectra are.
    first = next(iter(seen))
    file.read_places(first)
    raise _no_spectra(file, first, seen[first], field)


def _layers(file: VectorFile, layer: str | None) -> tuple[Sequence[str], Sequence[str]]:
    """Layers to look for points in, and tables to look for their spectra in."""
    if layer is not None and layer not in file.layers:
        raise PointsError(
            f"'{file.path}' has no layer '{layer}', it has {listed(file.layers)}: give --layer"
        )
    if layer in file.places:
        return [str(layer)], file.tables
    if layer is not None and long_fields(file.fields(layer)) is None:
        raise PointsError(
            f"layer '{layer}' of '{file.path}' has no geometry, points are needed: give --layer"
        )
    if not file.places:
        raise PointsError(
            f"'{file.path}' has no layer with geometries ({listed(file.layers)}), points are "
            "needed: export a point layer"
        )
    return file.places, file.tables if layer is None else [layer]


def _candidates(
    file: VectorFile,
    layer: str,
    frame: pd.DataFrame,
    tables: Sequence[str],
    field: str | None,
) -> list[Candidate]:
    """What spectra a layer may hold, in the documented order, what cannot be read last."""
    columns = [str(name) for name in frame.columns]
    if field is None:
        found = [
            *profile_candidates(frame, file.path),
            *wide_candidates(columns, frame, file.path),
            *table_candidates(file, layer, frame, tables=tables),
            *row_candidates(file, layer, frame),
            *path_candidates(frame, file.path),
        ]
    elif field in columns:
        # What is neither is read as a profile, which says what is wrong with it.
        found = (
            row_candidates(file, layer, frame, field)
            or path_candidates(frame, file.path, field)
            or profile_candidates(frame, file.path, field)
        )
    else:
        found = wide_candidates(columns, frame, file.path, field) or table_candidates(
            file, layer, frame, tables=tables, field=field
        )
    return sorted(found, key=lambda one: not one.usable)


def _notes(layer: str, layers: Sequence[str], candidates: Sequence[Candidate]) -> tuple[str, ...]:
    others = [one.what for one in candidates[1:]]
    notes = [f"also there and not used: {', '.join(others)}"] if others else []
    if len(layers) > 1:
        rest = [name for name in layers if name != layer]
        notes.append(f"layer '{layer}' taken, not {listed(rest, 5)}")
    return tuple(notes)


def _no_spectra(
    file: VectorFile, layer: str, frame: pd.DataFrame, field: str | None
) -> PointsError:
    if field is not None:
        names = [*frame.columns, *(name for table in file.tables for name in file.fields(table))]
        return PointsError(
            f"'{file.path}' has no field '{field}', it has {listed(names)}: give --field"
        )
    return PointsError(
        f"'{file.path}' holds no spectra: found the fields {listed(frame.columns)} in layer "
        f"'{layer}', expected JSON profiles, columns named by wavelength (such as 665.0), a table "
        "of point, wavelength and value, or paths of spectrum files: give --field"
    )
