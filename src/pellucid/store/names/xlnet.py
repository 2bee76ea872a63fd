"""XLNet: two streams, sines of the distance in every score, norms after the sums, exact GELU, a tied head with a bias.

Its projections lie with heads and their width as two axes, the vector of a query as [1, 1, D]. No key says for how long a
row it was made (it can read any); ours is `n_ctx`, 512 where it is missing: the length that the published ones were trained at.

Source: Yang et al. 2019; the key names are those of transformers' XLNetConfig.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pellucid.planning.axes import ANY
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import RelativeSines
from pellucid.store.names.activations import NAMES, read_activation
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.fields import Fields

CONTEXT, MEMORY = 512, 512  # of a file that does not say
AXES: dict[str, tuple[Any, ...]] = {  # those with few values; the first of each is what a file means that does not say
    "position.kind": ("relative_sines",),
    "norm.kind": ("layer",),
    "norm.placement": ("after",),
    "attention.qk_norm": (False,),
    "feed_forward.kind": tuple(NAMES),
    "feed_forward.bias": (True,),
    "head.bias": (True,),
    "tied_head": (True, False),
    "causal": (False,),
}
SPLIT = ("n_heads", "head_dim")
READING = {"q": "query", "k": "key", "v": "value", "r": "distance"}
BIASES = {"r_w_bias": "content_bias", "r_r_bias": "distance_bias", "r_s_bias": "segment_bias"}
LAYERS = {
    "rel_attn.layer_norm": "attention_output_norm",
    "ff.layer_1": "mlp.up",
    "ff.layer_2": "mlp.down",
    "ff.layer_norm": "mlp_output_norm",
}


def _block() -> Iterator[Stored]:
    there, here = "transformer.layer.{i}", "blocks.{i}"
    attention, ours = f"{there}.rel_attn", f"{here}.attention"
    for theirs, name in READING.items():
        yield Stored(f"{attention}.{theirs}", (f"{ours}.{name}.weight",), transposed=True, axes=("d_model", *SPLIT))
    yield Stored(f"{attention}.o", (f"{ours}.output.weight",), axes=("d_model", *SPLIT))
    for theirs, name in BIASES.items():
        yield Stored(f"{attention}.{theirs}", (f"{ours}.{name}",), axes=SPLIT)
    yield Stored(f"{attention}.seg_embed", (f"{ours}.segments",), axes=("same_or_other", *SPLIT))
    for theirs, name in LAYERS.items():
        yield from (Stored(f"{there}.{theirs}.{kind}", (f"{here}.{name}.{kind}",)) for kind in ("weight", "bias"))


TABLE = (
    Stored("transformer.word_embedding.weight", ("embed.weight",)),
    Stored("transformer.mask_emb", ("question",), axes=(1, 1, "d_model")),
    *_block(),
    Stored("lm_loss.weight", ("head.weight",)),
    Stored("lm_loss.bias", ("head.bias",)),
)


def _layout(config: ModelConfig) -> list[Stored]:
    return expand(TABLE, config)


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    relative, streams = config.position, config.streams
    assert isinstance(relative, RelativeSines) and streams, "a family says what it can store, and is asked first"
    return {
        "vocab_size": config.vocab_size,
        "n_ctx": config.context_length,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "d_head": config.head_dim,
        "d_model": config.d_model,
        "d_inner": config.d_ff,
        "ff_activation": NAMES[config.feed_forward.kind][0],
        "layer_norm_eps": config.norm.eps,
        "clamp_len": relative.farthest or -1,
        "mem_len": streams.memory or None,
        "reuse_len": None,
        "attn_type": "bi",
        "bi_data": False,
        "same_length": False,
        "untie_r": True,
        "tie_word_embeddings": config.tied_head,
        "dropout": config.dropout,
    }


def _from_hf(fields: Fields) -> dict[str, Any]:
    fields.require_all(NEUTRAL)
    fields.pass_over(*HARMLESS)
    n_heads, d_model, n_layers = fields.whole("n_head"), fields.whole("d_model"), fields.whole("n_layer")
    vocab_size, farthest = fields.whole("vocab_size"), fields.whole("clamp_len", -1, low=-1)
    if n_heads < 1 or d_model % n_heads:
        raise fields.unsupported("n_head", n_heads)
    fields.require("d_head", d_model // n_heads, None)
    for twin, value in {
        "n_token": vocab_size,
        "hidden_size": d_model,
        "num_attention_heads": n_heads,
        "num_hidden_layers": n_layers,
    }.items():  # other names of the same
        fields.require(twin, value)
    axes = {axis: values[0] for axis, values in AXES.items()} | {
        "vocab_size": vocab_size,
        "context_length": fields.whole("n_ctx", CONTEXT),
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "head_dim": d_model // n_heads,
        "d_model": d_model,
        "d_ff": fields.whole("d_inner"),
        "position.farthest": farthest if farthest > 0 else None,
        "streams.memory": fields.nullable("mem_len", fields.whole, MEMORY) or 0,
        "feed_forward.kind": read_activation(fields, "ff_activation", "gelu"),
        "norm.eps": fields.number("layer_norm_eps", 1e-12),
        "tied_head": fields.flag("tie_word_embeddings", True),
    }
    fields.check_all_read()
    return axes


# At these values the model is as if the key did not exist. `attn_type` uni would be Transformer-XL, `bi_data` turns half of a
# batch around, `untie_r` false shares biases among blocks; the same length is only ever asked of a causal model.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attn_type": ("bi",), "bi_data": (False,), "untie_r": (True,), "reuse_len": (None, 0), "same_length": (False, True),
}  # fmt: skip
HARMLESS = (  # heads for other tasks, and whether a pass gives its memory back
    "use_mems_eval", "use_mems_train", "summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout",
    "start_n_top", "end_n_top", "_num_labels",
)  # fmt: skip
XLNET = Family(
    model_type="xlnet",
    architecture="XLNetLMHeadModel",
    axes={**AXES, "norm.eps": ANY, "position.farthest": ANY, "streams.memory": ANY},
    equal=(("n_kv_heads", "n_heads"), ("d_attention", "d_model")),
    needs={"streams.memory": 0},
    config_to_hf=_to_hf,
    config_from_hf=_from_hf,
    layout=_layout,
    prefix="transformer.",
    heads=("lm_loss.weight",),
)
