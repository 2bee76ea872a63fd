"""Counter-based chance: every draw is a pure function of a key and of its place in the sequence.

    block(i)   = SHAKE-128(key, i), read as 96 little-endian integers of 32 bits, used from the last to the first
    below(n)   = floor(integer * n / 2**32)
    happens(p) = integer < p, which is below(n) < k where p = chance(k, n)

The standard library's `random` is not used: its sequences are not promised to stay the same between Python versions,
and its state would have to be carried along. Only integers are computed here, so every platform draws the same. This
is not a source of secrets, and `below` is uniform only up to n / 2**32.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from hashlib import shake_128
from itertools import chain, count
from typing import TypeVar

T = TypeVar("T")

_BLOCK = struct.Struct("<96I")


def chance(times: int, out_of: int) -> int:
    """How many of the 2**32 integers `happens` so often: the least p with below(out_of) >= times from p on.

    >>> chance(1, 4) == 2**30
    True
    """
    return -(-(times << 32) // out_of)


def _blocks(key: str) -> Iterator[tuple[int, ...]]:
    for block in count():
        yield _BLOCK.unpack(shake_128(f"{key}#{block}".encode()).digest(_BLOCK.size))[::-1]


class Draws:
    """A sequence of chance draws that the same key always repeats.

    >>> draws, again = Draws("an example"), Draws("an example")
    >>> [draws.below(10) for _ in range(200)] == [again.below(10) for _ in range(200)]
    True
    """

    __slots__ = ("_word",)

    def __init__(self, key: str) -> None:
        self._word: Callable[[], int] = chain.from_iterable(_blocks(key)).__next__

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return self._word() * n >> 32

    def happens(self, chance: int) -> bool:
        """Whether something of this chance comes about: a comparison, where `below` costs a product.

        >>> draws, again = Draws("an example"), Draws("an example")
        >>> [draws.happens(chance(2, 7)) for _ in range(200)] == [again.below(7) < 2 for _ in range(200)]
        True
        """
        return self._word() < chance

    def one(self, items: Sequence[T]) -> T:
        """One of the items, each as likely as the next."""
        return items[self._word() * len(items) >> 32]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """This many different items, in random order."""
        word, n = self._word, len(items)
        chosen: list[T] = []
        while len(chosen) < count:
            item = items[word() * n >> 32]
            if item not in chosen:
                chosen.append(item)
        return chosen
