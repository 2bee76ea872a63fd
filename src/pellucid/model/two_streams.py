"""A model of two streams (XLNet): it predicts the tokens of a row in any order.

    content   h[t] = the token at t      sees every place of its own rank and lower           an encoder's stream
    query     g[p] = one learned vector  sees the content of every place of a lower rank      knows where it stands, not what

Both pass through the same blocks; only the content makes keys and values. A place that is asked for is scored from its query: so
it is predicted from whatever is known before it in the order, on either side. Without an order the content itself is scored:
that is what a place is known as, and no prediction.

What was read of earlier segments may be given (`Context.earlier`): every place sees it, and it counts as of the first segment.

Axes: B batch · T new places · P asked places · S all places, those of a memory first · D width · V vocabulary.
Source: Yang et al. 2019, "XLNet", §2.2 to §2.5 and appendix A.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.counts import counted
from pellucid.errors import ContextError, RequestError
from pellucid.model.block import shown
from pellucid.model.context import Context, Pass, ReadingOrder
from pellucid.model.core import LoweredMask
from pellucid.model.decoder import Decoder
from pellucid.model.distance_attention import Stream, columns_of, distance_sines
from pellucid.model.mask import Permutation, check_mask
from pellucid.model.output import Output
from pellucid.model.rows import Rows
from pellucid.model.segment_memory import SegmentMemory
from pellucid.model.tap import within
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import RelativeSines
from pellucid.planning.parts.streams import PATH


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedRows(Rows):
    """The layout of a batch of queries: single places, in any order."""

    asked_BP: Tensor

    def places_BT(self) -> Tensor:
        return self.asked_BP


class TwoStreams(Decoder):
    """A transformer that predicts asked places from all that is known before them in an order of its own.

    Raises ContextError for a segment that is longer than `context_length`, RequestError for what it cannot read.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.streams is not None and isinstance(config.position, RelativeSines), "checked by the config"
        self.farthest, self.most_held = config.position.farthest, config.streams.memory
        self.question = nn.Parameter(torch.empty(config.d_model))

    def forward(self, ids_BT: Tensor, context: Context | None = None, *, last_only: bool = False) -> Output:
        """The logits of the asked places, [B, P, V], in their order; without an order those of the content, [B, T, V]."""
        if last_only and context is not None and context.order is not None:
            raise RequestError("an order says itself which places are scored", found="last_only=True")
        return super().forward(ids_BT, context, last_only=last_only)

    def new_memory(self) -> SegmentMemory:
        """An empty memory of earlier segments, for the contexts of a text that is read segment by segment."""
        return SegmentMemory(self.most_held)

    def open_pass(self, ids_BT: Tensor, context: Context) -> Stream:
        """What the blocks share for the content stream."""
        _check_context(ids_BT, context)
        earlier, (num_rows, num_new) = context.earlier, ids_BT.shape
        num_held = 0 if earlier is None else earlier.length
        # A place that is only asked for holds no token.
        if num_new > self.config.context_length + (context.order is not None):
            raise ContextError(
                "the segment is longer than the model's context",
                found=counted(num_new, "token"),
                where=f"context_length={self.config.context_length}",
                hint="read it as several segments, each with Context(earlier=…)",
            )
        rows = Rows.of(ids_BT, [num_held] * num_rows, context.lengths)
        mask = self._mask(rows, context, self.mask)
        if context.order is not None:
            mask = mask & Permutation(ranks_BS=_ranks_of_all(context.order, num_held), itself=True)
        check_mask(mask, rows)
        sines_RD = distance_sines(num_new, rows.num_all, self.config.d_model, self.farthest)
        return Stream(
            rows=rows,
            positions=slice(num_held, rows.num_all),
            turns={},
            core=context.core or self.choose_core(ids_BT.device, self.dtype, learns=context.training),
            masks={},
            segments_BT=None,
            memory=None,
            source_mask=LoweredMask(),
            cache=None,
            tap=context.tap,
            training=context.training,
            mask=mask,
            sines_RD=sines_RD.to(device=self.device, dtype=self.dtype),
            columns_BPS=None,
            other_BPS=_other_segments(context.segments_BT, num_held),
            earlier=earlier,
            order=context.order,
        )

    def _read(self, ids_BT: Tensor, this_pass: Pass) -> Tensor:
        assert isinstance(this_pass, Stream), "opened above"
        x_BTD = self._through(self._embed(ids_BT, this_pass), this_pass)
        if this_pass.earlier is not None:
            this_pass.earlier.advance()
        if this_pass.order is not None:
            x_BTD = self._through(*self._ask(this_pass.order, this_pass))
        return shown(this_pass.tap, "final_norm", self.final_norm)(x_BTD)

    def _ask(self, order: ReadingOrder, content: Stream) -> tuple[Tensor, Stream]:
        """What the queries begin with, [B, P, D], and what the blocks share for them."""
        rows, places_BP = content.rows, order.places_BP
        num_held = rows.num_all - rows.num_new
        rows_BP = AskedRows(**{**vars(rows), "num_new": places_BP.size(1)}, asked_BP=places_BP + num_held)
        other_BTS, num_all = content.other_BPS, rows.num_all
        index_BPS = places_BP[..., None].expand(-1, -1, num_all)
        asked = replace(
            content,
            rows=rows_BP,
            mask=content.mask & Permutation(ranks_BS=_ranks_of_all(order, num_held), itself=False),
            columns_BPS=columns_of(places_BP, rows.num_new, num_all),
            other_BPS=None if other_BTS is None else other_BTS.gather(1, index_BPS),
            earlier=None,
            tap=within(content.tap, PATH.removesuffix(".")),
        )
        x_BPD = self.question.expand(*places_BP.shape, -1)
        return asked.tap("input", F.dropout(x_BPD, self.config.dropout if content.training else 0.0)), asked


def _ranks_of_all(order: ReadingOrder, num_held: int) -> Tensor:
    """The rank of every place, [B, S]: what is held comes before everything."""
    return F.pad(order.ranks_BT, (num_held, 0), value=-1)


def _other_segments(segments_BT: Tensor | None, num_held: int) -> Tensor | None:
    """Whether two places lie in different segments, [B, T, S]; what is held counts as of the first."""
    if segments_BT is None:
        return None
    return segments_BT[..., None] != F.pad(segments_BT, (num_held, 0))[:, None]


def _check_context(ids_BT: Tensor, context: Context) -> None:
    """Raise RequestError for what a model of two streams cannot read."""
    told = (context.cache, context.memory, context.positions_BT, context.rows)
    if any(part is not None for part in told):
        raise RequestError(
            "a model of two streams reads whole rows: it has no cache, no source and no positions but the places",
            hint="give Context(earlier=model.new_memory()) to read a text segment by segment",
        )
    earlier, segments_BT = context.earlier, context.segments_BT
    if earlier is not None and context.lengths is not None:
        raise RequestError(
            "padding cannot be held for the next segment", found="lengths and earlier", hint="fill the rows"
        )
    if earlier is not None and earlier.length and len(earlier.held[0]) != len(ids_BT):
        found = f"{len(earlier.held[0])} rows held, {len(ids_BT)} rows of ids"
        raise RequestError("the memory of earlier segments is of other rows", found=found)
    if segments_BT is not None and segments_BT.shape != ids_BT.shape:
        found = f"segments {tuple(segments_BT.shape)}, ids {tuple(ids_BT.shape)}"
        raise RequestError("each id belongs to one segment", found=found)
    if context.order is not None:
        context.order.check(ids_BT)
