"""Trials in a child process (a sandbox): if a text from outside crashes an engine, only the child is lost.

An engine written in another language may abort, panic or take all memory when a text was made for that, and the whole
process goes with it. So such a text is tried once in a child process, within a given time and memory; what survives is
then used here. The child is `python trial.py MODULE`: it reads its order, limits its own memory, and
answers with what the module's `answer(order)` returns. Both are JSON. The memory limit holds on Linux and macOS;
elsewhere time alone is limited.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import resource

MEMORY_BYTES = 2 << 30  # of address space
ONE_THREAD = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # each thread takes address space


def try_apart(module: str, order: Any, *, seconds: float, memory_bytes: int = MEMORY_BYTES) -> Any:
    """What `answer(order)` of a module returns, computed in a child process.

    Raises TimeoutError when it needs longer than `seconds`, MemoryError when it brings the child down.
    """
    package = str(Path(__file__).resolve().parents[1])
    text = json.dumps({"module": module, "package": package, "memory_bytes": memory_bytes, "order": order})
    command = [sys.executable, "-P", __file__]  # -P: this folder's names must not hide Python's own
    try:
        child = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, check=False,
            env={**os.environ, **ONE_THREAD},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"more than {seconds:g} s") from None
    if child.returncode != 0:
        last = child.stderr.strip().rsplit("\n", 1)[-1][:200]
        raise MemoryError(f"it broke down (code {child.returncode}){': ' + last if last else ''}")
    return json.loads(child.stdout)


def limit_memory(memory_bytes: int) -> None:
    """Limit the memory of this process, where the system knows such limits."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """The child: an order in, an answer out."""
    given = json.load(sys.stdin)
    sys.path.append(given["package"])
    limit_memory(given["memory_bytes"])
    json.dump(importlib.import_module(given["module"]).answer(given["order"]), sys.stdout)


if __name__ == "__main__":
    main()
