"""The encoder beside a decoder: it reads the whole source at once, and the decoder's cross-attention reads what it makes.

    x = embed(source) (+ position)
    for each block: x = block(x)              every position sees every other
    memory = norm(x)

Its blocks are those of the decoder without cross-attention. The token embedding is the decoder's: both share it.

Axes: B batch · S source positions · D width.
Source: Vaswani et al. 2017 §3.1; Raffel et al. 2020 §2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from pellucid.model.block import Block, shown
from pellucid.model.context import Pass
from pellucid.model.norm import build_norm
from pellucid.model.position import build_relative
from pellucid.planning.config import EncoderConfig, ModelConfig

PATH = "encoder.blocks"


class SourceEncoder(nn.Module):
    """The blocks of the source side and the norm behind them."""

    def __init__(self, config: ModelConfig, axes: EncoderConfig) -> None:
        super().__init__()
        self.relative = build_relative(config, causal=False)
        blocks = nn.ModuleList(Block(config, layer, path=PATH) for layer in range(axes.n_layers))
        self.blocks = cast("Sequence[Block]", blocks)  # a type that ModuleList cannot state
        self.final_norm = build_norm(config.norm, config.d_model) if config.norm.last else nn.Identity()

    def forward(self, x_BSD: Tensor, this_pass: Pass) -> Tensor:
        """What the decoder reads, from the embedded source."""
        for block in self.blocks:
            x_BSD = block(x_BSD, this_pass)
        return shown(this_pass.tap, "encoder.final_norm", self.final_norm)(x_BSD)
