"""The interface of a runner: the part of the engine that turns ids into logits. It knows no text and no sampling.

    read     read what is new in each of several sequences, one row of logits out for each
    score    read what is new in one sequence, a row of logits out for every id of it

What is new may be a whole prompt in one sequence and a single id in the next: a batch of requests at different places
is one call, and a single request is a batch of one.

Three runners exist: `TorchRunner` calls the torch model and works wherever torch does; `KernelRunner` reads the same
weights through compiled loops, limited by memory bandwidth, and promises that the bits of a row depend on nothing but
the ids before it; `QueryRunner` asks a model of two streams for each next place. `build.build_runner` chooses.

Axes: B sequences · T new positions · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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

    def read(self, sequences: abc.Sequence[Sequence]) -> NDArray[np.float32]:
        """Read every unread id of each sequence, one at least; the logits after the last of each, [B, V] in their order."""
        ...

    def score(self, sequence: Sequence) -> NDArray[np.float32]:
        """Read every unread id; the logits after each of them, [T, V]."""
        ...

    def refresh(self) -> None:
        """Take up the model's weights after they changed. Sequences started before hold what the old ones computed."""
        ...
