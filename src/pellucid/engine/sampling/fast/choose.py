"""The choice from many rows by compiled loops: each row is read once or twice, and rows are spread over the threads.

    highest of each line → sum of the model's weights → head of the cuts, or the whole row → draw

What a row gives depends on that row alone. `trial` holds the loops beside NumPy before they are used.

Axes: V vocabulary · R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numba import prange

from pellucid.engine.runners.kernels.lanes import kept_whole
from pellucid.engine.runners.kernels.launch import launch
from pellucid.engine.sampling.fast.compile import LINE, inner, loop, numbers_at, parallel_loop
from pellucid.engine.sampling.fast.head import LEAST, cut, find_bound, gather, locate_few, weigh_few
from pellucid.engine.sampling.fast.weigh import (
    INFINITY,
    ZERO,
    f32,
    find_maxima,
    locate,
    plan_sum,
    weigh_row,
)
from pellucid.engine.sampling.rows import GREEDY, MOST_STEPS, NOTHING, TEMPERATURE, TOP_P, FoundToken, RowReading

# What is asked of a row: where the model's and its own lie, and the kinds of its steps, ended by NOTHING. Its numbers:
# those of the steps, the draw, then what is found.
MODEL, ROW, KINDS = range(3)
DRAW, ID, LOGIT, HIGHEST, TOTAL, MODEL_HIGHEST, MODEL_TOTAL, SURE = range(MOST_STEPS, MOST_STEPS + 8)
NOT_FOUND = [0.0] * (SURE + 1 - ID)


@lru_cache(maxsize=4)
def cached_plan(num_logits: int) -> np.ndarray:
    """`plan_sum`, of the vocabularies in use."""
    return plan_sum(num_logits)


def choose_by_loops(readings: Sequence[RowReading], /, *, threads: int = 1) -> list[FoundToken | None]:
    """What was chosen from each row, all of one length; None where the loops are not sure of it."""
    num_logits, asked, numbers = readings[0].row_V.size, [], []
    for reading in readings:
        rest = [NOTHING] * (MOST_STEPS - len(reading.steps))
        kinds, values = [kind for kind, _ in reading.steps], [number for _, number in reading.steps]
        asked.append([address_of(reading.model_V), address_of(reading.row_V), *kinds, *rest, NOTHING])
        numbers.append([*values, *rest, reading.u or 0.0, *NOT_FOUND])
    asked_RK, numbers_RK = np.array(asked, np.int64), np.array(numbers, np.float64)
    with launch(min(threads, len(readings))):
        choose_each(num_logits, asked_RK, numbers_RK, cached_plan(num_logits))
    return [FoundToken(int(found[0]), *found[1:-1]) if found[-1] else None for found in numbers_RK[:, ID:].tolist()]


def address_of(row_V: np.ndarray) -> int:
    """Where a row lies."""
    return row_V.__array_interface__["data"][0]


@parallel_loop
def choose_each(num_logits, asked, numbers, plan):
    """Choose from each row, on all threads."""
    for r in prange(asked.shape[0]):
        choose_row(num_logits, asked, numbers, plan, np.int64(r))


@loop
def choose_row(num_logits, asked_rows, number_rows, plan, r):
    """Choose from one row; it stays unsure where the readable stages must choose, or refuse."""
    kept_whole()
    asked, numbers = asked_rows[r], number_rows[r]
    model_V, row_V = numbers_at(asked[MODEL], num_logits), numbers_at(asked[ROW], num_logits)
    maxima, leaves = np.empty((num_logits + LINE - 1) // LINE, np.float32), np.empty(plan.shape[0])
    is_model, is_warm = asked[MODEL] == asked[ROW], asked[KINDS] == TEMPERATURE
    step = 1 if is_warm else 0
    kind, divisors, totals = asked[KINDS + step], np.ones(2, np.float32), np.empty(2)
    if is_warm:
        divisors[1] = numbers[0]
    needs_total = kind in (NOTHING, TOP_P)  # of the row after the leading stages and a temperature
    last = 1 if is_model and is_warm and needs_total else 0
    highest = find_maxima(model_V, maxima)
    if not -INFINITY < highest < INFINITY:
        return
    weigh_row(model_V, highest, divisors[: last + 1], plan, totals, leaves)
    numbers[MODEL_HIGHEST], numbers[MODEL_TOTAL] = highest, totals[0]
    total, divisor = totals[last], divisors[1]
    if not is_model:
        highest = find_maxima(row_V, maxima)
        if not -INFINITY < highest < INFINITY:
            return
        if needs_total:
            weigh_row(row_V, highest, divisors[1:], plan, totals, leaves)
            total = totals[0]
    if kind == GREEDY:
        numbers[ID], numbers[SURE] = find_first(row_V, maxima, highest), 1
        return
    if kind != NOTHING:
        choose_from_head(row_V, maxima, highest, asked, numbers, step, divisor, total, plan)
        return
    chosen = locate(row_V, highest, divisor, numbers[DRAW] * total, leaves)
    numbers[ID], numbers[TOTAL], numbers[SURE] = chosen, total, 1
    numbers[LOGIT] = (row_V[chosen] - highest) / divisor if is_warm else row_V[chosen]
    numbers[HIGHEST] = ZERO if is_warm else highest


@inner
def find_first(row_V, maxima, highest):
    """The first token with the highest logit."""
    for line in range(maxima.size):
        if maxima[line] == highest:
            for i in range(line * LINE, row_V.size):
                if row_V[i] == highest:
                    return i
    return 0


@loop
def choose_from_head(row_V, maxima, highest, asked, numbers, step, divisor, total, plan):
    """Choose behind cuts; `divisor` is the temperature that came before the first of them, in which case `step` is 1."""
    kept_whole()
    bound = find_bound(maxima, highest, asked[KINDS + step], numbers[step], divisor, row_V.size, total)
    if bound != bound:
        return
    room = 1
    for line in range(maxima.size):
        room += LINE * (maxima[line] >= bound)
    ids_N, x_N, w_N = np.empty(room, np.int64), np.empty(room, np.float32), np.empty(room, np.float32)
    count, first, below = gather(row_V, maxima, bound, ids_N, x_N), step, bound
    if step:
        below = (bound - highest) / divisor
        highest = warm(x_N[:count], highest, divisor)
    while asked[KINDS + step] != NOTHING:
        kind, number = asked[KINDS + step], numbers[step]
        if kind == TEMPERATURE:
            highest = warm(x_N[:count], highest, f32(number))
        else:
            if step > first and kind == TOP_P:
                total = weigh_few(ids_N[:count], x_N[:count], highest, w_N, plan)
            count, threshold, sure = cut(ids_N, x_N, count, highest, kind, number, total)
            if not (sure and (step > first or threshold > below or bound == LEAST)):
                return
        step += 1
    total = weigh_few(ids_N[:count], x_N[:count], highest, w_N, plan)
    chosen = locate_few(ids_N[:count], w_N, row_V.size, numbers[DRAW] * total)
    numbers[ID], numbers[LOGIT], numbers[HIGHEST] = ids_N[chosen], x_N[chosen], highest
    numbers[TOTAL], numbers[SURE] = total, 1


@inner
def warm(x_N, highest, divisor):
    """Apply a temperature in place; returns the highest logit behind it."""
    for i in range(x_N.size):
        x_N[i] = (x_N[i] - highest) / divisor
    return ZERO
