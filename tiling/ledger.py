"""Which blocks of a run are done: an append-only file of JSON lines beside the blocks themselves.

The first line says which run it is; each further line names a block that is completely written. A
line is on disk before the next block is taken from the list, so that after a crash nothing that is
listed is missing; what is missing from the list is done again.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pixelssr_geo.errors import ResumeError
from pixelssr_geo.tiling.plan import Window

Identity = Mapping[str, str]
"""What decides the bytes of a result, by name: settings, inputs, versions."""


class Ledger:
    """The finished blocks of one run; whoever writes to it must be the only one.

    Parameters
    ----------
    path
        The file; made if it is not there.
    identity
        Of this run. A file of another run is refused.

    Raises
    ------
    ResumeError
        If the file is of another run or is no ledger.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.done: dict[Window, dict[str, Any]] = {}
        """What was said of each finished block."""
        self._file = path.open("a+b")
        try:
            self._read(identity)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, block: Window, **facts: Any) -> None:
        """Note that a block is completely written, with facts about it (JSON types)."""
        place = [block.row, block.col, block.height, block.width]
        self._append({"block": place, **facts})
        self.done[block] = facts

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, identity: Identity) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # the line that a crash cut off
            self._file.truncate(whole)
        lines = content[:whole].splitlines()
        if not lines:
            self._append({"run": dict(identity)})
            return
        try:
            head, *entries = [json.loads(line) for line in lines]
            known = head["run"]
            for entry in entries:
                block = Window(*entry.pop("block"))
                self.done[block] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(
                f"'{self.path}' is not a list of finished blocks ({error}): pass --overwrite to "
                "start anew"
            ) from error
        _refuse_another(known, identity, self.path)


def _refuse_another(known: Mapping[str, str], identity: Identity, path: Path) -> None:
    """Raise ResumeError unless both are of the same run; say what differs."""
    changed = [
        f"{name} ({known.get(name, 'not there')} before, {identity.get(name, 'not there')} now)"
        for name in dict.fromkeys([*known, *identity])
        if known.get(name) != identity.get(name)
    ]
    if changed:
        raise ResumeError(
            f"the unfinished run in '{path.parent}' is another one: {'; '.join(changed)}; resume "
            "with what it began with, or pass --overwrite to start anew"
        )
