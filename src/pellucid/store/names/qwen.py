"""Qwen2 and Qwen3, and Qwen3 with experts: Llama's files with small differences.

Qwen2 always has biases on query, key and value and nowhere else. Qwen3 has none by default and normalises each query
and key head. Both may say that all layers, or some of them, see a sliding window.

Source: Yang et al. 2024 (Qwen2), 2025 (Qwen3); the key names are those of transformers' Qwen2Config and Qwen3Config.
"""

from __future__ import annotations

from typing import Any

from pellucid.planning.axes import ANY, Axes
from pellucid.planning.config import MOST_LAYERS, ModelConfig
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.fields import Fields
from pellucid.store.names.llama import (
    ROTARY_AXES,
    ROTARY_BLOCK,
    ROTARY_IGNORED,
    ROTARY_NUMBERS,
    ROTARY_PREFIX,
    SLIDING,
    Silent,
    biases,
    rotary_from_hf,
    rotary_layout,
    rotary_table,
    rotary_to_hf,
    sliding_window_from_hf,
    sliding_window_to_hf,
    used_window,
    window_of_layers,
)

WINDOW: Axes = {"attention.window.size": ANY, "attention.window.layers": ANY}
QWEN2_SILENT, QWEN3_SILENT, MOE_SILENT = (
    Silent(n_kv_heads=32),
    Silent(n_kv_heads=32, head_dim=128),
    Silent(n_kv_heads=4),
)


def _qwen2_to_hf(config: ModelConfig) -> dict[str, Any]:
    return {**rotary_to_hf(config), **sliding_window_to_hf(config)}


def _qwen2_from_hf(fields: Fields) -> dict[str, Any]:
    fields.require("use_mrope", False)  # positions of pictures
    more = {**biases(qkv=True, output=False, mlp=False), "attention.qk_norm": False}
    return rotary_from_hf(fields, {**more, **sliding_window_from_hf(fields)}, QWEN2_SILENT)


def _qwen3_to_hf(config: ModelConfig) -> dict[str, Any]:
    return {**rotary_to_hf(config), **sliding_window_to_hf(config), "attention_bias": config.attention.qkv_bias}


def _qwen3_from_hf(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    more = {**biases(qkv=bias, output=bias, mlp=False), "attention.qk_norm": True}
    return rotary_from_hf(fields, {**more, **sliding_window_from_hf(fields)}, QWEN3_SILENT)


def _moe_to_hf(config: ModelConfig) -> dict[str, Any]:
    experts = config.feed_forward.experts
    assert experts is not None, "a family says what it can store, and is asked first"
    return {
        **_qwen3_to_hf(config),
        "num_experts": experts.count,
        "num_experts_per_tok": experts.active,
        "moe_intermediate_size": experts.width,
        "norm_topk_prob": experts.normalised,
        "router_aux_loss_coef": experts.balance,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [layer for layer in range(config.n_layers) if not config.has_experts(layer)],
    }


def _moe_from_hf(fields: Fields) -> dict[str, Any]:
    num_layers = min(fields.whole("num_hidden_layers"), MOST_LAYERS)  # more are refused later
    every, without = fields.whole("decoder_sparse_step", 1, low=1), fields.wholes("mlp_only_layers", [])
    layers = tuple(layer for layer in range(num_layers) if (layer + 1) % every == 0 and layer not in without)
    experts = {
        "count": fields.whole("num_experts", fields.whole("num_local_experts", 128)),
        "active": fields.whole("num_experts_per_tok", 8),
        "width": fields.whole("moe_intermediate_size", 768),
        "normalised": fields.flag("norm_topk_prob", False),
        "balance": fields.number("router_aux_loss_coef", 0.001),
        "layers": None if len(layers) == num_layers else layers,
    }
    bias = fields.flag("attention_bias", False)
    axes = {f"feed_forward.experts.{name}": value for name, value in experts.items()}
    more = {**biases(qkv=bias, output=bias, mlp=False), "attention.qk_norm": True, **_moe_window_from_hf(fields)}
    return rotary_from_hf(fields, {**more, **axes}, MOE_SILENT)


def _moe_window_from_hf(fields: Fields) -> dict[str, Any]:
    """A window in every layer: transformers 5 reads nothing else, and 4 read `max_window_layers`, which must agree."""
    window = used_window(fields)
    fields.require("max_window_layers", 0) if window else fields.pass_over("max_window_layers")
    axes = window_of_layers(fields, window, lambda layer: True)
    if "attention.window.layers" in axes:
        raise fields.unsupported(
            "layer_types", fields.words("layer_types"), [SLIDING] * fields.whole("num_hidden_layers")
        )
    return axes


def _moe_layout(config: ModelConfig) -> list[Stored]:
    return expand(MOE_TABLE, config)


MOE_TABLE = rotary_table(
    ROTARY_BLOCK,
    Stored("model.layers.{i}.mlp.gate.weight", ("blocks.{i}.mlp.router.weight",)),
    *(
        Stored(f"model.layers.{{i}}.mlp.experts.{{e}}.{name}_proj.weight", (f"blocks.{{i}}.mlp.{name}",))
        for name in ("gate", "up", "down")
    ),
)
QWEN2 = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    axes={**ROTARY_AXES, **ROTARY_NUMBERS, **WINDOW, "attention.qkv_bias": (True,)},
    config_to_hf=_qwen2_to_hf,
    config_from_hf=_qwen2_from_hf,
    layout=rotary_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)

QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    axes={
        **ROTARY_AXES,
        **ROTARY_NUMBERS,
        **WINDOW,
        "attention.qk_norm": (True,),
        "attention.qkv_bias": ANY,
        "attention.output_bias": ANY,
    },
    equal=(("attention.qkv_bias", "attention.output_bias"),),
    config_to_hf=_qwen3_to_hf,
    config_from_hf=_qwen3_from_hf,
    layout=rotary_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)

QWEN3_MOE = Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    axes={
        **QWEN3.axes,
        "attention.window.layers": (None,),
        **dict.fromkeys(
            [
                f"feed_forward.experts.{name}"
                for name in ("count", "active", "width", "normalised", "balance", "layers")
            ],
            ANY,
        ),
    },
    equal=QWEN3.equal,
    needs={"feed_forward.experts.count": 128, "feed_forward.experts.active": 8, "feed_forward.experts.width": 768},
    config_to_hf=_moe_to_hf,
    config_from_hf=_moe_from_hf,
    layout=_moe_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)
