"""A batch: what one step of training or evaluation looks at.

    targets_BT[b, t] is the token that follows ids_BT[b, t];   loss = Σ weights · nll / Σ weights

B rows, T positions. Weights are 1 where there is something to predict and 0 elsewhere: at padding, and where the target
is `<bos>`, because nothing in a text says which text comes next. Where a text's own rows say what counts how much
(`data.weights`), a training batch holds these weights instead of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of tokens, the tokens that follow them, and which of those count.

    >>> batch = Batch(
    ...     ids_BT=torch.tensor([[0, 5, 6]]),
    ...     targets_BT=torch.tensor([[5, 6, 1]]),
    ...     weights_BT=torch.ones(1, 3),
    ...     first_token_B=torch.tensor([0]),
    ... )
    >>> batch.num_rows, batch.num_targets
    (1, 3)
    """

    ids_BT: Tensor  # int64: what the model reads
    targets_BT: Tensor  # int64: what it should say next; 0 at padding
    weights_BT: Tensor  # float32: how much the target counts; 1.0 where nothing else was said, 0.0 where it does not
    first_token_B: Tensor  # int64: where each row begins in the token stream, to name the documents it came from

    @property
    def num_rows(self) -> int:
        return self.ids_BT.shape[0]

    @property
    def num_targets(self) -> int:
        """How many tokens count."""
        return int((self.weights_BT > 0).sum())

    @property
    def longest(self) -> int:
        """Positions up to the last one that counts in any row."""
        counting_T = (self.weights_BT > 0).any(0).nonzero()
        return int(counting_T.max()) + 1 if len(counting_T) else 0

    def cut(self, positions: int) -> Batch:
        """The same rows without what stands behind the first so many positions."""
        return Batch(
            ids_BT=self.ids_BT[:, :positions],
            targets_BT=self.targets_BT[:, :positions],
            weights_BT=self.weights_BT[:, :positions],
            first_token_B=self.first_token_B,
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            ids_BT=self.ids_BT.to(device),
            targets_BT=self.targets_BT.to(device),
            weights_BT=self.weights_BT.to(device),
            first_token_B=self.first_token_B.to(device),
        )

    def split(self, num: int) -> tuple[Batch, ...]:
        """`num` batches of equally many rows, in order: the micro-batches of gradient accumulation.

        Raises ValueError when the rows do not divide evenly.
        """
        if num < 1 or self.num_rows % num:
            raise ValueError(f"{self.num_rows} rows do not divide into {num} equal parts")
        rows = self.num_rows // num
        columns = (self.ids_BT, self.targets_BT, self.weights_BT, self.first_token_B)
        parts = zip(*(column.split(rows) for column in columns), strict=True)
        return tuple(
            Batch(ids_BT=ids, targets_BT=targets, weights_BT=weights, first_token_B=first)
            for ids, targets, weights, first in parts
        )
