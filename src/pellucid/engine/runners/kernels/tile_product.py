"""Products through the processor's tiles: what is read is laid out first, then 32 outputs at a time go over all rows.

    lay_rows              16 rows of what a product reads, as tiles (once for a product)
    multiply_in_tiles     up to 32 outputs of any rows of it

bf16 weights are tiles as they lie, where their edges allow it. Others become tiles of bf16 (in which int8 and int4 are
exact) in a panel of 512 inputs, which then serves all rows; so do edges, with zeros behind them. The sum of an output is
the same in every case: `tiles` states its order.

Axes: M rows of activations · N outputs · K inputs.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.kernels.compile import kernel
from pellucid.engine.runners.kernels.lanes import get, kept_whole, put, put_int, scratch, size_of
from pellucid.engine.runners.kernels.tiles import (
    DEPTH,
    ROW_BYTES,
    SIDE,
    TILE_BYTES,
    begin_tiles,
    block_1x1,
    block_1x2,
    block_2x1,
    block_2x2,
    end_tiles,
    grouped_block,
    lay_line,
    line_of,
    turn_part,
    turn_tile,
)

FP32 = np.float32(0)
PANEL = 512  # inputs whose weights become tiles at once
PANEL_BYTES = PANEL // DEPTH * TILE_BYTES  # of 16 outputs
MOST = 32  # tiles of rows whose sums are kept at once
LINE = 128  # inputs to which int4 weights are padded
PAIR = 2 * TILE_BYTES  # the sums of 32 outputs and 16 rows
SUM_PLACES, PANEL_PLACES, GROUP_PLACES = MOST * PAIR // 8, 2 * PANEL_BYTES // 8, 4 * TILE_BYTES // 8


@kernel
def lay_rows(x, x_row, num_rows, width, tile, laid):
    """Rows 16 · tile and the next: pairs of inputs, the rows side by side, 32 inputs to a tile.

    Behind the `width` inputs that count lie zeros, to whole lines of int4 weights.
    """
    kept_whole()
    first = tile * SIDE
    rows, goal = min(SIDE, num_rows - first), laid + first * x_row * 2
    for start in range(0, (width + LINE - 1) // LINE * LINE, DEPTH):
        source, keep = x + (first * x_row + start) * 2, min(max(width - start, 0), DEPTH)
        if rows == SIDE and keep == DEPTH:
            turn_tile(source, x_row * 2, goal)
        else:
            turn_part(source, x_row * 2, goal, rows, keep)
        goal += TILE_BYTES


@kernel
def lay_weights(kind, w, w_row, outputs, k, start, panel):
    """Inputs start .. start+511 of 16 outputs as tiles; zeros behind the last input, whatever is there behind the last output."""
    kept_whole()
    line, numbers = line_of(kind), min(PANEL, k - start)
    for n in range(outputs):
        source, goal = w + n * w_row + start // line * ROW_BYTES, panel + n * ROW_BYTES
        for done in range(0, numbers, line):
            lay_line(kind, source, min(numbers - done, line), goal + done // DEPTH * TILE_BYTES)
            source += ROW_BYTES


@kernel
def add_in_tiles(w, w_row, w_step, w_next, scales, scale_row, outputs, x, x_next, steps, sums, tiles):
    """sums += w · x over 32 · steps inputs of up to 32 outputs and `tiles` tiles of rows."""
    kept_whole()
    groups, tile = scratch(GROUP_PLACES), 0
    while tile < tiles:
        wide = min(2, tiles - tile)
        x_at, at = x + tile * x_next, sums + tile * PAIR
        if scales:
            for n in range(0, outputs, SIDE):
                for m in range(wide):
                    w_at, scales_at = w + n // SIDE * w_next, scales + n * scale_row * 4
                    goal = at + m * PAIR + n // SIDE * TILE_BYTES
                    grouped_block(w_at, scales_at, scale_row, outputs - n, x_at + m * x_next, steps, goal, groups)
        elif outputs > SIDE and wide == 2:
            block_2x2(w, w_row, w_step, w_next, x_at, x_next, steps, at, PAIR)
        elif outputs > SIDE:
            block_2x1(w, w_row, w_step, w_next, x_at, x_next, steps, at, PAIR)
        elif wide == 2:
            block_1x2(w, w_row, w_step, w_next, x_at, x_next, steps, at, PAIR)
        else:
            block_1x1(w, w_row, w_step, w_next, x_at, x_next, steps, at, PAIR)
        tile += wide


@kernel
def sum_in_tiles(kind, w, w_row, scales, scale_row, outputs, k, x, x_next, sums, tiles, panel):
    """The sums of up to 32 outputs, from weights as they lie or panel by panel."""
    for place in range(tiles * PAIR // 8):
        put_int(sums, place, 0)
    if size_of(kind) == 2 and outputs % SIDE == 0 and k % DEPTH == 0:
        add_in_tiles(w, w_row, ROW_BYTES, SIDE * w_row, 0, 0, outputs, x, x_next, k // DEPTH, sums, tiles)
        return
    for start in range(0, k, PANEL):
        for n in range(0, outputs, SIDE):
            count, goal = min(SIDE, outputs - n), panel + n // SIDE * PANEL_BYTES
            lay_weights(kind, w + n * w_row, w_row, count, k, start, goal)
        steps, x_at = (min(PANEL, k - start) + DEPTH - 1) // DEPTH, x + start // DEPTH * TILE_BYTES
        scales_at = scales + start // DEPTH * 4 if scales else 0
        add_in_tiles(
            panel, ROW_BYTES, TILE_BYTES, PANEL_BYTES, scales_at, scale_row, outputs, x_at, x_next, steps, sums, tiles
        )  # fmt: skip


@kernel
def place_sums(sums, row, y, y_row, num_rows, first, outputs):
    """y of `num_rows` rows, of which the first is number `row` of the first tile."""
    for n in range(0, outputs, SIDE):
        for start in range(0, row + num_rows, SIDE):
            tile = sums + start // SIDE * PAIR + n // SIDE * TILE_BYTES
            turn_tile(tile, ROW_BYTES, tile)
            for m in range(max(row - start, 0), min(row + num_rows - start, SIDE)):
                for i in range(min(SIDE, outputs - n)):
                    put(FP32, y, (start + m - row) * y_row + first + n + i, get(FP32, tile, m * SIDE + i))


@kernel
def multiply_laid(kind, w, w_row, scales, scale_row, k, laid, x_row, row, y, y_row, num_rows, first, last):
    """Outputs first .. last-1, at most 32, of rows row .. row+num_rows-1 of what was laid out, unscaled."""
    kept_whole()
    sums, panel, x_next = scratch(SUM_PLACES), scratch(PANEL_PLACES), SIDE * x_row * 2
    w, outputs = w + first * w_row, last - first
    scales = scales + first * scale_row * 4 if scales else 0
    begin_tiles()
    while num_rows > 0:
        within = row % SIDE
        rows = min(num_rows, MOST * SIDE - within)
        tiles, x = (within + rows + SIDE - 1) // SIDE, laid + row // SIDE * x_next
        sum_in_tiles(kind, w, w_row, scales, scale_row, outputs, k, x, x_next, sums, tiles, panel)
        place_sums(sums, within, y, y_row, rows, first, outputs)
        row, num_rows, y = row + rows, num_rows - rows, y + rows * y_row * 4
    end_tiles()
