"""How far a cube is from its reference.

All functions take two arrays of one shape, ``(channel, y, x)`` or ``(channel, pixel)``, and give
a plain number. NaN is nodata: a pixel that is NaN (or infinite) in any channel of either array is
left out of all channels, and so is one that is False in ``valid``. Without a pixel left, the result
is NaN. Sums are taken in float64.
"""

from pixelssr_geo.metrics.differences import (
    correlation,
    ergas,
    mae,
    mpsnr,
    mrae,
    psnr,
    psnr_elementwise,
    rmse,
    rmse_per_pixel,
)
from pixelssr_geo.metrics.scores import Score, VariantScore, score, variant_score
from pixelssr_geo.metrics.spectral import sam, sam_band, sam_per_pixel
from pixelssr_geo.metrics.structure import PADDED, UNIFORM, UNIFORM_WIDE, WANG, SsimWindow, ssim

__all__ = [
    "PADDED",
    "UNIFORM",
    "UNIFORM_WIDE",
    "WANG",
    "Score",
    "SsimWindow",
    "VariantScore",
    "correlation",
    "ergas",
    "mae",
    "mpsnr",
    "mrae",
    "psnr",
    "psnr_elementwise",
    "rmse",
    "rmse_per_pixel",
    "sam",
    "sam_band",
    "sam_per_pixel",
    "score",
    "ssim",
    "variant_score",
]
