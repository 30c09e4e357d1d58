"""Blocks on the workers of a Dask cluster: a local one, or one that runs already.

What computes a block, such as a fitted model, may be tens of megabytes. So it does not travel with
the blocks: it goes to every worker once, as the payload of a worker plugin, which Dask hands to
workers that join later, too. Nothing is unpickled before the first block of the run reaches the
worker; a worker that gets none, for lack of a GPU, loads nothing.

Blocks are tasks of their own. As chunks of a Dask array they would lose the resources that they
ask for when Dask fuses the graph.
"""

# mypy: allow-untyped-calls
# distributed has types for a part of itself.

from __future__ import annotations

import json
import logging
import pickle
import queue
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter, deque
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pixelssr_geo.errors import ClusterError, SettingsError
from pixelssr_geo.tiling.plan import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from distributed import Client, Future, LocalCluster, Worker

CONNECT_SECONDS = 10.0
"""How long a scheduler may take to answer."""

WORKER_SECONDS = 120.0
"""How long a run waits while the scheduler has no worker at all."""

RESOURCE_SECONDS = 10.0
"""How long a run waits where there are workers, but none offers the resources asked for."""

AHEAD = 3
"""Blocks handed to the scheduler for each that can be computed at a time."""

_PREFIX = "pixelssr/"
_REFRESH_SECONDS = 1.0
_POLL_SECONDS = 0.1
_GATHER_SECONDS = 10.0

R = TypeVar("R")


@contextmanager
def cluster_client(
    *,
    workers: int | None = None,
    scheduler: str | Path | None = None,
    resources: Mapping[str, float] | None = None,
) -> Iterator[Client]:
    """Give a client of a cluster, for the time of a ``with`` block.

    The client does not become Dask's default: computations that do not name it stay where they
    are. A local cluster ends with the block, one that was joined goes on.

    Parameters
    ----------
    workers
        Start a local cluster of that many processes with one thread each. They import the main
        module again, so a script does this under ``if __name__ == "__main__":``.
    scheduler
        Join the cluster of a scheduler: its address, such as ``tcp://10.0.0.1:8786``, or the file
        that it wrote (``dask scheduler --scheduler-file``).
    resources
        What each worker of a local cluster offers, such as ``{"GPU": 1}``.

    Raises
    ------
    SettingsError
        If not exactly one of the two is given, or ``workers`` is not positive.
    ClusterError
        If the scheduler's file cannot be read, or no scheduler answers within 10 seconds.
    """
    if (workers is None) == (scheduler is None):
        raise SettingsError(
            f"workers is {workers} and scheduler is {scheduler}, expected one of the two: give a"
            " number of workers to start or a scheduler to join"
        )
    if scheduler is not None:
        with _connect(_address(str(scheduler))) as client:
            yield client
        return
    assert workers is not None
    if workers < 1:
        raise SettingsError(f"workers is {workers}, expected at least 1: give a larger number")
    with _local_cluster(workers, dict(resources or {})) as cluster, _connect(cluster) as client:
        yield client


def map_blocks_on(
    client: Client,
    blocks: Sequence[Window],
    setup: Callable[[], Callable[[Window], R]],
    *,
    on_done: Callable[[Window, R], object] | None = None,
    resources: Mapping[str, float] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run a function for every block on the workers of a cluster.

    Blocks are handed out in order, a few per worker ahead. Blocks of a worker that dies are
    computed again by another, so a block may be computed more than once; it is reported once.
    When one fails, on an interrupt or a stop, those that wait are cancelled and the running ones
    awaited, so that nothing is written after the return.

    Parameters
    ----------
    client
        See :func:`cluster_client`.
    blocks
        The windows to run.
    setup
        Returns the function that computes a block. It is pickled once, and on every worker that
        gets a block unpickled and called once; what it returned is dropped at the end. On a worker
        with several threads the function is called in several threads. A function that computes
        Dask arrays names the scheduler, or they are computed on the cluster.
    on_done
        Called in the caller's thread with each block that is complete and what its function
        returned, in order of completion. An exception that it raises stops the run.
    resources
        What a worker must offer for each block that it computes, such as ``{"GPU": 1}``.
    stop
        Looked at several times a second; when set, the run is given up.

    Raises
    ------
    ClusterError
        If no worker joins within 2 minutes, none offers the resources, several died while they
        computed the same block, the scheduler is lost, or a worker has another version of this
        package.
    concurrent.futures.CancelledError
        If ``stop`` was set.
    """
    if not blocks:
        return
    capacity = _Capacity(client, dict(resources or {}))
    while not capacity.blocks_at_a_time():
        _check_stop(stop)
        time.sleep(_POLL_SECONDS)
    with _loaded(client, setup) as run:
        running: dict[Future[R], Window] = {}
        try:
            for block, result in _completed(client, run, deque(blocks), running, capacity, stop):
                if on_done is not None:
                    on_done(block, result)
        finally:
            with suppress(Exception):  # what ended the run is what matters
                client.cancel(list(running))


def _completed(
    client: Client,
    run: str,
    pending: deque[Window],
    running: dict[Future[Any], Window],
    capacity: _Capacity,
    stop: threading.Event | None,
) -> Iterator[tuple[Window, Any]]:
    """Yield each block with its result as it completes; ``running`` is what the scheduler has."""
    from distributed.scheduler import KilledWorker

    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    task = _task()

    deaths: Counter[Window] = Counter()

    def watch(future: Future[Any], block: Window) -> None:
        running[future] = block
        future.add_done_callback(finished.put)

    def submit(block: Window) -> None:
        place = (block.row, block.col, block.height, block.width)
        watch(client.submit(task, run, place, pure=False, resources=capacity.resources), block)

    while pending or running:
        _check_stop(stop)
        limit = AHEAD * capacity.blocks_at_a_time()
        while pending and len(running) < limit:
            submit(pending.popleft())
        try:
            future = finished.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        block = running.pop(future)
        try:
            result = _result(client, future)
        except _Lost:
            watch(future, block)
            continue
        except KilledWorker as error:
            # Dask also counts workers on which the block did but wait; so it gets a second chance.
            deaths[block] += error.allowed_failures + 1
            if deaths[block] > error.allowed_failures + 1:
                raise ClusterError(
                    f"{deaths[block]} workers died one after another with {block}, the last at"
                    f" {error.last_worker.address}, expected one to finish it: see the workers' logs;"
                    " often they lack memory, and fewer of them a machine help"
                ) from None
            submit(block)
            continue
        yield block, result


class _Lost(Exception):  # noqa: N818 - never leaves this module
    """A result cannot be fetched: its worker died, and Dask computes it again, or the scheduler."""


def _result(client: Client, future: Future[R]) -> R:
    if future.cancelled():
        raise ClusterError(_lost(client))
    failed = future.status == "error"
    try:
        return future.result(timeout=_GATHER_SECONDS)
    except (OSError, CancelledError):  # a timeout is an OSError
        if failed:
            raise
        raise _Lost from None
    except ModuleNotFoundError as error:
        if error.name != "pixelssr_geo":
            raise
        raise ClusterError(
            _other_environment("lacks this package", version("pixelssr-geo"))
        ) from None


def _other_environment(found: str, expected: str) -> str:
    return (
        f"a worker of the cluster {found}, expected pixelssr-geo {expected}: install the same"
        " versions where scheduler, workers and client run"
    )


def _check_stop(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise CancelledError("blocks given up: the run was stopped")


class _Capacity:
    """How many blocks the cluster can compute at a time, as workers come and go."""

    def __init__(self, client: Client, resources: dict[str, float]) -> None:
        self.resources = resources
        self._client = client
        self._blocks = 0
        self._ever = False
        self._asked = -float("inf")
        self._last_seen = time.monotonic()

    def blocks_at_a_time(self) -> int:
        """Return 0 while there is no suitable worker; raise when that lasts too long."""
        now = time.monotonic()
        if now - self._asked < _REFRESH_SECONDS:
            return self._blocks
        self._asked = now
        workers = cluster_workers(self._client)
        self._blocks = sum(map(self._blocks_of, workers.values()))
        if self._blocks:
            self._ever, self._last_seen = True, now
        else:
            self._complain(workers, now - self._last_seen)
        return self._blocks

    def _blocks_of(self, worker: Mapping[str, Any]) -> int:
        offered = worker["resources"]
        fit = [int(offered.get(name, 0) // amount) for name, amount in self.resources.items()]
        return min(int(worker["nthreads"]), *fit) if fit else int(worker["nthreads"])

    def _complain(self, workers: Mapping[str, Any], waited: float) -> None:
        if not workers or self._ever:
            if waited >= WORKER_SECONDS:
                raise ClusterError(
                    f"the scheduler at {_where(self._client)} has {len(workers)} workers and for"
                    f" {waited:.0f} s none of use, expected one within {WORKER_SECONDS:.0f} s:"
                    " start workers, such as `dask worker ADDRESS`"
                )
        elif waited >= RESOURCE_SECONDS:
            wanted = _listed(self.resources)
            offers = sorted({_listed(worker["resources"]) for worker in workers.values()})
            raise ClusterError(
                f"the {len(workers)} workers of the scheduler at {_where(self._client)} offer"
                f" {' or '.join(offers)}, expected {wanted}: start workers with"
                f' `dask worker ADDRESS --resources "{wanted}"`'
            )


def cluster_workers(client: Client) -> Mapping[str, Mapping[str, Any]]:
    """Return what the scheduler knows of its workers, such as ``resources``, by their addresses.

    Raises
    ------
    ClusterError
        If the scheduler is lost.
    """
    try:
        found: Mapping[str, Any] = client.scheduler_info(n_workers=-1)
        return cast("Mapping[str, Mapping[str, Any]]", found["workers"])
    except (OSError, KeyError):  # without a scheduler Dask's answer is empty
        raise ClusterError(_lost(client)) from None


def _lost(client: Client) -> str:
    return (
        f"the scheduler at {_where(client)} was lost or restarted with blocks unfinished, expected"
        " it to stay: see its log, and run again"
    )


def _listed(resources: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:g}" for name, value in resources.items()) or "no resources"


def _where(client: Client) -> str:
    return str(getattr(client.scheduler, "address", "an address that is no more"))


def _address(scheduler: str) -> str:
    """Return the address of a scheduler from itself or from the scheduler's file."""
    if "://" in scheduler:
        return scheduler
    try:
        return str(json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"])
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError:
        reason = "not JSON"
    except (KeyError, TypeError):
        reason = "no address in it"
    raise ClusterError(
        f"scheduler '{scheduler}' cannot be used as a file ({reason}), expected an address such as"
        " tcp://10.0.0.1:8786, or the JSON that `dask scheduler --scheduler-file FILE` writes:"
        " give one of these"
    )


@contextmanager
def _connect(cluster: LocalCluster | str) -> Iterator[Client]:
    from distributed import Client
    from distributed.utils import silence_logging_cmgr
    from distributed.versions import VersionMismatchWarning

    if isinstance(cluster, str):
        _probe(cluster)
    with silence_logging_cmgr(logging.CRITICAL):  # what goes wrong is raised
        with warnings.catch_warnings():
            # Versions that matter are compared when a worker loads a run.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
        try:
            _check_python(client)
            yield client
        finally:
            client.close()


def _check_python(client: Client) -> None:
    """Raise where the cluster has another Python: it could not read what is pickled here."""
    found = cast("dict[str, Any]", client.get_versions())
    here = found["client"]["host"]["python"].split(".")[:2]
    for name, one in {"scheduler": found["scheduler"], **found["workers"]}.items():
        there = one["host"]["python"].split(".")[:2]
        if there != here:
            raise ClusterError(
                f"{name} of the cluster runs Python {'.'.join(there)}, expected {'.'.join(here)}"
                " as here: run scheduler, workers and client in the same environment"
            )


def _probe(address: str) -> None:
    """Raise unless a scheduler answers: a client that cannot connect leaves threads behind."""
    import asyncio

    from distributed.core import rpc

    async def identity() -> dict[str, Any]:
        async with rpc(address) as scheduler:
            return cast("dict[str, Any]", await scheduler.identity())

    async def ask() -> dict[str, Any]:
        return await asyncio.wait_for(identity(), CONNECT_SECONDS)

    try:
        # A thread of its own: in a notebook the caller's runs an event loop already.
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(asyncio.run, ask()).result()["type"]
    except Exception as error:  # noqa: BLE001 - whatever listens there may answer anything
        reason = str(error) or f"no answer within {CONNECT_SECONDS:g} s"
        raise ClusterError(
            f"scheduler {address} cannot be reached ({reason}), expected a Dask scheduler: start"
            " one with `dask scheduler`, or correct the address"
        ) from None
    if found != "Scheduler":
        raise ClusterError(
            f"{address} is a Dask {found}, expected a scheduler: give the scheduler's address"
        )


@contextmanager
def _local_cluster(workers: int, resources: dict[str, float]) -> Iterator[LocalCluster]:
    from distributed import LocalCluster

    with (
        tempfile.TemporaryDirectory(prefix="pixelssr-", ignore_cleanup_errors=True) as folder,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            resources=resources,
            # An interrupt at a terminal reaches them too, but ending them is up to this process.
            preload=["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
            processes=True,
            # Dask's default port may be another cluster's.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            # Blocks bound the memory; Dask's limit, an equal share of the machine for each worker,
            # would restart one that is above its share while there is room.
            memory_limit=None,
            local_directory=folder,
            silence_logs=logging.CRITICAL,  # what goes wrong is raised
        ) as cluster,
    ):
        yield cluster


@contextmanager
def _loaded(client: Client, setup: Callable[[], object]) -> Iterator[str]:
    """Send ``setup`` to the workers and give the name of the run; forget it at the end."""
    _forget_runs_of_others(client)
    run = f"{_PREFIX}{client.id}/{uuid.uuid4().hex}"
    try:
        client.register_plugin(_carrier(setup), name=run)
    except OSError as error:
        raise ClusterError(
            f"a worker of the scheduler at {_where(client)} was lost while the run was sent to it"
            f" ({error}), expected it to stay: run again"
        ) from None
    try:
        yield run
    finally:
        # Without the scheduler there are no workers either: they end with it.
        if client.status == "running":
            try:
                client.run(_finish, run, on_error="ignore")
            finally:
                with suppress(Exception):  # a worker died meanwhile
                    client.unregister_worker_plugin(run)


def _forget_runs_of_others(client: Client) -> None:
    """Drop what clients that are gone, killed for example, have left on scheduler and workers."""

    # Made here, it is pickled with its code: a scheduler without this package can read it.
    def left_over(prefix: str, dask_scheduler: Any = None) -> list[str]:
        return [
            name
            for name in dask_scheduler.worker_plugins
            if name.startswith(prefix) and name.split("/")[1] not in dask_scheduler.clients
        ]

    with suppress(Exception):  # it costs memory, and no run its result
        for name in client.run_on_scheduler(left_over, _PREFIX):
            client.unregister_worker_plugin(name)


def _carrier(setup: Callable[[], object]) -> Any:
    """Return a worker plugin with ``setup`` pickled twice over, so that unpickling it is cheap.

    Workers unpickle plugins in the thread that answers the scheduler, where loading a model would
    be taken for a worker that hangs.
    """
    import cloudpickle  # type: ignore[import-untyped]
    from distributed import WorkerPlugin

    # A class made here is pickled with its code, so workers without this package stay unharmed.
    class Carrier(WorkerPlugin):
        def __init__(self, payload: bytes, version: str) -> None:
            self.payload = payload
            self.version = version

    return Carrier(cloudpickle.dumps(setup), version("pixelssr-geo"))


class _Run:
    """On a worker: the function of one run, and how many threads are inside it."""

    def __init__(self, carrier: Any) -> None:
        self._carrier = carrier
        self._function: Callable[[Window], object] | None = None
        self._loading = threading.Lock()
        self._changed = threading.Condition()
        self._inside = 0
        self._over = False

    def compute(self, block: Window) -> object:
        with self._changed:
            if self._over:
                raise CancelledError("block given up: the run is over")
            self._inside += 1
        try:
            return self._load()(block)
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def finish(self) -> None:
        """Start no further block and wait for those that run."""
        with self._changed:
            self._over = True
            self._changed.wait_for(lambda: self._inside == 0)

    def _load(self) -> Callable[[Window], object]:
        with self._loading:
            if self._function is None:
                here, expected = version("pixelssr-geo"), self._carrier.version
                if here != expected:
                    raise ClusterError(_other_environment(f"has pixelssr-geo {here}", expected))
                self._function = pickle.loads(self._carrier.payload)()
                self._carrier.payload = b""
            return self._function


def _run_of(worker: Worker, run: str) -> _Run | None:
    carrier = worker.plugins.get(run)
    # setdefault: threads that come at the same time all get the one that stays.
    return None if carrier is None else vars(carrier).setdefault("run", _Run(carrier))


def _task() -> Callable[[str, tuple[int, int, int, int]], object]:
    """Return the function that computes a block on the worker that it runs on.

    Made here, it is pickled with its code: a worker or scheduler without this package can read the
    task, and the worker then says what it lacks. One that cannot read its tasks breaks.
    """

    def compute_block(run: str, place: tuple[int, int, int, int]) -> object:
        from pixelssr_geo.tiling.cluster import compute_place

        return compute_place(run, place)

    return compute_block


def compute_place(run: str, place: tuple[int, int, int, int]) -> object:
    """Compute a block in a task of :func:`map_blocks_on`: what its function returns.

    Parameters
    ----------
    run
        Name of the run.
    place
        The block's row, column, height and width.

    Raises
    ------
    concurrent.futures.CancelledError
        If the run is over.
    """
    from distributed import get_worker

    found = _run_of(get_worker(), run)
    if found is None:
        raise CancelledError("block given up: the run is over")
    return found.compute(Window(*place))


async def _finish(run: str, dask_worker: Worker) -> None:
    """End a run on a worker, once its running blocks are done."""
    import asyncio

    found = _run_of(dask_worker, run)
    if found is not None:
        await asyncio.to_thread(found.finish)
