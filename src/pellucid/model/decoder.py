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
from pellucid.model.cache import ContiguousCache
from pellucid.model.context import Context, Pass
from pellucid.model.core import Core, LoweredMask, choose_core
from pellucid.model.dropout import Dropout
from pellucid.model.mask import Causal, Everything, Mask, Padding, Window, check_mask
from pellucid.model.norm import build_norm
from pellucid.model.output import Output
from pellucid.model.position import Positions, PositionTable, build_addition, build_rotation
from pellucid.model.rows import Rows
from pellucid.planning.config import ModelConfig


class Decoder(nn.Module):
    """A transformer that predicts the next token at every position (or, not causal, sees the whole row).

    Raises ContextError when a row would reach beyond `context_length`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # Not nn.Embedding(V, D): drawing its default start on the meta device would import torch's compiler.
        self.embed = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.d_model), freeze=False)
        self.position = build_addition(config)
        self.rotation = build_rotation(config)
        self.dropout = Dropout(config.dropout)
        blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.blocks = cast("Sequence[Block]", blocks)  # as which it does not know itself
        self.final_norm = build_norm(config.norm, config.d_model)
        self.head = TiedHead() if config.tied_head else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.mask: Mask = Causal() if config.causal else Everything()
        self.windows = tuple(dict.fromkeys(config.window_at(layer) for layer in range(config.n_layers)))

    def forward(self, ids_BT: Tensor, context: Context | None = None, *, last_only: bool = False) -> Output:
        """Scores at every position, or (`last_only`) at the last real one alone, which is all that a continuation needs.

        Without a context the rows are read plainly, with dropout only in training mode (`model.train()`).
        """
        context = Context(training=self.training) if context is None else context
        this_pass = self.open_pass(ids_BT, context)
        x_BTD = self._read(ids_BT, this_pass)
        logits_BTV = self.score(this_pass.rows.last(x_BTD) if last_only else x_BTD)
        return Output(logits_BTV=this_pass.tap("logits", logits_BTV))

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where ids must be."""
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return self.embed.weight.dtype

    @property
    def num_parameters(self) -> int:
        """How many numbers were trained; those that two parts share count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def head_weight(self) -> Tensor:
        """[V, D]: the row that scores each token; the embedding's own where the head is tied."""
        return self.head.weight if isinstance(self.head, nn.Linear) else self.embed.weight

    def new_cache(self, max_length: int, *, batch_size: int = 1) -> ContiguousCache:
        """An empty cache for rows of up to `max_length`, where the model lives, in its number format."""
        return ContiguousCache(
            self.config, batch_size=batch_size, max_length=max_length, device=self.device, dtype=self.dtype
        )

    def score(self, x_BTD: Tensor) -> Tensor:
        """Scores of every token, [B, T, V], for streams that the last norm has seen."""
        return self.head(x_BTD, self.embed.weight) if isinstance(self.head, TiedHead) else self.head(x_BTD)

    def hidden(self, ids_BT: Tensor, context: Context) -> Tensor:
        """The residual stream after the last norm, [B, T, D]: what the head reads."""
        return self._read(ids_BT, self.open_pass(ids_BT, context))

    def open_pass(self, ids_BT: Tensor, context: Context) -> Pass:
        """Work out once what all blocks share: where the rows stand, how they turn, and who sees whom."""
        cache, core = context.cache, context.core or choose_core(self.config.context_length, ids_BT.device)
        rows = Rows.of(ids_BT, None if cache is None else cache.lengths, context.lengths)
        self._check_length(rows)
        positions = _positions(rows, context)
        self.reserve_positions(rows.num_all)
        mask = self._mask(rows, context)
        check_mask(mask, rows)
        return Pass(
            rows=rows,
            positions=positions,
            turn=self.rotation(positions, self.dtype),
            core=core,
            masks={window: self._lower(core, mask, window, rows) for window in self.windows},
            cache=cache,
            tap=context.tap,
            training=context.training,
        )

    def reserve_positions(self, num_positions: int) -> None:
        """Make the tables of that many positions ahead of their use, as a compiled step needs."""
        for module in (self.position, self.rotation):
            if isinstance(module, PositionTable):
                module.reserve(num_positions)

    def _read(self, ids_BT: Tensor, this_pass: Pass) -> Tensor:
        tap = this_pass.tap
        x_BTD = self.position(tap("embed", self.embed(ids_BT)), this_pass.positions, tap)
        x_BTD = tap("input", self.dropout(x_BTD, training=this_pass.training))
        for block in self.blocks:
            x_BTD = block(x_BTD, this_pass)
        if this_pass.cache is not None:
            this_pass.cache.advance(this_pass.rows)
        return tap("final_norm", self.final_norm(x_BTD))

    def _lower(self, core: Core, mask: Mask, window: int | None, rows: Rows) -> LoweredMask:
        """The mask of the blocks with that window, as this core wants it."""
        mask = mask if window is None else mask & Window(size=window)
        return core.lower(mask, rows, n_heads=self.config.n_heads, n_kv_heads=self.config.n_kv_heads, dtype=self.dtype)

    def _mask(self, rows: Rows, context: Context) -> Mask:
        """Who sees whom. Where a row sees both ways, its own padding must be hidden from it; else it lies ahead."""
        if context.mask is not None:
            return context.mask
        if rows.full or isinstance(self.mask, Causal):
            return self.mask
        ends = [start + count for start, count in zip(rows.starts, rows.counts, strict=True)]
        return self.mask & Padding(lengths_B=torch.tensor(ends, device=rows.device))

    def _check_length(self, rows: Rows) -> None:
        if rows.num_all > self.config.context_length:
            raise ContextError(
                "the row is longer than the model's context",
                found=counted(rows.num_all, "token"),
                where=f"context_length={self.config.context_length}",
                hint="shorten the prompt, or train with a longer context_length",
            )


def _positions(rows: Rows, context: Context) -> Positions:
    if context.positions_BT is not None:
        return context.positions_BT
    if rows.start is not None:
        return slice(rows.start, rows.start + rows.num_new)
    return rows.places_BT()


class TiedHead(nn.Module):
    """Scores each token by how well the stream matches that token's own embedding."""

    def forward(self, x_BTD: Tensor, embed_VD: Tensor) -> Tensor:
        return F.linear(x_BTD, embed_VD)
