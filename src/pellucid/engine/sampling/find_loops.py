"""The compiled loops that choose from rows, where they can run here and give the readable stages' bits."""

from __future__ import annotations

import importlib.util
import time
from functools import cache, partial

from pellucid.engine.sampling.rows import Loops
from pellucid.events import NULL, Event, Recorder


def find_loops(*, threads: int = 1, recorder: Recorder = NULL) -> Loops | None:
    """The loops for `choose_rows`, over so many threads; None without Numba, and where a trial finds that a bit differs.

    They are compiled once on a machine, which takes some seconds. Events: `engine.compiling_choice`,
    `engine.compiled_choice`, `engine.choosing_readably`.
    """
    if importlib.util.find_spec("numba") is None:
        return None
    from pellucid.engine.sampling.fast.choose import choose_by_loops  # Numba is optional
    from pellucid.engine.sampling.fast.compile import CACHE

    is_new, started = not CACHE.has("choice"), time.perf_counter()
    if is_new:
        recorder.record(_about_to_compile(str(CACHE.directory or ""), "" if CACHE.directory else CACHE.fault))
    difference = _try_loops()
    if is_new:
        CACHE.mark("choice")
        seconds = time.perf_counter() - started
        recorder.record(
            Event(
                name="engine.compiled_choice",
                message=f"compiled in {seconds:.0f} s",
                data={"seconds": round(seconds, 2)},
            )
        )
    if not difference:
        return partial(choose_by_loops, threads=threads)
    recorder.record(
        Event(
            name="engine.choosing_readably",
            message=f"tokens are chosen by the readable stages: here the loops differ from them in {difference}",
            data={"difference": difference},
        )
    )
    return None


@cache
def _try_loops() -> str:
    """Where the loops differ from the readable stages; tried once in a process."""
    from pellucid.compiled import stopping_between_passes
    from pellucid.engine.sampling.fast.trial import find_difference

    with stopping_between_passes():
        return find_difference()


def _about_to_compile(directory: str, fault: str) -> Event:
    data = {"directory": directory}
    if not fault:
        return Event(
            name="engine.compiling_choice",
            message="compiling the loops that choose tokens, once on this machine: about a quarter of a minute, longer on a busy one",
            data=data,
        )
    return Event(
        name="engine.compiling_choice",
        message=f"compiling the loops that choose tokens, again at every call: the code cannot be kept ({fault})",
        data={**data, "fault": fault},
        level="warning",
    )
