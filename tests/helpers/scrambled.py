"""Models with random values everywhere: no bias, norm or zeroed projection can hide a mistake."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig


def scramble(model: nn.Module, *, seed: int = 1, spread: float = 0.3, of_vectors: float = 0.3) -> None:
    """Draw every weight anew: matrices around 0 with a spread, norms and biases around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + of_vectors * noise if parameter.dim() == 1 else spread * noise)


def scrambled(config: ModelConfig, dtype: torch.dtype = torch.float32, *, spread: float = 0.3) -> Decoder:
    """A model of this shape, scrambled, as it answers (not as it is trained)."""
    model = build(config, seed=0, dtype=dtype).eval()
    scramble(model, spread=spread)
    return model
