"""The tokens that a cut leaves, found without sorting the row: those above a bound that is surely low enough.

    bound            from the lines' maxima (top-k), from the highest (min-p), from the sum of all weights (top-p)
    head             the ids of all logits at or above it, in order, with their logits
    a step           what the stage of that name does, on the head alone

A stage of the whole row compares each logit with a threshold. A temperature keeps the order, so what lies below the
bound stays below its image; where the threshold is above that, the head is all that matters. Otherwise, and where a
running sum comes so close to a top-p that the order of the sum could decide, the loops say that they are not sure, and
the readable stages choose.

Axes: V vocabulary · N tokens of the head.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.kernels.lanes import kept_whole
from pellucid.engine.sampling.distribution import BLOCK
from pellucid.engine.sampling.fast.compile import LINE, at_least, inner, loop, lowest_bit
from pellucid.engine.sampling.fast.weigh import (
    INFINITY,
    LEAF,
    MOST_JOINED,
    ONE,
    ZERO,
    add_block,
    add_leaf,
    f32,
    join,
    weigh,
    weight,
)
from pellucid.engine.sampling.rows import MIN_P, TOP_K

SLACK = f32(1e-6)  # of a logit: eight times what a subtraction in fp32 may lose
LEAST = f32(np.finfo(np.float32).min)
NAN = f32(np.nan)
ONE_BIT = np.uint64(1)
CLOSE = 1e-10  # of a sum of weights: ten times what another order of half a million terms may change
SPARED = 2.0  # times the weight that a top-p cuts off, were all tokens as heavy as the bound: few rows have such a tail
MOST_SORTED = 4096
STRIPES_PER_NAT, NUM_STRIPES = f32(64), 2048  # the last one goes on for ever


@loop
def find_bound(maxima, highest, kind, number, divisor, num_logits, total):
    """The lowest logit that must be in the head for this step; NaN where none is sure to be low enough."""
    kept_whole()
    if kind == TOP_K:
        k = int(number)
        if 4 * k > 3 * maxima.size:
            return NAN
        floor = find_kth(maxima, maxima.size, k)
        if floor == -INFINITY:
            return LEAST
        return floor - SLACK * max(abs(floor), abs(highest))
    depth = number if kind == MIN_P else np.log(SPARED * (1 - number) * total / num_logits)
    depth *= divisor
    return f32(highest + depth - SLACK * (abs(highest) + abs(depth)))


@loop
def gather(row_V, maxima, bound, ids_N, x_N):
    """Write down the tokens at or above the bound; returns how many. Only lines that can hold any are looked at."""
    kept_whole()
    count, last = 0, row_V.size // LINE * LINE
    for start in range(0, last, LINE):
        if maxima[start // LINE] >= bound:
            bits = at_least(row_V.ctypes.data + row_V.itemsize * start, bound)
            while bits:
                i = start + lowest_bit(bits)
                ids_N[count], x_N[count] = i, row_V[i]
                bits, count = bits & (bits - ONE_BIT), count + 1
    for i in range(last, row_V.size):
        if row_V[i] >= bound:
            ids_N[count], x_N[count] = i, row_V[i]
            count += 1
    return count


@loop
def cut(ids_N, x_N, count, highest, kind, number, total):
    """One cut of a head, in place: how many are left, the threshold, and whether it is sure.

    `total` is the sum of the weights of the row: it may hold more tokens than the head.
    """
    kept_whole()
    threshold, most, sure = highest, count, True
    if kind == MIN_P:
        threshold = highest + f32(number)
    elif kind == TOP_K:
        most = min(int(number), count)
        threshold = find_kth(x_N, count, most)
    else:
        threshold, most, sure = find_nucleus(x_N[:count], highest, number, total)
    return keep(ids_N, x_N, count, threshold, most), threshold, sure


@loop
def keep(ids_N, x_N, count, threshold, most):
    """Keep what is above the threshold, and of what is equal to it the lowest ids, up to `most` in all."""
    kept_whole()
    equal = most
    for i in range(count):
        equal -= x_N[i] > threshold
    left = 0
    for i in range(count):
        x, is_equal = x_N[i], x_N[i] == threshold
        ids_N[left], x_N[left] = ids_N[i], x
        left += (x > threshold) | (is_equal & (equal > 0))
        equal -= is_equal
    return left


@loop
def find_nucleus(x_N, highest, share, total):
    """The threshold of a top-p, how many it keeps, and whether no other order of the sum could keep another number."""
    kept_whole()
    w_N, near_N, num_near = np.empty(x_N.size, np.float32), np.empty(x_N.size + 1, np.float32), 0
    masses, counts = np.zeros(NUM_STRIPES), np.zeros(NUM_STRIPES)
    weigh(x_N, highest, ONE, w_N)
    for i in range(x_N.size):
        stripe = find_stripe(x_N[i], highest)
        masses[stripe] += w_N[i]
        counts[stripe] += 1
    # The stripe, from the highest down, in which the running sum exceeds the target: only that one is sorted.
    target, running, num_before, wanted = share * total, 0.0, 0, 0
    while wanted < NUM_STRIPES - 1 and running + masses[wanted] <= target:
        running += masses[wanted]
        num_before += int(counts[wanted])
        wanted += 1
    for i in range(x_N.size):
        near_N[num_near] = x_N[i]
        num_near += find_stripe(x_N[i], highest) == wanted
    if num_near > MOST_SORTED:
        return highest, 0, False
    sort_down(near_N, num_near)
    for i in range(num_near):
        after = running + weight(near_N[i] - highest)
        if after > target:
            sure = running < target - CLOSE * total and after > target + CLOSE * total
            return near_N[i], num_before + i + 1, sure
        running = after
    return highest, 0, False


@inner
def find_stripe(x, highest):
    """Which stripe a logit lies in: a number from 0 on that never falls as logits fall."""
    depth = (highest - x) * STRIPES_PER_NAT
    return np.int32(depth) if depth < f32(NUM_STRIPES - 1) else np.int32(NUM_STRIPES - 1)


@loop
def find_kth(x_N, count, k):
    """The k-th highest of the first `count` numbers (quickselect, on a copy)."""
    kept_whole()
    y_N, low, high = x_N[:count].copy(), 0, count - 1
    while low < high:
        pivot, i, j = y_N[(low + high) // 2], low, high
        while i <= j:
            while y_N[i] > pivot:
                i += 1
            while y_N[j] < pivot:
                j -= 1
            if i <= j:
                y_N[i], y_N[j] = y_N[j], y_N[i]
                i, j = i + 1, j - 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return y_N[k - 1]


@inner
def sort_down(x_N, count):
    """Sort the first `count` numbers in place, the highest first (Shell's sort)."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap:
        for i in range(gap, count):
            x, j = x_N[i], i
            while j >= gap and x_N[j - gap] < x:
                x_N[j] = x_N[j - gap]
                j -= gap
            x_N[j] = x
        gap //= 3


@loop
def weigh_few(ids_N, x_N, highest, w_N, plan):
    """The weights of the head, and their sum as that of a row in which all others weigh nothing."""
    kept_whole()
    weigh(x_N, highest, ONE, w_N)
    leaf, sums, top, i, start = np.zeros(LEAF, np.float32), np.empty(MOST_JOINED), 0, 0, 0
    for step in range(plan.shape[0]):
        end, first = start + plan[step, 0], i
        while i < ids_N.size and ids_N[i] < end:
            leaf[ids_N[i] - start] = w_N[i]
            i += 1
        sums[top] = add_leaf(leaf[: end - start]) if i > first else 0.0
        for j in range(first, i):
            leaf[ids_N[j] - start] = ZERO
        top = join(sums, top + 1, plan[step, 1])
        start = end
    return sums[0]


@loop
def locate_few(ids_N, w_N, num_logits, target):
    """The place in the head at which the running sum exceeds `target`, as `distribution.draw` finds it."""
    kept_whole()
    block_N, before, i, last = np.zeros(BLOCK, np.float32), 0.0, 0, 0
    while i < ids_N.size:
        start, first = ids_N[i] // BLOCK * BLOCK, i
        while i < ids_N.size and ids_N[i] < start + BLOCK:
            block_N[ids_N[i] - start] = w_N[i]
            last = i if w_N[i] > ZERO else last
            i += 1
        own = add_block(block_N[: min(BLOCK, num_logits - start)])
        if before + own > target:
            running = 0.0
            for j in range(first, i):
                running += w_N[j]
                if before + running > target:
                    return j
            return last
        before += own
        for j in range(first, i):
            block_N[ids_N[j] - start] = ZERO
    return last
