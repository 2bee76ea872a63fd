"""Nothing is silent for long: loading is said before it begins, and long work tells how far it is and how long it takes."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.cli import watch
from pellucid.cli.app import VERBS
from pellucid.cli.watch import watch_items
from pellucid.events import Event

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
OPENING = """
import sys
sys.modules["torch"] = None  # importing it now fails
from pellucid.cli.app import main
for arguments in (["generate", "RUN", "x"], ["eval", "RUN", "x"], ["search", "RUN", "x"], ["trace", "RUN", "x"],
                  ["bench", "RUN"], ["convert", "RUN", "x"], ["train", "RUN", "--out", "x"],
                  ["quickstart", "--out", "RUN"], ["learn", "draw"], ["learn", "letters"], ["plan", sys.argv[1]]):
    try:
        main(arguments)
    except ImportError:
        print("torch was wanted", file=sys.stderr)
"""


def test_a_verb_says_that_it_opens_a_model_before_it_waits_for_torch(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    command = [sys.executable, "-c", OPENING, str(tmp_path)]
    err = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stderr
    opened = [*["RUN"] * 8, "draw", "letters", str(tmp_path)]
    lines = [line for line in err.splitlines() if "--lang" not in line]
    assert lines == [line for name in opened for line in (f"· opening {name} …", "torch was wanted")]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines from the first moment on."""
    monkeypatch.setattr(watch, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(watch, "PLAIN_SECONDS", 0.0)


@pytest.mark.parametrize("verb", ["eval", "convert", "search", "bench", "tokenizer", "trace"])
def test_long_work_in_a_pipe_tells_how_far_it_is(run, directory, tmp_path, at_once, verb) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat. " * 40)
    arguments, labels = {
        "eval": (("eval", directory, text), ("tokens", "reading")),
        "convert": (("convert", directory, tmp_path / "m.gguf", "--measure", text), ("writing", "measuring m.gguf")),
        "search": (("search", directory, "the", "--max-new-tokens", 5), ("searching",)),
        "bench": (("bench", directory, "--rounds", 1, "--new-tokens", 2), ("measuring",)),
        "tokenizer": (("tokenizer", "train", text, "--out", tmp_path / "t"), ("counting",)),
        "trace": (("trace", directory, "the cat", "--html", tmp_path / "t.html"), ("recording",)),
    }[verb]
    code, _, err = run(*arguments)
    if verb == "trace" and "the lens's page is not built" in err:
        pytest.skip("the lens's page is not built")
    assert code == 0
    for label in labels:
        assert re.search(rf"^{label}: \d+%  \d+:\d\d left$", err, re.MULTILINE), label


def test_json_is_left_alone(run, directory, tmp_path, at_once) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat. " * 40)
    err = run("eval", directory, text, "--json").err
    assert "%" not in err and "opening" not in err


def test_short_work_says_nothing(capsys) -> None:
    assert list(watch_items("abc", 3, "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_an_item_counts_as_much_as_it_is_large(capsys, at_once) -> None:
    list(watch_items(["aaa", "b"], 4, "reading", size=len))
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["75%", "100%"]


def test_ticks_are_not_printed_as_events(capsys) -> None:
    from pellucid.cli.common import Terminal

    Terminal().record(Event(name="engine.progress", message="step 1 of 2"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("loss", "warned"), [(6.0, True), (5.0, False), (float("nan"), True)])
def test_the_size_of_the_vocabulary_is_what_guessing_costs(capsys, loss, warned) -> None:
    from pellucid.cli.eval import _warn
    from pellucid.evaluate.likelihood import Likelihood

    _warn("x[red].txt", Likelihood(nats=10 * loss, num_tokens=10, num_bytes=10), 280)  # ln 280 = 5.63
    told = f"x[red].txt: a perplexity of {math.exp(loss):.5g} is worse than guessing"
    assert (told in capsys.readouterr().err) == warned


def test_a_conversion_prints_no_empty_columns(run, directory, tmp_path) -> None:
    heading, *rows = run("convert", directory, tmp_path / "plain.gguf").out.strip().splitlines()
    assert heading.split() == ["model", "numbers", "MB"] and len(rows) == 2
    (tmp_path / "text.txt").write_text("the cat sat.")
    measured = (
        run("convert", directory, tmp_path / "m.gguf", "--measure", tmp_path / "text.txt").out.strip().splitlines()
    )
    assert measured[0].split() == ["model", "numbers", "MB", "bits/byte", "change"]
    assert measured[1].split()[-1] == "-" and measured[2].split()[-1].startswith(("+", "-0"))


def test_every_verb_has_its_page_in_the_guide() -> None:
    assert [verb for verb in VERBS if not (GUIDE / f"{verb}.md").is_file()] == []


def test_time_is_left_only_once_some_work_was_timed(capsys, monkeypatch, at_once) -> None:
    """What was done before anybody was told took a time that nobody measured."""
    now = iter([0.0, 100.0, 100.0, 100.0, 110.0, 110.0, 110.0])
    monkeypatch.setattr(watch.time, "monotonic", lambda: next(now))
    told = watch.Watch(quiet=False)
    for done in (50, 60):
        told.record(Event(name="data.progress", message="", data={"characters_done": done, "characters_total": 100}))
    assert capsys.readouterr().err.splitlines() == ["tokens: 50%", "tokens: 60%  0:40 left"]
