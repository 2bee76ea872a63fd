"""The interface of a model. Any class that has it can be trained, run, evaluated and looked at.

Axes: B batch · T new positions · S source positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from pellucid.model.cache import ContiguousCache
from pellucid.model.context import Context, EncodedSource
from pellucid.model.output import Output
from pellucid.planning.config import ModelConfig


class Model(Protocol):
    """Ids in, an `Output` out; everything else a pass depends on is in its `Context`."""

    @property
    def config(self) -> ModelConfig:
        """The axes that it was built from."""
        ...

    @property
    def device(self) -> torch.device:
        """The device that its weights are on; ids must be there too."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its weights."""
        ...

    @property
    def num_parameters(self) -> int:
        """How many parameters the model has; a tensor that two parts share counts once."""
        ...

    def __call__(self, ids_BT: Tensor, context: Context | None = None, *, last_only: bool = False) -> Output:
        """One forward pass over some rows. Without a context it is a plain one, with dropout only in training mode.

        `last_only` scores the last real position of each row alone: generation needs no others.
        """
        ...

    def new_cache(self, max_length: int, *, batch_size: int = 1) -> ContiguousCache:
        """An empty key-value cache for rows of up to `max_length`, on the model's device, in its number format."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Its weights by name."""
        ...


class Encodes(Model, Protocol):
    """A model with an encoder beside its decoder."""

    def encode(self, source_BS: Tensor, context: Context | None = None) -> EncodedSource:
        """What the encoder makes of the source: the `memory` of a context."""
        ...
