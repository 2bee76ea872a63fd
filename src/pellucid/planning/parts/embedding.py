"""The description of a model's two ends: the embedding that ids are looked up in, and the head that scores tokens."""

from __future__ import annotations

from pellucid.planning.parts.description import STREAM, Activation, CostLine, Part, TensorPlan


def describe_embedding(*, tied: bool) -> Part:
    """The table of token vectors; a tied one is also the head, and learns at a rate of its own."""
    table = TensorPlan(
        name="embed.weight",
        part="token_embedding",
        axes=("vocab_size", "d_model"),
        group="tied" if tied else "embedding",
        start="table",
    )
    return Part(
        tensors=(table,), steps=(Activation(name="embed", axes=STREAM, meaning="the token's row of the embedding"),)
    )


def describe_head(*, tied: bool) -> Part:
    """The scores of every token; a tied head is the embedding, transposed, and has no tensor of its own."""
    table = TensorPlan(name="head.weight", part="head", axes=("vocab_size", "d_model"), group="head", start="head")
    return Part(
        tensors=() if tied else (table,),
        products=(CostLine(name="head", formula="vocab_size x d_model"),),
        steps=(Activation(name="logits", axes=("last", "vocab_size"), meaning="the score of every token"),),
    )
