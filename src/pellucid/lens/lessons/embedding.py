"""Lesson 2: the embedding: an id selects one row of a learned table, the same row wherever the token stands.

    cosine(a, b) = a · b / (|a| |b|)

Rows are compared by direction (cosine similarity). The lesson does *not* claim that a single column has a meaning.

Axes: V vocabulary · D width · N tokens to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.keyed_random import uniform
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import LessonTask, TaskLine, count, number

NUM_CHOICES = 4
SHOWN_NUMBERS = ("first", "second", "third")
CODE = """\
embed_VD = pellucid.load(RUN).model.embed.weight.float()
cosines_N = torch.cosine_similarity(embed_VD[{token_id}], embed_VD[{choices}], dim=-1)
answer = int(cosines_N.argmax())
"""


def open_task(lesson: LessonText) -> LessonTask:
    """Question: which of four rows has the largest cosine with this one."""
    position = _position(lesson)
    token_id = lesson.ids[position]
    choices = _choices(lesson, token_id)
    row_D = lesson.embed_VD[token_id]
    begins = {name: number(row_D[d], address=f"embed[{position},{d}]") for d, name in enumerate(SHOWN_NUMBERS)}
    label = lesson.token(token_id)
    figures = {"vocab": count(lesson.config.vocab_size), "width": count(lesson.config.d_model), "label": label}
    return LessonTask(
        say=(TaskLine("say", {**figures, **begins}),),
        ask=TaskLine("ask", {"label": label}),
        answer=int(np.argmax(cosines(lesson.embed_VD, token_id)[choices])),
        choices=tuple(lesson.token(choice) for choice in choices),
        select={"token": position},
        code=CODE.format(token_id=token_id, choices=choices),
    )


def explain(lesson: LessonText) -> tuple[TaskLine, ...]:
    """The cosine of every choice."""
    token_id = lesson.ids[_position(lesson)]
    cosines_V = cosines(lesson.embed_VD, token_id)
    return tuple(
        TaskLine("cosine", {"label": lesson.token(choice), "cosine": number(cosines_V[choice])})
        for choice in _choices(lesson, token_id)
    )


def cosines(embed_VD: np.ndarray, token_id: int) -> np.ndarray:
    """The cosine of every row with one of them; for a row of zeros it is 0.

    >>> cosines(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), 0).round(3).tolist()
    [1.0, 0.707, 0.0]
    """
    norms_V = np.linalg.norm(embed_VD, axis=1)
    products_V = embed_VD @ embed_VD[token_id]
    return products_V / np.maximum(norms_V * norms_V[token_id], np.finfo(embed_VD.dtype).tiny)


def _position(lesson: LessonText) -> int:
    """The position of the token with the longest text, which is most likely a word."""
    return max(lesson.text_positions, key=lambda t: (len(lesson.tokenizer.token_bytes(lesson.ids[t])), -t))


def _choices(lesson: LessonText, token_id: int) -> list[int]:
    """The nearest other token and three from the far half, in the order of their ids."""
    ranked = [int(i) for i in np.argsort(-cosines(lesson.embed_VD, token_id), kind="stable") if i != token_id]
    far = ranked[len(ranked) // 2 :]
    return sorted([ranked[0], *draw_some(far, NUM_CHOICES - 1, seed=token_id)])


def draw_some(values: Sequence[int], count: int, *, seed: int) -> list[int]:
    """Draw `count` different values; the same seed gives the same values."""
    order = sorted(range(len(values)), key=lambda i: uniform(seed, i))
    return [values[i] for i in order[:count]]
