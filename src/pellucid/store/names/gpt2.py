"""GPT-2: learned positions, LayerNorm, biases everywhere, and matrices stored the other way round.

Its files hold each matrix as [in, out] (a layer called Conv1D), and query, key and value as one matrix `c_attn`.

Source: Radford et al. 2019; the key names are those of transformers' GPT2Config.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pellucid.planning.axes import ANY
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.store.names.family import HEAD, Family, Stored, expand
from pellucid.store.names.fields import Fields

# GPT-2's file calls them activations; the first name of each is the one written.
ACTIVATIONS: dict[FeedForwardKind, tuple[str, ...]] = {
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh"),
    "gelu": ("gelu",),
    "relu2": ("relu2",),
}
AXES: dict[str, tuple[Any, ...]] = {  # those with few values; the first of each is what a file means that does not say
    "position.kind": ("learned",),
    "norm.kind": ("layer",),
    "feed_forward.kind": tuple(ACTIVATIONS),
    "attention.qk_norm": (False,),
    "attention.qkv_bias": (True,),
    "attention.output_bias": (True,),
    "feed_forward.bias": (True,),
    "causal": (True,),
    "attention.window": (None,),
}


def _pair(theirs: str, *ours: str, transposed: bool = False) -> Iterator[Stored]:
    """The weight and the bias of one layer."""
    yield Stored(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), transposed)
    yield Stored(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours))


_HEADS = ("blocks.{i}.attention.query", "blocks.{i}.attention.key", "blocks.{i}.attention.value")
TABLE = (
    Stored("transformer.wte.weight", ("embed.weight",)),
    Stored("transformer.wpe.weight", ("position.weight",)),
    *_pair("transformer.h.{i}.ln_1", "blocks.{i}.attention_norm"),
    *_pair("transformer.h.{i}.attn.c_attn", *_HEADS, transposed=True),
    *_pair("transformer.h.{i}.attn.c_proj", "blocks.{i}.attention.output", transposed=True),
    *_pair("transformer.h.{i}.ln_2", "blocks.{i}.mlp_norm"),
    *_pair("transformer.h.{i}.mlp.c_fc", "blocks.{i}.mlp.up", transposed=True),
    *_pair("transformer.h.{i}.mlp.c_proj", "blocks.{i}.mlp.down", transposed=True),
    *_pair("transformer.ln_f", "final_norm"),
    Stored(HEAD, ("head.weight",)),
)


def _layout(config: ModelConfig) -> list[Stored]:
    return expand(TABLE, config)


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_embd": config.d_model,
        "n_inner": config.d_ff,
        "layer_norm_epsilon": config.norm.eps,
        "activation_function": ACTIVATIONS[config.feed_forward.kind][0],
        "tie_word_embeddings": config.tied_head,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
    }


NEUTRAL = {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)}
HARMLESS = (  # it is a decoder; in what order products are taken; the head of a classifier; the trainer of the first GPT
    "is_decoder", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
    "summary_type", "summary_use_proj", "predict_special_tokens",
)  # fmt: skip


def _from_hf(fields: Fields) -> dict[str, Any]:
    fields.require_all(NEUTRAL)
    fields.require("n_ctx", fields.values.get("n_positions"))  # its name in the first files
    fields.pass_over(*HARMLESS)
    activation = fields.word("activation_function", "gelu_new")
    kinds = [kind for kind, names in ACTIVATIONS.items() if activation in names]
    if not kinds:
        raise fields.unsupported("activation_function", activation, *chain.from_iterable(ACTIVATIONS.values()))
    n_heads, d_model = fields.whole("n_head"), fields.whole("n_embd")
    if n_heads < 1 or d_model % n_heads:
        raise fields.unsupported("n_head", n_heads)
    axes = {axis: values[0] for axis, values in AXES.items()} | {
        "feed_forward.kind": kinds[0],
        "vocab_size": fields.whole("vocab_size"),
        "context_length": fields.whole("n_positions"),
        "n_layers": fields.whole("n_layer"),
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "head_dim": d_model // n_heads,
        "d_model": d_model,
        "d_ff": fields.whole("n_inner", 4 * d_model),
        "norm.eps": fields.number("layer_norm_epsilon", 1e-5),
        "tied_head": fields.flag("tie_word_embeddings", True),
    }
    fields.check_all_read()
    return axes


GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    axes={**AXES, "norm.eps": ANY, "tied_head": ANY},
    equal=(("n_kv_heads", "n_heads"), ("d_attention", "d_model")),
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=_layout,
    prefix="transformer.",
    ignored=re.compile(r"\.attn\.(bias|masked_bias)$"),
)
