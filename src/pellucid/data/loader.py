"""The data loader: which tokens each training row holds, in which shuffled order.

Each row is a pure function of (seed, row number), so a resumed run needs no saved loader state. The N tokens of the
stream are treated as a ring (its last `<eos>` is followed by its first `<bos>`, as between any two documents). The ring
is cut into W = ceil(N / T) windows of T positions, T the context length. Row number p of the run is in epoch
e = p div W and holds

    window  = permutation(seed, e)[p mod W]          every window once per epoch, in another order each time
    start   = (offset(seed, e) + window · T) mod N    cut elsewhere each time, so that texts meet new neighbours

Each row holds the tokens of its window and the one after them, so that every token can be a target exactly once per
epoch (except `<bos>`, which nothing predicts). An objective (`data.objectives`) makes inputs and targets of the rows.
A window may hold the end of one document and the beginning of the next. The one window that is not full is padded, and
padding has weight 0, so every batch has the same shape. Rows 500 to 531 can be computed without rows 0 to 499. (The
order of a few thousand rows is computed at once and cached.)

`DocumentLoader` gives each document a row of its own instead, padded on the right, so no other text stands before it.
It can sort the rows of a few successive updates (a pool) by length. Then the rows of one update are about equally long
and have little padding. The order of the updates within a pool is random. `PairLoader` takes every second document as the source of the next, and puts it beside that one's row.
`LoaderWithOthers` puts beside each row one of another document, drawn from (seed, row number).

Axes: B rows · T positions · S = T + 1 tokens of a row · N places of an order · D documents · U updates of a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from pellucid.counts import counted
from pellucid.data.batch import PairRows, RowsWithOthers, TokenRows
from pellucid.data.permutation import permute
from pellucid.data.settings import RowKind
from pellucid.data.shards import TokenShards
from pellucid.errors import InputError
from pellucid.keyed_random import number

Places = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # numbers of rows -> where each begins, how long it is
ORDER_BLOCK = 1 << 12  # places of an epoch whose order is worked out at once
NUM_MARKS = 3  # of a row of two parts: one at its beginning, and one behind each part
ROUND_UP = 8  # a row of documents is a multiple of so many positions, which products like


class Loader:
    """Rows of training text in a random order that depends on the seed alone.

    `rows(start, count)` gives the rows [start, start + count) of the run, counted from 0 through all epochs.
    `num_rows_per_epoch` rows hold every token once. Raises InputError when there are fewer than two tokens.
    """

    def __init__(self, shards: TokenShards, context_length: int, seed: int) -> None:
        _require_two(shards)
        self.shards, self.row_length, self.seed = shards, context_length, seed
        self.num_rows_per_epoch = -(-shards.num_tokens // context_length)
        # Two are kept, since an update may begin in one and end in the next.
        self._order_block = lru_cache(maxsize=2)(self._new_order_block)
        self._offset = lru_cache(maxsize=2)(self._new_offset)

    def rows(self, start: int, count: int) -> TokenRows:
        """The rows [start, start + count) of the run."""
        index_B = np.arange(start, start + count)
        epoch_B, place_B = np.divmod(index_B, self.num_rows_per_epoch)
        first_B, length_B = np.empty(count, np.int64), np.empty(count, np.int64)
        for epoch in np.unique(epoch_B):
            here = epoch_B == epoch
            first_B[here], length_B[here] = self._windows(int(epoch), place_B[here])
        return gather(self.shards, first_B, length_B, index_B, self.row_length, weighted=True)

    @property
    def num_rows_in_order(self) -> int:
        """How many rows `in_order` has."""
        return num_windows(self.shards.num_tokens, self.row_length)

    def in_order(self, *, rows: int, max_rows: int | None = None) -> Iterator[TokenRows]:
        """The text from beginning to end for evaluation, `rows` at a time; each token is a target once (`windows`)."""
        return windows(self.shards, self.row_length, rows=rows, max_windows=max_rows)

    def _windows(self, epoch: int, place_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size, num_tokens = self.row_length, self.shards.num_tokens
        window_B = self._order(epoch, place_B)
        return (self._offset(epoch) + window_B * size) % num_tokens, np.minimum(size, num_tokens - window_B * size)

    def _new_offset(self, epoch: int) -> int:
        """Where an epoch's first window begins; a text that fits into one window is always read from its beginning."""
        num_tokens = self.shards.num_tokens
        return number(self.seed, "data offset", epoch) % num_tokens if num_tokens > self.row_length else 0

    def _order(self, epoch: int, place_B: np.ndarray) -> np.ndarray:
        """Which row of the text comes at each place of the epoch's order."""
        block_B, within_B = np.divmod(place_B, ORDER_BLOCK)
        row_B = np.empty_like(place_B)
        for block in np.unique(block_B):
            here = block_B == block
            row_B[here] = self._order_block(epoch, int(block))[within_B[here]]
        return row_B

    def _new_order_block(self, epoch: int, block: int) -> np.ndarray:
        place_N = np.arange(block * ORDER_BLOCK, min((block + 1) * ORDER_BLOCK, self.num_rows_per_epoch))
        return permute(place_N, self.num_rows_per_epoch, number(self.seed, "data order", epoch))


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Rows that are sorted by length together: those of `updates` updates of `rows` rows each."""

    rows: int
    updates: int

    @classmethod
    def of(cls, rows: int, updates: int | None) -> Pool | None:
        """The pool of so many updates; None where rows are not sorted."""
        return cls(rows=rows, updates=updates) if updates else None


class DocumentLoader(Loader):
    """Rows that hold one document each, padded on the right.

    A row has as many positions as the longest document needs, at most the context; a longer document continues in
    further rows. With a `pool` a batch has as many positions as its own longest row needs. `padding_share` is the share
    of an epoch that is padding, `mean_row_length` the positions of a row with padding, `num_cut` the number of
    documents that are longer than a row.
    """

    def __init__(self, shards: TokenShards, context_length: int, seed: int, pool: Pool | None = None) -> None:
        super().__init__(shards, context_length, seed)
        starts_D, lengths_D = self._documents()
        targets_D = lengths_D - 1  # a document's first token is no target
        self.row_length = width_for(int(targets_D.max()), context_length)
        rows_D = np.maximum(1, -(-targets_D // self.row_length))
        self._starts_D, self._targets_D, self._ends_D = starts_D, targets_D, np.cumsum(rows_D)
        self.num_rows_per_epoch = int(self._ends_D[-1])
        self.num_cut = int((rows_D > 1).sum())
        self.pool = pool
        self._sorted_pool = lru_cache(maxsize=2)(self._new_sorted_pool)
        positions = self._num_positions()
        self.padding_share = 1 - int(targets_D.sum()) / positions
        self.mean_row_length = positions / self.num_rows_per_epoch
        self.mean_row_tokens = (1 - self.padding_share) * self.mean_row_length

    def _documents(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the documents that make rows begin, and how many tokens each has."""
        starts_D = self.shards.document_starts()
        return starts_D, np.diff(starts_D, append=self.shards.num_tokens)

    def rows(self, start: int, count: int) -> TokenRows:
        """The rows [start, start + count) of the run; with a pool, no longer than the longest of them needs."""
        rows = super().rows(start, count)
        return rows if self.pool is None else rows.cut(width_for(rows.longest, self.row_length))

    def _num_positions(self) -> int:
        """The number of positions in the first epoch's updates, padding included."""
        if self.pool is None:
            return self.num_rows_per_epoch * self.row_length
        _, length_N = self._windows(0, np.arange(self.num_rows_per_epoch))
        updates = np.split(length_N, np.arange(self.pool.rows, len(length_N), self.pool.rows))
        return sum(len(length_B) * width_for(int(length_B.max()), self.row_length) for length_B in updates)

    def _windows(self, epoch: int, place_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.pool is None:
            return self._places(self._order(epoch, place_B))
        size, row_B = self.pool.rows * self.pool.updates, np.empty_like(place_B)
        for pool in np.unique(place_B // size):
            here = place_B // size == pool
            row_B[here] = self._sorted_pool(epoch, int(pool))[place_B[here] - pool * size]
        return self._places(row_B)

    def _new_sorted_pool(self, epoch: int, pool: int) -> np.ndarray:
        """The rows of a pool in reading order: sorted by length, cut into updates, and the updates shuffled."""
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

    @property
    def num_rows_in_order(self) -> int:
        return self.num_rows_per_epoch

    def in_order(self, *, rows: int, max_rows: int | None = None) -> Iterator[TokenRows]:
        """The documents from first to last for evaluation, `rows` at a time; each token is a target once.

        `max_rows` takes that many rows, evenly spaced. The last batch is filled up with rows of weight 0.
        """
        chosen = _evenly(self.num_rows_per_epoch, max_rows)
        return _gather_in_order(self.shards, self._places, chosen, rows, self.row_length)

    def _places(self, row_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        document_B = np.searchsorted(self._ends_D, row_B, side="right")
        before_B = np.where(document_B > 0, self._ends_D[document_B - 1], 0)
        skipped_B = (row_B - before_B) * self.row_length
        left_B = self._targets_D[document_B] - skipped_B
        return self._starts_D[document_B] + skipped_B, np.clip(left_B, 0, self.row_length)


class PairLoader(DocumentLoader):
    """Rows of pairs: the target of each, and its source beside it. Documents are sources and targets in turn.

    Nothing is cut: raises InputError when a source or a target is longer than the context.
    """

    def __init__(self, shards: TokenShards, context_length: int, seed: int, pool: Pool | None = None) -> None:
        starts_D = shards.document_starts()
        lengths_D = np.diff(starts_D, append=shards.num_tokens)
        has_start = shards.manifest.unpredicted_id is not None  # a <bos>, which is not one of the targets
        _check_lengths(shards, lengths_D - has_start * (np.arange(len(lengths_D)) % 2), context_length)
        self._source_starts_D, self._source_lengths_D = starts_D[::2], lengths_D[::2]
        self._source_width = width_for(int(lengths_D[::2].max()), context_length)
        super().__init__(shards, context_length - (not has_start), seed, pool)
        self.mean_row_tokens = shards.num_tokens / self.num_rows_per_epoch  # of source and target together

    def rows(self, start: int, count: int) -> PairRows:
        """The rows [start, start + count) of the run, counted from 0 through all epochs."""
        return self._with_sources(super().rows(start, count))

    def in_order(self, *, rows: int, max_rows: int | None = None) -> Iterator[PairRows]:
        """The pairs from first to last for evaluation, `rows` at a time; the last batch is filled up with empty rows."""
        return map(self._with_sources, super().in_order(rows=rows, max_rows=max_rows))

    def _documents(self) -> tuple[np.ndarray, np.ndarray]:
        starts_D, lengths_D = super()._documents()
        return starts_D[1::2], lengths_D[1::2]

    def _with_sources(self, rows: TokenRows) -> PairRows:
        pair_B = np.searchsorted(self._source_starts_D, rows.first_token_B.numpy(), side="right") - 1
        last_B = np.where(rows.lengths_B.numpy() > 0, self._source_lengths_D[pair_B] - 1, 0)  # `gather` adds one
        width = self._source_width if self.pool is None else width_for(int(last_B.max()) + 1, self._source_width)
        found = gather(self.shards, self._source_starts_D[pair_B], last_B, rows.index_B.numpy(), width - 1)
        return PairRows(**vars(rows), source_BS=found.ids_BS, source_lengths_B=found.lengths_B)


class LoaderWithOthers(DocumentLoader):
    """Rows of documents, and beside each a row of another document, every one of which is as likely.

    A row is shorter than the context, by the marks that an objective puts around and between two parts. Raises InputError
    for a text of one document, and for a context without room for the marks.
    """

    def __init__(self, shards: TokenShards, context_length: int, seed: int, pool: Pool | None = None) -> None:
        _check_others(shards, context_length)
        super().__init__(shards, context_length - NUM_MARKS, seed, pool)
        self.mean_row_length += NUM_MARKS

    def rows(self, start: int, count: int) -> RowsWithOthers:
        """The rows [start, start + count) of the run, counted from 0 through all epochs."""
        return self._with_others(super().rows(start, count))

    def in_order(self, *, rows: int, max_rows: int | None = None) -> Iterator[RowsWithOthers]:
        """The documents from first to last for evaluation, `rows` at a time; each has the same other row every time."""
        return map(self._with_others, super().in_order(rows=rows, max_rows=max_rows))

    def _with_others(self, rows: TokenRows) -> RowsWithOthers:
        own_B = np.searchsorted(self._starts_D, rows.first_token_B.numpy(), side="right") - 1
        before_B = np.where(own_B > 0, self._ends_D[own_B - 1], 0)
        num_own_B = self._ends_D[own_B] - before_B
        keys = [number(self.seed, "other row", index) for index in rows.index_B.tolist()]
        num_others_B = self.num_rows_per_epoch - num_own_B
        drawn_B = np.array([key % num for key, num in zip(keys, num_others_B.tolist(), strict=True)])
        other_B = drawn_B + np.where(drawn_B < before_B, 0, num_own_B)  # its own document is passed over
        found = gather(self.shards, *self._places(other_B), rows.index_B.numpy(), self.row_length, weighted=True)
        return RowsWithOthers(
            **vars(rows),
            others_BS=found.ids_BS,
            other_weights_BS=found.weights_BS,
            other_lengths_B=found.lengths_B,
        )


def build_loader(
    shards: TokenShards,
    *,
    rows: RowKind,
    context_length: int,
    seed: int,
    pool: Pool | None = None,
    with_others: bool = False,
) -> Loader:
    """The loader for this kind of rows; `with_others`: with a row of another document beside each.

    Raises InputError when there are fewer than two tokens, or no other document.
    """
    assert rows == "documents" or not with_others, "only documents have others beside them"
    kinds = {"documents": LoaderWithOthers if with_others else DocumentLoader, "pairs": PairLoader}
    if rows in kinds:
        return kinds[rows](shards, context_length, seed, pool)
    return Loader(shards, context_length, seed)


def num_windows(num_tokens: int, context_length: int) -> int:
    """The number of windows that `windows` cuts a text into.

    >>> num_windows(num_tokens=101, context_length=50), num_windows(num_tokens=102, context_length=50)
    (2, 3)
    """
    return 1 + max(0, -(-(num_tokens - 1 - context_length) // context_length))


def windows(
    shards: TokenShards, context_length: int, *, rows: int, max_windows: int | None = None
) -> Iterator[TokenRows]:
    """The text from beginning to end for evaluation, `rows` windows at a time; each token is a target exactly once.

    `max_windows` takes that many windows, evenly spaced over the text. The last batch is filled up with rows of weight
    0. Raises InputError when there are fewer than two tokens.
    """
    _require_two(shards)
    last = shards.num_tokens - 1

    def places(window_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first_B = window_B * context_length
        return first_B, np.minimum(context_length, last - first_B)

    chosen = _evenly(num_windows(shards.num_tokens, context_length), max_windows)
    return _gather_in_order(shards, places, chosen, rows, context_length)


def _evenly(total: int, most: int | None) -> np.ndarray:
    """The indices of all `total` rows, or of at most `most` of them, evenly spaced."""
    num = min(total, most or total)
    return np.arange(num) * total // num


def _gather_in_order(
    shards: TokenShards, places: Places, chosen_N: np.ndarray, rows: int, context_length: int
) -> Iterator[TokenRows]:
    """The chosen rows, `rows` at a time; the last batch is filled up with rows of weight 0."""
    for begin in range(0, len(chosen_N), rows):
        some_N = chosen_N[begin : begin + rows]
        index_B, first_B, length_B = (np.zeros(rows, np.int64) for _ in range(3))
        here = slice(0, len(some_N))
        index_B[here], (first_B[here], length_B[here]) = some_N, places(some_N)
        yield gather(shards, first_B, length_B, index_B, context_length)


def gather(
    shards: TokenShards,
    first_B: np.ndarray,
    length_B: np.ndarray,
    index_B: np.ndarray,
    context_length: int,
    *,
    weighted: bool = False,
) -> TokenRows:
    """The windows that begin at `first_B` on the ring: `length_B` tokens each, and the one after them.

    A token whose own weight is 0 never counts. Any other token counts its weight when `weighted`, else 1.
    """
    column_S = np.arange(context_length + 1)
    place_BS = (first_B[:, None] + column_S) % shards.num_tokens
    ids_BS = shards.take(place_BS).astype(np.int64)
    filled_B = np.where(length_B > 0, length_B + 1, 0)
    counts_BS = column_S < filled_B[:, None]
    ids_BS[~counts_BS] = 0
    if shards.manifest.unpredicted_id is not None:
        counts_BS &= ids_BS != shards.manifest.unpredicted_id
    weights_BS = counts_BS.astype(np.float32)
    if shards.has_weights:
        told_BS = shards.weights(place_BS)
        weights_BS *= told_BS if weighted else told_BS > 0
    return TokenRows(
        ids_BS=torch.from_numpy(ids_BS),
        weights_BS=torch.from_numpy(weights_BS),
        lengths_B=torch.from_numpy(filled_B),
        first_token_B=torch.from_numpy(first_B),
        index_B=torch.from_numpy(index_B),
    )


def width_for(longest: int, most: int) -> int:
    """The positions that a batch of rows gets when its longest row needs `longest`."""
    return min(most, max(ROUND_UP, -(-longest // ROUND_UP) * ROUND_UP))


def _check_lengths(shards: TokenShards, lengths_D: np.ndarray, context_length: int) -> None:
    if (longest := int(lengths_D.max())) > context_length:
        raise InputError(
            "a text of a pair is longer than the model's context",
            found=f"{counted(longest, 'token')}, and the context has {context_length:,}",
            where=shards.document(int(lengths_D.argmax())).origin,
            hint="give the model a longer context, or remove the pair",
        )


def _check_others(shards: TokenShards, context_length: int) -> None:
    if context_length < NUM_MARKS + 2:
        raise InputError(
            "the context has no room for two parts of a row and their marks",
            found=counted(context_length, "position"),
            hint=f"{NUM_MARKS} of them hold marks: give a longer context",
        )
    if shards.num_documents < 2:
        raise InputError(
            "there is no other text to put beside a row",
            found=counted(shards.num_documents, "document"),
            where=str(shards.directory),
            hint="give several texts (a folder, or a file with a text in each row), or hold out more: data.valid_fraction",
        )


def _require_two(shards: TokenShards) -> None:
    if shards.num_tokens < 2:
        raise InputError(
            "there is nothing to predict",
            found=counted(shards.num_tokens, "token"),
            where=str(shards.directory),
            hint="give text",
        )
