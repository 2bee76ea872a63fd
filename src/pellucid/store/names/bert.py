"""BERT, RoBERTa and XLM-RoBERTa: encoders with norms after the sums, learned positions, segments, and heads of many kinds.

RoBERTa's files differ in names, and in that positions begin behind the id of padding: with `pad_token_id` 1 the first
token has row 2 of the table, and 514 rows hold 512 positions. Its classifier is two layers of its own, which compute what
BERT's pooler and classifier do. XLM-R and CamemBERT are RoBERTa in other languages.

Source: Devlin et al. 2019 (BERT), Liu et al. 2019 (RoBERTa), Conneau et al. 2020 (XLM-R), Martin et al. 2020 (CamemBERT);
the key names are those of transformers' BertConfig and RobertaConfig.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pellucid.planning.axes import ANY, Axes
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import Learned
from pellucid.store.names.activations import NAMES, read_activation
from pellucid.store.names.encoder_heads import (
    KINDS,
    WITHOUT_PAIRS,
    Heads,
    architecture_of,
    clashing_heads,
    labels_to_hf,
    read_heads,
)
from pellucid.store.names.family import Family, Stored, expand
from pellucid.store.names.fields import Fields

LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_output_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_output_norm",
}
BERT_HEAD = {
    "cls.predictions.transform.dense": "transform.dense",
    "cls.predictions.transform.LayerNorm": "transform.norm",
    "cls.predictions": "head",  # its bias; the table is the embedding
    "bert.pooler.dense": "pooler.dense",
    "cls.seq_relationship": "pooler.pair_head",
    "classifier": "pooler.label_head",
}
BERT_MARKS = {"tokens": "cls.predictions.", "pooler": "bert.pooler.", "pairs": "cls.seq_relationship."}
ROBERTA_HEAD = {"lm_head.dense": "transform.dense", "lm_head.layer_norm": "transform.norm", "lm_head": "head"}
ROBERTA_POOLER = {"roberta.pooler.dense": "pooler.dense"}
ROBERTA_CLASSIFIER = {"classifier.dense": "pooler.dense", "classifier.out_proj": "pooler.label_head"}
ROBERTA_MARKS = {"tokens": "lm_head.", "pooler": "roberta.pooler."}

AXES: dict[str, tuple[Any, ...]] = {  # those with few values; the first of each is what a file means that does not say
    "position.kind": ("learned",),
    "norm.kind": ("layer",),
    "norm.placement": ("after",),
    "embedding.norm": (True,),
    "attention.qk_norm": (False,),
    "attention.qkv_bias": (True,),
    "attention.output_bias": (True,),
    "feed_forward.kind": tuple(NAMES),
    "feed_forward.bias": (True,),
    "head.tokens": (True, False),
    "head.bias": (True, False),
    "tied_head": (True,),
    "causal": (False,),
}
TANH: Axes = {
    "pooler.pooling": ("first",), "pooler.layer.activation": ("tanh",), "pooler.layer.bias": (True,),
    "pooler.layer.norm": (False,), "pooler.labels": ANY,
}  # fmt: skip
ENCODER: Axes = {**AXES, **TANH, "norm.eps": ANY, "embedding.segments": ANY, "head.transform.bias": (True,)}
SQUARE = (("n_kv_heads", "n_heads"), ("d_attention", "d_model"), ("head.bias", "head.tokens"))


def _table(prefix: str, head: Mapping[str, str]) -> tuple[Stored, ...]:
    tables = {"word_embeddings": "embed", "position_embeddings": "position", "token_type_embeddings": "segment"}
    return (
        *(Stored(f"{prefix}embeddings.{theirs}.weight", (f"{ours}.weight",)) for theirs, ours in tables.items()),
        *_pairs({f"{prefix}embeddings.LayerNorm": "embed_norm"}),
        *_pairs({f"{prefix}encoder.layer.{{i}}.{theirs}": f"blocks.{{i}}.{ours}" for theirs, ours in LAYER.items()}),
        *_pairs(head),
    )


def _pairs(layers: Mapping[str, str]) -> Iterator[Stored]:
    """The weight and the bias of some layers."""
    for theirs, ours in layers.items():
        yield from (Stored(f"{theirs}.{kind}", (f"{ours}.{kind}",)) for kind in ("weight", "bias"))


BERT_TABLE = _table("bert.", BERT_HEAD)
ROBERTA_TABLES = tuple(_table("roberta.", {**ROBERTA_HEAD, **more}) for more in (ROBERTA_POOLER, ROBERTA_CLASSIFIER))


def _bert_layout(config: ModelConfig) -> list[Stored]:
    return expand(BERT_TABLE, config)


def _roberta_layout(config: ModelConfig) -> list[Stored]:
    return expand(ROBERTA_TABLES[_has_labels(config)], config)


def _has_labels(config: ModelConfig) -> bool:
    return config.pooler is not None and bool(config.pooler.labels)


def _roberta_unused(config: ModelConfig) -> tuple[str, ...]:
    """Old files of a classifier hold the pooler too, which its classifier does not read."""
    return tuple(f"{name}.{kind}" for name in ROBERTA_POOLER for kind in ("weight", "bias") if _has_labels(config))


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "type_vocab_size": config.embedding.segments,
        "hidden_act": NAMES[config.feed_forward.kind][0],
        "layer_norm_eps": config.norm.eps,
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "tie_word_embeddings": True,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        **labels_to_hf(config),
    }


NEUTRAL = {"position_embedding_type": ("absolute",), "tie_word_embeddings": (True,), "directionality": ("bidi",)}
POOLER = ("fc_size", "num_attention_heads", "num_fc_layers", "size_per_head", "type")  # another program's, never built


def _from_hf(fields: Fields, heads: Heads) -> dict[str, Any]:
    fields.require_all(NEUTRAL)
    n_heads, d_model = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    if n_heads < 1 or d_model % n_heads:
        raise fields.unsupported("num_attention_heads", n_heads)
    kind = read_activation(fields, "hidden_act", "gelu")
    return {axis: values[0] for axis, values in AXES.items()} | {
        "vocab_size": fields.whole("vocab_size"),
        "context_length": fields.whole("max_position_embeddings"),
        "n_layers": fields.whole("num_hidden_layers"),
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "head_dim": d_model // n_heads,
        "d_model": d_model,
        "d_ff": fields.whole("intermediate_size"),
        "embedding.segments": fields.whole("type_vocab_size", 2),
        "feed_forward.kind": kind,
        "norm.eps": fields.number("layer_norm_eps", 1e-12),
        **_head_axes(heads),
    }


def _head_axes(heads: Heads) -> dict[str, Any]:
    """The axes of what stands behind the blocks."""
    tokens: dict[str, Any] = {"head.tokens": heads.tokens, "head.bias": heads.tokens}
    pooler = {"pooler.layer": {"activation": "tanh"}, "pooler.pairs": heads.pairs, "pooler.labels": heads.labels}
    return tokens | ({"head.transform.bias": True} if heads.tokens else {}) | (pooler if heads.pooler else {})


def _bert_from_hf(fields: Fields) -> dict[str, Any]:
    fields.pass_over(*(f"pooler_{name}" for name in POOLER))
    heads = read_heads(fields, "Bert", tuple(KINDS), BERT_MARKS, "bert.")
    axes = _from_hf(fields, heads)
    fields.check_all_read()
    return axes | ({"head.transform.activation": axes["feed_forward.kind"]} if heads.tokens else {})


def _roberta_to_hf(config: ModelConfig) -> dict[str, Any]:
    assert isinstance(config.position, Learned), "a family says what it can store, and is asked first"
    first = config.position.first
    return {**_to_hf(config), "max_position_embeddings": first + config.context_length, "pad_token_id": first - 1}


def _roberta_from_hf(fields: Fields, stem: str = "Roberta") -> dict[str, Any]:
    heads = read_heads(fields, stem, WITHOUT_PAIRS, ROBERTA_MARKS, "roberta.")
    axes, pad = _from_hf(fields, heads), fields.nullable("pad_token_id", fields.whole, 1)
    if pad is None:  # positions are counted from it
        raise fields.unsupported("pad_token_id", None, 1)
    first = pad + 1
    if axes["context_length"] <= first:
        raise fields.unsupported("max_position_embeddings", axes["context_length"])
    fields.check_all_read()
    return {
        **axes,
        "context_length": axes["context_length"] - first,
        "position.first": first,
        **({"head.transform.activation": "gelu"} if heads.tokens else {}),
    }


BERT = Family(
    model_type="bert",
    architecture="BertForMaskedLM",
    architecture_of=lambda config: architecture_of(config, "Bert"),
    axes={**ENCODER, "pooler.pairs": ANY, "head.transform.activation": tuple(NAMES)},
    clashes=clashing_heads,
    equal=(*SQUARE, ("feed_forward.kind", "head.transform.activation")),
    needs={"head.transform.activation": "gelu"},
    config_to_hf=_to_hf,
    config_from_hf=_bert_from_hf,
    layout=_bert_layout,
    prefix="bert.",
    ignored=re.compile(r"\.position_ids$"),
    heads=("cls.predictions.decoder.weight",),
    repeats={"cls.predictions.decoder.bias": "cls.predictions.bias"},
    older={".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"},
)

ROBERTA = Family(
    model_type="roberta",
    architecture="RobertaForMaskedLM",
    architecture_of=lambda config: architecture_of(config, "Roberta"),
    clashes=clashing_heads,
    axes={**ENCODER, "pooler.pairs": (False,), "head.transform.activation": ("gelu",), "position.first": ANY},
    equal=SQUARE,
    needs={"head.transform.activation": "gelu"},
    config_to_hf=_roberta_to_hf,
    config_from_hf=_roberta_from_hf,
    layout=_roberta_layout,
    unused=_roberta_unused,
    prefix="roberta.",
    ignored=re.compile(r"\.position_ids$"),
    heads=("lm_head.decoder.weight",),
    repeats={"lm_head.decoder.bias": "lm_head.bias"},
)


def _spelled(model_type: str, stem: str) -> Family:
    """RoBERTa under another name."""
    return replace(
        ROBERTA,
        model_type=model_type,
        architecture=f"{stem}ForMaskedLM",
        architecture_of=lambda config: architecture_of(config, stem),
        config_from_hf=lambda fields: _roberta_from_hf(fields, stem),
    )


XLM_ROBERTA, CAMEMBERT = _spelled("xlm-roberta", "XLMRoberta"), _spelled("camembert", "Camembert")
