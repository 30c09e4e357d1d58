"""What is compared: regressions that see one pixel at a time, and the methods of this package.

The per-pixel methods are what one would do without this package. They are written with
scikit-learn and share nothing with the estimator but the spectral library and the projection, so that
they stay what they are when the estimator changes. Each is there plain and, under its name with
``+projection``, made to agree with the scene.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.estimator import Projection
from pixelssr_geo.estimator.library import load_library
from pixelssr_geo.reconstruction import reconstruct_to_file
from pixelssr_geo.scene import open_cube
from pixelssr_geo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.experiments.scenes import Trial
    from pixelssr_geo.labels import Labels
    from pixelssr_geo.settings import Method
    from pixelssr_geo.spectra import ChannelGrid

    Floats = NDArray[np.float64]

PROJECTION = "+projection"
"""What the names of projected methods end in."""

GPR_POINTS = 250
"""Points up to which a Gaussian process is fitted; its time grows with their third power."""

SLAB_PIXELS = 1 << 16
"""Pixels that are predicted at a time, which bounds the memory."""

MIXTURES = 20_000
"""Mixtures of library spectra that the library regression learns from."""

Spectra: TypeAlias = "Callable[[Floats], Floats]"
"""A fitted regression, from bands ``(pixel, band)`` to spectra ``(pixel, channel)``."""

Fit: TypeAlias = "Callable[[Labels | None, Floats, ChannelGrid], Spectra]"
"""Learns such a regression from labels, the response matrix ``(band, channel)`` and the channels."""

Regression: TypeAlias = Callable[[int], Any]
"""Makes an unfitted scikit-learn regression of so many bands."""


@dataclass(frozen=True, slots=True)
class PixelMethod:
    """A regression from the bands of a pixel to its spectrum."""

    fit: Fit
    """Learns the regression."""
    least: int = 0
    """Points that it needs."""
    most: int | None = None
    """Points that it can take, or None for any number."""
    projected: bool = False
    """Whether the cube is made to agree with the scene."""

    def __call__(
        self,
        labels: Labels | None,
        scene: NDArray[np.float32],
        response: Floats,
        channels: ChannelGrid,
    ) -> NDArray[np.float32]:
        """The cube ``(channel, y, x)``; NaN where a band is.

        Parameters
        ----------
        labels
            Labelled pixels, or None.
        scene
            Reflectance, ``(band, y, x)``.
        response
            Response matrix S of these bands, ``(band, channel)``.
        channels
            Of the cube.
        """
        return self.apply(self.fit(labels, response, channels), scene, response)

    def apply(
        self, spectra: Spectra, scene: NDArray[np.float32], response: Floats
    ) -> NDArray[np.float32]:
        """The cube that a fitted regression gives of a scene, ``(channel, y, x)``; NaN where a band is."""
        projection = Projection.of(response)
        known = np.isfinite(scene).all(0)
        bands = scene[:, known].T.astype("f8")
        cube = np.full((response.shape[1], *known.shape), np.nan, "f4")
        found = np.empty((response.shape[1], len(bands)), "f4")
        for start in range(0, len(bands), SLAB_PIXELS):
            part = slice(start, start + SLAB_PIXELS)
            predicted = spectra(bands[part])
            if self.projected:
                predicted = projection(predicted, bands[part])
            found[:, part] = predicted.T
        cube[:, known] = found
        return cube


@dataclass(frozen=True, slots=True)
class PackageMethod:
    """A method of this package, run as ``pixelssr-geo reconstruct`` runs it."""

    method: Method
    """Its name in the settings."""
    least: int = 0
    """Points that it needs."""
    most: int | None = None
    """Points that it can take, or None for any number."""


def _interpolation(labels: Labels | None, response: Floats, channels: ChannelGrid) -> Spectra:
    """Straight lines between the bands' centres, level beyond the outer ones."""
    centres = response @ channels.centres_nm
    order = np.argsort(centres)
    weights = np.stack(
        [np.interp(channels.centres_nm, centres[order], row) for row in np.eye(len(order))]
    )
    return lambda bands: bands[:, order] @ weights


def _at_points(make: Regression) -> Fit:
    """A regression learnt from the points alone."""

    def fit(labels: Labels | None, response: Floats, channels: ChannelGrid) -> Spectra:
        assert labels is not None
        return _fitted(make, labels.bands, labels.spectra)

    return fit


def _library(labels: Labels | None, response: Floats, channels: ChannelGrid) -> Spectra:
    """A regression learnt from mixtures of library spectra."""
    spectra = library_mixtures(channels)
    return _fitted(_make_library, spectra @ response.T, spectra)


def _library_and_points(make: Regression) -> Fit:
    """The projected library regression, and at the points a regression of what it leaves."""

    def fit(labels: Labels | None, response: Floats, channels: ChannelGrid) -> Spectra:
        assert labels is not None
        library, projection = _library(None, response, channels), Projection.of(response)

        def base(bands: Floats) -> Floats:
            return projection(library(bands), bands)

        rest = _fitted(make, labels.bands, labels.spectra - base(labels.bands))
        return lambda bands: base(bands) + rest(bands)

    return fit


def library_mixtures(channels: ChannelGrid) -> Floats:
    """Mixtures of three spectra of the shipped library, under varying light, ``(mixture, channel)``.

    Abundances are Dirichlet(0.5), brightness is 0.3 to 1.2; always the same draw.
    """
    spectra = load_library().on_channels(channels)
    draws = np.random.default_rng(0)
    abundance = draws.dirichlet([0.5] * 3, MIXTURES)
    members = draws.integers(0, len(spectra), (MIXTURES, 3))
    brightness = draws.uniform(0.3, 1.2, (MIXTURES, 1))
    mixed = sum(abundance[:, k, None] * spectra[members[:, k]] for k in range(3))
    return np.asarray(mixed * brightness)


def _fitted(make: Regression, x: Floats, y: Floats) -> Spectra:
    ignored = import_module("sklearn.exceptions").ConvergenceWarning
    with warnings.catch_warnings():
        # A length scale or noise at the end of its range is a result like another.
        warnings.simplefilter("ignore", ignored)
        model = make(x.shape[1]).fit(x, y)
    return lambda bands: np.asarray(model.predict(bands), "f8").reshape(len(bands), -1)


def _make_ridge(bands: int) -> Any:
    return _standardised(_ridge_cv(np.logspace(-6, 3, 19)))


def _make_quadratic(bands: int) -> Any:
    return _standardised(_squares(), _ridge_cv(np.logspace(-6, 3, 19)))


def _make_library(bands: int) -> Any:
    return _standardised(_squares(), _ridge_cv(np.logspace(-6, 3, 10)))


def _make_residual_ridge(bands: int) -> Any:
    return _standardised(_ridge_cv(np.logspace(-3, 3, 13)))


def _make_forest(bands: int) -> Any:
    ensemble = import_module("sklearn.ensemble")
    return ensemble.RandomForestRegressor(200, random_state=0)


def _make_process(bands: int) -> Any:
    return _standardised(_process(bands, noise=1e-3))


def _make_residual_process(bands: int) -> Any:
    return _standardised(_process(bands, noise=1e-2))


def _standardised(*steps: Any) -> Any:
    pipeline = import_module("sklearn.pipeline")
    preprocessing = import_module("sklearn.preprocessing")
    return pipeline.make_pipeline(preprocessing.StandardScaler(), *steps)


def _squares() -> Any:
    return import_module("sklearn.preprocessing").PolynomialFeatures(2)


def _ridge_cv(strengths: Floats) -> Any:
    """A ridge regression whose strength is chosen by leave-one-out error."""
    return import_module("sklearn.linear_model").RidgeCV(strengths)


def _process(bands: int, *, noise: float) -> Any:
    """A Gaussian process with a length scale for every band; ``noise`` is where its search begins."""
    gaussian = import_module("sklearn.gaussian_process")
    kernels = import_module("sklearn.gaussian_process.kernels")
    smooth = kernels.ConstantKernel(1.0) * kernels.RBF(np.full(bands, 2.0), (0.3, 100))
    kernel = smooth + kernels.WhiteKernel(noise)
    return gaussian.GaussianProcessRegressor(kernel, normalize_y=True)


_PLAIN = {
    "interpolation": PixelMethod(_interpolation),
    "ridge": PixelMethod(_at_points(_make_ridge), least=2),
    "poly2": PixelMethod(_at_points(_make_quadratic), least=2),
    "forest": PixelMethod(_at_points(_make_forest), least=2),
    "gpr": PixelMethod(_at_points(_make_process), least=2, most=GPR_POINTS),
    "library": PixelMethod(_library),
    "library+ridge": PixelMethod(_library_and_points(_make_residual_ridge), least=2),
    "library+gpr": PixelMethod(
        _library_and_points(_make_residual_process), least=2, most=GPR_POINTS
    ),
}

ANCHORS: dict[str, PixelMethod] = {
    name: method
    for plain, found in _PLAIN.items()
    for name, method in (
        (plain, found),
        (plain + PROJECTION, replace(found, projected=True)),
    )
}
"""Per-pixel methods by name, what the methods of this package are held against.

``interpolation``: straight lines between the bands. ``ridge``, ``poly2`` (quadratic), ``forest``
and ``gpr`` (Gaussian process): regressions on the points. ``library``: regression on mixtures of
library spectra. ``library+ridge`` and ``library+gpr``: the library, and a regression of what it
leaves at the points."""

METHODS: dict[str, PixelMethod | PackageMethod] = {
    **ANCHORS,
    "product": PackageMethod("product"),
    "estimator": PackageMethod("estimator"),
    "dypro": PackageMethod("dypro", least=5),
    "paper": PackageMethod("paper"),
}
"""Everything that can be compared, by name."""


GROUPS = {
    "anchors": tuple(ANCHORS),
    "projected": tuple(name for name, method in ANCHORS.items() if method.projected),
}
"""Names that stand for several methods: all per-pixel ones, and those that are projected."""


def chosen_methods(names: Sequence[str]) -> list[str]:
    """The names, those of :data:`GROUPS` written out, each once.

    Raises
    ------
    SettingsError
        If there is no such method.
    """
    listed = [one for name in names for one in GROUPS.get(name, (name,))]
    if unknown := [name for name in listed if name not in METHODS]:
        raise SettingsError(
            f"there is no method '{unknown[0]}', expected anchors (all per-pixel methods), projected "
            f"(half of them) or some of {', '.join(METHODS)}: choose from these"
        )
    return list(dict.fromkeys(listed))


def refusal(name: str, count: int) -> str | None:
    """Why a method cannot do with so many points, the method's name to follow; None if it can."""
    method = METHODS[name]
    if count < method.least:
        return f"{method.least} are needed by"
    if method.most is not None and count > method.most:
        return f"{method.most} are the most for"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """A cube, and what the run that made it says of itself."""

    cube: NDArray[np.float32]
    """``(channel, y, x)``."""
    cv_rmse: float | None = None
    """Its own error at withheld points, reflectance, or None."""
    coverage: float | None = None
    """Share of the values at withheld points within a standard deviation, or None."""
    gate: float | None = None
    """How far a network was let through, or None where none was tried."""


def reconstruct_trial(name: str, trial: Trial, seed: int) -> Reconstruction:
    """What a method makes of a trial."""
    method = METHODS[name]
    if isinstance(method, PackageMethod):
        return _by_package(method, trial, seed)
    values = np.asarray(trial.scene.values)
    return Reconstruction(method(trial.labels, values, trial.matrix, trial.ground.channels))


def trial_settings(method: Method, trial: Trial, seed: int, folder: Path) -> Settings:
    """Settings that give a trial's cube its reference's channels; a folder keeps their list."""
    listed = folder / "channels.txt"
    channels = trial.ground.channels
    rows = zip(channels.centres_nm, channels.fwhm_nm, strict=True)
    listed.write_text("".join(f"{float(c)!r} {float(w)!r}\n" for c, w in rows))
    return Settings.of(method=method, wavelengths=str(listed), seed=seed)


def _by_package(method: PackageMethod, trial: Trial, seed: int) -> Reconstruction:
    with tempfile.TemporaryDirectory() as name:
        settings = trial_settings(method.method, trial, seed, Path(name))
        output = Path(name) / "cube.tif"
        _, summary = reconstruct_to_file(
            trial.scene, trial.points, output, settings, response=trial.ground.response
        )
        cube = np.asarray(open_cube(output).values)
    validation = summary.cross_validation or {}
    inside = (summary.coverage or {}).get("68")
    return Reconstruction(cube, validation.get("rmse"), inside, summary.gate)
