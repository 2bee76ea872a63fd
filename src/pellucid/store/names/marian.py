"""Marian: the shape of the original Transformer: an encoder beside a decoder, norms after the sums, fixed sines.

Its sines come before all cosines, where the paper lets them alternate. The head is the embedding with a bias for each
token. A translation begins with the id of padding.

Source: Vaswani et al. 2017; Junczys-Dowmunt et al. 2018; the key names are those of transformers' MarianConfig.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pellucid.planning.axes import ANY
from pellucid.planning.config import ModelConfig
from pellucid.store.names.activations import NAMES, read_activation
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.fields import Fields

AXES: dict[str, tuple[Any, ...]] = {  # those with few values; the first of each is what a file means that does not say
    "position.kind": ("sinusoidal",),
    "position.halves": (True,),
    "norm.kind": ("layer",),
    "norm.placement": ("after",),
    "norm.eps": (1e-5,),
    "attention.qk_norm": (False,),
    "attention.qkv_bias": (True,),
    "attention.output_bias": (True,),
    "feed_forward.kind": tuple(NAMES),
    "feed_forward.bias": (True,),
    "embedding.scaled": (False, True),
    "head.bias": (True,),
    "tied_head": (True,),
    "causal": (True,),
}
EPS = 1e-5  # torch's own: no file says it
ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}


def _side(there: str, here: str) -> Iterator[Stored]:
    layers = {f"self_attn.{theirs}": f"attention.{ours}" for theirs, ours in ATTENTION.items()} | {
        "self_attn_layer_norm": "attention_output_norm",
        "fc1": "mlp.up",
        "fc2": "mlp.down",
        "final_layer_norm": "mlp_output_norm",
    }
    if there == "decoder":
        layers |= {f"encoder_attn.{theirs}": f"cross.{ours}" for theirs, ours in ATTENTION.items()}
        layers["encoder_attn_layer_norm"] = "cross_output_norm"
    for theirs, ours in layers.items():
        for kind in ("weight", "bias"):
            yield Stored(f"model.{there}.layers.{{i}}.{theirs}.{kind}", (f"{here}blocks.{{i}}.{ours}.{kind}",))


TABLE = (
    Stored("model.shared.weight", ("embed.weight",)),
    *_side("encoder", "encoder."),
    *_side("decoder", ""),
    Stored("final_logits_bias", ("head.bias",), axes=(1, "vocab_size")),
)


def _layout(config: ModelConfig) -> list[Stored]:
    return expand(TABLE, config)


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    assert config.encoder is not None, "a family says what it can store, and is asked first"
    both = {
        "layers": (config.encoder.n_layers, config.n_layers),
        "attention_heads": (config.n_heads,) * 2,
        "ffn_dim": (config.d_ff,) * 2,
    }
    return {
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "d_model": config.d_model,
        **{f"{side}_{key}": values[place] for key, values in both.items() for place, side in enumerate(SIDES)},
        "activation_function": NAMES[config.feed_forward.kind][0],
        "scale_embedding": config.embedding.scaled,
        "dropout": config.dropout,
        "is_encoder_decoder": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
    }


SIDES = ("encoder", "decoder")


def _from_hf(fields: Fields) -> dict[str, Any]:
    fields.require_all(NEUTRAL)
    fields.pass_over(*HARMLESS)
    d_model, vocab_size = fields.whole("d_model"), fields.whole("vocab_size")
    fields.require("decoder_vocab_size", vocab_size, None)
    (n_heads, others), (d_ff, other_d_ff) = (
        [fields.whole(f"{side}_{key}") for side in SIDES] for key in ("attention_heads", "ffn_dim")
    )
    if n_heads < 1 or d_model % n_heads:
        raise fields.unsupported("encoder_attention_heads", n_heads)
    if n_heads != others:
        raise fields.unsupported(f"encoder_attention_heads={n_heads} and decoder_attention_heads", others, n_heads)
    if d_ff != other_d_ff:
        raise fields.unsupported(f"encoder_ffn_dim={d_ff} and decoder_ffn_dim", other_d_ff, d_ff)
    num_layers = fields.whole("encoder_layers")
    fields.require("num_hidden_layers", num_layers)  # the same by the name that all families share
    axes = {axis: values[0] for axis, values in AXES.items()} | {
        "vocab_size": vocab_size,
        "context_length": fields.whole("max_position_embeddings"),
        "encoder.n_layers": num_layers,
        "n_layers": fields.whole("decoder_layers"),
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "head_dim": d_model // n_heads,
        "d_model": d_model,
        "d_ff": d_ff,
        "feed_forward.kind": read_activation(fields, "activation_function", "gelu"),
        "embedding.scaled": fields.flag("scale_embedding", False),
    }
    fields.check_all_read()
    return axes


# At these values the model is as if the key did not exist.
NEUTRAL = {
    "is_encoder_decoder": (True,), "share_encoder_decoder_embeddings": (True,), "tie_word_embeddings": (True,),
    "normalize_before": (False,), "normalize_embedding": (False,), "add_final_layer_norm": (False,),
    "add_bias_logits": (False,), "static_position_embeddings": (True,), "do_blenderbot_90_layernorm": (False,),
}  # fmt: skip
HARMLESS = (  # training, generation, and rows of a table of positions that these models do not have
    "encoder_layerdrop", "decoder_layerdrop", "init_std", "force_bos_token_to_be_generated", "extra_pos_embeddings",
)  # fmt: skip
MARIAN = Family(
    model_type="marian",
    architecture="MarianMTModel",
    axes={**AXES, "encoder.n_layers": ANY},
    equal=(("n_kv_heads", "n_heads"), ("d_attention", "d_model")),
    needs={"encoder.n_layers": 6},
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=_layout,
    prefix="model.",
    ignored=re.compile(r"\.embed_positions\.weight$"),
    repeats={f"model.{side}.embed_tokens.weight": "model.shared.weight" for side in SIDES},
)
