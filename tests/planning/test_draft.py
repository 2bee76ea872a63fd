"""The shape of a draft: small, of its model's family, and able to guess the same ids at the same places."""

from __future__ import annotations

import dataclasses

import pytest

from pellucid.planning.config import ModelConfig
from pellucid.planning.draft import derive_draft
from pellucid.planning.flops import count_flops
from pellucid.planning.params import count_parameters
from pellucid.planning.presets import PRESETS, preset

WRITERS = [
    name for name in PRESETS if preset(name).causal and preset(name).encoder is None and preset(name).head.tokens
]


@pytest.mark.parametrize("name", WRITERS)
def test_a_guess_costs_a_tenth_of_a_token_or_the_draft_is_as_narrow_as_can_be(name: str) -> None:
    config, draft = preset(name), derive_draft(preset(name)).config
    narrowest = draft.n_kv_heads == 1
    assert narrowest or count_flops(draft).forward <= 0.1 * count_flops(config).forward
    assert (draft.vocab_size, draft.context_length) == (config.vocab_size, config.context_length)
    assert draft.n_heads * config.n_kv_heads == config.n_heads * draft.n_kv_heads, "heads come in whole groups"


def test_the_family_stays() -> None:
    """All axes but the sizes, as files of the family have them."""
    config, draft = preset("qwen3-0.6b"), derive_draft(preset("qwen3-0.6b")).config
    sizes = {name: getattr(config, name) for name in ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_ff")}
    assert dataclasses.replace(draft, **sizes) == config
    assert (draft.n_layers, draft.n_heads, draft.n_kv_heads, draft.d_model, draft.d_ff) == (5, 6, 3, 384, 1152)


def test_the_quickstart_model_has_a_draft_of_a_tenth() -> None:
    config = ModelConfig.from_axes(
        vocab_size=677, context_length=160, n_layers=4, n_heads=6, n_kv_heads=6, head_dim=32, d_model=192, d_ff=256,
        tied_head=False, sliding_window=8, sliding_layers=(0,), dropout=0.1,
    )  # fmt: skip
    draft = derive_draft(config).config
    assert (count_parameters(config).total, count_parameters(draft).total) == (1_441_600, 153_664)
    assert draft.attention.window is None, "a window in one block of several would be one in all"
    assert draft.dropout == 0


def test_a_mixture_has_a_dense_draft() -> None:
    """As wide inside as the experts that a token meets, to the width of the model."""
    config, draft = preset("mixtral-8x7b"), derive_draft(preset("mixtral-8x7b")).config
    assert config.feed_forward.experts is not None and draft.feed_forward.experts is None
    assert draft.d_ff / draft.d_model == 2 * config.feed_forward.experts.width / config.d_model


def test_what_differs_from_block_to_block_is_left_out() -> None:
    config = ModelConfig.from_axes(
        n_layers=4,
        position={"kind": "rotary", "window_theta": 1e4, "skipped": (3,)},
        sliding_window=8,
        sliding_layers=(0, 1),
    )
    draft = derive_draft(config).config
    assert (draft.position, draft.attention.window) == (ModelConfig().position, None)


def test_each_reason_is_of_the_shape() -> None:
    derived = derive_draft(preset("gpt2"))
    assert {one.field: one.value for one in derived.reasons}.items() <= vars(derived.config).items()
    assert {"n_layers", "d_model", "n_heads", "d_ff", "tied_head"} <= {one.field for one in derived.reasons}
    narrow = derive_draft(dataclasses.replace(preset("micro"), n_heads=2, n_kv_heads=2))
    assert "one group of heads: the narrowest there is" in {one.why for one in narrow.reasons}
