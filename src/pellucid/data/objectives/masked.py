"""Masked language modelling: hide some tokens of a row, and predict them from what stands on both sides.

    text     the  cat   sat  on  the   mat
    ids      the <mask> sat  on  the   mat       15 % of the tokens are chosen; of those 80 % are shown as <mask>,
    targets       cat                            10 % as a random token, 10 % as they are
    loss = Σ weight · (-ln p(target | the whole row as it is shown)) / Σ weight        over the chosen positions alone

A chosen token is not always replaced by <mask>, because text that the model is used on later has no <mask>: so it must
give a good account of every position. Which tokens are chosen is drawn for each row of the run, so a text that is read
again is hidden otherwise (RoBERTa calls this dynamic masking). With whole words all tokens of a word are chosen together.

Every token is chosen with the same probability, whatever the length of its word, and special tokens never are. BERT's own
program draws a fixed number for each row instead. The model must see the whole row, and not itself alone to the left:
the objective is *not* a likelihood of the text, so it has no perplexity.

Axes: B rows · T positions · S = T + 1 tokens of a row · V vocabulary · N ids.
Source: Devlin et al. 2019, "BERT", §3.1 and appendix A.1; Liu et al. 2019, "RoBERTa", §4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.batch import Batch, FullBatch, PaddedBatch, TokenRows
from pellucid.data.draws import uniform_draws
from pellucid.data.objectives.causal import nll, weighted_loss
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey, Scores
from pellucid.data.objectives.settings import MaskedSettings
from pellucid.data.whole_words import SingleTokens, WholeWords, Words
from pellucid.errors import TokenizerError
from pellucid.tokens.text_ids import text_ids
from pellucid.tokens.tokenizer import Tokenizer

Ids = NDArray[np.int64]
CHOOSE, SHOW, REPLACE = range(3)  # streams of draws: whether a word is chosen, how a token is shown, as which other one


class ReadsBothSides(Protocol):
    """A model that scores every token at each position, from the whole row.

    `lengths_B` is given where rows have padding: positions from there on must not be seen.
    """

    def __call__(self, ids_BT: Tensor, /, *, lengths_B: Tensor | None = None) -> Scores: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedObjective:
    """Predict hidden tokens from both sides.

    >>> objective = MaskedObjective(
    ...     settings=MaskedSettings(share=1, mask_share=1, random_share=0),
    ...     mask_id=4,
    ...     is_text_V=np.array([False, False, True, True, False]),
    ...     words=SingleTokens(),
    ... )
    >>> rows = TokenRows(
    ...     ids_BS=torch.tensor([[0, 2, 3, 1]]),
    ...     weights_BS=torch.tensor([[0.0, 1.0, 1.0, 1.0]]),
    ...     lengths_B=torch.tensor([4]),
    ...     first_token_B=torch.tensor([0]),
    ...     index_B=torch.tensor([0]),
    ... )
    >>> batch = objective.batch(rows, RowKey(seed=0, purpose="an example"))
    >>> batch.ids_BT.tolist(), batch.targets_BT.tolist(), batch.weights_BT.tolist()
    ([[0, 4, 4]], [[0, 2, 3]], [[0.0, 1.0, 1.0]])
    """

    name: ClassVar[str] = "masked"
    is_likelihood: ClassVar[bool] = False
    asks_more: ClassVar[bool] = True
    with_others: ClassVar[bool] = False

    settings: MaskedSettings
    mask_id: int
    is_text_V: NDArray[np.bool_]  # which ids stand for text; no other is chosen, or shown in the place of one
    words: Words

    @classmethod
    def of(cls, settings: MaskedSettings, tokenizer: Tokenizer) -> Self:
        """The objective for text of a tokenizer.

        Raises TokenizerError for a tokenizer without a mask token, MissingExtraError without the segmenter that is asked
        for.
        """
        mask_id = tokenizer.roles.first("mask")
        if mask_id is None:
            raise TokenizerError(
                "a masked objective needs a tokenizer with a mask token",
                found=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, none with the role mask",
                hint="leave out tokenizer.specials=none, or add one to the model: pellucid tokenizer add … --role mask=<mask>",
            )
        kind = settings.whole_words
        assert kind != "auto", "what is left open is settled before (data.whole_words.settle_words)"
        words = SingleTokens() if kind == "off" else WholeWords.of(tokenizer, kind)
        return cls(settings=settings, mask_id=mask_id, is_text_V=text_ids(tokenizer), words=words)

    def batch(self, rows: TokenRows, key: RowKey) -> Batch:
        """Rows with some tokens hidden, and those tokens as targets. The last column is left out: the next row has it."""
        ids_BT, told_BT = rows.ids_BS[:, :-1], rows.weights_BS[:, :-1]
        keys_B = key.of_each(rows.index_B)
        chosen_BT = self._choose(ids_BT.numpy(), keys_B) & (told_BT > 0).numpy()
        shown_BT = self._show(ids_BT.numpy(), chosen_BT, keys_B)
        weights_BT = told_BT * torch.from_numpy(chosen_BT)
        batch = Batch(
            ids_BT=torch.from_numpy(shown_BT),
            targets_BT=torch.from_numpy(np.where(chosen_BT, ids_BT.numpy(), 0)),
            weights_BT=weights_BT,
            total_weight=weights_BT.sum().clamp(min=1.0),
        )
        lengths_B = rows.lengths_B.clamp(max=ids_BT.size(1))
        # Full rows need no mask, which would cost time in every block of the model.
        is_full = bool((lengths_B == ids_BT.size(1)).all())
        return FullBatch(**vars(batch)) if is_full else PaddedBatch(**vars(batch), lengths_B=lengths_B)

    def loss(self, model: ReadsBothSides, batch: Batch) -> Tensor:
        """The mean nll of the hidden tokens, in nats: this micro-batch's share of the update's loss."""
        return weighted_loss(_read(model, batch), batch.targets_BT, batch.weights_BT, batch.total_weight)

    def measure(self, model: ReadsBothSides, batch: Batch) -> Mapping[str, Tensor]:
        """At each position, [B, T]: the nll of the hidden token, in nats, and whether it is the model's likeliest."""
        logits_BTV = _read(model, batch)
        right_BT = (logits_BTV.argmax(-1) == batch.targets_BT).float()
        return {LOSS: nll(logits_BTV, batch.targets_BT), ACCURACY: right_BT}

    def _choose(self, ids_BT: Ids, keys_B: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which tokens of text are hidden, [B, T]: all those of a word by the one draw at the word's beginning."""
        draws_BT = uniform_draws(keys_B, CHOOSE, ids_BT.shape[1])
        begins_BT = np.stack([self.words.begin(ids_T) for ids_T in ids_BT])
        begins_BT[:, 0] = True  # the rest of a word that the row before begins
        word_BT = np.maximum.accumulate(np.where(begins_BT, np.arange(ids_BT.shape[1]), 0), axis=1)
        return (np.take_along_axis(draws_BT, word_BT, axis=1) < self.settings.share) & self.is_text_V[ids_BT]

    def _show(self, ids_BT: Ids, chosen_BT: NDArray[np.bool_], keys_B: NDArray[np.uint64]) -> Ids:
        """The ids as the model sees them, [B, T]: most of those that are chosen are replaced."""
        draws_BT, others_BT = (uniform_draws(keys_B, stream, ids_BT.shape[1]) for stream in (SHOW, REPLACE))
        other_BT = self._text_ids_N[(others_BT * len(self._text_ids_N)).astype(np.int64)]
        masked_BT = chosen_BT & (draws_BT < self.settings.mask_share)
        replaced_BT = chosen_BT & ~masked_BT & (draws_BT < self.settings.mask_share + self.settings.random_share)
        return np.where(masked_BT, self.mask_id, np.where(replaced_BT, other_BT, ids_BT))

    @cached_property
    def _text_ids_N(self) -> Ids:
        return np.flatnonzero(self.is_text_V)


def _read(model: ReadsBothSides, batch: Batch) -> Tensor:
    """The model's scores, [B, T, V]."""
    lengths_B = batch.lengths_B if isinstance(batch, PaddedBatch) else None
    return model(batch.ids_BT, lengths_B=lengths_B).logits_BTV
