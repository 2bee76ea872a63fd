"""Whether `pellucid quickstart` succeeds for everybody: the last exam of every seed, type and size, in a table.

    python benchmarks/quickstart.py --out runs-of-quickstart --sizes medium --precisions bf16 fp32 --seeds 1 2 3 4 5

Each run is that of the command: same stories, model, training and exam (300 questions of each language and split), in
its own process. A run that is already in `--out` is read, not repeated, so that the table can grow over several calls.
`--at-once` runs several side by side, one thread each; the seconds then mean little, the answers are the same.

Promised, in each language: 95 % on new worlds and 90 % on each other split. The best control (a baseline that
understands nothing) is printed too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from contest import Floor, finish
from pellucid.training.recipes.quickstart import LADDERS, LANGUAGES, SPLITS, Start, quickstart

FLOORS = {"held_out": 0.95, "combinations": 0.90, "paraphrases": 0.90, "lengths": 0.90}
NUM_QUESTIONS = 300


def run_apart(out: Path, cell: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """Run one quickstart in its own process, unless its exam is already there."""
    name = "-".join(str(value) for value in cell.values())
    folder = out / name
    if not (folder / "exam.json").is_file():
        start = {**cell, "threads": threads}
        command = [sys.executable, __file__, "--out", str(folder), "--one", json.dumps(start)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(f"{name} failed:\n{ran.stderr[-2000:]}")
    found = {"name": name, **cell, **read_exam(folder)}
    print_row(found)
    return found


def read_exam(folder: Path) -> dict[str, Any]:
    """Shares of right answers by split and language, the best control of each split, and the seconds of training."""
    exam = json.loads((folder / "exam.json").read_text(encoding="utf-8"))
    rows = {(row["split"], row["value"]): row["accuracy"] for row in exam["rows"] if row["group"] == "language"}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "shares": {split: {language: rows[split, language] for language in LANGUAGES} for split in SPLITS},
        "controls": {
            split: max(
                row["accuracy"]
                for control in exam["controls"].values()
                for row in control
                if (row["split"], row["group"]) == (split, "all")
            )
            for split in SPLITS
        },
        "seconds": max(line["seconds"] for line in lines if line["kind"] == "train"),
    }


def print_row(found: dict[str, Any]) -> None:
    """Print one run as a line of a Markdown table, as soon as it is done."""
    shares = (" / ".join(f"{100 * found['shares'][split][language]:.0f}" for language in LANGUAGES) for split in SPLITS)
    controls = " ".join(f"{100 * share:.0f}" for share in found["controls"].values())
    cells = [found["name"], *shares, controls, f"{found['seconds']:.0f} s"]
    print("| " + " | ".join(cells) + " |", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the directory of all runs")
    parser.add_argument("--level", type=int, choices=sorted(LADDERS), default=0)
    parser.add_argument("--sizes", nargs="+", default=["medium"], help="sizes of the ladder")
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side, one thread each")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        quickstart(given.out, start=Start(**json.loads(given.one)), num_questions=NUM_QUESTIONS)
        return
    cells = [
        {"level": given.level, "size": size, "precision": precision, "seed": seed}
        for size, precision, seed in itertools.product(given.sizes, given.precisions, given.seeds)
    ]
    threads = 1 if given.at_once > 1 else None
    print(f"| level-size-precision-seed | {' | '.join(SPLITS)} | best control | training |", file=sys.stderr)
    with ThreadPoolExecutor(given.at_once) as workers:
        found = list(workers.map(lambda cell: run_apart(given.out, cell, threads), cells))
    floors = [
        Floor(what=f"{run['name']} {split} {language}", measured=run["shares"][split][language], floor=FLOORS[split])
        for run in found
        for split in SPLITS
        for language in LANGUAGES
    ]
    finish({run["name"]: run for run in found}, floors)


if __name__ == "__main__":
    main()
