"""T5: an encoder beside a decoder, relative positions, RMS norms, no biases, and scores that are not divided by √K.

Each side has one table of relative positions, which its files keep in the first block. The first T5 ties its head to the
embedding and divides by √D before it; version 1.1 has a head of its own, and a gated feed-forward. The multilingual mT5
is version 1.1 under another name.

Source: Raffel et al. 2020; Shazeer 2020 (the gate); Xue et al. 2021 (mT5); the key names are those of transformers' T5Config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pellucid.planning.axes import ANY
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.planning.parts.position import Relative
from pellucid.store.names.family import HEAD, Family, Stored, expand
from pellucid.store.names.fields import Fields

CONTEXT, BUCKETS, FARTHEST = 512, 32, 128  # of a file that does not say
FEED_FORWARDS: dict[FeedForwardKind, str] = {  # "gated-gelu" is GELU's tanh approximation there
    "relu": "relu", "geglu_tanh": "gated-gelu", "swiglu": "gated-silu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu",
}  # fmt: skip
AXES: dict[str, tuple[Any, ...]] = {  # those with few values; the first of each is what a file means that does not say
    "position.kind": ("relative",),
    "norm.kind": ("rms",),
    "attention.qk_norm": (False,),
    "attention.scale": (1.0,),
    "feed_forward.kind": tuple(FEED_FORWARDS),
    "causal": (True,),
}


def _attention(there: str, here: str) -> list[Stored]:
    names = {"q": "query", "k": "key", "v": "value", "o": "output"}
    return [Stored(f"{there}.{theirs}.weight", (f"{here}.{ours}.weight",)) for theirs, ours in names.items()]


def _side(there: str, here: str, number: int) -> list[Stored]:
    """The blocks of one side; `number`: which of a block's layers is the feed-forward."""
    block, mlp = f"{there}.block.{{i}}.layer", f"{there}.block.{{i}}.layer.{number}.DenseReluDense"
    return [
        *_attention(f"{block}.0.SelfAttention", f"{here}blocks.{{i}}.attention"),
        Stored(f"{block}.0.layer_norm.weight", (f"{here}blocks.{{i}}.attention_norm.weight",)),
        Stored(f"{block}.{number}.layer_norm.weight", (f"{here}blocks.{{i}}.mlp_norm.weight",)),
        Stored(f"{mlp}.wi_0.weight", (f"{here}blocks.{{i}}.mlp.gate.weight",)),
        Stored(f"{mlp}.wi_1.weight", (f"{here}blocks.{{i}}.mlp.up.weight",)),
        Stored(f"{mlp}.wo.weight", (f"{here}blocks.{{i}}.mlp.down.weight",)),
        Stored(f"{there}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (f"{here}relative.weight",)),
        Stored(f"{there}.final_layer_norm.weight", (f"{here}final_norm.weight",)),
    ]


TABLE = (
    Stored("shared.weight", ("embed.weight",)),
    *_side("encoder", "encoder.", 1),
    *_side("decoder", "", 2),
    *_attention("decoder.block.{i}.layer.1.EncDecAttention", "blocks.{i}.cross"),
    Stored("decoder.block.{i}.layer.1.layer_norm.weight", ("blocks.{i}.cross_norm.weight",)),
    Stored(HEAD, ("head.weight",)),
)


def _layout(config: ModelConfig) -> list[Stored]:
    """Without a gate the projection up is called `wi`, not `wi_1`."""
    entries = expand(TABLE, config)
    if config.feed_forward.gated:
        return entries
    return [Stored(entry.name.replace(".wi_1.", ".wi."), entry.holds) for entry in entries]


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    relative = config.position
    assert isinstance(relative, Relative) and config.encoder, "a family says what it can store, and is asked first"
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "num_layers": config.encoder.n_layers,
        "num_decoder_layers": config.n_layers,
        "num_heads": config.n_heads,
        "d_kv": config.head_dim,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "relative_attention_num_buckets": relative.buckets,
        "relative_attention_max_distance": relative.farthest,
        "layer_norm_epsilon": config.norm.eps,
        "feed_forward_proj": FEED_FORWARDS[config.feed_forward.kind],
        "tie_word_embeddings": config.tied_head,
        "scale_decoder_outputs": config.head.scaled,
        "dropout_rate": config.dropout,
        "is_encoder_decoder": True,
    }


def _from_hf(fields: Fields) -> dict[str, Any]:
    return _read(fields, "relu", tied=fields.flag("tie_word_embeddings", True))


def _mt5_from_hf(fields: Fields) -> dict[str, Any]:
    fields.require("tie_word_embeddings", False)  # tied, transformers 4 divides by √D before the head, and 5 does not
    return _read(fields, "gated-gelu", tied=False)


def _read(fields: Fields, feed_forward: str, *, tied: bool) -> dict[str, Any]:
    """The axes of a file; `feed_forward`: what it means where it does not say."""
    fields.require("is_encoder_decoder", True)
    kind = fields.word("feed_forward_proj", feed_forward)
    kinds = [ours for ours, theirs in FEED_FORWARDS.items() if theirs == kind]
    if not kinds:
        raise fields.unsupported("feed_forward_proj", kind, *FEED_FORWARDS.values())
    _, _, activation = FEED_FORWARDS[kinds[0]].rpartition("-")  # two further keys repeat it
    fields.require("is_gated_act", kind.startswith("gated-"))
    fields.require("dense_act_fn", "gelu_new" if kind == "gated-gelu" else activation)
    scaled = fields.flag("scale_decoder_outputs", tied)
    if scaled and not tied:
        raise fields.unsupported("tie_word_embeddings=False and scale_decoder_outputs", True, False)
    num_layers, n_heads = fields.whole("num_layers"), fields.whole("num_heads")
    axes = {axis: values[0] for axis, values in AXES.items()} | {
        "vocab_size": fields.whole("vocab_size"),
        "context_length": fields.whole("n_positions", CONTEXT),
        "encoder.n_layers": num_layers,
        "n_layers": fields.whole("num_decoder_layers", num_layers),
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "head_dim": fields.whole("d_kv"),
        "d_model": fields.whole("d_model"),
        "d_ff": fields.whole("d_ff"),
        "position.buckets": fields.whole("relative_attention_num_buckets", BUCKETS),
        "position.farthest": fields.whole("relative_attention_max_distance", FARTHEST),
        "norm.eps": fields.number("layer_norm_epsilon", 1e-6),
        "feed_forward.kind": kinds[0],
        "tied_head": tied,
        "head.scaled": scaled,
    }
    fields.pass_over("initializer_factor", "dropout_rate")  # training
    fields.check_all_read()
    return axes


T5 = Family(
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    axes={
        **AXES, "norm.eps": ANY, "position.buckets": ANY, "position.farthest": ANY, "tied_head": ANY, "head.scaled": ANY,
        "encoder.n_layers": ANY,
    },
    equal=(("n_kv_heads", "n_heads"),),
    needs={"encoder.n_layers": 6},
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=_layout,
    repeats={f"{side}.embed_tokens.weight": "shared.weight" for side in ("encoder", "decoder")},
)  # fmt: skip
MT5 = replace(T5, model_type="mt5", architecture="MT5ForConditionalGeneration", config_from_hf=_mt5_from_hf)
