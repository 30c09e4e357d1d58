r"""The fractional Fourier transform of images, exact and differentiable in its order.

Discrete transform of Candan, Kutay and Ozaktas (IEEE Trans. Signal Process. 48(5), 2000):
``F_a = U diag(exp(-i pi a l / 2)) U^T`` with the orthonormal, Hermite-Gauss-like eigenvectors ``U``
of a symmetric matrix that commutes with the discrete Fourier transform. It is unitary, adds up in
the order (``F_a F_b = F_{a+b}``), is the identity at order 0 and the *centred* unitary DFT at
order 1: row and column ``N // 2`` stand for position and frequency 0, so
``F_1 x = fftshift(fft(ifftshift(x), norm="ortho"))``. Centring lets neighbouring coefficients be
neighbours in the image that the scans walk over; it is a permutation of the rows of ``U``.

``U`` is found once per length, in float64, and kept. For images of up to about a thousand pixels a
side the matrix is cheaper than chirp algorithms, which are neither unitary nor additive.
"""

from __future__ import annotations

from functools import lru_cache
from math import pi, prod, sqrt

import torch
from torch import Tensor, nn


def _commuting_matrix(length: int) -> Tensor:
    """Return the symmetric matrix that commutes with the DFT, ``(length, length)``, float64."""
    n = torch.arange(length)
    matrix = torch.diag(2 * torch.cos(2 * pi * n.to(torch.float64) / length))
    matrix[n, (n + 1) % length] += 1  # both neighbours are one sample at lengths 1 and 2
    matrix[n, (n - 1) % length] += 1
    return matrix


def _parity_basis(length: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal bases of the even and the odd vectors, ``(length, size)`` each.

    A vector is even if ``x[n] = x[-n]``, indices modulo ``length``.
    """
    even = torch.zeros(length, length // 2 + 1, dtype=torch.float64)
    odd = torch.zeros(length, (length - 1) // 2, dtype=torch.float64)
    for k in range(length // 2 + 1):
        if k in (0, length - k):
            even[k, k] = 1.0
        else:
            even[k, k] = even[length - k, k] = 1 / sqrt(2)
            odd[k, k - 1], odd[length - k, k - 1] = 1 / sqrt(2), -1 / sqrt(2)
    return even, odd


def _descending_eigenvectors(matrix: Tensor, basis: Tensor) -> Tensor:
    """Return eigenvectors of ``matrix`` within ``basis``, largest eigenvalue first, as columns."""
    if basis.shape[1] == 0:
        return basis
    vectors: Tensor = torch.linalg.eigh(basis.T @ matrix @ basis).eigenvectors
    return basis @ vectors.flip(1)


@lru_cache(maxsize=32)
def hermite_basis(length: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors of the centred DFT and their indices.

    The even and the odd vectors are found apart: the matrix has a repeated eigenvalue at lengths
    divisible by four, whose eigenvectors would otherwise mix both parities.

    Parameters
    ----------
    length
        Number of samples.
    dtype, device
        Of the result.

    Returns
    -------
    tuple of Tensor
        Orthonormal columns ``(length, length)``, column ``l`` with ``l`` sign changes, and the
        Hermite indices ``(length,)``: 0, 1, 2, ..., where an even length skips ``length - 1``.
    """
    with torch.no_grad():
        matrix = _commuting_matrix(length)
        even, odd = (_descending_eigenvectors(matrix, b) for b in _parity_basis(length))
        indices = torch.cat([2 * torch.arange(even.shape[1]), 2 * torch.arange(odd.shape[1]) + 1])
        order = indices.argsort()
        basis = torch.cat([even, odd], dim=1)[:, order]
        centred = basis.roll(length // 2, dims=0)
    return centred.to(device, dtype), indices[order].to(device, dtype)


def frft_matrix(length: int, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real and imaginary part of ``F_a``, each ``(length, length)`` and symmetric.

    Parameters
    ----------
    length
        Number of samples.
    order
        The order ``a``, a scalar; gradients reach it.
    """
    with torch.inference_mode(False):  # a cached basis must serve training, too
        basis, indices = hermite_basis(length, order.dtype, str(order.device))
    phase = order * indices * (-pi / 2)
    return (basis * phase.cos()) @ basis.T, (basis * phase.sin()) @ basis.T


def _transform_rows(real: Tensor, imag: Tensor, f: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return ``(real + i imag) F`` along the last axis, in two real products."""
    products = torch.cat([real, imag], dim=-2) @ torch.cat(f, dim=1)
    upper, lower = torch.split(products, real.shape[-2], dim=-2)
    size = f[0].shape[0]
    return upper[..., :size] - lower[..., size:], upper[..., size:] + lower[..., :size]


def frft2(real: Tensor, imag: Tensor | None, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real and imaginary part of the transform over the last two axes, ``F_a X F_a``.

    Parameters
    ----------
    real, imag
        Parts of the input, ``(..., y, x)``; None stands for a real input.
    order
        The order ``a``, a scalar. ``-a`` inverts ``a``.
    """
    rows, columns = real.shape[-2:]
    along_x = frft_matrix(columns, order)
    along_y = along_x if rows == columns else frft_matrix(rows, order)
    if imag is None:
        real, imag = torch.split(real @ torch.cat(along_x, dim=1), columns, dim=-1)
    else:
        real, imag = _transform_rows(real, imag, along_x)
    real, imag = _transform_rows(real.mT, imag.mT, along_y)
    return real.mT, imag.mT


class FractionalFourier(nn.Module):
    """The two-dimensional transform with a learnt order shared by both axes and all channels.

    Parameters
    ----------
    order
        Order to start from: 0 the identity, 1 the centred Fourier transform.
    learnable
        Whether the order is a parameter; otherwise it is a constant.
    """

    order: Tensor

    def __init__(self, order: float = 0.5, *, learnable: bool = True) -> None:
        super().__init__()
        value = torch.tensor(float(order))
        if learnable:
            self.order = nn.Parameter(value)
        else:
            self.register_buffer("order", value, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the real and imaginary part of the transform of ``image`` ``(..., y, x)``."""
        return frft2(image, None, self.order)

    def own_macs(self, image: tuple[int, ...]) -> dict[str, int]:
        """Return the multiply-accumulates of both ways for an image of this shape.

        Each way builds one matrix per axis (real and imaginary part), and transforms along x (real
        input there, complex on the way back) and along y (complex).
        """
        rows, columns = image[-2:]
        sides = {rows, columns}
        matrices = 2 * sum(2 * side**3 for side in sides)
        there = prod(image) * (2 * columns + 4 * rows)
        back = prod(image) * (4 * columns + 4 * rows)
        return {"transform": matrices + there + back}

    def invert(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        """Return the real and imaginary part of the inverse transform, ``(..., y, x)``."""
        return frft2(real, imag, -self.order)
