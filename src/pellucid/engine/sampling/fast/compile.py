"""How this room's loops are compiled (`pellucid.compiled` says how, and where the code is kept).

    @loop                a loop compiled to machine code; it releases Python's lock and is kept on disk
    @parallel_loop       the same, with `prange` spread over the threads
    @inner               a small one that becomes part of the loops that call it
    numbers_at(a, n)     n numbers in fp32 that lie at an address, as an array
    at_least(a, x)       which of `LINE` numbers at an address are x or more, a bit for each
    lowest_bit(bits)     the place of the lowest bit that is set
    add_columns(a, n)    the sum of n numbers in fp64, n a multiple of 8: eight columns, added as ((0+1)+(2+3)) + ((4+5)+(6+7))

The intrinsics that say how one number is made (`fused`, `to_bits`, `from_bits`) are those of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from pellucid.compiled import compile_loop, find_cache
from pellucid.engine.runners.kernels import emit, lanes

COLUMNS = 8
LINE = 64  # logits that lie together: of each line the highest is kept, so that few lines need be read again
DOUBLES = emit.vector(ir.DoubleType(), COLUMNS)

CACHE = find_cache(Path(__file__).parent, *(Path(module.__file__ or "") for module in (emit, lanes)))


def loop(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, for the types it is called with."""
    return compile_loop(function, CACHE)


def parallel_loop(function: Callable[..., Any]) -> Any:
    """Compile a loop whose `prange` runs on all threads."""
    return compile_loop(function, CACHE, parallel=True)


def inner(function: Callable[..., Any]) -> Any:
    """Compile a small function that becomes part of the loops that call it."""
    return compile_loop(function, CACHE, inside=True)


@intrinsic
def _pointer(typing, address):
    def generate(context, builder, signature, v):
        return builder.inttoptr(v[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


@inner
def numbers_at(address, count):
    """`count` numbers in fp32 from an address on."""
    return carray(_pointer(address), (count,))


@intrinsic
def add_columns(typing, address, count):
    """The sum of `count` numbers in fp32 from an address on: no compiler may make vectors of a sum by itself."""

    def generate(context, builder, signature, v):
        first = builder.inttoptr(v[0], emit.F32.as_pointer())

        def step(i, sums):
            row = emit.load(builder, emit.at(builder, first, emit.F32, i), emit.F32, COLUMNS)
            return [builder.fadd(sums[0], builder.fpext(row, DOUBLES))]

        (sums,) = emit.loop(builder, v[1], COLUMNS, [ir.Constant(DOUBLES, [0.0] * COLUMNS)], step)
        parts = [builder.extract_element(sums, ir.Constant(emit.I32, column)) for column in range(COLUMNS)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return types.float64(types.int64, types.int64), generate


@intrinsic
def at_least(typing, address, bound):
    """Which of the `LINE` numbers from an address on are at least `bound`: the lowest bit is for the first."""

    def generate(context, builder, signature, v):
        line = emit.load(builder, builder.inttoptr(v[0], emit.F32.as_pointer()), emit.F32, LINE)
        return builder.bitcast(builder.fcmp_ordered(">=", line, emit.splat(builder, v[1], LINE)), emit.I64)

    return types.uint64(types.int64, types.float32), generate


@intrinsic
def lowest_bit(typing, bits):
    """The place of the lowest bit that is set; one must be."""

    def generate(context, builder, signature, v):
        return builder.cttz(v[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate
