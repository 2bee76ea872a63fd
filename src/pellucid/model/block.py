"""A transformer block: attention, then the feed-forward; each adds its output to the residual stream.

    x = x + attention(norm(x))            norms before the branches
    x = x + mlp(norm(x))

    x = norm(x + attention(x))            norms after the sums (the original Transformer, BERT)
    x = x + norm(attention(norm(x)))      norms around the branches (Gemma)

Blocks only ever add to the stream, where no norm stands after the sum. (Writing `x_ = x + attention(x); x = x + mlp(x_)` loses what attention wrote:
`pellucid learn residual` trains that mistake beside the right block.) In training, dropout zeroes a random share of what
each branch writes.

Axes: B batch · T positions · D width.
Source: Radford et al. 2019 §2.3 (norm before each branch); Srivastava et al. 2014 (dropout).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.model.attention import Attention, CrossAttention
from pellucid.model.context import Pass
from pellucid.model.distance_attention import DistanceAttention
from pellucid.model.experts import Mixture
from pellucid.model.feed_forward import AnyFeedForward, build_feed_forward
from pellucid.model.norm import build_norm
from pellucid.model.tap import Tap, within
from pellucid.planning.config import ModelConfig

Norm = Callable[[Tensor], Tensor]


class Block(nn.Module):
    """One layer of the transformer."""

    def __init__(self, config: ModelConfig, layer: int, *, path: str = "blocks", cross: bool = False) -> None:
        """`path`: what its names begin with; `cross`: it reads an encoder's output too."""
        super().__init__()
        self.path, self.dropout_share = f"{path}.{layer}", config.dropout
        placement = config.norm.placement
        self.join = JOIN[placement]
        self.attention_norm = _norm(config, there=placement != "after" and (config.norm.first or layer > 0))
        self.attention = (DistanceAttention if config.streams else Attention)(config, layer, path=path)
        self.attention_output_norm = _norm(config, there=placement != "before")
        self.cross_norm = _norm(config, there=cross and placement != "after")
        self.cross = CrossAttention(config, layer) if cross else None
        self.cross_output_norm = _norm(config, there=cross and placement != "before")
        self.mlp_norm = _norm(config, there=placement != "after")
        self.mlp = build_branch(config, layer)
        self.mlp_output_norm = _norm(config, there=placement != "before")

    def forward(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        share = self.dropout_share if this_pass.training else 0.0
        tap = within(this_pass.tap, self.path)
        branch_BTD = self.attention(shown(tap, "attention_norm", self.attention_norm)(x_BTD), this_pass)
        output_norm = shown(tap, "attention_output_norm", self.attention_output_norm)
        x_BTD = tap("middle", self.join(x_BTD, branch_BTD, output_norm, share))
        if self.cross is not None:
            branch_BTD = self.cross(shown(tap, "cross_norm", self.cross_norm)(x_BTD), this_pass)
            output_norm = shown(tap, "cross_output_norm", self.cross_output_norm)
            x_BTD = tap("looked", self.join(x_BTD, branch_BTD, output_norm, share))
        branch_BTD = self.mlp(shown(tap, "mlp_norm", self.mlp_norm)(x_BTD), within(tap, "mlp"))
        return tap("output", self.join(x_BTD, branch_BTD, shown(tap, "mlp_output_norm", self.mlp_output_norm), share))


def add(x_BTD: Tensor, branch_BTD: Tensor, norm: Norm, dropout: float) -> Tensor:
    """x + branch."""
    return x_BTD + F.dropout(branch_BTD, dropout)


def add_then_norm(x_BTD: Tensor, branch_BTD: Tensor, norm: Norm, dropout: float) -> Tensor:
    """norm(x + branch)."""
    return norm(x_BTD + F.dropout(branch_BTD, dropout))


def norm_then_add(x_BTD: Tensor, branch_BTD: Tensor, norm: Norm, dropout: float) -> Tensor:
    """x + norm(branch)."""
    return x_BTD + F.dropout(norm(branch_BTD), dropout)


JOIN = {"before": add, "after": add_then_norm, "around": norm_then_add}


def build_branch(config: ModelConfig, layer: int) -> AnyFeedForward | Mixture:
    """What a block computes for each position alone: a feed-forward, or a mixture of experts."""
    experts = config.feed_forward.experts
    if experts is not None and config.has_experts(layer):
        return Mixture(config, experts)
    return build_feed_forward(config)


def _norm(config: ModelConfig, *, there: bool) -> nn.Module:
    return build_norm(config.norm, config.d_model) if there else nn.Identity()


def shown(tap: Tap, name: str, norm: nn.Module) -> Norm:
    """The norm, which shows its output; where there is none, nothing is shown."""
    return norm if isinstance(norm, nn.Identity) else lambda x_BTD: tap(name, norm(x_BTD))
