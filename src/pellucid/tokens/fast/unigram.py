"""The loops of Unigram's trainer: expected counts over all ways of cutting, the best way, and what losing a token costs.

A corpus is a chain of nodes: one before each character of each piece and one behind its last. An edge is a token that
fits there: it leads `length` nodes back. The edges that end at node n are `first[n]:first[n + 1]`, the longest first.

    expect      for each token how often it is used, averaged over all ways of cutting (forward, backward)
    cut         for each token how often the best way of cutting uses it (Viterbi)
    weigh       for each token how much likelihood the text loses without it
    log, exp, digamma

Every sum has one order, and only +, -, * and / are used, which every processor rounds alike: the result is the same to
the bit on every machine. The mathematical functions are written out here because each system's library rounds them in
its own way. Without Numba the same loops run in Python and give the same bits, some hundred times slower.

Source: Kudo 2018, "Subword Regularization", section 3.2; Rabiner 1989, "A Tutorial on Hidden Markov Models" (scaling).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pellucid.events import Event, Recorder

IS_COMPILED = importlib.util.find_spec("numba") is not None  # it lags new Pythons
if IS_COMPILED:
    from pellucid.tokens.fast.compile import loop
    from pellucid.tokens.fast.telling import telling_of_compilation
else:

    def loop(function: Callable[..., Any]) -> Any:
        """The loop as it is."""
        return function

    @contextmanager
    def telling_of_compilation(name: str, recorder: Recorder) -> Iterator[None]:
        """Say that the loops run as they are."""
        message = "Numba is not installed: Unigram is trained by slow loops, with the same result"
        recorder.record(Event(name="tokens.slow_way", message=message, data={"kind": "unigram"}))
        yield


TINY = 2.0**-250  # a sum below this is scaled up, so that no product of two of them underflows
LOG_2_HIGH, LOG_2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # their sum is log(2), the first is short
SQRT_HALF = 0.70710678118654752440
NOTHING = -1e300  # the score of a place that no path has reached
LOST = 1 << 40  # the shift of a sum without terms


@loop
def log(x):
    """The natural logarithm of a positive number: m * 2^e, and the series of log((1 + z) / (1 - z)).

    >>> abs(log(10.0) - math.log(10.0)) < 1e-15
    True
    """
    mantissa, exponent = math.frexp(x)
    if mantissa < SQRT_HALF:
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square = z * z
    total = 0.0
    for odd in range(23, -1, -2):  # z is below 0.172: the next term is below 1e-19
        total = total * square + 1.0 / odd
    return exponent * LOG_2_HIGH + (exponent * LOG_2_LOW + 2.0 * z * total)


@loop
def exp(x):
    """The exponential function: a power of two, and the Taylor series of what is left.

    >>> abs(exp(-3.0) - math.exp(-3.0)) < 1e-16
    True
    """
    power = math.floor(x / (LOG_2_HIGH + LOG_2_LOW) + 0.5)
    rest = (x - power * LOG_2_HIGH) - power * LOG_2_LOW
    total = 1.0
    for term in range(14, 0, -1):
        total = 1.0 + total * rest / term
    return math.ldexp(total, int(power))


@loop
def digamma(x):
    """The derivative of log Γ: recurrence up to 7, then the asymptotic series.

    >>> abs(digamma(1.0) + 0.57721566490153286) < 1e-10
    True
    """
    result = 0.0
    while x < 7.0:
        result -= 1.0 / x
        x += 1.0
    x -= 0.5
    square = 1.0 / (x * x)
    series = square * (1.0 / 24.0 - square * (7.0 / 960.0 - square * (31.0 / 8064.0 - square * (127.0 / 30720.0))))
    return result + log(x) + series


@loop
def add(total, shift, more, more_shift):
    """The sum of two numbers x * TINY^shift, which may be too small for a float: as such a number, with x from TINY on."""
    if more_shift < shift:
        total, shift, more, more_shift = more, more_shift, total, shift
    if more_shift == shift:
        total += more
    elif more_shift == shift + 1:  # beyond that it is lost in rounding
        total += more * TINY
    if 0.0 < total < TINY:
        total, shift = total / TINY, shift + 1
    return total, shift


@loop
def expect(starts, counts, first, length, token, p, expected, likelihoods):
    """Add to `expected` how often each token is used over all ways of cutting, each way weighted by its probability.

    `starts`: the first node of each piece, and one more; `counts`: how often each piece occurs; `p`: the probability
    of each token. `likelihoods` gets the logarithm of the probability of each piece.
    """
    most = 1
    for piece in range(len(counts)):
        most = max(most, starts[piece + 1] - starts[piece])
    alpha, beta = np.zeros(most), np.zeros(most)  # sums over all ways up to a node, and from a node on
    alpha_shift, beta_shift = np.zeros(most, np.int64), np.zeros(most, np.int64)
    for piece in range(len(counts)):
        base, last = starts[piece], starts[piece + 1] - starts[piece] - 1
        alpha[0], alpha_shift[0] = 1.0, 0
        for node in range(1, last + 1):
            total, shift = 0.0, LOST
            for edge in range(first[base + node], first[base + node + 1]):
                start = node - length[edge]
                total, shift = add(total, shift, alpha[start] * p[token[edge]], alpha_shift[start])
            alpha[node], alpha_shift[node] = total, shift
        beta[:last], beta_shift[:last] = 0.0, LOST
        beta[last], beta_shift[last] = 1.0, 0
        for node in range(last, 0, -1):
            share = beta[node] / alpha[last] * counts[piece]
            for edge in range(first[base + node], first[base + node + 1]):
                start, weight = node - length[edge], p[token[edge]]
                more = beta[node] * weight
                beta[start], beta_shift[start] = add(beta[start], beta_shift[start], more, beta_shift[node])
                use = alpha[start] * weight * share
                for _ in range(alpha_shift[start] + beta_shift[node] - alpha_shift[last]):
                    use *= TINY
                for _ in range(alpha_shift[last] - alpha_shift[start] - beta_shift[node]):
                    use /= TINY
                expected[token[edge]] += use
        likelihoods[piece] = log(alpha[last]) + alpha_shift[last] * log(TINY)


@loop
def estimate(expected, scores, p):
    """The scores (logarithms of probabilities) that go with expected counts: exp ψ in place of the counts themselves.

    ψ takes about a half from every count, which makes rare tokens rarer.
    """
    total = 0.0
    for token in range(len(expected)):
        total += expected[token]
    whole = digamma(total)
    for token in range(len(expected)):
        scores[token] = digamma(expected[token]) - whole
        p[token] = exp(scores[token])


@loop
def walk(base, last, without, first, length, token, scores, best, back):
    """The best way from node `base` to the node `last` further on that does not use the token `without` (Viterbi).

    `back` gets the edge by which the best way reaches each node. Where two are equal, the one that starts earlier wins.
    """
    best[0] = 0.0
    for node in range(1, last + 1):
        best[node] = NOTHING
        for edge in range(first[base + node], first[base + node + 1]):
            if length[edge] <= node and token[edge] != without:
                score = best[node - length[edge]] + scores[token[edge]]
                if score > best[node]:
                    best[node], back[node] = score, edge


@loop
def cut(starts, counts, first, length, token, scores, used):
    """Add to `used` how often the best way of cutting each piece uses each token."""
    most = 1
    for piece in range(len(counts)):
        most = max(most, starts[piece + 1] - starts[piece])
    best, back = np.zeros(most), np.zeros(most, np.int64)
    for piece in range(len(counts)):
        node = starts[piece + 1] - starts[piece] - 1
        walk(starts[piece], node, -1, first, length, token, scores, best, back)
        while node > 0:
            used[token[back[node]]] += counts[piece]
            node -= length[back[node]]


@loop
def weigh(places, lengths, first, length, token, spelled, scores, used, losses):
    """How much likelihood the text loses without each token: in its stead stands the best way of cutting the token.

    `places`, `lengths`: the first node of an edge of each token, and its length, 0 for a token that stays whatever it
    costs; `spelled`: the bytes behind the edges that spell a character, numbered after the tokens, -1 where there are
    fewer than four; `used`: from `cut`. A token that is never used loses nothing, and less than nothing (-1) if it is
    not even the best way of cutting itself.
    """
    most = 1
    for index in range(len(places)):
        most = max(most, lengths[index] + 1)
    best, back = np.zeros(most), np.zeros(most, np.int64)
    total = 0.0
    for index in range(len(places)):
        total += used[index]
    for index in range(len(places)):
        if lengths[index] == 0:
            continue
        walk(places[index], lengths[index], index, first, length, token, scores, best, back)
        if used[index] == 0.0:
            losses[index] = 0.0 if scores[index] >= best[lengths[index]] else -1.0
            continue
        parts, node, without = 0, lengths[index], 0.0
        while node > 0:
            part = token[back[node]]
            if part < len(places):
                parts, without = parts + 1, without + log(used[part] + used[index])
            else:
                for byte in spelled[part - len(places)]:
                    if byte >= 0:
                        parts, without = parts + 1, without + log(used[byte] + used[index])
            node -= length[back[node]]
        without -= parts * log(total + used[index] * (parts - 1))
        losses[index] = used[index] * (log(used[index]) - log(total) - without)
