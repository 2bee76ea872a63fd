"""The vector instructions that everything else is made of, and the one order in which numbers are added.

    dot_block     y[c, r] = Σ_k w[r, k] · x[c, k]       R outputs of C rows at once; sums run along k
    outer_block   y[r, :] = Σ_t a[r, t] · b[t, :]       R rows of up to 64 neighbouring columns; sums run along t

How a sum is ordered (this, and nothing else, decides the last bits of a result):

    dot_block     16 lanes; lane j adds its products in the order of k, each by one fused multiply-add, one accumulator
                  per output. At the end the lanes are folded in halves: j with j+8, then j+4, j+2, j+1.
    outer_block   every output is a lane of its own and adds its products in the order of t.

A block of 4 x 4 outputs, of 2 x 3, or a single one: each output sees the same operations on the same numbers, so the
size of a block is a matter of speed alone.

The products, by the formats of weight and activation:

    fp32 · fp32     fused multiply-add
    bf16 · fp32     the weight widened to fp32, fused multiply-add
    int8 · fp32     the whole number as fp32, fused multiply-add; the channel's scale is multiplied in at the end
    int4 · fp32     the same; the group's scale is multiplied in when its 32 products are summed
    ... · bf16      the processor's bf16 dot product: lane j adds the products 2j and 2j+1 of 32 neighbours. int8 and
                    int4 are exact in bf16, so nothing is rounded on the way.

Memory is named by its address (an int64) and the format of what lies there by a number of that type: passing arrays
through several functions would pass, count and release seven values for each. All indices count numbers, not bytes.

Axes: R outputs (rows of a weight) · C rows of activations · k input width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pellucid.engine.runners.kernels.emit import (
    AHEAD,
    F32,
    I8,
    I16,
    I32,
    I64,
    LANES,
    LINE,
    V16F,
    Product,
    at,
    call,
    constant,
    emit_dot_block,
    fma,
    load,
    loop,
    prefetch,
    shuffle,
    splat,
    widen,
)
from pellucid.processor import find_processor

SIZES = {types.float32: 4, types.uint16: 2, types.int16: 2, types.int8: 1, types.uint8: 1}  # int16: bf16 for `tiles`
ELEMENTS = {types.float32: F32, types.uint16: I16, types.int16: I16, types.int8: I8, types.uint8: I8}


def place_of(builder: ir.IRBuilder, address: ir.Value, element: ir.Type, index: ir.Value) -> ir.Value:
    return at(builder, builder.inttoptr(address, element.as_pointer()), element, index)


def build_dot_block(R: int, C: int, *, fetches: bool) -> Any:
    """dot_block(kind, x_kind, w, w_row, scales, scale_row, x, x_row, y, y_row, k): R outputs of C rows.

    `w_row` is the bytes from one output's weights to the next; the other steps count numbers.
    """

    @intrinsic
    def dot_block(typing, kind, x_kind, w, w_row, scales, scale_row, x, x_row, y, y_row, k):
        def generate(context, builder, signature, a):
            pointer = I8.as_pointer()
            place = {
                "w": builder.inttoptr(a[2], pointer),
                "w_row": a[3],
                "scales": builder.inttoptr(a[4], F32.as_pointer()),
                "scale_row": a[5],
                "x": builder.inttoptr(a[6], ELEMENTS[x_kind].as_pointer()),
                "x_row": a[7],
                "k": a[10],
            }
            sums = emit_dot_block(builder, Product(kind, x_kind), R, C, place, fetches=fetches)
            for c in range(C):
                row = builder.mul(a[9], constant(c))
                for r in range(R):
                    builder.store(sums[c * R + r], place_of(builder, a[8], F32, builder.add(row, constant(r))))
            return context.get_dummy_value()

        return types.void(kind, x_kind, *[types.int64] * 9), generate

    return dot_block


# Blocks are as large as the registers hold: with 32 of 512 bits, 4 x 4 sums and what they are made of; with half of that
# or less (AVX2, NEON), 2 x 3. A block that is too large keeps its sums in memory, at half the speed.
WIDE = "avx512f" in find_processor().features
BLOCK_OUTPUTS, BLOCK_ROWS = (4, 4) if WIDE else (2, 3)  # of the largest block
dot_1x1, dot_pair, dot_most_fetching = (
    build_dot_block(R, C, fetches=True) for R, C in ((1, 1), (BLOCK_OUTPUTS, 2), (BLOCK_OUTPUTS, BLOCK_ROWS))
)
dot_most = build_dot_block(BLOCK_OUTPUTS, BLOCK_ROWS, fetches=False)  # for weights that another block has just read


def build_outer_block(R: int, vectors: int) -> Any:
    """outer_block(kind, a, a_row, b, b_row, y, y_row, count): R rows of 16 · `vectors` columns.

    y[r, :] = Σ_t a[r, t] · b[t, :] over t = 0 .. count-1; `kind` is the format of b.
    """

    @intrinsic
    def outer_block(typing, kind, a, a_row, b, b_row, y, y_row, count):
        def generate(context, builder, signature, v):
            element = ELEMENTS[kind]
            starts = [builder.mul(v[2], constant(r)) for r in range(R)]

            def step(t, sums):
                line = place_of(builder, v[3], element, builder.mul(t, v[4]))
                for start in range(0, 16 * vectors * SIZES[kind], LINE):
                    prefetch(builder, at(builder, builder.bitcast(line, I8.as_pointer()), I8, constant(start + AHEAD)))
                columns = [
                    widen(builder, load(builder, at(builder, line, element, constant(16 * n)), element, 16))
                    for n in range(vectors)
                ]
                added = []
                for r in range(R):
                    place = place_of(builder, v[1], F32, builder.add(starts[r], t))
                    weight = splat(builder, builder.load(place, typ=F32))
                    added += [fma(builder, weight, columns[n], sums[r * vectors + n]) for n in range(vectors)]
                return added

            sums = loop(builder, v[7], 1, [ir.Constant(V16F, [0.0] * LANES)] * (R * vectors), step)
            for r in range(R):
                for n in range(vectors):
                    index = builder.add(builder.mul(v[6], constant(r)), constant(16 * n))
                    place = builder.bitcast(place_of(builder, v[5], F32, index), V16F.as_pointer())
                    builder.store(sums[r * vectors + n], place).align = 4
            return context.get_dummy_value()

        return types.void(kind, *[types.int64] * 7), generate

    return outer_block


# Rows -> vectors of the widest block, and of one that follows it: as many sums as there are registers for.
VECTORS = {1: (16, 4), 2: (8, 4), 4: (4, 1)} if WIDE else {1: (4, 1), 2: (2, 1), 4: (1, 1)}
outer_1x1, outer_2x1, outer_4x1 = (build_outer_block(R, 1) for R in (1, 2, 4))
(outer_1_most, outer_1_more), (outer_2_most, outer_2_more), (outer_4_most, outer_4_more) = (
    tuple(build_outer_block(R, vectors) for vectors in VECTORS[R]) for R in (1, 2, 4)
)


@intrinsic
def lanes_sum(typing, x, count):
    """Σ x over `count` numbers (a multiple of 16): 16 lanes in order, folded at the end."""
    return types.float32(types.int64, types.int64), _fold(lambda builder, total, new: builder.fadd(total, new), 0.0)


@intrinsic
def lanes_max(typing, x, count):
    """The highest of `count` numbers (a multiple of 16, none of them NaN)."""
    return types.float32(types.int64, types.int64), _fold(
        lambda builder, total, new: builder.select(builder.fcmp_ordered(">", new, total), new, total), float("-inf")
    )


def _fold(combine: Callable[..., ir.Value], start: float) -> Callable[..., ir.Value]:
    def generate(context, builder, signature, v):
        def step(i, carried):
            return [combine(builder, carried[0], load(builder, place_of(builder, v[0], F32, i), F32, 16))]

        (folded,) = loop(builder, v[1], LANES, [ir.Constant(V16F, [start] * LANES)], step)
        size = LANES
        while size > 1:
            none, half = ir.Constant(folded.type, ir.Undefined), size // 2
            low = shuffle(builder, folded, none, list(range(half)))
            high = shuffle(builder, folded, none, list(range(half, size)))
            folded, size = combine(builder, low, high), half
        return builder.extract_element(folded, ir.Constant(I32, 0))

    return generate


@intrinsic
def fused(typing, a, b, c):
    """a · b + c, rounded once."""

    def generate(context, builder, signature, v):
        return call(builder, "llvm.fma.f32", F32, *v)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def from_bits(typing, bits):
    """The fp32 number with these 32 bits."""

    def generate(context, builder, signature, v):
        return builder.bitcast(v[0], F32)

    return types.float32(types.uint32), generate


@intrinsic
def to_bits(typing, number):
    """The 32 bits of an fp32 number."""

    def generate(context, builder, signature, v):
        return builder.bitcast(v[0], I32)

    return types.uint32(types.float32), generate


@intrinsic
def get(typing, kind, address, index):
    """Number `index` at an address, as fp32."""

    def generate(context, builder, signature, v):
        found = builder.load(place_of(builder, v[1], ELEMENTS[kind], v[2]), typ=ELEMENTS[kind])
        if kind == types.float32:
            return found
        return builder.bitcast(builder.shl(builder.zext(found, I32), ir.Constant(I32, 16)), F32)

    return types.float32(kind, types.int64, types.int64), generate


@intrinsic
def put(typing, kind, address, index, number):
    """Store an fp32 number: as it is, or as bf16 bits (to nearest, ties to even; NaN stays NaN)."""

    def generate(context, builder, signature, v):
        value = v[3] if kind == types.float32 else nearest_bf16(builder, v[3])
        builder.store(value, place_of(builder, v[1], ELEMENTS[kind], v[2]))
        return context.get_dummy_value()

    return types.void(kind, types.int64, types.int64, types.float32), generate


def nearest_bf16(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """The upper 16 bits, after adding half of the last place kept (less one bit where that decides a tie)."""
    bits = builder.bitcast(number, I32)
    odd = builder.and_(builder.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 1))
    rounded = builder.add(bits, builder.add(odd, ir.Constant(I32, 0x7FFF)))
    quiet = builder.or_(bits, ir.Constant(I32, 0x400000))
    chosen = builder.select(builder.fcmp_unordered("uno", number, number), quiet, rounded)
    return builder.trunc(builder.lshr(chosen, ir.Constant(I32, 16)), I16)


@intrinsic
def get_int(typing, address, index):
    """Whole number `index` (int64) at an address."""

    def generate(context, builder, signature, v):
        return builder.load(place_of(builder, v[0], I64, v[1]), typ=I64)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def put_int(typing, address, index, number):
    """Store a whole number (int64)."""

    def generate(context, builder, signature, v):
        builder.store(v[2], place_of(builder, v[0], I64, v[1]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def size_of(typing, kind):
    """Bytes of one number of a format."""
    return types.int64(kind), lambda context, builder, signature, v: constant(SIZES[kind])


@intrinsic
def either(typing, kind, lanes, tiles):
    """`tiles` if that is what the format is for, else `lanes`; known when the loop is compiled."""

    def generate(context, builder, signature, v):
        return v[2] if kind == types.int16 else v[1]

    return lanes(kind, lanes, tiles), generate


@intrinsic(prefer_literal=True)
def scratch(typing, count):
    """The address of `count` (a literal) 8-byte places on the stack, for as long as the function runs."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    number = count.literal_value

    def generate(context, builder, signature, v):
        with builder.goto_entry_block():
            place = builder.alloca(ir.ArrayType(I64, number))
        place.align = 64
        return builder.ptrtoint(place, I64)

    return types.int64(count), generate


@intrinsic
def kept_whole(typing):
    """Ask that the function this stands in be called, not copied into its callers: it is large, and compiled once."""

    def generate(context, builder, signature, v):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate
