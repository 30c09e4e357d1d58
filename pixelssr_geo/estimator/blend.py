"""Weights of several estimates, by their errors at points that each of them left out."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRUST_POINTS = 20.0
"""How many points the trust counts for."""

LEAST_WEIGHT = 0.01
"""A smaller weight is none: the estimate need not be computed over the scene."""


def blend_weights(errors: NDArray[np.float64], trust: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights on the simplex that make the mean of the errors small without going far.

    The minimum of ``w' G w + 20 / points m w' diag(1 / trust) w / n`` over ``w >= 0, sum w = 1``, G
    holding the products of the errors, m being the median of its diagonal, and n the number of
    estimates. Without errors, the weights are the trust.

    Parameters
    ----------
    errors
        Of each estimate where it had not seen the truth, ``(estimate, point, channel)``.
    trust
        Weights before any error was seen, positive, ``(estimate,)``.
    """
    share = np.asarray(trust / trust.sum(), "f8")
    flat = errors.reshape(len(errors), -1)
    products = flat @ flat.T
    usual = float(np.median(np.diag(products)))
    if usual <= 0:
        return share
    shrink = TRUST_POINTS / errors.shape[1] / len(share)
    cost = products / usual + shrink * np.diag(1 / share)
    weights = _least(cost)
    weights[weights < LEAST_WEIGHT] = 0
    return np.asarray(weights / weights.sum())


def _least(cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least of ``w' cost w`` on the simplex, ``cost`` being positive definite.

    There are few estimates, so every set of them that may carry weight is tried.
    """
    count = len(cost)
    best, found = np.inf, np.full(count, 1 / count)
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            index = list(chosen)
            inner = np.linalg.solve(cost[np.ix_(index, index)], np.ones(size))
            if (inner < 0).any():
                continue
            value = 1 / inner.sum()
            if value < best:
                best, found = value, np.zeros(count)
                found[index] = inner * value
    return found
