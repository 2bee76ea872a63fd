"""What is done with one row alone, between the products: it is read, normed, and its heads are turned to their place.

Every row is computed from its own numbers, in the order in which they lie.

Axes: D width · H query heads · G key/value heads · K head width.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.kernels.attend import PAGE, place_position
from pellucid.engine.runners.kernels.compile import kernel
from pellucid.engine.runners.kernels.lanes import (
    dot_1x1,
    fused,
    get,
    get_int,
    kept_whole,
    lanes_sum,
    put,
    scratch,
    size_of,
)
from pellucid.engine.runners.kernels.plan import (
    A_ROW,
    BIASED_NORM,
    CONSTANTS,
    D_PADDED,
    EMBED,
    EMBED_SCALE,
    EPS,
    HEAD_NORMS,
    IDS,
    K_PADDED,
    LAYER_NORM,
    NORM_BIASES,
    NORMS,
    NUM_PAGES,
    PAGES,
    POSITION,
    POSITIONS,
    QK_NORM,
    SCALE,
    SLOTS,
    TURNS,
    Y_ROW,
    D,
    G,
    H,
    K,
    Q,
    X,
    Y,
)
from pellucid.engine.runners.kernels.product import FP32, add_rows

f32 = np.float32


@kernel
def square_sum(x, count):
    """Σ x² of `count` numbers."""
    total = scratch(1)
    dot_1x1(FP32, FP32, x, 0, 0, 0, x, 0, total, 0, count)
    return get(FP32, total, 0)


@kernel
def norm_row(plan, x_kind, index, x, out):
    """Norm `index` of the model for one row: RMSNorm, or LayerNorm with or without a bias."""
    kept_whole()
    width, padded = plan[D], plan[D_PADDED]
    weight, bias = plan[NORMS] + index * width * 4, plan[NORM_BIASES] + index * width * 4
    eps = get(FP32, plan[CONSTANTS], EPS)
    mean = lanes_sum(x, padded) / f32(width) if plan[LAYER_NORM] else f32(0)
    if plan[LAYER_NORM]:
        squares = f32(0)
        for i in range(width):
            centred = get(FP32, x, i) - mean
            squares = fused(centred, centred, squares)
        root = f32(1) / np.sqrt(squares / f32(width) + eps)
    else:
        root = f32(1) / np.sqrt(square_sum(x, width) / f32(width) + eps)
    for i in range(width):
        put(x_kind, out, i, (get(FP32, x, i) - mean) * root * get(FP32, weight, i))
    if plan[BIASED_NORM]:
        for i in range(width):
            put(x_kind, out, i, (get(FP32, x, i) - mean) * root * get(FP32, weight, i) + get(FP32, bias, i))


@kernel
def clear_tail(plan, x_kind, a):
    """Zeros behind what was normed: products of int4 read whole lines, and what lay there may be another text's NaN."""
    for i in range(plan[D], plan[A_ROW]):
        put(x_kind, a, i, f32(0))


@kernel
def add_normed_row(plan, index, row):
    """x += norm(y): what a branch left in y is added to the stream, where norms stand around branches."""
    kept_whole()
    y = plan[Y] + row * plan[Y_ROW] * 4
    normed = y + plan[D_PADDED] * 4
    for i in range(plan[D], plan[D_PADDED]):  # a mean is summed over whole lanes
        put(FP32, y, i, f32(0))
    norm_row(plan, FP32, index, y, normed)
    add_rows(normed, 0, plan[X] + row * plan[D_PADDED] * 4, 0, 1, 0, plan[D])


@kernel
def read_row(plan, embed_kind, position_kind, row):
    """A row of the residual stream begins as its token's embedding, plus its position's where those are added."""
    kept_whole()
    width, token, place = plan[D], get_int(plan[IDS], row), get_int(plan[POSITIONS], row)
    x, scale = plan[X] + row * plan[D_PADDED] * 4, get(FP32, plan[CONSTANTS], EMBED_SCALE)
    for i in range(width):
        put(FP32, x, i, get(embed_kind, plan[EMBED], token * width + i) * scale)
    if plan[POSITION]:
        for i in range(width):
            put(FP32, x, i, get(FP32, x, i) + get(position_kind, plan[POSITION], place * width + i))


@kernel
def turn(plan, layer, y, weight, place, factor, head):
    """One head: normed where the model does, turned to its position as its block does, times `factor`, into `head`."""
    kept_whole()
    width = plan[K]
    half = width // 2
    if plan[QK_NORM]:
        root = f32(1) / np.sqrt(square_sum(y, width) / f32(width) + get(FP32, plan[CONSTANTS], EPS))
        for i in range(width):
            put(FP32, head, i, get(FP32, y, i) * root * get(FP32, weight, i))
    else:
        for i in range(width):
            put(FP32, head, i, get(FP32, y, i))
    cos, sin = get_int(plan[TURNS], 2 * layer), get_int(plan[TURNS], 2 * layer + 1)
    if cos:
        cos, sin = cos + place * half * 4, sin + place * half * 4
        for i in range(half):
            one, two, c, s = get(FP32, head, i), get(FP32, head, half + i), get(FP32, cos, i), get(FP32, sin, i)
            put(FP32, head, i, fused(one, c, -(two * s)))
            put(FP32, head, half + i, fused(two, c, one * s))
    for i in range(width):
        put(FP32, head, i, get(FP32, head, i) * factor)


@kernel
def place_row(plan, cache_kind, layer, row):
    """One row's queries into the working memory, its key and value of every head into its page."""
    kept_whole()
    width, padded, place = plan[K], plan[K_PADDED], get_int(plan[POSITIONS], row)
    y, q = plan[Y] + row * plan[Y_ROW] * 4, plan[Q] + row * plan[H] * padded * 4
    page = get_int(plan[PAGES], get_int(plan[SLOTS], row) * plan[NUM_PAGES] + place // PAGE)
    norms = plan[HEAD_NORMS] + layer * 2 * width * 4
    scale, key = get(FP32, plan[CONSTANTS], SCALE), scratch(256)
    for h in range(plan[H]):
        turn(plan, layer, y + h * width * 4, norms, place, scale, q + h * padded * 4)
    for g in range(plan[G]):
        y_key = y + (plan[H] + g) * width * 4
        turn(plan, layer, y_key, norms + width * 4, place, f32(1), key)
        keys = page + (layer * plan[G] + g) * 2 * PAGE * padded * size_of(cache_kind)
        place_position(cache_kind, keys, padded, place % PAGE, key, y_key + plan[G] * width * 4, width)
