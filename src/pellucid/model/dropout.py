"""Dropout: in training, forget a random share of the numbers and make the others larger by as much.

    y = x · keep / (1 - share)      keep is 0 with probability `share`, else 1

Whether a pass is training is a matter of the pass (`Context.training`), not of the module.

Source: Srivastava et al. 2014.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Drops a share of what passes while `training`; lets everything through otherwise.

    >>> import torch
    >>> Dropout(0.5)(torch.ones(3), training=False).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, *, training: bool) -> Tensor:
        return F.dropout(x, self.share) if training and self.share else x
