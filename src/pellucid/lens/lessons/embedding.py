"""Lesson 2: an id picks one row of a table of learned numbers, the same row wherever the token stands.

    cosine(a, b) = a · b / (|a| |b|)

Rows are compared by direction. What is not shown: that a single column means something; nobody assigned it anything.

Axes: V vocabulary · D width · N tokens to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.keyed_random import uniform
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Line, Task, count, number

NUM_CHOICES = 4
SHOWN_NUMBERS = ("first", "second", "third")
CODE = """\
embed_VD = pellucid.load(RUN).model.embed.weight.float()
cosines_N = torch.cosine_similarity(embed_VD[{token_id}], embed_VD[{choices}], dim=-1)
answer = int(cosines_N.argmax())
"""


def open_task(lesson: LessonText) -> Task:
    """Which row of four points most nearly where this one does."""
    position = _position(lesson)
    token_id = lesson.ids[position]
    choices = _choices(lesson, token_id)
    row_D = lesson.embed_VD[token_id]
    begins = {name: number(row_D[d], address=f"embed[{position},{d}]") for d, name in enumerate(SHOWN_NUMBERS)}
    label = lesson.token(token_id)
    figures = {"vocab": count(lesson.config.vocab_size), "width": count(lesson.config.d_model), "label": label}
    return Task(
        say=(Line("say", {**figures, **begins}),),
        ask=Line("ask", {"label": label}),
        answer=int(np.argmax(cosines(lesson.embed_VD, token_id)[choices])),
        choices=tuple(lesson.token(choice) for choice in choices),
        select={"token": position},
        code=CODE.format(token_id=token_id, choices=choices),
    )


def explain(lesson: LessonText) -> tuple[Line, ...]:
    """The cosine of every choice."""
    token_id = lesson.ids[_position(lesson)]
    cosines_V = cosines(lesson.embed_VD, token_id)
    return tuple(
        Line("cosine", {"label": lesson.token(choice), "cosine": number(cosines_V[choice])})
        for choice in _choices(lesson, token_id)
    )


def cosines(embed_VD: np.ndarray, token_id: int) -> np.ndarray:
    """The cosine of every row with one of them; a row of zeros points nowhere and counts as 0.

    >>> cosines(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), 0).round(3).tolist()
    [1.0, 0.707, 0.0]
    """
    norms_V = np.linalg.norm(embed_VD, axis=1)
    products_V = embed_VD @ embed_VD[token_id]
    return products_V / np.maximum(norms_V * norms_V[token_id], np.finfo(embed_VD.dtype).tiny)


def _position(lesson: LessonText) -> int:
    """The token with the longest text: the likeliest to be a word."""
    return max(lesson.text_positions, key=lambda t: (len(lesson.tokenizer.token_bytes(lesson.ids[t])), -t))


def _choices(lesson: LessonText, token_id: int) -> list[int]:
    """The nearest other token and three from the far half, in the order of their ids."""
    ranked = [int(i) for i in np.argsort(-cosines(lesson.embed_VD, token_id), kind="stable") if i != token_id]
    far = ranked[len(ranked) // 2 :]
    return sorted([ranked[0], *draw_some(far, NUM_CHOICES - 1, seed=token_id)])


def draw_some(values: Sequence[int], count: int, *, seed: int) -> list[int]:
    """So many different ones of some values, the same for the same seed."""
    order = sorted(range(len(values)), key=lambda i: uniform(seed, i))
    return [values[i] for i in order[:count]]
