"""The description of two streams (XLNet): what attention has beside its projections, and the vector a query begins with.

The content stream is an encoder's: each place holds its token. The query stream holds one query for each place that is
asked for. It begins with a vector of its own, the same for every query, and passes through the same blocks: it looks at
the content of the places that it may see, and never at its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pellucid.planning.parts.description import Activation, CostLine, Part, TensorPlan, matrix, vector
from pellucid.planning.parts.position import MOST_POSITIONS
from pellucid.settings import Named, setting

CONTENT_ONLY = ("attention.key", "attention.value")  # tensors of a block that the query stream takes from the content
PATH = "asked."  # what the names of the query stream's tensors begin with
SHARED = ("key", "value", "distance")  # products that are computed once for both streams


@dataclass(frozen=True, kw_only=True)
class Streams(Named):
    """Two streams: the content of every place, and a query for each place that is asked for (XLNet)."""

    memory: int = setting(
        0, "states that a memory keeps of earlier segments, for each block (0: all of them)", low=0, high=MOST_POSITIONS
    )


def describe_question() -> Part:
    """The vector that every query begins with; and what only queries keep, as if every place were asked for.

    They pick their scores out of the products with all distances, twice as many as places: a block keeps those, and
    all share the columns that were picked.
    """
    table = TensorPlan(name="question", part="question", axes=("d_model",), group="tied", start="table")
    picked = "(8 x context_length + n_layers x compute_bytes x 2 x n_heads x context_length)"
    kept = (
        CostLine(name="sines_of_distances", formula="compute_bytes x 2 x d_model"),
        CostLine(name="asked_distances", formula=picked),
    )
    return Part(tensors=(table,), kept=kept)


def describe_distances() -> Part:
    """The keys of distances, three biases of the query, and what is compared for the same segment and for another."""
    biases = [
        vector(f"attention.{name}_bias", "distance_biases", "d_attention", start="zero")
        for name in ("content", "distance", "segment")
    ]
    segments = TensorPlan(
        name="attention.segments", part="segments", axes=("same_or_other", "d_attention"), group="tied", start="table"
    )
    (keys,) = matrix("attention.distance", "distance", "d_attention", "d_model", bias=False)
    return Part(
        # A row of T tokens has 2 T distances, so each token brings two.
        tensors=(replace(keys, met=("2", *keys.axes)), *biases, segments),
        products=(CostLine(name="distance_scores", formula="d_attention x seen"),),
        kept=(CostLine(name="distances", formula="compute_bytes x 3 x d_attention"),),  # queries, and two keys a token
        steps=(
            Activation(
                name="attention.relative",
                axes=("n_heads", "new", "all"),
                meaning="what is added to the scores for the distance and the segment",
            ),
        ),
    )


def asked_steps(block: Iterable[Part], path: str) -> Iterator[Activation]:
    """The tensors of a block that the query stream shows, of the places that are asked for; `path`: the block's."""
    for step in (step for part in block for step in part.steps if step.name not in CONTENT_ONLY):
        yield step.of_query().within(PATH + path)
