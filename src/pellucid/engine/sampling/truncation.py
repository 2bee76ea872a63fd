"""Softmax temperature, top-k, top-p (nucleus sampling) and the other cuts: pure functions of one row of logits.

    temperature    l / T
    top-k          the k highest stay
    top-p          the fewest highest whose probabilities reach p stay
    min-p          p_i ≥ m · max p stay
    typical        the fewest whose surprise lies nearest the entropy H, until their probabilities reach p
    epsilon        p_i ≥ ε stay
    eta            p_i ≥ min(ε, √ε · exp(-H)) stay
    top-n-sigma    l_i ≥ max l - n · standard deviation of l stay
    XTC            of all tokens with p_i ≥ t every one but the least likely goes: it removes the obvious

A token that goes gets the logit -∞. Ties fall to the lowest id, so a cut to k keeps exactly k. Every cut but XTC and
typical keeps the likeliest token. Probabilities are those of the row as it arrives: what an earlier stage removed has
none.

Axes: V vocabulary · N the tokens that are still possible.
Source: Fan et al. 2018 §5 (top-k), Holtzman et al. 2020 §3.1 (top-p), Nguyen et al. 2024 (min-p), Meister et al. 2023
(typical), Hewitt et al. 2022 (epsilon, eta), Tang et al. 2024 (top-n-sigma); XTC by p-e-w, in text-generation-webui.
"""

from __future__ import annotations

import math

import numpy as np

from pellucid.engine.sampling.distribution import entropy, locate, log_probabilities, probabilities, total, weigh

HEAD = 2048  # tokens looked at first, where most rows have reached any mass
TINY, HUGE = 2.0**-126, 2.0**127  # the range of float32: a temperature beyond it is its limit


def apply_temperature(logits_V: np.ndarray, temperature: float) -> np.ndarray:
    """Divide by the temperature, after moving the highest logit to 0 (which changes no probability).

    >>> probabilities(apply_temperature(np.array([3.0, 1.5, 0.5]), 0.5)).round(4).tolist()
    [0.9465, 0.0471, 0.0064]
    """
    with np.errstate(over="ignore"):  # a temperature near 0 sends all but the highest to -∞: its limit
        return (logits_V - logits_V.max()) / divisor(temperature)


def divisor(temperature: float) -> float:
    """What the logits are divided by: the temperature, within the range of float32."""
    return min(max(temperature, TINY), HUGE)


def apply_greedy(logits_V: np.ndarray) -> np.ndarray:
    """Temperature 0: keep the highest logit; of equal ones that with the lowest id.

    >>> apply_greedy(np.array([1.0, 3.0, 3.0])).tolist()
    [-inf, 3.0, -inf]
    """
    highest = logits_V.argmax()
    kept_V = np.full_like(logits_V, -np.inf)
    kept_V[highest] = logits_V[highest]
    return kept_V


def apply_top_k(logits_V: np.ndarray, top_k: int) -> np.ndarray:
    """Top-k sampling: keep the k highest logits; of equal ones those with the lowest ids.

    >>> apply_top_k(np.array([1.0, 3.0, 1.0, 2.0]), 3).tolist()
    [1.0, 3.0, -inf, 2.0]
    """
    if top_k >= logits_V.size:
        return logits_V
    threshold = np.partition(logits_V, -top_k)[-top_k]
    return keep_highest(logits_V, logits_V, threshold, top_k)


def apply_top_p(logits_V: np.ndarray, top_p: float) -> np.ndarray:
    """Nucleus sampling: keep the fewest likeliest tokens whose probabilities together reach `top_p`.

    >>> apply_top_p(np.log([0.2, 0.5, 0.3]), 0.6).round(2).tolist()
    [-inf, -0.69, -1.2]
    """
    # Sorting the values alone is vectorised and takes a fifth of the time of sorting ids by value.
    ordered_V = np.sort(logits_V)[::-1]
    num_kept = _count_to_reach(weigh(ordered_V, ordered_V[0]), top_p)
    return keep_highest(logits_V, logits_V, ordered_V[num_kept - 1], num_kept)


def apply_min_p(logits_V: np.ndarray, min_p: float) -> np.ndarray:
    """Keep every token at least `min_p` times as likely as the likeliest, and that one in any case.

    >>> apply_min_p(np.log([0.2, 0.5, 0.3]), 0.5).round(2).tolist()
    [-inf, -0.69, -1.2]
    """
    return keep_above(logits_V, logits_V.max() + log_share(min_p))


def log_share(min_p: float) -> float:
    """How far below the highest logit a token may lie: 0 or less."""
    return min(math.log(min_p), 0.0) if min_p > 0 else -math.inf


def apply_typical(logits_V: np.ndarray, mass: float) -> np.ndarray:
    """Typical sampling: keep the fewest most typical tokens whose probabilities together reach `mass`.

    A token is typical when its surprise -log p lies near the entropy, which is the expected surprise.

    >>> probabilities(apply_typical(np.log([0.4, 0.2, 0.2, 0.2]), 0.5)).round(2).tolist()
    [0.0, 0.33, 0.33, 0.33]
    """
    logprobs_V = log_probabilities(logits_V)
    typicality_V = -np.abs(logprobs_V + entropy(logits_V))  # -∞ for what was removed: the least typical
    for head in (HEAD, logits_V.size):  # the whole row is sorted only when its head does not reach the mass
        order = _find_highest(typicality_V, head)
        sums = np.exp(logprobs_V[order]).cumsum(dtype=np.float64)
        if sums[-1] >= mass:
            break
    num_kept = min(int(sums.searchsorted(mass)), sums.size - 1) + 1
    return keep_highest(logits_V, typicality_V, typicality_V[order[num_kept - 1]], num_kept)


def apply_epsilon(logits_V: np.ndarray, epsilon: float) -> np.ndarray:
    """Keep every token with a probability of at least `epsilon`, and the likeliest in any case.

    >>> apply_epsilon(np.log([0.2, 0.5, 0.3]), 0.25).round(2).tolist()
    [-inf, -0.69, -1.2]
    """
    highest = logits_V.max()
    return keep_above(logits_V, min(highest, highest + math.log(epsilon * total(weigh(logits_V, highest)))))


def apply_eta(logits_V: np.ndarray, epsilon: float) -> np.ndarray:
    """As epsilon, but the bound falls to √ε · exp(-entropy) where the entropy is high.

    >>> apply_eta(np.log([0.9, 0.07, 0.03]), 0.05).round(2).tolist()
    [-0.11, -2.66, -inf]
    """
    return apply_epsilon(logits_V, min(epsilon, math.sqrt(epsilon) * math.exp(-entropy(logits_V))))


def apply_top_n_sigma(logits_V: np.ndarray, n: float) -> np.ndarray:
    """Keep logits at most `n` standard deviations below the highest; the deviation is that of the possible tokens.

    Temperature does not change which tokens stay.

    >>> probabilities(apply_top_n_sigma(np.log([0.1, 0.2, 0.3, 0.4]), 1.0)).round(4).tolist()
    [0.0, 0.0, 0.4286, 0.5714]
    """
    possible_N = logits_V[logits_V > -np.inf]
    return keep_above(logits_V, logits_V.max() - n * float(possible_N.std(dtype=np.float64)))


def apply_xtc(logits_V: np.ndarray, threshold: float) -> np.ndarray:
    """Remove every token at least as likely as `threshold`, except the least likely of them.

    >>> probabilities(apply_xtc(np.log([0.4, 0.3, 0.2, 0.1]), 0.29)).round(3).tolist()
    [0.0, 0.5, 0.333, 0.167]
    """
    p_V = probabilities(logits_V)
    obvious = np.flatnonzero(p_V >= threshold)
    if obvious.size < 2:
        return logits_V
    order = np.argsort(-logits_V[obvious], kind="stable")
    cut_V = logits_V.copy()
    cut_V[obvious[order[:-1]]] = -np.inf
    return cut_V


def keep_above(logits_V: np.ndarray, threshold: float | np.floating) -> np.ndarray:
    """Keep the logits that are not below a threshold."""
    return np.where(logits_V >= threshold, logits_V, -np.inf)


def keep_highest(
    logits_V: np.ndarray, scores_V: np.ndarray, threshold: float | np.floating, num_kept: int
) -> np.ndarray:
    """Keep the `num_kept` tokens with the highest scores, the last of which is `threshold`; ties to the lowest id."""
    kept_V = scores_V > threshold
    equal = np.flatnonzero(scores_V == threshold)
    kept_V[equal[: num_kept - np.count_nonzero(kept_V)]] = True
    return np.where(kept_V, logits_V, -np.inf)


def _find_highest(scores_V: np.ndarray, count: int) -> np.ndarray:
    """The places of the highest scores, in order."""
    if count < scores_V.size:
        places = np.argpartition(scores_V, -count)[-count:]
        return places[np.argsort(-scores_V[places])]
    return np.argsort(-scores_V)


def _count_to_reach(weights_N: np.ndarray, share: float) -> int:
    """How many weights, from the first on, it takes to reach this share of their sum; at least one."""
    # The first sum above a number just below the target is the first that reaches the target.
    target = math.nextafter(share * total(weights_N), 0.0)
    return min(locate(weights_N, target), weights_N.size - 1) + 1
