"""The shape of a draft: a small model of the same family, which guesses the next tokens of a larger one.

    blocks   a sixth of the model's, two at least       guesses come one after the other, and each waits for every block
    width    the widest, in whole groups of heads, at which a guess costs a tenth of what a token of the model costs

A draft is shallow and rather wide: what a step costs beside its arithmetic grows with the blocks, not with the width. It
has the model's vocabulary and context, since it guesses the same ids at the same places, and sees all before a place.
Two blocks can find what followed the last time that something was said, which one block cannot. It is *not* the model with
blocks left out: it is trained anew.

Source: Yan et al. 2024, "Decoding speculative decoding" (at equal parameters a shallow and wide draft is the faster one);
Olsson et al. 2022, "In-context learning and induction heads" (two blocks).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.planning.parts.position import Position, Rotary
from pellucid.planning.scaling import Derived, Reason

BLOCKS_TO_ONE, LEAST_BLOCKS = 6, 2  # blocks of the model for one of the draft, and how many a draft has at least
MOST_COST = 0.1  # of the arithmetic of one token of the model


def derive_draft(config: ModelConfig) -> Derived:
    """The shape of a draft for a causal model, with the reason for each size.

    >>> from pellucid.planning.presets import preset
    >>> draft = derive_draft(preset("gpt2")).config
    >>> draft.n_layers, draft.n_heads, draft.d_model, draft.d_ff, draft.vocab_size == preset("gpt2").vocab_size
    (2, 3, 192, 768, True)
    """
    most = MOST_COST * _cost(config)
    shapes = list(_of_each_width(config))
    affordable = [shape for shape in shapes if _cost(shape) <= most]
    chosen = affordable[-1] if affordable else shapes[0]
    why_width = (
        f"the widest at which a guess costs at most {MOST_COST:.0%} of a token of the model"
        if affordable
        else "one group of heads: the narrowest there is"
    )
    why_blocks = (
        f"one for {BLOCKS_TO_ONE} of the model, since every guess waits for each; one alone finds nothing again"
    )
    rows: tuple[tuple[str, Any, str], ...] = (
        ("n_layers", chosen.n_layers, why_blocks),
        ("d_model", chosen.d_model, why_width),
        ("n_heads", chosen.n_heads, "as wide as the model's"),
        ("d_ff", chosen.d_ff, "to the width as the model's"),
        ("vocab_size", chosen.vocab_size, "the model's: it guesses the same ids"),
        ("context_length", chosen.context_length, "the model's: it guesses at the same places"),
        ("tied_head", chosen.tied_head, "as the model's"),
        ("dropout", chosen.dropout, "a draft is too small to know a text by heart"),
    )
    reasons = tuple(Reason(field=field, value=value, why=why) for field, value, why in rows)
    return Derived(depth=chosen.n_layers, config=chosen, reasons=reasons)


def _cost(config: ModelConfig) -> int:
    return count_flops(config).forward


def _of_each_width(config: ModelConfig) -> Iterator[ModelConfig]:
    """Drafts of one group of heads, of two, … up to the model's width."""
    experts = config.feed_forward.experts
    d_ff = config.d_ff if experts is None else experts.active * experts.width  # what a token meets
    for groups in range(1, config.n_kv_heads + 1):
        share = groups / config.n_kv_heads
        yield dataclasses.replace(
            config,
            n_layers=max(min(LEAST_BLOCKS, config.n_layers), round(config.n_layers / BLOCKS_TO_ONE)),
            n_heads=round(config.n_heads * share),
            n_kv_heads=groups,
            d_model=max(2, 2 * round(config.d_model * share / 2)),
            d_ff=max(8, 8 * round(d_ff * share / 8)),
            dropout=0.0,
            position=_everywhere(config.position),
            attention=dataclasses.replace(config.attention, window=None),
            feed_forward=dataclasses.replace(config.feed_forward, experts=None),
        )


def _everywhere(position: Position) -> Position:
    """The position encoding of a model whose blocks are alike."""
    return dataclasses.replace(position, window_theta=None, skipped=()) if isinstance(position, Rotary) else position
