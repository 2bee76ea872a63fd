"""The forward pass in compiled loops, the same for any rows: a decode step, a batch of them, a piece of a prompt.

    x = embed(ids) (+ position)
    for each layer:  x += attention(norm(x)) Woᵀ        x += act(norm(x) ..) W_downᵀ
    logits = norm(x) · headᵀ     for the rows that are wanted

Every row is computed from its own numbers and its own sequence's cache, each sum in the order of `lanes`, so what the
other rows are, and how many, changes no bit of it.

The pass is a list of stages, each a number of tasks that do not touch each other's results (tiles of a product, rows,
heads): `run` gives them to the threads. With `serial` they run on the calling thread alone, in the same order with the
same bits: for a small model waking the others costs more than they help.

Axes: M rows · D width · H query heads · G key/value heads · K head width · F feed-forward width · V vocabulary.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from pellucid.engine.runners.kernels.attend import (
    PAGE,
    attend_apart,
    attend_lines,
    block_rows,
    join_pages,
    place_position,
)
from pellucid.engine.runners.kernels.compile import kernel, parallel_kernel
from pellucid.engine.runners.kernels.lanes import (
    dot_1x1,
    fused,
    get,
    get_int,
    kept_whole,
    lanes_sum,
    put,
    put_int,
    scratch,
    size_of,
)
from pellucid.engine.runners.kernels.product import (
    FP32,
    NUM_COLUMNS,
    TILE,
    activate_rows,
    add_rows,
    multiply_rows,
    multiply_tile,
    num_tiles,
)

f32 = np.float32

# The plan of a pass is one row of int64, its columns named here: the model's axes, the addresses of what does not
# change (the fp32 tables unless said otherwise), then what is to be read, the working memory and its steps.
(
    D, D_PADDED, H, G, K, K_PADDED, F, V, LAYERS, GATED, ACTIVATION, LAYER_NORM, BIASED_NORM, QK_NORM, ROTARY,
    EMBED, POSITION, MATRICES, NORMS, NORM_BIASES, HEAD_NORMS, COS, SIN, WINDOWS, CONSTANTS,
    NUM_ROWS, NUM_WANTED, NUM_PAGES, NUM_CHUNKS, IDS, POSITIONS, SLOTS, PAGES, CHUNKS, WANTED,
    X, Y, Q, A, HIDDEN, STATES, MIXES, LOGITS, Y_ROW, A_ROW, H_ROW,
    NUM_PLANNED,
) = range(47)  # fmt: skip
QUERY, KEY, VALUE, OUTPUT, GATE, UP, DOWN, PER_LAYER = range(8)  # a layer's matrices in the table
EPS, SCALE = range(2)  # the constants
(
    READ, ATTENTION_NORM, PROJECT, PLACE, ATTEND, ATTEND_APART, JOIN, GATHER, MLP_NORM, WIDEN, NARROW, LAST_NORM, SCORE,
) = range(13)  # fmt: skip
PRODUCTS = PROJECT, GATHER, WIDEN, NARROW, SCORE
FEW = 4  # rows that one thread norms or places faster than it wakes the others


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
def read_row(plan, embed_kind, position_kind, row):
    """A row of the residual stream begins as its token's embedding, plus its position's where those are added."""
    kept_whole()
    width, token, place = plan[D], get_int(plan[IDS], row), get_int(plan[POSITIONS], row)
    x = plan[X] + row * plan[D_PADDED] * 4
    for i in range(width):
        put(FP32, x, i, get(embed_kind, plan[EMBED], token * width + i))
    if plan[POSITION]:
        for i in range(width):
            put(FP32, x, i, get(FP32, x, i) + get(position_kind, plan[POSITION], place * width + i))


@kernel
def turn(plan, y, weight, place, factor, head):
    """One head: normed where the model does, turned to its position, multiplied by `factor`, into `head`."""
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
    if plan[ROTARY]:
        cos, sin = plan[COS] + place * half * 4, plan[SIN] + place * half * 4
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
        turn(plan, y + h * width * 4, norms, place, scale, q + h * padded * 4)
    for g in range(plan[G]):
        y_key = y + (plan[H] + g) * width * 4
        turn(plan, y_key, norms + width * 4, place, f32(1), key)
        keys = page + (layer * plan[G] + g) * 2 * PAGE * padded * size_of(cache_kind)
        place_position(cache_kind, keys, padded, place % PAGE, key, y_key + plan[G] * width * 4, width)


@kernel
def attend_task(plan, x_kind, cache_kind, layer, task):
    """Neighbouring rows of one sequence for one key/value head, over all their pages."""
    groups, padded, width = plan[G], plan[K_PADDED], plan[K]
    chunk, group, repeats = task // groups, task % groups, plan[H] // groups
    row, count = get_int(plan[CHUNKS], 2 * chunk), get_int(plan[CHUNKS], 2 * chunk + 1)
    pages = plan[PAGES] + get_int(plan[SLOTS], row) * plan[NUM_PAGES] * 8
    offset, ends = (layer * groups + group) * 2 * PAGE * padded, scratch(4)
    head, window = group * repeats, get_int(plan[WINDOWS], layer)
    while head < (group + 1) * repeats:
        # A block is several rows of one head, or several heads of one row.
        rows = count if repeats == 1 else block_rows((group + 1) * repeats - head)
        q_row, out_row = (plan[H] * padded, plan[A_ROW]) if repeats == 1 else (padded, width)
        for r in range(rows):
            put_int(ends, r, get_int(plan[POSITIONS], row + r if repeats == 1 else row) + 1)
        q = plan[Q] + (row * plan[H] + head) * padded * 4
        out = plan[A] + (row * plan[A_ROW] + head * width) * size_of(x_kind)
        attend_lines(cache_kind, x_kind, pages, offset, padded, width, q, q_row, rows, ends, window, out, out_row)
        head += rows if repeats > 1 else 1


@kernel
def attend_apart_task(plan, cache_kind, layer, task):
    """One row, one key/value head, one page."""
    groups, padded, num_pages = plan[G], plan[K_PADDED], plan[NUM_PAGES]
    row, group, page = task // (groups * num_pages), task // num_pages % groups, task % num_pages
    end, repeats = get_int(plan[POSITIONS], row) + 1, plan[H] // groups
    pages = plan[PAGES] + get_int(plan[SLOTS], row) * num_pages * 8
    offset, head = (layer * groups + group) * 2 * PAGE * padded, group * repeats
    window = get_int(plan[WINDOWS], layer)
    if page * PAGE >= end:
        return
    while head < (group + 1) * repeats:
        rows = block_rows((group + 1) * repeats - head)
        q = plan[Q] + (row * plan[H] + head) * padded * 4
        part = (row * plan[H] + head) * num_pages
        states, mixes = plan[STATES] + part * 8, plan[MIXES] + part * padded * 4
        attend_apart(cache_kind, pages, page, offset, padded, q, rows, end, window, states, mixes, num_pages)
        head += rows


@kernel
def join_task(plan, x_kind, task):
    """The pages of one head of one row, in their order."""
    row, head, padded = task // plan[H], task % plan[H], plan[K_PADDED]
    num_pages = get_int(plan[POSITIONS], row) // PAGE + 1
    states, mixes = plan[STATES] + task * plan[NUM_PAGES] * 8, plan[MIXES] + task * plan[NUM_PAGES] * padded * 4
    out = plan[A] + (row * plan[A_ROW] + head * plan[K]) * size_of(x_kind)
    join_pages(x_kind, states, mixes, num_pages, padded, plan[K], out)


@kernel
def product_task(plan, kind, x_kind, stage, layer, tile):
    """One tile of one of the five products."""
    table = plan[MATRICES] + layer * PER_LAYER * NUM_COLUMNS * 8
    y, y_row, rows, first = plan[Y], plan[Y_ROW], plan[NUM_ROWS], tile * TILE
    if stage == WIDEN:
        last = min(first + TILE, plan[F])
        start, count = (GATE, 2) if plan[GATED] else (UP, 1)
        for index in range(count):
            matrix, goal = table + (start + index) * NUM_COLUMNS * 8, y + index * plan[F] * 4
            multiply_rows(kind, x_kind, matrix, plan[A], plan[A_ROW], goal, y_row, rows, first, last)
        activate_rows(
            plan[ACTIVATION], x_kind, plan[GATED], plan[F], y, y_row, plan[HIDDEN], plan[H_ROW], rows, first, last
        )
        return
    matrix, count, x, x_row = table, 3, plan[A], plan[A_ROW]  # PROJECT: queries, keys and values side by side
    if stage == SCORE:
        count, y, y_row, rows = 1, plan[LOGITS], plan[V], plan[NUM_WANTED]
    elif stage == GATHER:
        matrix, count = table + OUTPUT * NUM_COLUMNS * 8, 1
    elif stage == NARROW:
        matrix, count, x, x_row = table + DOWN * NUM_COLUMNS * 8, 1, plan[HIDDEN], plan[H_ROW]
    multiply_tile(kind, x_kind, matrix, count, tile, x, x_row, y, y_row, rows)
    if stage in (GATHER, NARROW):
        add_rows(y, y_row, plan[X], plan[D_PADDED], rows, first, min(first + TILE, plan[D]))


@kernel
def work(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, task):
    """One task of one stage."""
    kept_whole()
    x_at, a_at = plan[X] + task * plan[D_PADDED] * 4, plan[A] + task * plan[A_ROW] * size_of(x_kind)
    if stage in PRODUCTS:
        product_task(plan, kind, x_kind, stage, layer, task)
    elif stage in (ATTENTION_NORM, MLP_NORM):
        norm_row(plan, x_kind, 2 * layer + (stage == MLP_NORM), x_at, a_at)
    elif stage == ATTEND:
        attend_task(plan, x_kind, cache_kind, layer, task)
    elif stage == ATTEND_APART:
        attend_apart_task(plan, cache_kind, layer, task)
    elif stage == JOIN:
        join_task(plan, x_kind, task)
    elif stage == PLACE:
        place_row(plan, cache_kind, layer, task)
    elif stage == READ:
        read_row(plan, embed_kind, position_kind, task)
    else:
        row = get_int(plan[WANTED], task)
        norm_row(plan, x_kind, 2 * layer, plan[X] + row * plan[D_PADDED] * 4, a_at)


@parallel_kernel
def run(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, num_tasks, serial):
    """All tasks of a stage."""
    if serial:
        for task in range(num_tasks):
            work(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, task)
    else:
        for task in prange(num_tasks):
            work(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, np.int64(task))


@kernel
def num_tasks(plan, stage):
    """How many tasks a stage has: rows, tiles or heads."""
    rows = plan[NUM_ROWS]
    if stage == PROJECT:
        return num_tiles(plan[MATRICES], 3)
    if stage == WIDEN:
        return num_tiles(plan[MATRICES] + UP * NUM_COLUMNS * 8, 1)
    if stage in (GATHER, NARROW):
        return num_tiles(plan[MATRICES] + OUTPUT * NUM_COLUMNS * 8, 1)
    if stage == SCORE:
        return num_tiles(plan[MATRICES] + plan[LAYERS] * PER_LAYER * NUM_COLUMNS * 8, 1)
    if stage == ATTEND:
        return plan[NUM_CHUNKS] * plan[G]
    if stage == ATTEND_APART:
        return rows * plan[G] * plan[NUM_PAGES]
    if stage == JOIN:
        return rows * plan[H]
    return plan[NUM_WANTED] if stage == LAST_NORM else rows


@kernel
def run_stage(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, serial):
    """A stage on all threads, or on this one where that is faster: a few rows are normed before others wake."""
    rowwise = not (stage in PRODUCTS or stage in (ATTEND, ATTEND_APART))
    alone = serial or (rowwise and plan[NUM_ROWS] < FEW)
    tasks = num_tasks(plan, stage)
    run(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, tasks, alone)


@kernel
def forward(plan, kind, x_kind, embed_kind, position_kind, cache_kind, serial):
    """Read the rows of the plan; leave the logits after the wanted ones.

    The numbers `kind` (weights), `x_kind` (what products read) and so on name formats by their types.
    """
    if not plan[NUM_ROWS]:
        return
    apart = not serial and plan[NUM_PAGES] > 1 and plan[NUM_CHUNKS] < 8  # else too few tasks for the threads
    run_stage(plan, kind, x_kind, embed_kind, position_kind, cache_kind, READ, 0, serial)
    for layer in range(plan[LAYERS]):
        for stage in range(ATTENTION_NORM, NARROW + 1):
            if (stage == ATTEND and apart) or (stage in (ATTEND_APART, JOIN) and not apart):
                continue
            run_stage(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, serial)
    if plan[NUM_WANTED]:
        for stage in range(LAST_NORM, SCORE + 1):
            run_stage(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, plan[LAYERS], serial)


def find_chunks(slots: np.ndarray, *, together: bool) -> np.ndarray:
    """(first row, rows) of neighbours in the same sequence: blocks of 4, 2 or 1 when `together`, else of 1.

    >>> find_chunks(np.array([0, 0, 0, 0, 0, 1]), together=True).tolist()
    [[0, 4], [4, 1], [5, 1]]
    """
    if not together or len(slots) == 1:
        return np.stack([np.arange(len(slots)), np.ones(len(slots), np.int64)], 1)
    starts = np.flatnonzero(np.diff(slots, prepend=-1))
    chunks = []
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(slots)], strict=True):
        while start < end:
            size = 4 if end - start >= 4 else 2 if end - start >= 2 else 1
            chunks.append((start, size))
            start += size
    return np.array(chunks, np.int64)
