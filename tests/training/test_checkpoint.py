"""Weights files: what goes in comes out, and nothing else is read."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pixelssr_geo.errors import OutputError, WeightsError
from pixelssr_geo.training.checkpoint import KEY, load_checkpoint, save_checkpoint

STATE = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "turned": torch.arange(12.0).reshape(3, 4).T,  # not contiguous
    "count": torch.tensor(7),
}
ABOUT: dict[str, Any] = {"net": "dypro-mamba", "gain": 2.5, "options": {"width": 8}, "bands": [1.5]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", STATE, ABOUT)
    state, about = load_checkpoint(tmp_path / "a.safetensors")
    assert about == ABOUT
    assert state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


def test_saving_replaces_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, STATE, ABOUT)
    save_checkpoint(path, STATE, {**ABOUT, "gain": 3.0})
    assert load_checkpoint(path)[1]["gain"] == 3.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_weights_are_as_readable_as_any_new_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", STATE, ABOUT)
    (tmp_path / "plain").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("a.safetensors", "plain")]
    assert modes[0] == modes[1]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")


class Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch"])
def test_a_pickle_is_named_as_such_and_not_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save({"x": Trap()}, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(WeightsError, match=r"is a pickle.*never read"):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kept", [0, 4, 20, 200, -1])
def test_a_truncated_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, STATE, ABOUT)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="no complete safetensors file"):
        load_checkpoint(path)


def test_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("these are not weights\n" * 50)
    with pytest.raises(WeightsError, match="no complete safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {KEY: "{broken"}, {KEY: "[1, 2]"}], ids=str
)
def test_tensors_of_someone_else_are_refused(
    metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(WeightsError, match="no description of its network"):
        load_checkpoint(path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="create it first"):
        save_checkpoint(tmp_path / "none" / "w.safetensors", STATE, ABOUT)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    taken = tmp_path / "w.safetensors"
    taken.mkdir()
    (taken / "inside").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_checkpoint(taken, STATE, ABOUT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_failure_of_the_library_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, STATE, ABOUT)

    def half(_: object, file: Path, **__: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pixelssr_geo.training.checkpoint.save_file", half)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(path, STATE, {**ABOUT, "gain": 9.0})
    assert load_checkpoint(path)[1] == ABOUT
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for padding in range(256):  # one of 256 lengths has the pickle's mark as its first byte
        save_checkpoint(path, {"a": torch.zeros(1)}, {"padding": "x" * padding})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert load_checkpoint(path)[1]["padding"] == "x" * padding
