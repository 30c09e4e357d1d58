"""Options that several commands share, and where progress is drawn."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as Bars
    from rich.progress import TaskID

F = TypeVar("F", bound=Callable[..., Any])

Option = Callable[[F], F]

PLAIN_SECONDS = 5.0
"""Seconds between two plain progress lines of one stage."""


def stacked(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """One decorator from several options, shown in the order given."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


scene_options = stacked(
    click.option("--sensor", metavar="NAME", help="Sensor of the scene, such as GF6-PMS."),
    click.option(
        "--response",
        metavar="CSV",
        type=click.Path(),
        help="Spectral response functions of the scene's bands, matched by name or wavelength where "
        "the scene states them and in band order otherwise: CSV, text, GeoJSON or GeoPackage.",
    ),
    click.option(
        "--scale", type=float, metavar="F", help="Factor from stored values to reflectance 0-1."
    ),
    click.option("--crs", metavar="CRS", help="CRS of a scene that has none, as EPSG:32633."),
)

layer_options = stacked(
    click.option("--layer", metavar="NAME", help="Layer of the point file."),
    click.option("--field", metavar="NAME", help="Field that holds the spectra as JSON."),
)

point_options = stacked(
    click.option(
        "--points", type=click.Path(), metavar="FILE", help="Field spectra, a GeoPackage."
    ),
    layer_options,
)

method_options = stacked(
    click.option(
        "--method",
        type=click.Choice(["product", "estimator", "dypro", "paper", "ridge", "library"]),
        default="product",
        show_default=True,
        help="product: estimator and gated network; estimator: no network; dypro: network without "
        "gate; paper: Pixel-SSR as published; ridge: points alone; library: no points.",
    ),
    click.option(
        "--weights",
        type=click.Path(),
        metavar="FILE|builtin",
        help="Trained weights, a file or those that ship: one more prior mean of the estimator, or "
        "with method paper the network.",
    ),
)

agreement_options = stacked(
    click.option(
        "--calibrate",
        type=click.Choice(["none", "gain", "gain-offset"]),
        default="none",
        show_default=True,
        help="Line of every band between a scene that is no surface reflectance (counts, radiance, "
        "top of atmosphere) and the points; a gain needs 3 of them, gain and offset 5.",
    ),
    click.option(
        "--units",
        type=click.Choice(["reflectance", "scene"]),
        default="reflectance",
        show_default=True,
        help="Of the cube with --calibrate: the points' reflectance, or the scene's own units, the "
        "calibration undone.",
    ),
    click.option(
        "--reject-outliers",
        is_flag=True,
        help="Leave out points that disagree strongly with the scene: moved, shaded, changed.",
    ),
)

channel_options = stacked(
    click.option(
        "--wavelengths",
        metavar="SPEC",
        help="Channels of the cube in nm: start:stop:step, a list (450,550,650), a text file, or "
        "like:CUBE [default: 400:1000:10 cut to the points].",
    ),
    click.option(
        "--fwhm", type=float, metavar="NM", help="Width of every channel [default: the spacing]."
    ),
)

network_options = stacked(
    click.option(
        "--net",
        default="dypro-mamba",
        show_default=True,
        metavar="NAME",
        help="Network to train, with --method paper or by `train`: one that `pixelssr-geo nets` "
        "lists. Weights bring their own.",
    ),
    click.option(
        "--prior",
        type=click.Choice(["gamma", "gamma-correlated", "gaussian"]),
        default="gamma",
        show_default=True,
        help="Distribution of the modelled point spectra (method paper).",
    ),
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        metavar="N",
        help="Training steps of a network [default: 50 for a correction, 200 for paper, 600 on "
        "cubes].",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="auto, cpu, cuda or cuda:<number>; auto takes a GPU, where there is one, for networks "
        "and the estimator beside them, cuda for the estimator alone, too.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of every random draw.",
    ),
    click.option(
        "--config",
        type=click.Path(),
        metavar="TOML",
        help="File of settings (see the documentation); options on the command line go first.",
    ),
)

cube_options = stacked(
    click.option(
        "--folds",
        type=int,
        default=3,
        show_default=True,
        help="Groups of spatial blocks that are withheld in turn to set the gate.",
    ),
    click.option(
        "--tile", type=int, default=128, show_default=True, help="Side of a tile, pixels."
    ),
    click.option(
        "--overlap", type=int, default=32, show_default=True, help="Overlap of tiles, pixels."
    ),
    click.option(
        "--batch-size",
        type=int,
        metavar="N",
        help="Tiles in a forward pass on a CUDA device, halved where memory lacks [default: 16].",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "tf32"]),
        default="float32",
        show_default=True,
        help="Of a network's products on a CUDA device; tf32 is faster and rounds to 10 bits. The "
        "estimator computes in float64 beside it.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "uint16"]),
        default="float32",
        show_default=True,
        help="Data type of the cube; uint16 holds reflectance in steps of 1e-4.",
    ),
)

cluster_options = stacked(
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Compute in N processes of a local cluster instead of threads.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS|FILE",
        help="Compute on the workers of a running Dask scheduler.",
    ),
    click.option(
        "--block",
        type=click.IntRange(min=1),
        metavar="PIXELS",
        help="Side of what one thread or worker computes at a time, a multiple of 256; less takes "
        "less memory and more time, the result is the same [default: 768].",
    ),
)


def settings_options(config: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``Settings``: the command line's, then the file's, then defaults."""
    from click.core import ParameterSource

    from pixelssr_geo.settings import Settings

    chosen = Settings.read(config) if config else {}
    source = click.get_current_context().get_parameter_source  # type: ignore[union-attr]
    for name, value in options.items():
        if name not in chosen or source(name) is ParameterSource.COMMANDLINE:
            chosen[name] = value
    return chosen


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else."
)

resume_option = click.option(
    "--resume",
    is_flag=True,
    help="Go on with a run that was interrupted, if there is one of the same inputs and settings.",
)

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing results.")

talk_options = stacked(
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
    click.option("-v", "--verbose", is_flag=True, help="Log what happens on stderr."),
)


class ProgressDisplay:
    """A progress callback that shows nothing."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""

    def forget(self, prefix: str) -> None:
        """Forget the stages whose names begin so; they are over, if maybe not complete."""


@contextmanager
def progress_bar(*, quiet: bool, verbose: bool = False) -> Iterator[ProgressDisplay]:
    """A progress callback that draws on stderr: a bar with ETA on a terminal, else plain lines."""
    if verbose:
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
        logging.getLogger("pixelssr_geo").setLevel(logging.DEBUG)
    if quiet:
        yield ProgressDisplay()
    elif sys.stderr.isatty():
        with _terminal_bar() as progress:
            yield progress
    else:
        yield _PlainLines()


@contextmanager
def _terminal_bar() -> Iterator[ProgressDisplay]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield _TerminalBars(bars)


class _TerminalBars(ProgressDisplay):
    """A bar for each stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def forget(self, prefix: str) -> None:
        for stage in [stage for stage in list(self._tasks) if stage.startswith(prefix)]:
            self._bars.remove_task(self._tasks.pop(stage))


class _PlainLines(ProgressDisplay):
    """A line for each stage, and more of them while it lasts."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._reached: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < self._reached.get(stage, 0):
            # The same stage of another run: its clock starts anew.
            self._drop(stage)
        self._reached[stage] = done
        start = self._began.setdefault(stage, now)
        if done < total and now - self._said.get(stage, start) < PLAIN_SECONDS:
            return
        self._said[stage] = now
        left = (now - start) / done * (total - done) if done else 0.0
        eta = f", ETA {left:.0f} s" if done < total else ""
        click.echo(f"{stage}: {done}/{total}, {now - start:.0f} s{eta}", err=True)

    def forget(self, prefix: str) -> None:
        for stage in [stage for stage in list(self._reached) if stage.startswith(prefix)]:
            self._drop(stage)

    def _drop(self, stage: str) -> None:
        for known in (self._began, self._said, self._reached):
            known.pop(stage, None)
