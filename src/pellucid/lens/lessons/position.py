"""Lesson 3: a row of the table says what a token is; its place is told in another way.

    rotary      the first pair of a query or key is turned by t · f, f radians a position (see `model.position`)
    learned     a row for each position is added; so with sinusoids
    none        only the mask tells the order

The question is the one that this model's kind of position allows. That order matters is then measured: neighbours
in the reader's text change places, pair by pair, and the chance of the favourite is read again.

Axes: N pairs · T positions · D width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.lens.lessons.embedding import NUM_CHOICES, cosines, draw_some
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Line, Task, count, number, percent

ROTARY = """\
rotation = pellucid.load(RUN).model.rotation
sin, cos = -rotation.sin_TK[{position}, 0], rotation.cos_TK[{position}, 0]
answer = float(torch.atan2(sin, cos).rad2deg()) % 360
"""
ADDED = """\
model = pellucid.load(RUN).model
places_TD = model.position.added(slice({length}))[0]
cosines_N = torch.cosine_similarity(places_TD[{position}], places_TD[{choices}], dim=-1)
answer = int(cosines_N.argmax())
"""
NONE = "answer = {position}\n"
MOST_PAIRS = 8  # of neighbours that change places
DEGREES = 1.0  # an answer may be off by this much: it is read from a drawing


def open_task(lesson: LessonText) -> Task:
    """The question for this model's kind of position."""
    ask = {"rotary": _ask_rotary, "learned": _ask_added, "sinusoidal": _ask_added, "none": _ask_none}
    return ask[lesson.config.position.kind](lesson)


def explain(lesson: LessonText) -> tuple[Line, ...]:
    """What changes when two neighbours change places: the pair that matters most."""
    favourite, pairs = int(lesson.chances_V.argmax()), _neighbours(lesson)
    if not pairs:  # nothing but one token, repeated
        return ()
    before = float(lesson.chances_V[favourite])
    after_N = np.array([lesson.after(_swap(lesson.ids, t))[favourite] for t in pairs])
    most = int(np.abs(after_N - before).argmax())
    figures = {
        "tried": count(len(pairs)),
        "left": lesson.token(lesson.ids[pairs[most]]),
        "right": lesson.token(lesson.ids[pairs[most] + 1]),
        "label": lesson.token(favourite),
        "before": percent(before),
        "after": percent(after_N[most]),
    }
    return (Line("swapped", figures),)


def _ask_rotary(lesson: LessonText) -> Task:
    position = lesson.text_positions[-1]
    rotation: Any = lesson.model.rotation
    angles = [math.atan2(-float(rotation.sin_TK[t, 0]), float(rotation.cos_TK[t, 0])) for t in (1, position)]
    figures = {"angle": number(angles[0]), "degrees": number(math.degrees(angles[0]), 3)}
    asked = {"label": lesson.token(lesson.ids[position]), "position": count(position)}
    return Task(
        say=(Line("say"), Line("rotary", figures)),
        ask=Line("ask_rotary", asked),
        answer=math.degrees(angles[1]) % 360,
        tolerance=DEGREES,
        select={"token": position},
        code=ROTARY.format(position=position),
    )


def _ask_added(lesson: LessonText) -> Task:
    position, length = lesson.text_positions[-1], lesson.config.context_length
    addition: Any = lesson.model.position
    places_TD = addition.added(slice(length))[0].detach().float().cpu().numpy()
    cosines_T = cosines(places_TD, position)
    ranked = [int(t) for t in np.argsort(-cosines_T, kind="stable") if t != position]
    choices = sorted([ranked[0], *draw_some(ranked[len(ranked) // 2 :], NUM_CHOICES - 1, seed=position)])
    return Task(
        say=(Line("say"), Line(lesson.config.position.kind)),
        ask=Line("ask_added", {"position": count(position)}),
        answer=int(np.argmax(cosines_T[choices])),
        choices=tuple(count(t) for t in choices),
        select={"token": position},
        code=ADDED.format(length=length, position=position, choices=choices),
    )


def _ask_none(lesson: LessonText) -> Task:
    position = lesson.text_positions[-1]
    asked = {"label": lesson.token(lesson.ids[position]), "position": count(position)}
    code = NONE.format(position=position)
    answer = position if lesson.config.causal else len(lesson.ids) - 1
    return Task(
        say=(Line("say"), Line("none")),
        ask=Line("ask_none", asked),
        answer=answer,
        select={"token": position},
        code=code,
    )


def _neighbours(lesson: LessonText) -> list[int]:
    """Where two neighbours differ, before the last token: the last so many of such places."""
    last = len(lesson.ids) - 1
    places = [t for t in lesson.text_positions if t + 1 < last and lesson.ids[t] != lesson.ids[t + 1]]
    return places[-MOST_PAIRS:]


def _swap(ids: tuple[int, ...], t: int) -> tuple[int, ...]:
    """The ids with those at t and t + 1 exchanged.

    >>> _swap((7, 8, 9), 1)
    (7, 9, 8)
    """
    return (*ids[:t], ids[t + 1], ids[t], *ids[t + 2 :])
