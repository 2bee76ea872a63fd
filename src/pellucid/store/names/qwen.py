"""Qwen2 and Qwen3: Llama's files with small differences.

Qwen2 always has biases on query, key and value and nowhere else. Qwen3 has none by default and normalises each query
and key head. Both may say that all layers, or some of them, see a sliding window.

Source: Yang et al. 2024 (Qwen2), 2025 (Qwen3); the key names are those of transformers' Qwen2Config and Qwen3Config.
"""

from __future__ import annotations

from typing import Any

from pellucid.planning.axes import ANY, Axes
from pellucid.planning.config import ModelConfig
from pellucid.store.names.family import Family
from pellucid.store.names.fields import Fields
from pellucid.store.names.llama import (
    ROTARY_AXES,
    ROTARY_IGNORED,
    ROTARY_NUMBERS,
    ROTARY_PREFIX,
    biases,
    rotary_from_hf,
    rotary_layout,
    rotary_to_hf,
    sliding_window_from_hf,
    sliding_window_to_hf,
)

WINDOW: Axes = {"attention.window.size": ANY, "attention.window.layers": ANY}


def _qwen2_to_hf(config: ModelConfig) -> dict[str, Any]:
    return {**rotary_to_hf(config), **sliding_window_to_hf(config)}


def _qwen2_from_hf(fields: Fields) -> dict[str, Any]:
    more = {**biases(qkv=True, output=False, mlp=False), "attention.qk_norm": False}
    return rotary_from_hf(fields, {**more, **sliding_window_from_hf(fields)})


def _qwen3_to_hf(config: ModelConfig) -> dict[str, Any]:
    return {**rotary_to_hf(config), **sliding_window_to_hf(config), "attention_bias": config.attention.qkv_bias}


def _qwen3_from_hf(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    more = {**biases(qkv=bias, output=bias, mlp=False), "attention.qk_norm": True}
    return rotary_from_hf(fields, {**more, **sliding_window_from_hf(fields)})


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
