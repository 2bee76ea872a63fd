"""Exact resume where a step is computed differently: by two threads, and compiled.

A fresh process goes through the whole run, another stops in the middle, a third goes on: their weights, optimizers and
metrics are equal to the bit. Processes are started anew, not forked: both ways of computing start threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pellucid.store.checkpoint import load_checkpoint, load_training
from pellucid.store.run import Run
from pellucid.training.metrics import without_wall_clock

NO_COMPILER = "torch.compile does not work here"  # says the trial compile of a run that was told to compile
PROGRAM = """
import sys
from pathlib import Path
from pellucid.settings import Layer, resolve
from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.session import Session
from pellucid.training.settings import TrainSettings

text, out, way, last = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
make_plan.measure_training = lambda *arguments, **options: Rates(training_flops_per_second=1e10, determinism_cost=0.0)
recipe.draw_loss = lambda run: None
honest = Session._after_step
Session._after_step = lambda self, report: honest(self, report) and report.step < last
shape = {"n_layers": 2, "d_model": 64, "n_heads": 2, "n_kv_heads": 1, "head_dim": 32, "d_ff": 128,
         "context_length": 32, "depth": 1, "dropout": 0.2}
values = {"device": "cpu", "steps": 6, "tokenizer": {"vocab_size": 300}, "model": shape,
          "batch": {"tokens": 1024, "micro_rows": 16}, "evaluation": {"every_steps": 2}}
ways = {"threads": {"threads": 2, "compile": "off"}, "compiled": {"threads": 1, "compile": "on"}}
recipe.pretrain(recipe.Pretraining(text=text, out=out, resolved=resolve(TrainSettings, Layer("test", values | ways[way]))))
"""


@pytest.mark.parametrize("way", ["threads", "compiled"])
def test_stopped_and_continued_equals_untouched(way: str, tmp_path: Path, prose) -> None:
    text = tmp_path / "book.txt"
    text.write_text(prose(4000), encoding="utf-8")

    def train(out: Path, last: int) -> None:
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(text), str(out), way, str(last)]
        # Threads that wait asleep: on a busy machine spinning ones take ten times as long.
        ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
        if NO_COMPILER in ended.stderr:
            pytest.skip(ended.stderr[ended.stderr.index(NO_COMPILER) :].splitlines()[0])
        assert ended.returncode == 0, ended.stderr

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, 6)
    train(cut, 3)
    stopped = Run.open(cut).latest()
    assert stopped is not None and stopped.step < 6
    train(cut, 6)
    assert_same(whole, cut)
    fingerprint = load_training(whole / "checkpoints/step-000006").state["fingerprint"]
    assert (fingerprint["threads"], fingerprint["compiled"]) == (("2", "False") if way == "threads" else ("1", "True"))


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
