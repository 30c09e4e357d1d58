"""Many scenes with the same settings, on one cluster: one that fails does not stop the others."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from pixelssr_geo.errors import ClusterError, OutputError, PixelSSRError, SettingsError
from pixelssr_geo.fitting import check_uncertainty
from pixelssr_geo.place import place, place_name, shown
from pixelssr_geo.points import read_points
from pixelssr_geo.reconstruction import Summary, reconstruct_to_file, run_cluster
from pixelssr_geo.scene import open_scene
from pixelssr_geo.writers import check_dtype, object_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from distributed import Client

    from pixelssr_geo.fitting import Progress
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.writers import CubeDtype

log = logging.getLogger(__name__)

SCENES_ON_CLUSTER = 2
"""Scenes at a time on a cluster: while its workers compute one, the next is fitted here."""

WORKER_SECONDS = 30.0
"""How long a cluster on which a scene has failed may take to show a worker again."""

Status = Literal["done", "skipped", "failed"]

Ending = Literal["tif", "zarr", "bsq", "img"]


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A scene, and what belongs to it."""

    scene: str
    """Any GDAL raster or Zarr store."""
    output: str
    """Cube to write, a path or URL; its ending decides on the format."""
    points: str | None = None
    """Field spectra, a GeoPackage."""
    uncertainty: str | None = None
    """Standard deviation of the cube's error to write, a path or URL; None for none."""

    @property
    def results(self) -> tuple[str, ...]:
        """All that is written: the cube, and its uncertainty if that is asked for."""
        return (self.output,) if self.uncertainty is None else (self.output, self.uncertainty)

    @property
    def stem(self) -> str:
        """Name of the scene without folder and ending."""
        return _stem(self.scene)


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of a scene."""

    item: BatchItem
    """The scene."""
    status: Status
    """``done``; ``skipped``, for its cube was there; or ``failed``."""
    summary: Summary | None
    """Of the run, where it is done."""
    error: str | None
    """Why it failed, one line."""
    seconds: float
    """From its start to its end, without the time that it waited for others."""


def batch_items(
    scenes: Sequence[str | Path],
    *,
    points: str | Path | None = None,
    folder: str | Path | None = None,
    format: Ending = "tif",
    uncertainty: bool = False,
) -> list[BatchItem]:
    """Scenes with the names of their cubes, ``<scene>_hsi.<format>``, and of their point files.

    Parameters
    ----------
    scenes
        Any GDAL rasters or Zarr stores.
    points
        Field spectra. ``{stem}`` in the name stands for the scene's name without folder and ending,
        so that each can have its own.
    folder
        Where the cubes go: a folder, or a URL such as ``s3://bucket/2024``; by default each beside
        its scene.
    format
        Ending of the cubes' names.
    uncertainty
        Whether the standard deviation of each cube's error is to be written beside it, as
        ``<scene>_hsi_sd.<format>``.

    Raises
    ------
    OutputError
        If there is no such folder.

    Examples
    --------
    >>> item, = batch_items(["north.tif"], points="field/{stem}.gpkg", uncertainty=True)
    >>> item.output, item.points, item.uncertainty
    ('north_hsi.tif', 'field/north.gpkg', 'north_hsi_sd.tif')
    """
    where = None if folder is None else place(folder)
    if isinstance(where, Path) and not where.is_dir():
        raise OutputError(
            f"there is no folder '{folder}', expected one that exists to write the cubes to: create "
            "it or choose another"
        )
    items = []
    for scene in map(str, scenes):
        stem = _stem(scene)
        beside = _folder_of(scene) if where is None else where
        items.append(
            BatchItem(
                scene,
                _within(beside, f"{stem}_hsi.{format}"),
                str(points).replace("{stem}", stem) if points else None,
                _within(beside, f"{stem}_hsi_sd.{format}") if uncertainty else None,
            )
        )
    return items


def scene_labels(items: Sequence[BatchItem]) -> dict[BatchItem, str]:
    """What the stages of a scene's progress begin with: its stem, or its place if others share it."""
    stems = Counter(item.stem for item in items)
    return {item: item.stem if stems[item.stem] == 1 else shown(item.scene) for item in items}


def run_batch(
    items: Sequence[BatchItem],
    settings: Settings,
    *,
    sensor: str | None = None,
    response: str | Path | None = None,
    scale: float | None = None,
    crs: str | None = None,
    layer: str | None = None,
    field: str | None = None,
    dtype: CubeDtype = "float32",
    overwrite: bool = False,
    resume: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    block: int | None = None,
    at_a_time: int | None = None,
    progress: Progress | None = None,
    on_outcome: Callable[[BatchOutcome], object] | None = None,
) -> list[BatchOutcome]:
    """Reconstruct many scenes with the same settings; what became of each, in the order given.

    A scene that cannot be reconstructed is reported as failed and the others go on. On a cluster
    several scenes run beside each other, one of them being fitted at a time; each gives the bytes
    that it gives alone. When the cluster itself is lost, all that are left fail with that message.

    An interrupt ends them all: none is started any more, and those that run keep what is done as an
    interrupted :func:`~pixelssr_geo.reconstruct_to_file` does. What is kept is in the exception's
    notes; who wants the outcomes then, too, collects them with ``on_outcome``.

    Parameters
    ----------
    items
        The scenes, as from :func:`batch_items`.
    settings
        For all of them.
    sensor, response, scale, crs
        How they are opened; see :func:`~pixelssr_geo.open_scene`.
    layer, field
        How the points are read; see :func:`~pixelssr_geo.read_points`.
    dtype
        Of the cubes: ``float32``, or ``uint16`` in steps of 1e-4.
    overwrite
        Replace existing cubes, and what is left of unfinished runs.
    resume
        Go on with unfinished runs, and without ``overwrite`` skip scenes whose cube is there,
        whatever made it.
    workers
        Processes of a local cluster to compute blocks in, instead of threads.
    scheduler
        Address or file of a running Dask scheduler, whose workers compute the blocks.
    block
        Rows and columns that one task computes; see :func:`~pixelssr_geo.reconstruct_to_file`.
    at_a_time
        Scenes that run beside each other; by default 2 on a cluster. On threads it is 1.
    progress
        Called with stage, done, total; the scenes are a stage, too, and the other stages begin with
        the name of their scene. Where scenes run beside each other it is called in several threads.
    on_outcome
        Called in the caller's thread with each outcome, as they come. An exception that it raises
        ends the batch.

    Raises
    ------
    PixelSSRError
        If a scene is given twice, two cubes would get the same name or a scene's name, the options
        do not go together, or the cluster cannot be had. Nothing has been started then.
    """
    _check_items(items)
    if any(item.uncertainty for item in items):
        check_uncertainty(settings)
    check_dtype(dtype, scene_units=settings.units == "scene")
    most = _scenes_at_a_time(at_a_time, on_cluster=workers is not None or scheduler is not None)
    outcomes: dict[BatchItem, BatchOutcome] = {}
    tell = progress or _silent

    def note(outcome: BatchOutcome) -> None:
        outcomes[outcome.item] = outcome
        tell("scenes", len(outcomes), len(items))
        if on_outcome is not None:
            on_outcome(outcome)

    tell("scenes", 0, len(items))
    left = deque[BatchItem]()
    for item in items:
        if resume and not overwrite and all(map(_is_there, item.results)):
            note(BatchOutcome(item, "skipped", None, None, 0.0))
        else:
            left.append(item)
    if left:
        with _cluster(settings, workers, scheduler) as client:
            work = _SceneWork(
                settings=settings,
                opening={"sensor": sensor, "response": response, "scale": scale, "crs": crs},
                reading={"layer": layer, "field": field},
                writing={
                    "dtype": dtype,
                    "block": block,
                    "overwrite": overwrite,
                    "resume": resume,
                },
                client=client,
                labels=scene_labels(items),
                progress=tell,
            )
            if most == 1:
                for item in left:
                    note(work(item))
            else:
                _run_side_by_side(work, left, note, most)
    return [outcomes[item] for item in items]


class _SceneWork:
    """Reconstructs a scene, whatever happens; may be called in several threads."""

    def __init__(
        self,
        *,
        settings: Settings,
        opening: dict[str, Any],
        reading: dict[str, Any],
        writing: dict[str, Any],
        client: Client | None,
        labels: dict[BatchItem, str],
        progress: Progress,
    ) -> None:
        self.stop = threading.Event()
        self._labels = labels
        self._settings = settings
        self._opening = opening
        self._reading = reading
        self._writing = writing
        self._client = client
        self._progress = progress
        self._fitting = threading.Lock()
        self._lost: str | None = None

    def __call__(self, item: BatchItem) -> BatchOutcome:
        """What became of a scene.

        Raises
        ------
        concurrent.futures.CancelledError
            If ``stop`` was set before it was done.
        """
        with self._turn(item) as progress:
            started = time.perf_counter()
            summary, error = None, self._lost
            if error is None:
                try:
                    summary = self._reconstruct(item, progress)
                except Exception as failure:  # one odd scene must not stop the others
                    if isinstance(failure, CancelledError) and self.stop.is_set():
                        raise
                    error = self._told(item, failure)
            seconds = time.perf_counter() - started
        status: Status = "failed" if summary is None else "done"
        return BatchOutcome(item, status, summary, error, seconds)

    @contextmanager
    def _turn(self, item: BatchItem) -> Iterator[Progress]:
        """Give progress for the scene when it can be fitted; then, when blocks begin, the next can.

        A fit has all cores to itself. Trainings beside each other would slow each other down, keep
        the workers waiting, and share torch's global generator and number of threads, on which the
        bits of their networks depend.
        """
        with ExitStack() as stack:
            stack.enter_context(self._fitting)
            if self.stop.is_set():
                raise CancelledError(f"'{shown(item.scene)}' given up: the batch was stopped")

            def tell(stage: str, done: int, total: int) -> None:
                if stage == "reconstructing":
                    stack.close()
                self._progress(f"{self._labels[item]}: {stage}", done, total)

            yield tell

    def _reconstruct(self, item: BatchItem, progress: Progress) -> Summary:
        scene = open_scene(item.scene, **self._opening)
        points = read_points(item.points, **self._reading) if item.points else None
        # The model, which may be large, is not kept.
        return reconstruct_to_file(
            scene,
            points,
            item.output,
            self._settings,
            uncertainty=item.uncertainty,
            **self._writing,
            client=self._client,
            stop=self.stop,
            progress=progress,
        )[1]

    def _told(self, item: BatchItem, failure: Exception) -> str:
        """Say in one line why the scene failed, and note when it was for the loss of the cluster."""
        notes = getattr(failure, "__notes__", [])
        told = shown("; ".join(" ".join(str(one).split()) for one in (failure, *notes)))
        if not isinstance(failure, PixelSSRError):
            log.debug("'%s' failed", shown(item.scene), exc_info=failure)
            told = f"{type(failure).__name__}: {told}"
        if self._client is not None and _is_lost(self._client, failure):
            if not isinstance(failure, ClusterError):
                told = (
                    f"the cluster was lost ({told}), expected its scheduler to stay: see its log, "
                    "and run again"
                )
            self._lost = self._lost or told
        log.info("'%s' failed: %s", shown(item.scene), told)
        return told


def _run_side_by_side(
    work: _SceneWork,
    left: deque[BatchItem],
    note: Callable[[BatchOutcome], None],
    most: int,
) -> None:
    """Run scenes in threads, so many at a time; ``note`` is called in this one for each outcome.

    An interrupt, which reaches the main thread alone, is handed on, and what the scenes keep is
    added to its notes.
    """
    running: list[Future[BatchOutcome]] = []
    with ThreadPoolExecutor(most, thread_name_prefix="pixelssr-scene") as pool:
        try:
            while left or running:
                while left and len(running) < most:
                    running.append(pool.submit(work, left.popleft()))
                wait(running, return_when=FIRST_COMPLETED)
                for future in [future for future in running if future.done()]:
                    running.remove(future)
                    note(future.result())
        except BaseException as error:
            work.stop.set()
            wait(running)
            for future in running:
                stopped = future.exception()
                if stopped is None:
                    note(future.result())
                for told in getattr(stopped, "__notes__", ()):
                    error.add_note(told)
            raise


@contextmanager
def _cluster(
    settings: Settings, workers: int | None, scheduler: str | None
) -> Iterator[Client | None]:
    if workers is None and scheduler is None:
        yield None
        return
    with run_cluster(settings, workers=workers, scheduler=scheduler) as client:
        yield client


def _is_lost(client: Client, failure: Exception) -> bool:
    """Whether it was not the scene that failed but the cluster, so that no other could succeed."""
    if client.status == "running" and not isinstance(failure, ClusterError):
        return False
    while client.status == "connecting":  # which Dask gives up after some seconds
        time.sleep(0.1)
    if client.status != "running":
        return True
    try:
        # A local cluster starts those that died again.
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except (OSError, RuntimeError):  # a timeout is an OSError
        return True
    return False


def _scenes_at_a_time(asked: int | None, *, on_cluster: bool) -> int:
    if asked is None:
        return SCENES_ON_CLUSTER if on_cluster else 1
    if asked < 1:
        raise SettingsError(
            f"{asked} scenes at a time are asked for, expected at least 1: give a larger number"
        )
    if asked > 1 and not on_cluster:
        raise SettingsError(
            f"{asked} scenes at a time are asked for, on threads 1 is expected, for it uses every "
            "core: give workers or a scheduler"
        )
    return asked


def _check_items(items: Sequence[BatchItem]) -> None:
    """Refuse what would make two scenes write, or read, one another's files."""
    scenes: dict[str, BatchItem] = {}
    outputs: dict[str, BatchItem] = {}
    for item in items:
        if _same(item.scene) in scenes:
            raise SettingsError(
                f"'{shown(item.scene)}' is given twice, expected once: leave one out"
            )
        scenes[_same(item.scene)] = item
        for output in item.results:
            other = outputs.setdefault(_same(output), item)
            if other is not item:
                raise OutputError(
                    f"the cubes of '{shown(other.scene)}' and '{shown(item.scene)}' would both be "
                    f"'{shown(output)}', expected a name for each: rename one, or write it to "
                    "another folder in a batch of its own"
                )
    for item in items:
        for scene in filter(None, (scenes.get(_same(output)) for output in item.results)):
            raise OutputError(
                f"'{shown(scene.scene)}' is one of the scenes and would be the cube of "
                f"'{shown(item.scene)}', expected one of the two: leave it out, or write to another "
                "folder"
            )


def _same(name: str) -> str:
    """Return what two names of one place share."""
    where = place(name)
    return os.path.realpath(where) if isinstance(where, Path) else where


def _stem(scene: str) -> str:
    return PurePath(place_name(scene)).stem


def _folder_of(scene: str) -> Path | str:
    where = place(scene)
    return where.parent if isinstance(where, Path) else where.rpartition("/")[0]


def _within(folder: Path | str, name: str) -> str:
    return str(folder / name) if isinstance(folder, Path) else f"{folder}/{name}"


def _is_there(output: str) -> bool:
    where = place(output)
    if isinstance(where, Path):
        return os.path.lexists(where)
    try:
        return object_store.state(where) == "finished"
    except PixelSSRError:  # which the run says again, as this scene's failure
        return False


def _silent(stage: str, done: int, total: int) -> None:
    """Progress of a caller who does not want to know."""
