"""The eight guided lessons, in the order in which a text becomes the next token. No torch: the list appears at once.

    token → embedding → position → attention → next-token distribution → sampling → training → context window

A lesson has words (in the message catalogues, section `learn`), a panel of the page, and a file here that computes the
figures of the words and the answer to the question on the reader's own model.
"""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.errors import RequestError
from pellucid.setting_values import nearest


@dataclass(frozen=True, kw_only=True)
class LessonEntry:
    """One lesson: its name, which is also its section of the catalogues, and the panel that it uses."""

    key: str
    panel: str


PATH = (
    LessonEntry(key="token", panel="text"),
    LessonEntry(key="embedding", panel="vectors"),
    LessonEntry(key="position", panel="vectors"),
    LessonEntry(key="heads", panel="attention"),
    LessonEntry(key="next-token", panel="chances"),
    LessonEntry(key="draw", panel="chances"),
    LessonEntry(key="training", panel="training"),
    LessonEntry(key="window", panel="chances"),
)


def find_entry(key: str) -> LessonEntry:
    """The lesson of that name. Raises RequestError for any other word, naming the nearest."""
    for entry in PATH:
        if entry.key == key:
            return entry
    raise RequestError("there is no such lesson", found=key, hint=nearest(key, [entry.key for entry in PATH]))
