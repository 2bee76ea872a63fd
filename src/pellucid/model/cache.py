"""The key-value cache: keys and values of the positions already read, so that each new token costs one position.

Place s of a row holds the key and value of place s, so rows of different lengths lie side by side. Attention never sees
what lies behind the end of a row. A key is rotated to its absolute position when it is written. Dropping the oldest
positions would leave every later key at the wrong angle: so a cache is never cropped from the front.

Axes: B batch · G key/value heads · T new positions · S all positions · K head width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import ContextError
from pellucid.model.rows import Rows
from pellucid.planning.config import ModelConfig


class KVCache(Protocol):
    """What a forward pass asks of a key-value cache."""

    @property
    def lengths(self) -> Sequence[int]:
        """How many places of each row every layer holds."""
        ...

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of one layer; return all that it now holds, [B, G, S, K] each."""
        ...

    def advance(self, rows: Rows) -> None:
        """Count the new ids of these rows as held; called once all layers have stored them."""
        ...


class ContiguousCache:
    """A cache with one block of memory per layer, as long as the longest sequence it may hold."""

    def __init__(
        self, config: ModelConfig, *, batch_size: int, max_length: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        shape = (config.n_layers, batch_size, config.n_kv_heads, max_length, config.head_dim)
        self.k_LBGSK = torch.zeros(shape, device=device, dtype=dtype)
        self.v_LBGSK = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths, self.max_length = [0] * batch_size, max_length

    @property
    def length(self) -> int:
        """Places held by the longest row."""
        return max(self.lengths)

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        end = rows.num_all
        if end > self.max_length:
            raise ContextError(
                "the key-value cache is full", found=counted(end, "position"), where=f"room for {self.max_length}"
            )
        k_BGSK, v_BGSK = self.k_LBGSK[layer], self.v_LBGSK[layer]
        if rows.real_N is None:
            k_BGSK[:, :, rows.start : end] = k_BGTK
            v_BGSK[:, :, rows.start : end] = v_BGTK
        else:
            row_N, column_N, place_N = rows.real_N
            k_BGSK[row_N, :, place_N] = k_BGTK[row_N, :, column_N]
            v_BGSK[row_N, :, place_N] = v_BGTK[row_N, :, column_N]
        return k_BGSK[:, :, :end], v_BGSK[:, :, :end]

    def advance(self, rows: Rows) -> None:
        self.lengths = [start + count for start, count in zip(rows.starts, rows.counts, strict=True)]

    def truncate(self, length: int) -> None:
        """Forget every position of every row from `length` on; what is stored there will be written over."""
        assert 0 <= length <= self.length
        self.lengths = [min(held, length) for held in self.lengths]

    def release(self) -> None:
        """Forget every position; the memory goes with the cache itself."""
        self.truncate(0)

    def fork(self) -> ContiguousCache:
        """A copy of the positions held, with the same room."""
        twin = copy.copy(self)
        twin.lengths = list(self.lengths)
        twin.k_LBGSK, twin.v_LBGSK = self.k_LBGSK.clone(), self.v_LBGSK.clone()
        return twin
