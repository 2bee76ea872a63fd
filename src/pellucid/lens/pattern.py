"""Searching with somebody's regular expression, in a process of its own: whatever a pattern costs, it costs it there.

Python's `re` walks back and tries again, so that some short patterns need longer than anybody lives (`((.|.)*)*x$` on
forty letters), and nothing can stop it but the end of its process. A page cannot afford that. So the texts are handed to
a child process (`pellucid.trial`), which is ended when its time is over. `answer` is the child's part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.trial import try_apart

SECONDS = 5.0  # starting the child takes a tenth of a second, an ordinary pattern a few hundredths
MEMORY_BYTES = 1 << 30  # of address space


def search_texts(pattern: str, texts: Sequence[str], *, seconds: float = SECONDS) -> list[int]:
    r"""The places of the texts in which the pattern is found.

    Raises ValueError for what is no regular expression, TimeoutError when the search needs longer than `seconds`,
    MemoryError when it brings the child down.

    >>> search_texts(r"^h.*o$", ["hello", "help", "ho"])
    [0, 2]
    """
    order = {"pattern": pattern, "texts": list(texts)}
    found = try_apart(__name__, order, seconds=seconds, memory_bytes=MEMORY_BYTES)
    if "fault" in found:
        raise ValueError(found["fault"])
    return found["places"]


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part: the places, or why there is no such pattern."""
    try:
        pattern = re.compile(order["pattern"])
    except (re.error, OverflowError, RecursionError) as error:
        return {"fault": str(error)}
    return {"places": [place for place, text in enumerate(order["texts"]) if pattern.search(text)]}
