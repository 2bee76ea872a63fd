"""The runner that calls the torch model: right everywhere, the oracle of the compiled one.

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
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference


class TorchRunner:
    """Reads ids with the model itself, on whatever device it lives."""

    exact = False

    def __init__(self, model: Decoder) -> None:
        self.model, self.config = model, model.config
        weight = model.embed.weight
        self.name = f"torch, {str(weight.dtype).removeprefix('torch.')}, {weight.device}"

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        return Sequence(list(ids), build_cache(self.model, max_length))

    def read(self, sequences: abc.Sequence[Sequence]) -> np.ndarray:
        return np.concatenate([self._read(sequence, last_only=True) for sequence in sequences])

    def score(self, sequence: Sequence) -> np.ndarray:
        return self._read(sequence, last_only=False)

    def refresh(self) -> None:
        """Nothing: it reads the model itself."""

    def _read(self, sequence: Sequence, *, last_only: bool) -> np.ndarray:
        with inference(self.model):
            ids_BT = torch.tensor([sequence.unread], device=self.model.embed.weight.device)
            logits_BTV = self.model(ids_BT, cache=sequence.cache, last_only=last_only).logits_BTV
            return logits_BTV[0].float().cpu().numpy()


def build_cache(model: Decoder, max_length: int, *, batch_size: int = 1) -> ContiguousCache:
    """An empty cache where the model lives, in its number format."""
    weight = model.embed.weight
    return ContiguousCache(
        model.config, batch_size=batch_size, max_length=max_length, device=weight.device, dtype=weight.dtype
    )
