"""Quickstart at a size of seconds: stories, tokenizer, model, exam; recorded, repeated, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.errors import ResumeError
from pellucid.events import MemoryRecorder
from pellucid.training.measure import Rates
from pellucid.training.recipes import quickstart as recipe
from pellucid.training.recipes.quickstart import LADDER, SPLITS, Rung, quickstart

TINY = Rung(
    name="small", least_flops_per_second=0.0, n_layers=2, d_model=32, n_heads=2, d_ff=48,
    corpus_bytes=60_000, steps=4, rows=2,
)  # fmt: skip


@pytest.fixture
def tiny_ladder(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    rates = Rates(training_flops_per_second=1e11, determinism_cost=0.0)
    monkeypatch.setattr(recipe, "measure_training", lambda *args, **options: rates)
    monkeypatch.setattr(recipe, "LADDER", (TINY,))


def run(out: Path, **options: object):
    return quickstart(out, device="cpu", threads=1, num_questions=6, **options)


@pytest.mark.usefixtures("tiny_ladder")
def test_it_leaves_stories_a_model_and_an_exam(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    outcome = run(tmp_path / "run", recorder=recorder)
    assert outcome.finished.step == 4 and outcome.rung == "small"
    stories = (tmp_path / "run" / "stories.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line)["text"] for line in stories.splitlines()]
    assert any("Where is" in row for row in rows) and any("在哪" in row for row in rows)
    assert set(outcome.score.totals) == set(SPLITS)
    for split in SPLITS:
        row = outcome.score.totals[split]
        assert row.count >= 6 and 0 <= row.low < row.high <= 1 and row.low - 1e-9 <= row.accuracy <= row.high + 1e-9
    assert {sample.story.language for sample in outcome.answers} == {"en", "zh"}
    assert len(outcome.continuations) == 2
    exam = json.loads((tmp_path / "run" / "exam.json").read_text(encoding="utf-8"))
    assert exam["controls"] and exam["rows"]
    choice = json.loads((tmp_path / "run" / "quickstart.json").read_text(encoding="utf-8"))
    assert choice["rung"] == "small" and choice["flops_per_second"] == 1e11
    assert "quickstart.rung" in recorder.names()


@pytest.mark.usefixtures("tiny_ladder")
def test_the_same_call_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "run")
    again = run(tmp_path / "run")
    assert again.finished.step == first.finished.step
    assert again.score.rows == first.score.rows and again.continuations == first.continuations
    with pytest.raises(ResumeError, match="another quickstart"):
        run(tmp_path / "run", seed=2)


def test_the_ladder_takes_every_machine_and_grows() -> None:
    assert LADDER[-1].least_flops_per_second == 0
    thresholds = [rung.least_flops_per_second for rung in LADDER]
    work = [rung.steps * rung.rows * rung.n_layers * rung.d_model**2 for rung in LADDER]
    assert thresholds == sorted(thresholds, reverse=True) and work == sorted(work, reverse=True)
    assert len({rung.name for rung in LADDER}) == len(LADDER)
