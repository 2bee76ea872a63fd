"""Which models a file format or a runner supports, axis by axis. Deny by default: what is not listed is not supported.

A family of files, or the compiled loops, lists the axes of `ModelConfig` that it knows (`position.theta`), with the values
that it can say or compute. A model passes when each of its axes is listed with that value, or has its neutral
value, with which a model is as if the axis did not exist. So an axis that is added to `ModelConfig` later is refused by
everything that was written before it, unless it is left at neutral.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pellucid.planning.config import ModelConfig
from pellucid.settings import flatten


class Any_:
    """Stands for every value of an axis."""

    def __contains__(self, value: object) -> bool:
        return True


ANY: Final = Any_()
Axes = Mapping[str, "tuple[Any, ...] | Any_"]

# Everything that holds a model says how large it is.
SIZES: Axes = dict.fromkeys(
    ("vocab_size", "context_length", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_model", "d_ff"), ANY
)
TRAINING: Axes = {"dropout": ANY, "init": ANY}  # they matter only to whoever trains
# At these values a model is as if the axis did not exist. An axis that is not here must be listed by everybody.
NEUTRAL: Mapping[str, Any] = {
    "position.kind": "none",
    "position.scaling.kind": "none",
    "position.scaling.attention_factor": 1.0,
    "attention.window": None,
    "attention.window.layers": None,
    "attention.qk_norm": False,
    "attention.qkv_bias": False,
    "attention.output_bias": False,
    "attention.scale": None,
    "attention.softcap": None,
    "feed_forward.bias": False,
    "feed_forward.experts": None,
    "norm.placement": "before",
    "norm.one_plus": False,
    "norm.first": True,
    "position.window_theta": None,
    "position.skipped": (),
    "position.first": 0,
    "position.halves": False,
    "attention.window.both_sides": False,
    "embedding.scaled": False,
    "embedding.segments": 0,
    "embedding.norm": False,
    "head.tokens": True,
    "head.bias": False,
    "head.transform": None,
    "head.scaled": False,
    "head.softcap": None,
    "pooler": None,
    "position.farthest": None,
    "encoder": None,
    "streams": None,
    "causal": True,
}


def misfits(config: ModelConfig, known: Axes) -> list[str]:
    """The axes of a model whose values are not among the `known`, as `axis=value`; none when it fits.

    >>> plain = ModelConfig.from_axes(position="none", qk_norm=False)
    >>> misfits(plain, {**SIZES, **TRAINING, "norm.kind": ("rms",), "norm.eps": ANY})
    ['feed_forward=swiglu', 'tied_head=True']
    """
    return [said(axis, value) for axis, value in flatten(config) if not _fits(axis, value, known)]


def said(axis: str, value: Any) -> str:
    """An axis and its value in a message.

    >>> said("position.kind", "none")
    'position=none'
    """
    return f"{axis.removesuffix('.kind')}={value}"


def _fits(axis: str, value: Any, known: Axes) -> bool:
    groups = [axis[:end] for end, letter in enumerate(axis) if letter == "."]
    if any(known.get(group, ANY) is not ANY for group in groups):  # listed with its values, and being there is none
        return False
    return value in known[axis] if axis in known else axis in NEUTRAL and value == NEUTRAL[axis]
