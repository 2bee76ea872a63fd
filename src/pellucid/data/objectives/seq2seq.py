"""Sequence to sequence: read a source, and write its target token by token (a translation, an answer, a summary).

    source    the  cat  sleeps <eos>                 the encoder sees all of it
    ids     <start> 小    猫    睡觉   。             the decoder sees what stands before
    targets    小   猫   睡觉   。   <eos>
    loss = Σ weight · (-ln p(target | source, targets before it)) / Σ weight

The decoder begins with a token of its own, since nothing precedes its first target: the role `decoder_start`, or the
padding token, with which T5 and Marian begin. Sources and targets are padded at the end; the model is told the lengths
of the sources, and no target that counts ever sees padding behind it.

Axes: B rows · S places of a source · T places of a target · V vocabulary.
Source: Sutskever et al. 2014, "Sequence to sequence learning with neural networks"; Vaswani et al. 2017, §3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from pellucid.data.batch import Batch, PairRows, TokenRows
from pellucid.data.objectives.causal import nll, weighted_loss
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey, Scores
from pellucid.errors import SettingsError, TokenizerError
from pellucid.tokens.prompt import decoder_start
from pellucid.tokens.tokenizer import Tokenizer


class ReadsSource(Protocol):
    """A model that reads a source both ways and scores, at each place of a target, every token for the next.

    The first `source_lengths_B` ids of each source are real; the rest is padding, and must not be seen.
    """

    def __call__(self, ids_BT: Tensor, /, *, source_BS: Tensor, source_lengths_B: Tensor) -> Scores: ...


@dataclass(frozen=True, kw_only=True)
class SourceBatch(Batch):
    """What the decoder reads and predicts, and what the encoder reads."""

    source_BS: Tensor  # int64; any id at padding
    source_lengths_B: Tensor  # int64: the real ids of each source


@dataclass(frozen=True, kw_only=True)
class Seq2SeqObjective:
    """Write the target of a source.

    >>> rows = PairRows(
    ...     ids_BS=torch.tensor([[0, 7, 8, 1]]),
    ...     weights_BS=torch.tensor([[0.0, 1.0, 1.0, 1.0]]),
    ...     lengths_B=torch.tensor([4]),
    ...     first_token_B=torch.tensor([0]),
    ...     index_B=torch.tensor([0]),
    ...     source_BS=torch.tensor([[0, 5, 6, 1]]),
    ...     source_lengths_B=torch.tensor([4]),
    ... )
    >>> batch = Seq2SeqObjective(start_id=2, skips_first=True).batch(rows, RowKey(seed=0, purpose="an example"))
    >>> batch.source_BS.tolist(), batch.ids_BT.tolist(), batch.targets_BT.tolist()
    ([[0, 5, 6, 1]], [[2, 7, 8]], [[7, 8, 1]])
    """

    name: ClassVar[str] = "seq2seq"
    is_likelihood: ClassVar[bool] = False  # of the text: it is that of a target, given its source
    asks_more: ClassVar[bool] = True
    with_others: ClassVar[bool] = False

    start_id: int  # what the decoder reads first
    skips_first: bool  # whether a target begins with a <bos>, in whose place the decoder reads its start

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """The objective for text of a tokenizer.

        Raises TokenizerError for one that marks no end of a text, or has nothing for a decoder to begin with.
        """
        check_end(tokenizer)
        return cls(start_id=decoder_start(tokenizer), skips_first=tokenizer.bos_id is not None)

    def batch(self, rows: TokenRows, key: RowKey) -> SourceBatch:
        """Sources, and targets shifted by one token; nothing is random. Raises SettingsError for rows that are no pairs."""
        if not isinstance(rows, PairRows):
            raise SettingsError(
                "this objective learns from pairs of texts", found="rows of one text each", hint="take objective=causal"
            )
        first = int(self.skips_first)
        targets_BT, weights_BT = rows.ids_BS[:, first:].contiguous(), rows.weights_BS[:, first:].contiguous()
        return SourceBatch(
            ids_BT=shifted(targets_BT, self.start_id),
            targets_BT=targets_BT,
            weights_BT=weights_BT,
            total_weight=weights_BT.sum().clamp(min=1.0),
            source_BS=rows.source_BS,
            source_lengths_B=rows.source_lengths_B,
        )

    def loss(self, model: ReadsSource, batch: SourceBatch) -> Tensor:
        """The mean nll of the target's tokens, in nats: this micro-batch's share of the update's loss."""
        return source_loss(model, batch)

    def measure(self, model: ReadsSource, batch: SourceBatch) -> Mapping[str, Tensor]:
        """At each place of a target, [B, T]: the nll of its token, in nats, and whether it is the model's likeliest."""
        return source_measures(model, batch)


def source_loss(model: ReadsSource, batch: SourceBatch) -> Tensor:
    """The loss of the targets, given their sources."""
    return weighted_loss(_read(model, batch), batch.targets_BT, batch.weights_BT, batch.total_weight)


def source_measures(model: ReadsSource, batch: SourceBatch) -> Mapping[str, Tensor]:
    """The measures of the targets, given their sources."""
    logits_BTV = _read(model, batch)
    right_BT = (logits_BTV.argmax(-1) == batch.targets_BT).float()
    return {LOSS: nll(logits_BTV, batch.targets_BT), ACCURACY: right_BT}


def shifted(targets_BT: Tensor, start_id: int) -> Tensor:
    """What a decoder reads to predict the targets: the start, then each target but the last.

    >>> shifted(torch.tensor([[7, 8, 1]]), 2).tolist()
    [[2, 7, 8]]
    """
    start_B1 = torch.full_like(targets_BT[:, :1], start_id)
    return torch.cat([start_B1, targets_BT[:, :-1]], dim=1)


def check_end(tokenizer: Tokenizer) -> None:
    """Raise TokenizerError for a tokenizer with which a decoder would never learn to stop."""
    if tokenizer.eos_id is None or tokenizer.eos_id == tokenizer.bos_id:
        raise TokenizerError(
            "a decoder needs a token that ends a text and begins none",
            found=f"bos {tokenizer.bos_id}, eos {tokenizer.eos_id}",
            hint="train a tokenizer of this program, or add an <eos>: pellucid tokenizer add … --role eos=<eos>",
        )


def _read(model: ReadsSource, batch: SourceBatch) -> Tensor:
    """The model's scores, [B, T, V]."""
    scores = model(batch.ids_BT, source_BS=batch.source_BS, source_lengths_B=batch.source_lengths_B)
    return scores.logits_BTV
