"""How this room's loops are compiled, and the few reads of memory that NumPy has no word for.

    @loop                  a function compiled to machine code (`pellucid.compiled`); it releases Python's lock
    @inner                 a small one that becomes part of the loops that call it
    byte_at(text, i)       one byte of a text
    word_at(text, i)       8 neighbouring bytes as one number, wherever they lie

A text is named by its address: an array that goes through several functions would be counted and released in each, which
costs more than most of these functions do. It is followed by `PADDING` bytes that belong to nobody, so that a word may
be read at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pellucid.compiled import compile_loop, find_cache

CACHE = find_cache(Path(__file__).parent)
PADDING = 32


def loop(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, for the types it is called with."""
    return compile_loop(function, CACHE)


def inner(function: Callable[..., Any]) -> Any:
    """Compile a small function that becomes part of the loops that call it: arrays then cost nothing to hand over."""
    return compile_loop(function, CACHE, inside=True)


def _load(builder, address, index, bits):
    place = builder.inttoptr(builder.add(address, index), ir.IntType(bits).as_pointer())
    return builder.load(place, align=1)


@intrinsic
def byte_at(typing, address, index):
    """The byte at `address` + `index`, as a uint8."""

    def emit(context, builder, signature, given):
        return _load(builder, *given, 8)

    return types.uint8(types.int64, types.int64), emit


@intrinsic
def word_at(typing, address, index):
    """8 bytes from `address` + `index` on, as a uint64."""

    def emit(context, builder, signature, given):
        return _load(builder, *given, 64)

    return types.uint64(types.int64, types.int64), emit
