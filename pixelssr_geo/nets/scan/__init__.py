"""Selective scans over images: one call, several backends with the same result.

The table below is the list of backends, best first. A backend is a module with a function from a
:class:`~pixelssr_geo.nets.scan.problem.ScanProblem` to the summed scan, differentiable in every
tensor of it, and a probe that says why it cannot serve a device, if so.
"""

from __future__ import annotations

import os
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
    automatic: bool = True
    """Whether ``"auto"`` may take it."""

    def missing(self, device: torch.device) -> str | None:
        """Return why the backend cannot serve ``device``; None if it can."""
        reason: str | None = import_module(self.module).missing(device)
        return reason

    def scan(self, problem: ScanProblem) -> Tensor:
        """Return the summed scan, ``(batch, pixel, D)``."""
        result: Tensor = import_module(self.module).scan(problem)
        return result


_BACKENDS: dict[str, ScanBackend] = {
    "mamba-ssm": ScanBackend("pixelssr_geo.nets.scan.mamba", double=False),
    "triton": ScanBackend("pixelssr_geo.nets.scan.triton_scan", double=False),
    "cpp": ScanBackend("pixelssr_geo.nets.scan.cpp", double=False),
    "numba": ScanBackend("pixelssr_geo.nets.scan.numba_scan", double=False),
    "torch": ScanBackend("pixelssr_geo.nets.scan.blocked"),
    "reference": ScanBackend("pixelssr_geo.nets.scan.reference", automatic=False),
}


def scan_backends(device: torch.device | str = "cpu") -> dict[str, str | None]:
    """Return every backend with the reason why it cannot serve ``device`` (None: it can)."""
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
    the best one there that computes in ``dtype``.

    Raises
    ------
    DeviceError
        If the backend is not known or cannot serve the device or the dtype.
    """
    if backend == "auto":
        backend = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    where = torch.device(device)
    if backend == "auto":
        usable = (name for name, one in _BACKENDS.items() if one.automatic)
        return next(name for name in usable if _reason_against(name, where, dtype) is None)
    if backend not in _BACKENDS:
        found = f"scan backend '{backend}' is not known"
    elif reason := _reason_against(backend, where, dtype):
        found = f"scan backend '{backend}': {reason}"
    else:
        return backend
    there = [name for name in _BACKENDS if _reason_against(name, where, dtype) is None]
    raise DeviceError(f"{found}; available on {device}: {', '.join(there)}, or 'auto'")


def _reason_against(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why a backend cannot compute in ``dtype`` on ``device``; None if it can."""
    backend = _BACKENDS[name]
    if dtype == torch.float64 and not backend.double:
        return "computes in float32 only"
    return backend.missing(device)


def _check(problem: ScanProblem) -> None:
    """Raise SettingsError unless the shapes fit each other."""
    x, low, w_dt, a, d, dt_bias, height, width, directions = problem
    if not directions or any(k not in ALL_DIRECTIONS for k in directions):
        raise SettingsError(
            f"scan directions are {directions}, expected some of 0 to {ALL_DIRECTIONS[-1]}: "
            "name at least one"
        )
    if x.ndim != 3 or x.shape[1] != height * width:
        raise SettingsError(
            f"scan input has shape {tuple(x.shape)}, expected (batch, {height * width}, D): "
            "flatten the image row by row, channels last"
        )
    shared = {1, len(directions)}
    inner, rank, states = x.shape[2], w_dt.shape[-1], a.shape[-1]
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
        ``(batch, pixel, D)``, channels last. Half precision is computed in float32.
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
        If shapes or directions do not fit.
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
    compute = torch.promote_types(x.dtype, torch.float32)
    problem = ScanProblem(
        x=x.to(compute),
        low=low.to(compute),
        w_dt=w_dt.to(compute),
        a=a.to(compute),
        d=d.to(compute),
        dt_bias=dt_bias.to(compute),
        height=height,
        width=width,
        directions=tuple(directions),
    )
    _check(problem)
    if x.is_meta:  # shapes are all that is asked for
        return torch.empty_like(x)
    chosen = chosen_backend(backend, x.device, compute)
    with torch.autocast(x.device.type, enabled=False):  # the states do not stand half precision
        return _BACKENDS[chosen].scan(problem).to(x.dtype)
