"""The closed-form estimator: library regression, correction at the points, projection, gate."""

from pixelssr_geo.estimator.estimator import (
    Estimate,
    Estimator,
    LibraryPrior,
    SceneStatistics,
    fit_estimator,
    fit_library,
    fit_points_alone,
)
from pixelssr_geo.estimator.folds import SpatialFolds, spatial_folds, withheld_errors
from pixelssr_geo.estimator.gate import Gate, fit_gate
from pixelssr_geo.estimator.projection import Projection, usable_bands

__all__ = [
    "Estimate",
    "Estimator",
    "Gate",
    "LibraryPrior",
    "Projection",
    "SceneStatistics",
    "SpatialFolds",
    "fit_estimator",
    "fit_gate",
    "fit_library",
    "fit_points_alone",
    "spatial_folds",
    "usable_bands",
    "withheld_errors",
]
