"""Attention over a paged key-value cache.

    scores[r, s] = q[r] · k[s] / √K        weights = softmax(scores)        y[r] = Σ_s weights[r, s] · v[s]

q comes with its scale (1/√K, or the model's own). Where there is a cap, scores are bent to cap · tanh(score / cap).

A page holds `PAGE` neighbouring positions of one sequence, for every layer and key/value head: first the keys with
positions along the lanes (k[d, s]), then the values with the head's width along the lanes (v[s, d]). So both products
are sums whose every output is a lane of its own, and a new position is a strided write of one key.

The order of sums does not depend on how many positions are read at once: each page, counted from position 0, gives its
own highest score, total and mix; pages are then joined in order,

    m' = max(m, m_p)      total' = total e^(m-m') + total_p e^(m_p-m')      mix' the same

Axes: M rows · H query heads · G key/value heads · K head width (padded to a multiple of 16).
Source: Milakov & Gimelshein 2018 (joining softmaxes); Dao et al. 2023 (over blocks of a cache).
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.kernels.compile import kernel
from pellucid.engine.runners.kernels.emit import LANES
from pellucid.engine.runners.kernels.functions import bent, exp32
from pellucid.engine.runners.kernels.lanes import (
    VECTORS,
    get,
    get_int,
    kept_whole,
    lanes_max,
    lanes_sum,
    outer_1_more,
    outer_1_most,
    outer_1x1,
    outer_2_more,
    outer_2_most,
    outer_2x1,
    outer_4_more,
    outer_4_most,
    outer_4x1,
    put,
    put_int,
    scratch,
    size_of,
)

PAGE = 256
WIDEST = 512  # the largest head width
# Columns of the widest block for 1, 2 and 4 rows, and of the one that takes what is left.
(MOST_1, MORE_1), (MOST_2, MORE_2), (MOST_4, MORE_4) = ([LANES * n for n in VECTORS[rows]] for rows in (1, 2, 4))
NOTHING = np.float32(-np.inf)
FP32 = np.float32(0)
f32 = np.float32


@kernel
def place_position(kind, keys, head_dim, place, k, v, width):
    """Write one position's key and value (`width` numbers each) among a head's keys and values of a page."""
    values = keys + PAGE * head_dim * size_of(kind)
    for d in range(width):
        put(kind, keys, d * PAGE + place, get(FP32, k, d))
    for d in range(width):
        put(kind, values, place * head_dim + d, get(FP32, v, d))


@kernel
def outer(kind, a, a_row, b, b_row, y, y_row, rows, columns, count):
    """y[r, :] = Σ_t a[r, t] · b[t, :] for 1, 2 or 4 rows and any multiple of 16 columns.

    As many columns at a time as there are registers for sums: b is then read in the order in which it lies.
    """
    kept_whole()
    n = 0
    while n < columns:
        line, goal, left = b + n * size_of(kind), y + n * 4, columns - n
        if rows == 4:
            if left >= MOST_4:
                outer_4_most(kind, a, a_row, line, b_row, goal, y_row, count)
                n += MOST_4
            elif left >= MORE_4:
                outer_4_more(kind, a, a_row, line, b_row, goal, y_row, count)
                n += MORE_4
            else:
                outer_4x1(kind, a, a_row, line, b_row, goal, y_row, count)
                n += LANES
        elif rows == 2:
            if left >= MOST_2:
                outer_2_most(kind, a, a_row, line, b_row, goal, y_row, count)
                n += MOST_2
            elif left >= MORE_2:
                outer_2_more(kind, a, a_row, line, b_row, goal, y_row, count)
                n += MORE_2
            else:
                outer_2x1(kind, a, a_row, line, b_row, goal, y_row, count)
                n += LANES
        elif left >= MOST_1:
            outer_1_most(kind, a, a_row, line, b_row, goal, y_row, count)
            n += MOST_1
        elif left >= MORE_1:
            outer_1_more(kind, a, a_row, line, b_row, goal, y_row, count)
            n += MORE_1
        else:
            outer_1x1(kind, a, a_row, line, b_row, goal, y_row, count)
            n += LANES


@kernel
def softmax_part(scores, first, last, columns, cap, state):
    """Turn scores into e^(score - highest), 0 outside first .. last-1; leave (highest, total) in `state`.

    Where there is a cap, scores are bent to lie below it first.
    """
    kept_whole()
    if cap:
        for s in range(first, last):
            put(FP32, scores, s, bent(get(FP32, scores, s), cap))
    for s in range(first):
        put(FP32, scores, s, NOTHING)
    for s in range(last, columns):
        put(FP32, scores, s, NOTHING)
    highest = lanes_max(scores, columns)
    base = highest if highest > NOTHING else f32(0)
    for s in range(columns):
        put(FP32, scores, s, exp32(get(FP32, scores, s) - base))
    put(FP32, state, 0, highest)
    put(FP32, state, 1, lanes_sum(scores, columns))


@kernel
def attend_page(kind, page, keys, head_dim, q, q_row, rows, ends, window, cap, states, mixes):
    """One page for 1, 2 or 4 queries, query r looking at positions below ends[r]; whether any of them looks here.

    Leaves each query's highest score and total in `states` and its mix (not yet divided) in `mixes`.
    """
    kept_whole()
    scores = scratch(512)
    most, least = 0, PAGE
    for r in range(rows):
        last = min(max(get_int(ends, r) - page * PAGE, 0), PAGE)
        most = max(most, last)
        least = min(least, max(get_int(ends, r) - window - page * PAGE, 0) if window else 0)
    if most == 0 or least >= most:
        return False
    columns = (most + 15) // 16 * 16
    outer(kind, q, q_row, keys, PAGE, scores, PAGE, rows, columns, head_dim)
    for r in range(rows):
        last = min(max(get_int(ends, r) - page * PAGE, 0), PAGE)
        first = min(max(get_int(ends, r) - window - page * PAGE, 0), last) if window else 0
        softmax_part(scores + r * PAGE * 4, first, last, columns, cap, states + r * 8)
    values = keys + PAGE * head_dim * size_of(kind)
    outer(kind, scores, PAGE, values, head_dim, mixes, head_dim, rows, head_dim, most)
    return True


@kernel
def begin(state, mix, head_dim):
    """Nothing seen yet."""
    put(FP32, state, 0, NOTHING)
    put(FP32, state, 1, f32(0))
    for d in range(head_dim):
        put(FP32, mix, d, f32(0))


@kernel
def join(state, mix, new_state, new_mix, head_dim):
    """Join one page's (highest, total, mix) to what came before it."""
    kept_whole()
    old, new = get(FP32, state, 0), get(FP32, new_state, 0)
    if new == NOTHING:
        return
    highest = max(old, new)
    keep = exp32(old - highest) if old > NOTHING else f32(0)
    take = exp32(new - highest)
    put(FP32, state, 0, highest)
    put(FP32, state, 1, get(FP32, state, 1) * keep + get(FP32, new_state, 1) * take)
    for d in range(head_dim):
        put(FP32, mix, d, get(FP32, mix, d) * keep + get(FP32, new_mix, d) * take)


@kernel
def finish(x_kind, state, mix, out, width):
    """mix / total, in the format that the next product reads."""
    kept_whole()
    share = f32(1) / get(FP32, state, 1)
    for d in range(width):
        put(x_kind, out, d, get(FP32, mix, d) * share)


@kernel
def block_rows(left):
    """The largest block that fits."""
    return 4 if left >= 4 else 2 if left >= 2 else 1


@kernel
def attend_lines(kind, x_kind, pages, offset, head_dim, width, q, q_row, rows, ends, window, cap, out, out_row):
    """All pages for 1, 2 or 4 queries, joined in order. `offset`: the head's place in a page, in numbers."""
    state, mix = scratch(4), scratch(1024)
    new_state, new_mix = scratch(4), scratch(1024)
    most = 0
    for r in range(rows):
        begin(state + r * 8, mix + r * head_dim * 4, head_dim)
        most = max(most, get_int(ends, r))
    for page in range((most + PAGE - 1) // PAGE):
        keys = get_int(pages, page) + offset * size_of(kind)
        if attend_page(kind, page, keys, head_dim, q, q_row, rows, ends, window, cap, new_state, new_mix):
            for r in range(rows):
                at = r * head_dim * 4
                join(state + r * 8, mix + at, new_state + r * 8, new_mix + at, head_dim)
    for r in range(rows):
        finish(x_kind, state + r * 8, mix + r * head_dim * 4, out + r * out_row * size_of(x_kind), width)


@kernel
def attend_apart(kind, pages, page, offset, head_dim, q, rows, end, window, cap, states, mixes, num_pages):
    """1, 2 or 4 heads of one row over one page; each head's part is left at [head, page]."""
    ends, state, mix = scratch(4), scratch(4), scratch(1024)
    for r in range(rows):
        put_int(ends, r, end)
        begin(state + r * 8, mix + r * head_dim * 4, head_dim)
    keys = get_int(pages, page) + offset * size_of(kind)
    attend_page(kind, page, keys, head_dim, q, head_dim, rows, ends, window, cap, state, mix)
    for r in range(rows):
        place = r * num_pages + page
        for i in range(2):
            put(FP32, states, 2 * place + i, get(FP32, state, 2 * r + i))
        for d in range(head_dim):
            put(FP32, mixes, place * head_dim + d, get(FP32, mix, r * head_dim + d))


@kernel
def join_pages(x_kind, states, mixes, num_pages, head_dim, width, out):
    """Join the parts of one row's head in the order of pages."""
    state, mix = scratch(1), scratch(256)
    begin(state, mix, head_dim)
    for page in range(num_pages):
        join(state, mix, states + page * 8, mixes + page * head_dim * 4, head_dim)
    finish(x_kind, state, mix, out, width)
