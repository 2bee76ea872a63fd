"""How this room's loops are compiled, and the few reads of memory that NumPy has no word for.

    @loop              a function compiled to machine code (`pellucid.compiled`); it releases Python's lock
    word_at(text, i)   8 neighbouring bytes as one number, wherever they lie
    get, put           one element of an array, without the question whether an index counts from the end

A buffer of text is therefore followed by `PADDING` bytes that belong to nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pellucid.compiled import compile_loop, find_cache

CACHE = find_cache(Path(__file__).parent)
PADDING = 32


def loop(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, for the types it is called with."""
    return compile_loop(function, CACHE)


def _address(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


@intrinsic
def word_at(typing, text, index):
    """8 bytes of `text` from `index` on, as a uint64."""

    def emit(context, builder, signature, given):
        index = context.cast(builder, given[1], signature.args[1], types.int64)
        address = _address(context, builder, signature.args[0], given[0], index)
        return builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(text, index), emit


@intrinsic
def get(typing, array, index):
    """array[index] for an index that is known to lie inside."""

    def emit(context, builder, signature, given):
        index = context.cast(builder, given[1], signature.args[1], types.int64)
        address = _address(context, builder, signature.args[0], given[0], index)
        return builder.load(address)

    return array.dtype(array, index), emit


@intrinsic
def prefetch(typing, array, index):
    """Ask for the cache line of array[index]; nothing waits for it."""

    def emit(context, builder, signature, given):
        index = context.cast(builder, given[1], signature.args[1], types.int64)
        address = _address(context, builder, signature.args[0], given[0], index)
        byte, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, int32, int32, int32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.bitcast(address, byte), int32(0), int32(3), int32(1)])
        return context.get_dummy_value()

    return types.void(array, index), emit
