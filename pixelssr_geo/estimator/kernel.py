"""The covariance between pixels: by their bands, their surroundings and their place.

One kernel serves all prior means and all channels. Its weights and lengths maximise the posterior of
the residuals at the points, whose leading principal components each have a size and a noise of their
own; the sizes are profiled out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixelssr_geo.estimator.arrays import functions_of, single

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pixelssr_geo.estimator.surroundings import FeatureScale, PixelFeatures

TERMS = ("constant", "linear", "bands", "place", "bands x place", "context", "neighbours", "square")
"""Parts of the kernel: one; the product of the bands; a Gaussian of the levels; an exponential of
the distance on the ground; the product of the two; a Gaussian of context and differences; the
product of the differences; the square of the product of the bands."""

LENGTHS = ("bands", "place", "context")
"""What has a length scale: levels and context in deviations per feature, the place in pixels."""

COMPONENTS = 4
"""Leading principal components of the residual that have a noise of their own; the rest share one."""

COMPONENT_POINTS = 12
"""Labels from which components are told apart."""

FIT_POINTS = 5
"""Labels from which the parameters are fitted; with fewer they keep their prior means."""

LARGEST_FIT = 300
"""Labels that the parameters are fitted on at the most, drawn at random."""

STEPS = 50
"""Steps of the fit (Adam, rate 0.15)."""

_RATE = 0.15
_WEIGHT_PRIOR = np.array(
    [[0, 2], [0, 2], [-1, 1.5], [-2, 1.5], [-2, 1.5], [-2, 1.5], [-2, 1.5], [-2, 1.5]]
)
"""Mean and deviation of the logarithm of each term's weight, set once by hand."""
_LENGTH_PRIOR = np.array([[0, 0.75], [np.log(10), 0.75], [np.log(8 / np.sqrt(48)), 0.75]])
_NOISE_PRIOR = (-3.0, 1.5)


@dataclass(frozen=True, slots=True, eq=False)
class KernelParameters:
    """Logarithms of all that a kernel has to be told."""

    weights: NDArray[np.float64]
    """Of :data:`TERMS`, ``(term,)``; minus infinity leaves one out."""
    lengths: NDArray[np.float64]
    """Of :data:`LENGTHS`."""
    noise: NDArray[np.float64]
    """Variance of the noise in units of each component's variance, ``(component,)``."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelInputs:
    """Standardised features of some pixels, one column each."""

    bands: NDArray[np.floating]
    """``(band, pixel)``, divided by the root of their number."""
    levels: NDArray[np.floating]
    """As the bands."""
    context: NDArray[np.floating]
    """Context and differences, divided by the root of their number."""
    neighbours: NDArray[np.floating]
    """Differences, divided by the root of their number."""
    rows: NDArray[np.floating]
    """``(pixel,)``."""
    cols: NDArray[np.floating]
    """``(pixel,)``."""

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> KernelInputs:
        """The pixels at ``index``."""
        return KernelInputs(
            self.bands[:, index],
            self.levels[:, index],
            self.context[:, index],
            self.neighbours[:, index],
            self.rows[index],
            self.cols[index],
        )

    def astype(self, dtype: str) -> KernelInputs:
        """The same numbers in another precision."""
        return KernelInputs(
            *(
                np.ascontiguousarray(part, dtype)
                for part in (
                    self.bands,
                    self.levels,
                    self.context,
                    self.neighbours,
                    self.rows,
                    self.cols,
                )
            )
        )


def kernel_inputs(features: PixelFeatures, scale: FeatureScale) -> KernelInputs:
    """Features as the kernel takes them, float32."""

    def scaled(values: NDArray[np.float32], size: NDArray[np.float64]) -> NDArray[np.float32]:
        return values * single(1 / (size * np.sqrt(len(values))))[:, None]

    def standard(
        values: NDArray[np.float32], mean: NDArray[np.float64], size: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        return scaled(values - single(mean)[:, None], size)

    neighbours = scaled(features.differences, scale.differences)
    context = standard(features.context, *scale.context)
    # Each feature of the two counts the same.
    total = len(context) + len(neighbours)
    joined = functions_of(context).concatenate(
        [
            context * np.float32(np.sqrt(len(context) / total)),
            neighbours * np.float32(np.sqrt(len(neighbours) / total)),
        ]
    )
    return KernelInputs(
        bands=standard(features.bands, *scale.bands),
        levels=standard(features.levels, *scale.levels),
        context=joined,
        neighbours=neighbours,
        rows=features.rows,
        cols=features.cols,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """What the terms are computed from, between two sets of pixels; ``(pixel, pixel)`` each."""

    product: NDArray[np.float64]
    """Product of the bands."""
    levels: NDArray[np.float64]
    """Squared distance of the levels."""
    place: NDArray[np.float64]
    """Distance on the ground, pixels."""
    context: NDArray[np.float64]
    """Squared distance of context and differences."""
    neighbours: NDArray[np.float64]
    """Product of the differences."""

    @staticmethod
    def between(a: KernelInputs, b: KernelInputs) -> Distances:
        """Distances of every pixel of ``a`` from every pixel of ``b``, float64."""
        a, b = a.astype("f8"), b.astype("f8")
        return Distances(
            product=a.bands.T @ b.bands,
            levels=_squared(a.levels, b.levels),
            place=np.hypot(a.rows[:, None] - b.rows, a.cols[:, None] - b.cols),
            context=_squared(a.context, b.context),
            neighbours=a.neighbours.T @ b.neighbours,
        )

    def take(self, index: NDArray[np.int64]) -> Distances:
        """Between some of the pixels of a set and the same ones."""
        grid = np.ix_(index, index)
        return Distances(
            self.product[grid],
            self.levels[grid],
            self.place[grid],
            self.context[grid],
            self.neighbours[grid],
        )

    def term(self, number: int, bells: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """A term of the kernel without its weight; ``bells`` are those of :func:`bells_of`."""
        match TERMS[number]:
            case "constant":
                return np.ones_like(self.product)
            case "linear":
                return self.product
            case "bands":
                return bells[0]
            case "place":
                return bells[1]
            case "bands x place":
                return bells[0] * bells[1]
            case "context":
                return bells[2]
            case "neighbours":
                return self.neighbours
        return self.product**2

    def kernel(self, parameters: KernelParameters) -> NDArray[np.float64]:
        """The covariance without noise."""
        bells = bells_of(self, parameters.lengths)
        total = np.zeros_like(self.product)
        for number, weight in enumerate(np.exp(parameters.weights)):
            if weight:
                total += weight * self.term(number, bells)
        return total


def _squared(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    square = (a * a).sum(0)[:, None] + (b * b).sum(0) - 2 * a.T @ b
    return np.asarray(np.maximum(square, 0), "f8")


def bells_of(distances: Distances, lengths: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Covariances between 0 and 1 by levels, place and context."""
    by_levels, by_place, by_context = np.exp(lengths)
    return [
        np.exp(distances.levels * (-0.5 / by_levels**2)),
        np.exp(distances.place * (-1 / by_place)),
        np.exp(distances.context * (-0.5 / by_context**2)),
    ]


def prior_parameters(components: int, *, square: bool) -> KernelParameters:
    """The means of the prior; ``square`` says whether that term takes part."""
    weights = _WEIGHT_PRIOR[:, 0].astype("f8")
    if not square:
        weights[-1] = -np.inf
    noise = np.full(components, _NOISE_PRIOR[0])
    return KernelParameters(weights, _LENGTH_PRIOR[:, 0].astype("f8"), noise)


def components_of(residual: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Residuals ``(point, channel)`` as scores of their leading components, and of the rest.

    Each is ``(point, n)``; turned together they are the residual in another basis.
    """
    if len(residual) < COMPONENT_POINTS:
        return [residual]
    left, size, _ = np.linalg.svd(residual, full_matrices=False)
    scores = left * size
    parts = [scores[:, k : k + 1] for k in range(min(COMPONENTS, scores.shape[1]))]
    return [*parts, scores[:, COMPONENTS:]] if scores.shape[1] > COMPONENTS else parts


def fit_parameters(
    distances: Distances,
    residuals: Sequence[NDArray[np.float64]],
    *,
    square: bool = False,
    lengths: NDArray[np.float64] | None = None,
) -> KernelParameters:
    """Parameters under which residuals at the points are likely.

    Parameters
    ----------
    distances
        Among the points.
    residuals
        Of one prior mean or several, which count the same, ``(point, channel)`` each.
    square
        Whether the square of the product of the bands takes part.
    lengths
        Logarithms of the length scales; by default they are fitted as well.

    Returns
    -------
    KernelParameters
        Their prior means with fewer than :data:`FIT_POINTS` points.
    """
    parts = [components_of(residual) for residual in residuals]
    groups = max(map(len, parts))
    start = prior_parameters(groups, square=square)
    if lengths is not None:
        start = KernelParameters(start.weights, lengths, start.noise)
    if len(residuals[0]) < FIT_POINTS:
        return start
    likelihood = _Likelihood(distances, parts, start, free_lengths=lengths is None)
    theta = likelihood.start
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for step in range(1, STEPS + 1):
        slope = likelihood.gradient(theta)
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        size = np.sqrt(second / (1 - 0.99**step)) + 1e-9
        theta = theta - _RATE * (first / (1 - 0.9**step)) / size
    return likelihood.parameters(theta)


class _Likelihood:
    """Minus the logarithm of the posterior, by its gradient."""

    def __init__(
        self,
        distances: Distances,
        parts: Sequence[Sequence[NDArray[np.float64]]],
        start: KernelParameters,
        *,
        free_lengths: bool,
    ) -> None:
        self._distances, self._parts, self._start = distances, parts, start
        self._terms = [int(at) for at in np.flatnonzero(np.isfinite(start.weights))]
        self._free_lengths = free_lengths
        prior = np.concatenate(
            [
                _WEIGHT_PRIOR[self._terms],
                _LENGTH_PRIOR,
                np.tile(_NOISE_PRIOR, (len(start.noise), 1)),
            ]
        )
        self._mean, self._deviation = prior.T
        self.start = np.concatenate([start.weights[self._terms], start.lengths, start.noise])

    def parameters(self, theta: NDArray[np.float64]) -> KernelParameters:
        weights, lengths, noise = self._split(theta)
        every = np.full(len(TERMS), -np.inf)
        every[self._terms] = weights
        return KernelParameters(every, lengths, noise)

    def _split(self, theta: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        count = len(self._terms)
        return np.split(theta, [count, count + len(LENGTHS)])

    def gradient(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        weights, lengths, noise = self._split(theta)
        found = self._distances
        bells = bells_of(found, lengths)
        size = dict(zip((TERMS[number] for number in self._terms), np.exp(weights), strict=True))
        terms = [found.term(number, bells) for number in self._terms]
        kernel = np.einsum("t,tij->ij", np.exp(weights), np.asarray(terms))
        by_kernel, by_noise = self._by_kernel(kernel, np.exp(noise))
        by_weights = [
            w * (by_kernel * t).sum() for w, t in zip(np.exp(weights), terms, strict=True)
        ]
        both = size["bands x place"] * bells[0] * bells[1]
        by_lengths = [
            ((size["bands"] * bells[0] + both) * found.levels * by_kernel).sum()
            * np.exp(-2 * lengths[0]),
            ((size["place"] * bells[1] + both) * found.place * by_kernel).sum()
            * np.exp(-lengths[1]),
            (size["context"] * bells[2] * found.context * by_kernel).sum()
            * np.exp(-2 * lengths[2]),
        ]
        slope = np.concatenate([by_weights, by_lengths, by_noise])
        slope += (theta - self._mean) / self._deviation**2
        if not self._free_lengths:
            slope[len(weights) : len(weights) + len(LENGTHS)] = 0
        return slope

    def _by_kernel(
        self, kernel: NDArray[np.float64], noise: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Derivatives by the kernel's entries and by the logarithms of the noise.

        Of n/2 log(r' K^-1 r) + 1/2 log det K for every component r, K with its noise.
        """
        values, vectors = np.linalg.eigh(kernel)
        values = np.maximum(values, 0)
        share = 1 / len(self._parts)
        diagonal = np.zeros_like(values)
        solved, by_noise = [], np.zeros_like(noise)
        for parts in self._parts:
            for k, scores in enumerate(parts):
                turned = vectors.T @ scores
                spread = values + noise[k]
                energy = (turned**2).sum(1)
                weight = len(kernel) / 2 / max(float((energy / spread).sum()), 1e-300)
                diagonal += share * 0.5 / spread
                solved.append(np.sqrt(share * weight) * (vectors @ (turned / spread[:, None])))
                by_noise[k] += share * (
                    0.5 * (noise[k] / spread).sum() - weight * noise[k] * (energy / spread**2).sum()
                )
        every = np.concatenate(solved, axis=1)
        return (vectors * diagonal) @ vectors.T - every @ every.T, by_noise
