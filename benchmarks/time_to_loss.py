"""How long from a text file to a model of a given loss, beside nanoGPT: tiny Shakespeare, character by character.

    python benchmarks/time_to_loss.py --data tinyshakespeare.txt --recipe cpu [--seeds 5] [--nanogpt DIR]

The time is measured from the start of a fresh process to the last update. It includes importing, reading, tokenizer,
split, tokens, compiling and training, but not evaluation. The loss is nats per character over the whole validation part
(the last tenth of the text: 111,540 characters), in windows of the training context at stride = context, computed in
fp32 from the fp32 master weights of the last step. The end mark of the text is predicted too, and its loss is added.
Every parameter counts, also the 256 byte rows that the character tokenizer holds for unseen characters. No averaging of
weights, no averaging over seeds before the loss is taken, nothing learned at test time.

Targets: nanoGPT's CPU recipe reaches 1.886 with 795,904 parameters, its GPU recipe 1.4697 at best with 10,646,784; it
does not count its position embeddings in these figures, which is the stricter bound for the models here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import nanogpt
from pellucid.data.loader import Loader, windows
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.prepare import Prepared, prepare
from pellucid.data.settings import DataSettings
from pellucid.data.shards import TokenShards
from pellucid.data.source import open_source
from pellucid.evaluate.likelihood import measure_likelihood
from pellucid.model.build import build
from pellucid.model.device import choose_dtype, use_threads
from pellucid.planning.config import ModelConfig
from pellucid.planning.machine import inspect_machine
from pellucid.planning.params import count_parameters
from pellucid.tokens.choose import train_tokenizer
from pellucid.tokens.settings import TokenizerSettings
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.loop import Pace, Trainer
from pellucid.training.repeatable import use_determinism
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

EVAL_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe: model, batch size and steps, learning rates, and the target loss and number of parameters."""

    model: ModelConfig  # vocab_size is the tokenizer's
    rows: int
    steps: int
    compiled: bool
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    target_loss: float
    most_parameters: int


RECIPES = {
    "cpu": Recipe(
        model=ModelConfig(
            context_length=64, n_layers=3, n_heads=2, n_kv_heads=2, head_dim=64, d_model=128, d_ff=256, tied_head=False
        ),
        rows=24,
        steps=120,
        compiled=False,
        optimizer=OptimizerSettings(momentum=0.85, muon_rate=0.05, embedding_rate=0.1, head_rate=0.01),
        schedule=ScheduleSettings(),
        target_loss=1.886,
        most_parameters=795_904,
    ),
    "gpu": Recipe(
        model=ModelConfig(
            context_length=256, n_layers=6, n_heads=6, n_kv_heads=6, head_dim=64, d_model=384, d_ff=976, tied_head=False
        ),
        rows=32,
        steps=290,
        compiled=True,
        optimizer=OptimizerSettings(momentum=0.95, muon_rate=0.02, embedding_rate=0.3, head_rate=0.01),
        schedule=ScheduleSettings(),
        target_loss=1.4697,
        most_parameters=10_646_784,
    ),
}


def train_once(recipe: Recipe, data: Path, seed: int, started: float) -> dict[str, object]:
    """Do one run in this process, which began at `started` (seconds since the epoch)."""
    machine, device = inspect_machine(), torch.device("cpu")
    threads, dtype = use_threads(None, machine), choose_dtype("auto", device, machine)
    use_determinism(True)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, prepared = prepare_characters(data, Path(folder))
        config = dataclasses.replace(recipe.model, vocab_size=tokenizer.vocab_size)
        trainer = build_trainer(recipe, config, Loader(prepared.train, config.context_length, seed), seed, dtype)
        ready = time.time()
        for _ in range(recipe.steps):
            trainer.update()
        ended = time.time()
        loss, num_characters = validation_loss(trainer, config, prepared.valid, tokenizer)
    return {
        "seed": seed,
        "seconds": round(ended - started, 2),
        "seconds_before_the_first_step": round(ready - started, 2),
        "seconds_of_evaluation_left_out": round(time.time() - ended, 2),
        "loss": round(loss, 5),
        "characters_scored": num_characters,
        "vocab_size": config.vocab_size,
        "parameters": count_parameters(config).total,
        "trained_in": str(dtype).removeprefix("torch."),
        "evaluated_in": "float32",
        "threads": threads,
    }


def prepare_characters(data: Path, folder: Path) -> tuple[Tokenizer, Prepared]:
    """Make a character tokenizer and tokens on disk; the last tenth of the text is held out."""
    source = open_source(data)
    num_bytes = source.survey.num_bytes
    texts = (document.text for document in source.documents())
    tokenizer = train_tokenizer(texts, num_bytes, TokenizerSettings(kind="char"))
    return tokenizer, prepare(source, tokenizer, folder / "data", DataSettings(report_duplicates=False))


def validation_loss(
    trainer: Trainer, config: ModelConfig, valid: TokenShards, tokenizer: Tokenizer
) -> tuple[float, int]:
    """(nats per character of the whole validation part under the fp32 master weights, number of characters)."""
    model = build(config, seed=0)
    with torch.no_grad():
        for name, view in trainer.arena.named(trainer.arena.master):
            model.get_parameter(name).copy_(view)
    batches = windows(valid, config.context_length, rows=EVAL_ROWS)
    likelihood = measure_likelihood(model, batches, objective=CausalObjective(), num_bytes=valid.num_bytes)
    num_characters = len(tokenizer.decode(valid.tokens(0, valid.num_tokens)))
    return likelihood.nats / num_characters, num_characters


def build_trainer(recipe: Recipe, config: ModelConfig, loader: Loader, seed: int, dtype: torch.dtype) -> Trainer:
    """The trainer that `pellucid train` builds, with this recipe's figures."""
    return Trainer(
        build(config, seed=seed),
        loader,
        Pace(steps=recipe.steps, rows=recipe.rows, micro_rows=recipe.rows),
        objective=CausalObjective(),
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        seed=seed,
        compute_dtype=dtype,
        compiled=recipe.compiled,
    )


def run_seed(name: str, recipe: Recipe, data: Path, seed: int) -> dict[str, object]:
    """Run one seed in its own process; `recipe` includes the changes of the command line."""
    changed = json.dumps({"steps": recipe.steps, "compiled": recipe.compiled})
    command = [sys.executable, __file__, "--data", str(data), "--recipe", name, "--one", changed, "--seed", str(seed)]
    ran = subprocess.run([*command, "--started", repr(time.time())], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"seed {seed} failed:\n{ran.stderr[-2000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def summary(name: str, recipe: Recipe, runs: list[dict], peer: dict[str, float] | None) -> dict[str, object]:
    """All runs and their summary."""
    seconds = [run["seconds"] for run in runs]
    losses = [run["loss"] for run in runs]
    median = statistics.median(seconds)
    report: dict[str, object] = {
        "recipe": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch": torch.__version__,
        "target_loss": recipe.target_loss,
        "most_parameters": recipe.most_parameters,
        "seconds_median": median,
        "loss_worst": max(losses),
        "loss_mean": round(statistics.fmean(losses), 5),
        "loss_deviation": round(statistics.stdev(losses), 5) if len(losses) > 1 else math.nan,
        "all_reach_the_target": max(losses) <= recipe.target_loss,
        "no_more_parameters": runs[0]["parameters"] <= recipe.most_parameters,
    }
    if peer is not None:
        report |= {"nanogpt": peer, "times_faster": round(peer["seconds"] / median, 2)}
    settings = dataclasses.asdict(recipe)
    settings["model"]["vocab_size"] = runs[0]["vocab_size"]
    return {**report, "runs": runs, "settings": settings}


def print_table(report: dict) -> None:
    """Print the summary in a few lines for people."""
    print(f"\n{'seed':>6} {'seconds':>9} {'loss':>9} {'parameters':>12}")
    for run in report["runs"]:
        print(f"{run['seed']:>6} {run['seconds']:>9.2f} {run['loss']:>9.4f} {run['parameters']:>12,}")
    reached = "reached by every seed" if report["all_reach_the_target"] else "NOT reached by every seed"
    print(f"target {report['target_loss']}: {reached}; median {report['seconds_median']:.2f} s")
    peer = report.get("nanogpt")
    if peer:
        loss = f", loss {peer['loss']:.4f}" if "loss" in peer else ", estimated to its best step"
        print(f"nanoGPT {peer['seconds']:.1f} s{loss}: {report['times_faster']} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="tinyshakespeare.txt")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="cpu")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from 1, each in a fresh process")
    parser.add_argument("--steps", type=int, help="another number of updates than the recipe's (to try the program)")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--nanogpt", type=Path, metavar="DIR", help="a checkout of karpathy/nanoGPT to run beside it")
    parser.add_argument("--nanogpt-steps", type=int, help="steps to run of it (default: 2,000 of cpu, 10 of gpu)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    recipe = RECIPES[given.recipe]
    if given.one:
        recipe = dataclasses.replace(recipe, **json.loads(given.one))
        print(json.dumps(train_once(recipe, given.data, given.seed, given.started)))
        return
    recipe = dataclasses.replace(
        recipe, steps=given.steps or recipe.steps, compiled=recipe.compiled and not given.eager
    )
    peer = run_peer(given.recipe, given.nanogpt, given.data, given.nanogpt_steps) if given.nanogpt else None
    runs = [run_seed(given.recipe, recipe, given.data, seed) for seed in range(1, given.seeds + 1)]
    report = summary(given.recipe, recipe, runs, peer)
    print(json.dumps(report, indent=2))
    print_table(report)


def run_peer(name: str, checkout: Path, data: Path, steps: int | None) -> dict[str, float]:
    """Run nanoGPT's recipe of the same name."""
    with tempfile.TemporaryDirectory() as folder:
        copy = nanogpt.prepare(checkout, data, Path(folder))
        if name == "cpu":
            return nanogpt.run_cpu_recipe(copy, steps or 2000)
        return nanogpt.time_gpu_recipe(copy, steps or 10)


if __name__ == "__main__":
    main()
