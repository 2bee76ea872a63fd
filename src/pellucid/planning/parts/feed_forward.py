"""The description of the feed-forward: its kinds, parameters, activations kept for the backward pass, and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from pellucid.errors import ModelError
from pellucid.planning.parts.description import STREAM, Activation, CostLine, Part, TensorPlan, matrix
from pellucid.settings import REQUIRED, Named, setting

FeedForwardKind = Literal["gelu", "gelu_tanh", "relu", "silu", "relu2", "swiglu", "geglu", "geglu_tanh"]
GATED: Mapping[FeedForwardKind, bool] = MappingProxyType(
    {kind: kind in ("swiglu", "geglu", "geglu_tanh") for kind in get_args(FeedForwardKind)}
)
ADDED = "what the feed-forward adds to the stream, before dropout"
MOST_EXPERTS, MOST_EXPERT_WIDTH, MOST_BALANCE = 1 << 12, 1 << 22, 100.0


@dataclass(frozen=True, kw_only=True)
class Experts(Named):
    """A mixture of experts: many small feed-forwards, of which a router picks a few for each token."""

    count: int = setting(REQUIRED, "experts in a block", low=1, high=MOST_EXPERTS)
    active: int = setting(REQUIRED, "experts that each token is sent to", low=1, high=MOST_EXPERTS)
    width: int = setting(REQUIRED, "width inside one expert", low=1, high=MOST_EXPERT_WIDTH)
    normalised: bool = setting(True, "the shares of the chosen experts are divided by their sum")
    layers: tuple[int, ...] | None = setting(
        None, "the blocks with experts, counted from 0; the others have one feed-forward of d_ff (none: every block)"
    )
    balance: float = setting(0.001, "weight of the loss that keeps all experts in use", low=0, high=MOST_BALANCE)

    def __post_init__(self) -> None:
        if self.active > self.count:
            raise ModelError(
                "a token cannot be sent to more experts than there are",
                found=f"active={self.active}, count={self.count}",
            )


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig(Named):
    """The network at each place, after attention."""

    kind: FeedForwardKind = setting(
        "swiglu", "the nonlinearity; swiglu and geglu have a gate (three matrices instead of two)"
    )
    bias: bool = setting(False, "biases in the feed-forward")
    experts: Experts | None = setting(None, "a mixture of experts (none: one feed-forward for every token)")

    def __post_init__(self) -> None:
        if self.experts is not None and self.bias:
            raise ModelError(
                "experts have no biases", found="feed_forward.bias=True", hint="feed_forward.bias=false, or no experts"
            )

    @property
    def gated(self) -> bool:
        """Whether there is a gate matrix."""
        return GATED[self.kind]


def describe_experts(axes: FeedForwardConfig) -> Part:
    """The router and the experts; matrices of all experts lie stacked.

    >>> mixture = FeedForwardConfig(experts=Experts(count=8, active=2, width=64))
    >>> [tensor.name for tensor in describe_experts(mixture).tensors]
    ['mlp.router.weight', 'mlp.gate', 'mlp.up', 'mlp.down']
    """
    projections = ("gate", "up", "down") if axes.gated else ("up", "down")
    sides = dict.fromkeys(projections, ("d_expert", "d_model")) | {"down": ("d_model", "d_expert")}
    experts = [
        TensorPlan(
            name=f"mlp.{name}",
            part=f"experts_{name}",
            axes=("n_experts", *sides[name]),
            group="matrix",
            start="write" if name == "down" else "read",
            met=("n_active", *sides[name]),
        )
        for name in projections
    ]
    chosen = ("new", "n_active")
    return Part(
        tensors=(*matrix("mlp.router", "router", "n_experts", "d_model", bias=False), *experts),
        kept=(
            CostLine(name="router", formula="4 x 2 x n_experts"),
            CostLine(
                name="experts",
                formula=f"compute_bytes x n_active x ({4 if axes.gated else 2} x d_expert + 2 x d_model)",
            ),
        ),
        steps=(
            Activation(name="mlp.router", axes=("new", "n_experts"), meaning="the share of every expert: a softmax"),
            Activation(name="mlp.chosen", axes=chosen, meaning="the experts that the token is sent to, by number"),
            Activation(name="mlp.shares", axes=chosen, meaning="how much each of those counts"),
            Activation(name="mlp.output", axes=STREAM, meaning=ADDED),
        ),
    )


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
            Activation(name="mlp.output", axes=STREAM, meaning=ADDED),
        ),
    )
