"""Search with a user's regular expression in a child process, with limits on time and memory.

Python's `re` backtracks, so some short patterns take practically forever (`((.|.)*)*x$` on forty letters), and only the
end of the process stops them. So the texts are given to a child process (`pellucid.trial`), which is ended when its
time is over. `answer` runs in the child.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.trial import try_apart

SECONDS = 5.0  # starting the child takes a tenth of a second, an ordinary pattern a few hundredths
MEMORY_BYTES = 1 << 30  # of address space


def search_texts(pattern: str, texts: Sequence[str], *, seconds: float = SECONDS) -> list[int]:
    r"""The indices of the texts in which the pattern is found.

    Raises ValueError for an invalid regular expression, TimeoutError when the search takes longer than `seconds`,
    MemoryError when the child runs out of memory.

    >>> search_texts(r"^h.*o$", ["hello", "help", "ho"])
    [0, 2]
    """
    order = {"pattern": pattern, "texts": list(texts)}
    found = try_apart(__name__, order, seconds=seconds, memory_bytes=MEMORY_BYTES)
    if "fault" in found:
        raise ValueError(found["fault"])
    return found["places"]


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    """Run the search in the child: return the indices, or why the pattern is invalid."""
    try:
        pattern = re.compile(order["pattern"])
    except (re.error, OverflowError, RecursionError) as error:
        return {"fault": str(error)}
    return {"places": [place for place, text in enumerate(order["texts"]) if pattern.search(text)]}
