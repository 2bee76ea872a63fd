"""Lesson 8: the context window is the text that the model can read at once; it is *not* a memory.

The reader's text is cut to its end, as if the rest had left the window. Then the next token is predicted again from
what is left. Nothing is kept from one text to the next: the weights do not change while a model generates.

Axes: V vocabulary.
"""

from __future__ import annotations

import numpy as np

from pellucid.lens.lessons.embedding import NUM_CHOICES
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import LessonTask, TaskLine, count, percent, text

CODE = """\
lm = pellucid.load(RUN)
logits_V = lm.model(torch.tensor([{ids}])).logits_BTV[0, -1]
answer = int(logits_V[{choices}].argmax())
"""


def open_task(lesson: LessonText) -> LessonTask:
    """Question: the likeliest token after the end of the text alone."""
    tail, used = _tail(lesson), len(lesson.ids)
    chances_V = lesson.after(tail)
    favourite = int(chances_V.argmax())
    choices = _choices(int(lesson.chances_V.argmax()), chances_V)
    context = lesson.config.context_length
    figures = {"context": count(context), "used": count(used), "left": count(context - used)}
    end = lesson.quote(tail)
    return LessonTask(
        say=(TaskLine("say", figures),),
        ask=TaskLine("ask", {"end": text(end)}),
        answer=choices.index(favourite),
        choices=tuple(lesson.token(choice) for choice in choices),
        select={"token": None},
        try_text=lesson.tokenizer.decode(tail),
        code=CODE.format(ids=list(tail), choices=choices),
    )


def explain(lesson: LessonText) -> tuple[TaskLine, ...]:
    """The probability, without the beginning, of the token that is likeliest after the whole text."""
    tail = _tail(lesson)
    chances_V = lesson.after(tail)
    first, other = int(lesson.chances_V.argmax()), int(chances_V.argmax())
    figures = {
        "label": lesson.token(first),
        "whole": percent(lesson.chances_V[first]),
        "cut": percent(chances_V[first]),
        "other": lesson.token(other),
        "gone": count(len(lesson.ids) - len(tail)),
    }
    return (TaskLine("cut_same" if other == first else "cut_changed", figures),)


def _tail(lesson: LessonText) -> tuple[int, ...]:
    """<bos> and about the last half of the text, if possible cut between words, where encoding gives the same ids."""
    places = lesson.text_positions[1:]
    wanted = places[len(places) // 2]
    start = () if lesson.tokenizer.bos_id is None else (lesson.tokenizer.bos_id,)
    nearest = sorted(places, key=lambda t: (_cuts_word(lesson, t), abs(t - wanted)))
    cut = next((t for t in nearest if lesson.typed(lesson.ids[t:]) is not None), wanted)
    return (*start, *lesson.ids[cut:])


def _cuts_word(lesson: LessonText, t: int) -> bool:
    """Whether the text would be cut between two letters of a word that is written with Latin letters."""
    sides = lesson.tokenizer.token_bytes(lesson.ids[t - 1])[-1:] + lesson.tokenizer.token_bytes(lesson.ids[t])[:1]
    return len(sides) == 2 and sides.isalnum()  # of bytes: ASCII alone


def _choices(favourite: int, chances_V: np.ndarray) -> list[int]:
    """The likeliest tokens after the end, and the likeliest one after the whole text, in the order of their ids."""
    ranked = [int(i) for i in np.argsort(-chances_V, kind="stable")[:NUM_CHOICES]]
    return sorted(ranked if favourite in ranked else [*ranked[:-1], favourite])
