"""Repetition penalties: how the past use of a token changes its logit.

    repetition    l > 0: l / r, else l · r          for every id that occurs
    frequency     l - f · count
    presence      l - p                             for every id that occurs
    DRY           l - m · b^(n - allowed)           for an id that would make the last n tokens repeat an earlier run
    no-repeat     -∞                                for an id that would complete an n-gram a second time

Which ids count is half of what a penalty means (see `orders.Lookback`): here they are an argument. Pure functions of one
row and those ids; nothing is remembered between tokens, so a sequence may be cut back at any time.

Axes: V vocabulary · N different ids · S positions looked back on.
Source: Keskar et al. 2019 §4.1 (repetition), Paulus et al. 2018 §2.5 (no repeated n-grams); DRY by p-e-w, in
text-generation-webui.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence, Set

import numpy as np

from pellucid.engine.sampling.orders import Lookback

LARGEST_EXPONENT = math.log(2.0**127)  # beyond it b^n leaves float32


def select(ids: Sequence[int], num_prompt: int, span: Lookback) -> Sequence[int]:
    """The ids that a penalty looks back on.

    >>> [select([1, 2, 3, 4, 5], 2, Lookback(*span)) for span in (("both", 4), ("output",), ("prompt", 1))]
    [[2, 3, 4, 5], [3, 4, 5], [2]]
    """
    if span.scope != "both":
        ids = ids[:num_prompt] if span.scope == "prompt" else ids[num_prompt:]
    return ids if span.window is None else ids[-span.window :]


def apply_repetition(logits_V: np.ndarray, ids: Sequence[int], penalty: float) -> np.ndarray:
    """Make every id that occurs less likely, once, however often it occurs; below 1 more likely.

    >>> apply_repetition(np.array([2.0, -2.0, 1.0]), [0, 1, 0], 2.0).tolist()
    [1.0, -4.0, 1.0]
    """
    seen_N = np.array(list(set(ids)), dtype=np.intp)
    before_N = logits_V[seen_N]
    penalised_V = logits_V.copy()
    penalised_V[seen_N] = np.where(before_N > 0, before_N / penalty, before_N * penalty)
    return penalised_V


def apply_frequency(logits_V: np.ndarray, ids: Sequence[int], penalty: float) -> np.ndarray:
    """Lower every id by the penalty times its count.

    >>> apply_frequency(np.array([2.0, 2.0, 2.0]), [0, 1, 0], 0.5).tolist()
    [1.0, 1.5, 2.0]
    """
    counts = Counter(ids)
    penalised_V = logits_V.copy()
    seen_N = np.fromiter(counts.keys(), dtype=np.intp, count=len(counts))
    penalised_V[seen_N] -= penalty * np.fromiter(counts.values(), dtype=logits_V.dtype, count=len(counts))
    return penalised_V


def apply_presence(logits_V: np.ndarray, ids: Sequence[int], penalty: float) -> np.ndarray:
    """Lower every id that occurs by the penalty, however often it occurs.

    >>> apply_presence(np.array([2.0, 2.0, 2.0]), [0, 1, 0], 0.5).tolist()
    [1.5, 1.5, 2.0]
    """
    penalised_V = logits_V.copy()
    penalised_V[np.array(list(set(ids)), dtype=np.intp)] -= penalty
    return penalised_V


def apply_no_repeat_ngram(logits_V: np.ndarray, ids: Sequence[int], n: int) -> np.ndarray:
    """Remove every id that would complete an n-gram which already stands in `ids`.

    >>> apply_no_repeat_ngram(np.zeros(4), [1, 2, 3, 1, 2], 3).tolist()
    [0.0, 0.0, 0.0, -inf]
    """
    if len(ids) < n:
        return logits_V
    ids_S = np.array(ids)
    matches_S = np.ones(len(ids) - n + 1, dtype=bool)  # over the places where an n-gram begins
    for offset in range(n - 1):
        matches_S &= ids_S[offset : offset + matches_S.size] == ids_S[len(ids) - n + 1 + offset]
    masked_V = logits_V.copy()
    masked_V[ids_S[n - 1 :][matches_S]] = -np.inf
    return masked_V


def apply_dry(
    logits_V: np.ndarray,
    ids: Sequence[int],
    *,
    multiplier: float,
    base: float,
    allowed_length: int,
    breakers: Set[int] = frozenset(),
) -> np.ndarray:
    """Lower every id that would continue the repetition of an earlier run; a longer run costs more.

    A run of `allowed_length` tokens costs `multiplier`, each further token `base` times as much. Runs end at breakers
    (line ends, quotation marks), which are never penalised themselves.

    >>> apply_dry(np.zeros(3), [0, 1, 2, 0, 1], multiplier=1.0, base=1.5, allowed_length=1).tolist()
    [0.0, 0.0, -1.5]
    """
    most = allowed_length + (int(LARGEST_EXPONENT / math.log(base)) if base > 1 else 0)
    runs = measure_runs(ids, shortest=allowed_length, longest=most, breakers=breakers)
    penalised_V = logits_V.copy()
    for token_id, length in runs.items():
        penalised_V[token_id] -= min(multiplier * base ** (length - allowed_length), 2.0**127)
    return penalised_V


def measure_runs(ids: Sequence[int], *, shortest: int, longest: int, breakers: Set[int]) -> dict[int, int]:
    """For every id that would repeat an earlier run: how many of the last tokens already repeat it.

    >>> measure_runs([1, 2, 3, 9, 2, 3, 7, 1, 2, 3], shortest=2, longest=99, breakers=frozenset())
    {7: 2, 9: 3}
    """
    tail = len(ids)  # the ids since the last breaker
    if breakers:
        tail = next((n for n, token_id in enumerate(reversed(ids)) if token_id in breakers), tail)
    if tail < shortest:
        return {}
    ids_S = np.array(ids)
    last = ids_S.size - 1
    matches_S = np.ones(last, dtype=bool)  # over the places where an earlier run may end: all but the end itself
    lengths_S = np.zeros(last, dtype=np.intp)
    for length in range(1, min(tail, longest, last) + 1):
        matches_S[: length - 1] = False
        matches_S[length - 1 :] &= ids_S[: last - length + 1] == ids_S[last - length + 1]
        if not matches_S.any():
            break
        lengths_S += matches_S
    places = np.flatnonzero(lengths_S >= shortest)
    places = places[np.argsort(lengths_S[places], kind="stable")]  # so that the longest run of an id comes last
    runs = dict(zip(ids_S[places + 1].tolist(), lengths_S[places].tolist(), strict=True))
    return {token_id: length for token_id, length in runs.items() if token_id not in breakers}
