"""How many threads loops may use."""

from __future__ import annotations

import os


def count_threads() -> int:
    """The processors that this process may run on.

    >>> count_threads() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
