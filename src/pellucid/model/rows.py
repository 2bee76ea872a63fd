"""The layout of a batch: which place of its row each new id takes, and how many places the row then holds.

    place      0, 1, 2, … along a row, whatever the row is made of; the cache and the masks count in places
    position   the number that the embedding or the rotation uses; the place, unless the caller says otherwise

Rows may differ in how much of them was read before (`starts`) and in how many of the new ids are real (`counts`): the
rest of a shorter row is padding at its end, which is neither kept in the cache nor seen by any real id.

Axes: B batch · T new places · S all places · N the real new ids, flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import RequestError


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The layout of one pass. Counts are plain numbers, so that nothing waits for an accelerator."""

    starts: tuple[int, ...]  # places of each row that were read before
    counts: tuple[int, ...]  # real new ids of each row
    num_new: int  # T: columns of the ids, padding included
    num_all: int  # S: places attended to, those of the longest row
    start: int | None  # where the new ids of every row begin; None where rows differ
    full: bool  # whether every new id is real
    real_N: tuple[Tensor, Tensor, Tensor] | None  # row, column and place of each real id; None: all, side by side
    device: torch.device

    @classmethod
    def of(cls, ids_BT: Tensor, starts: Sequence[int] | None = None, counts: Sequence[int] | None = None) -> Rows:
        """Lay out a batch: `starts` is how much of each row a cache holds, `counts` how many ids of each row are real.

        Raises RequestError for counts or a cache of another number of rows, and for counts that no row can have.

        >>> rows = Rows.of(torch.zeros(2, 3), starts=[4, 1], counts=[1, 3])
        >>> rows.start, rows.num_all, rows.places_BT().tolist()
        (None, 5, [[4, 4, 4], [1, 2, 3]])
        """
        num_rows, num_new = ids_BT.shape
        starts = (0,) * num_rows if starts is None else tuple(starts)
        full, counts = counts is None, (num_new,) * num_rows if counts is None else tuple(counts)
        if not len(starts) == len(counts) == num_rows:
            found = f"rows of ids: {num_rows}, of the cache: {len(starts)}, lengths: {len(counts)}"
            raise RequestError("ids, cache and lengths must be of as many rows", found=found)
        if not all(1 <= count <= num_new for count in counts):
            found = f"lengths={list(counts)}"
            raise RequestError("a row has at least one real id, and no more than its columns", found=found)
        start = starts[0] if starts == starts[:1] * num_rows else None
        ends = (start + num_new,) if start is not None else (s + n for s, n in zip(starts, counts, strict=True))
        real_N = None if full and start is not None else _real_ids(starts, counts, ids_BT.device)
        return cls(
            starts=starts, counts=counts, num_new=num_new, num_all=max(ends), start=start, full=full, real_N=real_N,
            device=ids_BT.device,
        )  # fmt: skip

    @property
    def num_rows(self) -> int:
        return len(self.starts)

    def places_BT(self) -> Tensor:
        """The place of every new id, [B, T]; [1, T] where all rows begin together. Padding stays within the row."""
        t_T = torch.arange(self.num_new, device=self.device)
        if self.start is not None:
            return t_T[None] + self.start
        start_B1 = torch.tensor(self.starts, device=self.device)[:, None]
        return (start_B1 + t_T).clamp(max=self.num_all - 1)

    def last(self, x_BTD: Tensor) -> Tensor:
        """The vector of the last real id of each row, [B, 1, D]."""
        if self.full:
            return x_BTD[:, -1:]
        column_B = torch.tensor(self.counts, device=self.device) - 1
        return x_BTD[torch.arange(self.num_rows, device=self.device), column_B][:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedRows(Rows):
    """A layout of one shape whose places are told on the device: one recorded pass serves rows of any length.

    A place from `num_all` on is none: what stands there is seen by nobody, and sees what the last place sees.
    """

    place_BT: Tensor

    @classmethod
    def at(cls, place_BT: Tensor, num_all: int) -> PlacedRows:
        """Rows of new ids at these places, each of which may look at the first `num_all` places of its row.

        >>> rows = PlacedRows.at(torch.tensor([[7], [2], [9]]), num_all=9)
        >>> rows.num_rows, rows.start, rows.places_BT().tolist()
        (3, None, [[7], [2], [8]])
        """
        num_rows, num_new = place_BT.shape
        return cls(
            starts=(0,) * num_rows, counts=(num_new,) * num_rows, num_new=num_new, num_all=num_all, start=None, full=True,
            real_N=None, device=place_BT.device, place_BT=place_BT,
        )  # fmt: skip

    def places_BT(self) -> Tensor:
        return self.place_BT.clamp(max=self.num_all - 1)


def _real_ids(starts: Sequence[int], counts: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    real = [
        (row, column, start + column)
        for row, (start, count) in enumerate(zip(starts, counts, strict=True))
        for column in range(count)
    ]
    row_N, column_N, place_N = torch.tensor(real, device=device).unbind(1)
    return row_N, column_N, place_N
