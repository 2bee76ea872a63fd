"""One row of logits as a distribution: its probabilities (softmax), and the token that a number u in [0, 1) selects.

    p_i = exp(l_i - max l) / Σ exp(l - max l)
    draw(u) = the first i with  p_0 + … + p_i > u          segments of [0, 1) laid side by side, in id order

A row is numpy, in the float32 of the runner or in float64; sums are always float64. Adding up 50,000 numbers one
after the other takes longer than computing them, so `locate` sums blocks first and walks through one block only.
Weights need not add up to 1: a draw uses their shares.

Axes: V vocabulary · N any number of weights.
"""

from __future__ import annotations

import math

import numpy as np

BLOCK = 256  # weights summed together, or logits of which the highest is looked for: about the root of a vocabulary
LOWEST = -1e4  # a logit this far below the highest has no weight in any format, and unlike -∞ it times 0 is 0
FEW = 1024  # up to here one pass over all is quicker than two over blocks


def weigh(logits_V: np.ndarray, highest: float | np.floating | None = None) -> np.ndarray:
    """exp(l - max): the probabilities before they are divided by their sum.

    >>> weigh(np.array([2.0, 2.0, -np.inf])).tolist()
    [1.0, 1.0, 0.0]
    """
    return np.exp(logits_V - (logits_V.max() if highest is None else highest))


def total(weights_N: np.ndarray) -> float:
    """The sum of the weights, in float64."""
    return float(weights_N.sum(dtype=np.float64))


def probabilities(logits_V: np.ndarray) -> np.ndarray:
    """Softmax: exp(l) / Σ exp(l).

    >>> probabilities(np.array([4.0, 2.0, 0.5])).round(3).tolist()
    [0.858, 0.116, 0.026]
    """
    weights_V = weigh(logits_V)
    return weights_V / total(weights_V)


def log_probabilities(logits_V: np.ndarray) -> np.ndarray:
    """log softmax: l - log Σ exp(l), in nats."""
    highest = logits_V.max()
    return logits_V - highest - math.log(total(weigh(logits_V, highest)))


def locate(weights_N: np.ndarray, target: float) -> int:
    """The first index at which the running sum of the weights exceeds `target`; N when it never does.

    >>> [locate(np.array([0.5, 0.0, 0.5]), target) for target in (0.0, 0.49, 0.5, 1.0)]
    [0, 0, 2, 3]
    """
    if weights_N.size <= FEW:
        return int(weights_N.cumsum(dtype=np.float64).searchsorted(target, side="right"))
    ends = _block_sums(weights_N).cumsum()
    block = int(ends.searchsorted(target, side="right"))
    inside_N = weights_N[block * BLOCK : (block + 1) * BLOCK]
    if not inside_N.size:
        return weights_N.size
    before = float(ends[block - 1]) if block else 0.0
    found = int((before + inside_N.cumsum(dtype=np.float64)).searchsorted(target, side="right"))
    # The sum of a block and the walk through it may round differently: then the last of the block that weighs anything.
    return block * BLOCK + (found if found < inside_N.size else int(np.flatnonzero(inside_N)[-1]))


def draw(weights_V: np.ndarray, u: float, whole: float | None = None) -> int:
    """The id whose segment of the cumulative weights holds `u`; `whole` is the weights' sum, if it is known already.

    >>> [draw(np.array([0.5, 0.0, 0.5]), u) for u in (0.0, 0.49, 0.5, 0.99)]
    [0, 0, 2, 2]
    """
    found = locate(weights_V, u * (total(weights_V) if whole is None else whole))
    # Rounding may carry u · total up to the total itself: then the last token that has a segment.
    return found if found < weights_V.size else int(np.flatnonzero(weights_V)[-1])


def segment(weights_V: np.ndarray, token_id: int) -> tuple[float, float]:
    """Where the segment of a token begins and ends between 0 and 1.

    >>> segment(np.array([0.5, 0.0, 0.5]), 2)
    (0.5, 1.0)
    """
    whole, before = total(weights_V), total(weights_V[:token_id])
    return before / whole, (before + float(weights_V[token_id])) / whole


def entropy(logits_V: np.ndarray) -> float:
    """-Σ p log p, in nats; tokens without probability add nothing.

    >>> round(entropy(np.log([0.5, 0.25, 0.25])) / math.log(2), 12)
    1.5
    """
    shifted_V = np.maximum(logits_V - logits_V.max(), LOWEST)
    weights_V = np.exp(shifted_V)
    whole = total(weights_V)
    return math.log(whole) - total(weights_V * shifted_V) / whole


class Distribution:
    """One row of logits as probabilities; only the tokens that are left cost anything.

    `before` is the row that the stage was given: no stage brings back a token that an earlier one has removed.

    >>> left = Distribution(np.array([0.0, -np.inf, 0.0, 1.0], dtype=np.float32))
    >>> left.num_kept, left.top(2), left.logprobs(np.array([3])).round(3).tolist()
    (3, (3, 0), [-0.551])
    """

    def __init__(self, logits_V: np.ndarray, before: Distribution | None = None) -> None:
        self.logits_V = logits_V
        self.ids: np.ndarray | None = before.ids if before else None  # None: all, which need not be listed
        self.kept = logits_V if self.ids is None else logits_V[self.ids]
        if self.kept.min() == -np.inf:
            places = np.flatnonzero(self.kept > -np.inf)
            self.ids, self.kept = self.ids_at(places), self.kept[places]
        self.num_kept, self.highest = self.kept.size, float(self.kept.max())
        self.shifted = (self.kept - self.highest).astype(np.float32, copy=False)
        self.weights = np.exp(self.shifted)
        self.log_total = math.log(float(self.weights.sum()))

    def ids_at(self, places: np.ndarray) -> np.ndarray:
        """The ids of some places among the tokens that are left."""
        return places if self.ids is None else self.ids[places]

    def logprobs(self, ids: np.ndarray) -> np.ndarray:
        """Log-probabilities of some tokens, in nats."""
        return self.logits_V[ids].astype(np.float64) - self.highest - self.log_total

    def entropy_bits(self) -> float:
        """-Σ p log₂ p, where log p = shifted - log Σ weights."""
        nats = self.log_total - float(self.weights @ self.shifted) / math.exp(self.log_total)
        return max(0.0, nats / math.log(2))

    def mass_of(self, ids: np.ndarray) -> float:
        """The share of the probability that lies on some tokens."""
        weights = np.exp((self.logits_V[ids] - self.highest).astype(np.float32, copy=False))
        return min(1.0, float(weights.sum()) / math.exp(self.log_total))  # never above 1 by rounding

    def segment(self, token_id: int) -> tuple[float, float]:
        """Where the segment of a token begins and ends between 0 and 1, segments laid out in id order."""
        return segment(self.weights, token_id if self.ids is None else int(np.searchsorted(self.ids, token_id)))

    def top(self, count: int) -> tuple[int, ...]:
        """The likeliest tokens, of equals the lowest ids first.

        No sort of the whole row: the count-th highest of the blocks' maxima is a floor under the count-th highest
        logit, and few logits reach it.
        """
        floor = -np.inf
        if self.num_kept > count * BLOCK:
            maxima = np.maximum.reduceat(self.kept, np.arange(0, self.num_kept, BLOCK))
            floor = np.sort(maxima)[-count]
        places = np.flatnonzero(self.kept >= floor)
        best = places[np.argsort(-self.kept[places], kind="stable")[:count]]
        return tuple(self.ids_at(best).tolist())


def _block_sums(weights_N: np.ndarray) -> np.ndarray:
    """The sum of each block of `BLOCK` weights; the last block may be shorter."""
    full = weights_N.size // BLOCK * BLOCK
    sums = weights_N[:full].reshape(-1, BLOCK).sum(axis=1, dtype=np.float64)
    return sums if full == weights_N.size else np.append(sums, weights_N[full:].sum(dtype=np.float64))
