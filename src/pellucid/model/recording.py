"""Recording activations: every tensor of one forward pass, by name.

    taps = record(model, ids_BT)
    taps["blocks.0.attention.weights"]     # [B, H, T, S]

The pass uses `ExplicitCore`, whose scores and weights exist as tensors. The names are listed in `planning.layout`.
Nothing is written into the model, so other passes may run through it at the same time.

Axes: B batch · H query heads · T new positions · S all positions.
"""

from __future__ import annotations

from torch import Tensor

from pellucid.model.context import Context
from pellucid.model.core import ExplicitCore
from pellucid.model.protocol import Model
from pellucid.model.tap import Taps


def record(model: Model, ids_BT: Tensor, *, last_only: bool = False) -> Taps:
    """All tensors of one pass over some rows, without dropout; `last_only` scores the last position alone.

    >>> import torch
    >>> from pellucid.model.build import build
    >>> from pellucid.planning.config import ModelConfig
    >>> taps = record(build(ModelConfig(vocab_size=9, n_layers=1), seed=0), torch.tensor([[1, 2, 3]]))
    >>> taps["blocks.0.attention.weights"].shape, taps["logits"].shape
    (torch.Size([1, 4, 3, 3]), torch.Size([1, 3, 9]))
    """
    taps = Taps()
    model(ids_BT, Context(core=ExplicitCore(), tap=taps), last_only=last_only)
    return taps
