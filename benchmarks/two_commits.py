"""Two commits side by side: is the later one as fast as the earlier one?

    python benchmarks/two_commits.py BEFORE AFTER --data tinyshakespeare.txt [--pairs 10] [--only PART …]

    decode        new tokens per second of the bare runner (`pellucid bench`), fp32 and int8, on a run of the earlier commit
    generate      the same with sampling and stops
    step          tokens per second of an update, the median of one run
    loss          seconds from the start of `pellucid train` to its last update; both runs end at the same loss, or the
                  two are not comparable and the program says so

BEFORE and AFTER are checkouts. Both are called through the command line, with the same arguments, in turn, each in a
fresh process, and every second pair in the other order. It prints the ratios after / before: their median and all of
them. The promise is that the median is within 2 % of 1.
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
from functools import partial
from pathlib import Path
from typing import Any

WITHIN = 0.02
STEPS = 60
PARTS = ("decode", "generate", "step", "loss")
SETTINGS = (
    "seed=7", "compile=off", "precision=fp32", f"steps={STEPS}", "tokenizer.vocab_size=512", "model.depth=4",
    "model.context_length=128", "batch.rows=32", "evaluation.every_steps=60", "data.report_duplicates=false",
)  # fmt: skip


def call(checkout: Path, *arguments: str) -> str:
    """Run `pellucid …` of a checkout; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "pellucid", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=checkout)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return ended.stdout


def train(checkout: Path, data: Path, out: Path) -> tuple[float, list[dict[str, Any]]]:
    """Train a run; return its seconds and its metric lines."""
    began = time.perf_counter()
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    call(checkout, "train", str(data), "--out", str(out), *changes)
    seconds = time.perf_counter() - began
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return seconds, [row for row in rows if row["kind"] == "train"]


def measure_decode(checkout: Path, run: Path, weights: str, rate: str) -> float:
    """Tokens per second: `decode` of the bare runner, `generate` with sampling and stops."""
    lengths = ("--prompt-tokens", "16", "--context", "16", "--new-tokens", "96", "--rounds", "5")
    told = json.loads(call(checkout, "bench", str(run), "--weights", weights, "--json", *lengths))
    return float(told["rates"][rate]["tokens_per_second"])


def measure_step(checkout: Path, data: Path, folder: Path) -> float:
    """Tokens per second of an update."""
    _, rows = train(checkout, data, Path(tempfile.mkdtemp(dir=folder)) / "run")
    return statistics.median(row["tokens_per_second"] for row in rows[5:])


def measure_loss(checkout: Path, data: Path, folder: Path, losses: set[float]) -> float:
    """Runs per second, from the start of a run to its last update; the loss of each run is stored in `losses`."""
    seconds, rows = train(checkout, data, Path(tempfile.mkdtemp(dir=folder)) / "run")
    losses.add(rows[-1]["loss"])
    return 1 / seconds


def in_turn(pairs: int, before: Callable[[], float], after: Callable[[], float]) -> dict[str, Any]:
    """The ratios after / before of `pairs` pairs, every second one in the other order."""
    ratios = []
    for pair in range(pairs):
        order = (before, after) if pair % 2 == 0 else (after, before)
        first, second = order[0](), order[1]()
        ratios.append(second / first if pair % 2 == 0 else first / second)
    median = statistics.median(ratios)
    return {
        "median": round(median, 4),
        "kept": abs(median - 1) <= WITHIN,
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    """Measure and print the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a text of a megabyte or so")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    before, after, data = given.before.resolve(), given.after.resolve(), given.data.resolve()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="two-commits-") as name:
        folder, losses = Path(name), set[float]()
        train(before, data, folder / "run")
        measures: dict[str, Callable[[Path], float]] = {
            "decode fp32": lambda one: measure_decode(one, folder / "run", "fp32", "decode"),
            "decode int8": lambda one: measure_decode(one, folder / "run", "int8", "decode"),
            "generate fp32": lambda one: measure_decode(one, folder / "run", "fp32", "generate"),
            "step": lambda one: measure_step(one, data, folder),
            "loss": lambda one: measure_loss(one, data, folder, losses),
        }
        for part, measure in measures.items():
            if part.split()[0] in given.only:
                report[part] = in_turn(given.pairs, partial(measure, before), partial(measure, after))
                print(part, json.dumps(report[part]), flush=True)
    if len(losses) > 1:
        raise SystemExit(f"the runs end at different losses: {sorted(losses)}")
    raise SystemExit(0 if all(part["kept"] for part in report.values()) else 1)


if __name__ == "__main__":
    main()
