"""Scaling laws: from a depth, or from a text and a time budget, every other size follows, each with its reason.

    d_model = aspect x depth        heads = d_model / head_dim        d_ff ≈ 8/3 d_model        (a Qwen3 shape)

A `Reason` is (field, value, why): a plan can say where each number came from, and a person can disagree with one.
These are starting points found on small models, *not* laws: an explicit setting always wins.

Source: depth as the one dial, tokens ∝ parameters and batch ∝ tokens^0.383: nanochat (2026); Bergsma et al. 2025
("Power Lines"); Hoffmann et al. 2022 (20 tokens per parameter). What a text that is read again is worth: `planning.repetition`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pellucid.errors import SettingsError
from pellucid.planning.config import MOST_LAYERS, ModelConfig
from pellucid.planning.flops import count_flops, muon_flops
from pellucid.planning.params import count_parameters
from pellucid.planning.repetition import (
    DROPOUT_LOSS,
    DROPOUT_TIME,
    dropouts_for,
    excess_loss,
    most_passes,
    passes_by_heart,
)

ASPECT, LEAST_ASPECT = 64, 32
DEPTHS = tuple(range(2, 33))
CHINCHILLA = 20  # tokens per parameter at which, for one pass over web text, a given amount of arithmetic does most
GROUPED_FROM = 1024  # width from which the KV cache is worth halving
TIED_FROM = 0.05  # share of the blocks' parameters from which a head of its own costs too much
REFERENCE_TOKENS, REFERENCE_BATCH, BATCH_EXPONENT = 1.16e9, 2**19, 0.383  # a 12-deep model: nanochat's tuned point
HALVINGS = 60  # of an interval, until nothing of it is left
FEWEST_STEPS = 1200  # with a quarter of them, a text of 1 MB takes 1.5 to 7 % more bits per byte (docs/log.md)
MUON_TOKENS_PER_WIDTH = 5  # below this many tokens per step and width, orthogonalising is more arithmetic than the text


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a derived setting has its value."""

    field: str
    value: Any
    why: str


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A model shape and the reason for each size in it."""

    depth: int
    config: ModelConfig
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How to spend a number of tokens: steps, tokens per step, learning rates (per step, at their peak)."""

    train_tokens: int
    tokens_per_step: int
    rows: int
    num_steps: int
    muon_rate: float
    adamw_rate: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A shape and a number of tokens chosen together for a text and a time."""

    depth: int
    config: ModelConfig
    tokens: int  # to learn from, over all passes
    most_tokens: int  # what the text is good for at this size: more would make the model worse
    estimated_seconds: float
    epochs: float  # how often the text is read
    excess: float  # what the choice was made by: see `planning.repetition`
    reasons: tuple[Reason, ...]


def from_depth(depth: int, *, vocab_size: int, context_length: int = 256, aspect: int = ASPECT) -> Derived:
    """A whole model shape from its number of blocks; `aspect` is the width that each block adds.

    >>> shape = from_depth(6, vocab_size=65).config
    >>> shape.d_model, shape.n_heads, shape.head_dim, shape.d_ff, shape.tied_head
    (384, 6, 64, 1024, False)
    """
    if not 1 <= depth <= MOST_LAYERS:
        hint = f"give a number from 1 to {MOST_LAYERS:,}: 6 makes a model of some ten million parameters"
        raise SettingsError("no model has this depth", found=f"depth={depth}", hint=hint)
    if aspect < LEAST_ASPECT:
        raise SettingsError(
            f"aspect must be at least {LEAST_ASPECT}",
            found=f"aspect={aspect}",
            hint=f"leave aspect out: then it is {ASPECT}",
        )
    width = aspect * depth
    head_dim = 32 if width <= 256 else 64
    group = 2 if width >= GROUPED_FROM else 1  # query heads to a key/value head: they come in whole groups
    d_model = max(1, round(width / (group * head_dim))) * group * head_dim
    n_heads = d_model // head_dim
    d_ff = round(d_model * 8 / 3 / 32) * 32
    block_parameters = depth * (4 * d_model * d_model + 3 * d_model * d_ff)
    tied_head = vocab_size * d_model > TIED_FROM * block_parameters
    config = ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=depth,
        n_heads=n_heads,
        n_kv_heads=n_heads // group,
        head_dim=head_dim,
        d_model=d_model,
        d_ff=d_ff,
        tied_head=tied_head,
    )
    return Derived(depth=depth, config=config, reasons=tuple(_shape_reasons(config, aspect)))


def _shape_reasons(config: ModelConfig, aspect: int) -> list[Reason]:
    """Why each size is what it is, in the order in which they follow from one another."""
    grouped = config.n_kv_heads < config.n_heads
    head_dim_why = "narrow: several heads matter more than wide ones" if config.head_dim == 32 else "as GPT-2"
    tied_why = "one of its own would be large beside the blocks" if config.tied_head else "one of its own is cheap here"
    kv_why = "shared by twos: half the KV cache" if grouped else "a small cache needs no sharing"
    rows = [
        ("n_layers", config.n_layers, "the dial"),
        ("d_model", config.d_model, f"{aspect} per block: the line through nanoGPT's 6 x 384 and GPT-2's 12 x 768"),
        ("head_dim", config.head_dim, head_dim_why),
        ("n_heads", config.n_heads, "d_model / head_dim"),
        ("n_kv_heads", config.n_kv_heads, kv_why),
        ("d_ff", config.d_ff, "8/3 d_model in thirty-twos: with its gate, as many weights as 4 d_model without"),
        ("tied_head", config.tied_head, tied_why),
        (
            "position",
            config.position.kind,
            "with rms, swiglu and qk_norm: the shape of Qwen3, which every engine loads",
        ),
    ]
    return [Reason(field=field, value=value, why=why) for field, value, why in rows]


def derive_schedule(config: ModelConfig, train_tokens: int, *, context_length: int | None = None) -> Schedule:
    """Tokens per step, steps and learning rates for training `config` on `train_tokens` tokens in all.

    >>> schedule = derive_schedule(from_depth(6, vocab_size=65).config, 3_276_800)
    >>> schedule.tokens_per_step, schedule.num_steps, schedule.rows
    (2048, 1600, 8)
    """
    length = config.context_length if context_length is None else context_length
    tokens_per_step, why = _batch(config, train_tokens, length)
    rows = tokens_per_step // length
    adamw_rate = suggest_adamw_rate(config)
    adamw_why = "0.003239 - 0.0001395 ln(parameters outside embeddings), Kaplan et al. 2020 eq. D.1"
    reasons = (
        Reason(field="tokens_per_step", value=tokens_per_step, why=f"{why}; rows are rounded to a power of two"),
        Reason(field="muon_rate", value=0.02, why="an orthogonal update has the same size at every width"),
        Reason(field="adamw_rate", value=adamw_rate, why=adamw_why),
    )
    return Schedule(
        train_tokens=train_tokens,
        tokens_per_step=tokens_per_step,
        rows=rows,
        num_steps=max(1, math.ceil(train_tokens / tokens_per_step)),
        muon_rate=0.02,
        adamw_rate=adamw_rate,
        reasons=reasons,
    )


def _batch(config: ModelConfig, train_tokens: int, length: int) -> tuple[int, str]:
    """(tokens of one update, why)."""
    law, many_steps, muon_floor = _bounds(config, train_tokens)
    wanted = min(law, max(many_steps, muon_floor))
    if wanted == law:
        why = f"the more a run reads, the larger its updates may be (as tokens^{BATCH_EXPONENT}, Bergsma et al. 2025)"
    elif wanted == many_steps:
        why = f"small enough to leave about {FEWEST_STEPS} updates: with fewer a model has hardly begun to learn"
    else:
        why = "large enough that the optimizer (Muon) does not take more time than the text"
    return max(1, 2 ** round(math.log2(max(wanted / length, 1)))) * length, why


def _bounds(config: ModelConfig, train_tokens: float) -> tuple[float, float, float]:
    """Tokens of one update: at most by the law, and by the number of updates; at least for Muon's sake."""
    law = REFERENCE_BATCH * (max(train_tokens, 1) / REFERENCE_TOKENS) ** BATCH_EXPONENT
    return law, train_tokens / FEWEST_STEPS, min(MUON_TOKENS_PER_WIDTH * config.d_model, train_tokens / 100)


def suggest_adamw_rate(config: ModelConfig) -> float:
    """A peak learning rate for AdamW on a whole model of this size, per step; at least GPT-3's 0.00006.

    >>> from pellucid.planning.presets import preset
    >>> suggest_adamw_rate(preset("gpt2")), suggest_adamw_rate(preset("nanogpt-char"))
    (0.00069, 0.00098)

    Source: Kaplan et al. 2020 eq. D.1.
    """
    non_embedding = count_parameters(config).non_embedding
    return max(6e-5, round(0.003239 - 0.0001395 * math.log(non_embedding), 5))


def ladder(*, vocab_size: int, context_length: int = 256, aspect: int = ASPECT) -> tuple[Derived, ...]:
    """The shapes that a budget may choose from, smallest first."""
    return tuple(from_depth(d, vocab_size=vocab_size, context_length=context_length, aspect=aspect) for d in DEPTHS)


def fit_to_budget(
    train_tokens: int,
    flops_per_second: float,
    seconds: float = math.inf,
    *,
    shapes: Sequence[Derived],
    tokens: int | None = None,
    dropouts: Sequence[float] | None = None,
) -> Fit:
    """The shape, the number of passes and the dropout that promise the lowest loss for a text and a time.

    `train_tokens` is the length of the text, `flops_per_second` what a training step was measured to reach here;
    without `seconds` only the text decides. `tokens` says that so many are wanted, whatever they are worth.

    >>> fit = fit_to_budget(2_000_000, 300e9, 120, shapes=ladder(vocab_size=2048, context_length=128))
    >>> fit.depth, fit.tokens, fit.config.dropout, round(fit.estimated_seconds)
    (3, 2609746, 0.0, 120)
    >>> fit = fit_to_budget(300_000, 300e9, 600, shapes=ladder(vocab_size=2048))  # a short book, and much time
    >>> fit.depth, round(fit.epochs), fit.config.dropout
    (3, 26, 0.2)
    """
    if not (flops_per_second > 0 and seconds > 0):
        found = f"{flops_per_second} FLOP/s, {seconds} s"
        raise SettingsError("a time budget needs a positive rate and a positive time", found=found)
    budget = _Budget(unique=max(1, train_tokens), flops_per_second=flops_per_second, seconds=seconds, tokens=tokens)
    tried = dropouts_for(train_tokens, tokens) if dropouts is None else dropouts
    return min((fit for shape in shapes for fit in _fits(shape, tried, budget)), key=lambda fit: fit.excess)


@dataclass(frozen=True, kw_only=True)
class _Budget:
    unique: int  # tokens of the text
    flops_per_second: float
    seconds: float
    tokens: int | None  # wanted, whatever they are worth


@lru_cache(maxsize=64)  # a budget asks each shape again for every dropout
def _arithmetic(config: ModelConfig) -> tuple[int, int]:
    """FLOPs of a token, and of an update by Muon."""
    return count_flops(config).training, muon_flops(config)


class Work:
    """The arithmetic of a run of one shape: that of its text, and the optimizer's at every update (`muon`: AdamW has next to none).

    >>> config = from_depth(2, vocab_size=258, context_length=16).config
    >>> Work(config).of(1600, 100) > Work(config).of(1600, 10) > Work(config, muon=False).of(1600, 10)
    True
    """

    def __init__(self, config: ModelConfig, *, muon: bool = True) -> None:
        self.config = config
        of_token, of_update = _arithmetic(dataclasses.replace(config, dropout=0.0))
        self.of_token = of_token * (DROPOUT_TIME if config.dropout else 1)
        self.of_update = of_update if muon else 0

    def of(self, tokens: float, updates: float) -> float:
        """FLOPs of so many tokens in so many updates."""
        return self.of_token * tokens + self.of_update * updates

    def flops(self, tokens: float) -> float:
        """What so many tokens cost in about as many updates as `derive_schedule` makes of them: it grows with them."""
        law, many_steps, muon_floor = _bounds(self.config, tokens)
        of_an_update = max(min(law, max(many_steps, muon_floor)), self.config.context_length)  # a row at least
        return self.of(tokens, tokens / of_an_update)

    def tokens(self, flops: float) -> float:
        """How many tokens so many FLOPs are enough for, found by halving an interval."""
        low, high = 0.0, flops / self.of_token
        if math.isinf(high):
            return high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.flops(middle) <= flops else (low, middle)
        return low


def _fits(shape: Derived, dropouts: Sequence[float], budget: _Budget) -> Iterator[Fit]:
    """One shape with each dropout."""
    parameters = count_parameters(shape.config).total
    for dropout in dropouts:
        yield _fit(shape, dataclasses.replace(shape.config, dropout=dropout), parameters, budget)


def _fit(shape: Derived, config: ModelConfig, parameters: int, budget: _Budget) -> Fit:
    """As many tokens as the time allows and the text is good for."""
    unique, dropout = budget.unique, config.dropout
    work = Work(config)
    passes = most_passes(parameters, unique, dropout=dropout, row_tokens=config.context_length)
    in_time, good = work.tokens(budget.flops_per_second * budget.seconds), unique * passes
    seen = max(1, int(min(in_time, good if budget.tokens is None else budget.tokens)))
    # Read more often than is good, a text is worth no more than before it was learned by heart.
    worth = seen if seen <= good else unique * passes_by_heart(parameters, unique, dropout=dropout)
    excess = excess_loss(parameters, worth, unique) * (DROPOUT_LOSS if dropout else 1)
    excess = float(f"{excess:.3g}")  # the law knows no better, and of equals the first, the smallest, is taken
    if seen == budget.tokens:
        why_passes = f"as asked; the text is good for about {passes:.1f} at this size"
    elif in_time < good:
        why_passes = f"what the time allows; the text would be good for about {passes:.1f} at this size"
    else:
        why_passes = "after that a model of this size begins to learn the text by heart, and gets worse on any other"
    why_dropout = (
        "the text is read often enough to be learned by heart" if dropout else "the text is not read too often"
    )
    return Fit(
        depth=shape.depth,
        config=config,
        tokens=seen,
        most_tokens=max(seen, int(good)),
        estimated_seconds=work.flops(seen) / budget.flops_per_second,
        epochs=seen / unique,
        excess=excess,
        reasons=(
            *shape.reasons,
            Reason(field="passes", value=seen / unique, why=why_passes),
            Reason(field="dropout", value=dropout, why=why_dropout),
        ),
    )
