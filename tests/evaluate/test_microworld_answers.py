"""The examination itself is examined: a model that knows all answers gets full marks, one that knows none gets none."""

from __future__ import annotations

import pytest
import torch

from pellucid.data.microworld.corpus import documents
from pellucid.evaluate import microworld
from pellucid.evaluate.microworld import answer_questions, line_ends, measure_microworld
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.model.output import Output
from pellucid.model.rows import Rows
from pellucid.planning.config import ModelConfig
from pellucid.tokens.train import train_bpe, train_characters


@pytest.fixture(autouse=True)
def quick_controls(monkeypatch):
    monkeypatch.setattr(microworld, "CONTROL_STORIES", 100)


@pytest.fixture(scope="module", params=["bpe", "char"])
def world_tokenizer(request):
    texts = list(documents(0, level=1, count=400))
    return train_bpe(texts, 500) if request.param == "bpe" else train_characters(texts)


def small_model(vocab_size: int, context_length: int = 512):
    shape = {"n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 8, "d_model": 8, "d_ff": 8}
    return build(ModelConfig.from_axes(vocab_size=vocab_size, context_length=context_length, **shape), seed=0)


class Oracle:
    """Knows some rows by heart: whatever beginning of one it has read, it foretells the next token."""

    def __init__(self, model, rows) -> None:
        self.config, self.device, self.new_cache = model.config, model.device, model.new_cache
        self.next = {tuple(row[:i]): row[i] for row in rows for i in range(1, len(row))}
        self.seen: dict[int, list[list[int]]] = {}

    def __call__(self, ids_BT, context, *, last_only):
        cache, new = context.cache, ids_BT.tolist()
        past = self.seen.get(id(cache)) if cache.length else [[] for _ in new]
        rows = [before + ids for before, ids in zip(past, new, strict=True)]
        self.seen[id(cache)] = rows
        cache.advance(Rows.of(ids_BT, cache.lengths))
        logits_BTV = torch.zeros(*ids_BT.shape, self.config.vocab_size)
        for b, row in enumerate(rows):
            logits_BTV[b, -1, self.next.get(tuple(row), 0)] = 1.0
        return Output(logits_BTV=logits_BTV[:, -1:] if last_only else logits_BTV)


def documents_of(tokenizer, answers, *, wrong):
    """What the model would have to write, token by token; every third answer spoilt when `wrong`."""
    for number, answer in enumerate(answers):
        reply = "The moon." if wrong and number % 3 == 0 else answer.question.answers[0]
        between = " " if answer.question.language == "en" else ""
        yield tokenizer.encode_prompt(answer.story.prompt(answer.question) + between + reply + "\nmore text")


@pytest.mark.parametrize(("wrong", "expected"), [(False, 60), (True, 40)])
def test_right_answers_are_counted_right(world_tokenizer, wrong, expected):
    model = small_model(world_tokenizer.vocab_size)
    splits, languages = ("held_out", "combinations"), ("en", "zh")
    asked = {"seed": 0, "level": 1, "splits": splits, "languages": languages, "num_questions": 15}
    blank = measure_microworld(model, world_tokenizer, **asked)
    oracle = Oracle(model, documents_of(world_tokenizer, blank.answers, wrong=wrong))
    found = measure_microworld(oracle, world_tokenizer, **asked)
    assert sum(answer.correct for answer in found.answers) == expected
    assert sum(row.correct for row in found.totals.values()) == expected
    assert {row.count for row in found.totals.values()} == {30}
    assert [answer.question for answer in found.answers] == [answer.question for answer in blank.answers]


def test_a_model_that_knows_nothing_scores_nothing_and_controls_stand_beside(world_tokenizer):
    model = small_model(world_tokenizer.vocab_size)
    found = measure_microworld(model, world_tokenizer, seed=0, level=1, num_questions=40)
    assert found.totals["held_out"].correct == 0
    name, row = found.best_control("held_out")
    assert row.count == 80
    assert 0 < row.accuracy < 0.5
    assert set(found.to_dict()["controls"]) == set(found.controls) >= {name, "most_frequent", "last_mentioned"}


def test_a_question_beyond_the_context_is_wrong_and_reported(world_tokenizer):
    memory = MemoryRecorder()
    model = small_model(world_tokenizer.vocab_size, context_length=20)
    measure_microworld(model, world_tokenizer, seed=0, level=1, num_questions=5, recorder=memory)
    assert memory.names() == ["evaluate.prompt_too_long"]
    assert memory.events[0].data["count"] == 10


def test_replies_end_with_the_line(world_tokenizer):
    ends = line_ends(world_tokenizer)
    assert world_tokenizer.eos_id in ends
    assert set(world_tokenizer.encode("\n").ids) <= ends
    assert not set(world_tokenizer.encode("Where is the cup?").ids) & ends


def test_no_questions_no_replies(world_tokenizer):
    assert answer_questions(small_model(world_tokenizer.vocab_size), world_tokenizer, []) == []
