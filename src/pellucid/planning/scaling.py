"""One dial: from a depth, or from a text and a time budget, every other size follows, each with its reason.

    d_model = aspect x depth        heads = d_model / head_dim        d_ff ≈ 8/3 d_model        (a Qwen3 shape)

A `Reason` is (field, value, why): a plan can say where each number came from, and a person can disagree with one.
These are starting points found on small models, *not* laws: an explicit setting always wins.

Source: depth as the one dial, tokens ∝ parameters and batch ∝ tokens^0.383: nanochat (2026); Bergsma et al. 2025
("Power Lines"); Hoffmann et al. 2022 (20 tokens per parameter); Muennighoff et al. 2023 (repeated data).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pellucid.errors import SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.planning.params import count_parameters

ASPECT = 64
DEPTHS = tuple(range(2, 33))
CHINCHILLA = 20  # tokens per parameter at which, for one pass over web text, a given amount of arithmetic does most
GROUPED_FROM = 1024  # width from which the KV cache is worth halving
TIED_FROM = 0.05  # share of the blocks' parameters from which a head of its own costs too much
REFERENCE_TOKENS, REFERENCE_BATCH, BATCH_EXPONENT = 1.16e9, 2**19, 0.383  # a 12-deep model: nanochat's tuned point
FEWEST_STEPS = 400
MUON_TOKENS_PER_WIDTH = 20  # below this many tokens per step and width, orthogonalising costs over a fifth of the step


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
    """A model and a schedule chosen together for a text and a time budget."""

    derived: Derived
    schedule: Schedule
    estimated_seconds: float
    tokens_per_parameter: float
    epochs: float  # how often the text is seen
    reasons: tuple[Reason, ...]


def from_depth(depth: int, *, vocab_size: int, context_length: int = 256, aspect: int = ASPECT) -> Derived:
    """A whole model shape from its number of blocks; `aspect` is the width that each block adds.

    >>> shape = from_depth(6, vocab_size=65).config
    >>> shape.d_model, shape.n_heads, shape.head_dim, shape.d_ff, shape.tied_head
    (384, 6, 64, 1024, False)
    """
    if depth < 1 or aspect < 32:
        raise SettingsError("depth must be at least 1 and aspect at least 32", found=f"depth={depth}, aspect={aspect}")
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
        ("position", config.position, "with rms, swiglu and qk_norm: the shape of Qwen3, which every engine loads"),
    ]
    return [Reason(field=field, value=value, why=why) for field, value, why in rows]


def derive_schedule(config: ModelConfig, train_tokens: int, *, context_length: int | None = None) -> Schedule:
    """Tokens per step, steps and learning rates for training `config` on `train_tokens` tokens in all.

    >>> schedule = derive_schedule(from_depth(6, vocab_size=65).config, 3_276_800)
    >>> schedule.tokens_per_step, schedule.num_steps, schedule.rows
    (8192, 400, 32)
    """
    length = config.context_length if context_length is None else context_length
    law = REFERENCE_BATCH * (max(train_tokens, 1) / REFERENCE_TOKENS) ** BATCH_EXPONENT
    many_steps = train_tokens / FEWEST_STEPS
    muon_floor = MUON_TOKENS_PER_WIDTH * config.d_model
    wanted = min(law, max(many_steps, min(muon_floor, train_tokens / 100)))
    rows = max(1, 2 ** round(math.log2(max(wanted / length, 1))))
    tokens_per_step = rows * length
    adamw_rate = suggest_adamw_rate(config)
    batch_why = (
        f"the lesser of {law:,.0f} (batches grow as tokens^{BATCH_EXPONENT}) and {many_steps:,.0f} (which leaves "
        f"{FEWEST_STEPS} steps), but towards {muon_floor:,} ({MUON_TOKENS_PER_WIDTH} x d_model, where Muon is cheap); "
        "rows are a power of two"
    )
    adamw_why = "0.003239 - 0.0001395 ln(parameters outside embeddings), Kaplan et al. 2020 eq. D.1"
    reasons = (
        Reason(
            field="tokens_per_step",
            value=tokens_per_step,
            why=batch_why,
        ),
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


def suggest_adamw_rate(config: ModelConfig) -> float:
    """A peak learning rate for AdamW on a whole model of this size, per step; at least GPT-3's 0.00006.

    >>> from pellucid.planning.presets import preset
    >>> suggest_adamw_rate(preset("gpt2")), suggest_adamw_rate(preset("nanogpt-char"))
    (0.00069, 0.00098)

    Source: Kaplan et al. 2020 eq. D.1.
    """
    non_embedding = count_parameters(config).non_embedding
    return max(6e-5, round(0.003239 - 0.0001395 * math.log(non_embedding), 5))


def fit_to_budget(
    train_tokens: int,
    flops_per_second: float,
    seconds: float = math.inf,
    *,
    vocab_size: int,
    context_length: int = 256,
    aspect: int = ASPECT,
    tokens_per_parameter: float = 1.0,
    max_epochs: float = 10.0,
    max_depth: int = DEPTHS[-1],
) -> Fit:
    """The deepest model that still sees enough tokens in the time, and how to spend it.

    `train_tokens` is the length of the text, seen at most `max_epochs` times; `flops_per_second` is what a training
    step was measured to reach here; without `seconds` only the text decides. A text shorter than the context shortens
    it. Short runs on a CPU do best far below the 20 tokens per parameter of large ones: two that were tuned by hand,
    of 10 seconds and 7 minutes, both came out at 0.3; the default of 1 leans to the safe side.

    >>> fit = fit_to_budget(2_000_000, 300e9, 120, vocab_size=2048, context_length=128)
    >>> fit.derived.depth, fit.schedule.num_steps, round(fit.estimated_seconds)
    (3, 409, 120)
    """
    if not (flops_per_second > 0 and seconds > 0):
        found = f"{flops_per_second} FLOP/s, {seconds} s"
        raise SettingsError("a time budget needs a positive rate and a positive time", found=found)
    length = max(1, min(context_length, train_tokens - 1))
    for depth in reversed([depth for depth in DEPTHS if depth <= max(max_depth, DEPTHS[0])]):
        derived = from_depth(depth, vocab_size=vocab_size, context_length=length, aspect=aspect)
        in_time = flops_per_second * seconds / count_flops(derived.config).training
        in_text = max(1, train_tokens) * max_epochs
        seen = max(1, int(min(in_time, in_text)))
        parameters = count_parameters(derived.config).total
        if seen >= tokens_per_parameter * parameters:
            break
    schedule = derive_schedule(derived.config, seen)
    flops = schedule.num_steps * schedule.tokens_per_step * count_flops(derived.config).training
    why_depth = (
        f"{seen:,} tokens fit the {'time' if in_time < in_text else 'text'}: {seen / parameters:.2g} for each of "
        f"{parameters:,} parameters, wanted {tokens_per_parameter:g} (one pass over web text: {CHINCHILLA})"
    )
    why_length = "as asked" if length == context_length else f"the text is shorter than {context_length}"
    return Fit(
        derived=derived,
        schedule=schedule,
        estimated_seconds=flops / flops_per_second,
        tokens_per_parameter=seen / parameters,
        epochs=seen / max(1, train_tokens),
        reasons=(
            Reason(field="depth", value=depth, why=why_depth),
            Reason(field="context_length", value=length, why=why_length),
        ),
    )
