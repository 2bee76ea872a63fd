"""Mirostat sampling: a cut that adapts so that the surprise of the text stays near a target τ.

    surprise of a choice   S = -log2 p                 bits, after the cut
    limit                  μ ← μ - η · (S - τ)         starts at 2 τ

Version 2 keeps every token whose surprise is at most μ. Version 1 estimates from the 100 likeliest tokens how steeply
the row falls (Zipf's exponent s) and computes from it how many tokens k make up μ bits:

    ε = s - 1          k = (ε 2^μ / (1 - V^-ε))^(1/s)

The limit depends on all choices so far. It is stored under the ids that led to it, not in one variable: when a sequence
is cut back or forked, each continuation finds its own limit.

Axes: V vocabulary · N the tokens that are still possible.
Source: Basu et al. 2021, algorithms 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pellucid.counts import counted
from pellucid.engine.sampling.distribution import log_probabilities
from pellucid.engine.sampling.stage import History
from pellucid.engine.sampling.truncation import apply_top_k
from pellucid.errors import SamplingError

NUM_STEEPNESS = 100  # the likeliest tokens that the estimate of version 1 looks at


class Mirostat:
    """The stage of one generation, with the limit that belongs to each beginning it has seen."""

    def __init__(self, *, version: int, tau: float, eta: float) -> None:
        self.name = f"mirostat {version} (tau {tau:g}, eta {eta:g})"
        self.version, self.tau, self.eta = version, tau, eta
        self._limits: dict[tuple[int, int], float] = {}

    def limit(self, history: History) -> float:
        """μ in bits for the next token. Raises SamplingError after ids whose choice it has not seen."""
        num_new = len(history.ids) - history.num_prompt
        if not num_new:
            return 2 * self.tau
        found = self._limits.get(_key(history.ids))
        if found is None:
            raise SamplingError(
                "mirostat does not know these ids, so it cannot know how surprising they were",
                found=f"{counted(num_new, 'id')} after the prompt that it did not choose",
                hint="choose every token after the prompt with one and the same sampler",
            )
        return found

    def apply(self, logits_V: np.ndarray, history: History) -> np.ndarray:
        """Cut the row to the limit of this history."""
        cut = apply_mirostat_1 if self.version == 1 else apply_mirostat_2
        return cut(logits_V, self.limit(history))

    def observe(self, history: History, chosen: int, logprob: float) -> None:
        """Note how surprising a choice was: its log-probability in nats, after the cut."""
        error = -logprob / math.log(2) - self.tau
        self._limits[_key([*history.ids, chosen])] = self.limit(history) - self.eta * error


def _key(ids: Sequence[int]) -> tuple[int, int]:
    return len(ids), hash(tuple(ids))


def apply_mirostat_2(logits_V: np.ndarray, limit: float) -> np.ndarray:
    """Keep every token whose surprise is at most `limit` bits, and the likeliest in any case.

    >>> apply_mirostat_2(np.log([0.5, 0.25, 0.25]), 1.5).round(2).tolist()
    [-0.69, -inf, -inf]
    """
    logprobs_V = log_probabilities(logits_V)
    kept_V = logprobs_V >= -limit * math.log(2)
    kept_V[logits_V.argmax()] = True
    return np.where(kept_V, logits_V, -np.inf)


def apply_mirostat_1(logits_V: np.ndarray, limit: float) -> np.ndarray:
    """Keep as many tokens as make up `limit` bits in a row that falls as steeply as this one.

    >>> int((apply_mirostat_1(-np.log(np.arange(1.0, 101.0)), 3.0) > -np.inf).sum())
    1
    """
    return apply_top_k(logits_V, count_for_limit(steepness(logits_V), limit, logits_V.size))


def steepness(logits_V: np.ndarray) -> float:
    """Zipf's exponent of the likeliest tokens, by least squares: p falls as rank^-s.

    >>> round(steepness(-1.5 * np.log(np.arange(1.0, 50.0))), 6)
    1.5
    """
    num_seen = min(NUM_STEEPNESS, logits_V.size)
    ordered_N = np.sort(np.partition(logits_V, -num_seen)[-num_seen:])[::-1].astype(np.float64)
    ordered_N = ordered_N[ordered_N > -np.inf]
    if ordered_N.size < 2:
        return math.inf
    ranks_N = np.arange(1, ordered_N.size + 1)
    steps_N = np.diff(np.log(ranks_N))
    return float((steps_N * -np.diff(ordered_N)).sum() / (steps_N**2).sum())


def count_for_limit(exponent: float, limit: float, num_tokens: int) -> int:
    """How many of the likeliest tokens to keep, from 1 to all.

    >>> [count_for_limit(1.2, limit, 1000) for limit in (1.0, 5.0, 50.0)]
    [1, 5, 1000]
    """
    if exponent == math.inf:
        return 1
    most, epsilon = math.log(num_tokens), exponent - 1
    if exponent <= 0 or most == 0:
        return num_tokens
    # ε / (1 - V^-ε) tends to 1 / log V where ε is 0.
    share = 1 / most if abs(epsilon * most) < 1e-12 else epsilon / -math.expm1(-epsilon * most)
    log_count = (limit * math.log(2) + math.log(share)) / exponent
    return num_tokens if log_count >= most else max(1, int(math.exp(log_count)))
