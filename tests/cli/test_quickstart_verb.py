"""`pellucid quickstart` on the command line: what it hands on, and how it ends. What it does: tests/training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pellucid.training.recipes import quickstart as recipe
from pellucid.training.recipes.pretrain import Finished


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[recipe.Start]:
    """A quickstart that a signal stops after seven steps, and what it was asked for."""
    asked: list[recipe.Start] = []

    def quickstart(out: Path, *, start: recipe.Start, recorder: Any) -> recipe.Outcome:
        asked.append(start)
        finished = Finished(
            out=out, step=7, steps=9, reason="SIGINT", checkpoint=None, best=None, objective="causal", opening=""
        )
        return recipe.Outcome(finished=finished, size="small", score=None, answers=(), continuations=())

    monkeypatch.setattr(recipe, "quickstart", quickstart)
    return asked


def test_one_that_a_signal_stopped_says_how_to_go_on_and_exits_like_other_programs(
    run, stopped, tmp_path: Path
) -> None:
    code, out, _ = run("quickstart", "--out", str(tmp_path / "run"))
    assert code == 130 and "stopped after step 7; everything is saved. Repeat the command to go on." in out
    ended = run("quickstart", "--out", str(tmp_path / "run"), "--json")
    assert ended.code == 130 and json.loads(ended.out)["reason"] == "SIGINT"


def test_what_is_asked_for_is_handed_on(run, stopped, tmp_path: Path) -> None:
    flags = [
        "--seed",
        "7",
        "--level",
        "1",
        "--size",
        "large",
        "--precision",
        "fp32",
        "--threads",
        "2",
        "--device",
        "cpu",
    ]
    run("quickstart", "--out", str(tmp_path / "run"), *flags)
    run("quickstart", "--out", str(tmp_path / "run"))
    wanted = recipe.Start(seed=7, level=1, size="large", precision="fp32", threads=2, device="cpu")
    assert stopped == [wanted, recipe.Start(seed=1337)]


def test_an_empty_path_is_no_place(run, stopped) -> None:
    """As `--out "$DIR"` gives where the variable is not set: the run would lie in the current directory."""
    code, _, err = run("quickstart", "--out", "")
    assert code == 2 and "the path is empty" in err and not stopped
    assert "路径是空的" in run("train", "book.txt", "--out", "", "--lang", "zh").err


@pytest.mark.parametrize("verb", [("train",), ("tokenizer", "train")])
def test_an_empty_name_is_not_the_current_folder(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb) -> None:
    (tmp_path / "words.txt").write_text("some words here to read " * 40, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*verb, "", "--out", str(tmp_path / "out"))
    assert code != 0 and "the name of the text is empty" in err
