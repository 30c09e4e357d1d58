"""The ``pixelssr-geo`` command: subcommands imported when called, errors to exit codes."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

import rich_click as click
from click.exceptions import Exit

from pixelssr_geo.errors import PixelSSRError, PixelSSRWarning
from pixelssr_geo.process import prepare_process

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = (
    "reconstruct", "batch", "train", "simulate", "evaluate", "points", "experiment", "nets", "demo",
    "info",
)  # fmt: skip
"""Subcommands in the order of the help, each in the module of its name."""


class LazyGroup(click.RichGroup):
    """A group that imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, its module imported now, or None."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pixelssr_geo.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pixelssr-geo")
def cli() -> None:
    """Hyperspectral cubes from multispectral scenes and a handful of field spectra."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    0 done; 1 bad input, one line; 2 usage; 130 interrupted.
    """
    prepare_process()
    with warnings.catch_warnings(), _ending_is_an_interrupt():
        warnings.filterwarnings("default", category=PixelSSRWarning)
        warnings.showwarning = _show_warning
        sys.exit(_run(arguments))


@contextmanager
def _ending_is_an_interrupt() -> Iterator[None]:
    """Take SIGTERM, with which batch systems end a job, for Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: list[str] | None) -> int:
    try:
        code = cli.main(arguments, standalone_mode=False)
    except PixelSSRError as error:
        _say(f"Error: {'; '.join([str(error), *getattr(error, '__notes__', [])])}")
        return 1
    except MemoryError:
        _say(
            "Error: the machine's memory does not suffice, a block needs several times its size: "
            "give a smaller --block, fewer --workers, or a machine with more"
        )
        return 1
    except Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        interrupt = (
            error.__context__ or error
        )  # click raises its own while it handles the interrupt
        told = getattr(interrupt, "__notes__", None) or ["no unfinished file is left"]
        _say(f"Interrupted: {'; '.join(told)}")
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # Only what the user can change; what libraries tell their developers stays out of the way.
    if issubclass(category, PixelSSRWarning):
        _say(f"Warning: {message}")


def _say(text: str) -> None:
    from pixelssr_geo.place import shown

    print(shown(" ".join(text.split())), file=sys.stderr)
