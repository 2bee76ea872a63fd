"""How this room's kernels are compiled (`pellucid.compiled` says how, and where the code is kept).

    @kernel              a loop compiled to machine code; it releases Python's lock and is kept on disk
    @parallel_kernel     the same, with `prange` spread over the threads

`fastmath` is never on: the order of every sum is written down in `lanes`, and no compiler may change it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from pellucid.compiled import compile_loop, find_cache

CACHE = find_cache(Path(__file__).parent)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, for the types it is called with."""
    return compile_loop(function, CACHE)


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop whose `prange` runs on all threads."""
    return compile_loop(function, CACHE, parallel=True)


def has_bf16_dot() -> bool:
    """Whether the processor multiplies pairs of bf16 numbers in one instruction (AVX-512 BF16)."""
    return platform.machine() in ("x86_64", "AMD64") and bool(llvm.get_host_cpu_features().get("avx512bf16"))
