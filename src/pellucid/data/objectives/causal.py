"""Causal language modelling: at each position, say the next token.

    ids      t0 t1 t2 …        what the model reads
    targets  t1 t2 t3 …        what it should say
    loss = Σ weight · (-ln p(target | tokens up to here)) / Σ weight

The cost -ln p is the negative log-likelihood (nll) of the target, also called its surprise. The model must not look
ahead, or it reads the answer. It is *not* masked language modelling, which hides tokens and looks both ways.

Axes: B rows · T positions · S = T + 1 tokens of a row · V vocabulary.
Source: Bengio et al. 2003, "A Neural Probabilistic Language Model", §2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.objectives.protocol import LOSS, RowKey


class Scores(Protocol):
    """What a model says of a batch."""

    @property
    def logits_BTV(self) -> Tensor: ...


class ScoresTokens(Protocol):
    """A model that scores, at each position, every token that may come next."""

    def __call__(self, ids_BT: Tensor, /) -> Scores: ...


class Causal:
    """Predict each token from those before it.

    >>> import torch
    >>> rows = TokenRows(
    ...     ids_BS=torch.tensor([[0, 5, 6, 1]]),
    ...     weights_BS=torch.tensor([[0.0, 1.0, 1.0, 1.0]]),
    ...     first_token_B=torch.tensor([0]),
    ...     index_B=torch.tensor([0]),
    ... )
    >>> batch = Causal().batch(rows, RowKey(seed=0, purpose="an example"))
    >>> batch.ids_BT.tolist(), batch.targets_BT.tolist(), batch.total_weight.item()
    ([[0, 5, 6]], [[5, 6, 1]], 3.0)
    """

    def batch(self, rows: TokenRows, key: RowKey) -> Batch:
        """Inputs and targets, one token apart; nothing is drawn."""
        weights_BT = rows.weights_BS[:, 1:].contiguous()
        return Batch(
            ids_BT=rows.ids_BS[:, :-1].contiguous(),
            targets_BT=rows.ids_BS[:, 1:].contiguous(),
            weights_BT=weights_BT,
            total_weight=weights_BT.sum().clamp(min=1.0),
        )

    def loss(self, model: ScoresTokens, batch: Batch) -> Tensor:
        """The mean surprise at the next token, in nats: this part's share of its update's."""
        return weighted_loss(model(batch.ids_BT).logits_BTV, batch.targets_BT, batch.weights_BT, batch.total_weight)

    def measure(self, model: ScoresTokens, batch: Batch) -> Mapping[str, Tensor]:
        """The surprise at each next token, [B, T], in nats."""
        return {LOSS: nll(model(batch.ids_BT).logits_BTV, batch.targets_BT)}


def nll(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """-ln p(target) at every position, in nats, [B, T]; computed in fp32 whatever the model's type.

    >>> import math, torch
    >>> value = nll(torch.tensor([[[4.0, 2.0, 0.5]]]), torch.tensor([[0]])).item()
    >>> round(math.exp(-value), 3)
    0.858
    """
    nats_N = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none")
    return nats_N.view_as(targets_BT)


def weighted_loss(logits_BTV: Tensor, targets_BT: Tensor, weights_BT: Tensor, total_weight: Tensor) -> Tensor:
    """This micro-batch's part of the loss of the whole update: divided by the update's weight, not by its own.

    A weight of 0 leaves a position out (padding, what must not be learned).
    """
    return (nll(logits_BTV, targets_BT) * weights_BT).sum() / total_weight
