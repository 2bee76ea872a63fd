"""The presets of other families have the parameters of the models that transformers makes of the published sizes."""

from __future__ import annotations

import pytest
import torch
import transformers

from pellucid.planning.params import count_parameters
from pellucid.planning.presets import preset

CAUSAL, MASKED, PAIRED = (
    transformers.AutoModelForCausalLM,
    transformers.AutoModelForMaskedLM,
    transformers.AutoModelForSeq2SeqLM,
)
PUBLISHED = {
    "mistral-7b": (CAUSAL, lambda: transformers.MistralConfig()),
    "mixtral-8x7b": (CAUSAL, lambda: transformers.MixtralConfig()),
    "qwen3-30b-a3b": (CAUSAL, lambda: transformers.Qwen3MoeConfig(num_hidden_layers=48, head_dim=128)),
    "smollm3-3b": (CAUSAL, lambda: transformers.SmolLM3Config()),
    "gemma2-2b": (CAUSAL, lambda: transformers.Gemma2Config()),
    "gemma3-270m": (
        CAUSAL,
        lambda: transformers.Gemma3TextConfig(
            vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
            num_key_value_heads=1,
        ),
    ),
    "bert-base": (MASKED, lambda: transformers.BertConfig()),
    "bert-large": (
        MASKED,
        lambda: transformers.BertConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
        ),
    ),
    "roberta-base": (
        MASKED,
        lambda: transformers.RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1),
    ),
    "modernbert-base": (MASKED, lambda: transformers.ModernBertConfig()),
    "t5-small": (PAIRED, lambda: transformers.T5Config()),
    "xlnet-base": (CAUSAL, lambda: transformers.XLNetConfig(d_model=768, n_layer=12, n_head=12, d_inner=3072)),
    "xlnet-large": (CAUSAL, lambda: transformers.XLNetConfig()),
    "t5-base": (PAIRED, lambda: transformers.T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12)),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_parameters_of_the_published_model(name):
    make, config = PUBLISHED[name]
    with torch.device("meta"):
        theirs = make.from_config(config())
    assert count_parameters(preset(name)).total == theirs.num_parameters()


def test_some_of_them_in_figures():
    """As their cards say them."""
    figures = {
        "mistral-7b": 7_241_732_096, "mixtral-8x7b": 46_702_792_704, "gemma2-2b": 2_614_341_888, "gemma3-270m": 268_098_176,
        "smollm3-3b": 3_075_098_624, "t5-small": 60_506_624, "qwen3-30b-a3b": 30_532_122_624,
        "xlnet-base": 116_750_336, "xlnet-large": 360_300_800,
    }  # fmt: skip
    assert {name: count_parameters(preset(name)).total for name in figures} == figures
