"""A table of finished cells in a CSV file, and the runs that fill it.

A cell is a frozen dataclass of plain values that says what is run; its result is another. One line
of the file holds both, under the names of their fields, and is on disk before the next cell is
begun: what is in the table is not run again, and a line that a crash cut off is.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import pickle
import signal
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import astuple, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_type_hints

from pixelssr_geo.errors import OutputError, ResumeError, SettingsError
from pixelssr_geo.process import prepare_process
from pixelssr_geo.writers.output import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from _typeshed import DataclassInstance

    from pixelssr_geo.fitting import Progress

    Cell = TypeVar("Cell", bound=DataclassInstance)
    Result = TypeVar("Result", bound=DataclassInstance)
else:
    Cell, Result = TypeVar("Cell"), TypeVar("Result")

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment in which a process keeps to one thread; read when the libraries are loaded."""


class CellTable(Generic[Cell, Result]):
    """Finished cells in a CSV file.

    Parameters
    ----------
    path
        The file; it need not be there.
    cell, result
        Frozen dataclasses whose fields are ``str``, ``int``, ``float``, or one of these or None,
        which is an empty field. No two fields of the two have one name.

    Raises
    ------
    ValueError
        If two columns would have one name: most readers of CSV files would lose the first.
    """

    def __init__(self, path: Path, cell: type[Cell], result: type[Result]) -> None:
        self.path = path
        self._kinds = cell, result
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"two columns of one name among {', '.join(self.columns)}")

    @property
    def columns(self) -> list[str]:
        """Names of the columns: the fields of a cell, then those of a result."""
        return [field.name for kind in self._kinds for field in fields(kind)]

    def read(self) -> dict[Cell, Result]:
        """The finished cells in the order of the file; none if there is no file.

        Of two lines for one cell the later counts, and a last line without its end is left out.

        Raises
        ------
        ResumeError
            If the file cannot be read, has other columns, or holds something that is no value of
            its column.
        """
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise ResumeError(
                f"'{self.path}' cannot be read ({error.strerror}), a table of finished cells was "
                "expected: choose another file"
            ) from error
        return self._parsed(content)

    def finished(self) -> dict[Cell, Result]:
        """The finished cells of a file that has to be there.

        Raises
        ------
        SettingsError
            If there is no such file.
        ResumeError
            As for :meth:`read`.
        """
        if not self.path.exists():
            raise SettingsError(
                f"there is no file '{self.path}', a table of finished cells is needed: run the "
                "experiment first, or give its --out"
            )
        return self.read()

    @contextmanager
    def appending(self) -> Iterator[Callable[[Cell, Result], None]]:
        """Give a function that adds a finished cell, for the time of a ``with`` block.

        Raises
        ------
        OutputError
            If the file cannot be written, or another run writes to it.
        ResumeError
            As for :meth:`read`.
        """
        try:
            file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError(
                f"'{self.path}' cannot be written ({error.strerror}), results are kept there: create "
                "its folder or choose another file"
            ) from error
        with file:
            self._lock(file)
            self._mend(file)

            def add(cell: Cell, result: Result) -> None:
                with writing(self.path):
                    _append(file, [*astuple(cell), *astuple(result)])

            yield add

    def _lock(self, file: Any) -> None:
        """Keep other runs out; the system forgets the lock when the process ends."""
        try:
            import fcntl
        except ImportError:  # Windows: two runs on one table are up to the user
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"'{self.path}' is in use by another run, one at a time can add to it: wait for it, "
                "or choose another file"
            ) from error

    def _mend(self, file: Any) -> None:
        """Take away a line that a crash cut off, and write the names of the columns."""
        file.seek(0)
        content = file.read()
        self._parsed(content)  # before anything of a file that is none of ours is changed
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
        if not whole:
            _append(file, self.columns)

    def _parsed(self, content: bytes) -> dict[Cell, Result]:
        whole = content[: content.rfind(b"\n") + 1]
        lines = csv.reader(io.StringIO(whole.decode("utf-8", errors="replace"), newline=""))
        names = next(lines, None)
        if names is not None and names != self.columns:
            raise ResumeError(
                f"'{self.path}' has the columns {', '.join(names)}, expected "
                f"{', '.join(self.columns)}: choose another file, or move this one away"
            )
        return dict(self._row(line, lines.line_num) for line in lines)

    def _row(self, line: list[str], number: int) -> tuple[Cell, Result]:
        cell, result = self._kinds
        count = len(fields(cell))
        try:
            if len(line) != len(self.columns):
                raise ValueError(f"{len(line)} values instead of {len(self.columns)}")
            return cell(*_values(cell, line[:count])), result(*_values(result, line[count:]))
        except ValueError as error:
            raise ResumeError(
                f"line {number} of '{self.path}' is no finished cell ({error}): correct it or take "
                "it out"
            ) from error


def run_cells(
    cells: Sequence[Cell],
    work: Callable[[Cell], Result],
    table: CellTable[Cell, Result],
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[Cell, Result]:
    """Run the cells that a table lacks; the results of all of them, in the order given.

    Parameters
    ----------
    cells
        What to run, in this order.
    work
        Runs one cell. With ``jobs`` it is sent to other processes, so it pickles.
    table
        Gets each result as soon as it is there.
    jobs
        Processes, of one thread each, that run cells beside each other; None runs one cell after
        the other here.
    progress
        Called with stage, done, total.

    Raises
    ------
    Exception
        What ``work`` raises, with a note that names the cell; what is finished is kept.
    """
    with table.appending() as add:
        done = table.read()
        missing = [cell for cell in dict.fromkeys(cells) if cell not in done]
        finished = _here(missing, work) if jobs is None else _beside(missing, work, jobs)
        _tell(progress, 0, len(missing))
        try:
            with closing(finished):
                for number, (cell, result) in enumerate(finished, 1):
                    add(cell, result)
                    done[cell] = result
                    _tell(progress, number, len(missing))
        except KeyboardInterrupt as error:
            error.add_note(f"what is finished is in '{table.path}', the same command goes on")
            raise
    return {cell: done[cell] for cell in cells}


def _here(cells: Sequence[Cell], work: Callable[[Cell], Result]) -> Generator[tuple[Cell, Result]]:
    for cell in cells:
        with _named(cell):
            result = work(cell)
        yield cell, result


def _beside(
    cells: Sequence[Cell], work: Callable[[Cell], Result], jobs: int
) -> Generator[tuple[Cell, Result]]:
    """Results as they come, from processes of their own."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with (
        _environment(ONE_THREAD),
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare_worker) as pool,
    ):
        try:
            running = {pool.submit(travelling, work, cell): cell for cell in cells}
            for future in as_completed(running):
                with _named(running[future]):
                    result = future.result()
                yield running[future], result
        except BaseException:
            # What the others are at would be waited for, and nobody wants it any more.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise


def travelling(work: Callable[[Cell], Result], cell: Cell) -> Result:
    """The result of a cell; what is raised can go to another process.

    Raises
    ------
    Exception
        What ``work`` raises, without what caused it; as text in a RuntimeError where it does not
        survive pickling.
    """
    try:
        return work(cell)
    except Exception as error:
        told = "".join(traceback.format_exception(error))
        # Those of GDAL, which many of ours come from, do not survive the way.
        error.__cause__ = error.__context__ = None
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001  (each kind fails in its own way)
            raise RuntimeError(told) from None
        raise


def _prepare_worker() -> None:
    # An interrupt at the terminal reaches every process; the one that was started tells of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    prepare_process()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _named(cell: DataclassInstance) -> Iterator[None]:
    """Say of an exception which cell it comes from."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the cell {', '.join(map(str, astuple(cell)))}")
        raise


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None and total:
        progress("cells", done, total)


def _append(file: Any, values: Sequence[object]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)  # None is an empty field
    file.write(text.getvalue().encode())
    os.fsync(file.fileno())


def _values(kind: type[DataclassInstance], texts: Sequence[str]) -> list[Any]:
    return [parse(text) for parse, text in zip(_parsers(kind), texts, strict=True)]


@cache
def _parsers(kind: type[DataclassInstance]) -> tuple[Callable[[str], Any], ...]:
    """Functions from text to value, one for each field."""
    hints = get_type_hints(kind)
    return tuple(_parser(hints[field.name]) for field in fields(kind))


def _parser(hint: Any) -> Callable[[str], Any]:
    options = get_args(hint)
    if type(None) not in options:
        return hint  # type: ignore[no-any-return]
    (some,) = (option for option in options if option is not type(None))
    return lambda text: some(text) if text else None
