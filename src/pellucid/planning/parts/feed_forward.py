"""The description of the feed-forward: its kinds, parameters, activations kept for the backward pass, and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pellucid.planning.parts.description import STREAM, Activation, CostLine, Part, matrix
from pellucid.settings import Named, setting

FeedForwardKind = Literal["gelu", "gelu_tanh", "swiglu", "geglu", "relu2"]
GATED: Mapping[FeedForwardKind, bool] = MappingProxyType(
    {"gelu": False, "gelu_tanh": False, "swiglu": True, "geglu": True, "relu2": False}
)


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig(Named):
    """The network at each place, after attention."""

    kind: FeedForwardKind = setting(
        "swiglu", "the nonlinearity; swiglu and geglu have a gate (three matrices instead of two)"
    )
    bias: bool = setting(False, "biases in the feed-forward")

    @property
    def gated(self) -> bool:
        """Whether there is a gate matrix."""
        return GATED[self.kind]


def describe_feed_forward(axes: FeedForwardConfig) -> Part:
    """The projections up and down, the activation between them, and the gate of the kinds that have one.

    >>> [tensor.name for tensor in describe_feed_forward(FeedForwardConfig(kind="relu2")).tensors]
    ['mlp.up.weight', 'mlp.down.weight']
    """
    wide, bias = ("new", "d_ff"), axes.bias
    gate = matrix("mlp.gate", "mlp_gate", "d_ff", "d_model", bias=bias) if axes.gated else ()
    gated = (
        (Activation(name="mlp.gate", axes=wide, meaning="the gate before its activation function"),)
        if axes.gated
        else ()
    )
    up = "what the gate scales" if axes.gated else "before the activation function"
    num_kept = 4 if axes.gated else 2
    return Part(
        tensors=(
            *gate,
            *matrix("mlp.up", "mlp_up", "d_ff", "d_model", bias=bias),
            *matrix("mlp.down", "mlp_down", "d_model", "d_ff", bias=bias, start="write"),
        ),
        kept=(CostLine(name="feed_forward", formula=f"compute_bytes x {num_kept} x d_ff"),),
        steps=(
            *gated,
            Activation(name="mlp.up", axes=wide, meaning=up),
            Activation(name="mlp.hidden", axes=wide, meaning="the activations: what the last matrix reads"),
            Activation(
                name="mlp.output", axes=STREAM, meaning="what the feed-forward adds to the stream, before dropout"
            ),
        ),
    )
