"""The decoder: ids in, scores for the next token out.

    x = embed(ids) (+ position)
    for each block: x = block(x)
    logits = norm(x) · headᵀ

It knows tensors only: no text, no files, no family names.

Axes: B batch · T new positions · D width · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.counts import counted
from pellucid.errors import ContextError
from pellucid.model.block import Block
from pellucid.model.cache import KVCache
from pellucid.model.norm import build_norm
from pellucid.model.output import Output
from pellucid.model.position import PositionTable, build_addition, build_rotation
from pellucid.planning.config import ModelConfig


class Decoder(nn.Module):
    """A transformer that predicts the next token at every position (or, not causal, sees the whole row).

    Raises ContextError when a row would reach beyond `context_length`.
    """

    def __init__(self, config: ModelConfig, *, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config = config
        # Not nn.Embedding(V, D): drawing its default start on the meta device would import torch's compiler.
        self.embed = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.d_model), freeze=False)
        self.position = build_addition(config)
        self.rotation = build_rotation(config)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        blocks = nn.ModuleList(Block(config, layer, device) for layer in range(config.n_layers))
        self.blocks = cast("Sequence[Block]", blocks)  # as which it does not know itself
        self.final_norm = build_norm(config.norm, config.d_model)
        self.head = TiedHead() if config.tied_head else nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(self, ids_BT: Tensor, *, cache: KVCache | None = None, last_only: bool = False) -> Output:
        """Scores at every position, or (`last_only`) at the last one alone, which is all that a continuation needs."""
        x_BTD = self.hidden(ids_BT, cache=cache)
        x_BTD = x_BTD[:, -1:] if last_only else x_BTD
        return Output(logits_BTV=self.score(x_BTD))

    @property
    def head_weight(self) -> Tensor:
        """[V, D]: the row that scores each token; the embedding's own where the head is tied."""
        return self.head.weight if isinstance(self.head, nn.Linear) else self.embed.weight

    def score(self, x_BTD: Tensor) -> Tensor:
        """Scores of every token, [B, T, V], for streams that the last norm has seen."""
        return self.head(x_BTD, self.embed.weight) if isinstance(self.head, TiedHead) else self.head(x_BTD)

    def reserve_positions(self, num_positions: int) -> None:
        """Make the tables of that many positions ahead of their use, as a compiled step needs."""
        for module in (self.position, self.rotation):
            if isinstance(module, PositionTable):
                module.reserve(num_positions)

    def hidden(self, ids_BT: Tensor, *, cache: KVCache | None = None) -> Tensor:
        """The residual stream after the last norm, [B, T, D]: what the head reads."""
        num_new, offset = ids_BT.size(1), 0 if cache is None else cache.length
        if offset + num_new > self.config.context_length:
            raise ContextError(
                "the row is longer than the model's context",
                found=counted(offset + num_new, "token"),
                where=f"context_length={self.config.context_length}",
                hint="shorten the prompt, or train with a longer context_length",
            )
        x_BTD = self.dropout(self.position(self.embed(ids_BT), offset))
        for block in self.blocks:
            x_BTD = block(x_BTD, self.rotation, offset, cache)
        if cache is not None:
            cache.advance(num_new)
        return self.final_norm(x_BTD)


class TiedHead(nn.Module):
    """Scores each token by how well the stream matches that token's own embedding."""

    def forward(self, x_BTD: Tensor, embed_VD: Tensor) -> Tensor:
        return F.linear(x_BTD, embed_VD)
