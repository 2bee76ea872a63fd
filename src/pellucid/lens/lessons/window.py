"""Lesson 8: the context window is what the model can read at once; it is no memory.

The reader's text is cut to its end, as if the rest had left the window, and the next token is predicted again from what
is left. From one text to the next nothing is kept: the weights do not change while a model writes.

Axes: V vocabulary.
"""

from __future__ import annotations

import numpy as np

from pellucid.lens.lessons.embedding import NUM_CHOICES
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Line, Task, count, percent, text

CODE = """\
lm = pellucid.load(RUN)
logits_V = lm.model(torch.tensor([{ids}])).logits_BTV[0, -1]
answer = int(logits_V[{choices}].argmax())
"""


def open_task(lesson: LessonText) -> Task:
    """The favourite after the end of the text alone."""
    tail, used = _tail(lesson), len(lesson.ids)
    chances_V = lesson.after(tail)
    favourite = int(chances_V.argmax())
    choices = _choices(int(lesson.chances_V.argmax()), chances_V)
    context = lesson.config.context_length
    figures = {"context": count(context), "used": count(used), "left": count(context - used)}
    end = lesson.quote(tail)
    return Task(
        say=(Line("say", figures),),
        ask=Line("ask", {"end": text(end)}),
        answer=choices.index(favourite),
        choices=tuple(lesson.token(choice) for choice in choices),
        select={"token": None},
        try_text=lesson.tokenizer.decode(tail),
        code=CODE.format(ids=list(tail), choices=choices),
    )


def explain(lesson: LessonText) -> tuple[Line, ...]:
    """What the favourite of the whole text is worth without its beginning."""
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
    return (Line("cut_same" if other == first else "cut_changed", figures),)


def _tail(lesson: LessonText) -> tuple[int, ...]:
    """<bos> and about the last half of the text, cut where no word is cut and typing it gives the same ids, if it can."""
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
    """The likeliest tokens after the end, and the favourite of the whole text, in the order of their ids."""
    ranked = [int(i) for i in np.argsort(-chances_V, kind="stable")[:NUM_CHOICES]]
    return sorted(ranked if favourite in ranked else [*ranked[:-1], favourite])
