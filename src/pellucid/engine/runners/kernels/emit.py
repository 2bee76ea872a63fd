"""LLVM code for blocks of dot products: vectors of sixteen lanes, loops, and the formats of weights.

Kernels do not call this file; `lanes` wraps it into functions that they call. The code is written out because a
compiler may vectorise a sum only if it may also reorder it.

Axes: R outputs (rows of a weight) · C rows of activations · k input width.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from llvmlite import ir
from numba import types

LANES = 16
GROUP = 32  # int4 weights that share a scale
GROUPS = 4  # of int4 weights that lie together in a line
AHEAD = 4096  # bytes from what is read to what is asked for
LINE = 64  # bytes of weights that one step reads

F32, I8, I16, I32, I64 = ir.FloatType(), ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)


class Bfloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bfloat)

    def __hash__(self) -> int:
        return hash("bfloat")


def vector(element: ir.Type, size: int = LANES) -> ir.VectorType:
    return ir.VectorType(element, size)


V16F, V16I = vector(F32), vector(I32)
V32B = vector(Bfloat(), 32)


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic by name."""
    module = builder.module
    function = module.globals.get(name) or ir.Function(
        module, ir.FunctionType(result, [a.type for a in arguments]), name
    )
    return builder.call(function, arguments)


def fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    return call(builder, "llvm.fma.v16f32", V16F, a, b, c)


def constant(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def splat(builder: ir.IRBuilder, value: ir.Value, size: int = LANES) -> ir.Value:
    kind = vector(value.type, size)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(vector(I32, size), [0] * size))


def shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(vector(I32, len(order)), order))


def load(
    builder: ir.IRBuilder, pointer: ir.Value, element: ir.Type, size: int, keep: ir.Value | None = None
) -> ir.Value:
    """`size` neighbours from memory; with `keep` only the first `keep` of them, zeros after."""
    kind = vector(element, size)
    if keep is None:
        found = builder.load(pointer, typ=kind)
        found.align = element.width // 8 if isinstance(element, ir.IntType) else 4
        return found
    index = ir.Constant(vector(I64, size), list(range(size)))
    mask = builder.icmp_unsigned("<", index, splat(builder, keep, size))
    letter = "f" if element == F32 else "i"
    name = f"llvm.masked.load.v{size}{letter}{32 if element == F32 else element.width}.p0"
    align = ir.Constant(I32, 4 if element == F32 else element.width // 8)
    pointer = builder.bitcast(pointer, I8.as_pointer())
    return call(builder, name, kind, pointer, align, mask, ir.Constant(kind, None))


def at(builder: ir.IRBuilder, pointer: ir.Value, element: ir.Type, index: ir.Value) -> ir.Value:
    return builder.gep(pointer, [index], source_etype=element)


def widen(builder: ir.IRBuilder, raw: ir.Value) -> ir.Value:
    """16 stored numbers (fp32, bf16 bits or int8) as fp32."""
    if raw.type.element == F32:
        return raw
    if raw.type.element == I16:
        return builder.bitcast(builder.shl(builder.zext(raw, V16I), ir.Constant(V16I, [16] * LANES)), V16F)
    return builder.sitofp(builder.sext(raw, V16I), V16F)


def reduce_lanes(builder: ir.IRBuilder, sums: list[ir.Value]) -> list[ir.Value]:
    """Fold each vector of 16 lanes to one number: j with j+8, then j+4, j+2, j+1; several vectors share each step."""
    count, half = len(sums), LANES // 2
    sums = sums + [ir.Constant(V16F, [0.0] * LANES)] * ((1 << (count - 1).bit_length()) - count)
    while half:
        if len(sums) > 1:
            width = sums[0].type.count
            low = [i for i in range(2 * width) if i % (2 * half) < half]
            high = [i for i in range(2 * width) if i % (2 * half) >= half]
            pairs = [(shuffle(builder, a, b, low), shuffle(builder, a, b, high)) for a, b in zip(sums[::2], sums[1::2])]
        else:
            width = sums[0].type.count
            none = ir.Constant(sums[0].type, ir.Undefined)
            low = [i for i in range(width) if i % (2 * half) < half]
            high = [i for i in range(width) if i % (2 * half) >= half]
            pairs = [(shuffle(builder, a, none, low), shuffle(builder, a, none, high)) for a in sums]
        sums = [builder.fadd(low, high) for low, high in pairs]
        half //= 2
    return [builder.extract_element(sums[0], ir.Constant(I32, index)) for index in range(count)]


class Product:
    """How one step along k reads weights and activations of two formats: a line of 64 bytes of weights at a time.

    A step is `step` numbers, `part` of them to an instruction.
    """

    def __init__(self, weight: types.Type, activation: types.Type) -> None:
        self.weight = weight
        self.dot = activation == types.uint16
        self.part = 32 if self.dot else 16
        steps: dict[types.Type, int] = {
            types.float32: 16,
            types.uint16: 32,
            types.int8: 64,
            types.uint8: GROUP * GROUPS,
        }
        elements: dict[types.Type, ir.Type] = {types.float32: F32, types.uint16: I16, types.int8: I8, types.uint8: I8}
        self.step, self.weight_element = steps[weight], elements[weight]
        self.activation_element = I16 if self.dot else F32

    def parts_kept(self, builder: ir.IRBuilder, keep: ir.Value | None) -> list[ir.Value | None]:
        """How many numbers of each part count, when only the first `keep` of the step do."""
        starts = range(0, self.step, self.part)
        if keep is None:
            return [None for _ in starts]
        left = [builder.sub(keep, constant(start)) for start in starts]
        return [builder.select(builder.icmp_signed(">", n, constant(0)), n, constant(0)) for n in left]

    def weights(self, builder: ir.IRBuilder, pointer: ir.Value, keep: ir.Value | None) -> list[ir.Value]:
        """The weights of one step as operands of `add`."""
        if self.weight == types.uint8:
            return self.nibbles(builder, pointer)
        parts = []
        for n, kept in enumerate(self.parts_kept(builder, keep)):
            start = at(builder, pointer, self.weight_element, constant(n * self.part))
            raw = load(builder, start, self.weight_element, self.part, kept)
            if not self.dot:
                parts.append(widen(builder, raw))
            elif self.weight == types.uint16:
                parts.append(builder.bitcast(raw, V32B))
            else:
                none = ir.Constant(raw.type, ir.Undefined)
                halves = [widen(builder, shuffle(builder, raw, none, list(range(i, i + 16)))) for i in (0, 16)]
                parts.append(narrow_pair(builder, *halves))
        return parts

    def nibbles(self, builder: ir.IRBuilder, pointer: ir.Value) -> list[ir.Value]:
        """Four groups of 32 whole numbers -8..7: the n-th four bits of word j are number j of group n, plus 8."""
        raw = load(builder, pointer, I16, 32)
        words = [builder.lshr(raw, ir.Constant(raw.type, [4 * n] * 32)) for n in range(GROUPS)]
        if self.dot:  # a table of the sixteen numbers as bf16, twice over, since five bits of each index count
            table = ir.Constant(raw.type, [bf16_bits(q - 8) for q in range(16)] * 2)
            name = "llvm.x86.avx512.permvar.hi.512"
            return [builder.bitcast(call(builder, name, raw.type, table, word), V32B) for word in words]
        none = ir.Constant(raw.type, ir.Undefined)
        halves = [shuffle(builder, word, none, list(range(i, i + 16))) for word in words for i in (0, 16)]
        fifteen, eight = ir.Constant(V16I, [15] * 16), ir.Constant(V16I, [8] * 16)
        return [
            builder.sitofp(builder.sub(builder.and_(builder.zext(half, V16I), fifteen), eight), V16F) for half in halves
        ]

    def activations(self, builder: ir.IRBuilder, pointer: ir.Value, keep: ir.Value | None) -> list[ir.Value]:
        element, found = self.activation_element, []
        for n, kept in enumerate(self.parts_kept(builder, keep)):
            raw = load(builder, at(builder, pointer, element, constant(n * self.part)), element, self.part, kept)
            found.append(builder.bitcast(raw, V32B) if self.dot else raw)
        return found

    def add(self, builder: ir.IRBuilder, total: ir.Value, w: list[ir.Value], x: list[ir.Value]) -> ir.Value:
        """total + w · x, lane by lane, part after part."""
        for one, other in zip(w, x, strict=True):
            if self.dot:
                total = call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", V16F, total, other, one)
            else:
                total = fma(builder, one, other, total)
        return total


def narrow_pair(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two vectors of 16 fp32 as one of 32 bf16."""
    return call(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", V32B, high, low)


def emit_dot_block(
    builder: ir.IRBuilder, product: Product, R: int, C: int, p: dict[str, ir.Value], *, fetches: bool
) -> list[ir.Value]:
    """The sums of R x C outputs, in the order c, r. `p`: w, x, scales, k and the strides w_row, x_row, scale_row.

    With `fetches`, weights that are needed soon are asked for meanwhile: further on in a single row, the next rows of
    a block.
    """
    ahead = constant(AHEAD) if R == 1 else builder.mul(p["w_row"], constant(R))
    step, grouped = product.step, product.weight == types.uint8
    ws = [at(builder, p["w"], I8, builder.mul(p["w_row"], constant(r))) for r in range(R)]
    xs = [at(builder, p["x"], product.activation_element, builder.mul(p["x_row"], constant(c))) for c in range(C)]
    zero = ir.Constant(V16F, [0.0] * LANES)

    def one_step(i: ir.Value, totals: list[ir.Value], keep: ir.Value | None) -> list[ir.Value]:
        x = [product.activations(builder, at(builder, q, product.activation_element, i), keep) for q in xs]
        count = builder.udiv(i, constant(step))
        added = []
        for r in range(R):
            line = at(builder, ws[r], I8, builder.mul(count, constant(LINE)))
            if fetches:
                prefetch(builder, at(builder, line, I8, ahead))
            w = product.weights(builder, line, keep)
            if grouped:
                place = builder.add(builder.mul(p["scale_row"], constant(r)), builder.mul(count, constant(GROUPS)))
                added += add_groups(
                    builder, product, at(builder, p["scales"], F32, place), w, x, totals[r * C : r * C + C]
                )
            else:
                added += [product.add(builder, totals[r * C + c], w, x[c]) for c in range(C)]
        return added

    whole = builder.mul(builder.udiv(p["k"], constant(step)), constant(step))
    totals = loop(builder, whole, step, [zero] * (R * C), lambda i, totals: one_step(i, totals, None))
    if not grouped:  # groups are always whole
        rest = builder.sub(p["k"], whole)
        totals = when(builder, builder.icmp_signed(">", rest, constant(0)), totals, lambda t: one_step(whole, t, rest))
    return reduce_lanes(builder, [totals[r * C + c] for c in range(C) for r in range(R)])


def prefetch(builder: ir.IRBuilder, pointer: ir.Value) -> None:
    """Ask for a line of memory that will be read soon; it need not exist."""
    function = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(
        builder.module, ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32]), "llvm.prefetch.p0"
    )
    builder.call(function, [pointer, *(ir.Constant(I32, value) for value in (0, 3, 1))])


def add_groups(
    builder: ir.IRBuilder,
    product: Product,
    scales: ir.Value,
    w: list[ir.Value],
    x: list[list[ir.Value]],
    totals: list[ir.Value],
) -> list[ir.Value]:
    """totals + Σ over groups of scale · (w · x), for each row of x."""
    zero, parts = ir.Constant(V16F, [0.0] * LANES), len(w) // GROUPS
    for n in range(GROUPS):
        scale = splat(builder, builder.load(at(builder, scales, F32, constant(n)), typ=F32))
        span = slice(n * parts, (n + 1) * parts)
        groups = [product.add(builder, zero, w[span], row[span]) for row in x]
        totals = [fma(builder, scale, group, total) for group, total in zip(groups, totals, strict=True)]
    return totals


def bf16_bits(number: int) -> int:
    """The 16 bits of a small whole number in bf16."""
    return struct.unpack("<I", struct.pack("<f", number))[0] >> 16


def loop(
    builder: ir.IRBuilder,
    end: ir.Value,
    step: int,
    carried: list[ir.Value],
    body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """carried = body(i, carried) for i in range(0, end, step)."""
    entry, head = builder.block, builder.append_basic_block("head")
    inside, after = builder.append_basic_block("inside"), builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(constant(0), entry)
    values = [builder.phi(value.type) for value in carried]
    for value, start in zip(values, carried, strict=True):
        value.add_incoming(start, entry)
    builder.cbranch(builder.icmp_signed("<", i, end), inside, after)
    builder.position_at_end(inside)
    new = body(i, values)
    i.add_incoming(builder.add(i, constant(step)), builder.block)
    for value, result in zip(values, new, strict=True):
        value.add_incoming(result, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def when(
    builder: ir.IRBuilder, condition: ir.Value, values: list[ir.Value], body: Callable[[list[ir.Value]], list[ir.Value]]
) -> list[ir.Value]:
    """body(values) where the condition holds, else the values themselves."""
    before, then, after = builder.block, builder.append_basic_block("then"), builder.append_basic_block("join")
    builder.cbranch(condition, then, after)
    builder.position_at_end(then)
    new = body(values)
    end = builder.block
    builder.branch(after)
    builder.position_at_end(after)
    joined = []
    for old, result in zip(values, new, strict=True):
        value = builder.phi(old.type)
        value.add_incoming(old, before)
        value.add_incoming(result, end)
        joined.append(value)
    return joined
