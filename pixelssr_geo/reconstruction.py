"""Scene and field points in, hyperspectral cube out: the pipeline, read from top to bottom."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import xarray as xr

from pixelssr_geo.calibration import line_texts
from pixelssr_geo.errors import (
    ClusterError,
    DeviceError,
    OutputError,
    ResumeError,
    SettingsError,
)
from pixelssr_geo.fitting import (
    NETWORK_METHODS,
    FittedModel,
    Misfit,
    Progress,
    check_uncertainty,
    estimates_on_gpu,
    fit,
    may_use_gpu,
    may_use_network,
    resolve_channels,
    resolve_device,
    run_device,
    total_rmse,
)
from pixelssr_geo.identity import run_identity
from pixelssr_geo.place import place, place_name, place_suffix, shown
from pixelssr_geo.process import core_count, prepare_process, products_on_one_thread
from pixelssr_geo.scene import open_cube, open_layer, pixel_grid, scene_response
from pixelssr_geo.settings import Settings
from pixelssr_geo.tiling.ledger import Ledger
from pixelssr_geo.tiling.mosaic import lazy_mosaic, map_blocks
from pixelssr_geo.tiling.plan import TilePlan, Window, plan_tiles
from pixelssr_geo.writers import (
    DEVIATION,
    EXTRAPOLATION,
    REFLECTANCE,
    SCENE_DEVIATION,
    SCENE_VALUE,
    CubeTemplate,
    Staging,
    check_dtype,
    check_envi_grid,
    check_output,
    create_store,
    disk_needed,
    header_path,
    object_store,
    staged_outputs,
    write_cog,
    write_envi,
    write_region,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    import torch
    from distributed import Client
    from numpy.typing import NDArray

    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.settings import Units
    from pixelssr_geo.spectra import ChannelGrid, SpectralResponse
    from pixelssr_geo.writers import CubeDtype

log = logging.getLogger(__name__)

CHUNK = 256
"""Rows and columns of a chunk of the store."""

BLOCK = 768
"""Rows and columns of a block: whole chunks, one task. Also a multiple of the stride of 96 pixels
at which tiles lie, so that few tiles touch several blocks and are computed in each: 1.27 times as
many as there are, against 1.55 with 512."""

GPU = {"GPU": 1}
"""What a worker offers, and a block with a network asks for, where it runs on a GPU."""

Format = Literal["cog", "zarr", "envi"]

ESTIMATORS_ERROR = (
    "the uncertainty is the estimator's: what the network adds to the cube is not counted in it"
)
"""What is to be known of the uncertainty where a network takes part."""

FORMATS: dict[str, Format] = {
    ".tif": "cog",
    ".tiff": "cog",
    ".zarr": "zarr",
    ".bsq": "envi",
    ".img": "envi",
}
"""Format of a result by the ending of its name."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished run reports."""

    output: str
    """Where the cube is."""
    uncertainty: str | None
    """Where the standard deviation of its error is, or None where it was not asked for."""
    shape: tuple[int, int, int]
    """Channels, rows, columns."""
    wavelengths_nm: tuple[float, ...]
    """Channel centres."""
    points_used: int
    """Labelled pixels that took part."""
    points_dropped: tuple[dict[str, str], ...]
    """Points that did not, each with ``id`` and ``reason``."""
    points_suspicious: tuple[str, ...]
    """Points whose bands disagree strongly with the scene; they are used all the same."""
    units: Units
    """Of the cube's values and of ``msi_residual_rmse``: ``reflectance``, or ``scene`` for those of
    the scene as it was given."""
    calibration: dict[str, dict[str, float]] | None
    """``gain``, ``offset`` (scene units) and ``spread`` (reflectance) of each band's line, by its
    name, or None without calibration."""
    cross_validation: dict[str, float | None] | None
    """``rmse``, ``sam``, ``n`` and ``spread`` (the first's standard error) at withheld points, or
    None."""
    coverage: dict[str, float] | None
    """Share of the values at withheld points within 1 and 1.96 standard deviations as they were
    told for them, ``68`` and ``95``, and ``n`` points; None where none were told."""
    msi_residual_rmse: float
    """How far the re-simulated bands are from the scene."""
    method: str
    """Method."""
    gate: float | None
    """How far the network's correction was let through, or None when none was tried."""
    blend: dict[str, float] | None
    """Weight of each prior mean of the estimator, by its name; None where the method blends none."""
    net: str | None
    """Network behind the cube, or None."""
    weights: str | None
    """Hash of the weights file, or None."""
    device: str
    """Where blocks were computed: the CPU, or the GPU of networks and the default estimator."""
    scan_backend: str | None
    """Selective scan behind the network, or None without one."""
    tiles: int
    """Tiles of the lattice."""
    seconds: dict[str, float]
    """``fit``, ``reconstruct``, ``write`` and ``total``."""
    peak_rss_mb: float
    """Largest memory of this process and of each worker, added up."""
    seed: int
    """Of every random draw."""
    version: str
    """Of the package."""
    notes: tuple[str, ...]
    """What a user should know."""

    def to_json(self) -> str:
        """The summary as one JSON object."""
        return json.dumps(asdict(self))

    def lines(self) -> list[str]:
        """The summary for people."""
        channels, rows, cols = self.shape
        first, last = self.wavelengths_nm[0], self.wavelengths_nm[-1]
        told = [
            f"cube        {self.output}",
            f"            {channels} channels {first:g}-{last:g} nm, {rows} x {cols} pixels",
            f"method      {self.method}"
            + (f" with {self.net} on {self.device}" if self.net else ""),
            f"points      {self.points_used} used, {len(self.points_dropped)} dropped",
        ]
        told += [f"            {p['id']} dropped: {p['reason']}" for p in self.points_dropped]
        if self.points_suspicious:
            told.append(f"            suspicious: {', '.join(self.points_suspicious)}")
        if self.calibration is not None:
            lines = line_texts(self.calibration)
            told += [f"{'calibrated' if not n else '':<10}  {line}" for n, line in enumerate(lines)]
        if self.units == "scene":
            told.append("units       the scene's own: the calibration is undone in the cube")
        if self.blend is not None:
            parts = [f"{name} {weight:.2f}" for name, weight in self.blend.items() if weight]
            told.append(f"blend       {', '.join(parts)}")
        if self.cross_validation is not None:
            error = self.cross_validation
            told.append(
                f"withheld    RMSE {error['rmse']:.4f}, SAM {error['sam']:.2f} degrees at "
                f"{error['n']} points"
            )
        if self.uncertainty is not None:
            told.append(f"uncertainty {self.uncertainty}")
            if (share := self.coverage) is not None:
                told.append(
                    f"            {100 * share['68']:.0f} % of the values at {share['n']} withheld "
                    f"points within 1 standard deviation, {100 * share['95']:.0f} % within 1.96"
                )
        told.append(f"scene       re-simulated within {self.msi_residual_rmse:.2g} RMSE")
        told += [f"note        {note}" for note in self.notes]
        spent = ", ".join(f"{name} {value:.1f}" for name, value in self.seconds.items())
        return [*told, f"seconds     {spent}"]


@overload
def reconstruct(
    scene: xr.DataArray,
    points: PointSpectra | None = None,
    *,
    response: SpectralResponse | None = None,
    uncertainty: Literal[False] = False,
    progress: Progress | None = None,
    **options: Any,
) -> xr.DataArray: ...
@overload
def reconstruct(
    scene: xr.DataArray,
    points: PointSpectra | None = None,
    *,
    response: SpectralResponse | None = None,
    uncertainty: Literal[True],
    progress: Progress | None = None,
    **options: Any,
) -> xr.Dataset: ...
def reconstruct(
    scene: xr.DataArray,
    points: PointSpectra | None = None,
    *,
    response: SpectralResponse | None = None,
    uncertainty: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> xr.DataArray | xr.Dataset:
    """A lazy hyperspectral cube of a scene, dims ``(wavelength, y, x)``, float32, NaN for nodata.

    The fit runs at once: it reads the scene once for the statistics of its bands, and around the
    points. The cube itself is computed when it is asked for, block by block.

    Parameters
    ----------
    scene
        Reflectance, dims ``(band, y, x)``, as from :func:`pixelssr_geo.open_scene`.
    points
        Field spectra, as from :func:`pixelssr_geo.read_points`; without them the cube rests on
        the spectral library.
    response
        Spectral response of the scene's bands; by default what the scene says.
    uncertainty
        Give what is known of the error, too.
    progress
        Called as stages of the fit advance.
    **options
        Fields of :class:`pixelssr_geo.settings.Settings`, such as ``method="estimator"``.

    Returns
    -------
    xarray.DataArray or xarray.Dataset
        Reflectance with ``wavelength`` and ``fwhm`` (nm); what happened is in ``attrs``. With
        ``uncertainty`` a dataset: ``reflectance``; ``deviation``, the standard deviation of its
        error, as the cube; and ``extrapolation (y, x)``, 0 where points and library cover the scene
        and growing beyond. With ``units="scene"`` the first two are ``scene_value`` and
        ``scene_deviation``. Compute them together: a block gives all of them at once.

    Raises
    ------
    PixelSSRError
        If scene, points and options cannot be brought together.
    """
    settings = Settings.of(**options)
    if uncertainty:
        check_uncertainty(settings)
    model = fit(scene, points, settings, response=response, progress=progress)
    plan = _plan(model, BLOCK)
    template = _template(scene, points, model)
    # A hash of the model would read the scene; another fit is another cube in any case.
    name = f"cube-{uuid.uuid4().hex}"
    channels = len(model.channels)
    if not uncertainty:
        values = lazy_mosaic(plan, partial(_block, model, plan), channels, name=name)
        return template.to_dataarray(values)
    # One array for all, so that a block is computed once.
    images = lazy_mosaic(plan, partial(_estimate, model, plan), 2 * channels + 1, name=name)
    errors = _uncertainty_template(template, model)
    cube = template.to_dataarray(images[:channels])
    deviation = errors.to_dataarray(images[channels:-1])
    extrapolation = errors.to_layer(images[-1])
    return xr.Dataset({one.name: one for one in (cube, deviation, extrapolation)})


def reconstruct_to_file(
    scene: xr.DataArray,
    points: PointSpectra | None,
    output: str | Path,
    settings: Settings,
    *,
    response: SpectralResponse | None = None,
    uncertainty: str | Path | None = None,
    dtype: CubeDtype = "float32",
    block: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    client: Client | None = None,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> tuple[FittedModel, Summary]:
    """Reconstruct a scene into a Cloud-Optimized GeoTIFF, a Zarr store or an ENVI file.

    The ending of the output's name decides: ``.tif``; ``.zarr``; ``.bsq`` or ``.img``. A Zarr store
    can be at a URL of an object store, such as ``s3://bucket/cube.zarr``.

    Blocks are computed on threads and written to a store as they are done; the file appears under
    its name when it is complete, and on failure nothing is left. What an interrupt or a crash
    leaves, in ``.<name>.part`` beside the output, a run with ``resume`` goes on from, to the same
    bytes as an uninterrupted one.

    Parameters
    ----------
    scene, points, settings, response
        See :func:`reconstruct`.
    output
        Path or URL of the result.
    uncertainty
        Path or URL of a second result on the same grid and channels, in any of the formats: the
        standard deviation of the cube's error, in its units, and behind its channels a layer
        ``extrapolation``, 0 where points and library cover the scene and growing beyond.
    dtype
        Of both: ``float32``, or ``uint16`` in steps of 1e-4.
    block
        Rows and columns that one task computes, a multiple of 256; by default 768. Larger ones take
        more memory and fewer tiles twice; the result is the same.
    overwrite
        Replace an existing result, or what is left of an unfinished run.
    resume
        Go on with an unfinished run of the same inputs and settings, if there is one.
    threads
        Blocks, and a network's tiles, computed at a time; by default one per core.
    workers
        Processes of a local cluster to compute blocks in, instead of threads.
    scheduler
        Address or file of a running Dask scheduler, whose workers compute the blocks; they must see
        the scene and the output's folder under the same paths. With ``device="auto"`` networks run
        on the workers that offer the resource ``GPU``, if any does, and the estimator beside them;
        with ``device="cuda"`` the estimator alone does, too.
    client
        Of a cluster that serves several runs, instead of ``workers`` or ``scheduler``; see
        :func:`run_cluster`.
    stop
        When set, the run is given up as on an interrupt.
    progress
        Called with stage, done, total.

    Raises
    ------
    PixelSSRError
        If the inputs do not fit together or the output cannot be written.
    concurrent.futures.CancelledError
        If ``stop`` was set.
    """
    started = time.perf_counter()
    if sum(given is not None for given in (workers, scheduler, client)) > 1:
        raise SettingsError(
            "several of workers, scheduler and client were given, one of them is expected: a "
            "scheduler has its own workers"
        )
    block = _block_side(block)
    check_dtype(dtype, scene_units=settings.units == "scene")
    places = [place(output)]
    if uncertainty is not None:
        check_uncertainty(settings)
        places.append(place(uncertainty))
    output = places[0]
    for one in places:
        check_output(one, overwrite=overwrite)
        _check_name(one, scene, points)
    _check_apart(places)
    channels = resolve_channels(settings, points)
    _check_room(places, scene, channels, dtype)
    tell = _until(stop, progress)
    response = scene_response(scene) if response is None else response
    with ExitStack() as stack:
        if scheduler is not None:
            client = stack.enter_context(run_cluster(settings, scheduler=scheduler))
        devices = _Devices.of(settings, points, client)
        identity = run_identity(
            scene,
            points,
            response,
            settings,
            channels,
            format=f"{place_suffix(output)} {dtype}",
            uncertainty="none" if uncertainty is None else place_suffix(places[1]),
            block=f"{block} pixels",
            computes=devices.told(settings, points),
        )
        stagings = stack.enter_context(staged_outputs(places, overwrite=overwrite, resume=resume))
        ledger = stack.enter_context(_ledger(stagings, identity, overwrite=overwrite))
        staging = stagings[0]
        staging.keep = bool(ledger.done)
        trained = staging.folder / "trained.safetensors"
        model = fit(
            scene,
            points,
            settings,
            response=response,
            device=devices.fit,
            kept=trained,
            progress=tell,
        )
        staging.keep |= trained.exists()
        fitted = time.perf_counter()
        plan, template = _plan(model, block), _template(scene, points, model)
        templates = [template, _uncertainty_template(template, model)][: len(places)]
        results = [
            _Result(*one, dtype=dtype) for one in zip(places, templates, stagings, strict=True)
        ]
        if uncertainty is not None and model.correction is not None:
            model = replace(model, notes=(*model.notes, ESTIMATORS_ERROR))
        if not ledger.done:
            for result in results:
                result.create()
        blocks = plan.blocks
        left = [window for window in blocks if window not in ledger.done]
        peaks: dict[str, float] = {}

        def note(window: Window, done: BlockDone) -> None:
            with writing(output if isinstance(output, Path) else staging.folder):
                ledger.add(window, squares=done.misfit.squares, values=done.misfit.values)
            staging.keep = True
            peaks[done.process] = max(done.peak_rss_mb, peaks.get(done.process, 0.0))
            tell("reconstructing", len(ledger.done), len(blocks))

        tell("reconstructing", len(ledger.done), len(blocks))
        work = BlockWork(model, plan, tuple(result.store for result in results), staging.run)
        if client is None and workers is None:
            _run_on_threads(work, left, note, threads=threads)
        elif client is not None:
            _run_on_cluster(work, left, note, client, devices.blocks, stop)
        elif left:
            with run_cluster(settings, workers=workers) as local:
                _run_on_cluster(work, left, note, local, devices.blocks, stop)
        computed = time.perf_counter()
        for result, stage in zip(results, ("writing", "writing the uncertainty"), strict=False):
            result.assemble(partial(tell, stage))
        misfits = [Misfit(**ledger.done[window]) for window in blocks]
    ended = time.perf_counter()
    seconds = {
        "fit": fitted - started,
        "reconstruct": computed - fitted,
        "write": ended - computed,
        "total": ended - started,
    }
    residual = total_rmse(misfits)
    return model, _summary(places, plan, model, devices.blocks, residual, seconds, peaks)


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """A cube that a run writes, and where it is until it is complete."""

    place: Path | str
    """Path or URL; its ending says the format."""
    template: CubeTemplate
    """All but its values."""
    staging: Staging
    """Where it is kept."""
    dtype: CubeDtype
    """As which it is stored."""

    @property
    def store(self) -> Path | str:
        """Store that the blocks are written to.

        Every format goes through one, which threads and processes can write side by side. It has
        the run's name: what wrote for another run, and may still do so, does not find it.
        """
        return _store(self.staging)

    def create(self) -> None:
        """Make the store, without values."""
        if isinstance(self.store, Path):
            shutil.rmtree(self.store, ignore_errors=True)
        create_store(self.store, self.template, chunk=CHUNK, dtype=self.dtype)

    def assemble(self, progress: Callable[[int, int], object]) -> None:
        """Make the result of the finished store."""
        if (format := FORMATS[place_suffix(self.place)]) == "zarr":
            if isinstance(self.store, Path):
                self.store.rename(self.staging.result)
            return
        layer = None
        if self.template.layer is not None:
            layer = self.template.to_layer(open_layer(self.store, self.template.layer).data)
        write = write_envi if format == "envi" else write_cog
        write(
            self.template.to_dataarray(open_cube(self.store).data),
            self.staging.result,
            dtype=self.dtype,
            overwrite=True,
            layer=layer,
            progress=progress,
        )


def _store(staging: Staging) -> Path | str:
    at_url = isinstance(staging.result, str)
    return staging.result if at_url else staging.folder.absolute() / f"{staging.run}.zarr"


def _ledger(stagings: Sequence[Staging], identity: dict[str, str], *, overwrite: bool) -> Ledger:
    """The list of finished blocks; empty if not all that they were written to is there any more.

    With ``overwrite`` the list of another run is left behind.
    """
    path = stagings[0].folder / "blocks.jsonl"
    with writing(stagings[0].folder):
        try:
            ledger = Ledger(path, identity)
        except ResumeError:
            if not overwrite:
                raise
        else:
            if not ledger.done or all(map(_is_resumed, stagings)):
                return ledger
            ledger.close()
        stagings[0].restart()
        for staging in stagings[1:]:
            staging.restart(stagings[0].run)
        return Ledger(path, identity)


def _is_resumed(staging: Staging) -> bool:
    store = _store(staging)
    return staging.resumed and (isinstance(store, str) or store.exists())


@contextmanager
def run_cluster(
    settings: Settings, *, workers: int | None = None, scheduler: str | None = None
) -> Iterator[Client]:
    """Give a client for the blocks of runs with these settings, for the time of a ``with`` block.

    Parameters
    ----------
    settings
        Say whether the workers of a local cluster are to have the GPU.
    workers, scheduler
        See :func:`pixelssr_geo.tiling.cluster.cluster_client`.
    """
    from pixelssr_geo.tiling.cluster import cluster_client

    networks = settings.method in NETWORK_METHODS or settings.weights is not None
    needed = (networks and settings.device != "cpu") or estimates_on_gpu(settings)
    local = workers is not None and needed and resolve_device(settings.device).type == "cuda"
    resources = GPU if local else None
    with cluster_client(workers=workers, scheduler=scheduler, resources=resources) as client:
        yield client


@dataclass(frozen=True, slots=True)
class BlockDone:
    """What is known of a block that is written."""

    misfit: Misfit
    """How far it is from the scene."""
    process: str
    """Machine and number of the process that computed it."""
    peak_rss_mb: float
    """Largest memory of that process so far."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockWork:
    """Computes a block of the cube and writes it to the store; can be sent to another process."""

    model: FittedModel
    """The fitted model, scene included."""
    plan: TilePlan
    """Where tiles and blocks lie."""
    stores: tuple[Path | str, ...]
    """Zarr stores, on disk or at URLs, that :func:`~pixelssr_geo.writers.create_store` made: of the
    cube and, where it is asked for, of its uncertainty."""
    run: str
    """Name of the run that it belongs to."""

    def __call__(
        self,
        window: Window,
        pool: Executor | None = None,
        stop: threading.Event | None = None,
    ) -> BlockDone:
        """Compute and write one block."""
        with products_on_one_thread():
            model = self.model.holding(self.plan, window)
            if len(self.stores) == 1:
                cube = model.block(self.plan, window, pool, stop)
                contents = [{_quantity(model): cube}]
            else:
                found = model.estimate(self.plan, window, pool, stop)
                cube = found.mean
                errors = {_deviation(model): found.deviation, EXTRAPOLATION: found.extrapolation}
                contents = [{_quantity(model): cube}, errors]
            misfit = model.misfit(cube, window)
        for store, arrays in zip(self.stores, contents, strict=True):
            if isinstance(store, str):
                object_store.check_run(store, self.run)
            for name, values in arrays.items():
                write_region(store, values, window.row, window.col, name=name)
        return BlockDone(misfit, _process_name(), _peak_rss_mb())


def _estimate(model: FittedModel, plan: TilePlan, window: Window) -> NDArray[np.float32]:
    """Cube, deviation and extrapolation of a block behind each other, ``(image, y, x)``."""
    with products_on_one_thread():
        found = model.holding(plan, window).estimate(plan, window)
    return np.concatenate([found.mean, found.deviation, found.extrapolation[None]])


def _block(model: FittedModel, plan: TilePlan, window: Window) -> NDArray[np.float32]:
    with products_on_one_thread():
        return model.holding(plan, window).block(plan, window)


def _run_on_threads(
    work: BlockWork,
    blocks: list[Window],
    note: Callable[[Window, BlockDone], None],
    *,
    threads: int | None,
) -> None:
    """Run the blocks on threads; ``note`` is called in this thread for each that is done.

    While one block is computed others are read, blended and written.
    """
    found: dict[Window, BlockDone] = {}
    stop = threading.Event()

    with _tile_pool(work.model, threads) as pool:

        def compute(window: Window) -> None:
            found[window] = work(window, pool, stop)

        map_blocks(
            work.plan,
            compute,
            workers=_threads(threads, len(blocks), work.model),
            on_done=lambda window: note(window, found.pop(window)),
            blocks=blocks,
            stop=stop,
        )


def _run_on_cluster(
    work: BlockWork,
    blocks: list[Window],
    note: Callable[[Window, BlockDone], None],
    client: Client,
    device: str,
    stop: threading.Event | None,
) -> None:
    """Run the blocks on a cluster's workers; ``note`` is called here for each that is done."""
    from pixelssr_geo.tiling.cluster import map_blocks_on

    on_gpu = work.model.movable and device != "cpu"
    if work.model.device is not None:
        # A worker without a GPU could not read what lies on one.
        work = replace(work, model=work.model.on(resolve_device("cpu")))
    backend = None if on_gpu else _scan_backend(work.model)
    map_blocks_on(
        client,
        blocks,
        partial(_ready, work, device, backend),
        on_done=note,
        resources=GPU if on_gpu else None,
        stop=stop,
    )


def _ready(work: BlockWork, device: str, backend: str | None) -> BlockWork:
    """Make a worker's process ready for the work that it was sent.

    Raises
    ------
    ClusterError
        If the scan has another backend here, whose last digits differ.
    """
    prepare_process()
    if work.model.network is None and device == "cpu":
        return work
    work = replace(work, model=work.model.on(resolve_device(device)))
    found = _scan_backend(work.model)
    if backend is not None and found != backend:
        raise ClusterError(
            f"worker {_process_name()} computes the scan with '{found}', expected '{backend}' as "
            "here: install the same there, or name one for both with PIXELSSR_SCAN_BACKEND"
        )
    return work


@dataclass(frozen=True, slots=True)
class _Devices:
    """Where a model is fitted and where it computes blocks."""

    fit: torch.device | None
    """In this process; None where NumPy does everything."""
    blocks: str
    """In the processes that compute blocks, as they name it."""

    @classmethod
    def of(cls, settings: Settings, points: PointSpectra | None, client: Client | None) -> _Devices:
        """What the settings ask for, on a client's cluster or on this machine."""
        if client is None:
            here = run_device(settings, points)
            return cls(here, str(here or "cpu"))
        if not may_use_gpu(settings, points):
            return cls(None, "cpu")
        # Workers have the GPUs; a login node that hands them their work need not have one.
        try:
            here = resolve_device(settings.device)
        except DeviceError:
            here = resolve_device("cpu")
        if settings.device != "auto":
            return cls(here, settings.device)
        from pixelssr_geo.tiling.cluster import WORKER_SECONDS, cluster_workers

        with suppress(TimeoutError):  # which is said when the blocks are handed out
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        workers = cluster_workers(client).values()
        offered = any(worker["resources"].get("GPU") for worker in workers)
        log.info("networks run on the workers' %s", "GPUs" if offered else "CPUs")
        return cls(here, "cuda" if offered else "cpu")

    def told(self, settings: Settings, points: PointSpectra | None) -> str:
        """What the bits depend on: devices, a network's scan backend; where NumPy does all, the CPU."""
        if self.fit is None:
            return "cpu"
        blocks = self.blocks.partition(":")[0]
        apart = "" if blocks == self.fit.type else f"; blocks on {blocks}"
        where = f"torch {version('torch')}, {self.fit.type}"
        if not may_use_network(settings, points):
            return where + apart
        from pixelssr_geo.nets.scan import chosen_backend

        backend = chosen_backend(settings.net_options.get("scan_backend", "auto"), self.fit)
        batch = "" if blocks == "cpu" else f", batch size {settings.batch_size}"
        return f"{where}, scan {backend}{apart}{batch}"


def _block_side(asked: int | None) -> int:
    side = BLOCK if asked is None else asked
    if side < 1 or side % CHUNK:
        raise SettingsError(
            f"block is {side} pixels, expected a multiple of {CHUNK}, the side of the store's "
            "chunks: give such a number"
        )
    return side


def _until(stop: threading.Event | None, progress: Progress | None) -> Progress:
    """Progress that ends the run, at the next thing it is told of, when ``stop`` is set."""

    def tell(stage: str, done: int, total: int) -> None:
        if stop is not None and stop.is_set():
            raise CancelledError("run given up: it was stopped")
        if progress is not None:
            progress(stage, done, total)

    return tell


def _plan(model: FittedModel, block: int) -> TilePlan:
    settings = model.settings
    return plan_tiles(model.reader.shape, tile=settings.tile, overlap=settings.overlap, block=block)


def _template(scene: xr.DataArray, points: PointSpectra | None, model: FittedModel) -> CubeTemplate:
    grid = pixel_grid(scene)
    attrs = {
        "software": f"pixelssr-geo {version('pixelssr-geo')}",
        "method": model.settings.method,
        "config_hash": model.settings.fingerprint(),
        "config": shown(model.settings.model_dump_json()),
        "scene": place_name(str(scene.attrs.get("source", "memory"))),
        "points": place_name(points.source) if points is not None else "none",
        "points_used": str(0 if model.paired is None else len(model.paired.labels)),
        "weights_hash": model.weights_hash or "none",
    }
    if model.gate is not None:
        attrs["gate"] = str(model.gate)
    if model.blend is not None:
        attrs["blend"] = json.dumps(model.blend)
    if model.calibration is not None:
        attrs["calibration"] = json.dumps(model.calibration.told(model.bands))
        attrs["value_units"] = model.settings.units
    return CubeTemplate(
        shape=grid.shape,
        wavelengths_nm=tuple(map(float, model.channels.centres_nm)),
        fwhm_nm=tuple(map(float, model.channels.fwhm_nm)),
        crs_wkt=grid.crs_wkt,
        transform=grid.transform,
        attrs=attrs,
        quantity=_quantity(model),
    )


def _uncertainty_template(cube: CubeTemplate, model: FittedModel) -> CubeTemplate:
    """Of the standard deviations that go with a cube, and the layer that goes with them."""
    attrs = dict(cube.attrs)
    if model.coverage is not None:
        attrs["coverage"] = json.dumps(model.coverage.told())
    return replace(cube, attrs=attrs, quantity=_deviation(model), layer=EXTRAPOLATION)


def _deviation(model: FittedModel) -> str:
    return DEVIATION if model.lines is None else SCENE_DEVIATION


def _quantity(model: FittedModel) -> str:
    return REFLECTANCE if model.lines is None else SCENE_VALUE


def _check_name(output: Path | str, scene: xr.DataArray, points: PointSpectra | None) -> None:
    suffix = place_suffix(output)
    if suffix not in FORMATS:
        raise OutputError(
            f"'{shown(output)}' ends with '{suffix}', a cube is one of {', '.join(FORMATS)}: "
            "give such a name"
        )
    inputs = [str(scene.attrs.get("source", "")), points.source if points is not None else ""]
    if any(_same_place(place(name), output) for name in inputs if name):
        raise OutputError(
            f"'{shown(output)}' is read by this run and cannot be its result: choose another name"
        )


def _same_place(one: Path | str, other: Path | str) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.exists() and one.resolve() == other.resolve()
    return shown(one) == shown(other)


def _check_apart(places: Sequence[Path | str]) -> None:
    """Refuse a cube and its uncertainty under one name, or with one ENVI header."""
    for one, other in combinations(places, 2):
        names = [_names(place) for place in (one, other)]
        if names[0] & names[1]:
            raise OutputError(
                f"'{shown(one)}' and '{shown(other)}' would be one file, or share a header, expected "
                "a name for the cube and one for its uncertainty: choose another"
            )


def _names(place: Path | str) -> set[Path | str]:
    """All that a result writes."""
    if isinstance(place, str):
        return {shown(place)}
    header = header_path(place)
    return {path.resolve() for path in (place, header) if path is not None}


def _check_room(
    places: Sequence[Path | str], scene: xr.DataArray, channels: ChannelGrid, dtype: CubeDtype
) -> None:
    """Refuse results for which there is no room, or that their format cannot hold."""
    grid = pixel_grid(scene)
    widths = (tuple(channels.centres_nm), tuple(channels.fwhm_nm))
    cube = CubeTemplate(grid.shape, *widths, grid.crs_wkt, grid.transform)
    templates = (cube, replace(cube, layer=EXTRAPOLATION))
    needed: dict[int, int] = {}
    for where, template in zip(places, templates, strict=False):
        if not isinstance(where, Path):
            continue
        format = FORMATS[place_suffix(where)]
        if format == "envi":
            check_envi_grid(template)
        # Results on one file system share what is free there.
        disk = where.parent.stat().st_dev
        needed[disk] = needed.get(disk, 0) + disk_needed(template, dtype, format)
        room, free = needed[disk], shutil.disk_usage(where.parent).free
        log.info("may need %.1f GB in '%s', %.1f GB are free", room / 1e9, where.parent, free / 1e9)
        if room > free:
            raise OutputError(
                f"'{where.parent}' has {free / 1e9:.1f} GB free, what is asked for and its staging "
                f"may need {room / 1e9:.1f} GB: free space, choose another folder, or --dtype uint16"
            )


def _threads(asked: int | None, blocks: int, model: FittedModel) -> int:
    # On a GPU the forwards queue up anyway, and two blocks are enough to hide reading and writing.
    # The estimator alone is done there so soon that these are most of the work.
    on_gpu = model.device is not None and model.device.type != "cpu"
    most = asked or (2 if on_gpu and model.network is not None else core_count())
    return max(1, min(most, blocks))


@contextmanager
def _tile_pool(model: FittedModel, asked: int | None) -> Iterator[Executor | None]:
    """Give threads for the network's tiles on a CPU, a core each; None where there is no need.

    Tiles beside each other use the cores better than the operations of one tile do, and one thread
    an operation gives the same bits on every number of cores.
    """
    if model.network is None or model.device is None or model.device.type != "cpu":
        yield None
        return
    from pixelssr_geo.training.loop import side_by_side, work_alone

    with (
        side_by_side(model.device) as cores,
        ThreadPoolExecutor(asked or cores, "pixelssr-tile", initializer=work_alone) as pool,
    ):
        yield pool


def _process_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _peak_rss_mb() -> float:
    import resource  # POSIX only, so not at import

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return float(peak / (1e6 if sys.platform == "darwin" else 1e3))


def _summary(
    places: Sequence[Path | str],
    plan: TilePlan,
    model: FittedModel,
    device: str,
    residual: float,
    seconds: dict[str, float],
    peaks: dict[str, float],
) -> Summary:
    paired, validation = model.paired, model.cross_validation
    peaks = {**peaks, _process_name(): _peak_rss_mb()}
    return Summary(
        output=shown(places[0]),
        uncertainty=shown(places[1]) if places[1:] else None,
        shape=(len(model.channels), *plan.shape),
        wavelengths_nm=tuple(map(float, model.channels.centres_nm)),
        points_used=0 if paired is None else len(paired.labels),
        points_dropped=tuple(asdict(point) for point in paired.dropped) if paired else (),
        points_suspicious=paired.suspicious if paired else (),
        units=model.settings.units,
        calibration=model.calibration.told(model.bands) if model.calibration else None,
        cross_validation=asdict(validation) if validation else None,
        coverage=model.coverage.told() if model.coverage else None,
        msi_residual_rmse=residual,
        method=model.settings.method,
        gate=model.gate.value if model.gate else None,
        blend=model.blend,
        net=model.network,
        weights=model.weights_hash,
        device=device,
        scan_backend=_scan_backend(model),
        tiles=plan.tile_count,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        peak_rss_mb=round(sum(peaks.values()), 1),
        seed=model.settings.seed,
        version=version("pixelssr-geo"),
        notes=model.notes,
    )


def _scan_backend(model: FittedModel) -> str | None:
    if model.correction is not None:
        options = model.correction.net.options
    elif model.pixel_model is not None:
        options = model.pixel_model.net.options
    elif model.reader.network is not None:
        options = model.reader.network.model.net.options
    else:
        return None
    from pixelssr_geo.nets.scan import chosen_backend

    if "scan_backend" not in options or model.device is None:
        return None
    return chosen_backend(options["scan_backend"], model.device)
