"""The feed-forward: what each position works out alone from what it has gathered.

    gelu       down(gelu(up(x)))              gelu_tanh: its tanh approximation, which GPT-2 uses
    relu2      down(relu(up(x))²)
    swiglu     down(silu(gate(x)) * up(x))    three matrices: the gate decides how much of `up` passes

Axes: B batch · T positions · D width · F feed-forward width.
Source: Hendrycks & Gimpel 2016 (GELU); So et al. 2021 (squared ReLU); Shazeer 2020 (SwiGLU).
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.planning.config import ModelConfig


class SquaredRelu(nn.Module):
    """max(0, x)²: as cheap as an activation can be."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class FeedForward(nn.Module):
    """Up to the feed-forward width, through the activation function, and down again."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.feed_forward.bias)
        self.activation = build_activation(config.feed_forward.kind)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.feed_forward.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x_BTD)))


class GatedFeedForward(nn.Module):
    """Two projections up; one of them, through the activation function, scales the other (a gate); then down again."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.feed_forward.bias)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.feed_forward.bias)
        self.activation = build_activation(config.feed_forward.kind)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.feed_forward.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x_BTD)) * self.up(x_BTD))


def build_activation(kind: str) -> nn.Module:
    """The activation function of a kind of feed-forward (the gate of swiglu uses SiLU)."""
    return {
        "gelu": nn.GELU(),
        "gelu_tanh": nn.GELU(approximate="tanh"),
        "relu2": SquaredRelu(),
        "swiglu": nn.SiLU(),
    }[kind]


AnyFeedForward: TypeAlias = FeedForward | GatedFeedForward


def build_feed_forward(config: ModelConfig) -> AnyFeedForward:
    """The feed-forward that the config names."""
    return GatedFeedForward(config) if config.feed_forward.gated else FeedForward(config)
