"""The logits after any ids, read through the engine's own runner, with the keys and values of earlier reads put to use.

    asked for the row after      a b c d e
    a sequence kept holds        a b c x         its first three positions are reused (grey), d and e are computed

Rows lie here for a while too: asked twice, nothing is read, and the answer tells of the first time. A runner whose bits depend on the ids alone (the compiled
loops) may share any beginning. torch chooses the order of its sums by how many ids it reads at once; there a prompt is
always read whole and what follows token by token, as `pellucid generate` does, so that the same seed finds the same
token here and on the command line.

Axes: V vocabulary.
"""

from __future__ import annotations

import time
from collections import OrderedDict, abc

import numpy as np

from pellucid.counts import counted
from pellucid.engine.account import ReadCost
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.errors import ContextError

NUM_SEQUENCES = 4  # caches kept: one for each branch that somebody is likely to be on
NUM_ROWS = 64  # rows of logits kept: at 50,000 tokens 13 MB
ROOM = 256  # positions that a cache has beyond twice the text it starts with


class LogitsCache:
    """Logits after ids, and what it took to know them."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.sequences: list[Sequence] = []  # the one used last at the end
        self.rows: OrderedDict[tuple[int, ...], tuple[np.ndarray, ReadCost]] = OrderedDict()

    def after(self, ids: abc.Sequence[int], num_prompt: int) -> tuple[np.ndarray, ReadCost]:
        """The logits after the last of these ids, [V], of which the first `num_prompt` are a prompt.

        Raises ContextError for more ids than the context holds.
        """
        key = tuple(ids)
        if key not in self.rows:
            self._check(len(key))
            self.rows[key] = self._read(key, num_prompt)
            if len(self.rows) > NUM_ROWS:
                self.rows.popitem(last=False)
        self.rows.move_to_end(key)
        return self.rows[key]

    def _check(self, length: int) -> None:
        if length > self.runner.config.context_length:
            raise ContextError(
                "the text is longer than the context of this model",
                found=counted(length, "token"),
                where=f"context_length={self.runner.config.context_length}",
                hint="shorten the text",
            )

    def _read(self, ids: tuple[int, ...], num_prompt: int) -> tuple[np.ndarray, ReadCost]:
        started = time.perf_counter()
        sequence = self._continue(ids, num_prompt)
        reused = sequence.cache.length
        for end in self._pieces(reused, num_prompt, len(ids)):
            sequence.extend(ids[len(sequence.ids) : end])
            row_V = self.runner.read([sequence])[0]
        return row_V, ReadCost(
            runner=self.runner.name,
            exact=self.runner.exact,
            num_reused=reused,
            num_computed=len(ids) - reused,
            seconds=time.perf_counter() - started,
        )

    def _pieces(self, start: int, num_prompt: int, length: int) -> abc.Sequence[int]:
        """Where to cut what has to be read: nowhere, or as a generation would have read it."""
        return (length,) if self.runner.exact else range(max(start + 1, min(num_prompt, length)), length + 1)

    def _continue(self, ids: tuple[int, ...], num_prompt: int) -> Sequence:
        """A sequence that holds a beginning of `ids`, as much of it read as can be; it is kept as the one used last."""
        best, shared = None, 0
        for sequence in self.sequences:
            length = self._usable(sequence, ids, num_prompt)
            if length > shared:
                best, shared = sequence, length
        if best is None:
            best = self.runner.start([], max_length=min(self.runner.config.context_length, ROOM + 2 * len(ids)))
        elif shared == len(best.ids):  # the text goes on where this one ends
            self.sequences.remove(best)
        else:
            best = best.fork()
            best.truncate(shared)
        self.sequences = [*self.sequences, best][-NUM_SEQUENCES:]
        return best

    def _usable(self, sequence: Sequence, ids: tuple[int, ...], num_prompt: int) -> int:
        """How many read positions of a sequence can be put to use; the last id must be read to know its row."""
        if sequence.cache.max_length < len(ids):
            return 0
        most = min(sequence.cache.length, len(ids) - 1)
        shared = next((place for place in range(most) if sequence.ids[place] != ids[place]), most)
        return shared if self.runner.exact or shared >= num_prompt else 0
