"""From a scene and its points to a fitted model that turns any window into a block of the cube."""

from __future__ import annotations

import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pixelssr_geo.calibration import Calibration, ChannelLines, check_count, fit_calibration
from pixelssr_geo.errors import (
    DeviceError,
    PixelSSRError,
    PixelSSRWarning,
    SceneError,
    SceneReadError,
    SettingsError,
    WavelengthGridError,
    WeightsError,
)
from pixelssr_geo.estimator import (
    HALO,
    BlendedEstimator,
    Estimate,
    Estimator,
    FeatureScale,
    FeatureSums,
    Gate,
    LibraryPrior,
    Projection,
    SceneStatistics,
    SpatialFolds,
    View,
    blend_library,
    feature_level,
    fit_blend,
    fit_gate,
    fit_library,
    fit_points_alone,
    library_alone,
    rmse_spread,
    spatial_folds,
    usable_bands,
    widening,
    withheld,
)
from pixelssr_geo.estimator.blend import LEAST_WEIGHT
from pixelssr_geo.estimator.kernel import FIT_POINTS
from pixelssr_geo.estimator.library import load_library
from pixelssr_geo.estimator.projection import slabs
from pixelssr_geo.pairing import (
    MIN_VALID_CHANNELS,
    PairedPoints,
    channels_note,
    default_channels,
    pair_points,
)
from pixelssr_geo.place import shown
from pixelssr_geo.process import core_count, products_on_one_thread
from pixelssr_geo.scene import check_response, cube_channels, open_cube, scene_response
from pixelssr_geo.scene_network import SceneNetwork, tile_pool
from pixelssr_geo.spectra import ChannelGrid, SpectralResponse, resample_to_channels
from pixelssr_geo.tiling.mosaic import MicroBatch, TileFunction, blend_block, fill_invalid
from pixelssr_geo.tiling.plan import TilePlan, Window, plan_tiles
from pixelssr_geo.weights import weights_hash, weights_path

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    import torch
    import xarray as xr
    from numpy.typing import NDArray

    from pixelssr_geo.labels import Labels
    from pixelssr_geo.points import PointSpectra
    from pixelssr_geo.prior import PointPrior
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.training.correction import Correction
    from pixelssr_geo.training.pixel import PixelFit, PixelModel
    from pixelssr_geo.training.pretrained import PretrainedMean

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is; stages that run
side by side call from threads of their own."""

NETWORK = "dypro-mamba"
"""Network of the correction, by its registered name."""

NETWORK_METHODS = ("product", "dypro", "paper")
"""Methods in which it may take part."""

BLEND_METHODS = ("product", "estimator", "dypro")
"""Methods that rest on the default estimator, which can run on a GPU."""

GATE_POINTS = 50
"""Labels from which the product tries a scene-trained correction."""

CORRECTION_POINTS = 5
"""Labels that a correction needs at least."""

GPU_BATCH = 16
"""Tiles in a forward pass on a GPU, unless the settings say another number."""

STATISTICS_BLOCK = 512
"""Rows and columns read at a time by the pass over the scene."""

SCALE_SIDE, SCALE_WINDOWS = 128, 256
"""Rows and columns of the windows that the scale of features is taken from, and how many of them."""

TELLING_POINTS = 20
"""Labels from which withheld ones say how large the error is."""

SPREAD_SHARE = 0.25
"""Share of the scene that the points must lie in to say it for all of it."""

REFIT_POINTS = 100
"""Labels up to which the kernel is fitted anew without the points of each withheld block; of more,
its dozen of parameters know nothing of a single block."""


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Error at points that the fit did not see, whole spatial blocks withheld."""

    rmse: float
    """Root mean square error, reflectance."""
    sam: float
    """Mean spectral angle, degrees."""
    n: int
    """Points behind the figures."""
    spread: float | None
    """Standard error of the first, by a bootstrap over the blocks; None with a single one."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the truth at withheld points lies within the standard deviations told for it."""

    within_one: float
    """Share of the points' values within 1 standard deviation; 0.68 for normal errors."""
    within_two: float
    """Share within 1.96 standard deviations; 0.95 for normal errors."""
    n: int
    """Points behind the shares."""

    @staticmethod
    def of(errors: NDArray[np.float64], deviations: NDArray[np.float64]) -> Coverage:
        """The shares of errors and the deviations told for them, ``(point, channel)`` each."""
        sizes = np.abs(errors)
        one, two = (float((sizes <= factor * deviations).mean()) for factor in (1.0, 1.96))
        return Coverage(one, two, len(errors))

    def told(self) -> dict[str, float]:
        """The shares by their percentage, and ``n``."""
        return {"68": self.within_one, "95": self.within_two, "n": self.n}


@dataclass(frozen=True, slots=True, eq=False)
class SceneReader:
    """Windows of a scene's usable bands, computed in the calling thread."""

    data: Any
    """Dask or NumPy array ``(band, y, x)``, usable bands only."""
    held: tuple[Window, NDArray[np.float32]] | None = None
    """A window whose values are at hand, in the scene's units."""
    calibration: Calibration | None = None
    """Turns what is read into reflectance."""
    network: SceneNetwork | None = None
    """A trained network that the estimator takes as a prior mean, or None."""

    def holding(self, window: Window) -> SceneReader:
        """The same reader, which reads this window now and does not read within it again."""
        values = self.raw(window)
        values.flags.writeable = False
        return replace(self, held=(window, values))

    def informed(
        self,
        windows: Sequence[Window],
        *,
        pool: Executor | None = None,
        stop: threading.Event | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> SceneReader:
        """The same reader, which has what the network says of windows at hand."""
        assert self.network is not None
        network = self.network.holding(
            windows, self.window, pool=pool, stop=stop, progress=progress
        )
        return replace(self, network=network)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    def window(self, window: Window) -> NDArray[np.float32]:
        """Reflectance ``(band, y, x)``; NaN in every band where any band has no data."""
        values = self.raw(window)
        return values if self.calibration is None else self.calibration.on_block(values)

    def raw(self, window: Window) -> NDArray[np.float32]:
        """The same in the scene's own units, as before calibration."""
        if self.held is not None and window.intersect(self.held[0]) == window:
            place, known = self.held
            return known[:, *window.relative_to(place).slices]
        values = self.data[:, *window.slices]
        if hasattr(values, "compute"):
            values = _read(values, window)
        values = np.array(values, "f4")
        values[:, ~np.isfinite(values).all(0)] = np.nan
        return values

    def view(self, window: Window, halo: int) -> View:
        """A window with what lies around it, for an estimator; NaN outside the scene."""
        wanted = window.expand(halo)
        inside = wanted.clip(self.shape)
        values = self.window(inside)
        if inside != wanted:
            rows, cols = inside.relative_to(wanted).slices
            missing = np.full((len(values), *wanted.shape), np.nan, "f4")
            missing[:, rows, cols] = values
            values = missing
        return View(values, window.row, window.col, halo)

    def view_for(self, estimator: Estimator, window: Window) -> View:
        """A window with all that an estimator wants to see."""
        view = self.view(window, estimator.halo)
        if not estimator.sees_network:
            return view
        assert self.network is not None
        return replace(view, network=self.network.window(window, self.window))

    def __call__(
        self, row: int, col: int, size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A square patch, filled and padded, and which of its pixels carry data."""
        inside = Window(row, col, size, size).clip(self.shape)
        values = self.window(inside)
        valid = np.isfinite(values[0])
        return _patch(values, valid, size), _padded(valid, size)

    def estimate(self, estimator: Estimator, row: int, col: int, size: int) -> Estimate:
        """What an estimator says of the same patch, filled and padded in the same way."""
        inside = Window(row, col, size, size).clip(self.shape)
        found = estimator.predict(self.view_for(estimator, inside))
        valid = np.isfinite(found.mean[0])
        return Estimate(
            mean=_patch(found.mean, valid, size),
            deviation=_patch(found.deviation, valid, size),
            extrapolation=_patch(found.extrapolation[None], valid, size)[0],
        )


def _patch(values: NDArray[np.float32], valid: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """Images ``(image, y, x)`` without gaps, continued to ``size`` rows and columns."""
    values = fill_invalid(values, valid) if valid.any() else np.zeros_like(values)
    margins = ((0, size - values.shape[1]), (0, size - values.shape[2]))
    return np.pad(values, ((0, 0), *margins), mode="reflect")


def _padded(valid: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    margins = ((0, size - valid.shape[0]), (0, size - valid.shape[1]))
    return np.pad(valid, margins, constant_values=False)


def _read(values: Any, window: Window) -> Any:
    """Compute a window of the scene.

    Raises
    ------
    SceneReadError
        If it cannot be read.
    """
    try:
        # Blocks already run in parallel, so reading inside one stays in its thread.
        return values.compute(scheduler="synchronous")
    except (PixelSSRError, MemoryError):
        raise
    except Exception as error:  # each format, and each object store, has exceptions of its own
        raise SceneReadError(
            f"the scene cannot be read at rows {window.row}-{window.row_stop}, columns "
            f"{window.col}-{window.col_stop} ({shown(' '.join(str(error).split()))}), all of it is "
            "needed: it is damaged or out of reach, check it or copy it again"
        ) from error


@dataclass(frozen=True, slots=True)
class Misfit:
    """How far re-simulated bands are from the scene, over some pixels."""

    squares: float
    """Sum of squared differences, in the cube's units."""
    values: int
    """Differences in it: pixels with data times bands."""


def total_rmse(misfits: Iterable[Misfit]) -> float:
    """Root mean square over all, NaN without any value."""
    squares = values = 0.0
    for misfit in misfits:
        squares += misfit.squares
        values += misfit.values
    return float(np.sqrt(squares / values)) if values else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """All that turns windows of one scene into blocks of its cube."""

    settings: Settings
    """What was asked for."""
    channels: ChannelGrid
    """Channels of the cube."""
    bands: tuple[str, ...]
    """Names of the bands that are used."""
    reader: SceneReader
    """The scene."""
    projection: Projection
    """Makes spectra agree with the used bands."""
    estimator: Estimator | None
    """Y0; None for method ``paper``."""
    correction: Correction | None
    """Scene-trained network on Y0, or None when there is none or its gate is shut."""
    gate: Gate | None
    """Why the correction is or is not used."""
    pixel_model: PixelModel | PretrainedMean | None
    """The paper's network, for method ``paper``: of this scene, or trained on other scenes."""
    paired: PairedPoints | None
    """What became of the points."""
    cross_validation: CrossValidation | None
    """Error at withheld points, or None where there are too few."""
    device: torch.device | None
    """Where networks and, on a GPU, the default estimator run; None where NumPy does everything, so
    that torch is not needed."""
    batch: MicroBatch
    """Tiles in one of their forward passes."""
    weights_hash: str | None
    """Hash of the weights file, or None."""
    notes: tuple[str, ...]
    """What a user should know about this fit."""
    lines: ChannelLines | None = None
    """What takes the cube to the scene's units; None leaves it in reflectance."""
    coverage: Coverage | None = None
    """What withheld points say of the estimator's standard deviations, in reflectance; None
    without an estimator or such points."""

    @property
    def calibration(self) -> Calibration | None:
        """Lines that turn the scene into reflectance, of the used bands, or None."""
        return self.reader.calibration

    @property
    def network(self) -> str | None:
        """Name of the network that takes part in the cube, of both if there are two, or None."""
        names = [] if self.correction is None else [NETWORK]
        if self.pixel_model is not None:
            names.append(self.pixel_model.net.name)
        if self.reader.network is not None:
            names.append(self.reader.network.model.net.name)
        return " and ".join(dict.fromkeys(names)) or None

    @property
    def blend(self) -> dict[str, float] | None:
        """Weight of each prior mean, by its name; None where the method blends none."""
        if not isinstance(self.estimator, BlendedEstimator):
            return None
        return {name: round(weight, 4) for name, weight in self.estimator.weights.items()}

    def labels_in_units(self) -> Labels | None:
        """The labels with their spectra in the cube's units; None without points."""
        if self.paired is None or self.lines is None:
            return self.paired.labels if self.paired else None
        labels = self.paired.labels
        return replace(labels, spectra=self.lines.on_spectra(labels.spectra))

    def on(self, device: torch.device) -> FittedModel:
        """The same model with its networks and its default estimator moved to a device."""
        # Copies: moving a module changes it, for whoever else holds it too.
        correction, pixel_model = self.correction, self.pixel_model
        reader, batch = self.reader, micro_batch(self.settings, device)
        with _enough_memory(device):
            if correction is not None:
                correction = copy.deepcopy(correction).to(device)
            if pixel_model is not None:
                pixel_model = pixel_model.to(device)
            estimator = self.estimator
            if isinstance(estimator, BlendedEstimator):
                estimator = _placed(estimator, self.settings, device)
            if reader.network is not None:
                reader = replace(reader, network=reader.network.on(device, batch))
        return replace(
            self,
            reader=reader,
            estimator=estimator,
            correction=correction,
            pixel_model=pixel_model,
            device=device,
            batch=batch,
        )

    @property
    def movable(self) -> bool:
        """Whether a part of it can run on a GPU."""
        return self.network is not None or isinstance(self.estimator, BlendedEstimator)

    def holding(self, plan: TilePlan, window: Window) -> FittedModel:
        """The same model with all that a block needs of the scene read now, once."""
        halo = 0 if self.estimator is None else self.estimator.halo
        seen = self._estimated(plan, window)
        needed = seen.expand(halo).clip(self.reader.shape)
        if self.reader.network is not None:
            needed = needed.union(self.reader.network.needs(seen))
        return replace(self, reader=self.reader.holding(needed))

    def _estimated(self, plan: TilePlan, window: Window) -> Window:
        """What a block asks the estimator, or the paper's network, about."""
        by_tiles = self.correction is not None or self.pixel_model is not None
        return plan.read_window(window) if by_tiles else window

    def _informed(
        self,
        plan: TilePlan,
        window: Window,
        pool: Executor | None,
        stop: threading.Event | None,
    ) -> FittedModel:
        """The same model, which has what its prior network says of a block at hand."""
        if self.reader.network is None:
            return self
        assert self.device is not None
        with _enough_memory(self.device):
            seen = self._estimated(plan, window)
            return replace(self, reader=self.reader.informed([seen], pool=pool, stop=stop))

    def block(
        self,
        plan: TilePlan,
        window: Window,
        pool: Executor | None = None,
        stop: threading.Event | None = None,
    ) -> NDArray[np.float32]:
        """One block of the cube, ``(channel, y, x)``, NaN where the scene has no data.

        In reflectance, or in the scene's units where the settings ask for them.

        Parameters
        ----------
        plan, window
            The lattice of tiles and one of its blocks.
        pool
            Threads for the network's tiles; None runs them one after the other.
        stop
            Looked at before every forward pass; when set, the block is given up.
        """
        if self.estimator is None:
            cube = self._blended(plan, window, self._pixel_tiles, pool, stop)
            return self._finished(cube, plan, window, pool, stop)
        model = self._informed(plan, window, pool, stop)
        with _enough_memory(self.device):
            cube = self.estimator.mean(model.reader.view_for(self.estimator, window))
        return model._finished(cube, plan, window, pool, stop)

    def estimate(
        self,
        plan: TilePlan,
        window: Window,
        pool: Executor | None = None,
        stop: threading.Event | None = None,
    ) -> Estimate:
        """One block of the cube as :meth:`block` gives it, and what is known of its error.

        Deviation and extrapolation are the estimator's, also where a network takes part; the
        deviation is in the cube's units. Both are NaN where the scene has no data.

        Parameters
        ----------
        plan, window, pool, stop
            See :meth:`block`.

        Raises
        ------
        SettingsError
            If the method has no estimator.
        """
        check_uncertainty(self.settings)
        assert self.estimator is not None
        model = self._informed(plan, window, pool, stop)
        with _enough_memory(self.device):
            found = self.estimator.predict(model.reader.view_for(self.estimator, window))
        empty = np.isnan(found.mean[0])
        deviation, extrapolation = found.deviation, found.extrapolation
        deviation[:, empty] = np.nan
        extrapolation[empty] = np.nan
        if self.lines is not None:
            deviation = self.lines.on_deviation(deviation)
        cube = model._finished(found.mean, plan, window, pool, stop)
        return Estimate(mean=cube, deviation=deviation, extrapolation=extrapolation)

    def _finished(
        self,
        cube: NDArray[np.float32],
        plan: TilePlan,
        window: Window,
        pool: Executor | None,
        stop: threading.Event | None,
    ) -> NDArray[np.float32]:
        """A block of the cube out of what estimator or pixel model give; in place."""
        if self.correction is not None and self.gate is not None:
            tiles = partial(self._correction_tiles, plan)
            found = self._blended(plan, window, tiles, pool, stop)
            found *= self.gate.value
            cube += found
            cube = self.projection.on_cube(cube, self.reader.window(window))
        return self._in_units(cube, window)

    def _in_units(self, cube: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """A block of reflectance in the units that are asked for; in place."""
        if self.lines is None:
            return cube
        assert self.calibration is not None
        if self.estimator is None:
            # The paper's cube need not re-simulate the scene; what it does is what is kept.
            bands = self.calibration.off_block(self._simulated(cube))
        else:
            bands = self.reader.raw(window)
        return self.projection.on_cube(self.lines.on_cube(cube), bands)

    def _simulated(self, cube: NDArray[np.float32]) -> NDArray[np.float32]:
        """A block of the cube seen through the bands, ``(band, y, x)``."""
        response = self.projection.response.astype("f4")
        bands = np.empty((len(response), cube[0].size), "f4")
        for part, (spectra,) in slabs(cube):
            bands[:, part] = (response @ spectra)[:, : part.stop - part.start]
        return bands.reshape(-1, *cube.shape[1:])

    def misfit(self, cube: NDArray[np.float32], window: Window) -> Misfit:
        """How far a block of the cube, seen through the bands, is from the scene."""
        scene = self.reader.window(window) if self.lines is None else self.reader.raw(window)
        difference = self._simulated(cube) - scene
        known = difference[np.isfinite(difference)].astype("f8")
        return Misfit(float((known**2).sum()), known.size)

    def _blended(
        self,
        plan: TilePlan,
        window: Window,
        tiles: TileFunction,
        pool: Executor | None,
        stop: threading.Event | None,
    ) -> NDArray[np.float32]:

        from pixelssr_geo.nets.precision import products_in
        from pixelssr_geo.training.loop import side_by_side

        assert self.device is not None
        with (
            products_in(self.settings.precision, self.device),
            side_by_side(self.device),
            _enough_memory(self.device),
        ):
            return blend_block(
                plan,
                window,
                tiles,
                self.reader.window,
                channels=len(self.channels),
                batch=self.batch,
                pool=pool,
                stop=stop,
            )

    def _pixel_tiles(
        self, stack: NDArray[np.float32], tiles: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        assert self.pixel_model is not None
        assert self.device is not None
        return self.pixel_model(stack, tiles, self.device)

    def _correction_tiles(
        self, plan: TilePlan, stack: NDArray[np.float32], tiles: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        from pixelssr_geo.training.correction import correct_tiles

        assert self.correction is not None
        assert self.estimator is not None
        assert self.device is not None
        windows = [plan.tile_window(int(tile)) for tile in tiles]
        estimates = [
            self.reader.estimate(self.estimator, one.row, one.col, plan.tile) for one in windows
        ]
        return correct_tiles(self.correction, estimates, stack, self.device)


def check_uncertainty(settings: Settings) -> None:
    """Do nothing if the method knows something about its error.

    Raises
    ------
    SettingsError
        If it has no estimator.
    """
    if settings.method == "paper":
        raise SettingsError(
            "method 'paper' gives a cube and nothing on its error, --uncertainty (uncertainty=...) "
            "needs an estimator: use another --method, or leave it out"
        )


def micro_batch(settings: Settings, device: torch.device | None) -> MicroBatch:
    """Tiles in a forward pass.

    On a CPU one, whatever the settings say: tiles beside each other in threads use its cores
    better, and the size of a batch would change the last bits of some operations.
    """
    on_cpu = device is None or device.type == "cpu"
    tiles = 1 if on_cpu else settings.batch_size or GPU_BATCH
    return MicroBatch(tiles, _lacks_memory)


@contextmanager
def _enough_memory(device: torch.device | None) -> Iterator[None]:
    """Turn the lack of a device's memory, where no smaller batch helps, to a DeviceError."""
    if device is None:
        yield
        return
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"device {device} has too little memory for what is computed on it at a time, other "
            "programs may occupy it: free it, give a smaller --tile, or --device cpu"
        ) from error


def _placed(
    estimator: BlendedEstimator, settings: Settings, device: torch.device | None
) -> BlendedEstimator:
    """The estimator on a device, None being the CPU without torch."""
    # A network's TF32 rounds the products of all threads, and those of float32 here bear none.
    return estimator.on(device, double=settings.precision == "tf32")


def _lacks_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)


def fit(
    scene: xr.DataArray,
    points: PointSpectra | None,
    settings: Settings,
    *,
    response: SpectralResponse | None = None,
    device: torch.device | None = None,
    kept: Path | None = None,
    progress: Progress | None = None,
) -> FittedModel:
    """Fit what the settings ask for on a scene and its points.

    The scene is read once from end to end for the mean and deviation of its bands, a second time for
    the features of the default estimator (of a large scene, in windows), and around the points;
    networks are trained here.

    Parameters
    ----------
    scene
        Reflectance, dims ``(band, y, x)``, lazy or not, NaN for nodata.
    points
        Field spectra, or None.
    settings
        What to do.
    response
        Spectral response of the scene's bands; by default what the scene says.
    device
        Where to train; by default what the settings say.
    kept
        Where a trained network is kept, ``*.safetensors``: read if the file is there, else written.
        For a run that goes on; everything else is fitted again, to the same result.
    progress
        Called as stages advance.

    Raises
    ------
    PixelSSRError
        If scene, points and settings cannot be brought together; the message says how to cure it.
    """
    tell = progress or _silent
    device = run_device(settings, points) if device is None else device
    if settings.method in NETWORK_METHODS and (settings.net_options or device is not None):
        _check_network(settings, points)
    if device is not None and may_use_network(settings, points):
        from pixelssr_geo.nets.scan import chosen_backend

        chosen_backend(settings.net_options.get("scan_backend", "auto"), device)
    scene = _ordered(scene)
    if response is None:
        response = scene_response(scene)
    check_response(response, scene.sizes["band"], "response")
    channels = resolve_channels(settings, points)
    notes = _range_notes(settings, channels, points) + _channel_notes(settings, channels, points)
    used = usable_bands(response, channels)
    notes += _band_notes(response, used)
    matrix = response.matrix(channels)[used]
    paired, calibration = _paired_and_calibrated(scene, points, settings, channels, response, used)
    reader = SceneReader(scene.data[used], calibration=calibration)
    labels = _usable_labels(paired, used)
    _check_labels(settings, labels)
    statistics = scene_statistics(reader, tell)
    _check_size(statistics)
    if calibration is not None:
        notes += calibration.notes([response.names[i] for i in used])
    notes += _label_notes(settings, labels)
    if device is None or device.type == "cpu":
        notes += _idle_on_cpu(settings)
    lines = None
    if calibration is not None and settings.units == "scene":
        lines = calibration.on_channels(response.centres_nm[used], channels.centres_nm)
    context = _Context(
        settings=settings,
        channels=channels,
        band_centres_nm=tuple(map(float, response.centres_nm[used])),
        matrix=matrix,
        reader=reader,
        labels=labels,
        statistics=statistics,
        run_device=device,
        progress=tell,
        kept=kept,
    )
    base = FittedModel(
        settings=settings,
        channels=channels,
        bands=tuple(response.names[i] for i in used),
        reader=reader,
        projection=Projection.of(matrix),
        estimator=None,
        correction=None,
        gate=None,
        pixel_model=None,
        paired=paired,
        cross_validation=None,
        device=device,
        batch=micro_batch(settings, device),
        weights_hash=None,
        notes=tuple(notes),
        lines=lines,
    )
    # Products are small: in pieces they take longer, and their last bits would depend on the cores.
    if device is None:
        with products_on_one_thread():
            return _with_estimator(base, context)
    from pixelssr_geo.nets.precision import products_in

    with (
        products_in(settings.precision, device),
        _enough_memory(device),
        products_on_one_thread(),
    ):
        if settings.method == "paper":
            return _with_pixel_model(base, context)
        return _with_estimator(base, context)


def _check_network(settings: Settings, points: PointSpectra | None) -> None:
    """Check the network's name and options before anything else is done.

    Raises
    ------
    UnknownNetError
        If the name is not registered.
    SettingsError
        If an option does not fit the network.
    """
    from pixelssr_geo.nets.prompted import check_pixel_options
    from pixelssr_geo.nets.registry import net_config

    check = net_config if points is None else check_pixel_options
    check(settings.net, settings.net_options)


def may_use_network(settings: Settings, points: PointSpectra | None) -> bool:
    """Return whether a network may take part in a run."""
    if settings.weights is not None or settings.method in ("dypro", "paper"):
        return True
    enough = points is not None and len(points) >= GATE_POINTS
    return settings.method == "product" and enough


def estimates_on_gpu(settings: Settings) -> bool:
    """Return whether the default estimator runs on a GPU with or without a network beside it.

    It does where a GPU was asked for by its name: to look for one would import torch, which takes
    longer than many a run.
    """
    return settings.device.startswith("cuda") and settings.method in BLEND_METHODS


def may_use_gpu(settings: Settings, points: PointSpectra | None) -> bool:
    """Return whether a run computes on a GPU if there is one.

    Networks do, and the default estimator beside them.
    """
    return estimates_on_gpu(settings) or may_use_network(settings, points)


def run_device(settings: Settings, points: PointSpectra | None) -> torch.device | None:
    """Where networks and the default estimator run, None where NumPy does everything.

    Raises
    ------
    DeviceError
        If CUDA is asked for and absent, whether it is needed or not.
    """
    needed = may_use_gpu(settings, points)
    if needed or settings.device.startswith("cuda"):
        device = resolve_device(settings.device)
        return device if needed else None
    return None


def train(
    scene: xr.DataArray,
    points: PointSpectra | None,
    path: str | Path,
    *,
    response: SpectralResponse | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> CrossValidation | None:
    """Train a network as the paper does on a scene and write its weights.

    With points this is Pixel-SSR; without, the unsupervised mode. ``net="mst++"`` trains another
    than DyPro-Mamba. The weights serve ``reconstruct`` with ``method="paper"`` on scenes of the same
    sensor.

    Parameters
    ----------
    scene, points, response, progress
        See :func:`fit`.
    path
        Weights to write, ``*.safetensors``.
    **options
        Fields of :class:`pixelssr_geo.settings.Settings`, such as ``steps=400``.

    Returns
    -------
    CrossValidation or None
        Error at the points that were held out, from five points on.

    Raises
    ------
    PixelSSRError
        If the inputs do not fit together or the weights cannot be written.
    """
    from pixelssr_geo.settings import Settings
    from pixelssr_geo.training.pixel import PixelModel, save_pixel_model
    from pixelssr_geo.writers import check_output

    taken = [f"method '{options['method']}'"] if options.get("method", "paper") != "paper" else []
    if taken := [*taken, *({"weights"} & options.keys())]:
        raise SettingsError(
            f"train was given {', '.join(taken)}, it trains the paper's network from nothing: leave "
            "that out, or call reconstruct to use weights"
        )
    check_output(path, overwrite=True)
    settings = Settings.of(**{**options, "method": "paper"})
    model = fit(scene, points, settings, response=response, progress=progress)
    assert isinstance(model.pixel_model, PixelModel)
    mode = "pixel" if model.paired is not None and len(model.paired.labels) else "unsupervised"
    save_pixel_model(path, model.pixel_model, net=model.pixel_model.net.name, mode=mode)
    return model.cross_validation


def resolve_device(name: str) -> torch.device:
    """The torch device of that name, ``auto`` being the first GPU or else the CPU.

    Raises
    ------
    DeviceError
        If CUDA is asked for and absent.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(
            f"device '{name}' was asked for and PyTorch sees {count} CUDA devices: give --device "
            "cpu, or install a CUDA build of PyTorch"
        )
    return device


def resolve_channels(settings: Settings, points: PointSpectra | None) -> ChannelGrid:
    """The channel grid that the settings ask for, by default cut to the range of the points.

    Raises
    ------
    WavelengthGridError
        If the grid is malformed.
    """
    asked = settings.wavelengths
    if asked is None:
        return default_channels(points, fwhm_nm=settings.fwhm)
    if asked.startswith("like:"):
        return cube_channels(open_cube(asked.removeprefix("like:")), fwhm_nm=settings.fwhm)
    return ChannelGrid.from_spec(asked, settings.fwhm)


def scene_statistics(reader: SceneReader, progress: Progress) -> SceneStatistics:
    """Mean and deviation of the bands over all valid pixels, in one streaming pass.

    Raises
    ------
    SceneError
        If no pixel is valid.
    """
    height, width = reader.shape
    windows = [
        Window(row, col, STATISTICS_BLOCK, STATISTICS_BLOCK).clip(reader.shape)
        for row in range(0, height, STATISTICS_BLOCK)
        for col in range(0, width, STATISTICS_BLOCK)
    ]

    def sums(window: Window) -> tuple[int, Any, Any]:
        values = reader.window(window)
        good = values[:, np.isfinite(values[0])].astype("f8")
        return good.shape[1], good.sum(1), np.einsum("bn,bn->b", good, good)

    count, total, square = 0, 0.0, 0.0
    with ThreadPoolExecutor(min(len(windows), core_count())) as pool:
        found = pool.map(sums, windows)
        try:
            # In the order of the windows, whichever is read first: the same sums every time.
            for done, (known, first, second) in enumerate(found, 1):
                count, total, square = count + known, total + first, square + second
                progress("reading the scene", done, len(windows))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not count:
        raise SceneError(
            "every pixel of the scene is nodata in some band, valid pixels are needed: check the "
            "nodata value and the mask"
        )
    mean = np.asarray(total) / count
    return SceneStatistics(mean, np.sqrt(np.maximum(np.asarray(square) / count - mean**2, 0)))


def feature_scale(reader: SceneReader, statistics: SceneStatistics) -> FeatureScale:
    """Mean and deviation of the features that the default estimator sees, over the scene.

    Of a large scene, over :data:`SCALE_WINDOWS` windows of 128 x 128 pixels drawn at random, always
    the same ones.
    """
    height, width = reader.shape
    windows = [
        Window(row, col, SCALE_SIDE, SCALE_SIDE).clip(reader.shape)
        for row in range(0, height, SCALE_SIDE)
        for col in range(0, width, SCALE_SIDE)
    ]
    if len(windows) > SCALE_WINDOWS:
        order = np.random.default_rng(0).permutation(len(windows))
        windows = [windows[at] for at in order]
    level = feature_level(statistics.mean, statistics.deviation)
    total = FeatureSums(level)

    def sums(window: Window) -> FeatureSums:
        found = FeatureSums(level)
        found.add(reader.view(window, HALO))
        return found

    with ThreadPoolExecutor(min(len(windows), core_count())) as pool:
        for start in range(0, len(windows), SCALE_WINDOWS):
            # In the order of the windows, whichever is done first: the same sums every time.
            for found in pool.map(sums, windows[start : start + SCALE_WINDOWS]):
                total.merge(found)
            if total.count:
                break
    return total.scale()


def with_surroundings(labels: Labels, reader: SceneReader) -> Labels:
    """The labels with the 9 x 9 pixels of the scene around each."""
    bands = labels.bands.shape[1]
    side = 2 * HALO + 1
    around = np.empty((len(labels), bands, side, side), "f4")
    tiles = np.stack([labels.rows, labels.cols], axis=1) // STATISTICS_BLOCK
    for tile in np.unique(tiles, axis=0):
        inside = np.flatnonzero((tiles == tile).all(1))
        # One read for all that lie near each other.
        row, col = int(labels.rows[inside].min()), int(labels.cols[inside].min())
        height = int(labels.rows[inside].max()) - row + 1
        width = int(labels.cols[inside].max()) - col + 1
        view = reader.view(Window(row, col, height, width), HALO)
        around[inside] = view.around(labels.rows[inside], labels.cols[inside])
    return replace(labels, surroundings=around)


@dataclass(frozen=True, slots=True, eq=False)
class _Context:
    """What the fits share."""

    settings: Settings
    channels: ChannelGrid
    band_centres_nm: tuple[float, ...]
    matrix: NDArray[np.float64]
    reader: SceneReader
    labels: Labels | None
    statistics: SceneStatistics
    run_device: torch.device | None
    progress: Progress
    kept: Path | None

    @property
    def device(self) -> torch.device:
        assert self.run_device is not None
        return self.run_device

    @property
    def count(self) -> int:
        return 0 if self.labels is None else len(self.labels)

    def placed(self, estimator: BlendedEstimator) -> BlendedEstimator:
        return _placed(estimator, self.settings, self.run_device)


def _with_estimator(base: FittedModel, context: _Context) -> FittedModel:
    method, labels = context.settings.method, context.labels
    if method == "ridge":
        projection = base.projection
        estimator = fit_points_alone(labels, projection)
        fitted = replace(base, estimator=estimator)
        return _validated(fitted, context, lambda kept: fit_points_alone(kept, projection))
    if method == "library":
        alone = library_alone(fit_library(context.channels, context.matrix, shapes=False))
        return _library_validated(replace(base, estimator=alone), labels, alone)
    library = fit_library(context.channels, context.matrix)
    scale = feature_scale(context.reader, context.statistics)
    if context.settings.weights is not None:
        base, context = _with_network(base, context)
    if labels is None or not len(labels):
        known = base.reader.network is not None
        blend = blend_library(library, scale, network=known)
        return replace(base, estimator=context.placed(blend))
    context = replace(context, labels=_with_features(labels, context))
    return _with_blend(base, context, library, scale)


def _with_network(base: FittedModel, context: _Context) -> tuple[FittedModel, _Context]:
    """Let the estimator see what the network of given weights says of the scene."""
    settings = context.settings
    assert settings.weights is not None
    network = SceneNetwork(
        model=_trained_model(settings.weights, context),
        plan=plan_tiles(context.reader.shape, tile=settings.tile, overlap=settings.overlap),
        channels=len(context.channels),
        device=context.device,
        batch=base.batch,
        precision=settings.precision,
    )
    reader = replace(context.reader, network=network)
    notes = list(base.notes)
    if context.count < FIT_POINTS:
        notes.append(
            f"{context.count} points cannot tell whether the weights' network helps, {FIT_POINTS} "
            "and more do: its weight in the blend is a guess"
        )
    base = replace(
        base, reader=reader, weights_hash=weights_hash(settings.weights), notes=tuple(notes)
    )
    return base, replace(context, reader=reader)


def _with_features(labels: Labels, context: _Context) -> Labels:
    """The labels with all that the default estimator wants to know of their pixels."""
    labels = with_surroundings(labels, context.reader)
    network = context.reader.network
    if network is None:
        return labels
    with tile_pool(network.device) as pool:
        said = network.at(
            labels.rows,
            labels.cols,
            context.reader.window,
            pool=pool,
            progress=partial(context.progress, "the weights' network at the points"),
        )
    return replace(labels, network=said)


def _with_blend(
    base: FittedModel, context: _Context, library: LibraryPrior, scale: FeatureScale
) -> FittedModel:
    """Fit the default estimator, and a network on it where the method asks for one."""
    assert context.labels is not None
    estimator = context.placed(fit_blend(context.labels, library, scale))
    if context.reader.network is not None and not estimator.sees_network:
        # What the points speak against is not computed: neither over the scene nor for the folds.
        told = (
            f"the weights' network is not used: its weight in the blend is under {LEAST_WEIGHT:.0%}"
        )
        reader = replace(context.reader, network=None)
        base = replace(base, reader=reader, notes=(*base.notes, told))
        labels = replace(context.labels, network=None)
        context = replace(context, reader=reader, labels=labels)
    kept = estimator.parameters if context.count > REFIT_POINTS else None

    def fitted_on(labels: Labels) -> BlendedEstimator:
        return context.placed(fit_blend(labels, library, scale, parameters=kept))

    fitted = replace(base, estimator=estimator, notes=(*base.notes, *_point_notes(context)))
    method = context.settings.method
    if method == "dypro" or (method == "product" and context.count >= GATE_POINTS):
        return _with_correction(fitted, context, fitted_on, estimator)
    if method == "product":
        note = f"{context.count} points: the network correction is tried from {GATE_POINTS} on"
        fitted = replace(fitted, notes=(*fitted.notes, note))
    return _validated(fitted, context, fitted_on)


def _point_notes(context: _Context) -> list[str]:
    """That points are too few, or too close together, to tell the error of the whole scene."""
    labels = context.labels
    assert labels is not None
    if len(labels) < TELLING_POINTS:
        return [
            f"{len(labels)} points are too few to tell the error well: {TELLING_POINTS} or more do"
        ]
    height, width = context.reader.shape
    # Quantiles: a single point far from a cluster changes little.
    rows, cols = (np.ptp(np.quantile(at, [0.05, 0.95])) for at in (labels.rows, labels.cols))
    share = (rows + 1) * (cols + 1) / (height * width)
    if share >= SPREAD_SHARE:
        return []
    told = (
        f"the points lie in {share:.0%} of the scene: elsewhere the error is larger than withheld "
        "points tell, spread them over the scene and its brightness"
    )
    return [told]


def _library_validated(
    fitted: FittedModel, labels: Labels | None, estimator: Estimator
) -> FittedModel:
    """Add the error at the points, which the library has not seen."""
    if labels is None or not len(labels):
        return fitted
    errors = labels.spectra - estimator.at(labels)
    folds = spatial_folds(labels.rows, labels.cols, folds=5, seed=fitted.settings.seed)
    return replace(
        fitted,
        cross_validation=_validation(labels, errors, folds),
        coverage=Coverage.of(errors, estimator.deviation_at(labels)),
    )


def _validated(
    fitted: FittedModel, context: _Context, fitted_on: Callable[[Labels], Estimator]
) -> FittedModel:
    """Add the error at points whose spatial block was withheld."""
    labels = context.labels
    if labels is None or len(labels) < 2:
        return fitted
    folds = spatial_folds(labels.rows, labels.cols, folds=5, seed=context.settings.seed)
    errors, deviations = withheld(fitted_on, labels, folds)
    return _with_coverage(
        replace(fitted, cross_validation=_validation(labels, errors, folds)), errors, deviations
    )


def _with_coverage(
    fitted: FittedModel, errors: NDArray[np.float64], deviations: NDArray[np.float64]
) -> FittedModel:
    """Fit the size of deviations to errors at withheld points, and say how often they held."""
    estimator = fitted.estimator
    if isinstance(estimator, BlendedEstimator):
        factor = widening(errors, deviations)
        estimator, deviations = estimator.widened(factor), factor * deviations
    return replace(fitted, estimator=estimator, coverage=Coverage.of(errors, deviations))


def _with_correction(
    base: FittedModel,
    context: _Context,
    fitted_on: Callable[[Labels], BlendedEstimator],
    estimator: BlendedEstimator,
) -> FittedModel:
    """Add a network trained on the scene; the product's must pass the gate first."""
    from pixelssr_geo.training.correction import (
        CorrectionPlan,
        correction_at,
        load_correction,
        save_correction,
        train_correction,
    )
    from pixelssr_geo.training.loop import side_by_side, work_alone

    labels, settings = context.labels, context.settings
    assert labels is not None
    reader = context.reader
    plan = CorrectionPlan(seed=settings.seed, net_options=settings.net_options)
    if settings.steps is not None:
        plan = replace(plan, steps=settings.steps)
    if context.kept is not None and context.kept.exists():
        correction, about = load_correction(
            context.kept, estimator, labels, plan, device=context.device
        )
        gate = Gate(**about["gate"])
        return replace(
            base,
            estimator=estimator.widened(about["widening"]),
            correction=correction,
            gate=gate,
            cross_validation=CrossValidation(**about["cross_validation"]),
            coverage=Coverage(**about["coverage"]),
            notes=(*base.notes, str(gate)),
        )
    if reader.network is not None:
        reader = _informed_around(labels, context)
    folds = spatial_folds(labels.rows, labels.cols, folds=settings.folds, seed=settings.seed)
    errors, found = np.empty_like(labels.spectra), np.zeros_like(labels.spectra)
    deviations = np.empty_like(labels.spectra)
    stop = threading.Event()

    def train_fold(number: int) -> None:
        out = folds.fold == number
        kept, missing = labels.take(~out), labels.take(out)
        fold_estimator = fitted_on(kept)
        stage = f"training, fold {number + 1} of {folds.count}"
        fold_net, _ = train_correction(
            fold_estimator,
            kept,
            reader,
            plan,
            device=context.device,
            progress=_stage(context.progress, stage, stop),
        )
        errors[out] = missing.spectra - fold_estimator.at(missing)
        deviations[out] = fold_estimator.deviation_at(missing)
        found[out] = correction_at(fold_net, fold_estimator, missing, reader, device=context.device)

    with (
        side_by_side(context.device) as workers,
        ThreadPoolExecutor(workers, initializer=None if workers == 1 else work_alone) as pool,
    ):
        try:
            list(pool.map(train_fold, range(folds.count)))
        except BaseException:
            # The pool waits for the other folds, which nobody needs any more.
            stop.set()
            raise
    gate = fit_gate(errors, found, folds, seed=settings.seed)
    if settings.method == "dypro":
        gate = replace(gate, value=1.0)
    log.info("%s", gate)
    fitted = _with_coverage(base, errors, deviations)
    assert isinstance(fitted.estimator, BlendedEstimator)
    estimator = fitted.estimator
    fitted = replace(
        fitted,
        gate=gate,
        cross_validation=_validation(labels, errors - gate.value * found, folds),
        notes=(*base.notes, str(gate)),
    )
    if gate.value:
        correction, _ = train_correction(
            estimator,
            labels,
            reader,
            plan,
            device=context.device,
            progress=_stage(context.progress, "training on all points"),
        )
        fitted = replace(fitted, correction=correction)
    if context.kept is not None:
        assert fitted.cross_validation is not None
        assert fitted.coverage is not None
        about = {
            "gate": asdict(gate),
            "widening": estimator.widening,
            "cross_validation": asdict(fitted.cross_validation),
            "coverage": asdict(fitted.coverage),
        }
        save_correction(context.kept, fitted.correction, about)
    return fitted


def _informed_around(labels: Labels, context: _Context) -> SceneReader:
    """The reader with what the weights' network says at hand wherever a correction looks."""
    from pixelssr_geo.training.correction import CONTEXT

    reader = context.reader
    assert reader.network is not None
    # A patch holds its label, wherever it lies in it.
    windows = [
        Window(int(row), int(col), 1, 1).expand(CONTEXT).clip(reader.shape)
        for row, col in zip(labels.rows, labels.cols, strict=True)
    ]
    rows, cols = reader.shape
    if sum(window.height * window.width for window in windows) >= rows * cols:
        windows = [Window(0, 0, rows, cols)]
    stage = partial(context.progress, "the weights' network around the points")
    with tile_pool(reader.network.device) as pool:
        return reader.informed(windows, pool=pool, progress=stage)


def _with_pixel_model(base: FittedModel, context: _Context) -> FittedModel:
    """Train or load the paper's network."""
    from pixelssr_geo.training.pixel import load_pixel_model, save_pixel_model

    settings, labels, kept = context.settings, context.labels, context.kept
    if settings.weights is not None:
        trained = _trained_model(settings.weights, context)
        return replace(base, pixel_model=trained, weights_hash=weights_hash(settings.weights))
    if kept is not None and kept.exists():
        model, about = load_pixel_model(kept, device=context.device)
        found = about.get("cross_validation")
        validation = CrossValidation(**found) if found else None
        return replace(base, pixel_model=model, cross_validation=validation)
    fitted = _train_pixel_model(context)
    validation = (
        _validation(labels.take(fitted.held), fitted.held_errors)
        if labels is not None and len(fitted.held)
        else None
    )
    if kept is not None:
        known = {"cross_validation": asdict(validation) if validation else None}
        mode = "unsupervised" if labels is None or not len(labels) else "pixel"
        save_pixel_model(kept, fitted.model, net=fitted.model.net.name, mode=mode, **known)
    return replace(base, pixel_model=fitted.model, cross_validation=validation)


def _trained_model(weights: str, context: _Context) -> PixelModel | PretrainedMean:
    """The network of given weights: for this sensor and these channels, or for any.

    Raises
    ------
    WeightsError
        If the file is broken or its network is for other bands or channels.
    """
    from pixelssr_geo.training.checkpoint import load_checkpoint
    from pixelssr_geo.training.pixel import load_pixel_model
    from pixelssr_geo.training.pretrained import PretrainedMean, holds_cubes, load_residual_net

    device, settings, path = context.device, context.settings, weights_path(weights)
    backend = settings.net_options.get("scan_backend", "auto")
    if holds_cubes(load_checkpoint(path)[1]):
        net, _ = load_residual_net(path, device=device, scan_backend=backend)
        return PretrainedMean.of(
            net, context.channels, context.matrix, context.statistics.mean, seed=settings.seed
        )
    model, _ = load_pixel_model(path, device=device, scan_backend=backend)
    _check_weights(path, model, context.band_centres_nm, context.channels)
    return replace(model, seed=settings.seed)


def _train_pixel_model(context: _Context) -> PixelFit:
    """Train the paper's network; see :func:`pixelssr_geo.training.pixel.train_pixel`."""
    from pixelssr_geo.losses import LossWeights
    from pixelssr_geo.training.pixel import PixelPlan, train_pixel

    settings, labels, statistics = context.settings, context.labels, context.statistics
    # The brightest band's mean plus four deviations becomes one, the range of the paper's images.
    brightest = float((statistics.mean + 4 * statistics.deviation).max())
    if not brightest > 0:
        raise SceneError(
            f"no band of the scene rises above {brightest:g}, a network needs reflectance to train "
            "on: check the scene's nodata value and --scale"
        )
    gain = 1 / brightest
    prior = _point_prior(context, gain)
    plan = PixelPlan(
        seed=settings.seed,
        label_ratio=settings.label_ratio,
        removed=settings.mask == "removed",
        redraw=settings.redraw,
        point_loss_everywhere=settings.point_loss == "everywhere",
        net_options=settings.net_options,
    )
    if settings.steps is not None:
        plan = replace(plan, steps=settings.steps)
    return train_pixel(
        labels,
        context.reader,
        context.matrix,
        prior,
        plan,
        gain=gain,
        band_centres_nm=context.band_centres_nm,
        channel_centres_nm=tuple(context.channels.centres_nm),
        net=settings.net,
        weights=LossWeights(*settings.loss_weights),
        device=context.device,
        progress=_stage(context.progress, "training"),
    )


def _point_prior(context: _Context, gain: float) -> PointPrior:
    """Return the distribution of the modelled spectra, reflectance times ``gain``.

    As given, or fitted on the labels, or on library mixtures where there is none.
    """
    from pixelssr_geo.estimator.library import random_mixtures
    from pixelssr_geo.prior import fit_prior, given_prior

    settings, labels, channels = context.settings, context.labels, context.channels
    if settings.prior_parameters is not None:
        first, second = settings.prior_parameters
        if settings.prior == "gaussian":
            first *= gain
        return given_prior(first, second * gain, len(channels), settings.prior)
    if labels is not None and len(labels):
        spectra = labels.spectra
    else:
        spectra = random_mixtures(load_library(), channels, count=2000, seed=settings.seed)
    return fit_prior(spectra * gain, settings.prior)


def _check_weights(
    path: Path, model: PixelModel, band_centres: tuple[float, ...], channels: ChannelGrid
) -> None:
    trained = np.array(model.band_centres_nm)
    if len(trained) != len(band_centres) or np.abs(trained - band_centres).max() > 15:
        raise WeightsError(
            f"'{path}' was trained on bands at {_listed(trained)} nm, the scene has "
            f"{_listed(np.array(band_centres))} nm: train weights for this sensor"
        )
    known = np.array(model.channel_centres_nm)
    if len(known) != len(channels) or np.abs(known - channels.centres_nm).max() > 0.5:
        raise WeightsError(
            f"'{path}' gives {len(known)} channels {known[0]:.0f}-{known[-1]:.0f} nm, the cube "
            f"has {len(channels)} ({channels.centres_nm[0]:.0f}-{channels.centres_nm[-1]:.0f} nm): "
            "give --wavelengths as in training"
        )


def _validation(
    labels: Labels, errors: NDArray[np.float64], folds: SpatialFolds | None = None
) -> CrossValidation:
    from pixelssr_geo.metrics import sam

    truth = labels.spectra.T[:, :, None]
    blocks = np.arange(len(errors)) if folds is None else folds.block
    spread = rmse_spread(errors, blocks)
    return CrossValidation(
        rmse=float(np.sqrt((errors**2).mean())),
        sam=float(sam(truth - errors.T[:, :, None], truth)),
        n=len(errors),
        spread=None if np.isnan(spread) else spread,
    )


def _paired_and_calibrated(
    scene: xr.DataArray,
    points: PointSpectra | None,
    settings: Settings,
    channels: ChannelGrid,
    response: SpectralResponse,
    used: NDArray[np.int64],
) -> tuple[PairedPoints | None, Calibration | None]:
    """What became of the points, and the lines that turn the used bands into reflectance."""

    def paired_on(scene: xr.DataArray, *, reject: bool) -> PairedPoints | None:
        if points is None:
            return None
        return pair_points(
            scene, points, channels=channels, response=response, reject_outliers=reject
        )

    kind = settings.calibrate
    if kind == "none":
        return paired_on(scene, reject=settings.reject_outliers), None
    # Which points are outliers is not to be seen before the bands are in the points' unit.
    labels = _usable_labels(paired_on(scene, reject=False), used)
    check_count(kind, 0 if labels is None else len(labels))
    assert labels is not None
    calibration = fit_calibration(
        labels.spectra @ response.matrix(channels)[used].T,
        labels.bands,
        kind,
        names=[response.names[i] for i in used],
    )
    calibrated = _calibrated(scene, calibration, used)
    return paired_on(calibrated, reject=settings.reject_outliers), calibration


def _calibrated(
    scene: xr.DataArray, calibration: Calibration, used: NDArray[np.int64]
) -> xr.DataArray:
    """The scene in reflectance, lazily; bands that are not used stay as they are."""
    lines = np.tile([[1.0], [0.0]], scene.sizes["band"])
    lines[:, used] = calibration.gain, calibration.offset
    gain, offset = lines[..., None, None]
    # In chunks, so that of a scene in memory nothing but the pixels under points is computed.
    chunks = {} if scene.chunks else {"y": STATISTICS_BLOCK, "x": STATISTICS_BLOCK}
    lazy = scene.chunk(chunks)
    return lazy.copy(data=(lazy.data - offset) / gain)


def _usable_labels(paired: PairedPoints | None, used: NDArray[np.int64]) -> Labels | None:
    if paired is None:
        return None
    return replace(paired.labels, bands=paired.labels.bands[:, used])


def _check_labels(settings: Settings, labels: Labels | None) -> None:
    # Said before the pass over the scene, which can take minutes.
    count = 0 if labels is None else len(labels)
    if settings.method == "dypro" and count < CORRECTION_POINTS:
        raise SettingsError(
            f"method 'dypro' trains on points and {count} are usable, it needs "
            f"{CORRECTION_POINTS}: give more --points, or use --method product"
        )


def _label_notes(settings: Settings, labels: Labels | None) -> list[str]:
    """What the method does without points, or that it makes no use of them."""
    some = labels is not None and len(labels) > 0
    match settings.method, settings.weights, some:
        case "paper", None, False:
            return ["trained without points: L_rep and L_SSIM alone (unsupervised)"]
        case "paper", str(), True if settings.calibrate != "none":
            return ["the points are used to calibrate the scene alone, not the weights"]
        case "paper", str(), True:
            return ["the points are not used: the weights are taken as they were trained"]
        case "library", _, True if settings.calibrate != "none":
            return ["the points are used to calibrate the scene and to measure the error"]
        case "library", _, True:
            return ["the points are used to measure the error alone"]
        case ("paper", _, _) | (_, _, True):
            return []
    also = "" if settings.weights is None else " and the weights' network"
    return [f"no usable point: the cube rests on the spectral library{also} alone"]


def _idle_on_cpu(settings: Settings) -> list[str]:
    """What was asked for and changes nothing there."""
    told = []
    if settings.precision == "tf32":
        told.append("precision tf32 changes nothing on a CPU")
    if settings.batch_size not in (None, 1):
        told.append("a batch size changes nothing on a CPU: tiles run beside each other in threads")
    return told


def _ordered(scene: xr.DataArray) -> xr.DataArray:
    if set(scene.dims) != {"band", "y", "x"}:
        raise SceneError(
            f"the scene has the dims ({', '.join(map(str, scene.dims))}), (band, y, x) is needed: "
            "rename or select them"
        )
    return scene.transpose("band", "y", "x")


def _band_notes(response: SpectralResponse, used: NDArray[np.int64]) -> list[str]:
    left = sorted(set(range(len(response.names))) - set(map(int, used)))
    if not left:
        return []
    listed = ", ".join(f"{response.names[i]} ({response.centres_nm[i]:.0f} nm)" for i in left)
    return [f"bands not used, their response leaves the cube's channels: {listed}"]


def _range_notes(
    settings: Settings, channels: ChannelGrid, points: PointSpectra | None
) -> list[str]:
    """That nobody asked for the channels and some spectra go beyond them."""
    told = None
    if points is not None and settings.wavelengths is None:
        told = channels_note(points, channels)
    return [told] if told is not None else []


def _channel_notes(
    settings: Settings, channels: ChannelGrid, points: PointSpectra | None
) -> list[str]:
    """What becomes of channels that the points do not cover.

    Raises
    ------
    WavelengthGridError
        If channels rest on nothing, or lie outside the library that the method starts from.
    """
    by_library = load_library().covers(channels)
    by_points = np.zeros(len(channels), bool)
    if points is not None:
        spectra = resample_to_channels(points.reflectance, points.wavelengths_nm, channels)
        by_points |= np.isfinite(spectra).any(0)
    taken = channels.centres_nm
    low, high = load_library().wavelengths_nm[[0, -1]]
    if (bare := ~by_library & ~by_points).any():
        measured = f"{_ranges(taken, by_points)} nm" if by_points.any() else "none of them"
        raise WavelengthGridError(
            f"channels at {_ranges(taken, bare)} nm are asked, the spectral library covers "
            f"{low:.0f}-{high:.0f} nm and points cover {measured}: give --wavelengths that either "
            "covers"
        )
    if not by_library.all() and _needs_library(settings, points):
        raise WavelengthGridError(
            f"channels at {_ranges(taken, ~by_library)} nm are asked, the spectral library that "
            f"method '{settings.method}' starts from covers {low:.0f}-{high:.0f} nm: give "
            "--method ridge, which learns from the points alone, or --wavelengths inside that range"
        )
    if points is None or by_points.all() or not by_points.any():
        return []
    told = f"no point covers the channels at {_ranges(taken, ~by_points)} nm"
    if by_points.mean() < MIN_VALID_CHANNELS:
        told += f", so that all points are left out: --wavelengths {_ranges(taken, by_points)} nm"
        if settings.method == "ridge":
            raise WavelengthGridError(f"{told} would be covered, method 'ridge' needs points there")
        return [f"{told} would keep them"]
    return [f"{told}: the spectra's nearest values stand for them"]


def _needs_library(settings: Settings, points: PointSpectra | None) -> bool:
    """Whether the method looks at library spectra."""
    if settings.method == "paper":
        return points is None and settings.weights is None and settings.prior_parameters is None
    return settings.method != "ridge"


def _ranges(centres: NDArray[np.float64], chosen: NDArray[np.bool_]) -> str:
    """Runs of neighbouring channels, as ``400-450, 600``."""
    at = np.flatnonzero(chosen)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    ends = [(centres[run[0]], centres[run[-1]]) for run in runs]
    return ", ".join(f"{a:.0f}" if a == b else f"{a:.0f}-{b:.0f}" for a, b in ends)


def _check_size(statistics: SceneStatistics) -> None:
    if statistics.mean.max() > 1.5:
        warnings.warn(
            f"the scene's brightest band has a mean of {statistics.mean.max():.4g}, reflectance "
            "lies in 0-1: give --scale (scale=...) if these are scaled values, or --calibrate with "
            "points where they are counts or radiance",
            PixelSSRWarning,
            stacklevel=3,
        )


def _listed(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _stage(
    progress: Progress, name: str, stop: threading.Event | None = None
) -> Callable[[int, int, float], None]:
    def told(step: int, steps: int, _loss: float) -> None:
        if stop is not None and stop.is_set():
            raise CancelledError(f"{name} given up: the run was stopped")
        progress(name, step, steps)

    return told


def _silent(stage: str, done: int, total: int) -> None:
    """Progress of a caller who does not want to know."""
