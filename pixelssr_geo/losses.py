"""The four losses of the paper (supplementary, equations 14 and 15).

Arrays are ``(batch, channel or band, y, x)``. A ``valid`` mask ``(batch, 1, y, x)`` leaves pixels
without data out; None means that all are valid. A mean over nothing is 0 and has zero gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_WINDOW, _SIGMA = 11, 1.5  # of SSIM (Wang et al. 2004), pixels
_C1, _C2 = 0.01**2, 0.03**2  # its constants for reflectance in [0, 1]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the four losses (eq. 15); 0 switches a loss off."""

    point: float = 1.0
    """Weight of L_pHSI."""
    projection: float = 1.0
    """beta_1, weight of L_rep."""
    ssim: float = 0.3
    """beta_2, weight of L_SSIM."""
    image: float = 0.3
    """beta_3, weight of L_P2I."""


class LossTerms(NamedTuple):
    """Values of the four losses, scalars."""

    point: Tensor
    """L_pHSI."""
    projection: Tensor
    """L_rep."""
    ssim: Tensor
    """L_SSIM."""
    image: Tensor
    """L_P2I."""


def overall_loss(terms: LossTerms, weights: LossWeights) -> Tensor:
    """Return the weighted sum of the losses (eq. 15), a scalar.

    A loss of weight 0 does not enter at all, not even with its NaN.
    """
    total = torch.zeros_like(terms.point)
    for name, term in terms._asdict().items():
        weight = getattr(weights, name)
        if weight:
            total = total + weight * term
    return total


def projection_loss(x: Tensor, y: Tensor, response: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return L_rep, the mean absolute difference between the scene and the cube's bands S Y.

    Parameters
    ----------
    x
        Scene, ``(batch, band, y, x)``.
    y
        Cube, ``(batch, channel, y, x)``.
    response
        Response matrix S, ``(band, channel)``, rows summing to 1.
    valid
        Pixels with data, ``(batch, 1, y, x)``.
    """
    return _mean_absolute(x - torch.einsum("kc,bcyx->bkyx", response, y), valid)


def point_loss(y: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return L_pHSI, the mean absolute difference at the labelled pixels alone.

    Parameters
    ----------
    y
        Cube, ``(batch, channel, y, x)``.
    labels
        Spectra at the labelled pixels, anything elsewhere (NaN too), same shape.
    mask
        Labelled pixels, ``(batch, 1, y, x)``; with none, the loss is 0.
    """
    return _mean_absolute(y - labels, mask)


def adjacent_ssim_loss(y: Tensor) -> Tensor:
    """Return L_SSIM, one minus the mean structural similarity of adjacent channels.

    Gaussian window of 11 pixels (sigma 1.5), smaller in smaller images; data range 1; no padding.
    A cube with one channel has no pair: 0.

    Parameters
    ----------
    y
        Cube, ``(batch, channel, y, x)``.
    """
    if y.shape[1] < 2:
        return y.sum() * 0.0
    means = _smooth(y)
    variances = _smooth(y * y) - means**2
    first, second = means[:, :-1], means[:, 1:]
    covariances = _smooth(y[:, :-1] * y[:, 1:]) - first * second
    luminance = (2 * first * second + _C1) / (first**2 + second**2 + _C1)
    contrast = (2 * covariances + _C2) / (variances[:, :-1] + variances[:, 1:] + _C2)
    return 1.0 - (luminance * contrast).mean()


def pixel_to_image_loss(x: Tensor, mapped: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return L_P2I, the mean absolute difference between the scene and M_H2R(Y3).

    Parameters
    ----------
    x, mapped
        Scene and what Y3 was mapped to, ``(batch, band, y, x)``.
    valid
        Pixels with data, ``(batch, 1, y, x)``.
    """
    return _mean_absolute(x - mapped, valid)


def _mean_absolute(difference: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean absolute value over the masked pixels and all channels."""
    if mask is None:
        return difference.abs().mean()
    chosen = mask.to(torch.bool).expand_as(difference)
    # where, not a product: what is masked may be NaN, and must not reach the gradient.
    total = torch.where(chosen, difference, 0.0).abs().sum()
    return total / chosen.sum().clamp_min(1)


def _smooth(image: Tensor) -> Tensor:
    """Return the image under the Gaussian window, channel by channel, without its border."""
    channels, rows, columns = image.shape[1:]
    flat = image.reshape(-1, 1, rows, columns)
    flat = functional.conv2d(flat, _gaussian(rows, image).view(1, 1, -1, 1))
    flat = functional.conv2d(flat, _gaussian(columns, image).view(1, 1, 1, -1))
    return flat.view(-1, channels, *flat.shape[2:])


def _gaussian(length: int, like: Tensor) -> Tensor:
    """Return the window for an axis of ``length`` pixels, odd in size, summing to one."""
    size = min(_WINDOW, length - (length + 1) % 2)
    offset = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    window = torch.exp(-0.5 * (offset / _SIGMA) ** 2)
    return window / window.sum()
