"""Tasks of the microworld: pairs with one right target, the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import call

from pellucid.data.microworld.story import story
from pellucid.data.microworld.tasks import TASKS, pairs
from pellucid.errors import InputError

TALE = "A rose was in the garden. Omar came to the bathroom. Omar ran to the office. He moved to the bathroom."
GOLDEN = {
    ("translation", "en"): (TALE, "花园里有一朵玫瑰。子轩去了浴室。子轩去了办公室。子轩去了浴室。"),
    ("translation", "zh"): (
        "花园里放着一朵玫瑰。子轩来到了浴室。子轩跑到了办公室。他到了浴室。",
        "There was a rose in the garden. Omar went to the bathroom. Omar went to the office. Omar went to the bathroom.",
    ),
    ("summary", "en"): (TALE, "The rose is in the garden. Omar is in the bathroom."),
    ("summary", "zh"): (
        "花园里放着一朵玫瑰。子轩来到了浴室。子轩跑到了办公室。他到了浴室。",
        "玫瑰在花园里。子轩在浴室里。",
    ),
}


@pytest.mark.parametrize(("task", "language"), GOLDEN)
def test_a_pair_as_it_has_always_been(task: str, language: str) -> None:
    _, second = pairs(task, 0, level=0, count=2, language=language)
    assert (second.source, second.target) == GOLDEN[task, language]


def test_answers_are_those_of_the_story() -> None:
    tale = story(0, 0, level=1, language="zh")
    found = list(pairs("answers", 0, level=1, count=len(tale.questions), language="zh"))
    assert [(pair.source, pair.target) for pair in found] == [(tale.prompt(q), q.answers[0]) for q in tale.questions]


@pytest.mark.parametrize("level", [0, 1])
def test_a_summary_holds_the_facts_that_are_asked_for(level: int) -> None:
    """Each answer stands in the sentences that answer it, and each of those in the summary."""
    num_facts = num_carried = 0
    for index, pair in enumerate(pairs("summary", 5, level=level, count=150, split="held_out")):
        asked = [
            question
            for question in story(5, index, level=level, language="en", split="held_out").questions
            if question.kind in ("where_person", "where_thing", "who_has") and question.hops
        ]
        sentences = [f"{sentence}." for sentence in pair.target.rstrip(".").split(". ")]
        assert {sentence for fact in pair.facts for sentence in fact} <= {*sentences}
        for question, fact in zip(asked, pair.facts, strict=True):
            answer = question.answers[0].rstrip(".").lower()
            if answer == "nobody knows":  # somebody has it, who was never said to be anywhere
                assert len(fact) == 1 and " has " in fact[0]
            elif answer == "nobody":
                assert len(fact) == 1 and " has " not in fact[0]
            else:
                assert any(answer in sentence.lower() for sentence in fact), (question, fact)
            num_facts, num_carried = num_facts + 1, num_carried + (len(fact) == 2)
    assert num_facts > 200 and num_carried > 5


def test_splits_share_no_pair() -> None:
    told = {
        split: {pair.source for pair in pairs("translation", 0, level=1, count=200, split=split)}
        for split in ("train", "held_out")
    }
    assert len(told["train"]) == 200 and not told["train"] & told["held_out"]


def test_what_there_is_not_is_named() -> None:
    with pytest.raises(InputError, match="no such task"):
        pairs("poems", 0, level=0, count=1)
    with pytest.raises(InputError, match="cannot be told plainly\\n  found: level 2"):
        pairs("summary", 0, level=2, count=1)


@pytest.mark.parametrize("kind", ["stories", *TASKS])
def test_the_verb_writes_rows(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    code, told, _ = call("microworld", kind, "--out", str(out), "--count", "5", "--language", "both")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert code == 0 and len(rows) == 5 and f" train {out} --out runs/{kind}" in told
    texts = [row["text" if kind == "stories" else "source"] for row in rows]
    assert [text.isascii() for text in texts] == [True, False, True, False, True]
    again = call(
        "microworld", kind, "--out", str(tmp_path / "again.jsonl"), "--count", "5", "--language", "both", "--json"
    )
    assert json.loads(again[1])["rows"] == 5
    assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()


def test_the_verb_refuses_a_summary_of_a_deep_story(tmp_path: Path) -> None:
    code, _, told = call("microworld", "summary", "--out", str(tmp_path / "rows.jsonl"), "--level", "3")
    assert code == 3 and "levels 0 and 1" in told and not (tmp_path / "rows.jsonl").exists()
