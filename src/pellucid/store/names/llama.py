"""Llama, and the parts of its files that Qwen2 and Qwen3 share: rotary positions, RMS norms, a gated feed-forward.

transformers 5 keeps the rotary base in `rope_parameters`, earlier versions and other engines in `rope_theta` and
`rope_scaling`: both are written, either is read.

Source: Touvron et al. 2023; the key names are those of transformers' LlamaConfig.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.planning.axes import ANY, Axes
from pellucid.planning.config import MOST_LAYERS, ModelConfig
from pellucid.planning.parts.position import Rotary
from pellucid.store.names.family import HEAD, Family, Stored, expand
from pellucid.store.names.fields import Fields

FULL, SLIDING = "full_attention", "sliding_attention"  # transformers' names for the two kinds of layers
FIRST_SLIDING = 28  # what a file means that does not say from which layer on: the default of transformers
ROTARY_AXES: dict[str, tuple[Any, ...]] = {
    "position.kind": ("rotary",),
    "norm.kind": ("rms",),
    "feed_forward.kind": ("swiglu",),
    "causal": (True,),
}

# What a Llama-like file can say of rotary positions and of the rest that is a number or a flag.
STRETCHED = ("none", "linear", "llama3", "yarn")
ROTARY_NUMBERS: Axes = {
    **dict.fromkeys(("position.theta", "norm.eps", "tied_head"), ANY),
    "position.scaling.kind": STRETCHED,
    "position.scaling.factor": ANY,
    "position.scaling.low_frequency": ANY,
    "position.scaling.high_frequency": ANY,
    "position.scaling.original_context": ANY,
    "position.scaling.attention_factor": ANY,
}

ROTARY_BLOCK = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.q_norm": "attention.query_norm",
    "self_attn.k_norm": "attention.key_norm",
    "self_attn.o_proj": "attention.output",
    "post_attention_layernorm": "mlp_norm",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}
LLAMA3_KEYS = {
    "low_freq_factor": "low_frequency",
    "high_freq_factor": "high_frequency",
    "original_max_position_embeddings": "original_context",
}
YARN_KEYS = {
    "beta_slow": "low_frequency",
    "beta_fast": "high_frequency",
    "original_max_position_embeddings": "original_context",
    "attention_factor": "attention_factor",
}
MOST_STRETCH, MOST_TURNS = 1e6, 1e9  # far beyond any model in use; beyond them the arithmetic of angles fails
ROTARY_PREFIX = "model."
NEUTRAL = {"rope_interleaved": (False,), "is_llama_config": (True,)}  # of files that SmolLM's trainer writes
ROTARY_IGNORED = re.compile(r"rotary_emb\.inv_freq$")


def rotary_table(block: Mapping[str, str], *more: Stored) -> tuple[Stored, ...]:
    """The tensors of a Llama-like file whose blocks have these layers: name there -> name here."""
    return (
        Stored("model.embed_tokens.weight", ("embed.weight",)),
        *(
            Stored(f"model.layers.{{i}}.{theirs}.{kind}", (f"blocks.{{i}}.{ours}.{kind}",))
            for theirs, ours in block.items()
            for kind in ("weight", "bias")
        ),
        *more,
        Stored("model.norm.weight", ("final_norm.weight",)),
        Stored(HEAD, ("head.weight",)),
    )


ROTARY_TABLE = rotary_table(ROTARY_BLOCK)


def biases(*, qkv: Any, output: Any, mlp: Any) -> dict[str, Any]:
    """The three axes of biases."""
    return {"attention.qkv_bias": qkv, "attention.output_bias": output, "feed_forward.bias": mlp}


def rotary_layout(config: ModelConfig) -> list[Stored]:
    """The tensors of a Llama-like file."""
    return expand(ROTARY_TABLE, config)


def rotary_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys that all Llama-like families share."""
    rotary = config.position
    assert isinstance(rotary, Rotary), "a family says what it can store, and is asked first"
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "rope_theta": rotary.theta,
        "rope_parameters": {"rope_theta": rotary.theta, **rope_scaling_to_hf(rotary)},
        **({} if rotary.scaling.kind == "none" else {"rope_scaling": rope_scaling_to_hf(rotary)}),
        "rms_norm_eps": config.norm.eps,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tied_head,
        "attention_dropout": config.dropout,
    }


@dataclass(frozen=True, kw_only=True)
class Silent:
    """What a family means by a file that does not say: the defaults of its configuration class in transformers."""

    n_kv_heads: int | None = None  # as many as query heads
    head_dim: int | None = None  # the width over the query heads
    theta: float = 10_000.0
    eps: float = 1e-6
    tied: bool = False


def rotary_from_hf(fields: Fields, family_axes: Mapping[str, Any], silent: Silent) -> dict[str, Any]:
    """The shared keys read back; `family_axes` are what the family adds or says instead."""
    if "feed_forward.kind" not in family_axes:
        fields.require("hidden_act", "silu", "swish")
    fields.require("partial_rotary_factor", None, 1, 1.0)
    fields.pass_over("is_decoder")  # each of these is one
    n_heads, d_model = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    n_kv_heads = fields.nullable("num_key_value_heads", fields.whole, silent.n_kv_heads)
    head_dim = fields.nullable("head_dim", fields.whole, silent.head_dim)
    axes = {axis: values[0] for axis, values in ROTARY_AXES.items()} | {
        "vocab_size": fields.whole("vocab_size"),
        "context_length": fields.whole("max_position_embeddings"),
        "n_layers": fields.whole("num_hidden_layers"),
        "n_heads": n_heads,
        "n_kv_heads": n_heads if n_kv_heads is None else n_kv_heads,
        "head_dim": d_model // max(n_heads, 1) if head_dim is None else head_dim,
        "d_model": d_model,
        "d_ff": fields.whole("intermediate_size"),
        **({} if "position.theta" in family_axes else _rope(fields, silent)),
        "norm.eps": fields.number("rms_norm_eps", silent.eps),
        "tied_head": fields.flag("tie_word_embeddings", silent.tied),
    }
    fields.check_all_read()
    return {**axes, **family_axes}


def _rope(fields: Fields, silent: Silent) -> dict[str, Any]:
    return rope_from_hf(fields, fields.table("rope_parameters", {}), theta=silent.theta)


def rope_scaling_to_hf(rotary: Rotary) -> dict[str, Any]:
    """The stretching of rotary wavelengths, under transformers' names."""
    scaling = rotary.scaling
    if scaling.kind == "none":
        return {"rope_type": "default"}
    keys = {"llama3": LLAMA3_KEYS, "yarn": YARN_KEYS}.get(scaling.kind, {})
    return {
        "rope_type": scaling.kind,
        "factor": scaling.factor,
        **{theirs: getattr(scaling, ours) for theirs, ours in keys.items()},
    }


def rope_from_hf(fields: Fields, parameters: Mapping[str, Any], *, theta: float) -> dict[str, Any]:
    """The base of the rotary wavelengths and their stretching, which may be said in two places that must agree.

    `parameters`: the newer of the places; `theta`: the base where neither says one.
    """
    older = fields.table("rope_scaling", {})
    outside = fields.number("rope_theta", None, low=1)
    inside = Fields(parameters, fields.where).number("rope_theta", None, low=1)
    if outside is not None and inside is not None and outside != inside:
        raise fields.unsupported("rope_theta", outside, inside)
    theta = next((base for base in (inside, outside) if base is not None), theta)
    stretchings = [_stretching(table, fields) for table in (parameters, older) if set(table) - {"rope_theta"}]
    if any(one != stretchings[0] for one in stretchings):
        raise fields.unsupported("rope_scaling", dict(older))
    scaling = stretchings[0] if stretchings else {}
    return {"position.theta": theta, **{f"position.scaling.{axis}": value for axis, value in scaling.items()}}


def _stretching(table: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """The axes of the stretching in one table; ModelError for a kind that is not built here."""
    known = Fields(table, fields.where)
    axes: dict[str, Any] = {}
    kind = known.word("rope_type", known.word("type", "default"))
    known.seen |= {"rope_theta", "rope_type", "type"}
    known.require("partial_rotary_factor", 1, 1.0)
    if kind in ("linear", "llama3", "yarn"):
        axes |= {"kind": kind, "factor": known.number("factor", low=1, high=MOST_STRETCH)}
    if kind == "llama3":
        numbers = {ours: known.number(theirs, low=0, high=MOST_TURNS) for theirs, ours in LLAMA3_KEYS.items()}
        axes |= numbers | {"original_context": int(numbers["original_context"])}
    if kind == "yarn":
        axes |= _yarn_from_hf(known, fields.whole("max_position_embeddings"))
    if kind not in ("default", "linear", "llama3", "yarn") or set(table) - known.seen:
        raise fields.unsupported("rope_scaling", dict(table))
    return axes


def _yarn_from_hf(known: Fields, context_length: int) -> dict[str, Any]:
    """The axes of yarn; what a file leaves out has the values of the paper."""
    known.require("truncate", True)
    factor = known.number("factor", low=1, high=MOST_STRETCH)
    scales = [known.number(name, 0, low=0, high=MOST_STRETCH) for name in ("mscale", "mscale_all_dim")]
    shares = [0.1 * scale * math.log(factor) + 1 for scale in scales]
    share = shares[0] / shares[1] if min(shares) > 1 else yarn_attention_factor(factor)
    return {
        "low_frequency": known.number("beta_slow", 1, low=0, high=MOST_TURNS),
        "high_frequency": known.number("beta_fast", 32, low=0, high=MOST_TURNS),
        "original_context": known.whole("original_max_position_embeddings", context_length),
        "attention_factor": known.number("attention_factor", share, low=0, high=MOST_STRETCH),
    }


def yarn_attention_factor(factor: float) -> float:
    """By how much queries and keys grow where a model does not say: 0.1 ln(factor) + 1.

    Source: Peng et al. 2023 eq. 22.
    """
    return 0.1 * math.log(factor) + 1


def sliding_window_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys that say how far back a position sees."""
    window = config.attention.window
    if window is None:
        return {"use_sliding_window": False}
    return {
        "use_sliding_window": True,
        "sliding_window": window.size,
        "max_window_layers": 0,
        "layer_types": layer_types(config),
    }


def layer_types(config: ModelConfig) -> list[str]:
    """Which layers have a sliding window, in transformers' words."""
    return [FULL if config.window_at(layer) is None else SLIDING for layer in range(config.n_layers)]


def sliding_window_from_hf(fields: Fields) -> dict[str, Any]:
    """How far back the layers see, and which of them: all from `max_window_layers` on, or those that `layer_types` names."""
    first = fields.whole("max_window_layers", FIRST_SLIDING)
    return window_of_layers(fields, used_window(fields), lambda layer: layer >= first)


def used_window(fields: Fields) -> int:
    """How far back layers with a window see, where `use_sliding_window` says that there are some; else 0."""
    fields.pass_over("sliding_window")
    if not fields.flag("use_sliding_window", False):
        return 0
    window = fields.whole("sliding_window", 0)
    if not window:
        raise fields.unsupported("use_sliding_window", True, False)
    return window


def window_of_layers(fields: Fields, window: int, slides: Callable[[int], bool]) -> dict[str, Any]:
    """The axes of a window (0: there is none) in the layers that `layer_types` names, else in those that `slides` names."""
    num_layers = fields.whole("num_hidden_layers")
    kinds = fields.words("layer_types", [])
    if not kinds:
        some = range(min(num_layers, MOST_LAYERS)) if window else ()  # more are refused later
        sliding = [layer for layer in some if slides(layer)]
    elif len(kinds) == num_layers and {*kinds} <= {FULL, SLIDING} and (window or SLIDING not in kinds):
        sliding = [layer for layer, kind in enumerate(kinds) if kind == SLIDING]
    else:
        raise fields.unsupported("layer_types", sorted({*kinds}))
    if not sliding:
        return {}
    layers = {} if len(sliding) == num_layers else {"attention.window.layers": tuple(sliding)}
    return {"attention.window.size": window} | layers


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    return {**rotary_to_hf(config), "attention_bias": config.attention.qkv_bias, "mlp_bias": config.feed_forward.bias}


def _from_hf(fields: Fields) -> dict[str, Any]:
    fields.require_all(NEUTRAL)
    bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
    axes = {**biases(qkv=bias, output=bias, mlp=mlp_bias), "attention.qk_norm": False}
    return rotary_from_hf(fields, axes, Silent())


LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    axes={**ROTARY_AXES, **ROTARY_NUMBERS, **biases(qkv=ANY, output=ANY, mlp=ANY)},
    equal=(("attention.qkv_bias", "attention.output_bias"),),
    multiples=(("d_model", "n_heads"),),  # although head_dim is free
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=rotary_layout,
    prefix=ROTARY_PREFIX,
    ignored=ROTARY_IGNORED,
)
