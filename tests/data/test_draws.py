"""Draws for the places of rows: a function of key, stream and place, the same on every machine."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.draws import uniform_draws

KEYS = st.integers(0, 2**64 - 1)
GOLDEN = 0x9E3779B97F4A7C15


def mix(number: int) -> int:
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
    return number ^ (number >> 31)


def slow_draw(key: int, stream: int, place: int) -> float:
    """The formula, one number at a time, in plain integers."""
    start = mix((key + stream * GOLDEN) % 2**64)
    return (mix((start + (place + 1) * GOLDEN) % 2**64) >> 11) / 2**53


@given(st.lists(KEYS, min_size=1, max_size=4), st.integers(0, 9), st.integers(1, 20))
def test_equal_to_the_slow_twin(keys: list[int], stream: int, count: int) -> None:
    drawn = uniform_draws(np.array(keys, np.uint64), stream, count)
    assert drawn.tolist() == [[slow_draw(key, stream, place) for place in range(count)] for key in keys]


def test_the_draws_of_every_machine_and_version() -> None:
    """The first numbers of SplitMix64 from the seed 0, as its authors' program gives them."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert uniform_draws(np.array([0], np.uint64), 0, 3).tolist() == [[(n >> 11) / 2**53 for n in published]]


def test_they_are_even_and_streams_and_keys_do_not_agree() -> None:
    keys = np.arange(400, dtype=np.uint64)  # neighbours, which no hash has scattered before
    one, two = uniform_draws(keys, 0, 250), uniform_draws(keys, 1, 250)
    shares = np.histogram(one, bins=10, range=(0, 1))[0] / one.size
    assert np.abs(shares - 0.1).max() < 0.005  # 100,000 draws: five standard deviations
    pairs = ((one, two), (one[:-1], one[1:]), (one[:, :-1], one[:, 1:]))
    assert all(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02 for a, b in pairs)
