"""The steps at which a model in training is observed: close together at the beginning, later further apart.

Most is learned at the beginning. Probes (`probe`) record texts, snapshots (`snapshots`) keep the weights. Both take
their steps from here, and both thin them out the same way when there is not room for all. Observation changes nothing
that is learned, and a resumed run does not read what was kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Protocol

EVENLY = 40  # steps spread evenly over a run, besides 1, 2, 4, 8 …


class Look(Protocol):
    """An observation made at some steps of a run: a probe or a snapshot."""

    def look(self, step: int, elapsed_seconds: float) -> None: ...

    def resize(self, steps: int) -> None: ...

    def close(self) -> None: ...


def early_steps(steps: int) -> list[int]:
    """Step 0 and then steps 1, 2, 4, 8, ….

    >>> early_steps(20)
    [0, 1, 2, 4, 8, 16]
    """
    return [0, *(2**power for power in range(steps.bit_length()) if 2**power <= steps)]


def due_steps(steps: int, *, every: int | None = None) -> list[int]:
    """The early steps, evenly spread ones, and the last; or, with `every`, each multiple of it.

    >>> due_steps(6), due_steps(100, every=40)
    ([0, 1, 2, 3, 4, 5, 6], [0, 40, 80, 100])
    """
    if every is not None:
        return sorted({*range(0, steps, every), steps})
    even = {round(steps * part / EVENLY) for part in range(EVENLY + 1)}
    return sorted({steps} | set(early_steps(steps)) | even)


def thin_out(steps: Sequence[int], most: int, *, always: Collection[int] = ()) -> list[int]:
    """Choose at most `most` of the steps, evenly in log(step); the first, the last and `always` are kept.

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
