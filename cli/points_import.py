"""``pixelssr-geo points import``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from pixelssr_geo.cli.options import json_option, overwrite_option, progress_bar, talk_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixelssr_geo.field_import import FieldImport

MOST_NAMES = 20
"""Names in a line; --json tells all."""


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="FILE",
    help="GeoPackage of the points, as field.gpkg.",
)
@click.option(
    "--coordinates",
    type=click.Path(),
    metavar="TABLE",
    help="Names and places of the spectra, their files or their targets: CSV, GeoPackage or "
    "GeoJSON [default: the positions in the files].",
)
@click.option(
    "--layer", metavar="NAME", help="Layer of a GeoPackage of coordinates [default: its points]."
)
@click.option(
    "--crs",
    metavar="CRS",
    help="CRS of coordinates that state none, as EPSG:32633 [default: EPSG:4326 for degrees].",
)
@click.option(
    "--group-by",
    metavar="RULE",
    help="What makes spectra scans of one target, to be averaged: name, file, prefix:REGEX or "
    "column:NAME [default: one place in the coordinates, else one name].",
)
@overwrite_option
@json_option
@talk_options
def import_points(
    files: tuple[str, ...],
    output: str,
    coordinates: str | None,
    layer: str | None,
    crs: str | None,
    group_by: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Make field points of spectrometer FILES and folders of them.

    ASD (.asd and text exports), SVC (.sig), Spectral Evolution (.sed), ENVI spectral libraries and
    tables of any layout are recognised by their content. Scans of one target are averaged, with
    their standard deviation.
    """
    import json
    from pathlib import Path

    from pixelssr_geo.errors import SettingsError
    from pixelssr_geo.field_import import import_spectra
    from pixelssr_geo.points import write_points
    from pixelssr_geo.writers import check_output

    if Path(output).suffix.lower() != ".gpkg":
        raise SettingsError(
            f"points cannot be written to '{output}', a name that ends in .gpkg is needed: give "
            "-o field.gpkg"
        )
    check_output(output, overwrite=overwrite)
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        imported = import_spectra(
            files,
            coordinates=coordinates,
            layer=layer,
            crs=crs,
            group_by=group_by,
            progress=progress,
        )
    write_points(imported.points, output)
    if as_json:
        click.echo(json.dumps(_about(imported, output)))
        return
    for line in _lines(imported, output):
        click.echo(line)


def _about(imported: FieldImport, output: str) -> dict[str, Any]:
    points = imported.points
    replicates = points.attributes["replicates"]
    return {
        "output": output,
        "files": imported.files,
        "spectra": imported.spectra,
        "targets": len(points),
        "wavelengths": len(points.wavelengths_nm),
        "range_nm": [float(points.wavelengths_nm[0]), float(points.wavelengths_nm[-1])],
        "crs": _crs_name(points.crs_wkt),
        "points": [
            {"id": name, "x": float(x), "y": float(y), "replicates": count}
            for name, x, y, count in zip(points.ids, points.x, points.y, replicates, strict=True)
        ],
        "left_out": [
            {"name": one.name, "file": one.file, "reason": one.reason} for one in imported.left_out
        ],
        "unused_coordinates": list(imported.unused),
        "recognised": list(points.notes),
    }


def _lines(imported: FieldImport, output: str) -> Iterator[str]:
    from pixelssr_geo.points.doubts import name_some

    points = imported.points
    low, high = points.wavelengths_nm[[0, -1]]
    files = "1 file" if imported.files == 1 else f"{imported.files} files"
    yield f"read      {imported.spectra} spectra of {files}"
    yield (
        f"points    {output}: {len(points)} targets, {len(points.wavelengths_nm)} wavelengths "
        f"{low:g}-{high:g} nm, {_crs_name(points.crs_wkt)}"
    )
    for note in points.notes:
        yield f"  {note}"
    if imported.left_out:
        yield f"left out  {len(imported.left_out)}"
        names: dict[str, list[str]] = {}
        for one in imported.left_out:
            names.setdefault(one.reason, []).append(one.name)
        for reason, own in names.items():
            yield f"  {name_some(own, MOST_NAMES)}: {reason}"
    if imported.unused:
        yield f"coordinates without spectra  {name_some(imported.unused, MOST_NAMES)}"


def _crs_name(wkt: str | None) -> str:
    from pyproj import CRS

    if wkt is None:
        return "no CRS"
    crs = CRS.from_wkt(wkt)
    code = crs.to_epsg()
    return crs.name if code is None else f"EPSG:{code}"
