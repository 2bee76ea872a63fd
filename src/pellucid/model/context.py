"""The inputs of one forward pass beside its ids (`Context`), and what is computed from them once (`Pass`).

    model(ids_BT)                                      a plain pass
    model(ids_BT, Context(cache=cache))                goes on from what the cache holds
    model(ids_BT, Context(core=ExplicitCore(), tap=taps))      shows every tensor on its way

A context belongs to one pass. Nothing of it is ever written into the model, so passes of different kinds may run
through one model at the same time.

Axes: B batch · T new positions · S all positions · D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from pellucid.errors import RequestError
from pellucid.model.cache import KVCache
from pellucid.model.core import Core, LoweredMask
from pellucid.model.mask import Mask
from pellucid.model.position import AnyTurn, Positions
from pellucid.model.rows import Rows
from pellucid.model.segment_memory import SegmentMemory
from pellucid.model.tap import Tap, no_tap
from pellucid.planning.parts.position import Rotary


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSource:
    """What an encoder made of the source, [B, S, D]: a decoder's cross-attention reads it.

    Each block makes keys and values of it when it first reads it, and finds them again at every later step.
    """

    source_BSD: Tensor
    lengths: Sequence[int] | None  # real positions of each row, the rest being padding at its end (None: all are real)
    _made: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def keys_and_values(self, layer: int, make: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Those of one block; `make` computes them the first time."""
        if layer not in self._made:
            self._made[layer] = make(self.source_BSD)
        return self._made[layer]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadingOrder:
    """In which order a row becomes known, and which of its places are asked for: by a model of two streams.

    The content of a place sees all places of its own rank and lower; a query sees lower ranks only, so not its own token.
    """

    ranks_BT: Tensor  # from 0: the rank of each place
    places_BP: Tensor  # the places that are scored, counted from the first new one

    def check(self, ids_BT: Tensor) -> None:
        """Raise RequestError for an order of other rows."""
        shape, num_places = tuple(self.ranks_BT.shape), self.places_BP.size(-1)
        fits = shape == tuple(ids_BT.shape) and self.places_BP.ndim == 2 and len(self.places_BP) == len(ids_BT)
        if not fits or not num_places:
            found = f"ranks {shape}, places {tuple(self.places_BP.shape)}, ids {tuple(ids_BT.shape)}"
            raise RequestError("an order has a rank for each id, and places in each row", found=found)
        low, high = int(self.places_BP.min()), int(self.places_BP.max())
        if low < 0 or high >= ids_BT.size(1) or int(self.ranks_BT.min()) < 0:
            found = f"places from {low} to {high}, ranks from {int(self.ranks_BT.min())}"
            where = f"rows of {ids_BT.size(1)} ids"
            raise RequestError("an order names places of its rows, and ranks from 0", found=found, where=where)


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """All that a forward pass depends on beside ids and weights. The default: whole rows, the model's own mask."""

    cache: KVCache | None = None  # keys and values read before; the new ones are added
    lengths: Sequence[int] | None = None  # real ids of each row, the rest being padding at its end (None: all are real)
    rows: Rows | None = (
        None  # the layout of the batch, by whoever lays it out himself (None: that of cache and lengths)
    )
    mask: Mask | None = None  # which place may see which (None: the model's own); a block's window comes on top
    positions_BT: Tensor | None = None  # of the new ids, below context_length (None: their places in the row)
    segments_BT: Tensor | None = None  # which part of its row each new id belongs to, from 0 (None: the first)
    memory: EncodedSource | None = None  # what the encoder made of the source, where the model has an encoder
    order: ReadingOrder | None = (
        None  # which places are predicted in which order, by a model of two streams (None: its content)
    )
    earlier: SegmentMemory | None = None  # what such a model read of earlier segments; the new one is added
    core: Core | None = None  # what computes attention (None: the fastest for the model's device)
    tap: Tap = no_tap  # is shown every tensor on its way and may replace it
    training: bool = False  # whether dropout acts


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """What all blocks of one forward pass share, computed once from its context."""

    rows: Rows
    positions: Positions
    turns: Mapping[Rotary | None, AnyTurn]  # how queries and keys turn to their positions, by the rotation of a block
    core: Core
    masks: Mapping[int | None, LoweredMask]  # by the window of a block
    segments_BT: Tensor | None
    memory: EncodedSource | None
    source_mask: LoweredMask  # of cross-attention
    cache: KVCache | None
    tap: Tap
    training: bool
