"""What a runner is: the part of the engine that turns ids into logits. It knows a model and no text, no sampling.

    prefill   read a prompt: many positions of one sequence, one row of logits out
    decode    read one new id of each of several sequences, one row of logits out for each
    score     read several ids of one sequence and hand out a row for every one of them

Two runners exist: `TorchRunner` calls the torch model and works wherever torch does; `KernelRunner` reads the same
weights through compiled loops, limited by the memory, and promises that the bits of a row depend on nothing but
the ids before it. `build.build_runner` chooses.

Axes: B sequences · T new positions · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from typing import Protocol

import numpy as np

from pellucid.engine.runners.sequence import Sequence
from pellucid.planning.config import ModelConfig


class Runner(Protocol):
    """Ids in, logits out, one row of float32 [V] for each position asked about."""

    config: ModelConfig
    name: str  # for people: "kernels, bf16, 2 threads"
    exact: bool  # whether the bits of a row depend on its own ids alone

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        """A new sequence that holds these ids, none of them read yet, and has room for `max_length`."""
        ...

    def prefill(self, sequence: Sequence) -> np.ndarray:
        """Read every unread id; the logits after the last, [V]."""
        ...

    def decode(self, sequences: abc.Sequence[Sequence]) -> np.ndarray:
        """Read the one unread id of each sequence; the logits after it, [B, V] in the same order."""
        ...

    def score(self, sequence: Sequence) -> np.ndarray:
        """Read every unread id; the logits after each of them, [T, V]."""
        ...

    def refresh(self) -> None:
        """The model's weights have changed: take them up. Sequences started before hold what the old ones read."""
        ...
