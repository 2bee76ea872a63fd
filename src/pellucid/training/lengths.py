"""The number of steps of a run with a time budget: planned first, then corrected by the clock, on record.

    {"step": 40, "old": 99, "new": 61, "reason": "…"}     RUN/lengths.jsonl, forced to the disk before step 41 begins

Before the cooldown of the learning rate begins, runs of all lengths have the same updates (apart from the warmup). So
the length is fixed at that step, with all measurements so far; it may become longer or shorter. Later it is only
shortened, when the machine has become slower.

The recorded lines, and not the clock, decide: a resumed run replays the lines that it finds and asks the clock again
only after the last of them. Rows and random numbers depend on neither. A run without a time budget has no lines.

Source: Hägele et al. 2024 (a level rate with a linear fall: the length can be chosen late).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pellucid.errors import advised
from pellucid.store.metrics import MEND_LINE
from pellucid.store.run import LENGTHS, Run
from pellucid.untrusted import Table

TOLERANCE = 0.03  # of the budget that a run may be over before it is shortened once more; step times vary a little
LENGTHEN_FROM = 1.1  # a run is not lengthened by less: it would only be shortened again
RECENT = 0.15  # of the budget: the stretch of time that the next steps are judged by
FEWEST_SEEN = 3  # steps that the next ones are judged by, where there are so many


@dataclass(frozen=True, kw_only=True)
class Length:
    """From update number `step` on (counted from 0), the run is `new` steps long."""

    step: int
    old: int
    new: int
    reason: str


class Lengths:
    """The recorded lengths of one run."""

    def __init__(self, run: Run, planned: int) -> None:
        self.run, self.planned = run, planned
        self.lines = [_read(row, run) for row in run.read_lengths()]

    def at(self, step: int) -> int:
        """The number of steps of the run, as known when `step` updates are done.

        A later line wins, so an older line for a later step cannot undo a new length.
        """
        return next((line.new for line in reversed(self.lines) if line.step <= step), self.planned)

    def is_settled(self, step: int) -> bool:
        """Whether the length at this step is already recorded, so that the clock is not asked."""
        return bool(self.lines) and step <= self.lines[-1].step

    def change(self, step: int, new: int, reason: str) -> Length:
        """Record a new length, valid from this step on."""
        line = Length(step=step, old=self.at(step), new=new, reason=reason)
        self.run.append_length(asdict(line))
        self.lines.append(line)
        return line


def _read(row: Mapping[str, Any], run: Run) -> Length:
    line = Table(row, str(run.path / LENGTHS), "the line")
    with advised(MEND_LINE):
        step = line.whole("step")
        return Length(
            step=step, old=line.whole("old"), new=line.whole("new", low=step), reason=line.word("reason", "not told")
        )


@dataclass(frozen=True, kw_only=True)
class TimeBudget:
    """The seconds that a run may take, and the most steps it may have."""

    seconds: float
    most_steps: int  # what the text is good for
    cooldown_share: float  # of the steps, over which the learning rate falls (cooldown)

    def judge(self, seen: Sequence[tuple[int, float]], steps: int) -> tuple[int, str] | None:
        """(new number of steps, reason), or None for no change; `seen` holds (updates done, seconds since the start).

        >>> budget = TimeBudget(seconds=100, most_steps=500, cooldown_share=0.5)
        >>> budget.judge([(step, 2.0 * step) for step in range(1, 26)], 100)  # two seconds a step: 50 fit
        (50, 'of late a step took 2 s: a length of 50, not 100, meets the 100 s')
        >>> budget.judge([(step, 2.0 * step) for step in range(1, 10)], 100) is None  # early: time will tell
        True
        """
        step, spent = seen[-1]
        per_step = self._per_step(seen)
        pace = spent / step if per_step is None else per_step
        left = max(0.0, self.seconds - spent)
        fitting = min(step + math.floor(left / max(pace, 1e-9)), max(self.most_steps, step))
        level = (1 - self.cooldown_share) * min(fitting, steps)
        if fitting == steps or step < math.floor(level):
            return None
        if fitting > steps:
            wanted = step - 1 <= level and fitting > LENGTHEN_FROM * steps  # no update of the fall is done
        elif per_step is None:
            wanted = left == 0  # one step, with what is done once at the start: the next may be quicker
        else:
            wanted = (steps - step) * per_step > left + TOLERANCE * self.seconds
        if not wanted:
            return None
        return (
            fitting,
            f"of late a step took {pace:.3g} s: a length of {fitting}, not {steps}, meets the {self.seconds:.0f} s",
        )

    def _per_step(self, seen: Sequence[tuple[int, float]]) -> float | None:
        """Recent seconds per step, including the work between steps but not the work done once at the start.

        None when only one step has been timed.
        """
        step, spent = seen[-1]
        before = bisect.bisect_right(seen, spent - RECENT * self.seconds, key=lambda one: one[1]) - 1
        first_step, first_spent = seen[max(0, min(before, len(seen) - 1 - FEWEST_SEEN))]
        return (spent - first_spent) / (step - first_step) if step > first_step else None
