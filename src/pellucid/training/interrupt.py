"""Signal handling: the first Ctrl-C (or SIGTERM) finishes the step and saves; the second Ctrl-C quits at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

ASKING = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While active, remembers which signal asked the run to stop.

    >>> with StopRequest() as stop:
    ...     stop.signal_name is None
    True
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python cannot catch signals
            for number in ASKING:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name


def is_signal(reason: str) -> bool:
    """Whether a signal ended the run: then the reason is the signal's name."""
    return reason in {number.name for number in ASKING}


def exit_code(reason: str) -> int:
    """The exit code of a command whose run ended for this reason: 0, or 128 + the signal's number, as in shells.

    >>> exit_code("finished"), exit_code("SIGINT"), exit_code("SIGTERM")
    (0, 130, 143)
    """
    return 128 + signal.Signals[reason] if is_signal(reason) else 0
