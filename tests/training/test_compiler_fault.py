"""A compiler that errs: GCC 12, told to compile for any AVX-512 processor, makes a backward pass with NaN in it.

A fresh process trains, as a person would: where warnings are errors, torch's compiler does not get through. What it
compiles is kept in pytest's own cache, so that only the first run of the tests waits for it (a minute or two).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pellucid.planning.machine import inspect_machine
from pellucid.training.compiler import CACHE_VARIABLE, MARCH_VARIABLE, compiler_name, other_marches

FAULTY = "x86-64-v4"
PROGRAM = """
import random, sys
from pathlib import Path
import numpy, torch
from pellucid.settings import Layer, resolve
from pellucid.training.loop import Trainer
from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.settings import TrainSettings

honest = Trainer.settle
def watched(self, **options):
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist(), self.arena.master.clone()
    fault = honest(self, **options)
    after = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist(), self.arena.master
    assert torch.equal(before[0], after[0]) and before[1:3] == after[1:3] and torch.equal(before[3], after[3])
    torch._dynamo.config.error_on_recompile = True  # what was compared is what runs
    return fault
Trainer.settle = watched
make_plan.measure_training = lambda *arguments, **options: Rates(training_flops_per_second=1e10, determinism_cost=0.0)
recipe.draw_loss = lambda run: None
values = {"device": "cpu", "threads": 1, "steps": 3, "precision": "bf16", "compile": "on",
          "tokenizer": {"vocab_size": 300}, "model": {"depth": 2, "context_length": 256},
          "batch": {"tokens": 2048}, "evaluation": {"every_steps": 3}}
recipe.pretrain(recipe.Pretraining(text=Path(sys.argv[1]), out=Path(sys.argv[2]),
                                   resolved=resolve(TrainSettings, Layer("test", values))))
"""


def why_not() -> str:
    """Why the fault cannot appear here."""
    if not re.match(r"(g\+\+|c\+\+) 12\.", compiler_name()):
        return f"the fault is GCC 12's; here is {compiler_name() or 'no compiler'}"
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or "avx512_bf16" not in inspect_machine().features:
        return "the fault is in code for AVX-512 with bfloat16"
    return "" if other_marches(FAULTY) else "this torch cannot be told another processor"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_run_goes_on_where_the_compiler_errs(tmp_path: Path, prose, request: pytest.FixtureRequest) -> None:
    text, out = tmp_path / "book.txt", tmp_path / "run"
    text.write_text(prose(20_000), encoding="utf-8")
    kept = request.config.cache.mkdir("compiled-steps")
    environment = os.environ | {MARCH_VARIABLE: FAULTY, CACHE_VARIABLE: str(kept), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(text), str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    [wrong] = [event for event in events if event["name"] == "training.disagrees"]
    assert FAULTY in wrong["message"] and "key_norm.weight is not finite" in wrong["message"]
    [right] = [event for event in events if event["name"] == "training.compiled"]
    plan = json.loads((out / "run.json").read_text())["plan"]
    assert plan["compiled"] and plan["march"] == right["data"]["march"] == other_marches(FAULTY)[0]
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if row["kind"] == "train"] == [1, 2, 3]
    assert all(row["skipped"] == 0 for row in steps if row["kind"] == "train")
    assert any(FAULTY in folder.name for folder in kept.iterdir())
