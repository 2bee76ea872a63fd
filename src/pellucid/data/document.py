"""A document: one text of a source, with a beginning and an end."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.data.weights import Span


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text with a beginning and an end, or one part of it.

    >>> Document(text="Once upon a time", origin="book.txt").last
    True
    """

    text: str
    origin: str  # where it came from: "book.txt", "rows.jsonl:17"
    part: int = 0  # 0 for the part that begins the text, then 1, 2, …
    last: bool = True  # whether the text ends here
    weights: tuple[Span, ...] = ()  # spans of this part that have a weight of their own; all else weighs 1
    follows: bool = False  # whether it belongs to the document before it (the target of a pair): both are on one side
