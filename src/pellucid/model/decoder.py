"""The decoder-only transformer: ids in, scores (logits) for the next token out.

    x = embed(ids) (+ position) (+ segment)
    for each block: x = block(x)
    logits = norm(x) · headᵀ

It knows tensors only: no text, no files, no family names.

Axes: B batch · T new positions · D width · V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.counts import counted
from pellucid.errors import ContextError, RequestError
from pellucid.model.block import Block, shown
from pellucid.model.cache import ContiguousCache
from pellucid.model.context import Context, EncodedSource, Pass
from pellucid.model.core import Core, CoreChoice, LoweredMask
from pellucid.model.embedding import read_rows
from pellucid.model.encoder import SourceEncoder
from pellucid.model.head import Head, build_cap, build_transform
from pellucid.model.mask import Causal, Everything, Mask, Near, Padding, Window, check_mask
from pellucid.model.norm import build_norm
from pellucid.model.output import Output, Pooled
from pellucid.model.pooler import Pooler
from pellucid.model.position import (
    AnyRelative,
    AnyRotation,
    Positions,
    PositionTable,
    Rotations,
    build_addition,
    build_relative,
    build_segments,
)
from pellucid.model.rows import Rows
from pellucid.model.tap import Tap, no_tap, within
from pellucid.planning.config import ModelConfig

ID_TYPES = (torch.int64, torch.int32)


class Decoder(nn.Module):
    """A transformer that predicts the next token at every position (or, not causal, sees the whole row).

    Raises ContextError when a row would reach beyond `context_length`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # Not nn.Embedding(V, D): drawing its default start on the meta device would import torch's compiler.
        self.embed = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.d_model), freeze=False)
        self.embed_scale = math.sqrt(config.d_model) if config.embedding.scaled else 1.0
        self.position = build_addition(config)
        self.segment = build_segments(config)
        self.embed_norm = build_norm(config.norm, config.d_model) if config.embedding.norm else nn.Identity()
        self.rotations = Rotations(config)
        self.relative = build_relative(config, causal=config.causal)
        self.encoder = None if config.encoder is None else SourceEncoder(config, config.encoder)
        cross = config.encoder is not None
        blocks = nn.ModuleList(Block(config, layer, cross=cross) for layer in range(config.n_layers))
        self.blocks = cast("Sequence[Block]", blocks)  # a type that ModuleList cannot state
        self.final_norm = build_norm(config.norm, config.d_model) if config.norm.last else nn.Identity()
        self.transform = build_transform(config)
        self.pooler = None if config.pooler is None else Pooler(config, config.pooler)
        self.head = Head(config)
        self.cap = build_cap(config)
        self.mask: Mask = Causal() if config.causal else Everything()
        self.windows = tuple(dict.fromkeys(config.window_at(layer) for layer in range(config.n_layers)))
        self.choose_core = CoreChoice.of(config)

    def forward(self, ids_BT: Tensor, context: Context | None = None, *, last_only: bool = False) -> Output:
        """The logits at every position, or with `last_only` at the last real one alone: generation needs no others.

        Without a context this is a plain pass over whole rows, with dropout only in training mode (`model.train()`).
        Raises RequestError for what is not a table of ids, and for a model that scores no tokens.
        """
        _check_ids(ids_BT)
        if not self.config.head.tokens:
            hint = "model.pooled(ids) gives what is known of a row, model.hidden(ids, context) a vector for each token"
            raise RequestError("this model scores no tokens: it gives vectors", found="head.tokens=False", hint=hint)
        context = Context(training=self.training) if context is None else context
        this_pass = self.open_pass(ids_BT, context)
        x_BTD = self._read(ids_BT, this_pass)
        pooled = None if self.pooler is None or last_only else self.pooler(x_BTD, this_pass.rows, this_pass.tap)
        logits_BTV = self.score(this_pass.rows.last(x_BTD) if last_only else x_BTD, this_pass.tap)
        return Output(logits_BTV=this_pass.tap("logits", logits_BTV), pooled=pooled)

    def pooled(self, ids_BT: Tensor, context: Context | None = None) -> Pooled:
        """What is known of each row as a whole: its vector, and the scores that are read off it.

        Raises RequestError for a model without a pooler, and for what is not a table of ids.
        """
        _check_ids(ids_BT)
        if self.pooler is None:
            hint = "lm.embed(texts) makes one of its tokens' vectors"
            raise RequestError("this model has no vector for a whole row", found="no pooler", hint=hint)
        context = Context(training=self.training) if context is None else context
        this_pass = self.open_pass(ids_BT, context)
        pooled: Pooled = self.pooler(self._read(ids_BT, this_pass), this_pass.rows, this_pass.tap)
        return pooled

    @property
    def device(self) -> torch.device:
        """The device that the weights are on; ids must be there too."""
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return self.embed.weight.dtype

    @property
    def num_parameters(self) -> int:
        """How many parameters the model has; a tensor that two parts share counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def head_weight(self) -> Tensor:
        """The output head, [V, D]: one row scores one token. A tied head is the embedding's own table."""
        return self.embed.weight if self.head.weight is None else self.head.weight

    @property
    def rotation(self) -> AnyRotation:
        """The rotation of queries and keys in the first block."""
        return self.rotations.at(0)

    def new_cache(self, max_length: int, *, batch_size: int = 1) -> ContiguousCache:
        """An empty key-value cache for rows of up to `max_length`, on the model's device, in its number format."""
        return ContiguousCache(
            self.config, batch_size=batch_size, max_length=max_length, device=self.device, dtype=self.dtype
        )

    def score(self, x_BTD: Tensor, tap: Tap = no_tap) -> Tensor:
        """The logits of every token, [B, T, V], from the residual stream after the last norm."""
        if not isinstance(self.transform, nn.Identity):
            x_BTD = tap("transform", self.transform(x_BTD))
        x_BTD = x_BTD if self.head.scale == 1.0 else x_BTD * self.head.scale
        logits_BTV: Tensor = self.cap(F.linear(x_BTD, self.head_weight, self.head.bias))
        return logits_BTV

    def hidden(self, ids_BT: Tensor, context: Context) -> Tensor:
        """The residual stream after the last norm, [B, T, D]: what the head reads."""
        return self._read(ids_BT, self.open_pass(ids_BT, context))

    def encode(self, source_BS: Tensor, context: Context | None = None) -> EncodedSource:
        """What the encoder makes of the source: the `memory` of a context for the decoder.

        Of the context only `lengths`, `core`, `tap` and `training` count. Raises RequestError for a model without an encoder.
        """
        if self.encoder is None:
            raise RequestError("this model has no encoder: it reads one text", hint="give the ids to the model itself")
        _check_ids(source_BS)
        context = Context(training=self.training) if context is None else context
        this_pass = self._open(source_BS, context, Everything(), self.encoder.relative)
        source_BSD = self.encoder(self._embed(source_BS, this_pass, "encoder."), this_pass)
        return EncodedSource(source_BSD=source_BSD, lengths=context.lengths)

    def open_pass(self, ids_BT: Tensor, context: Context) -> Pass:
        """Compute once what all blocks share: the layout of the rows, the rotation by position, and the masks."""
        if (self.encoder is None) != (context.memory is None):
            found = "no memory" if context.memory is None else "a memory"
            hint = "give Context(memory=model.encode(source)) to a model with an encoder, and only there"
            raise RequestError("a decoder reads a memory where there is an encoder", found=found, hint=hint)
        if context.order is not None or context.earlier is not None:
            raise RequestError(
                "this model has one stream: it knows no order and no earlier segments",
                hint="leave order and earlier out, or take a model of two streams (XLNet)",
            )
        return self._open(ids_BT, context, self.mask, self.relative)

    def _open(self, ids_BT: Tensor, context: Context, own: Mask, relative: AnyRelative) -> Pass:
        """What all blocks of a pass share; `own`, `relative`: the mask and what is added to scores on this side."""
        chosen = self.choose_core(ids_BT.device, self.dtype, learns=context.training)
        cache, core = context.cache, context.core or chosen
        rows = context.rows or Rows.of(ids_BT, None if cache is None else cache.lengths, context.lengths)
        self._check_length(rows)
        positions = self._positions(rows, context.positions_BT)
        mask = self._mask(rows, context, own)
        check_mask(mask, rows)
        added_BHTS = relative(rows.places_BT()[..., None], torch.arange(rows.num_all, device=rows.device))
        return Pass(
            rows=rows,
            positions=positions,
            turns=self.rotations(positions, self.dtype),
            core=core,
            masks={window: self._lower(core, mask, window, rows, added_BHTS) for window in self.windows},
            segments_BT=context.segments_BT,
            memory=context.memory,
            source_mask=self._source_mask(core, rows, context.memory),
            cache=cache,
            tap=context.tap,
            training=context.training,
        )

    def reserve_positions(self, num_positions: int) -> None:
        """Fill the position tables for so many positions ahead of their use, as a compiled step needs."""
        for module in (self.position, *self.rotations.modules()):
            if isinstance(module, PositionTable):
                module.reserve(num_positions)

    def _read(self, ids_BT: Tensor, this_pass: Pass) -> Tensor:
        x_BTD = self._through(self._embed(ids_BT, this_pass), this_pass)
        if this_pass.cache is not None:
            this_pass.cache.advance(this_pass.rows)
        return shown(this_pass.tap, "final_norm", self.final_norm)(x_BTD)

    def _through(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        """The stream behind the last block."""
        for block in self.blocks:
            x_BTD = block(x_BTD, this_pass)
        return x_BTD

    def _embed(self, ids_BT: Tensor, this_pass: Pass, path: str = "") -> Tensor:
        """What the first block reads, [B, T, D]; `path`: what the names of the tensors begin with."""
        tap = within(this_pass.tap, path.removesuffix(".")) if path else this_pass.tap
        in_program = torch.compiler.is_compiling() and ids_BT.is_cuda
        embed_BTD = read_rows(self.embed.weight, ids_BT) if in_program else self.embed(ids_BT)
        embed_BTD = embed_BTD if self.embed_scale == 1.0 else embed_BTD * self.embed_scale
        x_BTD = self.position(tap("embed", embed_BTD), this_pass.positions, tap)
        x_BTD = shown(tap, "embed_norm", self.embed_norm)(self.segment(x_BTD, this_pass.segments_BT, tap))
        return tap("input", F.dropout(x_BTD, self.config.dropout if this_pass.training else 0.0))

    def _source_mask(self, core: Core, rows: Rows, memory: EncodedSource | None) -> LoweredMask:
        """The mask of cross-attention: everything but the padding of the source."""
        if memory is None or memory.lengths is None:
            return LoweredMask()
        lengths_B = torch.tensor(memory.lengths, device=rows.device)
        looked_at = dataclasses.replace(rows, num_all=memory.source_BSD.size(1))
        mask = Padding(lengths_B=lengths_B)
        heads, kv_heads = self.config.n_heads, self.config.n_kv_heads
        return core.lower(mask, looked_at, n_heads=heads, n_kv_heads=kv_heads, dtype=self.dtype)

    def _lower(self, core: Core, mask: Mask, window: int | None, rows: Rows, added_BHTS: Tensor | None) -> LoweredMask:
        """The mask of the blocks with that window, in the form that this core needs."""
        if window is not None:
            mask = mask & (Window(size=window) if self.config.causal else Near(size=window))
        heads, kv_heads = self.config.n_heads, self.config.n_kv_heads
        return core.lower(mask, rows, n_heads=heads, n_kv_heads=kv_heads, dtype=self.dtype, added_BHTS=added_BHTS)

    def _mask(self, rows: Rows, context: Context, own: Mask) -> Mask:
        """The mask of a pass. Padding lies at the end: a causal row never sees it, any other needs a padding mask."""
        if context.mask is not None:
            return context.mask
        if rows.full or isinstance(own, Causal):
            return own
        ends = [start + count for start, count in zip(rows.starts, rows.counts, strict=True)]
        return own & Padding(lengths_B=torch.tensor(ends, device=rows.device))

    def _positions(self, rows: Rows, given_BT: Tensor | None) -> Positions:
        """Where the new ids stand: at their places in the row, or as given. The tables reach so far afterwards."""
        if given_BT is None:
            self.reserve_positions(rows.num_all)
            return rows.places_BT() if rows.start is None else slice(rows.start, rows.start + rows.num_new)
        if tuple(given_BT.shape) not in ((rows.num_rows, rows.num_new), (1, rows.num_new)):
            found, where = f"positions {tuple(given_BT.shape)}", f"ids ({rows.num_rows}, {rows.num_new})"
            raise RequestError("each new id has one position", found=found, where=where)
        if not given_BT.is_meta:
            low, high = int(given_BT.min()), int(given_BT.max())
            if low < 0 or high >= self.config.context_length:
                found, where = f"positions from {low} to {high}", f"context_length={self.config.context_length}"
                hint = "count positions from 0; where padding stands, any of them will do"
                raise ContextError("a position lies outside the model's context", found=found, where=where, hint=hint)
            self.reserve_positions(high + 1)
        return given_BT

    def _check_length(self, rows: Rows) -> None:
        if rows.num_all > self.config.context_length:
            raise ContextError(
                "the row is longer than the model's context",
                found=counted(rows.num_all, "token"),
                where=f"context_length={self.config.context_length}",
                hint="shorten the text, or train with a longer context_length",
            )


def _check_ids(given: object) -> None:
    """Raise RequestError for an input that is no table of ids."""
    if isinstance(given, Tensor) and given.ndim == 2 and given.dtype in ID_TYPES:
        return
    kind = f"a tensor of {given.ndim} axes, {given.dtype}" if isinstance(given, Tensor) else type(given).__name__
    hint = "give torch.tensor([[5, 6, 7]]): one row of ids, and model.device as its device"
    raise RequestError("the model reads a tensor of ids, [batch, positions]", found=kind, hint=hint)
