"""Where a scene or a result is: a path, or a URL of an object store, which stays text.

A path would take one of the two slashes of ``s3://`` away. URLs are opened by fsspec, which needs a
package for most protocols and finds credentials and endpoints as that package does.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pixelssr_geo.errors import MissingDependencyError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_LOCAL = ("file", "local")
# Before the @ of a web address may also stand a token alone; elsewhere it is a name, as abfs has it.
_PASSWORD = re.compile(
    r"(?P<user>:/{1,2}[^/\s:@'\"]*:|https?:/{1,2}(?=[^/\s:@]*@))(?P<password>[^/\s]*)@"
)
_QUERY = re.compile(r"(?P<url>(?::/|/vsi)[^\s?'\"]*)\?(?P<query>[^\s'\"]+)")
_EXTRAS = {"s3fs": "s3"}


def place(where: str | Path) -> Path | str:
    """Return the URL of an object store as text, without a slash at its end, all else as a path.

    Examples
    --------
    >>> place("s3://bucket/cube.zarr/")
    's3://bucket/cube.zarr'
    >>> place("file:///data/cube.zarr").name
    'cube.zarr'
    """
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    protocol, rest = where.split("://", 1)
    if protocol in _LOCAL:
        return Path(rest)
    return f"{protocol}://{rest.rstrip('/')}"


def place_name(where: str | Path) -> str:
    """Return the last part of a path or URL, without a query.

    Examples
    --------
    >>> place_name("s3://bucket/2024/cube.zarr")
    'cube.zarr'
    """
    found = place(where)
    if isinstance(found, Path):
        return found.name
    return found.split("://", 1)[1].split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]


def place_suffix(where: str | Path) -> str:
    """Return the ending of the name in lower case, with its dot, or nothing.

    Examples
    --------
    >>> place_suffix("s3://bucket/2024/cube.zarr")
    '.zarr'
    """
    return PurePosixPath(place_name(where)).suffix.lower()


def shown(text: object, url: object = "") -> str:
    """Return a place or message with the passwords and queries of URLs in it blanked out.

    For whatever is told, kept or written: a query may be a signature that opens the object.

    Parameters
    ----------
    text
        What would be told.
    url
        What it is about: its secrets are found in parts of it too.

    Examples
    --------
    >>> shown("cannot reach 'ftp://me:secret@host/cube.zarr'")
    "cannot reach 'ftp://me:***@host/cube.zarr'"
    >>> shown("https://host/cube.zarr?sig=secret")
    'https://host/cube.zarr?***'
    >>> shown("me:secret@host/cube.zarr is not there", "ftp://me:secret@host/cube.zarr")
    'me:***@host/cube.zarr is not there'
    """
    told = str(text)
    for secret in _PASSWORD.finditer(str(url)):
        told = told.replace(f"{secret['password']}@", "***@")
    for secret in _QUERY.finditer(str(url)):
        told = told.replace(f"?{secret['query']}", "?***")
    return _QUERY.sub(r"\g<url>?***", _PASSWORD.sub(r"\g<user>***@", told))


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL, without remembered listings, and the place in it.

    Raises
    ------
    MissingDependencyError
        If the protocol's package is not installed.
    ValueError
        If the protocol is not known.
    """
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        protocol = url.split("://", 1)[0]
        raise MissingDependencyError(
            f"{protocol}:// needs a package that is not installed ({shown(error, url)}): "
            f"{_installation(protocol)}"
        ) from error
    # Other processes write too.
    system.invalidate_cache()
    return system, str(path)


def _installation(protocol: str) -> str:
    from fsspec.registry import known_implementations

    package = known_implementations.get(protocol, {}).get("class", "").split(".")[0]
    if package in _EXTRAS:
        return f'pip install "pixelssr-geo[{_EXTRAS[package]}]"'
    if package in ("", "fsspec"):  # the protocol is fsspec's, what it builds on is not
        return "install what it names"
    return f"pip install {package}"
