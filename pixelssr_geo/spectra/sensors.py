"""Known sensors by name.

Bands are boxes or Gaussians with the centre and width that the operator publishes, not measured
response curves; ``data/sensors.csv`` names the document for every band. Where a measured
response is at hand, :meth:`SpectralResponse.from_file` is more accurate.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import cast

from pixelssr_geo.errors import UnknownSensorError
from pixelssr_geo.spectra.response import Shape, SpectralResponse

# The band order is that of the product a user opens. Landsat: bands 1 to 7, as in a surface
# reflectance scene; panchromatic, cirrus and thermal bands are not part of one.
_ALIASES: dict[str, tuple[str, ...]] = {
    "GF-1 PMS": ("Gaofen-1 PMS", "GF-1B PMS", "GF-1C PMS", "GF-1D PMS"),
    "GF-1 WFV": ("Gaofen-1 WFV", "GF-1 WFV1", "GF-1 WFV2", "GF-1 WFV3", "GF-1 WFV4"),
    "GF-2 PMS": ("Gaofen-2 PMS", "GF-2"),
    "GF-6 PMS": ("Gaofen-6 PMS",),
    "GF-6 WFV": ("Gaofen-6 WFV",),
    "Sentinel-2A": ("S2A", "S2A MSI", "Sentinel-2A MSI", "Sentinel-2", "S2", "Sentinel-2 MSI"),
    "Sentinel-2B": ("S2B", "S2B MSI", "Sentinel-2B MSI"),
    "Landsat 8 OLI": ("L8", "L8 OLI", "Landsat 8", "LC08"),
    "Landsat 9 OLI": ("L9", "L9 OLI", "Landsat 9", "LC09", "Landsat 9 OLI-2"),
    "WorldView-2": ("WV2", "WV02"),
    "WorldView-3": ("WV3", "WV03"),
    "PlanetScope 4-band": ("PlanetScope 4b", "Dove-R", "PS2.SD", "SuperDove 4-band"),
    "PlanetScope 8-band": ("PlanetScope 8b", "SuperDove", "PSB.SD", "PlanetScope SuperDove"),
    "RGB": ("RGB camera", "Camera"),
}


@dataclass(frozen=True, slots=True)
class Sensor:
    """A known sensor."""

    name: str
    """Its usual name."""
    aliases: tuple[str, ...]
    """Other names that find it."""
    bands: tuple[str, ...]
    """Band names in the order of its product."""
    source: str
    """The documents that centres and widths come from."""


def list_sensors() -> tuple[Sensor, ...]:
    """All known sensors, in the order of the table.

    Examples
    --------
    >>> [sensor.name for sensor in list_sensors()][:2]
    ['GF-1 PMS', 'GF-1 WFV']
    """
    return tuple(
        Sensor(name, _ALIASES[name], response.names, response.source)
        for name, response in _table().items()
    )


def get_sensor(name: str) -> SpectralResponse:
    """Response of a known sensor.

    Parameters
    ----------
    name
        Its name or an alias, in any case and with or without ``-``, ``_``, ``.`` and blanks.
        A colon and band names behind it select bands: ``S2A:B2,B3,B4,B8``.

    Raises
    ------
    UnknownSensorError
        If no sensor has that name; near names and all names are listed.
    ResponseError
        If the sensor has no such band.

    Examples
    --------
    >>> get_sensor("gf6_pms").names
    ('Blue', 'Green', 'Red', 'NIR')
    """
    sensor, colon, bands = name.partition(":")
    key = _plain(sensor)
    if key not in _index():
        raise UnknownSensorError(_unknown(sensor))
    response = _table()[_index()[key]]
    return response.select([band.strip() for band in bands.split(",")]) if colon else response


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


@cache
def _index() -> dict[str, str]:
    """Every name and alias, plain, with the sensor's name."""
    return {_plain(word): name for name in _table() for word in (name, *_ALIASES[name])}


@cache
def _table() -> dict[str, SpectralResponse]:
    text = (files("pixelssr_geo.spectra") / "data" / "sensors.csv").read_text(encoding="utf-8")
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        rows.setdefault(row["sensor"], []).append(row)
    return {
        name: SpectralResponse.from_bands(
            [float(band["centre_nm"]) for band in bands],
            [float(band["fwhm_nm"]) for band in bands],
            names=[band["band"] for band in bands],
            shape=[cast("Shape", band["shape"]) for band in bands],
            source="; ".join(dict.fromkeys(band["source"] for band in bands)),
        )
        for name, bands in rows.items()
    }


def _unknown(name: str) -> str:
    near = get_close_matches(_plain(name), _index(), n=3, cutoff=0.5)
    meant = ", ".join(dict.fromkeys(_index()[key] for key in near))
    hint = f" (did you mean {meant}?)" if meant else ""
    return (
        f"sensor {name!r} is not known{hint}, expected one of {', '.join(_table())}: "
        "name one of these, or give the response functions as a CSV"
    )
