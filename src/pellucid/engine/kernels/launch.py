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

from pellucid.errors import EngineError

LOCK = threading.Lock()
OWNER: list[int] = []  # the process that launched first


@contextmanager
def launch(num_threads: int) -> Iterator[None]:
    """Hold the machine for one pass. Raises EngineError in a process forked after the first launch."""
    if not OWNER:
        OWNER.append(os.getpid())
    if OWNER[0] != os.getpid():
        raise EngineError(
            "compiled loops cannot run in a forked process",
            found="a fork after the first token",
            hint="start the process with multiprocessing's 'spawn' method",
        )
    with LOCK:
        numba.set_num_threads(num_threads)
        yield
