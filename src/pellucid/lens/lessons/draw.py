"""Lesson 6: sampling draws one token; temperature divides the logits before the softmax.

    p_i = exp(l_i / T) / Σ_j exp(l_j / T)          p_a / p_b = exp((l_a − l_b) / T)

Above 1 the differences shrink and the probabilities become more equal; below 1 they grow. The order of the tokens never
changes, and a low temperature does *not* make a text truer.

Axes: V vocabulary.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.sampling.distribution import probabilities
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import LessonTask, TaskLine, number, percent

HOT, COLD = 2.0, 0.5
PERCENT = 0.5  # an answer may be off by this much
CODE = """\
lm = pellucid.load(RUN)
logits_V = lm.model(torch.tensor([{ids}])).logits_BTV[0, -1].double()
answer = 100 * float((logits_V / {hot}).softmax(-1).max())
"""


def open_task(lesson: LessonText) -> LessonTask:
    """Question: the probability of the likeliest token at temperature 2."""
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
    return LessonTask(
        say=(TaskLine("say", figures),),
        ask=TaskLine("ask", asked),
        answer=100 * float(probabilities(lesson.last_V / HOT)[first]),
        tolerance=PERCENT,
        select={"token": last, "temperature": HOT},
        code=CODE.format(ids=list(lesson.ids), hot=HOT),
    )


def explain(lesson: LessonText) -> tuple[TaskLine, ...]:
    """The two likeliest tokens at temperatures 0.5, 1 and 2."""
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
        lines.append(TaskLine("at", figures))
    return (*lines, TaskLine("order", {"label": lesson.token(first)}))
