"""Triton kernels of the selective scan; :mod:`pixelssr_geo.nets.scan.triton_scan` launches them.

A lane is one channel of one chunk of one walk of one image, numbered ``((k B + b) C + c) D + d`` for
direction k, image b, chunk c and channel d. Step ``c * steps + t`` of the walk is step t of its chunk;
steps behind the end of the walk have size 0, which leaves the state as it is.

The launcher pads: a row of ``packed`` is ``[dt low rank | B | C]``, RP + NP + NP numbers, both multiples
of four, so that four numbers are one load; the padding is zero and stays without effect. States in
memory go by fours as well, ``(NP / 4, lane, 4)``.

Layouts matter more than arithmetic here: all states of a lane have to lie in one thread, otherwise
every step would exchange them through shuffles and shared memory. The compiler derives a layout from
the addresses that it understands: tiles are ``(4, lane)`` and contiguous along the first axis, which
leaves it no choice, and lane numbers are clamped, which hides that they are contiguous, too.
"""

# ruff: noqa: B007, RUF005 (the compiler knows no starred tuples)
import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _softplus(v):
    """Return ``log(1 + exp(v))`` to float32 precision relative to itself, however small it is."""
    e = tl.exp(-tl.abs(v))
    # log1p(e) = 2 artanh(s); a logarithm of 1 + e would lose what small steps are made of.
    s = e / (2.0 + e)
    q = s * s
    series = 1.0 / 15.0
    series = series * q + 1.0 / 13.0
    series = series * q + 1.0 / 11.0
    series = series * q + 1.0 / 9.0
    series = series * q + 1.0 / 7.0
    series = series * q + 1.0 / 5.0
    series = series * q + 1.0 / 3.0
    return tl.maximum(v, 0.0) + 2.0 * s * (series * q + 1.0)


@triton.jit
def _live_below(live, number, limit):
    """Return ``live`` where the scalar ``number`` is below ``limit``, otherwise False."""
    # The interpreter turns `live & scalar` into integers, which it then refuses as a mask.
    return live & (tl.zeros_like(live).to(tl.int32) + number < limit)


@triton.jit
def _load_fours(row, FOURS: tl.constexpr):
    """Return ``FOURS`` tiles ``(4, lane)`` of the numbers behind each lane's pointer in ``row``."""
    quarter = tl.arange(0, 4)[:, None]
    tiles = ()
    for g in tl.static_range(FOURS):
        tiles = tiles + (tl.load(row[None, :] + (4 * g + quarter)),)
    return tiles


@triton.jit
def _load_parameter(rows, live, COUNT: tl.constexpr, FOURS: tl.constexpr):
    """Return the same of a parameter with ``COUNT`` numbers in a row, zero behind them."""
    quarter = tl.arange(0, 4)[:, None]
    tiles = ()
    for g in tl.static_range(FOURS):
        number = 4 * g + quarter
        mask = live[None, :] & (number < COUNT)
        tiles = tiles + (tl.load(rows[None, :] + number, mask=mask, other=0.0),)
    return tiles


@triton.jit
def _store_states(memory, tiles, lane, lanes, live, FOURS: tl.constexpr):
    """Write the tiles of a state to ``memory`` ``(FOURS, lane, 4)``."""
    quarter = tl.arange(0, 4)[:, None]
    for g in tl.static_range(FOURS):
        place = memory + (g * lanes + lane)[None, :] * 4 + quarter
        tl.store(place, tiles[g], mask=live[None, :] & (quarter >= 0))


@triton.jit
def _dot(left, right, FOURS: tl.constexpr):
    """Return the sum of the products of two tuples of tiles, ``(lane,)``."""
    total = left[0] * right[0]
    for g in tl.static_range(1, FOURS):
        total += left[g] * right[g]
    return tl.sum(total, axis=0)


@triton.jit
def walk_chunks(
    x,
    packed,
    w_dt,
    rates,
    skip,
    bias,
    walk,
    states,
    spans,
    output,
    upstream,
    late,
    low_sets,
    w_sets,
    rate_sets,
    skip_sets,
    bias_sets,
    lanes,
    batch,
    chunks,
    channels,
    length,
    blocks,
    TASK: tl.constexpr,
    CHUNKED: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    R: tl.constexpr,
    RP: tl.constexpr,
    STEPS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Run every chunk forwards; what is written depends on ``TASK``.

    "ends": the state each chunk reaches from an empty one to ``states``, and the sum of its step sizes
    to ``spans`` ``(lane,)``. "outputs": each walk's scan to ``output`` ``(K, B, L, D)``. "marks": the
    state before each block of STEPS steps to ``output`` ``(block, NP / 4, lane, 4)``, and, if CHUNKED,
    to ``late`` the gradient that ``upstream`` ``(B, L, D)`` gives the state before the chunk. The last
    two start from ``states`` if CHUNKED, otherwise from an empty state.
    """
    FOURS: tl.constexpr = NP // 4
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = lane < lanes
    lane = tl.minimum(lane, lanes - 1)
    d = lane % channels
    chunk = lane // channels % chunks
    image = (lane // channels // chunks % batch).to(tl.int64)
    k = lane // channels // chunks // batch
    lane = lane.to(tl.int64)
    lanes = tl.cast(lanes, tl.int64)

    a = _load_parameter(rates + ((k % rate_sets) * channels + d) * N, live, N, FOURS)
    exponents = ()
    for g in tl.static_range(FOURS):
        exponents = exponents + (a[g] * LOG2_E,)
    w = _load_parameter(w_dt + ((k % w_sets) * channels + d) * R, live, R, RP // 4)
    offset = tl.load(bias + (k % bias_sets) * channels + d)

    ROW: tl.constexpr = RP + 2 * NP
    stride = tl.cast(low_sets * ROW, tl.int64)
    start = chunk * blocks * STEPS
    path = walk + k * length
    x_image = x + image * length * channels + d
    rows = packed + (image * length * low_sets + k % low_sets) * ROW

    zero = tl.zeros((4, LANES), dtype=tl.float32)
    h = ()
    if CHUNKED and TASK != "ends":
        quarter = tl.arange(0, 4)[:, None]
        for g in tl.static_range(FOURS):
            h = h + (tl.load(states + (g * lanes + lane)[None, :] * 4 + quarter),)
    else:
        for g in tl.static_range(FOURS):
            h = h + (zero,)
    if TASK == "ends":
        span = tl.zeros((LANES,), dtype=tl.float32)
    if TASK == "outputs":
        weight = tl.load(skip + (k % skip_sets) * channels + d)
        y_image = output + (k * batch + image) * length * channels + d
    if TASK == "marks" and CHUNKED:
        dy_image = upstream + image * length * channels + d
        decayed = ()
        gradient = ()
        for g in tl.static_range(FOURS):
            decayed = decayed + (zero + 1.0,)
            gradient = gradient + (zero,)

    # What a step needs first is loaded during the step before it.
    pixel = tl.load(path + tl.minimum(start, length - 1))
    x_next = tl.load(x_image + pixel.to(tl.int64) * channels)
    low_next = _load_fours(rows + pixel * stride, RP // 4)
    for block in range(blocks):
        if TASK == "marks":
            _store_states(
                output + tl.cast(block, tl.int64) * NP * lanes, h, lane, lanes, live, FOURS
            )
        for t in range(block * STEPS, (block + 1) * STEPS):
            here = pixel
            x_t = x_next
            low = low_next
            b = _load_fours(rows + here * stride + RP, FOURS)
            if TASK == "outputs" or (TASK == "marks" and CHUNKED):
                c = _load_fours(rows + here * stride + (RP + NP), FOURS)
            pixel = tl.load(path + tl.minimum(start + t + 1, length - 1))
            x_next = tl.load(x_image + pixel.to(tl.int64) * channels)
            low_next = _load_fours(rows + pixel * stride, RP // 4)

            inside = start + t < length
            dt = tl.where(inside, _softplus(_dot(low, w, RP // 4) + offset), 0.0)
            u = dt * x_t
            decay = ()
            new_h = ()
            for g in tl.static_range(FOURS):
                decay = decay + (tl.exp2(dt[None, :] * exponents[g]),)
                new_h = new_h + (decay[g] * h[g] + u[None, :] * b[g],)
            h = new_h
            if TASK == "ends":
                span += dt
            if TASK == "outputs":
                y = _dot(h, c, FOURS) + weight * x_t
                tl.store(y_image + here.to(tl.int64) * channels, y, mask=inside & live)
            if TASK == "marks" and CHUNKED:
                dy = tl.where(inside, tl.load(dy_image + here.to(tl.int64) * channels), 0.0)
                new_decayed = ()
                new_gradient = ()
                for g in tl.static_range(FOURS):
                    new_decayed = new_decayed + (decayed[g] * decay[g],)
                    new_gradient = new_gradient + (
                        gradient[g] + new_decayed[g] * (c[g] * dy[None, :]),
                    )
                decayed = new_decayed
                gradient = new_gradient
    if TASK == "ends":
        _store_states(states, h, lane, lanes, live, FOURS)
        tl.store(spans + lane, span, mask=live)
    if TASK == "marks" and CHUNKED:
        _store_states(late, gradient, lane, lanes, live, FOURS)


@triton.jit
def carry_over_chunks(
    states,
    spans,
    rates,
    rate_sets,
    lanes,
    walks,
    batch,
    chunks,
    channels,
    BACKWARDS: tl.constexpr,
    N: tl.constexpr,
    AHEAD: tl.constexpr,
    LANES: tl.constexpr,
):
    """Replace each chunk's contribution in ``states`` by what reaches the chunk from before it.

    ``s`` is 0 at the first chunk, and ``contribution + exp(A span) s`` behind each; BACKWARDS starts
    at the last one. AHEAD chunks are loaded together. The second axis of the grid goes over fours of
    states.
    """
    place = tl.program_id(0) * LANES + tl.arange(0, LANES)  # ((k B + b) D + d) 4 + state
    live = place < walks * channels * 4
    place = tl.minimum(place, walks * channels * 4 - 1)
    group = tl.program_id(1)
    n = group * 4 + place % 4
    d = place // 4 % channels
    walked = place // 4 // channels
    k = walked // batch
    a = tl.load(rates + ((k % rate_sets) * channels + d) * N + n, mask=live & (n < N), other=0.0)
    a = a * LOG2_E
    first = tl.cast(walked, tl.int64) * chunks * channels + d
    values = states + tl.cast(group, tl.int64) * lanes * 4 + place % 4
    s = tl.zeros((LANES,), dtype=tl.float32)
    for start in range(0, chunks, AHEAD):
        own = ()
        decay = ()
        for i in tl.static_range(AHEAD):
            chunk = start + i
            if BACKWARDS:
                chunk = chunks - 1 - chunk
            there = _live_below(live, start + i, chunks)
            lane = first + chunk * channels
            own = own + (tl.load(values + lane * 4, mask=there, other=0.0),)
            span = tl.load(spans + lane, mask=there, other=0.0)
            decay = decay + (tl.exp2(span * a),)
        for i in tl.static_range(AHEAD):
            chunk = start + i
            if BACKWARDS:
                chunk = chunks - 1 - chunk
            there = _live_below(live, start + i, chunks)
            tl.store(values + (first + chunk * channels) * 4, s, mask=there)
            s = own[i] + decay[i] * s


@triton.jit
def walk_back(
    x,
    packed,
    w_dt,
    rates,
    skip,
    bias,
    walk,
    marks,
    late,
    upstream,
    grad_x,
    grad_packed,
    grad_w,
    grad_rates,
    grad_skip,
    grad_bias,
    low_sets,
    w_sets,
    rate_sets,
    skip_sets,
    bias_sets,
    lanes,
    batch,
    chunks,
    channels,
    length,
    blocks,
    N: tl.constexpr,
    NP: tl.constexpr,
    R: tl.constexpr,
    RP: tl.constexpr,
    STEPS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Write all gradients of each chunk, going through its blocks from the last to the first.

    ``marks`` and ``late`` (gradient of the state behind each chunk, overwritten) are
    :func:`walk_chunks`'s, carried over. Written: ``grad_x`` ``(K, B, L, D)``; ``grad_packed``
    ``(channel block, B, L, K, RP + 2 NP)``; per lane ``grad_w`` ``(R, lane)``, ``grad_rates`` (as states;
    zeros at first), ``grad_skip`` and ``grad_bias`` ``(lane,)``. A program has LANES
    channels of one chunk; the STEPS steps of a block are unrolled.
    """
    column = tl.arange(0, LANES)
    d = tl.program_id(1) * LANES + column
    live = d < channels
    d = tl.minimum(d, channels - 1)
    chunk = tl.program_id(0) % chunks
    walked = tl.program_id(0) // chunks  # k B + b
    image = tl.cast(walked % batch, tl.int64)
    k = walked // batch
    lane = tl.program_id(0).to(tl.int64) * channels + d
    lanes = tl.cast(lanes, tl.int64)

    ROW: tl.constexpr = RP + 2 * NP
    path = walk + k * length
    start = chunk * blocks * STEPS
    x_image = x + image * length * channels + d
    dy_image = upstream + image * length * channels + d
    dx_image = grad_x + tl.cast(walked, tl.int64) * length * channels + d
    row_image = packed + (image * length * low_sets + k % low_sets) * ROW
    stride = tl.cast(low_sets * ROW, tl.int64)
    walks_there = tl.num_programs(0) // chunks // batch
    out_rows = (tl.program_id(1) * batch + image) * length * walks_there + k
    a_row = rates + ((k % rate_sets) * channels + d) * N

    offset = tl.load(bias + (k % bias_sets) * channels + d)
    weight = tl.load(skip + (k % skip_sets) * channels + d)
    w = ()
    sum_w = ()
    for r in tl.static_range(R):
        w_r = tl.load(w_dt + ((k % w_sets) * channels + d) * R + r, mask=live, other=0.0)
        w = w + (w_r,)
        sum_w = sum_w + (tl.zeros((LANES,), dtype=tl.float32),)
    sum_skip = tl.zeros((LANES,), dtype=tl.float32)
    sum_bias = tl.zeros((LANES,), dtype=tl.float32)

    for back in range(blocks):
        block = blocks - 1 - back
        first = start + block * STEPS
        # The output row of each step, in the lane of that number: sums are stored by lanes.
        step = first + column
        out_here = (column < STEPS) & (step < length)
        out_pixel = tl.load(path + tl.minimum(step, length - 1)).to(tl.int64)
        out_row = grad_packed + (out_rows + out_pixel * walks_there) * ROW
        mark = marks + tl.cast(block, tl.int64) * NP * lanes

        pixels = ()
        dts = ()
        us = ()
        dys = ()
        grad_u = ()
        grad_dt = ()
        for i in tl.static_range(STEPS):
            pixel = tl.load(path + tl.minimum(first + i, length - 1))
            there = _live_below(live, first + i, length)
            row = row_image + pixel * stride
            v = offset
            for r in tl.static_range(R):
                v += w[r] * tl.load(row + r)
            dt = tl.where(there, _softplus(v), 0.0)
            x_i = tl.load(x_image + pixel.to(tl.int64) * channels, mask=there, other=0.0)
            pixels = pixels + (pixel,)
            dts = dts + (dt,)
            us = us + (dt * x_i,)
            dys = dys + (tl.load(dy_image + pixel.to(tl.int64) * channels, mask=there, other=0.0),)
            grad_u = grad_u + (tl.zeros((LANES,), dtype=tl.float32),)
            grad_dt = grad_dt + (tl.zeros((LANES,), dtype=tl.float32),)

        for n in range(N):
            state = (n // 4 * lanes + lane) * 4 + n % 4
            a = tl.load(a_row + n, mask=live, other=0.0)
            a_base2 = a * LOG2_E
            h = tl.load(mark + state, mask=live, other=0.0)
            g = tl.load(late + state, mask=live, other=0.0)
            decays = ()
            before = ()
            in_vector = ()
            for i in tl.static_range(STEPS):
                b = tl.load(row_image + pixels[i] * stride + (RP + n))
                decay = tl.exp2(dts[i] * a_base2)
                decays = decays + (decay,)
                before = before + (h,)
                in_vector = in_vector + (b,)
                h = decay * h + us[i] * b
            before = before + (h,)

            sum_a = tl.zeros((LANES,), dtype=tl.float32)
            grad_b = tl.zeros((LANES,), dtype=tl.float32)
            grad_c = tl.zeros((LANES,), dtype=tl.float32)
            new_u = ()
            new_dt = ()
            for i in tl.static_range(STEPS - 1, -1, -1):
                c = tl.load(row_image + pixels[i] * stride + (RP + NP + n))
                g += c * dys[i]
                grad_b = tl.where(column == i, tl.sum(g * us[i], axis=0), grad_b)
                grad_c = tl.where(column == i, tl.sum(dys[i] * before[i + 1], axis=0), grad_c)
                new_u = (grad_u[i] + g * in_vector[i],) + new_u
                g *= decays[i]
                of_exponent = g * before[i]
                new_dt = (grad_dt[i] + a * of_exponent,) + new_dt
                sum_a += dts[i] * of_exponent
            grad_u = new_u
            grad_dt = new_dt
            tl.store(out_row + (RP + n), grad_b, mask=out_here)
            tl.store(out_row + (RP + NP + n), grad_c, mask=out_here)
            tl.store(late + state, g, mask=live)
            total = grad_rates + state
            tl.store(total, tl.load(total, mask=live, other=0.0) + sum_a, mask=live)

        grad_low = ()
        for r in tl.static_range(R):
            grad_low = grad_low + (tl.zeros((LANES,), dtype=tl.float32),)
        for i in tl.static_range(STEPS):
            there = _live_below(live, first + i, length)
            x_i = tl.load(x_image + pixels[i].to(tl.int64) * channels, mask=there, other=0.0)
            row = row_image + pixels[i] * stride
            v = offset
            for r in tl.static_range(R):
                v += w[r] * tl.load(row + r)
            slope = 1.0 / (1.0 + tl.exp(-v))
            before_softplus = tl.where(there, (grad_dt[i] + grad_u[i] * x_i) * slope, 0.0)
            grad_x_i = grad_u[i] * dts[i] + weight * dys[i]
            tl.store(dx_image + pixels[i].to(tl.int64) * channels, grad_x_i, mask=there)
            sum_skip += dys[i] * x_i
            sum_bias += before_softplus
            new_low = ()
            new_w = ()
            for r in tl.static_range(R):
                column_sum = tl.sum(before_softplus * w[r], axis=0)
                new_low = new_low + (tl.where(column == i, column_sum, grad_low[r]),)
                new_w = new_w + (sum_w[r] + before_softplus * tl.load(row + r),)
            grad_low = new_low
            sum_w = new_w
        for r in tl.static_range(R):
            tl.store(out_row + r, grad_low[r], mask=out_here)

    for r in tl.static_range(R):
        tl.store(grad_w + r * lanes + lane, sum_w[r], mask=live)
    tl.store(grad_skip + lane, sum_skip, mask=live)
    tl.store(grad_bias + lane, sum_bias, mask=live)
