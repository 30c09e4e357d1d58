"""The default estimator: several prior means, each corrected at the points, blended and projected.

At the points the residual of each prior mean is a Gaussian process that sees a pixel's bands, its
surroundings and its place; one kernel serves all of them, so that a blend costs little more than one
of its parts. See :mod:`pixelssr_geo.estimator.means`, :mod:`~pixelssr_geo.estimator.kernel` and
:mod:`~pixelssr_geo.estimator.blend`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pixelssr_geo.estimator.arrays import empty_beside, functions_of, pixels_first, single
from pixelssr_geo.estimator.blend import LEAST_WEIGHT, blend_weights
from pixelssr_geo.estimator.contract import Estimate
from pixelssr_geo.estimator.kernel import (
    FIT_POINTS,
    LARGEST_FIT,
    TERMS,
    Distances,
    KernelInputs,
    KernelParameters,
    components_of,
    fit_parameters,
    kernel_inputs,
)
from pixelssr_geo.estimator.means import NoMean, PriorMean, fit_gains
from pixelssr_geo.estimator.pixelwise import leaving
from pixelssr_geo.estimator.ridge import Ridge, fit_ridge, standardised
from pixelssr_geo.estimator.surroundings import (
    HALO,
    PixelFeatures,
    label_features,
    view_features,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from numpy.typing import NDArray

    from pixelssr_geo.estimator.device import OnDevice
    from pixelssr_geo.estimator.library import LibraryPrior
    from pixelssr_geo.estimator.projection import Projection
    from pixelssr_geo.estimator.surroundings import FeatureScale, View
    from pixelssr_geo.labels import Labels

TRUST = {
    "library": 2.0,
    "mixture": 2.0,
    "shape": 1.0,
    "gains": 1.0,
    "none": 1.0,
    "linear": 0.5,
    "quadratic": 0.5,
    "network": 0.5,
}
"""Weights before any error was seen: those that hold on most scenes count more."""

STRANGE, MOST_TRUST = 0.07, 20.0
"""How far points leave the library where its regressions with the gains of the points are trusted
as the table says; with the fourth power of it more or less, and so many times at the most. Radiance
and counts lie beyond, reflectance of usual ground below."""

LEAST_NETWORK, MOST_NETWORK = 1e-6, 4.0
"""Limits of the factor on the trust in a network: the fourth power of the library's error at the
points over its own. At the most it is trusted as the library is."""

REGRESSION_POINTS = 50
"""Labels from which plain regressions on the points, linear and quadratic, take part: they go on
better than a Gaussian process where the scene leaves what the points span."""

GAIN_GROUPS = 10
"""Groups of labels that the gains are left out of in turn, with few labels. With many
(:data:`GAIN_LABELS`) a single one does not matter."""

GAIN_LABELS = 30
"""Labels up to which gains are fitted anew without those that are left out."""

MOST_POINTS = 3000
"""Labels that the Gaussian process rests on at the most, drawn at random: its cost grows with their
cube."""

LIBRARY_POINTS = 3
"""How many left-out points the library's own error counts for in the standard deviation, as long as
there are too few for components of their own."""

STRIP_PIXELS = 1 << 14
"""Pixels whose features are computed at a time."""

SLAB_PIXELS = 1 << 11
"""Pixels that are compared with the points at a time: few enough for a core's cache."""

Told: TypeAlias = "tuple[NDArray[np.floating], NDArray[np.floating]]"
"""Deviation ``(channel, pixel)``, of one pixel where all have the same, and extrapolation ``(pixel,)``."""


@dataclass(frozen=True, slots=True, eq=False)
class PointProcess:
    """The Gaussian process at the points, all prior means together; float32."""

    scale: FeatureScale
    """Of the scene's features."""
    points: KernelInputs
    """Features of the points."""
    lengths: NDArray[np.float64]
    """Logarithms of the kernel's length scales."""
    plain: NDArray[np.float32]
    """Coefficients of :func:`_plain_features`, ``(channel, feature)``."""
    bells: NDArray[np.float32]
    """Coefficients of :meth:`bells_at`, one behind the other, ``(channel, bell * point)``."""
    spread: PointSpread
    """What is left to know."""

    def bells_at(self, inputs: KernelInputs) -> NDArray[np.float32]:
        """Covariances with the points by levels, place, both, and context, ``(4, point, pixel)``."""
        xp, points = functions_of(self.lengths), self.points
        by_levels, by_place, by_context = single(xp.exp(self.lengths))
        bells = empty_beside(points.levels, (4, len(points.rows), len(inputs.rows)))
        levels, place, both, context = bells
        _closeness(points.levels, inputs.levels, by_levels, out=levels)
        _closeness(points.context, inputs.context, by_context, out=context)
        xp.subtract(points.rows[:, None], inputs.rows, out=place)
        xp.subtract(points.cols[:, None], inputs.cols, out=both)
        place *= place
        both *= both
        place += both
        xp.sqrt(place, out=place)
        place *= -1 / by_place
        for bell in (levels, place, context):
            xp.exp(bell, out=bell)
        xp.multiply(levels, place, out=both)
        return bells

    def residual(self, inputs: KernelInputs, bells: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is added to the blend of the prior means, ``(channel, pixel)``."""
        total: NDArray[np.float32] = self.plain @ _plain_features(inputs)
        total += self.bells @ bells.reshape(self.bells.shape[1], len(inputs.rows))
        return total

    def variance(self, inputs: KernelInputs, bells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Variance of what is left of the residual, ``(channel, pixel)``."""
        return self.spread.variance(inputs, bells, self.points)

    def residual_at(self, inputs: KernelInputs) -> NDArray[np.float32]:
        """The residual at any number of pixels, ``(pixel, channel)``."""
        found = [self.residual(some, self.bells_at(some)) for some in _some_at_a_time(inputs)]
        return np.concatenate(found, axis=1).T

    def variance_at(self, inputs: KernelInputs) -> NDArray[np.float32]:
        """The variance at any number of pixels, ``(pixel, channel)``."""
        found = [self.variance(some, self.bells_at(some)) for some in _some_at_a_time(inputs)]
        return np.concatenate(found, axis=1).T

    def outside(self, inputs: KernelInputs) -> NDArray[np.float32]:
        """How many deviations of the scene the levels lie beyond those of all points, ``(pixel,)``."""
        levels = self.points.levels
        xp = functions_of(levels)
        low, high = xp.amin(levels, 1, keepdims=True), xp.amax(levels, 1, keepdims=True)
        beyond = (low - inputs.levels).clip(0) + (inputs.levels - high).clip(0)
        # The levels are divided by the root of the number of bands.
        return single(xp.sqrt((beyond**2).sum(0) * len(levels)))


def _some_at_a_time(inputs: KernelInputs) -> Iterator[KernelInputs]:
    count = len(inputs.rows)
    for first in range(0, max(count, 1), SLAB_PIXELS):
        yield inputs.take(np.arange(first, min(first + SLAB_PIXELS, count)))


def _closeness(
    points: NDArray[np.float32],
    pixels: NDArray[np.float32],
    length: np.float32,
    *,
    out: NDArray[np.float32],
) -> None:
    """Put minus half the squared distances of columns, in units of a length, into ``(point, pixel)``."""
    xp = functions_of(points)
    left, right = points / length, pixels / length
    # With the squares of both as two more features, it is a product.
    left = xp.concatenate(
        [left, (left * left).sum(0, keepdims=True) * -0.5, xp.ones_like(left[:1])]
    )
    right = xp.concatenate(
        [right, xp.ones_like(right[:1]), (right * right).sum(0, keepdims=True) * -0.5]
    )
    xp.matmul(left.T, right, out=out)
    xp.clip(out, None, 0, out=out)


def _plain_features(inputs: KernelInputs) -> NDArray[np.floating]:
    """Features whose products are the terms without length: constant, linear, neighbours, square."""
    bands = inputs.bands
    squares = (bands[:, None] * bands).reshape(-1, bands.shape[1])
    xp = functions_of(bands)
    features: NDArray[np.floating] = xp.concatenate(
        [xp.ones_like(bands[:1]), bands, inputs.neighbours, squares]
    )
    return features


_PLAIN = tuple(TERMS.index(name) for name in ("constant", "linear", "neighbours", "square"))
_BELLS = tuple(TERMS.index(name) for name in ("bands", "place", "bands x place", "context"))


@dataclass(frozen=True, slots=True, eq=False)
class PointSpread:
    """The posterior variance of the residual, component by component."""

    weights: NDArray[np.float32]
    """Of the kernel's terms."""
    vectors: NDArray[np.float32]
    """Eigenvectors of the kernel at the points, ``(point, point)``."""
    shrink: NDArray[np.float32]
    """What each eigenvector explains of a component's variance, ``(component, point)``."""
    noise: NDArray[np.float32]
    """Of each component, in units of its variance."""
    sizes: NDArray[np.float32]
    """Variance of each component in each channel, ``(channel, component)``."""

    def variance(
        self,
        inputs: KernelInputs,
        bells: NDArray[np.float32],
        points: KernelInputs,
    ) -> NDArray[np.float32]:
        """Variance ``(channel, pixel)``."""
        size = dict(zip(TERMS, self.weights, strict=True))
        kernel = (size["linear"] * points.bands).T @ inputs.bands
        if size["square"]:
            kernel += size["square"] * (points.bands.T @ inputs.bands) ** 2
        kernel += (size["neighbours"] * points.neighbours).T @ inputs.neighbours
        kernel += size["constant"]
        for number, bell in zip(_BELLS, bells, strict=True):
            kernel += self.weights[number] * bell
        bands = (inputs.bands**2).sum(0)
        before = (size["constant"] + size["bands"] + size["place"] + size["bands x place"]) + size[
            "context"
        ]
        before = before + size["linear"] * bands + size["square"] * bands**2
        before = before + size["neighbours"] * (inputs.neighbours**2).sum(0)
        turned = self.vectors.T @ kernel
        turned *= turned
        left = (before - self.shrink @ turned).clip(0) + self.noise[:, None]
        return single(self.sizes @ left)


@dataclass(frozen=True, slots=True, eq=False)
class BlendedEstimator:
    """Prior means, what the points add to them, and the projection; it pickles."""

    projection: Projection
    """Makes the mean agree with the scene."""
    means: tuple[PriorMean, ...]
    """Prior means that carry weight."""
    shares: tuple[float, ...]
    """Their weights, which sum to one with :attr:`network`."""
    process: PointProcess | None
    """What the points add; None without points."""
    library: Ridge
    """Regression of the library, which without points says where the scene leaves it."""
    error: NDArray[np.float64]
    """Deviation of the library's own error, ``(channel,)``; what is told without points."""
    left_out: NDArray[np.float64]
    """Error at each point when it is left out, truth minus estimate, ``(point, channel)``."""
    weights: dict[str, float]
    """Weight of every prior mean that was tried, by its name."""
    parameters: dict[str, KernelParameters]
    """Of the kernel, by the prior means that they serve: ``library`` and ``none``."""
    widening: float = 1.0
    """Factor on the standard deviation that errors at withheld points ask for."""
    network: float = 0.0
    """Weight of one more prior mean: what a trained network says, which is handed in."""
    elsewhere: OnDevice | None = None
    """Computes windows on a device of torch; None where NumPy does."""

    @property
    def halo(self) -> int:
        """Pixels around a window that :meth:`predict` wants to see."""
        return 0 if self.process is None else HALO

    @property
    def sees_network(self) -> bool:
        """Whether views and labels have to say what a trained network says."""
        return self.network > 0

    def moved(self, rows: int, cols: int) -> BlendedEstimator:
        """The same estimator for a scene whose first pixel lies elsewhere: the points move along."""
        if self.process is None:
            return self
        at = self.process.points
        points = replace(at, rows=at.rows + np.float32(rows), cols=at.cols + np.float32(cols))
        return self._changed(process=replace(self.process, points=points))

    def widened(self, factor: float) -> BlendedEstimator:
        """The same estimator with its standard deviation times a factor."""
        return self._changed(widening=self.widening * factor)

    def _changed(self, **changes: Any) -> BlendedEstimator:
        """With other values in some fields, and where this one computes."""
        changed = replace(self, **changes)
        if self.elsewhere is None:
            return changed
        return changed.through_torch(self.elsewhere.device, double=self.elsewhere.double)

    def on(self, device: torch.device | None, *, double: bool = False) -> BlendedEstimator:
        """The same estimator, which computes windows on a device.

        What it says of labelled pixels is computed by NumPy all the same. To be sent to another
        process it should be on no GPU, which that one may not have.

        Parameters
        ----------
        device
            None or a CPU, where NumPy needs no torch and is faster; or a GPU.
        double
            Compute everything in float64 there: for where other threads may have torch round the
            products of float32.
        """
        if device is None or device.type == "cpu":
            return replace(self, elsewhere=None)
        return self.through_torch(device, double=double)

    def through_torch(self, device: torch.device, *, double: bool = False) -> BlendedEstimator:
        """The same estimator, which computes windows with torch, on a CPU too; see :meth:`on`."""
        from pixelssr_geo.estimator.device import OnDevice  # late, it imports torch

        return replace(self, elsewhere=OnDevice.of(self, device, double=double))

    def at(self, labels: Labels) -> NDArray[np.float64]:
        """Mean spectra at labelled pixels, ``(label, channel)``."""
        mean = self._prior(labels.bands)
        if self.process is not None:
            features = label_features(labels, self.process.scale.level)
            inputs = kernel_inputs(features, self.process.scale)
            mean = mean + self.process.residual_at(inputs)
        if self.sees_network:
            assert labels.network is not None
            mean = mean + self.network * labels.network
        return self.projection(mean, labels.bands)

    def deviation_at(self, labels: Labels) -> NDArray[np.float64]:
        """Standard deviation of the error at labelled pixels, ``(label, channel)``."""
        if self.process is None:
            return np.broadcast_to(self.error * self.widening, (len(labels), len(self.error)))
        features = label_features(labels, self.process.scale.level)
        inputs = kernel_inputs(features, self.process.scale)
        deviation = np.sqrt(self.process.variance_at(inputs))
        return np.asarray(deviation * self.widening, "f8")

    def predict(self, view: View) -> Estimate:
        """The estimate for a window; NaN where a band is NaN."""
        mean, rest = self._over(view, whole=True)
        assert rest is not None
        return Estimate(mean=mean, deviation=rest[:-1], extrapolation=rest[-1])

    def mean(self, view: View) -> NDArray[np.float32]:
        """The mean alone, ``(channel, y, x)``; NaN where a band is NaN."""
        return self._over(view, whole=False)[0]

    def _prior(self, bands: NDArray[np.float64]) -> NDArray[np.float64]:
        """The blend of the bands' prior means ``(..., channel)``, in agreement with the scene.

        The network's part comes later: another projection leaves of it what no band sees.
        """
        total: Any = sum(
            share * mean.predict(bands) for share, mean in zip(self.shares, self.means, strict=True)
        )
        return self.projection(total, bands)

    def _over(
        self, view: View, *, whole: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The mean, and where the whole is asked for the deviation with the extrapolation last."""
        count, pixels = len(self.error), view.inner[0].size
        mean = np.empty((count, pixels), "f4")
        rest = np.empty((count + 1, pixels), "f4") if whole else None
        there = self.elsewhere
        computed = self._slabs if there is None else there.strips
        for part, found, told in computed(view, whole=whole):
            size = part.stop - part.start
            mean[:, part] = found[:, :size]
            if rest is not None and told is not None:
                rest[:-1, part], rest[-1, part] = (values[..., :size] for values in told)
        mean = mean.reshape(count, *view.inner.shape[1:])
        if self.sees_network:
            assert view.network is not None
            mean += np.float32(self.network) * view.network
        if there is None or self.sees_network:
            mean = self.projection.on_cube(mean, view.inner)
        nothing = ~np.isfinite(view.inner).all(0)
        mean[:, nothing] = np.nan
        if rest is not None:
            rest = rest.reshape(count + 1, *view.inner.shape[1:])
            rest[:, nothing] = np.nan
        return mean, rest

    def of_pixels(
        self, bands: NDArray[np.float32], inputs: KernelInputs | None, *, whole: bool
    ) -> tuple[NDArray[np.float32], Told | None]:
        """The mean of some pixels ``(channel, pixel)``, and where the whole is asked for the rest.

        Arrays are NumPy's or torch's, as those of this object are.

        Parameters
        ----------
        bands
            ``(band, pixel)``, without NaN.
        inputs
            Features of the pixels; None without points.
        whole
            Whether deviation and extrapolation are wanted.
        """
        table = pixels_first(bands)
        mean = single(self._prior(table).T)
        if self.process is None or inputs is None:
            if not whole:
                return mean, None
            return mean, ((self.error * self.widening)[:, None], leaving(self.library, table))
        bells = self.process.bells_at(inputs)
        mean += self.process.residual(inputs, bells)
        if not whole:
            return mean, None
        variance = self.process.variance(inputs, bells)
        deviation = functions_of(variance).sqrt(variance) * np.float32(self.widening)
        return mean, (deviation, self.process.outside(inputs))

    def features(self, strip: View) -> PixelFeatures:
        """What :meth:`of_pixels` has to know of the pixels of a window, without points the bands."""
        if self.process is not None:
            return view_features(strip, self.process.scale.level)
        xp = functions_of(strip.values)
        bands = xp.nan_to_num(strip.inner, nan=0.0).reshape(len(strip.inner), -1)
        none = bands[:0]
        return PixelFeatures(bands, none, none, none, none.sum(0), none.sum(0))

    def _slabs(
        self, view: View, *, whole: bool
    ) -> Iterator[tuple[slice, NDArray[np.float32], Told | None]]:
        """What :meth:`of_pixels` says of some pixels at a time, always as many, the last filled up.

        The last bits of a product depend on its size, and a pixel must not depend on the window
        that it is computed in.
        """
        height, width = view.inner.shape[1:]
        step = max(1, STRIP_PIXELS // width)
        for top in range(0, height, step):
            strip = view.rows(top, min(top + step, height))
            features = self.features(strip)
            start, count = top * width, features.bands.shape[1]
            for first in range(0, count, SLAB_PIXELS):
                last = min(first + SLAB_PIXELS, count)
                some = _filled(features, first, last)
                inputs = None
                if self.process is not None:
                    inputs = kernel_inputs(some, self.process.scale).astype("f4")
                found = self.of_pixels(some.bands, inputs, whole=whole)
                yield slice(start + first, start + last), *found


def _filled(features: PixelFeatures, first: int, last: int) -> PixelFeatures:
    """Some columns of a table of features, filled up with zeros to a slab."""

    def cut(values: NDArray[np.float32]) -> NDArray[np.float32]:
        slab = np.zeros((*values.shape[:-1], SLAB_PIXELS), "f4")
        slab[..., : last - first] = values[..., first:last]
        return slab

    return PixelFeatures(
        cut(features.bands),
        cut(features.levels),
        cut(features.context),
        cut(features.differences),
        cut(features.rows),
        cut(features.cols),
    )


def blend_library(
    library: LibraryPrior, scale: FeatureScale | None = None, *, network: bool = False
) -> BlendedEstimator:
    """The estimator without points: prior means by the trust in them.

    Parameters
    ----------
    library
        What the library says, its shapes included.
    scale
        Of the scene's features.
    network
        Whether views say what a trained network says: one more prior mean.
    """
    means = _library_means(library, 1e-9 if scale is None else scale.least_brightness)
    names = [*means, "network"] if network else list(means)
    weights = blend_weights(np.zeros((len(names), 1, 1)), np.array([TRUST[name] for name in names]))
    named = dict(zip(names, map(float, weights), strict=True))
    none = np.empty((0, len(library.error)))
    return BlendedEstimator(
        library.projection,
        tuple(means.values()),
        tuple(named[name] for name in means),
        None,
        library.regression,
        library.error,
        none,
        named,
        {},
        network=named.get("network", 0.0),
    )


def fit_blend(
    labels: Labels,
    library: LibraryPrior,
    scale: FeatureScale,
    *,
    parameters: Mapping[str, KernelParameters] | None = None,
) -> BlendedEstimator:
    """Fit the default estimator on the labels.

    Parameters
    ----------
    labels
        Labelled pixels with the usable bands only, one at least, their surroundings known. Where
        they say what a trained network says, it is one more prior mean.
    library
        What the library says for the same bands and channels, its shapes included.
    scale
        Of the scene's features.
    parameters
        Of the kernel, as an earlier fit found them; by default they are fitted.
    """
    return _BlendFit(labels, library, scale, parameters).estimator()


class _BlendFit:
    """One fit: what its steps share."""

    def __init__(
        self,
        labels: Labels,
        library: LibraryPrior,
        scale: FeatureScale,
        parameters: Mapping[str, KernelParameters] | None,
    ) -> None:
        self.labels, self.library, self.scale = labels, library, scale
        self.projection = library.projection
        self.count = len(labels)
        self.used = np.arange(self.count)
        if self.count > MOST_POINTS:
            draws = np.random.default_rng(0)
            self.used = np.sort(draws.choice(self.count, MOST_POINTS, replace=False))
        self.inputs = kernel_inputs(label_features(labels, scale.level), scale)
        self.points = self.inputs.take(self.used).astype("f8")
        self.distances = Distances.between(self.points, self.points)
        self.means = self._means()
        self.residuals = {
            name: self._residual(mean, labels.take(self.used)) for name, mean in self.means.items()
        }
        self.parameters = dict(parameters) if parameters else self._fitted_parameters()
        if labels.network is not None:
            # After the kernel is fitted: a network that knows nothing must not disturb it.
            self.residuals["network"] = self._missed(labels, labels.network)[self.used]
        self.solvers = {
            name: _Solver(self.distances.kernel(found)) for name, found in self.parameters.items()
        }

    def estimator(self) -> BlendedEstimator:
        regressions = self._regressions()
        errors = {name: self._left_out(name) for name in self.residuals}
        errors |= {name: error for name, (_, error) in regressions.items()}
        trust = np.array([self._trust(name) for name in errors])
        if self.count < FIT_POINTS:
            weights = trust / trust.sum()
            weights[weights < LEAST_WEIGHT] = 0
            weights /= weights.sum()
        else:
            stacked = np.stack(list(errors.values()))
            weights = blend_weights(stacked, trust)
        named = dict(zip(errors, map(float, weights), strict=True))
        means: dict[str, PriorMean] = {**self.means}
        means |= {name: regression for name, (regression, _) in regressions.items()}
        kept = {name: named[name] for name in means if named[name] > 0}
        return BlendedEstimator(
            projection=self.projection,
            means=tuple(means[name] for name in kept),
            shares=tuple(kept.values()),
            process=self._process(named),
            library=self.library.regression,
            error=self.library.error,
            left_out=self._all_left_out(errors, named, means),
            weights=named,
            parameters=self.parameters,
            network=named.get("network", 0.0),
        )

    def _trust(self, name: str) -> float:
        """Weight of an estimate before its left-out errors are seen."""
        if name == "network":
            # It may be of any quality, and neither it nor the library has seen the points.
            library, network = ((self.residuals[at] ** 2).sum() for at in ("library", name))
            better = float(library / max(network, 1e-30)) ** 2
            return TRUST[name] * min(max(better, LEAST_NETWORK), MOST_NETWORK)
        if name != "gains":
            return TRUST[name]
        assert self.library.space is not None
        strange = self.library.space.strangeness(self.labels.spectra, self.scale.brightness)
        return TRUST[name] * min((strange / STRANGE) ** 4, MOST_TRUST)

    def _means(self) -> dict[str, PriorMean]:
        means = _library_means(self.library, self.scale.least_brightness)
        means["gains"] = self._gains(self.labels)
        if self.count >= FIT_POINTS:
            means["none"] = NoMean(len(self.library.error))
        return means

    def _gains(self, labels: Labels) -> PriorMean:
        return fit_gains(
            self.library.mixtures,
            self.projection.response,
            labels.bands,
            labels.spectra,
            brightness=self.scale.brightness,
            least=self.scale.least_brightness,
        )

    def _residual(self, mean: PriorMean, labels: Labels) -> NDArray[np.float64]:
        """What a mean leaves at labels."""
        return self._missed(labels, mean.predict(labels.bands))

    def _missed(self, labels: Labels, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """Truth minus estimate as far as no band sees it: the bands settle the rest."""
        return self.projection.null_part(labels.spectra - self.projection(found, labels.bands))

    def _served(self, name: str) -> str:
        """Which of the parameters serve a mean."""
        return "none" if name == "none" else "library"

    def _fitted_parameters(self) -> dict[str, KernelParameters]:
        index = np.arange(len(self.used))
        if len(index) > LARGEST_FIT:
            draws = np.random.default_rng(1)
            index = np.sort(draws.choice(len(index), LARGEST_FIT, replace=False))
        distances = self.distances.take(index)
        some = {name: residual[index] for name, residual in self.residuals.items()}
        bare = some.pop("none", None)
        shared = fit_parameters(distances, list(some.values()))
        if bare is None:
            return {"library": shared}
        # The same lengths, so that the bells are computed once for all means.
        alone = fit_parameters(distances, [bare], square=True, lengths=shared.lengths)
        return {"library": shared, "none": alone}

    def _left_out(self, name: str) -> NDArray[np.float64]:
        """Errors at the used points when each is left out, ``(point, channel)``."""
        served = self._served(name)
        noise = np.exp(self.parameters[served].noise)
        errors = self.solvers[served].solve(self.residuals[name], noise)[1]
        if name != "gains" or not FIT_POINTS <= self.count <= GAIN_LABELS:
            return errors
        return self._gains_left_out(self.distances.kernel(self.parameters[served]), noise)

    def _gains_left_out(
        self, kernel: NDArray[np.float64], noise: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The same for the gains, which few points determine: fitted anew without them."""
        errors = np.empty_like(self.labels.spectra)
        groups = np.random.default_rng(2).permutation(self.count) % GAIN_GROUPS
        for group in np.unique(groups):
            out = groups == group
            mean = self._gains(self.labels.take(~out))
            kept = self._residual(mean, self.labels.take(~out))
            solution = _Solver(kernel[np.ix_(~out, ~out)]).solve(kept, noise)[0]
            missed = self._residual(mean, self.labels.take(out))
            errors[out] = missed - kernel[np.ix_(out, ~out)] @ solution
        return errors

    def _regressions(self) -> dict[str, tuple[PriorMean, NDArray[np.float64]]]:
        """Regressions on the points alone with their errors where each was left out."""
        if self.count < REGRESSION_POINTS:
            return {}
        found: dict[str, tuple[PriorMean, NDArray[np.float64]]] = {}
        for degree, name in enumerate(("linear", "quadratic"), 1):
            bands, spectra = self.labels.bands, self.labels.spectra
            ridge = fit_ridge(bands, spectra, standardised(bands, degree))
            found[name] = (ridge, self.projection.null_part(ridge.residuals[self.used]))
        return found

    def _process(self, weights: Mapping[str, float]) -> PointProcess:
        lengths = next(iter(self.parameters.values())).lengths
        features = _plain_features(self.points)
        widths = [1, len(self.points.bands), len(self.points.neighbours)]
        blocks = np.split(features, np.cumsum(widths))
        plain = np.zeros((len(self.library.error), len(features)))
        bells = np.zeros((len(_BELLS), len(self.library.error), len(self.used)))
        for name in self.residuals:
            served = self._served(name)
            found = self.parameters[served]
            solution = self.solvers[served].solve(self.residuals[name], np.exp(found.noise))[0]
            weighted = weights[name] * solution.T
            sizes = np.exp(found.weights)
            plain += np.concatenate(
                [sizes[k] * weighted @ block.T for k, block in zip(_PLAIN, blocks, strict=True)], 1
            )
            bells += sizes[list(_BELLS), None, None] * weighted
        return PointProcess(
            scale=self.scale,
            points=self.points.astype("f4"),
            lengths=lengths,
            plain=plain.astype("f4"),
            bells=np.concatenate(bells.astype("f4"), axis=1),
            spread=self._spread(weights),
        )

    def _spread(self, weights: Mapping[str, float]) -> PointSpread:
        """The variance of the libraries' blended residual, under the parameters that they share.

        That of no library is the spectrum itself: large, and explained by other parameters.
        """
        found, solver = self.parameters["library"], self.solvers["library"]
        shares = {name: weights[name] for name in self.residuals if self._served(name) == "library"}
        if not any(shares.values()):
            energies = {name: float((self.residuals[name] ** 2).sum()) for name in shares}
            shares[min(energies, key=lambda name: energies[name])] = 1.0
        total = sum(shares.values())
        residual = np.asarray(
            sum(share / total * self.residuals[name] for name, share in shares.items())
        )
        noise = np.exp(found.noise)
        parts = components_of(residual)
        sizes = []
        if len(parts) == 1:
            energy = solver.energy(residual, float(noise[0]))
            prior = LIBRARY_POINTS * self.library.error**2
            sizes.append((energy + prior) / (len(residual) + LIBRARY_POINTS))
        else:
            _, _, right = np.linalg.svd(residual, full_matrices=False)
            at = 0
            for scores, level in zip(parts, noise, strict=True):
                directions = right[at : at + scores.shape[1]]
                at += scores.shape[1]
                energy = solver.energy(scores, float(level)) / len(residual)
                sizes.append(energy @ directions**2)
        return PointSpread(
            weights=np.exp(found.weights).astype("f4"),
            vectors=solver.vectors.astype("f4"),
            shrink=(1 / (solver.values + noise[: len(parts), None])).astype("f4"),
            noise=noise[: len(parts)].astype("f4"),
            sizes=np.stack(sizes, 1).astype("f4"),
        )

    def _all_left_out(
        self,
        errors: Mapping[str, NDArray[np.float64]],
        weights: Mapping[str, float],
        means: Mapping[str, PriorMean],
    ) -> NDArray[np.float64]:
        """The blend's errors at every label: those that were not used were left out anyway."""
        blended = np.asarray(sum(weights[name] * error for name, error in errors.items()))
        if self.count == len(self.used):
            return blended
        process = self._process(weights)
        found = np.asarray(
            sum(
                weights[name] * mean.predict(self.labels.bands)
                for name, mean in means.items()
                if weights[name] > 0
            )
        )
        found = found + process.residual_at(self.inputs)
        if self.labels.network is not None:
            found = found + weights["network"] * self.labels.network
        every = self._missed(self.labels, found)
        every[self.used] = blended
        return every


def _library_means(library: LibraryPrior, least: float) -> dict[str, PriorMean]:
    """The library's prior means by their names."""
    assert library.shape is not None, "the library was fitted without shapes"
    means: dict[str, PriorMean] = {
        "library": library.regression,
        "shape": replace(library.shape, least=least),
    }
    if library.gaussians is not None:
        means["mixture"] = replace(library.gaussians, least=least)
    return means


class _Solver:
    """Solutions of kernel plus noise for any noise, from one decomposition."""

    def __init__(self, kernel: NDArray[np.float64]) -> None:
        values, self.vectors = np.linalg.eigh(kernel)
        self.values = np.maximum(values, 0)

    def solve(
        self, residual: NDArray[np.float64], noise: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients of the points and left-out errors, ``(point, channel)`` each."""
        parts = components_of(residual)
        solved, missed = [], []
        for scores, level in zip(parts, noise, strict=False):
            shrink = 1 / (self.values + level)
            inverse = (self.vectors * shrink) @ (self.vectors.T @ scores)
            solved.append(inverse)
            missed.append(inverse / ((self.vectors**2) @ shrink)[:, None])
        coefficients, errors = np.concatenate(solved, 1), np.concatenate(missed, 1)
        if len(parts) == 1:
            return coefficients, errors
        _, _, right = np.linalg.svd(residual, full_matrices=False)
        return coefficients @ right, errors @ right

    def energy(self, scores: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
        """``r' (K + noise)^-1 r`` of every column."""
        turned = self.vectors.T @ scores
        return np.asarray(((turned**2) / (self.values + noise)[:, None]).sum(0))
