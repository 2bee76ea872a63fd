"""What training makes small: the negative log-likelihood (nll) of each next token, also called its surprise.

    loss = Σ weight · (-ln p(target)) / Σ weight

Pure functions of scores, targets and weights; a weight of 0 leaves a position out (padding, what must not be learned).

Axes: B batch · T positions · V vocabulary.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


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
    """This micro-batch's part of the loss of the whole update: divided by the update's weight, not by its own."""
    return (nll(logits_BTV, targets_BT) * weights_BT).sum() / total_weight
