"""Lesson 4: attention, and the mask that acts on scores.

    weights = softmax(scores + mask),   mask = 0 where a position may look and −∞ where it may not

Of a few layers, the head shown is the one in which the last token looks most decidedly at something other than itself and the first
token, where idle heads rest. What is commonly said, that the mask sets weights to 0, is answered by the sum that a row
would then have: the softmax without the mask, cut off afterwards.

Axes: L layers · H query heads · G key/value heads · T positions · S positions looked at · K head width.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.sampling.distribution import probabilities
from pellucid.lens.lessons.embedding import NUM_CHOICES
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Line, Task, count, number, percent, text

MOST_LAYERS = 4  # looked through, spread over the depth: opening a layer costs as much as running it
CODE = """\
lm = pellucid.load(RUN)
taps = record(lm.model, torch.tensor([{ids}]))
weights_S = taps["blocks.{layer}.attention.weights"][0, {head}, -1]
answer = int(weights_S[{choices}].argmax())
"""


def open_task(lesson: LessonText) -> Task:
    """Where the last token looks most in one head."""
    layer, head, weights_S = _choose_head(lesson)
    choices = _choices(weights_S)
    last, config = len(lesson.ids) - 1, lesson.config
    place = {"layer": count(layer), "head": count(head)}
    label = lesson.token(lesson.ids[last])
    figures = {**place, "heads": count(config.n_heads), "layers": count(config.n_layers), "label": label}
    return Task(
        say=(Line("say", figures), Line("causal" if config.causal else "both_ways")),
        ask=Line("ask", {**place, "label": label}),
        answer=int(weights_S[choices].argmax()),
        choices=tuple(text(f"{t}: {lesson.token(lesson.ids[t]).value}") for t in choices),
        select={"token": last, "layer": layer, "head": head},
        code=CODE.format(ids=list(lesson.ids), layer=layer, head=head, choices=choices),
    )


def explain(lesson: LessonText) -> tuple[Line, ...]:
    """The weight found, the sum of its row, and what the sum would be had the mask cut weights."""
    layer, head, weights_S = _choose_head(lesson)
    found, last = int(weights_S.argmax()), len(lesson.ids) - 1
    address = f"blocks.{layer}.attention.weights[{head},{last},{found}]"
    figures = {"label": lesson.token(lesson.ids[found]), "weight": number(weights_S[found], address=address)}
    told = Line("found", {**figures, "sum": number(weights_S.sum(), 6)})
    return (told, _mask_line(lesson, layer, head)) if lesson.config.causal else (told,)


def _mask_line(lesson: LessonText, layer: int, head: int) -> Line:
    row = lesson.text_positions[len(lesson.text_positions) // 2]
    scores_S = _unmasked_scores(lesson, layer, head, row)
    cut = float(probabilities(scores_S)[: row + 1].sum())
    figures = {
        "label": lesson.token(lesson.ids[row]),
        "hidden": count(len(lesson.ids) - 1 - row),
        "cut": percent(cut),
    }
    return Line("mask", figures)


def _unmasked_scores(lesson: LessonText, layer: int, head: int, row: int) -> np.ndarray:
    """q · k / √K of one row with every position, those it may not see too; float64 [S]."""
    config, turned = lesson.config, "_rotated" if lesson.config.position.kind == "rotary" else ""
    q_HTK, k_GTK = (lesson.trace[f"blocks.{layer}.attention.{part}{turned}"] for part in ("query", "key"))
    k_SK = k_GTK[head * config.n_kv_heads // config.n_heads].astype(np.float64)
    return k_SK @ q_HTK[head, row] / config.head_dim**0.5


def _choose_head(lesson: LessonText) -> tuple[int, int, np.ndarray]:
    """The layer, the head, and the last row of its weights [S]."""
    spread = np.linspace(0, lesson.config.n_layers - 1, min(MOST_LAYERS, lesson.config.n_layers))
    layers = [int(layer) for layer in spread.round()]
    weights_LHS = np.stack([lesson.trace[f"blocks.{layer}.attention.weights"][:, -1] for layer in layers])
    decided_LH = weights_LHS[:, :, 1:-1].max(-1)
    place, head = np.unravel_index(decided_LH.argmax(), decided_LH.shape)
    return layers[place], int(head), weights_LHS[place, head].astype(np.float64)


def _choices(weights_S: np.ndarray) -> list[int]:
    """The position with the largest weight and three others spread over the text, in their order."""
    best = int(weights_S.argmax())
    others = [t for t in range(len(weights_S)) if t != best]
    spread = np.linspace(0, len(others) - 1, min(NUM_CHOICES - 1, len(others))).round().astype(int)
    return sorted([best, *(others[i] for i in spread)])
