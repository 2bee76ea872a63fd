"""Searching with somebody's regular expression, in a process of its own: whatever a pattern costs, it costs it there.

Python's `re` walks back and tries again, so that some short patterns need longer than anybody lives (`((.|.)*)*x$` on
forty letters), and nothing can stop it but the end of its process. A page cannot afford that. So the texts are handed to
a child, which is ended when its time is over. It is the child's whole program too: run as a file, it reads its orders
from standard input. The memory limit holds on Linux and macOS; elsewhere time alone is limited.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

if sys.platform != "win32":
    import resource

SECONDS = 5.0  # starting the child takes a twentieth of a second, an ordinary pattern a few hundredths
MEMORY_BYTES = 1 << 30  # of address space


def search_texts(pattern: str, texts: Sequence[str], *, seconds: float = SECONDS) -> list[int]:
    r"""The places of the texts in which the pattern is found.

    Raises ValueError for what is no regular expression, TimeoutError when the search needs longer than `seconds`,
    MemoryError when it brings the child down.

    >>> search_texts(r"^h.*o$", ["hello", "help", "ho"])
    [0, 2]
    """
    order = json.dumps({"pattern": pattern, "texts": list(texts)})
    command = [sys.executable, "-I", "-S", __file__]  # nothing but Python's own library is needed
    try:
        child = subprocess.run(
            command, input=order, capture_output=True, encoding="utf-8", timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"more than {seconds:g} s") from None
    if child.returncode != 0:
        raise MemoryError(f"the search broke down (code {child.returncode})")
    answer = json.loads(child.stdout)
    if "fault" in answer:
        raise ValueError(answer["fault"])
    return answer["places"]


def main() -> None:
    """The child: orders in, places out."""
    order = json.load(sys.stdin)
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        pattern = re.compile(order["pattern"])
    except (re.error, OverflowError, RecursionError) as error:
        json.dump({"fault": str(error)}, sys.stdout)
        return
    json.dump({"places": [place for place, text in enumerate(order["texts"]) if pattern.search(text)]}, sys.stdout)


if __name__ == "__main__":
    main()
