"""Distillation: at each position, predict what a teacher finds likely there, not only the token that the text has.

    teacher   p = its probabilities of the next token            it learns nothing here
    model     q = the model's own
    loss = Σ weight · Σ_v p(v) · (-ln q(v)) / Σ weight

The loss is least where q = p, and is then the teacher's own entropy: it is *not* the likelihood of the text, so it has no
perplexity. One token of a text says little about what else could stand there; the teacher says all of it at once.

What a draft is for is measured too. It guesses with the draw that will choose the token (`engine.speculative`): u in
[0, 1) falls into one segment of each distribution, tokens side by side in the order of their ids. A guess comes true
where both segments are the same token's:

    agreement = Σ_v length of [Σ_{w<v} p(w), Σ_{w≤v} p(w)) ∩ [Σ_{w<v} q(w), Σ_{w≤v} q(w))

Axes: B rows · T positions · V vocabulary.
Source: Hinton et al. 2015, "Distilling the knowledge in a neural network", §2, at temperature 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.objectives.causal import CausalObjective, ScoresTokens
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey

AGREEMENT = "agreement"  # the chance that one draw chooses the same token from both models


@dataclass(frozen=True, kw_only=True, eq=False)
class DistilledObjective:
    """Predict at each position what the teacher predicts from the same tokens."""

    name: ClassVar[str] = "distilled"
    is_likelihood: ClassVar[bool] = False
    asks_more: ClassVar[bool] = False
    with_others: ClassVar[bool] = False

    teacher: ScoresTokens  # without dropout; of the same vocabulary as the model

    def batch(self, rows: TokenRows, key: RowKey) -> Batch:
        """Inputs and weights as for the next token: what need not be predicted in a text is not learned here either."""
        return CausalObjective().batch(rows, key)

    def loss(self, model: ScoresTokens, batch: Batch) -> Tensor:
        """The mean cross-entropy with the teacher, in nats: this micro-batch's share of the update's loss."""
        costs_BT = soft_nll(model(batch.ids_BT).logits_BTV, self._taught(batch))
        return (costs_BT * batch.weights_BT).sum() / batch.total_weight

    def measure(self, model: ScoresTokens, batch: Batch) -> Mapping[str, Tensor]:
        """At each position, [B, T]: the cross-entropy in nats, the agreement, and whether both find the same token likeliest."""
        logits_BTV, taught_BTV = model(batch.ids_BT).logits_BTV, self._taught(batch)
        same_BT = (logits_BTV.argmax(-1) == taught_BTV.argmax(-1)).float()
        return {
            LOSS: soft_nll(logits_BTV, taught_BTV),
            AGREEMENT: agreement(_finely(logits_BTV).softmax(-1), taught_BTV),
            ACCURACY: same_BT,
        }

    @torch.no_grad()
    def _taught(self, batch: Batch) -> Tensor:
        """The teacher's probabilities, [B, T, V]."""
        return _finely(self.teacher(batch.ids_BT).logits_BTV).softmax(-1)


def soft_nll(logits_BTV: Tensor, probabilities_BTV: Tensor) -> Tensor:
    """The cross-entropy of a model with given probabilities of the next token, in nats, [B, T]; in fp32 or finer.

    Where all probability is one token's it is that token's nll.

    >>> import torch
    >>> logits = torch.tensor([[[0.0, 0.0]]])
    >>> round(soft_nll(logits, torch.tensor([[[0.75, 0.25]]])).item(), 4)  # ln 2, whatever is asked of a model that knows nothing
    0.6931
    """
    return -(probabilities_BTV * _finely(logits_BTV).log_softmax(-1)).sum(-1)


def agreement(first_BTV: Tensor, second_BTV: Tensor) -> Tensor:
    """The chance that one draw falls into the same token's segment of two distributions, from 0 to 1, [B, T].

    >>> import torch
    >>> agreement(torch.tensor([[[0.5, 0.25, 0.25]]]), torch.tensor([[[0.25, 0.5, 0.25]]])).item()
    0.75
    >>> agreement(torch.tensor([[[0.5, 0.5, 0.0]]]), torch.tensor([[[0.0, 0.5, 0.5]]])).item()  # the same token, other draws
    0.0
    """
    ends_BTV, others_BTV = first_BTV.cumsum(-1), second_BTV.cumsum(-1)
    starts_BTV = torch.maximum(ends_BTV - first_BTV, others_BTV - second_BTV)
    return (torch.minimum(ends_BTV, others_BTV) - starts_BTV).clamp(min=0).sum(-1)


def _finely(logits_BTV: Tensor) -> Tensor:
    return logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
