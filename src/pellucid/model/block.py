"""A block: gather from other positions, then think alone; both write into the residual stream.

    x = x + attention(norm(x))
    x = x + mlp(norm(x))

The stream itself is only ever added to. (Writing `x_ = x + attention(x); x = x + mlp(x_)` loses what attention wrote:
`pellucid learn residual` trains that mistake beside the right block.)

Axes: B batch · T positions · D width.
Source: Radford et al. 2019 §2.3 (norm before each branch).
"""

from __future__ import annotations

from torch import Tensor, nn

from pellucid.model.attention import Attention
from pellucid.model.context import Pass
from pellucid.model.dropout import Dropout
from pellucid.model.feed_forward import build_feed_forward
from pellucid.model.norm import build_norm
from pellucid.planning.config import ModelConfig


class Block(nn.Module):
    """One layer of the transformer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = build_norm(config.norm, config.d_model)
        self.attention = Attention(config, layer)
        self.mlp_norm = build_norm(config.norm, config.d_model)
        self.mlp = build_feed_forward(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        tap, training = this_pass.tap_in(f"blocks.{self.layer}"), this_pass.training
        normed_BTD = tap("attention_norm", self.attention_norm(x_BTD))
        x_BTD = tap("middle", x_BTD + self.dropout(self.attention(normed_BTD, this_pass), training=training))
        normed_BTD = tap("mlp_norm", self.mlp_norm(x_BTD))
        written_BTD = self.mlp(normed_BTD, this_pass.tap_in(f"blocks.{self.layer}.mlp"))
        return tap("output", x_BTD + self.dropout(written_BTD, training=training))
