"""The ledger remembers what is done, survives a crash, and knows its own run."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import ResumeError
from pixelssr_geo.tiling.ledger import Ledger
from pixelssr_geo.tiling.plan import plan_tiles

RUN = {"version": "1", "scene": "a.tif, 3 bytes", "option seed": "0"}
BLOCKS = plan_tiles((100, 70), tile=16, overlap=4, block=32).blocks


def test_blocks_and_what_was_said_of_them_come_back(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.jsonl", RUN) as ledger:
        for number, block in enumerate(BLOCKS[:3]):
            ledger.add(block, squares=number / 3, values=number)
    with Ledger(tmp_path / "l.jsonl", RUN) as again:
        assert list(again.done) == list(BLOCKS[:3])
        assert again.done[BLOCKS[2]] == {"squares": 2 / 3, "values": 2}
        again.add(BLOCKS[3], squares=0.0, values=0)
    with Ledger(tmp_path / "l.jsonl", RUN) as ledger:
        assert list(ledger.done) == list(BLOCKS[:4])


@settings(max_examples=60)
@given(cut=st.integers(0, 400))
def test_a_line_that_a_crash_cut_off_is_as_if_it_had_not_been_written(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    with Ledger(path, RUN) as ledger:
        for block in BLOCKS[:5]:
            ledger.add(block, squares=0.5, values=1)
    content = path.read_bytes()
    cut = min(cut, len(content))
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    with Ledger(path, RUN) as ledger:
        assert list(ledger.done) == list(BLOCKS[: max(0, whole - 1)])
        ledger.add(BLOCKS[7], squares=0.0, values=0)
    with Ledger(path, RUN) as ledger:
        assert BLOCKS[7] in ledger.done


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({**RUN, "option seed": "1"}, r"option seed \(0 before, 1 now\)"),
        ({"version": "1", "scene": "a.tif, 3 bytes"}, r"option seed \(0 before, not there now\)"),
        ({**RUN, "points": "x"}, r"points \(not there before, x now\)"),
    ],
)
def test_another_run_is_refused_with_what_differs(
    now: dict[str, str], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "l.jsonl"
    with Ledger(path, RUN) as ledger:
        ledger.add(BLOCKS[0], values=1)
    content = path.read_bytes()
    with pytest.raises(ResumeError, match=told) as caught:
        Ledger(path, now)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"no json\n", b"[]\n", b'{"run": {}}\n{"block": [1]}\n'])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(content)
    with pytest.raises(ResumeError, match="--overwrite to start anew"):
        Ledger(path, {})
