"""How loops are compiled by Numba, and where the compiled code is kept.

    compile_loop(function, folder)    machine code that releases Python's lock and is kept on disk

Numba keeps code beside its source and recompiles when that one file changes; but loops are built from functions of
several files. So the code of a room is kept in a folder named by the hash of every file of the room and of this one
(and Numba's own key adds the processor): an edit anywhere there recompiles, and a second process compiles nothing, nor
does another copy of the same files (`ByContent`). Where no folder can be written, nothing is kept, and every process
compiles anew: whoever starts it is told.

`fastmath` is never on: no compiler may change the order of a sum.
"""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import llvmlite
import numba
import numba.core.event
import platformdirs
from numba.core.caching import UserProvidedCacheLocator

from pellucid.processor import find_processor

VARIABLE = "NUMBA_CACHE_DIR"  # names another folder, on every system


@dataclass(frozen=True, kw_only=True)
class CodeFolder:
    """Where machine code is kept; `directory` is None where it cannot be, and `fault` says why."""

    directory: Path | None
    fault: str = ""

    def has(self, name: str) -> bool:
        """Whether the loops of this name are on disk already, for this processor."""
        marker = self._marker(name)
        return marker is not None and marker.exists()

    def mark(self, name: str) -> None:
        """Remember that the loops of this name are on disk."""
        if (marker := self._marker(name)) is not None:
            marker.touch()

    def _marker(self, name: str) -> Path | None:
        return self.directory and self.directory / f"compiled-{find_processor().key}-{name}"


def find_cache(room: Path, *borrowed: Path) -> CodeFolder:
    """The folder for this version of a room's loops: below the one that NUMBA_CACHE_DIR names, or the user's cache.

    `borrowed` are files of other rooms whose functions become part of these loops.
    """
    digest = hashlib.sha256(f"numba {numba.__version__} llvmlite {llvmlite.__version__}".encode())
    for path in (Path(__file__), *sorted(room.glob("*.py")), *borrowed):
        digest.update(path.name.encode() + path.read_bytes())
    named = os.environ.get(VARIABLE)
    faults = []
    for folder in (*([Path(named)] if named else []), Path(platformdirs.user_cache_dir("pellucid"))):
        directory = folder / room.name / digest.hexdigest()[:16]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):  # what the rights promise, a full or read-only disk may refuse
                return CodeFolder(directory=directory)
        except OSError as error:
            faults.append(f"{folder}: {error.strerror or error}")
    return CodeFolder(directory=None, fault="; ".join(faults))


class ByContent(UserProvidedCacheLocator):
    """Tells Numba where a function's code is kept: in the folder of its room, wherever the source itself lies.

    Numba would add the source's place, so that each environment and each copy of the program compiled for minutes.
    """

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        """No folder of its own: names of modules and functions are enough within a room."""
        return ""

    def get_source_stamp(self) -> str:
        """The folder's name says what is in it."""
        return ""


def compile_loop(
    function: Callable[..., Any], folder: CodeFolder, *, parallel: bool = False, inside: bool = False
) -> Any:
    """Compile a loop when it is first called, for the types it is called with.

    `parallel` spreads `prange`; `inside` makes its machine code part of every loop that calls it.
    """
    keep = folder.directory is not None
    config: Any = numba.config  # its names are made when it is imported
    before = config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES
    config.CACHE_DIR = str(folder.directory) if keep else ""
    config.CACHE_LOCATOR_CLASSES = f"{ByContent.__module__}.{ByContent.__name__}"
    try:
        return numba.njit(
            cache=keep, nogil=True, error_model="numpy", fastmath=False, parallel=parallel, forceinline=inside
        )(function)
    finally:
        config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = before


def inline_kernel(function: Callable[..., Any]) -> Any:
    """A small function that becomes part of the loops that call it."""
    return numba.njit(function, inline="always", error_model="numpy", fastmath=False)


@contextmanager
def stopping_between_passes() -> Iterator[None]:
    """Let Ctrl-C stop the compiler only between two of its passes, as a KeyboardInterrupt.

    Python raises it wherever it happens to be, and that may be a callback of LLVM or the end of some object: there it is
    printed and lost, and the compiler goes on, or breaks down later for want of what it was about to keep.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # elsewhere no signal arrives, and whoever has a handler of its own knows what to do
        return
    stop = StopAtPass()
    signal.signal(signal.SIGINT, stop.ask)
    try:
        with numba.core.event.install_listener("numba:run_pass", stop):
            yield
        stop.answer()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class StopAtPass(numba.core.event.Listener):
    """Remembers that Ctrl-C was pressed until a pass of the compiler begins or ends."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Take the signal."""
        self.asked = True

    def answer(self) -> None:
        """Stop, if it came. Raises KeyboardInterrupt."""
        if self.asked:
            raise KeyboardInterrupt

    def on_start(self, event: numba.core.event.Event) -> None:
        self.answer()

    def on_end(self, event: numba.core.event.Event) -> None:
        self.answer()
