"""The closed-form estimator: prior means, Gaussian process at the points, blend, projection, gate."""

from pixelssr_geo.estimator.blended import BlendedEstimator, blend_library, fit_blend
from pixelssr_geo.estimator.contract import Estimate, Estimator, SceneStatistics
from pixelssr_geo.estimator.folds import (
    SpatialFolds,
    rmse_spread,
    spatial_folds,
    widening,
    withheld,
)
from pixelssr_geo.estimator.gate import Gate, fit_gate
from pixelssr_geo.estimator.library import LibraryPrior, fit_library
from pixelssr_geo.estimator.pixelwise import PixelEstimator, fit_points_alone, library_alone
from pixelssr_geo.estimator.projection import Projection, usable_bands
from pixelssr_geo.estimator.surroundings import (
    HALO,
    FeatureScale,
    FeatureSums,
    View,
    feature_level,
)

__all__ = [
    "HALO",
    "BlendedEstimator",
    "Estimate",
    "Estimator",
    "FeatureScale",
    "FeatureSums",
    "Gate",
    "LibraryPrior",
    "PixelEstimator",
    "Projection",
    "SceneStatistics",
    "SpatialFolds",
    "View",
    "blend_library",
    "feature_level",
    "fit_blend",
    "fit_gate",
    "fit_library",
    "fit_points_alone",
    "library_alone",
    "rmse_spread",
    "spatial_folds",
    "usable_bands",
    "widening",
    "withheld",
]
