"""A block: gather from other positions, then think alone; both write into the residual stream.

    x = x + attention(norm(x))
    x = x + mlp(norm(x))

The stream itself is only ever added to. (Writing `x_ = x + attention(x); x = x + mlp(x_)` loses what attention wrote:
`pellucid learn residual` trains that mistake beside the right block.)

Axes: B batch · T positions · D width.
Source: Radford et al. 2019 §2.3 (norm before each branch).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pellucid.model.attention import Attention
from pellucid.model.cache import KVCache
from pellucid.model.feed_forward import build_feed_forward
from pellucid.model.norm import build_norm
from pellucid.model.position import AnyRotation
from pellucid.planning.config import ModelConfig


class Block(nn.Module):
    """One layer of the transformer."""

    def __init__(self, config: ModelConfig, layer: int, device: torch.device | str) -> None:
        super().__init__()
        self.attention_norm = build_norm(config.norm, config.d_model)
        self.attention = Attention(config, layer, device)
        self.mlp_norm = build_norm(config.norm, config.d_model)
        self.mlp = build_feed_forward(config)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x_BTD: Tensor, rotation: AnyRotation, offset: int, cache: KVCache | None) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), rotation, offset, cache))
        return x_BTD + self.dropout(self.mlp(self.mlp_norm(x_BTD)))
