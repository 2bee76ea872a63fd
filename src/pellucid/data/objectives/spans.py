"""Span corruption: hide spans of a text behind sentinels, and write down what each of them held.

    text      the cat sat on the mat and slept
    source    the <X> on the mat <Y> slept                15 % of the tokens hidden, in spans of 3 on average
    targets   <X> cat sat <Y> and <Z> <eos>               each sentinel, then what it stands for; the last one ends the list
    loss = Σ weight · (-ln p(target | source, targets before it)) / Σ weight

The encoder reads the source, the decoder writes the targets (`seq2seq`). Source and targets together give the text back.
The sentinels of a row are <X>, <Y>, <Z>, … in the order of their numbers (the role `sentinel`). What is hidden is drawn
for each row of the run, so a text that is read again is hidden otherwise.

How spans are drawn: so many tokens are hidden and make so many spans as the shares say; the cuts between spans are drawn
among the hidden tokens, and the spans are put into different gaps between the tokens that stay. T5's own program begins
each row with text that stays and ends it with a span; here every place may be hidden. A special token is never hidden: a
span that reaches one ends before it. It is *not* masked language modelling: what is hidden is written, not filled in.

Axes: B rows · S places of a source · T places of a target · N tokens of text in a row.
Source: Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text transformer", §3.1.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.batch import TokenRows
from pellucid.data.draws import uniform_draws
from pellucid.data.loader import ROUND_UP, width_for
from pellucid.data.objectives.protocol import RowKey
from pellucid.data.objectives.seq2seq import (
    ReadsSource,
    SourceBatch,
    check_end,
    shifted,
    source_loss,
    source_measures,
)
from pellucid.data.objectives.settings import SpanSettings
from pellucid.errors import TokenizerError
from pellucid.tokens.prompt import decoder_start
from pellucid.tokens.text_ids import text_ids
from pellucid.tokens.tokenizer import Tokenizer

CUTS, GAPS = range(2)  # streams of draws: where hidden tokens are cut into spans, where the spans go


@dataclass(frozen=True, kw_only=True, eq=False)
class SpansObjective:
    """Write down the hidden spans of a text.

    >>> objective = SpansObjective(
    ...     settings=SpanSettings(share=0.5, mean_length=2.0),
    ...     sentinel_ids=(8, 9), start_id=1, end_id=1, is_text_V=np.arange(10) < 8,
    ... )
    >>> rows = TokenRows(
    ...     ids_BS=torch.tensor([[4, 5, 6, 7, 0]]), weights_BS=torch.ones(1, 5), lengths_B=torch.tensor([5]),
    ...     first_token_B=torch.tensor([0]), index_B=torch.tensor([0]),
    ... )
    >>> batch = objective.batch(rows, RowKey(seed=0, purpose="an example"))
    >>> batch.source_BS[0, : batch.source_lengths_B].tolist(), batch.targets_BT[0, :5].tolist()
    ([4, 5, 8], [8, 6, 7, 9, 1])
    """

    name: ClassVar[str] = "spans"
    is_likelihood: ClassVar[bool] = False
    asks_more: ClassVar[bool] = True
    with_others: ClassVar[bool] = False

    settings: SpanSettings
    sentinel_ids: tuple[int, ...]  # in the order in which a row uses them
    start_id: int  # what the decoder reads first
    end_id: int  # <eos>
    is_text_V: NDArray[np.bool_]  # which ids stand for text; no other is hidden

    @classmethod
    def of(cls, settings: SpanSettings, tokenizer: Tokenizer) -> Self:
        """The objective for text of a tokenizer.

        Raises TokenizerError for one without sentinels or an end of text, or with nothing for a decoder to begin with.
        """
        check_end(tokenizer)
        assert tokenizer.eos_id is not None, "just checked"
        sentinel_ids = tokenizer.roles.get("sentinel", ())
        if not sentinel_ids:
            raise TokenizerError(
                "the tokenizer has no sentinels, which stand for hidden spans",
                found=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, none with the role sentinel",
                hint="add --set tokenizer.specials=sentinels",
            )
        objective = cls(
            settings=settings,
            sentinel_ids=sentinel_ids,
            start_id=decoder_start(tokenizer),
            end_id=tokenizer.eos_id,
            is_text_V=text_ids(tokenizer),
        )
        objective._check_sentinels(2)  # the shortest row that hides something
        return objective

    def batch(self, rows: TokenRows, key: RowKey) -> SourceBatch:
        """Sources with sentinels, and what the sentinels stand for. The last column is left out: the next row has it.

        Raises TokenizerError for rows so long that the sentinels do not suffice.
        """
        ids_BT, told_BT = rows.ids_BS[:, :-1], rows.weights_BS[:, :-1]
        self._check_sentinels(ids_BT.size(1))
        parts = []
        for ids_T, told_T, length, row_key in zip(
            ids_BT, told_BT, rows.lengths_B, key.of_each(rows.index_B), strict=True
        ):
            parts.append(self._split(ids_T[:length].numpy(), told_T[:length].numpy(), row_key))
        sources, targets, weights = zip(*parts, strict=True)
        targets_BT, weights_BT = padded(targets, torch.int64), padded(weights, torch.float32)
        return SourceBatch(
            ids_BT=shifted(targets_BT, self.start_id),
            targets_BT=targets_BT,
            weights_BT=weights_BT,
            total_weight=weights_BT.sum().clamp(min=1.0),
            source_BS=padded(sources, torch.int64),
            source_lengths_B=torch.tensor([len(source) for source in sources]),
        )

    def loss(self, model: ReadsSource, batch: SourceBatch) -> Tensor:
        """The mean nll of sentinels and hidden tokens, in nats: this micro-batch's share of the update's loss."""
        return source_loss(model, batch)

    def measure(self, model: ReadsSource, batch: SourceBatch) -> Mapping[str, Tensor]:
        """At each place of the targets, [B, T]: the nll, in nats, and whether the target is the model's likeliest token."""
        return source_measures(model, batch)

    def _check_sentinels(self, length: int) -> None:
        needed = 1 + num_spans(length, self.settings)[1]
        if len(self.sentinel_ids) < needed:
            raise TokenizerError(
                "the tokenizer has too few sentinels for hidden spans",
                found=f"{len(self.sentinel_ids)} with the role sentinel, {needed} needed for rows of {length:,} tokens",
                hint="add --set tokenizer.specials=sentinels, hide less (objective.share), or take a shorter context",
            )

    def _split(
        self, ids_T: NDArray[np.int64], told_T: NDArray[np.float32], key: np.uint64
    ) -> tuple[list[int], list[int], list[float]]:
        """The source of a row, its targets, and their weights; in a row without a span no target counts."""
        spans = draw_spans(self.is_text_V[ids_T] & (told_T > 0), self.settings, key)
        ids, told = ids_T.tolist(), told_T.tolist()
        source, target, weight, done = list[int](), list[int](), list[float](), 0
        for sentinel, (start, stop) in zip(self.sentinel_ids, spans, strict=False):  # there are more sentinels
            source += [*ids[done:start], sentinel]
            target += [sentinel, *ids[start:stop]]
            weight += [1.0, *told[start:stop]]
            done = stop
        ends = 1.0 if spans else 0.0
        return source + ids[done:], [*target, self.sentinel_ids[len(spans)], self.end_id], [*weight, ends, ends]


def num_spans(num_tokens: int, settings: SpanSettings) -> tuple[int, int]:
    """How many tokens of a text are hidden, and in how many spans; none of a text of one token.

    >>> num_spans(512, SpanSettings())
    (77, 26)
    """
    if num_tokens < 2:
        return 0, 0
    hidden = min(max(1, round(num_tokens * settings.share)), num_tokens - 1)
    return hidden, min(max(1, round(hidden / settings.mean_length)), hidden, num_tokens - hidden + 1)


def draw_spans(may_T: NDArray[np.bool_], settings: SpanSettings, key: np.uint64) -> list[tuple[int, int]]:
    """The spans of a row that are hidden, [start, stop), in order; only places that may be are hidden."""
    place_N = np.flatnonzero(may_T)
    hidden, count = num_spans(len(place_N), settings)
    if not count:
        return []
    edges = [0, *(_lowest(key, CUTS, hidden - 1, count - 1) + 1).tolist(), hidden]
    stay_before = _lowest(key, GAPS, len(place_N) - hidden + 1, count)
    spans = []
    for stay, (first, after) in zip(stay_before.tolist(), pairwise(edges), strict=True):
        places = place_N[stay + first : stay + after]
        together = places - places[0] == np.arange(len(places))  # until a token that must not be hidden
        spans.append((int(places[0]), int(places[together][-1]) + 1))
    return spans


def _lowest(key: np.uint64, stream: int, choices: int, count: int) -> NDArray[np.int64]:
    """So many different numbers below `choices`, in order, each set of them as likely as the next."""
    draws_N = uniform_draws(np.array([key], np.uint64), stream, choices)[0]
    return np.sort(np.argsort(draws_N, kind="stable")[:count])


def padded(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    """Rows of several lengths as one tensor, 0 behind the end of each; its width is a multiple of 8.

    >>> padded([[5, 6], [7]], torch.int64).shape
    torch.Size([2, 8])
    """
    longest = max(map(len, rows))
    result = torch.zeros(len(rows), width_for(longest, longest + ROUND_UP), dtype=dtype)
    for row, values in enumerate(rows):
        result[row, : len(values)] = torch.tensor(values, dtype=dtype)
    return result
