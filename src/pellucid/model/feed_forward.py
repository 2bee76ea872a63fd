"""The feed-forward network (MLP): computed for each position alone, after attention.

    gelu       down(gelu(up(x)))              gelu_tanh: its tanh approximation, which GPT-2 uses
    relu, silu down(relu(up(x))), down(silu(up(x)))
    relu2      down(relu(up(x))²)
    swiglu     down(silu(gate(x)) * up(x))    three matrices: the gate decides how much of `up` passes
    geglu      down(gelu(gate(x)) * up(x))    geglu_tanh: with GELU's tanh approximation (Gemma, T5)

Axes: B batch · T positions · D width · F feed-forward width.
Source: Hendrycks & Gimpel 2016 (GELU); So et al. 2021 (squared ReLU); Shazeer 2020 (SwiGLU, GEGLU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import ModelError
from pellucid.model.tap import Tap
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import FeedForwardKind


class SquaredRelu(nn.Module):
    """The squared ReLU activation, max(0, x)²."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class FeedForward(nn.Module):
    """A projection up to the feed-forward width, the activation function, and a projection down."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.feed_forward.bias)
        self.activation = build_activation(config.feed_forward.kind)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.feed_forward.bias)

    def forward(self, x_BTD: Tensor, tap: Tap) -> Tensor:
        hidden_BTF = tap("hidden", self.activation(tap("up", self.up(x_BTD))))
        return tap("output", self.down(hidden_BTF))


class GatedFeedForward(nn.Module):
    """A gated feed-forward (GLU): two projections up, of which one is activated and scales the other; then one down."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.feed_forward.bias)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.feed_forward.bias)
        self.activation = build_activation(config.feed_forward.kind)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.feed_forward.bias)

    def forward(self, x_BTD: Tensor, tap: Tap) -> Tensor:
        gate_BTF = self.activation(tap("gate", self.gate(x_BTD)))
        hidden_BTF = tap("hidden", gate_BTF * tap("up", self.up(x_BTD)))
        return tap("output", self.down(hidden_BTF))


ACTIVATIONS: Mapping[FeedForwardKind, Callable[[], nn.Module]] = {  # of a gated kind: the gate's
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "swiglu": nn.SiLU,
    "geglu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "relu2": SquaredRelu,
    "geglu_tanh": partial(nn.GELU, approximate="tanh"),
}


def build_activation(kind: FeedForwardKind) -> nn.Module:
    """The activation function of a kind of feed-forward. Raises ModelError for a kind that has none here."""
    if kind not in ACTIVATIONS:
        raise ModelError("torch has no line for this kind of feed-forward", found=kind)
    return ACTIVATIONS[kind]()


AnyFeedForward: TypeAlias = FeedForward | GatedFeedForward


def dense(mlp: nn.Module) -> AnyFeedForward:
    """A feed-forward where a model is known to have one, and no experts."""
    assert isinstance(mlp, FeedForward | GatedFeedForward), "whoever asks has checked the model's axes"
    return mlp


def build_feed_forward(config: ModelConfig) -> AnyFeedForward:
    """The feed-forward that the config names."""
    return GatedFeedForward(config) if config.feed_forward.gated else FeedForward(config)
