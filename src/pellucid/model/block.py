"""A transformer block: attention, then the feed-forward; each adds its output to the residual stream.

    x = x + attention(norm(x))
    x = x + mlp(norm(x))

Blocks only ever add to the stream. (Writing `x_ = x + attention(x); x = x + mlp(x_)` loses what attention wrote:
`pellucid learn residual` trains that mistake beside the right block.) In training, dropout zeroes a random share of what
each branch writes.

Axes: B batch · T positions · D width.
Source: Radford et al. 2019 §2.3 (norm before each branch); Srivastava et al. 2014 (dropout).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.model.attention import Attention
from pellucid.model.context import Pass
from pellucid.model.feed_forward import build_feed_forward
from pellucid.model.norm import build_norm
from pellucid.model.tap import within
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
        self.dropout_share = config.dropout

    def forward(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        path, share = f"blocks.{self.layer}", self.dropout_share if this_pass.training else 0.0
        tap = within(this_pass.tap, path)
        normed_BTD = tap("attention_norm", self.attention_norm(x_BTD))
        x_BTD = tap("middle", x_BTD + F.dropout(self.attention(normed_BTD, this_pass), share))
        normed_BTD = tap("mlp_norm", self.mlp_norm(x_BTD))
        return tap("output", x_BTD + F.dropout(self.mlp(normed_BTD, within(this_pass.tap, f"{path}.mlp")), share))
