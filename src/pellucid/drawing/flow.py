"""The description of a drawing of how something is computed: boxes on a stream, and branches that are added back to it.

    stream ──┬───────────────────► + ──►          a branch leaves the stream and is added to it
             └─► box ─► box ──────┘

It holds words and order only. `cli/flow_text.py` writes it for a terminal, `drawing/flow_picture.py` draws it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


class FlowLook(Enum):
    """What a box does, by how it is filled."""

    TABLE = "table"  # looks up, or scores: the two ends
    NORM = "norm"
    MIX = "mix"  # positions look at each other
    PLACE = "place"  # each position alone


@dataclass(frozen=True, kw_only=True)
class FlowBox:
    """A step: its name, and a line for each thing that is to be known of it."""

    title: str
    lines: tuple[str, ...] = ()
    look: FlowLook
    reads_beside: bool = False  # it also reads the end of the column to its left


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Boxes whose result is added to the stream that they read; `after`: the boxes on the stream behind the sum."""

    boxes: tuple[FlowBox, ...]
    after: tuple[FlowBox, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Branches that come again and again."""

    title: str
    branches: tuple[Branch, ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One stream from its start to its end, both in words."""

    title: str
    start: str
    parts: tuple[FlowBox | Repeat, ...]
    end: str


@dataclass(frozen=True, kw_only=True)
class FlowChart:
    """One column or two; the second may read the end of the first. `notes` stand below."""

    title: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()


def retold(thing: T, say: Callable[[str], str]) -> T:
    """The same drawing with every text put in other words.

    >>> retold(Column(title="", start="ids", parts=(), end="scores"), str.upper).end
    'SCORES'
    """
    told: Any = thing
    if isinstance(thing, str):
        told = say(thing)
    elif isinstance(thing, tuple):
        told = tuple(retold(one, say) for one in thing)
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        told = dataclasses.replace(thing, **{name: retold(value, say) for name, value in fields.items()})
    return told


def texts(flow: FlowChart) -> Iterator[str]:
    """Every text of a drawing that is not empty, in its order."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    retold(flow, note)
    return filter(None, found)
