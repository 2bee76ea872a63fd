"""When a model is looked at while it trains: close together at the beginning, where most is learned, then less often.

Probes (`probe`) look at texts, snapshots (`snapshots`) keep the weights; both at steps from here, and where there is
not room for all of them, both leave out the same way. Looking changes nothing that is learned, and nothing that was
kept is read by a run that goes on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Protocol

EVENLY = 40  # looks spread evenly over a run, besides those at 1, 2, 4, 8 … steps


class Look(Protocol):
    """Something that is done at some steps of a run, for people to look at."""

    def look(self, step: int, elapsed_seconds: float) -> None: ...

    def resize(self, steps: int) -> None: ...

    def close(self) -> None: ...


def early_steps(steps: int) -> list[int]:
    """Before the first update, and at doubling distances.

    >>> early_steps(20)
    [0, 1, 2, 4, 8, 16]
    """
    return [0, *(2**power for power in range(steps.bit_length()) if 2**power <= steps)]


def due_steps(steps: int, *, every: int | None = None) -> list[int]:
    """The early steps, evenly spread ones, and the last; or every so many.

    >>> due_steps(6), due_steps(100, every=40)
    ([0, 1, 2, 3, 4, 5, 6], [0, 40, 80, 100])
    """
    if every is not None:
        return sorted({*range(0, steps, every), steps})
    even = {round(steps * part / EVENLY) for part in range(EVENLY + 1)}
    return sorted({steps} | set(early_steps(steps)) | even)


def thin_out(steps: Sequence[int], most: int, *, always: Collection[int] = ()) -> list[int]:
    """At most so many of the steps, evenly in the logarithm of the step: the first, the last and `always` among them.

    >>> thin_out([0, 1, 2, 4, 8, 16], 3), thin_out([0, 1, 2, 4, 8, 16], 4, always=[8])
    ([0, 4, 16], [0, 1, 8, 16])
    """
    if most < 2:
        return [step for step in steps if step in always][:most] or list(steps[: max(0, most)])
    left = list(steps)
    while len(left) > most:
        gaps = {
            index: math.log1p(left[index + 1]) - math.log1p(left[index - 1])
            for index in range(1, len(left) - 1)
            if left[index] not in always
        }
        if not gaps:
            break
        del left[min(gaps, key=lambda index: gaps[index])]  # the one whose neighbours are closest to each other
    return left
