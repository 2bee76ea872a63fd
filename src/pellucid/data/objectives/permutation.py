"""Permutation language modelling: predict the last tokens of a random order, each from all that come before it there.

    text      the  cat  sat  on   the  mat
    order      3    1    5    2    6    4         drawn for each row of the run
    ranks      0    0    1    0    2    0         the last 1/K of it (K = 3) is predicted, one by one; the rest is read
    loss = Σ weight · (-ln p(token | tokens of lower rank, and the place that is asked for)) / Σ weight

The order concerns who sees whom, not where the tokens stand: each keeps its position. So a token is predicted from both
sides, as in masked language modelling, but without a <mask> that later text does not have, and one after the other, as
in causal language modelling. Only a part is predicted (partial prediction), since the first tokens of an order have
little to go by. Special tokens and padding are read and never predicted.

What is asked of the model are two streams. The content of a place sees every place of the same or a lower rank, itself
too; places of rank 0 see each other. The query of a place knows where it stands and sees only lower ranks, not itself: it
predicts. XLNet's own program predicts short runs of neighbours; here, as in its paper's equation, single tokens.

Axes: B rows · T positions · P predicted places of a row · V vocabulary.
Source: Yang et al. 2019, "XLNet", §2.2, §2.3 and equation 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.batch import PaddedBatch, TokenRows
from pellucid.data.draws import uniform_draws
from pellucid.data.objectives.causal import nll
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey, Scores
from pellucid.data.objectives.settings import PermutationSettings
from pellucid.tokens.text_ids import text_ids
from pellucid.tokens.tokenizer import Tokenizer

ORDER = 0  # the stream of draws


class ReadsInOrder(Protocol):
    """A model of two streams: it scores every token at the asked places, [B, P, V], from places of lower rank alone.

    Content may see `ranks <= own` (`model.mask.Permutation(itself=True)`), queries `ranks < own`. No one sees what lies
    behind the length of its row.
    """

    def __call__(self, ids_BT: Tensor, /, *, ranks_BT: Tensor, places_BP: Tensor, lengths_B: Tensor) -> Scores: ...


@dataclass(frozen=True, kw_only=True)
class PermutationBatch(PaddedBatch):
    """Rows with an order of their own. Targets and weights are per position, as everywhere: 0 where nothing is asked."""

    ranks_BT: Tensor  # int64: 0 where a token is read; 1, 2, … in the order in which the others are predicted
    places_BP: Tensor  # int64: the predicted places, in that order; a row with fewer repeats the place 0
    asked_BP: Tensor  # float32: 1 where a place is asked for, 0 where it is a repetition


@dataclass(frozen=True, kw_only=True, eq=False)
class PermutationObjective:
    """Predict the last tokens of a random order.

    >>> objective = PermutationObjective(settings=PermutationSettings(one_in=2), is_text_V=np.arange(9) > 0)
    >>> rows = TokenRows(
    ...     ids_BS=torch.tensor([[0, 5, 6, 7, 8, 0]]), weights_BS=torch.ones(1, 6), lengths_B=torch.tensor([6]),
    ...     first_token_B=torch.tensor([0]), index_B=torch.tensor([0]),
    ... )
    >>> batch = objective.batch(rows, RowKey(seed=0, purpose="an example"))
    >>> batch.ranks_BT.tolist(), batch.places_BP.tolist(), batch.targets_BT.tolist()
    ([[0, 0, 0, 2, 1]], [[4, 3]], [[0, 0, 0, 7, 8]])
    """

    name: ClassVar[str] = "permutation"
    is_likelihood: ClassVar[bool] = False  # only a part of the text is predicted
    asks_more: ClassVar[bool] = True
    with_others: ClassVar[bool] = False

    settings: PermutationSettings
    is_text_V: NDArray[np.bool_]  # which ids stand for text; no other is predicted

    @classmethod
    def of(cls, settings: PermutationSettings, tokenizer: Tokenizer) -> Self:
        """The objective for text of a tokenizer."""
        return cls(settings=settings, is_text_V=text_ids(tokenizer))

    def batch(self, rows: TokenRows, key: RowKey) -> PermutationBatch:
        """An order for each row, and the last of it as targets. The last column is left out: the next row has it."""
        ids_BT, told_BT = rows.ids_BS[:, :-1].contiguous(), rows.weights_BS[:, :-1]
        may_BT = self.is_text_V[ids_BT.numpy()] & (told_BT > 0).numpy()
        ranks_BT = torch.from_numpy(self._ranks(may_BT, key.of_each(rows.index_B)))
        weights_BT = told_BT * (ranks_BT > 0)
        most = max(1, int(ranks_BT.max()))
        # In order of rank, the places of rank 0 last.
        places_BP = torch.where(ranks_BT > 0, ranks_BT, ids_BT.size(1) + 1).argsort(dim=1, stable=True)[:, :most]
        asked_BP = ranks_BT.gather(1, places_BP) > 0
        return PermutationBatch(
            ids_BT=ids_BT,
            targets_BT=ids_BT * (ranks_BT > 0),
            weights_BT=weights_BT,
            total_weight=weights_BT.sum().clamp(min=1.0),
            lengths_B=rows.lengths_B.clamp(max=ids_BT.size(1)),
            ranks_BT=ranks_BT,
            places_BP=places_BP * asked_BP,
            asked_BP=asked_BP.float(),
        )

    def loss(self, model: ReadsInOrder, batch: PermutationBatch) -> Tensor:
        """The mean nll of the predicted tokens, in nats: this micro-batch's share of the update's loss."""
        nats_BP = nll(_read(model, batch), batch.targets_BT.gather(1, batch.places_BP))
        weights_BP = batch.weights_BT.gather(1, batch.places_BP) * batch.asked_BP
        return (nats_BP * weights_BP).sum() / batch.total_weight

    def measure(self, model: ReadsInOrder, batch: PermutationBatch) -> Mapping[str, Tensor]:
        """At each position, [B, T]: the nll of the predicted token, in nats, and whether it is the model's likeliest."""
        logits_BPV, targets_BP = _read(model, batch), batch.targets_BT.gather(1, batch.places_BP)
        right_BP = (logits_BPV.argmax(-1) == targets_BP).float()
        return {LOSS: _at_places(nll(logits_BPV, targets_BP), batch), ACCURACY: _at_places(right_BP, batch)}

    def _ranks(self, may_BT: NDArray[np.bool_], keys_B: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rank of each position: 0, or its number among the predicted ones, the last 1/K of the order, rounded up."""
        draws_BT = np.where(
            may_BT, uniform_draws(keys_B, ORDER, may_BT.shape[1]), 2.0
        )  # what is not ordered comes last
        place_BT = np.argsort(np.argsort(draws_BT, axis=1, kind="stable"), axis=1)
        num_B1 = may_BT.sum(1, keepdims=True)
        read_B1 = num_B1 - -(-num_B1 // self.settings.one_in)
        return np.where(may_BT, np.maximum(place_BT + 1 - read_B1, 0), 0)


def _at_places(values_BP: Tensor, batch: PermutationBatch) -> Tensor:
    """Values of the predicted places at their positions, [B, T], and 0 elsewhere."""
    empty_BT = torch.zeros_like(batch.weights_BT)
    return empty_BT.scatter_add(1, batch.places_BP, torch.where(batch.asked_BP > 0, values_BP, 0.0))


def _read(model: ReadsInOrder, batch: PermutationBatch) -> Tensor:
    """The model's scores at the predicted places, [B, P, V]."""
    ranks_BT, places_BP, lengths_B = batch.ranks_BT, batch.places_BP, batch.lengths_B
    return model(batch.ids_BT, ranks_BT=ranks_BT, places_BP=places_BP, lengths_B=lengths_B).logits_BTV
