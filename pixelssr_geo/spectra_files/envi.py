"""ENVI spectral libraries: a header ``*.hdr`` beside raw numbers, whose file may lack an ending."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import PointsError
from pixelssr_geo.spectra_files.source import decoded, open_source
from pixelssr_geo.spectra_files.spectrum import FieldSpectrum, Readings, spectra_of
from pixelssr_geo.spectra_files.text import shortened

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pixelssr_geo.spectra_files.source import Source

_TYPES = {
    1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_ENDINGS = (
    "", ".sli", ".slb", ".esl", ".lib", ".spl", ".dat", ".img", ".raw", ".bin", ".bsq", ".bil",
    ".bip",
)  # fmt: skip
_ENTRY = re.compile(
    r"^[ \t]*([A-Za-z][^={}\r\n]*?)[ \t]*=[ \t]*(\{[^}]*\}?|[^\r\n]*)", re.MULTILINE
)


def recognises(source: Source) -> bool:
    """Whether it is an ENVI header, or raw numbers that a header beside it describes."""
    if source.head.startswith(b"ENVI"):
        return True
    return header_file(source.path) is not None and (not source.is_text or is_announced(source))


def is_announced(source: Source) -> bool:
    """Whether a header beside the file announces numbers of just its size."""
    return _announced(source.path) == source.size


def header_file(data: Path) -> Path | None:
    """The header beside a data file: ``name.hdr`` or ``name.ending.hdr``; None if there is none."""
    for candidate in (data.with_name(data.name + ".hdr"), data.with_suffix(".hdr")):
        if candidate != data and candidate.is_file() and _begins_as_header(candidate):
            return candidate
    return None


def data_file(header: Path) -> Path | None:
    """The numbers that a header describes; None if they are not beside it."""
    bare = header.with_suffix("")
    for candidate in (bare, *(bare.with_name(bare.name + ending) for ending in _ENDINGS)):
        if candidate.is_file() and header_file(candidate) == header:
            return candidate
    return None


def library_data(path: Path) -> Path:
    """The data file if a path is that of an ENVI header with data beside it, else the path."""
    if path.suffix.lower() == ".hdr" and _begins_as_header(path):
        return data_file(path) or path
    return path


def read(source: Source) -> list[FieldSpectrum]:
    """The library's spectra, with the names that its header gives them.

    Channels that the header marks as bad (``bbl``) and its ``data ignore value`` are NaN; values
    are divided by the ``reflectance scale factor``.

    Raises
    ------
    PointsError
        If header or data are missing, the header is incomplete, the data have another size, or
        they are an image.
    """
    is_header = source.head.startswith(b"ENVI")
    header = source.path if is_header else header_file(source.path)
    data = data_file(source.path) if is_header else source.path
    if header is None:
        raise PointsError(
            f"'{source.path}' has no ENVI header beside it, '{source.path.stem}.hdr' is needed: "
            "copy both files"
        )
    if data is None:
        raise PointsError(
            f"'{source.path}' is an ENVI header without its data, '{source.path.stem}.sli' or "
            "alike is needed beside it: copy both files"
        )
    entries = _entries(decoded(open_source(header).raw()))
    table = _numbers(entries, header, data)
    wavelengths = _floats(entries, "wavelength", header)
    if len(wavelengths) != table.shape[1]:
        raise PointsError(
            f"ENVI header '{header}' lists {len(wavelengths)} wavelengths for {table.shape[1]} "
            "channels, one each is needed: complete 'wavelength'"
        )
    if (ignored := entries.get("data ignore value")) is not None:
        table[table == _float(ignored, "data ignore value", header)] = np.nan
    if "bbl" in entries:
        good = _floats(entries, "bbl", header)
        if len(good) == table.shape[1]:
            table[:, good == 0] = np.nan
    return spectra_of(
        Readings(
            file=str(data),
            format="ENVI spectral library",
            names=_names(entries, len(table), data),
            wavelengths=wavelengths,
            values=table,
            wavelength_unit=entries.get("wavelength units", ""),
            scale=_scale(entries, header),
            overlapping=True,
        )
    )


def _begins_as_header(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"ENVI"
    except OSError:
        return False


def _entries(text: str) -> dict[str, str]:
    return {key.strip().lower(): value.strip() for key, value in _ENTRY.findall(text)}


def _announced(data: Path) -> int | None:
    """Bytes that the header beside a file announces; None if it does not say."""
    header = header_file(data)
    if header is None:
        return None
    entries = _entries(decoded(open_source(header).raw()))
    try:
        count = np.prod([int(entries[key]) for key in ("samples", "lines", "bands")])
        kind = np.dtype(_TYPES[int(entries["data type"])])
        return int(count) * kind.itemsize + int(entries.get("header offset", "0"))
    except (KeyError, ValueError):
        return None


def _numbers(entries: dict[str, str], header: Path, data: Path) -> NDArray[np.float64]:
    """``(spectrum, channel)``."""
    samples, lines, bands, code = (
        _whole(entries, key, header) for key in ("samples", "lines", "bands", "data type")
    )
    if code not in _TYPES:
        raise PointsError(
            f"ENVI header '{header}' states data type {code}, real numbers "
            f"({', '.join(map(str, _TYPES))}) are needed: save the library as floating point"
        )
    offset = _whole(entries, "header offset", header, default="0")
    order = ">" if entries.get("byte order", "0").strip() == "1" else "<"
    kind = np.dtype(order + _TYPES[code])
    count, size = samples * lines * bands, data.stat().st_size
    if size != offset + count * kind.itemsize:
        raise PointsError(
            f"'{data}' has {size} bytes and its header announces {offset + count * kind.itemsize} "
            f"({samples} x {lines} x {bands}): copy both files again"
        )
    flat = np.fromfile(data, kind, count, offset=offset).astype("f8")
    if "library" in entries.get("file type", "").lower() or bands == 1:
        return flat.reshape(lines * bands, samples)
    if min(samples, lines) > 1:
        raise PointsError(
            f"'{data}' is an image of {samples} x {lines} pixels, a spectral library is needed: "
            "save the pixels that are wanted as a library"
        )
    return _of_strip(flat, samples, lines, bands, entries.get("interleave", "bsq").lower())


def _of_strip(
    flat: NDArray[np.float64], samples: int, lines: int, bands: int, interleave: str
) -> NDArray[np.float64]:
    """Spectra of an image of one pixel's width, as libraries are stored too."""
    if interleave == "bip":
        return flat.reshape(lines * samples, bands)
    if interleave == "bil":
        return flat.reshape(lines, bands, samples).transpose(0, 2, 1).reshape(-1, bands)
    return np.ascontiguousarray(flat.reshape(bands, lines * samples).T)


def _names(entries: dict[str, str], count: int, data: Path) -> list[str]:
    names = [" ".join(part.split()) for part in _listed(entries.get("spectra names", ""))]
    stem = data.stem
    if len(names) != count:
        return [f"{stem} {at}" for at in range(1, count + 1)] if count > 1 else [stem]
    return [name or f"{stem} {at}" for at, name in enumerate(names, 1)]


def _scale(entries: dict[str, str], header: Path) -> float:
    text = entries.get("reflectance scale factor", "").strip()
    if not text:
        return float("nan")
    factor = _float(text, "reflectance scale factor", header)
    # A factor of one is written by default, also for percent; nothing is said by it.
    return factor if factor > 1 else float("nan")


def _listed(text: str) -> list[str]:
    inner = text.strip().removeprefix("{").removesuffix("}").strip()
    return [part.strip() for part in inner.split(",")] if inner else []


def _floats(entries: dict[str, str], key: str, header: Path) -> NDArray[np.float64]:
    parts = [part for part in _listed(entries.get(key, "")) if part]
    return np.array([_float(part, key, header) for part in parts], "f8")


def _float(text: str, key: str, header: Path) -> float:
    try:
        return float(text)
    except ValueError:
        raise PointsError(
            f"ENVI header '{header}' has the text {shortened(text)!r} in '{key}', a number is "
            "needed: correct it"
        ) from None


def _whole(entries: dict[str, str], key: str, header: Path, default: str = "") -> int:
    text = entries.get(key, default).strip()
    if not text.isdigit():
        raise PointsError(
            f"ENVI header '{header}' has {shortened(text)!r} for '{key}', a whole number is "
            "needed: complete it"
        )
    return int(text)
