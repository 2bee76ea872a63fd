"""Runs whose steps are computed differently, each in a fresh process as a person would start it.

*Resume*: where a step is computed by two threads, or compiled, one process goes through the whole run, another stops in
the middle, a third goes on: weights, optimizers and metrics are equal to the bit. Processes are started anew, not forked:
both ways of computing start threads.

*A compiler that errs*: GCC 12, told to compile for any AVX-512 processor, makes a backward pass with NaN in it. The run
finds it and compiles for another processor; where that happened the resumed runs take up the same compiled steps.

Where warnings are errors, torch's compiler does not get through. What it compiles is kept in the user's cache: only the
first run of the tests waits for it (a minute).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
import torch

from pellucid.planning.machine import inspect_machine
from pellucid.store.checkpoint import load_checkpoint, load_training
from pellucid.store.run import Run
from pellucid.training.compiler import CACHE_VARIABLE, MARCH_VARIABLE, compiler_name, other_marches
from pellucid.training.metrics import without_wall_clock

FAULTY = "x86-64-v4"
NO_COMPILER = "torch.compile does not work here"  # says the trial compile of a run that was told to compile
PROGRAM = """
import json, random, sys
from pathlib import Path
import numpy, torch
from pellucid.settings import Layer, resolve
from pellucid.training.loop import Trainer
from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.session import Session
from pellucid.training.settings import TrainSettings

text, out, changes, last = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
honest = Trainer.settle
def watched(self, **options):
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist(), self.arena.master.clone()
    fault = honest(self, **options)
    after = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist(), self.arena.master
    assert torch.equal(before[0], after[0]) and before[1:3] == after[1:3] and torch.equal(before[3], after[3])
    torch._dynamo.config.error_on_recompile = True  # what was compared is what runs
    return fault
Trainer.settle = watched
after_step = Session._after_step
Session._after_step = lambda self, report: after_step(self, report) and report.step < last
make_plan.measure_training = lambda *arguments, **options: Rates(training_flops_per_second=1e10, determinism_cost=0.0)
recipe.draw_loss = lambda run: None
recipe.pretrain(recipe.Pretraining(text=text, out=out, resolved=resolve(TrainSettings, Layer("test", changes))))
"""
SETTINGS = {"device": "cpu", "steps": 6, "tokenizer": {"vocab_size": 322}, "evaluation": {"every_steps": 2}}
THREADS = SETTINGS | {
    "threads": 2,
    "compile": "off",
    "model": {"n_layers": 2, "d_model": 64, "n_heads": 2, "n_kv_heads": 1, "head_dim": 32, "d_ff": 128,
              "context_length": 32, "depth": 1, "dropout": 0.2},
    "batch": {"tokens": 1024, "micro_rows": 16},
}  # fmt: skip
COMPILED = SETTINGS | {
    "threads": 1,
    "compile": "on",
    # A processor without bf16 products takes a minute for each step in bf16, and shows no fault that fp32 does not.
    "precision": "bf16" if inspect_machine().has_bf16 else "fp32",
    "model": {"depth": 2, "context_length": 256, "dropout": 0.2},
    "batch": {"tokens": 2048},
}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory, prose) -> Path:
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(prose(20_000), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def kept() -> Path:
    """Where compiled steps are kept from one run of the tests to the next, whichever copy of the program runs them."""
    return platformdirs.user_cache_path("pellucid") / "tests" / "compiled-steps"


def train(book: Path, out: Path, settings: dict, last: int = 6, **variables: str) -> None:
    """Train in a fresh process up to a step; the test is skipped where nothing can be compiled."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(book), str(out), json.dumps(settings), str(last)]
    # Threads that wait asleep: on a busy machine spinning ones take ten times as long.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"} | variables
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    if NO_COMPILER in ended.stderr:
        pytest.skip(ended.stderr[ended.stderr.index(NO_COMPILER) :].splitlines()[0])
    assert ended.returncode == 0, ended.stderr


def why_not() -> str:
    """Why the fault cannot appear here."""
    if not re.match(r"(g\+\+|c\+\+) 12\.", compiler_name()):
        return f"the fault is GCC 12's; here is {compiler_name() or 'no compiler'}"
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or "avx512_bf16" not in inspect_machine().features:
        return "the fault is in code for AVX-512 with bfloat16"
    return "" if other_marches(FAULTY) else "this torch cannot be told another processor"


@pytest.fixture(scope="module")
def compiled_run(tmp_path_factory: pytest.TempPathFactory, book: Path, kept: Path) -> Path:
    """A whole run of compiled steps; where the compiler errs it has found that and compiled for another processor."""
    out = tmp_path_factory.mktemp("compiled") / "run"
    train(book, out, COMPILED, **{CACHE_VARIABLE: str(kept)}, **({} if why_not() else {MARCH_VARIABLE: FAULTY}))
    return out


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_run_goes_on_where_the_compiler_errs(compiled_run: Path, kept: Path) -> None:
    out = compiled_run
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    [wrong] = [event for event in events if event["name"] == "training.disagrees"]
    assert FAULTY in wrong["message"] and "key_norm.weight is not finite" in wrong["message"]
    [right] = [event for event in events if event["name"] == "training.compiled"]
    plan = json.loads((out / "run.json").read_text())["plan"]
    assert plan["compiled"] and plan["march"] == right["data"]["march"] == other_marches(FAULTY)[0]
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert all(row["skipped"] == 0 for row in steps if row["kind"] == "train")
    assert any(FAULTY in folder.name for folder in kept.iterdir())


def test_compiled_and_stopped_and_continued_equals_untouched(
    compiled_run: Path, tmp_path: Path, book: Path, kept: Path
) -> None:
    """What the untouched run had to find out, if the compiler errs, the others are told: all three compile the same."""
    march = "" if why_not() else other_marches(FAULTY)[0]
    stop_and_continue(
        book, tmp_path / "cut", COMPILED, **{CACHE_VARIABLE: str(kept)}, **({MARCH_VARIABLE: march} if march else {})
    )
    assert_same(compiled_run, tmp_path / "cut")
    fingerprint = load_training(compiled_run / "checkpoints/step-000006").state["fingerprint"]
    assert (fingerprint["threads"], fingerprint["compiled"]) == ("1", f"True for {march}" if march else "True")


def test_by_two_threads_and_stopped_and_continued_equals_untouched(tmp_path: Path, book: Path) -> None:
    train(book, tmp_path / "whole", THREADS)
    stop_and_continue(book, tmp_path / "cut", THREADS)
    assert_same(tmp_path / "whole", tmp_path / "cut")
    fingerprint = load_training(tmp_path / "whole" / "checkpoints/step-000006").state["fingerprint"]
    assert (fingerprint["threads"], fingerprint["compiled"]) == ("2", "False")


def stop_and_continue(book: Path, out: Path, settings: dict, **variables: str) -> None:
    """One process trains to the middle, another goes on to the end."""
    train(book, out, settings, last=3, **variables)
    stopped = Run.open(out).latest()
    assert stopped is not None and stopped.step < 6
    train(book, out, settings, **variables)


def assert_same(left: Path, right: Path) -> None:
    runs = Run.open(left), Run.open(right)
    directories = [one.path / "checkpoints/step-000006" for one in runs]
    training, other = map(load_training, directories)
    weights, others = ({**load_checkpoint(folder).weights} for folder in directories)
    assert weights.keys() == others.keys() and training.tensors.keys() == other.tensors.keys()
    for name, tensor in {**weights, **training.tensors}.items():
        assert torch.equal(tensor, {**others, **other.tensors}[name]), name
    assert training.state == other.state
    rows, other_rows = ([without_wall_clock(row) for row in run.read_metrics()] for run in runs)
    assert rows == other_rows
