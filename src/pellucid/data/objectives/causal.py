"""Causal language modelling: at each position, predict the next token.

    ids      t0 t1 t2 …        the inputs
    targets  t1 t2 t3 …        the next token at each position
    loss = Σ weight · (-ln p(target | tokens up to here)) / Σ weight

-ln p is the negative log-likelihood (nll) of the target, also called its surprise. The model needs a causal mask, or it
would read the answer. It is *not* masked language modelling, which hides tokens and looks both ways.

Axes: B rows · T positions · S = T + 1 tokens of a row · V vocabulary.
Source: Bengio et al. 2003, "A Neural Probabilistic Language Model", §2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.objectives.protocol import LOSS, RowKey, Scores


class ScoresTokens(Protocol):
    """A model that gives, at each position, a score (logit) for every possible next token."""

    def __call__(self, ids_BT: Tensor, /) -> Scores: ...


class CausalObjective:
    """Predict each token from those before it.

    >>> import torch
    >>> rows = TokenRows(
    ...     ids_BS=torch.tensor([[0, 5, 6, 1]]),
    ...     weights_BS=torch.tensor([[0.0, 1.0, 1.0, 1.0]]),
    ...     lengths_B=torch.tensor([4]),
    ...     first_token_B=torch.tensor([0]),
    ...     index_B=torch.tensor([0]),
    ... )
    >>> batch = CausalObjective().batch(rows, RowKey(seed=0, purpose="an example"))
    >>> batch.ids_BT.tolist(), batch.targets_BT.tolist(), batch.total_weight.item()
    ([[0, 5, 6]], [[5, 6, 1]], 3.0)
    """

    name: ClassVar[str] = "causal"
    is_likelihood: ClassVar[bool] = True
    asks_more: ClassVar[bool] = False
    with_others: ClassVar[bool] = False

    def batch(self, rows: TokenRows, key: RowKey) -> Batch:
        """Inputs, and targets shifted by one token; nothing is random."""
        weights_BT = rows.weights_BS[:, 1:].contiguous()
        return Batch(
            ids_BT=rows.ids_BS[:, :-1].contiguous(),
            targets_BT=rows.ids_BS[:, 1:].contiguous(),
            weights_BT=weights_BT,
            total_weight=weights_BT.sum().clamp(min=1.0),
        )

    def loss(self, model: ScoresTokens, batch: Batch) -> Tensor:
        """The mean nll of the next token, in nats: this micro-batch's share of the update's loss."""
        return weighted_loss(model(batch.ids_BT).logits_BTV, batch.targets_BT, batch.weights_BT, batch.total_weight)

    def measure(self, model: ScoresTokens, batch: Batch) -> Mapping[str, Tensor]:
        """The nll of each next token, [B, T], in nats."""
        return {LOSS: nll(model(batch.ids_BT).logits_BTV, batch.targets_BT)}


def nll(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Negative log-likelihood: -ln p(target) at every position, in nats, [B, T]; computed in fp32, or finer where the logits are.

    >>> import math, torch
    >>> value = nll(torch.tensor([[[4.0, 2.0, 0.5]]]), torch.tensor([[0]])).item()
    >>> round(math.exp(-value), 3)
    0.858
    """
    logits_NV = logits_BTV.flatten(0, 1).to(torch.promote_types(logits_BTV.dtype, torch.float32))
    nats_N = F.cross_entropy(logits_NV, targets_BT.flatten(), reduction="none")
    return nats_N.view_as(targets_BT)


def weighted_loss(logits_BTV: Tensor, targets_BT: Tensor, weights_BT: Tensor, total_weight: Tensor) -> Tensor:
    """The weighted loss of a micro-batch, divided by the whole update's weight, not by its own.

    A weight of 0 leaves a position out (padding, or text that must not be learned).
    """
    return (nll(logits_BTV, targets_BT) * weights_BT).sum() / total_weight
