"""The runner that calls the torch model: it works on every device, and is the reference for the compiled one.

Sequences are read one after the other, each with a contiguous cache of its own, so a neighbour cannot change a bit.
A prompt read whole and the same prompt read in pieces may differ in the last bits all the same: torch chooses the
order of its sums by the number of rows. That is why `exact` is False here.

Axes: B sequences · T new positions · V vocabulary.
"""

from __future__ import annotations

from collections import abc

import numpy as np
import torch

from pellucid.engine.runners.sequence import Sequence
from pellucid.model.cache import ContiguousCache
from pellucid.model.context import Context
from pellucid.model.device import inference
from pellucid.model.protocol import Model


class TorchRunner:
    """Reads ids with the model itself, on whatever device it lives."""

    exact = False

    def __init__(self, model: Model) -> None:
        self.model, self.config = model, model.config
        self.name = f"torch, {str(model.dtype).removeprefix('torch.')}, {model.device}"

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        return Sequence(list(ids), self.model.new_cache(max_length))

    def read(self, sequences: abc.Sequence[Sequence]) -> np.ndarray:
        return np.concatenate([self._read(sequence, last_only=True) for sequence in sequences])

    def score(self, sequence: Sequence) -> np.ndarray:
        return self._read(sequence, last_only=False)

    def refresh(self) -> None:
        """Nothing: it reads the model itself."""

    def _read(self, sequence: Sequence, *, last_only: bool) -> np.ndarray:
        cache = sequence.cache
        assert isinstance(cache, ContiguousCache), "a sequence is read by the runner that started it"
        with inference():
            ids_BT = torch.tensor([sequence.unread], device=self.model.device)
            logits_BTV = self.model(ids_BT, Context(cache=cache), last_only=last_only).logits_BTV
            return logits_BTV[0].float().cpu().numpy()
