"""The description of attention: its axes, parameters, products, activations kept for the backward pass, and outputs.

It has three parts in a row: the projections, the core that mixes positions, and the projection back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pellucid.planning.parts.description import STREAM, Activation, CostLine, Part, matrix, vector
from pellucid.planning.parts.position import MOST_POSITIONS, Rotary
from pellucid.settings import REQUIRED, Named, setting

AttentionCore = Literal["batched", "fused"]
MOST_SCALE = 1e6


@dataclass(frozen=True, kw_only=True)
class SlidingWindow(Named):
    """A sliding window: how far back a position sees, and in which blocks."""

    size: int = setting(REQUIRED, "a position sees this many, itself the last", low=1, high=MOST_POSITIONS)
    layers: tuple[int, ...] | None = setting(
        None, "the blocks with that sliding window, counted from 0 (none: every block)"
    )
    both_sides: bool = setting(False, "it reaches as far ahead as back, for models that are not causal")


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(Named):
    """The axes of attention beside its numbers of heads."""

    qk_norm: bool = setting(True, "RMS-normalise each query and key head")
    qkv_bias: bool = setting(False, "biases on the query, key and value projections")
    output_bias: bool = setting(False, "bias on the projection out of attention")
    window: SlidingWindow | None = setting(None, "a sliding window (none: a position sees all before it)")
    scale: float | None = setting(None, "scores are q · k times this (none: 1/√head_dim)", above=0, high=MOST_SCALE)
    softcap: float | None = setting(
        None, "scores are bent to lie between minus this and this: c · tanh(score / c)", above=0, high=MOST_SCALE
    )


def describe_projections(axes: AttentionConfig, rotary: Rotary | None) -> Part:
    """Queries, keys and values, their norms, and their rotation in a block that has one."""
    tensors = [
        *matrix("attention.query", "query", "d_attention", "d_model", bias=axes.qkv_bias, start="query"),
        *matrix("attention.key", "key", "d_kv", "d_model", bias=axes.qkv_bias, start="key"),
        *matrix("attention.value", "value", "d_kv", "d_model", bias=axes.qkv_bias),
    ]
    kept = [CostLine(name="queries_keys_values", formula="compute_bytes x (d_attention + 2 x d_kv)")]
    if axes.qk_norm:
        names = ("attention.query_norm.weight", "attention.key_norm.weight")
        tensors += [vector(name, "qk_norms", "head_dim", start="one") for name in names]
        kept.insert(0, CostLine(name="qk_norms", formula="(8 x (d_attention + d_kv) + 4 x (n_heads + n_kv_heads))"))
    query, key = ("n_heads", "new", "head_dim"), ("n_kv_heads", "new", "head_dim")
    before, turned = "by heads, after their own norm if there is one, before any rotation", "turned to their positions"
    steps = [
        Activation(name="attention.query", axes=query, meaning=before),
        Activation(name="attention.key", axes=key, meaning=before),
        Activation(name="attention.value", axes=key, meaning="by heads"),
    ]
    if rotary is not None:
        steps += [
            Activation(name="attention.query_rotated", axes=query, meaning=turned),
            Activation(name="attention.key_rotated", axes=key, meaning=turned),
        ]
    return Part(tensors=tuple(tensors), kept=tuple(kept), steps=tuple(steps))


def describe_core(core: AttentionCore, axes: AttentionConfig, *, dropout: bool) -> Part:
    """Scores, weights and the mix of values. With dropout it keeps the weights, the mask and their product."""
    square = ("n_heads", "new", "all")
    if core == "batched":
        num_kept = 3 if dropout else 1
        kept = [CostLine(name="attention_weights", formula=f"{num_kept} x n_heads x context_length x compute_bytes")]
    elif dropout:  # torch has no fused kernel with dropout on a CPU: it computes plainly, in float32
        kept = [
            CostLine(name="attention_weights", formula="3 x n_heads x context_length x 4"),
            CostLine(name="attention_float32_copies", formula="4 x 4 x d_attention"),
        ]
    else:
        kept = [CostLine(name="attention_sums", formula="(compute_bytes x d_attention + 4 x n_heads)")]
    return Part(
        products=tuple(
            CostLine(name=name, formula="d_attention x seen") for name in ("attention_scores", "attention_sum")
        ),
        kept=tuple(kept),
        steps=(  # the first two only where the core has them as tensors: the explicit one
            Activation(
                name="attention.scores",
                axes=square,
                meaning=f"{_say_scores(axes)}, minus infinity where it may not look",
            ),
            Activation(name="attention.weights", axes=square, meaning="their softmax: every row sums to 1"),
            Activation(
                name="attention.mix", axes=("n_heads", "new", "head_dim"), meaning="the values, mixed by the weights"
            ),
        ),
    )


def describe_cross(axes: AttentionConfig, core: AttentionCore, *, dropout: bool) -> Part:
    """Cross-attention: queries of the stream look at keys and values of the encoder's output, unturned."""
    parts = (describe_projections(axes, None), describe_core(core, axes, dropout=dropout), describe_output(axes))
    tensors = [tensor for part in parts for tensor in part.tensors]
    steps = [step for part in parts for step in part.steps]
    return Part(
        tensors=tuple(replace(tensor, name=_crossed(tensor.name), part=f"cross_{tensor.part}") for tensor in tensors),
        products=tuple(
            CostLine(name=f"cross_{line.name}", formula="d_attention x context_length") for line in parts[1].products
        ),
        kept=tuple(replace(line, name=f"cross_{line.name}") for part in parts for line in part.kept),
        steps=tuple(
            replace(
                step, name=_crossed(step.name), axes=tuple(OF_SOURCE.get((step.name, axis), axis) for axis in step.axes)
            )
            for step in steps
        ),
    )


# Keys and values are the encoder's, and the source is what is looked at; all else is the stream's.
OF_SOURCE = {
    ("attention.key", "new"): "source", ("attention.value", "new"): "source",
    ("attention.scores", "all"): "source", ("attention.weights", "all"): "source",
}  # fmt: skip


def _crossed(name: str) -> str:
    return name.replace("attention.", "cross.", 1)


def _say_scores(axes: AttentionConfig) -> str:
    """The formula of the scores."""
    scores = "q · k / √K" if axes.scale is None else f"{axes.scale:.4g} · (q · k)"
    return scores if axes.softcap is None else f"{axes.softcap:g} · tanh({scores} / {axes.softcap:g})"


def describe_output(axes: AttentionConfig) -> Part:
    """The output projection, from all heads back into the residual stream."""
    return Part(
        tensors=matrix("attention.output", "output", "d_model", "d_attention", bias=axes.output_bias, start="write"),
        kept=(CostLine(name="attention_outputs", formula="compute_bytes x d_attention"),),
        steps=(
            Activation(
                name="attention.output", axes=STREAM, meaning="what attention adds to the stream, before dropout"
            ),
        ),
    )
