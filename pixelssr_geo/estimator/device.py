"""The default estimator on a GPU: the same formulas on tensors, strip by strip of a window.

Features, prior means, residual, deviation and projection are all computed there; bands go over and
what was asked for comes back. Last digits depend on the device, and on how a window is cut.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass, replace
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from pixelssr_geo.estimator.arrays import double, pixels_first, single
from pixelssr_geo.estimator.kernel import KernelInputs, kernel_inputs
from pixelssr_geo.nets.precision import products_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pixelssr_geo.estimator.blended import BlendedEstimator, Told
    from pixelssr_geo.estimator.surroundings import View

log = logging.getLogger(__name__)

STRIP_PIXELS = 1 << 16
"""Pixels that are computed at a time: some hundred operations, each of which costs microseconds before
it begins, should have much to do."""

STRIP_PAIRS = 1 << 26
"""Pairs of a pixel and a point that are compared at a time: 256 MB in float32, of which a strip
holds less than ten."""

_TURNS = BoundedSemaphore(2)
"""Strips on devices at a time, of all threads together: one is computed while another comes back,
and memory does not grow with the threads."""

T = TypeVar("T")


def moved(value: T, device: torch.device, *, double: bool = False) -> T:
    """Frozen dataclasses, and tuples of them, with tensors on a device in place of their arrays.

    Parameters
    ----------
    value
        To be moved; what holds no array is left as it is.
    device
        Where to.
    double
        Whether floating point becomes float64.
    """
    found: Any = value
    if isinstance(value, np.ndarray):
        wider = double and value.dtype.kind == "f"
        found = torch.tensor(value, device=device, dtype=torch.float64 if wider else None)
    elif isinstance(value, tuple):
        found = tuple(moved(item, device, double=double) for item in value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        found = replace(
            value, **{name: moved(part, device, double=double) for name, part in parts.items()}
        )
    result: T = found
    return result


@dataclass(slots=True)
class Strip:
    """How many pixels are computed at a time; halved, from then on, where memory does not suffice."""

    pixels: int
    """At the most, but never less than one row of a window."""


@dataclass(frozen=True, slots=True, eq=False)
class OnDevice:
    """An estimator on a device, and how it computes there."""

    estimator: BlendedEstimator
    """Its arrays are tensors, but for what only labelled pixels need."""
    device: torch.device
    """Where they are."""
    double: bool
    """Whether everything is computed in float64."""
    strip: Strip
    """What memory allows; one for all threads, so that the same lack is not met again in each."""

    @staticmethod
    def of(estimator: BlendedEstimator, device: torch.device, *, double: bool) -> OnDevice:
        """Put an estimator on a device; see :meth:`BlendedEstimator.on`."""
        points = 0 if estimator.process is None else len(estimator.process.points.rows)
        there = replace(
            estimator,
            projection=moved(estimator.projection, device),
            means=moved(estimator.means, device),
            process=moved(estimator.process, device, double=double),
            library=moved(estimator.library, device),
            error=moved(estimator.error, device),
            elsewhere=None,
        )
        pixels = min(STRIP_PIXELS, STRIP_PAIRS // max(points, 1))
        return OnDevice(there, device, double, Strip(pixels))

    def strips(
        self, view: View, *, whole: bool
    ) -> Iterator[tuple[slice, NDArray[np.float32], Told | None]]:
        """Mean of some rows of a window at a time and, where it is asked for, the rest, in memory.

        The mean agrees with the scene; what it says of pixels without data is of no use.

        Raises
        ------
        torch.OutOfMemoryError
            If there is no memory for a single row.
        """
        height, width = view.inner.shape[1:]
        top = 0
        while top < height:
            bottom = min(top + max(1, self.strip.pixels // width), height)
            try:
                found = self._computed(view.rows(top, bottom), whole=whole)
            except torch.OutOfMemoryError:
                if bottom - top == 1:
                    raise
                pixels = (bottom - top) * width
                # Another thread may have halved it meanwhile.
                self.strip.pixels = min(self.strip.pixels, pixels // 2)
                log.warning(
                    "memory does not suffice for %d pixels: %d from now on",
                    pixels,
                    self.strip.pixels,
                )
            else:
                yield slice(top * width, bottom * width), *found
                top = bottom

    def _computed(self, strip: View, *, whole: bool) -> tuple[NDArray[np.float32], Told | None]:
        with ExitStack() as stack:
            stack.enter_context(_TURNS)
            if not self.double:
                # Rounded, the distances between pixels and points would be of no use.
                stack.enter_context(products_in("float32", self.device))
            stack.enter_context(torch.inference_mode())
            mean, told = self._on_tensors(moved(strip, self.device), whole=whole)
            back = _in_memory(mean)
            return back, None if told is None else (_in_memory(told[0]), _in_memory(told[1]))

    def _on_tensors(self, strip: View, *, whole: bool) -> tuple[NDArray[np.float32], Told | None]:
        estimator = self.estimator
        features, inputs = estimator.features(strip), None
        if estimator.process is not None:
            inputs = kernel_inputs(features, estimator.process.scale)
            inputs = _doubled(inputs) if self.double else inputs
        mean, told = estimator.of_pixels(features.bands, inputs, whole=whole)
        # Once more, so that rounding does not part the cube from the scene.
        table = pixels_first(features.bands)
        return single(estimator.projection(double(mean.T), table).T), told


def _doubled(inputs: KernelInputs) -> KernelInputs:
    return KernelInputs(*(double(getattr(inputs, field.name)) for field in fields(inputs)))


def _in_memory(tensor: Any) -> NDArray[Any]:
    found: NDArray[Any] = tensor.cpu().numpy()
    return found
