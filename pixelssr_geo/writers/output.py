"""Results that appear under their name only when complete: files, folders and stores at URLs."""

import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from pixelssr_geo.errors import (
    ClusterError,
    DeviceError,
    OutputError,
    OutputExistsError,
    PixelSSRError,
    ResumeError,
)
from pixelssr_geo.place import place, place_name, shown
from pixelssr_geo.writers import object_store
from pixelssr_geo.writers.encoding import CubeDtype
from pixelssr_geo.writers.template import CubeTemplate

_LOCK = "lock"
_RUN = "run"

_CURES = {
    errno.ENOSPC: "free space or choose another folder",
    errno.EDQUOT: "free space or choose another folder",
    errno.EFBIG: "raise the limit on file sizes or choose another folder",
}


ENVI_SUFFIXES = (".bsq", ".img")
"""Of files that are read with a header beside them."""
# Further names by which files share a header.
_RAW_SUFFIXES = (*ENVI_SUFFIXES, ".bil", ".bip", ".dat", ".raw", "")


def header_path(path: Path) -> Path | None:
    """Return the header of an ENVI file, ``*.hdr``; None for a name that is no ENVI file's."""
    return path.with_suffix(".hdr") if path.suffix.lower() in ENVI_SUFFIXES else None


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a place where no result can be written.

    An ENVI file's header and GDAL's notes on it (``.aux.xml``) must not exist either. At a URL only
    a Zarr store can be written, and whether that is permitted is known once it is tried.

    Raises
    ------
    OutputError
        If the folder is missing or read-only, the URL's protocol not known or not installed, or its
        bucket missing or out of reach. If the name is taken: without ``overwrite`` by anything,
        with it by a folder or objects that are no Zarr store, or by a header that another file
        needs.
    """
    path = place(path)
    if isinstance(path, str):
        object_store.check_url(path, overwrite=overwrite)
    else:
        _check_path(path, overwrite=overwrite)


def _check_path(path: Path, *, overwrite: bool) -> None:
    folder = path.parent
    if not folder.is_dir() and re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise OutputError(
            f"cannot write '{shown(path)}': that looks like a URL made into a path, expected a URL"
            " as text, and a Zarr store (*.zarr) there: write other files locally and copy them"
        )
    if not folder.is_dir():
        raise OutputError(
            f"cannot write '{path}': there is no folder '{folder}', expected one that exists:"
            " create it or choose another"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write '{path}': folder '{folder}' is read-only, expected one that can be"
            " written to: choose another"
        )
    for part in _parts(path):
        if part.is_dir() and not _is_store(part):
            raise OutputError(
                f"cannot write '{part}': it is a folder and not a Zarr store, expected a free name:"
                " choose another name"
            )
        if os.path.lexists(part) and not overwrite:
            raise OutputExistsError(
                f"'{part}' exists, expected a free name: pass --overwrite (overwrite=True) or"
                " choose another name"
            )
    header = header_path(path)
    if header is not None and header.exists():
        _check_header_free(header, path)


def _check_header_free(header: Path, path: Path) -> None:
    for suffix in _RAW_SUFFIXES:
        other = header.with_suffix(suffix)
        if other.is_file() and not (path.exists() and other.samefile(path)):
            raise OutputError(
                f"cannot write '{path}': its header '{header}' is needed by '{other}', expected one"
                " file per header: choose another name"
            )


def _parts(path: Path) -> tuple[Path, ...]:
    """Return the files of an output, in the order in which they are put in place."""
    header = header_path(path)
    # What GDAL has noted down beside an older file would be taken to be about the new one.
    return (path,) if header is None else (path, path.with_name(f"{path.name}.aux.xml"), header)


@overload
def new_output(path: Path, *, overwrite: bool) -> AbstractContextManager[Path]: ...
@overload
def new_output(path: Path | str, *, overwrite: bool) -> AbstractContextManager[Path | str]: ...
def new_output(path: Path | str, *, overwrite: bool) -> AbstractContextManager[Path | str]:
    """Give a place to write to, whose content appears as ``path`` when the body has succeeded.

    Of a path it is a temporary path, renamed in the end. It lies in a hidden folder of its own,
    which is removed whatever happens and may hold other temporary files. Of a URL it is the URL
    itself, where a store is to be created: it is published in the end, and removed on failure. What
    was there before goes when the store is created.

    Parameters
    ----------
    path
        As :func:`~pixelssr_geo.place.place` gives it.
    overwrite
        Replace what is there.

    Raises
    ------
    OutputError
        As :func:`check_output`, or if the system refuses the folder, the renaming or the URL.
    """
    return _new_file(path, overwrite) if isinstance(path, Path) else _new_store(path, overwrite)


@contextmanager
def _new_file(path: Path, overwrite: bool) -> Iterator[Path]:
    check_output(path, overwrite=overwrite)
    with writing(path):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield folder / path.name
        with writing(path):
            _put_in_place(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _new_store(url: str, overwrite: bool) -> Iterator[str]:
    check_output(url, overwrite=overwrite)
    if not overwrite and object_store.state(url) == "unfinished":
        raise _unfinished(url, "of another run")
    run = uuid.uuid4().hex
    object_store.claim(url, run, anew=True)
    try:
        yield url
        object_store.publish(url, run)
    except BaseException as error:
        object_store.discard(url, error, run)
        raise


def staging_folder(path: Path | str) -> Path:
    """Return where an unfinished ``path`` is kept: ``.<name>.part`` beside it.

    Of a URL it is in the working directory, and carries a hash of the URL in its name.
    """
    if isinstance(path, Path):
        return path.with_name(f".{path.name}.part")
    told = hashlib.sha256(shown(path).encode()).hexdigest()[:8]
    return Path.cwd() / f".{place_name(path)}-{told}.part"


@dataclass(slots=True)
class Staging:
    """Where an unfinished result is kept."""

    folder: Path
    """The folder, on disk."""
    result: Path | str
    """Where the result is to be left: a path in the folder, or the URL itself."""
    run: str
    """Name of the run, kept with the folder: another one that begins anew has another."""
    resumed: bool = False
    """Whether what an earlier run has left is there."""
    keep: bool = False
    """Whether there is something that is worth going on from."""

    def restart(self, run: str | None = None) -> None:
        """Forget what an earlier run has left.

        Parameters
        ----------
        run
            Name of the new run, by default one of its own.

        Raises
        ------
        OutputError
            If it cannot be removed.
        """
        at_url = isinstance(self.result, str)
        with writing(self.folder if at_url else self.result):
            _empty(self.folder)
            self.run = run or uuid.uuid4().hex
            self.resumed = False
            (self.folder / _RUN).write_text(self.run)
        if isinstance(self.result, str):
            object_store.claim(self.result, self.run, anew=True)


@contextmanager
def staged_output(path: Path | str, *, overwrite: bool, resume: bool) -> Iterator[Staging]:
    """Give the staging folder of ``path``, and put the result in place when the body has succeeded.

    The body leaves the result at :attr:`Staging.result`. The folder goes away with success and with
    failure, and so do, with failure, the objects written under a URL. They stay for a run with
    ``resume`` if the body has set :attr:`Staging.keep` and it ends by an interrupt, by
    :class:`~concurrent.futures.CancelledError`, or by a failure of something that may be well again
    the next time: a cluster, a device, an object store. Whatever ends the process leaves them in any
    case, and so does a :class:`ResumeError`.

    A path is replaced in the end; an older store at a URL goes when the new one is created.

    Raises
    ------
    OutputError
        As :func:`check_output`; if there is an unfinished run and neither flag is set, or ``resume``
        and the run was begun in another working directory; if another process uses the folder; or
        if the system refuses the folder, the renaming or the URL.
    """
    with staged_outputs([path], overwrite=overwrite, resume=resume) as (staging,):
        yield staging


@contextmanager
def staged_outputs(
    paths: Sequence[Path | str], *, overwrite: bool, resume: bool
) -> Iterator[tuple[Staging, ...]]:
    """Give the staging folders of several results of one run; see :func:`staged_output`.

    The first is the main one: what it holds is gone on from, the others follow. Those of which
    nothing is left then (:attr:`Staging.resumed`) have begun anew under its run's name. All are put
    in place once each is complete and its name still free, the main one last: where it is there, so
    are the others. :attr:`Staging.keep` of the main one holds for all.

    Raises
    ------
    OutputError
        As :func:`staged_output` for any of them; or if, without ``overwrite``, there is an
        unfinished run of another main result for one.
    """
    placed = [place(path) for path in paths]
    folders = [staging_folder(path) for path in placed]
    for path, folder in zip(placed, folders, strict=True):
        check_output(path, overwrite=overwrite)
        _check_unfinished(path, folder, overwrite=overwrite, resume=resume)
    with ExitStack() as stack:
        new = _entered(stack, placed, folders)
        try:
            stagings = _stagings(placed, folders, overwrite=overwrite, resume=resume)
        except BaseException:
            _remove(new)
            raise
        try:
            _begin(stagings)
            yield stagings
            for path in placed:
                if isinstance(path, Path):
                    _check_path(path, overwrite=overwrite)  # once more: hours may have passed
            for staging, path in reversed(list(zip(stagings, placed, strict=True))):
                _finish(staging, path)
        except ResumeError as error:
            _clear([staging for staging in stagings[1:] if not staging.resumed], error)
            raise
        except BaseException as error:
            if stagings[0].keep and any(_may_be_well_again(error, path) for path in placed):
                error.add_note(_kept(stagings[0]))
            else:
                _clear(stagings, error)
            raise
        _remove(folders)


def _entered(stack: ExitStack, placed: Sequence[Path | str], folders: Sequence[Path]) -> list[Path]:
    """Make and lock the folders; return those that were not there."""
    new: list[Path] = []
    try:
        for path, folder in zip(placed, folders, strict=True):
            there = folder.exists()
            with writing(path if isinstance(path, Path) else folder):
                folder.mkdir(exist_ok=True)
            stack.enter_context(_locked(folder))
            if not there:
                new.append(folder)
    except BaseException:
        _remove(new)
        raise
    return new


def _stagings(
    placed: Sequence[Path | str], folders: Sequence[Path], *, overwrite: bool, resume: bool
) -> tuple[Staging, ...]:
    """What is gone on from: nothing unless the main result's run is there."""
    runs = [
        _known_run(path, folder) if resume else ""
        for path, folder in zip(placed, folders, strict=True)
    ]
    for path, folder, run in zip(placed[1:], folders[1:], runs[1:], strict=True):
        if run and run != runs[0] and not overwrite:
            raise ResumeError(
                f"'{folder}' holds an unfinished run for '{shown(path)}' beside another cube than"
                f" '{shown(placed[0])}': go on with that one, or pass --overwrite to start anew"
            )
    return tuple(
        Staging(
            folder,
            folder / path.name if isinstance(path, Path) else path,
            runs[0],
            resumed=bool(run) and run == runs[0],
        )
        for path, folder, run in zip(placed, folders, runs, strict=True)
    )


def _known_run(path: Path | str, folder: Path) -> str:
    """Return the name of the run that a folder holds, empty if there is none to go on with."""
    known = folder / _RUN
    if not known.exists() or (isinstance(path, str) and not object_store.is_claimed(path)):
        return ""
    return known.read_text()


def _begin(stagings: Sequence[Staging]) -> None:
    main = stagings[0]
    for staging in stagings:
        if not staging.resumed:
            staging.restart(main.run or None)
        elif isinstance(staging.result, str):
            object_store.check_run(staging.result, staging.run)


def _clear(stagings: Sequence[Staging], error: BaseException) -> None:
    """Remove what a run has begun, because of an error."""
    for staging in stagings:
        if isinstance(staging.result, str):
            object_store.discard(staging.result, error, staging.run)
        _remove([staging.folder])


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _may_be_well_again(error: BaseException, path: Path | str) -> bool:
    passing = (KeyboardInterrupt, CancelledError, ClusterError, DeviceError, OutputExistsError)
    return isinstance(error, passing) or (isinstance(path, str) and isinstance(error, OutputError))


def _check_unfinished(path: Path | str, folder: Path, *, overwrite: bool, resume: bool) -> None:
    if overwrite:
        return
    if folder.exists():
        if not resume:
            raise OutputError(
                f"'{folder}' holds an unfinished run for '{shown(path)}': pass --resume to go on"
                " with it, or --overwrite to start anew"
            )
    elif isinstance(path, str) and object_store.state(path) == "unfinished":
        raise _unfinished(path, "begun in another folder, where its list of blocks is")


def _unfinished(url: str, which: str) -> OutputError:
    return OutputError(
        f"'{shown(url)}' holds an unfinished store {which}: go on with it there, or pass"
        " --overwrite (overwrite=True) to start anew"
    )


def _finish(staging: Staging, path: Path | str) -> None:
    if isinstance(path, str):
        object_store.publish(path, staging.run)
        return
    with writing(path):
        _put_in_place(staging.folder / path.name, path)


def _kept(staging: Staging) -> str:
    if isinstance(staging.result, str):
        return (
            f"what is done is kept under '{shown(staging.result)}' and noted in"
            f" '{staging.folder}', --resume goes on with it from this folder"
        )
    return f"what is done is kept in '{staging.folder}', --resume goes on with it"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; the system forgets the lock when the process ends."""
    lock = folder / _LOCK
    with lock.open("ab") as file:
        try:
            import fcntl
        except ImportError:  # Windows: two runs on one output are up to the user
            yield
            return
        in_use = OutputError(
            f"'{folder}' is in use by another run, one at a time can write a result: wait for"
            " it, or choose another output"
        )
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise in_use from error
        # The run that had it may have ended, and removed its folder, since the file was opened.
        if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
            raise in_use
        yield


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn what system, GDAL or object store say about a failure to an :class:`OutputError`."""
    if isinstance(path, str):
        with object_store.reaching(path):
            yield
        return
    try:
        yield
    except PixelSSRError:
        raise
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "check the folder and its permissions")
        raise OutputError(
            f"cannot write '{path}': {error.strerror or error}, expected room and permission to"
            f" write: {cure}"
        ) from error
    except (RasterioError, CPLE_BaseError) as error:
        # GDAL does not tell why a write failed; a full disk is by far the usual reason.
        raise OutputError(
            f"cannot write '{path}': {_one_line(error)}, expected room for the file and its"
            f" temporary copy ({_free(path)} free): free space or choose another folder"
        ) from error


def disk_needed(
    template: CubeTemplate, dtype: CubeDtype, format: Literal["cog", "zarr", "envi"]
) -> int:
    """Return the bytes that a run may occupy at its peak, from above.

    Compression is not counted on. A Zarr store is written in place; a COG needs the staging store,
    a temporary copy and the final file, both with overviews; ENVI the staging store and the file,
    all in the data type of the result. For a store at a URL nothing is needed on disk.

    Parameters
    ----------
    template
        Size of the cube.
    dtype
        As which it is stored.
    format
        Of the final output.

    Examples
    --------
    >>> disk_needed(CubeTemplate((100, 100), (500.0,), (10.0,), None, (1, 0, 0, 0, -1, 0)),
    ...             "float32", "zarr")
    1088976
    >>> disk_needed(CubeTemplate((100, 100), (500.0,), (10.0,), None, (1, 0, 0, 0, -1, 0)),
    ...             "uint16", "envi")
    1088976
    """
    sample = template.images * (4 if dtype == "float32" else 2)
    rows, cols = template.shape
    plain = sample * rows * cols
    pyramid = sample * _pyramid_pixels(rows, cols)
    total = {"zarr": plain, "cog": plain + 2 * pyramid, "envi": 2 * plain}[format]
    # Incompressible data grow a little in every chunk, and there are headers.
    return total + total // 100 + 2**20


def _pyramid_pixels(rows: int, cols: int) -> int:
    """Return the pixels of a raster and all its overviews."""
    pixels = rows * cols
    while max(rows, cols) > 1:
        rows, cols = (rows + 1) // 2, (cols + 1) // 2
        pixels += rows * cols
    return pixels


def _put_in_place(finished: Path, path: Path) -> None:
    parts = _parts(path)
    if len(parts) == 1 and not path.is_dir() and not finished.is_dir():
        finished.replace(path)
        return
    # Neither a folder nor several files can be replaced in one step, and a file not by a folder. The old ones go first, the
    # header before the data, and the new header comes last: while there is a header, it describes
    # the data beside it. What is old goes away with the temporary folder.
    old = finished.with_name(f"{path.name}.old")
    old.mkdir(exist_ok=True)
    moves = [(part, old / part.name) for part in reversed(parts)]
    moves += [(finished.with_name(part.name), part) for part in parts]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            if os.path.lexists(source):
                source.rename(target)
                done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _is_store(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(path.parent).free / 2**30:.1f} GiB"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())
