"""Which models something can take, axis by axis; what it does not list it cannot take. Deny by default.

A family of files, or the compiled loops, lists the axes of `ModelConfig` that it knows, with the values that it can say
or compute. A model passes when each of its axes is listed with that value, or means nothing there (a rotary base without
rotation), or stands at its neutral value, at which a model is as if the axis did not exist. So an axis that is added
to `ModelConfig` later is refused by everything that was written before it, unless it is left at neutral.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pellucid.planning.config import ModelConfig


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
    "position": "none",
    "rope_scaling": "none",
    "rope_attention_factor": 1.0,
    "sliding_window": None,
    "qk_norm": False,
    "qkv_bias": False,
    "output_bias": False,
    "mlp_bias": False,
    "causal": True,
}


def misfits(config: ModelConfig, known: Axes) -> list[str]:
    """The axes of a model that are beyond what is `known`, as `axis=value`; none when it fits.

    >>> misfits(ModelConfig(position="none", qk_norm=False), {**SIZES, **TRAINING, "norm": ("rms",), "norm_eps": ANY})
    ['feed_forward=swiglu', 'tied_head=True']
    """
    return [f"{axis}={value}" for axis, value in _in_force(config) if not _fits(axis, value, known)]


def _fits(axis: str, value: Any, known: Axes) -> bool:
    return value in known[axis] if axis in known else axis in NEUTRAL and value == NEUTRAL[axis]


def _in_force(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    """The axes that mean something in this model, with their values."""
    idle = config.idle_axes
    for field in dataclasses.fields(config):
        if field.name not in idle:
            yield field.name, getattr(config, field.name)
