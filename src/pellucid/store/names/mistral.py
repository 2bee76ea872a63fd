"""Mistral and Mixtral: Llama's files with a sliding window in every layer, and with experts.

Mixtral's experts lie one by one: `block_sparse_moe.experts.3.w1` is the gate of the fourth, `w3` its other projection up
and `w2` the one down. The shares of the chosen experts are always divided by their sum.

Source: Jiang et al. 2023 (Mistral), 2024 (Mixtral); the key names are those of transformers' MistralConfig and MixtralConfig.
"""

from __future__ import annotations

from typing import Any

from pellucid.planning.axes import ANY, Axes
from pellucid.planning.config import ModelConfig
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.fields import Fields
from pellucid.store.names.llama import (
    ROTARY_AXES,
    ROTARY_BLOCK,
    ROTARY_IGNORED,
    ROTARY_NUMBERS,
    ROTARY_PREFIX,
    Silent,
    biases,
    rotary_from_hf,
    rotary_layout,
    rotary_table,
    rotary_to_hf,
)

WINDOW, MIXTRAL_WIDTH = 4096, 14_336  # of a file that does not say
MISTRAL_SILENT, MIXTRAL_SILENT = Silent(n_kv_heads=8), Silent(n_kv_heads=8, theta=1_000_000.0, eps=1e-5)
MIXTRAL_NEUTRAL = {"router_jitter_noise": (0, 0.0), "moe_frequency": (1,)}
PLAIN = {**biases(qkv=False, output=False, mlp=False), "attention.qk_norm": False}
EVERY_LAYER: Axes = {"attention.window.size": ANY, "attention.window.layers": (None,)}
EXPERTS = "block_sparse_moe"
_PROJECTIONS = {"w1": "gate", "w2": "down", "w3": "up"}
_DENSE = {theirs: ours for theirs, ours in ROTARY_BLOCK.items() if not theirs.startswith("mlp.")}
TABLE = rotary_table(
    _DENSE,
    Stored(f"model.layers.{{i}}.{EXPERTS}.gate.weight", ("blocks.{i}.mlp.router.weight",)),
    *(
        Stored(f"model.layers.{{i}}.{EXPERTS}.experts.{{e}}.{theirs}.weight", (f"blocks.{{i}}.mlp.{ours}",))
        for theirs, ours in _PROJECTIONS.items()
    ),
)


def _window_to_hf(config: ModelConfig) -> dict[str, Any]:
    window = config.attention.window
    return {"sliding_window": None if window is None else window.size}


def _window_from_hf(fields: Fields, default: int | None) -> dict[str, Any]:
    """A window in every layer; null says that there is none."""
    window = fields.nullable("sliding_window", lambda key: fields.whole(key, low=1), default)
    return {} if window is None else {"attention.window.size": window}


def _mistral_to_hf(config: ModelConfig) -> dict[str, Any]:
    return {**rotary_to_hf(config), **_window_to_hf(config)}


def _mistral_from_hf(fields: Fields) -> dict[str, Any]:
    return rotary_from_hf(fields, {**PLAIN, **_window_from_hf(fields, WINDOW)}, MISTRAL_SILENT)


def _mixtral_to_hf(config: ModelConfig) -> dict[str, Any]:
    experts = config.feed_forward.experts
    assert experts is not None, "a family says what it can store, and is asked first"
    return {
        **rotary_to_hf(config),
        **_window_to_hf(config),
        "intermediate_size": experts.width,
        "num_local_experts": experts.count,
        "num_experts_per_tok": experts.active,
        "router_aux_loss_coef": experts.balance,
    }


def _mixtral_from_hf(fields: Fields) -> dict[str, Any]:
    fields.require_all(MIXTRAL_NEUTRAL)
    experts = {
        "count": fields.whole("num_local_experts", 8),
        "active": fields.whole("num_experts_per_tok", 2),
        "width": fields.whole("intermediate_size"),
        "normalised": True,
        "balance": fields.number("router_aux_loss_coef", 0.001),
    }
    axes = {f"feed_forward.experts.{name}": value for name, value in experts.items()}
    return rotary_from_hf(fields, {**PLAIN, **_window_from_hf(fields, None), **axes}, MIXTRAL_SILENT)


def _mixtral_layout(config: ModelConfig) -> list[Stored]:
    return expand(TABLE, config)


MISTRAL = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    axes={**ROTARY_AXES, **ROTARY_NUMBERS, **EVERY_LAYER},
    config_to_hf=_mistral_to_hf,
    config_from_hf=_mistral_from_hf,
    layout=rotary_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)

MIXTRAL = Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    axes={
        **ROTARY_AXES,
        **ROTARY_NUMBERS,
        **EVERY_LAYER,
        **dict.fromkeys([f"feed_forward.experts.{name}" for name in ("count", "active", "width", "balance")], ANY),
        "feed_forward.experts.normalised": (True,),
        "feed_forward.experts.layers": (None,),
    },
    equal=(("d_ff", "feed_forward.experts.width"),),
    needs={
        "d_ff": MIXTRAL_WIDTH,
        "feed_forward.experts.width": MIXTRAL_WIDTH,
        "feed_forward.experts.count": 8,
        "feed_forward.experts.active": 2,
    },
    config_to_hf=_mixtral_to_hf,
    config_from_hf=_mixtral_from_hf,
    layout=_mixtral_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)
