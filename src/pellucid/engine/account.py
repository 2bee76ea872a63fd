"""The account of one decoding step: every number between the ids that went in and the token that came out.

    reading      how the runner got the logits: positions found in the cache, positions computed, seconds
    stages       for the model's row and after each stage of the sampler: tokens kept, probability kept, entropy
    candidates   the likeliest tokens after any of the stages, with their log-probabilities after each
    draw         the number u, and the segment of [0, 1) that belongs to the chosen token

It is computed from the rows that chose the token, so it cannot change the text. It needs a few passes over rows of
float32, so it costs little. What only people need (texts, shapes) is computed when somebody looks. It is *not* a
recording of the tensors themselves: that is `pellucid.model.recording`.

Axes: V vocabulary · C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.distribution import Distribution
from pellucid.engine.sampling.sampler import MODEL, Choice
from pellucid.engine.sampling.stage import Stage
from pellucid.planning.config import ModelConfig
from pellucid.planning.shapes import Shape, part_shapes
from pellucid.tokens.tokenizer import Tokenizer

NUM_CANDIDATES = 8
SCORED_AT_ONCE = 128  # rows of logits held while a prompt is scored


@dataclass(frozen=True, kw_only=True)
class ReadCost:
    """How the logits were computed: by which runner, with how many cached and new positions, in what time."""

    runner: str
    exact: bool  # whether the bits of the row depend on the ids alone
    num_reused: int  # positions whose keys and values were in the cache
    num_computed: int
    seconds: float
    num_source: int = 0  # source positions that cross-attention looks at; 0 without an encoder
    num_encoded: int = 0  # of these, how many the encoder read for this row: all for the first token, then none


@dataclass(frozen=True)
class Candidate:
    """A token that might have been chosen, and its log-probability (nats) under the model and after each stage."""

    id: int
    logprobs: tuple[float, ...]  # -inf once a stage has removed it
    tokenizer: Tokenizer = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The token as people read it."""
        return token_label(self.tokenizer, self.id)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Its probability after each stage, between 0 and 1."""
        return tuple(map(math.exp, self.logprobs))


@dataclass(frozen=True)
class StageAccount:
    """What one stage left: how many tokens, which share of the probability, and the entropy of the choice."""

    name: str
    num_kept: int
    mass_kept: float
    entropy_bits: float  # a fair choice among 2^entropy tokens is as open
    top: tuple[int, ...]  # the ids that are now the likeliest, in order


@dataclass(frozen=True, kw_only=True)
class Account:
    """How one token came about; the first stage, named "model", is the distribution before any stage."""

    position: int
    id: int
    logprob: float  # nats, under the model's own distribution
    processed_logprob: float  # nats, under the distribution it was drawn from
    u: float | None  # the draw in [0, 1); None when nothing was drawn
    segment: tuple[float, float]  # the chosen token's part of [0, 1)
    stages: tuple[StageAccount, ...]
    candidates: tuple[Candidate, ...]  # the likeliest after any stage and the chosen one, in the model's order
    reading: ReadCost
    choose_seconds: float  # what the stages and the draw took
    config: ModelConfig = field(repr=False)
    tokenizer: Tokenizer = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The chosen token as people read it."""
        return token_label(self.tokenizer, self.id)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What each part of the model put out while the logits were computed, in the order of computation."""
        reading, num_new = self.reading, self.reading.num_computed
        return part_shapes(
            self.config,
            num_new=num_new,
            num_all=reading.num_reused + num_new,
            num_source=reading.num_source,
            encodes=reading.num_encoded > 0,
        )

    def to_dict(self) -> dict[str, object]:
        """All figures as JSON can hold them; the log-probability of a removed token is null."""
        return {
            "position": self.position,
            "id": self.id,
            "text": self.text,
            "logprob": self.logprob,
            "processed_logprob": self.processed_logprob,
            "u": self.u,
            "segment": list(self.segment),
            "stages": [{**vars(stage), "top": list(stage.top)} for stage in self.stages],
            "candidates": [
                {"id": c.id, "text": c.text, "logprobs": [p if p > -math.inf else None for p in c.logprobs]}
                for c in self.candidates
            ],
            "reading": vars(self.reading),
            "choose_seconds": self.choose_seconds,
            "shapes": [[name, list(shape)] for name, shape in self.shapes],
        }


def build_account(
    choice: Choice,
    stages: Sequence[Stage],
    tokenizer: Tokenizer,
    *,
    config: ModelConfig,
    position: int,
    reading: ReadCost,
    choose_seconds: float = 0.0,
    num_candidates: int = NUM_CANDIDATES,
) -> Account:
    """The account of one choice, whose rows must have been kept."""
    rows = [Distribution(choice.rows[0])]
    for logits_V in choice.rows[1:]:
        rows.append(rows[-1] if logits_V is rows[-1].logits_V else Distribution(logits_V, rows[-1]))
    names = (MODEL, *(stage.name for stage in stages))
    stages_told = tuple(
        account_stage(name, before, after, num_candidates)
        for name, before, after in zip(names, rows[:1] + rows, rows, strict=False)
    )
    ids = np.unique([choice.id, *(token_id for stage in stages_told for token_id in stage.top)])
    ids_C = ids[np.argsort(-rows[0].logits_V[ids], kind="stable")]
    logprobs = np.stack([row.logprobs(ids_C) for row in rows], axis=1).tolist()
    candidates = tuple(Candidate(i, tuple(p), tokenizer) for i, p in zip(ids_C.tolist(), logprobs, strict=True))
    return Account(
        position=position,
        id=choice.id,
        logprob=choice.logprob,
        processed_logprob=choice.processed_logprob,
        u=choice.u,
        segment=rows[-1].segment(choice.id),
        stages=stages_told,
        candidates=candidates,
        reading=reading,
        choose_seconds=choose_seconds,
        config=config,
        tokenizer=tokenizer,
    )


def account_stage(name: str, before: Distribution, after: Distribution, num_candidates: int) -> StageAccount:
    """Compare the distributions before and after a stage.

    >>> before, after = (Distribution(np.log(p)) for p in (np.array([0.5, 0.25, 0.25]), np.array([0.4, 0.4, 1e-300])))
    >>> account_stage("bias", before, after, 2)
    StageAccount(name='bias', num_kept=3, mass_kept=1.0, entropy_bits=1.0, top=(0, 1))
    """
    mass = 1.0 if after.ids is None or after.num_kept == before.num_kept else before.mass_of(after.ids)
    return StageAccount(name, after.num_kept, mass, after.entropy_bits(), after.top(num_candidates))


def token_label(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as people read it; an id that the tokenizer does not know is shown as a number."""
    return tokenizer.token_text(token_id) if token_id < tokenizer.vocab_size else f"#{token_id}"


@dataclass(frozen=True)
class PromptToken:
    """One token of a prompt: how likely the model found it after those before it, and how many were likelier."""

    id: int
    text: str
    logprob: float | None  # nats; None for the first, which nothing precedes
    rank: int | None  # 0 for the likeliest


def score_prompt(runner: Runner, tokenizer: Tokenizer, ids: Sequence[int]) -> list[PromptToken]:
    """The log-probability and rank of each token of a prompt; only a few rows of logits exist at a time."""
    told: list[tuple[float | None, int | None]] = [(None, None)]
    sequence = runner.start([], max_length=len(ids))
    for start in range(0, len(ids) - 1, SCORED_AT_ONCE):
        piece = ids[start : min(start + SCORED_AT_ONCE, len(ids) - 1)]
        sequence.extend(piece)
        for row_V, token_id in zip(runner.score(sequence), ids[start + 1 :], strict=False):
            logprob = float(Distribution(row_V).logprobs(np.array([token_id]))[0])
            told.append((logprob, int(np.count_nonzero(row_V > row_V[token_id]))))
    return [PromptToken(i, token_label(tokenizer, i), *facts) for i, facts in zip(ids, told, strict=True)]
