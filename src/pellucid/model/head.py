"""The head: it scores every token against the vector that the last block leaves at a position.

    logits = x · tableᵀ (+ bias)            the table is the head's own, or the token embedding (tied)

Some families put more around this product: a layer before it (BERT), 1/√D in front of a tied table (T5), scores bent to
lie below a bound, c · tanh(logit / c) (Gemma). What a model does not have is the identity here.

Axes: B batch · T positions · D width · V vocabulary.
Source: Press & Wolf 2017 (tied); Devlin et al. 2019 (the layer before it); Raffel et al. 2020 (1/√D).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pellucid.model.feed_forward import build_activation
from pellucid.model.norm import build_norm
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.embedding import HeadTransform


class Head(nn.Module):
    """What the head holds: a table of its own, unless it is tied, and a bias where there is one.

    The product is the decoder's (`Decoder.score`), which has the embedding too.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        own = (
            None
            if config.tied_head or not config.head.tokens
            else nn.Parameter(torch.empty(config.vocab_size, config.d_model))
        )
        self.register_parameter("weight", own)
        self.register_parameter("bias", nn.Parameter(torch.empty(config.vocab_size)) if config.head.bias else None)
        self.scale = 1 / math.sqrt(config.d_model) if config.head.scaled else 1.0

    weight: Tensor | None
    bias: Tensor | None


class Transform(nn.Module):
    """The layer before the head: a projection, an activation function, a norm."""

    def __init__(self, config: ModelConfig, axes: HeadTransform) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model, bias=axes.bias)
        self.activation = build_activation(axes.activation)
        self.norm = build_norm(config.norm, config.d_model)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x_BTD)))


class SoftCap(nn.Module):
    """Bends scores to lie between minus and plus a bound: c · tanh(x / c).

    >>> SoftCap(2.0)(torch.tensor([0.0, 1e9])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        return self.bound * (x / self.bound).tanh()


def build_transform(config: ModelConfig) -> nn.Module:
    """The layer before the head, or the identity."""
    axes = config.head.transform
    return nn.Identity() if axes is None else Transform(config, axes)


def build_cap(config: ModelConfig) -> nn.Module:
    """What bends the scores, or the identity."""
    return nn.Identity() if config.head.softcap is None else SoftCap(config.head.softcap)
