"""Which models the lens can show: axis by axis, deny by default.

A panel draws formulas, and a formula that a model does not have would be a false picture. So the lens opens a model only
when it knows each of its axes.
"""

from __future__ import annotations

from typing import get_args

from pellucid.errors import ModelError
from pellucid.planning.axes import ANY, SIZES, TRAINING, Axes, misfits
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.planning.parts.norm import NormKind

SHOWN: Axes = {
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


def check_shown(config: ModelConfig, where: str = "") -> None:
    """Raise ModelError for a model that the lens would draw wrongly, with the axes that it does not know."""
    if unknown := misfits(config, SHOWN):
        raise ModelError(
            "the lens does not show models of this kind yet",
            found=", ".join(unknown),
            where=where,
            hint="pellucid generate, eval and plan take this model",
        )
