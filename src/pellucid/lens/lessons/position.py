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
import torch

from pellucid.lens.lessons.embedding import NUM_CHOICES, cosines, draw_some
from pellucid.lens.lessons.reading import Reading
from pellucid.lens.lessons.task import Line, Task, count, number, percent

ROTARY = """\
rotation = pellucid.load(RUN).model.rotation
sin, cos = -rotation.sin_TK[{position}, 0], rotation.cos_TK[{position}, 0]
answer = float(torch.atan2(sin, cos).rad2deg()) % 360
"""
ADDED = """\
model = pellucid.load(RUN).model
places_TD = model.position(torch.zeros(1, {length}, model.config.d_model), 0)[0]
cosines_N = torch.cosine_similarity(places_TD[{position}], places_TD[{choices}], dim=-1)
answer = int(cosines_N.argmax())
"""
NONE = "answer = {position}\n"
MOST_PAIRS = 8  # of neighbours that change places
DEGREES = 1.0  # an answer may be off by this much: it is read from a drawing


def open_task(reading: Reading) -> Task:
    """The question for this model's kind of position."""
    ask = {"rotary": _ask_rotary, "learned": _ask_added, "sinusoidal": _ask_added, "none": _ask_none}
    return ask[reading.config.position.kind](reading)


def explain(reading: Reading) -> tuple[Line, ...]:
    """What changes when two neighbours change places: the pair that matters most."""
    favourite, pairs = int(reading.chances_V.argmax()), _neighbours(reading)
    if not pairs:  # nothing but one token, repeated
        return ()
    before = float(reading.chances_V[favourite])
    after_N = np.array([reading.after(_swap(reading.ids, t))[favourite] for t in pairs])
    most = int(np.abs(after_N - before).argmax())
    figures = {
        "tried": count(len(pairs)),
        "left": reading.token(reading.ids[pairs[most]]),
        "right": reading.token(reading.ids[pairs[most] + 1]),
        "label": reading.token(favourite),
        "before": percent(before),
        "after": percent(after_N[most]),
    }
    return (Line("swapped", figures),)


def _ask_rotary(reading: Reading) -> Task:
    position = reading.text_positions[-1]
    rotation: Any = reading.model.rotation
    angles = [math.atan2(-float(rotation.sin_TK[t, 0]), float(rotation.cos_TK[t, 0])) for t in (1, position)]
    figures = {"angle": number(angles[0]), "degrees": number(math.degrees(angles[0]), 3)}
    asked = {"label": reading.token(reading.ids[position]), "position": count(position)}
    return Task(
        say=(Line("say"), Line("rotary", figures)),
        ask=Line("ask_rotary", asked),
        answer=math.degrees(angles[1]) % 360,
        tolerance=DEGREES,
        select={"token": position},
        code=ROTARY.format(position=position),
    )


def _ask_added(reading: Reading) -> Task:
    position, length = reading.text_positions[-1], reading.config.context_length
    with torch.no_grad():
        places_TD = reading.model.position(torch.zeros(1, length, reading.config.d_model), 0)[0].float().numpy()
    cosines_T = cosines(places_TD, position)
    ranked = [int(t) for t in np.argsort(-cosines_T, kind="stable") if t != position]
    choices = sorted([ranked[0], *draw_some(ranked[len(ranked) // 2 :], NUM_CHOICES - 1, seed=position)])
    return Task(
        say=(Line("say"), Line(reading.config.position.kind)),
        ask=Line("ask_added", {"position": count(position)}),
        answer=int(np.argmax(cosines_T[choices])),
        choices=tuple(count(t) for t in choices),
        select={"token": position},
        code=ADDED.format(length=length, position=position, choices=choices),
    )


def _ask_none(reading: Reading) -> Task:
    position = reading.text_positions[-1]
    asked = {"label": reading.token(reading.ids[position]), "position": count(position)}
    code = NONE.format(position=position)
    answer = position if reading.config.causal else len(reading.ids) - 1
    return Task(
        say=(Line("say"), Line("none")),
        ask=Line("ask_none", asked),
        answer=answer,
        select={"token": position},
        code=code,
    )


def _neighbours(reading: Reading) -> list[int]:
    """Where two neighbours differ, before the last token: the last so many of such places."""
    last = len(reading.ids) - 1
    places = [t for t in reading.text_positions if t + 1 < last and reading.ids[t] != reading.ids[t + 1]]
    return places[-MOST_PAIRS:]


def _swap(ids: tuple[int, ...], t: int) -> tuple[int, ...]:
    """The ids with those at t and t + 1 exchanged.

    >>> _swap((7, 8, 9), 1)
    (7, 9, 8)
    """
    return (*ids[:t], ids[t + 1], ids[t], *ids[t + 2 :])
