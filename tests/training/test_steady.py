"""A short measurement holds on a busy machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pellucid.training.steady import MOST_SECONDS, time_in_turn


class Machine:
    """Tries take the given seconds, on a clock of their own."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self.seconds, self.now, self.count = seconds, 0.0, 0

    def turn(self) -> float:
        taken = next(self.seconds)
        self.now, self.count = self.now + taken, self.count + 1
        return taken

    def clock(self) -> float:
        return self.now


def endless(*first: float, then: float) -> Iterator[float]:
    yield from first
    while True:
        yield then


def measured(machine: Machine, turn: Callable[[], float] | None = None) -> float:
    return time_in_turn({"step": turn or machine.turn}, clock=machine.clock)["step"].seconds


def test_an_idle_machine_is_measured_for_a_second() -> None:
    machine = Machine(endless(then=0.05))
    assert measured(machine) == 0.05 and machine.now == pytest.approx(1.0)


def test_a_load_that_passes_does_not_count() -> None:
    """Of a machine of 200 GFLOP/s, eighteen times slower at first, the plan would otherwise know 11."""
    assert measured(Machine(endless(0.9, 0.3, 0.9, 0.7, then=0.05))) == 0.05
    assert measured(Machine(endless(0.9, 0.05, 0.9, 0.9, 0.06, 0.9, then=0.052))) == 0.05
    assert measured(Machine(endless(*[0.1] * 9, then=0.05))) == 0.05


def test_one_lucky_try_is_not_enough() -> None:
    machine = Machine(endless(0.5, 0.2, 0.5, 0.5, 0.5, 0.205, then=0.5))
    assert measured(machine) == 0.2 and machine.count == 6


def test_patience_ends() -> None:
    machine = Machine(iter(float(2**i) for i in range(20)))
    assert measured(machine) == 1.0 and machine.now < 3 * MOST_SECONDS


def test_what_the_others_were_like_is_told() -> None:
    machine = Machine(endless(0.1, 0.1, 0.5, 0.5, 0.5, then=1.0))
    found = time_in_turn({"step": machine.turn}, clock=machine.clock)["step"]
    assert (found.seconds, found.usual) == (0.1, pytest.approx(3.0))
