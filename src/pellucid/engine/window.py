"""What the model sees of a growing text, and the reading of it.

    the text still fits       everything; each new token costs one position, the others lie in the cache
    it has outgrown           on_full="stop": the generation ends with the reason "context"
    the context               on_full="slide": the oldest tokens leave, except the first `keep_first`, and all that
                              is left is read again at its new positions

Reading again is not a waste that a cleverer cache could save. A cached key was turned to its old position, and every
cached value was computed while the tokens that have left could still be seen: cropped, the cache would describe a text
that nobody wrote. So half of what may leave goes at once, and the next slide is as far away as possible.

What is visible is a function of the text's length alone: a text cut short and continued slides at the same places.

Axes: V vocabulary.
Source: Dai et al. 2019 §3.1 (what goes wrong when stored states are reused at other positions).
"""

from __future__ import annotations

import time
from collections import abc
from dataclasses import dataclass

import numpy as np

from pellucid.counts import counted
from pellucid.engine.account import ReadCost
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.errors import ContextError
from pellucid.events import NULL, Event, Recorder


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which part of a text a model of limited context sees when the oldest tokens may leave.

    >>> window = Window(context_length=8, keep_first=2)
    >>> window.visible(list(range(8))), window.visible(list(range(9)))
    ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 5, 6, 7, 8])

    Raises ContextError when so many tokens are kept that none can leave.
    """

    context_length: int
    keep_first: int

    def __post_init__(self) -> None:
        if self.keep_first >= self.context_length:
            raise ContextError(
                "keep_first leaves nothing to slide",
                found=counted(self.keep_first, "token"),
                where=f"context_length={self.context_length}",
                hint="keep fewer than the context holds",
            )

    @property
    def stride(self) -> int:
        """How many tokens leave at once: half of those that may, at least one."""
        return max(1, (self.context_length - self.keep_first) // 2)

    def num_gone(self, length: int) -> int:
        """How many tokens of a text of this length are no longer seen."""
        beyond = max(0, length - self.context_length)
        return -(-beyond // self.stride) * self.stride

    def visible(self, ids: abc.Sequence[int]) -> list[int]:
        """The ids that are seen, in order."""
        return [*ids[: self.keep_first], *ids[self.keep_first + self.num_gone(len(ids)) :]]


class Reader:
    """Reads one growing text: all its ids, and the sequence of those that the runner sees.

    Without a window the two are the same, and the text must not outgrow the context.
    """

    def __init__(
        self,
        runner: Runner,
        prompt_ids: abc.Sequence[int],
        *,
        max_length: int,
        window: Window | None = None,
        recorder: Recorder = NULL,
    ) -> None:
        self.runner, self.window, self.recorder = runner, window, recorder
        self.ids, self.num_prompt, self.max_length = list(prompt_ids), len(prompt_ids), max_length
        self.num_gone, self.sequence = 0, self._start()

    def read(self) -> tuple[np.ndarray, ReadCost]:
        """The logits after the last id, [V], and what it took to know them."""
        if self.window is not None and self.window.num_gone(len(self.ids)) > self.num_gone:
            self.sequence = self._start()
        sequence, started = self.sequence, time.perf_counter()
        num_reused, num_computed = sequence.cache.length, len(sequence.unread)
        one = num_reused and num_computed == 1
        logits_V = self.runner.decode([sequence])[0] if one else self.runner.prefill(sequence)
        seconds = time.perf_counter() - started
        return logits_V, ReadCost(
            runner=self.runner.name,
            exact=self.runner.exact,
            num_reused=num_reused,
            num_computed=num_computed,
            seconds=seconds,
        )

    def extend(self, token_id: int) -> None:
        """Add the id that was chosen."""
        self.ids.append(token_id)
        self.sequence.extend([token_id])

    def _start(self) -> Sequence:
        """A sequence of all that is visible, none of it read."""
        if self.window is None:
            return self.runner.start(self.ids, max_length=self.max_length)
        seen, self.num_gone = self.window.visible(self.ids), self.window.num_gone(len(self.ids))
        if self.num_gone:
            self._report(len(seen))
        return self.runner.start(seen, max_length=min(self.max_length, self.window.context_length))

    def _report(self, num_seen: int) -> None:
        kept = min(self.window.keep_first, num_seen) if self.window else 0
        self.recorder.record(
            Event(
                name="engine.window_slid",
                message=f"the context is full: of {len(self.ids)} tokens the first {kept} and the last "
                f"{num_seen - kept} are still seen, {self.num_gone} are not; {num_seen} positions are read again",
                data={
                    "length": len(self.ids),
                    "kept_first": kept,
                    "kept_last": num_seen - kept,
                    "gone": self.num_gone,
                    "read_again": num_seen,
                },
            )
        )
