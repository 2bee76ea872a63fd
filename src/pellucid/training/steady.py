"""Benchmark timing on a machine that also runs other programs.

Other programs can only add time, so the shortest of several tries is nearest to the machine's real speed. One short try
could be a clock error, so tries go on until the two best agree or a time limit is reached.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

AGREE = 1.1  # the second best may take this many times the best
FEWEST_ROUNDS, LEAST_SECONDS = 4, 1.0  # a burst of something else is over within a second, often
MOST_SECONDS = 8.0  # after which no further round begins, whether they agree or not


@dataclass(frozen=True, kw_only=True)
class Steady:
    """The shortest time of a few tries, in seconds, and the median of them."""

    seconds: float
    usual: float  # the median try over the best: 1 on an idle machine

    @classmethod
    def of(cls, tries: list[float]) -> Steady:
        """Compute it from the seconds of all tries.

        >>> Steady.of([2.0, 1.0, 8.0])
        Steady(seconds=1.0, usual=2.0)
        """
        return cls(seconds=min(tries), usual=statistics.median(tries) / min(tries))


def time_in_turn(
    turns: Mapping[str, Callable[[], float]], *, clock: Callable[[], float] = perf_counter
) -> dict[str, Steady]:
    """Call all turns (each returns its seconds) round after round, until the two best times of each agree."""
    tries: dict[str, list[float]] = {name: [] for name in turns}
    begun, rounds = clock(), 0
    while True:
        for name, turn in turns.items():
            tries[name].append(turn())
        rounds += 1
        gone = clock() - begun
        enough = rounds >= FEWEST_ROUNDS and gone >= LEAST_SECONDS
        if gone >= MOST_SECONDS or (enough and all(map(_agree, tries.values()))):
            return {name: Steady.of(seconds) for name, seconds in tries.items()}


def _agree(tries: list[float]) -> bool:
    best, second = sorted(tries)[:2]
    return second <= AGREE * best
