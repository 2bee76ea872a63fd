from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.permutation import ROUNDS, permute
from pellucid.keyed_random import number

KEYS = st.integers(0, 2**64 - 1)


def mix(number: int) -> int:
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
    return number ^ (number >> 31)


def slow_permute(index: int, size: int, key: int) -> int:
    """The network one number at a time, in plain integers."""
    half = 1
    while 4**half < size:
        half += 1
    while True:
        left, right = divmod(index, 2**half)
        for turn in range(ROUNDS):
            left, right = right, left ^ mix(right ^ number(key, "round", turn)) % 2**half
        index = left * 2**half + right
        if index < size:
            return index


@given(st.integers(1, 3000), KEYS)
def test_every_index_is_hit_once(size: int, key: int) -> None:
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


@given(st.integers(1, 2**40), KEYS, st.data())
def test_equal_to_the_slow_twin(size: int, key: int, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    assert permute(np.array(index), size, key).tolist() == [slow_permute(i, size, key) for i in index]


def test_the_order_of_every_machine_and_version() -> None:
    assert number(0, "data order", 0) == 6446614115740289766
    assert permute(np.arange(10), 10, key=1).tolist() == [2, 5, 4, 9, 0, 3, 6, 7, 1, 8]


def test_neighbours_are_scattered_and_keys_disagree() -> None:
    size = 10_000
    one, two = permute(np.arange(size), size, 1), permute(np.arange(size), size, 2)
    assert (one == two).sum() < 10  # about 1 is expected of two random orders
    assert (one == np.arange(size)).sum() < 10
    # The mean distance of neighbours in a random order is a third of the size; its deviation here is below 0.3 %.
    assert np.abs(np.diff(one)).mean() == pytest.approx(size / 3, rel=0.03)
    assert abs(np.corrcoef(one, np.arange(size))[0, 1]) < 0.05


def test_draws_differ_by_every_argument() -> None:
    draws = {number(seed, purpose, index) for seed in (0, 1, 11) for purpose in ("a", "b") for index in (0, 1, 11)}
    assert len(draws) == 18
