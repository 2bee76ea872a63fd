"""Which tokens each row of each batch holds: a pure function of (seed, position), so resuming is arithmetic.

The token stream is bent into a ring (its last `<eos>` meets its first `<bos>`, as between any two documents) of N
tokens and cut into W = ceil(N / T) windows of T positions, T the context length. Row number p of the whole run lies in
epoch e = p div W and shows

    window  = permutation(seed, e)[p mod W]          every window once per epoch, in another order each time
    start   = (offset(seed, e) + window · T) mod N    cut elsewhere each time, so that texts meet new neighbours

Every token is a target exactly once per epoch (but `<bos>`, which nothing foretells). Windows may hold the end of one
document and the beginning of the next. The one window that is not full is padded, and padding weighs nothing, so every
batch has the same shape. No state is kept: asked for rows 500 to 531, the loader needs nothing of rows 0 to 499.

`DocumentLoader` gives each document a row of its own instead, padded on the right: nothing of another text stands before
it. A causal model needs no mask for that, since it never looks ahead. It can sort by length the rows of a few updates in a
row, a pool, so that the rows of each update are about equally long and the batch ends with the longest of them: little is
padding then. Which update comes first is drawn anew in every pool.

B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pellucid.counts import counted
from pellucid.data.batch import Batch
from pellucid.data.permutation import permute
from pellucid.data.settings import RowKind
from pellucid.data.shards import TokenShards
from pellucid.errors import InputError
from pellucid.keyed_random import number

ROUND_UP = 8  # a row of documents is a multiple of so many positions, which products like


class Loader:
    """Rows of training text in a random order that depends on the seed alone.

    `rows(start, count)` gives the rows [start, start + count) of the run, counted from 0 and running on through the
    epochs. `num_rows_per_epoch` rows show every token once. Raises InputError when there are fewer than two tokens.
    """

    def __init__(self, shards: TokenShards, context_length: int, seed: int) -> None:
        _require_two(shards)
        self.shards, self.row_length, self.seed = shards, context_length, seed
        self.num_rows_per_epoch = -(-shards.num_tokens // context_length)

    def rows(self, start: int, count: int) -> Batch:
        """The rows [start, start + count) of the run as one batch."""
        position_B = np.arange(start, start + count)
        epoch_B, place_B = np.divmod(position_B, self.num_rows_per_epoch)
        first_B, length_B = np.empty(count, np.int64), np.empty(count, np.int64)
        for epoch in np.unique(epoch_B):
            here = epoch_B == epoch
            first_B[here], length_B[here] = self._windows(int(epoch), place_B[here])
        return _gather(self.shards, first_B, length_B, np.zeros_like(first_B), self.row_length, weighted=True)

    def _windows(self, epoch: int, place_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size, num_tokens = self.row_length, self.shards.num_tokens
        window_B = permute(place_B, self.num_rows_per_epoch, number(self.seed, "data order", epoch))
        # A text that fits into one window is not rotated: it is read from its beginning.
        offset = number(self.seed, "data offset", epoch) % num_tokens if num_tokens > size else 0
        return (offset + window_B * size) % num_tokens, np.minimum(size, num_tokens - window_B * size)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Rows that are sorted by length together: those of `updates` updates of `rows` rows each."""

    rows: int
    updates: int

    @classmethod
    def of(cls, rows: int, updates: int | None) -> Pool | None:
        """The pool of so many updates; None where rows stay as they come."""
        return cls(rows=rows, updates=updates) if updates else None


class DocumentLoader(Loader):
    """Rows that hold one document each, padded on the right.

    A row has as many positions as the longest document needs, at most the context; a document that is longer goes on in
    rows of its own. With a `pool` a batch has as many positions as its own longest row needs. `padding_share` says how
    much of an epoch is padding, `mean_row_length` how many positions a row has, padding too, `num_cut` how many documents are longer than a row.
    """

    def __init__(self, shards: TokenShards, context_length: int, seed: int, pool: Pool | None = None) -> None:
        super().__init__(shards, context_length, seed)
        starts_D = shards.document_starts()
        targets_D = np.diff(starts_D, append=shards.num_tokens) - 1  # a document's first token is no target
        self.row_length = _width(int(targets_D.max()), context_length)
        rows_D = np.maximum(1, -(-targets_D // self.row_length))
        self._starts_D, self._targets_D, self._ends_D = starts_D, targets_D, np.cumsum(rows_D)
        self.num_rows_per_epoch = int(self._ends_D[-1])
        self.num_cut = int((rows_D > 1).sum())
        self.pool = pool
        positions = self._num_positions()
        self.padding_share = 1 - int(targets_D.sum()) / positions
        self.mean_row_length = positions / self.num_rows_per_epoch

    def rows(self, start: int, count: int) -> Batch:
        """The rows [start, start + count) of the run as one batch."""
        batch = super().rows(start, count)
        return batch if self.pool is None else batch.cut(_width(batch.longest, self.row_length))

    def _num_positions(self) -> int:
        """Positions of the first epoch's updates, padding too."""
        if self.pool is None:
            return self.num_rows_per_epoch * self.row_length
        _, length_N = self._windows(0, np.arange(self.num_rows_per_epoch))
        updates = np.split(length_N, np.arange(self.pool.rows, len(length_N), self.pool.rows))
        return sum(len(length_B) * _width(int(length_B.max()), self.row_length) for length_B in updates)

    def _windows(self, epoch: int, place_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.pool is None:
            return self._places(self._order(epoch, place_B))
        size, row_B = self.pool.rows * self.pool.updates, np.empty_like(place_B)
        for pool in np.unique(place_B // size):
            here = place_B // size == pool
            row_B[here] = self._sorted_pool(epoch, int(pool))[place_B[here] - pool * size]
        return self._places(row_B)

    def _order(self, epoch: int, place_B: np.ndarray) -> np.ndarray:
        return permute(place_B, self.num_rows_per_epoch, number(self.seed, "data order", epoch))

    def _sorted_pool(self, epoch: int, pool: int) -> np.ndarray:
        """The rows of a pool in the order they are read: by length, then update by update in an order of its own."""
        assert self.pool is not None
        size = self.pool.rows * self.pool.updates
        row_N = self._order(epoch, np.arange(pool * size, min((pool + 1) * size, self.num_rows_per_epoch)))
        row_N = row_N[np.argsort(self._places(row_N)[1], kind="stable")]
        if len(row_N) < size:  # the end of an epoch: too few for every update
            return row_N
        update_U = permute(
            np.arange(self.pool.updates), self.pool.updates, number(self.seed, f"pool of epoch {epoch}", pool)
        )
        return row_N.reshape(self.pool.updates, self.pool.rows)[update_U].reshape(-1)

    def in_order(self, *, rows: int, max_rows: int | None = None) -> Iterator[Batch]:
        """The documents from first to last for evaluation, `rows` at a time, each token a target once.

        `max_rows` takes that many rows, evenly spaced. The last batch is filled up with rows that weigh nothing.
        """
        num = min(self.num_rows_per_epoch, max_rows or self.num_rows_per_epoch)
        row_N = np.arange(num) * self.num_rows_per_epoch // num
        for begin in range(0, num, rows):
            first_B, length_B = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
            here = slice(0, len(row_N[begin : begin + rows]))
            first_B[here], length_B[here] = self._places(row_N[begin : begin + rows])
            yield _gather(self.shards, first_B, length_B, np.zeros_like(first_B), self.row_length)

    def _places(self, row_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        document_B = np.searchsorted(self._ends_D, row_B, side="right")
        before_B = np.where(document_B > 0, self._ends_D[document_B - 1], 0)
        skipped_B = (row_B - before_B) * self.row_length
        left_B = self._targets_D[document_B] - skipped_B
        return self._starts_D[document_B] + skipped_B, np.clip(left_B, 0, self.row_length)


def build_loader(
    shards: TokenShards, *, rows: RowKind, context_length: int, seed: int, pool: Pool | None = None
) -> Loader:
    """The loader of this kind of rows. Raises InputError when there are fewer than two tokens."""
    if rows == "documents":
        return DocumentLoader(shards, context_length, seed, pool)
    return Loader(shards, context_length, seed)


def num_windows(num_tokens: int, context_length: int, stride: int | None = None) -> int:
    """How many windows `windows` cuts a text into.

    >>> num_windows(num_tokens=101, context_length=50), num_windows(num_tokens=102, context_length=50)
    (2, 3)
    """
    stride = stride or context_length
    return 1 + max(0, -(-(num_tokens - 1 - context_length) // stride))


def windows(
    shards: TokenShards,
    context_length: int,
    *,
    rows: int,
    stride: int | None = None,
    max_windows: int | None = None,
) -> Iterator[Batch]:
    """The text from beginning to end for evaluation, `rows` windows at a time, each token a target exactly once.

    Windows begin `stride` tokens apart (default: the context length). With a shorter stride they overlap and only the
    targets that no earlier window had count, so that each is predicted from a longer context. `max_windows` takes that
    many windows, evenly spaced over the text. The last batch is filled up with rows that weigh nothing. Raises
    InputError when there are fewer than two tokens.
    """
    _require_two(shards)
    stride = min(stride or context_length, context_length)
    total = num_windows(shards.num_tokens, context_length, stride)
    num = min(total, max_windows or total)
    window_N = np.arange(num) * total // num
    for begin in range(0, num, rows):
        window_B = window_N[begin : begin + rows]
        first_B = np.zeros(rows, np.int64)
        length_B = np.zeros(rows, np.int64)
        first_B[: len(window_B)] = window_B * stride
        length_B[: len(window_B)] = np.minimum(context_length, shards.num_tokens - 1 - window_B * stride)
        already_B = np.where(first_B > 0, context_length - stride, 0)
        yield _gather(shards, first_B, length_B, already_B, context_length)


def _gather(
    shards: TokenShards,
    first_B: np.ndarray,
    length_B: np.ndarray,
    skip_B: np.ndarray,
    context_length: int,
    *,
    weighted: bool = False,
) -> Batch:
    """The windows that begin at `first_B` on the ring; targets skip_B … length_B of each count.

    Where tokens have weights of their own, those of weight 0 never count; the others count by them when `weighted`, else 1.
    """
    first_B1, length_B1, skip_B1 = first_B[:, None], length_B[:, None], skip_B[:, None]
    column_S = np.arange(context_length + 1)  # S = T + 1: inputs and targets overlap
    place_BS = (first_B1 + column_S) % shards.num_tokens
    ids_BS = shards.take(place_BS).astype(np.int64)
    ids_BS[(column_S > length_B1) | (length_B1 == 0)] = 0
    column_T = column_S[:-1]
    counts_BT = (column_T < length_B1) & (column_T >= skip_B1)
    if shards.manifest.unpredicted_id is not None:
        counts_BT &= ids_BS[:, 1:] != shards.manifest.unpredicted_id
    weights_BT = counts_BT.astype(np.float32)
    if shards.has_weights:
        told_BT = shards.weights(place_BS[:, 1:])
        weights_BT *= told_BT if weighted else told_BT > 0
    return Batch(
        ids_BT=torch.from_numpy(ids_BS[:, :-1].copy()),
        targets_BT=torch.from_numpy(ids_BS[:, 1:].copy()),
        weights_BT=torch.from_numpy(weights_BT),
        first_token_B=torch.from_numpy(first_B),
    )


def _width(longest: int, most: int) -> int:
    """Positions of rows of which the longest has so many."""
    return min(most, max(ROUND_UP, -(-longest // ROUND_UP) * ROUND_UP))


def _require_two(shards: TokenShards) -> None:
    if shards.num_tokens < 2:
        raise InputError(
            "there is nothing to predict",
            found=counted(shards.num_tokens, "token"),
            where=str(shards.directory),
            hint="give text",
        )
