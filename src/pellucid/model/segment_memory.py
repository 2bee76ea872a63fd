"""The memory of earlier segments: what each block read there, so that a long text is read segment by segment.

    seen = [what is held, what is new]        keys and values are made of both
    held = the last of seen                   for the next segment, without its gradient

A segment is read by the weights of now, and its memory too: what is kept are the inputs of attention, not keys. No
gradient flows into an earlier segment. It is *not* the key-value cache of a decoder, whose ids count as of the same row.

Axes: B batch · M places held · T new places · S = M + T · D width.
Source: Dai et al. 2019, "Transformer-XL", §3.2; Yang et al. 2019, "XLNet", §2.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class SegmentMemory:
    """What the blocks of a model read in earlier segments; each pass adds its own.

    >>> memory = SegmentMemory(most=3)
    >>> for first in (0, 2):
    ...     seen = memory.update(0, torch.arange(first, first + 2.0).view(1, 2, 1))
    ...     memory.advance()
    >>> seen.flatten().tolist(), memory.length, memory.held[0].flatten().tolist()
    ([0.0, 1.0, 2.0, 3.0], 3, [1.0, 2.0, 3.0])
    """

    def __init__(self, most: int = 0, held: Sequence[Tensor] = ()) -> None:
        """`most`: states kept for each block (0: all of them); `held`: those of each block, [B, M, D], to begin with."""
        self.most, self.held = most, list(held)
        self._next: list[Tensor] = []

    @property
    def length(self) -> int:
        """M, how many places are held."""
        return self.held[0].size(1) if self.held else 0

    def update(self, layer: int, x_BTD: Tensor) -> Tensor:
        """All that a block sees, [B, S, D]: what is held and what is new. The blocks are told in their order."""
        seen_BSD = torch.cat((self.held[layer], x_BTD), 1) if self.held else x_BTD
        self._next = [*self._next[:layer], seen_BSD[:, -self.most :].detach()]
        return seen_BSD

    def advance(self) -> None:
        """Hold what the blocks saw; called once all of them have."""
        self.held, self._next = self._next, []
