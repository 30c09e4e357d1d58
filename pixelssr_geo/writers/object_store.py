"""Zarr stores under a URL: written in place, and seen by readers from their last step on.

Nothing can be renamed on an object store. So the root document, by which readers find a store, is
written last, when everything else is there. Until then it waits in a note inside the array's
prefix, where no reader looks; the note also tells objects of an unfinished store, which may be
removed, from those of others, which may not, and names the run that writes there, so that two do
not take each other's objects for their own.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from pixelssr_geo.errors import OutputError, OutputExistsError, PixelSSRError
from pixelssr_geo.place import file_system, place_name, place_suffix, shown
from pixelssr_geo.writers.template import REFLECTANCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fsspec import AbstractFileSystem

State: TypeAlias = Literal["free", "finished", "unfinished", "other"]
"""What is under a URL: nothing, a Zarr store, what a run left, or something else."""

ROOT = "zarr.json"
_ROOTS = (ROOT, ".zgroup", ".zarray")
_NOTE = f"{REFLECTANCE}/unfinished.json"


def check_url(url: str, *, overwrite: bool) -> None:
    """Refuse a URL under which no store can be written; nothing is written to find out.

    Raises
    ------
    OutputError
        If it cannot name a store, cannot be reached, or is taken: without ``overwrite`` by a store,
        with it by objects that are none.
    """
    _check_name(url)
    found = state(url)
    if found == "other":
        raise OutputError(
            f"cannot write '{shown(url)}': there are objects under it that are no Zarr store,"
            " expected a free name: choose another name"
        )
    if found == "finished" and not overwrite:
        raise OutputExistsError(
            f"'{shown(url)}' exists, expected a free name: pass --overwrite (overwrite=True) or"
            " choose another name"
        )


def state(url: str) -> State:
    """Return what is under a URL.

    Raises
    ------
    OutputError
        If it cannot be reached, or may not be listed.
    """
    with reaching(url):
        system, path = file_system(url)
        try:
            entries = system.ls(path, detail=True)
        except FileNotFoundError:
            system.find(path)  # which says so if not even the bucket is there
            return "free"
        # The placeholder of an empty folder, as consoles make them, is nothing.
        names = [e["name"] for e in entries if e["name"].rstrip("/") != path or e.get("size")]
        if any(name == f"{path}/{root}" for name in names for root in _ROOTS):
            return "finished"
        if not names:
            return "free"
        return "unfinished" if system.exists(f"{path}/{_NOTE}") else "other"


def is_claimed(url: str) -> bool:
    """Return whether there is a note of an unfinished store, be it beside an older one.

    Raises
    ------
    OutputError
        If the place cannot be reached.
    """
    with reaching(url):
        system, path = file_system(url)
        return bool(system.exists(f"{path}/{_NOTE}"))


def claim(url: str, run: str, *, anew: bool) -> None:
    """Leave the note under a URL, which shows that one may write there; an older store stays.

    Parameters
    ----------
    url
        Of the store.
    run
        Name of the run that writes there from now on.
    anew
        Replace the note of an unfinished store, too.

    Raises
    ------
    OutputError
        If nothing can be written there.
    """
    with reaching(url):
        system, path = file_system(url)
        if anew or not system.exists(f"{path}/{_NOTE}"):
            _write_note(system, path, run, None)


def create(url: str, documents: Mapping[str, bytes]) -> None:
    """Write what a store consists of before its first chunk, all but the root document.

    An older store there and what an unfinished run has left are removed first.

    Parameters
    ----------
    url
        Of the store.
    documents
        Content by key, the root document among them.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with reaching(url):
        system, path = file_system(url)
        claimed = system.exists(f"{path}/{_NOTE}")
        run = _read_note(system, path)[0] if claimed else ""
        try:
            _write_note(system, path, run, None)
            _remove_all_but_note(system, path)
            rest = {f"{path}/{key}": doc for key, doc in documents.items() if key != ROOT}
            system.pipe(rest)
            _write_note(system, path, run, documents[ROOT])
        except BaseException as error:
            if not claimed:  # otherwise whoever claimed the place clears it up
                discard(url, error)
            raise


def check_run(url: str, run: str) -> None:
    """Refuse to write where another run writes by now.

    Raises
    ------
    OutputError
        If it does, or the place cannot be reached.
    """
    with reaching(url):
        system, path = file_system(url)
        if not system.exists(f"{path}/{_NOTE}") or _read_note(system, path)[0] != run:
            raise _taken(url)


def publish(url: str, run: str | None = None) -> None:
    """Let readers find a store: write the root document.

    Parameters
    ----------
    url
        Of the store.
    run
        Name of the run that has written it; None takes any.

    Raises
    ------
    OutputError
        If it cannot be written, no store was created, or by another run.
    """
    with reaching(url):
        system, path = file_system(url)
        there = system.exists(f"{path}/{_NOTE}")
        writer, root = _read_note(system, path) if there else ("", None)
        if run not in (None, writer):
            raise _taken(url)
        if root is None:
            raise OutputError(
                f"'{shown(url)}' holds no store that could be published, expected one that is"
                " written: was it removed?"
            )
        system.pipe_file(f"{path}/{ROOT}", root)
        with suppress(Exception):  # the store is complete, and the note is seen by nobody
            system.rm_file(f"{path}/{_NOTE}")


def discard(url: str, error: BaseException, run: str | None = None) -> None:
    """Remove an unfinished store because of an error, which notes what cannot be removed.

    A finished store stays, only the note inside goes. One of another run than ``run`` stays too.
    """
    try:
        with reaching(url):
            system, path = file_system(url)
            if not system.exists(f"{path}/{_NOTE}"):
                return
            if run not in (None, _read_note(system, path)[0]):
                return
            if not any(system.exists(f"{path}/{root}") for root in _ROOTS):
                _remove_all_but_note(system, path)
            system.rm_file(f"{path}/{_NOTE}")
    except OutputError as failure:
        error.add_note(f"{failure}; objects that are left there: remove them")


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what a file system says about a failed access into an :class:`OutputError`."""
    try:
        yield
    except PixelSSRError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write '{shown(url)}': {error}") from error
    except Exception as error:  # each protocol's package has exceptions of its own
        raise OutputError(
            f"cannot write '{shown(url)}': {_told(error, url)}, expected a place that can be reached and"
            f" written to: {_cure(error)}"
        ) from error


def _check_name(url: str) -> None:
    if place_suffix(url) != ".zarr":
        raise OutputError(
            f"cannot write '{shown(url)}': only a Zarr store (*.zarr) is written to a URL, a"
            " GeoTIFF or ENVI file is assembled on disk: write it locally and copy it"
        )
    # They stand for several objects where objects are removed; a query starts with one.
    if "::" in url or re.search(r"[*?\[\]]", url):
        raise OutputError(
            f"cannot write '{shown(url)}': the URL has a query, wildcards or several protocols,"
            " expected a plain one, as s3://bucket/folder/cube.zarr: choose another"
        )
    with reaching(url):
        path = file_system(url)[1]
    if "/" not in path:
        raise OutputError(
            f"cannot write '{shown(url)}': '{place_name(url)}' is a whole bucket, expected a place"
            " inside one: add a name to the URL"
        )


def _write_note(system: AbstractFileSystem, path: str, run: str, root: bytes | None) -> None:
    note = {"run": run, "root": None if root is None else root.decode()}
    system.pipe_file(f"{path}/{_NOTE}", json.dumps(note).encode())


def _read_note(system: AbstractFileSystem, path: str) -> tuple[str, bytes | None]:
    """Return the name of the run that writes there, and the root document once there is one."""
    note = json.loads(system.cat_file(f"{path}/{_NOTE}"))
    return str(note["run"]), None if note["root"] is None else note["root"].encode()


def _taken(url: str) -> OutputError:
    return OutputError(
        f"another run writes to '{shown(url)}' by now, expected one at a time: choose another name"
        " for one of them"
    )


def _remove_all_but_note(system: AbstractFileSystem, path: str) -> None:
    system.invalidate_cache()
    found = [name for name in system.find(path) if name != f"{path}/{_NOTE}"]
    roots = [name for name in found if name in {f"{path}/{root}" for root in _ROOTS}]
    for name in roots:  # first, so that nobody finds half a store
        system.rm_file(name)
    if rest := [name for name in found if name not in roots]:
        system.rm(rest)


def _told(error: BaseException, url: str) -> str:
    return shown(" ".join(str(error).split()), url) or type(error).__name__


def _cure(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "check the bucket's name"
    if isinstance(error, PermissionError):
        return "check the credentials and what they permit"
    if isinstance(error, ValueError):
        return "check the URL"
    return "check the URL, the network and the credentials"
