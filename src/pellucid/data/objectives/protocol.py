"""An objective: what is asked of rows of text, and what the answers cost. Who visits the rows, trains or evaluates knows no more.

    rows = loader.rows(start, count)           the order in which text is visited       (data.loader)
    batch = objective.batch(rows, key)         what is asked of it
    loss = objective.loss(model, batch)        what the answers cost

An objective may draw at random (which tokens to hide, which order to predict them in): from `key.of(row)`, a number that
belongs to the row and not to its batch. So the same row is asked the same in batches of any size, and after a resume.

Axes: B rows · T positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from pellucid.data.batch import Batch, TokenRows
from pellucid.keyed_random import number

LOSS = "loss"

ModelT_contra = TypeVar("ModelT_contra", contravariant=True)  # what an objective asks of a model: a protocol of its own
BatchT = TypeVar("BatchT", bound=Batch)


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """A random number for each row of a run, which depends on the row alone.

    >>> key = RowKey(seed=1, purpose="objective")
    >>> key.of(7) == key.of(7) != key.of(8)
    True
    """

    seed: int
    purpose: str

    def of(self, index: int) -> int:
        """The number of the row with this index (`TokenRows.index_B`), below 2^64."""
        return number(self.seed, self.purpose, index)


class Objective(Protocol[ModelT_contra, BatchT]):
    """A training objective. It holds settings at most, never a state: everything it draws comes from the key."""

    def batch(self, rows: TokenRows, key: RowKey) -> BatchT:
        """What a model is asked about these rows, all of one update (or of one step of an evaluation)."""
        ...

    def loss(self, model: ModelT_contra, batch: BatchT) -> Tensor:
        """The loss of a batch, one number that can be differentiated.

        Divided by `batch.total_weight`, so that the losses of an update's parts add up to the loss of the whole.
        """
        ...

    def measure(self, model: ModelT_contra, batch: BatchT) -> Mapping[str, Tensor]:
        """What an evaluation reports, by name: one number for each weight of the batch, and their weighted mean is told.

        "loss" is among them: the cost at each place, in nats.
        """
        ...
