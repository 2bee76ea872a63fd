"""Saying that loops are being compiled, once on each machine.

How long that takes was measured on two cores of a server: training's loops take 37 s of a processor's time, which were 74
to 106 s on the clock while other programs kept the load between four and seven; encoding's 36 to 63 s on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pellucid.compiled import VARIABLE, stopping_between_passes
from pellucid.events import Event, Recorder
from pellucid.tokens.fast.compile import CACHE


@contextmanager
def telling_of_compilation(name: str, recorder: Recorder) -> Iterator[None]:
    """Say that loops are being compiled, where they are not on disk yet; Ctrl-C stops it."""
    if not CACHE.has(name):
        recorder.record(_about_to_compile())
    started = time.perf_counter()
    with stopping_between_passes():
        yield
    if not CACHE.has(name):
        seconds = time.perf_counter() - started
        data = {"seconds": round(seconds, 2)}
        recorder.record(Event(name="tokens.compiled", message=f"compiled in {seconds:.0f} s", data=data))
        CACHE.mark(name)


def _about_to_compile() -> Event:
    data = {"directory": str(CACHE.directory or "")}
    if CACHE.directory is not None:
        message = "compiling the tokenizer's loops, once on this machine: about half a minute, two where it is busy"
        return Event(name="tokens.compiling", message=message, data=data)
    message = (
        f"compiling the tokenizer's loops, half a minute or more, and again at every call: the code cannot be kept"
        f" ({CACHE.fault}); name a folder that can be written in the variable {VARIABLE}"
    )
    return Event(name="tokens.compiling", message=message, data={**data, "fault": CACHE.fault}, level="warning")
