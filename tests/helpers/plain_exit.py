"""The exit of models with one norm before their head, in two lines: what the way out is for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pellucid.model.decoder import Decoder
from pellucid.model.norm import RmsNorm


def read_parts(model: Decoder, v_ND: np.ndarray) -> Tensor:
    """Scores [N, V] (float32): logits that each vector would add to a stream whose size is 1."""
    with torch.no_grad():
        norm = model.final_norm
        weight_D = norm.scale() if isinstance(norm, RmsNorm) else norm.weight
        return centre(model, v_ND) * weight_D @ model.head_weight.T


def stream_size(model: Decoder, x_ND: np.ndarray) -> Tensor:
    """[N]: what the final norm divides each stream by."""
    return (centre(model, x_ND).square().mean(-1) + model.final_norm.eps).sqrt()


def centre(model: Decoder, x_ND: np.ndarray) -> Tensor:
    x_ND = torch.tensor(x_ND)
    return x_ND - x_ND.mean(-1, keepdim=True) if isinstance(model.final_norm, torch.nn.LayerNorm) else x_ND
