import os
from dataclasses import astuple, dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import OutputError, PixelSSRError, ResumeError
from pixelssr_geo.experiments.cells import CellTable, run_cells


@dataclass(frozen=True, slots=True)
class Cell:
    name: str
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    value: float
    count: int
    maybe: float | None


CELLS = [Cell(name, seed) for name in ("first, second", 'a "quoted" one') for seed in (0, 1)]


def work(cell):
    return Result(len(cell.name) / 7 + cell.seed, cell.seed, None if cell.seed else 1e-12)


def table_at(path):
    return CellTable(path, Cell, Result)


@pytest.fixture
def table(tmp_path):
    return table_at(tmp_path / "cells.csv")


def test_two_columns_of_one_name_are_no_table(tmp_path):
    with pytest.raises(ValueError, match="one name among name, seed, name, seed"):
        CellTable(tmp_path / "cells.csv", Cell, Cell)


text = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")))
number = st.floats(allow_nan=False)


@settings(max_examples=30)
@given(
    rows=st.dictionaries(
        st.builds(Cell, name=text, seed=st.integers()),
        st.builds(Result, value=number, count=st.integers(), maybe=st.none() | number),
    )
)
def test_what_is_added_is_read_again(tmp_path_factory, rows):
    table = table_at(tmp_path_factory.mktemp("cells") / "cells.csv")
    with table.appending() as add:
        for cell, result in rows.items():
            add(cell, result)
    assert table.read() == rows
    assert list(table.read()) == list(rows)


def test_a_table_that_is_not_there_has_no_cells(table):
    assert table.read() == {}
    assert not table.path.exists()


def test_results_come_in_the_order_asked_for_and_what_is_finished_is_not_run_again(table):
    ran = []

    def noted(cell):
        ran.append(cell)
        return work(cell)

    assert run_cells(CELLS[2:], noted, table) == {cell: work(cell) for cell in CELLS[2:]}
    found = run_cells(CELLS, noted, table)
    assert list(found.items()) == [(cell, work(cell)) for cell in CELLS]
    assert ran == CELLS[2:] + CELLS[:2]
    before = table.path.read_bytes()
    run_cells(CELLS, noted, table)
    assert table.path.read_bytes() == before
    assert len(ran) == len(CELLS)


def test_a_row_is_on_disk_before_the_next_cell_begins(table, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(number), real(number)))
    there = []

    def looking(cell):
        there.append((len(synced), list(table.read())))
        return work(cell)

    run_cells(CELLS, looking, table)
    # The names of the columns are the first line.
    assert there == [(1 + n, CELLS[:n]) for n in range(len(CELLS))]


def test_a_file_cut_off_anywhere_is_completed_to_the_same_bytes(table):
    run_cells(CELLS, work, table)
    whole = table.path.read_bytes()
    for length in range(len(whole)):
        table.path.write_bytes(whole[:length])
        finished = table.read()
        assert list(finished) == CELLS[: len(finished)]
        assert run_cells(CELLS, work, table) == {cell: work(cell) for cell in CELLS}
        assert table.path.read_bytes() == whole


def test_the_later_of_two_lines_for_a_cell_counts(table):
    with table.appending() as add:
        add(CELLS[0], work(CELLS[0]))
        add(CELLS[0], Result(5.0, 6, 7.0))
    assert table.read() == {CELLS[0]: Result(5.0, 6, 7.0)}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "name,seed,value\n",
            "has the columns name, seed, value, expected name, seed, value, count",
        ),
        ("name,seed,value,count,maybe\na,1,x,3,\n", "line 2 of .* is no finished cell .*'x'"),
        ("name,seed,value,count,maybe\na,1,2.0,3\n", "line 2 .*4 values instead of 5"),
        ("name,seed,value,count,maybe\na,,2.0,3,\n", "line 2 .*invalid literal"),
    ],
)
def test_another_table_is_refused_in_one_line_and_left_alone(table, content, told):
    table.path.write_text(content)
    for use in (table.read, lambda: run_cells(CELLS, work, table)):
        with pytest.raises(ResumeError, match=told) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert table.path.read_text() == content


def test_two_runs_do_not_add_to_one_table(table):
    pytest.importorskip("fcntl")
    with table.appending(), pytest.raises(OutputError, match="in use by another run"):
        run_cells(CELLS, work, table)
    assert len(run_cells(CELLS, work, table)) == len(CELLS)


def test_a_table_in_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        run_cells(CELLS, work, table_at(tmp_path / "none" / "cells.csv"))


@pytest.mark.parametrize("kind", [PixelSSRError, KeyboardInterrupt])
def test_what_was_finished_before_a_failure_is_kept_and_the_failure_says_where(table, kind):
    def failing(cell):
        if cell == CELLS[2]:
            raise kind("no")
        return work(cell)

    with pytest.raises(kind) as caught:
        run_cells(CELLS, failing, table)
    (note,) = caught.value.__notes__
    if kind is KeyboardInterrupt:
        assert str(table.path) in note
    else:
        assert all(str(value) in note for value in astuple(CELLS[2]))
    assert list(table.read()) == CELLS[:2]


def test_progress_counts_what_is_left(table):
    run_cells(CELLS[:1], work, table)
    told = []
    run_cells(CELLS, work, table, progress=lambda *now: told.append(now))
    assert told == [("cells", done, 3) for done in range(4)]
    run_cells(CELLS, work, table, progress=lambda *now: pytest.fail("nothing is left"))
