"""The guided lessons: what they say is computed rightly, and their own Python finds the answers that they accept."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np
import pytest
import torch

from pellucid.errors import RequestError
from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.lessons import ask as lessons
from pellucid.lens.lessons import heads, next_token, token, window
from pellucid.lens.lessons.contents import PATH
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Figure
from pellucid.lens.lessons.words import catalogue, myths, say, say_line
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe, train_characters

TOKENIZER = train_bpe(["the cat sat on the mat. a strawberry strawberry. 猫坐在垫子上。 " * 20], 330)
TEXT = "the cat sat on a mat. 猫在"
POSITIONS = ("rotary", "learned", "sinusoidal", "none")
KEYS = [entry.key for entry in PATH]


def make_dispatch(directory, text: str = TEXT, tokenizer=TOKENIZER, **axes) -> Dispatch:
    """A dispatch on a model with pronounced opinions, saved so that a lesson's Python can load it."""
    shape = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_model": 32, "d_ff": 48, "init": "gpt2"}
    config = ModelConfig.from_axes(vocab_size=tokenizer.vocab_size, context_length=48, **{**shape, **axes})
    model = build(config, seed=3)
    with torch.no_grad():
        model.final_norm.weight.mul_(4)
        for block in model.blocks:
            block.attention.query.weight.mul_(30)
    save_checkpoint(directory, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={})
    return open_lens(directory, text=text)


@pytest.fixture(scope="module", params=POSITIONS)
def dispatch(request, tmp_path_factory) -> Dispatch:
    return make_dispatch(tmp_path_factory.mktemp("model") / request.param, position=request.param)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory) -> LessonText:
    return LessonText(make_dispatch(tmp_path_factory.mktemp("model") / "one"), At())


def ask(dispatch: Dispatch, method: str, **params):
    return dispatch.answer(method, params).value


@pytest.mark.parametrize("key", KEYS)
def test_the_code_of_a_lesson_finds_the_answer_it_accepts(dispatch, key) -> None:
    task = ask(dispatch, "lesson", lesson=key)
    assert "answer" not in {name for name in task if name != "ask"}  # the page is not told
    grad, names = torch.is_grad_enabled(), {}
    try:
        exec(task["code"], names)
    finally:
        torch.set_grad_enabled(grad)
    checked = ask(dispatch, "lesson.check", lesson=key, answer=names["answer"])
    assert checked["right"]
    assert checked["answer"] == pytest.approx(names["answer"], rel=1e-3, abs=0.02)
    other = (checked["answer"] + 1) % len(task["choices"]) if task["choices"] else 2 * checked["answer"] + 5
    assert not ask(dispatch, "lesson.check", lesson=key, answer=other)["right"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("key", KEYS)
def test_every_sentence_has_its_words_and_its_figures(dispatch, key, language) -> None:
    lesson = LessonText(dispatch, At())
    worked_by = lessons.WORKED_BY[key]
    task = worked_by.open_task(lesson)
    for line in (*task.say, task.ask, *worked_by.explain(lesson)):
        told = say_line(language, key, line.to_dict())
        assert told and not re.search(r"\{\w+\}", told)
        assert "�" not in told
    assert say(language, f"{key}.title") and len(myths(language, key)) >= 2


def test_the_catalogues_hold_the_lessons_of_the_path_and_no_others() -> None:
    for language in ("en", "zh"):
        named = {name for name, entry in catalogue(language)["learn"].items() if isinstance(entry, dict)}
        assert named == set(KEYS)


def test_the_answers_are_json_and_the_list_is_the_path(dispatch) -> None:
    assert [entry["key"] for entry in ask(dispatch, "lessons")["lessons"]] == KEYS
    for key in KEYS:
        json.dumps(ask(dispatch, "lesson", lesson=key), allow_nan=False)
        json.dumps(ask(dispatch, "lesson.check", lesson=key, answer=0), allow_nan=False)


def test_addresses_name_the_numbers_beside_them(dispatch) -> None:
    trace = dispatch.trace(At())
    seen = 0
    for key in KEYS:
        lines = ask(dispatch, "lesson", lesson=key)["say"] + ask(dispatch, "lesson.check", lesson=key, answer=0)["said"]
        for figure in (figure for line in lines for figure in line["figures"].values() if figure["address"]):
            name, index = re.fullmatch(r"(.+)\[([\d,]+)\]", figure["address"]).groups()
            array, place = trace[name], tuple(map(int, index.split(",")))
            assert float(array[place]) == pytest.approx(figure["value"], rel=1e-4, abs=1e-5)
            seen += 1
    assert seen >= 5


def test_chances_after_any_ids_are_the_models_own(lesson) -> None:
    for ids in (lesson.ids, lesson.ids[:3], (*lesson.ids[:4], 7, 8), (*lesson.ids, 5), (9, 8, 7)):
        with torch.no_grad():
            expected_V = lesson.model(torch.tensor([ids])).logits_BTV[0, -1].double().softmax(-1)
        np.testing.assert_allclose(lesson.after(ids), expected_V.numpy(), atol=1e-5)


def test_losses_are_the_cross_entropy_of_the_true_tokens(lesson) -> None:
    ids_T = torch.tensor(lesson.ids)
    with torch.no_grad():
        logits_TV = lesson.model(ids_T[None]).logits_BTV[0, :-1]
    expected_T = torch.nn.functional.cross_entropy(logits_TV, ids_T[1:], reduction="none")
    np.testing.assert_allclose(lesson.losses_T, expected_T.numpy(), atol=1e-4)


def test_no_pair_of_the_whole_vocabulary_is_likelier_than_the_one_found(tmp_path, monkeypatch) -> None:
    tokenizer = train_characters(["abcdefgh"])
    lesson = LessonText(make_dispatch(tmp_path / "small", "abcdefgh", tokenizer), At())
    monkeypatch.setattr(next_token, "MOST_FIRST", tokenizer.vocab_size)
    lost = 0
    for end in range(2, len(lesson.ids)):
        ids = lesson.ids[:end]
        chances_V = lesson.after(ids)
        greedy, best = next_token.find_pairs(lesson, ids)
        everything = {
            (first, second): chances_V[first] * p
            for first in range(len(chances_V))
            for second, p in enumerate(lesson.after((*ids, first)))
        }
        assert best.chance == pytest.approx(max(everything.values()))
        first = int(chances_V.argmax())
        assert greedy.first == first
        assert greedy.chance == pytest.approx(max(p for pair, p in everything.items() if pair[0] == first))
        lost += best.chance > greedy.chance
    assert lost  # or the test would not have seen the case it is about


def test_greedy_is_said_to_win_where_it_wins(lesson, monkeypatch) -> None:
    monkeypatch.setattr(next_token, "MARGIN", math.inf)
    assert next_token.explain(lesson)[-1].key == "greedy_best"
    monkeypatch.setattr(next_token, "MARGIN", 0.0)
    assert next_token.explain(lesson)[-1].key == "greedy_beaten"


def test_weights_crossed_out_after_the_softmax_are_what_the_mask_saves(lesson) -> None:
    row = lesson.text_positions[len(lesson.text_positions) // 2]
    for layer, head in itertools.product(range(2), range(4)):
        scores_S = heads._unmasked_scores(lesson, layer, head, row)
        kept_S = np.exp(scores_S - scores_S.max())[: row + 1]
        weights_S = lesson.trace[f"blocks.{layer}.attention.weights"][head, row, : row + 1]
        np.testing.assert_allclose(kept_S / kept_S.sum(), weights_S, atol=1e-5)
    cut = heads.explain(lesson)[-1].figures["cut"]
    assert 0 < cut.value < 1


def test_temperature_divides_the_gap_and_keeps_the_order(lesson) -> None:
    cold, plain, hot = (line.figures for line in lessons.WORKED_BY["draw"].explain(lesson)[:3])
    assert cold["gap"].value == pytest.approx(2 * plain["gap"].value) == pytest.approx(4 * hot["gap"].value)
    for figures in (cold, plain, hot):
        ratio = figures["chance"].value / figures["second"].value
        assert ratio == pytest.approx(math.exp(figures["gap"].value))
        assert ratio >= 1


def test_the_first_pair_turns_by_its_frequency_at_every_step(tmp_path) -> None:
    dispatch = make_dispatch(tmp_path / "model", rope_scaling="linear", rope_factor=4.0)
    answer = ask(dispatch, "lesson.check", lesson="position", answer=0)["answer"]
    assert answer == pytest.approx(math.degrees((len(dispatch.ids(0)) - 1) / 4) % 360, abs=1e-3)


@pytest.mark.parametrize(
    ("tokenizer", "key", "count"), [(TOKENIZER, "hidden", 1), (train_characters(["straweby catmon"]), "spelled", 11)]
)
def test_letters_are_hidden_where_the_word_is_one_token(tmp_path, tokenizer, key, count) -> None:
    dispatch = make_dispatch(
        tmp_path / "model", "the cat sat on a mat" if tokenizer is TOKENIZER else "cats matter", tokenizer
    )
    assert len(tokenizer.encode(token.WORD).ids) == count
    checked = ask(dispatch, "lesson.check", lesson="token", answer=count)
    assert checked["right"] and checked["said"][-1]["key"] == key


def test_the_end_of_the_text_can_be_typed(lesson) -> None:
    task = window.open_task(lesson)
    tail = window._tail(lesson)
    assert task.try_text and len(tail) < len(lesson.ids)
    assert [TOKENIZER.bos_id, *TOKENIZER.encode(task.try_text).ids] == list(tail)


def test_a_text_too_short_a_lesson_that_is_not_and_a_choice_that_is_none(tmp_path, dispatch) -> None:
    short = make_dispatch(tmp_path / "model", "a")
    with pytest.raises(RequestError) as caught:
        ask(short, "lesson", lesson="heads")
    assert "at least" in caught.value.hint
    with pytest.raises(RequestError) as caught:
        ask(dispatch, "lesson", lesson="windows")
    assert "window" in caught.value.hint
    with pytest.raises(RequestError):
        ask(dispatch, "lesson.check", lesson="training", answer=4)


def test_figures_are_shown_as_people_write_them() -> None:
    shown = [Figure(-0.5), Figure(1234567, "count"), Figure(0.999, "percent", 1), Figure("·the", "text")]
    assert [figure.shown for figure in shown] == ["−0.500", "1,234,567", "99.9 %", "·the"]


def test_a_recording_holds_every_lesson_with_an_answer_that_is_right(dispatch) -> None:
    asked = list(lessons.list_questions(dispatch, {"node": 0, "checkpoint": None}))
    for key in KEYS:
        answers = [
            dispatch.answer(*one).value for one in asked if one[1].get("lesson") == key and one[0] == "lesson.check"
        ]
        assert any(checked["right"] for checked in answers)
