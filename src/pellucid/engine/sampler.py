"""From one row of logits to one token: a list of stages, then one draw.

    temperature    l / T
    top-k          the k highest stay
    top-p          the fewest highest whose probabilities reach p stay
    draw           u in [0, 1) falls into one segment of the cumulative probabilities, laid out in id order

That order is a choice (others cut before they flatten, which gives another distribution from the same numbers), so it
is written in one place, `build_stages`, and printed by `--explain`. A token that a stage removes gets the logit -∞.
Ties fall to the lowest id everywhere, so top-k keeps exactly k, and `top_k=1` is temperature 0.

The row is numpy in float64, not torch: one row is little work, and here no thread count, device or half precision can
change a sum and with it the text. The draw is a pure function of (seed, position): the same prompt and seed give the
same text, streamed or not, and a text cut short goes on as it would have.

Axes: V vocabulary.
Source: Fan et al. 2018 §5 (top-k), Holtzman et al. 2020 §3.1 (top-p).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pellucid.engine.settings import SamplingSettings
from pellucid.errors import SamplingError

MODEL = "model"  # the name of the row before any stage


@dataclass(frozen=True)
class Stage:
    """One step between the model's logits and the draw: its printed name and what it does to a row."""

    name: str
    apply: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Choice:
    """A chosen token, and the rows that led to it: the model's logits, then those after each stage."""

    id: int
    logprob: float  # nats, under the model's own distribution, before any stage
    u: float | None  # the draw; None when nothing was drawn
    rows: tuple[np.ndarray, ...]


class Sampler:
    """The stages of one generation and where its draws come from; choosing changes nothing in it."""

    def __init__(self, settings: SamplingSettings, *, num_logits: int, num_known: int) -> None:
        self.seed = settings.seed
        self.stages = build_stages(settings, num_logits=num_logits, num_known=num_known)

    def choose(self, logits_V: np.ndarray, ids: Sequence[int], num_prompt: int) -> Choice:
        """The token that follows `ids`, of which the first `num_prompt` were given."""
        u = None if self.seed is None else uniform(self.seed, len(ids))
        return choose(logits_V.astype(np.float64), self.stages, u)


def build_stages(settings: SamplingSettings, *, num_logits: int, num_known: int) -> tuple[Stage, ...]:
    """The stages that settings ask for, in order; those that would change nothing are left out.

    `num_logits` is the length of a row; ids from `num_known` on are padding that the tokenizer cannot spell.

    >>> [stage.name for stage in build_stages(SamplingSettings(top_p=0.9, temperature=0.5), num_logits=9, num_known=9)]
    ['temperature 0.5', 'top-p 0.9']
    """
    stages = []
    if num_known < num_logits:
        stages.append(Stage(f"vocabulary {num_known}", partial(apply_vocabulary, num_known=num_known)))
    if settings.greedy:
        return (*stages, Stage("greedy", partial(apply_top_k, top_k=1)))
    if settings.temperature != 1:
        stages.append(
            Stage(f"temperature {settings.temperature:g}", partial(apply_temperature, temperature=settings.temperature))
        )
    if settings.top_k is not None and settings.top_k < num_logits:
        stages.append(Stage(f"top-k {settings.top_k}", partial(apply_top_k, top_k=settings.top_k)))
    if settings.top_p < 1:
        stages.append(Stage(f"top-p {settings.top_p:g}", partial(apply_top_p, top_p=settings.top_p)))
    return tuple(stages)


def apply_vocabulary(logits_V: np.ndarray, num_known: int) -> np.ndarray:
    """Remove the ids from `num_known` on."""
    return np.where(np.arange(logits_V.size) < num_known, logits_V, -np.inf)


def apply_temperature(logits_V: np.ndarray, temperature: float) -> np.ndarray:
    """Divide by the temperature, after moving the highest logit to 0 (which no probability notices).

    >>> probabilities(apply_temperature(np.array([3.0, 1.5, 0.5]), 0.5)).round(4).tolist()
    [0.9465, 0.0471, 0.0064]
    """
    with np.errstate(over="ignore"):  # a temperature near 0 sends all but the highest to -∞: its limit
        return (logits_V - logits_V.max()) / temperature


def apply_top_k(logits_V: np.ndarray, top_k: int) -> np.ndarray:
    """Keep the k highest; of equal ones those with the lowest ids.

    >>> apply_top_k(np.array([1.0, 3.0, 1.0, 2.0]), 3).tolist()
    [1.0, 3.0, -inf, 2.0]
    """
    if top_k >= logits_V.size:
        return logits_V
    threshold = np.partition(logits_V, -top_k)[-top_k]
    kept_V = logits_V > threshold
    kept_V[np.flatnonzero(logits_V == threshold)[: top_k - kept_V.sum()]] = True
    return np.where(kept_V, logits_V, -np.inf)


def apply_top_p(logits_V: np.ndarray, top_p: float) -> np.ndarray:
    """Keep, from the likeliest down, each token before which the probabilities have not yet reached `top_p`.

    >>> apply_top_p(np.log([0.2, 0.5, 0.3]), 0.6).round(2).tolist()
    [-inf, -0.69, -1.2]
    """
    possible = np.flatnonzero(logits_V > -np.inf)
    order = possible[np.argsort(-logits_V[possible], kind="stable")]
    mass = probabilities(logits_V)[order].cumsum()
    num_kept = 1 + np.count_nonzero(mass[:-1] < top_p)
    kept_V = np.full(logits_V.shape, -np.inf)
    kept_V[order[:num_kept]] = logits_V[order[:num_kept]]
    return kept_V


def choose(logits_V: np.ndarray, stages: Sequence[Stage], u: float | None) -> Choice:
    """Pass one row of logits (float64) through the stages and draw a token with `u` (None: the only one left).

    Raises SamplingError for a logit that is NaN or +∞, and when nothing is left, naming the stage.
    """
    check_row(logits_V, MODEL)
    rows = [logits_V]
    for stage in stages:
        rows.append(stage.apply(rows[-1]))
        check_row(rows[-1], stage.name)
    chosen = int(rows[-1].argmax()) if u is None else draw(probabilities(rows[-1]), u)
    return Choice(chosen, float(log_probabilities(logits_V)[chosen]), u, tuple(rows))


def check_row(logits_V: np.ndarray, name: str) -> None:
    """Refuse a row from which nothing can be drawn."""
    highest = logits_V.max()  # NaN when any is NaN
    if np.isnan(highest) or highest == np.inf:
        broken = int(np.flatnonzero(np.isnan(logits_V) | (logits_V == np.inf))[0])
        raise SamplingError(
            "a logit is not a finite number",
            found=f"{logits_V[broken]} for token {broken}",
            where=f"after {name}",
            hint="the weights may be broken, or too large for the number format: try --device cpu",
        )
    if highest == -np.inf:
        raise SamplingError("no token is left to choose from", found="every logit is -inf", where=f"after {name}")


def probabilities(logits_V: np.ndarray) -> np.ndarray:
    """Softmax: exp(l) / Σ exp(l).

    >>> probabilities(np.array([4.0, 2.0, 0.5])).round(3).tolist()
    [0.858, 0.116, 0.026]
    """
    weights_V = np.exp(logits_V - logits_V.max())
    return weights_V / weights_V.sum()


def log_probabilities(logits_V: np.ndarray) -> np.ndarray:
    """log softmax: l - log Σ exp(l), in nats."""
    shifted_V = logits_V - logits_V.max()
    return shifted_V - np.log(np.exp(shifted_V).sum())


def draw(p_V: np.ndarray, u: float) -> int:
    """The id into whose segment of the cumulative probabilities `u` falls.

    >>> [draw(np.array([0.5, 0.0, 0.5]), u) for u in (0.0, 0.49, 0.5, 0.99)]
    [0, 0, 2, 2]
    """
    ends_V = p_V.cumsum()
    found = int(ends_V.searchsorted(u * ends_V[-1], side="right"))
    # Rounding may carry u · total up to the total itself: then the last token that has a segment.
    return found if found < p_V.size else int(np.flatnonzero(p_V)[-1])


def segment(p_V: np.ndarray, token_id: int) -> tuple[float, float]:
    """Where the segment of a token begins and ends between 0 and 1."""
    ends_V = p_V.cumsum()
    start = ends_V[token_id - 1] if token_id else 0.0
    return float(start / ends_V[-1]), float(ends_V[token_id] / ends_V[-1])


def uniform(seed: int, position: int) -> float:
    """The draw for one position of a sequence: a number in [0, 1) that depends on nothing else.

    >>> uniform(seed=1, position=7) == uniform(seed=1, position=7) != uniform(seed=1, position=8)
    True
    """
    digest = hashlib.blake2b(f"{seed}/sample/{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53
