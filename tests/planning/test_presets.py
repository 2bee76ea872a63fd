"""Presets: names, and the shapes that transformers publishes under the same names."""

from __future__ import annotations

import pytest
from transformers import GPT2Config

from pellucid.errors import SettingsError
from pellucid.planning.presets import PRESETS, preset


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        preset("qwen3-0.6")
    assert "qwen3-0.6b" in caught.value.hint


def test_gpt2_is_the_default_of_its_reference() -> None:
    theirs, ours = GPT2Config(), preset("gpt2")
    assert (ours.n_layers, ours.n_heads, ours.d_model) == (theirs.n_layer, theirs.n_head, theirs.n_embd)
    assert (ours.vocab_size, ours.context_length) == (theirs.vocab_size, theirs.n_positions)
    assert (ours.norm.eps, ours.tied_head) == (theirs.layer_norm_epsilon, theirs.tie_word_embeddings)
    assert theirs.activation_function == "gelu_new" and ours.feed_forward.kind == "gelu_tanh"


@pytest.mark.parametrize("name", PRESETS)
def test_heads_fill_the_width_unless_the_family_widens_them(name: str) -> None:
    config = preset(name)
    widened = ("qwen3-0.6b", "qwen3-4b", "qwen3-32b", "qwen3-30b-a3b", "gemma2-2b", "gemma3-270m")
    assert config.d_attention == config.d_model or name in widened


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PRESETS["gpt2"] = PRESETS["tiny"]  # type: ignore[index]
