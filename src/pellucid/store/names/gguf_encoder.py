"""Encoders in a GGUF file, and how their tokens' vectors become one.

    attention.causal = false               every token sees every other
    pooling_type                           1 mean · 2 first token · 3 last token; 0 or no key: it is not said
    tokenizer.ggml.token_type_count        the rows of the table of segments; a text alone is all of the first

A file of the architecture `bert` holds an encoder's blocks: neither scores of tokens nor a layer over the first one's vector.
So a model of vectors is written without that layer, which its vectors do not need, and says so; a model that scores tokens
is not written. RoBERTa and XLM-R are `bert` too: the rows of positions that padding would take are left out. llama.cpp
computes GELU by its tanh form here, in every model; the models were trained with the exact one, which is read.

Source: the keys and tensors are those of llama.cpp (src/models/bert.cpp, conversion/bert.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from pellucid.errors import ModelError
from pellucid.events import Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.pooler import Pooling
from pellucid.planning.parts.position import Learned
from pellucid.store.names.family import Family, Stored
from pellucid.store.names.gguf_keys import ABSENT, Aspect, GgufKeys
from pellucid.untrusted import shown

CAUSAL, POOLING = "attention.causal", "pooling_type"
POOLINGS: Mapping[int, Pooling] = {1: "mean", 2: "first", 3: "last"}
UNSAID = 0
SEGMENTS, SEGMENT_COUNT = "token_types.weight", "tokenizer.ggml.token_type_count"
TABLES = (
    Stored("position_embd.weight", ("position.weight",)),
    Stored(SEGMENTS, ("segment.weight",)),
    *(Stored(f"token_embd_norm.{kind}", (f"embed_norm.{kind}",)) for kind in ("weight", "bias")),
)


def vectors_alone(family: Family) -> Family:
    """The same family with nothing behind its blocks."""
    groups = ("head.transform", "pooler")
    axes = {axis: values for axis, values in family.axes.items() if not axis.startswith(groups)}
    axes |= {"head.tokens": (False,), "head.bias": (False,), "feed_forward.kind": ("gelu",)}
    equal = tuple(pair for pair in family.equal if not any(axis.startswith("head.") for axis in pair))
    return replace(family, axes=axes, needs={}, equal=equal)


def read_pooling(keys: GgufKeys) -> Pooling | None:
    """How a file says that vectors are pooled; None where it does not. Raises ModelError for another way (a ranking)."""
    found = keys.get(POOLING, UNSAID)
    if isinstance(found, bool) or not isinstance(found, int) or found not in (UNSAID, *POOLINGS):
        raise ModelError(f"models with {keys.prefix}{POOLING}={shown(found)} are not supported", where=keys.where)
    return POOLINGS.get(found)


def pooling_to_values(pooling: Pooling | None) -> dict[str, int]:
    """The key that says it."""
    numbers = {name: number for number, name in POOLINGS.items()}
    return {} if pooling is None else {POOLING: numbers[pooling]}


def without_the_rest(
    config: ModelConfig, weights: Mapping[str, Tensor], recorder: Recorder
) -> tuple[ModelConfig, Mapping[str, Tensor]]:
    """A model as a file of vectors holds it: without an idle layer over a row's vector, and positions from the first row on.

    Event: `store.gguf_pooler_lost`.
    """
    if config.causal or config.head.tokens:
        return config, weights
    if config.pooler is not None and not config.pooler.labels and not config.pooler.pairs:
        message = "a GGUF file has no place for the layer over the first token's vector: it is left out"
        recorder.record(Event(name="store.gguf_pooler_lost", message=message, level="warning"))
        weights = {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}
        config = replace(config, pooler=None)
    if isinstance(config.position, Learned) and (first := config.position.first):
        weights = {**weights, "position.weight": weights["position.weight"][first:]}
        config = replace(config, position=replace(config.position, first=0))
    return config, weights


def _read(keys: GgufKeys, sizes: Mapping[str, Any]) -> dict[str, Any]:
    if (found := keys.get(CAUSAL, ABSENT)) is not False:
        raise ModelError(f"models with {keys.prefix}{CAUSAL}={shown(found)} are not supported", where=keys.where)
    return {}


ENCODER = Aspect(read=_read, write=lambda config: {CAUSAL: False})
