"""The memory of keys and values on an accelerator, in slots: one for each text, all of one length, side by side.

    bank      so many slots in one block of memory, which one pass reads together
    slot      a row of a bank: the keys and values of one text, from its first position on
    aside     one place behind the last of each slot, which nobody looks at: rows that only fill up a pass write there

Products over many texts want their keys in one block, and a recorded pass wants them at one address: so a text has a
slot as long as the context, where the loops for a CPU have pages (`pages`). A slot is a page as long as a text: it is
taken when the text is first read, and given back as a whole.

Axes: L layers · B rows of a pass · G key/value heads · T new positions · S places of a slot · K head width.
"""

from __future__ import annotations

import heapq
from collections import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.engine.runners.fixed_pass import FixedPass
from pellucid.engine.runners.sequence import PooledCache
from pellucid.errors import ContextError, OutOfPagesError
from pellucid.model.rows import PlacedRows, Rows
from pellucid.planning.config import ModelConfig


class Bank:
    """Slots that one pass reads side by side."""

    def __init__(
        self, config: ModelConfig, *, num_slots: int, device: torch.device | str, dtype: torch.dtype, number: int = 0
    ) -> None:
        """`number` says where it stands among the banks of a pool."""
        self.num_slots, self.length, self.number = num_slots, config.context_length, number
        self.passes: dict[str, FixedPass] = {}  # those over this bank, by their shape; a recording knows where it lies
        shape = (config.n_layers, num_slots, config.n_kv_heads, self.length + 1, config.head_dim)
        # Zeros: what a pass hides is multiplied by 0, and 0 times whatever lay in fresh memory may be NaN.
        self.k_LBGSK = torch.zeros(shape, device=device, dtype=dtype)
        self.v_LBGSK = torch.zeros(shape, device=device, dtype=dtype)

    @staticmethod
    def num_bytes(config: ModelConfig, *, num_slots: int, dtype: torch.dtype) -> int:
        """The memory of so many slots, in bytes."""
        places = config.n_layers * config.n_kv_heads * (config.context_length + 1)
        return 2 * num_slots * places * config.head_dim * dtype.itemsize

    def copy(self, row: int, other: Bank, other_row: int, length: int) -> None:
        """Take over the first positions of another slot."""
        for own, source in ((self.k_LBGSK, other.k_LBGSK), (self.v_LBGSK, other.v_LBGSK)):
            own[:, row, :, :length] = source[:, other_row, :, :length]


@dataclass(frozen=True, eq=False)
class Seats:
    """The slots of a bank that the rows of one pass stand for: the first ones, or those that are named."""

    bank: Bank
    row_B1: Tensor  # the slot of each row
    are_first: bool  # whether these are the first slots in their order, so that nothing need be gathered

    @property
    def lengths(self) -> Sequence[int]:
        """Never asked for: whoever has seats lays out the rows himself."""
        raise NotImplementedError

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """As `KVCache.update`."""
        place_BT = rows.place_BT if isinstance(rows, PlacedRows) else rows.places_BT()
        held = []
        for memory_LBGSK, new_BGTK in ((self.bank.k_LBGSK, k_BGTK), (self.bank.v_LBGSK, v_BGTK)):
            memory_BGSK = memory_LBGSK[layer]
            memory_BGSK[self.row_B1, :, place_BT] = new_BGTK.transpose(1, 2).to(memory_BGSK.dtype)
            seen_BGSK = memory_BGSK[:, :, : rows.num_all]
            held.append(seen_BGSK[: len(self.row_B1)] if self.are_first else seen_BGSK[self.row_B1[:, 0]])
        return held[0], held[1]

    def advance(self, rows: Rows) -> None:
        """Nothing: the cache of each text counts for itself."""


class SlotPool:
    """Banks of slots, made when they are needed, up to a budget.

    >>> config = ModelConfig.from_axes(vocab_size=9, context_length=4, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=2)
    >>> pool = SlotPool(lambda number: Bank(config, num_slots=2, device="cpu", dtype=torch.float32, number=number), budget=1)
    >>> (bank, row), other = pool.take(), pool.take()
    >>> row, pool.num_used, pool.has_room([3], 1), pool.release(bank, row), pool.has_room([3], 1), pool.take()[1]
    (0, 2, False, None, True, 0)
    """

    def __init__(self, make_bank: Callable[[int], Bank], *, budget: int | None = None) -> None:
        """`budget` is the banks there may be (None: as many as are asked for)."""
        self.make_bank, self.budget = make_bank, budget
        self.banks: list[Bank] = []
        self._free: list[tuple[int, int]] = []  # lowest first, so that few rows fill up a small pass

    @property
    def num_made(self) -> int:
        """Slots that there are."""
        return sum(bank.num_slots for bank in self.banks)

    @property
    def page_bytes(self) -> int:
        """The memory of one slot; 0 while there is none."""
        return sum((bank.k_LBGSK.nbytes + bank.v_LBGSK.nbytes) // bank.num_slots for bank in self.banks[:1])

    @property
    def num_used(self) -> int:
        """Slots that a text in progress uses."""
        return self.num_made - len(self._free)

    def has_room(self, lengths: abc.Sequence[int], num_growing: int) -> bool:
        """Whether there is a slot for each of these texts; others that grow need no more than theirs."""
        if self.budget is None or not self.banks:
            return True
        more = (self.budget - len(self.banks)) * self.banks[0].num_slots
        return len(self._free) + more >= len(lengths)

    def take(self) -> tuple[Bank, int]:
        """A slot for one text, with whatever lies in it. Raises OutOfPagesError when all are used."""
        if not self._free:
            if self.budget is not None and len(self.banks) >= self.budget:
                raise OutOfPagesError(
                    "no memory for keys and values is left",
                    found=f"{counted(self.num_used, 'slot')} in use",
                    hint="give the cache more memory, or ask for fewer texts at once",
                )
            bank = self.make_bank(len(self.banks))
            self.banks.append(bank)
            self._free = [(bank.number, row) for row in range(bank.num_slots)]
        number, row = heapq.heappop(self._free)
        return self.banks[number], row

    def release(self, bank: Bank, row: int) -> None:
        """Give a slot back."""
        assert (bank.number, row) not in self._free, "a slot was given back twice"
        heapq.heappush(self._free, (bank.number, row))


class SlotCache(PooledCache):
    """The key-value cache of one text: a slot, from when it is first read to when it is given back."""

    def __init__(self, pool: SlotPool, max_length: int) -> None:
        self.pool, self.max_length = pool, max_length
        self._length = 0
        self.slot: tuple[Bank, int] | None = None

    @property
    def length(self) -> int:
        """Positions held."""
        return self._length

    @property
    def num_pages(self) -> int:
        """1 where it has a slot."""
        return 0 if self.slot is None else 1

    def reserve(self, length: int) -> None:
        """See that there is a slot. Raises ContextError for more than `max_length`, OutOfPagesError when all are used."""
        if length > self.max_length:
            raise ContextError(
                "the key-value cache is full", found=counted(length, "position"), where=f"room for {self.max_length}"
            )
        if self.slot is None:
            self.slot = self.pool.take()

    def hold(self, length: int) -> None:
        """Count the positions up to `length` as held: a runner has written them."""
        assert self.slot is not None, "nothing is held without a slot"
        self._length = length

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        assert 0 <= length <= self._length
        self._length = length

    def fork(self) -> SlotCache:
        """Another cache of the same positions; where no slot is left, one that holds none of them yet."""
        twin = SlotCache(self.pool, self.max_length)
        if self.slot is None or not self.pool.has_room([self._length], 0):
            return twin
        twin.reserve(self._length)
        assert twin.slot is not None
        twin.slot[0].copy(twin.slot[1], *self.slot, self._length)
        twin._length = self._length
        return twin

    def release(self) -> None:
        """Forget every position and give the slot back."""
        if self.slot is not None:
            self.pool.release(*self.slot)
        self.slot, self._length = None, 0

    def __del__(self) -> None:  # a text that was left half written
        if getattr(self, "slot", None) is not None:
            self.release()
