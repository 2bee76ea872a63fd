"""The runner of a model of two streams: it asks for the place behind the ids, which are all known.

    ids      the  cat  sat   ?         every id sees every other; the query of the last place sees them all

It is slow: the ids see each other, so a new one changes what all others are known as, and each step reads the whole row again, one row
at a time. There are no keys and values to keep. Each row is the model's own distribution of the next token given those before
it, so their product is the likelihood of a text, told from left to right.

Axes: B sequences · T new positions · V vocabulary.
Source: Yang et al. 2019, "XLNet", §2.3.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, replace

import numpy as np
import torch

from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.model.context import Context, ReadingOrder
from pellucid.model.device import inference
from pellucid.model.protocol import Model

ANY_ID = 0  # stands at the place that is asked for; nothing sees it


@dataclass
class Count:
    """How many ids were read: all that is kept of them."""

    max_length: int
    length: int = 0

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        assert 0 <= length <= self.length
        self.length = length

    def fork(self) -> Count:
        """An independent copy."""
        return replace(self)

    def release(self) -> None:
        """Forget every position."""
        self.length = 0


class QueryRunner(Runner):
    """Reads ids with a model of two streams, and asks it for what follows them."""

    exact = True

    def __init__(self, model: Model) -> None:
        self.model, self.config = model, model.config
        self.name = f"torch, a query for each token, {str(model.dtype).removeprefix('torch.')}, {model.device}"

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        return Sequence(list(ids), Count(max_length))

    def read_parts(self, parts: abc.Sequence[ReadPart]) -> np.ndarray:
        rows = [np.empty((0, self.config.vocab_size), np.float32)]
        for part in parts:
            cache = part.sequence.cache
            assert isinstance(cache, Count), "a sequence is read by the runner that started it"
            cache.length += part.count
            lengths = range(cache.length - part.num_rows + 1, cache.length + 1)
            rows += [self._ask(part.sequence.ids[:length])[None] for length in lengths]
        return np.concatenate(rows)

    def set_aside(self, memory_bytes: int | None) -> QueryRunner:
        """Itself: it keeps no keys and values."""
        return self

    def refresh(self) -> None:
        """Nothing: it reads the model itself."""

    def _ask(self, ids: abc.Sequence[int]) -> np.ndarray:
        """The logits of the place behind some ids, [V]."""
        known = len(ids)
        ranks_BT = torch.tensor([[0] * known + [1]], device=self.model.device)
        order = ReadingOrder(ranks_BT=ranks_BT, places_BP=torch.tensor([[known]], device=self.model.device))
        with inference():
            ids_BT = torch.tensor([[*ids, ANY_ID]], device=self.model.device)
            return self.model(ids_BT, Context(order=order)).logits_BTV[0, 0].float().cpu().numpy()
