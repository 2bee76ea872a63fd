"""The memory of generation: keys and values of the positions already read, so that each new token costs one position.

A cached key was turned to its absolute position when it was written. Dropping the oldest positions would therefore
leave every later key at the wrong angle: a cache is never cropped from the front.

Axes: B batch · G key/value heads · T new positions · S all positions · K head width.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import ContextError
from pellucid.planning.config import ModelConfig


class KVCache(Protocol):
    """What attention asks of a cache."""

    length: int  # positions held by every layer

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of one layer; return all that it now holds."""
        ...

    def advance(self, num_new: int) -> None:
        """All layers have stored `num_new` positions."""
        ...


class ContiguousCache:
    """One block of memory per layer, as long as the longest sequence it may hold."""

    def __init__(
        self, config: ModelConfig, *, batch_size: int, max_length: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        shape = (config.n_layers, batch_size, config.n_kv_heads, max_length, config.head_dim)
        self.k_LBGSK = torch.zeros(shape, device=device, dtype=dtype)
        self.v_LBGSK = torch.zeros(shape, device=device, dtype=dtype)
        self.length, self.max_length = 0, max_length

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + k_BGTK.size(2)
        if end > self.max_length:
            raise ContextError(
                "the key-value cache is full", found=counted(end, "position"), where=f"room for {self.max_length}"
            )
        self.k_LBGSK[layer, :, :, self.length : end] = k_BGTK
        self.v_LBGSK[layer, :, :, self.length : end] = v_BGTK
        return self.k_LBGSK[layer, :, :, :end], self.v_LBGSK[layer, :, :, :end]

    def advance(self, num_new: int) -> None:
        self.length += num_new

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on; what is stored there will be written over."""
        assert 0 <= length <= self.length
        self.length = length

    def fork(self) -> ContiguousCache:
        """A copy of the positions held, with the same room."""
        twin = copy.copy(self)
        twin.k_LBGSK, twin.v_LBGSK = self.k_LBGSK.clone(), self.v_LBGSK.clone()
        return twin
