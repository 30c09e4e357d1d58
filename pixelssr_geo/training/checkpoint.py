"""Weights with their card: safetensors with a JSON description in the file's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from pixelssr_geo.errors import OutputError, WeightsError

if TYPE_CHECKING:
    import torch

KEY = "pixelssr_geo"
"""Metadata entry that holds the description."""


def save_checkpoint(
    path: str | Path, state: dict[str, torch.Tensor], description: dict[str, Any]
) -> None:
    """Write weights and their description to a safetensors file, complete or not at all.

    Parameters
    ----------
    path
        The file, by custom ``*.safetensors``.
    state
        Named tensors, as from ``state_dict()``.
    description
        What is needed to use the weights; JSON types only.

    Raises
    ------
    OutputError
        If the folder is missing or cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"folder '{path.parent}' does not exist: create it first")
    temporary = path.with_name(f".{path.name}.part")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        # The library's file is for its owner's eyes alone; weights are as open as any new file.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, metadata={KEY: json.dumps(description, sort_keys=True)})
        temporary.chmod(mode)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"'{path}' cannot be written ({error}): check rights and space"
        ) from error


def load_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the description of a weights file.

    Raises
    ------
    WeightsError
        If the file is missing, a pickle, truncated, or was not written by this package.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"'{path}' does not exist, a weights file is needed, or the name 'builtin': check the path"
        )
    if _is_pickle(path):
        raise WeightsError(
            f"'{path}' is a pickle, which can run code when opened and is never read: weights are "
            "safetensors files, made by `pixelssr-geo train`"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"'{path}' is no complete safetensors file ({error}): copy it again"
        ) from error
    description = _description(metadata.get(KEY, ""))
    if description is None:
        raise WeightsError(
            f"'{path}' has no description of its network: use weights made by `pixelssr-geo train`"
        )
    return state, description


def _description(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_pickle(path: Path) -> bool:
    # A bare pickle starts with its protocol mark, a torch file is a zip archive or starts so too. A
    # safetensors file starts with the length of its JSON header, which may look like the mark.
    with path.open("rb") as file:
        start = file.read(9)
    return (start[:1] == b"\x80" or start[:4] == b"PK\x03\x04") and start[8:] != b"{"
