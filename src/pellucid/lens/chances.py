"""From logits to probabilities: every sampler stage over the whole vocabulary, and the random numbers of the draws.

    logits    the row itself, [V] in float32: the page computes the stages from it for any setting, at once and exactly
    chances   the result of each of the engine's stages: the tokens it keeps, their probability mass, the entropy, and
              the probability of each of the likeliest tokens; all other tokens are one sum
    draws     the numbers u in [0, 1) that a seed gives for a position, those of `pellucid generate --seed`

All V tokens count. A softmax over only the first 50 would give wrong probabilities, and more so at a high temperature.
The row is the one that the engine draws from, not a second computation. A model that sees both sides predicts a token
that is hidden in its text: its row is read there, from the recording.

Axes: V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.engine.account import account_stage
from pellucid.engine.generate import settle_seed
from pellucid.engine.sampling.distribution import Distribution
from pellucid.engine.sampling.sampler import MODEL, Sampler, build_sampler, pass_through
from pellucid.engine.sampling.stage import History
from pellucid.keyed_random import uniform
from pellucid.lens.answer import Answer, At
from pellucid.lens.branches import read_sampling
from pellucid.lens.shows import SCORED
from pellucid.lens.state import LensState

NUM_CANDIDATES = 24


def logits(lens: LensState, *, at: At, position: int | None = None) -> Answer:
    """The whole row of logits after a position, for the sampler stages that the page computes itself.

    Of a model that sees both sides it is the row of the token that is hidden at the position.
    """
    row_V = lens.row_at(at, position)
    place = lens.predicted_place(at.node) if position is None else position
    known = min(lens.tokenizer.vocab_size, len(row_V))
    return Answer({"position": place, "known": known}, {"logits": row_V})


def chances(lens: LensState, *, at: At, sampling: dict[str, Any], count: int = NUM_CANDIDATES) -> Answer:
    """The result of each of the engine's sampler stages: figures of the whole row, and the likeliest tokens."""
    ids, settings = lens.ids(at.node), settle_seed(read_sampling(sampling))
    sampler = build_sampler(lens.runner.config, lens.tokenizer, settings)
    num_prompt = lens.tree.num_prompt(at.node) - len(lens.source(at.node))
    told = account_chain(lens.row_at(at), sampler, ids, num_prompt, count)
    for candidate in told["candidates"]:
        candidate["label"] = lens.label(candidate["id"])
    return Answer({**told, "chain": sampler.chain, "seed": settings.seed})


def account_chain(logits_V: np.ndarray, sampler: Sampler, ids: tuple[int, ...], num_prompt: int, count: int) -> dict:
    """The probabilities of one row after each sampler stage: per candidate, and the sum of all others.

    >>> from pellucid.engine.sampling.settings import SamplingSettings
    >>> row = np.log(np.array([0.5, 0.25, 0.125, 0.125], dtype=np.float32))
    >>> told = account_chain(row, Sampler(SamplingSettings(top_k=2, seed=1), num_logits=4, num_known=4), (3,), 1, 1)
    >>> [(stage["name"], stage["kept"], stage["mass"], round(stage["others"], 5)) for stage in told["stages"]]
    [('model', 4, 1.0, 0.5), ('top-k 2', 2, 0.75, 0.33333)]
    """
    rows = [Distribution(row_V) for row_V in pass_through(logits_V, sampler.stages, History(ids, num_prompt))]
    names = (MODEL, *(stage.name for stage in sampler.stages))
    accounts = [account_stage(*facts, count) for facts in zip(names, rows[:1] + rows, rows, strict=False)]
    wanted = np.unique([token_id for account in accounts for token_id in account.top])
    ids_C = wanted[np.argsort(-logits_V[wanted], kind="stable")]
    chances_CS = np.exp(np.stack([row.logprobs(ids_C) for row in rows], axis=1))
    others_S = np.maximum(0.0, 1.0 - chances_CS.sum(axis=0))
    stages = [
        {
            "name": account.name,
            "kept": account.num_kept,
            "mass": account.mass_kept,
            "entropy_bits": account.entropy_bits,
            "others": float(others),
        }
        for account, others in zip(accounts, others_S, strict=True)
    ]
    candidates = [
        {"id": token_id, "logit": float(logits_V[token_id]), "p": p}
        for token_id, p in zip(ids_C.tolist(), chances_CS.tolist(), strict=True)
    ]
    return {"stages": stages, "candidates": candidates, "num_others": len(logits_V) - len(candidates)}


def draws(lens: LensState, *, seed: int, position: int, count: int = 1) -> Answer:
    """The numbers u of a seed at a position: for the first text, the second …, as in `pellucid generate -n COUNT`."""
    return Answer({"seed": seed, "position": position}, {"u": draw_many(seed, position, count)})


def draw_many(seed: int, position: int, count: int) -> np.ndarray:
    """Numbers in [0, 1), float64 [count]: one for each choice made from one seed at one position.

    >>> bool(draw_many(7, 3, 2)[0] == uniform(7, 3))
    True
    """
    return np.array([uniform(seed, position, choice=choice) for choice in range(count)])


METHODS = {"logits": logits, "chances": chances, "draws": draws}
SHOWS = dict.fromkeys(METHODS, SCORED)
