"""Lesson 7: how a model learns: −log of the chance it gave to the token that really came next.

    loss = −1/T Σ_t log p(token t+1 | tokens up to t)

In training the true beginning stands before every guess (teacher forcing); in generation the model's own. Both are done
here with the reader's text: the guesses beside the true tokens, and what the model writes when left alone.

Axes: T positions · V vocabulary.
"""

from __future__ import annotations

import math

import numpy as np

from pellucid.lens.lessons.embedding import NUM_CHOICES
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Line, Task, count, number, percent, text

MOST_WRITTEN = 16  # tokens that the model writes alone
CODE = """\
lm = pellucid.load(RUN)
ids_T = torch.tensor({ids})
logits_TV = lm.model(ids_T[None]).logits_BTV[0, :-1].double()
losses_T = torch.nn.functional.cross_entropy(logits_TV, ids_T[1:], reduction="none")
answer = int(losses_T[torch.tensor({choices}) - 1].argmax())
"""


def open_task(lesson: LessonText) -> Task:
    """Which of the text's own tokens surprised the model most."""
    losses = {t: float(lesson.losses_T[t - 1]) for t in lesson.text_positions if t}
    mean = float(np.mean(list(losses.values())))
    choices = _choices(losses)
    figures = {
        "vocab": count(lesson.config.vocab_size),
        "uniform": number(math.log(lesson.config.vocab_size), 2),
        "loss": number(mean, 2),
        "chance": percent(math.exp(-mean)),
    }
    return Task(
        say=(Line("say", figures),),
        ask=Line("ask"),
        answer=max(range(len(choices)), key=lambda i: losses[choices[i]]),
        choices=tuple(text(f"{t}: {lesson.token(lesson.ids[t]).value}") for t in choices),
        select={"token": choices[-1]},
        code=CODE.format(ids=list(lesson.ids), choices=choices),
    )


def explain(lesson: LessonText) -> tuple[Line, ...]:
    """The loss of every choice; then the guesses beside the true tokens, and the text written alone."""
    losses = {t: float(lesson.losses_T[t - 1]) for t in lesson.text_positions if t}
    told = []
    for t in _choices(losses):
        figures = {"label": lesson.token(lesson.ids[t]), "position": count(t)}
        told.append(Line("loss", {**figures, "loss": number(losses[t]), "chance": percent(math.exp(-losses[t]))}))
    return (*told, *_forced_and_free(lesson))


def _forced_and_free(lesson: LessonText) -> tuple[Line, Line]:
    start = lesson.text_positions[(len(lesson.text_positions) - 1) // 2] + 1
    end = min(len(lesson.ids), start + MOST_WRITTEN)
    true = lesson.ids[start:end]
    guesses = lesson.logits_TV[start - 1 : end - 1].argmax(-1)
    written = write_alone(lesson, lesson.ids[:start], len(true))
    figures = {"start": text(lesson.quote(lesson.ids[:start])), "places": count(len(true))}
    forced = Line("forced", {**figures, "right": count(int((guesses == np.array(true)).sum()))})
    same = sum(a == b for a, b in zip(written, true, strict=True))
    return forced, Line("free", {**figures, "written": text(lesson.quote(written)), "right": count(same)})


def write_alone(lesson: LessonText, ids: tuple[int, ...], num_new: int) -> list[int]:
    """So many tokens, the favourite each time, each read back as if it were the truth.

    As when a text is generated, rows of the embedding that no token uses are not written, however likely they are held.
    """
    written: list[int] = []
    known = lesson.tokenizer.vocab_size
    for _ in range(num_new):
        written.append(int(lesson.after((*ids, *written))[:known].argmax()))
    return written


def _choices(losses: dict[int, float]) -> list[int]:
    """The position with the highest loss and the three of the middle and lower losses, in their order."""
    ranked = sorted(losses, key=lambda t: -losses[t])
    spread = np.linspace(0, len(ranked) - 1, min(NUM_CHOICES, len(ranked))).round().astype(int)
    return sorted(ranked[i] for i in spread)
