"""Exact scores, their intervals, and the controls that must stay low."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.microworld.controls import fit_controls
from pellucid.data.microworld.corpus import held_out
from pellucid.data.microworld.plots import LEVELS
from pellucid.data.microworld.score import is_correct, score, wilson
from pellucid.data.microworld.story import Question, Story, story

GARDEN = Question("where_thing", "Where is the cup?", ("The garden.", "In the garden."), 2, (0, 1), "en")
HUAYUAN = Question("where_thing", "杯子在哪儿？", ("花园。", "在花园里。", "花园里。"), 2, (0, 1), "zh")


@pytest.mark.parametrize(
    "reply", ["The garden.", " the garden", "THE GARDEN!", "The  garden.\nWhere is Tom?", "in the garden"]
)
def test_right_replies(reply: str) -> None:
    assert is_correct(GARDEN, reply)


@pytest.mark.parametrize(
    "reply", ["", "\n", "The garden. The attic.", "The", "The attic.\nThe garden.", "not the garden"]
)
def test_wrong_replies(reply: str) -> None:
    assert not is_correct(GARDEN, reply)


def test_chinese_replies() -> None:
    assert all(is_correct(HUAYUAN, reply) for reply in ("花园。", "花园", " 在花园里。", "花园里\n杯子"))
    assert not any(is_correct(HUAYUAN, reply) for reply in ("花", "花园阳台", "厨房。", "。"))


def test_every_accepted_answer_is_accepted() -> None:
    for level in LEVELS:
        for language in ("en", "zh"):
            for index in range(50):
                for question in story(1, index, level=level, language=language).questions:
                    assert all(is_correct(question, " " + answer + "\n") for answer in question.answers)


def test_wilson_against_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for correct, count, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(correct, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(case: tuple[int, int]) -> None:
    correct, count = case
    low, high = wilson(correct, count)
    assert 0 <= low <= correct / count + 1e-12 and correct / count - 1e-12 <= high <= 1


def test_rows_are_counted_by_split_language_kind_and_hops() -> None:
    tales = [
        tale
        for language in ("en", "zh")
        for split in ("held_out", "lengths")
        for tale in held_out(3, level=1, split=split, count=20, language=language)
    ]
    replies = [(tale, q, q.answers[0] if q.language == "en" else "?") for tale in tales for q in tale.questions]
    rows = {(row.split, row.group, row.value): row for row in score(replies)}
    for split in ("held_out", "lengths"):
        everything = rows[split, "all", ""]
        assert everything.count == sum(tale.split == split for tale, _, _ in replies)
        assert rows[split, "language", "en"].accuracy == 1 and rows[split, "language", "zh"].accuracy == 0
        for group in ("kind", "hops", "language"):
            parts = [row for (s, g, _), row in rows.items() if (s, g) == (split, group)]
            assert sum(row.count for row in parts) == everything.count
            assert sum(row.correct for row in parts) == everything.correct


@cache
def control_scores(level: int) -> dict[str, float]:
    known: list[Story] = [story(1, i, level=level, language=language) for i in range(250) for language in ("en", "zh")]
    asked = [
        tale
        for language in ("en", "zh")
        for tale in held_out(2, level=level, split="held_out", count=90, language=language)
    ]
    return {
        name: score((tale, q, control.answer(tale, q)) for tale in asked for q in tale.questions)[0].accuracy
        for name, control in fit_controls(known).items()
    }


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_shallow_answers_the_questions(level: int) -> None:
    scores = control_scores(level)
    assert len(scores) == 5
    for name, accuracy in scores.items():
        assert accuracy < (0.36 if level == 1 else 0.42), (name, scores)


def test_the_controls_do_answer_what_they_can() -> None:
    """A control that scored nothing would prove nothing: each does what its rule says on a story made for it."""
    tale = story(1, 0, level=1, language="en")
    controls = fit_controls([tale])
    question = tale.questions[0]
    for name in ("most_frequent", "question_only", "nearest_story"):
        assert controls[name].answer(tale, question)
    assert is_correct(question, controls["nearest_story"].answer(tale, question))
    places = [e.place for e in tale.events if e.place >= 0]
    assert len(places) > 1
