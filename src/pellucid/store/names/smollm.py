"""SmolLM3: Llama's files, where every fourth layer does not rotate queries and keys.

Source: Bakouch et al. 2025; Yang et al. 2025 (layers without rotation); the key names are those of transformers' SmolLM3Config.
"""

from __future__ import annotations

from typing import Any

from pellucid.planning.axes import ANY
from pellucid.planning.config import MOST_LAYERS, ModelConfig
from pellucid.store.names.family import Family
from pellucid.store.names.fields import Fields
from pellucid.store.names.llama import (
    ROTARY_AXES,
    ROTARY_IGNORED,
    ROTARY_NUMBERS,
    ROTARY_PREFIX,
    Silent,
    biases,
    rotary_from_hf,
    rotary_layout,
    rotary_to_hf,
    sliding_window_to_hf,
    used_window,
    window_of_layers,
)

INTERVAL, SILENT = 4, Silent(n_kv_heads=4, theta=2_000_000.0, tied=True)  # of a file that does not say


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    return {
        **rotary_to_hf(config),
        **sliding_window_to_hf(config),
        "no_rope_layers": [int(config.rotation_at(layer) is not None) for layer in range(config.n_layers)],
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.feed_forward.bias,
    }


def _from_hf(fields: Fields) -> dict[str, Any]:
    bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
    num_layers = min(fields.whole("num_hidden_layers"), MOST_LAYERS)  # more are refused later
    interval = fields.whole("no_rope_layer_interval", INTERVAL, low=1)
    rotates = fields.wholes("no_rope_layers", [int((layer + 1) % interval != 0) for layer in range(num_layers)])
    if len(rotates) < num_layers or {*rotates} - {0, 1}:
        raise fields.unsupported("no_rope_layers", rotates)
    fields.pass_over("max_window_layers")  # transformers writes it and never reads it
    axes = {
        **biases(qkv=bias, output=bias, mlp=mlp_bias),
        "attention.qk_norm": False,
        "position.skipped": tuple(layer for layer in range(num_layers) if not rotates[layer]),
        **window_of_layers(fields, used_window(fields), lambda layer: not rotates[layer]),
    }
    return rotary_from_hf(fields, axes, SILENT)


SMOLLM3 = Family(
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    axes={
        **ROTARY_AXES,
        **ROTARY_NUMBERS,
        **biases(qkv=ANY, output=ANY, mlp=ANY),
        "position.skipped": ANY,
        "attention.window.size": ANY,
        "attention.window.layers": ANY,
    },
    equal=(("attention.qkv_bias", "attention.output_bias"),),
    multiples=(("d_model", "n_heads"),),
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=rotary_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)
