"""Which models each question can show: axis by axis, deny by default.

A panel draws formulas, and a formula that a model does not have would be a false picture. So each part of the lens lists
the axes that its questions know (`SHOWS`, beside its `METHODS`). Any model can be opened; a question about an axis that it
does not know is refused in one sentence, and the other panels answer.
"""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

from pellucid.errors import NotShownError
from pellucid.planning.axes import ANY, SIZES, TRAINING, Axes, misfits
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.planning.parts.norm import NormKind

Shown: TypeAlias = (
    "Axes | None"  # None: the question is about tokens, files or rows of a table, whatever the model computes
)

# The axes of GPT, Llama and Qwen3: what a question knows that lists none of its own.
PLAIN: Axes = {
    **SIZES,
    **TRAINING,
    "position.kind": ("none", "learned", "sinusoidal", "rotary"),
    "position.theta": ANY,
    "position.scaling.kind": ("none", "linear", "llama3", "yarn"),
    "position.scaling.factor": ANY,
    "position.scaling.low_frequency": ANY,
    "position.scaling.high_frequency": ANY,
    "position.scaling.original_context": ANY,
    "position.scaling.attention_factor": ANY,
    "attention.qk_norm": (False, True),
    "attention.qkv_bias": (False, True),
    "attention.output_bias": (False, True),
    "attention.window.size": ANY,
    "attention.window.layers": ANY,
    "feed_forward.kind": get_args(FeedForwardKind),
    "feed_forward.bias": (False, True),
    "norm.kind": get_args(NormKind),
    "norm.eps": ANY,
    "tied_head": (False, True),
    "causal": (False, True),
}
# What surrounds attention, and changes nothing of it.
AROUND: Axes = {
    "norm.placement": ("before", "after", "around"),
    "norm.one_plus": (False, True),
    "norm.first": (False, True),
    "feed_forward.experts.count": ANY,
    "feed_forward.experts.active": ANY,
    "feed_forward.experts.width": ANY,
    "feed_forward.experts.normalised": (False, True),
    "feed_forward.experts.layers": ANY,
    "feed_forward.experts.balance": ANY,
    "head.bias": (False, True),
    "head.transform.activation": get_args(FeedForwardKind),
    "head.transform.bias": (False, True),
    "head.scaled": (False, True),
    "head.softcap": ANY,
}
# What is read off a whole row, beside the scores of tokens: it adds nothing to the stream, and no panel is about it.
BESIDE: Axes = dict.fromkeys(
    (
        *("pooler.pooling", "pooler.layer", "pooler.layer.activation", "pooler.layer.bias", "pooler.layer.norm"),
        *("pooler.pairs", "pooler.labels"),
    ),
    ANY,
)
EVERY: Axes = {
    **PLAIN,
    **AROUND,
    **BESIDE,
    "position.kind": ("none", "learned", "sinusoidal", "rotary", "relative"),
    "position.window_theta": ANY,
    "position.skipped": ANY,
    "position.first": ANY,
    "position.halves": (False, True),
    "position.buckets": ANY,
    "position.farthest": ANY,
    "attention.scale": ANY,
    "attention.softcap": ANY,
    "attention.window.both_sides": (False, True),
    "embedding.scaled": (False, True),
    "embedding.segments": ANY,
    "embedding.norm": (False, True),
    "encoder.n_layers": ANY,
    "head.tokens": (False, True),
}
SCORED: Axes = {**EVERY, "head.tokens": (True,)}  # it scores tokens
NEXT: Axes = {**SCORED, "causal": (True,)}  # it predicts what follows
# And reads nothing beside its text.
ALONE: Axes = {axis: values for axis, values in NEXT.items() if not axis.startswith("encoder")}


def check_shown(config: ModelConfig, shown: Shown, where: str = "") -> None:
    """Raise NotShownError where a question does not know all axes of a model; `where` names the question.

    >>> from pellucid.planning.presets import preset
    >>> check_shown(preset("gemma2-2b"), EVERY)
    >>> check_shown(preset("bert-base"), NEXT, "step")
    Traceback (most recent call last):
    ...
    pellucid.errors.NotShownError: this model sees its text from both sides at once: it predicts no next token
      found: causal=False
      where: step
      try:   the other panels show this model
    """
    unknown = [] if shown is None else misfits(config, shown)
    if unknown:
        axis = _axis(unknown)
        drawn = "its drawing shows how it is built" if axis == "streams" else "the other panels show this model"
        raise NotShownError(_why(axis), found=", ".join(unknown), where=where, hint=drawn)


WITH_REASONS = ("streams", "head.tokens", "causal", "encoder")


def _axis(unknown: list[str]) -> str:
    """The axis of some misfits that has a sentence of its own, the one that says most first; none where none has."""
    return next((axis for axis in WITH_REASONS if any(misfit.startswith(axis) for misfit in unknown)), "")


def _why(axis: str) -> str:
    """Why a panel does not apply to a model with that axis."""
    return {
        "causal": "this model sees its text from both sides at once: it predicts no next token",
        "encoder": "this is not shown of a model that reads a source beside its text",
        "streams": "this model reads its text in two streams, in any order: the panels draw one",
        "head.tokens": "this model scores no tokens: it gives vectors",
        "": "this is not shown of models of this kind",
    }[axis]


def describe_axes(config: ModelConfig) -> dict[str, Any]:
    """The axes beside sizes that a page draws a model by: those of other families, each at neutral where a model has none."""
    experts, window, encoder = config.feed_forward.experts, config.attention.window, config.encoder
    rotations = [config.rotation_at(layer) for layer in range(config.n_layers)]
    return {
        "mask": "causal" if config.causal else "none",
        "both_sides": window is not None and window.both_sides,
        "placement": config.norm.placement,
        "scale": config.attention.scale,
        "softcap": config.attention.softcap,
        "embedding_scaled": config.embedding.scaled,
        "rotations": len({*rotations}),
        "rotated_layers": [layer for layer, rotary in enumerate(rotations) if rotary is not None],
        "expert_layers": [layer for layer in range(config.n_layers) if config.has_experts(layer)],
        "experts": None if experts is None else {"count": experts.count, "active": experts.active},
        "encoder_layers": None if encoder is None else encoder.n_layers,
        "head_transform": config.head.transform is not None,
        "head_softcap": config.head.softcap,
    }
