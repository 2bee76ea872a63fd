"""Every axis of a model with other values for it, to see whether something notices that an axis was changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pellucid.errors import PellucidError
from pellucid.planning.config import ModelConfig

EXPERTS = {"feed_forward.experts.count": 5, "feed_forward.experts.active": 2, "feed_forward.experts.width": 11}
YARN = {"position.kind": "rotary", "position.scaling.kind": "yarn"}
WINDOW = {"attention.window.size": 7, "attention.window.both_sides": False, "causal": True}
STREAMS = {"position": {"kind": "relative_sines"}, "streams.memory": 0, "causal": False, "attention.window": None}
POOLED = {"causal": False, "attention.window": None, "pooler.pooling": "first"}
VECTORS = {
    "tied_head": True, "head.tokens": False, "head.bias": False, "head.transform": None, "head.scaled": False,
    "head.softcap": None,
}  # fmt: skip
CHANGES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    **{name: ({name: 96}, {name: 192}) for name in ("vocab_size", "context_length", "d_model", "d_ff")},
    "n_layers": ({"n_layers": 47}, {"n_layers": 50}),
    "n_heads": ({"n_heads": 64, "n_kv_heads": 1},),
    "n_kv_heads": ({"n_kv_heads": 1}, {"n_kv_heads": 2}),
    "head_dim": ({"head_dim": 14}, {"head_dim": 18}),
    "tied_head": ({"tied_head": False, "head.scaled": False}, {"tied_head": True}),
    "causal": ({"causal": False}, {"causal": True}, {"causal": False, "attention.window": None}),
    "dropout": ({"dropout": 0.25}, {"dropout": 0.3}),
    "init": ({"init": "matched_keys"}, {"init": "gpt2"}),
    "position.kind": (
        *({"position": {"kind": kind}} for kind in ("none", "learned", "sinusoidal", "rotary", "relative")),
        STREAMS,
    ),
    "position.theta": ({"position.theta": 1234.5}, {"position.theta": 1e7}),
    "position.window_theta": ({"position.window_theta": 55.0, **WINDOW}, {"position.window_theta": None}),
    "position.skipped": ({"position.skipped": (0,)}, {"position.skipped": (0, 1)}, {"position.skipped": (0, 1, 3)}),
    "position.first": ({"position.first": 3}, {"position.first": 4}),
    "position.halves": ({"position.halves": True}, {"position.halves": False}),
    "position.buckets": ({"position.buckets": 16}, {"position.buckets": 64}),
    "position.farthest": ({"position.farthest": 99}, {"position.farthest": 300}, {"position.farthest": None}),
    "position.scaling.kind": tuple(
        {"position.scaling": {"kind": kind}} for kind in ("none", "linear", "llama3", "yarn")
    ),
    "position.scaling.factor": ({**YARN, "position.scaling.factor": 3.5},),
    "position.scaling.low_frequency": ({**YARN, "position.scaling.low_frequency": 1.5},),
    "position.scaling.high_frequency": ({**YARN, "position.scaling.high_frequency": 33.0},),
    "position.scaling.original_context": ({**YARN, "position.scaling.original_context": 777},),
    "position.scaling.attention_factor": ({**YARN, "position.scaling.attention_factor": 1.25},),
    "embedding.scaled": ({"embedding.scaled": True}, {"embedding.scaled": False}),
    "embedding.segments": ({"embedding.segments": 3}, {"embedding.segments": 0}),
    "embedding.norm": ({"embedding.norm": True}, {"embedding.norm": False}),
    **{
        name: ({name: True}, {name: False})
        for name in ("attention.qk_norm", "attention.qkv_bias", "attention.output_bias", "norm.one_plus", "head.bias")
    },
    "attention.scale": ({"attention.scale": 0.7}, {"attention.scale": None}),
    "attention.softcap": ({"attention.softcap": 21.5}, {"attention.softcap": None}),
    "attention.window": ({"attention.window": None}, {"attention.window.size": 9}),
    "attention.window.size": ({"attention.window.size": 11}, {"attention.window.size": 12}),
    "attention.window.layers": tuple(
        {**WINDOW, "attention.window.layers": layers} for layers in ((0,), (1,), (0, 1), (0, 2, 3))
    ),
    "attention.window.both_sides": ({**WINDOW, "attention.window.both_sides": True, "causal": False}, WINDOW),
    "feed_forward.kind": tuple(
        {"feed_forward.kind": kind}
        for kind in ("gelu", "gelu_tanh", "relu", "silu", "relu2", "swiglu", "geglu", "geglu_tanh")
    ),
    "feed_forward.bias": ({"feed_forward.bias": True}, {"feed_forward.bias": False}),
    "feed_forward.experts": ({**EXPERTS, "feed_forward.bias": False}, {"feed_forward.experts": None}),
    "feed_forward.experts.count": ({**EXPERTS, "feed_forward.experts.count": 6},),
    "feed_forward.experts.active": ({**EXPERTS, "feed_forward.experts.active": 3},),
    "feed_forward.experts.width": ({**EXPERTS, "feed_forward.experts.width": 12},),
    "feed_forward.experts.normalised": ({**EXPERTS, "feed_forward.experts.normalised": False},),
    "feed_forward.experts.layers": tuple(
        {**EXPERTS, "feed_forward.experts.layers": layers} for layers in ((0,), (1,), (0, 2, 3))
    ),
    "feed_forward.experts.balance": ({**EXPERTS, "feed_forward.experts.balance": 0.5},),
    "norm.kind": tuple({"norm.kind": kind, "norm.one_plus": False} for kind in ("layer", "layer_no_bias", "rms")),
    "norm.eps": ({"norm.eps": 0.03125}, {"norm.eps": 1e-7}),
    "norm.placement": tuple(
        {"norm.placement": placement, "norm.first": True} for placement in ("before", "after", "around")
    ),
    "norm.first": ({"norm.first": False}, {"norm.first": True}),
    "head.transform": ({"head.transform": {"bias": True}}, {"head.transform": None}),
    "head.transform.activation": tuple(
        {"head.transform.activation": kind} for kind in ("gelu", "gelu_tanh", "relu", "silu", "relu2")
    ),
    "head.transform.bias": ({"head.transform.bias": False}, {"head.transform.bias": True}),
    "head.scaled": ({"head.scaled": True, "tied_head": True}, {"head.scaled": False}),
    "head.softcap": ({"head.softcap": 17.0}, {"head.softcap": None}),
    "streams": (STREAMS, {"streams": None, "position": {"kind": "none"}}),
    "streams.memory": ({"streams.memory": 5}, {"streams.memory": 6}, {"streams.memory": 0}),
    "pooler": (POOLED, {"pooler": None}),
    "pooler.pooling": tuple({**POOLED, "pooler.pooling": pooling} for pooling in ("first", "last", "mean")),
    "pooler.layer": ({**POOLED, "pooler.layer": None}, {**POOLED, "pooler.layer": {"bias": True}}),
    "pooler.layer.activation": tuple(
        {**POOLED, "pooler.layer.activation": kind} for kind in ("tanh", "gelu", "gelu_tanh", "relu", "silu", "relu2")
    ),
    "pooler.layer.bias": ({**POOLED, "pooler.layer.bias": False}, {**POOLED, "pooler.layer.bias": True}),
    "pooler.layer.norm": ({**POOLED, "pooler.layer.norm": True}, {**POOLED, "pooler.layer.norm": False}),
    "pooler.pairs": ({**POOLED, "pooler.pairs": True}, {**POOLED, "pooler.pairs": False}),
    "pooler.labels": tuple({**POOLED, "pooler.labels": labels} for labels in ((), ("good",), ("good", "bad"))),
    "head.tokens": (VECTORS, {"head.tokens": True}),
    "encoder": ({"encoder": None}, {"encoder.n_layers": 3}),
    "encoder.n_layers": ({"encoder.n_layers": 5}, {"encoder.n_layers": 6}),
}


def changed(config: ModelConfig, axis: str) -> Iterator[ModelConfig]:
    """The model with other values of an axis, of those that it may have."""
    for change in CHANGES[axis]:
        try:
            yield config.revise(**change)
        except PellucidError:  # this model cannot have it: other axes forbid it
            continue


def meaning(config: ModelConfig) -> object:
    """What a model is: equal for two configurations that say the same in other words, such as all blocks for every block."""
    axes = dict(vars(config))
    layers = range(config.n_layers)
    experts = [config.has_experts(layer) for layer in layers]
    if config.position.kind == "rotary":
        axes["position"] = [config.rotation_at(layer) for layer in layers]
    if all(experts):
        del axes["d_ff"]
    window, mixture = config.attention.window, config.feed_forward.experts
    inside = {
        "attention": vars(config.attention) | {"window": window is not None and window.both_sides},
        "feed_forward": vars(config.feed_forward) | {"experts": mixture and {**vars(mixture), "layers": experts}},
    }
    return axes | inside, [config.window_at(layer) for layer in layers]
