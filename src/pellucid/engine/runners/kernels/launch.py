"""Launching: one pass at a time in a process, with a stated number of threads, never after a fork.

The threads of compiled loops are the process's own: two launches at once would share them, and in a forked child they
do not exist, so that the first parallel loop would wait for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import torch

from pellucid.compiled import stopping_between_passes
from pellucid.engine.runners.kernels.compile import CACHE
from pellucid.engine.runners.kernels.forward import forward
from pellucid.engine.runners.kernels.plan import NUM_PLANNED
from pellucid.engine.runners.kernels.tile_order import agrees
from pellucid.errors import EngineError

LOCK = threading.Lock()
OWNER: list[int] = []  # the process that launched first


@contextmanager
def launch(num_threads: int) -> Iterator[None]:
    """Hold the process's threads for one pass. Raises EngineError in a process forked after the first launch."""
    if not OWNER:
        OWNER.append(os.getpid())
    if OWNER[0] != os.getpid():
        raise EngineError(
            "compiled loops cannot run in a forked process",
            found="a fork after the first token",
            hint="start the process with multiprocessing's 'spawn' method",
        )
    with LOCK:
        for_torch = torch.get_num_threads()
        numba.set_num_threads(num_threads)
        try:
            yield
        finally:
            if torch.get_num_threads() != for_torch:  # Numba's first launch sets OpenMP's number, which is torch's too
                torch.set_num_threads(for_torch)


def most_threads() -> int:
    """Threads that compiled loops can use."""
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # made when it is imported


def compile_forward(kinds: tuple[np.generic, ...]) -> None:
    """Compile the pass for these formats, or load it from disk."""
    with launch(1), stopping_between_passes():
        forward(np.zeros(NUM_PLANNED, np.int64), *kinds, True)
    CACHE.mark(name_of(kinds))


def tiles_agree(kinds: tuple[np.generic, ...]) -> bool:
    """Whether products through tiles, of weights and of routers, have the bits of their slow twin on this machine."""
    with launch(1), stopping_between_passes():
        return all(agrees(kind.dtype.name) for kind in (kinds[0], kinds[-1]))


def is_compiled(kinds: tuple[np.generic, ...]) -> bool:
    """Whether the pass for these formats is on disk already."""
    return CACHE.has(name_of(kinds))


def name_of(kinds: tuple[np.generic, ...]) -> str:
    """What the pass for these formats is kept under."""
    return "-".join(kind.dtype.name for kind in kinds)
