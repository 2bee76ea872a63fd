"""A person's own text: what the run says of it, before and after, and what it says of another one."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.api import load
from pellucid.cli.train import report
from pellucid.cli.watch import Watch
from pellucid.data.source import open_source
from pellucid.errors import ResumeError
from pellucid.events import MemoryRecorder
from pellucid.store.run import Run
from pellucid.training.opening import first_words
from pellucid.training.other_text import propose_directory
from pellucid.training.recipes.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("quick")
ENGLISH = "“Whose house is this?” she asked the old dog, and the cat didn't answer.\n\n* * *\n\n— It's mine; $HOME is `here`!\n"
WILD = {
    "optimizer": {"tied_rate": 0.5},
    "schedule": {"cooldown_share": 0.0, "warmup_share": 0.9},
}  # rises till it breaks
CHINESE = "　　却说孙行者与八戒沙僧，护持三藏上大路，行了半日。\n　　正走处，忽见一座高山。\n"


def train(tmp_path: Path, task, text: str, name: str = "run", **changes):
    book = tmp_path / f"{name} book.txt"
    book.write_text(text, encoding="utf-8")
    return pretrain(task(book, tmp_path / name, **changes))


@pytest.mark.parametrize(
    "text", [ENGLISH * 20, CHINESE * 30, "\n".join(["12 * 7 = 84"] * 90), "مرحبا بالعالم كله هنا\n" * 60]
)
def test_the_next_command_quotes_the_text_itself(text: str, tmp_path: Path, task, capsys) -> None:
    finished = train(tmp_path, task, text, "my run")
    assert finished.opening and finished.opening in text and "Once upon" not in finished.opening
    report(finished, as_json=False)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    words = shlex.split(line.removeprefix("next:"))
    assert words == ["pellucid", "generate", str(tmp_path / "my run"), finished.opening]


def test_rows_are_quoted_from_their_beginning(tmp_path: Path, task) -> None:
    book = tmp_path / "rows.jsonl"
    rows = (json.dumps({"text": f"Number {number} is a row of words, all on one line."}) for number in range(200))
    book.write_text("\n".join(rows))
    opening = pretrain(task(book, tmp_path / "run")).opening
    assert opening.startswith("Number ") and opening.endswith("is a")


def test_a_text_without_words_gives_a_command_without_a_prompt(tmp_path: Path, task, capsys) -> None:
    finished = train(tmp_path, task, "*** --- !!! ???\n" * 80)
    report(finished, as_json=False)
    assert (
        finished.opening == ""
        and f"next:  {shlex.join(['pellucid', 'generate', str(finished.out)])}\n" in capsys.readouterr().out
    )


@given(line=st.text(max_size=80))
def test_first_words_are_the_lines_own_and_safe_to_type(line: str) -> None:
    found = first_words(line)
    assert len(found) <= 60 and found.split() == found.strip().split()
    if found:
        assert found[0].isalnum() and "".join(found.split()) in "".join(line.split())
        assert all(sign.isprintable() for sign in found)


def test_the_best_model_is_used_and_named(tmp_path: Path, task, capsys, prose) -> None:
    """A run that gets worse again: the best model lies in the middle, and everything that reads takes it."""
    wild = {**WILD, "saving": {"keep_last": 1}}
    finished = train(tmp_path, task, prose(900), steps=12, **wild)
    best = Run.open(finished.out).best()
    assert finished.best == best and best.step < 12
    report(finished, as_json=False)
    assert f"the best model on validation text is that of step {best.step}" in capsys.readouterr().out
    heard = MemoryRecorder()
    assert load(finished.out, device="cpu", recorder=heard).checkpoint.info["step"] == best.step
    [event] = [event for event in heard.events if event.name == "store.checkpoint_chosen"]
    assert f"step {best.step}, the best on validation text" in event.message
    assert load(finished.out / "latest", device="cpu").checkpoint.info["step"] == 12
    again = train(tmp_path, task, prose(900), steps=12, **wild)
    assert again.step == 12, "a run goes on from its last model, not from its best"


def test_starting_from_a_run_takes_its_best_model_and_says_so(tmp_path: Path, task, prose) -> None:
    parent = train(tmp_path, task, prose(900), steps=12, **WILD)
    open_axes = dict.fromkeys(
        ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "context_length", "depth")
    )
    child = task(tmp_path / "run book.txt", tmp_path / "child", steps=1, model=open_axes)
    heard = MemoryRecorder()
    pretrain(dataclasses.replace(child, start_from=parent.out), recorder=heard)
    [ancestor] = load(tmp_path / "child", device="cpu").checkpoint.info["lineage"]
    assert ancestor["step"] == parent.best.step < 12 and "store.checkpoint_chosen" in heard.names()


def test_another_text_is_named_and_sent_elsewhere(tmp_path: Path, task, prose) -> None:
    train(tmp_path, task, prose(900), "first")
    other = tmp_path / "Другая книга.txt"
    other.write_text(prose(500, seed=3), encoding="utf-8")
    before = {path: path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()}
    for changes in ({}, {"seed": 5}):  # the text is what matters, whatever else differs
        with pytest.raises(ResumeError, match="not the one this run began with") as caught:
            pretrain(task(other, tmp_path / "first", **changes))
        assert "Другая книга.txt" in caught.value.found and "first book.txt" in caught.value.found
        assert str(tmp_path / "Другая-книга") in caught.value.hint and "--from" not in caught.value.hint
    assert {path: path.read_bytes() for path in before} == before


def test_a_text_that_was_changed_is_said_to_have_changed(tmp_path: Path, task, prose) -> None:
    train(tmp_path, task, prose(900))
    with pytest.raises(ResumeError) as caught:
        train(tmp_path, task, prose(901))
    assert "has changed" in caught.value.found and "--from" in caught.value.hint
    free = propose_directory(tmp_path / "run", open_source(tmp_path / "run book.txt").description)
    assert free == tmp_path / "run-book" and str(free) in caught.value.hint


def test_a_proposed_directory_is_free(tmp_path: Path) -> None:
    assert propose_directory(tmp_path / "a", "book.txt (3 bytes)") == tmp_path / "book"
    (tmp_path / "book").mkdir()
    (tmp_path / "book-2").touch()
    assert propose_directory(tmp_path / "a", "book.txt (3 bytes)") == tmp_path / "book-3"
    assert propose_directory(tmp_path / "a", "*** (3 bytes)") == tmp_path / "a"


@pytest.mark.parametrize("why", [False, True])
def test_the_plan_is_a_few_lines_and_all_reasons_when_asked(why: bool, tmp_path: Path, task, prose, capsys) -> None:
    book = tmp_path / "book.txt"
    book.write_text(prose(900), encoding="utf-8")
    with Watch(quiet=False, why=why) as watch:
        pretrain(task(book, tmp_path / "run", minutes=30), recorder=watch)
    plan = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    names = [line.split()[0] for line in plan]
    if not why:
        assert names == ["model", "training", "validation", "time", "memory", "(each"]
        assert "6 updates of 64 tokens" in plan[1] and max(map(len, plan)) < 120
    else:
        assert {"parameters", "n_layers", "update", "steps", "passes", "evaluation", "time"} <= set(names)
    assert not any("^" in line for line in plan)


ONE_LINE = "却说孙行者与八戒沙僧护持三藏上大路行了半日正走处忽见一座高山" * 60
BOOKS = {"chinese": CHINESE * 30, "one line": ONE_LINE}


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "gb18030"])
def test_the_next_command_quotes_a_book_in_any_encoding(book: str, encoding: str, tmp_path: Path, task) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(BOOKS[book].encode(encoding))
    told = {"encoding": encoding} if encoding.endswith("le") else {}
    opening = pretrain(task(path, tmp_path / "run", steps=1, data=told)).opening
    assert opening and opening in BOOKS[book]


def test_minutes_that_go_into_set_up_are_told(tmp_path: Path, task, prose) -> None:
    book = tmp_path / "book.txt"
    book.write_text(prose(900))
    heard = MemoryRecorder()
    begun = dataclasses.replace(task(book, tmp_path / "run", steps=None, minutes=0.5), began=monotonic() - 25)
    pretrain(begun, recorder=heard)
    [event] = [event for event in heard.events if event.name == "training.set_up"]
    assert 25 <= event.data["set_up_seconds"] < 40 and event.data["asked_seconds"] == 30
    assert f"training gets {event.data['training_seconds']:.3g} s" in event.message
    heard = MemoryRecorder()
    pretrain(task(book, tmp_path / "other", steps=2), recorder=heard)
    assert "training.set_up" not in heard.names()


def test_an_update_larger_than_its_text_is_told(tmp_path: Path, task, prose) -> None:
    book = tmp_path / "book.txt"
    book.write_text(prose(900))
    for tokens, rows, names in ((40_000, 500, ["training.large_update"]), (64, 4, [])):
        heard = MemoryRecorder()
        batch = {"tokens": tokens, "micro_rows": rows}
        pretrain(task(book, tmp_path / str(tokens), steps=1, batch=batch), recorder=heard)
        told = [event for event in heard.events if event.name == "training.large_update"]
        assert [event.name for event in told] == names
        assert all(event.data["update_tokens"] > 2 * event.data["train_tokens"] for event in told)
