"""The description of the pooler: one vector for a whole row, and what is read off it.

    vector = layer(the first token's vector, the last one's, or the mean of all)      layer: projection, activation (norm)
    pairs  = vector · tableᵀ + bias       two scores: whether the second part of a row follows the first (BERT)
    labels = vector · tableᵀ + bias       one score for each label: a classifier

It is computed once for a row, where all else is computed for each token. So no figure for one token counts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pellucid.errors import ModelError
from pellucid.planning.parts.description import Activation, Part, TensorPlan, vector
from pellucid.planning.parts.norm import NormConfig, describe_norm
from pellucid.settings import Named, setting

Pooling = Literal["first", "last", "mean"]
PoolActivation = Literal["tanh", "gelu", "gelu_tanh", "relu", "silu", "relu2"]
MOST_LABELS, LONGEST_LABEL = 1 << 14, 1 << 10
NUM_ANSWERS = 2  # the second part follows, or it does not


@dataclass(frozen=True, kw_only=True)
class PoolerLayer(Named):
    """A layer between the row's vector and what is read off it."""

    activation: PoolActivation = setting("tanh", "the activation function")
    bias: bool = setting(True, "a bias on the projection")
    norm: bool = setting(False, "a norm behind the activation function")


@dataclass(frozen=True, kw_only=True)
class PoolerConfig(Named):
    """One vector for a whole row, and what is read off it."""

    pooling: Pooling = setting("first", "the vector of a row: of its first token, of its last, or the mean of all")
    layer: PoolerLayer | None = setting(PoolerLayer(), "a layer behind it (none: the vector as it is)")
    pairs: bool = setting(False, "two scores: whether the second part of a row follows the first")
    labels: tuple[str, ...] = setting((), "the labels that a row is scored for")

    def __post_init__(self) -> None:
        if len({*self.labels}) < len(self.labels) or not all(0 < len(label) <= LONGEST_LABEL for label in self.labels):
            raise ModelError(
                "labels are different texts", found=f"labels={list(self.labels)[:8]}", hint="name each label once"
            )
        if len(self.labels) > MOST_LABELS:
            raise ModelError(f"more than {MOST_LABELS:,} labels", found=f"{len(self.labels):,}")
        if self.pairs and self.pooling != "first":
            raise ModelError(
                "whether two parts belong together is read off the first token", found=f"pooling={self.pooling}"
            )


def describe_pooler(axes: PoolerConfig | None, norm: NormConfig) -> Part:
    """The layer over a row's vector and the tables of what is read off it, if there are any.

    >>> [tensor.name for tensor in describe_pooler(PoolerConfig(labels=("good", "bad")), NormConfig()).tensors]
    ['pooler.dense.weight', 'pooler.dense.bias', 'pooler.label_head.weight', 'pooler.label_head.bias']
    """
    if axes is None:
        return Part()
    tensors: list[TensorPlan] = []
    steps = [Activation(name="pooler", axes=("d_model",), meaning=f"the vector of the whole row: {_say(axes)}")]
    if axes.layer is not None:
        tensors += _table("pooler.dense", "pooler", "d_model", bias=axes.layer.bias)
        tensors += describe_norm(norm, "pooler.norm").tensors if axes.layer.norm else ()
    if axes.pairs:
        tensors += _table("pooler.pair_head", "pair_head", "n_answers")
        meaning = "two scores: the second part of the row follows the first, or does not"
        steps.append(Activation(name="pooler.pair_head", axes=("n_answers",), meaning=meaning))
    if axes.labels:
        tensors += _table("pooler.label_head", "label_head", "n_labels")
        steps.append(Activation(name="pooler.label_head", axes=("n_labels",), meaning="the score of every label"))
    return Part(tensors=tuple(tensors), steps=tuple(steps))


def _table(name: str, part: str, d_out: str, *, bias: bool = True) -> tuple[TensorPlan, ...]:
    """A matrix that meets one vector a row; it learns at the rate of a head."""
    start: Literal["read", "head"] = "read" if d_out == "d_model" else "head"
    weight = TensorPlan(name=f"{name}.weight", part=part, axes=(d_out, "d_model"), group="head", start=start)
    return (weight, vector(f"{name}.bias", part, d_out, start="zero")) if bias else (weight,)


def _say(axes: PoolerConfig) -> str:
    taken = {"first": "its first token's", "last": "its last token's", "mean": "the mean of its tokens'"}[axes.pooling]
    return taken if axes.layer is None else f"{taken}, projected, through {axes.layer.activation}"
