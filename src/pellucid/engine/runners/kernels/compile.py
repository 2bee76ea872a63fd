"""How kernels are compiled, and where the compiled code is kept.

    @kernel              a loop compiled to machine code; it releases Python's lock and is kept on disk
    @parallel_kernel     the same, with `prange` spread over the threads

Numba keeps code beside its source and recompiles when that one file changes; but kernels are built from functions of
several files. So the code is kept in a folder named by the hash of every file of this room (and Numba's own key adds
the processor and Numba's version): an edit anywhere here recompiles, and a second process compiles nothing. Where no
folder can be written, nothing is kept, and every process compiles anew: whoever starts it is told.

`fastmath` is never on: the order of every sum is written down in `lanes`, and no compiler may change it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import platformdirs

ROOM = Path(__file__).parent
VARIABLE = "NUMBA_CACHE_DIR"  # names another folder, on every system


@dataclass(frozen=True, kw_only=True)
class CodeFolder:
    """Where machine code is kept; `directory` is None where it cannot be, and `fault` says why."""

    directory: Path | None
    fault: str = ""


def find_cache() -> CodeFolder:
    """The folder for this version of the kernels: below the one that NUMBA_CACHE_DIR names, or the user's cache."""
    digest = hashlib.sha256(f"numba {numba.__version__} llvmlite {llvmlite.__version__}".encode())
    for path in sorted(ROOM.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    named = os.environ.get(VARIABLE)
    faults = []
    for folder in (*([Path(named)] if named else []), Path(platformdirs.user_cache_dir("pellucid"))):
        directory = folder / "kernels" / digest.hexdigest()[:16]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):  # what the rights promise, a full or read-only disk may refuse
                return CodeFolder(directory=directory)
        except OSError as error:
            faults.append(f"{folder}: {error.strerror or error}")
    return CodeFolder(directory=None, fault="; ".join(faults))


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop when it is first called, for the types it is called with."""
    return _jit(function, parallel=False)


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop whose `prange` runs on all threads."""
    return _jit(function, parallel=True)


def inline_kernel(function: Callable[..., Any]) -> Any:
    """A small function that becomes part of the loops that call it."""
    return numba.njit(function, inline="always", error_model="numpy", fastmath=False)


def _jit(function: Callable[..., Any], *, parallel: bool) -> Any:
    keep = CACHE.directory is not None
    config: Any = numba.config  # its names are made when it is imported
    before, config.CACHE_DIR = config.CACHE_DIR, str(CACHE.directory) if keep else ""
    try:
        return numba.njit(cache=keep, nogil=True, error_model="numpy", fastmath=False, parallel=parallel)(function)
    finally:
        config.CACHE_DIR = before


CACHE = find_cache()


def host_name() -> str:
    """The processor as LLVM names it: machine code is for one kind of processor."""
    return llvm.get_host_cpu_name()


def has_bf16_dot() -> bool:
    """Whether the processor multiplies pairs of bf16 numbers in one instruction (AVX-512 BF16)."""
    return platform.machine() in ("x86_64", "AMD64") and bool(llvm.get_host_cpu_features().get("avx512bf16"))
