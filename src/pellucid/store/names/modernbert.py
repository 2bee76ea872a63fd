"""ModernBERT: an encoder with rotary positions, norms before the branches, a gate, and windows in most layers.

Every third layer sees everything, the others a window to both sides, each kind with a rotary base of its own. Query, key
and value lie in one matrix, gate and the other projection up in one. The first layer has no norm before its attention: the
embedding has one. A classifier has the layer that else stands before the head over tokens behind the row's vector.

Source: Warner et al. 2024; the key names are those of transformers' ModernBertConfig.
"""

from __future__ import annotations

from typing import Any

from pellucid.planning.axes import ANY
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import Rotary
from pellucid.store.names.activations import NAMES, read_activation
from pellucid.store.names.encoder_heads import (
    WITHOUT_PAIRS,
    architecture_of,
    clashing_heads,
    labels_to_hf,
    read_heads,
)
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.fields import Fields
from pellucid.store.names.gemma import two_bases, two_bases_to_hf
from pellucid.store.names.llama import layer_types, window_of_layers

GLOBAL_BASE, LOCAL_BASE = 160_000.0, 10_000.0  # of a file that does not say
EVERY, REACH, EPS = 3, 128, 1e-5
GATED = {"gelu": "geglu", "gelu_tanh": "geglu_tanh", "silu": "swiglu"}
AXES: dict[str, tuple[Any, ...]] = {  # those with few values; the first of each is what a file means that does not say
    "position.kind": ("rotary",),
    "norm.kind": ("layer_no_bias", "layer"),
    "norm.first": (False,),
    "embedding.norm": (True,),
    "attention.qk_norm": (False,),
    "feed_forward.kind": tuple(GATED.values()),
    "head.tokens": (True, False),
    "tied_head": (True,),
    "causal": (False,),
}
POOLINGS = {"cls": "first", "mean": "mean"}
NAMES_HERE = {
    "model.embeddings.tok_embeddings": ("embed",),
    "model.embeddings.norm": ("embed_norm",),
    "model.layers.{i}.attn_norm": ("blocks.{i}.attention_norm",),
    "model.layers.{i}.attn.Wqkv": tuple(f"blocks.{{i}}.attention.{name}" for name in ("query", "key", "value")),
    "model.layers.{i}.attn.Wo": ("blocks.{i}.attention.output",),
    "model.layers.{i}.mlp_norm": ("blocks.{i}.mlp_norm",),
    "model.layers.{i}.mlp.Wi": ("blocks.{i}.mlp.gate", "blocks.{i}.mlp.up"),
    "model.layers.{i}.mlp.Wo": ("blocks.{i}.mlp.down",),
    "model.final_norm": ("final_norm",),
}
OVER_TOKENS = {"head.dense": ("transform.dense",), "head.norm": ("transform.norm",), "decoder": ("head",)}
OVER_ROWS = {"head.dense": ("pooler.dense",), "head.norm": ("pooler.norm",), "classifier": ("pooler.label_head",)}
TABLES = tuple(
    tuple(
        Stored(f"{theirs}.{kind}", tuple(f"{name}.{kind}" for name in ours))
        for theirs, ours in {**NAMES_HERE, **heads}.items()
        for kind in ("weight", "bias")
    )
    for heads in (OVER_TOKENS, OVER_ROWS)
)


def _layout(config: ModelConfig) -> list[Stored]:
    return expand(TABLES[config.pooler is not None], config)


def _clashes(config: ModelConfig) -> list[str]:
    """A row's vector is there for labels alone."""
    idle = config.pooler is not None and not config.pooler.labels
    return [*clashing_heads(config), *(["a pooler without pooler.labels"] if idle else [])]


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    window, rotary = config.attention.window, config.position
    assert isinstance(rotary, Rotary), "the same"
    [activation] = [kind for kind, gated in GATED.items() if gated == config.feed_forward.kind]
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "hidden_activation": NAMES[activation][0],  # type: ignore[index]  # its keys are kinds
        "norm_eps": config.norm.eps,
        "norm_bias": config.norm.kind == "layer",
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.feed_forward.bias,
        **_heads_to_hf(config),
        "local_attention": REACH if window is None else 2 * (window.size - 1),
        "layer_types": layer_types(config),
        **two_bases_to_hf(rotary),
        "tie_word_embeddings": True,
    }


def _heads_to_hf(config: ModelConfig) -> dict[str, Any]:
    """What stands behind the blocks."""
    pooler = config.pooler
    layer = config.head.transform if pooler is None else pooler.layer
    told: dict[str, Any] = {"decoder_bias": config.head.bias} if config.head.tokens else {}
    if layer is not None:
        told |= {"classifier_bias": layer.bias, "classifier_activation": NAMES[layer.activation][0]}  # type: ignore[index]
    if pooler is not None:
        [told["classifier_pooling"]] = [kind for kind, pooling in POOLINGS.items() if pooling == pooler.pooling]
    return told | labels_to_hf(config)


def _heads_from_hf(fields: Fields) -> dict[str, Any]:
    """The axes of what stands behind the blocks."""
    heads = read_heads(fields, "ModernBert", WITHOUT_PAIRS, {"tokens": "decoder."}, "model.")
    has_bias, pooling = fields.flag("decoder_bias", True), fields.word("classifier_pooling", "cls")
    layer = {
        "bias": fields.flag("classifier_bias", False),
        "activation": read_activation(fields, "classifier_activation", "gelu"),
    }
    if pooling not in POOLINGS:
        raise fields.unsupported("classifier_pooling", pooling)
    if heads.labels:
        pooler = {"pooling": POOLINGS[pooling], "layer": {**layer, "norm": True}, "labels": heads.labels}
        return {"head.tokens": False, "pooler": pooler}
    return {"head.bias": has_bias, "head.transform": layer} if heads.tokens else {"head.tokens": False}


def _from_hf(fields: Fields) -> dict[str, Any]:
    n_heads, d_model = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    reach, every = fields.whole("local_attention", REACH), fields.whole("global_attn_every_n_layers", EVERY, low=1)
    if n_heads < 1 or d_model % n_heads:
        raise fields.unsupported("num_attention_heads", n_heads)
    if reach % 2:
        raise fields.unsupported("local_attention", reach)
    fields.require("tie_word_embeddings", True)
    fields.require("position_embedding_type", "absolute")  # some files have it, and it means nothing
    fields.require("layer_norm_eps", fields.values.get("norm_eps", EPS))  # the same
    fields.pass_over(*HARMLESS)
    activation, bias = read_activation(fields, "hidden_activation", "gelu"), fields.flag("attention_bias", False)
    if activation not in GATED:
        raise fields.unsupported("hidden_activation", activation, *(name for kind in GATED for name in NAMES[kind]))  # type: ignore[index]
    bases = two_bases(fields, GLOBAL_BASE, LOCAL_BASE, older=("global_rope_theta", "local_rope_theta"))
    if "position.scaling.kind" in bases:  # by the older key both kinds of layers are stretched, by the newer either
        raise fields.unsupported("rope_scaling", bases["position.scaling.kind"], None)
    window = window_of_layers(fields, reach // 2 + 1, lambda layer: layer % every != 0)
    axes = {axis: values[0] for axis, values in AXES.items()} | {
        "vocab_size": fields.whole("vocab_size"),
        "context_length": fields.whole("max_position_embeddings"),
        "n_layers": fields.whole("num_hidden_layers"),
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "head_dim": d_model // n_heads,
        "d_model": d_model,
        "d_ff": fields.whole("intermediate_size"),
        "feed_forward.kind": GATED[activation],
        "feed_forward.bias": fields.flag("mlp_bias", False),
        "attention.qkv_bias": bias,
        "attention.output_bias": bias,
        "norm.kind": "layer" if fields.flag("norm_bias", False) else "layer_no_bias",
        "norm.eps": fields.number("norm_eps", EPS),
        **_heads_from_hf(fields),
        **(window | {"attention.window.both_sides": True} if window else {}),
        **bases,
    }
    fields.check_all_read()
    return axes


HARMLESS = (  # training, and ways to compute the same
    "initializer_cutoff_factor", "embedding_dropout", "mlp_dropout", "deterministic_flash_attn",
    "sparse_prediction", "sparse_pred_ignore_index", "reference_compile", "repad_logits_with_grad",
)  # fmt: skip
MODERNBERT = Family(
    model_type="modernbert",
    architecture="ModernBertForMaskedLM",
    architecture_of=lambda config: architecture_of(config, "ModernBert"),
    clashes=_clashes,
    axes={
        **AXES,
        "norm.eps": ANY, "position.theta": ANY, "position.window_theta": ANY, "attention.window.size": ANY,
        "attention.window.layers": ANY, "attention.window.both_sides": (True,), "attention.qkv_bias": ANY,
        "attention.output_bias": ANY, "feed_forward.bias": ANY, "head.bias": ANY, "head.transform.bias": ANY,
        "head.transform.activation": tuple(NAMES), "pooler.pooling": ("first", "mean"), "pooler.labels": ANY,
        "pooler.pairs": (False,), "pooler.layer.activation": tuple(NAMES), "pooler.layer.bias": ANY,
        "pooler.layer.norm": (True,),
    },
    equal=(("n_kv_heads", "n_heads"), ("d_attention", "d_model"), ("attention.qkv_bias", "attention.output_bias")),
    needs={"head.transform.activation": "gelu", "head.transform.bias": False},
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=_layout,
    prefix="model.",
    heads=("decoder.weight",),
)  # fmt: skip
