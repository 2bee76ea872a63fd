"""How a token knows its place.

    none        it does not; a causal model can still tell order from what each position is allowed to see
    learned     one trained vector per position, added to the embedding
    sinusoidal  p[t, 2i] = sin(t / 10000^(2i/D)), p[t, 2i+1] = cos(…), added to the embedding
    rotary      each query and key is turned, pair by pair, through the angle t · theta^(-2i/K): their product then
                depends only on how far apart they stand

Two doors because the kinds enter in two places: `add` works on the embedding, `rotate` on queries and keys. A kind
that does not use a door has the identity there.

Axes: B batch · T positions · D width · H heads · K head width.
Source: Vaswani et al. 2017 §3.5 (sinusoidal), Su et al. 2021 eq. 34 (rotary; the half-split pairing that Llama uses).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pellucid.planning.config import ModelConfig


class NoAddition(nn.Module):
    """Leaves the embedding as it is."""

    def forward(self, x_BTD: Tensor, offset: int) -> Tensor:
        return x_BTD


class LearnedPosition(nn.Module):
    """Adds a trained vector for each absolute position."""

    def __init__(self, context_length: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(context_length, d_model))

    def forward(self, x_BTD: Tensor, offset: int) -> Tensor:
        return x_BTD + self.weight[offset : offset + x_BTD.size(1)]


class SinusoidalPosition(nn.Module):
    """Adds waves of growing length; nothing is trained."""

    def __init__(self, context_length: int, d_model: int) -> None:
        super().__init__()
        self.context_length, self.d_model = context_length, d_model
        self.register_buffer("table_TD", torch.empty(context_length, d_model), persistent=False)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Fill the table, if it has memory; `model.build` calls this again when it has given some."""
        if self.table_TD.is_meta:
            return
        t_T1 = torch.arange(self.context_length, dtype=torch.float64)[:, None]
        pair_D = torch.arange(self.d_model) // 2 * 2
        angle_TD = t_T1 * 10_000.0 ** (-pair_D.double() / self.d_model)
        even_D = torch.arange(self.d_model) % 2 == 0
        self.table_TD.copy_(torch.where(even_D, angle_TD.sin(), angle_TD.cos()))

    def forward(self, x_BTD: Tensor, offset: int) -> Tensor:
        return x_BTD + self.table_TD[offset : offset + x_BTD.size(1)].to(x_BTD.dtype)


class NoRotation(nn.Module):
    """Leaves queries and keys as they are."""

    def forward(self, q_BHTK: Tensor, k_BGTK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        return q_BHTK, k_BGTK


class Rotation(nn.Module):
    """Turns each pair (i, i + K/2) of a query or key through an angle that grows with its position."""

    def __init__(
        self,
        context_length: int,
        head_dim: int,
        theta: float,
        stretch: Callable[[Tensor], Tensor] = lambda f: f,
        factor: float = 1.0,
    ) -> None:
        """`stretch` turns the frequencies (radians a position) into those of a model made for longer texts.

        What is turned is also multiplied by `factor`.
        """
        super().__init__()
        self.context_length, self.head_dim, self.theta = context_length, head_dim, theta
        self.stretch, self.factor = stretch, factor
        for name in ("cos_TK", "sin_TK"):
            self.register_buffer(name, torch.empty(context_length, head_dim), persistent=False)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Fill the tables, if they have memory; `model.build` calls this again when it has given some."""
        if self.cos_TK.is_meta:
            return
        pair = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
        # 1 / theta**pair, not theta**-pair: they differ in the last bit, which at position 40,000 is a visible angle.
        frequency = self.stretch(1.0 / self.theta**pair)
        angle_TK = torch.arange(self.context_length, dtype=torch.float32)[:, None] * frequency
        self.cos_TK.copy_(angle_TK.cos().repeat(1, 2) * self.factor)
        self.sin_TK.copy_(torch.cat((-angle_TK.sin(), angle_TK.sin()), -1) * self.factor)

    def forward(self, q_BHTK: Tensor, k_BGTK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        span = slice(offset, offset + q_BHTK.size(2))
        cos_TK = self.cos_TK[span].to(q_BHTK.dtype)
        sin_TK = self.sin_TK[span].to(q_BHTK.dtype)  # its first half is negative: x1 cos - x2 sin, x2 cos + x1 sin
        return rotate(q_BHTK, cos_TK, sin_TK), rotate(k_BGTK, cos_TK, sin_TK)


def rotate(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turn the pairs of the last axis by the given angles."""
    swapped = torch.roll(x_BHTK, x_BHTK.size(-1) // 2, -1)
    return x_BHTK * cos_TK + swapped * sin_TK


def stretch_frequencies(frequency: Tensor, config: ModelConfig) -> Tensor:
    """Rotary frequencies (radians a position) slowed down for contexts longer than those first trained on.

    linear    all by the factor
    llama3    slow ones (few turns within the original context) by the factor, fast ones not at all, a blend between
    yarn      the same, but the blend runs evenly over the pairs, from a whole pair to a whole pair

    Source: Chen et al. 2023 (linear); Llama Team 2024, "The Llama 3 Herd of Models", and its published code (llama3);
    Peng et al. 2023, "YaRN", §3.2 (yarn), its ends rounded as in the authors' code.
    """
    if config.rope_scaling == "none":
        return frequency
    if config.rope_scaling == "linear":
        return frequency / config.rope_factor
    low, high = config.rope_low_frequency, config.rope_high_frequency
    if config.rope_scaling == "llama3":
        turns = config.rope_original_context * frequency / (2 * math.pi)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
    else:
        first = max(math.floor(pair_of_turns(high, config)), 0)
        last = min(math.ceil(pair_of_turns(low, config)), config.head_dim - 1)
        pair = torch.arange(len(frequency), dtype=torch.float32)
        kept = 1 - ((pair - first) / (max(last - first, 0.001))).clamp(0, 1)
    return (1 - kept) * frequency / config.rope_factor + kept * frequency


def pair_of_turns(turns: float, config: ModelConfig) -> float:
    """The pair (a fraction, as pairs are counted) that makes this many turns within the original context."""
    wavelength = config.rope_original_context / (turns * 2 * math.pi)
    return config.head_dim / 2 * math.log(wavelength) / math.log(config.rope_theta)


def build_addition(config: ModelConfig) -> nn.Module:
    """What is added to the embedding."""
    if config.position == "learned":
        return LearnedPosition(config.context_length, config.d_model)
    if config.position == "sinusoidal":
        return SinusoidalPosition(config.context_length, config.d_model)
    return NoAddition()


def build_rotation(config: ModelConfig) -> nn.Module:
    """What is done to queries and keys."""
    if config.position == "rotary":
        stretch = partial(stretch_frequencies, config=config)
        return Rotation(
            config.context_length, config.head_dim, config.rope_theta, stretch, config.rope_attention_factor
        )
    return NoRotation()
