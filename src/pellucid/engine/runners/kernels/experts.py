"""A mixture of experts in loops: each row is sent to a few of many feed-forwards, and a pass reads those alone.

    ROUTE    router · x                    one number for every expert of every row
    CHOOSE   shares = softmax(…)           in each row the `active` largest, the lowest number among equals
    SEAT     every chosen (row, expert) gets a seat, expert after expert: an expert's rows lie side by side
    SEND     x is copied to the row's seats
    WIDEN    act(gate · x) * up · x        tiles as of any feed-forward, for each expert that anybody chose
    NARROW   down · hidden
    MIX      x += Σ share · what was made  over a row's seats, in the order of its choice

So an expert's weights are read once for all of its rows, and one that nobody chose is not read. Where a row sits, and
beside whom, changes no bit of its sums.

Axes: M rows · E experts · A experts that a row is sent to · D width.
Source: Jiang et al. 2024 (Mixtral); `model.experts` is the slow twin.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.kernels.compile import kernel
from pellucid.engine.runners.kernels.functions import exp32
from pellucid.engine.runners.kernels.lanes import fused, get, get_int, kept_whole, put, put_int, size_of
from pellucid.engine.runners.kernels.plan import (
    A_ROW,
    ACTIVATION,
    ACTIVE,
    AROUND,
    CHOSEN,
    D_PADDED,
    DOWN,
    EXPERT_WIDTH,
    EXPERTS,
    GATE,
    GATED,
    H_ROW,
    HIDDEN,
    LOADS,
    MADE,
    MADE_ROW,
    MATRICES,
    NORMALISED,
    NUM_ROWS,
    PER_LAYER,
    ROUTER,
    ROUTES,
    SEATS,
    SENT,
    SHARES,
    UP,
    WIDEN,
    Y_ROW,
    A,
    D,
    X,
    Y,
)
from pellucid.engine.runners.kernels.product import (
    FP32,
    NUM_COLUMNS,
    OUTPUTS,
    TILE,
    activate_rows,
    add_rows,
    multiply_rows,
    num_tiles,
)

f32 = np.float32
TAKEN = f32(-1)  # below every share
EXPERT, FIRST_SEAT, NUM_SEATS, PER_LOAD = range(4)  # what is known of an expert that was chosen


@kernel
def has_experts(plan, layer):
    """Whether a block has a router."""
    router = plan[MATRICES] + (layer * PER_LAYER + ROUTER) * NUM_COLUMNS * 8
    return get_int(router, OUTPUTS) > 0


@kernel
def soften(x, count):
    """Turn numbers into shares: e^x / Σ e^x."""
    highest, total = get(FP32, x, 0), f32(0)
    for e in range(1, count):
        highest = max(highest, get(FP32, x, e))
    for e in range(count):
        put(FP32, x, e, exp32(get(FP32, x, e) - highest))
        total += get(FP32, x, e)
    for e in range(count):
        put(FP32, x, e, get(FP32, x, e) / total)


@kernel
def choose_row(plan, row):
    """The experts of one row, the largest share first, and their shares."""
    kept_whole()
    num_experts, active = plan[EXPERTS], plan[ACTIVE]
    routes = plan[ROUTES] + row * num_experts * 4
    chosen, shares = plan[CHOSEN] + row * active * 8, plan[SHARES] + row * active * 4
    soften(routes, num_experts)
    total = f32(0)
    for place in range(active):
        best = 0
        for e in range(1, num_experts):
            if get(FP32, routes, e) > get(FP32, routes, best):
                best = e
        put_int(chosen, place, best)
        put(FP32, shares, place, get(FP32, routes, best))
        total += get(FP32, routes, best)
        put(FP32, routes, best, TAKEN)
    if plan[NORMALISED]:
        for place in range(active):
            put(FP32, shares, place, get(FP32, shares, place) / total)


@kernel
def seat_rows(plan):
    """Give every choice a seat, expert by expert and row by row; leave the experts that were chosen in `LOADS`.

    `LOADS` is their number, three numbers for each, then a count for every expert there is.
    """
    kept_whole()
    num_experts, num_choices, num_loads, first_seat = plan[EXPERTS], plan[NUM_ROWS] * plan[ACTIVE], 0, 0
    counts = plan[LOADS] + (1 + num_experts * PER_LOAD) * 8
    for e in range(num_experts):
        put_int(counts, e, 0)
    for choice in range(num_choices):
        e = get_int(plan[CHOSEN], choice)
        put_int(counts, e, get_int(counts, e) + 1)
    for e in range(num_experts):
        num_seats = get_int(counts, e)
        if num_seats:
            load = plan[LOADS] + (1 + num_loads * PER_LOAD) * 8
            put_int(load, EXPERT, e)
            put_int(load, FIRST_SEAT, first_seat)
            put_int(load, NUM_SEATS, num_seats)
            num_loads += 1
        put_int(counts, e, first_seat)  # from here on: its next free seat
        first_seat += num_seats
    for choice in range(num_choices):
        e = get_int(plan[CHOSEN], choice)
        put_int(plan[SEATS], choice, get_int(counts, e))
        put_int(counts, e, get_int(counts, e) + 1)
    put_int(plan[LOADS], 0, num_loads)


@kernel
def send_row(plan, x_kind, row):
    """Copy what the feed-forward reads to the row's seats."""
    kept_whole()
    size = plan[A_ROW] * size_of(x_kind)
    for place in range(plan[ACTIVE]):
        sent = plan[SENT] + get_int(plan[SEATS], row * plan[ACTIVE] + place) * size
        for i in range(plan[D]):
            put(x_kind, sent, i, get(x_kind, plan[A] + row * size, i))


@kernel
def num_expert_tasks(plan, outputs):
    """Tiles of all experts that were chosen."""
    return get_int(plan[LOADS], 0) * num_tiles(outputs)


@kernel
def widen_tile(plan, kind, x_kind, table, expert, width, tile, x, x_row, row, y, y_row, h, num_rows):
    """One tile inside a feed-forward of `width`: h = act(gate · x) * up · x, or act(up · x).

    Experts are stacked: the outputs of one follow those of the one before. A plain feed-forward is expert 0.
    """
    start, first, last = expert * width, tile * TILE, min(tile * TILE + TILE, width)
    index, count = (GATE, 2) if plan[GATED] else (UP, 1)
    for n in range(count):
        matrix, goal = table + (index + n) * NUM_COLUMNS * 8, y + (n * width - start) * 4
        multiply_rows(kind, x_kind, matrix, x, x_row, row, goal, y_row, num_rows, start + first, start + last)
    activate_rows(plan[ACTIVATION], x_kind, plan[GATED], width, y, y_row, h, plan[H_ROW], num_rows, first, last)


@kernel
def expert_task(plan, kind, x_kind, x, x_row, stage, layer, task):
    """One tile of one expert, for its seats of x. Neighbouring tasks are of different experts: threads have equal shares."""
    kept_whole()
    table, num_loads = plan[MATRICES] + layer * PER_LAYER * NUM_COLUMNS * 8, get_int(plan[LOADS], 0)
    tile, load = task // num_loads, plan[LOADS] + (1 + task % num_loads * PER_LOAD) * 8
    expert, seat, num_rows = get_int(load, EXPERT), get_int(load, FIRST_SEAT), get_int(load, NUM_SEATS)
    hidden = plan[HIDDEN] + seat * plan[H_ROW] * size_of(x_kind)
    made, made_row, width = plan[MADE] + seat * plan[MADE_ROW] * 4, plan[MADE_ROW], plan[EXPERT_WIDTH]
    if stage == WIDEN:
        widen_tile(plan, kind, x_kind, table, expert, width, tile, x, x_row, seat, made, made_row, hidden, num_rows)
    else:
        start, first, last = expert * plan[D], tile * TILE, min(tile * TILE + TILE, plan[D])
        matrix, goal = table + DOWN * NUM_COLUMNS * 8, made - start * 4
        multiply_rows(kind, x_kind, matrix, x, x_row, seat, goal, made_row, num_rows, start + first, start + last)


@kernel
def mix_row(plan, row):
    """What the experts made of one row, each by its share: added to the stream, if no norm comes between."""
    kept_whole()
    y = plan[Y] + row * plan[Y_ROW] * 4
    for i in range(plan[D]):
        put(FP32, y, i, f32(0))
    for place in range(plan[ACTIVE]):
        choice = row * plan[ACTIVE] + place
        share, made = get(FP32, plan[SHARES], choice), plan[MADE] + get_int(plan[SEATS], choice) * plan[MADE_ROW] * 4
        for i in range(plan[D]):
            put(FP32, y, i, fused(share, get(FP32, made, i), get(FP32, y, i)))
    if not plan[AROUND]:
        add_rows(y, 0, plan[X] + row * plan[D_PADDED] * 4, 0, 1, 0, plan[D])
