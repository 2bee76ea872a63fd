"""How long a person waits: for `pellucid --help`, and for the first token of a small model.

    python benchmarks/start.py [--repeats 10]

Each command runs in a fresh process. Two lower bounds run in turn with it: Python doing nothing, and Python importing
torch. A model of 1.4 million parameters is trained for two steps in a temporary folder; `pellucid generate` is timed
from the start of its process to the first bytes of its answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pellucid

PELLUCID = [sys.executable, "-m", "pellucid"]
TEXT = "A cat sat by the door and looked at the rain. 一只猫坐在门口，看着雨。\n" * 400
DEPTH = 3  # 1.4 million parameters
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def make_run(folder: Path) -> Path:
    """Train a run of two steps."""
    text, out = folder / "text.txt", folder / "run"
    text.write_text(TEXT, encoding="utf-8")
    command = [*PELLUCID, "train", str(text), "--out", str(out), "--steps", "2", "--depth", str(DEPTH)]
    subprocess.run(command, check=True, **SILENT)
    return out


def seconds_of_command(command: list[str]) -> float:
    """Seconds from the start to the end of a command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, **SILENT)
    return time.perf_counter() - begin


def seconds_to_first_byte(command: list[str]) -> float:
    """Seconds from the start of a command to its first byte on standard output."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - begin
        process.stdout.read()
    if process.returncode or not first:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return seconds


def in_turn(measures: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds of each measure; the first round, which fills the disk cache, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats + 1):
        for name, measure in measures.items():
            seconds[name].append(measure())
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = make_run(Path(name))
        parameters = json.loads(subprocess.check_output([*PELLUCID, "plan", str(run), "--json"]))["parameters"]["total"]
        generate = [*PELLUCID, "generate", str(run), "A cat", "--max-new-tokens", "8", "--temperature", "0"]
        seconds = in_turn(
            {
                "python -c pass": lambda: seconds_of_command([sys.executable, "-c", "pass"]),
                "import torch": lambda: seconds_of_command([sys.executable, "-c", "import torch"]),
                "pellucid --help": lambda: seconds_of_command([*PELLUCID, "--help"]),
                "pellucid generate, first token": lambda: seconds_to_first_byte(generate),
            },
            given.repeats,
        )
    report = {
        "version": pellucid.__version__,
        "cores": os.cpu_count(),
        "repeats": given.repeats,
        "parameters": parameters,
        "seconds": {what: round(value, 3) for what, value in seconds.items()},
        "help_over_python": round(seconds["pellucid --help"] / seconds["python -c pass"], 2),
        "first_token_over_import_torch": round(seconds["pellucid generate, first token"] / seconds["import torch"], 2),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
