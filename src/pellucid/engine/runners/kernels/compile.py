"""How this room's kernels are compiled (`pellucid.compiled` says how, and where the code is kept).

    @kernel              a loop compiled to machine code; it releases Python's lock and is kept on disk
    @parallel_kernel     the same, with `prange` spread over the threads
    @or_in_tiles(loop)   two loops under one name: `loop` is compiled in its place where products go through tiles

`fastmath` is never on: the order of every sum is written down in `lanes` and `tiles`, and no compiler may change it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import types
from numba.extending import overload

from pellucid.compiled import compile_loop, find_cache

CACHE = find_cache(Path(__file__).parent)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, for the types it is called with."""
    return compile_loop(function, CACHE)


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop whose `prange` runs on all threads."""
    return compile_loop(function, CACHE, parallel=True)


def or_in_tiles(tiled: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Where one of the formats that a loop is called with is that of tiles, `tiled` takes its place."""

    def take(plain: Callable[..., Any]) -> Callable[..., Any]:
        @overload(plain, jit_options={"error_model": "numpy"}, strict=False)
        def choose(*formats: types.Type) -> Callable[..., Any]:
            return tiled if types.int16 in formats else plain

        return plain

    return take
