"""The data of one training or evaluation step: rows of tokens, and the batch that an objective makes of them.

    TokenRows    tokens of the text, and how much each counts            made by a loader
    Batch        inputs, targets and the weight of each target           made by an objective, from rows

Axes: B rows · S = T + 1 tokens of a row · T positions that a model reads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Tensors that belong together. The first axis of each is the rows, or it is one number for all rows.

    Every method treats all fields alike, so it also handles a field that a subclass adds.
    """

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `change` applied to each tensor.

        >>> ids_BT = torch.tensor([[5], [6], [7]])
        >>> batch = Batch(ids_BT=ids_BT, targets_BT=ids_BT, weights_BT=torch.ones(3, 1), total_weight=torch.tensor([3.0]))
        >>> batch.map(lambda tensor: tensor[1:3]).ids_BT.tolist()
        [[6], [7]]
        """
        return dataclasses.replace(self, **{name: change(tensor) for name, tensor in vars(self).items()})

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device."""
        return self.map(lambda tensor: tensor.to(device))

    @property
    def num_rows(self) -> int:
        return next(len(tensor) for tensor in vars(self).values() if tensor.dim())

    def split(self, num: int) -> tuple[Self, ...]:
        """Split into `num` parts of equally many rows, in order: the micro-batches of gradient accumulation.

        Raises ValueError when the rows do not divide evenly.
        """
        if num < 1 or self.num_rows % num:
            raise ValueError(f"{self.num_rows} rows do not divide into {num} equal parts")
        rows = self.num_rows // num
        starts = range(0, self.num_rows, rows)
        return tuple(self.map(functools.partial(_rows_between, start, start + rows)) for start in starts)


def _rows_between(start: int, stop: int, tensor: Tensor) -> Tensor:
    return tensor[start:stop] if tensor.dim() else tensor


@dataclass(frozen=True, kw_only=True)
class TokenRows(Columns):
    """Rows of text as tokens, before an objective makes inputs and targets of them.

    A row holds one token more than a model reads: for next-token prediction the last token is only a target. The next
    row of the text begins with that token, so an objective that predicts tokens of the row itself leaves the last
    column out (and sees one token of an epoch twice: the one after the window that is not full).
    """

    ids_BS: Tensor  # int64; 0 at padding
    weights_BS: Tensor  # float32: how much each token counts where it is predicted; 1.0 by default, 0.0 at
    # padding, at `<bos>` (nothing in a text says which text comes next) and at what an earlier row counted
    lengths_B: Tensor  # int64: how many of its tokens are text; the rest of the row is padding
    first_token_B: Tensor  # int64: where each row begins in the token stream, to name the documents it came from
    index_B: Tensor  # int64: which row of the run this is, counted through all epochs; the key of what is drawn for it

    @property
    def longest(self) -> int:
        """The number of positions up to the last one whose next token counts in any row.

        >>> TokenRows(
        ...     ids_BS=torch.tensor([[7, 5, 6, 0]]),
        ...     weights_BS=torch.tensor([[0.0, 1.0, 1.0, 0.0]]),
        ...     lengths_B=torch.tensor([3]),
        ...     first_token_B=torch.tensor([0]),
        ...     index_B=torch.tensor([0]),
        ... ).longest
        2
        """
        counting_S = (self.weights_BS > 0).any(0).nonzero()
        return int(counting_S.max()) if len(counting_S) else 0

    def cut(self, positions: int) -> TokenRows:
        """The rows cut to the first `positions` positions and the one token after them, their last target."""
        columns = positions + 1
        return dataclasses.replace(
            self,
            ids_BS=self.ids_BS[:, :columns],
            weights_BS=self.weights_BS[:, :columns],
            lengths_B=self.lengths_B.clamp(max=columns),
        )


@dataclass(frozen=True, kw_only=True)
class PairRows(TokenRows):
    """Rows of targets, each with its source: `<bos> text <eos>` both, without a mark that the tokenizer lacks."""

    source_BS: Tensor  # int64; 0 at padding
    source_lengths_B: Tensor  # int64


@dataclass(frozen=True, kw_only=True)
class RowsWithOthers(TokenRows):
    """Rows, and beside each one of another text that has nothing to do with it: the wrong answer to “what follows?”."""

    others_BS: Tensor  # int64; 0 at padding
    other_weights_BS: Tensor  # float32
    other_lengths_B: Tensor  # int64


@dataclass(frozen=True, kw_only=True)
class Batch(Columns):
    """Inputs of a model, the target at each position, and the weight of each target in the loss.

        loss = Σ weights · cost / total_weight

    An objective that needs more (another input, scores of another model) adds fields in a subclass.
    """

    ids_BT: Tensor  # int64: the inputs that the model reads
    targets_BT: Tensor  # int64: the token it should predict there; any id where the weight is 0
    weights_BT: Tensor  # float32: how much the target counts; 0.0 where there is nothing to predict
    total_weight: Tensor  # float32, one number: of the whole update, of which this batch may be one micro-batch

    @property
    def real_BT(self) -> Tensor:
        """Where a row is text, bool: up to its last target that counts; what stands behind it fills up the batch.

        >>> batch = Batch(
        ...     ids_BT=torch.tensor([[7, 5, 6, 0]]), targets_BT=torch.tensor([[5, 6, 0, 0]]),
        ...     weights_BT=torch.tensor([[0.0, 1.0, 0.0, 0.0]]), total_weight=torch.tensor(1.0),
        ... )
        >>> batch.real_BT.tolist()
        [[True, True, False, False]]
        """
        return self.weights_BT.flip(1).cumsum(1).flip(1) > 0

    def weights_of(self, measured: Tensor) -> Tensor:
        """How much each number of a measure counts in its mean: measures are taken at each target."""
        assert measured.shape == self.weights_BT.shape, "a measure has one number for each target"
        return self.weights_BT


@dataclass(frozen=True, kw_only=True)
class FullBatch(Batch):
    """A batch whose rows are text to their end, wherever their targets stand."""

    @property
    def real_BT(self) -> Tensor:
        """Where a row is text, bool: everywhere."""
        return torch.ones_like(self.weights_BT, dtype=torch.bool)


@dataclass(frozen=True, kw_only=True)
class PaddedBatch(Batch):
    """A batch whose rows are of several lengths: a model that looks ahead is told where the padding begins."""

    lengths_B: Tensor  # int64: the ids of each row that are read; the rest is padding

    @property
    def real_BT(self) -> Tensor:
        """Where a row is text, bool: as far as it is read."""
        return torch.arange(self.ids_BT.size(1), device=self.ids_BT.device) < self.lengths_B[:, None]
