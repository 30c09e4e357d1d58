"""What the networks cost: counted, and timed beside each other in one run; the paper's Table 10.

On a machine that does other things as well, two passes minutes apart tell little of two networks.
So all networks take turns: a round has one pass of each, in an order of its own, and what is
compared is a network's time and another's of the same round.
:mod:`pixelssr_geo.experiments.network_cost_tables` keeps the results and sets them beside the paper's.
"""

from __future__ import annotations

import csv
import platform
import statistics
import time
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets import create_net, find_net, list_nets
from pixelssr_geo.nets.cost import measure_cost
from pixelssr_geo.nets.precision import products_in
from pixelssr_geo.nets.scan import chosen_backend
from pixelssr_geo.process import core_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pixelssr_geo.fitting import Progress
    from pixelssr_geo.nets import SpectralNet

MEASURE = "dypro-mamba"
"""The network whose time the others' are divided by."""


@dataclass(frozen=True, slots=True)
class TileSize:
    """What a network is given and gives; by default that of the paper's Table 10.

    Raises
    ------
    SettingsError
        If one of the numbers is below 1.
    """

    bands: int = 3
    """Bands of the scene."""
    channels: int = 31
    """Channels of the cube."""
    tile: int = 128
    """Side of the tile, pixels."""

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1:
            raise SettingsError(
                f"{self.bands} bands, {self.channels} channels and a tile of {self.tile} pixels were "
                "asked for, expected at least 1 of each: give larger numbers"
            )


@dataclass(frozen=True, slots=True)
class PublishedCost:
    """A column of the paper's Table 10; a row of ``paper_table10.csv``."""

    net: str
    """Registered name of the network."""
    parameters_m: float
    """Parameters, millions."""
    flops_g: float
    """Operations of a pass, 10^9: the multiply-accumulates that the profiler ``thop`` counts."""
    time_ms: float
    """Milliseconds of a pass on the authors' machine."""


@cache
def paper_table10() -> Mapping[str, PublishedCost]:
    """The figures of the paper's Table 10, by registered name of the network."""
    text = (files(__package__) / "data" / "paper_table10.csv").read_text(encoding="utf-8")
    rows = (
        PublishedCost(
            net=row["net"],
            parameters_m=float(row["parameters_m"]),
            flops_g=float(row["flops_g"]),
            time_ms=float(row["time_ms"]),
        )
        for row in csv.DictReader(text.splitlines())
    )
    return MappingProxyType({row.net: row for row in rows})


@dataclass(frozen=True, slots=True)
class NetworkCounts:
    """What is counted of a network."""

    parameters: int
    """All parameters."""
    profiled_parameters: int
    """Those that the profiler ``thop`` counts, the paper's convention."""
    profiled_macs: int
    """Multiply-accumulates of a pass that it counts: neither attention products nor scans."""
    macs: int
    """All multiply-accumulates of a pass."""


def count_network(name: str, size: TileSize) -> NetworkCounts:
    """What a network of that name has and does in one pass; no memory is taken, nothing computed.

    Raises
    ------
    UnknownNetError
        If there is no such network.
    """
    with torch.device("meta"):
        net = create_net(name, bands=size.bands, channels=size.channels)
    cost = measure_cost(net, size.tile, size.tile)
    return NetworkCounts(cost.parameters, cost.profiled_parameters, cost.profiled_macs, cost.macs)


@dataclass(frozen=True, slots=True)
class Timings:
    """Times of passes that took turns."""

    seconds: Mapping[str, tuple[float, ...]]
    """Of each, its time in every round, seconds by the clock."""

    def best(self, name: str) -> float:
        """The shortest time, seconds."""
        return min(self.seconds[name])

    def median(self, name: str) -> float:
        """The median time, seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, to: str = MEASURE) -> float:
        """The median over rounds of its time divided by another's in the same round."""
        pairs = zip(self.seconds[name], self.seconds[to], strict=True)
        return statistics.median(mine / other for mine, other in pairs)


def time_in_turns(
    passes: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Times of passes that take turns, after one of each that is not timed.

    Parameters
    ----------
    passes
        What is timed, by name; each returns when its work is done.
    rounds
        How often each is timed.
    seed
        Of the orders: every round has its own.
    progress
        Called with stage, done, total.
    clock
        Gives seconds.

    Raises
    ------
    SettingsError
        If there is to be no round.
    """
    if rounds < 1:
        raise SettingsError(
            f"{rounds} rounds were asked for, expected at least 1: time one or more"
        )
    tell = progress or (lambda stage, done, total: None)
    names = list(passes)
    tell("warm-up", 0, len(names))
    for done, name in enumerate(names, 1):
        passes[name]()  # loads and builds what the passes after it find
        tell("warm-up", done, len(names))
    orders = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    tell("rounds", 0, rounds)
    for done in range(1, rounds + 1):
        for index in orders.permutation(len(names)):
            start = clock()
            passes[names[index]]()
            seconds[names[index]].append(clock() - start)
        tell("rounds", done, rounds)
    return Timings({name: tuple(times) for name, times in seconds.items()})


def time_networks(
    names: Iterable[str],
    size: TileSize,
    *,
    rounds: int,
    device: torch.device | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Timings:
    """Times of forward passes of one tile, without gradients, float32; the networks take turns.

    Parameters
    ----------
    names
        Registered names.
    size
        Of the tile.
    rounds
        Passes of each network that are timed.
    device
        Where the networks run, by default the CPU.
    threads
        PyTorch's threads meanwhile, by default as many as it has.
    seed
        Of the tile and of the orders.
    progress
        Called with stage, done, total.

    Raises
    ------
    UnknownNetError
        If there is no network of a name.
    SettingsError
        If there is to be no round.
    """
    where = device or torch.device("cpu")
    nets = {
        name: create_net(name, bands=size.bands, channels=size.channels).eval().to(where)
        for name in names
    }
    draws = torch.Generator().manual_seed(seed)
    tile = torch.rand(1, size.bands, size.tile, size.tile, generator=draws).to(where)
    passes = {name: partial(pass_tile, net, tile) for name, net in nets.items()}
    with _torch_threads(threads), products_in("float32", where), torch.inference_mode():
        return time_in_turns(passes, rounds, seed=seed, progress=progress)


def pass_tile(net: SpectralNet, tile: torch.Tensor) -> None:
    """A network's forward pass; over when everything is computed.

    Parameters
    ----------
    net
        The network.
    tile
        ``(1, band, y, x)``, where the network is.
    """
    net(tile)
    if tile.is_cuda:  # which returns before it has computed anything
        torch.cuda.synchronize(tile.device)


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class CostCell:
    """A network, and how it was measured."""

    net: str
    """Registered name."""
    bands: int
    """Bands of the scene."""
    channels: int
    """Channels of the cube."""
    tile: int
    """Side of the tile, pixels."""
    rounds: int
    """Passes that were timed."""
    threads: int
    """PyTorch's threads on the CPU."""
    device: str
    """``cpu`` or ``cuda``, with a number where one was asked for."""
    hardware: str
    """Name of the CPU and its cores, or of the GPU."""
    torch: str
    """Version of PyTorch."""
    scan_backend: str
    """What computes the scans of networks that have some."""

    def __post_init__(self) -> None:
        _check_positive(self.bands, self.channels, self.tile, self.rounds, self.threads)

    @property
    def size(self) -> TileSize:
        """Of the tile."""
        return TileSize(self.bands, self.channels, self.tile)


@dataclass(frozen=True, slots=True)
class CostResult(NetworkCounts):
    """What a network costs."""

    median_ms: float
    """Median time of a pass, milliseconds by the clock."""
    ratio: float
    """Median over rounds of its time divided by that of DyPro-Mamba in the same round."""

    def __post_init__(self) -> None:
        _check_positive(*astuple(self))


CostRows = dict[CostCell, CostResult]
"""Networks of one run, in the order of the table."""


def _check_positive(*values: float) -> None:
    for value in values:
        if not 0 < value < float("inf"):
            raise ValueError(f"{value} is no positive number")


def compared_networks(asked: Sequence[str] | None) -> list[str]:
    """Registered names of the networks to measure, DyPro-Mamba being the first in any case.

    Parameters
    ----------
    asked
        Names or aliases; None is all networks.

    Raises
    ------
    UnknownNetError
        If there is no network of a name.
    SettingsError
        If no name is given.
    """
    if asked is None:
        asked = [spec.name for spec in list_nets()]
    if not asked:
        raise SettingsError(
            f"no network is named, expected some of {', '.join(s.name for s in list_nets())}: name "
            "at least one, or give none for all"
        )
    return list(dict.fromkeys([MEASURE, *(find_net(name).name for name in asked)]))


def run_network_costs(
    names: Sequence[str],
    size: TileSize,
    *,
    rounds: int = 10,
    device: torch.device | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CostRows:
    """Count and time networks in one run.

    Parameters
    ----------
    names
        Registered names, DyPro-Mamba's among them; see :func:`compared_networks`.
    size, rounds, device, threads, seed, progress
        See :func:`time_networks`.

    Raises
    ------
    SettingsError
        If there is to be no round.
    """
    where = device or torch.device("cpu")
    counts = {name: count_network(name, size) for name in names}
    timings = time_networks(
        names, size, rounds=rounds, device=where, threads=threads, seed=seed, progress=progress
    )
    rows: CostRows = {}
    for name in names:
        cell = CostCell(
            net=name,
            bands=size.bands,
            channels=size.channels,
            tile=size.tile,
            rounds=rounds,
            threads=threads or torch.get_num_threads(),
            device=str(where),
            hardware=hardware_name(where),
            torch=torch.__version__,
            scan_backend=chosen_backend(device=where),
        )
        rows[cell] = CostResult(
            **asdict(counts[name]),
            median_ms=round(1e3 * timings.median(name), 3),
            ratio=round(timings.ratio(name), 4),
        )
    return rows


def hardware_name(device: torch.device) -> str:
    """The name of a GPU, or of the CPU with the number of cores that this process may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = core_count()
    return f"{cpu_name()}, {cores} core{'s' * (cores != 1)}"


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's model, as Linux tells it in ``info``; elsewhere its kind."""
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models and models[0] else platform.processor() or platform.machine()
