"""The kernel against plain loops, and the fit of its parameters against numerical derivatives."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelssr_geo.estimator import FeatureScale
from pixelssr_geo.estimator.kernel import (
    COMPONENTS,
    FIT_POINTS,
    LENGTHS,
    TERMS,
    Distances,
    KernelInputs,
    KernelParameters,
    _Likelihood,
    components_of,
    fit_parameters,
    kernel_inputs,
    prior_parameters,
)
from pixelssr_geo.estimator.surroundings import PixelFeatures

Array = NDArray[np.float64]

WEIGHT_PRIOR = [(0, 2), (0, 2), (-1, 1.5), (-2, 1.5), (-2, 1.5), (-2, 1.5), (-2, 1.5), (-2, 1.5)]
LENGTH_PRIOR = [(0, 0.75), (math.log(10), 0.75), (math.log(8 / math.sqrt(48)), 0.75)]
NOISE_PRIOR = (-3, 1.5)


def make_inputs(count: int, *, bands: int = 3, seed: int = 0, side: float = 60) -> KernelInputs:
    """Pixels with standardised features, divided by the roots of their numbers."""
    draws = np.random.default_rng(seed)

    def table(features: int) -> Array:
        return draws.standard_normal((features, count)) / math.sqrt(features)

    rows, cols = draws.integers(0, int(side), (2, count)).astype("f8")
    return KernelInputs(table(bands), table(bands), table(12 * bands), table(8 * bands), rows, cols)


def make_parameters(*, square: bool = True, seed: int = 0, components: int = 1) -> KernelParameters:
    draws = np.random.default_rng([seed, 1])
    prior = prior_parameters(components, square=square)
    return KernelParameters(
        prior.weights + draws.standard_normal(len(TERMS)),
        prior.lengths + 0.5 * draws.standard_normal(len(LENGTHS)),
        prior.noise + draws.standard_normal(components),
    )


def plain_kernel(a: KernelInputs, b: KernelInputs, parameters: KernelParameters) -> Array:
    """Pixel by pixel, feature by feature."""
    constant, linear, bands, place, both, context, neighbours, square = np.exp(parameters.weights)
    by_levels, by_place, by_context = np.exp(parameters.lengths)
    found = np.empty((a.bands.shape[1], b.bands.shape[1]))
    for i in range(len(found)):
        for j in range(found.shape[1]):

            def product(name: str, i: int = i, j: int = j) -> float:
                x, y = getattr(a, name)[:, i], getattr(b, name)[:, j]
                return sum(float(u) * float(v) for u, v in zip(x, y, strict=True))

            def squared(name: str, i: int = i, j: int = j) -> float:
                x, y = getattr(a, name)[:, i], getattr(b, name)[:, j]
                return sum((float(u) - float(v)) ** 2 for u, v in zip(x, y, strict=True))

            away = math.hypot(a.rows[i] - b.rows[j], a.cols[i] - b.cols[j])
            alike = math.exp(-squared("levels") / 2 / by_levels**2)
            near = math.exp(-away / by_place)
            found[i, j] = (
                constant
                + linear * product("bands")
                + bands * alike
                + place * near
                + both * alike * near
                + context * math.exp(-squared("context") / 2 / by_context**2)
                + neighbours * product("neighbours")
                + square * product("bands") ** 2
            )
    return found


@pytest.mark.parametrize("square", [False, True])
def test_the_kernel_is_that_of_a_plain_double_loop(square: bool) -> None:
    a, b = make_inputs(7), make_inputs(5, seed=1)
    parameters = make_parameters(square=square)
    for one, other in ((a, b), (a, a)):
        found = Distances.between(one, other).kernel(parameters)
        np.testing.assert_allclose(found, plain_kernel(one, other, parameters), rtol=1e-10)


def test_some_pixels_of_a_kernel_are_the_kernel_of_these_pixels() -> None:
    inputs, parameters = make_inputs(9), make_parameters()
    index = np.array([7, 0, 3])
    chosen = inputs.take(index)
    expected = Distances.between(chosen, chosen).kernel(parameters)
    part = Distances.between(inputs, inputs).take(index).kernel(parameters)
    np.testing.assert_allclose(part, expected, atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(1, 14),
    bands=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    twice=st.booleans(),
    side=st.sampled_from([2, 60, 1e4]),
    spread=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_it_is_a_covariance(
    count: int, bands: int, seed: int, twice: bool, side: float, spread: float
) -> None:
    inputs = make_inputs(count, bands=bands, seed=seed, side=side)
    if twice:
        inputs = inputs.take(np.arange(2 * count) % count)
    prior, draws = prior_parameters(1, square=True), np.random.default_rng(seed)
    parameters = KernelParameters(
        prior.weights + spread * draws.standard_normal(len(TERMS)),
        prior.lengths + spread / 3 * draws.standard_normal(len(LENGTHS)),
        prior.noise,
    )
    found = Distances.between(inputs, inputs).kernel(parameters)
    np.testing.assert_allclose(found, found.T, rtol=1e-12)
    values = np.linalg.eigvalsh(found)
    assert values[0] >= -1e-10 * values[-1]


def test_features_are_standardised_and_weigh_as_one() -> None:
    draws = np.random.default_rng(0)
    bands, count = 3, 400

    def table(features: int) -> NDArray[np.float32]:
        sizes = draws.uniform(0.1, 5, (features, 1))
        return (sizes * (2 + draws.standard_normal((features, count)))).astype("f4")

    def moments(values: NDArray[np.float32]) -> tuple[Array, Array]:
        return values.mean(1, dtype="f8"), values.std(1, dtype="f8")

    places = draws.integers(0, 99, (2, count)).astype("f4")
    features = PixelFeatures(table(3), table(3), table(12), table(24), *places)
    scale = FeatureScale(
        level=np.ones(bands),
        bands=moments(features.bands),
        levels=moments(features.levels),
        context=moments(features.context),
        differences=np.sqrt((features.differences.astype("f8") ** 2).mean(1)),
        texture=0.0,
    )
    found = kernel_inputs(features, scale)
    standard = (features.bands - scale.bands[0][:, None]) / scale.bands[1][:, None]
    np.testing.assert_allclose(found.bands, standard / math.sqrt(bands), atol=1e-6)
    for values in (found.bands, found.levels, found.neighbours):
        assert values.dtype == np.float32
        assert (values.astype("f8") ** 2).sum(0).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(found.rows, features.rows)
    # Twelve features of the boxes and 24 differences, each as much as another.
    energy = (found.context.astype("f8") ** 2).mean(1)
    assert found.context.shape == (36, count)
    np.testing.assert_allclose(energy, 1 / 36, rtol=1e-5)


def minus_log_posterior(
    distances: Distances,
    parts: list[list[Array]],
    parameters: KernelParameters,
) -> float:
    """The mean of the residuals' likelihoods, each component's size profiled out, and the prior."""
    kernel = distances.kernel(parameters)
    total = 0.0
    for groups in parts:
        for k, scores in enumerate(groups):
            covariance = kernel + math.exp(parameters.noise[k]) * np.eye(len(kernel))
            energy = float(np.sum(scores * np.linalg.solve(covariance, scores)))
            log_determinant = float(np.linalg.slogdet(covariance)[1])
            value = len(kernel) / 2 * math.log(energy) + log_determinant / 2
            total += value / len(parts)
    priors = [*WEIGHT_PRIOR, *LENGTH_PRIOR, *[NOISE_PRIOR] * len(parameters.noise)]
    values = [*parameters.weights, *parameters.lengths, *parameters.noise]
    for value, (mean, deviation) in zip(values, priors, strict=True):
        if math.isfinite(value):
            total += ((value - mean) / deviation) ** 2 / 2
    return total


def make_residuals(count: int, members: int, seed: int = 0) -> list[Array]:
    draws = np.random.default_rng([seed, 2])
    return [
        draws.standard_normal((count, 3)) @ draws.standard_normal((3, 9))
        + 0.1 * draws.standard_normal((count, 9))
        for _ in range(members)
    ]


@pytest.mark.parametrize("free_lengths", [True, False])
@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize(("count", "members"), [(6, 1), (6, 3), (20, 1), (20, 2)])
def test_the_gradient_is_that_of_a_plain_posterior(
    count: int, members: int, square: bool, free_lengths: bool
) -> None:
    inputs = make_inputs(count, seed=3)
    distances = Distances.between(inputs, inputs)
    parts = [components_of(residual) for residual in make_residuals(count, members)]
    groups = max(map(len, parts))
    assert groups == (1 if count < 12 else COMPONENTS + 1)
    parameters = make_parameters(square=square, seed=5, components=groups)
    likelihood = _Likelihood(distances, parts, parameters, free_lengths=free_lengths)
    theta, step = likelihood.start, 1e-5
    found = likelihood.gradient(theta)
    expected = np.empty_like(theta)
    for at in range(len(theta)):
        there, back = theta.copy(), theta.copy()
        there[at] += step
        back[at] -= step
        high, low = (
            minus_log_posterior(distances, parts, likelihood.parameters(one))
            for one in (there, back)
        )
        expected[at] = (high - low) / (2 * step)
    if not free_lengths:
        first = len(TERMS) - (not square)
        expected[first : first + len(LENGTHS)] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_prior_is_as_written() -> None:
    found = prior_parameters(3, square=True)
    np.testing.assert_allclose(found.weights, [mean for mean, _ in WEIGHT_PRIOR])
    np.testing.assert_allclose(found.lengths, [mean for mean, _ in LENGTH_PRIOR])
    np.testing.assert_allclose(found.noise, [-3, -3, -3])
    assert prior_parameters(1, square=False).weights[-1] == -np.inf


def drawn_from(kernel: Array, noise: float, seed: int, channels: int = 12) -> Array:
    """Residuals with this covariance between pixels, ``(point, channel)``."""
    draws = np.random.default_rng([seed, 7])
    factor = np.linalg.cholesky(kernel + noise * np.eye(len(kernel)))
    return factor @ draws.standard_normal((len(kernel), channels))


def only(term: str, length: float | None = None) -> KernelParameters:
    weights = np.full(len(TERMS), -np.inf)
    weights[TERMS.index(term)] = 0
    lengths = prior_parameters(1, square=True).lengths
    if length is not None:
        lengths[LENGTHS.index("place")] = math.log(length)
    return KernelParameters(weights, lengths, np.zeros(1))


@pytest.mark.parametrize("term", ["linear", "bands", "place", "context", "neighbours"])
def test_the_fit_finds_what_the_residuals_depend_on(term: str) -> None:
    inputs = make_inputs(80, seed=2)
    distances = Distances.between(inputs, inputs)
    residual = drawn_from(distances.kernel(only(term)), 0.01, seed=1)
    found = fit_parameters(distances, [residual])
    bells = np.exp(found.weights)
    terms = [name for name in TERMS if name not in ("square", "constant", "bands x place")]
    sizes = {name: bells[TERMS.index(name)] for name in terms}
    assert max(sizes, key=lambda name: sizes[name]) == term


def test_the_fit_tells_how_far_the_place_matters() -> None:
    inputs = make_inputs(100, seed=2)
    distances = Distances.between(inputs, inputs)
    short, long = (
        fit_parameters(distances, [drawn_from(distances.kernel(only("place", at)), 0.01, seed=1)])
        for at in (3, 40)
    )
    place = LENGTHS.index("place")
    assert short.lengths[place] < math.log(10) < long.lengths[place]


def test_the_fit_tells_noise_from_what_can_be_known() -> None:
    # Every pixel twice: what the twins do not share is noise.
    inputs = make_inputs(40, seed=2).take(np.arange(80) // 2)
    distances = Distances.between(inputs, inputs)
    kernel = distances.kernel(only("bands"))
    clean, noisy = (fit_parameters(distances, [drawn_from(kernel, at, seed=1)]) for at in (1e-3, 9))
    assert (np.exp(clean.noise[:COMPONENTS]) < 0.2 * np.exp(clean.weights).sum()).all()
    assert np.exp(noisy.noise).mean() > np.exp(noisy.weights).sum()


def test_the_fit_is_more_likely_than_the_prior_means() -> None:
    inputs = make_inputs(40, seed=4)
    distances = Distances.between(inputs, inputs)
    residual = drawn_from(distances.kernel(only("place")), 0.1, seed=3)
    parts = [components_of(residual)]
    start = prior_parameters(len(parts[0]), square=False)
    before = minus_log_posterior(distances, parts, start)
    after = minus_log_posterior(distances, parts, fit_parameters(distances, [residual]))
    assert after < before - 1


def test_the_size_of_the_residuals_does_not_matter() -> None:
    inputs = make_inputs(30, seed=4)
    distances = Distances.between(inputs, inputs)
    (residual,) = make_residuals(30, 1)
    one, large = (fit_parameters(distances, [size * residual]) for size in (1, 1e4))
    for name in ("weights", "lengths", "noise"):
        np.testing.assert_allclose(getattr(one, name), getattr(large, name), rtol=1e-6)


def test_too_few_points_keep_the_prior_means() -> None:
    inputs = make_inputs(FIT_POINTS - 1)
    found = fit_parameters(Distances.between(inputs, inputs), make_residuals(FIT_POINTS - 1, 2))
    prior = prior_parameters(1, square=False)
    for name in ("weights", "lengths", "noise"):
        np.testing.assert_array_equal(getattr(found, name), getattr(prior, name))


@pytest.mark.parametrize("count", [3, 30])
def test_given_lengths_are_kept(count: int) -> None:
    inputs, lengths = make_inputs(count), np.array([0.3, 2.0, -0.4])
    distances = Distances.between(inputs, inputs)
    found = fit_parameters(distances, make_residuals(count, 1), square=True, lengths=lengths)
    np.testing.assert_array_equal(found.lengths, lengths)
    assert np.isfinite(found.weights).all()


@pytest.mark.parametrize("count", [1, 5, 11, 12, 40])
def test_components_are_the_residual_in_another_basis(count: int) -> None:
    residual = make_residuals(count, 1)[0]
    parts = components_of(residual)
    sizes = [1, 1, 1, 1, min(count, 9) - 4] if count >= 12 else [9]
    assert [part.shape[1] for part in parts] == sizes
    together = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(together @ together.T, residual @ residual.T, atol=1e-9)


def test_residuals_of_few_channels_have_no_rest() -> None:
    assert [part.shape[1] for part in components_of(np.ones((20, 3)))] == [1, 1, 1]
    assert [part.shape[1] for part in components_of(np.ones((20, 4)))] == [1] * 4
