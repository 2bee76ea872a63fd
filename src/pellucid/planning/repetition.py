"""Several epochs on one text: what repeated tokens are worth, and when a model overfits (learns the text by heart).

    D' = U + U R_D (1 - exp(-(D/U - 1) / R_D))      what D tokens read from a text of U are worth in fresh ones
    N' = U_N + U_N R_N (1 - exp(-(N/U_N - 1) / R_N))      likewise for parameters beyond U_N, those that U tokens can fill
    excess = (r N')^-a + D'^-a      the part of the loss that a plan can change, up to a factor

Muennighoff et al. fitted D' and N' to runs on web text, whose loss never rises again. On a small text it
does: the loss falls for some passes (epochs), then the model learns the text by heart. The number of good passes, P,
is smaller when there are more parameters for each token of the text; dropout raises it.

    P = passes_at_one · (N/U)^-fall · exp(dropout / dropout_scale)

Every constant stands in `Law`, with where it is from. They are *not* laws of nature: tune them with
`benchmarks/own_text.py`, which holds the plan against a sweep.

Source: Muennighoff et al. 2023 ("Scaling Data-Constrained Language Models", eq. 5 and 7, §6); Hoffmann et al. 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Law:
    """The constants. `measured` ones are from runs of this program on tiny Shakespeare (docs/log.md, benchmarks.md)."""

    exponent: float = 0.35  # a: the same for parameters and tokens, as fitted by Muennighoff et al.
    repeated_tokens: float = 15.39  # R_D, as fitted by them
    repeated_parameters: float = 5.31  # R_N, as fitted by them
    # r: tokens for each parameter at which, for a given time and fresh text, the loss is lowest. Web text and long runs
    # have 20. In a minute over a novel 0.5M parameters and 2.3 tokens for each beat 1.5M and 0.4 (measured); in two, 1.5M
    # and 0.8 tokens, over four passes, were best.
    tokens_per_parameter: float = 2.0
    # P: 10.5M parameters on 1.0M characters were best after 2.9 passes of those tried (2.4, 2.9 and 3.3), 1.7M on 0.4M
    # tokens after about 5 of 10, 1.5M on 0.3M after 4 rather than 8, 0.5M on 0.3M after 4 rather than 8 (measured): a line
    # through all four.
    passes_at_one: float = 9.6
    fall: float = 0.55
    # nanoGPT's recipe of the same size and text has dropout 0.2 and is best after 28 passes: ten times as many.
    dropout_scale: float = 0.085
    # So few updates teach nothing, however small the text: each of at least one row. 20 kB (6,400 tokens, rows of 256) were
    # better after 4 passes, 100 such updates, than after 8 or 11 with dropout (measured, three texts).
    fewest_updates: int = 100


LAW = Law()
DROPOUTS = (0.0, 0.1, 0.2)  # what a plan chooses from
# A step with dropout over one without: 426 s for 214, one thread (measured): numbers are drawn, and a CPU computes attention plainly.
DROPOUT_TIME = 2.0
# What it must win in excess, or it is left out: eight passes with 0.1 were no better than four without over 1 MB, eight
# to eleven with 0.2 up to 3 % worse than four without over 20 kB (measured, one and three texts).
DROPOUT_LOSS = 1.15
# Tokens of a text from which it may pay at all. Five texts of 20 and 40 kB (8,000 to 16,000 tokens, English and Chinese) were 1.7 to
# 3.5 % worse after 11 to 16 passes with 0.2 than after 2 to 4 without, one of 60 kB (26,000) 0.5 %; one of 100 kB (41,000) was 7 % better after 27.
LEAST_FOR_DROPOUT = 30_000


def dropouts_for(unique: float, asked: float | None = None) -> tuple[float, ...]:
    """The shares of dropout that a plan chooses from for a text of `unique` tokens, of which so many are `asked` for.

    Where a person says how often a short text is read, dropout may soften it; a plan that is free reads it seldom instead.

    >>> dropouts_for(8_000), dropouts_for(8_000, asked=800_000), dropouts_for(100_000)
    ((0.0,), (0.0, 0.1, 0.2), (0.0, 0.1, 0.2))
    """
    return DROPOUTS if unique >= LEAST_FOR_DROPOUT or asked is not None else DROPOUTS[:1]


def worth_of_tokens(tokens: float, unique: float, law: Law = LAW) -> float:
    """How many fresh tokens would teach as much as `tokens` read from a text of `unique`.

    >>> round(worth_of_tokens(500, 1000)), round(worth_of_tokens(4000, 1000)), round(worth_of_tokens(10**9, 1000))
    (500, 3726, 16390)
    """
    repeats = max(tokens / unique - 1, 0.0)
    return min(tokens, unique) + unique * law.repeated_tokens * -math.expm1(-repeats / law.repeated_tokens)


def worth_of_parameters(parameters: float, unique: float, law: Law = LAW) -> float:
    """How many parameters would do as much if there were text enough for all of them.

    >>> round(worth_of_parameters(1000, 10**6)), round(worth_of_parameters(4e6, 10**6))
    (1000, 2444526)
    """
    filled = unique / law.tokens_per_parameter
    more = max(parameters / filled - 1, 0.0)
    return min(parameters, filled) + filled * law.repeated_parameters * -math.expm1(-more / law.repeated_parameters)


def passes_by_heart(parameters: float, unique: float, *, dropout: float, law: Law = LAW) -> float:
    """After how many passes (epochs) a model of this size begins to overfit, that is, to learn the text by heart.

    >>> round(passes_by_heart(10.5e6, 1.0e6, dropout=0), 1), round(passes_by_heart(10.5e6, 1.0e6, dropout=0.2))
    (2.6, 28)
    """
    return law.passes_at_one * (parameters / unique) ** -law.fall * math.exp(dropout / law.dropout_scale)


def most_passes(parameters: float, unique: float, *, dropout: float, row_tokens: int, law: Law = LAW) -> float:
    """The most passes (epochs) that are useful: at least one, and enough for `fewest_updates` of one row each.

    >>> most_passes(10.5e6, 7000, dropout=0, row_tokens=256) == 100 * 256 / 7000
    True
    """
    good = passes_by_heart(parameters, unique, dropout=dropout, law=law)
    return max(good, law.fewest_updates * row_tokens / unique, 1.0)


def excess_loss(parameters: float, tokens: float, unique: float, law: Law = LAW) -> float:
    """The part of the loss that size and length decide, in units of its own: only ratios mean something.

    >>> excess_loss(1e6, 2e6, 1e9) < min(excess_loss(2e6, 1e6, 1e9), excess_loss(0.5e6, 4e6, 1e9))
    True
    """
    size = (law.tokens_per_parameter * worth_of_parameters(parameters, unique, law)) ** -law.exponent
    return size + worth_of_tokens(tokens, unique, law) ** -law.exponent
