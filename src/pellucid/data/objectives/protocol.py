"""A training objective: it makes inputs and targets from rows of text, and computes the loss.

    rows = loader.rows(start, count)           the order in which text is read          (data.loader)
    batch = objective.batch(rows, key)         inputs and targets
    loss = objective.loss(model, batch)        the loss of the model's predictions

Loader, training and evaluation know nothing else about an objective. An objective may make random choices (which tokens
to hide, in which order to predict them). They come from `key.of(row)`, a number that belongs to the row and not to its
batch. So the same row gets the same choices in batches of any size, and after a resume. Rows are counted through all
epochs (`TokenRows.index_B`), so a text that is read again gets other choices.

A model is whatever can be asked what the objective asks: ids, and by name what a batch says beside them. Each objective
states its own protocol; `Scores` is the answer to all of them.

Axes: B rows · T positions · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.batch import Batch, TokenRows
from pellucid.keyed_random import number

LOSS = "loss"
ACCURACY = "accuracy"  # the share of targets that are the model's likeliest token

ModelT_contra = TypeVar("ModelT_contra", contravariant=True)  # what an objective needs of a model: its own protocol
BatchT = TypeVar("BatchT", bound=Batch)


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """A random number for each row of a run; it depends on the row alone.

    >>> key = RowKey(seed=1, purpose="objective")
    >>> key.of(7) == key.of(7) != key.of(8)
    True
    """

    seed: int
    purpose: str

    def of(self, index: int) -> int:
        """The number of the row with this index (`TokenRows.index_B`), below 2^64."""
        return number(self.seed, self.purpose, index)

    def of_each(self, index_B: Tensor) -> NDArray[np.uint64]:
        """The numbers of several rows, uint64 [B], as `data.draws` takes them."""
        return np.array([self.of(index) for index in index_B.tolist()], np.uint64)


class Scores(Protocol):
    """The output of a model: at each position a score (logit) for every token."""

    @property
    def logits_BTV(self) -> Tensor: ...


class Objective(Protocol[ModelT_contra, BatchT]):
    """A training objective. It may have settings, but no state: all its random choices come from the key."""

    name: ClassVar[str]  # its kind in the settings: what reports call its loss
    # Whether the sum of its loss is -ln p(text): every token predicted once, from tokens that are predicted before it.
    # Only then perplexity and bits per byte mean anything.
    is_likelihood: ClassVar[bool]
    asks_more: ClassVar[bool]  # whether it tells a model more than ids: lengths, a source, segments
    with_others: ClassVar[bool]  # whether it reads beside each row one of another document (`RowsWithOthers`)

    def batch(self, rows: TokenRows, key: RowKey) -> BatchT:
        """Inputs, targets and weights for these rows, all of one update (or of one step of an evaluation)."""
        ...

    def loss(self, model: ModelT_contra, batch: BatchT) -> Tensor:
        """The loss of a batch, one differentiable number.

        It is divided by `batch.total_weight`, so the losses of micro-batches add up to the loss of the whole update.
        """
        ...

    def measure(self, model: ModelT_contra, batch: BatchT) -> Mapping[str, Tensor]:
        """The measures of an evaluation, by name: one number for each target; their mean counts, as `batch.weights_of` weighs.

        One of them is "loss": the loss at each position, in nats.
        """
        ...
