"""A draft on the command line: trained for a model, named beside it, and the same text sooner or later."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe

HERE = ("--threads", "1", "--device", "cpu")


def test_what_is_said_to_come_next_works(run, directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
    monkeypatch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
    monkeypatch.setattr(recipe, "draw_loss", lambda run: None)
    book, out = tmp_path / "book.txt", tmp_path / "draft"
    book.write_text("the cat sat. 猫坐着。\n" * 300, encoding="utf-8")
    trained = run("train", book, "--draft-of", directory, "--out", out, "--steps", "2", "--set", "batch.rows=4", *HERE)
    assert trained.code == 0, trained.err
    assert "validation loss of the objective distilled" in trained.out + trained.err
    [line] = [line for line in trained.out.splitlines() if line.startswith("next:")]
    command = [*shlex.split(line.removeprefix("next:"))[1:], "--seed", "1", "--max-new-tokens", "6", *HERE]
    assert command[:2] == ["generate", directory] and "--draft" in command
    ahead = run(*command)
    draft = command.index("--draft")
    plain = run(*command[:draft], *command[draft + 2 :])
    assert (ahead.code, plain.code) == (0, 0) and ahead.out == plain.out
    assert "proposed token" in ahead.err


def test_a_text_is_missing_only_where_there_is_nothing_else_to_read(run, directory: str, tmp_path: Path) -> None:
    missing = run("train", "--out", tmp_path / "run")
    assert missing.code == 2 and "Missing argument 'TEXT'." in missing.err
    alone = run("train", "--draft-of", directory, "--out", tmp_path / "run", *HERE)
    assert alone.code == 3 and "the text that this model was trained on is not at hand" in alone.err
