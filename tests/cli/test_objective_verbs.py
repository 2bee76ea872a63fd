"""A masked objective on the command line: trained on a text file, measured under its own name, refused where it cannot be."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe

TEXT = "The cat sat on the mat. 小猫坐在垫子上。\n" * 60
SMALL = [
    *("--steps", "40", "--threads", "1", "--device", "cpu", "--depth", "1", "--vocab-size", "302"),
    *("--set", "compile=off", "--set", "batch.tokens=256"),
    *(
        word
        for axis in ("n_heads=2", "n_kv_heads=1", "head_dim=8", "d_model=16", "d_ff=24", "context_length=16")
        for word in ("--set", f"model.{axis}")
    ),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No measuring and no drawing: neither is asked about here."""
    rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
    monkeypatch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
    monkeypatch.setattr(recipe, "draw_loss", lambda run: None)
    yield


def test_a_masked_model_is_trained_and_measured(run, tmp_path: Path) -> None:
    book, out = tmp_path / "book.txt", tmp_path / "run"
    book.write_text(TEXT, encoding="utf-8")
    trained = run(*("train", book, "--out", out, *SMALL, "--why"), *("--set", "objective=masked"))
    assert trained.code == 0, trained.err
    told = trained.out + trained.err
    assert "validation loss of the objective masked" in told and "perplexity" not in told
    assert "the objective predicts from both sides" in told
    assert "pellucid generate" not in trained.out and "pellucid eval" in trained.out
    [line] = [line for line in trained.out.splitlines() if line.startswith("next:")]
    filled = run(*shlex.split(line.removeprefix("next:"))[1:])
    assert " fill " in line and filled.code == 0, "what is said to come next works"
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert losses[-1] < 0.7 * losses[0]

    measured = run("eval", out, book)
    assert measured.code == 0 and "loss of the objective masked, which is not the likelihood" in measured.out
    assert "perplexity" not in measured.out and "bits/byte" not in measured.out
    assert "词元" in run("eval", out, book, "--lang", "zh").out
    (figures,) = json.loads(run("eval", out, book, "--json").out)
    assert figures["objective"] == "masked" and 0 <= figures["accuracy"] <= 1 and "perplexity" not in figures


def test_what_a_masked_model_cannot_do_is_said(run, tmp_path: Path) -> None:
    book, out = tmp_path / "book.txt", tmp_path / "run"
    book.write_text(TEXT, encoding="utf-8")
    assert run("train", book, "--out", out, *SMALL, "--steps", "2", "--set", "objective=masked").code == 0
    surprising = run("eval", out, book, "--surprising", "3")
    assert surprising.code != 0 and "it sees the whole row" in surprising.err
    converted = run("convert", out, tmp_path / "copy", "--measure", book)
    assert converted.code != 0 and "no bits per byte" in converted.err and not (tmp_path / "copy").exists()
    assert run("generate", out, "The cat").code != 0


def test_settings_of_another_objective_are_refused(run, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text(TEXT, encoding="utf-8")
    unknown = run("train", book, "--out", tmp_path / "run", *SMALL, "--set", "objective=maskd")
    assert unknown.code == 2 and "did you mean 'masked'?" in unknown.err
    other = run(
        "train", book, "--out", tmp_path / "run", *SMALL, "--set", "objective=causal", "--set", "objective.share=1"
    )
    assert other.code == 2 and "objective of the kind causal has no share" in other.err
    assert not (tmp_path / "run").exists()
