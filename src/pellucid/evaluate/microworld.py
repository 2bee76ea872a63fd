"""Question answering on the microworld: ask a model about worlds it has never seen; score by exact match.

A question is written as in training: the story, a line break, the question. The model continues greedily until the line
ends, and the line is right or wrong. Every split is scored separately, each share with its 95 % interval. Controls
(baselines that understand nothing) answer the same questions: only the difference to them means something.

This measures whether the rules of the world were learnt. It is *not* a measure of fluency: that is `likelihood`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from pellucid.counts import counted
from pellucid.data.microworld.controls import fit_controls
from pellucid.data.microworld.corpus import held_out
from pellucid.data.microworld.score import GroupScore, is_correct, score
from pellucid.data.microworld.story import Question, Story, story
from pellucid.engine.greedy import answer_greedily
from pellucid.events import NULL, Event, Recorder
from pellucid.model.decoder import Decoder
from pellucid.tokens.tokenizer import Tokenizer

CONTROL_STORIES = 1000  # training stories that each control has read, per language


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question, what the model replied, and whether that is right."""

    story: Story
    question: Question
    reply: str  # its first line
    correct: bool


@dataclass(frozen=True, kw_only=True)
class MicroworldScore:
    """The scores of a model: rows by split, language, kind and hops, and the same rows for each control."""

    level: int
    rows: tuple[GroupScore, ...]
    controls: Mapping[str, tuple[GroupScore, ...]]
    answers: tuple[Answer, ...]

    @property
    def totals(self) -> dict[str, GroupScore]:
        """For each split, the row of all its questions."""
        return {row.split: row for row in self.rows if row.group == "all"}

    def best_control(self, split: str) -> tuple[str, GroupScore]:
        """The name and score of the best control in a split."""
        rows = [(name, row) for name, found in self.controls.items() for row in found]
        return max(
            ((name, row) for name, row in rows if (row.split, row.group) == (split, "all")),
            key=lambda named: named[1].accuracy,
        )

    def to_dict(self) -> dict[str, Any]:
        """All rows, ready for JSON."""
        controls = {name: [_row_dict(row) for row in rows] for name, rows in self.controls.items()}
        return {"level": self.level, "rows": [_row_dict(row) for row in self.rows], "controls": controls}


def measure_microworld(
    model: Decoder,
    tokenizer: Tokenizer,
    *,
    seed: int,
    level: int,
    splits: Sequence[str] = ("held_out",),
    languages: Sequence[str] = ("en", "zh"),
    num_questions: int = 300,
    recorder: Recorder = NULL,
) -> MicroworldScore:
    """Ask `num_questions` of every split in every language; `seed` is the one that the training stories came from."""
    asked = [
        pair for split in splits for language in languages
        for pair in islice(_questions(seed, level, split, language, num_questions), num_questions)
    ]  # fmt: skip
    replies = answer_questions(model, tokenizer, asked, recorder=recorder)
    answers = tuple(
        Answer(story=tale, question=question, reply=reply, correct=is_correct(question, reply))
        for (tale, question), reply in zip(asked, replies, strict=True)
    )
    known = [story(seed, i, level=level, language=language) for language in languages for i in range(CONTROL_STORIES)]
    return MicroworldScore(
        level=level,
        rows=tuple(score((answer.story, answer.question, answer.reply) for answer in answers)),
        controls={
            name: tuple(score((tale, question, control.answer(tale, question)) for tale, question in asked))
            for name, control in fit_controls(known).items()
        },
        answers=answers,
    )


def measure_languages(
    model: Decoder, tokenizer: Tokenizer, *, seed: int, level: int, languages: Sequence[str], num_questions: int
) -> dict[str, float]:
    """For each language, the share of `num_questions` about new worlds that a model answers exactly (quick)."""
    scores = {}
    for language in languages:
        asked = list(islice(_questions(seed, level, "held_out", language, num_questions), num_questions))
        replies = answer_questions(model, tokenizer, asked)
        right = [is_correct(question, reply) for (_, question), reply in zip(asked, replies, strict=True)]
        scores[language] = sum(right) / len(right)
    return scores


def answer_questions(
    model: Decoder, tokenizer: Tokenizer, asked: Sequence[tuple[Story, Question]], *, recorder: Recorder = NULL
) -> list[str]:
    """The model's greedy reply to each question, one line. A question that does not fit the context gets no reply."""
    prompts = [tokenizer.encode_prompt(tale.prompt(question)) for tale, question in asked]
    fits = [len(prompt) < model.config.context_length for prompt in prompts]
    if not all(fits):
        message = f"longer than the context, and so wrong: {fits.count(False)} of {counted(len(fits), 'question')}"
        data = {"count": fits.count(False), "context_length": model.config.context_length}
        recorder.record(Event(name="evaluate.prompt_too_long", message=message, data=data, level="warning"))
    answers = answer_greedily(
        model,
        [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit],
        max_new_tokens=_longest_answer(tokenizer, [question for _, question in asked]),
        end_ids=line_ends(tokenizer),
    )
    texts = iter(answers)
    return [_first_line(tokenizer.decode(next(texts))) if fit else "" for fit in fits]


def line_ends(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids after which a reply is over: <eos> and every token that holds a line break."""
    breaks = {i for i in range(tokenizer.vocab_size) if b"\n" in tokenizer.token_bytes(i)}
    return frozenset(breaks if tokenizer.eos_id is None else {*breaks, tokenizer.eos_id})


def _questions(seed: int, level: int, split: str, language: str, count: int) -> Iterator[tuple[Story, Question]]:
    # Every story has a question at least, so `count` stories are enough.
    for tale in held_out(seed, level=level, split=split, count=count, language=language):
        for question in tale.questions:
            yield tale, question


def _longest_answer(tokenizer: Tokenizer, questions: Sequence[Question]) -> int:
    """The most tokens that a right reply can have: the longest accepted answer, a space before it and a line end."""
    answers = {answer for question in questions for answer in question.answers}
    return max((len(tokenizer.encode(f" {answer}\n").ids) for answer in answers), default=1)


def _first_line(reply: str) -> str:
    return reply.split("\n", 1)[0].strip()


def _row_dict(row: GroupScore) -> dict[str, Any]:
    return {**asdict(row), "accuracy": row.accuracy}
