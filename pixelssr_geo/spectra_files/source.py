"""A file that may hold spectra: its first bytes, and its text in whatever encoding."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pixelssr_geo.errors import PointsError

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD = 65_536
_ENDING = re.compile(r"\.(asd|sig|sed|sli)(\.(txt|csv))?$", re.IGNORECASE)

_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICTURE = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
_OWN_FILE = "give the spectrometer's own file or a CSV"
_NEVER = (
    (_PICTURE, "a picture", _OWN_FILE),
    ((b"PK\x03\x04", b"PK\x05\x06"), "a ZIP file, an Excel workbook or NumPy archive", "save CSV"),
    ((b"\xd0\xcf\x11\xe0",), "an old Excel or Office file", "save the sheet as CSV"),
    ((b"\x1f\x8b",), "compressed", "unpack it"),
    ((b"\x89HDF", b"MATLAB 5.0"), "an HDF5 or MATLAB file", "save the spectra as CSV"),
    ((b"%PDF",), "a PDF document", _OWN_FILE),
    ((b"SQLite format 3",), "a GeoPackage or another database", "give it to --points as it is"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be recognised and read."""

    path: Path
    """Where it is."""
    head: bytes
    """Its first 64 KiB."""
    size: int
    """Bytes in all."""

    @property
    def ending(self) -> str:
        """Its last suffix, in lower case with the dot."""
        return self.path.suffix.lower()

    @property
    def is_text(self) -> bool:
        """Whether it can be text: no zero byte, unless it begins with UTF-16's mark."""
        if self.head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return True
        return b"\0" not in self.head

    def raw(self) -> bytes:
        """All bytes."""
        return _reading(self.path)

    def text(self) -> str:
        """All text: UTF-8, UTF-16 with its mark, or else Latin-1; its lines end with a newline."""
        return _with_newlines(decoded(self.raw()))

    def first_text(self) -> str:
        """The text of the first bytes."""
        return _with_newlines(decoded(self.head, cut=self.size > len(self.head)))


def open_source(path: str | Path, needed: str = "a spectrometer file") -> Source:
    """A file's path, first bytes and size.

    Raises
    ------
    PointsError
        If it cannot be read or is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise PointsError(f"'{path}' is a folder, {needed} is needed: name its files")
    head = _reading(path, _HEAD, needed)
    if not head.strip():
        raise PointsError(f"'{path}' is empty, {needed} is needed: copy it again")
    return Source(path, head, path.stat().st_size)


def refuse_other_kinds(source: Source) -> None:
    """Refuse what is known by its first bytes not to be a spectrometer file.

    Raises
    ------
    PointsError
        That names the kind.
    """
    if source.head.startswith(_PICKLE):
        raise PointsError(
            f"'{source.path}' is a Python pickle, which can run code when opened and is never "
            "read, a spectrometer file is needed: save the spectra as CSV"
        )
    for marks, kind, cure in () if source.is_text else _NEVER:
        if source.head.startswith(marks):
            raise PointsError(f"'{source.path}' is {kind}, a spectrometer file is needed: {cure}")


def decoded(raw: bytes, *, cut: bool = False) -> str:
    r"""Text of bytes: UTF-8 or UTF-16 by its mark, UTF-8 if valid, else Latin-1.

    Parameters
    ----------
    raw
        The bytes.
    cut
        Whether they are the beginning of more, so that a last character may be cut in two.

    Examples
    --------
    >>> decoded("µm".encode("utf-8-sig")), decoded("µm".encode("utf-16")), decoded(b"\xb5m")
    ('µm', 'µm', 'µm')
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if cut and error.start >= len(raw) - 3:
            return raw[: error.start].decode("utf-8-sig")
        return raw.decode("latin-1")


def plain_stem(path: Path, endings: Iterable[str] = (".asd", ".sig", ".sed", ".sli")) -> str:
    """The file's name without its ending, and without an instrument's ending before that.

    Examples
    --------
    >>> plain_stem(Path("field/oak_01.asd.txt")), plain_stem(Path("plot.3.csv"))
    ('oak_01', 'plot.3')
    """
    stem = path.stem
    inner, ending = os.path.splitext(stem)  # noqa: PTH122 - a name, not a path
    return inner if ending.lower() in endings else stem


def plain_name(text: str) -> str:
    """A spectrum's name without the ending of the file that it came from.

    Examples
    --------
    >>> plain_name("oak_01.asd"), plain_name("soil 1/2")
    ('oak_01', 'soil 1/2')
    """
    return _ENDING.sub("", " ".join(text.split()))


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _reading(path: Path, limit: int = -1, needed: str = "a spectrometer file") -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise PointsError(
            f"'{path}' cannot be read ({error.strerror or error}), {needed} is needed: "
            "check the path and its rights"
        ) from error
