"""Binary files of ASD FieldSpec spectrometers (``*.asd``), versions 1 to 8.

The layout is the maker's, "ASD File Format, version 8, revision B": a header of 484 bytes, the
target's spectrum and, from version 2 on, that of the white reference. Reflectance is their ratio:
gains and integration time, the same for both, drop out.

A GPS position is not taken as the spectrum's place: programs that read the field disagree about the
sign of the longitude. It is kept as it stands in the attribute ``gps``.
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files.source import decoded, plain_stem
from pixelssr_geo.spectra_files.spectrum import FieldSpectrum, Readings, ratio_of, spectra_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelssr_geo.spectra_files.source import Source

_MAGIC = re.compile(rb"ASD|as[2-8]")
_HEADER = 484
_COMMENT = slice(3, 160)
_WHEN, _DATA_TYPE, _FIRST_AND_STEP, _NUMBER_TYPE, _CHANNELS = 160, 186, 191, 199, 204
_GPS, _INSTRUMENT, _SATURATION = 350, 400, 422
_REFERENCE_HEADER = struct.Struct("<H2dh")
_NUMBERS = {0: "<f4", 1: "<i4", 2: "<f8"}
_RAW, _REFLECTANCE, _ABSOLUTE = 0, 1, 8
_KINDS = {2: "radiance", 4: "irradiance", 5: "a quality index", 6: "transmittance"}
_DETECTORS = ("VNIR", "SWIR1", "SWIR2")


def recognises(source: Source) -> bool:
    """Whether it begins as an ASD file and is not text."""
    return bool(_MAGIC.match(source.head)) and not source.is_text


def read(source: Source) -> list[FieldSpectrum]:
    """The one spectrum of the file, as reflectance relative to the white reference.

    Channels whose reference is zero, and so have no ratio, are NaN.

    Raises
    ------
    PointsError
        If the file is cut off, or holds counts or radiance without a reference.
    """
    raw = source.raw()
    _require(raw, _HEADER, source)
    if not _MAGIC.match(raw):
        raise PointsError(
            f"'{source.path}' begins with {raw[:3]!r}, an ASD file begins with 'ASD' or 'as2' to "
            "'as8': copy it from the instrument again"
        )
    first, step = struct.unpack_from("<2f", raw, _FIRST_AND_STEP)
    (channels,) = struct.unpack_from("<H", raw, _CHANNELS)
    if channels == 0 or not step > 0:
        raise PointsError(
            f"'{source.path}' announces {channels} channels every {step:g} nm, an ASD spectrum is "
            "needed: copy it from the instrument again"
        )
    target = _numbers(raw, _HEADER, channels, source)
    reference = _reference(raw, _HEADER + target.nbytes, channels, source)
    return spectra_of(
        Readings(
            file=str(source.path),
            format="ASD binary",
            names=[plain_stem(source.path)],
            wavelengths=float(first) + float(step) * np.arange(channels),
            values=_ratio(target.astype("f8"), reference, raw[_DATA_TYPE], source)[None],
            wavelength_unit="nm",
            scale=1.0,
            common=_attributes(raw),
        )
    )


def _ratio(
    target: NDArray[np.float64],
    reference: NDArray[np.float64] | None,
    kind: int,
    source: Source,
) -> NDArray[np.float64]:
    if reference is not None and kind in (_RAW, _REFLECTANCE, _ABSOLUTE):
        return ratio_of(target, reference)
    if kind == _REFLECTANCE and np.nanpercentile(target, 99) <= 2:
        return target  # the oldest versions store the ratio itself
    what = _KINDS.get(kind, "counts without a white reference")
    raise PointsError(
        f"'{source.path}' holds {what}, reflectance is needed: take a white reference, or export "
        "reflectance with the instrument's software"
    )


def _reference(
    raw: bytes, offset: int, channels: int, source: Source
) -> NDArray[np.float64] | None:
    """The white reference's spectrum; None if none was taken."""
    if raw[:3] == b"ASD" or len(raw) <= offset:
        return None
    _require(raw, offset + _REFERENCE_HEADER.size, source)
    taken, _, _, described = _REFERENCE_HEADER.unpack_from(raw, offset)
    start = offset + _REFERENCE_HEADER.size + max(described, 0)
    if not taken:
        return None
    reference = _numbers(raw, start, channels, source).astype("f8")
    return reference if reference.any() else None


def _numbers(raw: bytes, offset: int, channels: int, source: Source) -> NDArray[np.float64]:
    kind = _NUMBERS.get(raw[_NUMBER_TYPE])
    if kind is None:
        raise PointsError(
            f"'{source.path}' states number type {raw[_NUMBER_TYPE]}, 0, 1 or 2 is needed: copy it "
            "from the instrument again"
        )
    _require(raw, offset + channels * np.dtype(kind).itemsize, source)
    return np.frombuffer(raw, kind, channels, offset)


def _require(raw: bytes, size: int, source: Source) -> None:
    if len(raw) < size:
        raise PointsError(
            f"'{source.path}' is cut off: it has {len(raw)} bytes and an ASD file of its kind has "
            f"{size} at least: copy it from the instrument again"
        )


def _attributes(raw: bytes) -> dict[str, str]:
    (number,) = struct.unpack_from("<H", raw, _INSTRUMENT)
    found = {"instrument": f"ASD {number}"}
    if (when := _when(raw)) is not None:
        found["date"] = when
    if comment := decoded(raw[_COMMENT].split(b"\0")[0]).strip():
        found["comment"] = " ".join(comment.split())
    latitude, longitude = struct.unpack_from("<2d", raw, _GPS)
    if latitude or longitude:
        found["gps"] = f"{latitude:.10g} {longitude:.10g}"
    saturated = [name for bit, name in enumerate(_DETECTORS) if raw[_SATURATION] >> bit & 1]
    if saturated:
        found["saturated"] = " ".join(saturated)
    return found


def _when(raw: bytes) -> str | None:
    second, minute, hour, day, month, year = struct.unpack_from("<6h", raw, _WHEN)
    try:
        return datetime(year + 1900, month + 1, day, hour, minute, second).isoformat()
    except ValueError:
        return None
