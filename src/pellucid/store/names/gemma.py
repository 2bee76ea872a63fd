"""Gemma 2 and Gemma 3 (text): norms around both branches with scales of 1 + weight, token vectors times √D, windows in turn.

Gemma 2 bends the scores of attention and of the head (soft caps). Gemma 3 has query and key norms instead, and two rotary
bases: one for layers with a sliding window, a larger one for those that see everything.

Source: Gemma Team 2024 (Gemma 2), 2025 (Gemma 3); the key names are those of transformers' Gemma2Config and Gemma3TextConfig.
"""

from __future__ import annotations

from typing import Any

from pellucid.planning.axes import ANY, Axes
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import Rotary
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.fields import Fields
from pellucid.store.names.llama import (
    FULL,
    ROTARY_BLOCK,
    ROTARY_IGNORED,
    ROTARY_NUMBERS,
    ROTARY_PREFIX,
    SLIDING,
    Silent,
    layer_types,
    rope_from_hf,
    rope_scaling_to_hf,
    rotary_from_hf,
    rotary_table,
    rotary_to_hf,
    window_of_layers,
)

ACTIVATION = "gelu_pytorch_tanh"
BLOCK = ROTARY_BLOCK | {
    "post_attention_layernorm": "attention_output_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_output_norm",
}
TABLE = rotary_table(BLOCK)
SHARED: dict[
    str, tuple[Any, ...]
] = {  # those with few values; the first of each is what a file means that does not say
    "position.kind": ("rotary",),
    "norm.kind": ("rms",),
    "norm.placement": ("around",),
    "norm.one_plus": (True,),
    "feed_forward.kind": ("geglu_tanh",),
    "embedding.scaled": (True,),
    "causal": (True,),
}
OTHERS: Axes = {
    **ROTARY_NUMBERS,
    **dict.fromkeys(("attention.window.size", "attention.window.layers", "attention.scale", "attention.softcap"), ANY),
    "attention.qkv_bias": ANY,
    "attention.output_bias": ANY,
    "head.softcap": ANY,
}
BIASES = (("attention.qkv_bias", "attention.output_bias"),)
WINDOW, SCALAR, SILENT = 4096, 256, Silent(n_kv_heads=4, head_dim=256, tied=True)  # of a file that does not say
LEAST_SCALAR = 1e-6
GLOBAL_BASE, LOCAL_BASE = 1_000_000.0, 10_000.0  # of Gemma 3
OLDER = ("rope_theta", "rope_local_base_freq")
GEMMA2_PATTERN, GEMMA3_PATTERN = 2, 6  # every so many layers one sees everything


def _layout(config: ModelConfig) -> list[Stored]:
    return expand(TABLE, config)


def _shared_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys that Gemma 2 and 3 share."""
    window = config.attention.window
    scale = config.head_dim**-0.5 if config.attention.scale is None else config.attention.scale
    keys = {key: value for key, value in rotary_to_hf(config).items() if key != "hidden_act"}
    return {
        **keys,
        "hidden_activation": ACTIVATION,
        "query_pre_attn_scalar": _tidy(scale**-2),
        "attention_bias": config.attention.qkv_bias,
        "attn_logit_softcapping": config.attention.softcap,
        "final_logit_softcapping": config.head.softcap,
        "sliding_window": None if window is None else window.size,
        "layer_types": layer_types(config),
    }


def _tidy(number: float) -> float:
    """A whole number where rounding has left one a hair beside it."""
    return round(number) if abs(number - round(number)) < 1e-9 * number else number


def _shared_from_hf(
    fields: Fields, *, pattern: int, attention_cap: float | None, head_cap: float | None
) -> dict[str, Any]:
    """The axes that Gemma 2 and 3 share; the caps are those of a file that does not say."""
    fields.require("hidden_activation", ACTIVATION, None)
    fields.require("hidden_act", ACTIVATION)  # older files have it besides; only the other counts
    fields.require("use_bidirectional_attention", False, None)
    fields.require("sliding_window_size", fields.values.get("sliding_window", WINDOW))  # some files say it twice
    bias = fields.flag("attention_bias", False)
    window = fields.nullable("sliding_window", lambda key: fields.whole(key, low=1), WINDOW)
    if window is None and not fields.words("layer_types", []):  # then some have one, and it is not said how far it goes
        raise fields.unsupported("sliding_window", None)
    return {
        **{axis: values[0] for axis, values in SHARED.items()},
        "attention.qkv_bias": bias,
        "attention.output_bias": bias,
        "attention.scale": fields.number("query_pre_attn_scalar", SCALAR, low=LEAST_SCALAR) ** -0.5,
        "attention.softcap": fields.nullable("attn_logit_softcapping", fields.number, attention_cap),
        "head.softcap": fields.nullable("final_logit_softcapping", fields.number, head_cap),
        **window_of_layers(fields, window or 0, lambda layer: (layer + 1) % pattern != 0),
    }


def _gemma2_from_hf(fields: Fields) -> dict[str, Any]:
    axes = _shared_from_hf(fields, pattern=GEMMA2_PATTERN, attention_cap=50.0, head_cap=30.0)
    return rotary_from_hf(fields, {**axes, "attention.qk_norm": False}, SILENT)


def _gemma3_to_hf(config: ModelConfig) -> dict[str, Any]:
    rotary = config.position
    assert isinstance(rotary, Rotary), "a family says what it can store, and is asked first"
    return {**_shared_to_hf(config), **two_bases_to_hf(rotary)}


def two_bases_to_hf(rotary: Rotary) -> dict[str, Any]:
    """The rotary bases of layers that see everything and of layers with a window, and the stretching of the first."""
    local = rotary.theta if rotary.window_theta is None else rotary.window_theta
    parameters = {
        FULL: {"rope_theta": rotary.theta, **rope_scaling_to_hf(rotary)},
        SLIDING: {"rope_theta": local, "rope_type": "default"},
    }
    return {"rope_parameters": parameters}


def _gemma3_from_hf(fields: Fields) -> dict[str, Any]:
    pattern = fields.whole("sliding_window_pattern", GEMMA3_PATTERN, low=1)
    if fields.words("layer_types", []):
        fields.pass_over("_sliding_window_pattern")  # transformers writes it beside the list and never reads it
    else:
        fields.require("_sliding_window_pattern", pattern)
    axes = _shared_from_hf(fields, pattern=pattern, attention_cap=None, head_cap=None)
    bases = two_bases(fields, GLOBAL_BASE, LOCAL_BASE, older=OLDER)
    return rotary_from_hf(fields, {**axes, **bases, "attention.qk_norm": True}, SILENT)


def two_bases(fields: Fields, full_base: float, local_base: float, *, older: tuple[str, str]) -> dict[str, Any]:
    """The bases of both kinds of layers, and the stretching of those that see everything.

    `older`: the keys of the two in files before transformers 5; the bases are those of a file that does not say.
    """
    both = fields.table("rope_parameters", {})
    if set(both) - {FULL, SLIDING}:
        raise fields.unsupported("rope_parameters", dict(both))
    inner = Fields(both, fields.where)
    full, local = inner.table(FULL, {}), Fields(inner.table(SLIDING, {}), fields.where)
    local.require("rope_type", "default")
    bases = [local.number("rope_theta", None, low=1), fields.number(older[1], None, low=1)]
    stated = [base for base in bases if base is not None]
    if len({*stated}) > 1:
        raise fields.unsupported(older[1], stated)
    local.check_all_read()
    axes = rope_from_hf(fields, full, theta=fields.number(older[0], full_base, low=1))
    return {**axes, "position.window_theta": (stated or [local_base])[0]}


GEMMA2 = Family(
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    axes={**SHARED, **OTHERS, "attention.qk_norm": (False,)},
    equal=BIASES,
    multiples=(("d_model", "n_heads"),),
    config_to_hf=_shared_to_hf,
    config_from_hf=_gemma2_from_hf,
    layout=_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)

GEMMA3 = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    axes={**SHARED, **OTHERS, "attention.qk_norm": (True,), "position.window_theta": ANY},
    equal=BIASES,
    multiples=(("d_model", "n_heads"),),
    config_to_hf=_gemma3_to_hf,
    config_from_hf=_gemma3_from_hf,
    layout=_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)
