"""The passes over a whole row: its highest logit, the weight of each token, and their sums, in NumPy's own bits.

    weight(x)          exp(x) for x ≤ 0            2^n · P(r) / Q(r),   n = round(x / ln 2),   r = x - n ln 2
    plan_sum(n)        Σ w in fp64, added in pairs: halves of halves down to 128 numbers, those in eight columns
    weigh_row          Σ over a row, the sums of pieces of 8,192 added one after the other

NumPy's exp in fp32 is another sequence of operations on each kind of processor, and its sums are added in an order of
their own. These loops follow what NumPy does on x86 processors with fused multiply-add; `trial` compares the two
before the loops are used, and where one bit differs they are not.

Axes: V vocabulary.
Source: NumPy, `loops_exponent_log.dispatch.c.src` (coefficients of P and Q, splitting of ln 2) and
`loops_utils.h.src` (pairwise sums).
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.kernels.lanes import from_bits, fused, kept_whole, to_bits
from pellucid.engine.sampling.distribution import BLOCK
from pellucid.engine.sampling.fast.compile import COLUMNS, LINE, add_columns, inner, loop

f32 = np.float32
LOG2E, ROUND = f32(1.442695040888963407), f32(1.5 * 2**23)  # the second pushes the fraction out of an fp32 number
LN2_HIGH, LN2_LOW = f32(-6.93145752e-1), f32(-1.42860677e-6)
P0, P1, P2 = f32(9.999999999980870924916e-01), f32(7.257664613233124478488e-01), f32(2.473615434895520810817e-01)
P3, P4, P5 = f32(5.114512081637298353406e-02), f32(6.757896990527504603057e-03), f32(5.082762527590693718096e-04)
Q0, Q1, Q2 = f32(1), f32(-2.742335390411667452936e-01), f32(2.159509375685829852307e-02)
LOWEST = f32(-103.97208)  # below it the weight is 0
SMALLEST, LEAST = f32(-125), np.int32(-30)  # what an exponent below lacks is a second factor: the product rounds once
BIAS = np.int32(127)  # of an exponent in an fp32 number's bits
ZERO, ONE, INFINITY = f32(0), f32(1), f32(np.inf)
NO_BITS, ALL_BITS = np.int32(-(2**31)), np.uint32(2**32 - 1)  # the lowest and the highest that bits can be
PLUS_INFINITY_BITS, MINUS_INFINITY_BITS = np.int32(0x7F800000), np.uint32(0xFF800000)

PIECE = 8192  # numbers that NumPy widens at a time
LEAF = 128  # up to so many numbers are added in columns
MOST_JOINED = 16  # sums that wait for others: one for each halving of a piece, and some


@inner
def weight(x):
    """exp(x) for x ≤ 0, not for NaN."""
    n = (x * LOG2E + ROUND) - ROUND
    r = fused(n, LN2_LOW, fused(n, LN2_HIGH, x))
    p = fused(fused(fused(fused(fused(P5, r, P4), r, P3), r, P2), r, P1), r, P0)
    q = fused(fused(Q2, r, Q1), r, Q0)
    exponent = np.int32(max(n, SMALLEST))
    below = max(np.int32(min(n, SMALLEST) - SMALLEST), LEAST)
    scaled = from_bits(to_bits(p / q) + (np.uint32(exponent) << np.uint32(23)))
    found = scaled * from_bits(np.uint32(below + BIAS) << np.uint32(23))
    return found if x >= LOWEST else ZERO


def plan_sum(count: int) -> np.ndarray:
    """In which order `count` numbers are added: the length of each leaf, and how often two sums are joined after it.

    >>> plan_sum(300).tolist()
    [[72, 0], [72, 1], [72, 0], [84, 2]]
    """
    steps: list[list[int]] = []
    for start in range(0, count, PIECE):
        steps += _halve(min(PIECE, count - start))
        steps[-1][1] += start > 0  # the sum of the pieces before
    return np.array(steps, dtype=np.int64)


def _halve(count: int) -> list[list[int]]:
    if count <= LEAF:
        return [[count, 0]]
    half = count // 2 - count // 2 % COLUMNS
    steps = _halve(half) + _halve(count - half)
    steps[-1][1] += 1
    return steps


@loop
def add_leaf(w_N):
    """The sum of at most `LEAF` weights."""
    kept_whole()
    even = w_N.size - w_N.size % COLUMNS
    total = add_columns(w_N.ctypes.data, even)
    for i in range(even, w_N.size):
        total += w_N[i]
    return total


@loop
def find_maxima(row_V, maxima):
    """The highest logit of each line; returns the highest of all, NaN when any is NaN.

    It compares bits: as whole numbers the positive numbers grow and the negative ones shrink, and beyond both
    infinities lies NaN. A compiler makes vectors of that, and not of comparisons that NaN might change.
    """
    kept_whole()
    highest, most, most_unsigned = -INFINITY, NO_BITS, np.uint32(0)
    for line in range(maxima.size):
        part = row_V[line * LINE : (line + 1) * LINE]
        positive, negative = NO_BITS, ALL_BITS
        for i in range(part.size):
            bits = to_bits(part[i])
            positive = max(positive, np.int32(bits))
            negative = min(negative, bits)
            most_unsigned = max(most_unsigned, bits)
        maxima[line] = from_bits(np.uint32(positive)) if positive >= 0 else from_bits(negative)
        most = max(most, positive)
        highest = max(highest, maxima[line])
    if most > PLUS_INFINITY_BITS or most_unsigned > MINUS_INFINITY_BITS:
        return f32(np.nan)
    return highest


@loop
def weigh(x_N, highest, divisor, w_N):
    """The weights of some logits, after a temperature."""
    kept_whole()
    if divisor == ONE:
        for i in range(x_N.size):
            w_N[i] = weight(x_N[i] - highest)
    else:
        for i in range(x_N.size):
            w_N[i] = weight((x_N[i] - highest) / divisor)


@inner
def join(sums, top, times):
    """Join the last two sums, so often; returns how many are left."""
    for _ in range(times):
        top -= 1
        sums[top - 1] += sums[top]
    return top


@loop
def weigh_row(row_V, highest, divisors, plan, totals, leaves):
    """The sum of a row's weights after each of some temperatures, and of each leaf's after the last: one walk for all."""
    kept_whole()
    w_N, sums, begun, top = np.empty(PIECE, np.float32), np.empty((divisors.size, MOST_JOINED)), 0, 0
    for first in range(0, row_V.size, PIECE):
        piece = row_V[first : first + PIECE]
        top_before, step = top, begun
        for d in range(divisors.size):
            weigh(piece, highest, divisors[d], w_N)
            top, step, start = top_before, begun, 0
            while start < piece.size:
                end = start + plan[step, 0]
                sums[d, top] = leaves[step] = add_leaf(w_N[start:end])
                top = join(sums[d], top + 1, plan[step, 1])
                start, step = end, step + 1
        begun = step
    for d in range(divisors.size):
        totals[d] = sums[d, 0]


@loop
def add_block(w_N):
    """The sum of at most `BLOCK` weights, added as any sum of so many."""
    kept_whole()
    if w_N.size <= LEAF:
        return add_leaf(w_N)
    half = w_N.size // 2 - w_N.size // 2 % COLUMNS
    rest_N = w_N[half:]
    if rest_N.size <= LEAF:
        return add_leaf(w_N[:half]) + add_leaf(rest_N)
    quarter = rest_N.size // 2 - rest_N.size // 2 % COLUMNS
    return add_leaf(w_N[:half]) + (add_leaf(rest_N[:quarter]) + add_leaf(rest_N[quarter:]))


@loop
def locate(row_V, highest, divisor, target, leaves):
    """The first token at which the running sum exceeds `target`, as `distribution.draw` finds it."""
    kept_whole()
    whole_pieces, w_N, before = row_V.size // PIECE * PIECE, np.empty(BLOCK, np.float32), 0.0
    for start in range(0, row_V.size, BLOCK):
        part = row_V[start : start + BLOCK]
        is_weighed = start < whole_pieces
        if is_weighed:  # there a block is two leaves
            own = leaves[start // LEAF] + leaves[start // LEAF + 1]
        else:
            weigh(part, highest, divisor, w_N)
            own = add_block(w_N[: part.size])
        if before + own > target:
            if is_weighed:
                weigh(part, highest, divisor, w_N)
            return start + walk(w_N[: part.size], before, target)
        before += own
    last = row_V.size - 1
    while weight((row_V[last] - highest) / divisor) == ZERO:
        last -= 1
    return last


@inner
def walk(w_N, before, target):
    """The place at which the running sum exceeds `target`, else the last that weighs anything."""
    running, last = 0.0, 0
    for i in range(w_N.size):
        running += w_N[i]
        if before + running > target:
            return i
        if w_N[i] > ZERO:
            last = i
    return last
