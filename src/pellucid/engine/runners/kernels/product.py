"""Matrix products of weights with rows of activations: y[m, n] = Σ_k w[n, k] · x[m, k] (· scale) (+ bias).

Outputs are cut into tiles of `TILE` neighbouring rows of the weight, and tiles are shared among the threads. Within a
tile, blocks of several outputs of several rows of activations: what is loaded from memory is used as often as
possible. A single row of activations reads one row of the weight after the other, as memory is read fastest. The sum
of an output is the same in every case. Where the processor multiplies tiles, `tile_product` does so instead, in its own
order.

A matrix is a row of int64 in a table: where it lies and how to step through it (the names below are its columns). Several
matrices that read the same x are one product, their outputs side by side.

Axes: M rows of activations · N outputs · K inputs.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.kernels.compile import kernel, or_in_tiles
from pellucid.engine.runners.kernels.functions import (
    GELU,
    GELU_TANH,
    RELU,
    RELU2,
    bent,
    gelu,
    gelu_tanh,
    relu,
    relu2,
    silu,
)
from pellucid.engine.runners.kernels.lanes import (
    BLOCK_OUTPUTS,
    BLOCK_ROWS,
    dot_1x1,
    dot_most,
    dot_most_fetching,
    dot_pair,
    get,
    get_int,
    kept_whole,
    put,
    size_of,
)
from pellucid.engine.runners.kernels.tile_product import multiply_laid

TILE = 32
WEIGHT, WEIGHT_ROW, SCALES, SCALE_ROW, CHANNEL, BIAS, OUTPUTS, INPUTS, NUM_COLUMNS = range(9)

FP32 = np.float32(0)  # names a format


def multiply_in_tiles(kind, x_kind, matrix, x, x_row, row, y, y_row, num_rows, first, last):
    """The same from what `lay_rows` laid out at x."""
    kept_whole()
    w, w_row, k = get_int(matrix, WEIGHT), get_int(matrix, WEIGHT_ROW), get_int(matrix, INPUTS)
    scales, scale_row = get_int(matrix, SCALES), get_int(matrix, SCALE_ROW)
    multiply_laid(kind, w, w_row, scales, scale_row, k, x, x_row, row, y, y_row, num_rows, first, last)
    finish_rows(matrix, y, y_row, num_rows, first, last)


@or_in_tiles(multiply_in_tiles)
def multiply_rows(kind, x_kind, matrix, x, x_row, row, y, y_row, num_rows, first, last):
    """y = outputs first .. last-1 of one matrix for `num_rows` rows of x from `row` on."""
    kept_whole()
    x += row * x_row * size_of(x_kind)
    w, w_row, k = get_int(matrix, WEIGHT), get_int(matrix, WEIGHT_ROW), get_int(matrix, INPUTS)
    scales, scale_row = get_int(matrix, SCALES), get_int(matrix, SCALE_ROW)
    m = 0
    while m < num_rows:
        rows = BLOCK_ROWS if num_rows - m >= BLOCK_ROWS else 2 if num_rows - m >= 2 else 1
        x_at = x + m * x_row * size_of(x_kind)
        n = first
        while n < last:
            w_at, scales_at, y_at = w + n * w_row, scales + n * scale_row * 4, y + (m * y_row + n) * 4
            if rows == 1 or last - n < BLOCK_OUTPUTS:
                for r in range(rows):
                    one, goal = x_at + r * x_row * size_of(x_kind), y_at + r * y_row * 4
                    dot_1x1(kind, x_kind, w_at, w_row, scales_at, scale_row, one, x_row, goal, y_row, k)
                n += 1
                continue
            if rows == 2:
                dot_pair(kind, x_kind, w_at, w_row, scales_at, scale_row, x_at, x_row, y_at, y_row, k)
            elif m == 0:
                dot_most_fetching(kind, x_kind, w_at, w_row, scales_at, scale_row, x_at, x_row, y_at, y_row, k)
            else:
                dot_most(kind, x_kind, w_at, w_row, scales_at, scale_row, x_at, x_row, y_at, y_row, k)
            n += BLOCK_OUTPUTS
        m += rows
    finish_rows(matrix, y, y_row, num_rows, first, last)


@kernel
def finish_rows(matrix, y, y_row, num_rows, first, last):
    """Each output's own scale and bias, where the matrix has them."""
    channel, bias = get_int(matrix, CHANNEL), get_int(matrix, BIAS)
    if channel:
        for m in range(num_rows):
            for n in range(first, last):
                put(FP32, y, m * y_row + n, get(FP32, y, m * y_row + n) * get(FP32, channel, n))
    if bias:
        for m in range(num_rows):
            for n in range(first, last):
                put(FP32, y, m * y_row + n, get(FP32, y, m * y_row + n) + get(FP32, bias, n))


@kernel
def num_tiles(outputs):
    """Tiles of a matrix with so many outputs."""
    return (outputs + TILE - 1) // TILE


@kernel
def multiply_tile(kind, x_kind, table, count, tile, x, x_row, y, y_row, num_rows):
    """One tile of `count` matrices whose outputs lie side by side; (first, last) of its outputs in y."""
    for index in range(count):
        matrix = table + index * NUM_COLUMNS * 8
        outputs = get_int(matrix, OUTPUTS)
        tiles = num_tiles(outputs)
        if tile < tiles:
            first, last = tile * TILE, min(tile * TILE + TILE, outputs)
            multiply_rows(kind, x_kind, matrix, x, x_row, 0, y, y_row, num_rows, first, last)
            return
        tile -= tiles
        y += outputs * 4


@kernel
def add_rows(y, y_row, stream, stream_row, num_rows, first, last):
    """stream += y for outputs first .. last-1."""
    for m in range(num_rows):
        for n in range(first, last):
            put(FP32, stream, m * stream_row + n, get(FP32, stream, m * stream_row + n) + get(FP32, y, m * y_row + n))


@kernel
def bend_rows(cap, y, y_row, num_rows, first, last):
    """Bend outputs first .. last-1 to lie between minus and plus the cap."""
    for m in range(num_rows):
        for n in range(first, last):
            put(FP32, y, m * y_row + n, bent(get(FP32, y, m * y_row + n), cap))


@kernel
def activate(activation, y, first, last):
    """The nonlinearity over neighbours."""
    if activation == GELU:
        for n in range(first, last):
            put(FP32, y, n, gelu(get(FP32, y, n)))
    elif activation == GELU_TANH:
        for n in range(first, last):
            put(FP32, y, n, gelu_tanh(get(FP32, y, n)))
    elif activation == RELU:
        for n in range(first, last):
            put(FP32, y, n, relu(get(FP32, y, n)))
    elif activation == RELU2:
        for n in range(first, last):
            put(FP32, y, n, relu2(get(FP32, y, n)))
    else:
        for n in range(first, last):
            put(FP32, y, n, silu(get(FP32, y, n)))


@kernel
def activate_rows(activation, x_kind, gated, size, y, y_row, h, h_row, num_rows, first, last):
    """h = act(gate) * up, or act(up) without a gate; the two lie side by side in y, `size` outputs each."""
    kept_whole()
    for m in range(num_rows):
        row = y + m * y_row * 4
        activate(activation, row, first, last)
        if gated:
            for n in range(first, last):
                put(x_kind, h, m * h_row + n, get(FP32, row, n) * get(FP32, row, size + n))
        else:
            for n in range(first, last):
                put(x_kind, h, m * h_row + n, get(FP32, row, n))
