"""Images and MATLAB files, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.errors import SceneError, SceneReadError
from pixelssr_geo.optional import need
from pixelssr_geo.place import shown
from pixelssr_geo.scene import check_response, read_image
from pixelssr_geo.spectra import SpectralResponse

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COLOURS = ("Red", "Green", "Blue")
"""Bands of a colour image, as the known sensor ``RGB`` names them."""

_RGGB = ("R", "G1", "G2", "B")


def read_colours(path: Path) -> NDArray[np.float32]:
    """Red, green and blue of a colour image, 0-1, ``(3, y, x)``.

    Raises
    ------
    SceneReadError
        If it is no readable image.
    SceneError
        If it has not three colours, or they are no integers.
    """
    values = _unit_values(path)
    if len(values) != 3:
        raise SceneError(
            f"image '{shown(path)}' has {len(values)} bands, a colour image has three: check that it "
            "is the scene's RGB image"
        )
    return values


def read_grey(path: Path) -> NDArray[np.float32]:
    """A grey image, 0-1, ``(y, x)``; also one that is stored as three equal colours.

    Raises
    ------
    SceneReadError
        If it is no readable image.
    SceneError
        If it is coloured, or its values are no integers.
    """
    values = _unit_values(path)
    grey: NDArray[np.float32] = values[0]
    if any((colour != grey).any() for colour in values[1:]):
        raise SceneError(
            f"image '{shown(path)}' has {len(values)} different bands, one of a channel is grey: "
            "download it again, or leave the scene out with select"
        )
    return grey


def _unit_values(path: Path) -> NDArray[np.float32]:
    values, dtype = read_image(path)
    if np.dtype(dtype).kind != "u":
        raise SceneError(
            f"image '{shown(path)}' holds {dtype} values, unsigned integers whose largest value is "
            "white were expected: check the file"
        )
    scaled: NDArray[np.float32] = values / np.float32(np.iinfo(dtype).max)
    return scaled


def read_matlab(path: Path, *names: str) -> list[NDArray[np.float64] | NDArray[np.float32]]:
    """Numeric variables of a MATLAB v7.3 file, with the axes that MATLAB shows.

    Raises
    ------
    SceneReadError
        If the file is not there, no v7.3 file, or damaged.
    SceneError
        If a variable is missing or not numeric.
    MissingDependencyError
        If h5py is not installed.
    """
    h5py = need("h5py", extra="datasets")
    _check_matlab(path)
    try:
        with h5py.File(path, "r") as file:
            found = []
            for name in names:
                if not isinstance(stored := file.get(name), h5py.Dataset):
                    listed = ", ".join(key for key in file if not key.startswith("#")) or "none"
                    raise SceneError(
                        f"'{shown(path)}' has the variables {listed}, '{name}' is needed: check that "
                        "the file is a cube of the dataset"
                    )
                if stored.dtype.kind not in "fiu":
                    raise SceneError(
                        f"variable '{name}' of '{shown(path)}' is not numeric, numbers are needed: "
                        "check that the file is a cube of the dataset"
                    )
                # MATLAB stores columns first, HDF5 says rows first.
                found.append(stored[()].T)
    except OSError as error:
        told = " ".join(str(error).split())
        raise SceneReadError(
            f"'{shown(path)}' cannot be read as MATLAB v7.3 ({told}), the file is truncated or "
            "damaged: download it again"
        ) from error
    return found


def _check_matlab(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(520)
    except OSError as error:
        raise SceneReadError(
            f"'{shown(path)}' cannot be opened ({error.strerror}), a MATLAB v7.3 file is needed: "
            "check the folder"
        ) from error
    if start.startswith(b"MATLAB 5.0"):
        raise SceneReadError(
            f"'{shown(path)}' is a MATLAB file older than v7.3, expected HDF5: save it again with "
            "save(..., '-v7.3'), or download the published file"
        )
    signature = b"\x89HDF\r\n\x1a\n"
    if not start.startswith(signature) and start[512:] != signature:
        raise SceneReadError(
            f"'{shown(path)}' begins with {start[:8]!r}, expected a MATLAB v7.3 file (HDF5): "
            "download it again"
        )


def camera_response(response: SpectralResponse | str | Path | None) -> SpectralResponse | None:
    """The response of red, green and blue that is given, or that a file holds.

    Of a table of both greens of a mosaic (R, G1, G2, B) the first is taken, as the makers of NTIRE
    2022 did.

    Raises
    ------
    ResponseError
        If it cannot be read or has not three bands.
    """
    if response is None:
        return None
    if not isinstance(response, SpectralResponse):
        response = SpectralResponse.from_file(response)
    if set(response.names) == set(_RGGB):
        return response.select(("R", "G1", "B"))
    return check_response(response, 3, response.source)
