"""The processor's tile instructions (AMX), and the one order in which they add.

A tile is a register of 16 rows of 64 bytes. One instruction adds to a tile of sums the products of two others:

    sums[n, m] += Σ_k w[n, k] · x[m, k]        16 outputs n · 16 rows m · 32 inputs k

Weights lie in memory as a tile wants them: 16 outputs of 32 numbers. Of x, two neighbouring inputs of the 16 rows lie side
by side (`turn_tile` lays them so).

How a sum is ordered (`tile_order` spells it out in numpy, and is compared before the first product):

    one instruction     two lanes begin at 0; the even one adds the products of k = 0, 2, .. 30 of its 32 inputs in that
                        order, the odd one those of 1, 3, .. 31, each by one fused multiply-add; then even + odd
    a sum               starts at 0 and adds what one instruction gives for each 32 neighbouring inputs, in order
    int4                what one instruction gives is a group: scale · group is added, by one fused multiply-add

Rounding is to nearest, ties to even; a number too small for fp32's normal form is taken as 0 and becomes 0. The scaling
of int4's groups alone is plain fp32.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pellucid.engine.runners.kernels.emit import (
    F32,
    GROUPS,
    I8,
    I16,
    V16I,
    Product,
    at,
    call,
    constant,
    fma,
    load,
    loop,
    shuffle,
    splat,
)

SIDE = 16  # rows of a tile, and numbers of 32 bits in one of them
ROW_BYTES = 64
TILE_BYTES = SIDE * ROW_BYTES
DEPTH = 32  # inputs of one instruction
SUMS, WEIGHTS, ROWS = 0, 4, 6  # the first register of up to four tiles of sums, of two of weights, of two of x
SHAPES = bytes([1, *[0] * 15, *[ROW_BYTES, 0] * 8, *[0] * 16, *[SIDE] * 8, *[0] * 8])  # palette 1: eight whole tiles
VOID, POINTER = ir.VoidType(), I8.as_pointer()


def register(number: int) -> ir.Constant:
    return ir.Constant(I8, number)


def place(builder: ir.IRBuilder, address: ir.Value, offset: int | ir.Value = 0) -> ir.Value:
    """The pointer to a byte so many bytes behind an address."""
    offset = constant(offset) if isinstance(offset, int) else offset
    return builder.inttoptr(builder.add(address, offset), POINTER)


def load_tile(builder: ir.IRBuilder, number: int, start: ir.Value, stride: ir.Value | int = ROW_BYTES) -> None:
    stride = constant(stride) if isinstance(stride, int) else stride
    call(builder, "llvm.x86.tileloadd64", VOID, register(number), start, stride)


def store_tile(builder: ir.IRBuilder, number: int, start: ir.Value) -> None:
    call(builder, "llvm.x86.tilestored64", VOID, register(number), start, constant(ROW_BYTES))


def add_products(builder: ir.IRBuilder, total: int, weights: int, rows: int) -> None:
    """sums += weights · rows, all of them numbers of registers."""
    call(builder, "llvm.x86.tdpbf16ps", VOID, register(total), register(weights), register(rows))


def emitted(emit: Callable[..., None]) -> Callable[..., ir.Value]:
    """What Numba calls to write an intrinsic's code into a loop."""

    def generate(context, builder, signature, values):
        emit(builder, *values)
        return context.get_dummy_value()

    return generate


@intrinsic
def begin_tiles(typing):
    """Shape this thread's eight tile registers: 16 rows of 64 bytes."""
    return types.void(), emitted(emit_begin)


def emit_begin(builder: ir.IRBuilder) -> None:
    shapes = cgutils.global_constant(builder, "tile_shapes", cgutils.make_bytearray(SHAPES))
    call(builder, "llvm.x86.ldtilecfg", VOID, builder.bitcast(shapes, POINTER))


@intrinsic
def end_tiles(typing):
    """Give the tile registers back: a thread that holds none costs less to switch."""
    return types.void(), emitted(lambda builder: call(builder, "llvm.x86.tilerelease", VOID))


def build_tile_block(outputs: int, rows: int) -> Any:
    """tile_block(w, w_row, w_step, w_next, x, x_next, steps, sums, sums_next): `outputs` x `rows` tiles of sums.

    From one step to the next weights lie `w_step` bytes on, x a tile; `w_row` bytes lie between two outputs, `w_next`,
    `x_next` and `sums_next` between two tiles. Sums of neighbouring outputs lie side by side, a tile apart.
    """

    @intrinsic
    def tile_block(typing, w, w_row, w_step, w_next, x, x_next, steps, sums, sums_next):
        return types.void(*[types.int64] * 9), emitted(partial(emit_tile_block, outputs, rows))

    return tile_block


def emit_tile_block(
    outputs: int,
    rows: int,
    builder: ir.IRBuilder,
    w: ir.Value,
    w_row: ir.Value,
    w_step: ir.Value,
    w_next: ir.Value,
    x: ir.Value,
    x_next: ir.Value,
    steps: ir.Value,
    sums: ir.Value,
    sums_next: ir.Value,
) -> None:
    starts = [builder.add(sums, builder.mul(sums_next, constant(m))) for m in range(rows)]
    totals = {
        SUMS + n * rows + m: place(builder, starts[m], n * TILE_BYTES) for n in range(outputs) for m in range(rows)
    }
    for number, goal in totals.items():
        load_tile(builder, number, goal)

    def step(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        x_at, w_at = builder.mul(i, constant(TILE_BYTES)), builder.mul(i, w_step)
        for m in range(rows):
            load_tile(builder, ROWS + m, place(builder, x, builder.add(x_at, builder.mul(x_next, constant(m)))))
        for n in range(outputs):
            start = place(builder, w, builder.add(w_at, builder.mul(w_next, constant(n))))
            load_tile(builder, WEIGHTS + n, start, w_row)
            for m in range(rows):
                add_products(builder, SUMS + n * rows + m, WEIGHTS + n, ROWS + m)
        return carried

    loop(builder, steps, 1, [], step)
    for number, goal in totals.items():
        store_tile(builder, number, goal)


block_1x1, block_1x2, block_2x1, block_2x2 = (build_tile_block(n, m) for n in (1, 2) for m in (1, 2))


@intrinsic
def grouped_block(typing, w, scales, scale_row, outputs, x, steps, sums, groups):
    """One tile of sums of int4 weights, each group of 32 inputs multiplied by its output's scale.

    Only `outputs` of the 16 have scales. `groups` is room for four tiles.
    """
    return types.void(*[types.int64] * 8), emitted(emit_grouped_block)


def emit_grouped_block(
    builder: ir.IRBuilder,
    w: ir.Value,
    scales: ir.Value,
    scale_row: ir.Value,
    outputs: ir.Value,
    x: ir.Value,
    steps: ir.Value,
    sums: ir.Value,
    groups: ir.Value,
) -> None:
    last = builder.sub(outputs, constant(1))
    held = [builder.select(builder.icmp_signed("<", constant(n), last), constant(n), last) for n in range(SIDE)]
    scale_at = [at(builder, builder.inttoptr(scales, F32.as_pointer()), F32, builder.mul(n, scale_row)) for n in held]
    goals = [place(builder, sums, n * ROW_BYTES) for n in range(SIDE)]

    def line(i: ir.Value, totals: list[ir.Value]) -> list[ir.Value]:
        for group in range(GROUPS):
            offset = builder.mul(builder.add(i, constant(group)), constant(TILE_BYTES))
            call(builder, "llvm.x86.tilezero", VOID, register(SUMS + group))
            load_tile(builder, WEIGHTS + group % 2, place(builder, w, offset))
            load_tile(builder, ROWS + group % 2, place(builder, x, offset))
            add_products(builder, SUMS + group, WEIGHTS + group % 2, ROWS + group % 2)
            store_tile(builder, SUMS + group, place(builder, groups, group * TILE_BYTES))
        for group in range(GROUPS):
            found = [place(builder, groups, group * TILE_BYTES + n * ROW_BYTES) for n in range(SIDE)]
            places = [at(builder, start, F32, builder.add(i, constant(group))) for start in scale_at]
            factors = [splat(builder, builder.load(one, typ=F32)) for one in places]
            rows = zip(factors, found, totals, strict=True)
            totals = [fma(builder, factor, load(builder, row, F32, SIDE), total) for factor, row, total in rows]
        return totals

    totals = loop(builder, steps, GROUPS, [load(builder, goal, F32, SIDE) for goal in goals], line)
    for total, goal in zip(totals, goals, strict=True):
        store_row(builder, total, goal)


def store_row(builder: ir.IRBuilder, row: ir.Value, goal: ir.Value) -> None:
    builder.store(row, builder.bitcast(goal, row.type.as_pointer())).align = 4


@intrinsic
def line_of(typing, kind):
    """How many weights of a format lie in a line of 64 bytes."""
    return types.int64(kind), lambda context, builder, signature, v: constant(Product(kind, types.uint16).step)


@intrinsic
def lay_line(typing, kind, line, keep, goal):
    """One output's line of weights as bf16, 32 numbers to a tile; zeros behind the first `keep`."""
    product = Product(kind, types.uint16)

    def emit(builder, kind, line, keep, goal):
        for n, part in enumerate(product.weights(builder, builder.inttoptr(line, POINTER), keep)):
            store_row(builder, part, place(builder, goal, n * TILE_BYTES))

    return types.void(kind, types.int64, types.int64, types.int64), emitted(emit)


@intrinsic
def turn_tile(typing, source, stride, goal):
    """16 rows of 64 bytes, `stride` bytes apart, to 16 columns of 4 bytes."""
    return types.void(*[types.int64] * 3), emitted(emit_turned)


@intrinsic
def turn_part(typing, source, stride, goal, rows, keep):
    """The same, where only `rows` of the rows are there, and of each the first `keep` numbers of bf16; the rest is 0."""
    return types.void(*[types.int64] * 5), emitted(emit_turned)


def emit_turned(
    builder: ir.IRBuilder,
    source: ir.Value,
    stride: ir.Value,
    goal: ir.Value,
    rows: ir.Value | None = None,
    keep: ir.Value | None = None,
) -> None:
    lines = []
    for n in range(SIDE):
        start, kept = place(builder, source, builder.mul(stride, constant(n))), None
        if rows is not None:
            kept = builder.select(builder.icmp_signed("<", constant(n), rows), keep, constant(0))
        lines.append(builder.bitcast(load(builder, start, I16, 2 * SIDE, kept), V16I))
    for n, line in enumerate(transposed(builder, lines)):
        store_row(builder, line, place(builder, goal, n * ROW_BYTES))


def transposed(builder: ir.IRBuilder, lines: list[ir.Value]) -> list[ir.Value]:
    """Rows as columns: blocks of 8 x 8 change places across the diagonal, then of 4 x 4 within them, of 2 x 2, of 1."""
    half = SIDE // 2
    while half:
        above = [j if not j & half else SIDE + j - half for j in range(SIDE)]
        below = [j + half if not j & half else SIDE + j for j in range(SIDE)]
        turned = list(lines)
        for n in (n for n in range(SIDE) if not n & half):
            turned[n] = shuffle(builder, lines[n], lines[n + half], above)
            turned[n + half] = shuffle(builder, lines[n], lines[n + half], below)
        lines, half = turned, half // 2
    return lines
