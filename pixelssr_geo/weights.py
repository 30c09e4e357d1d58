"""Which file a run takes its trained weights from."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

BUILTIN = "builtin"
"""Name of the weights that ship with the package. A file of that name is ``./builtin``."""


def weights_path(weights: str | Path) -> Path:
    """The file of given weights: :data:`BUILTIN` is the package's own, all else a path.

    Whether it is there and what it holds is seen where it is read.
    """
    if weights == BUILTIN:
        return Path(str(files("pixelssr_geo"))) / "data" / f"{BUILTIN}.safetensors"
    return Path(weights)


def weights_hash(weights: str | Path) -> str:
    """What summaries and cubes tell of the weights that were used: a hash of the file's content."""
    return hashlib.sha256(weights_path(weights).read_bytes()).hexdigest()[:16]
