"""Events: how any room reports a decision without knowing who listens.

A room that shrinks a default, skips a row or falls back to a slower path records an `Event`. The caller chooses the
recorder that receives it (the terminal, a file, a test, the lens). Nothing is decided in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Event:
    """One decision or fact worth telling.

    >>> Event(name="data.context_shrunk", message="context 256 -> 31: the text has 32 tokens", data={"context": 31}).name
    'data.context_shrunk'
    """

    name: str  # room.what_happened, stable: machines match on it
    message: str  # one sentence for a person
    data: Mapping[str, object] = field(default_factory=dict)  # the figures behind the sentence (JSON values)
    level: str = "info"  # "info", or "warning" when a person should look


class Recorder(Protocol):
    """The interface of everything that receives events."""

    def record(self, event: Event) -> None: ...


class NullRecorder:
    """Drops every event: the default of functions that are called from code."""

    def record(self, event: Event) -> None:
        pass


class MemoryRecorder:
    """Keeps every event in a list.

    >>> memory = MemoryRecorder()
    >>> memory.record(Event(name="a.b", message="hello"))
    >>> memory.names()
    ['a.b']
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.name for event in self.events]


class Fanout:
    """Passes each event to several recorders, in order."""

    def __init__(self, recorders: Iterable[Recorder]) -> None:
        self.recorders = tuple(recorders)

    def record(self, event: Event) -> None:
        for recorder in self.recorders:
            recorder.record(event)


class WithoutProgress:
    """Passes on all but the ticks of progress bars (names ending in `.progress`), which are worth nothing afterwards."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def record(self, event: Event) -> None:
        if not event.name.endswith(".progress"):
            self.recorder.record(event)


class Without:
    """Passes on all events but those of one name.

    >>> memory = MemoryRecorder()
    >>> Without(memory, "a.b").record(Event(name="a.b", message="not asked for"))
    >>> memory.events
    []
    """

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.recorder, self.name = recorder, name

    def record(self, event: Event) -> None:
        if event.name != self.name:
            self.recorder.record(event)


class Once:
    """Passes on each message only once: what is said of every save of a run, a person wants to be told once.

    >>> memory = MemoryRecorder()
    >>> once = Once(memory)
    >>> for message in ("saved under our names", "saved step 1", "saved under our names"):
    ...     once.record(Event(name="a.b", message=message))
    >>> [event.message for event in memory.events]
    ['saved under our names', 'saved step 1']
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.told = recorder, set[str]()

    def record(self, event: Event) -> None:
        if event.message not in self.told:
            self.told.add(event.message)
            self.recorder.record(event)


NULL = NullRecorder()
