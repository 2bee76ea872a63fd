"""Lesson 6: one token is drawn, and temperature divides the scores before that.

    p_i = exp(l_i / T) / Σ_j exp(l_j / T)          p_a / p_b = exp((l_a − l_b) / T)

Above 1 the gaps shrink and the chances become more equal; below 1 they grow apart. The order of the tokens never
changes, and nothing becomes truer.

Axes: V vocabulary.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.sampling.distribution import probabilities
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Line, Task, number, percent

HOT, COLD = 2.0, 0.5
PERCENT = 0.5  # an answer may be off by this much
CODE = """\
lm = pellucid.load(RUN)
logits_V = lm.model(torch.tensor([{ids}])).logits_BTV[0, -1].double()
answer = 100 * float((logits_V / {hot}).softmax(-1).max())
"""


def open_task(lesson: LessonText) -> Task:
    """The favourite's chance at temperature 2."""
    second, first = (int(i) for i in np.argsort(lesson.last_V)[-2:])
    last = len(lesson.ids) - 1
    figures = {
        "label": lesson.token(first),
        "other": lesson.token(second),
        "high": number(lesson.last_V[first], 2, f"logits[{last},{first}]"),
        "low": number(lesson.last_V[second], 2, f"logits[{last},{second}]"),
        "gap": number(lesson.last_V[first] - lesson.last_V[second], 2),
    }
    asked = {"label": figures["label"], "chance": percent(lesson.chances_V[first]), "hot": number(HOT, 0)}
    return Task(
        say=(Line("say", figures),),
        ask=Line("ask", asked),
        answer=100 * float(probabilities(lesson.last_V / HOT)[first]),
        tolerance=PERCENT,
        select={"token": last, "temperature": HOT},
        code=CODE.format(ids=list(lesson.ids), hot=HOT),
    )


def explain(lesson: LessonText) -> tuple[Line, ...]:
    """The two best tokens at a half, one and two."""
    second, first = (int(i) for i in np.argsort(lesson.last_V)[-2:])
    lines = []
    for temperature in (COLD, 1.0, HOT):
        logits_V = lesson.last_V / temperature
        chances_V = probabilities(logits_V)
        figures = {
            "temperature": number(temperature, 1),
            "label": lesson.token(first),
            "other": lesson.token(second),
            "high": number(logits_V[first], 2),
            "low": number(logits_V[second], 2),
            "gap": number(logits_V[first] - logits_V[second], 2),
            "chance": percent(chances_V[first]),
            "second": percent(chances_V[second]),
        }
        lines.append(Line("at", figures))
    return (*lines, Line("order", {"label": lesson.token(first)}))
