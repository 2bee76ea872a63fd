"""Whether `pellucid train TEXT --minutes M` chooses well: its result beside the best of a sweep over size and passes.

    python benchmarks/own_text.py --data BOOK.txt --bytes 20000 1000000 --minutes 1 5

For each length of text (the first so many bytes of the data) and each time, one run uses the plan. Then the sweep runs
every depth and number of epochs in the same wall-clock time, each in a fresh process. The measure is bits per byte of
the best checkpoint on the whole held-out part; both sides choose their checkpoint on a share of that part. When the
time does not allow a number of epochs, each depth is run once with as many as fit.

Promised: the plan is within 3 % of the best of the sweep. If it is not, the table of size, epochs and dropout of every
run shows which constant of `planning.repetition` to change. Run it on a machine that does nothing else: on a busy one
some runs read less text than others. (With `--threads 1` and a core to itself, steady work on another core affects all
runs equally.)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contest import Floor, finish
from pellucid.data.loader import windows
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.prepare import open_prepared
from pellucid.evaluate.likelihood import measure_likelihood
from pellucid.events import MemoryRecorder
from pellucid.planning.flops import count_flops
from pellucid.planning.params import count_parameters
from pellucid.planning.repetition import DROPOUT_TIME
from pellucid.planning.scaling import from_depth
from pellucid.settings import Layer, resolve
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.run import Run, SavedStep
from pellucid.training.recipes.pretrain import Pretraining, pretrain
from pellucid.training.settings import TrainSettings

WITHIN = 1.03
EVAL_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The depths and numbers of epochs that are tried beside the plan."""

    depths: Sequence[int]
    passes: Sequence[float]
    dropouts: Sequence[float]
    weight_decays: Sequence[float]

    def cells(self, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The settings of each run; epochs beyond what the plan's rate allows become one run for each depth."""
        for depth in self.depths:
            for dropout in self.dropouts:
                for decay in self.weight_decays:
                    for passes in self.passes:
                        yield {
                            "epochs": passes,
                            "model": {"depth": depth, "dropout": dropout},
                            "optimizer": {"weight_decay": decay},
                        }
                        if passes >= passes_in_time(plan, depth, dropout):
                            break


def passes_in_time(plan: dict[str, Any], depth: int, dropout: float) -> float:
    """About how many epochs a depth has time for, estimated from the FLOPs that the planned run really did."""
    config = from_depth(depth, vocab_size=plan["vocab_size"], context_length=plan["context_length"]).config
    flops = count_flops(config).training * (DROPOUT_TIME if dropout else 1)
    return plan["flops_per_second"] * plan["budget_seconds"] / flops / plan["train_tokens"]


def train_once(text: Path, out: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Do one run in this process; return its results."""
    heard = MemoryRecorder()
    task = Pretraining(text=text, out=out, resolved=resolve(TrainSettings, Layer("benchmark", values)))
    finished = pretrain(task, recorder=heard)
    run, prepared = Run.open(out), open_prepared(out / "data")
    assert finished.best is not None and prepared.valid is not None, "a text of this length has a held-out part"
    last = run.latest()
    assert last is not None
    plan = run.identity["plan"]
    rows = [row for row in run.read_metrics() if row["kind"] == "train"]
    measured = next(event.data for event in heard.events if event.name == "training.measured")
    config = load_checkpoint(last.directory).config
    return {
        "bits_per_byte": bits_per_byte(finished.best, prepared.valid),
        "of_the_last_model": bits_per_byte(last, prepared.valid),
        "best_step": finished.best.step,
        "steps": finished.steps,
        "parameters": count_parameters(config).total,
        "depth": config.n_layers,
        "d_model": config.d_model,
        "dropout": config.dropout,
        "passes": finished.steps * plan["rows"] * config.context_length / prepared.train.num_tokens,
        "rows": plan["rows"],
        "compiled": plan["compiled"],
        "planned_seconds": plan["estimated_seconds"],
        "seconds": rows[-1]["seconds"],
        "lengths": run.read_lengths(),
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "train_tokens": prepared.train.num_tokens,
        "budget_seconds": plan["budget_seconds"],
        "flops_per_second": measured["training_flops_per_second"],
    }


def bits_per_byte(saved: SavedStep, valid: Any) -> float:
    """Bits per byte of a checkpoint on the whole held-out part."""
    checkpoint = load_checkpoint(saved.directory)
    batches = windows(valid, checkpoint.config.context_length, rows=EVAL_ROWS)
    return measure_likelihood(
        load_model(checkpoint).eval(), batches, objective=CausalObjective(), num_bytes=valid.num_bytes
    ).bits_per_byte


def run_apart(text: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Do one run in its own process, in a directory that is deleted."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--data", str(text), "--one", json.dumps(values), "--out", f"{folder}/run"]
        ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{values} failed:\n{ran.stderr[-2000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def contest(text: Path, base: dict[str, Any], sweep: Sweep) -> dict[str, Any]:
    """Do the plan's run and every run of the sweep, in the same time; `base` has the settings of all runs."""
    planned = run_apart(text, base)
    print_row("plan", planned)
    runs = []
    for cell in sweep.cells(planned):
        found = run_apart(text, base | cell)
        print_row("sweep", found)
        runs.append({"settings": cell, **found})
    best = min(runs, key=lambda one: one["bits_per_byte"])
    return {"plan": planned, "best": best, "ratio": planned["bits_per_byte"] / best["bits_per_byte"], "sweep": runs}


def print_row(name: str, found: dict[str, Any]) -> None:
    """Print one run as a line, as soon as it is done."""
    print(
        f"{name:<6} depth {found['depth']:>2}  {found['parameters']:>11,} parameters  {found['passes']:>7.2f} passes"
        f"  dropout {found['dropout']:.1f}  {found['bits_per_byte']:.4f} bits per byte at step {found['best_step']} of"
        f" {found['steps']} (last {found['of_the_last_model']:.4f})  {found['seconds']:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def cut(data: Path, num_bytes: int, folder: Path) -> Path:
    """The first `num_bytes` bytes of the data, up to the last whole character."""
    with data.open("rb") as file:
        head = file.read(num_bytes)
    if len(head) < num_bytes:
        raise SystemExit(f"{data} has only {len(head):,} of {num_bytes:,} bytes")
    path = folder / f"{num_bytes}.txt"
    path.write_text(head.decode("utf-8", errors="ignore"), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a text; the contests take its beginning")
    parser.add_argument("--bytes", type=int, nargs="+", default=[20_000, 1_000_000], help="lengths of text")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 5.0])
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 3, 4, 6])
    parser.add_argument("--passes", type=float, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--dropouts", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--weight-decays", type=float, nargs="+", default=[0.0])
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--threads", type=int, help="of every run (none: all cores)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(train_once(given.data, given.out, json.loads(given.one))))
        return
    sweep = Sweep(
        depths=given.depths,
        passes=sorted(given.passes),
        dropouts=given.dropouts,
        weight_decays=given.weight_decays,
    )
    report, floors = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for num_bytes in given.bytes:
            text = cut(given.data, num_bytes, Path(folder))
            for minutes in given.minutes:
                name = f"{num_bytes:,} bytes, {minutes:g} min: bits per byte, the plan's over the sweep's best"
                print(name, file=sys.stderr)
                base = {"minutes": minutes, "seed": given.seed, "threads": given.threads}
                report[name] = contest(text, base, sweep)
                floors.append(Floor(what=name, measured=report[name]["ratio"], floor=WITHIN, at_most=True))
    finish(report, floors)


if __name__ == "__main__":
    main()
