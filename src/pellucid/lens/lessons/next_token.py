"""Lesson 5: softmax gives probabilities over the whole vocabulary; why greedy decoding may miss the likeliest text.

    greedy pair      a = argmax p(·),  b = argmax p(· | a)          chance p(a) p(b | a)
    likeliest pair   argmax over all (c, d) of p(c) p(d | c)

The likeliest pair is found without trying all pairs. A pair is never likelier than its first token, so only first
tokens above the greedy pair's probability are tried (the eight likeliest of them, which are all if that probability is
over 1/8). The search is done at every position of the reader's text; if greedy was best everywhere, the lesson says so.

Axes: V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pellucid.engine.sampling.distribution import entropy
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Figure, LessonTask, TaskLine, count, number, percent, text

SHARES = (0.9, 0.99, 0.999, 0.9999)  # the first share that the likeliest token does not reach alone
MARGIN = 1.01  # rounding alone never makes a pair a hundredth likelier
MOST_PLACES, MOST_FIRST = 12, 8  # places of the text and first tokens at each, to answer within a moment
CODE = """\
lm = pellucid.load(RUN)
chances_V = lm.model(torch.tensor([{ids}])).logits_BTV[0, -1].double().softmax(-1)
sums_V = chances_V.sort(descending=True).values.cumsum(-1)
answer = int((sums_V < {share}).sum()) + 1
"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two tokens in a row and their probability."""

    first: int
    second: int
    chance: float


def open_task(lesson: LessonText) -> LessonTask:
    """Question: how many of the likeliest tokens together reach a share."""
    favourite, last = int(lesson.chances_V.argmax()), len(lesson.ids) - 1
    chance = float(lesson.chances_V[favourite])
    figures = {
        "vocab": count(lesson.config.vocab_size),
        "label": lesson.token(favourite),
        "logit": number(lesson.last_V[favourite], address=f"logits[{last},{favourite}]"),
        "chance": percent(chance),
        "rest": percent(1 - chance),
    }
    share = next((share for share in SHARES if share > chance), SHARES[-1])
    needed = int((np.cumsum(np.sort(lesson.chances_V)[::-1]) < share).sum()) + 1
    return LessonTask(
        say=(TaskLine("say", figures),),
        ask=TaskLine("ask", {"share": percent(share, 0 if share <= 0.99 else 2)}),
        answer=needed,
        tolerance=needed // 100,
        select={"token": last, "top_p": share},
        code=CODE.format(ids=list(lesson.ids), share=share),
    )


def explain(lesson: LessonText) -> tuple[TaskLine, ...]:
    """The entropy in bits, and the position where greedy decoding loses most."""
    bits = entropy(lesson.last_V) / np.log(2)
    told = TaskLine("entropy", {"bits": number(bits, 2), "choices": number(2**bits, 1)})
    places = [t for t in lesson.text_positions if t + 1 < lesson.config.context_length][-MOST_PLACES:]
    found = [(t, *find_pairs(lesson, lesson.ids[: t + 1])) for t in places]
    t, greedy, best = max(found, key=lambda one: one[2].chance / one[1].chance)
    searched = {"places": count(len(places))}
    if best.chance <= MARGIN * greedy.chance:
        return (told, TaskLine("greedy_best", searched))
    return (told, TaskLine("greedy_beaten", {**_beaten(lesson, t, greedy, best), **searched}))


def find_pairs(lesson: LessonText, ids: tuple[int, ...]) -> tuple[Pair, Pair]:
    """The greedy pair after some ids, and the likeliest pair."""
    chances_V = lesson.after(ids)
    ranked = [int(i) for i in np.argsort(-chances_V, kind="stable")[:MOST_FIRST]]
    greedy = best = best_second(lesson, ids, ranked[0], chances_V)
    for first in ranked[1:]:
        if chances_V[first] > best.chance:  # else no pair that begins with it can be likelier
            best = max(best, best_second(lesson, ids, first, chances_V), key=lambda pair: pair.chance)
    return greedy, best


def best_second(lesson: LessonText, ids: tuple[int, ...], first: int, chances_V: np.ndarray) -> Pair:
    """A first token with the likeliest token after it."""
    after_V = lesson.after((*ids, first))
    second = int(after_V.argmax())
    return Pair(first=first, second=second, chance=float(chances_V[first] * after_V[second]))


def _beaten(lesson: LessonText, t: int, greedy: Pair, best: Pair) -> dict[str, Figure]:
    return {
        "text": text(lesson.quote(lesson.ids[: t + 1])),
        "a": lesson.token(greedy.first),
        "b": lesson.token(greedy.second),
        "greedy": percent(greedy.chance, 2),
        "c": lesson.token(best.first),
        "d": lesson.token(best.second),
        "best": percent(best.chance, 2),
    }
