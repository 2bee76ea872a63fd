"""Two commits side by side: is the later one as fast as the earlier one?

    python benchmarks/two_commits.py BEFORE AFTER --data tinyshakespeare.txt [--pairs 10] [--only PART …]

    decode    new tokens per second of the bare runner (`pellucid bench`) in fp32 and int8, and with sampling and stops,
              on a run of the earlier commit
    train     tokens per second of an update (the median of a run), and whole runs per second, from the start of
              `pellucid train` to its end; all runs end at the same loss, or the program says that they differ

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
STEPS = 30
PARTS = ("decode", "train")
Rates = dict[str, float]
SETTINGS = (
    "seed=7", "compile=off", "precision=fp32", f"steps={STEPS}", "tokenizer.vocab_size=512", "model.depth=4",
    "model.context_length=128", "batch.rows=32", "evaluation.every_steps=30", "data.report_duplicates=false",
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


def measure_decode(checkout: Path, run: Path) -> dict[str, float]:
    """Tokens per second: of the bare runner in two number formats, and with sampling and stops."""
    lengths = ("--prompt-tokens", "16", "--context", "16", "--new-tokens", "96", "--rounds", "5")
    told = {
        weights: json.loads(call(checkout, "bench", str(run), "--weights", weights, "--json", *lengths))["rates"]
        for weights in ("fp32", "int8")
    }
    rates = {f"decode {weights}": told[weights]["decode"] for weights in told}
    rates["generate fp32"] = told["fp32"]["generate"]
    return {name: float(rate["tokens_per_second"]) for name, rate in rates.items()}


def measure_run(checkout: Path, data: Path, folder: Path, losses: set[float]) -> dict[str, float]:
    """Rates of one run: tokens per second of an update, and whole runs per second; its last loss is remembered."""
    seconds, rows = train(checkout, data, Path(tempfile.mkdtemp(dir=folder)) / "run")
    losses.add(rows[-1]["loss"])
    return {"step": statistics.median(row["tokens_per_second"] for row in rows[5:]), "loss": 1 / seconds}


def in_turn(pairs: int, before: Callable[[], Rates], after: Callable[[], Rates]) -> dict[str, dict[str, Any]]:
    """The ratios after / before of so many pairs, every second one in the other order."""
    ratios: dict[str, list[float]] = {}
    for pair in range(pairs):
        order = (before, after) if pair % 2 == 0 else (after, before)
        first, second = order[0](), order[1]()
        earlier, later = (first, second) if pair % 2 == 0 else (second, first)
        for name in earlier:
            ratios.setdefault(name, []).append(later[name] / earlier[name])
    return {name: judge(found) for name, found in ratios.items()}


def judge(ratios: list[float]) -> dict[str, Any]:
    """Whether the later commit is as fast."""
    median = statistics.median(ratios)
    return {"median": round(median, 4), "kept": abs(median - 1) <= WITHIN, "ratios": [round(one, 3) for one in ratios]}


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
        measures: dict[str, Callable[[Path], Rates]] = {
            "decode": lambda one: measure_decode(one, folder / "run"),
            "train": lambda one: measure_run(one, data, folder, losses),
        }
        for part in given.only:
            found = in_turn(given.pairs, partial(measures[part], before), partial(measures[part], after))
            for name, told in found.items():
                print(name, json.dumps(told), flush=True)
            report |= found
    if len(losses) > 1:
        raise SystemExit(f"the runs end at different losses: {sorted(losses)}")
    raise SystemExit(0 if all(part["kept"] for part in report.values()) else 1)


if __name__ == "__main__":
    main()
