"""The forward pass in compiled loops, the same for any rows: a decode step, a batch of them, a piece of a prompt.

    x = embed(ids) (+ position)
    for each layer:  x += attention(norm(x)) Woᵀ        x += act(norm(x) ..) W_downᵀ, or a mixture of experts
                     (or x += norm(…) of each)
    logits = norm(x) · headᵀ     for the rows that are wanted

Every row is computed from its own numbers and its own sequence's cache, each sum in the order of `lanes`, so what the
other rows are, and how many, changes no bit of it.

The pass is a list of stages (`plan`), each a number of tasks that do not touch each other's results (tiles of a product,
rows, heads): `run` gives them to the threads. With `serial` they run on the calling thread alone, in the same order with
the same bits: for a small model waking the others costs more than they help.

Axes: M rows · D width · H query heads · G key/value heads · K head width · F feed-forward width · V vocabulary.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from pellucid.compiled import inline_kernel
from pellucid.engine.runners.kernels.attend import PAGE, attend_apart, attend_lines, block_rows, join_pages
from pellucid.engine.runners.kernels.compile import kernel, or_in_tiles, parallel_kernel
from pellucid.engine.runners.kernels.experts import (
    choose_row,
    expert_task,
    has_experts,
    mix_row,
    num_expert_tasks,
    seat_rows,
    send_row,
    widen_tile,
)
from pellucid.engine.runners.kernels.lanes import either, get, get_int, kept_whole, put_int, scratch, size_of
from pellucid.engine.runners.kernels.plan import (
    A_ROW,
    ACTIVE,
    ADD_ATTENTION,
    ADD_MLP,
    AROUND,
    ATTEND,
    ATTEND_APART,
    ATTENTION_NORM,
    BEFORE_ATTENTION,
    BEFORE_MLP,
    BEHIND_ATTENTION,
    BEHIND_MLP,
    CHOOSE,
    CHUNKS,
    CONSTANTS,
    D_PADDED,
    DOWN,
    EXPERT_WIDTH,
    EXPERTS,
    GATHER,
    H_ROW,
    HIDDEN,
    JOIN,
    K_PADDED,
    LAID,
    LAST_NORM,
    LAY,
    LAYERS,
    LOGIT_CAP,
    LOGITS,
    MATRICES,
    MIX,
    MIXES,
    MLP_NORM,
    NARROW,
    NORMS_PER_LAYER,
    NUM_CHUNKS,
    NUM_PAGES,
    NUM_ROWS,
    NUM_WANTED,
    OF_EXPERTS,
    OUTPUT,
    PAGES,
    PER_LAYER,
    PLACE,
    POSITIONS,
    PRODUCTS,
    PROJECT,
    READ,
    ROUTE,
    ROUTER,
    ROUTES,
    SCORE,
    SCORE_CAP,
    SEAT,
    SEND,
    SENT,
    SLOTS,
    STATES,
    WANTED,
    WIDEN,
    WINDOWS,
    Y_ROW,
    A,
    D,
    F,
    G,
    H,
    K,
    Q,
    V,
    X,
    Y,
)
from pellucid.engine.runners.kernels.product import (
    FP32,
    NUM_COLUMNS,
    TILE,
    add_rows,
    bend_rows,
    multiply_tile,
    num_tiles,
)
from pellucid.engine.runners.kernels.rows import add_normed_row, norm_row, place_row, read_row
from pellucid.engine.runners.kernels.tile_product import lay_rows
from pellucid.engine.runners.kernels.tiles import SIDE

FEW = 4  # rows that one thread norms or places faster than it wakes the others


@kernel
def attend_task(plan, x_kind, cache_kind, layer, task):
    """Neighbouring rows of one sequence for one key/value head, over all their pages."""
    groups, padded, width = plan[G], plan[K_PADDED], plan[K]
    chunk, group, repeats = task // groups, task % groups, plan[H] // groups
    row, count = get_int(plan[CHUNKS], 2 * chunk), get_int(plan[CHUNKS], 2 * chunk + 1)
    pages = plan[PAGES] + get_int(plan[SLOTS], row) * plan[NUM_PAGES] * 8
    offset, ends = (layer * groups + group) * 2 * PAGE * padded, scratch(4)
    head, window, cap = group * repeats, get_int(plan[WINDOWS], layer), get(FP32, plan[CONSTANTS], SCORE_CAP)
    while head < (group + 1) * repeats:
        # A block is several rows of one head, or several heads of one row.
        rows = count if repeats == 1 else block_rows((group + 1) * repeats - head)
        q_row, out_row = (plan[H] * padded, plan[A_ROW]) if repeats == 1 else (padded, width)
        for r in range(rows):
            put_int(ends, r, get_int(plan[POSITIONS], row + r if repeats == 1 else row) + 1)
        q = plan[Q] + (row * plan[H] + head) * padded * 4
        out = plan[A] + (row * plan[A_ROW] + head * width) * size_of(x_kind)
        attend_lines(cache_kind, x_kind, pages, offset, padded, width, q, q_row, rows, ends, window, cap, out, out_row)
        head += rows if repeats > 1 else 1


@kernel
def attend_apart_task(plan, cache_kind, layer, task):
    """One row, one key/value head, one page."""
    groups, padded, num_pages = plan[G], plan[K_PADDED], plan[NUM_PAGES]
    row, group, page = task // (groups * num_pages), task // num_pages % groups, task % num_pages
    end, repeats = get_int(plan[POSITIONS], row) + 1, plan[H] // groups
    pages = plan[PAGES] + get_int(plan[SLOTS], row) * num_pages * 8
    offset, head = (layer * groups + group) * 2 * PAGE * padded, group * repeats
    window, cap = get_int(plan[WINDOWS], layer), get(FP32, plan[CONSTANTS], SCORE_CAP)
    if page * PAGE >= end:
        return
    while head < (group + 1) * repeats:
        rows = block_rows((group + 1) * repeats - head)
        q = plan[Q] + (row * plan[H] + head) * padded * 4
        part = (row * plan[H] + head) * num_pages
        states, mixes = plan[STATES] + part * 8, plan[MIXES] + part * padded * 4
        attend_apart(cache_kind, pages, page, offset, padded, q, rows, end, window, cap, states, mixes, num_pages)
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
def read_by(plan, stage, layer):
    """What a product reads: where it lies, numbers to a row, rows, and how many numbers of a row count."""
    mixture = stage in (WIDEN, NARROW) and has_experts(plan, layer)
    rows = plan[NUM_ROWS] * plan[ACTIVE] if mixture else plan[NUM_WANTED] if stage == SCORE else plan[NUM_ROWS]
    if stage == NARROW:
        return plan[HIDDEN], plan[H_ROW], rows, plan[EXPERT_WIDTH] if mixture else plan[F]
    width = plan[H] * plan[K] if stage == GATHER else plan[D]
    return plan[SENT] if mixture else plan[A], plan[A_ROW], rows, width


def lay_in_tiles(x_kind, plan, stage, layer, tile):
    """16 rows of what a product reads, as tiles."""
    kept_whole()
    x, x_row, rows, width = read_by(plan, stage, layer)
    lay_rows(x, x_row, rows, width, tile, plan[LAID])


@or_in_tiles(lay_in_tiles)
def lay_task(x_kind, plan, stage, layer, tile):
    """Nothing: the blocks read rows as they lie."""


@kernel
def product_task(plan, kind, x_kind, router_kind, stage, layer, tile):
    """One tile of one of the products."""
    table = plan[MATRICES] + layer * PER_LAYER * NUM_COLUMNS * 8
    y, y_row = plan[Y], plan[Y_ROW]
    x, x_row, rows, _ = read_by(plan, stage, layer)
    x = either(x_kind, x, plan[LAID])
    if stage in (WIDEN, NARROW) and has_experts(plan, layer):
        expert_task(plan, kind, x_kind, x, x_row, stage, layer, tile)
        return
    if stage == WIDEN:
        widen_tile(plan, kind, x_kind, table, 0, plan[F], tile, x, x_row, 0, y, y_row, plan[HIDDEN], rows)
        return
    if stage == ROUTE:
        router = table + ROUTER * NUM_COLUMNS * 8
        multiply_tile(router_kind, x_kind, router, 1, tile, x, x_row, plan[ROUTES], plan[EXPERTS], rows)
        return
    matrix, count = table, 3  # PROJECT: queries, keys and values side by side
    if stage == SCORE:
        count, y, y_row = 1, plan[LOGITS], plan[V]
    elif stage == GATHER:
        matrix, count = table + OUTPUT * NUM_COLUMNS * 8, 1
    elif stage == NARROW:
        matrix, count = table + DOWN * NUM_COLUMNS * 8, 1
    multiply_tile(kind, x_kind, matrix, count, tile, x, x_row, y, y_row, rows)
    first, cap = tile * TILE, get(FP32, plan[CONSTANTS], LOGIT_CAP)
    if stage in (GATHER, NARROW) and not plan[AROUND]:
        add_rows(y, y_row, plan[X], plan[D_PADDED], rows, first, min(first + TILE, plan[D]))
    elif stage == SCORE and cap:
        bend_rows(cap, y, y_row, rows, first, min(first + TILE, plan[V]))


@kernel
def row_task(plan, x_kind, embed_kind, position_kind, cache_kind, stage, layer, row):
    """What a stage does with one row."""
    x, a = plan[X] + row * plan[D_PADDED] * 4, plan[A] + row * plan[A_ROW] * size_of(x_kind)
    norms = layer * NORMS_PER_LAYER
    if stage == READ:
        read_row(plan, embed_kind, position_kind, row)
    elif stage == ATTENTION_NORM:
        norm_row(plan, x_kind, norms + BEFORE_ATTENTION, x, a)
    elif stage == ADD_ATTENTION:
        add_normed_row(plan, norms + BEHIND_ATTENTION, row)
    elif stage == MLP_NORM:
        norm_row(plan, x_kind, norms + BEFORE_MLP, x, a)
    elif stage == ADD_MLP:
        add_normed_row(plan, norms + BEHIND_MLP, row)
    elif stage == PLACE:
        place_row(plan, cache_kind, layer, row)
    elif stage == CHOOSE:
        choose_row(plan, row)
    elif stage == SEND:
        send_row(plan, x_kind, row)
    elif stage == MIX:
        mix_row(plan, row)
    else:
        wanted = get_int(plan[WANTED], row)
        norm_row(plan, x_kind, norms, plan[X] + wanted * plan[D_PADDED] * 4, a)


@kernel
def work(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, task):
    """One task of one stage."""
    kept_whole()
    if stage in PRODUCTS:
        product_task(plan, kind, x_kind, cache_kind, stage, layer, task)
    elif stage >= LAY:
        lay_task(x_kind, plan, stage - LAY, layer, task)
    elif stage == ATTEND:
        attend_task(plan, x_kind, cache_kind, layer, task)
    elif stage == ATTEND_APART:
        attend_apart_task(plan, cache_kind, layer, task)
    elif stage == JOIN:
        join_task(plan, x_kind, task)
    elif stage == SEAT:
        seat_rows(plan)
    else:
        row_task(plan, x_kind, embed_kind, position_kind, cache_kind, stage, layer, task)


@parallel_kernel
def run(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, serial):
    """A stage on all threads, or on this one where that is faster: a few rows are normed before others wake."""
    tasks = num_tasks(plan, stage, layer)
    rowwise = not (stage in PRODUCTS or stage in (ATTEND, ATTEND_APART))
    if serial or tasks == 1 or (rowwise and plan[NUM_ROWS] < FEW):
        for task in range(tasks):
            work(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, task)
    else:
        for task in prange(tasks):
            work(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, np.int64(task))


@kernel
def num_tasks(plan, stage, layer):
    """How many tasks a stage has: tiles, heads or rows."""
    rows = plan[NUM_ROWS]
    if stage >= LAY:
        _, _, rows, _ = read_by(plan, stage - LAY, layer)
        return (rows + SIDE - 1) // SIDE
    if stage in (WIDEN, NARROW):
        outputs = plan[D]
        if has_experts(plan, layer):
            return num_expert_tasks(plan, plan[EXPERT_WIDTH] if stage == WIDEN else outputs)
        return num_tiles(plan[F] if stage == WIDEN else outputs)
    if stage == PROJECT:
        return num_tiles(plan[H] * plan[K]) + 2 * num_tiles(plan[G] * plan[K])
    if stage == GATHER:
        return num_tiles(plan[D])
    if stage == ROUTE:
        return num_tiles(plan[EXPERTS])
    if stage == SCORE:
        return num_tiles(plan[V])
    if stage == ATTEND:
        return plan[NUM_CHUNKS] * plan[G]
    if stage == ATTEND_APART:
        return rows * plan[G] * plan[NUM_PAGES]
    if stage == JOIN:
        return rows * plan[H]
    if stage == SEAT:
        return 1
    return plan[NUM_WANTED] if stage == LAST_NORM else rows


@kernel
def is_there(plan, stage, layer, apart):
    """Whether a block has this stage; `apart`: each page of the cache is a task of its own."""
    if stage == ATTEND:
        return not apart
    if stage in (ATTEND_APART, JOIN):
        return apart
    if stage in (ADD_ATTENTION, ADD_MLP):
        return plan[AROUND] != 0
    return stage not in OF_EXPERTS or has_experts(plan, layer)


@inline_kernel
def run_stage(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, serial):
    """A stage, and before a product through tiles the laying out of what it reads."""
    if stage in PRODUCTS and either(x_kind, False, True):
        run(plan, kind, x_kind, embed_kind, position_kind, cache_kind, LAY + stage, layer, serial)
    run(plan, kind, x_kind, embed_kind, position_kind, cache_kind, stage, layer, serial)


@kernel
def forward(plan, kind, x_kind, embed_kind, position_kind, cache_kind, serial):
    """Read the rows of the plan; leave the logits after the wanted ones.

    The numbers `kind` (weights), `x_kind` (what products read) and so on name formats by their types. A router has that
    of the cache: fp32 where the weights have it, else bf16, since its choices must not be those of four bits.
    """
    if not plan[NUM_ROWS]:
        return
    apart = not serial and plan[NUM_PAGES] > 1 and plan[NUM_CHUNKS] < 8  # else too few tasks for the threads
    first, none = np.int64(READ), np.int64(0)  # as literals they would be types of their own: twice as much to compile
    run_stage(plan, kind, x_kind, embed_kind, position_kind, cache_kind, first, none, serial)
    for layer in range(plan[LAYERS]):
        for stage in range(ATTENTION_NORM, ADD_MLP + 1):
            if is_there(plan, stage, layer, apart):
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
