"""Beside each row, another row of the same text that has nothing to do with it: the wrong answer to “what follows?”.

Which one is drawn for each row of the run from the seed alone, so a resumed run draws it again. It is never the row
itself, but may come from the same document where documents are longer than a row.

Axes: B rows · S tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.data.batch import TokenRows
from pellucid.data.loader import Loader
from pellucid.errors import InputError
from pellucid.keyed_random import number


@dataclass(frozen=True, kw_only=True)
class RowsWithOthers(TokenRows):
    """Rows, and an unrelated one beside each."""

    others_BS: Tensor  # int64; 0 at padding
    other_weights_BS: Tensor  # float32
    other_lengths_B: Tensor  # int64


class LoaderWithOthers:
    """The rows of a loader, each with another beside it. Raises InputError for a text of a single row."""

    def __init__(self, loader: Loader) -> None:
        self.loader, self.num_rows_per_epoch = loader, loader.num_rows_per_epoch
        if self.num_rows_per_epoch < 2:
            raise InputError(
                "there is no other text to put beside a row",
                found="a text of one row",
                where=str(loader.shards.directory),
                hint="give more text, or take a shorter context",
            )

    def rows(self, start: int, count: int) -> RowsWithOthers:
        """The rows [start, start + count) of the run, counted from 0 through all epochs."""
        return self._with_others(self.loader.rows(start, count))

    def in_order(self, *, rows: int, max_rows: int | None = None) -> Iterator[RowsWithOthers]:
        """The text from beginning to end for evaluation, `rows` at a time."""
        return map(self._with_others, self.loader.in_order(rows=rows, max_rows=max_rows))

    def _with_others(self, rows: TokenRows) -> RowsWithOthers:
        others = [self._other(*own) for own in zip(rows.index_B.tolist(), rows.first_token_B.tolist(), strict=True)]
        width = max(other.ids_BS.size(1) for other in others)
        pads = [(0, width - other.ids_BS.size(1)) for other in others]
        return RowsWithOthers(
            **vars(rows),
            others_BS=torch.cat([F.pad(other.ids_BS, pad) for other, pad in zip(others, pads, strict=True)]),
            other_weights_BS=torch.cat([F.pad(other.weights_BS, pad) for other, pad in zip(others, pads, strict=True)]),
            other_lengths_B=torch.cat([other.lengths_B for other in others]),
        )

    def _other(self, index: int, first_token: int) -> TokenRows:
        """Another row than the one of this index, which begins at this token, of the same epoch."""
        epoch = index // self.num_rows_per_epoch * self.num_rows_per_epoch
        place = number(self.loader.seed, "other row", index) % self.num_rows_per_epoch
        found = self.loader.rows(epoch + place, 1)
        if found.first_token_B.item() != first_token:
            return found
        return self.loader.rows(epoch + (place + 1) % self.num_rows_per_epoch, 1)
