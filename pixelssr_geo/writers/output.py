"""Files that appear under their name only when complete."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from pixelssr_geo.errors import OutputError, PixelSSRError
from pixelssr_geo.writers.encoding import CubeDtype
from pixelssr_geo.writers.template import CubeTemplate

_CURES = {
    errno.ENOSPC: "free space or choose another folder",
    errno.EDQUOT: "free space or choose another folder",
    errno.EFBIG: "raise the limit on file sizes or choose another folder",
}


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a place where no result can be written.

    Raises
    ------
    OutputError
        If the folder is missing or read-only, or the name is taken: without ``overwrite`` by
        anything, with it by a folder that is no Zarr store.
    """
    path = Path(path)
    folder = path.parent
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
    if path.is_dir() and not _is_store(path):
        raise OutputError(
            f"cannot write '{path}': it is a folder and not a Zarr store, expected a free name:"
            " choose another name"
        )
    if os.path.lexists(path) and not overwrite:
        raise OutputError(
            f"'{path}' exists, expected a free name: pass --overwrite (overwrite=True) or choose"
            " another name"
        )


@contextmanager
def new_output(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary path beside ``path``, and rename it when the body has succeeded.

    The temporary path lies in a hidden folder of its own, which is removed whatever happens and
    may hold other temporary files.

    Raises
    ------
    OutputError
        As :func:`check_output`, or if the system refuses the folder or the renaming.
    """
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
def writing(path: Path) -> Iterator[None]:
    """Turn what the system or GDAL says about a failed write into an :class:`OutputError`."""
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
    a temporary copy and the final file, both with overviews; ENVI the staging store and the file.

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
    """
    sample = template.channels * (4 if dtype == "float32" else 2)
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
    if not path.is_dir():
        finished.replace(path)
        return
    # A folder cannot be replaced in one step; the old one goes away with the temporary folder.
    old = finished.with_name(f"{path.name}.old")
    path.rename(old)
    try:
        finished.rename(path)
    except OSError:
        old.rename(path)
        raise


def _is_store(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(path.parent).free / 2**30:.1f} GiB"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())
