"""The pooler: one vector for a whole row, and what is read off it.

    vector = layer(first token's vector, last one's, or the mean of the real ones')
    layer(x) = norm(f(x · Wᵀ + b))                    what a model does not have is the identity
    pairs, labels = vector · tableᵀ + bias            scores before the softmax

It is *not* a sentence embedding by itself: BERT's was trained to tell whether two parts of a row belong together.

Axes: B batch · T positions · D width · C labels.
Source: Devlin et al. 2019 §3.1 (the first token's); Reimers & Gurevych 2019 §3 (the mean).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pellucid.model.feed_forward import build_activation
from pellucid.model.norm import build_norm
from pellucid.model.output import Pooled
from pellucid.model.rows import Rows
from pellucid.model.tap import Tap
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.pooler import NUM_ANSWERS, PoolActivation, PoolerConfig, Pooling


def pool(x_BTD: Tensor, rows: Rows, pooling: Pooling) -> Tensor:
    """One vector for each row, [B, D], from those of its real positions.

    >>> x_BTD = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> [pool(x_BTD, Rows.of(x_BTD[..., 0], counts=[2]), way).item() for way in ("first", "last", "mean")]
    [1.0, 3.0, 2.0]
    """
    if pooling == "first":
        return x_BTD[:, 0]
    if pooling == "last":
        return rows.last(x_BTD)[:, 0]
    if rows.full:
        return x_BTD.mean(1)
    counts_B1 = torch.tensor(rows.counts, device=x_BTD.device)[:, None]
    real_BT = torch.arange(rows.num_new, device=x_BTD.device) < counts_B1
    sum_BD = torch.where(real_BT[..., None], x_BTD, 0.0).sum(1)
    return sum_BD / counts_B1.to(sum_BD.dtype)


class Pooler(nn.Module):
    """The layer over a row's vector, and the tables of what is read off it."""

    def __init__(self, config: ModelConfig, axes: PoolerConfig) -> None:
        super().__init__()
        width, layer = config.d_model, axes.layer
        self.pooling = axes.pooling
        self.dense = nn.Identity() if layer is None else nn.Linear(width, width, bias=layer.bias)
        self.activation = nn.Identity() if layer is None else _build_activation(layer.activation)
        self.norm = build_norm(config.norm, width) if layer is not None and layer.norm else nn.Identity()
        self.pair_head = nn.Linear(width, NUM_ANSWERS) if axes.pairs else None
        self.label_head = nn.Linear(width, len(axes.labels)) if axes.labels else None

    def forward(self, x_BTD: Tensor, rows: Rows, tap: Tap) -> Pooled:
        """What is known of each row, from its vectors after the last norm."""
        vector_BD = self.norm(self.activation(self.dense(pool(x_BTD, rows, self.pooling))))
        vector_BD = tap("pooler", vector_BD)
        return Pooled(
            vector_BD=vector_BD,
            pair_logits_B2=None if self.pair_head is None else tap("pooler.pair_head", self.pair_head(vector_BD)),
            label_logits_BC=None if self.label_head is None else tap("pooler.label_head", self.label_head(vector_BD)),
        )


def _build_activation(kind: PoolActivation) -> nn.Module:
    return nn.Tanh() if kind == "tanh" else build_activation(kind)
