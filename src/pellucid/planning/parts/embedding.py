"""The description of a model's two ends: the embedding that ids are looked up in, and the head that scores tokens."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.errors import ModelError
from pellucid.planning.parts.attention import MOST_SCALE
from pellucid.planning.parts.description import STREAM, Activation, CostLine, Part, TensorPlan, matrix, vector
from pellucid.planning.parts.feed_forward import GATED, FeedForwardKind
from pellucid.planning.parts.norm import NormConfig, describe_norm
from pellucid.settings import Named, setting

MOST_SEGMENTS = 1 << 10


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(Named):
    """What becomes of a token's vector before the first block."""

    scaled: bool = setting(False, "token vectors are multiplied by the root of their width")
    segments: int = setting(
        0, "vectors for the parts of a row (first text, second text); one is added", low=0, high=MOST_SEGMENTS
    )
    norm: bool = setting(False, "a norm over the sum of all that is added")


@dataclass(frozen=True, kw_only=True)
class HeadTransform(Named):
    """A layer between the last block and the head: a projection, an activation function and a norm (BERT)."""

    activation: FeedForwardKind = setting("gelu", "the activation function; one without a gate")
    bias: bool = setting(True, "a bias on the projection")

    def __post_init__(self) -> None:
        if GATED[self.activation]:
            raise ModelError("the head's layer has no gate", found=f"activation={self.activation}")


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Named):
    """How the head scores tokens, beside its table."""

    tokens: bool = setting(True, "tokens are scored (no: the model gives vectors alone)")
    bias: bool = setting(False, "a bias for each token")
    transform: HeadTransform | None = setting(None, "a layer before the head (none: it reads the stream)")
    scaled: bool = setting(False, "the stream is divided by the root of its width first (T5's tied head)")
    softcap: float | None = setting(
        None, "scores are bent to lie between minus this and this: c · tanh(score / c)", above=0, high=MOST_SCALE
    )

    def __post_init__(self) -> None:
        if not self.tokens and (self.bias or self.transform or self.scaled or self.softcap):
            found = "head.tokens=False with head.bias, head.transform, head.scaled or head.softcap"
            raise ModelError("nothing stands around a head that scores no tokens", found=found)


def describe_embedding(axes: EmbeddingConfig, *, tied: bool) -> Part:
    """The table of token vectors; a tied one is also the head, and learns at a rate of its own."""
    table = TensorPlan(
        name="embed.weight",
        part="token_embedding",
        axes=("vocab_size", "d_model"),
        group="tied" if tied else "embedding",
        start="table",
    )
    meaning = "the token's row of the embedding" + (", times the root of its width" if axes.scaled else "")
    return Part(tensors=(table,), steps=(Activation(name="embed", axes=STREAM, meaning=meaning),))


def describe_segments(axes: EmbeddingConfig) -> Part:
    """The table of vectors for the parts of a row, if there is one."""
    if not axes.segments:
        return Part()
    table = TensorPlan(
        name="segment.weight", part="segment_embedding", axes=("n_segments", "d_model"), group="tied", start="table"
    )
    added = Activation(name="segment", axes=STREAM, meaning="what is added for the part of the row")
    return Part(tensors=(table,), steps=(added,))


def describe_embedding_norm(axes: EmbeddingConfig, norm: NormConfig) -> Part:
    """The norm over the sum of token, position and segment vectors, if there is one."""
    return describe_norm(norm, "embed_norm") if axes.norm else Part()


def describe_transform(axes: HeadConfig, norm: NormConfig) -> Part:
    """The layer before the head, if there is one."""
    if axes.transform is None:
        return Part()
    dense = matrix("transform.dense", "head_transform", "d_model", "d_model", bias=axes.transform.bias)
    normed = describe_norm(norm, "transform.norm")
    return Part(
        tensors=(*dense, *normed.tensors),
        kept=(CostLine(name="head_transform", formula="compute_bytes x 2 x d_model"), *normed.kept),
        steps=(Activation(name="transform", axes=STREAM, meaning="what the head reads: projected, activated, normed"),),
    )


def describe_head(axes: HeadConfig, *, tied: bool) -> Part:
    """The scores of every token; a tied head is the embedding, transposed, and has no table of its own."""
    if not axes.tokens:
        return Part()
    table = TensorPlan(name="head.weight", part="head", axes=("vocab_size", "d_model"), group="head", start="head")
    bias = vector("head.bias", "head_bias", "vocab_size", start="zero")
    return Part(
        tensors=(*(() if tied else (table,)), *((bias,) if axes.bias else ())),
        products=(CostLine(name="head", formula="vocab_size x d_model"),),
        steps=(Activation(name="logits", axes=("last", "vocab_size"), meaning="the score of every token"),),
    )
