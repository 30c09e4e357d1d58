"""The selective scan of one block of 16 channels in numba, as scan.cpp does it.

Channels lie in vector lanes, so that a step of the recurrence needs no sum over lanes. The walk goes
in chunks; the backward pass makes the states of a chunk again from the one kept at its start and
walks back. All arrays are one-dimensional views, float32, with the axes that
:mod:`pixelssr_geo.nets.scan.fused` names; walks are int32. ``shape`` is (pixels, channels, states,
rank, directions, sets of low, of w_dt, of a and of dt_bias, steps in a chunk).
"""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numba.core import event

from pixelssr_geo.nets.scan import numba_lanes
from pixelssr_geo.nets.scan.numba_lanes import (
    LANES,
    add,
    div,
    fill,
    fma,
    greater,
    lane_sums,
    load,
    load_some,
    mul,
    positive,
    power,
    spread,
    store,
    store_some,
)

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_SOURCES = tuple(Path(str(file)) for file in (__file__, numba_lanes.__file__))
_LOG2E = np.float32(1.4426950408889634)
_ZERO, _ONE, _TWO, _MINUS = np.float32(0), np.float32(1), np.float32(2), np.float32(-1)
# log1p(z) = 2 artanh(s), s = z / (2 + z), as s p(s^2): highest power first
_P5, _P4, _P3, _P2, _P1 = (
    np.float32(c) for c in (0.24413197, 0.21393219, 0.28620726, 0.39998689, 0.66666681)
)


def _fingerprint() -> str:
    """Return what tells these sources from any others."""
    return sha256(b"".join(source.read_bytes() for source in _SOURCES)).hexdigest()[:16]


def _kept(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function compiled, and kept on disk if there is a place for it.

    Numba finds what is kept by the function's name, and the time and size of its file. Other files that
    go into it would be missed, so the name tells what is in them.
    """
    try:
        function.__qualname__ = f"{function.__name__}_{_fingerprint()}"
        compiled: Callable[..., None] = njit(nogil=True, cache=True)(function)
    except (RuntimeError, OSError):  # no folder can be written, or there are no source files
        compiled = njit(nogil=True)(function)
    return compiled


@njit(nogil=True)
def _fall(v: Any) -> Any:
    """Return ``exp(-|v|)``."""
    return power(greater(v, mul(v, fill(_MINUS))), fill(-_LOG2E))


@njit(nogil=True)
def _softplus(v: Any) -> Any:
    z = _fall(v)
    s = div(z, add(z, fill(_TWO)))
    q = mul(s, s)
    p = fma(fill(_P5), q, fill(_P4))
    p = fma(p, q, fill(_P3))
    p = fma(p, q, fill(_P2))
    p = fma(p, q, fill(_P1))
    p = fma(p, q, fill(_TWO))
    return fma(p, s, greater(v, fill(_ZERO)))


@njit(nogil=True)
def _sigmoid(v: Any) -> Any:
    z = _fall(v)
    return div(positive(v, fill(_ONE), z), add(z, fill(_ONE)))


@njit(nogil=True)
def _read_columns(table: Any, first: int, count: int, columns: int, out: Any) -> None:
    """Write columns of ``(channel, columns)``, from element ``first`` on, as vectors."""
    for i in range(columns):
        for j in range(LANES):
            out[i * LANES + j] = table[first + j * columns + i] if j < count else 0.0


@njit(nogil=True)
def _add_columns(vectors: Any, first: int, count: int, columns: int, table: Any) -> None:
    """Add vectors to columns of ``(channel, columns)``, from element ``first`` on."""
    for i in range(columns):
        for j in range(count):
            table[first + j * columns + i] += vectors[i * LANES + j]


@njit(nogil=True)
def _before_softplus(weights: Any, rank: int, low: Any, at: int) -> Any:
    """Return the step sizes before softplus; the bias lies behind the weights."""
    v = load(weights, rank * LANES)
    for r in range(rank):
        v = fma(load(weights, r * LANES), spread(low, at + r), v)
    return v


@njit(nogil=True)
def _enter(
    k: int, low: Any, w_dt: Any, a: Any, bias: Any, shape: Any, item: int, first: int, scratch: Any
) -> None:
    """Read the parameters of a walk, and make its step sizes in pixel order."""
    pixels, channels, states, rank, _, low_sets, w_sets, a_sets, bias_sets, _ = shape
    weights, rates, powers, dt = scratch
    count = min(LANES, channels - first)
    if k == 0 or a_sets > 1:
        _read_columns(a, (k % a_sets * channels + first) * states, count, states, rates)
        for n in range(states):
            store(powers, n * LANES, mul(load(rates, n * LANES), fill(_LOG2E)))
    if k > 0 and low_sets * w_sets * bias_sets == 1:
        return
    _read_columns(w_dt, (k % w_sets * channels + first) * rank, count, rank, weights)
    _read_columns(bias, k % bias_sets * channels + first, count, 1, weights[rank * LANES :])
    row = rank + 2 * states
    for p in range(pixels):
        at = ((item * pixels + p) * low_sets + k % low_sets) * row
        store(dt, p * LANES, _softplus(_before_softplus(weights, rank, low, at)))


@njit(nogil=True)
def _scratch(shape: Any) -> Any:
    """Return room for what :func:`_enter` writes: weights, rates, powers, step sizes."""
    pixels, states, rank = shape[0], shape[2], shape[3]
    return (
        np.empty((rank + 1) * LANES, np.float32),
        np.empty(states * LANES, np.float32),
        np.empty(states * LANES, np.float32),
        np.empty(pixels * LANES, np.float32),
    )


@_kept
def forward(
    x: Any,
    low: Any,
    w_dt: Any,
    a: Any,
    skip: Any,
    bias: Any,
    walks: Any,
    shape: Any,
    y: Any,
    checkpoints: Any,
    item: int,
    block: int,
) -> None:
    """Write the sum of the scans of a block to ``y``, and states to ``checkpoints``, unless empty."""
    pixels, channels, states, rank, directions, low_sets, _, _, _, chunk = shape
    chunks = (pixels + chunk - 1) // chunk
    first, row = block * LANES, rank + 2 * states
    count = min(LANES, channels - first)
    spare = np.empty(LANES, np.float32)
    scratch = _scratch(shape)
    _, _, powers, dt = scratch
    state = np.empty(states * LANES, np.float32)
    skips = load_some(skip, first, count, spare)
    for k in range(directions):
        _enter(k, low, w_dt, a, bias, shape, item, first, scratch)
        state[:] = 0
        kept = ((item * ((channels + LANES - 1) // LANES) + block) * directions + k) * chunks
        for step in range(pixels):
            if step % chunk == 0 and checkpoints.size:
                at = (kept + step // chunk) * states * LANES
                for n in range(states):
                    store(checkpoints, at + n * LANES, load(state, n * LANES))
            pixel = walks[k * pixels + step]
            at = (item * pixels + pixel) * channels + first
            x_l = load_some(x, at, count, spare)
            dt_l = load(dt, pixel * LANES)
            u = mul(dt_l, x_l)
            total = load_some(y, at, count, spare) if k else mul(skips, x_l)
            b = ((item * pixels + pixel) * low_sets + k % low_sets) * row + rank
            for n in range(states):
                h = load(state, n * LANES)
                decay = power(dt_l, load(powers, n * LANES))
                h = fma(decay, h, mul(u, spread(low, b + n)))
                store(state, n * LANES, h)
                total = fma(h, spread(low, b + states + n), total)
            store_some(y, at, count, spare, total)


@njit(nogil=True)
def _collect(total: Any, part: Any) -> None:
    """Add what a chunk gave, so that no long sum grows by small terms."""
    for i in range(0, len(total), LANES):
        store(total, i, add(load(total, i), load(part, i)))
        store(part, i, fill(_ZERO))


@njit(nogil=True, forceinline=True)
def _add_lane_sums(vectors: Any, count: int, to: Any, at: int, spare: Any) -> None:
    """Add to ``to[at + i]`` the sum over the lanes of vector i, for ``count`` vectors."""
    whole = count - count % LANES
    for i in range(0, whole, LANES):
        store(to, at + i, add(load(to, at + i), lane_sums(vectors, i * LANES)))
    if whole < count:
        store(spare, 0, lane_sums(vectors, whole * LANES))
        for i in range(whole, count):
            to[at + i] += spare[i - whole]


@njit(nogil=True)
def _replay(
    start: int,
    steps: int,
    states: int,
    us: Any,
    dts: Any,
    rows: Any,
    low: Any,
    powers: Any,
    checkpoints: Any,
    history: Any,
    decays: Any,
) -> None:
    """Make the states of a chunk again, from those kept at ``start`` of ``checkpoints``."""
    size = states * LANES
    for i in range(0, size, LANES):
        store(history, i, load(checkpoints, start + i))
    for t in range(steps):
        dt, u, at = load(dts, t * LANES), load(us, t * LANES), t * size
        for n in range(states):
            decay = power(dt, load(powers, n * LANES))
            store(decays, at + n * LANES, decay)
            h = fma(decay, load(history, at + n * LANES), mul(u, spread(low, rows[t] + n)))
            store(history, at + size + n * LANES, h)


@njit(nogil=True)
def _skip(
    x: Any, dy: Any, skip: Any, grad_x: Any, grad_skip: Any, shape: Any, item: int, first: int
) -> None:
    """Write what the skip gives: the start of the gradient of x, and that of its weights."""
    pixels, channels, chunk = shape[0], shape[1], shape[9]
    count = min(LANES, channels - first)
    spare = np.empty(LANES, np.float32)
    weights = load_some(skip, first, count, spare)
    total = fill(_ZERO)
    for begin in range(0, pixels, chunk):
        part = fill(_ZERO)
        for pixel in range(begin, min(begin + chunk, pixels)):
            at = (item * pixels + pixel) * channels + first
            dy_l = load_some(dy, at, count, spare)
            part = fma(dy_l, load_some(x, at, count, spare), part)
            store_some(grad_x, at, count, spare, mul(weights, dy_l))
        total = add(total, part)
    store_some(grad_skip, item * channels + first, count, spare, total)


@njit(nogil=True)
def _leave_dt(
    k: int, low: Any, shape: Any, item: int, weights: Any, grad_dt: Any, grad_low: Any, part_at: int
) -> Any:
    """Add the gradient of the low rank; return the sums of those of the weights and the bias."""
    pixels, _, states, rank, _, low_sets, _, _, _, chunk = shape
    row = rank + 2 * states
    total = np.zeros((rank + 1) * LANES, np.float32)
    part = np.zeros_like(total)
    products = np.zeros((rank + LANES) * LANES, np.float32)
    spare = np.empty(LANES, np.float32)
    for pixel in range(pixels):
        at = (pixel * low_sets + k % low_sets) * row
        low_at = item * pixels * low_sets * row + at
        v = _before_softplus(weights, rank, low, low_at)
        before = mul(load(grad_dt, pixel * LANES), _sigmoid(v))
        for r in range(rank):
            i = r * LANES
            store(part, i, fma(before, spread(low, low_at + r), load(part, i)))
            store(products, i, mul(before, load(weights, i)))
        store(part, rank * LANES, add(load(part, rank * LANES), before))
        _add_lane_sums(products, rank, grad_low, part_at + at, spare)
        if (pixel + 1) % chunk == 0 or pixel + 1 == pixels:
            _collect(total, part)
    return total


@_kept
def backward(
    x: Any,
    low: Any,
    w_dt: Any,
    a: Any,
    skip: Any,
    bias: Any,
    walks: Any,
    shape: Any,
    dy: Any,
    checkpoints: Any,
    grad_x: Any,
    grad_low: Any,
    grad_w: Any,
    grad_a: Any,
    grad_skip: Any,
    grad_bias: Any,
    part_at: int,
    item: int,
    block: int,
) -> None:
    """Write the gradients of a block; that of ``low`` from element ``part_at`` on."""
    pixels, channels, states, rank, directions, low_sets, w_sets, a_sets, bias_sets, chunk = shape
    chunks = (pixels + chunk - 1) // chunk
    first, row, size = block * LANES, rank + 2 * states, states * LANES
    count = min(LANES, channels - first)
    one_dt = low_sets * w_sets * bias_sets == 1
    spare = np.empty(LANES, np.float32)
    scratch = _scratch(shape)
    weights, rates, powers, dt = scratch
    grad_dt = np.empty(pixels * LANES, np.float32)
    late, sum_a = np.empty(size, np.float32), np.empty(size, np.float32)
    part_a = np.zeros(size, np.float32)
    xs = np.empty(chunk * LANES, np.float32)
    us, dts = np.empty_like(xs), np.empty_like(xs)
    rows = np.empty(chunk, np.int64)
    history = np.empty((chunk + 1) * size, np.float32)
    decays = np.empty(chunk * size, np.float32)
    # Behind the last state, zeros: lane_sums takes 16 vectors at a time.
    grads_b = np.zeros(size + LANES * LANES, np.float32)
    grads_c = np.zeros(size + LANES * LANES, np.float32)
    _skip(x, dy, skip, grad_x, grad_skip, shape, item, first)
    for k in range(directions):
        _enter(k, low, w_dt, a, bias, shape, item, first, scratch)
        if k == 0 or not one_dt:
            grad_dt[:] = 0
        late[:] = 0
        sum_a[:] = 0
        kept = ((item * ((channels + LANES - 1) // LANES) + block) * directions + k) * chunks
        for number in range(chunks - 1, -1, -1):
            begin = number * chunk
            steps = min(chunk, pixels - begin)
            for t in range(steps):
                pixel = walks[k * pixels + begin + t]
                at = (item * pixels + pixel) * channels + first
                x_l, dt_l = load_some(x, at, count, spare), load(dt, pixel * LANES)
                store(xs, t * LANES, x_l)
                store(dts, t * LANES, dt_l)
                store(us, t * LANES, mul(dt_l, x_l))
                rows[t] = ((item * pixels + pixel) * low_sets + k % low_sets) * row + rank
            start = (kept + number) * size
            _replay(start, steps, states, us, dts, rows, low, powers, checkpoints, history, decays)
            for t in range(steps - 1, -1, -1):
                pixel = walks[k * pixels + begin + t]
                at = (item * pixels + pixel) * channels + first
                dy_l = load_some(dy, at, count, spare)
                dt_l, u = load(dts, t * LANES), load(us, t * LANES)
                grad_u, grad_step = fill(_ZERO), fill(_ZERO)
                for n in range(states):
                    i = n * LANES
                    g = fma(dy_l, spread(low, rows[t] + states + n), load(late, i))
                    store(grads_c, i, mul(dy_l, load(history, (t + 1) * size + i)))
                    store(grads_b, i, mul(u, g))
                    grad_u = fma(g, spread(low, rows[t] + n), grad_u)
                    g = mul(g, load(decays, t * size + i))
                    store(late, i, g)
                    exponent = mul(g, load(history, t * size + i))  # gradient of dt A
                    store(part_a, i, fma(exponent, dt_l, load(part_a, i)))
                    grad_step = fma(exponent, load(rates, i), grad_step)
                to = part_at + (pixel * low_sets + k % low_sets) * row + rank
                _add_lane_sums(grads_b, states, grad_low, to, spare)
                _add_lane_sums(grads_c, states, grad_low, to + states, spare)
                grad_step = fma(grad_u, load(xs, t * LANES), grad_step)
                store(grad_dt, pixel * LANES, add(load(grad_dt, pixel * LANES), grad_step))
                x_l = fma(grad_u, dt_l, load_some(grad_x, at, count, spare))
                store_some(grad_x, at, count, spare, x_l)
            _collect(sum_a, part_a)
        a_at = ((item * a_sets + k % a_sets) * channels + first) * states
        _add_columns(sum_a, a_at, count, states, grad_a)
        if one_dt and k + 1 < directions:
            continue
        sums = _leave_dt(k, low, shape, item, weights, grad_dt, grad_low, part_at)
        w_at = ((item * w_sets + k % w_sets) * channels + first) * rank
        _add_columns(sums, w_at, count, rank, grad_w)
        bias_at = (item * bias_sets + k % bias_sets) * channels + first
        _add_columns(sums[rank * LANES :], bias_at, count, 1, grad_bias)


class _Compilations(event.Listener):
    """Logs the compilations of the two functions; what comes from disk is none."""

    def on_start(self, event: Any) -> None:
        """Say which function it is, once."""
        if event.data["dispatcher"] in (forward, backward):
            log.info("compiling the numba scan, once: %s", event.data["dispatcher"].__name__)

    def on_end(self, event: Any) -> None:
        """Say nothing."""


event.register("numba:compile", _Compilations())
