"""Does every damaged file of a model end in one clear error of ours, or in the model that it describes?

    python conformance/damage.py [--count 1000] [--only gemma3]

Each family's `config.json` and `model.safetensors`, and its GGUF file where it has one, is damaged so many times, as
`tests/helpers/damaged.py` says, and opened. Nothing may end in another error, take longer than ten seconds or more memory than
two gigabytes beyond the start, or open as the same model with other numbers. Prints one line for each file, and exits with 1
where one does.

    refused   an error of ours            another   another model, described as clearly as the first
    same      nothing was lost by it
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))

import torch
from damaged import specimens

MOST_SECONDS, MOST_GROWTH = 10, 2 << 30


def stop(*_: object) -> None:
    """One file takes too long."""
    raise TimeoutError(f"more than {MOST_SECONDS} s")


def main() -> int:
    """Damage, open, count; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", default="", help="families and files whose name has this inside")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, specimen in specimens(Path(folder)):
            if asked.only not in name:
                continue
            started, before = time.perf_counter(), _memory()
            signal.signal(signal.SIGALRM, stop)
            tally = specimen.open_all(asked.count, alarm=lambda: signal.alarm(MOST_SECONDS))
            signal.alarm(0)
            grown = _memory() - before
            print(
                f"{name}: {tally.refused} refused, {tally.same} same, {tally.another} another, "
                f"{len(tally.wrong)} wrong, {sum(tally.escaped.values())} escaped; "
                f"{time.perf_counter() - started:.0f} s, {grown >> 20} MiB more",
                flush=True,
            )
            for line in (*tally.wrong[:3], *(f"{count} × {error}" for error, count in tally.escaped.most_common(9))):
                print("    ", line, flush=True)
            failed += bool(tally.wrong or tally.escaped or grown > MOST_GROWTH)
    return int(failed > 0)


def _memory() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    sys.exit(main())
