"""The interface of a runner: the part of the engine that turns ids into logits. It knows no text and no sampling.

    read_parts    read some unread ids of each of several sequences in one pass; rows of logits out after those wanted
    read          read what is new in each of several sequences, one row of logits out for each
    score         read what is new in one sequence, a row of logits out for every id of it

What is new may be a whole prompt in one sequence, a piece of one in the next and a single id in a third: a batch of
requests at different places is one call, and a single request is a batch of one.

Three runners exist: `TorchRunner` calls the torch model and works wherever torch does; `KernelRunner` reads the same
weights through compiled loops, limited by memory bandwidth, and promises that the bits of a row depend on nothing but
the ids before it; `QueryRunner` asks a model of two streams for each next place. `build.build_runner` chooses.

Axes: B sequences · T new positions · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.sampling.rows import AnyRow
from pellucid.planning.config import ModelConfig


@dataclass(frozen=True, slots=True)
class ReadPart:
    """What a pass reads of one sequence: its next `count` unread ids; the last `num_rows` of them give a row of logits."""

    sequence: Sequence
    count: int
    num_rows: int


class CachePool(Protocol):
    """Memory for keys and values, for which the sequences of a runner ask."""

    @property
    def num_made(self) -> int:
        """Pages that there are: neighbouring positions of one text, or all of them."""
        ...

    @property
    def page_bytes(self) -> int:
        """The memory of one page; 0 while there is none."""
        ...

    def has_room(self, lengths: abc.Sequence[int], num_growing: int) -> bool:
        """Whether texts of these lengths fit beside so many others, which grow."""
        ...


class Runner(Protocol):
    """Ids in, logits out, one row of float32 [V] for each position asked about."""

    config: ModelConfig
    name: str  # for people: "kernels, bf16, 2 threads"
    exact: bool  # whether the bits of a row depend on its own ids alone
    pool: CachePool | None = None  # where the keys and values of its sequences lie; None: each has memory of its own

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        """A new sequence that holds these ids, none of them read yet, and has room for `max_length`."""
        ...

    def read_parts(self, parts: abc.Sequence[ReadPart]) -> NDArray[np.float32]:
        """Read these parts, of a sequence each; the rows that are wanted of them, in their order, [N, V]."""
        ...

    def read_held(self, parts: abc.Sequence[ReadPart]) -> abc.Sequence[AnyRow]:
        """As `read_parts`, each row left where it was computed until it is looked at; good until the next pass is read."""
        return self.read_parts(parts)  # type: ignore[return-value]  # an array is a sequence of rows

    def set_aside(self, memory_bytes: int | None) -> Runner:
        """The same runner with a pool of its own for keys and values, of so many bytes (None: of as many as are needed)."""
        ...

    def refresh(self) -> None:
        """Take up the model's weights after they changed. Sequences started before hold what the old ones computed."""
        ...

    def read(self, sequences: abc.Sequence[Sequence]) -> NDArray[np.float32]:
        """Read every unread id of each sequence, one at least; the logits after the last of each, [B, V] in their order."""
        return self.read_parts([ReadPart(sequence, len(sequence) - sequence.cache.length, 1) for sequence in sequences])

    def score(self, sequence: Sequence) -> NDArray[np.float32]:
        """Read every unread id; the logits after each of them, [T, V]."""
        count = len(sequence) - sequence.cache.length
        return self.read_parts([ReadPart(sequence, count, count)])
