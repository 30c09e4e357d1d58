"""Selective scans over images: one call, several backends with the same result.

The table below is the list of backends, best first. A backend is a module with a function from a
:class:`~pixelssr_geo.nets.scan.problem.ScanProblem` to the summed scan, differentiable in every
tensor of it, and a probe that says why it cannot serve a device, if so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from pixelssr_geo.errors import DeviceError, SettingsError
from pixelssr_geo.nets.scan.problem import ScanProblem
from pixelssr_geo.nets.scan.walks import ALL_DIRECTIONS, DIRECTIONS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["available_backends", "chosen_backend", "scan_backends", "selective_scan_2d"]

ENVIRONMENT_VARIABLE = "PIXELSSR_SCAN_BACKEND"
"""Names the backend that ``backend="auto"`` takes."""


@dataclass(frozen=True, slots=True)
class ScanBackend:
    """One way to compute the scan."""

    module: str
    """Module with ``scan(problem)`` and ``missing(device)``, the reason why it cannot serve a device
    (None if it can). It imports what it needs beside torch within them."""
    double: bool = True
    """Whether it computes in float64, too."""
    automatic: str | None = "any"
    """Kind of device that ``"auto"`` takes it for, "any", or None. So an interpreter that serves
    other kinds, too, is for those who name it."""

    def is_automatic(self, device: torch.device) -> bool:
        """Return whether ``"auto"`` may take it for ``device``."""
        return self.automatic in {"any", device.type}

    def missing(self, device: torch.device) -> str | None:
        """Return why the backend cannot serve ``device``; None if it can."""
        reason: str | None = import_module(self.module).missing(device)
        return reason

    def scan(self, problem: ScanProblem) -> Tensor:
        """Return the summed scan, ``(batch, pixel, D)``."""
        result: Tensor = import_module(self.module).scan(problem)
        return result


_BACKENDS: dict[str, ScanBackend] = {
    "mamba-ssm": ScanBackend("pixelssr_geo.nets.scan.mamba", double=False, automatic="cuda"),
    "triton": ScanBackend("pixelssr_geo.nets.scan.triton_scan", double=False, automatic="cuda"),
    "cpp": ScanBackend("pixelssr_geo.nets.scan.cpp", double=False, automatic="cpu"),
    "numba": ScanBackend("pixelssr_geo.nets.scan.numba_scan", double=False, automatic="cpu"),
    "torch": ScanBackend("pixelssr_geo.nets.scan.blocked"),
    "reference": ScanBackend("pixelssr_geo.nets.scan.reference", automatic=None),
}


def scan_backends(device: torch.device | str = "cpu") -> dict[str, str | None]:
    """Return every backend with the reason why it cannot serve ``device`` (None: it can).

    All are tried: the first call on a machine builds the C++ kernel, and numba is imported.
    """
    where = torch.device(device)
    return {name: backend.missing(where) for name, backend in _BACKENDS.items()}


def available_backends(device: torch.device | str = "cpu") -> list[str]:
    """Return the backends that can serve ``device``, best first."""
    return [name for name, reason in scan_backends(device).items() if reason is None]


def chosen_backend(
    backend: str = "auto", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> str:
    """Return the backend that ``backend`` stands for on ``device``.

    ``"auto"`` is the one that the environment variable ``PIXELSSR_SCAN_BACKEND`` names, otherwise
    the best one there that computes in ``dtype``. Those behind the one that is taken are not tried.

    Raises
    ------
    DeviceError
        If the backend is not known or cannot serve the device or the dtype.
    """
    if backend == "auto":
        backend = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    where = torch.device(device)
    if backend == "auto":
        usable = (name for name, one in _BACKENDS.items() if one.is_automatic(where))
        return next(name for name in usable if _reason_against(name, where, dtype) is None)
    known = f"{', '.join(_BACKENDS)} or 'auto'"
    if backend not in _BACKENDS:
        raise DeviceError(f"scan backend '{backend}' is not known, expected one of {known}")
    if reason := _reason_against(backend, where, dtype):
        # Which others are there is not said: finding out could build a kernel.
        raise DeviceError(
            f"scan backend '{backend}' cannot serve {device}: {reason}; otherwise take 'auto'"
        )
    return backend


def _reason_against(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why a backend cannot compute in ``dtype`` on ``device``; None if it can."""
    backend = _BACKENDS[name]
    if dtype == torch.float64 and not backend.double:
        return "computes in float32 only"
    return backend.missing(device)


def _check_directions(directions: object) -> tuple[int, ...]:
    """Return the directions as a tuple; raise SettingsError unless all are known."""
    found = tuple(directions) if isinstance(directions, Iterable) else ()
    if not found or any(type(k) is not int or k not in ALL_DIRECTIONS for k in found):
        raise SettingsError(
            f"scan directions are {directions!r}, expected a tuple of integers from 0 to "
            f"{ALL_DIRECTIONS[-1]}: name at least one"
        )
    return found


def _check_tensors(problem: ScanProblem) -> None:
    """Raise SettingsError unless all tensors have floats, their axes, and one device."""
    axes = {"x": 3, "low": 4, "w_dt": 3, "a": 3, "d": 2, "dt_bias": 2}
    for (name, wanted), tensor in zip(axes.items(), problem.tensors, strict=True):
        if not tensor.is_floating_point():
            raise SettingsError(
                f"scan argument '{name}' is {tensor.dtype}, expected floating point: convert it"
            )
        if tensor.ndim != wanted:
            raise SettingsError(
                f"scan argument '{name}' has shape {tuple(tensor.shape)}, expected {wanted} axes: "
                "see selective_scan_2d"
            )
        if tensor.device != problem.x.device:  # kernels take addresses and ask no more
            raise SettingsError(
                f"scan argument '{name}' lies on {tensor.device}, expected {problem.x.device} "
                "like x: move it there"
            )


def _check_shapes(problem: ScanProblem) -> None:
    """Raise SettingsError unless the shapes fit each other and nothing is empty but the batch."""
    x, low, w_dt, a, d, dt_bias, height, width, directions = problem
    if min(height, width) < 1 or x.shape[1] != height * width:
        raise SettingsError(
            f"scan input has shape {tuple(x.shape)} for {height} x {width} pixels, expected "
            f"(batch, {height * width}, D): flatten the image row by row, channels last"
        )
    shared = {1, len(directions)}
    inner, rank, states = x.shape[2], problem.rank, problem.states
    if min(inner, rank, states) < 1:
        raise SettingsError(
            f"a scan has {inner} channels, rank {rank} and {states} states, expected at least 1 of "
            "each: see selective_scan_2d"
        )
    expected = {
        "low": (low.shape, (*x.shape[:2], low.shape[2], rank + 2 * states)),
        "w_dt": (w_dt.shape, (len(w_dt), inner, rank)),
        "a": (a.shape, (len(a), inner, states)),
        "d": (d.shape, (len(d), inner)),
        "dt_bias": (dt_bias.shape, (len(dt_bias), inner)),
    }
    for name, (found, wanted) in expected.items():
        axis = found[2] if name == "low" else found[0]
        if tuple(found) != tuple(wanted) or axis not in shared:
            raise SettingsError(
                f"scan argument '{name}' has shape {tuple(found)}, expected {tuple(wanted)} with a "
                f"direction axis of 1 or {len(directions)}: see selective_scan_2d"
            )


def selective_scan_2d(
    x: Tensor,
    low: Tensor,
    w_dt: Tensor,
    a: Tensor,
    d: Tensor,
    dt_bias: Tensor,
    *,
    height: int,
    width: int,
    directions: tuple[int, ...] = DIRECTIONS,
    backend: str = "auto",
) -> Tensor:
    """Return the selective scan of an image, summed over K walks, ``(batch, pixel, D)``.

    Along each walk ``h_l = exp(dt_l A) h_{l-1} + dt_l B_l x_l`` and ``y_l = C_l h_l + D x_l`` with
    ``dt_l = softplus(W low_l + bias)``. Everything goes in and comes out in pixel order (row by
    row); walking is the backend's business. A direction axis of 1 is shared by all directions.

    Parameters
    ----------
    x
        ``(batch, pixel, D)``, channels last, floating point. Half precision is computed in float32.
        All other tensors lie on the same device.
    low
        ``[dt low rank | B | C]``, ``(batch, pixel, K or 1, R + 2N)``.
    w_dt
        ``(K or 1, D, R)``.
    a
        Negative decay rates, ``(K or 1, D, N)``.
    d, dt_bias
        Skip weights, and bias before softplus, ``(K or 1, D)``.
    height, width
        Size of the image in pixels.
    directions
        0 row by row, 1 its reverse, 2 column by column, 3 its reverse; 4 to 7 diagonal by diagonal,
        see :mod:`pixelssr_geo.nets.scan.walks`.
    backend
        One of :func:`available_backends`, or ``"auto"``.

    Raises
    ------
    SettingsError
        If shapes, directions or devices do not fit, something is empty but the batch, or a tensor
        does not hold floating-point numbers.
    DeviceError
        If the backend is not known or cannot serve the device or dtype of ``x``.

    Examples
    --------
    >>> import torch
    >>> x, low = torch.ones(1, 6, 4), torch.zeros(1, 6, 1, 1 + 2 * 3)
    >>> parameters = torch.zeros(1, 4, 1), -torch.ones(1, 4, 3), torch.ones(1, 4), torch.zeros(1, 4)
    >>> selective_scan_2d(x, low, *parameters, height=2, width=3).shape
    torch.Size([1, 6, 4])
    """
    given = ScanProblem(x, low, w_dt, a, d, dt_bias, height, width, _check_directions(directions))
    _check_tensors(given)
    _check_shapes(given)
    if x.is_meta:  # shapes are all that is asked for
        return torch.empty_like(x)
    compute = torch.promote_types(x.dtype, torch.float32)
    chosen = chosen_backend(backend, x.device, compute)
    with torch.autocast(x.device.type, enabled=False):  # the states do not stand half precision
        return _BACKENDS[chosen].scan(given.to(compute)).to(x.dtype)
