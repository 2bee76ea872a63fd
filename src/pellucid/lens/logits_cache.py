"""The logits after any ids, computed by the engine's runner; keys and values (KV cache) of earlier reads are reused.

    asked for the row after      a b c d e
    a sequence kept holds        a b c x         its first three positions are reused (grey), d and e are computed

Rows of logits are cached too: a second request reads nothing and reports the cost of the first. A runner whose bits
depend on the ids alone (the compiled loops) may reuse any shared beginning. In torch the order of a sum depends on how
many ids are read at once. So torch always reads a prompt whole and the rest token by token, as `pellucid generate`
does; the same seed then gives the same token here and on the command line.

A model that reads a source beside its text has a runner, and so a cache, for each source (`SourceRows`).

Axes: V vocabulary.
"""

from __future__ import annotations

import time
from collections import OrderedDict, abc
from typing import Protocol

import numpy as np

from pellucid.counts import counted
from pellucid.engine.account import ReadCost
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.runners.torch_runner import with_source
from pellucid.errors import ContextError

NUM_SEQUENCES = 4  # caches kept: one for each branch that somebody is likely to be on
NUM_ROWS = 64  # rows of logits kept: at 50,000 tokens 13 MB
ROOM = 256  # positions that a cache has beyond twice the text it starts with


class LogitRows(Protocol):
    """Whatever computes the logits after some ids."""

    def after(self, ids: abc.Sequence[int], num_prompt: int) -> tuple[np.ndarray, ReadCost]:
        """The logits after the last of these ids, [V], of which the first `num_prompt` are a prompt."""
        ...


class LogitsCache:
    """The logits after some ids, and how many positions were reused and read for them."""

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
        """The pieces in which the new ids are read: one piece, or those in which a generation would read them."""
        return (length,) if self.runner.exact else range(max(start + 1, min(num_prompt, length)), length + 1)

    def _continue(self, ids: tuple[int, ...], num_prompt: int) -> Sequence:
        """The cached sequence that shares the longest beginning with `ids`; it becomes the most recently used one."""
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
        """How many positions of a sequence can be reused; the last id must always be read to get its logits."""
        if sequence.cache.max_length < len(ids):
            return 0
        most = min(sequence.cache.length, len(ids) - 1)
        shared = next((place for place in range(most) if sequence.ids[place] != ids[place]), most)
        return shared if self.runner.exact or shared >= num_prompt else 0


class SourceRows:
    """The logits of a model with an encoder: a cache for each of the sources that were read last.

    Of the prompt all ids but the last are the source; with the last the decoder begins.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.caches: OrderedDict[tuple[int, ...], LogitsCache] = OrderedDict()

    def after(self, ids: abc.Sequence[int], num_prompt: int) -> tuple[np.ndarray, ReadCost]:
        source = tuple(ids[: num_prompt - 1])
        if source not in self.caches:
            self.caches[source] = LogitsCache(with_source(self.runner, source))
            if len(self.caches) > NUM_SEQUENCES:
                self.caches.popitem(last=False)
        self.caches.move_to_end(source)
        return self.caches[source].after(ids[num_prompt - 1 :], 1)
