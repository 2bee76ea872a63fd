"""Next sentence: beside masked tokens, predict whether the second part of a row really follows the first.

    ids        <cls> the cat  <mask> . <sep> it  was <mask> . <sep>
    segments     0    0   0     0    0   0    1   1    1    1   1
    targets    follows: yes                sat          tired
    loss = masked loss + mean of -ln p(follows, or not)

In half of the rows the second part is what follows the first, in the other half the second part of a row of another
document (`data.loader.LoaderWithOthers`). Parts are cut where a sentence begins, as far as that can be told. Each row holds one document
(`data.rows=documents`): what follows in another document does not follow. Tokens are hidden as in `masked`, in both parts.
Training tells the sum of both losses, an evaluation each by itself.

RoBERTa found that models are no worse without it; it is here to be measured, and for models that were trained so.

Axes: B rows · T positions of a row with its three marks · S tokens of a row of text · V vocabulary.
Source: Devlin et al. 2019, "BERT", §3.1, task 2; Liu et al. 2019, "RoBERTa", §4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.batch import PaddedBatch, RowsWithOthers, TokenRows
from pellucid.data.draws import uniform_draws
from pellucid.data.loader import NUM_MARKS
from pellucid.data.objectives.causal import nll, weighted_loss
from pellucid.data.objectives.masked import MaskedObjective
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey, Scores
from pellucid.data.objectives.settings import MaskedSettings
from pellucid.data.sentences import sentences_begin
from pellucid.errors import SettingsError, TokenizerError
from pellucid.tokens.tokenizer import Tokenizer

FOLLOWS, ELSEWHERE = 0, 1  # as BERT numbers the two answers
COIN = 3  # the stream of draws after those of `masked`: which second part, and where the two rows are cut
PAIR_LOSS, PAIR_ACCURACY = "next_sentence_loss", "next_sentence_accuracy"


class PairScores(Scores, Protocol):
    """Scores of tokens, and of the two answers: `FOLLOWS` and `ELSEWHERE`."""

    @property
    def pair_logits_B2(self) -> Tensor: ...


class ReadsPairs(Protocol):
    """A model that sees whole rows of two parts, and gives scores for tokens and for the pair.

    `segments_BT` says which part a position belongs to, 0 or 1; positions from `lengths_B` on must not be seen.
    """

    def __call__(self, ids_BT: Tensor, /, *, segments_BT: Tensor, lengths_B: Tensor) -> PairScores: ...


@dataclass(frozen=True, kw_only=True)
class NextSentenceBatch(PaddedBatch):
    """Rows of two parts with hidden tokens; what each position belongs to, and where the second part is from."""

    segments_BT: Tensor  # int64: 0 or 1
    answers_B: Tensor  # int64: FOLLOWS or ELSEWHERE
    pairs_B: Tensor  # float32: 1 where a row has two parts, 0 where its text was too short for them
    total_pairs: Tensor  # float32, one number: of the whole update

    def weights_of(self, measured: Tensor) -> Tensor:
        """Measures of pairs count once for each row that is a pair."""
        return self.pairs_B if measured.dim() == 1 else super().weights_of(measured)


@dataclass(frozen=True, kw_only=True, eq=False)
class NextSentenceObjective:
    """Predict hidden tokens, and whether the second part of a row follows the first."""

    name: ClassVar[str] = "next_sentence"
    is_likelihood: ClassVar[bool] = False
    asks_more: ClassVar[bool] = True
    with_others: ClassVar[bool] = True

    masked: MaskedObjective
    cls_id: int
    sep_id: int
    token_bytes: tuple[bytes, ...]  # of each id; b"" for a special token

    @classmethod
    def of(cls, settings: MaskedSettings, tokenizer: Tokenizer) -> Self:
        """The objective for text of a tokenizer. Raises TokenizerError for one without a mask, a cls or a sep token."""
        cls_id, sep_id = tokenizer.roles.first("cls"), tokenizer.roles.first("sep")
        if cls_id is None or sep_id is None:
            raise TokenizerError(
                "pairs of sentences need a tokenizer with the roles cls and sep",
                found=f"cls: {cls_id}, sep: {sep_id}",
                hint="leave out tokenizer.specials=none, or add them to the model: pellucid tokenizer add … --role cls=<cls>",
            )
        masked = MaskedObjective.of(settings, tokenizer)
        return cls(masked=masked, cls_id=cls_id, sep_id=sep_id, token_bytes=tokenizer.vocabulary.token_bytes)

    def batch(self, rows: TokenRows, key: RowKey) -> NextSentenceBatch:
        """Pairs with some tokens hidden. The last column is left out: the next row has it.

        Raises SettingsError for rows without others beside them.
        """
        if not isinstance(rows, RowsWithOthers):
            raise SettingsError("next sentences need another row beside each", found="rows of one text each")
        width = rows.ids_BS.size(1) - 1
        draws_BN = uniform_draws(key.of_each(rows.index_B), COIN, 3)
        pairs = [self._pair(rows, row, draws_BN[row], width) for row in range(rows.num_rows)]
        ids_BS = torch.zeros(rows.num_rows, width + NUM_MARKS + 1, dtype=torch.int64)  # the last column is not read
        weights_BS, segments_BT = torch.zeros(ids_BS.shape), torch.zeros_like(ids_BS[:, :-1])
        for row, pair in enumerate(pairs):
            size = len(pair.ids)
            ids_BS[row, :size], weights_BS[row, :size] = torch.from_numpy(pair.ids), torch.from_numpy(pair.weights)
            segments_BT[row, pair.second_from : size] = 1
        lengths_B, pairs_B = (
            torch.tensor([len(pair.ids) for pair in pairs]),
            torch.tensor([pair.counts for pair in pairs]),
        )
        framed = replace(rows, ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B)
        return NextSentenceBatch(
            **(vars(self.masked.batch(framed, key)) | {"lengths_B": lengths_B}),
            segments_BT=segments_BT,
            answers_B=torch.tensor([pair.answer for pair in pairs]),
            pairs_B=pairs_B,
            total_pairs=pairs_B.sum().clamp(min=1.0),
        )

    def loss(self, model: ReadsPairs, batch: NextSentenceBatch) -> Tensor:
        """The mean nll of the hidden tokens and the mean nll of the answers, added: this micro-batch's share of them."""
        scores = model(batch.ids_BT, segments_BT=batch.segments_BT, lengths_B=batch.lengths_B)
        tokens = weighted_loss(scores.logits_BTV, batch.targets_BT, batch.weights_BT, batch.total_weight)
        return tokens + (pair_nll(scores.pair_logits_B2, batch.answers_B) * batch.pairs_B).sum() / batch.total_pairs

    def measure(self, model: ReadsPairs, batch: NextSentenceBatch) -> Mapping[str, Tensor]:
        """Of hidden tokens, [B, T], and of pairs, [B]: the nll, in nats, and whether the answer is the likeliest."""
        scores = model(batch.ids_BT, segments_BT=batch.segments_BT, lengths_B=batch.lengths_B)
        return {
            LOSS: nll(scores.logits_BTV, batch.targets_BT),
            ACCURACY: (scores.logits_BTV.argmax(-1) == batch.targets_BT).float(),
            PAIR_LOSS: pair_nll(scores.pair_logits_B2, batch.answers_B),
            PAIR_ACCURACY: (scores.pair_logits_B2.argmax(-1) == batch.answers_B).float(),
        }

    def _pair(self, rows: RowsWithOthers, row: int, draws_N: NDArray[np.float64], width: int) -> _Pair:
        """One row as a pair: its first part, then its second or that of the row beside it."""
        own = self._text(rows.ids_BS[row, :width], rows.weights_BS[row, :width], rows.lengths_B[row])
        other = self._text(rows.others_BS[row], rows.other_weights_BS[row], rows.other_lengths_B[row])
        sep = _Text(ids=np.array([self.sep_id]), weights=np.zeros(1, np.float32))
        start = _Text(ids=np.array([self.cls_id]), weights=np.zeros(1, np.float32))
        if min(len(own.ids), len(other.ids)) < 2:
            whole = _joined(start, own, sep)
            return _Pair(ids=whole.ids, weights=whole.weights, second_from=len(whole.ids), answer=FOLLOWS, counts=0.0)
        coin, *places = draws_N.tolist()
        cut, other_cut = (self._cut(text.ids, place) for text, place in zip((own, other), places, strict=True))
        answer = FOLLOWS if coin < 0.5 else ELSEWHERE
        second = own.part(cut, None) if answer == FOLLOWS else other.part(other_cut, other_cut + width - cut)
        whole = _joined(start, own.part(0, cut), sep, second, sep)
        second_from = cut + 2  # behind <cls>, the first part and its <sep>
        return _Pair(ids=whole.ids, weights=whole.weights, second_from=second_from, answer=answer, counts=1.0)

    def _text(self, ids_S: Tensor, weights_S: Tensor, length: Tensor) -> _Text:
        """The tokens of a row that spell text: its own marks give way to those of the pair."""
        ids, weights = ids_S[: int(length)].numpy(), weights_S[: int(length)].numpy()
        kept = self._spells_V[ids]
        return _Text(ids=ids[kept], weights=weights[kept])

    def _cut(self, ids: NDArray[np.int64], draw: float) -> int:
        """Where the second part begins: at one of the sentences after the first, or anywhere in a single sentence."""
        begins = np.flatnonzero(sentences_begin(ids, self.token_bytes))[1:]
        return int(begins[int(draw * len(begins))]) if len(begins) else 1 + int(draw * (len(ids) - 1))

    @cached_property
    def _spells_V(self) -> NDArray[np.bool_]:
        return np.array([bool(spelled) for spelled in self.token_bytes])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Text:
    """Some tokens and their weights."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]

    def part(self, start: int, stop: int | None) -> _Text:
        return _Text(ids=self.ids[start:stop], weights=self.weights[start:stop])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair(_Text):
    """A row of two parts."""

    second_from: int
    answer: int  # FOLLOWS or ELSEWHERE
    counts: float  # 1.0; 0.0 where there is no second part


def _joined(*texts: _Text) -> _Text:
    ids, weights = np.concatenate([text.ids for text in texts]), np.concatenate([text.weights for text in texts])
    return _Text(ids=ids, weights=weights)


def pair_nll(pair_logits_B2: Tensor, answers_B: Tensor) -> Tensor:
    """-ln p(answer) of each pair, in nats, [B].

    >>> round(pair_nll(torch.tensor([[0.0, 0.0]]), torch.tensor([FOLLOWS])).item(), 4)
    0.6931
    """
    return nll(pair_logits_B2[:, None], answers_B[:, None])[:, 0]
