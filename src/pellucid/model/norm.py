"""Normalisation: keep the numbers of each position at a steady size, so that deep stacks stay trainable.

    layer          (x - mean) / sqrt(variance + eps) * weight + bias
    layer_no_bias  the same without the bias
    rms             x / sqrt(mean(x²) + eps) * weight
    rms, one_plus  the same with (1 + weight): a weight of 0 changes nothing

Each works on the last axis alone: a position never sees another here.

Source: Ba et al. 2016 (LayerNorm), Zhang & Sennrich 2019 (RMSNorm, eq. 4).
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import ModelError
from pellucid.planning.parts.norm import NormConfig


class RmsNorm(nn.Module):
    """Divide by the root of the mean square, then scale each coordinate.

    >>> RmsNorm(4, eps=0.0)(torch.tensor([2.0, 2.0, 2.0, 2.0])).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def scale(self) -> Tensor:
        """What each coordinate is multiplied with."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.scale().to(x.dtype), self.eps)


class OnePlusRmsNorm(RmsNorm):
    """The same with a scale of 1 + weight, which keeps small weights exact (Gemma).

    >>> norm = OnePlusRmsNorm(2, eps=0.0)
    >>> _ = norm.weight.data.zero_()
    >>> norm(torch.tensor([3.0, -3.0])).tolist()
    [1.0, -1.0]
    """

    def scale(self) -> Tensor:
        return 1.0 + self.weight


AnyNorm: TypeAlias = RmsNorm | nn.LayerNorm


def present(norm: nn.Module) -> AnyNorm:
    """A norm where a model is known to have one, for those who read its scale."""
    assert isinstance(norm, RmsNorm | nn.LayerNorm), "whoever asks has checked the model's axes"
    return norm


def build_norm(norm: NormConfig, width: int) -> AnyNorm:
    """The norm that the config names. Raises ModelError for a kind that has none here."""
    if norm.kind == "rms":
        return OnePlusRmsNorm(width, norm.eps) if norm.one_plus else RmsNorm(width, norm.eps)
    if norm.kind in ("layer", "layer_no_bias"):
        return nn.LayerNorm(width, eps=norm.eps, bias=norm.kind == "layer")
    raise ModelError("torch has no line for this kind of norm", found=norm.kind)
