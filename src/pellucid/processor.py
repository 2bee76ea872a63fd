"""Which instructions compiled loops may use: one answer for the loops, the names of kept code, accounts and tests.

    what the processor has  ∩  what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES allow  ∩  what the system permits

Numba compiles for the processor it runs on, or for the one that these two variables name. An instruction that a loop asks
for by name must be in all three sets; whatever else LLVM makes of plain vectors (AVX2, NEON, …) is its own affair, and
computes the same numbers.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Set
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

TILES = frozenset({"amx-tile", "amx-bf16"})  # registers of 16 rows, which a process must ask the system for
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = (
    158,
    0x1023,
    18,
)  # Linux on x86-64: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What machine code is made for here."""

    name: str  # as LLVM names it
    features: frozenset[str]  # what may be asked for by name, in LLVM's words
    refusal: str  # why tile instructions, which it has, may not be used; empty where they may, and where it has none
    key: str  # part of a file's name: code that is kept under one is not for another


def find_processor() -> Processor:
    """The processor that loops are compiled for in this process, and what they may use of it.

    >>> "plain vectors need no name" in find_processor().features
    False
    """
    aim = compiled_for()
    _, name, flags = aim
    named = numba.config.CPU_FEATURES  # type: ignore[attr-defined]  # made when it is imported
    usable = allowed(host_name=llvm.get_host_cpu_name(), name=name, flags=flags, is_named=named is not None)
    usable &= host_features()
    refusal = ask_for_tiles() if usable >= TILES else ""
    digest = hashlib.sha256(repr(aim).encode()).hexdigest()[:8]
    return Processor(name=name, features=usable - TILES if refusal else usable, refusal=refusal, key=f"{name}-{digest}")


def compiled_for() -> tuple[str, str, str]:
    """What Numba compiles for, and keeps code by: the kind of machine, LLVM's name of the processor, its flags."""
    kind, name, flags = cpu_target.target_context.codegen().magic_tuple()
    return kind, name, flags


def host_features() -> Set[str]:
    """What this processor and its system can do; nothing where LLVM cannot tell."""
    try:
        return {feature for feature, has in llvm.get_host_cpu_features().items() if has}
    except RuntimeError:
        return set()


def allowed(*, host_name: str, name: str, flags: str, is_named: bool) -> frozenset[str]:
    """What Numba's two variables leave: what is switched on by name, and nothing of another processor that is not.

    `flags` are LLVM's, "+" or "-" before each; `is_named` tells that a person gave them, and Numba did not find them.

    >>> sorted(allowed(host_name="znver5", name="znver5", flags="+avx2,+avx512bf16,-amx-tile", is_named=False))
    ['avx2', 'avx512bf16']
    >>> allowed(host_name="znver5", name="haswell", flags="+avx2,+avx512bf16,-amx-tile", is_named=False)
    frozenset()
    >>> sorted(allowed(host_name="znver5", name="haswell", flags="+avx2", is_named=True))
    ['avx2']
    """
    if name != host_name and not is_named:
        return frozenset()
    return frozenset(flag[1:] for flag in flags.split(",") if flag.startswith("+"))


@cache
def ask_for_tiles() -> str:
    """Ask the system, once in a process, for the tile registers; why they may not be used, or nothing.

    A permission is one for all threads of a process, and a forked child inherits it. It is refused by a system that does
    not know them, or does not wish to, and where a thread's stack for signals is too small to save them ("no space left").
    """
    if sys.platform != "linux":
        return f"only Linux is asked, this is {sys.platform}"
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    failed = call(*(ctypes.c_long(number) for number in (ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)))
    return os.strerror(ctypes.get_errno()) if failed else ""
